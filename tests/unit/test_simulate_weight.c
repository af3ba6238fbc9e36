// SPDX-License-Identifier: Apache-2.0
/* Services without a CPU limit, by worked examples: what weights give, and what waits for a CPU. */
#include "simulate_fixture.h"

#define SHARES	  0
#define LINEAR	  1
#define QUADRATIC 2

/* On @cores beside neighbours that are busy from the start. Weights are shares: 1024 for a CPU. */
static struct simulate_config config_beside(
	const double *rate_per_s, double cores, double neighbour_cores, double neighbour_reserved)
{
	struct simulate_config config = config_make(rate_per_s);
	struct simulate_service *service = &config.service[0];

	config.trace.arrivals = SIMULATE_UNIFORM;
	service->reserves = 1;
	service->weight_scale = SHARES;
	service->work_cv = 0;
	service->cores = cores;
	service->neighbour_cores = neighbour_cores;
	service->neighbour_reserved_millicores = neighbour_reserved;
	service->neighbour_idle_us = 1;
	service->neighbour_busy_us = 1e9;
	return config;
}

/* A second of @loops requests in each replica that never end, when all of them are there. */
static struct sample loop(
	struct simulate_config *config, double loops, double reserved, uint32_t replicas)
{
	struct simulate_input input = {
		.plan = {.cpu_millicores = reserved, .reserves = true}, .replicas = replicas};
	struct simulation *simulation;
	struct sample sample;

	config->service[0].work_us = 1e8;
	config->service[0].workers = loops;
	simulation = simulation_make(config, 1);
	for (int i = 0; i < 3; i++)
		simulate_tick(simulation, &input, &sample);
	simulate_destroy(simulation);
	return sample;
}

static void test_a_full_node_is_shared_by_weight(void **state)
{
	/* 1000m beside 3000m: 1024 and 3072 shares, which are weights of 39 and 118, or 100 and 240. */
	const double wanted_us[] = {[SHARES] = 4e6 * 1024 / (1024 + 3072),
		[LINEAR] = 4e6 * 39 / (39 + 118),
		[QUADRATIC] = 4e6 * 100 / (100 + 240)};
	double rate = 8;

	(void)state;
	for (int scale = SHARES; scale <= QUADRATIC; scale++) {
		struct simulate_config config = config_beside(&rate, 4, 8, 3000);
		struct sample sample;

		config.service[0].weight_scale = scale;
		sample = loop(&config, 8, 1000, 1);
		assert_near((double)sample.cpu_used_us, wanted_us[scale], 1);
		/* Eight were ready all the second. */
		assert_near((double)sample.run_queue_us, 8e6 - wanted_us[scale], 1);
		assert_int_equal(sample.cpu_pressure_us, 1000000);
	}
}

static void test_what_neighbours_leave_is_the_services(void **state)
{
	double rate = 8;
	struct simulate_config small = config_beside(&rate, 4, 1, 3000);
	struct simulate_config none = config_beside(&rate, 4, 0, 3000);
	struct simulate_config few = config_beside(&rate, 4, 8, 1000);
	struct sample sample = loop(&small, 8, 1000, 1);

	(void)state;
	/* They want one of the four, which is less than their share. */
	assert_near((double)sample.cpu_used_us, 3e6, 1);
	sample = loop(&none, 8, 1000, 1);
	assert_near((double)sample.cpu_used_us, 4e6, 1);
	/* The share is two cores, one loop uses one: the rest is the neighbours', and nothing waits. */
	sample = loop(&few, 1, 1000, 1);
	assert_near((double)sample.cpu_used_us, 1e6, 1);
	assert_int_equal(sample.run_queue_us, 0);
}

static void test_without_neighbours_nothing_waits(void **state)
{
	double rate = 100;
	struct simulate_config config = config_beside(&rate, 2, 0, 1000);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 10, .reserves = true}, .replicas = 1};
	struct totals totals;

	(void)state;
	/* A core is used on a reservation of a hundredth of it. */
	config.service[0].work_us = 10000;
	run_config(&config, &input, 20, &totals);
	assert_near((double)totals.sum.cpu_used_us, 20e6, 30000);
	assert_int_equal(totals.sum.run_queue_us, 0);
	assert_int_equal(totals.sum.cpu_pressure_us, 0);
	assert_int_equal(totals.sum.throttled_us, 0);
	assert_near(totals.sum.latency_p99_us, 10000, 10000 * 0.03);
}

static void test_a_request_waits_while_the_neighbours_run(void **state)
{
	double rate = 1;
	struct simulate_config config = config_beside(&rate, 1, 4, 1000);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 1000, .reserves = true}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;

	(void)state;
	/* Half of the core is its: 100 ms of work take 200 ms, of which it waits 100 ms. */
	config.service[0].work_us = 100000;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 4; i++)
		simulate_tick(simulation, &input, &sample);
	assert_near(sample.latency_p50_us, 200000, 200000 * 0.03);
	assert_near((double)sample.cpu_used_us, 100000, 1);
	assert_near((double)sample.run_queue_us, 100000, 1);
	assert_near((double)sample.cpu_pressure_us, 200000 / 2.0, 1);
	/* No more than the node has can be reserved, and that is one core: as before. */
	input.plan.cpu_millicores = 3000;
	simulate_tick(simulation, &input, &sample);
	simulate_tick(simulation, &input, &sample);
	simulate_destroy(simulation);
	assert_near((double)sample.run_queue_us, 100000, 1);
	assert_near(sample.cpu_reserved_millicores, 1000, 1e-9);
	/* Three quarters of the core; of 333m there are 341 shares, rounded down. */
	config.service[0].neighbour_reserved_millicores = 1000.0 / 3;
	input.plan.cpu_millicores = 1000;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 4; i++)
		simulate_tick(simulation, &input, &sample);
	simulate_destroy(simulation);
	assert_near((double)sample.run_queue_us, 100000 * 341.0 / 1024, 1);
}

static void test_only_replicas_that_run_have_weight(void **state)
{
	double many = 2, one = 1;
	struct simulate_config both = config_beside(&many, 1, 4, 1000);
	struct simulate_config single = config_beside(&one, 1, 4, 1000);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 1000, .reserves = true}, .replicas = 2};
	struct simulation *simulation;
	struct sample sample = loop(&both, 1, 1000, 2);

	(void)state;
	assert_near((double)sample.cpu_used_us, 1e6 * 2 / 3, 1);
	assert_int_equal(sample.cpu_pressure_us, 1000000 * 4 / 3);
	single.service[0].work_us = 1e8;
	simulation = simulation_make(&single, 1);
	/* The one request came at the end of the first second; the next one ends this. */
	for (int i = 0; i < 2; i++)
		simulate_tick(simulation, &input, &sample);
	simulate_destroy(simulation);
	assert_near((double)sample.cpu_used_us, 1e6 / 2, 1);
}

static void test_a_sample_says_what_is_reserved_and_no_limit(void **state)
{
	double rate = 50;
	struct simulate_config config = config_beside(&rate, 4, 0, 1000);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 200, .reserves = true}, .replicas = 3};
	struct state_history history = {0};
	struct simulation *simulation;
	struct objective objective;
	float features[STATE_SIZE];
	struct sample sample;

	(void)state;
	config.service[0].work_us = 40000;
	config.service[0].period_phases = 1;
	config.tick_us = 250000;
	simulation = simulation_make(&config, 1);
	for (int i = 0; i < 20; i++)
		simulate_tick(simulation, &input, &sample);
	assert_true(sample_reserves(&sample));
	assert_true(sample.cpu_limit_millicores == 0);
	assert_near(sample.cpu_reserved_millicores, 200, 1e-9);
	/* 2 cores are used; what is set aside is the reservation. */
	assert_near((double)sample.cpu_used_us, 500000, 40000);
	assert_int_equal(sample.cpu_allocated_us, 3 * 50000);
	/* From the write on, in the middle of the replicas' periods. */
	input.plan.cpu_millicores = 1000;
	simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.cpu_allocated_us, 3 * 250000);
	input.plan.cpu_millicores = 10;
	input.replicas = 1;
	for (int i = 0; i < 4; i++)
		simulate_tick(simulation, &input, &sample);
	assert_int_equal(sample.containers, 1);
	assert_int_equal(sample.cpu_allocated_us, 2500);
	assert_int_equal(sample.throttled_us, 0);
	assert_int_equal(sample.throttled_periods, 0);
	objective_init(&objective);
	state_build(&history, &sample, &objective, features);
	assert_true(features[STATE_cpu_use] == 2);
	/* A reservation is never none: the least weight is taken for 1m, as by the agent. */
	input.plan.cpu_millicores = 0;
	simulate_tick(simulation, &input, &sample);
	assert_near(sample.cpu_reserved_millicores, 1, 1e-9);
	simulate_destroy(simulation);
}

static void test_neighbours_come_and_go(void **state)
{
	double rate = 1, least = 1, most = 0, sum = 0;
	struct simulate_config config = config_beside(&rate, 1, 4, 1000);
	struct simulate_input input = {
		.plan = {.cpu_millicores = 1000, .reserves = true}, .replicas = 1};
	struct simulation *simulation;
	struct sample sample;
	const int ticks = 4000;

	(void)state;
	/* Half of the time half of the core, half of the time all of it. */
	config.service[0].work_us = 1e8;
	config.service[0].neighbour_idle_us = config.service[0].neighbour_busy_us = 200000;
	config.tick_us = 100000;
	simulation = simulation_make(&config, 1);
	for (int i = -20; i < ticks; i++) {
		simulate_tick(simulation, &input, &sample);
		if (i < 0)
			continue;
		least = fmin(least, (double)sample.cpu_used_us / 1e5);
		most = fmax(most, (double)sample.cpu_used_us / 1e5);
		sum += (double)sample.cpu_used_us / 1e5 / ticks;
	}
	simulate_destroy(simulation);
	assert_near(sum, 0.75, 0.03);
	assert_near(least, 0.5, 1e-3);
	assert_near(most, 1, 1e-3);
}

static void test_a_service_with_a_limit_does_not_see_them(void **state)
{
	double rate = 200;
	struct simulate_config plain = config_make(&rate), with = config_make(&rate);
	struct simulate_input input = {.plan = {.cpu_millicores = 300,
					       .burst_us = 20000,
					       .allowance = {.trigger_age_share = 0.2,
						       .refills_per_period = 3,
						       .ceiling_millicores = 900}},
		.replicas = 2};
	struct simulation *one, *other;

	(void)state;
	plain.service[0].neighbour_share = with.service[0].neighbour_share = 0.5;
	with.service[0].weight_scale = SHARES;
	with.service[0].neighbour_cores = 4;
	with.service[0].neighbour_reserved_millicores = 9000;
	one = simulation_make(&plain, 1);
	other = simulation_make(&with, 1);
	for (int i = 0; i < 60; i++) {
		struct sample a, b;

		simulate_tick(one, &input, &a);
		simulate_tick(other, &input, &b);
		assert_memory_equal(&a, &b, sizeof(a));
	}
	simulate_destroy(one);
	simulate_destroy(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_full_node_is_shared_by_weight),
		cmocka_unit_test(test_what_neighbours_leave_is_the_services),
		cmocka_unit_test(test_without_neighbours_nothing_waits),
		cmocka_unit_test(test_a_request_waits_while_the_neighbours_run),
		cmocka_unit_test(test_only_replicas_that_run_have_weight),
		cmocka_unit_test(test_a_sample_says_what_is_reserved_and_no_limit),
		cmocka_unit_test(test_neighbours_come_and_go),
		cmocka_unit_test(test_a_service_with_a_limit_does_not_see_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
