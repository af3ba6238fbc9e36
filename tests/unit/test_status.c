// SPDX-License-Identifier: Apache-2.0
/* What an objective's status says when a network has diverged. */
#include "learner/learner.h"
#include "unit/brain_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct learner learner;
	struct service *service;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	f->learner.vertical = brain("vertical", ACTION_VERTICAL);
	f->learner.horizontal = brain("horizontal", ACTION_HORIZONTAL);
	f->service = services_get(&f->learner.services, "default", "fibonacci");
	f->service->has_objective = true;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->learner.services);
	brain_close(f->learner.vertical);
	brain_close(f->learner.horizontal);
	free(f);
	return 0;
}

/* "True Sound", or NULL when there is no such condition. */
static const char *condition_of(struct fixture *f, const char *type)
{
	static char text[96];
	json_t *status = status_describe(&f->learner, f->service), *one;
	const char *found = NULL;
	size_t i;

	assert_non_null(status);
	json_array_foreach (json_object_get(status, "conditions"), i, one) {
		if (strcmp(json_string_value(json_object_get(one, "type")), type) != 0)
			continue;
		snprintf(text, sizeof(text), "%s %s",
			json_string_value(json_object_get(one, "status")),
			json_string_value(json_object_get(one, "reason")));
		assert_true(json_string_length(json_object_get(one, "message")) > 0);
		found = text;
	}
	json_decref(status);
	return found;
}

static const char *time_of(struct fixture *f, const char *type)
{
	static char text[64];
	json_t *status = status_describe(&f->learner, f->service), *one;
	size_t i;

	text[0] = '\0';
	json_array_foreach (json_object_get(status, "conditions"), i, one)
		if (strcmp(json_string_value(json_object_get(one, "type")), type) == 0)
			snprintf(text, sizeof(text), "%s",
				json_string_value(json_object_get(one, "lastTransitionTime")));
	json_decref(status);
	return text;
}

static void adopt(struct fixture *f, const char *type, const char *truth, const char *when)
{
	json_t *object = json_pack("{s:{s:[{s:s, s:s, s:s}]}}", "status", "conditions", "type",
		type, "status", truth, "lastTransitionTime", when);

	status_adopt(f->service, object);
	json_decref(object);
}

static void diverge(struct brain *brain)
{
	float state[STATE_SIZE] = {1e30F}, q[ACTION_VERTICAL];

	assert_true(brain_evaluate(brain, state, 1, q) != 0);
	brain_train_due(brain, 0);
}

static void test_a_sound_network_is_said_to_be(void **state)
{
	assert_string_equal(condition_of(*state, "PolicySound"), "True Sound");
}

static void test_divergence_is_in_the_status(void **state)
{
	struct fixture *f = *state;
	float *weights;
	uint64_t steps;
	size_t count;

	assert_int_equal(brain_copy_weights(f->learner.vertical, &weights, &count, &steps), 0);
	diverge(f->learner.vertical);
	assert_string_equal(condition_of(f, "PolicySound"), "False DivergedRulesDecide");
	/* With weights from a checkpoint there is something to fall back to. */
	assert_int_equal(brain_adopt_weights(f->learner.vertical, weights, count), 0);
	free(weights);
	assert_string_equal(condition_of(f, "PolicySound"), "True Sound");
	diverge(f->learner.vertical);
	assert_string_equal(condition_of(f, "PolicySound"), "False DivergedFellBack");
	/* The worse of the two counts. */
	diverge(f->learner.horizontal);
	assert_string_equal(condition_of(f, "PolicySound"), "False DivergedRulesDecide");
}

static void test_a_rules_service_has_no_such_condition(void **state)
{
	struct fixture *f = *state;

	strcpy(f->service->objective.policy, "k8s-cpu+hpa");
	assert_null(condition_of(f, "PolicySound"));
	assert_non_null(condition_of(f, "Measured"));
	strcpy(f->service->objective.policy, "dqn");
	assert_non_null(condition_of(f, "PolicySound"));
}

static void test_a_conditions_time_is_that_of_its_change(void **state)
{
	struct fixture *f = *state;

	/* As the leader before left them. */
	adopt(f, "Measured", "False", "2020-01-02T03:04:05Z");
	adopt(f, "PolicySound", "False", "2020-01-02T03:04:06Z");
	adopt(f, "Another", "True", "2020-01-02T03:04:07Z");
	assert_string_equal(time_of(f, "Measured"), "2020-01-02T03:04:05Z");
	assert_string_equal(time_of(f, "Measured"), "2020-01-02T03:04:05Z");
	/* It is sound now. */
	assert_string_not_equal(time_of(f, "PolicySound"), "2020-01-02T03:04:06Z");
	assert_int_equal(time_of(f, "PolicySound")[0], '2');
	/* What is known is newer than what the watch brings. */
	adopt(f, "Measured", "False", "2021-01-02T03:04:05Z");
	assert_string_equal(time_of(f, "Measured"), "2020-01-02T03:04:05Z");
	status_forget(f->service);
	assert_string_not_equal(time_of(f, "Measured"), "2020-01-02T03:04:05Z");
}

static void test_the_status_says_which_generation_it_is_of(void **state)
{
	struct fixture *f = *state;
	json_t *status, *one;
	size_t i;

	f->service->objective.generation = 7;
	status = status_describe(&f->learner, f->service);
	assert_int_equal(json_integer_value(json_object_get(status, "observedGeneration")), 7);
	assert_int_equal(json_array_size(json_object_get(status, "conditions")), 4);
	json_array_foreach (json_object_get(status, "conditions"), i, one)
		assert_int_equal(json_integer_value(json_object_get(one, "observedGeneration")), 7);
	json_decref(status);
}

static void test_nothing_is_said_that_is_not_known(void **state)
{
	struct fixture *f = *state;
	json_t *status, *advice;

	assert_string_equal(condition_of(f, "Measured"), "False NoAgentReports");
	assert_string_equal(condition_of(f, "ObjectiveMet"), "Unknown NotMeasured");
	status = status_describe(&f->learner, f->service);
	assert_true(json_is_null(json_object_get(status, "currentLatencyUs")));
	assert_true(json_is_null(json_object_get(status, "violationShare")));
	advice = json_object_get(status, "recommendation");
	assert_true(json_is_null(json_object_get(advice, "cpu")));
	assert_true(json_is_null(json_object_get(advice, "memory")));
	assert_true(json_is_null(json_object_get(advice, "replicas")));
	json_decref(status);
	f->service->recommended_millicores = 250;
	f->service->recommended_replicas = 2;
	status = status_describe(&f->learner, f->service);
	advice = json_object_get(status, "recommendation");
	assert_string_equal(json_string_value(json_object_get(advice, "cpu")), "250m");
	assert_int_equal(json_integer_value(json_object_get(advice, "replicas")), 2);
	assert_true(json_is_null(json_object_get(advice, "memory")));
	json_decref(status);
}

static void unit_say(struct fixture *f, const char *agent, double share)
{
	struct service_unit *unit =
		service_get_unit(f->service, agent, brain_train_config(f->learner.vertical));

	assert_non_null(unit);
	unit->state[STATE_violations] = (float)sqrt(share);
}

/* Also in mode observe, in which no state of the service is built. */
static void test_violations_are_what_the_agents_see(void **state)
{
	struct fixture *f = *state;
	json_t *status;

	f->service->objective.mode = OBJECTIVE_OBSERVE;
	unit_say(f, "node-1", 0.3);
	unit_say(f, "node-2", 0.1);
	status = status_describe(&f->learner, f->service);
	assert_float_equal(json_real_value(json_object_get(status, "violationShare")), 0.2, 1e-6);
	json_decref(status);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_sound_network_is_said_to_be),
		TEST(test_divergence_is_in_the_status),
		TEST(test_a_rules_service_has_no_such_condition),
		TEST(test_a_conditions_time_is_that_of_its_change),
		TEST(test_nothing_is_said_that_is_not_known),
		TEST(test_the_status_says_which_generation_it_is_of),
		TEST(test_violations_are_what_the_agents_see),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
