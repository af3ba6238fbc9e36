// SPDX-License-Identifier: Apache-2.0
/* The simulator's replicas, memory, chains of services, load and interface. */
#include "unit/simulate_fixture.h"

/* --- replicas --- */

static void test_a_replica_takes_requests_after_its_start(void **state)
{
	double rate = 100;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 1000}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	config.service[0].startup_us = 2500000;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(simulate_ready(simulation, 0), 1);
	input.replicas = 3;
	simulate_tick(simulation, &input, &sample);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(simulate_ready(simulation, 0), 1);
	assert_int_equal(sample.containers, 3);
	/* They have their limits from the start. */
	assert_int_equal(sample.cpu_allocated_us, 3000000);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(simulate_ready(simulation, 0), 3);
	input.replicas = 1;
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(simulate_ready(simulation, 0), 1);
	assert_int_equal(sample.requests_failed, 0);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.containers, 1);
	assert_int_equal(sample.cpu_allocated_us, 1000000);
	simulate_destroy(simulation);
}

static void test_the_work_of_a_start_is_throttled_like_any_other(void **state)
{
	double rate = 0;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 100}, .replicas = 0};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	/* 300 ms of CPU at 10 ms a period: 2.91 s after the delay of 1 s. */
	config.service[0].startup_us = 1e6;
	config.service[0].startup_work_us = 300000;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	input.replicas = 1;
	for (int i = 0; i < 3; i++) {
		simulate_tick(simulation, &input, &sample);
		assert_int_equal(simulate_ready(simulation, 0), 0);
	}
	assert_int_equal(sample.cpu_used_us, 100000);
	assert_true(sample.in_flight == 0);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(simulate_ready(simulation, 0), 1);
	simulate_destroy(simulation);
}

static void test_a_leaving_replica_ends_what_it_has(void **state)
{
	double rate = 200;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.replicas = 4};
	struct simulation *simulation;
	uint64_t answered = 0, failed = 0;
	struct sample sample;

	(void)state;
	config.service[0].wait_us = 300000;
	config.service[0].workers = 256;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 60; i++) {
		input.replicas = i % 2 ? 1 : 4;
		simulate_tick(simulation, &input, &sample);
		answered += sample.requests;
		failed += sample.requests_failed;
	}
	assert_int_equal(failed, 0);
	assert_near((double)answered, 200 * 60, 4 * sqrt(200 * 60));
	simulate_destroy(simulation);
}

static void test_least_connections_beats_turns_when_requests_differ(void **state)
{
	double p99_us[2];

	(void)state;
	for (int least = 0; least < 2; least++) {
		double rate = 600;
		struct simulate_config config = config_make(&rate);
		struct simulate_input input = {.replicas = 4};
		struct totals totals;

		config.service[0].work_us = 4000;
		config.service[0].work_cv = 1.5;
		config.service[0].workers = 1;
		config.service[0].cores = 4;
		config.service[0].least_connections = least;
		run_config(&config, &input, 300, &totals);
		p99_us[least] = histogram_quantile_us(totals.latency, 0.99);
	}
	assert_true(p99_us[1] < 0.9 * p99_us[0]);
}

static void test_more_than_the_backlog_is_refused(void **state)
{
	double rate = 100;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.replicas = 2};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	config.service[0].work_us = 1e8;
	config.service[0].work_cv = 0;
	config.service[0].workers = 3;
	config.service[0].backlog = 5;
	config.trace.arrivals = SIMULATE_UNIFORM;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	/* 99 came before the second's end; 2 x (3 + 5) were taken. */
	assert_true(sample.in_flight == 16);
	assert_int_equal(sample.requests_failed, 99 - 16);
	assert_int_equal(sample.requests, 0);
	simulate_destroy(simulation);
}

static void test_neighbours_take_their_share(void **state)
{
	double rate = 10;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.replicas = 1};
	struct totals totals;
	double over;

	(void)state;
	/* Busy 1 s of 4 s on average; then a request of 10 ms takes 40 ms. */
	config.service[0].work_us = 10000;
	config.service[0].work_cv = 0;
	config.service[0].cores = 1;
	config.service[0].neighbour_share = 0.75;
	config.service[0].neighbour_busy_us = 1e6;
	config.service[0].neighbour_idle_us = 3e6;
	config.service[0].latency_target_us = 35000;
	run_config(&config, &input, 4000, &totals);
	over = (double)totals.sum.requests_over / (double)totals.sum.requests;
	assert_true(over > 0.2 && over < 0.35);
	assert_true(totals.sum.run_queue_us > 0);
}

/* --- memory --- */

static void test_growth_over_the_limit_kills_and_starts_anew(void **state)
{
	double rate = 100;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {
		.plan = {.memory_bytes = (uint64_t)(64 * MIB)}, .replicas = 1};
	struct simulation *simulation;
	uint32_t killed_at = 0, kills = 0;
	uint64_t failed = 0;
	struct sample sample;

	(void)state;
	/* 20 MiB and 10 MiB/s: over 64 MiB after 4.4 s, then again 4.4 s after each start, which
	 * takes 1 s. */
	config.service[0].memory_base_bytes = 20 * MIB;
	config.service[0].memory_growth_bytes_per_s = 10 * MIB;
	config.service[0].memory_request_bytes = 0;
	simulation = simulation_make(&config, 1);
	for (uint32_t i = 0; i < 27; i++) {
		simulate_tick(simulation, &input, &sample);
		assert_int_equal(sample.containers, 1);
		assert_true(sample.memory_used_bytes <= sample.memory_peak_bytes);
		assert_true(sample.memory_peak_bytes <= input.plan.memory_bytes);
		if (sample.oom_kills && !killed_at)
			killed_at = i;
		kills += sample.oom_kills;
		failed += sample.requests_failed;
	}
	assert_int_equal(killed_at, 4);
	assert_int_equal(kills, 6);
	/* Five starts of 1 s at 100 a second are over: nobody takes requests. */
	assert_true(failed > 400 && failed < 650);
	simulate_destroy(simulation);
}

static void test_a_kill_fails_what_is_in_flight(void **state)
{
	double rate = 50;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {
		.plan = {.memory_bytes = (uint64_t)(64 * MIB)}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	/* Nothing ends: at 100 ms a period 5 more are in flight, of 1 MiB each over 40 MiB. */
	config.trace.arrivals = SIMULATE_UNIFORM;
	config.service[0].work_us = 1e8;
	config.service[0].memory_base_bytes = 40 * MIB;
	config.service[0].memory_request_bytes = MIB;
	config.service[0].startup_us = 6e8;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.oom_kills, 1);
	/* The 25th comes at 500 ms, just after the period's end; seen at 600 ms with 29. */
	assert_int_equal(sample.requests_failed, 49);
	assert_true(sample.in_flight == 0);
	assert_int_equal(simulate_ready(simulation, 0), 0);
	simulate_destroy(simulation);
}

static void test_a_limit_in_the_hot_pages_stalls(void **state)
{
	const double missing[] = {-1, 0, 0.25, 0.5, 1};
	const double slowdown[] = {1, 1, 1 / (1 - 0.2), 1 / (1 - 0.4), 1 / (1 - 0.8)};

	(void)state;
	for (int i = 0; i < 5; i++) {
		double rate = 10;
		struct simulate_config config = config_make(&rate);
		struct simulate_input input = {.replicas = 1};
		struct totals totals;

		config.service[0].work_us = 10000;
		config.service[0].work_cv = 0;
		config.service[0].cores = 16;
		config.service[0].memory_base_bytes = 20 * MIB;
		config.service[0].memory_hot_bytes = 8 * MIB;
		config.service[0].memory_request_bytes = 0;
		config.service[0].stall_share = 0.8;
		config.service[0].memory_kills = 0;
		input.plan.memory_bytes = (uint64_t)((28 - 8 * missing[i]) * MIB);
		run_config(&config, &input, 100, &totals);
		assert_near(
			totals.latency_mean_us, 10000 * slowdown[i], 0.017 * 10000 * slowdown[i]);
		/* The CPU used is the same, what is added is time in reclaim. */
		assert_near((double)totals.sum.cpu_used_us, 10000.0 * (double)totals.sum.requests,
			10000);
		assert_near((double)totals.sum.reclaim_us,
			(double)totals.sum.cpu_used_us * (slowdown[i] - 1), 1000);
		assert_int_equal(totals.sum.oom_kills, 0);
	}
}

static void test_memory_high_is_raised_when_it_hurts_and_kills_nothing(void **state)
{
	double rate = 100;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {.plan = {.memory_bytes = (uint64_t)(64 * MIB)},
		.replicas = 1,
		.memory_most_bytes = (uint64_t)(100 * MIB)};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	/* 20 MiB of base and 5 MiB/s: in the 10 MiB of hot pages after 7 s, over 100 MiB after 16. */
	config.service[0].memory_base_bytes = 20 * MIB;
	config.service[0].memory_hot_bytes = 10 * MIB;
	config.service[0].memory_growth_bytes_per_s = 5 * MIB;
	config.service[0].memory_request_bytes = 0;
	config.service[0].memory_kills = 1;
	simulation = simulation_make(&config, 1);
	for (uint32_t i = 0; i < 16; i++) {
		simulate_tick(simulation, &input, &sample);
		assert_int_equal(sample.oom_kills, 0);
		assert_true(sample.memory_limit_bytes <= input.memory_most_bytes);
		if (i < 6)
			assert_int_equal(sample.memory_limit_bytes, 64 * MIB);
		/* What was raised is what the next decision starts from. */
		input.plan.memory_bytes = sample.memory_limit_bytes;
	}
	assert_int_equal(sample.memory_limit_bytes, 100 * MIB);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.oom_kills, 1);
	/* A plan that is written again is in force again. */
	input.plan.memory_bytes = (uint64_t)(64 * MIB);
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.memory_limit_bytes, 64 * MIB);
	simulate_destroy(simulation);
}

/* --- several services --- */

static void test_a_chains_latency_is_the_sum_of_its_parts(void **state)
{
	const double work_us[] = {3000, 5000, 2000, 7000}, wait_us[] = {0, 11000, 0, 4000};
	double rate = 5, wanted_us = 0;
	struct simulate_config config = config_make(&rate);
	struct simulate_input inputs[4] = {
		{.replicas = 1}, {.replicas = 2}, {.replicas = 1}, {.replicas = 3}};
	struct simulation *simulation;
	struct sample samples[4], sums[4] = {0};

	(void)state;
	config.services = 4;
	config.trace.arrivals = SIMULATE_UNIFORM;
	for (int i = 0; i < 4; i++) {
		config.service[i].work_us = work_us[i];
		config.service[i].work_cv = 0;
		config.service[i].wait_us = wait_us[i];
		config.service[i].wait_cv = 0;
		config.service[i].before_share = 0.5;
	}
	simulation = simulation_make(&config, 1);
	for (int tick = 0; tick < 20; tick++) {
		simulate_tick(simulation, inputs, samples);
		for (int i = 0; i < 4; i++)
			sample_extend(&sums[i], &samples[i]);
	}
	for (int i = 3; i >= 0; i--) {
		wanted_us += work_us[i] + wait_us[i];
		assert_int_equal(sums[i].requests, 99);
		assert_int_equal(sums[i].cpu_used_us, 99 * (uint64_t)work_us[i]);
		assert_near(samples[i].latency_p50_us, wanted_us, 0.017 * wanted_us);
		assert_near(samples[i].latency_p99_us, wanted_us, 0.017 * wanted_us);
	}
	simulate_destroy(simulation);
}

static void test_a_share_of_requests_calls(void **state)
{
	double rate = 200;
	struct simulate_config config = config_make(&rate);
	struct simulate_input inputs[2] = {{.replicas = 2}, {.replicas = 2}};
	struct simulation *simulation;
	struct sample samples[2], sums[2] = {0};

	(void)state;
	config.services = 2;
	config.service[0].call_share = 0.3;
	simulation = simulation_make(&config, 1);
	for (int tick = 0; tick < 500; tick++) {
		simulate_tick(simulation, inputs, samples);
		sample_extend(&sums[0], &samples[0]);
		sample_extend(&sums[1], &samples[1]);
	}
	assert_near((double)sums[1].requests / (double)sums[0].requests, 0.3, 0.01);
	simulate_destroy(simulation);
}

static void test_a_throttled_callee_delays_and_a_missing_one_fails_its_callers(void **state)
{
	double rate = 50;
	struct simulate_config config = config_make(&rate);
	struct simulate_input inputs[2] = {{.replicas = 1}, {.replicas = 1}};
	struct simulation *simulation;
	struct sample samples[2];
	double calm_us;

	(void)state;
	config.services = 2;
	config.service[0].workers = 256;
	config.service[1].work_us = 5000;
	simulation = simulation_make(&config, 1);
	simulate_tick(simulation, inputs, samples);
	calm_us = samples[0].latency_p99_us;
	inputs[1].plan.cpu_millicores = 240;
	for (int i = 0; i < 5; i++)
		simulate_tick(simulation, inputs, samples);
	assert_true(samples[0].latency_p99_us > 3 * calm_us);
	assert_true(samples[0].latency_p50_us >= samples[1].latency_p50_us);
	assert_int_equal(samples[0].throttled_us, 0);
	assert_true(samples[1].throttled_us > 0);
	inputs[1] = (struct simulate_input){0};
	for (int i = 0; i < 5; i++)
		simulate_tick(simulation, inputs, samples);
	assert_int_equal(samples[0].requests, 0);
	assert_true(samples[0].requests_failed > 20);
	simulate_destroy(simulation);
}

static void test_every_request_of_a_chain_ends_once(void **state)
{
	double rate = 150;
	struct simulate_config config = config_make(&rate);
	struct simulate_input inputs[3] = {0};
	struct simulation *simulation;
	struct sample samples[3], sums[3] = {0};
	struct random_state random;

	(void)state;
	/* Limits, replicas and memory jump about; then the rate stops and all must be at rest. */
	config.services = 3;
	config.tick_us = 1e5;
	for (int i = 0; i < 3; i++) {
		config.service[i].wait_us = i == 1 ? 3000 : 0;
		config.service[i].before_share = 0.4;
		config.service[i].startup_us = 2e5;
		config.service[i].memory_request_bytes = MIB;
		config.service[i].workers = 8;
	}
	simulation = simulation_make(&config, 1);
	random_seed(&random, 5);
	for (int tick = 0; tick < 3000; tick++) {
		for (int i = 0; i < 3; i++) {
			struct plan *plan = &inputs[i].plan;

			plan->cpu_millicores = 50 + random_below(&random, 400);
			plan->memory_bytes = (uint64_t)((26 + random_below(&random, 40)) * MIB);
			plan->allowance = (struct allowance){
				0.2, random_below(&random, 4), random_below(&random, 900)};
			inputs[i].replicas = 1 + random_below(&random, 4);
		}
		if (tick >= 2500) {
			rate = 0;
			for (int i = 0; i < 3; i++)
				inputs[i] = (struct simulate_input){.replicas = 2};
		}
		simulate_tick(simulation, inputs, samples);
		for (int i = 0; i < 3; i++)
			sample_extend(&sums[i], &samples[i]);
	}
	assert_true(sums[0].oom_kills > 10 && sums[1].oom_kills > 10);
	assert_true(sums[0].requests > 1000 && sums[0].requests_failed > 100);
	assert_near((double)(sums[0].requests + sums[0].requests_failed), 150 * 250,
		4 * sqrt(150 * 250));
	for (int i = 0; i < 3; i++) {
		assert_true(samples[i].in_flight == 0);
		assert_int_equal(samples[i].cpu_used_us, 0);
		assert_int_equal(samples[i].containers, 2);
	}
	simulate_destroy(simulation);
}

/* --- load --- */

static void test_a_seed_gives_the_same_samples(void **state)
{
	double rates[] = {100, 300, 50, 0, 400};
	struct simulate_config config = config_make(rates);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 250, .allowance = {0.3, 2, 600}}, .replicas = 3};
	struct simulation *one, *other;
	bool differs = false;

	(void)state;
	config.trace.seconds = 5;
	config.trace.arrivals = SIMULATE_BURSTY;
	config.service[0].period_phases = 1;
	config.service[0].neighbour_share = 0.3;
	config.service[0].wait_us = 800;
	one = simulation_make(&config, 7);
	other = simulation_make(&config, 8);
	assert_int_equal(simulate_reset(other, &config, 7), 0);
	for (int i = 0; i < 50; i++) {
		struct sample a, b;

		simulate_tick(one, &input, &a);
		simulate_tick(other, &input, &b);
#define X(field) assert_true(a.field == b.field);
		SAMPLE_FIELDS(X)
#undef X
	}
	assert_int_equal(simulate_reset(one, &config, 7), 0);
	assert_int_equal(simulate_reset(other, &config, 8), 0);
	for (int i = 0; i < 50; i++) {
		struct sample a, b;

		simulate_tick(one, &input, &a);
		simulate_tick(other, &input, &b);
		differs |= a.requests != b.requests;
	}
	assert_true(differs);
	simulate_destroy(one);
	simulate_destroy(other);
}

static void test_a_reset_to_a_larger_configuration_is_a_fresh_start(void **state)
{
	double rate = 90;
	struct simulate_config small = config_make(&rate), large = config_make(&rate);
	struct simulate_input inputs[3] = {{.replicas = 1}, {.replicas = 5}, {.replicas = 40}};
	struct simulation *grown, *fresh;

	(void)state;
	small.service[0].workers = 1;
	small.replicas_max = 1;
	large.services = 3;
	large.replicas_max = SIMULATE_REPLICAS_MAX;
	large.service[2].workers = SIMULATE_WORKERS_MAX;
	grown = simulation_make(&small, 3);
	for (int round = 0; round < 2; round++) {
		struct sample one;

		simulate_tick(grown, inputs, &one);
		assert_int_equal(simulate_reset(grown, &large, 5), 0);
		fresh = simulation_make(&large, 5);
		for (int i = 0; i < 20; i++) {
			struct sample a[3], b[3];

			simulate_tick(grown, inputs, a);
			simulate_tick(fresh, inputs, b);
			for (int k = 0; k < 3; k++) {
#define X(field) assert_true(a[k].field == b[k].field);
				SAMPLE_FIELDS(X)
#undef X
			}
		}
		simulate_destroy(fresh);
		/* Refused, it goes on as it was; then back to small, in the room of the large one. */
		large.tick_us = 0;
		assert_int_equal(simulate_reset(grown, &large, 5), -EINVAL);
		large.tick_us = 1e6;
		assert_int_equal(simulate_reset(grown, &small, 5), 0);
	}
	simulate_destroy(grown);
}

static void test_plans_do_not_change_the_load(void **state)
{
	double rate = 200;
	struct simulate_config config = config_make(&rate);
	struct simulate_input narrow = {.plan = {.cpu_millicores = 300}, .replicas = 2};
	struct simulate_input wide = {.replicas = 4};
	struct totals of_narrow, of_wide;

	(void)state;
	config.trace.arrivals = SIMULATE_BURSTY;
	run_config(&config, &narrow, 100, &of_narrow);
	run_config(&config, &wide, 100, &of_wide);
	assert_int_equal(of_narrow.sum.requests + (uint64_t)of_narrow.sum.in_flight,
		of_wide.sum.requests + (uint64_t)of_wide.sum.in_flight);
	/* What the narrow one has not done yet is in flight: most of 2 ms each. */
	assert_true(of_narrow.sum.in_flight > of_wide.sum.in_flight);
	assert_near((double)of_narrow.sum.cpu_used_us, (double)of_wide.sum.cpu_used_us,
		5000 * of_narrow.sum.in_flight);
}

static void test_bursts_keep_the_mean_and_raise_the_spread(void **state)
{
	double mean[2], variance[2];

	(void)state;
	for (int bursty = 0; bursty < 2; bursty++) {
		double rate = 100, sum = 0, squares = 0;
		struct simulate_trace trace = {.rate_per_s = &rate,
			.seconds = 1,
			.scale = 2,
			.arrivals = bursty ? SIMULATE_BURSTY : SIMULATE_POISSON};
		const int slots = 50000;
		struct sampler gap, work;
		struct sampler_normal normal;
		struct load load;

		sampler_normal_init(&normal);
		sampler_exponential_init(&gap);
		sampler_lognormal_init(&work, &normal, 1000, 0.5);
		load_init(&load, &trace, &gap, &work, 3);
		for (int slot = 0; slot < slots; slot++) {
			double until_us = (slot + 1) * 1e5, count = 0;

			load_prepare(&load, until_us);
			while (load.time_us[load.next] < until_us) {
				count++;
				if (++load.next == load.count)
					load_draw(&load, until_us);
			}
			sum += count;
			squares += count * count;
		}
		mean[bursty] = sum / slots;
		variance[bursty] = squares / slots - mean[bursty] * mean[bursty];
	}
	/* Of a slot: mean 20; a Poisson variance of 20, and that of the rates 40 and 11.43. */
	assert_near(mean[0], 20, 0.1);
	assert_near(mean[1], 20, 0.1);
	assert_near(variance[0], 20, 0.6);
	assert_near(variance[1], 20 + 0.3 * 400 + 0.7 * pow(20 * 3 / 7.0, 2), 5);
}

static void test_the_trace_repeats_and_starts_where_it_is_told(void **state)
{
	double rates[] = {10, 20, 40};
	struct simulate_config config = config_make(rates);
	struct simulate_input input = {.replicas = 1};
	const uint64_t wanted[] = {80, 20, 40, 80, 20, 40};
	struct simulation *simulation;

	(void)state;
	config.trace.seconds = 3;
	config.trace.first = 2;
	config.trace.scale = 2;
	config.trace.arrivals = SIMULATE_UNIFORM;
	config.service[0].work_us = 1;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 6; i++) {
		struct sample sample;

		simulate_tick(simulation, &input, &sample);
		assert_near((double)sample.requests, (double)wanted[i], 1);
	}
	simulate_destroy(simulation);
}

static void test_samplers_have_the_moments_they_promise(void **state)
{
	const double cvs[] = {0, 0.1, 0.5, 1, 2};
	const int draws = 4000000;
	struct sampler_normal normal;
	struct random_state random;
	double sum = 0, squares = 0;
	struct sampler sampler;
	int beyond = 0;

	(void)state;
	random_seed(&random, 11);
	sampler_normal_init(&normal);
	for (int c = 0; c < 5; c++) {
		double mean, spread = sqrt(log1p(cvs[c] * cvs[c]));
		double p999 = 700 * exp(spread * 3.090232 - spread * spread / 2);

		sampler_lognormal_init(&sampler, &normal, 700, cvs[c]);
		sum = squares = 0;
		beyond = 0;
		for (int i = 0; i < draws; i++) {
			double value = sampler_lognormal(
				&sampler, (uint32_t)random_next(&random), &random);

			assert_true(value > 0);
			sum += value;
			squares += value * value;
			beyond += value > p999;
		}
		mean = sum / draws;
		assert_near(mean, 700, 700 * (0.0002 + 0.002 * cvs[c]));
		assert_near(
			sqrt(squares / draws - mean * mean) / mean, cvs[c], 0.0005 + 0.02 * cvs[c]);
		if (cvs[c] > 0)
			assert_near(beyond, draws / 1000.0, 4 * sqrt(draws / 1000.0));
	}
	sampler_exponential_init(&sampler);
	sum = squares = 0;
	beyond = 0;
	for (int i = 0; i < draws; i++) {
		double value =
			sampler_exponential(&sampler, (uint32_t)random_next(&random), &random);

		sum += value;
		squares += value * value;
		beyond += value > log(1000);
	}
	assert_near(sum / draws, 1, 0.002);
	assert_near(squares / draws, 2, 0.01);
	assert_near(beyond, draws / 1000.0, 4 * sqrt(draws / 1000.0));
}

/* --- the interface --- */

static void test_a_sample_gives_a_sound_state_and_reward(void **state)
{
	double rate = 200;
	struct simulate_config config = config_make(&rate);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 300, .memory_bytes = (uint64_t)(64 * MIB)},
		.replicas = 2};
	struct state_history history = {0};
	struct objective objective;
	struct simulation *simulation;
	float features[STATE_SIZE];
	struct sample sample;
	double reward;

	(void)state;
	objective_init(&objective);
	objective.latency_target_us = 50000;
	objective.cpu_max_millicores = 1000;
	objective.memory_max_bytes = (uint64_t)(128 * MIB);
	objective.replicas_max = 4;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 20; i++) {
		simulate_tick(simulation, &input, &sample);
		state_build(&history, &sample, &objective, features);
		assert_true(sample.tick_s == 1);
		assert_true(sample.latency_p50_us <= sample.latency_p95_us);
		assert_true(sample.latency_p95_us <= sample.latency_p99_us);
		assert_true(sample.latency_objective_us == sample.latency_p99_us);
		assert_true(sample.memory_working_set_bytes <= sample.memory_used_bytes);
		reward = (double)reward_compute(&sample, &objective, &history, 2, &reward_defaults);
		assert_true(reward < 0 && reward > -6);
		assert_true(sample_violates(&sample, &objective) || reward > -2);
	}
	assert_near((double)features[STATE_cpu_use], 200 * 0.002 / 0.6, 0.15);
	assert_near((double)features[STATE_demand], 200 * 0.002 / 0.6, 0.15);
	assert_near((double)features[STATE_replicas], 0.5, 1e-6);
	simulate_destroy(simulation);
}

static void test_a_config_out_of_range_is_named(void **state)
{
	double rates[] = {1, NAN};
	struct simulate_config config = config_make(rates);
	struct simulation *simulation;
	char error[128];

	(void)state;
	assert_int_equal(simulate_config_check(&config, error, sizeof(error)), 0);
	config.service[0].workers = 1.5;
	assert_int_equal(simulate_config_check(&config, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "service[0].workers: 1.5 is not a whole number from 1 to 256");
	assert_int_equal(simulate_create(&simulation, &config, 1), -EINVAL);
	config.service[0].workers = 1;
	config.trace.seconds = 2;
	assert_int_equal(simulate_config_check(&config, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "trace.rate_per_s[1]"));
	config.trace.seconds = 1;
	config.services = 5;
	assert_int_equal(simulate_config_check(&config, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "services: 5 is not from 1 to 4");
}

static void test_latencies_fall_into_the_agents_buckets(void **state)
{
	(void)state;
	for (uint64_t us = 0; us < 2 * HIST_MAX_US; us += 1 + us / 1000)
		assert_int_equal(latency_bucket((double)us + 0.999), hist_bucket(us));
	assert_int_equal(latency_bucket(1e18), HIST_BUCKETS - 1);
}

static void test_fields_are_set_by_name_within_their_range(void **state)
{
	struct simulate_service service;

	(void)state;
	simulate_service_init(&service);
	for (size_t i = 0; i < simulate_field_count; i++) {
		const struct simulate_field *field = &simulate_fields[i];

		assert_int_equal(simulate_service_set(&service, field->name, field->highest), 0);
		assert_true(*(double *)((char *)&service + field->offset) == field->highest);
		assert_int_equal(
			simulate_service_set(&service, field->name, field->lowest - 1), -ERANGE);
		assert_int_equal(simulate_service_set(&service, field->name, NAN), -ERANGE);
		assert_true(*(double *)((char *)&service + field->offset) == field->highest);
	}
	assert_int_equal(simulate_service_set(&service, "speed", 1), -ENOENT);
	assert_int_equal(simulate_service_set(&service, "workers", 2.5), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_replica_takes_requests_after_its_start),
		cmocka_unit_test(test_the_work_of_a_start_is_throttled_like_any_other),
		cmocka_unit_test(test_a_leaving_replica_ends_what_it_has),
		cmocka_unit_test(test_least_connections_beats_turns_when_requests_differ),
		cmocka_unit_test(test_more_than_the_backlog_is_refused),
		cmocka_unit_test(test_neighbours_take_their_share),
		cmocka_unit_test(test_growth_over_the_limit_kills_and_starts_anew),
		cmocka_unit_test(test_a_kill_fails_what_is_in_flight),
		cmocka_unit_test(test_a_limit_in_the_hot_pages_stalls),
		cmocka_unit_test(test_memory_high_is_raised_when_it_hurts_and_kills_nothing),
		cmocka_unit_test(test_a_chains_latency_is_the_sum_of_its_parts),
		cmocka_unit_test(test_a_share_of_requests_calls),
		cmocka_unit_test(
			test_a_throttled_callee_delays_and_a_missing_one_fails_its_callers),
		cmocka_unit_test(test_every_request_of_a_chain_ends_once),
		cmocka_unit_test(test_a_seed_gives_the_same_samples),
		cmocka_unit_test(test_a_reset_to_a_larger_configuration_is_a_fresh_start),
		cmocka_unit_test(test_plans_do_not_change_the_load),
		cmocka_unit_test(test_bursts_keep_the_mean_and_raise_the_spread),
		cmocka_unit_test(test_the_trace_repeats_and_starts_where_it_is_told),
		cmocka_unit_test(test_samplers_have_the_moments_they_promise),
		cmocka_unit_test(test_a_sample_gives_a_sound_state_and_reward),
		cmocka_unit_test(test_a_config_out_of_range_is_named),
		cmocka_unit_test(test_latencies_fall_into_the_agents_buckets),
		cmocka_unit_test(test_fields_are_set_by_name_within_their_range),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
