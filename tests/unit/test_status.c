// SPDX-License-Identifier: Apache-2.0
/* What an objective's status says when a network has diverged. */
#include "learner/learner.h"

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

static struct brain *brain(const char *name, uint32_t actions)
{
	struct brain_options options = {.name = name,
		.inputs = STATE_SIZE,
		.actions = actions,
		.capacity = 64,
		.replay_ratio = 1,
		.updates_per_s_max = 100};
	struct brain *made = NULL;

	train_config_init(&options.train);
	assert_int_equal(brain_open(&made, &options), 0);
	return made;
}

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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_sound_network_is_said_to_be),
		TEST(test_divergence_is_in_the_status),
		TEST(test_a_rules_service_has_no_such_condition),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
