// SPDX-License-Identifier: Apache-2.0
/* Both networks to and from the state directory: the newest sound checkpoint is the one taken. */
#include "learner/learner.h"

#include "common/log.h"
#include "learner/dqn/checkpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char directory[64];
	struct learner learner;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct brain_options options = {.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = 64,
		.replay_ratio = 1,
		.updates_per_s_max = 10};

	if (!f)
		return -1;
	snprintf(f->directory, sizeof(f->directory), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	log_init("test", (enum log_level)0);
	train_config_init(&options.train);
	options.train.anchor = 1000;
	f->learner.config.state_directory = f->directory;
	f->learner.config.pretrained = "none";
	f->learner.config.checkpoints = 3;
	pthread_mutex_init(&f->learner.lock, NULL);
	atomic_store(&f->learner.leader, true);
	*state = f;
	if (brain_open(&f->learner.vertical, &options))
		return -1;
	options.actions = ACTION_HORIZONTAL;
	return brain_open(&f->learner.horizontal, &options);
}

static void remove_all(const char *directory)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;

	while (stream && (entry = readdir(stream))) {
		char path[400];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		if (unlink(path) != 0)
			remove_all(path);
	}
	if (stream)
		closedir(stream);
	rmdir(directory);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	brain_close(f->learner.vertical);
	brain_close(f->learner.horizontal);
	remove_all(f->directory);
	free(f);
	return 0;
}

/* The vertical network's first weight stands for all. */
static void weight_set(struct fixture *f, float value)
{
	float *weights;
	uint64_t steps;
	size_t count;

	assert_int_equal(brain_copy_weights(f->learner.vertical, &weights, &count, &steps), 0);
	weights[0] = value;
	assert_int_equal(brain_adopt_weights(f->learner.vertical, weights, count), 0);
	free(weights);
}

static float weight_get(struct fixture *f)
{
	float *weights, value;
	uint64_t steps;
	size_t count;

	assert_int_equal(brain_copy_weights(f->learner.vertical, &weights, &count, &steps), 0);
	value = weights[0];
	free(weights);
	return value;
}

/* Checkpoints with weights 1, 2 and 3; what the network has afterwards is none of them. */
static void save_three(struct fixture *f)
{
	for (int i = 1; i <= 3; i++) {
		weight_set(f, (float)i);
		assert_int_equal(persist_save(&f->learner), 0);
	}
	weight_set(f, 9);
}

static void path_to(const struct fixture *f, const char *name, char out[256])
{
	snprintf(out, 256, "%s/%s", f->directory, name);
}

static void damage(const struct fixture *f, const char *name)
{
	char path[256];

	path_to(f, name, path);
	assert_int_equal(truncate(path, 1000), 0);
}

static bool exists(const struct fixture *f, const char *name)
{
	char path[256];

	path_to(f, name, path);
	return access(path, F_OK) == 0;
}

static void test_the_newest_is_loaded(void **state)
{
	save_three(*state);
	persist_load(&((struct fixture *)*state)->learner);
	assert_true(weight_get(*state) == 3);
}

static void test_a_damaged_newest_falls_back_to_the_one_before(void **state)
{
	struct fixture *f = *state;

	save_three(f);
	damage(f, "vertical.checkpoint");
	persist_load(&f->learner);
	assert_true(weight_get(f) == 2);
	/* It is kept to be looked at, and takes no sound one's place. */
	assert_true(exists(f, "damaged/vertical.checkpoint"));
	weight_set(f, 4);
	assert_int_equal(persist_save(&f->learner), 0);
	damage(f, "vertical.checkpoint");
	persist_load(&f->learner);
	assert_true(weight_get(f) == 2);
	assert_true(exists(f, "damaged/vertical.checkpoint.1"));
}

static void test_the_oldest_is_better_than_none(void **state)
{
	struct fixture *f = *state;

	save_three(f);
	damage(f, "vertical.checkpoint");
	damage(f, "vertical.checkpoint.1");
	persist_load(&f->learner);
	assert_true(weight_get(f) == 1);
	assert_true(exists(f, "horizontal.checkpoint"));
}

static void test_with_none_that_is_sound_the_network_stays_new(void **state)
{
	struct fixture *f = *state;

	save_three(f);
	damage(f, "vertical.checkpoint");
	damage(f, "vertical.checkpoint.1");
	damage(f, "vertical.checkpoint.2");
	persist_load(&f->learner);
	assert_true(weight_get(f) == 9);
	assert_int_equal(persist_save(&f->learner), 0);
	weight_set(f, 1);
	persist_load(&f->learner);
	assert_true(weight_get(f) == 9);
}

static void test_another_schema_is_set_aside_for_a_new_network(void **state)
{
	struct fixture *f = *state;
	char path[256];
	float weights[4] = {1};
	struct checkpoint other = {.schema = STATE_SCHEMA + 1,
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.count = 4,
		.weights = weights};
	char aside[64];

	path_to(f, "vertical.checkpoint", path);
	for (int i = 0; i < 2; i++)
		assert_int_equal(checkpoint_write(path, &other, 3), 0);
	weight_set(f, 9);
	persist_load(&f->learner);
	assert_true(weight_get(f) == 9);
	assert_false(exists(f, "vertical.checkpoint"));
	assert_false(exists(f, "vertical.checkpoint.1"));
	snprintf(aside, sizeof(aside), "schema-%d/vertical.checkpoint", STATE_SCHEMA + 1);
	assert_true(exists(f, aside));
	strcat(aside, ".1");
	assert_true(exists(f, aside));
}

static void test_a_standby_writes_none(void **state)
{
	struct fixture *f = *state;

	atomic_store(&f->learner.leader, false);
	assert_int_equal(persist_save(&f->learner), 0);
	assert_false(exists(f, "vertical.checkpoint"));
}

static bool anchored(const struct fixture *f)
{
	struct brain_status status;

	brain_read_status(f->learner.vertical, &status);
	return status.anchored;
}

static void test_training_is_anchored_to_the_pretrained_network_behind_a_checkpoint_too(
	void **state)
{
	struct fixture *f = *state;

	save_three(f);
	persist_load(&f->learner);
	assert_true(weight_get(f) == 3);
	assert_false(anchored(f)); /* to none */
	f->learner.config.pretrained = NULL;
	persist_load(&f->learner);
	assert_true(weight_get(f) == 3);
	assert_true(anchored(f));
}

static void test_a_pretrained_network_begins_anchored_to_itself(void **state)
{
	struct fixture *f = *state;
	float before = weight_get(f);

	f->learner.config.pretrained = NULL;
	persist_load(&f->learner);
	assert_true(weight_get(f) != before);
	assert_true(anchored(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_newest_is_loaded),
		TEST(test_a_damaged_newest_falls_back_to_the_one_before),
		TEST(test_the_oldest_is_better_than_none),
		TEST(test_with_none_that_is_sound_the_network_stays_new),
		TEST(test_another_schema_is_set_aside_for_a_new_network),
		TEST(test_a_standby_writes_none),
		TEST(test_training_is_anchored_to_the_pretrained_network_behind_a_checkpoint_too),
		TEST(test_a_pretrained_network_begins_anchored_to_itself),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
