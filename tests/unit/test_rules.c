// SPDX-License-Identifier: Apache-2.0
/* The rules against worked examples of their published definitions. */
#include "learner/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_k8s_cpu_is_the_largest_use_over_the_target(void **state)
{
	struct rules_k8s_cpu rule = {.period_s = 15, .window_s = 300, .target = 0.5};
	struct rules_k8s_cpu_state memory = {0};
	double limit = 0;

	(void)state;
	assert_true(rules_k8s_cpu_decide(&rule, &memory, 0, 100, &limit));
	assert_true(limit == 200);
	/* Not its period yet, but the use is remembered. */
	assert_false(rules_k8s_cpu_decide(&rule, &memory, 5, 400, &limit));
	assert_true(rules_k8s_cpu_decide(&rule, &memory, 15, 50, &limit));
	assert_true(limit == 800);
	/* 400 at second 5 leaves the window of 300 s. */
	assert_true(rules_k8s_cpu_decide(&rule, &memory, 310, 60, &limit));
	assert_true(limit == 120);
}

static void test_hpa_doubles_when_use_is_twice_the_target(void **state)
{
	struct rules_hpa rule = {
		.period_s = 15, .target = 0.5, .tolerance = 0.1, .stabilisation_s = 300};
	struct rules_hpa_state memory = {0};
	uint32_t desired = 0;

	(void)state;
	/* desiredReplicas = ceil(currentReplicas x currentMetric / desiredMetric): 2 x 200/100. */
	assert_true(rules_hpa_decide(&rule, &memory, 0, 2, 1.0, &desired));
	assert_int_equal(desired, 4);
}

static void test_hpa_does_nothing_within_its_tolerance(void **state)
{
	struct rules_hpa rule = {
		.period_s = 15, .target = 0.5, .tolerance = 0.1, .stabilisation_s = 0};
	struct rules_hpa_state memory = {0};
	uint32_t desired = 0;

	(void)state;
	assert_true(rules_hpa_decide(&rule, &memory, 0, 10, 0.54, &desired));
	assert_int_equal(desired, 10);
	assert_true(rules_hpa_decide(&rule, &memory, 15, 10, 0.56, &desired));
	assert_int_equal(desired, 12);
}

static void test_hpa_scales_down_only_after_its_stabilisation(void **state)
{
	struct rules_hpa rule = {
		.period_s = 15, .target = 0.5, .tolerance = 0.1, .stabilisation_s = 300};
	struct rules_hpa_state memory = {0};
	uint32_t desired = 0;

	(void)state;
	assert_true(rules_hpa_decide(&rule, &memory, 0, 4, 0.5, &desired));
	assert_int_equal(desired, 4);
	assert_true(rules_hpa_decide(&rule, &memory, 15, 4, 0.25, &desired));
	assert_int_equal(desired, 4);
	for (double now = 30; now <= 300; now += 15)
		assert_true(rules_hpa_decide(&rule, &memory, now, 4, 0.25, &desired));
	assert_int_equal(desired, 4);
	assert_true(rules_hpa_decide(&rule, &memory, 315, 4, 0.25, &desired));
	assert_int_equal(desired, 2);
}

static void test_hpa_never_wants_none(void **state)
{
	struct rules_hpa rule = {.period_s = 1, .target = 0.5, .tolerance = 0.1};
	struct rules_hpa_state memory = {0};
	uint32_t desired = 9;

	(void)state;
	assert_true(rules_hpa_decide(&rule, &memory, 0, 1, 0, &desired));
	assert_int_equal(desired, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_k8s_cpu_is_the_largest_use_over_the_target),
		cmocka_unit_test(test_hpa_doubles_when_use_is_twice_the_target),
		cmocka_unit_test(test_hpa_does_nothing_within_its_tolerance),
		cmocka_unit_test(test_hpa_scales_down_only_after_its_stabilisation),
		cmocka_unit_test(test_hpa_never_wants_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
