// SPDX-License-Identifier: Apache-2.0
/* One gradient step of DQN: targets, loss, determinism, divergence, and that it learns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>

#include "learner/dqn/train.h"

static void assert_near(double got, double expected, double tolerance, const char *what)
{
	if (!(fabs(got - expected) <= tolerance))
		fail_msg("%s: expected %.9g, got %.9g", what, expected, got);
}

static const struct network_shape shape = {.inputs = 3, .hidden1 = 24, .hidden2 = 20, .actions = 3};

static struct train_config configure(void)
{
	struct train_config config;

	train_config_init(&config);
	config.batch = 32;
	config.warmup = 32;
	config.learning_rate = 1e-3F;
	config.target_period = 10;
	config.tau = 1;
	config.seed = 11;
	return config;
}

static struct replay make_replay(bool prioritised)
{
	const struct replay_config config = {
		.capacity = 512,
		.inputs = 3,
		.actions = 3,
		.prioritised = prioritised,
		.alpha = 0.6F,
	};
	struct replay replay;

	assert_int_equal(replay_create(&replay, &config), 0);
	return replay;
}

/* A bandit whose best action is told by the largest input; @scale of its rewards. */
static void fill(struct replay *replay, uint32_t count, float scale)
{
	struct random_state random;
	float state[3], next[3];

	random_seed(&random, 99);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t action = random_below(&random, 3);
		int best = 0;

		for (int k = 0; k < 3; k++) {
			state[k] = random_normal(&random);
			next[k] = random_normal(&random);
			best = state[k] > state[best] ? k : best;
		}
		assert_int_equal(replay_push(replay, state, action,
					 scale * ((int)action == best ? 1 : 0), 0, next, 7),
			0);
	}
}

static void test_double_dqn_target_is_the_hand_made_one(void **unused)
{
	const float q_online[] = {1, 5, 2, 1, 5, 2, 9, 0, 0, 3, 2, 1};
	const float q_target[] = {10, 20, 30, 10, 20, 30, 1, 2, 3, 4, 5, 6};
	struct replay_batch batch;
	float targets[4];

	(void)unused;
	assert_int_equal(replay_batch_create(&batch, 4, 3), 0);
	batch.rows = 4;
	memcpy(batch.returns, (const float[]){1, 1, 1, -2}, 4 * sizeof(float));
	memcpy(batch.discounts, (const float[]){0.5F, 0.5F, 0, 0.25F}, 4 * sizeof(float));
	/* Row 1 may not take action 1; row 2 has ended; row 3 may take the last only. */
	memcpy(batch.masks, (const uint64_t[]){7, 5, 0, 4}, 4 * sizeof(uint64_t));

	train_compute_targets(&batch, 3, q_online, q_target, true, targets);
	assert_near((double)targets[0], 1 + 0.5 * 20, 1e-6, "online's choice, target's value");
	assert_near((double)targets[1], 1 + 0.5 * 30, 1e-6, "masked");
	assert_near((double)targets[2], 1, 0, "ended");
	assert_near((double)targets[3], -2 + 0.25 * 6, 1e-6, "one action left");

	/* The plain rule: the target network's own best. */
	train_compute_targets(&batch, 3, NULL, q_target, false, targets);
	assert_near((double)targets[0], 1 + 0.5 * 30, 1e-6, "plain");
	batch.masks[0] = 3;
	train_compute_targets(&batch, 3, NULL, q_target, false, targets);
	assert_near((double)targets[0], 1 + 0.5 * 20, 1e-6, "plain, masked");
	replay_batch_destroy(&batch);
}

/* The step's loss and gradient, computed anew from the parts. */
static void check_loss(const struct train_config *config)
{
	struct replay replay = make_replay(config->prioritised);
	struct trainer trainer;
	struct train_stats stats;
	struct network before;
	float scratch[256], q[3], next_q[3], next_target[3];
	double loss = 0, td = 0, gradient_bias = 0;
	uint32_t rows = config->batch;

	fill(&replay, 400, 5);
	for (uint32_t i = 0; i < 400; i += 2)
		replay.discounts[i] = 0.9F;
	assert_int_equal(trainer_create(&trainer, &shape, config), 0);
	/* A target network of its own, and one with an opinion. */
	network_init(&trainer.target, &trainer.random);
	assert_int_equal(network_create(&before, &trainer.online.shape), 0);
	network_copy(&before, &trainer.online);
	assert_int_equal(trainer_sample(&trainer, &replay), 0);
	assert_int_equal(trainer_learn(&trainer, &stats), 0);
	for (uint32_t row = 0; row < rows; row++) {
		const float *state = trainer.batch.states + (size_t)row * 3;
		const float *next = trainer.batch.states + (size_t)(rows + row) * 3;
		double error, size, delta = (double)config->huber_delta;
		double weight = (double)trainer.batch.weights[row];
		int best;

		network_forward_one(&before, state, scratch, q);
		network_forward_one(&before, next, scratch, next_q);
		network_forward_one(&trainer.target, next, scratch, next_target);
		best = network_best_action(
			config->double_dqn ? next_q : next_target, 3, trainer.batch.masks[row]);
		error = (double)q[trainer.batch.actions[row]] -
			((double)trainer.batch.returns[row] +
				(double)trainer.batch.discounts[row] * (double)next_target[best]);
		size = fabs(error);
		loss += weight / rows *
			(delta == 0 || size <= delta ? error * error / 2
						     : delta * (size - delta / 2));
		/* The heads' biases see the loss's derivatives as they are. */
		gradient_bias += weight / rows *
				 (delta == 0 || size <= delta ? error : copysign(delta, error));
		td += size / rows;
		assert_near((double)trainer.td_errors[row], error, 1e-4, "TD error");
	}
	assert_near(stats.loss, loss, 1e-4 * (1 + loss), "loss");
	assert_near(stats.td_error_mean_abs, td, 1e-4, "mean |TD|");
	if (config->dueling)
		assert_near((double)trainer.gradients[before.layout.bias3 + 3], gradient_bias, 1e-4,
			"gradient of V's bias");
	network_destroy(&before);
	trainer_destroy(&trainer);
	replay_destroy(&replay);
}

static void test_loss_is_the_written_rule_with_every_switch_on(void **unused)
{
	struct train_config config = configure();

	(void)unused;
	check_loss(&config);
}

static void test_loss_is_the_written_rule_with_each_switch_off(void **unused)
{
	(void)unused;
	for (int i = 0; i < 4; i++) {
		struct train_config config = configure();

		config.double_dqn = i != 0;
		config.dueling = i != 1;
		config.prioritised = i != 2;
		config.huber_delta = i != 3 ? 1 : 0;
		check_loss(&config);
	}
}

static void test_two_trainers_of_one_seed_are_identical_bytes(void **unused)
{
	struct train_config config = configure();
	struct replay replays[2] = {make_replay(true), make_replay(true)};
	struct trainer trainers[2];
	struct train_stats stats;
	size_t bytes;

	(void)unused;
	for (int i = 0; i < 2; i++) {
		fill(&replays[i], 400, 1);
		assert_int_equal(trainer_create(&trainers[i], &shape, &config), 0);
	}
	/* Interleaved, so that anything shared between them would show. */
	for (int step = 0; step < 60; step++) {
		for (int i = 0; i < 2; i++)
			assert_int_equal(trainer_step(&trainers[i], &replays[i], &stats), 0);
	}
	bytes = trainers[0].online.layout.count * sizeof(float);
	assert_memory_equal(trainers[0].online.parameters, trainers[1].online.parameters, bytes);
	assert_memory_equal(trainers[0].target.parameters, trainers[1].target.parameters, bytes);
	assert_memory_equal(trainers[0].adam.mean, trainers[1].adam.mean, 2 * bytes);
	for (int i = 0; i < 2; i++) {
		trainer_destroy(&trainers[i]);
		replay_destroy(&replays[i]);
	}
}

static void test_trainer_learns_a_bandit(void **unused)
{
	for (int dueling = 0; dueling < 2; dueling++) {
		struct train_config config = configure();
		struct replay replay = make_replay(true);
		struct trainer trainer;
		struct train_stats stats;
		struct random_state random;
		float state[3], q[3], scratch[256];
		int right = 0;

		(void)unused;
		config.dueling = dueling;
		fill(&replay, 512, 1);
		assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
		for (int i = 0; i < 3000; i++)
			assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
		random_seed(&random, 1);
		for (int i = 0; i < 200; i++) {
			int best = 0;

			for (int k = 0; k < 3; k++) {
				state[k] = random_normal(&random);
				best = state[k] > state[best] ? k : best;
			}
			network_forward_one(&trainer.online, state, scratch, q);
			right += network_best_action(q, 3, 7) == best;
		}
		/* 512 noisy examples; guessing would be right 67 times. */
		assert_in_range(right, 160, 200);
		trainer_destroy(&trainer);
		replay_destroy(&replay);
	}
}

/* Share of random states whose best action is the one that the largest input tells. */
static double share_right(const struct network *network)
{
	struct random_state random;
	float scratch[128], state[3], q[3];
	int right = 0, count = 400;

	assert_true(network_scratch_floats(network) <= 128);
	random_seed(&random, 5);
	for (int i = 0; i < count; i++) {
		int best = 0;

		for (int k = 0; k < 3; k++) {
			state[k] = random_normal(&random);
			best = state[k] > state[best] ? k : best;
		}
		network_forward_one(network, state, scratch, q);
		right += network_best_action(q, 3, 7) == best;
	}
	return (double)right / count;
}

/*
 * The anchor knows the bandit; the replay says that the wrong actions pay, and that every state is worth
 * less than the anchor thinks.
 */
static double anchored_after(float anchor, const float *weights, double *q_mean)
{
	struct train_config config = configure();
	struct replay replay = make_replay(true);
	struct trainer trainer;
	struct train_stats stats;

	config.anchor = anchor;
	fill(&replay, 400, -1);
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	memcpy(trainer.online.parameters, weights, trainer.online.layout.count * sizeof(float));
	trainer_adopt_online(&trainer);
	assert_int_equal(trainer_anchor(&trainer, weights), 0);
	for (int step = 0; step < 600; step++)
		assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	double share = share_right(&trainer.online);

	*q_mean = stats.q_mean;
	trainer_destroy(&trainer);
	replay_destroy(&replay);
	return share;
}

static void test_an_anchor_gives_way_to_more_experience_than_it_stands_for(void **unused)
{
	struct train_config config = configure();
	struct replay replay = make_replay(true);
	struct trainer trainer;
	struct train_stats stats;
	double q_before, q_free, q_held;

	(void)unused;
	fill(&replay, 400, 1);
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	for (int step = 0; step < 1500; step++)
		assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	q_before = stats.q_mean;
	assert_true(share_right(&trainer.online) > 0.9);
	/* 400 experiences to the contrary: against none, a few, and many more. */
	assert_true(anchored_after(0, trainer.online.parameters, &q_free) < 0.2);
	assert_true(anchored_after(4, trainer.online.parameters, &q_free) < 0.2);
	assert_true(anchored_after(40000, trainer.online.parameters, &q_held) > 0.9);
	/* What a state is worth is learnt all the same: a third before, a third less than nothing now. */
	assert_near(q_before, 0.33, 0.1, "worth before");
	assert_near(q_free, -0.33, 0.1, "worth without anchor");
	assert_near(q_held, -0.33, 0.1, "worth with an anchor");
	trainer_destroy(&trainer);
	replay_destroy(&replay);
}

static void test_target_is_copied_every_period(void **unused)
{
	struct train_config config = configure();
	struct replay replay = make_replay(true);
	struct trainer trainer;
	struct train_stats stats;
	size_t bytes;

	(void)unused;
	config.target_period = 4;
	fill(&replay, 400, 1);
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	bytes = trainer.online.layout.count * sizeof(float);
	for (int step = 1; step <= 8; step++) {
		assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
		assert_int_equal(
			memcmp(trainer.online.parameters, trainer.target.parameters, bytes) == 0,
			step % 4 == 0);
	}
	trainer_destroy(&trainer);
	replay_destroy(&replay);
}

static void test_divergence_falls_back_to_the_last_good_weights(void **unused)
{
	struct train_config config = configure();
	struct replay replay = make_replay(true);
	struct trainer trainer;
	struct train_stats stats;
	float *good;
	size_t bytes;

	(void)unused;
	config.good_period = 5;
	fill(&replay, 400, 1);
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	bytes = trainer.online.layout.count * sizeof(float);
	good = malloc(bytes);
	assert_non_null(good);
	for (int step = 0; step < 5; step++)
		assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	memcpy(good, trainer.online.parameters, bytes);
	/* They are good once they have trained on for a period. */
	assert_memory_not_equal(good, trainer.good.parameters, bytes);
	assert_int_equal(trainer.good_steps, 0);
	for (int step = 0; step < 6; step++)
		assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	assert_memory_equal(good, trainer.good.parameters, bytes);
	assert_int_equal(trainer.good_steps, 5);
	assert_memory_not_equal(good, trainer.online.parameters, bytes);

	/* Not a number. */
	trainer.online.parameters[0] = NAN;
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -ERANGE);
	assert_memory_equal(good, trainer.online.parameters, bytes);
	assert_memory_equal(good, trainer.target.parameters, bytes);
	assert_int_equal(trainer.adam.step, 0);
	assert_int_equal(trainer.divergences, 1);

	/* Finite, but no value that a Q could have. */
	trainer.online.parameters[trainer.online.layout.bias3] = 1e6F;
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -ERANGE);
	assert_memory_equal(good, trainer.online.parameters, bytes);

	/* A target network that has gone wrong makes the loss so. */
	trainer.target.parameters[trainer.target.layout.bias3] = INFINITY;
	for (uint32_t i = 0; i < replay.size; i++)
		replay.discounts[i] = 0.9F;
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -ERANGE);
	assert_memory_equal(good, trainer.online.parameters, bytes);
	assert_true(network_is_finite(&trainer.target));

	/* A reward that no tick has. */
	for (uint32_t i = 0; i < replay.size; i++)
		replay.returns[i] = 1e9F;
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -ERANGE);
	assert_memory_equal(good, trainer.online.parameters, bytes);
	for (uint32_t i = 0; i < replay.size; i++)
		replay.returns[i] = 0;

	/* And it goes on. */
	assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	free(good);
	trainer_destroy(&trainer);
	replay_destroy(&replay);
}

static void test_step_waits_for_enough_experience(void **unused)
{
	struct train_config config = configure();
	struct replay replay = make_replay(true);
	struct trainer trainer;
	struct train_stats stats;

	(void)unused;
	config.warmup = 100;
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -EAGAIN);
	fill(&replay, 99, 1);
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -EAGAIN);
	fill(&replay, 1, 1);
	assert_int_equal(trainer_step(&trainer, &replay, &stats), 0);
	trainer_destroy(&trainer);
	replay_destroy(&replay);
}

static void test_replay_of_another_shape_is_refused(void **unused)
{
	const struct replay_config other = {.capacity = 8, .inputs = 4, .actions = 3};
	struct train_config config = configure();
	struct replay plain = make_replay(false);
	struct replay replay;
	struct trainer trainer;
	struct train_stats stats;

	(void)unused;
	assert_int_equal(replay_create(&replay, &other), 0);
	assert_int_equal(trainer_create(&trainer, &shape, &config), 0);
	assert_int_equal(trainer_step(&trainer, &replay, &stats), -EINVAL);
	fill(&plain, 100, 1);
	assert_int_equal(trainer_step(&trainer, &plain, &stats), -EINVAL);
	trainer_destroy(&trainer);
	replay_destroy(&replay);
	replay_destroy(&plain);
}

static void test_configuration_outside_its_range_is_named(void **unused)
{
	struct train_config config = configure();
	struct trainer trainer;
	char error[128];

	(void)unused;
	assert_int_equal(train_config_check(&config, error, sizeof(error)), 0);
	config.gamma = 1.5F;
	assert_int_equal(train_config_check(&config, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "gamma is 1.5, it must be at least 0 and at most 1");
	assert_int_equal(trainer_create(&trainer, &shape, &config), -EINVAL);
	config = configure();
	config.learning_rate = NAN;
	assert_int_equal(train_config_check(&config, error, sizeof(error)), -EINVAL);
	config.learning_rate = 0;
	assert_int_equal(train_config_check(&config, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "learning_rate is 0, it must be above 0 and at most 1");
}

static void test_beta_grows_from_its_start_to_one(void **unused)
{
	struct train_config config = configure();

	(void)unused;
	config.beta_start = 0.4F;
	config.beta_steps = 100;
	assert_near(train_beta(&config, 0), 0.4, 1e-6, "start");
	assert_near(train_beta(&config, 50), 0.7, 1e-6, "half");
	assert_near(train_beta(&config, 100), 1, 0, "end");
	assert_near(train_beta(&config, 1000), 1, 0, "after");
}

static void test_epsilon_of_actors_is_as_in_apex(void **unused)
{
	(void)unused;
	assert_near(epsilon_apex(0, 8, 0.4, 7), 0.4, 1e-12, "first");
	assert_near(epsilon_apex(7, 8, 0.4, 7), pow(0.4, 8), 1e-12, "last");
	assert_near(epsilon_apex(3, 8, 0.4, 7), pow(0.4, 4), 1e-12, "fourth");
	assert_near(epsilon_apex(0, 1, 0.4, 7), 0.4, 0, "single");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_double_dqn_target_is_the_hand_made_one),
		cmocka_unit_test(test_loss_is_the_written_rule_with_every_switch_on),
		cmocka_unit_test(test_loss_is_the_written_rule_with_each_switch_off),
		cmocka_unit_test(test_two_trainers_of_one_seed_are_identical_bytes),
		cmocka_unit_test(test_trainer_learns_a_bandit),
		cmocka_unit_test(test_an_anchor_gives_way_to_more_experience_than_it_stands_for),
		cmocka_unit_test(test_target_is_copied_every_period),
		cmocka_unit_test(test_divergence_falls_back_to_the_last_good_weights),
		cmocka_unit_test(test_step_waits_for_enough_experience),
		cmocka_unit_test(test_replay_of_another_shape_is_refused),
		cmocka_unit_test(test_configuration_outside_its_range_is_named),
		cmocka_unit_test(test_beta_grows_from_its_start_to_one),
		cmocka_unit_test(test_epsilon_of_actors_is_as_in_apex),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
