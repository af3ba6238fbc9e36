// SPDX-License-Identifier: Apache-2.0
/* The limits in a pod that are in force: what its spec and its status say alike. */
#include "node/limits/declared.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define NOTHING "{}"
#define LIMITS(cpu, memory)                                                                        \
	"{\"limits\":{\"cpu\":\"" cpu "\",\"memory\":\"" memory "\"},\"requests\":{\"cpu\":\"5m\"}}"

static void assert_declared(
	const char *spec, const char *status, double millicores, double memory_bytes)
{
	struct declared declared = {.cpu_millicores = 7, .memory_bytes = 7};
	char text[1024];
	json_t *pod;

	snprintf(text, sizeof(text),
		"{\"spec\":{\"containers\":[{\"name\":\"side\",\"resources\":" LIMITS("9",
			"9Gi") "},"
			       "{\"name\":\"app\",\"resources\":%s}]},"
			       "\"status\":{\"containerStatuses\":[{\"name\":\"app\",\"resources\":%s},"
			       "{\"name\":\"side\",\"resources\":" LIMITS("9", "9Gi") "}]}}",
		spec, status);
	pod = json_loads(text, 0, NULL);
	assert_non_null(pod);
	declared_read(&declared, pod, "app");
	if (fabs(declared.cpu_millicores - millicores) > 1e-6 ||
		fabs(declared.memory_bytes - memory_bytes) > 1e-6)
		fail_msg("%s, %s: expected %g and %g, got %g and %g", spec, status, millicores,
			memory_bytes, declared.cpu_millicores, declared.memory_bytes);
	json_decref(pod);
}

static void test_what_spec_and_status_say_alike_is_in_force(void **state)
{
	(void)state;
	assert_declared(LIMITS("1500m", "128Mi"), LIMITS("1.5", "134217728"), 1500, 134217728);
	assert_declared(NOTHING, NOTHING, 0, 0);
}

static void test_a_resize_that_waits_is_not(void **state)
{
	(void)state;
	assert_declared(LIMITS("2", "128Mi"), LIMITS("1", "128Mi"), 0, 134217728);
	assert_declared(LIMITS("1", "128Mi"), LIMITS("1", "64Mi"), 1000, 0);
	/* Before 1.33 no status says. */
	assert_declared(LIMITS("1", "128Mi"), NOTHING, 0, 0);
	assert_declared(LIMITS("many", "128Mi"), LIMITS("many", "128Mi"), 0, 134217728);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_spec_and_status_say_alike_is_in_force),
		cmocka_unit_test(test_a_resize_that_waits_is_not),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
