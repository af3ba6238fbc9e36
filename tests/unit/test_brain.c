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

#define ROWS 150

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
		brain_evaluate(f->brain, f->states[0], rows, f->q[0]);
		for (uint32_t row = 0; row < rows; row++) {
			brain_evaluate(f->brain, f->states[row], 1, one);
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
		brain_evaluate(f->brain, states[0], 64, q[0]);
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
		assert_false(readers[i].torn);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_batch_has_the_values_of_its_states_one_by_one),
		TEST(test_a_bad_experience_in_a_batch_is_left_out_alone),
		TEST(test_evaluation_while_training_sees_one_network),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
