// SPDX-License-Identifier: Apache-2.0
/* A learner that ends and starts again: what it acknowledged is there, once. */
#include "learner/learner.h"

#include "common/log.h"
#include "wire.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define UNITS_MOST 64
#define CAPACITY   256

struct fixture {
	char directory[64];
	struct learner *learner;
	char error[256];
};

static struct learner *learner_make(const char *directory)
{
	struct learner *learner = calloc(1, sizeof(*learner));
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = CAPACITY,
		.replay_ratio = 1,
		.updates_per_s_max = 100};

	assert_non_null(learner);
	train_config_init(&options.train);
	options.train.n_step = 3;
	options.train.warmup = options.train.batch = 32;
	assert_int_equal(brain_open(&learner->vertical, &options), 0);
	options.name = "horizontal";
	options.actions = ACTION_HORIZONTAL;
	assert_int_equal(brain_open(&learner->horizontal, &options), 0);
	pthread_mutex_init(&learner->lock, NULL);
	random_seed(&learner->random, 1);
	policy_config_init(&learner->config.policy);
	learner->config.replay_capacity = CAPACITY;
	learner->config.state_directory = directory;
	assert_int_equal(experience_log_create(&learner->log), 0);
	return learner;
}

/* As a kill would leave it: nothing is flushed or said. */
static void learner_free(struct learner *learner)
{
	services_free(&learner->services);
	sequences_free(&learner->sequences);
	experience_log_free(learner->log);
	brain_close(learner->vertical);
	brain_close(learner->horizontal);
	free(learner);
}

static void restart(struct fixture *f)
{
	if (f->learner)
		learner_free(f->learner);
	f->learner = learner_make(f->directory);
	assert_int_equal(experience_log_start(f->learner), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	snprintf(f->directory, sizeof(f->directory), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	log_init("test", (enum log_level)0);
	signal(SIGXFSZ, SIG_IGN);
	*state = f;
	restart(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	DIR *stream = opendir(f->directory);
	struct dirent *entry;

	learner_free(f->learner);
	while (stream && (entry = readdir(stream))) {
		char path[400];

		snprintf(path, sizeof(path), "%s/%s", f->directory, entry->d_name);
		unlink(path);
	}
	if (stream)
		closedir(stream);
	rmdir(f->directory);
	free(f);
	return 0;
}

/* Another one for each sequence, within the feature's bounds. */
static float state_value(uint64_t sequence, int feature)
{
	float share = (float)(sequence % 997) / 997;

	return state_features[feature].lowest +
	       share * (state_features[feature].highest - state_features[feature].lowest);
}

/*
 * Tick @sequence of @agent: an experience of each of @units services, whose content follows from
 * all three. Answered: how many actions; else the error.
 */
static int report_on(struct learner *learner, const char *agent, uint64_t sequence, size_t units,
	char error[256])
{
	static Ebbtide__Wire__Unit unit[UNITS_MOST], *list[UNITS_MOST];
	static Ebbtide__Wire__Experience experience[UNITS_MOST];
	static char names[UNITS_MOST][16];
	static float states[UNITS_MOST][2][STATE_SIZE];
	Ebbtide__Wire__Report report = EBBTIDE__WIRE__REPORT__INIT;
	Ebbtide__Wire__Sample sample = EBBTIDE__WIRE__SAMPLE__INIT;
	Ebbtide__Wire__Answer *message;
	uint8_t *bytes, *answer = NULL;
	size_t size, answer_size = 0;
	int result;

	sample.tick_s = 1;
	sample.requests = 100;
	sample.containers = 1;
	sample.cpu_limit_millicores = 500;
	sample.memory_limit_bytes = 64 << 20;
	for (size_t i = 0; i < units; i++) {
		ebbtide__wire__unit__init(&unit[i]);
		ebbtide__wire__experience__init(&experience[i]);
		snprintf(names[i], sizeof(names[i]), "service-%zu", i);
		for (int k = 0; k < STATE_SIZE; k++) {
			states[i][0][k] = state_value(sequence, k);
			states[i][1][k] = state_value(sequence + 1, k);
		}
		experience[i].n_state = experience[i].n_next_state = STATE_SIZE;
		experience[i].state = states[i][0];
		experience[i].next_state = states[i][1];
		experience[i].action = (uint32_t)(sequence + i) % ACTION_VERTICAL;
		experience[i].reward = -(float)(sequence % 90) - (float)(agent[0] % 8) / 8;
		experience[i].terminal = sequence % 10 == 0;
		unit[i].namespace_ = (char *)"default";
		unit[i].service = names[i];
		unit[i].sample = &sample;
		unit[i].n_state = STATE_SIZE;
		unit[i].state = states[i][1];
		unit[i].decide = true;
		unit[i].experience = &experience[i];
		list[i] = &unit[i];
	}
	report.schema = STATE_SCHEMA;
	report.agent = (char *)agent;
	report.incarnation = 17;
	report.sequence = sequence;
	report.n_units = units;
	report.units = list;
	size = ebbtide__wire__report__get_packed_size(&report);
	bytes = malloc(size);
	assert_non_null(bytes);
	ebbtide__wire__report__pack(&report, bytes);
	error[0] = '\0';
	result = report_handle(learner, bytes, size, &answer, &answer_size, error, 256);
	free(bytes);
	if (result)
		return result;
	message = ebbtide__wire__answer__unpack(NULL, answer_size, answer);
	assert_non_null(message);
	result = (int)message->n_actions;
	ebbtide__wire__answer__free_unpacked(message, NULL);
	free(answer);
	return result;
}

static int report(struct fixture *f, const char *agent, uint64_t sequence, size_t units)
{
	return report_on(f->learner, agent, sequence, units, f->error);
}

static void objective_give(struct fixture *f, const char *name)
{
	struct service *service = services_get(&f->learner->services, "default", name);

	assert_non_null(service);
	service->has_objective = true;
	service->objective.cpu_max_millicores = 1000;
	service->objective.memory_max_bytes = 128 << 20;
}

static uint64_t stored(const struct fixture *f)
{
	return brain_replay(f->learner->vertical)->pushed;
}

static void assert_same_replay(const struct replay *a, const struct replay *b)
{
	size_t floats = (size_t)a->size * a->config.inputs * sizeof(float);

	assert_int_equal(a->size, b->size);
	assert_int_equal(a->head, b->head);
	assert_memory_equal(a->states, b->states, floats);
	assert_memory_equal(a->next_states, b->next_states, floats);
	assert_memory_equal(a->returns, b->returns, a->size * sizeof(float));
	assert_memory_equal(a->discounts, b->discounts, a->size * sizeof(float));
	assert_memory_equal(a->masks, b->masks, a->size * sizeof(uint64_t));
	assert_memory_equal(a->actions, b->actions, a->size);
}

static void test_the_replay_buffer_comes_back_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct learner *before = f->learner;

	for (uint64_t sequence = 1; sequence <= 25; sequence++) {
		assert_int_equal(report(f, "a", sequence, 3), 0);
		assert_int_equal(report(f, "b", sequence, 2), 0);
	}
	experience_log_stop(before);
	f->learner = NULL;
	restart(f);
	assert_true(stored(f) > 100);
	assert_same_replay(brain_replay(before->vertical), brain_replay(f->learner->vertical));
	for (uint32_t i = 0; i < 100; i++)
		assert_true(replay_priority(brain_replay(f->learner->vertical), i) ==
			    brain_replay(f->learner->vertical)->priority_max);
	learner_free(before);
}

static void test_n_step_windows_go_on_where_they_were(void **state)
{
	struct fixture *f = *state;
	struct learner *twin = learner_make("/nowhere");
	char error[256];

	/* The twin has no log and is never restarted. */
	experience_log_free(twin->log);
	twin->log = NULL;
	for (uint64_t sequence = 1; sequence <= 40; sequence++) {
		assert_int_equal(report(f, "a", sequence, 3), 0);
		assert_int_equal(report_on(twin, "a", sequence, 3, error), 0);
		if (sequence % 7 == 0)
			restart(f);
	}
	assert_same_replay(brain_replay(twin->vertical), brain_replay(f->learner->vertical));
	learner_free(twin);
}

static void test_a_report_whose_answer_was_lost_is_stored_once_and_answered(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	objective_give(f, "service-0");
	for (uint64_t sequence = 1; sequence <= 5; sequence++)
		assert_int_equal(report(f, "a", sequence, 1), 1);
	before = stored(f);
	restart(f);
	assert_int_equal(stored(f), before);
	objective_give(f, "service-0");
	assert_int_equal(report(f, "a", 5, 1), 1);
	assert_int_equal(stored(f), before);
	assert_int_equal(f->learner->counts.reports_repeated, 1);
	assert_int_equal(report(f, "a", 3, 1), 0);
	assert_int_equal(f->learner->counts.reports_repeated, 2);
	restart(f);
	assert_int_equal(stored(f), before);
}

static void test_a_report_that_cannot_be_written_is_not_acknowledged_nor_learnt(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, low;
	uint64_t known;

	assert_int_equal(report(f, "a", 1, 2), 0);
	known = stored(f);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = (struct rlimit){.rlim_cur = 200, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(report(f, "a", 2, 2), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(f->error, "not stored"));
	assert_int_equal(stored(f), known);
	assert_int_equal(f->learner->counts.reports, 1);
	/* The agent kept it and sends it again. */
	assert_int_equal(report(f, "a", 2, 2), 0);
	assert_int_equal(f->learner->counts.reports, 2);
	assert_int_equal(f->learner->counts.reports_repeated, 0);
	restart(f);
	assert_int_equal(report(f, "a", 2, 2), 0);
	assert_int_equal(f->learner->counts.reports_repeated, 1);
}

static void test_a_standby_takes_nothing(void **state)
{
	struct fixture *f = *state;

	experience_log_stop(f->learner);
	assert_int_equal(report(f, "a", 1, 1), -ESHUTDOWN);
	assert_int_equal(stored(f), 0);
	assert_int_equal(experience_log_start(f->learner), 0);
	assert_int_equal(report(f, "a", 1, 1), 0);
}

static void test_one_process_has_the_directory(void **state)
{
	struct fixture *f = *state;
	struct learner *other = learner_make(f->directory);

	assert_int_equal(experience_log_start(other), -EBUSY);
	experience_log_stop(f->learner);
	assert_int_equal(experience_log_start(other), 0);
	assert_int_equal(experience_log_start(f->learner), -EBUSY);
	learner_free(other);
}

static void test_taking_over_again_remembers_nothing_twice(void **state)
{
	struct fixture *f = *state;
	struct service *service;

	for (uint64_t sequence = 1; sequence <= 9; sequence++)
		assert_int_equal(report(f, "a", sequence, 1), 0);
	for (int i = 0; i < 3; i++) {
		uint64_t before = stored(f);

		experience_log_stop(f->learner);
		assert_int_equal(experience_log_start(f->learner), 0);
		assert_int_equal(stored(f), before);
		assert_int_equal(sequences_count(&f->learner->sequences), 1);
	}
	/* Exploration goes on where it was. */
	service = services_find(&f->learner->services, "default", "service-0");
	assert_int_equal(service->counts.experiences, 9);
	assert_true(service->counts.reward_sum == -45 - 9 * ('a' % 8) / 8.0);
}

static void test_sequences_outlive_the_segment_they_came_in(void **state)
{
	struct fixture *f = *state;
	struct segments_status status;
	char first[128];

	assert_int_equal(report(f, "early", 1, 1), 0);
	for (uint64_t sequence = 1; sequence <= 70; sequence++)
		assert_int_equal(report(f, "a", sequence, UNITS_MOST), 0);
	assert_true(experience_log_read_status(f->learner->log, &status));
	assert_true(status.experiences < 70 * UNITS_MOST);
	assert_true(status.experiences >= CAPACITY);
	snprintf(first, sizeof(first), "%s/replay-00000001.log", f->directory);
	assert_int_not_equal(access(first, F_OK), 0);
	restart(f);
	assert_int_equal(brain_replay(f->learner->vertical)->size, CAPACITY);
	assert_int_equal(report(f, "early", 1, 1), 0);
	for (uint64_t sequence = 1; sequence <= 70; sequence++)
		assert_int_equal(report(f, "a", sequence, 1), 0);
	assert_int_equal(f->learner->counts.reports_repeated, 71);
	assert_int_equal(f->learner->counts.reports, 0);
}

static void test_horizontal_experiences_come_back(void **state)
{
	struct fixture *f = *state;
	float numbers[STATE_SIZE] = {0.5F};
	struct experience experience = {.namespace = "default",
		.service = "service-0",
		.state = numbers,
		.next_state = numbers,
		.reward = -1,
		.action = ACTION_HORIZONTAL_HOLD,
		.end = REPLAY_CONTINUES,
		.next_mask = 7};

	for (int i = 0; i < 10; i++) {
		pthread_mutex_lock(&f->learner->lock);
		experience_log_queue(f->learner->log, &experience);
		pthread_mutex_unlock(&f->learner->lock);
		if (i % 3 == 0)
			experience_log_flush(f->learner);
	}
	/* Leaving as asked writes what waits. */
	experience_log_stop(f->learner);
	restart(f);
	/* Two of ten wait in the window of three steps. */
	assert_int_equal(brain_replay(f->learner->horizontal)->pushed, 8);
	assert_int_equal(services_find(&f->learner->services, "default", "service-0")
				 ->counts.scale_experiences,
		10);
	assert_int_equal(
		services_find(&f->learner->services, "default", "service-0")->stream.count, 2);
	assert_int_equal(stored(f), 0);
}

static void test_no_gradient_steps_follow_from_what_is_remembered(void **state)
{
	struct fixture *f = *state;

	for (uint64_t sequence = 1; sequence <= 50; sequence++)
		assert_int_equal(report(f, "a", sequence, 4), 0);
	assert_true(brain_train_due(f->learner->vertical, 1) > 0);
	restart(f);
	assert_true(stored(f) > 100);
	assert_int_equal(brain_train_due(f->learner->vertical, 10), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_replay_buffer_comes_back_as_it_was),
		TEST(test_n_step_windows_go_on_where_they_were),
		TEST(test_a_report_whose_answer_was_lost_is_stored_once_and_answered),
		TEST(test_a_report_that_cannot_be_written_is_not_acknowledged_nor_learnt),
		TEST(test_a_standby_takes_nothing),
		TEST(test_one_process_has_the_directory),
		TEST(test_taking_over_again_remembers_nothing_twice),
		TEST(test_sequences_outlive_the_segment_they_came_in),
		TEST(test_horizontal_experiences_come_back),
		TEST(test_no_gradient_steps_follow_from_what_is_remembered),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
