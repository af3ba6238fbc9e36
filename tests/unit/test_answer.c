// SPDX-License-Identifier: Apache-2.0
/* An answer of the learner, decoded into few pieces of memory. */
#include "node/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ACTIONS 500

struct fixture {
	uint8_t *bytes;
	size_t size;
};

static int setup(void **state)
{
	static Ebbtide__Wire__Action actions[ACTIONS];
	static Ebbtide__Wire__Allowance allowances[ACTIONS];
	static Ebbtide__Wire__Action *list[ACTIONS];
	static char names[ACTIONS][32];
	static float q[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
	Ebbtide__Wire__Answer answer = EBBTIDE__WIRE__ANSWER__INIT;
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	for (int i = 0; i < ACTIONS; i++) {
		ebbtide__wire__action__init(&actions[i]);
		ebbtide__wire__allowance__init(&allowances[i]);
		snprintf(names[i], sizeof(names[i]), "service-%d", i);
		actions[i].service = names[i];
		actions[i].why = "hold: nothing to do";
		actions[i].q = q;
		actions[i].n_q = 9;
		actions[i].cpu_limit_millicores = i;
		allowances[i].burst_us = (uint64_t)i;
		actions[i].allowance = &allowances[i];
		list[i] = &actions[i];
	}
	answer.sequence = 3;
	answer.n_actions = ACTIONS;
	answer.actions = list;
	f->size = ebbtide__wire__answer__get_packed_size(&answer);
	f->bytes = malloc(f->size);
	assert_non_null(f->bytes);
	ebbtide__wire__answer__pack(&answer, f->bytes);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->bytes);
	free(f);
	return 0;
}

static void test_all_of_it_is_there(void **state)
{
	struct fixture *f = *state;
	struct answer_memory memory;
	Ebbtide__Wire__Answer *answer = answer_decode(&memory, f->bytes, f->size);
	char name[32];

	assert_non_null(answer);
	assert_int_equal(answer->sequence, 3);
	assert_int_equal(answer->n_actions, ACTIONS);
	for (int i = 0; i < ACTIONS; i++) {
		const Ebbtide__Wire__Action *action = answer->actions[i];

		snprintf(name, sizeof(name), "service-%d", i);
		assert_string_equal(action->service, name);
		assert_string_equal(action->why, "hold: nothing to do");
		assert_string_equal(action->rule, "");
		assert_int_equal(action->n_q, 9);
		assert_true(action->q[8] == 8);
		assert_true(action->cpu_limit_millicores == i);
		assert_int_equal(action->allowance->burst_us, i);
	}
	answer_free(&memory);
}

static void test_a_cut_answer_is_none(void **state)
{
	struct fixture *f = *state;
	struct answer_memory memory;

	for (size_t size = 1; size < 64; size++) {
		assert_null(answer_decode(&memory, f->bytes, f->size - size));
		answer_free(&memory);
	}
}

static void test_no_bytes_are_an_answer_without_actions(void **state)
{
	struct answer_memory memory;
	Ebbtide__Wire__Answer *answer = answer_decode(&memory, NULL, 0);

	(void)state;
	assert_non_null(answer);
	assert_int_equal(answer->n_actions, 0);
	answer_free(&memory);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_of_it_is_there),
		TEST(test_a_cut_answer_is_none),
		TEST(test_no_bytes_are_an_answer_without_actions),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
