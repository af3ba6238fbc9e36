// SPDX-License-Identifier: Apache-2.0
/* Reservations on a folder that looks like cgroup v2, written by each of the two formulas. */
#include "node/limits/reserve.h"

#include "node/agent.h"

#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UID "11111111-2222-3333-4444-555555555555"
#define POD "/kubepods/burstable/pod" UID

struct fixture {
	char mount[64];
	struct agent agent;
	struct unit unit;
	struct container containers[2];
	struct container *list[2];
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	(void)info, (void)kind, (void)walk;
	return remove(path);
}

static void put(const struct fixture *f, const char *path, const char *file, long value)
{
	char full[512];
	FILE *out;

	snprintf(full, sizeof(full), "%s%s/%s", f->mount, path, file);
	out = fopen(full, "we");
	assert_non_null(out);
	fprintf(out, "%ld\n", value);
	fclose(out);
}

static long get(const struct fixture *f, const char *path)
{
	int64_t weight = 0;

	assert_int_equal(cgroup_read_cpu_weight(&f->agent.driver, path, &weight), 0);
	return (long)weight;
}

static void make_directory(const struct fixture *f, const char *path)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", f->mount, path);
	for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
	mkdir(full, 0755);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	snprintf(f->mount, sizeof(f->mount), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->mount))
		return -1;
	put(f, "", "cgroup.controllers", 0);
	f->unit.containers = f->list;
	*state = f;
	return cgroup_driver_detect(&f->agent.driver, f->mount);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	nftw(f->mount, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

/* The next container, as discovery and actuate_adopt() leave it. */
static struct container *join(
	struct fixture *f, const char *name, long weight, long pod_weight, const char *requests)
{
	struct container *container = &f->containers[f->unit.container_count];
	char text[512];
	json_t *pod;

	snprintf(container->name, sizeof(container->name), "%s", name);
	snprintf(container->pod, sizeof(container->pod), "fib-1");
	snprintf(container->pod_uid, sizeof(container->pod_uid), UID);
	snprintf(container->path, sizeof(container->path), POD "/%s", name);
	make_directory(f, container->path);
	put(f, container->path, "cpu.weight", weight);
	put(f, POD, "cpu.weight", pod_weight);
	container->original = (struct cgroup_limits){
		.cpu_quota_us = CGROUP_UNLIMITED, .cpu_period_us = 100000, .cpu_weight = weight};
	container->current = container->original;
	container->reserve.pod_weight = container->reserve.pod_weight_original = pod_weight;
	f->list[f->unit.container_count++] = container;
	container->unit = &f->unit;
	snprintf(text, sizeof(text),
		"{\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":{\"requests\":%s}},"
		"{\"name\":\"side\",\"resources\":{\"requests\":{\"cpu\":\"50m\"}}}]}}",
		requests);
	pod = json_loads(text, 0, NULL);
	assert_non_null(pod);
	reserve_see_pod(container, pod);
	json_decref(pod);
	reserve_adopt(&f->agent, container);
	return container;
}

/* An ordinary file keeps what was longer, so all are emptied before something is written. */
static void empty(const struct fixture *f)
{
	for (size_t i = 0; i < f->unit.container_count; i++) {
		char full[1024];

		snprintf(full, sizeof(full), "%s%s/cpu.weight", f->mount, f->list[i]->path);
		assert_int_equal(truncate(full, 0), 0);
		snprintf(full, sizeof(full), "%s" POD "/cpu.weight", f->mount);
		assert_int_equal(truncate(full, 0), 0);
	}
}

static void reserve(struct fixture *f, struct container *container, double millicores)
{
	empty(f);
	assert_int_equal(reserve_write(&f->agent, container, millicores), 0);
}

static void restore(struct fixture *f, struct container *container)
{
	empty(f);
	assert_int_equal(reserve_restore(&f->agent, container), 0);
}

static void assert_about(double found, double expected)
{
	assert_true(fabs(found - expected) < 0.5);
}

/* A runtime of one formula under a kubelet of the other, as there are. */
static void test_each_cgroup_is_written_by_the_formula_that_made_it(void **state)
{
	struct fixture *f = *state;
	/* 1000m: 100 and 39; the pod's 1050m by the older one: 41. */
	struct container *app = join(f, "app", 100, 41, "{\"cpu\":\"1\"}");

	assert_int_equal(app->reserve.scale, CPU_WEIGHT_QUADRATIC);
	assert_int_equal(app->reserve.pod_scale, CPU_WEIGHT_LINEAR);
	assert_about(unit_requested_millicores(&f->unit), 1000);
	assert_about(unit_reserved_millicores(&f->unit), 1000);
	reserve(f, app, 300);
	assert_about(unit_reserved_millicores(&f->unit), 300);
	assert_about(unit_requested_millicores(&f->unit), 1000);
	assert_int_equal(get(f, app->path), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 300));
	/* What the side container has stays. */
	assert_int_equal(get(f, POD), cpu_weight_of(CPU_WEIGHT_LINEAR, 350));
	restore(f, app);
	assert_int_equal(get(f, app->path), 100);
	assert_int_equal(get(f, POD), 41);
	assert_about(unit_reserved_millicores(&f->unit), 1000);
}

static void test_a_pod_has_what_all_its_containers_reserve(void **state)
{
	struct fixture *f = *state;
	struct container *app = join(f, "app", 17, 24, "{\"cpu\":\"100m\"}");
	struct container *side = join(f, "side", 11, 24, "{\"cpu\":\"100m\"}");

	reserve(f, app, 400);
	assert_int_equal(get(f, POD), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 450));
	reserve(f, side, 400);
	assert_int_equal(get(f, POD), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 800));
	restore(f, app);
	assert_int_equal(get(f, POD), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 500));
	restore(f, side);
	assert_int_equal(get(f, POD), 24);
}

static void test_a_container_that_goes_takes_its_share_of_the_pods_weight_along(void **state)
{
	struct fixture *f = *state;
	struct container *app = join(f, "app", 17, 24, "{\"cpu\":\"100m\"}");
	struct container *side = join(f, "side", 11, 24, "{\"cpu\":\"100m\"}");

	reserve(f, app, 400);
	reserve(f, side, 400);
	unit_drop_container(&f->unit, app);
	empty(f);
	reserve_leave(&f->agent, app);
	assert_int_equal(get(f, POD), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 500));
	unit_drop_container(&f->unit, side);
	put(f, POD, "cpu.weight", 0);
	reserve_leave(&f->agent, side);
	assert_int_equal(side->reserve.pod_weight, 24);
}

/* The agent was away when the container started again: the pod has our weight, the disk the owner's. */
static void test_a_pods_own_weight_is_known_by_its_other_containers(void **state)
{
	json_t *originals = json_pack("{s:{s:i}, s:{s:i}, s:{s:i}}", POD "x/old", "pod_cpu_weight",
		7, POD "/older", "cpu_weight", 3, POD "/old", "pod_cpu_weight", 24);

	(void)state;
	assert_non_null(originals);
	assert_int_equal(reserve_pod_original(originals, POD), 24);
	assert_int_equal(reserve_pod_original(originals, "/kubepods"), CGROUP_UNLIMITED);
	json_decref(originals);
}

static void test_a_container_without_a_request_may_be_given_a_reservation(void **state)
{
	struct fixture *f = *state;
	struct container *app;

	/* Both formulas make 1 of nothing: what was seen of another container holds. */
	f->agent.weight_scale = CPU_WEIGHT_QUADRATIC;
	app = join(f, "app", 1, 10, "{}");
	assert_true(unit_requested_millicores(&f->unit) <= 0);
	/* The least there is, so that it is known for a reservation. */
	assert_about(unit_reserved_millicores(&f->unit), 1);
	reserve(f, app, 200);
	assert_int_equal(get(f, app->path), cpu_weight_of(CPU_WEIGHT_QUADRATIC, 200));
	restore(f, app);
	assert_int_equal(get(f, app->path), 1);
}

static void test_no_reservation_is_over_the_node_and_none_where_a_limit_is(void **state)
{
	struct fixture *f = *state;
	struct container *app = join(f, "app", 100, 104, "{\"cpu\":\"1\"}");

	reserve(f, app, 1e9);
	assert_about(unit_reserved_millicores(&f->unit), reserve_most_millicores());
	reserve(f, app, NAN);
	assert_about(unit_reserved_millicores(&f->unit), reserve_most_millicores());
	app->original.cpu_quota_us = 50000;
	assert_true(unit_reserved_millicores(&f->unit) <= 0);
	assert_false(unit_reserves(&f->unit));
}

static void test_what_cannot_be_read_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct container *app = join(f, "app", 100, 104, "{\"cpu\":\"1\"}");

	app->original.cpu_weight = app->current.cpu_weight = CGROUP_UNLIMITED;
	reserve_adopt(&f->agent, app);
	assert_true(unit_reserved_millicores(&f->unit) <= 0);
	reserve(f, app, 300);
	restore(f, app);
	assert_int_equal(f->agent.status.reservation_writes, 0);
}

static void test_only_the_pods_own_cgroup_is_taken_for_it(void **state)
{
	static const struct {
		const char *path;
		const char *pod;
	} cases[] = {
		{POD "/abc", POD},
		{"/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice/cri-a.scope",
			"/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice"},
		{"/ebbtide/default/fib-1/app", "/ebbtide/default/fib-1"},
		{"/ebbtide/default/other/app", NULL},
		{"/app", NULL},
	};
	struct container container = {.pod = "fib-1", .pod_uid = UID};
	char path[CGROUP_PATH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool found;

		snprintf(container.path, sizeof(container.path), "%s", cases[i].path);
		found = reserve_pod_path(&container, path, sizeof(path));
		assert_int_equal(found, cases[i].pod != NULL);
		if (found)
			assert_string_equal(path, cases[i].pod);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_each_cgroup_is_written_by_the_formula_that_made_it),
		TEST(test_a_pod_has_what_all_its_containers_reserve),
		TEST(test_a_container_that_goes_takes_its_share_of_the_pods_weight_along),
		TEST(test_a_pods_own_weight_is_known_by_its_other_containers),
		TEST(test_a_container_without_a_request_may_be_given_a_reservation),
		TEST(test_no_reservation_is_over_the_node_and_none_where_a_limit_is),
		TEST(test_what_cannot_be_read_is_left_alone),
		TEST(test_only_the_pods_own_cgroup_is_taken_for_it),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
