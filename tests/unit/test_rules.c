// SPDX-License-Identifier: Apache-2.0
/* The rules against worked examples of their published definitions. */
#include "learner/rules.h"

#include <math.h>
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

static void test_hpa_never_wants_none_nor_more_than_fit(void **state)
{
	struct rules_hpa rule = {.period_s = 1, .target = 0.5, .tolerance = 0.1};
	struct rules_hpa_state memory = {0};
	uint32_t desired = 9;

	(void)state;
	assert_true(rules_hpa_decide(&rule, &memory, 0, 1, 0, &desired));
	assert_int_equal(desired, 1);
	/* Nor more than a Deployment's field can hold. */
	assert_true(rules_hpa_decide(&rule, &memory, 1, 9, (double)INFINITY, &desired));
	assert_int_equal(desired, INT32_MAX);
}

static void test_the_examples_of_the_kubernetes_documentation(void **state)
{
	/* 'If the current metric value is 200m and the desired value is 100m, the number of
	 * replicas will be doubled [...]; if the current value is 50m, it will be halved.' */
	static const struct {
		uint32_t replicas;
		double current, target;
		uint32_t desired;
	} examples[] = {{2, 200, 100, 4}, {1, 200, 100, 2}, {4, 50, 100, 2}, {3, 50, 100, 2},
		{3, 90, 60, 5}, {5, 109, 100, 5}, {5, 91, 100, 5}, {5, 111, 100, 6},
		{5, 89, 100, 5}, {10, 89, 100, 9}};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct rules_hpa rule = {.period_s = 15,
			.target = examples[i].target,
			.tolerance = 0.1,
			.stabilisation_s = 0};
		struct rules_hpa_state memory = {0};
		uint32_t desired = 0;

		assert_true(rules_hpa_decide(
			&rule, &memory, 0, examples[i].replicas, examples[i].current, &desired));
		if (desired != examples[i].desired)
			fail_msg("%u x %g/%g: %u, expected %u", examples[i].replicas,
				examples[i].current, examples[i].target, desired,
				examples[i].desired);
	}
}

static void test_hpa_decides_once_a_period(void **state)
{
	struct rules_hpa_state memory = {0};
	uint32_t desired = 0;

	(void)state;
	assert_true(rules_hpa_decide(&rules_hpa_default, &memory, 100, 2, 2, &desired));
	assert_int_equal(desired, 8);
	desired = 0;
	assert_false(rules_hpa_decide(&rules_hpa_default, &memory, 114.9, 8, 2, &desired));
	assert_int_equal(desired, 0);
	assert_true(rules_hpa_decide(&rules_hpa_default, &memory, 115, 8, 2, &desired));
	assert_int_equal(desired, 32);
}

static void test_a_scale_down_goes_to_the_highest_desire_of_its_window(void **state)
{
	struct rules_hpa rule = {
		.period_s = 15, .target = 0.5, .tolerance = 0.1, .stabilisation_s = 60};
	struct rules_hpa_state memory = {0};
	const double use[] = {0.5, 0.25, 0.375, 0.1, 0.1, 0.1, 0.1, 0.1};
	const uint32_t expected[] = {8, 8, 8, 8, 8, 6, 6, 2};
	uint32_t replicas = 8;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		/* Utilisation is given for eight replicas' load. */
		double utilisation = use[i] * 8 / replicas;
		uint32_t desired = 0;

		assert_true(rules_hpa_decide(
			&rule, &memory, 15.0 * (double)i, replicas, utilisation, &desired));
		assert_int_equal(desired, expected[i]);
		replicas = desired;
	}
}

static void test_k8s_cpu_comes_in_the_two_published_speeds(void **state)
{
	struct rules_k8s_cpu_state slow = {0}, fast = {0};
	uint32_t decided[2] = {0};
	double limit = 0;

	(void)state;
	for (int second = 0; second < 60; second++) {
		double used = second == 10 ? 500 : 100;

		decided[0] +=
			rules_k8s_cpu_decide(&rules_k8s_cpu_default, &slow, second, used, &limit);
		decided[1] +=
			rules_k8s_cpu_decide(&rules_k8s_cpu_fast, &fast, second, used, &limit);
		/* The fast one forgets the peak after 20 s. */
		assert_true(limit == (second >= 10 && second <= 30 ? 1000 : 200));
	}
	assert_int_equal(decided[0], 4);
	assert_int_equal(decided[1], 60);
}

static void test_a_window_keeps_its_newest_values(void **state)
{
	static struct rules_window window;

	(void)state;
	assert_true(rules_window_max(&window, 0, 100) == 0);
	rules_window_add(&window, 0, 9);
	for (int i = 1; i <= RULES_WINDOW_MAX; i++)
		rules_window_add(&window, i, i == 1 ? 5 : 1);
	/* The oldest went when room ran out; the next one counts for exactly its span. */
	assert_true(rules_window_max(&window, RULES_WINDOW_MAX, 1e9) == 5);
	assert_true(rules_window_max(&window, RULES_WINDOW_MAX, RULES_WINDOW_MAX - 1) == 5);
	assert_true(rules_window_max(&window, RULES_WINDOW_MAX, RULES_WINDOW_MAX - 2) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_k8s_cpu_is_the_largest_use_over_the_target),
		cmocka_unit_test(test_hpa_doubles_when_use_is_twice_the_target),
		cmocka_unit_test(test_hpa_does_nothing_within_its_tolerance),
		cmocka_unit_test(test_hpa_scales_down_only_after_its_stabilisation),
		cmocka_unit_test(test_hpa_never_wants_none_nor_more_than_fit),
		cmocka_unit_test(test_the_examples_of_the_kubernetes_documentation),
		cmocka_unit_test(test_hpa_decides_once_a_period),
		cmocka_unit_test(test_a_scale_down_goes_to_the_highest_desire_of_its_window),
		cmocka_unit_test(test_k8s_cpu_comes_in_the_two_published_speeds),
		cmocka_unit_test(test_a_window_keeps_its_newest_values),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
