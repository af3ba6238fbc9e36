// SPDX-License-Identifier: Apache-2.0
/* Decisions of one service out of a learner's decisions file. */
#include "ctl/explain_source.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LINES_MAX 65536

struct fixture {
	char path[64];
	char text[LINES_MAX];
	char error[512];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	strcpy(f->path, "/tmp/ebbtide-explain-XXXXXX");
	close(mkstemp(f->path));
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	free(f);
	return 0;
}

__attribute__((format(printf, 2, 3))) static void add(struct fixture *f, const char *format, ...)
{
	size_t used = strlen(f->text);
	va_list args;

	va_start(args, format);
	vsnprintf(f->text + used, sizeof(f->text) - used, format, args);
	va_end(args);
	assert_true(strlen(f->text) < sizeof(f->text) - 1);
}

static void add_decision(struct fixture *f, int time_us, const char *namespace, const char *service,
	const char *agent)
{
	if (agent)
		add(f,
			"{\"time_us\":%d,\"kind\":\"vertical\",\"namespace\":\"%s\",\"service\":"
			"\"%s\",\"agent\":\"%s\",\"sample\":{\"tick_s\":1}}\n",
			time_us, namespace, service, agent);
	else
		add(f,
			"{\"time_us\":%d,\"kind\":\"horizontal\",\"namespace\":\"%s\",\"service\":"
			"\"%s\",\"period\":{\"tick_s\":1}}\n",
			time_us, namespace, service);
}

/* 0: " TIME TIME" of what is shown, with a '+' where it is known what came of it; -errno. */
static int read_text(struct fixture *f, const struct explain_question *question, char *shown)
{
	FILE *file = fopen(f->path, "w");
	const json_t *decision;
	json_t *answer, *selected;
	size_t i;
	int err;

	assert_non_null(file);
	fputs(f->text, file);
	fclose(file);
	err = explain_read(f->path, question, &answer, f->error, sizeof(f->error));
	shown[0] = '\0';
	if (err) {
		assert_null(answer);
		return err;
	}
	selected = explain_select(answer, question->at_us, question->count);
	json_array_foreach (selected, i, decision)
		sprintf(shown + strlen(shown), " %lld%s",
			(long long)json_integer_value(json_object_get(decision, "time_us")),
			json_is_null(json_object_get(decision, "after")) ? "" : "+");
	json_decref(selected);
	json_decref(answer);
	return 0;
}

static void assert_shown(
	struct fixture *f, const struct explain_question *question, const char *wanted)
{
	char shown[4096];

	if (read_text(f, question, shown))
		fail_msg("%s", f->error);
	assert_string_equal(shown, wanted);
}

static void assert_refused(
	struct fixture *f, const struct explain_question *question, int wanted, const char *part)
{
	char shown[4096];

	assert_int_equal(read_text(f, question, shown), wanted);
	if (!strstr(f->error, part))
		fail_msg("expected \"%s\" in: %s", part, f->error);
}

static void test_the_newest_of_the_unit_decided_on_last(void **state)
{
	struct fixture *f = *state;
	struct explain_question question = {.service = "web", .at_us = UINT64_MAX, .count = 2};

	add_decision(f, 1, "a", "web", "node-1");
	add_decision(f, 2, "a", "other", "node-1");
	add_decision(f, 3, "a", "web", "node-2");
	add_decision(f, 4, "a", "web", "node-1");
	add_decision(f, 5, "a", "web", NULL);
	add_decision(f, 6, "a", "web", "node-1");
	add_decision(f, 7, "a", "web-2", "node-2");
	assert_shown(f, &question, " 4+ 5 6");
	question.unit = "node-2";
	assert_shown(f, &question, " 3 5");
	question.unit = NULL;
	/* By then it was the other. */
	question.at_us = 3;
	question.count = 9;
	assert_shown(f, &question, " 3");
	question.at_us = 4;
	assert_shown(f, &question, " 1+ 4+");
}

static void test_a_sample_without_a_decision_tells_what_came_of_the_last(void **state)
{
	struct fixture *f = *state;
	struct explain_question question = {.service = "a/web", .at_us = UINT64_MAX, .count = 9};

	add(f, "{\"time_us\":1,\"kind\":\"sample\",\"namespace\":\"a\",\"service\":\"web\","
	       "\"agent\":\"n\",\"sample\":{\"tick_s\":1}}\n");
	add_decision(f, 2, "a", "web", "n");
	for (int i = 3; i < 100; i++)
		add(f,
			"{\"time_us\":%d,\"kind\":\"sample\",\"namespace\":\"a\",\"service\":"
			"\"web\",\"agent\":\"n\",\"sample\":{\"tick_s\":1}}\n",
			i);
	assert_shown(f, &question, " 2+");
}

static void test_many_lines_leave_as_many_as_were_asked_for(void **state)
{
	struct fixture *f = *state;
	struct explain_question question = {.service = "web", .at_us = 390, .count = 3};

	for (int i = 1; i <= 400; i++)
		add_decision(f, i, "a", "web", "n");
	assert_shown(f, &question, " 388+ 389+ 390+");
	question.at_us = UINT64_MAX;
	assert_shown(f, &question, " 398+ 399+ 400");
}

static void test_what_cannot_be_told_is_named(void **state)
{
	struct fixture *f = *state;
	struct explain_question question = {.service = "web", .at_us = UINT64_MAX, .count = 1};
	char error[512];
	json_t *answer;

	add_decision(f, 10, "a", "web", "node-1");
	question.service = "cart";
	assert_refused(f, &question, -ENOENT, "no decision on cart in 1 lines");
	question.service = "b/web";
	assert_refused(f, &question, -ENOENT, "no decision on b/web in 1 lines");
	question.service = "web";
	question.unit = "node-9";
	assert_refused(f, &question, -ENOENT, "no decision on web on node node-9 in 1 lines");
	question.unit = NULL;
	question.at_us = 9;
	assert_refused(f, &question, -ENOENT, "no decision on web by that time in 1 lines");
	question.at_us = UINT64_MAX;
	add_decision(f, 11, "b", "web", "node-1");
	assert_refused(f, &question, -EINVAL, "in several namespaces; give a/web or b/web");
	question.service = "b/web";
	assert_shown(f, &question, " 11");
	/* The last line may be under way; one before it may not. */
	add(f, "{\"service\":\"web\",");
	assert_shown(f, &question, " 11");
	add(f, "\n");
	assert_refused(f, &question, -EINVAL, "line 3: not a JSON object");
	assert_int_equal(
		explain_read("/nowhere/at/all", &question, &answer, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "/nowhere/at/all: No such file"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_newest_of_the_unit_decided_on_last),
		TEST(test_a_sample_without_a_decision_tells_what_came_of_the_last),
		TEST(test_many_lines_leave_as_many_as_were_asked_for),
		TEST(test_what_cannot_be_told_is_named),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
