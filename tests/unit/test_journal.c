// SPDX-License-Identifier: Apache-2.0
/* The decisions file: lines that are JSON and say what was decided; a disk that does not take them. */
#include "learner/journal.h"
#include "learner/policy.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char path[64];
	struct journal *journal;
	struct service service;
	struct service_unit unit;
	struct vertical_decision decision;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	if (!f)
		return -1;
	*state = f;
	strcpy(f->path, "/tmp/ebbtide-journal-XXXXXX");
	fd = mkstemp(f->path);
	if (fd < 0 || journal_open(&f->journal, f->path))
		return -1;
	close(fd);
	strcpy(f->service.namespace, "default");
	strcpy(f->service.name, "fibonacci");
	strcpy(f->service.objective.policy, "dqn");
	f->service.objective.latency_percentile = 99.9;
	f->unit.service = &f->service;
	strcpy(f->unit.agent, "node-1");
	f->unit.sample.cpu_limit_millicores = 500;
	f->unit.sample.memory_limit_bytes = 1ULL << 40;
	f->unit.sample.requests = UINT64_MAX;
	f->decision.action = 7;
	f->decision.plan.cpu_millicores = 650.25;
	f->decision.rule = RULE_REVERT;
	strcpy(f->decision.why, "because");
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	journal_close(f->journal);
	unlink(f->path);
	free(f);
	return 0;
}

static void write_vertical_to(struct fixture *f, struct journal *journal)
{
	const struct decision_subject subject = {
		f->service.namespace, f->service.name, f->unit.agent};
	const struct envelope_unit bounds = {
		.sample = &f->unit.sample, .cpu_rung = 5, .demand = {350, 400}};
	struct decision_record record;

	decision_record_vertical(
		&record, 1700000000.25, &f->unit, &bounds, &f->decision, -0.25F, true);
	journal_decision(journal, &subject, &record);
}

static void write_vertical(struct fixture *f)
{
	write_vertical_to(f, f->journal);
}

/* The lines as one array; the caller decrefs. */
static json_t *lines(struct fixture *f)
{
	json_t *all = json_array();
	char line[8192];
	FILE *file;

	journal_flush(f->journal);
	file = fopen(f->path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		json_t *one = json_loads(line, 0, NULL);

		if (!one)
			fail_msg("not JSON: %s", line);
		assert_int_equal(line[strlen(line) - 1], '\n');
		json_array_append_new(all, one);
	}
	fclose(file);
	return all;
}

static const char *string(const json_t *line, const char *name)
{
	const char *value = json_string_value(json_object_get(line, name));

	assert_non_null(value);
	return value;
}

static double real(const json_t *line, const char *name)
{
	const json_t *value = json_object_get(line, name);

	assert_true(json_is_number(value));
	return json_number_value(value);
}

static void test_a_line_says_what_was_decided_and_from_what(void **state)
{
	struct fixture *f = *state;
	json_t *all, *line;
	const json_t *q;

	f->decision.has_q = true;
	f->decision.forbidden[0] = RULE_BOUNDS;
	for (int i = 0; i < ACTION_VERTICAL; i++)
		f->decision.q[i] = -0.123456F * (float)i;
	for (int i = 0; i < STATE_SIZE; i++)
		f->unit.state[i] = 1.5F / (float)(i + 1);
	f->decision.plan.allowance.trigger_age_share = 0.5;
	f->decision.plan.cpu_rung = 4;
	write_vertical(f);
	all = lines(f);
	assert_int_equal(json_array_size(all), 1);
	line = json_array_get(all, 0);
	assert_true(real(line, "time_us") == 1700000000250000.0);
	assert_string_equal(string(line, "kind"), "vertical");
	assert_string_equal(string(line, "agent"), "node-1");
	assert_string_equal(string(line, "action"), "cpu-up memory-hold");
	assert_string_equal(string(line, "rule"), "revert");
	assert_string_equal(string(line, "why"), "because");
	assert_true(json_is_true(json_object_get(line, "apply")));
	assert_true(json_is_false(json_object_get(line, "explored")));
	assert_true(real(line, "from_millicores") == 500);
	assert_true(real(line, "to_millicores") == 650.25);
	assert_true(real(line, "from_bytes") == (double)(1ULL << 40));
	assert_true(json_integer_value(json_object_get(line, "requests")) == INT64_MAX);
	assert_true(real(line, "trigger_age_share") == 0.5);
	assert_true(real(line, "from_rung") == 5 && real(line, "cpu_rung") == 4);
	assert_true(real(line, "rung_factor") == rungs[4].factor);
	assert_true(real(line, "demand_millicores") == 350);
	assert_true(real(line, "demand_peak_millicores") == 400);
	assert_true(real(line, "percentile") == 99.9 && real(line, "reward") == -0.25);
	assert_string_equal(string(line, "mode"), "observe");
	q = json_object_get(line, "q");
	assert_int_equal(json_object_size(q), ACTION_VERTICAL);
	for (uint32_t i = 0; i < ACTION_VERTICAL; i++)
		assert_true(
			fabs(real(q, action_vertical_name(i)) - (double)f->decision.q[i]) < 1e-6);
	assert_int_equal(json_object_size(json_object_get(line, "forbidden")), 1);
	assert_string_equal(
		string(json_object_get(line, "forbidden"), action_vertical_name(0)), "bounds");
	assert_int_equal(json_array_size(json_object_get(line, "state")), STATE_SIZE);
	for (size_t i = 0; i < STATE_SIZE; i++)
		assert_true(
			fabs(json_number_value(json_array_get(json_object_get(line, "state"), i)) -
				(double)f->unit.state[i]) < 1e-6);
	json_decref(all);
}

static void test_what_is_no_number_or_would_end_a_string_is_still_json(void **state)
{
	struct fixture *f = *state;
	json_t *all, *line;

	strcpy(f->decision.why, "a \"quote\", a \\, a \n and a \t");
	f->unit.sample.latency_objective_us = (double)NAN;
	f->decision.plan.cpu_millicores = (double)INFINITY;
	write_vertical(f);
	all = lines(f);
	line = json_array_get(all, 0);
	assert_string_equal(string(line, "why"), f->decision.why);
	assert_true(json_is_null(json_object_get(line, "latency_us")));
	assert_true(json_is_null(json_object_get(line, "to_millicores")));
	json_decref(all);
}

static void test_lines_keep_their_order_and_none_is_missing(void **state)
{
	struct fixture *f = *state;
	json_t *all;

	for (int i = 0; i < 3000; i++) {
		f->unit.sample.requests = (uint64_t)i;
		write_vertical(f);
		if (i % 1000 == 0)
			journal_flush(f->journal);
	}
	all = lines(f);
	assert_int_equal(json_array_size(all), 3000);
	for (size_t i = 0; i < 3000; i++)
		assert_true(real(json_array_get(all, i), "requests") == (double)i);
	assert_int_equal(journal_dropped(f->journal), 0);
	json_decref(all);
}

static void test_the_longest_names_fit(void **state)
{
	struct fixture *f = *state;
	json_t *all;

	memset(f->service.name, 'n', sizeof(f->service.name) - 1);
	memset(f->service.namespace, 's', sizeof(f->service.namespace) - 1);
	memset(f->unit.agent, 'a', sizeof(f->unit.agent) - 1);
	memset(f->decision.why, 'w', sizeof(f->decision.why) - 1);
	f->decision.has_q = true;
	for (int i = 0; i < ACTION_VERTICAL; i++)
		f->decision.forbidden[i] = RULE_OVER_OBJECTIVE;
	write_vertical(f);
	all = lines(f);
	assert_string_equal(string(json_array_get(all, 0), "service"), f->service.name);
	assert_int_equal(
		json_array_size(json_object_get(json_array_get(all, 0), "state")), STATE_SIZE);
	json_decref(all);
}

static void test_replicas_have_lines_too(void **state)
{
	struct fixture *f = *state;
	struct horizontal_decision decision = {.action = 2, .replicas = 4, .why = "more"};
	const struct decision_subject subject = {f->service.namespace, f->service.name, NULL};
	struct decision_record record;
	json_t *all, *line;

	f->service.replicas = 3;
	f->service.period.requests = 12;
	decision_record_horizontal(&record, 1, &f->service, &decision, -0.5F, false);
	journal_decision(f->journal, &subject, &record);
	all = lines(f);
	line = json_array_get(all, 0);
	assert_string_equal(string(line, "kind"), "horizontal");
	assert_string_equal(string(line, "action"), "replicas-up");
	assert_true(real(line, "from_replicas") == 3 && real(line, "to_replicas") == 4);
	assert_true(real(line, "reward") == -0.5);
	assert_null(json_object_get(line, "agent"));
	/* What reads units' samples passes it over. */
	assert_null(json_object_get(line, "sample"));
	assert_true(real(json_object_get(line, "period"), "requests") == 12);
	json_decref(all);
}

static void test_a_full_disk_costs_lines_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct journal *full;

	assert_int_equal(journal_open(&full, "/dev/full"), 0);
	for (int i = 0; i < 10; i++)
		write_vertical_to(f, full);
	journal_flush(full);
	assert_int_equal(journal_dropped(full), 10);
	journal_close(full);
	/* Without one there is nothing to write. */
	write_vertical_to(f, NULL);
	assert_int_equal(journal_dropped(NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_line_says_what_was_decided_and_from_what),
		TEST(test_what_is_no_number_or_would_end_a_string_is_still_json),
		TEST(test_lines_keep_their_order_and_none_is_missing),
		TEST(test_the_longest_names_fit),
		TEST(test_replicas_have_lines_too),
		TEST(test_a_full_disk_costs_lines_and_nothing_else),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
