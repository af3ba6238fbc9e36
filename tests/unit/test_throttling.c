// SPDX-License-Identifier: Apache-2.0
/* The share of throttled periods that is accepted: its floor, and a service that lives by it. */
#include "common/rung.h"
#include "learner/pretraining/episode.h"
#include "learner/throttling.h"
#include "unit/simulate_fixture.h"

#define TICK_S	0.25
#define PERIODS 2.5 /* of 100 ms in a tick */

static struct sample sample_of(uint32_t containers, uint32_t throttled_periods)
{
	return (struct sample){
		.tick_s = TICK_S, .containers = containers, .throttled_periods = throttled_periods};
}

static void test_a_floor_rises_over_what_is_accepted_and_sinks_under_it(void **state)
{
	const struct sample none = sample_of(2, 0), all = sample_of(2, 5);
	double floor_rungs = 0, risen;

	(void)state;
	for (int i = 0; i < 8; i++)
		floor_rungs = throttling_adapt(floor_rungs, &all, 0.2);
	/* Two seconds, two rungs a second, less what is accepted. */
	assert_near(floor_rungs, 2 * 2 * 0.8, 1e-9);
	assert_int_equal(throttling_rung(floor_rungs), 3);
	risen = floor_rungs;
	floor_rungs = throttling_adapt(floor_rungs, &none, 0.2);
	assert_near(risen - floor_rungs, 2 * TICK_S * 0.2, 1e-9);
}

static void test_a_floor_stays_on_the_ladder(void **state)
{
	const struct sample none = sample_of(1, 0), all = sample_of(1, 3);
	double floor_rungs = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		floor_rungs = throttling_adapt(floor_rungs, &all, 0);
	assert_int_equal(throttling_rung(floor_rungs), RUNG_COUNT - 1);
	/* Who accepts none comes down as well, only late. */
	for (int i = 0; i < 400000; i++)
		floor_rungs = throttling_adapt(floor_rungs, &none, 0);
	assert_true(floor_rungs == 0);
}

static void test_who_accepts_all_has_no_floor_and_an_empty_unit_moves_none(void **state)
{
	const struct sample all = sample_of(1, 3), empty = sample_of(0, 0);

	(void)state;
	assert_true(throttling_adapt(5, &all, 1) == 0);
	assert_true(throttling_adapt(5, &empty, 0.1) == 5);
}

/* What comes of a service whose network always wants less CPU. */
struct lived {
	double throttled_share; /* of its periods */
	double allocated;	/* over used */
};

static struct lived live(double acceptable, uint32_t seconds)
{
	static const float q[ACTION_VERTICAL] = {-1, 0, -1, -1, -1, -1, -1, -1, -1};
	const double rate = 100, ticks = seconds / TICK_S;
	struct simulate_config config;
	struct simulation *simulation;
	struct episode episode = {0};
	struct episode_config start = {.cpu_declared_millicores = 4000,
		.memory_declared_bytes = 256 << 20,
		.reflex = true};
	struct policy_config policy;
	struct policy_context context = {.config = &policy};
	struct random_state random;
	struct train_config train;
	struct sample sum = {0};

	simulate_config_init(&config);
	config.trace = (struct simulate_trace){.rate_per_s = &rate, .seconds = 1, .scale = 1};
	config.trace.arrivals = SIMULATE_POISSON;
	config.tick_us = TICK_S * 1e6;
	config.service[0].work_us = 5000;
	config.service[0].latency_target_us = 1e6;
	simulation = simulation_make(&config, 7);
	objective_init(&start.objective);
	snprintf(start.objective.policy, sizeof(start.objective.policy), "dqn");
	start.objective.latency_target_us = 1e6;
	start.objective.acceptable_throttling = acceptable;
	start.start = (struct plan){.cpu_millicores = 4000, .memory_bytes = 256 << 20};
	train_config_init(&train);
	policy_config_init(&policy);
	policy.explore_start = policy.explore_end = 0;
	random_seed(&random, 1);
	context.random = &random;
	assert_int_equal(episode_begin(&episode, &start, &train), 0);
	for (int i = 0; i < 2 * ticks; i++) {
		struct simulate_input input = {.plan = episode.plan, .replicas = 1};
		struct sample sample;

		simulate_tick(simulation, &input, &sample);
		episode_note(&episode, &sample, 1);
		episode_decide(&episode, &context, q);
		/* The second half: the floor has come to rest. */
		if (i >= ticks)
			sample_extend(&sum, &sample);
	}
	episode_end(&episode);
	simulate_destroy(simulation);
	return (struct lived){.throttled_share = sum.throttled_periods / (ticks * PERIODS),
		.allocated = (double)sum.cpu_allocated_us / (double)sum.cpu_used_us};
}

static void test_a_service_gets_the_share_that_is_accepted(void **state)
{
	struct lived any = live(1, 600), fifth = live(0.2, 600), few = live(0.02, 600);

	(void)state;
	/* The target of 1 s leaves the network free: all it wants is less. */
	if (any.throttled_share < 0.4)
		fail_msg("accepting all: %.3f", any.throttled_share);
	if (fabs(fifth.throttled_share - 0.2) > 0.05)
		fail_msg("accepting 0.2: %.3f", fifth.throttled_share);
	if (fabs(few.throttled_share - 0.02) > 0.01)
		fail_msg("accepting 0.02: %.3f", few.throttled_share);
	if (!(any.allocated < fifth.allocated && fifth.allocated < few.allocated))
		fail_msg("allocated over used: %.2f, %.2f, %.2f", any.allocated, fifth.allocated,
			few.allocated);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_floor_rises_over_what_is_accepted_and_sinks_under_it),
		cmocka_unit_test(test_a_floor_stays_on_the_ladder),
		cmocka_unit_test(test_who_accepts_all_has_no_floor_and_an_empty_unit_moves_none),
		cmocka_unit_test(test_a_service_gets_the_share_that_is_accepted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
