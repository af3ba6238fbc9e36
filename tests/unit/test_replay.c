// SPDX-License-Identifier: Apache-2.0
/* Replay buffer, sum tree and n-step assembler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>

#include "learner/dqn/replay.h"

static void assert_near(double got, double expected, double tolerance, const char *what)
{
	if (!(fabs(got - expected) <= tolerance))
		fail_msg("%s: expected %.9g, got %.9g", what, expected, got);
}

static struct replay make(uint32_t capacity, bool prioritised, float alpha)
{
	const struct replay_config config = {
		.capacity = capacity,
		.inputs = 2,
		.actions = 4,
		.prioritised = prioritised,
		.alpha = alpha,
	};
	struct replay replay;

	assert_int_equal(replay_create(&replay, &config), 0);
	return replay;
}

/* Transition number @i: each field says which it is. */
static int push(struct replay *replay, int i)
{
	const float state[] = {(float)i, (float)i + 0.5F};
	const float next[] = {(float)i + 1, (float)i + 1.5F};

	return replay_push(
		replay, state, (uint32_t)i % 4, (float)i * 10, 0.5F, next, 1ULL << (i % 4));
}

static void test_full_ring_overwrites_the_oldest(void **unused)
{
	struct replay replay = make(5, true, 1);

	(void)unused;
	for (int i = 0; i < 7; i++)
		assert_int_equal(push(&replay, i), 0);
	assert_int_equal(replay.size, 5);
	assert_int_equal(replay.pushed, 7);
	assert_int_equal(replay.head, 2);
	assert_near((double)replay.returns[0], 50, 0, "slot 0");
	assert_near((double)replay.returns[1], 60, 0, "slot 1");
	assert_near((double)replay.returns[2], 20, 0, "slot 2");
	assert_near((double)replay.states[2 * 1 + 1], 6.5, 0, "state of slot 1");
	replay_destroy(&replay);
}

static void test_batch_holds_whole_transitions(void **unused)
{
	struct replay replay = make(8, false, 0);
	struct replay_batch batch;
	struct random_state random;

	(void)unused;
	random_seed(&random, 1);
	assert_int_equal(replay_batch_create(&batch, 64, 2), 0);
	assert_int_equal(replay_sample_uniform(&replay, &random, &batch, 64), -EAGAIN);
	for (int i = 0; i < 6; i++)
		push(&replay, i);
	assert_int_equal(replay_sample_uniform(&replay, &random, &batch, 65), -EINVAL);
	assert_int_equal(replay_sample_prioritised(&replay, &random, 1, &batch, 64), -EINVAL);
	assert_int_equal(replay_sample_uniform(&replay, &random, &batch, 64), 0);
	for (uint32_t row = 0; row < 64; row++) {
		uint32_t i = batch.slots[row];

		assert_in_range(i, 0, 5);
		assert_near((double)batch.states[2 * row], i, 0, "state");
		assert_near((double)batch.states[2 * (64 + row)], i + 1.0, 0, "next state");
		assert_near((double)batch.returns[row], i * 10.0, 0, "return");
		assert_near((double)batch.discounts[row], 0.5, 0, "discount");
		assert_near((double)batch.weights[row], 1, 0, "weight");
		assert_int_equal(batch.actions[row], i % 4);
		assert_int_equal(batch.masks[row], 1ULL << (i % 4));
	}
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

static void test_malformed_transitions_are_refused(void **unused)
{
	const float good[] = {1, 2};
	const float nan_state[] = {1, NAN};
	const float infinite[] = {INFINITY, 1};
	struct replay replay = make(4, true, 1);

	(void)unused;
	assert_int_equal(replay_push(&replay, good, 4, 0, 1, good, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, nan_state, 0, 0, 1, good, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, 0, 1, infinite, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, NAN, 1, good, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, 0, NAN, good, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, 0, 1.1F, good, 1), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, 0, 1, good, 0), -EINVAL);
	assert_int_equal(replay_push(&replay, good, 0, 0, 1, good, 0xf0), -EINVAL);
	assert_int_equal(replay.size, 0);
	assert_int_equal(replay_push(&replay, good, 0, 0, 0, good, 0), 0);
	replay_destroy(&replay);
}

static void test_configurations_outside_the_limits_are_refused(void **unused)
{
	const struct replay_config bad[] = {
		{.capacity = 0, .inputs = 1, .actions = 1},
		{.capacity = 1, .inputs = 0, .actions = 1},
		{.capacity = 1, .inputs = 65, .actions = 1},
		{.capacity = 1, .inputs = 1, .actions = 0},
		{.capacity = 1, .inputs = 1, .actions = 65},
		{.capacity = 1, .inputs = 1, .actions = 1, .alpha = 1.5F},
		{.capacity = 1, .inputs = 1, .actions = 1, .alpha = NAN},
	};
	struct replay replay;

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(replay_create(&replay, &bad[i]), -EINVAL);
		assert_int_equal(replay_bytes(&bad[i]), 0);
	}
}

static void test_bytes_are_stated_before_creation(void **unused)
{
	const struct replay_config config = {
		.capacity = 1000, .inputs = 32, .actions = 9, .prioritised = true, .alpha = 1};
	struct replay replay;

	(void)unused;
	/* 2 x 32 floats, return, discount, mask, action; and 2 x 1024 doubles of tree. */
	assert_int_equal(replay_bytes(&config), 1000 * (256 + 8 + 8 + 1) + 2 * 1024 * 8);
	assert_int_equal(replay_create(&replay, &config), 0);
	assert_int_equal(replay.bytes, replay_bytes(&config));
	replay_destroy(&replay);
}

/* Sum of (got - expected)^2 / expected over the slots. */
static double chi_square(const uint32_t *counts, const double *shares, uint32_t slots, double total)
{
	double sum = 0;

	for (uint32_t i = 0; i < slots; i++)
		sum += (counts[i] - shares[i] * total) * (counts[i] - shares[i] * total) /
		       (shares[i] * total);
	return sum;
}

static void test_uniform_sampling_is_uniform(void **unused)
{
	struct replay replay = make(10, false, 0);
	struct replay_batch batch;
	struct random_state random;
	uint32_t counts[10] = {0};
	double shares[10];

	(void)unused;
	random_seed(&random, 3);
	assert_int_equal(replay_batch_create(&batch, 100, 2), 0);
	for (int i = 0; i < 10; i++) {
		push(&replay, i);
		shares[i] = 0.1;
	}
	for (int i = 0; i < 1000; i++) {
		replay_sample_uniform(&replay, &random, &batch, 100);
		for (uint32_t row = 0; row < 100; row++)
			counts[batch.slots[row]]++;
	}
	/* 9 degrees of freedom: 27.9 is exceeded once in a thousand seeds. */
	assert_true(chi_square(counts, shares, 10, 100000) < 27.9);
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

/* Give slot i the priority |TD| = td[i]. */
static void prioritise(
	struct replay *replay, struct replay_batch *batch, const float *td, uint32_t slots)
{
	batch->rows = slots;
	batch->pushed = replay->pushed;
	for (uint32_t i = 0; i < slots; i++)
		batch->slots[i] = i;
	replay_update_priorities(replay, batch, td);
}

static void test_prioritised_sampling_follows_the_priorities(void **unused)
{
	const float td[] = {0.1F, -0.2F, 0.5F, 1, -2, 0, 4, 8, 3, 0.7F, 1.5F};
	const float alpha = 0.7F;
	struct replay replay = make(11, true, alpha);
	struct replay_batch batch;
	struct random_state random;
	uint32_t counts[11] = {0};
	double shares[11];
	double sum = 0;

	(void)unused;
	random_seed(&random, 4);
	assert_int_equal(replay_batch_create(&batch, 16, 2), 0);
	for (int i = 0; i < 11; i++) {
		push(&replay, i);
		shares[i] = pow(fabs((double)td[i]) + (double)REPLAY_PRIORITY_FLOOR, (double)alpha);
		sum += shares[i];
	}
	prioritise(&replay, &batch, td, 11);
	for (int i = 0; i < 11; i++) {
		assert_near(replay_priority(&replay, (uint32_t)i), shares[i], 1e-6, "priority");
		shares[i] /= sum;
	}
	/* One draw a call, so that draws are independent and the bound holds. */
	for (int i = 0; i < 100000; i++) {
		replay_sample_prioritised(&replay, &random, 0.5F, &batch, 1);
		counts[batch.slots[0]]++;
	}
	/* 10 degrees of freedom: 29.6 is exceeded once in a thousand seeds. */
	assert_true(chi_square(counts, shares, 11, 100000) < 29.6);

	/* Equal shares of the sum: every slot is drawn within one of what it is due. */
	replay_sample_prioritised(&replay, &random, 0.5F, &batch, 16);
	memset(counts, 0, sizeof(counts));
	for (uint32_t row = 0; row < 16; row++)
		counts[batch.slots[row]]++;
	for (int i = 0; i < 11; i++)
		assert_true(fabs(counts[i] - 16 * shares[i]) < 2);
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

static void test_importance_weights_follow_the_formula(void **unused)
{
	const float td[] = {1, 3, 0.25F, 9};
	const float beta = 0.6F;
	struct replay replay = make(4, true, 1);
	struct replay_batch batch;
	struct random_state random;
	double raw[4], sum = 0, largest = 0;

	(void)unused;
	random_seed(&random, 5);
	assert_int_equal(replay_batch_create(&batch, 256, 2), 0);
	for (int i = 0; i < 4; i++) {
		push(&replay, i);
		sum += (double)td[i] + (double)REPLAY_PRIORITY_FLOOR;
	}
	prioritise(&replay, &batch, td, 4);
	for (int i = 0; i < 4; i++) {
		raw[i] = pow(
			4 * ((double)td[i] + (double)REPLAY_PRIORITY_FLOOR) / sum, -(double)beta);
		largest = raw[i] > largest ? raw[i] : largest;
	}
	/* 256 equal shares: the rarest slot, due 4.8 times, is in the batch. */
	assert_int_equal(replay_sample_prioritised(&replay, &random, beta, &batch, 256), 0);
	for (uint32_t row = 0; row < 256; row++)
		assert_near((double)batch.weights[row], raw[batch.slots[row]] / largest, 1e-5,
			"weight");
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

static void test_new_transitions_get_the_highest_priority(void **unused)
{
	const float td[] = {7};
	struct replay replay = make(4, true, 1);
	struct replay_batch batch;

	(void)unused;
	assert_int_equal(replay_batch_create(&batch, 4, 2), 0);
	push(&replay, 0);
	assert_near(replay_priority(&replay, 0), 1 + 1e-3, 1e-6, "first");
	prioritise(&replay, &batch, td, 1);
	push(&replay, 1);
	assert_near(replay_priority(&replay, 1), 7 + 1e-3, 1e-6, "second");
	assert_near(replay_priority(&replay, 2), 0, 0, "empty slot");
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

static void test_priority_of_an_overwritten_slot_is_left_alone(void **unused)
{
	const float td[] = {100, 100, 100, 100};
	struct replay replay = make(4, true, 1);
	struct replay_batch batch;
	struct random_state random;

	(void)unused;
	random_seed(&random, 6);
	assert_int_equal(replay_batch_create(&batch, 4, 2), 0);
	for (int i = 0; i < 4; i++)
		push(&replay, i);
	replay_sample_prioritised(&replay, &random, 1, &batch, 4);
	for (uint32_t i = 0; i < 4; i++)
		batch.slots[i] = i;
	push(&replay, 4); /* over slot 0 */
	push(&replay, 5); /* over slot 1 */
	replay_update_priorities(&replay, &batch, td);
	assert_near(replay_priority(&replay, 0), 1 + 1e-3, 1e-6, "slot 0");
	assert_near(replay_priority(&replay, 1), 1 + 1e-3, 1e-6, "slot 1");
	assert_near(replay_priority(&replay, 2), 100 + 1e-3, 1e-4, "slot 2");
	assert_near(replay_priority(&replay, 3), 100 + 1e-3, 1e-4, "slot 3");
	replay_batch_destroy(&batch);
	replay_destroy(&replay);
}

/* Push experience @i of a stream: state i, action i % 4, reward 2^i. */
static int push_step(struct replay *replay, struct nstep *stream, int i, enum replay_end end)
{
	const float state[] = {(float)i, 0};
	const float next[] = {(float)i + 1, 0};

	return replay_nstep_push(replay, stream, state, (uint32_t)i % 4, (float)(1 << i), next, end,
		1ULL << (i % 4));
}

static void assert_transition(const struct replay *replay, uint32_t slot, double state,
	double n_step_return, double discount, double next, uint64_t mask)
{
	assert_near((double)replay->states[2 * slot], state, 0, "state");
	assert_int_equal(replay->actions[slot], (uint32_t)state % 4);
	assert_near((double)replay->returns[slot], n_step_return, 1e-6, "return");
	assert_near((double)replay->discounts[slot], discount, 1e-7, "discount");
	assert_near((double)replay->next_states[2 * slot], next, 0, "next state");
	assert_int_equal(replay->masks[slot], mask);
}

static void test_n_step_returns_until_a_terminal(void **unused)
{
	struct replay replay = make(16, false, 0);
	struct nstep stream;

	(void)unused;
	assert_int_equal(nstep_create(&stream, 3, 2, 0.5F), 0);
	push_step(&replay, &stream, 0, REPLAY_CONTINUES);
	push_step(&replay, &stream, 1, REPLAY_CONTINUES);
	assert_int_equal(replay.size, 0);
	push_step(&replay, &stream, 2, REPLAY_CONTINUES);
	assert_int_equal(replay.size, 1);
	push_step(&replay, &stream, 3, REPLAY_TERMINAL);
	assert_int_equal(replay.size, 4);
	assert_transition(&replay, 0, 0, 1 + 0.5 * 2 + 0.25 * 4, 0.125, 3, 1 << 2);
	assert_transition(&replay, 1, 1, 2 + 0.5 * 4 + 0.25 * 8, 0, 4, 1 << 3);
	assert_transition(&replay, 2, 2, 4 + 0.5 * 8, 0, 4, 1 << 3);
	assert_transition(&replay, 3, 3, 8, 0, 4, 1 << 3);
	assert_int_equal(stream.count, 0);
	nstep_destroy(&stream);
	replay_destroy(&replay);
}

static void test_truncation_bootstraps_with_the_steps_there_are(void **unused)
{
	struct replay replay = make(16, false, 0);
	struct nstep stream;

	(void)unused;
	assert_int_equal(nstep_create(&stream, 3, 2, 0.5F), 0);
	push_step(&replay, &stream, 0, REPLAY_CONTINUES);
	push_step(&replay, &stream, 1, REPLAY_TRUNCATED);
	assert_int_equal(replay.size, 2);
	assert_transition(&replay, 0, 0, 1 + 0.5 * 2, 0.25, 2, 1 << 1);
	assert_transition(&replay, 1, 1, 2, 0.5, 2, 1 << 1);
	/* What follows is a new episode: nothing of the old one is in it. */
	push_step(&replay, &stream, 5, REPLAY_TERMINAL);
	assert_transition(&replay, 2, 5, 32, 0, 6, 1 << 1);
	nstep_destroy(&stream);
	replay_destroy(&replay);
}

static void test_one_step_is_an_ordinary_transition(void **unused)
{
	struct replay replay = make(16, false, 0);
	struct nstep stream;

	(void)unused;
	assert_int_equal(nstep_create(&stream, 1, 2, 0.9F), 0);
	push_step(&replay, &stream, 2, REPLAY_CONTINUES);
	assert_transition(&replay, 0, 2, 4, (double)0.9F, 3, 1 << 2);
	nstep_destroy(&stream);
	replay_destroy(&replay);
}

static void test_streams_do_not_mix(void **unused)
{
	struct replay replay = make(16, false, 0);
	struct nstep a, b;

	(void)unused;
	assert_int_equal(nstep_create(&a, 2, 2, 0.5F), 0);
	assert_int_equal(nstep_create(&b, 2, 2, 0.5F), 0);
	push_step(&replay, &a, 0, REPLAY_CONTINUES);
	push_step(&replay, &b, 4, REPLAY_CONTINUES);
	push_step(&replay, &a, 1, REPLAY_CONTINUES);
	push_step(&replay, &b, 5, REPLAY_CONTINUES);
	assert_int_equal(replay.size, 2);
	assert_transition(&replay, 0, 0, 1 + 0.5 * 2, 0.25, 2, 1 << 1);
	assert_transition(&replay, 1, 4, 16 + 0.5 * 32, 0.25, 6, 1 << 1);
	nstep_reset(&a);
	push_step(&replay, &a, 3, REPLAY_TERMINAL);
	assert_int_equal(replay.size, 3);
	assert_transition(&replay, 2, 3, 8, 0, 4, 1 << 3);
	nstep_destroy(&a);
	nstep_destroy(&b);
	replay_destroy(&replay);
}

static void test_refused_experience_changes_no_stream(void **unused)
{
	const float state[] = {1, 2};
	struct replay replay = make(16, false, 0);
	struct nstep stream;

	(void)unused;
	assert_int_equal(nstep_create(&stream, 2, 2, 0.5F), 0);
	push_step(&replay, &stream, 0, REPLAY_CONTINUES);
	assert_int_equal(
		replay_nstep_push(&replay, &stream, state, 0, NAN, state, REPLAY_TERMINAL, 1),
		-EINVAL);
	assert_int_equal(
		replay_nstep_push(&replay, &stream, state, 9, 0, state, REPLAY_CONTINUES, 1),
		-EINVAL);
	assert_int_equal(stream.count, 1);
	assert_int_equal(replay.size, 0);
	nstep_destroy(&stream);
	assert_int_equal(nstep_create(&stream, 0, 2, 0.5F), -EINVAL);
	assert_int_equal(nstep_create(&stream, 2, 2, 1.5F), -EINVAL);
	replay_destroy(&replay);
}

static void test_rewards_that_sum_to_infinity_are_never_stored(void **unused)
{
	const float state[] = {1, 2};
	struct replay replay = make(16, false, 0);
	struct nstep stream;

	(void)unused;
	assert_int_equal(nstep_create(&stream, 2, 2, 1), 0);
	assert_int_equal(
		replay_nstep_push(&replay, &stream, state, 0, 3e38F, state, REPLAY_CONTINUES, 1),
		0);
	assert_int_equal(
		replay_nstep_push(&replay, &stream, state, 0, 3e38F, state, REPLAY_CONTINUES, 1),
		-EINVAL);
	assert_int_equal(replay.size, 0);
	assert_int_equal(stream.count, 1);
	nstep_destroy(&stream);
	replay_destroy(&replay);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_ring_overwrites_the_oldest),
		cmocka_unit_test(test_batch_holds_whole_transitions),
		cmocka_unit_test(test_malformed_transitions_are_refused),
		cmocka_unit_test(test_configurations_outside_the_limits_are_refused),
		cmocka_unit_test(test_bytes_are_stated_before_creation),
		cmocka_unit_test(test_uniform_sampling_is_uniform),
		cmocka_unit_test(test_prioritised_sampling_follows_the_priorities),
		cmocka_unit_test(test_importance_weights_follow_the_formula),
		cmocka_unit_test(test_new_transitions_get_the_highest_priority),
		cmocka_unit_test(test_priority_of_an_overwritten_slot_is_left_alone),
		cmocka_unit_test(test_n_step_returns_until_a_terminal),
		cmocka_unit_test(test_truncation_bootstraps_with_the_steps_there_are),
		cmocka_unit_test(test_one_step_is_an_ordinary_transition),
		cmocka_unit_test(test_streams_do_not_mix),
		cmocka_unit_test(test_refused_experience_changes_no_stream),
		cmocka_unit_test(test_rewards_that_sum_to_infinity_are_never_stored),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
