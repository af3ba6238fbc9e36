// SPDX-License-Identifier: Apache-2.0
/* Which container a pod is there for, and what the kubelet makes its weight of. */
#include "node/pod.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static json_t *pod(const char *text)
{
	json_error_t error;
	json_t *object = json_loads(text, 0, &error);

	if (!object)
		fail_msg("%s: %s", error.text, text);
	return object;
}

static void assert_main(const char *text, const char *main)
{
	static const char *const names[] = {"app", "istio-proxy", "log"};
	json_t *object = pod(text);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (pod_is_main(object, names[i]) != (strcmp(names[i], main) == 0))
			fail_msg("%s is taken wrongly in %s", names[i], text);
	assert_false(pod_is_main(object, NULL));
	json_decref(object);
}

#define THREE "'spec':{'containers':[{'name':'istio-proxy'},{'name':'app'},{'name':'log'}]}"

static char *quoted(const char *text, char *out)
{
	char *to = out;

	while (*text) {
		*to++ = (char)(*text == '\'' ? '"' : *text);
		text++;
	}
	*to = '\0';
	return out;
}

static void test_the_main_container_is_the_one_that_kubectl_takes(void **state)
{
	char text[1024];

	(void)state;
	assert_main(quoted("{" THREE "}", text), "istio-proxy");
	assert_main(quoted("{'metadata':{'annotations':{'kubectl.kubernetes.io/default-container':"
			   "'app'}}," THREE "}",
			    text),
		"app");
	/* One that is not there is no one's name. */
	assert_main(quoted("{'metadata':{'annotations':{'kubectl.kubernetes.io/default-container':"
			   "'other'}}," THREE "}",
			    text),
		"istio-proxy");
	assert_main(quoted("{'spec':{'containers':[{'name':'app'}]}}", text), "app");
}

static void assert_request(const char *text, double millicores)
{
	char json[1024];
	json_t *object = pod(quoted(text, json));
	double found = pod_requests(object, NULL).pod_millicores;

	if (fabs(found - millicores) > 1e-6)
		fail_msg("%s: expected %g, got %g", text, millicores, found);
	json_decref(object);
}

#define CPU(millicores) "'resources':{'requests':{'cpu':'" #millicores "m'}}"
#define APPS		"'containers':[{'name':'a'," CPU(100) "},{'name':'b'," CPU(50) "},{'name':'c'}]"

/* As k8s.io/component-helpers/resource.PodRequests, which the kubelet asks. */
static void test_a_pods_weight_is_made_of_all_that_the_kubelet_counts(void **state)
{
	(void)state;
	assert_request("{}", 0);
	assert_request("{'spec':{" APPS "}}", 150);
	/* A start that takes more than what follows stays in the weight for good. */
	assert_request("{'spec':{" APPS ",'initContainers':[{" CPU(2000) "}]}}", 2000);
	assert_request("{'spec':{" APPS ",'initContainers':[{" CPU(120) "}]}}", 150);
	/* A side container that begins before the others runs beside them. */
	assert_request("{'spec':{" APPS
		       ",'initContainers':[{'restartPolicy':'Always'," CPU(300) "}]}}",
		450);
	assert_request("{'spec':{" APPS ",'initContainers':[{'restartPolicy':'Always'," CPU(
			       300) "},{" CPU(200) "}]}}",
		500);
	assert_request("{'spec':{" APPS ",'initContainers':[{" CPU(
			       200) "},{'restartPolicy':'Always'," CPU(30) "}]}}",
		200);
	assert_request("{'spec':{" APPS ",'overhead':{'cpu':'250m'}}}", 400);
	/* What is declared for the pod stands above its containers' requests. */
	assert_request("{'spec':{" APPS "," CPU(700) "}}", 700);
	assert_request("{'spec':{" APPS "," CPU(700) ",'overhead':{'cpu':'250m'}}}", 950);
	assert_request("{'spec':{" APPS ",'resources':{'limits':{'memory':'1Gi'}}}}", 150);
}

static void test_a_containers_request_is_its_own(void **state)
{
	char text[1024];
	json_t *object = pod(quoted("{'spec':{" APPS "}}", text));

	(void)state;
	assert_true(fabs(pod_requests(object, "b").container_millicores - 50) < 1e-6);
	assert_true(fabs(pod_requests(object, "c").container_millicores) < 1e-6);
	assert_true(fabs(pod_requests(object, "d").container_millicores) < 1e-6);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_main_container_is_the_one_that_kubectl_takes),
		cmocka_unit_test(test_a_pods_weight_is_made_of_all_that_the_kubelet_counts),
		cmocka_unit_test(test_a_containers_request_is_its_own),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
