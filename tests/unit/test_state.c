// SPDX-License-Identifier: Apache-2.0
#include "common/state.h"
#include "learner/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct objective objective_make(void)
{
	struct objective objective;

	objective_init(&objective);
	objective.latency_target_us = 50000;
	objective.cpu_min_millicores = 50;
	objective.cpu_max_millicores = 1000;
	objective.memory_max_bytes = 128 << 20;
	objective.replicas_max = 4;
	return objective;
}

static struct sample sample_make(void)
{
	return (struct sample){.tick_s = 1,
		.requests = 100,
		.latency_p50_us = 3000,
		.latency_p95_us = 8000,
		.latency_p99_us = 9000,
		.latency_objective_us = 9000,
		.cpu_used_us = 200000,
		.cpu_allocated_us = 500000,
		.containers = 2,
		.cpu_limit_millicores = 250,
		.memory_limit_bytes = 64 << 20};
}

static void test_the_table_names_every_feature_once(void **state)
{
	(void)state;
	assert_int_equal(STATE_SIZE, 32);
	for (int i = 0; i < STATE_SIZE; i++) {
		assert_true(state_features[i].lowest < state_features[i].highest);
		for (int k = 0; k < i; k++)
			assert_string_not_equal(state_features[i].name, state_features[k].name);
	}
}

static void test_any_sample_gives_a_state_within_the_tables_bounds(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct random_state random;
	float features[STATE_SIZE];

	(void)state;
	random_seed(&random, 3);
	for (int i = 0; i < 20000; i++) {
		struct sample sample = sample_make();
		uint64_t words[8];

		for (int k = 0; k < 8; k++)
			words[k] = random_next(&random) >> random_below(&random, 64);
		sample.requests = words[0] >> 8;
		sample.requests_over = words[1] >> 8;
		sample.requests_failed = words[2] >> 40;
		sample.cpu_used_us = words[3] >> 8;
		sample.throttled_us = words[4] >> 8;
		sample.memory_working_set_bytes = words[5] >> 8;
		sample.latency_objective_us = (double)(words[6] >> 30);
		sample.containers = (uint32_t)(words[7] >> 54);
		sample.tick_s = random_below(&random, 10) ? 1 : 0;
		state_build(&history, &sample, &objective, features);
		for (int k = 0; k < STATE_SIZE; k++) {
			assert_true(isfinite(features[k]));
			assert_true(features[k] >= state_features[k].lowest);
			assert_true(features[k] <= state_features[k].highest);
		}
	}
}

static void test_an_empty_tick_is_a_sound_state(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = {.tick_s = 1};
	float features[STATE_SIZE];

	(void)state;
	state_build(&history, &sample, &objective, features);
	for (int k = 0; k < STATE_SIZE; k++)
		assert_true(isfinite(features[k]));
}

static void test_latency_at_the_target_is_zero_and_twice_it_a_half(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	sample.latency_objective_us = 50000;
	state_build(&history, &sample, &objective, features);
	assert_true(fabsf(features[STATE_latency_p99]) < 1e-6F);
	sample.latency_objective_us = 100000;
	state_build(&history, &sample, &objective, features);
	assert_true(fabsf(features[STATE_latency_p99] - 0.5F) < 1e-6F);
	assert_true(fabsf(features[STATE_d_latency_p99] - 0.5F) < 1e-6F);
}

static void test_an_action_is_in_the_next_state(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	state_build(&history, &sample, &objective, features);
	state_note_action(&history, -1, 1);
	state_build(&history, &sample, &objective, features);
	assert_true(features[STATE_last_cpu] == -1.0F);
	assert_true(features[STATE_last_memory] == 1.0F);
}

static void test_reward_falls_with_allocation_and_with_overshoot(void **state)
{
	struct objective objective = objective_make();
	struct sample sample = sample_make();
	float last = 1, reward;

	(void)state;
	for (uint64_t allocated = 0; allocated <= 4000000; allocated += 100000) {
		sample.cpu_allocated_us = allocated;
		reward = reward_compute(&sample, &objective, 2, &reward_defaults);
		assert_true(reward < last && reward <= 0);
		last = reward;
	}
	sample = sample_make();
	last = reward_compute(&sample, &objective, 2, &reward_defaults);
	for (uint64_t over = 2; over <= 100; over++) {
		sample.requests_over = over;
		sample.latency_objective_us = 50000 + 10000.0 * (double)over;
		reward = reward_compute(&sample, &objective, 2, &reward_defaults);
		assert_true(reward < last);
		last = reward;
	}
	assert_true(reward_compute(&sample, &objective, 3, &reward_defaults) < last);
}

static void test_a_violation_costs_more_than_all_the_bounds_save(void **state)
{
	struct objective objective = objective_make();
	struct sample most = sample_make(), broken = sample_make();

	(void)state;
	most.cpu_allocated_us = 4000000;
	broken.cpu_allocated_us = 0;
	broken.memory_limit_bytes = 0;
	broken.requests_over = 50;
	broken.latency_objective_us = 200000;
	assert_true(reward_compute(&broken, &objective, 1, &reward_defaults) <
		    reward_compute(&most, &objective, 4, &reward_defaults));
}

static void test_violation_is_more_requests_over_than_the_percentile_allows(void **state)
{
	struct objective objective = objective_make();
	struct sample sample = sample_make();

	(void)state;
	sample.requests_over = 1;
	assert_false(sample_violates(&sample, &objective));
	sample.requests_over = 2;
	assert_true(sample_violates(&sample, &objective));
	/* Nothing answered while requests wait for longer than the target. */
	sample = (struct sample){.tick_s = 1, .in_flight = 3};
	assert_true(sample_violates(&sample, &objective));
	sample.in_flight = 0;
	assert_false(sample_violates(&sample, &objective));
}

static void test_merge_adds_counts_and_weighs_percentiles(void **state)
{
	struct sample a = sample_make(), b = sample_make();

	(void)state;
	b.requests = 300;
	b.latency_p99_us = 13000;
	sample_merge(&a, &b);
	assert_int_equal(a.requests, 400);
	assert_true(fabs(a.latency_p99_us - 12000) < 1e-6);
	assert_int_equal(a.containers, 4);
	assert_true(a.tick_s == 1);
}

static void test_extend_adds_time_and_keeps_the_newest_gauges(void **state)
{
	struct sample a = sample_make(), b = sample_make();

	(void)state;
	b.containers = 3;
	b.memory_used_bytes = 7;
	sample_extend(&a, &b);
	assert_true(a.tick_s == 2);
	assert_int_equal(a.requests, 200);
	assert_int_equal(a.containers, 3);
	assert_int_equal(a.memory_used_bytes, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table_names_every_feature_once),
		cmocka_unit_test(test_any_sample_gives_a_state_within_the_tables_bounds),
		cmocka_unit_test(test_an_empty_tick_is_a_sound_state),
		cmocka_unit_test(test_latency_at_the_target_is_zero_and_twice_it_a_half),
		cmocka_unit_test(test_an_action_is_in_the_next_state),
		cmocka_unit_test(test_reward_falls_with_allocation_and_with_overshoot),
		cmocka_unit_test(test_a_violation_costs_more_than_all_the_bounds_save),
		cmocka_unit_test(test_violation_is_more_requests_over_than_the_percentile_allows),
		cmocka_unit_test(test_merge_adds_counts_and_weighs_percentiles),
		cmocka_unit_test(test_extend_adds_time_and_keeps_the_newest_gauges),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
