// SPDX-License-Identifier: Apache-2.0
/* The rules for the CPU limit against worked examples of their published definitions. */
#include "rule_run.h"

/* --- static --- */

static void test_static_is_its_share_of_the_upper_bounds(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_static, 1);
	assert_true(run_used(&run, 5));
	assert_near(run.plan.cpu_millicores, 2000, 0);
	assert_int_equal(run.plan.memory_bytes, 1024 * MIB);
	run_set(&run, "cpu_share", 0.25);
	run_set(&run, "memory_share", 0.5);
	assert_true(run_used(&run, 5));
	assert_near(run.plan.cpu_millicores, 500, 1e-9);
	assert_int_equal(run.plan.memory_bytes, 512 * MIB);
	/* Without a bound there is nothing to be set. */
	run.objective.cpu_max_millicores = 0;
	run.plan.cpu_millicores = 77;
	run_used(&run, 5);
	assert_near(run.plan.cpu_millicores, 77, 0);
	run_end(&run);
}

/*
 * --- K8s-CPU: Autothrottle (NSDI 2024) and its published worker: every period the mean use of it
 * over the target is remembered; the largest of the newest window / period of them is the limit ---
 */

static void test_k8s_cpu_is_the_mean_use_of_its_period_over_the_target(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_k8s_cpu, 1);
	for (int second = 1; second < 15; second++)
		assert_false(run_used(&run, second == 3 ? 250 : 100));
	assert_near(run.plan.cpu_millicores, 1000, 0);
	/* 14 s of 100m and one of 250m: 110m, over 0.5. */
	assert_true(run_used(&run, 100));
	assert_near(run.plan.cpu_millicores, 220, 1e-9);
	assert_int_equal(run.plan.memory_bytes, 512 * MIB);
	run_end(&run);
}

static void test_k8s_cpu_remembers_as_many_periods_as_its_window_has(void **state)
{
	struct rule_run run;
	int decisions = 0;

	(void)state;
	run_start(&run, POLICY_k8s_cpu, 1);
	/* One period of 400m, then 60m: 300 s / 15 s = 20 decisions see the first. */
	for (int second = 1; second <= 330; second++) {
		if (!run_used(&run, second <= 15 ? 400 : 60))
			continue;
		decisions++;
		assert_near(run.plan.cpu_millicores, decisions <= 20 ? 800 : 120, 1e-9);
	}
	assert_int_equal(decisions, 22);
	run_end(&run);
}

static void test_k8s_cpu_fast_forgets_after_twenty_seconds(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_k8s_cpu_fast, 1);
	for (int second = 1; second <= 60; second++) {
		assert_true(run_used(&run, second == 10 ? 500 : 100));
		assert_near(
			run.plan.cpu_millicores, second >= 10 && second < 30 ? 1000 : 200, 1e-9);
	}
	run_end(&run);
}

static void test_k8s_cpu_is_of_one_container(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_k8s_cpu_fast, 2);
	run.sample.containers = 4;
	run_set(&run, "target", 0.8);
	assert_true(run_used(&run, 200));
	assert_int_equal(run.sample.cpu_used_us, 1600000);
	assert_near(run.plan.cpu_millicores, 250, 1e-9);
	run_end(&run);
}

static void test_a_period_ends_at_the_tick_nearest_to_it(void **state)
{
	struct rule_run run;
	int decisions = 0;

	(void)state;
	/* Ticks are never exact: 150 of 99.7 ms are 14.955 s. */
	run_start(&run, POLICY_k8s_cpu, 0.0997);
	for (int tick = 0; tick < 1500; tick++)
		decisions += run_used(&run, 100);
	assert_in_range(decisions, 9, 10);
	run_end(&run);
	/* A period shorter than a tick is a tick; one in between is two. */
	run_start(&run, POLICY_k8s_cpu, 10);
	assert_false(run_used(&run, 100));
	assert_true(run_used(&run, 300));
	assert_near(run.plan.cpu_millicores, 400, 1e-9);
	run_end(&run);
}

static void test_a_tick_that_tells_nothing_changes_nothing(void **state)
{
	static const enum policy_id ids[] = {POLICY_k8s_cpu, POLICY_k8s_cpu_fast, POLICY_captain,
		POLICY_koordinator, POLICY_vpa, POLICY_autopilot, POLICY_senpai,
		POLICY_reflex_fixed};

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct rule_run run;
		struct plan before;

		run_start(&run, ids[i], 1000);
		before = run.plan;
		run.sample.containers = 0;
		assert_false(run_tick(&run));
		run.sample.containers = 1;
		run.sample.tick_s = 0;
		assert_false(run_tick(&run));
		assert_memory_equal(&run.plan, &before, sizeof(before));
		run_end(&run);
	}
}

/*
 * --- Captain: Autothrottle (NSDI 2024) and its published worker. A look every 100 ms;
 * with a target of 0.1 throttling in more than 3 of 10 periods is over three times it ---
 */

static void captain_tick(struct rule_run *run, double millicores, bool throttled)
{
	run->sample.throttled_periods = throttled;
	run->sample.throttled_us = throttled ? 20000 : 0;
	run_used(run, millicores);
}

static void captain_second(struct rule_run *run, double low, double high, int throttled)
{
	for (int tick = 0; tick < 10; tick++)
		captain_tick(run, tick % 2 ? high : low, tick < throttled);
}

static void test_captain_rises_by_what_throttling_is_over(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	/* 5 of 10: 1000m x (1 + 0.5 - 3 x 0.1). */
	captain_second(&run, 900, 900, 5);
	assert_near(run.plan.cpu_millicores, 1200, 1e-6);
	/* 3 of 10 are not over it, and use is near the limit. */
	captain_second(&run, 1150, 1150, 3);
	assert_near(run.plan.cpu_millicores, 1200, 1e-6);
	run_end(&run);
}

static void test_captain_falls_to_the_largest_use_and_at_most_by_half(void **state)
{
	static const double limits[] = {500, 250, 200, 200, 200};
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		/* Steady use has no deviation: 200m are enough. */
		captain_second(&run, 200, 200, 0);
		assert_near(run.plan.cpu_millicores, limits[i], 1e-6);
	}
	run_end(&run);
}

static void test_captain_leaves_its_margin_of_deviations(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	/*
	 * Ten usages of 100m and 300m: deviation sqrt(10 x 100^2 / 9) = 105.409m. The margin is
	 * 3 + (0 - 0.1): 300m + 2.9 x 105.409m.
	 */
	captain_second(&run, 100, 300, 0);
	assert_near(run.plan.cpu_millicores, 605.687, 1e-3);
	run_end(&run);
}

static void test_captain_cuts_only_what_is_worth_a_tenth(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	captain_second(&run, 901, 901, 0);
	assert_near(run.plan.cpu_millicores, 1000, 1e-6);
	run_end(&run);
	run_start(&run, POLICY_captain, 0.1);
	captain_second(&run, 900, 900, 0);
	assert_near(run.plan.cpu_millicores, 900, 1e-6);
	run_end(&run);
}

static void test_captain_takes_back_a_cut_that_throttles(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	captain_second(&run, 100, 300, 0);
	for (int tick = 0; tick < 3; tick++)
		captain_tick(&run, 600, true);
	assert_near(run.plan.cpu_millicores, 605.687, 1e-3);
	/* The fourth of ten is over 0.3, before the period ends: 2 x 1000m - 605.687m. */
	captain_tick(&run, 600, true);
	assert_near(run.plan.cpu_millicores, 1394.313, 1e-3);
	/*
	 * Once: it is no cut any more. And the count begins anew: three more of ten do not raise
	 * it, and the margin is 2.9 + (0.4 - 0.1) + (0.3 - 0.1), too much for a cut.
	 */
	for (int tick = 4; tick < 10; tick++)
		captain_tick(&run, 600, tick < 7);
	assert_near(run.plan.cpu_millicores, 1394.313, 1e-3);
	/* Ten usages of 100m or 300m and twenty of 600m deviate by 200.574m; the margin is 3.3. */
	run.plan.cpu_millicores = 1500;
	captain_second(&run, 600, 600, 0);
	assert_near(run.plan.cpu_millicores, 600 + 3.3 * 200.574, 0.01);
	run_end(&run);
}

static void test_captain_needs_no_more_than_a_tick_a_period(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 1);
	run.sample.throttled_periods = 0;
	run_used(&run, 200);
	assert_near(run.plan.cpu_millicores, 500, 1e-6);
	/* What came of the cut is seen a tick later: back, and no new cut in the same tick. */
	run.sample.throttled_periods = 8;
	assert_true(run_used(&run, 200));
	assert_near(run.plan.cpu_millicores, 1500, 1e-6);
	/* The next second is a period of its own. */
	run.sample.throttled_periods = 5;
	assert_true(run_used(&run, 200));
	assert_near(run.plan.cpu_millicores, 1800, 1e-6);
	run_end(&run);
}

static void test_captain_counts_periods_from_throttled_time_if_it_must(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 1);
	/* 450 ms cannot have been fewer than five periods. */
	run.sample.throttled_us = 450000;
	run_used(&run, 990);
	assert_near(run.plan.cpu_millicores, 1200, 1e-6);
	run_end(&run);
}

static void test_captain_never_falls_under_its_least(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_captain, 0.1);
	for (int second = 0; second < 60; second++)
		captain_second(&run, 0, 0, 0);
	assert_near(run.plan.cpu_millicores, 10, 1e-9);
	/* No limit is in force: nothing to be changed. */
	run.plan.cpu_millicores = 0;
	captain_second(&run, 5000, 5000, 10);
	assert_near(run.plan.cpu_millicores, 0, 0);
	run_end(&run);
}

/*
 * --- Koordinator's CPU Burst: koordlet's plugin cpuburst (steps 1.2 and 0.8, ceiling 300 %, burst
 * 1000 %, bucket of period x (ceiling - 100), tokens taken from 100 % on, saved under 60 %) ---
 */

static bool koordinator_second(struct rule_run *run, double millicores, bool throttled)
{
	run->sample.throttled_periods = throttled ? 4 : 0;
	return run_used(run, millicores);
}

static void koordinator_start(struct rule_run *run)
{
	run_start(run, POLICY_koordinator, 1);
	run->objective.cpu_max_millicores = 1200; /* base 400m, ceiling 1200m */
	run->plan.cpu_millicores = 400;
}

static void test_koordinator_rises_while_throttled_up_to_its_ceiling(void **state)
{
	static const double quotas[] = {480, 576, 691.2, 829.44, 995.328, 1194.3936, 1200, 1200};
	struct rule_run run;

	(void)state;
	koordinator_start(&run);
	for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++) {
		assert_true(koordinator_second(&run, 400, true));
		assert_near(run.plan.cpu_millicores, quotas[i], 1e-6);
	}
	run_end(&run);
}

static void test_koordinator_falls_back_to_its_base_when_calm(void **state)
{
	static const double quotas[] = {960, 768, 614.4, 491.52, 400, 400};
	struct rule_run run;

	(void)state;
	koordinator_start(&run);
	run.plan.cpu_millicores = 1200;
	for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++) {
		koordinator_second(&run, 100, false);
		assert_near(run.plan.cpu_millicores, quotas[i], 1e-6);
	}
	/* Told to wait longer, or for ever. */
	run.plan.cpu_millicores = 1200;
	run_set(&run, "calm_s", 3);
	koordinator_second(&run, 400, true);
	for (int second = 1; second <= 4; second++) {
		koordinator_second(&run, 100, false);
		assert_near(run.plan.cpu_millicores,
			second < 3    ? 1200
			: second == 3 ? 960
				      : 768,
			1e-6);
	}
	run_set(&run, "calm_s", 0);
	for (int second = 0; second < 100; second++)
		koordinator_second(&run, 100, false);
	assert_near(run.plan.cpu_millicores, 768, 1e-6);
	run_end(&run);
}

static void test_koordinator_ends_its_burst_when_the_bucket_is_empty(void **state)
{
	static const double quotas[] = {480, 576, 691.2, 829.44, 663.552, 530.8416, 424.67328, 400};
	struct rule_run run;

	(void)state;
	koordinator_start(&run);
	/* 10 s x 200 % of room, a quarter of it at the start: 500, and 200 % of use takes 100/s. */
	run_set(&run, "token_period_s", 10);
	for (size_t i = 0; i < sizeof(quotas) / sizeof(quotas[0]); i++) {
		koordinator_second(&run, 800, true);
		assert_near(run.plan.cpu_millicores, quotas[i], 1e-6);
	}
	/* 300 are missing. 60 to 100 % of use neither takes nor saves; 20 % saves 80/s. */
	for (int second = 0; second < 20; second++)
		koordinator_second(&run, 300, true);
	assert_near(run.plan.cpu_millicores, 400, 1e-6);
	for (int second = 1; second <= 4; second++) {
		koordinator_second(&run, 80, true);
		assert_near(run.plan.cpu_millicores, second < 4 ? 400 : 480, 1e-6);
	}
	run_end(&run);
}

static void test_koordinators_bucket_holds_no_more_than_its_room(void **state)
{
	struct rule_run run;

	(void)state;
	koordinator_start(&run);
	run_set(&run, "token_period_s", 10);
	for (int second = 0; second < 1000; second++)
		koordinator_second(&run, 0, false);
	/* 2000 of room, taken at 200 a second: the tenth leaves none. */
	for (int second = 1; second <= 9; second++)
		koordinator_second(&run, 1200, true);
	assert_near(run.plan.cpu_millicores, 1200, 1e-6);
	koordinator_second(&run, 1200, true);
	assert_near(run.plan.cpu_millicores, 960, 1e-6);
	run_end(&run);
}

static void test_koordinators_burst_is_ten_limits_but_no_more_than_the_quota(void **state)
{
	struct rule_run run;

	(void)state;
	koordinator_start(&run);
	koordinator_second(&run, 100, false);
	/* 40 ms a period, ten times it, and the kernel takes no more than the quota. */
	assert_int_equal(run.plan.burst_us, 40000);
	koordinator_second(&run, 100, true);
	assert_int_equal(run.plan.burst_us, 48000);
	run_set(&run, "burst_percent", 50);
	koordinator_second(&run, 100, true);
	assert_int_equal(run.plan.burst_us, 20000);
	/* No base without an upper bound. */
	run.objective.cpu_max_millicores = 0;
	assert_false(koordinator_second(&run, 100, true));
	run_end(&run);
}

/* --- reflex-fixed, reflex, burst: this project's own --- */

static void test_reflex_fixed_follows_the_mean_use_of_two_seconds(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_reflex_fixed, 1);
	run_set(&run, "factor", 1.1);
	run.objective.latency_target_us = 50000;
	assert_true(run_used(&run, 200));
	assert_near(run.plan.cpu_millicores, 220, 1e-9);
	run_used(&run, 600);
	assert_near(run.plan.cpu_millicores, 440, 1e-9);
	/* 200m is two seconds old now. */
	run_used(&run, 400);
	assert_near(run.plan.cpu_millicores, 550, 1e-9);
	assert_near(run.plan.allowance.trigger_age_share, 0.4, 0);
	assert_int_equal(run.plan.allowance.refills_per_period, 8);
	assert_near(run.plan.allowance.ceiling_millicores, 2000, 0);
	assert_int_equal(run.plan.burst_us, 0);
	run_set(&run, "burst_share", 0.5);
	run_set(&run, "ceiling_share", 0.75);
	run_set(&run, "trigger_age_share", 0.2);
	run_set(&run, "refills_per_period", 3);
	run_used(&run, 400);
	/* 440m are 44 ms a period. */
	assert_int_equal(run.plan.burst_us, 22000);
	assert_near(run.plan.allowance.ceiling_millicores, 1500, 0);
	assert_near(run.plan.allowance.trigger_age_share, 0.2, 0);
	assert_int_equal(run.plan.allowance.refills_per_period, 3);
	run_end(&run);
}

static void test_reflex_fixed_does_not_sink_where_there_is_no_reflex(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_reflex_fixed, 1);
	run.plan.cpu_millicores = 300;
	run.sample.requests = 100;
	run.sample.requests_over = 50;
	run.sample.throttled_us = 500000;
	run_used(&run, 300);
	assert_near(run.plan.cpu_millicores, 600, 1e-9);
	/* With a refill the reflex is at work, and its share is in the use. */
	run.plan.cpu_millicores = 300;
	run.sample.refills = 2;
	run_used(&run, 300);
	assert_near(run.plan.cpu_millicores, 300, 1e-9);
	/* Late, but not for want of quota. */
	run.sample.refills = 0;
	run.sample.throttled_us = 0;
	run_used(&run, 300);
	assert_near(run.plan.cpu_millicores, 300, 1e-9);
	run_end(&run);
}

static void test_reflex_and_burst_leave_the_limit_alone(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_reflex, 1);
	assert_true(run_used(&run, 100));
	assert_near(run.plan.cpu_millicores, 1000, 0);
	assert_near(run.plan.allowance.trigger_age_share, 0.4, 0);
	assert_near(run.plan.allowance.ceiling_millicores, 2000, 0);
	run.objective.cpu_max_millicores = 0;
	run.plan.allowance = (struct allowance){.trigger_age_share = 0};
	assert_false(run_used(&run, 100));
	assert_near(run.plan.allowance.trigger_age_share, 0, 0);
	run_end(&run);
	run_start(&run, POLICY_burst, 1);
	assert_true(run_used(&run, 100));
	assert_near(run.plan.cpu_millicores, 1000, 0);
	assert_int_equal(run.plan.burst_us, 100000);
	run_end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static_is_its_share_of_the_upper_bounds),
		cmocka_unit_test(test_k8s_cpu_is_the_mean_use_of_its_period_over_the_target),
		cmocka_unit_test(test_k8s_cpu_remembers_as_many_periods_as_its_window_has),
		cmocka_unit_test(test_k8s_cpu_fast_forgets_after_twenty_seconds),
		cmocka_unit_test(test_k8s_cpu_is_of_one_container),
		cmocka_unit_test(test_a_period_ends_at_the_tick_nearest_to_it),
		cmocka_unit_test(test_a_tick_that_tells_nothing_changes_nothing),
		cmocka_unit_test(test_captain_rises_by_what_throttling_is_over),
		cmocka_unit_test(test_captain_falls_to_the_largest_use_and_at_most_by_half),
		cmocka_unit_test(test_captain_leaves_its_margin_of_deviations),
		cmocka_unit_test(test_captain_cuts_only_what_is_worth_a_tenth),
		cmocka_unit_test(test_captain_takes_back_a_cut_that_throttles),
		cmocka_unit_test(test_captain_needs_no_more_than_a_tick_a_period),
		cmocka_unit_test(test_captain_counts_periods_from_throttled_time_if_it_must),
		cmocka_unit_test(test_captain_never_falls_under_its_least),
		cmocka_unit_test(test_koordinator_rises_while_throttled_up_to_its_ceiling),
		cmocka_unit_test(test_koordinator_falls_back_to_its_base_when_calm),
		cmocka_unit_test(test_koordinator_ends_its_burst_when_the_bucket_is_empty),
		cmocka_unit_test(test_koordinators_bucket_holds_no_more_than_its_room),
		cmocka_unit_test(test_koordinators_burst_is_ten_limits_but_no_more_than_the_quota),
		cmocka_unit_test(test_reflex_fixed_follows_the_mean_use_of_two_seconds),
		cmocka_unit_test(test_reflex_fixed_does_not_sink_where_there_is_no_reflex),
		cmocka_unit_test(test_reflex_and_burst_leave_the_limit_alone),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
