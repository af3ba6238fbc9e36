// SPDX-License-Identifier: Apache-2.0
/* Pretraining repeats itself, and what the program carries fits it and is of use. */
#include "learner/pretraining/episode.h"
#include "learner/pretraining/pretrain.h"
#include "learner/pretraining/pretrained.h"

#include "common/state.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pretrain_config small(enum pretrain_part part)
{
	struct pretrain_config config;

	pretrain_config_init(&config, part);
	config.worlds = 4;
	config.rounds = 60;
	config.length = 25; /* a world ends and another begins */
	config.updates = 1;
	config.replay = 1000;
	config.train.warmup = 128;
	return config;
}

static void assert_repeats(const struct pretrain_config *config)
{
	struct pretrain_result one, two, other;
	struct pretrain_config changed = *config;
	size_t bytes;

	assert_int_equal(pretrain_run(config, &one, NULL, NULL), 0);
	assert_int_equal(pretrain_run(config, &two, NULL, NULL), 0);
	changed.seed++;
	assert_int_equal(pretrain_run(&changed, &other, NULL, NULL), 0);
	bytes = one.network.layout.count * sizeof(float);
	assert_true(one.steps > 10);
	assert_int_equal(one.steps, two.steps);
	assert_memory_equal(one.network.parameters, two.network.parameters, bytes);
	assert_memory_not_equal(one.network.parameters, other.network.parameters, bytes);
	assert_true(network_is_finite(&one.network));
	network_destroy(&one.network);
	network_destroy(&two.network);
	network_destroy(&other.network);
}

static void test_the_same_seed_gives_the_same_weights(void **state)
{
	struct pretrain_config config = small(PRETRAIN_VERTICAL);

	(void)state;
	assert_repeats(&config);
}

static struct network own_network(enum pretrain_part part, const char *name)
{
	const struct network_shape shape = pretrain_shape(part);
	struct network network;
	char error[256] = "";

	if (pretrained_network(NULL, name, &shape, &network, error, sizeof(error)))
		fail_msg("%s: %s", name, error);
	return network;
}

static void test_replicas_are_learnt_over_a_vertical_network(void **state)
{
	struct pretrain_config config = small(PRETRAIN_HORIZONTAL);
	struct network vertical = own_network(PRETRAIN_VERTICAL, "vertical");
	struct pretrain_result result;

	(void)state;
	assert_int_equal(pretrain_run(&config, &result, NULL, NULL), -EINVAL);
	config.vertical = &vertical;
	assert_repeats(&config);
	network_destroy(&vertical);
}

static void test_what_the_program_carries_is_better_than_no_training(void **state)
{
	struct network vertical = own_network(PRETRAIN_VERTICAL, "vertical");
	struct network horizontal = own_network(PRETRAIN_HORIZONTAL, "horizontal");
	struct pretrain_config config = small(PRETRAIN_VERTICAL);
	struct pretrain_score trained, untrained, scaled;
	struct pretrain_result nothing;

	(void)state;
	config.updates = 0;
	assert_int_equal(pretrain_run(&config, &nothing, NULL, NULL), 0);
	assert_int_equal(pretrain_test(&vertical, NULL, 77, 16, 600, 0.01, 0, &trained), 0);
	assert_int_equal(
		pretrain_test(&nothing.network, NULL, 77, 16, 600, 0.01, 0, &untrained), 0);
	assert_int_equal(trained.worlds, 16);
	assert_true(trained.reward > untrained.reward);
	assert_true(trained.violations < 0.05);
	assert_true(trained.allocated >= 1 && trained.allocated < 3);
	assert_int_equal(pretrain_test(&vertical, &horizontal, 77, 16, 600, 0.01, 0, &scaled), 0);
	assert_true(scaled.replicas > 0.1 && scaled.replicas < 0.9);
	network_destroy(&nothing.network);
	network_destroy(&vertical);
	network_destroy(&horizontal);
}

static void test_worlds_without_a_limit_are_an_option(void **state)
{
	struct pretrain_config config = small(PRETRAIN_VERTICAL);
	struct pretrain_result limited, reserving;

	(void)state;
	assert_int_equal(pretrain_run(&config, &limited, NULL, NULL), 0);
	config.reserving = 0.5;
	assert_repeats(&config);
	assert_int_equal(pretrain_run(&config, &reserving, NULL, NULL), 0);
	assert_memory_not_equal(limited.network.parameters, reserving.network.parameters,
		limited.network.layout.count * sizeof(float));
	config.reserving = 1.5;
	network_destroy(&limited.network);
	assert_int_equal(pretrain_run(&config, &limited, NULL, NULL), -EINVAL);
	network_destroy(&reserving.network);
}

/* There is nothing to refill, and what is decided on is the reservation: neither nothing nor all. */
static void test_reservations_are_decided_in_worlds_without_a_limit(void **state)
{
	struct network vertical = own_network(PRETRAIN_VERTICAL, "vertical");
	struct pretrain_score all, some;

	(void)state;
	assert_int_equal(pretrain_test(&vertical, NULL, 77, 16, 600, 0.01, 1, &all), 0);
	assert_true(all.refills == 0);
	assert_true(all.violations < 0.08);
	assert_true(all.allocated > 0.5 && all.allocated < 3);
	assert_int_equal(pretrain_test(&vertical, NULL, 77, 16, 600, 0.01, 0.5, &some), 0);
	assert_true(some.refills > 0);
	network_destroy(&vertical);
}

/* A tick of work that would use @wanted millicores, for no request. */
static struct sample background(double tick_s, const struct plan *plan, double wanted)
{
	const double limit = plan->cpu_millicores, used = fmin(wanted, limit);

	return (struct sample){.tick_s = tick_s,
		.cpu_used_us = (uint64_t)(used * tick_s * 1000),
		.cpu_allocated_us = (uint64_t)(limit * tick_s * 1000),
		.throttled_us = (uint64_t)((1 - used / wanted) * tick_s * 1e6),
		.memory_used_bytes = 60 << 20,
		.memory_peak_bytes = 60 << 20,
		.memory_working_set_bytes = 50 << 20,
		.containers = 1,
		.cpu_limit_millicores = limit,
		.memory_limit_bytes = plan->memory_bytes};
}

static void assert_not_starved(const struct network *network, double tick_s, double wanted)
{
	struct episode_config config = {.cpu_declared_millicores = 2 * wanted,
		.memory_declared_bytes = 256 << 20,
		.start = {.cpu_millicores = 2 * wanted, .memory_bytes = 256 << 20},
		.reflex = true,
		.memory_high = true};
	float *scratch = calloc(network_scratch_floats(network), sizeof(float));
	struct policy_config policy;
	struct random_state random;
	struct policy_context context = {.config = &policy, .random = &random};
	struct episode episode = {0};
	struct train_config train;
	double used = 0, limit = 0;
	const int ticks = 400, counted = 200;

	assert_non_null(scratch);
	objective_init(&config.objective);
	policy_config_init(&policy);
	policy.explore_start = policy.explore_end = 0;
	random_seed(&random, 1);
	train_config_init(&train);
	assert_int_equal(episode_begin(&episode, &config, &train), 0);
	for (int i = 0; i < ticks; i++) {
		struct sample sample = background(tick_s, &episode.plan, wanted);
		float q[ACTION_VERTICAL];

		if (i >= ticks - counted) {
			used += (double)sample.cpu_used_us / (tick_s * 1000) / counted;
			limit += sample.cpu_limit_millicores / counted;
		}
		episode_note(&episode, &sample, 1);
		network_forward_one(network, episode.state, scratch, q);
		episode_decide(&episode, &context, q);
	}
	if (used < 0.9 * wanted || limit > 1.8 * wanted)
		fail_msg("of %gm at a tick of %g s used %gm, limit %gm", wanted, tick_s, used,
			limit);
	episode_end(&episode);
	free(scratch);
}

/* Nothing is late there, so that every cut looks free: it ended at the lowest limit there is. */
static void test_work_without_requests_is_not_starved(void **state)
{
	struct network vertical = own_network(PRETRAIN_VERTICAL, "vertical");

	(void)state;
	assert_not_starved(&vertical, 1, 50);
	assert_not_starved(&vertical, 1, 500);
	assert_not_starved(&vertical, 1, 8000);
	assert_not_starved(&vertical, 0.1, 500);
	assert_not_starved(&vertical, 60, 500);
	network_destroy(&vertical);
}

static void test_a_network_of_another_shape_is_refused(void **state)
{
	struct network_shape shape = pretrain_shape(PRETRAIN_VERTICAL);
	struct network network;
	char error[256] = "";

	(void)state;
	shape.hidden1 = 64;
	assert_int_equal(
		pretrained_network(NULL, "vertical", &shape, &network, error, sizeof(error)),
		-EINVAL);
	assert_non_null(strstr(error, "made for schema"));
	assert_int_equal(pretrained_network("/nonexistent", "vertical", &shape, &network, error,
				 sizeof(error)),
		-ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same_seed_gives_the_same_weights),
		cmocka_unit_test(test_replicas_are_learnt_over_a_vertical_network),
		cmocka_unit_test(test_what_the_program_carries_is_better_than_no_training),
		cmocka_unit_test(test_worlds_without_a_limit_are_an_option),
		cmocka_unit_test(test_reservations_are_decided_in_worlds_without_a_limit),
		cmocka_unit_test(test_work_without_requests_is_not_starved),
		cmocka_unit_test(test_a_network_of_another_shape_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
