// SPDX-License-Identifier: Apache-2.0
/* GET /v1/decisions: whose decisions an answer has, and what it says when there are none. */
#include "learner/learner.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S 1000000ULL

struct fixture {
	struct learner learner;
	struct service *service;
	struct service_unit *units[2];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct train_config train;

	if (!f)
		return -1;
	*state = f;
	train_config_init(&train);
	pthread_mutex_init(&f->learner.lock, NULL);
	f->learner.services.decisions.bytes = 1 << 20;
	f->service = services_get(&f->learner.services, "default", "fibonacci");
	if (!f->service)
		return -1;
	f->service->has_objective = true;
	f->service->objective.mode = OBJECTIVE_AUTO;
	strcpy(f->service->objective.policy, "dqn");
	for (int i = 0; i < 2; i++) {
		f->units[i] = service_get_unit(f->service, i ? "node-1" : "node-0", &train);
		if (!f->units[i])
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->learner.services);
	free(f);
	return 0;
}

static void keep(struct fixture *f, int unit, uint64_t time_us)
{
	struct decision_record record = {.time_us = time_us,
		.kind = unit < 0 ? DECISION_HORIZONTAL : DECISION_VERTICAL,
		.action = 0,
		.has_q = true,
		.sample.tick_s = 1};

	decisions_keep(&f->learner, f->service, unit < 0 ? NULL : f->units[unit], &record);
}

/* The answer; the caller decrefs. */
static json_t *ask(struct fixture *f, const struct decisions_query *query)
{
	unsigned int status;
	json_t *answer;
	size_t size;
	char *body;

	status = decisions_answer(&f->learner, query, &body, &size);
	assert_non_null(body);
	if (status != 200)
		fail_msg("%u: %s", status, body);
	answer = json_loads(body, 0, NULL);
	if (!answer)
		fail_msg("not JSON: %s", body);
	assert_int_equal(size, strlen(body));
	free(body);
	return answer;
}

static void assert_refused(struct fixture *f, const struct decisions_query *query,
	unsigned int wanted, const char *part)
{
	unsigned int status;
	size_t size;
	char *body;

	status = decisions_answer(&f->learner, query, &body, &size);
	assert_non_null(body);
	if (status != wanted || !strstr(body, part))
		fail_msg("expected %u \"%s\", got %u: %s", wanted, part, status, body);
	assert_int_equal(body[size - 1], '\n');
	free(body);
}

/* " v7 v8 h5": kind and second of each. */
static void assert_decisions(json_t *answer, const char *wanted)
{
	const json_t *decisions = json_object_get(answer, "decisions"), *one;
	char got[512] = "";
	size_t i;

	json_array_foreach (decisions, i, one) {
		size_t used = strlen(got);

		snprintf(got + used, sizeof(got) - used, " %c%lld",
			json_string_value(json_object_get(one, "kind"))[0],
			(long long)(json_integer_value(json_object_get(one, "time_us")) /
				    (json_int_t)S));
		assert_string_equal(
			json_string_value(json_object_get(one, "service")), "fibonacci");
	}
	assert_string_equal(got, wanted);
	json_decref(answer);
}

static void test_the_newest_of_limits_and_of_replicas_are_given(void **state)
{
	struct fixture *f = *state;
	json_t *answer;

	for (uint64_t i = 1; i <= 9; i++)
		keep(f, 1, i * S);
	keep(f, 0, 3 * S);
	keep(f, -1, 5 * S);
	answer = ask(f, &(struct decisions_query){.service = "fibonacci"});
	assert_int_equal(json_integer_value(json_object_get(answer, "unit_count")), 2);
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(answer, "units"), 1)), "node-1");
	assert_int_equal(json_integer_value(json_object_get(answer, "since_us")), S);
	assert_decisions(answer, " v9 h5");
	assert_decisions(
		ask(f, &(struct decisions_query){.service = "default/fibonacci", .count = "3"}),
		" v7 v8 v9 h5");
	assert_decisions(
		ask(f, &(struct decisions_query){.service = "default/fibonacci", .unit = "node-0"}),
		" v3 h5");
}

static void test_a_time_gives_what_was_in_force_then_and_what_came_of_it(void **state)
{
	struct fixture *f = *state;

	keep(f, 0, 2 * S);
	keep(f, 0, 4 * S);
	keep(f, 1, 3 * S);
	keep(f, 1, 6 * S);
	keep(f, -1, 1 * S);
	keep(f, -1, 11 * S);
	/* The newest by then was on node-1. */
	assert_decisions(
		ask(f, &(struct decisions_query){.service = "fibonacci", .at_us = "3500000"}),
		" v3 v6 h1 h11");
	assert_decisions(ask(f, &(struct decisions_query){.service = "fibonacci",
					.at_us = "3500000",
					.unit = "node-0"}),
		" v2 v4 h1 h11");
	assert_refused(f, &(struct decisions_query){.service = "fibonacci", .at_us = "999999"}, 404,
		"from before 1970-01-01T00:00:01Z");
}

static void test_what_does_not_fit_is_named(void **state)
{
	struct fixture *f = *state;

	keep(f, 0, S);
	assert_refused(f, &(struct decisions_query){0}, 400, "service: give a NAME");
	assert_refused(f, &(struct decisions_query){.service = "matrix"}, 404,
		"\"matrix\" is not known to this learner");
	assert_refused(f, &(struct decisions_query){.service = "other/fibonacci"}, 404,
		"\"other/fibonacci\" is not known");
	assert_refused(f, &(struct decisions_query){.service = "fibonacci", .unit = "node-9"}, 404,
		"\"node-9\" does not report fibonacci; there are [\"node-0\",\"node-1\"]");
	assert_refused(f, &(struct decisions_query){.service = "fibonacci", .at_us = "12x"}, 400,
		"at: \"12x\" is not a whole number");
	assert_refused(f, &(struct decisions_query){.service = "fibonacci", .count = "0"}, 400,
		"n: \"0\" is not a whole number from 1 to 512");
	assert_refused(f, &(struct decisions_query){.service = "fibonacci", .count = "513"}, 400,
		"n: \"513\"");
	assert_non_null(services_get(&f->learner.services, "other", "fibonacci"));
	assert_refused(f, &(struct decisions_query){.service = "fibonacci"}, 400,
		"several namespaces, give NAMESPACE/NAME: default other");
}

static void test_without_decisions_the_reason_is_said(void **state)
{
	struct fixture *f = *state;
	const struct decisions_query query = {.service = "fibonacci"};

	assert_refused(f, &query, 404, "nothing has been decided for fibonacci yet: 2 nodes");
	f->service->objective.mode = OBJECTIVE_OBSERVE;
	assert_refused(f, &query, 404, "the mode of fibonacci is observe");
	f->service->has_objective = false;
	assert_refused(f, &query, 404, "has no ScaleObjective");
	f->learner.services.decisions.bytes = 0;
	assert_refused(f, &query, 404, "--decisions-mib");
}

static void test_a_service_on_many_nodes_names_some_of_them(void **state)
{
	struct fixture *f = *state;
	struct train_config train;
	json_t *answer;
	char node[300];

	train_config_init(&train);
	for (int i = 0; i < 100; i++) {
		memset(node, 'n', sizeof(node));
		snprintf(node + 240, sizeof(node) - 240, "-%d", i);
		assert_non_null(service_get_unit(f->service, node, &train));
	}
	keep(f, 0, S);
	answer = ask(f, &(struct decisions_query){.service = "fibonacci"});
	assert_int_equal(json_integer_value(json_object_get(answer, "unit_count")), 102);
	assert_true(json_array_size(json_object_get(answer, "units")) > 2);
	assert_true(json_array_size(json_object_get(answer, "units")) < 102);
	assert_decisions(answer, " v1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_newest_of_limits_and_of_replicas_are_given),
		TEST(test_a_time_gives_what_was_in_force_then_and_what_came_of_it),
		TEST(test_what_does_not_fit_is_named),
		TEST(test_without_decisions_the_reason_is_said),
		TEST(test_a_service_on_many_nodes_names_some_of_them),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
