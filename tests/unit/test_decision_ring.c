// SPDX-License-Identifier: Apache-2.0
/* Decisions that are kept: the newest, within a budget that all rings share. */
#include "learner/decision_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECORD_BYTES sizeof(struct decision_record)
#define RINGS	     64

static void push(struct decision_ring *ring, struct decision_budget *budget, uint64_t time_us)
{
	struct decision_record record = {.time_us = time_us};

	decision_ring_push(ring, budget, &record);
}

static void fill(
	struct decision_ring *ring, struct decision_budget *budget, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		push(ring, budget, i);
}

static void test_the_newest_are_kept_in_their_order(void **state)
{
	struct decision_budget budget = {.bytes = 16 * RECORD_BYTES};
	struct decision_ring ring = {0};

	(void)state;
	for (uint64_t i = 1; i <= 100; i++) {
		push(&ring, &budget, i);
		assert_int_equal(decision_ring_get(&ring, 0)->time_us, i);
		for (uint32_t age = 0; age < ring.count; age++)
			assert_int_equal(decision_ring_get(&ring, age)->time_us, i - age);
		/* None is lost while it grows. */
		assert_int_equal(ring.count, i < 16 ? i : 16);
	}
	assert_int_equal(budget.used, 16 * RECORD_BYTES);
	decision_ring_free(&ring, &budget);
	assert_int_equal(budget.used, 0);
	assert_int_equal(budget.rings, 0);
}

static void test_a_ring_alone_has_a_bound(void **state)
{
	struct decision_budget budget = {.bytes = SIZE_MAX / 2};
	struct decision_ring ring = {0};

	(void)state;
	fill(&ring, &budget, 1, 3 * DECISION_RING_MOST);
	assert_int_equal(ring.count, DECISION_RING_MOST);
	decision_ring_free(&ring, &budget);
}

static void test_rings_that_come_take_from_those_that_are_there(void **state)
{
	struct decision_budget budget = {.bytes = RINGS * 4 * RECORD_BYTES};
	struct decision_ring rings[RINGS] = {0};

	(void)state;
	fill(&rings[0], &budget, 1, 1000);
	assert_int_equal(rings[0].count, 4 * RINGS);
	for (int i = 1; i < RINGS; i++)
		fill(&rings[i], &budget, 1, 1000);
	/* What the first holds too much it gives back with its next. */
	assert_true(budget.used <= budget.bytes + RINGS * DECISION_RING_LEAST * RECORD_BYTES);
	push(&rings[0], &budget, 1001);
	assert_int_equal(rings[0].count, 4);
	for (uint32_t age = 0; age < 4; age++)
		assert_int_equal(decision_ring_get(&rings[0], age)->time_us, 1001 - age);
	for (int i = 1; i < RINGS; i++)
		fill(&rings[i], &budget, 1001, 1010);
	assert_true(budget.used <= budget.bytes);
	for (int i = 0; i < RINGS; i++)
		assert_int_equal(rings[i].room, 4);
	/* And they take it when others go. */
	for (int i = 1; i < RINGS; i++)
		decision_ring_free(&rings[i], &budget);
	fill(&rings[0], &budget, 1002, 2000);
	assert_int_equal(rings[0].count, 4 * RINGS);
	decision_ring_free(&rings[0], &budget);
	assert_int_equal(budget.used, 0);
}

static void test_every_ring_has_the_least_whatever_the_budget_is(void **state)
{
	struct decision_budget budget = {.bytes = 1};
	struct decision_ring rings[RINGS] = {0};

	(void)state;
	for (int i = 0; i < RINGS; i++)
		fill(&rings[i], &budget, 1, 10);
	for (int i = 0; i < RINGS; i++) {
		assert_int_equal(rings[i].count, DECISION_RING_LEAST);
		decision_ring_free(&rings[i], &budget);
	}
	/* But none when there is to be none. */
	budget.bytes = 0;
	fill(&rings[0], &budget, 1, 10);
	assert_int_equal(rings[0].count, 0);
	assert_int_equal(decision_ring_find(&rings[0], 5), 0);
	assert_int_equal(budget.used, 0);
	decision_ring_free(&rings[0], &budget);
}

static void test_what_was_in_force_at_a_time_comes_with_what_came_of_it(void **state)
{
	struct decision_budget budget = {.bytes = 64 * RECORD_BYTES};
	struct decision_record out[64], pushed = {.time_us = 45, .pushed = true};
	struct decision_ring ring = {0};

	(void)state;
	push(&ring, &budget, 10);
	push(&ring, &budget, 20);
	push(&ring, &budget, 30);
	push(&ring, &budget, 40);
	decision_ring_push(&ring, &budget, &pushed);
	push(&ring, &budget, 50);
	push(&ring, &budget, 60);
	assert_int_equal(decision_ring_read(&ring, 9, 5, out), 0);
	assert_int_equal(decision_ring_read(&ring, 25, 1, out), 2);
	assert_int_equal(out[0].time_us, 20);
	assert_int_equal(out[1].time_us, 30);
	/* One between two reports has measured nothing of its own. */
	assert_int_equal(decision_ring_read(&ring, 40, 2, out), 4);
	assert_int_equal(out[0].time_us, 30);
	assert_int_equal(out[1].time_us, 40);
	assert_int_equal(out[2].time_us, 45);
	assert_int_equal(out[3].time_us, 50);
	/* Nothing is known yet of what came of the newest. */
	assert_int_equal(decision_ring_read(&ring, UINT64_MAX, 1, out), 1);
	assert_int_equal(out[0].time_us, 60);
	assert_int_equal(decision_ring_read(&ring, UINT64_MAX, 64, out), 7);
	decision_ring_free(&ring, &budget);
}

static void test_a_hundred_thousand_units_fit_into_the_default(void **state)
{
	(void)state;
	/* --decisions-mib 160; docs/learner.md says so. */
	assert_true(100000 * DECISION_RING_LEAST * RECORD_BYTES <= 160ULL << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_newest_are_kept_in_their_order),
		cmocka_unit_test(test_a_ring_alone_has_a_bound),
		cmocka_unit_test(test_rings_that_come_take_from_those_that_are_there),
		cmocka_unit_test(test_every_ring_has_the_least_whatever_the_budget_is),
		cmocka_unit_test(test_what_was_in_force_at_a_time_comes_with_what_came_of_it),
		cmocka_unit_test(test_a_hundred_thousand_units_fit_into_the_default),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
