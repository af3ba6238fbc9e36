// SPDX-License-Identifier: Apache-2.0
/*
 * The rules for memory, and those that recommend CPU and memory from the distribution of use,
 * against numbers worked by hand from their published definitions.
 */
#include "rule_run.h"

/*
 * --- VPA: kubernetes/autoscaler, recommender. Buckets from 0.01 core and 10 MB that grow by 5 %; the
 * end of the bucket of the 90th percentile, plus 15 % ---
 */

static bool vpa_minute(struct rule_run *run, double millicores, uint64_t memory_bytes)
{
	run->sample.memory_working_set_bytes = memory_bytes;
	return run_used(run, millicores);
}

static void test_vpa_adds_its_margin_to_the_percentile(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_vpa, 60);
	/* One minute of 1000m, then nine of 100m: nine tenths are under 110.27m. */
	vpa_minute(&run, 1000, 300 * MIB);
	/* 1000m ends its bucket at 10 x (1.05^37 - 1) / 0.05 = 1016.281. */
	assert_near(run.plan.cpu_millicores, 1016.281 * 1.15, 0.01);
	for (int minute = 2; minute <= 9; minute++) {
		vpa_minute(&run, 100, 300 * MIB);
		assert_near(run.plan.cpu_millicores, 1016.281 * 1.15, 0.01);
	}
	assert_true(vpa_minute(&run, 100, 300 * MIB));
	assert_near(run.plan.cpu_millicores, 110.2656 * 1.15, 0.001);
	/* 300 MiB are 314.57 MB; their bucket ends at 1e7 x (1.05^20 - 1) / 0.05 = 330.66 MB. */
	assert_near((double)run.plan.memory_bytes, 330659541 * 1.15, 2);
	run_end(&run);
}

static void test_vpa_takes_the_mean_of_a_minute_as_a_sample(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_vpa, 1);
	for (int second = 1; second < 60; second++)
		assert_false(vpa_minute(&run, second % 2 ? 50 : 150, 300 * MIB));
	assert_near(run.plan.cpu_millicores, 1000, 0);
	assert_true(vpa_minute(&run, 150, 300 * MIB));
	assert_near(run.plan.cpu_millicores, 110.2656 * 1.15, 0.001);
	run_end(&run);
}

static void test_vpa_recommends_no_less_than_its_least(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_vpa, 60);
	vpa_minute(&run, 1, 5 * MIB);
	assert_near(run.plan.cpu_millicores, 25, 1e-9);
	assert_int_equal(run.plan.memory_bytes, 250 * MIB);
	run_end(&run);
	/* Nothing known of memory: it stays. */
	run_start(&run, POLICY_vpa, 60);
	vpa_minute(&run, 1, 0);
	assert_int_equal(run.plan.memory_bytes, 512 * MIB);
	run_end(&run);
}

static void test_vpa_forgets_by_half_a_day_and_a_compressed_day_by_half_an_hour(void **state)
{
	(void)state;
	for (int compressed = 0; compressed < 2; compressed++) {
		struct rule_run run;
		const double second = compressed ? 1.0 / 24 : 1;

		run_start(&run, POLICY_vpa, 60 * second);
		if (compressed)
			run_set(&run, "compression", 24);
		run_set(&run, "cpu_percentile", 66);
		for (int minute = 0; minute < 100; minute++)
			vpa_minute(&run, 1000, 300 * MIB);
		/* A day later as many samples weigh twice as much: 2/3 of the weight. */
		run.now_s += (86400 - 100 * 60) * second;
		for (int minute = 0; minute < 98; minute++) {
			vpa_minute(&run, 100, 300 * MIB);
			if (minute < 94)
				assert_near(run.plan.cpu_millicores, 1016.281 * 1.15, 0.01);
		}
		assert_near(run.plan.cpu_millicores, 110.2656 * 1.15, 0.001);
		run_end(&run);
	}
}

static void test_vpa_counts_one_peak_an_interval(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_vpa, 60);
	run_set(&run, "half_life_s", 1e8);
	run_set(&run, "memory_interval_s", 600);
	/* A single minute at 900 MiB is the first interval's peak, the rest of it does not count. */
	for (int minute = 0; minute < 10; minute++)
		vpa_minute(&run, 100, minute == 4 ? 900 * MIB : 300 * MIB);
	/* 943.7 MB ends at 1e7 x (1.05^36 - 1) / 0.05 = 958.36 MB. */
	assert_near((double)run.plan.memory_bytes, 958363227 * 1.15, 2);
	for (int interval = 2; interval <= 10; interval++) {
		for (int minute = 0; minute < 10; minute++)
			vpa_minute(&run, 100, 300 * MIB);
		/* Nine of ten peaks are 300 MiB after the tenth. */
		assert_near((double)run.plan.memory_bytes,
			(interval < 10 ? 958363227 : 330659541) * 1.15, 2);
	}
	run_end(&run);
}

static void test_vpa_bumps_memory_after_an_oom_kill(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_vpa, 60);
	/* Limit 512 MiB: x 1.2 is 614.4 MiB = 644.2 MB, more than 100 MiB on top. */
	run.sample.oom_kills = 1;
	vpa_minute(&run, 100, 400 * MIB);
	/* Its bucket ends at 1e7 x (1.05^30 - 1) / 0.05 = 664.39 MB. */
	assert_near((double)run.plan.memory_bytes, 664388475 * 1.15, 2);
	/* A second kill at the same limit asks for no more than the first. */
	vpa_minute(&run, 100, 400 * MIB);
	assert_near((double)run.plan.memory_bytes, 664388475 * 1.15, 2);
	run_end(&run);
	/* Limit 64 MiB: x 1.2 is too little, 100 MiB on top are 164 MiB = 172.0 MB. */
	run_start(&run, POLICY_vpa, 60);
	run_set(&run, "memory_least_mib", 0);
	run.sample.memory_limit_bytes = 64 * MIB;
	run.sample.oom_kills = 1;
	vpa_minute(&run, 100, 60 * MIB);
	/* 1e7 x (1.05^13 - 1) / 0.05 = 177.13 MB. */
	assert_near((double)run.plan.memory_bytes, 177129828 * 1.15, 2);
	run_end(&run);
}

/*
 * --- Autopilot: Rzadca et al., EuroSys 2020, section 3.2.2: the percentile is one of the load, not
 * of time; recommendations are held for an hour ---
 */

static bool autopilot_window(struct rule_run *run, double millicores, uint64_t memory_bytes)
{
	run->sample.memory_peak_bytes = memory_bytes;
	return run_used(run, millicores);
}

static void test_autopilot_takes_a_percentile_of_the_load(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_autopilot, 3);
	run_set(&run, "cpu_half_life_s", 1e8);
	run_set(&run, "cpu_percentile", 50);
	run_set(&run, "margin", 0);
	/* 90 ticks of 100m and 10 of 1000m: 47 % of the load is served under 110m, of time 90 %. */
	for (int tick = 1; tick < 100; tick++)
		assert_false(autopilot_window(&run, tick % 10 ? 100 : 1000, 300 * MIB));
	assert_true(autopilot_window(&run, 1000, 300 * MIB));
	assert_near(run.plan.cpu_millicores, 1016.281, 0.001);
	assert_near((double)run.plan.memory_bytes, 330659541, 1);
	run_end(&run);
	run_start(&run, POLICY_autopilot, 3);
	run_set(&run, "cpu_half_life_s", 1e8);
	run_set(&run, "cpu_percentile", 47);
	for (int tick = 1; tick <= 100; tick++)
		autopilot_window(&run, tick % 10 ? 100 : 1000, 300 * MIB);
	assert_near(run.plan.cpu_millicores, 110.2656 * 1.15, 0.001);
	run_end(&run);
}

static void test_autopilot_holds_the_largest_recommendation_for_an_hour(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_autopilot, 300);
	run_set(&run, "margin", 0);
	run_set(&run, "cpu_half_life_s", 20);
	/* The half-life forgets 1000m at once; twelve windows of an hour do not. */
	autopilot_window(&run, 1000, 300 * MIB);
	for (int window = 1; window <= 14; window++) {
		autopilot_window(&run, 100, 300 * MIB);
		assert_near(run.plan.cpu_millicores, window < 12 ? 1016.281 : 110.2656, 0.001);
	}
	run_end(&run);
}

static void test_autopilot_weighs_by_its_half_lives(void **state)
{
	struct rule_run run;

	(void)state;
	/* An hour for a day: windows of 12.5 s, half-lives of half an hour and two hours. */
	run_start(&run, POLICY_autopilot, 12.5);
	run_set(&run, "compression", 24);
	run_set(&run, "hold_s", 0);
	run_set(&run, "margin", 0);
	run_set(&run, "cpu_percentile", 60);
	run_set(&run, "memory_percentile", 79);
	autopilot_window(&run, 1000, 900 * MIB);
	/* Half an hour later, ten windows of a tenth: 500 against 978 of CPU load, 66 %. */
	run.now_s += 1800 - 10 * 12.5;
	for (int window = 0; window < 10; window++)
		autopilot_window(&run, 100, 300 * MIB);
	assert_near(run.plan.cpu_millicores, 110.2656, 0.001);
	/* Memory: 900 x 2^-0.25 = 757 against 2984, 80 %. */
	assert_near((double)run.plan.memory_bytes, 330659541, 1);
	run_set(&run, "cpu_percentile", 70);
	run_set(&run, "memory_percentile", 83);
	autopilot_window(&run, 100, 300 * MIB);
	assert_near(run.plan.cpu_millicores, 1016.281, 0.001);
	assert_near((double)run.plan.memory_bytes, 958363227, 1);
	run_end(&run);
}

static void test_autopilot_says_nothing_of_what_was_never_used(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_autopilot, 300);
	assert_false(autopilot_window(&run, 0, 0));
	assert_near(run.plan.cpu_millicores, 1000, 0);
	assert_true(autopilot_window(&run, 100, 0));
	assert_int_equal(run.plan.memory_bytes, 512 * MIB);
	run_end(&run);
}

/*
 * --- Senpai: the published senpai.py (pressure 10 ms an interval of 6 s, probes of 1 % at most,
 * fully at a tenth of the target, backing off by 100 % at twenty times it, both by the square) ---
 */

static bool senpai_second(struct rule_run *run, uint64_t stalled_us)
{
	run->sample.memory_used_bytes = 200 * MIB;
	run->sample.memory_pressure_us = stalled_us;
	return run_used(run, 100);
}

/* Six seconds, the stalls of which fall into the last. */
static void senpai_interval(struct rule_run *run, uint64_t stalled_us)
{
	for (int second = 1; second < 6; second++)
		assert_false(senpai_second(run, 0));
	assert_true(senpai_second(run, stalled_us));
}

static void test_senpai_starts_at_what_is_in_use_and_probes(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_senpai, 1);
	senpai_interval(&run, 0);
	assert_int_equal(run.plan.memory_bytes, 200 * MIB);
	senpai_interval(&run, 0);
	assert_int_equal(run.plan.memory_bytes, 198 * MIB);
	/* A tenth of the target is still the whole probe: 198 MiB x 0.99, in pages of 4 KiB. */
	senpai_interval(&run, 1000);
	assert_int_equal(run.plan.memory_bytes, 50181 * 4096);
	/* Half of it: (2 / 10)^2 x 1 % = 0.04 %. */
	senpai_interval(&run, 5000);
	assert_int_equal(run.plan.memory_bytes, 50160 * 4096);
	assert_near(run.plan.cpu_millicores, 1000, 0);
	run_end(&run);
}

static void test_senpai_backs_off_at_once(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_senpai, 1);
	senpai_interval(&run, 0);
	/* Twice the target: (2 / 20)^2 = 1 %, without waiting for the interval. */
	assert_true(senpai_second(&run, 20000));
	assert_int_equal(run.plan.memory_bytes, 202 * MIB);
	/* Stalls add up over seconds: the second one is over the target. */
	assert_false(senpai_second(&run, 9000));
	assert_true(senpai_second(&run, 11000));
	assert_int_equal(run.plan.memory_bytes, 202 * MIB / 100 * 101 / 4096 * 4096);
	/* Twenty times and more: doubled, no more. */
	run.plan.memory_bytes = 100 * MIB;
	senpai_second(&run, 200000);
	assert_int_equal(run.plan.memory_bytes, 200 * MIB);
	senpai_second(&run, 1000000);
	assert_int_equal(run.plan.memory_bytes, 400 * MIB);
	run_end(&run);
}

static void test_senpai_looks_at_one_container(void **state)
{
	struct rule_run run;

	(void)state;
	run_start(&run, POLICY_senpai, 1);
	run.sample.containers = 4;
	for (int second = 0; second < 6; second++)
		senpai_second(&run, 0);
	/* 50 MiB each, under the least of 100. */
	assert_int_equal(run.plan.memory_bytes, 100 * MIB);
	/* 39 ms over four are not over 10 ms each. */
	assert_false(senpai_second(&run, 39000));
	assert_true(senpai_second(&run, 2000));
	run_end(&run);
	/* Without a limit there is nothing to move. */
	run_start(&run, POLICY_senpai, 1);
	run.plan.memory_bytes = 0;
	for (int second = 0; second < 60; second++)
		assert_false(senpai_second(&run, 1000000));
	run_end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vpa_adds_its_margin_to_the_percentile),
		cmocka_unit_test(test_vpa_takes_the_mean_of_a_minute_as_a_sample),
		cmocka_unit_test(test_vpa_recommends_no_less_than_its_least),
		cmocka_unit_test(
			test_vpa_forgets_by_half_a_day_and_a_compressed_day_by_half_an_hour),
		cmocka_unit_test(test_vpa_counts_one_peak_an_interval),
		cmocka_unit_test(test_vpa_bumps_memory_after_an_oom_kill),
		cmocka_unit_test(test_autopilot_takes_a_percentile_of_the_load),
		cmocka_unit_test(test_autopilot_holds_the_largest_recommendation_for_an_hour),
		cmocka_unit_test(test_autopilot_weighs_by_its_half_lives),
		cmocka_unit_test(test_autopilot_says_nothing_of_what_was_never_used),
		cmocka_unit_test(test_senpai_starts_at_what_is_in_use_and_probes),
		cmocka_unit_test(test_senpai_backs_off_at_once),
		cmocka_unit_test(test_senpai_looks_at_one_container),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
