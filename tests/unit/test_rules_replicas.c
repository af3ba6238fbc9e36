// SPDX-License-Identifier: Apache-2.0
/* The rules for replicas against worked examples of their published definitions. */
#include "rule_run.h"

/*
 * --- HPA: Kubernetes' documentation, 'Horizontal Pod Autoscaling', its algorithm and its
 * configurable scaling behaviour ---
 */

/* One period in which the replicas together used so much of their declared CPU of 2000m each. */
static bool hpa_period(struct rule_run *run, double utilisation)
{
	run->sample.cpu_used_us =
		(uint64_t)llround(utilisation * run->replicas * 2000 * 1000 * run->sample.tick_s);
	return run_tick(run);
}

static void hpa_start(struct rule_run *run, uint32_t replicas)
{
	run_start(run, POLICY_hpa, 15);
	run->replicas = replicas;
}

static void test_hpa_is_the_formula_of_the_documentation(void **state)
{
	/*
	 * 'If the current metric value is 200m and the desired value is 100m, the number of
	 * replicas will be doubled [...]; if the current value is 50m, it will be halved.'
	 */
	static const struct {
		uint32_t replicas;
		double current, target;
		uint32_t desired;
	} examples[] = {{2, 200, 100, 4}, {1, 200, 100, 2}, {4, 50, 100, 2}, {3, 50, 100, 2},
		{3, 90, 60, 5}, {5, 109, 100, 5}, {5, 91, 100, 5}, {5, 111, 100, 6},
		{5, 89, 100, 5}, {10, 89, 100, 9}};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct rule_run run;

		hpa_start(&run, examples[i].replicas);
		run_set(&run, "down_stabilisation_s", 0);
		run_set(&run, "target", examples[i].target / 1000);
		assert_true(hpa_period(&run, examples[i].current / 1000));
		if (run.wanted != examples[i].desired)
			fail_msg("%u x %g/%g: %u, expected %u", examples[i].replicas,
				examples[i].current, examples[i].target, run.wanted,
				examples[i].desired);
		run_end(&run);
	}
}

static void test_hpa_takes_use_over_the_reservation_where_there_is_no_limit(void **state)
{
	struct rule_run run;

	(void)state;
	hpa_start(&run, 2);
	run_set(&run, "target", 0.5);
	run.objective.cpu_max_millicores = 0;
	run.sample.cpu_limit_millicores = 0;
	/* Neither: there is nothing that use could be a share of. */
	assert_false(hpa_period(&run, 0.3));
	/* 600m each, twice half of what is reserved. */
	run.sample.cpu_reserved_millicores = 600;
	assert_true(hpa_period(&run, 0.3));
	assert_int_equal(run.wanted, 4);
	run_end(&run);
}

static void test_hpa_decides_once_a_period_on_all_of_it(void **state)
{
	struct rule_run run;

	(void)state;
	hpa_start(&run, 2);
	run.sample.tick_s = 1;
	for (int second = 1; second < 15; second++)
		assert_false(hpa_period(&run, second <= 5 ? 1.0 : 0.4));
	assert_int_equal(run.wanted, 1);
	/* 5 s of 100 % and 10 s of 40 % are 60 %: ceil(2 x 0.6 / 0.5). */
	assert_true(hpa_period(&run, 0.4));
	assert_int_equal(run.wanted, 3);
	run_end(&run);
}

static void test_hpa_scales_down_only_after_its_stabilisation(void **state)
{
	struct rule_run run;

	(void)state;
	hpa_start(&run, 4);
	/* One wish for four at 15 s counts until it is older than 300 s. */
	assert_true(hpa_period(&run, 0.5));
	assert_int_equal(run.wanted, 4);
	for (int period = 1; period <= 20; period++) {
		hpa_period(&run, 0.25);
		assert_int_equal(run.wanted, 4);
	}
	hpa_period(&run, 0.25);
	assert_int_equal(run.wanted, 2);
	run_end(&run);
}

static void test_a_scale_down_goes_to_the_highest_wish_of_its_window(void **state)
{
	const double use[] = {0.5, 0.25, 0.375, 0.1, 0.1, 0.1, 0.1, 0.1};
	const uint32_t expected[] = {8, 8, 8, 8, 8, 6, 6, 2};
	struct rule_run run;

	(void)state;
	hpa_start(&run, 8);
	run_set(&run, "down_stabilisation_s", 60);
	for (size_t i = 0; i < 8; i++) {
		/* Utilisation is given for eight replicas' load. */
		hpa_period(&run, use[i] * 8 / run.replicas);
		assert_int_equal(run.wanted, expected[i]);
		run.replicas = run.wanted;
	}
	run_end(&run);
}

static void test_a_scale_up_waits_for_the_lowest_wish_of_its_window(void **state)
{
	const double use[] = {0.5, 1.0, 1.5, 1.5, 1.5, 1.5};
	const uint32_t expected[] = {2, 2, 2, 4, 6, 6};
	struct rule_run run;

	(void)state;
	hpa_start(&run, 2);
	run_set(&run, "up_stabilisation_s", 30);
	for (size_t i = 0; i < 6; i++) {
		hpa_period(&run, use[i] * 2 / run.replicas);
		assert_int_equal(run.wanted, expected[i]);
		run.replicas = run.wanted;
	}
	run_end(&run);
}

static void test_hpa_grows_by_the_default_policies(void **state)
{
	static const uint32_t expected[] = {5, 10, 20, 40, 80, 100, 100};
	struct rule_run run;

	(void)state;
	/* The more of 4 pods and 100 %, every 15 s. */
	hpa_start(&run, 1);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		hpa_period(&run, 50.0 / run.replicas);
		assert_int_equal(run.wanted, expected[i]);
		run.replicas = run.wanted;
	}
	run_end(&run);
}

static void test_hpa_counts_its_steps_over_the_policy_period(void **state)
{
	static const uint32_t expected[] = {14, 14, 14, 14, 18, 18, 18, 18, 22};
	struct rule_run run;

	(void)state;
	/* Four pods a minute, decided every 15 s. */
	hpa_start(&run, 10);
	run_set(&run, "up_percent", 0);
	run_set(&run, "up_period_s", 60);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		hpa_period(&run, 50.0 / run.replicas);
		assert_int_equal(run.wanted, expected[i]);
		run.replicas = run.wanted;
	}
	run_end(&run);
	/* And down: 4 of 22 a minute. */
	hpa_start(&run, 22);
	run_set(&run, "down_stabilisation_s", 0);
	run_set(&run, "down_percent", 0);
	run_set(&run, "down_pods", 4);
	run_set(&run, "down_period_s", 60);
	for (int period = 0; period < 9; period++) {
		hpa_period(&run, 1.0 / run.replicas);
		assert_int_equal(run.wanted, period < 4 ? 18 : period < 8 ? 14 : 10);
		run.replicas = run.wanted;
	}
	run_end(&run);
}

static void test_hpa_shrinks_as_in_the_documentations_example(void **state)
{
	static const uint32_t expected[] = {72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10};
	struct rule_run run;

	(void)state;
	/* 80 replicas, the more of 4 pods and 10 % a minute, target 10: 8, 8, ... then 4 each. */
	hpa_start(&run, 80);
	run.sample.tick_s = 60;
	run_set(&run, "down_stabilisation_s", 0);
	run_set(&run, "down_percent", 10);
	run_set(&run, "down_pods", 4);
	run_set(&run, "down_period_s", 60);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		hpa_period(&run, 5.0 / run.replicas);
		assert_int_equal(run.wanted, expected[i]);
		run.replicas = run.wanted;
	}
	run_end(&run);
	/* The one that allows less. */
	hpa_start(&run, 80);
	run_set(&run, "down_stabilisation_s", 0);
	run_set(&run, "down_percent", 10);
	run_set(&run, "down_pods", 4);
	run_set(&run, "down_select_most", 0);
	hpa_period(&run, 0.1);
	assert_int_equal(run.wanted, 76);
	/* No policy at all: not in this direction. */
	run_set(&run, "down_percent", 0);
	run_set(&run, "down_pods", 0);
	hpa_period(&run, 0.1);
	assert_int_equal(run.wanted, 80);
	run_set(&run, "up_percent", 0);
	run_set(&run, "up_pods", 0);
	hpa_period(&run, 10);
	assert_int_equal(run.wanted, 80);
	run_end(&run);
}

static void test_hpa_remembers_only_the_steps_its_bounds_leave(void **state)
{
	struct rule_run run;

	(void)state;
	hpa_start(&run, 10);
	run.objective.replicas_max = 12;
	run_set(&run, "up_percent", 0);
	run_set(&run, "up_period_s", 60);
	hpa_period(&run, 5);
	assert_int_equal(run.wanted, 14);
	/* The bound leaves two of the four: two more are allowed within the minute. */
	run.replicas = 12;
	run.objective.replicas_max = 100;
	hpa_period(&run, 5);
	assert_int_equal(run.wanted, 14);
	run_end(&run);
}

static void test_hpa_never_wants_none_nor_more_than_fit(void **state)
{
	struct rule_run run;

	(void)state;
	hpa_start(&run, 1);
	run_set(&run, "down_stabilisation_s", 0);
	hpa_period(&run, 0);
	assert_int_equal(run.wanted, 1);
	run_set(&run, "up_percent", 1e6);
	run_set(&run, "target", 0.01);
	run.replicas = 1000000;
	run.sample.cpu_used_us = UINT64_MAX;
	run_tick(&run);
	assert_int_equal(run.wanted, INT32_MAX);
	run_end(&run);
	/* Scaled to none by hand: it is off. And nothing is known without a declared CPU. */
	hpa_start(&run, 0);
	assert_false(run_used(&run, 1000));
	run.replicas = 1;
	run.objective.cpu_max_millicores = 0;
	assert_false(run_used(&run, 1000));
	run.sample.cpu_limit_millicores = 1000;
	assert_true(run_used(&run, 1000));
	assert_int_equal(run.wanted, 2);
	run_end(&run);
}

/*
 * --- KPA: Knative Serving's documentation and pkg/autoscaler/scaling (stable window 60 s, panic's 10 %
 * of it, panic at 200 %, target 100 x 70 %, at most x1000 up and half down in a decision, every 2 s) ---
 */

static void kpa_start(struct rule_run *run, uint32_t replicas)
{
	run_start(run, POLICY_kpa, 2);
	run->replicas = replicas;
	run_set(run, "target", 10); /* 7 in flight a replica */
}

static bool kpa_look(struct rule_run *run, double in_flight)
{
	run->sample.in_flight = in_flight;
	return run_tick(run);
}

static void kpa_looks(struct rule_run *run, int looks, double in_flight)
{
	while (looks--)
		kpa_look(run, in_flight);
}

static void test_kpa_wants_concurrency_over_its_target(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 1);
	kpa_looks(&run, 60, 5);
	assert_int_equal(run.wanted, 1);
	run_end(&run);
	/* 100 in flight, 10 a replica, 70 %: 15. */
	kpa_start(&run, 10);
	kpa_looks(&run, 60, 100);
	assert_int_equal(run.wanted, 15);
	run_end(&run);
}

static void test_kpa_looks_every_two_seconds(void **state)
{
	struct rule_run run;
	int decisions = 0;

	(void)state;
	kpa_start(&run, 1);
	run.sample.tick_s = 0.1;
	for (int tick = 0; tick < 601; tick++)
		decisions += kpa_look(&run, 5);
	assert_int_equal(decisions, 30);
	run_end(&run);
}

static void test_kpa_panics_at_twice_what_is_there(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 5);
	/* It starts in panic with what is there; a minute later it is over. */
	kpa_looks(&run, 60, 34);
	assert_int_equal(run.wanted, 5);
	/* 6 s at 69 are 10 replicas of 5: panic, though the minute's mean is only 37.5. */
	kpa_looks(&run, 2, 69);
	assert_true(run.wanted < 10);
	kpa_look(&run, 69);
	assert_int_equal(run.wanted, 10);
	run_end(&run);
	/* 62 are 9 of 5: no panic, the minute's mean decides. */
	kpa_start(&run, 5);
	kpa_looks(&run, 60, 34);
	kpa_looks(&run, 3, 62);
	assert_int_equal(run.wanted, 6);
	run_end(&run);
}

static void test_kpa_gives_nothing_up_while_it_panics(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 1);
	kpa_looks(&run, 60, 5);
	kpa_looks(&run, 3, 70);
	assert_int_equal(run.wanted, 10);
	run.replicas = 10;
	/* The load is gone. The last look over the threshold was at ten seconds' worth of 70. */
	for (int look = 1; look <= 30; look++) {
		kpa_look(&run, 0);
		assert_int_equal(run.wanted, 10);
	}
	/* A stable window later it is over; then at most half goes at a time. */
	kpa_look(&run, 0);
	assert_int_equal(run.wanted, 5);
	run.replicas = 5;
	kpa_look(&run, 0);
	assert_int_equal(run.wanted, 2);
	run.replicas = 2;
	kpa_look(&run, 0);
	assert_int_equal(run.wanted, 1);
	run.replicas = 1;
	/* The next panic knows nothing of the ten. */
	kpa_looks(&run, 3, 21);
	assert_int_equal(run.wanted, 3);
	run_end(&run);
}

static void test_kpa_panic_lasts_while_it_is_called_for(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 1);
	kpa_looks(&run, 60, 5);
	/* Replicas that do not come: the threshold stays crossed. */
	kpa_looks(&run, 100, 70);
	assert_int_equal(run.wanted, 10);
	kpa_looks(&run, 3, 140);
	assert_int_equal(run.wanted, 20);
	kpa_looks(&run, 20, 70);
	assert_int_equal(run.wanted, 20);
	run_end(&run);
}

static void test_kpa_grows_by_one_at_least_whatever_its_rate(void **state)
{
	struct rule_run run;

	(void)state;
	/* The case of its own source: rate 1.1, three in flight, two replicas, one each. */
	kpa_start(&run, 2);
	run_set(&run, "target", 1);
	run_set(&run, "utilisation_percent", 100);
	run_set(&run, "max_scale_up_rate", 1.1);
	kpa_looks(&run, 60, 3);
	assert_int_equal(run.wanted, 3);
	run_end(&run);
}

static void test_kpa_delays_a_scale_down(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 1);
	run_set(&run, "stable_window_s", 6);
	run_set(&run, "panic_window_percent", 100);
	run_set(&run, "panic_threshold_percent", 1000);
	run_set(&run, "scale_down_delay_s", 10);
	kpa_looks(&run, 10, 21);
	assert_int_equal(run.wanted, 3);
	run.replicas = 3;
	/* Three looks empty the window of 6 s, five more the delay. */
	for (int look = 1; look <= 8; look++) {
		kpa_look(&run, 0);
		if (look <= 4)
			assert_int_equal(run.wanted, 3);
	}
	assert_int_equal(run.wanted, 1);
	run_end(&run);
}

static void test_kpa_keeps_what_it_finds_until_it_knows(void **state)
{
	struct rule_run run;

	(void)state;
	kpa_start(&run, 8);
	/* Nothing in flight, yet eight replicas were there for a reason. */
	kpa_look(&run, 0);
	kpa_looks(&run, 30, 0);
	assert_int_equal(run.wanted, 8);
	kpa_looks(&run, 1, 0);
	assert_int_equal(run.wanted, 4);
	run.sample.tick_s = 0;
	assert_false(kpa_look(&run, 1000));
	run_end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hpa_is_the_formula_of_the_documentation),
		cmocka_unit_test(test_hpa_takes_use_over_the_reservation_where_there_is_no_limit),
		cmocka_unit_test(test_hpa_decides_once_a_period_on_all_of_it),
		cmocka_unit_test(test_hpa_scales_down_only_after_its_stabilisation),
		cmocka_unit_test(test_a_scale_down_goes_to_the_highest_wish_of_its_window),
		cmocka_unit_test(test_a_scale_up_waits_for_the_lowest_wish_of_its_window),
		cmocka_unit_test(test_hpa_grows_by_the_default_policies),
		cmocka_unit_test(test_hpa_counts_its_steps_over_the_policy_period),
		cmocka_unit_test(test_hpa_shrinks_as_in_the_documentations_example),
		cmocka_unit_test(test_hpa_remembers_only_the_steps_its_bounds_leave),
		cmocka_unit_test(test_hpa_never_wants_none_nor_more_than_fit),
		cmocka_unit_test(test_kpa_wants_concurrency_over_its_target),
		cmocka_unit_test(test_kpa_looks_every_two_seconds),
		cmocka_unit_test(test_kpa_panics_at_twice_what_is_there),
		cmocka_unit_test(test_kpa_gives_nothing_up_while_it_panics),
		cmocka_unit_test(test_kpa_panic_lasts_while_it_is_called_for),
		cmocka_unit_test(test_kpa_grows_by_one_at_least_whatever_its_rate),
		cmocka_unit_test(test_kpa_delays_a_scale_down),
		cmocka_unit_test(test_kpa_keeps_what_it_finds_until_it_knows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
