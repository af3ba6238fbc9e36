// SPDX-License-Identifier: Apache-2.0
/* Actions between reports: what is kept for whom, what is sent once, who is woken. */
#include "learner/push.h"

#include "wire.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEARNER 17

struct poll {
	struct push_waiter waiter;
	int woken;
};

static void wake(void *context)
{
	((struct poll *)context)->woken++;
}

static int setup(void **state)
{
	struct push *push = calloc(1, sizeof(*push));

	if (!push)
		return -1;
	push_init(push, LEARNER);
	*state = push;
	return 0;
}

static int teardown(void **state)
{
	push_free(*state);
	free(*state);
	return 0;
}

/* What comes at once, or NULL. The caller frees. */
static Ebbtide__Wire__Answer *poll_now(
	struct push *push, const char *agent, uint64_t learner, uint64_t after)
{
	struct answer answer;
	Ebbtide__Wire__Answer *read;
	uint8_t *bytes;
	size_t size;
	int got = push_poll(push, agent, learner, after, 100, NULL, &answer);

	assert_true(got >= 0);
	if (got == 0)
		return NULL;
	assert_int_equal(answer_end(&answer, &bytes, &size), 0);
	read = ebbtide__wire__answer__unpack(NULL, size, bytes);
	free(bytes);
	assert_non_null(read);
	assert_int_equal(read->learner, LEARNER);
	return read;
}

static void assert_nothing(struct push *push, const char *agent, uint64_t after)
{
	assert_null(poll_now(push, agent, LEARNER, after));
}

static int wait_for(struct push *push, const char *agent, double now_s, struct poll *poll)
{
	struct answer answer;

	*poll = (struct poll){.waiter = {.wake = wake, .context = poll}};
	return push_poll(push, agent, LEARNER, push->number, now_s, &poll->waiter, &answer);
}

static bool add(struct push *push, const char *agent, const char *service, double millicores)
{
	char name[32], why[64];
	struct answer_action action = {.namespace = "default",
		.service = name,
		.apply = true,
		.cpu_limit_millicores = millicores,
		.why = why};
	bool added;

	snprintf(name, sizeof(name), "%s", service);
	snprintf(why, sizeof(why), "%.0fm", millicores);
	added = push_add(push, agent, &action);
	/* The texts are copied. */
	memset(name, 'x', sizeof(name));
	memset(why, 'x', sizeof(why));
	return added;
}

static void test_only_an_agent_that_polls_gets_pushes(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;

	assert_false(push_reaches(push, "a"));
	assert_false(add(push, "a", "s", 100));
	assert_nothing(push, "a", 0);
	assert_true(push_reaches(push, "a"));
	assert_true(add(push, "a", "s", 200));
	assert_nothing(push, "b", 0);
	answer = poll_now(push, "a", LEARNER, 0);
	assert_non_null(answer);
	assert_int_equal(answer->n_actions, 1);
	assert_string_equal(answer->actions[0]->service, "s");
	assert_string_equal(answer->actions[0]->why, "200m");
	assert_true(answer->actions[0]->cpu_limit_millicores == 200);
	assert_true(answer->actions[0]->number > 0);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_a_push_is_kept_until_the_agent_has_seen_it(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;
	uint64_t number;

	assert_nothing(push, "a", 0);
	add(push, "a", "s", 100);
	for (int lost = 0; lost < 3; lost++) {
		answer = poll_now(push, "a", LEARNER, 0);
		assert_int_equal(answer->n_actions, 1);
		number = answer->number;
		ebbtide__wire__answer__free_unpacked(answer, NULL);
	}
	assert_nothing(push, "a", number);
	/* Seen is seen. */
	assert_nothing(push, "a", 0);
	assert_int_equal(atomic_load(&push->pending), 0);
}

static void test_numbers_of_another_learner_say_nothing(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;

	assert_nothing(push, "a", 0);
	add(push, "a", "s", 100);
	answer = poll_now(push, "a", LEARNER + 1, UINT64_MAX);
	assert_non_null(answer);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	assert_nothing(push, "a", UINT64_MAX);
}

static void test_the_newest_action_of_a_unit_takes_the_place_of_the_last(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;
	uint64_t number = 0;

	assert_nothing(push, "a", 0);
	for (int i = 0; i < 10; i++) {
		add(push, "a", "s", 100 + i);
		add(push, "a", "t", 200 + i);
	}
	answer = poll_now(push, "a", LEARNER, 0);
	assert_int_equal(answer->n_actions, 2);
	for (size_t i = 0; i < 2; i++) {
		const Ebbtide__Wire__Action *action = answer->actions[i];

		assert_true(
			action->cpu_limit_millicores == (action->service[0] == 's' ? 109 : 209));
		assert_true(action->number != number);
		assert_true(action->number <= answer->number);
		number = action->number;
	}
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_a_newer_answer_makes_a_push_void(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;
	uint64_t number;

	assert_nothing(push, "a", 0);
	add(push, "a", "s", 100);
	add(push, "a", "t", 100);
	number = push_number(push);
	push_supersede(push, "a", "default", "s");
	push_supersede(push, "a", "other", "t");
	push_supersede(push, "nobody", "default", "t");
	answer = poll_now(push, "a", LEARNER, 0);
	assert_int_equal(answer->n_actions, 1);
	assert_string_equal(answer->actions[0]->service, "t");
	assert_true(answer->actions[0]->number < number);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_a_waiting_poll_is_woken_by_its_push_once(void **state)
{
	struct push *push = *state;
	struct poll a, b;

	assert_int_equal(wait_for(push, "a", 100, &a), 0);
	assert_int_equal(wait_for(push, "b", 100, &b), 0);
	assert_int_equal(push->waiting, 2);
	add(push, "a", "s", 100);
	add(push, "a", "t", 100);
	assert_int_equal(a.woken, 1);
	assert_int_equal(b.woken, 0);
	assert_int_equal(push->waiting, 1);
	push_forget(push, &a.waiter);
	push_forget(push, &b.waiter);
	push_forget(push, &b.waiter);
	assert_int_equal(push->waiting, 0);
	/* A connection that is gone is not woken; what comes is kept. */
	add(push, "b", "s", 100);
	assert_int_equal(b.woken, 0);
	assert_int_equal(atomic_load(&push->pending), 3);
}

static void test_a_second_poll_ends_the_first(void **state)
{
	struct push *push = *state;
	struct poll first, second;

	assert_int_equal(wait_for(push, "a", 100, &first), 0);
	assert_int_equal(wait_for(push, "a", 101, &second), 0);
	assert_int_equal(first.woken, 1);
	assert_int_equal(push->waiting, 1);
	push_forget(push, &first.waiter);
	add(push, "a", "s", 100);
	assert_int_equal(second.woken, 1);
	assert_int_equal(first.woken, 1);
}

static void test_polls_wait_so_long_and_no_longer(void **state)
{
	struct push *push = *state;
	struct poll polls[20];
	int woken = 0;

	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "node-%d", i);
		assert_int_equal(wait_for(push, name, 100 + i, &polls[i]), 0);
	}
	push_expire(push, 100 + PUSH_WAIT_S - 0.1);
	for (int i = 0; i < 20; i++)
		woken += polls[i].woken;
	assert_int_equal(woken, 0);
	push_expire(push, 109 + PUSH_WAIT_S);
	for (int i = 0; i < 20; i++)
		assert_int_equal(polls[i].woken, i < 10);
	assert_int_equal(push->waiting, 10);
}

static void test_agents_that_poll_no_more_are_forgotten(void **state)
{
	struct push *push = *state;
	struct poll poll;

	for (int i = 0; i < 1000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "node-%d", i);
		assert_nothing(push, name, 0);
		add(push, name, "s", 100);
	}
	assert_int_equal(wait_for(push, "waits", 100, &poll), 0);
	assert_int_equal(push->agent_count, 1001);
	/* A waiting one is not idle, however long ago it asked. */
	for (int i = 0; i < 10; i++)
		push_expire(push, 101 + PUSH_IDLE_S);
	assert_int_equal(poll.woken, 1);
	for (int i = 0; i < 10; i++)
		push_expire(push, 101 + PUSH_IDLE_S);
	assert_int_equal(push->agent_count, 0);
	assert_int_equal(atomic_load(&push->pending), 0);
	assert_false(push_reaches(push, "node-5"));
}

static void test_what_is_kept_for_one_agent_is_bounded(void **state)
{
	struct push *push = *state;
	Ebbtide__Wire__Answer *answer;

	assert_nothing(push, "a", 0);
	for (int i = 0; i < PUSH_ACTIONS + 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s-%d", i);
		assert_true(add(push, "a", name, 1) == (i < PUSH_ACTIONS));
	}
	assert_int_equal(push->dropped, 10);
	answer = poll_now(push, "a", LEARNER, 0);
	assert_int_equal(answer->n_actions, PUSH_ACTIONS);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_at_the_end_all_are_woken_and_none_waits(void **state)
{
	struct push *push = *state;
	struct poll a, b;

	assert_int_equal(wait_for(push, "a", 100, &a), 0);
	push_close(push);
	assert_int_equal(a.woken, 1);
	assert_int_equal(wait_for(push, "b", 100, &b), -ENOSPC);
	assert_int_equal(push->waiting, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_only_an_agent_that_polls_gets_pushes),
		TEST(test_a_push_is_kept_until_the_agent_has_seen_it),
		TEST(test_numbers_of_another_learner_say_nothing),
		TEST(test_the_newest_action_of_a_unit_takes_the_place_of_the_last),
		TEST(test_a_newer_answer_makes_a_push_void),
		TEST(test_a_waiting_poll_is_woken_by_its_push_once),
		TEST(test_a_second_poll_ends_the_first),
		TEST(test_polls_wait_so_long_and_no_longer),
		TEST(test_agents_that_poll_no_more_are_forgotten),
		TEST(test_what_is_kept_for_one_agent_is_bounded),
		TEST(test_at_the_end_all_are_woken_and_none_waits),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
