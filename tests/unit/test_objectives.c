// SPDX-License-Identifier: Apache-2.0
/* Which objective holds for a service when they come, change, move and go. */
#include "common/objectives.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct objective named(const char *name, const char *service, int64_t generation)
{
	struct objective objective;

	objective_init(&objective);
	snprintf(objective.name, sizeof(objective.name), "%s", name);
	snprintf(objective.service, sizeof(objective.service), "%s", service);
	objective.generation = generation;
	return objective;
}

static int put(struct objectives *all, const char *name, const char *service, int64_t generation)
{
	struct objective objective = named(name, service, generation), before;

	return objectives_put(all, &objective, &before);
}

static const char *holds(const struct objectives *all, const char *service)
{
	const struct objective *objective = objectives_of(all, "default", service);

	return objective ? objective->name : "none";
}

static void test_the_first_by_name_holds_in_whatever_order_they_come(void **state)
{
	struct objectives all = {0};
	struct objective before;

	(void)state;
	assert_string_equal(holds(&all, "web"), "none");
	assert_int_equal(put(&all, "b", "web", 1), 0);
	assert_string_equal(holds(&all, "web"), "b");
	assert_int_equal(put(&all, "a", "web", 1), 0);
	assert_int_equal(put(&all, "c", "web", 1), 0);
	assert_int_equal(put(&all, "0", "other", 1), 0);
	assert_string_equal(holds(&all, "web"), "a");
	assert_true(objectives_remove(&all, "default", "a", &before));
	assert_string_equal(before.service, "web");
	assert_string_equal(holds(&all, "web"), "b");
	assert_false(objectives_remove(&all, "default", "a", &before));
	assert_null(objectives_of(&all, "elsewhere", "web"));
	objectives_free(&all);
}

static void test_one_that_names_another_service_says_which_it_was(void **state)
{
	struct objectives all = {0};
	struct objective objective = named("a", "old", 1), before;

	(void)state;
	assert_int_equal(objectives_put(&all, &objective, &before), 0);
	assert_string_equal(before.service, "");
	objective = named("a", "new", 2);
	assert_int_equal(objectives_put(&all, &objective, &before), 0);
	assert_string_equal(before.service, "old");
	assert_string_equal(holds(&all, "old"), "none");
	assert_string_equal(holds(&all, "new"), "a");
	objectives_free(&all);
}

static void test_an_older_generation_changes_nothing(void **state)
{
	struct objectives all = {0};

	(void)state;
	assert_int_equal(put(&all, "a", "web", 7), 0);
	assert_int_equal(put(&all, "a", "other", 6), -ESTALE);
	assert_string_equal(holds(&all, "web"), "a");
	assert_int_equal(put(&all, "a", "other", 7), 0);
	assert_string_equal(holds(&all, "other"), "a");
	objectives_free(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_by_name_holds_in_whatever_order_they_come),
		cmocka_unit_test(test_one_that_names_another_service_says_which_it_was),
		cmocka_unit_test(test_an_older_generation_changes_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
