// SPDX-License-Identifier: Apache-2.0
#include "common/rung.h"
#include "common/state.h"
#include "learner/dqn/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
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

static void test_a_reservation_is_seen_as_a_limit_of_its_size_is(void **state)
{
	struct objective objective = objective_make();
	struct state_history limited = {0}, reserving = {0};
	struct sample sample = sample_make(), other = sample;
	float a[STATE_SIZE], b[STATE_SIZE];
	struct demand demand;

	(void)state;
	other.cpu_reserved_millicores = other.cpu_limit_millicores;
	other.cpu_limit_millicores = 0;
	assert_true(sample_reserves(&other) && !sample_reserves(&sample));
	for (int i = 0; i < 3; i++) {
		state_build(&limited, &sample, &objective, a);
		state_build(&reserving, &other, &objective, b);
		assert_memory_equal(a, b, sizeof(a));
	}
	demand = state_demand(b, &other);
	assert_true(demand.usual > 0);
	assert_true(demand.usual == state_demand(a, &sample).usual);
	/* Waiting for a CPU is what tells that it is too little. */
	other.run_queue_us = other.cpu_used_us;
	state_build(&reserving, &other, &objective, b);
	assert_true(b[STATE_run_queue] == 1 && b[STATE_throttled] == 0);
	/* Where there is a limit, it counts. */
	sample.cpu_reserved_millicores = 7;
	assert_false(sample_reserves(&sample));
	assert_true(sample_cpu_millicores(&sample) == 250);
}

static void test_reservations_are_merged_as_limits_are(void **state)
{
	struct sample a = sample_make(), b = sample_make();

	(void)state;
	a.cpu_limit_millicores = b.cpu_limit_millicores = 0;
	a.cpu_reserved_millicores = 100;
	b.cpu_reserved_millicores = 400;
	b.containers = 1;
	sample_merge(&a, &b);
	assert_true(a.cpu_reserved_millicores == 200);
	sample_extend(&a, &b);
	assert_true(a.cpu_reserved_millicores == 400);
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

/* What a unit remembers that has used 200 millicores for long, at a price of 9. */
static struct state_history history_make(void)
{
	return (struct state_history){.cpu_usual_millicores = 200, .violation_price = 9};
}

static void test_reward_falls_with_allocation_and_with_overshoot(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = history_make();
	struct sample sample = sample_make();
	float last = 1, reward;

	(void)state;
	for (uint64_t allocated = 0; allocated <= 1000000; allocated += 50000) {
		sample.cpu_allocated_us = allocated;
		reward = reward_compute(&sample, &objective, &history, 2, &reward_defaults);
		assert_true(reward < last && reward <= 0);
		last = reward;
	}
	sample = sample_make();
	last = reward_compute(&sample, &objective, &history, 2, &reward_defaults);
	for (uint64_t over = 2; over <= 100; over++) {
		sample.requests_over = over;
		sample.latency_objective_us = 50000 + 10000.0 * (double)over;
		reward = reward_compute(&sample, &objective, &history, 2, &reward_defaults);
		assert_true(reward < last);
		last = reward;
	}
	assert_true(reward_compute(&sample, &objective, &history, 3, &reward_defaults) < last);
	last = reward_compute(&sample, &objective, &history, 2, &reward_defaults);
	sample.refills = 20;
	assert_true(reward_compute(&sample, &objective, &history, 2, &reward_defaults) < last);
}

static void test_the_price_weighs_a_violation_against_the_cost(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = history_make();
	struct sample dear = sample_make(), broken = sample_make();

	(void)state;
	/* Five times what is used, or a violation and nothing set aside. */
	dear.cpu_allocated_us = 1000000;
	broken.cpu_allocated_us = 0;
	broken.requests_over = 50;
	broken.latency_objective_us = 200000;
	history.violation_price = PRICE_MOST;
	assert_true(reward_compute(&broken, &objective, &history, 1, &reward_defaults) <
		    reward_compute(&dear, &objective, &history, 4, &reward_defaults));
	history.violation_price = PRICE_LEAST;
	assert_true(reward_compute(&broken, &objective, &history, 1, &reward_defaults) >
		    reward_compute(&dear, &objective, &history, 4, &reward_defaults));
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

static void assert_sound(const float features[STATE_SIZE])
{
	for (int k = 0; k < STATE_SIZE; k++) {
		if (!isfinite(features[k]) || features[k] < state_features[k].lowest ||
			features[k] > state_features[k].highest)
			fail_msg("%s is %g", state_features[k].name, (double)features[k]);
	}
}

static void test_the_largest_sample_that_a_report_can_carry_is_a_sound_state(void **state)
{
	const uint64_t words[] = {0, 1, UINT64_MAX};
	const double numbers[] = {0, 5e-324, 1, 1e308};
	struct objective objective = objective_make();

	(void)state;
	for (size_t w = 0; w < 3; w++) {
		for (size_t n = 0; n < 4; n++) {
			struct state_history history = {0};
			uint64_t word = words[w];
			double number = numbers[n];
			struct sample sample = {.tick_s = number,
				.requests = word / 2,
				.requests_over = word / 2,
				.requests_failed = word / 2,
				.latency_p50_us = number,
				.latency_p95_us = number,
				.latency_p99_us = number,
				.latency_objective_us = number,
				.in_flight = number,
				.cpu_used_us = word,
				.cpu_allocated_us = word,
				.throttled_us = word,
				.run_queue_us = word,
				.cpu_pressure_us = word,
				.memory_pressure_us = word,
				.reclaim_us = word,
				.memory_used_bytes = word,
				.memory_peak_bytes = word,
				.memory_working_set_bytes = word,
				.oom_kills = (uint32_t)word,
				.containers = (uint32_t)word,
				.cpu_limit_millicores = number,
				.memory_limit_bytes = word,
				.refills = (uint32_t)word,
				.throttled_periods = (uint32_t)word,
				.cpu_reserved_millicores = number};
			struct sample usual = sample_make();
			float features[STATE_SIZE], reward;

			for (int i = 0; i < 3; i++) {
				state_build(&history, &sample, &objective, features);
				assert_sound(features);
			}
			reward = reward_compute(
				&sample, &objective, &history, (uint32_t)word, &reward_defaults);
			assert_false(isnan(reward));
			assert_true(reward <= 0);
			/* One such tick does not spoil those that follow. */
			state_build(&history, &usual, &objective, features);
			assert_sound(features);
		}
	}
}

static void test_the_table_is_in_the_order_of_its_names(void **state)
{
	(void)state;
	assert_string_equal(state_features[0].name, "latency_p50");
	assert_string_equal(state_features[STATE_demand_max].name, "demand_max");
	assert_string_equal(state_features[STATE_SIZE - 1].name, "violation_price");
	for (int i = 0; i < STATE_SIZE; i++)
		assert_true(state_features[i].text[0] != '\0');
}

static void test_actions_are_named_by_what_they_do(void **state)
{
	static const char *const words[] = {"down", "hold", "up"};

	(void)state;
	for (uint32_t action = 0; action < ACTION_VERTICAL; action++) {
		int cpu = action_cpu_direction(action), memory = action_memory_direction(action);
		char name[40];

		snprintf(name, sizeof(name), "cpu-%s memory-%s", words[cpu + 1], words[memory + 1]);
		assert_string_equal(action_vertical_name(action),
			action == ACTION_VERTICAL_HOLD ? "hold" : name);
		assert_int_equal(action_memory_factor[memory + 1] < 1, memory < 0);
	}
	assert_string_equal(action_vertical_name(ACTION_VERTICAL), "invalid");
	assert_string_equal(action_horizontal_name(ACTION_HORIZONTAL_HOLD), "hold");
	assert_string_equal(action_horizontal_name(ACTION_HORIZONTAL), "invalid");
}

static void test_the_ticks_since_an_action_count_from_one_that_changed_something(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	state_build(&history, &sample, &objective, features);
	assert_true(features[STATE_since_action] == 1.0F);
	state_note_action(&history, 1, 0);
	for (uint32_t ticks = 1; ticks <= 4; ticks++) {
		state_build(&history, &sample, &objective, features);
		assert_true(fabs((double)features[STATE_since_action] -
				    log2(1 + (double)ticks) / 6) < 1e-6);
		state_note_action(&history, 0, 0);
	}
	assert_true(features[STATE_last_cpu] == 0.0F);
}

static void test_demand_is_remembered_for_ten_ticks_and_its_peak_fades(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample busy = sample_make(), idle = sample_make();
	float features[STATE_SIZE];

	(void)state;
	/* 100 requests of 2 ms in a second: 200 of the 500 millicores of two containers. */
	state_build(&history, &busy, &objective, features);
	assert_true(fabsf(features[STATE_demand] - 0.4F) < 1e-6F);
	idle.requests = 0;
	idle.cpu_used_us = 0;
	for (int i = 0; i < STATE_HISTORY - 1; i++) {
		state_build(&history, &idle, &objective, features);
		assert_true(features[STATE_demand] == 0.0F);
		assert_true(fabsf(features[STATE_demand_mean] - 0.4F / (float)(i + 2)) < 1e-6F);
	}
	state_build(&history, &idle, &objective, features);
	assert_true(features[STATE_demand_mean] == 0.0F);
	/* A minute after it was seen, half of the peak is left. */
	for (int i = STATE_HISTORY; i < 60; i++)
		state_build(&history, &idle, &objective, features);
	assert_true(fabsf(features[STATE_demand_max] - 0.2F) < 1e-6F);
}

static void test_violations_are_the_share_of_thirty_ticks(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample good = sample_make(), broken = sample_make();
	float features[STATE_SIZE];

	(void)state;
	broken.requests_over = 50;
	state_build(&history, &broken, &objective, features);
	assert_true(features[STATE_violations] == 1.0F);
	for (int i = 0; i < STATE_VIOLATIONS - 1; i++)
		state_build(&history, &good, &objective, features);
	assert_true(fabs((double)features[STATE_violations] - sqrt(1.0 / 30)) < 1e-6);
	state_build(&history, &good, &objective, features);
	assert_true(features[STATE_violations] == 0.0F);
}

static void test_the_reward_is_the_sum_that_its_description_gives(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = history_make();
	struct sample sample = sample_make();
	double cost, penalty, late = 1.0 / 4, over = 0.5;

	(void)state;
	/* 500 of CPU for a usual use of 200, 64 MiB of memory for a working set of 32, two of four
	 * replicas, two refills a second for two containers. */
	sample.memory_working_set_bytes = 2 * (32 << 20);
	sample.refills = 4;
	cost = 1.0 * 500 / 200 + 0.2 * 2 + 0.2 * 2 / 4 + 0.003 * 4 / 2;
	assert_true(fabs(-cost / 10 - (double)reward_compute(&sample, &objective, &history, 2,
					      &reward_defaults)) < 1e-6);
	/* Twice the target, half of the requests over it. */
	sample.requests_over = 50;
	sample.latency_objective_us = 100000;
	penalty = 0.5 + 0.25 * late + 0.25 * over;
	assert_true(
		fabs(-(cost + 9 * penalty) / 10 - (double)reward_compute(&sample, &objective,
							  &history, 2, &reward_defaults)) < 1e-6);
	sample.oom_kills = 1;
	penalty += 1;
	assert_true(
		fabs(-(cost + 9 * penalty) / 10 - (double)reward_compute(&sample, &objective,
							  &history, 2, &reward_defaults)) < 1e-6);
	/* Without a price yet it is what the share that is asked for begins with. */
	history.violation_price = 0;
	objective.acceptable_violations = 0.005 / 9;
	assert_true(
		fabs(-(cost + 9 * penalty) / 10 - (double)reward_compute(&sample, &objective,
							  &history, 2, &reward_defaults)) < 1e-6);
}

static void test_a_state_tells_operating_point_and_price(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	state_note_plan(&history, RUNG_COUNT - 1, PRICE_LEAST);
	state_build(&history, &sample, &objective, features);
	assert_true(features[STATE_cpu_rung] == 1.0F);
	assert_true(features[STATE_violation_price] == 0.0F);
	state_note_plan(&history, 0, PRICE_MOST);
	state_build(&history, &sample, &objective, features);
	assert_true(features[STATE_cpu_rung] == 0.0F);
	assert_true(fabsf(features[STATE_violation_price] - 1.0F) < 1e-6F);
}

static void test_demand_of_a_container_is_between_now_and_the_mean(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	state_build(&history, &sample, &objective, features);
	/* Two containers use 200. */
	assert_true(fabs(state_demand(features, &sample).usual - 100) < 1e-4);
	sample.requests *= 2;
	sample.cpu_used_us *= 2;
	state_build(&history, &sample, &objective, features);
	assert_true(fabs(state_demand(features, &sample).usual - (200 + 150) / 2.0) < 1e-4);
	/* Beyond the feature's bound what was used counts. */
	sample.cpu_used_us = 2000000;
	sample.requests = 1000;
	state_build(&history, &sample, &objective, features);
	assert_true(fabs(state_demand(features, &sample).usual - 1000) < 1e-4);
	/* Without a limit there is no share of it. */
	sample.cpu_limit_millicores = 0;
	assert_true(fabs(state_demand(features, &sample).usual - 1000) < 1e-4);
}

static void test_another_cost_of_a_request_is_taken_over_at_once(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = {0};
	struct sample sample = sample_make();
	float features[STATE_SIZE];

	(void)state;
	for (int i = 0; i < 20; i++)
		state_build(&history, &sample, &objective, features);
	assert_true(fabs(history.cpu_per_request_us - 2000) < 1e-6);
	sample.cpu_used_us = 400000;
	state_build(&history, &sample, &objective, features);
	assert_true(fabs(history.cpu_per_request_us - 4000) < 1e-6);
	/* A few requests' chance is not news. */
	sample.requests = 5;
	sample.cpu_used_us = 40000;
	state_build(&history, &sample, &objective, features);
	assert_true(history.cpu_per_request_us < 4300);
}

static void test_the_first_requests_after_an_idle_start_say_what_they_cost(void **state)
{
	struct state_history history = {0};
	struct objective objective;
	float features[STATE_SIZE];
	struct sample sample = {
		.tick_s = 1, .containers = 1, .cpu_limit_millicores = 1000, .cpu_used_us = 500};

	(void)state;
	objective_init(&objective);
	/* An agent begins with a tick in which nothing was asked. */
	state_build(&history, &sample, &objective, features);
	/* Too few to be taken over from another cost: 4 of 50 ms. */
	sample.requests = 4;
	sample.cpu_used_us = 200000;
	state_build(&history, &sample, &objective, features);
	assert_true(fabs((double)features[STATE_demand] - 0.2) < 0.01);
}

static void test_no_reward_is_positive(void **state)
{
	struct objective objective = objective_make();
	struct state_history history = history_make();
	struct random_state random;

	(void)state;
	random_seed(&random, 9);
	for (int i = 0; i < 20000; i++) {
		struct sample sample = sample_make();
		float reward;

		sample.requests = random_below(&random, 1000);
		sample.requests_over = random_below(&random, (uint32_t)sample.requests + 1);
		sample.requests_failed = random_below(&random, 20) ? 0 : 1;
		sample.latency_objective_us = exp2(30 * random_uniform_double(&random));
		sample.cpu_allocated_us = random_below(&random, 8000000);
		sample.memory_limit_bytes = random_next(&random) >> 32;
		sample.tick_s = 2 * random_uniform_double(&random);
		reward = reward_compute(
			&sample, &objective, &history, random_below(&random, 9), &reward_defaults);
		assert_true(isfinite(reward) && reward <= 0);
	}
}

static void test_merging_with_nothing_changes_nothing_but_the_tick(void **state)
{
	struct sample a = sample_make(), nothing = {0}, empty = {0};

	(void)state;
	sample_merge(&a, &nothing);
	assert_true(a.latency_p99_us == 9000 && a.cpu_limit_millicores == 250);
	assert_int_equal(a.memory_limit_bytes, 64 << 20);
	assert_int_equal(a.requests, 100);
	sample_merge(&empty, &a);
	assert_true(empty.latency_p99_us == 9000 && empty.tick_s == 1);
	assert_int_equal(empty.containers, 2);
	nothing = empty = (struct sample){0};
	sample_merge(&empty, &nothing);
	assert_true(empty.latency_p99_us == 0 && empty.cpu_limit_millicores == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table_names_every_feature_once),
		cmocka_unit_test(test_a_reservation_is_seen_as_a_limit_of_its_size_is),
		cmocka_unit_test(test_reservations_are_merged_as_limits_are),
		cmocka_unit_test(test_any_sample_gives_a_state_within_the_tables_bounds),
		cmocka_unit_test(test_an_empty_tick_is_a_sound_state),
		cmocka_unit_test(test_latency_at_the_target_is_zero_and_twice_it_a_half),
		cmocka_unit_test(test_an_action_is_in_the_next_state),
		cmocka_unit_test(test_reward_falls_with_allocation_and_with_overshoot),
		cmocka_unit_test(test_the_price_weighs_a_violation_against_the_cost),
		cmocka_unit_test(test_violation_is_more_requests_over_than_the_percentile_allows),
		cmocka_unit_test(test_merge_adds_counts_and_weighs_percentiles),
		cmocka_unit_test(test_extend_adds_time_and_keeps_the_newest_gauges),
		cmocka_unit_test(test_the_largest_sample_that_a_report_can_carry_is_a_sound_state),
		cmocka_unit_test(test_the_table_is_in_the_order_of_its_names),
		cmocka_unit_test(test_actions_are_named_by_what_they_do),
		cmocka_unit_test(
			test_the_ticks_since_an_action_count_from_one_that_changed_something),
		cmocka_unit_test(test_demand_is_remembered_for_ten_ticks_and_its_peak_fades),
		cmocka_unit_test(test_violations_are_the_share_of_thirty_ticks),
		cmocka_unit_test(test_the_reward_is_the_sum_that_its_description_gives),
		cmocka_unit_test(test_a_state_tells_operating_point_and_price),
		cmocka_unit_test(test_demand_of_a_container_is_between_now_and_the_mean),
		cmocka_unit_test(test_another_cost_of_a_request_is_taken_over_at_once),
		cmocka_unit_test(test_the_first_requests_after_an_idle_start_say_what_they_cost),
		cmocka_unit_test(test_no_reward_is_positive),
		cmocka_unit_test(test_merging_with_nothing_changes_nothing_but_the_tick),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
