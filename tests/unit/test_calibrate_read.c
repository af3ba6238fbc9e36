// SPDX-License-Identifier: Apache-2.0
/* What the learner's journal writes is what calibrate reads. */
#include "learner/journal.h"
#include "learner/policy.h"
#include "learner/simulator/calibrate_read.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct calibrate_filter any;

static struct sample sample_make(void)
{
	return (struct sample){.tick_s = 0.2,
		.requests = 41,
		.requests_over = 3,
		.requests_failed = 1,
		.latency_p50_us = 2912,
		.latency_p95_us = 8100.5,
		.latency_p99_us = 12000,
		.latency_objective_us = 12000,
		.in_flight = 2,
		.cpu_used_us = 123456,
		.cpu_allocated_us = 200000,
		.throttled_us = 7,
		.memory_used_bytes = 123456789012,
		.containers = 2,
		.cpu_limit_millicores = 512.5,
		.refills = 4};
}

static void assert_samples_equal(const struct sample *found, const struct sample *wanted)
{
#define X(field) assert_true(found->field == wanted->field);
	SAMPLE_FIELDS(X)
#undef X
}

static int read_text(const char *text, const struct calibrate_filter *filter,
	struct sample **samples, uint32_t *count, char *name, char *error)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	int err;

	assert_non_null(file);
	err = calibrate_read(file, "journal", filter, samples, count, name, 200, error, 200);
	fclose(file);
	return err;
}

static void test_the_journals_samples_are_read_back(void **state)
{
	char path[] = "/tmp/ebbtide-journal-XXXXXX", name[200], error[200];
	struct vertical_decision decision = {.action = ACTION_VERTICAL_HOLD, .why = "because"};
	struct horizontal_decision horizontal = {.action = ACTION_HORIZONTAL_HOLD};
	struct service service = {.namespace = "default", .name = "fibonacci"};
	struct service_unit unit = {
		.service = &service, .agent = "node-1", .sample = sample_make()};
	const struct decision_subject limits = {service.namespace, service.name, unit.agent};
	const struct decision_subject replicas = {service.namespace, service.name, NULL};
	const struct envelope_unit bounds = {.sample = &unit.sample};
	struct decision_record record;
	struct journal *journal;
	struct sample *samples;
	uint32_t count;
	FILE *file;

	(void)state;
	close(mkstemp(path));
	assert_int_equal(journal_open(&journal, path), 0);
	journal_sample(journal, 1, &service, &unit);
	decision_record_horizontal(&record, 1, &service, &horizontal, 0, false);
	journal_decision(journal, &replicas, &record);
	unit.sample.requests = 42;
	decision_record_vertical(&record, 2, &unit, &bounds, &decision, 0, false);
	journal_decision(journal, &limits, &record);
	/* It repeats a sample that is there. */
	record.pushed = true;
	journal_decision(journal, &limits, &record);
	snprintf(unit.agent, sizeof(unit.agent), "node-2");
	journal_sample(journal, 2, &service, &unit);
	journal_close(journal);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(calibrate_read(file, path, &any, &samples, &count, name, sizeof(name),
				 error, sizeof(error)),
		0);
	fclose(file);
	unlink(path);
	assert_string_equal(name, "default/fibonacci on node-1");
	assert_int_equal(count, 2);
	assert_samples_equal(&samples[1], &unit.sample);
	unit.sample.requests = 41;
	assert_samples_equal(&samples[0], &unit.sample);
	free(samples);
}

#define LINE(namespace, service, agent, requests)                                                  \
	"{\"namespace\":\"" namespace "\",\"service\":\"" service "\",\"agent\":\"" agent          \
				      "\",\"sample\":{\"tick_s\":1,\"requests\":" #requests "}}\n"

static void test_a_service_and_a_node_can_be_chosen(void **state)
{
	const char *text = LINE("a", "web", "n1", 1) LINE("b", "web", "n1", 2)
		LINE("b", "web", "n2", 3) LINE("b", "other", "n1", 4) LINE("b", "web", "n2", 5);
	struct calibrate_filter filter = {.namespace = "b", .service = "web"};
	struct sample *samples;
	uint32_t count;
	char name[200], error[200];

	(void)state;
	assert_int_equal(read_text(text, &any, &samples, &count, name, error), -EINVAL);
	assert_string_equal(
		error, "journal line 2: another service; choose one with --service NAMESPACE/NAME");
	assert_int_equal(read_text(text, &filter, &samples, &count, name, error), 0);
	assert_int_equal(count, 1);
	assert_int_equal(samples[0].requests, 2);
	free(samples);
	filter.agent = "n2";
	assert_int_equal(read_text(text, &filter, &samples, &count, name, error), 0);
	assert_int_equal(count, 2);
	assert_int_equal(samples[1].requests, 5);
	free(samples);
	filter.service = "none";
	assert_int_equal(read_text(text, &filter, &samples, &count, name, error), -ENODATA);
	assert_non_null(strstr(error, "no sample of that service in 5 lines"));
}

static void test_what_is_no_sample_is_named(void **state)
{
	const char *const texts[][2] = {
		{"{}\nnot json\n", "journal line 2: not a JSON object"},
		{"[1]\n", "journal line 1: not a JSON object"},
		{"{\"sample\":{\"tick_s\":1,\"requests\":-1}}",
			"journal line 1: sample.requests is not a number from 0 to"},
		{"{\"sample\":{\"tick_s\":1,\"requests\":\"5\"}}",
			"journal line 1: sample.requests is not a number"},
		{"{\"sample\":{\"tick_s\":1e300}}",
			"journal line 1: sample.tick_s is not a number"},
		{"{\"sample\":{}}", "journal line 1: sample.tick_s is not from 0.01 to 60"},
	};
	struct sample *samples;
	uint32_t count;
	char name[200], error[200];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(
			read_text(texts[i][0], &any, &samples, &count, name, error), -EINVAL);
		assert_non_null(strstr(error, texts[i][1]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_journals_samples_are_read_back),
		cmocka_unit_test(test_a_service_and_a_node_can_be_chosen),
		cmocka_unit_test(test_what_is_no_sample_is_named),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
