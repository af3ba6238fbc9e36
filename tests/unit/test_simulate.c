// SPDX-License-Identifier: Apache-2.0
/*
 * The simulator's CPU against queueing theory and against arithmetic by hand: sharing, quota, reflex.
 * What it is compared with on random configurations is in test_simulate_reference.c.
 */
#include "unit/simulate_fixture.h"

/* --- queueing theory --- */

static void test_one_worker_waits_as_pollaczek_and_khinchine_say(void **state)
{
	const double cvs[] = {0, 0.5, 1, 1.5}, loads[] = {0.3, 0.6, 0.8};

	(void)state;
	for (int c = 0; c < 4; c++)
		for (int l = 0; l < 3; l++) {
			double rate = loads[l] * 1000;
			struct simulate_config config = config_make(&rate);
			struct simulate_input input = {.replicas = 1};
			struct totals totals;
			double wait_us =
				loads[l] * 1000 * (1 + cvs[c] * cvs[c]) / (2 * (1 - loads[l]));

			config.service[0].work_us = 1000;
			config.service[0].work_cv = cvs[c];
			config.service[0].workers = 1;
			config.service[0].backlog = 65536;
			run_config(&config, &input, 2000, &totals);
			assert_near(
				totals.latency_mean_us, 1000 + wait_us, 0.03 * (1000 + wait_us));
		}
}

static void test_processor_sharing_does_not_mind_the_distribution(void **state)
{
	const double cvs[] = {0, 1, 2};

	(void)state;
	/* M/G/1-PS: mean S / (1 - load), whatever the distribution. */
	for (int c = 0; c < 3; c++) {
		double rate = 70;
		struct simulate_config config = config_make(&rate);
		struct simulate_input input = {.replicas = 1};
		struct totals totals;

		config.service[0].work_us = 10000;
		config.service[0].work_cv = cvs[c];
		config.service[0].workers = SIMULATE_WORKERS_MAX;
		config.service[0].cores = 1;
		run_config(&config, &input, 20000, &totals);
		assert_near(totals.latency_mean_us, 10000 / 0.3, 0.03 * 10000 / 0.3);
	}
}

/* Probability that all of @servers are busy at @load erlangs. */
static double erlang_c(int servers, double load)
{
	double term = 1, sum = 1;

	for (int i = 1; i < servers; i++) {
		term *= load / i;
		sum += term;
	}
	term *= load / servers / (1 - load / servers);
	return term / (sum + term);
}

static void test_cores_shared_by_replicas_are_one_queue(void **state)
{
	const int cores[] = {2, 4, 8};

	(void)state;
	/* M/G/c-PS has the mean of M/M/c, on one replica or shared by several. */
	for (int c = 0; c < 3; c++)
		for (uint32_t replicas = 1; replicas <= 3; replicas++) {
			double rate = 75 * cores[c], load = 0.75 * cores[c];
			struct simulate_config config = config_make(&rate);
			struct simulate_input input = {.replicas = replicas};
			struct totals totals;
			double mean_us = 10000 * (1 + erlang_c(cores[c], load) / (cores[c] - load));

			config.service[0].work_us = 10000;
			config.service[0].work_cv = 1;
			config.service[0].workers = SIMULATE_WORKERS_MAX;
			config.service[0].cores = cores[c];
			run_config(&config, &input, 6000, &totals);
			assert_near(totals.latency_mean_us, mean_us, 0.03 * mean_us);
		}
}

static void test_cpu_used_is_rate_times_work(void **state)
{
	double rate = 300;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.replicas = 2};
	struct totals totals;

	(void)state;
	run_config(&config, &input, 2000, &totals);
	assert_near((double)totals.sum.requests, 300 * 2000, 4 * sqrt(300 * 2000));
	assert_near((double)totals.sum.cpu_used_us / (double)totals.sum.requests, 2000, 5);
	assert_int_equal(totals.sum.throttled_us, 0);
	/* Without a limit use is what is allocated. */
	assert_near((double)totals.sum.cpu_allocated_us, (double)totals.sum.cpu_used_us, 2000);
}

static void test_only_a_request_that_finds_nobody_pays_for_the_wake_up(void **state)
{
	/* One every 10 ms. */
	double rate = 100;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.replicas = 1};
	struct totals totals;

	(void)state;
	config.trace.arrivals = SIMULATE_UNIFORM;
	config.service[0].workers = 1;
	config.service[0].work_cv = 0;
	config.service[0].work_us = 6000;
	config.service[0].wake_us = 2000;
	run_config(&config, &input, 10, &totals);
	/* 8 ms every 10 ms: each finds it idle. */
	assert_near(totals.latency_mean_us, 8000, 0.017 * 8000);
	config.service[0].work_us = 9000;
	run_config(&config, &input, 10, &totals);
	/* 11 ms, so the next waits for 1 ms and takes 9: then it is idle again. */
	assert_near(totals.latency_mean_us, (11000 + 10000) / 2.0, 0.017 * 10500);
}

static void test_requests_in_flight_are_rate_times_latency(void **state)
{
	double rate = 400;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 900}, .replicas = 2};
	struct totals totals;

	(void)state;
	config.tick_us = 1e4;
	config.trace.arrivals = SIMULATE_BURSTY;
	config.service[0].wait_us = 5000;
	run_config(&config, &input, 100000, &totals);
	assert_near(totals.in_flight_mean, 400 * totals.latency_mean_us / 1e6,
		0.03 * totals.in_flight_mean);
}

/* --- CFS quota --- */

/* One endless request from second 1 on. */
static struct simulate_config config_loop(const double *rate_per_s)
{
	struct simulate_config config = config_make(rate_per_s);

	config.trace.arrivals = SIMULATE_UNIFORM;
	config.service[0].work_us = 1e8;
	config.service[0].work_cv = 0;
	config.service[0].workers = 1;
	return config;
}

static void test_a_loop_gets_its_quota_of_each_period(void **state)
{
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
	struct simulation *simulation = simulation_make(&config, 1);
	struct sample sample;

	(void)state;
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.cpu_used_us, 0);
	for (int i = 0; i < 5; i++) {
		simulate_tick(simulation, &input, &sample);
		assert_int_equal(sample.cpu_used_us, 100000);
		assert_int_equal(sample.cpu_allocated_us, 100000);
		assert_int_equal(sample.throttled_us, 900000);
		assert_int_equal(sample.throttled_periods, 10);
		assert_int_equal(sample.cpu_pressure_us, 900000);
		assert_int_equal(sample.run_queue_us, 900000);
	}
	simulate_destroy(simulation);
}

static void test_two_threads_use_the_quota_up_twice_as_fast(void **state)
{
	double rate = 2;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 400}, .replicas = 1};
	struct totals totals;
	struct simulation *simulation;

	(void)state;
	config.service[0].workers = 2;
	simulation = simulation_make(&config, 1);
	run_ticks(simulation, &input, 2, &totals);
	run_ticks(simulation, &input, 1, &totals);
	assert_int_equal(totals.sum.cpu_used_us, 400000);
	/* 20 ms on two cores, then 80 ms throttled on both. */
	assert_int_equal(totals.sum.throttled_us, 2 * 800000);
	assert_int_equal(totals.sum.cpu_pressure_us, 800000);
	simulate_destroy(simulation);
}

/* Share of a core that a loop gets at 10 ms a period when the quota is written every 20 ms. */
static double share_with_writes(double phases, uint64_t seed)
{
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;
	double used_us = 0;

	config.tick_us = 20000;
	config.service[0].period_phases = phases;
	simulation = simulation_make(&config, seed);
	for (int i = 0; i < 550; i++) {
		input.plan.cpu_millicores = i % 2 ? 100 : 100.0001;
		simulate_tick(simulation, &input, &sample);
		used_us += i >= 50 ? (double)sample.cpu_used_us : 0;
	}
	simulate_destroy(simulation);
	return used_us / 10e6;
}

static void test_a_write_of_the_quota_is_a_refill(void **state)
{
	double lowest = 1, highest = 0;

	(void)state;
	/* Together with the period's own refill: 5 refills of 10 ms. In the middle between two
	 * writes it is a sixth. */
	assert_near(share_with_writes(0, 1), 0.5, 0.001);
	for (uint64_t seed = 1; seed <= 40; seed++) {
		double share = share_with_writes(1, seed);

		lowest = fmin(lowest, share);
		highest = fmax(highest, share);
	}
	assert_near(lowest, 0.5, 0.02);
	assert_near(highest, 0.6, 0.02);
}

static void test_an_unchanged_limit_is_not_written(void **state)
{
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
	struct totals totals;

	(void)state;
	config.tick_us = 20000;
	run_config(&config, &input, 550, &totals);
	assert_near((double)totals.sum.cpu_used_us, 1e6, 20000);
}

static void test_burst_carries_unused_quota_over(void **state)
{
	/* At second 1 a request of 100 ms comes to a quota of 50 ms a period. */
	const double bursts_us[] = {0, 20000, 50000, 500000};
	const double latency_us[] = {150000, 130000, 100000, 100000};

	(void)state;
	for (int i = 0; i < 4; i++) {
		double rate = 1;
		struct simulate_config config = config_loop(&rate);
		struct simulate_input input = {.plan = {.cpu_millicores = 500}, .replicas = 1};
		struct simulation *simulation;
		struct sample sample;

		config.service[0].work_us = 100000;
		input.plan.burst_us = (uint64_t)bursts_us[i];
		simulation = simulation_make(&config, 1);
		simulate_tick(simulation, &input, &sample);
		simulate_tick(simulation, &input, &sample);
		assert_int_equal(sample.requests, 1);
		assert_near(sample.latency_p99_us, latency_us[i], 0.017 * latency_us[i]);
		/* The average stays bound: what a period used over its quota is allocated. */
		assert_int_equal(
			sample.cpu_allocated_us, 500000 + (i ? fmin(bursts_us[i], 50000) : 0));
		simulate_destroy(simulation);
	}
}

static void test_a_dry_quota_is_seen_at_the_next_tick(void **state)
{
	/* 10 ms a period; what comes at second 1 needs 11 ms. */
	const double ticks_us[] = {0, 0, 4000, 2000, 10000}, idle_us[] = {0, 1000, 0, 0, 0};
	const double latency_us[] = {101000, 11000, 11000, 11000, 11000};

	(void)state;
	for (int i = 0; i < 5; i++) {
		double rate = 1;
		struct simulate_config config = config_loop(&rate);
		struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
		struct simulation *simulation;
		struct sample sample;

		config.service[0].work_us = 11000;
		config.service[0].scheduler_tick_us = ticks_us[i];
		config.service[0].idle_quota_us = idle_us[i];
		simulation = simulation_make(&config, 1);
		simulate_tick(simulation, &input, &sample);
		simulate_tick(simulation, &input, &sample);
		assert_near(sample.latency_p99_us, latency_us[i], 0.017 * latency_us[i]);
		assert_int_equal(sample.cpu_used_us, 11000);
		assert_int_equal(sample.throttled_us, i == 0 ? 90000 : 0);
		simulate_destroy(simulation);
	}
}

static void test_what_ran_over_the_quota_is_paid_back(void **state)
{
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 25}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;
	double used_us = 0;

	(void)state;
	/* 2.5 ms a period, ticks of 4 ms: each time it runs for longer than it may. */
	config.service[0].scheduler_tick_us = 4000;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	for (int i = 0; i < 60; i++) {
		simulate_tick(simulation, &input, &sample);
		used_us += (double)sample.cpu_used_us;
		assert_int_equal(sample.cpu_allocated_us >= sample.cpu_used_us, 1);
	}
	assert_near(used_us, 60 * 25000, 4000);
	simulate_destroy(simulation);
	/* A write forgives the debt: 4 ms instead of 2.5 ms for each. */
	config.tick_us = 1e5;
	simulation = simulation_make(&config, 1);
	used_us = 0;
	for (int i = 0; i < 110; i++) {
		input.plan.cpu_millicores = i % 2 ? 25 : 25.0001;
		simulate_tick(simulation, &input, &sample);
		used_us += i >= 10 ? (double)sample.cpu_used_us : 0;
	}
	assert_near(used_us, 100 * 4000, 1);
	simulate_destroy(simulation);
}

static void test_without_a_limit_nothing_is_throttled(void **state)
{
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
	struct simulation *simulation = simulation_make(&config, 1);
	struct sample sample;

	(void)state;
	for (int i = 0; i < 3; i++)
		simulate_tick(simulation, &input, &sample);
	input.plan.cpu_millicores = 0;
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.cpu_used_us, 1000000);
	assert_int_equal(sample.throttled_us, 0);
	assert_true(sample.cpu_limit_millicores == 0);
	/* And back. */
	input.plan.cpu_millicores = 100;
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.cpu_used_us, 100000);
	simulate_destroy(simulation);
}

static void test_allocation_is_the_highest_limit_of_each_period_or_the_use(void **state)
{
	double rate = 0;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 500}, .replicas = 3};
	struct simulation *simulation;
	uint64_t allocated_us = 0;
	struct sample sample;

	(void)state;
	/* Lowered at 250 ms, in the third period: three periods of 50 ms and seven of 10 ms. */
	config.tick_us = 250000;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 4; i++) {
		simulate_tick(simulation, &input, &sample);
		allocated_us += sample.cpu_allocated_us;
		input.plan.cpu_millicores = 100;
	}
	assert_int_equal(allocated_us, 3 * (3 * 50000 + 7 * 10000));
	assert_int_equal(sample.cpu_used_us, 0);
	simulate_destroy(simulation);
}

/* --- the reflex --- */

struct reflex_case {
	struct allowance allowance;
	uint64_t used_us; /* of a second */
	uint32_t refills;
};

static void test_the_reflex_refills_within_its_allowance(void **state)
{
	/* 10 ms a period: throttled at 10 ms, refilled at 11, throttled at 21, ... */
	const struct reflex_case cases[] = {
		{{0, 3, 1000}, 100000, 0},
		{{0.1, 0, 1000}, 100000, 0},
		{{0.1, 1, 1000}, 200000, 10},
		{{0.1, 3, 1000}, 400000, 30},
		/* The ceiling is of the period's CPU in all: the last refill is a part of one. */
		{{0.1, 3, 250}, 250000, 20},
		{{0.1, 3, 200}, 200000, 10},
		{{0.1, 3, 100}, 100000, 0},
		/* A part under the kernel's least is none. */
		{{0.1, 3, 209}, 200000, 10},
		{{0.1, 3, 211}, 211000, 20},
		/* As often as it can: every 11 ms. */
		{{0.1, 99, 1000}, 910000, 90},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		double rate = 1;
		struct simulate_config config = config_loop(&rate);
		struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 1};
		struct simulation *simulation = simulation_make(&config, 1);
		struct sample sample;

		input.plan.allowance = cases[i].allowance;
		for (int tick = 0; tick < 3; tick++)
			simulate_tick(simulation, &input, &sample);
		assert_int_equal(sample.cpu_used_us, cases[i].used_us);
		assert_int_equal(sample.refills, cases[i].refills);
		assert_int_equal(sample.cpu_allocated_us, cases[i].used_us);
		simulate_destroy(simulation);
	}
}

static void test_the_reflex_waits_for_the_oldest_requests_age(void **state)
{
	/* A request of 15 ms at a limit of 10 ms: throttled at 10 ms, refilled when it is 25 ms
	 * old plus 1 ms to react, done 5 ms later. Without the reflex in the next period. */
	double rate = 1;
	struct simulate_config config = config_loop(&rate);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 100, .allowance = {0.5, 3, 1000}}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	config.service[0].work_us = 15000;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	simulate_tick(simulation, &input, &sample);
	assert_near(sample.latency_p50_us, 31000, 500);
	assert_int_equal(sample.refills, 1);
	assert_int_equal(sample.throttled_us, 16000);
	assert_int_equal(sample.throttled_periods, 0);
	assert_int_equal(sample.requests_over, 0);
	input.plan.allowance.trigger_age_share = 0;
	simulate_tick(simulation, &input, &sample);
	assert_near(sample.latency_p50_us, 105000, 1700);
	assert_int_equal(sample.requests_over, 1);
	simulate_destroy(simulation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_worker_waits_as_pollaczek_and_khinchine_say),
		cmocka_unit_test(test_processor_sharing_does_not_mind_the_distribution),
		cmocka_unit_test(test_cores_shared_by_replicas_are_one_queue),
		cmocka_unit_test(test_cpu_used_is_rate_times_work),
		cmocka_unit_test(test_only_a_request_that_finds_nobody_pays_for_the_wake_up),
		cmocka_unit_test(test_requests_in_flight_are_rate_times_latency),
		cmocka_unit_test(test_a_loop_gets_its_quota_of_each_period),
		cmocka_unit_test(test_two_threads_use_the_quota_up_twice_as_fast),
		cmocka_unit_test(test_a_write_of_the_quota_is_a_refill),
		cmocka_unit_test(test_an_unchanged_limit_is_not_written),
		cmocka_unit_test(test_burst_carries_unused_quota_over),
		cmocka_unit_test(test_a_dry_quota_is_seen_at_the_next_tick),
		cmocka_unit_test(test_what_ran_over_the_quota_is_paid_back),
		cmocka_unit_test(test_without_a_limit_nothing_is_throttled),
		cmocka_unit_test(test_allocation_is_the_highest_limit_of_each_period_or_the_use),
		cmocka_unit_test(test_the_reflex_refills_within_its_allowance),
		cmocka_unit_test(test_the_reflex_waits_for_the_oldest_requests_age),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
