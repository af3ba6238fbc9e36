// SPDX-License-Identifier: Apache-2.0
/* The brain: evaluation in batches, storing in batches. */
#include "learner/brain.h"

#include "common/state.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS	    150
#define GOOD_PERIOD 50

struct fixture {
	struct brain *brain;
	struct nstep stream;
	struct random_state random;
	float states[ROWS][STATE_SIZE];
	float q[ROWS][ACTION_VERTICAL];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = 256,
		.replay_ratio = 1,
		.updates_per_s_max = 1000};

	if (!f)
		return -1;
	*state = f;
	train_config_init(&options.train);
	options.train.n_step = 1;
	options.train.batch = 16;
	options.train.warmup = 16;
	options.train.good_period = GOOD_PERIOD;
	random_seed(&f->random, 5);
	for (int row = 0; row < ROWS; row++)
		for (int i = 0; i < STATE_SIZE; i++)
			f->states[row][i] = random_normal(&f->random);
	if (nstep_create(&f->stream, 1, STATE_SIZE, options.train.gamma))
		return -1;
	return brain_open(&f->brain, &options);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	nstep_destroy(&f->stream);
	brain_close(f->brain);
	free(f);
	return 0;
}

static struct brain_experience experience(struct fixture *f, int row)
{
	return (struct brain_experience){.stream = &f->stream,
		.state = f->states[row],
		.next_state = f->states[(row + 1) % ROWS],
		.next_mask = NETWORK_ALL_ACTIONS,
		.action = (uint32_t)row % ACTION_VERTICAL,
		.reward = -1,
		.end = REPLAY_CONTINUES};
}

static void store_all(struct fixture *f)
{
	struct brain_experience list[ROWS];

	for (int row = 0; row < ROWS; row++)
		list[row] = experience(f, row);
	assert_int_equal(brain_store(f->brain, list, ROWS), ROWS);
}

/* Every number of rows around the sizes of a pass. */
static void test_a_batch_has_the_values_of_its_states_one_by_one(void **state)
{
	struct fixture *f = *state;
	float one[ACTION_VERTICAL];

	store_all(f);
	assert_true(brain_train_due(f->brain, 0.1) > 0);
	for (uint32_t rows = 1; rows <= ROWS; rows++) {
		memset(f->q, 0, sizeof(f->q));
		assert_int_equal(brain_evaluate(f->brain, f->states[0], rows, f->q[0]), 0);
		for (uint32_t row = 0; row < rows; row++) {
			assert_int_equal(brain_evaluate(f->brain, f->states[row], 1, one), 0);
			for (int a = 0; a < ACTION_VERTICAL; a++)
				assert_true(fabsf(one[a] - f->q[row][a]) <=
					    1e-4F * (1 + fabsf(one[a])));
		}
		for (uint32_t row = rows; row < ROWS; row++)
			assert_true(f->q[row][0] == 0);
	}
}

static void test_a_bad_experience_in_a_batch_is_left_out_alone(void **state)
{
	struct fixture *f = *state;
	struct brain_experience list[3] = {experience(f, 0), experience(f, 1), experience(f, 2)};
	struct brain_status status;

	list[1].action = ACTION_VERTICAL;
	assert_int_equal(brain_store(f->brain, list, 3), 2);
	assert_int_equal(list[0].err, 0);
	assert_int_equal(list[1].err, -EINVAL);
	assert_int_equal(list[2].err, 0);
	brain_read_status(f->brain, &status);
	assert_int_equal(status.stored, 2);
	assert_int_equal(brain_store(f->brain, NULL, 0), 0);
}

/* Readers while the trainer publishes: every batch is of one set of weights. */
struct reader {
	struct fixture *fixture;
	bool torn;
	bool failed;
};

static void *read_often(void *context)
{
	struct reader *reader = context;
	struct fixture *f = reader->fixture;
	/* The same state in every row: rows that differ by more than rounding saw two networks. */
	float states[64][STATE_SIZE], q[64][ACTION_VERTICAL];

	for (int row = 0; row < 64; row++)
		memcpy(states[row], f->states[0], sizeof(states[row]));
	for (int round = 0; round < 300; round++) {
		reader->failed |= brain_evaluate(f->brain, states[0], 64, q[0]) != 0;
		for (int row = 1; row < 64; row++)
			if (fabsf(q[row][0] - q[0][0]) > 1e-5F * (1 + fabsf(q[0][0])))
				reader->torn = true;
	}
	return NULL;
}

static void test_evaluation_while_training_sees_one_network(void **state)
{
	struct fixture *f = *state;
	struct reader readers[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		readers[i] = (struct reader){.fixture = f};
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, &readers[i]), 0);
	}
	for (int round = 0; round < 40; round++) {
		store_all(f);
		brain_train_due(f->brain, 0.05);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_false(readers[i].torn || readers[i].failed);
	}
}

/* --- divergence --- */

static enum brain_health health(struct fixture *f)
{
	struct brain_status status;

	brain_read_status(f->brain, &status);
	assert_int_equal(status.health, brain_health(f->brain));
	return status.health;
}

static uint64_t divergences(struct fixture *f)
{
	struct brain_status status;

	brain_read_status(f->brain, &status);
	return status.divergences;
}

/* Rewards that no tick has, in every place of the buffer. */
static void poison(struct fixture *f)
{
	for (int round = 0; round < 2; round++) {
		struct brain_experience list[ROWS];

		for (int row = 0; row < ROWS; row++) {
			list[row] = experience(f, row);
			list[row].reward = 1e30F;
		}
		assert_int_equal(brain_store(f->brain, list, ROWS), ROWS);
	}
}

static void train_soundly(struct fixture *f, int periods)
{
	for (int done = 0; done < periods * GOOD_PERIOD;) {
		store_all(f);
		store_all(f);
		done += (int)brain_train_due(f->brain, 1);
	}
}

static void test_without_good_weights_a_diverged_brain_is_not_used(void **state)
{
	struct fixture *f = *state;
	float *weights;
	uint64_t steps;
	size_t count;

	poison(f);
	assert_true(brain_train_due(f->brain, 0.01) > 0);
	assert_true(divergences(f) > 0);
	assert_int_equal(health(f), BRAIN_UNUSABLE);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, f->q[0]), -ERANGE);
	/* And nothing of it is kept for the next start. */
	assert_int_equal(brain_copy_weights(f->brain, &weights, &count, &steps), -ENODATA);
	assert_null(weights);

	train_soundly(f, 2);
	assert_int_equal(health(f), BRAIN_SOUND);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, f->q[0]), 0);
}

static void test_a_diverged_brain_decides_by_its_last_good_weights(void **state)
{
	struct fixture *f = *state;
	float before[ACTION_VERTICAL], *good, *kept;
	uint64_t steps;
	size_t count;

	train_soundly(f, 3);
	assert_int_equal(health(f), BRAIN_SOUND);
	poison(f);
	assert_true(brain_train_due(f->brain, 0.01) > 0);
	assert_int_equal(health(f), BRAIN_FELL_BACK);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, before), 0);
	assert_int_equal(brain_copy_weights(f->brain, &good, &count, &steps), 0);

	/* It trains on from them; what it learns is not acted on before it was sound for a time. */
	store_all(f);
	store_all(f);
	assert_true(brain_train_due(f->brain, 0.01) > 0);
	assert_int_equal(health(f), BRAIN_FELL_BACK);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, f->q[0]), 0);
	assert_memory_equal(before, f->q[0], sizeof(before));
	assert_int_equal(brain_copy_weights(f->brain, &kept, &count, &steps), 0);
	assert_memory_equal(good, kept, count * sizeof(float));
	free(good);
	free(kept);

	train_soundly(f, 1);
	assert_int_equal(health(f), BRAIN_SOUND);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, f->q[0]), 0);
	assert_memory_not_equal(before, f->q[0], sizeof(before));
}

static void test_weights_of_a_checkpoint_are_good_weights(void **state)
{
	struct fixture *f = *state;
	float *weights, q[ACTION_VERTICAL];
	uint64_t steps;
	size_t count;

	assert_int_equal(brain_copy_weights(f->brain, &weights, &count, &steps), 0);
	assert_int_equal(brain_adopt_weights(f->brain, weights, count), 0);
	free(weights);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, q), 0);
	poison(f);
	assert_true(brain_train_due(f->brain, 0.01) > 0);
	assert_int_equal(health(f), BRAIN_FELL_BACK);
	assert_int_equal(brain_evaluate(f->brain, f->states[0], 1, f->q[0]), 0);
	assert_memory_equal(q, f->q[0], sizeof(q));
}

/* Weights that training has not looked at yet. */
static void test_a_value_out_of_range_at_a_decision_is_divergence(void **state)
{
	struct fixture *f = *state;
	float states[2][STATE_SIZE];

	memcpy(states, f->states, sizeof(states));
	states[1][0] = 1e30F;
	assert_int_equal(brain_evaluate(f->brain, states[0], 2, f->q[0]), -ERANGE);
	assert_int_equal(brain_evaluate(f->brain, states[0], 1, f->q[0]), 0);
	/* The training thread hears of it, with no step due. */
	assert_int_equal(brain_train_due(f->brain, 0), 0);
	assert_int_equal(divergences(f), 1);
	assert_int_equal(health(f), BRAIN_UNUSABLE);
}

static void test_age_is_that_of_the_oldest_held(void **state)
{
	struct fixture *f = *state;
	struct brain_status status;

	brain_read_status(f->brain, &status);
	assert_true(status.age_s == 0);
	store_all(f);
	brain_read_status(f->brain, &status);
	assert_true(status.age_s >= 0 && status.age_s < 3600);
}

/* Bound and backlog: a burst is not worked off for ever. */
static void test_steps_keep_to_their_bound(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 100; i++)
		store_all(f);
	/* A tenth of a second's worth at most, whatever time has passed. */
	assert_int_equal(brain_train_due(f->brain, 100), 101);
	assert_int_equal(brain_train_due(f->brain, 0.05), 50);
	assert_int_equal(brain_train_due(f->brain, 0), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_batch_has_the_values_of_its_states_one_by_one),
		TEST(test_a_bad_experience_in_a_batch_is_left_out_alone),
		TEST(test_evaluation_while_training_sees_one_network),
		TEST(test_without_good_weights_a_diverged_brain_is_not_used),
		TEST(test_a_diverged_brain_decides_by_its_last_good_weights),
		TEST(test_weights_of_a_checkpoint_are_good_weights),
		TEST(test_a_value_out_of_range_at_a_decision_is_divergence),
		TEST(test_age_is_that_of_the_oldest_held),
		TEST(test_steps_keep_to_their_bound),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
