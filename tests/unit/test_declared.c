// SPDX-License-Identifier: Apache-2.0
/* The limits in a pod that are in force: what its spec and its status say alike. */
#include "node/limits/declared.h"

#include "common/cgroup.h"

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
	declared_read(&declared, pod, "app", false);
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

static void assert_of_pod(const char *container, const char *spec, const char *status,
	bool of_pod_only, double millicores, double memory_bytes)
{
	struct declared declared = {.cpu_millicores = 7, .memory_bytes = 7};
	char text[1024];
	json_t *pod;

	snprintf(text, sizeof(text),
		"{\"spec\":{\"resources\":%s,\"containers\":[{\"name\":\"app\",\"resources\":%s}]},"
		"\"status\":{\"resources\":%s,\"containerStatuses\":[{\"name\":\"app\","
		"\"resources\":%s}]}}",
		spec, container, status, container);
	pod = json_loads(text, 0, NULL);
	assert_non_null(pod);
	declared_read(&declared, pod, "app", of_pod_only);
	if (fabs(declared.cpu_millicores - millicores) > 1e-6 ||
		fabs(declared.memory_bytes - memory_bytes) > 1e-6)
		fail_msg("container %s, pod %s, %s: expected %g and %g, got %g and %g", container,
			spec, status, millicores, memory_bytes, declared.cpu_millicores,
			declared.memory_bytes);
	json_decref(pod);
}

static void test_a_limit_of_the_pod_stands_for_a_container_without_one(void **state)
{
	static const char pods[] = LIMITS("2", "1Gi"), cpu[] = "{\"limits\":{\"cpu\":\"500m\"}}";

	(void)state;
	assert_of_pod(NOTHING, pods, pods, false, 2000, 1073741824);
	assert_of_pod(NOTHING, pods, pods, true, 2000, 1073741824);
	assert_of_pod(cpu, pods, pods, false, 500, 1073741824);
	assert_of_pod(LIMITS("500m", "64Mi"), pods, pods, false, 500, 67108864);
	/* The resizer moves what is the container's own. */
	assert_of_pod(cpu, pods, pods, true, 0, 1073741824);
	assert_of_pod(LIMITS("500m", "64Mi"), pods, pods, true, 0, 0);
}

static void test_a_resize_of_the_pod_that_waits_is_not_in_force(void **state)
{
	(void)state;
	assert_of_pod(NOTHING, LIMITS("2", "1Gi"), LIMITS("1", "1Gi"), false, 0, 1073741824);
	/* Before 1.35 no status says, and nobody resizes a pod. */
	assert_of_pod(NOTHING, LIMITS("2", "1Gi"), NOTHING, false, 0, 0);
}

static void assert_burst(int64_t own_us, uint64_t wanted_us, int64_t lowest_us, int64_t highest_us,
	int64_t expected_us)
{
	const struct cgroup_limits original = {
		.cpu_quota_us = 100000, .cpu_period_us = 100000, .cpu_burst_us = own_us};
	int64_t got_us = declared_burst_us(&original, wanted_us, lowest_us, highest_us);

	if (got_us != expected_us)
		fail_msg("own %ld, wanted %lu, quota %ld to %ld: expected %ld, got %ld",
			(long)own_us, (unsigned long)wanted_us, (long)lowest_us, (long)highest_us,
			(long)expected_us, (long)got_us);
}

static void test_quota_and_burst_stay_within_what_the_owner_declared(void **state)
{
	(void)state;
	assert_burst(0, 20000, 30000, 30000, 20000);
	assert_burst(0, 20000, 90000, 90000, 10000);
	assert_burst(0, 20000, 100000, 100000, 0);
	assert_burst(0, UINT64_MAX, 60000, 60000, 40000);
	/* No burst of the kernel's at all. */
	assert_burst(-1, 20000, 90000, 90000, 10000);
	/* The kubelet is yet to lower or to raise the quota. */
	assert_burst(0, 50000, 30000, 80000, 20000);
	/* Someone raised what is in force since: the next look takes that over. */
	assert_burst(0, 50000, 30000, 120000, 0);
}

static void test_a_burst_is_not_over_its_quota(void **state)
{
	(void)state;
	assert_burst(0, 50000, 5000, 5000, 5000);
	assert_burst(40000, 0, 5000, 5000, 5000);
}

static void test_the_owners_own_burst_is_the_owners_to_use(void **state)
{
	(void)state;
	assert_burst(40000, 0, 100000, 100000, 40000);
	assert_burst(40000, 0, 50000, 50000, 40000);
	assert_burst(40000, 60000, 50000, 50000, 50000);
	assert_burst(40000, 100000, 90000, 90000, 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_spec_and_status_say_alike_is_in_force),
		cmocka_unit_test(test_a_resize_that_waits_is_not),
		cmocka_unit_test(test_a_limit_of_the_pod_stands_for_a_container_without_one),
		cmocka_unit_test(test_a_resize_of_the_pod_that_waits_is_not_in_force),
		cmocka_unit_test(test_quota_and_burst_stay_within_what_the_owner_declared),
		cmocka_unit_test(test_a_burst_is_not_over_its_quota),
		cmocka_unit_test(test_the_owners_own_burst_is_the_owners_to_use),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
