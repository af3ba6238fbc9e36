// SPDX-License-Identifier: Apache-2.0
/* From a pod as the API shows it to the cgroup of its container, in the kubelets' and runtimes' layouts,
 * and to the Deployment it belongs to. The cgroups are folders below a temporary one. */
#include "node/agent.h"
#include "node/trace/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define UID	    "22c72ab1-157b-42b1-bf4e-ca89c6478f19"
#define UID_SYSTEMD "22c72ab1_157b_42b1_bf4e_ca89c6478f19"
#define ID	    "7248c75a69b1fcba2ba036b24751dafd6926c53534dc3e7bb56ccbee240a2865"
#define OTHER	    "ba3c9664d777027f6b0917e73dc4a3250b0bc3f8417e4e2680bef981e776d2be"

static char root[] = "/tmp/ebbtide-test-discover-XXXXXX";
static struct cgroup_driver driver;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(root))
		return -1;
	driver.layout = CGROUP_LAYOUT_V2;
	snprintf(driver.unified_root, sizeof(driver.unified_root), "%s", root);
	snprintf(driver.cpu_root, sizeof(driver.cpu_root), "%s", root);
	snprintf(driver.memory_root, sizeof(driver.memory_root), "%s", root);
	return 0;
}

static void clear(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s/*", root);
	assert_int_equal(system(command), 0);
}

static int teardown(void **state)
{
	(void)state;
	clear();
	return remove(root);
}

static void make(const char *path)
{
	char command[1024];

	snprintf(command, sizeof(command), "mkdir -p '%s%s'", root, path);
	assert_int_equal(system(command), 0);
}

static json_t *pod(const char *class)
{
	return json_pack("{s:{s:s}, s:{s:s}}", "metadata", "uid", UID, "status", "qosClass", class);
}

static int find(const char *class, const char *id, char *path, size_t size)
{
	json_t *object = pod(class);
	int err = discover_cgroup(&driver, object, id, path, size);

	json_decref(object);
	return err;
}

static void test_each_layout_is_known(void **state)
{
	static const struct {
		const char *class;
		const char *id;
		const char *path;
	} cases[] = {
		/* The kubelet's cgroupfs driver, as a kubelet 1.36 with containerd has it. */
		{"Burstable", "containerd://" ID, "/kubepods/burstable/pod" UID "/" ID},
		{"BestEffort", "containerd://" ID, "/kubepods/besteffort/pod" UID "/" ID},
		{"Guaranteed", "containerd://" ID, "/kubepods/pod" UID "/" ID},
		{"Burstable", "cri-o://" ID, "/kubepods/burstable/pod" UID "/crio-" ID},
		/* Its systemd driver. */
		{"Burstable", "containerd://" ID,
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_SYSTEMD
			".slice/cri-containerd-" ID ".scope"},
		{"BestEffort", "docker://" ID,
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" UID_SYSTEMD
			".slice/docker-" ID ".scope"},
		{"Guaranteed", "cri-o://" ID,
			"/kubepods.slice/kubepods-pod" UID_SYSTEMD ".slice/crio-" ID ".scope"},
		/* Kubelets in a cgroup of their own, as kind's. */
		{"Burstable", "containerd://" ID,
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
			"kubelet-kubepods-burstable-pod" UID_SYSTEMD ".slice/cri-containerd-" ID
			".scope"},
		{"Burstable", "containerd://" ID, "/kubelet/kubepods/burstable/pod" UID "/" ID},
	};
	char path[CGROUP_PATH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		clear();
		assert_int_equal(find(cases[i].class, cases[i].id, path, sizeof(path)), -ENOENT);
		make(cases[i].path);
		assert_int_equal(find(cases[i].class, cases[i].id, path, sizeof(path)), 0);
		assert_string_equal(path, cases[i].path);
	}
}

static void test_neither_a_neighbour_nor_a_monitor_is_taken(void **state)
{
#define SLICE "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_SYSTEMD ".slice"
	char path[CGROUP_PATH_MAX];

	(void)state;
	clear();
	make(SLICE "/crio-" OTHER ".scope");
	make(SLICE "/crio-conmon-" ID ".scope");
	assert_int_equal(find("Burstable", "cri-o://" ID, path, sizeof(path)), -ENOENT);
	make(SLICE "/crio-" ID ".scope");
	assert_int_equal(find("Burstable", "cri-o://" ID, path, sizeof(path)), 0);
	assert_string_equal(path, SLICE "/crio-" ID ".scope");
}

static void test_an_id_that_is_none_leads_nowhere(void **state)
{
	static const char *const ids[] = {"", ID, "containerd://", "containerd://a",
		"containerd://../../../etc/passwd", "ebbtide://", "ebbtide://a/b",
		"ebbtide:///a/../b"};
	char path[CGROUP_PATH_MAX];

	(void)state;
	clear();
	make("/kubepods/burstable/pod" UID "/" ID);
	make("/a/b");
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		if (find("Burstable", ids[i], path, sizeof(path)) == 0)
			fail_msg("\"%s\" led to %s", ids[i], path);
	assert_int_equal(find("Burstable", "ebbtide:///a/b", path, sizeof(path)), 0);
}

static void test_a_static_pod_has_its_manifests_hash(void **state)
{
	json_t *object = json_pack("{s:{s:s, s:{s:s}}, s:{s:s}}", "metadata", "uid", UID,
		"annotations", "kubernetes.io/config.hash", "0123456789abcdef", "status",
		"qosClass", "Burstable");
	char path[CGROUP_PATH_MAX];

	(void)state;
	clear();
	make("/kubepods/burstable/pod0123456789abcdef/" ID);
	assert_int_equal(
		discover_cgroup(&driver, object, "containerd://" ID, path, sizeof(path)), 0);
	assert_string_equal(path, "/kubepods/burstable/pod0123456789abcdef/" ID);
	json_decref(object);
}

static void assert_service(
	const char *kind, const char *owner, const char *hash, const char *expected)
{
	json_t *object = json_pack(
		"{s:{s:s, s:{}, s:[]}}", "metadata", "name", "a-pod", "labels", "ownerReferences");
	json_t *metadata = json_object_get(object, "metadata");
	char service[UNIT_NAME_MAX];

	if (kind)
		json_array_append_new(json_object_get(metadata, "ownerReferences"),
			json_pack("{s:s, s:s}", "kind", kind, "name", owner));
	if (hash)
		json_object_set_new(json_object_get(metadata, "labels"), "pod-template-hash",
			json_string(hash));
	discover_service(object, service, sizeof(service));
	assert_string_equal(service, expected);
	json_decref(object);
}

static void test_of_several_owners_the_controller_counts(void **state)
{
	json_t *object = json_pack("{s:{s:s, s:[{s:s, s:s}, {s:s, s:s, s:b}]}}", "metadata", "name",
		"a-pod", "ownerReferences", "kind", "Lease", "name", "holder", "kind",
		"StatefulSet", "name", "db", "controller", 1);
	char service[UNIT_NAME_MAX];

	(void)state;
	discover_service(object, service, sizeof(service));
	assert_string_equal(service, "db");
	json_decref(object);
}

static void test_the_deployment_of_a_pod_is_found(void **state)
{
	(void)state;
	assert_service("ReplicaSet", "fibonacci-6dbdfb995", "6dbdfb995", "fibonacci");
	assert_service("ReplicaSet", "a-b-6dbdfb995", "6dbdfb995", "a-b");
	/* A ReplicaSet of nobody's, and other owners, keep their names. */
	assert_service("ReplicaSet", "lonely", NULL, "lonely");
	assert_service("ReplicaSet", "6dbdfb995", "6dbdfb995", "6dbdfb995");
	assert_service("StatefulSet", "db", NULL, "db");
	assert_service(NULL, NULL, NULL, "a-pod");
}

static void objective(
	struct agent *agent, enum kube_event event, const char *name, const char *service)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s}, s:{s:s}}}", "metadata", "namespace",
		"default", "name", name, "spec", "targetRef", "name", service, "latency", "target",
		"50ms");

	assert_non_null(object);
	discover_objective(agent, event, object);
	json_decref(object);
}

static const char *holds(struct agent *agent, const char *service)
{
	const struct unit *unit = units_get(&agent->units, "default", service);

	assert_non_null(unit);
	return unit->has_objective ? unit->objective.name : "none";
}

static void test_an_objective_holds_for_the_service_that_it_names_now(void **state)
{
	static struct agent agent;

	(void)state;
	pthread_mutex_init(&agent.lock, NULL);
	assert_int_equal(trace_open(&agent), 0);
	assert_string_equal(holds(&agent, "old"), "none");
	assert_string_equal(holds(&agent, "new"), "none");
	objective(&agent, KUBE_EVENT_ADDED, "b", "old");
	assert_string_equal(holds(&agent, "old"), "b");
	objective(&agent, KUBE_EVENT_MODIFIED, "b", "new");
	assert_string_equal(holds(&agent, "old"), "none");
	assert_string_equal(holds(&agent, "new"), "b");
	/* Of several the first by name, and another when that goes. */
	objective(&agent, KUBE_EVENT_ADDED, "a", "new");
	objective(&agent, KUBE_EVENT_MODIFIED, "b", "new");
	assert_string_equal(holds(&agent, "new"), "a");
	objective(&agent, KUBE_EVENT_DELETED, "a", "new");
	assert_string_equal(holds(&agent, "new"), "b");
	objective(&agent, KUBE_EVENT_DELETED, "b", "new");
	assert_string_equal(holds(&agent, "new"), "none");
	while (agent.units.count)
		units_remove(&agent.units, agent.units.items[0]);
	free(agent.units.items);
	objectives_free(&agent.objectives);
	trace_close(&agent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_layout_is_known),
		cmocka_unit_test(test_neither_a_neighbour_nor_a_monitor_is_taken),
		cmocka_unit_test(test_an_id_that_is_none_leads_nowhere),
		cmocka_unit_test(test_a_static_pod_has_its_manifests_hash),
		cmocka_unit_test(test_the_deployment_of_a_pod_is_found),
		cmocka_unit_test(test_of_several_owners_the_controller_counts),
		cmocka_unit_test(test_an_objective_holds_for_the_service_that_it_names_now),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
