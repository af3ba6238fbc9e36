// SPDX-License-Identifier: Apache-2.0
/* The node's budget for refills: never over the rate in any second, and shared max-min. */
#include "node/limits/spare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS	1000000ULL
#define SECOND	1000000000ULL
#define START	(77 * SECOND + 31 * MS)
#define UNITS	5
#define STEP_MS 5
#define STEPS	(60 * 1000 / STEP_MS)

struct fixture {
	struct spare budget;
	struct spare_share shares[UNITS];
	uint64_t now_ns;
	uint64_t spent_ns[UNITS]; /* in all */
	uint64_t by_step_ns[STEPS];
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	fixture.now_ns = START;
	fixture.budget.rate_ns = 400 * MS;
	*state = &fixture;
	return 0;
}

static bool take_ms(struct fixture *f, int unit, uint64_t ms)
{
	if (!spare_take(&f->budget, &f->shares[unit], ms * MS, f->now_ns))
		return false;
	f->spent_ns[unit] += ms * MS;
	return true;
}

struct demand {
	uint64_t every_ms; /* 0: not at all */
	uint64_t ask_ms;
};

/* Units ask at their intervals, and every 100 ms anew for what was refused; returns worst second. */
static uint64_t run(struct fixture *f, const struct demand demands[UNITS], int from, int until)
{
	uint64_t next_ms[UNITS] = {0}, worst_ns = 0;

	for (int step = from; step < until; step++) {
		uint64_t at_ms = (uint64_t)step * STEP_MS, sum_ns = 0;

		f->now_ns = START + at_ms * MS;
		for (int i = 0; i < UNITS; i++) {
			int unit = (step + i) % UNITS;

			if (!demands[unit].every_ms || at_ms < next_ms[unit])
				continue;
			if (take_ms(f, unit, demands[unit].ask_ms)) {
				f->by_step_ns[step] += demands[unit].ask_ms * MS;
				next_ms[unit] = at_ms + demands[unit].every_ms;
			} else {
				next_ms[unit] = (spare_renewed_ns(f->now_ns) - START) / MS;
			}
		}
		for (int k = step; k >= 0 && k > step - 1000 / STEP_MS; k--)
			sum_ns += f->by_step_ns[k];
		if (sum_ns > worst_ns)
			worst_ns = sum_ns;
	}
	return worst_ns;
}

static void assert_ms_per_s(struct fixture *f, int unit, double seconds, double least, double most)
{
	double got = (double)f->spent_ns[unit] / 1e6 / seconds;

	if (got < least || got > most)
		fail_msg("unit %d: expected %.0f to %.0f ms a second, got %.1f", unit, least, most,
			got);
}

static void test_a_budget_of_nothing_allows_nothing(void **state)
{
	struct fixture *f = *state;

	f->budget.rate_ns = 0;
	assert_false(take_ms(f, 0, 1));
}

static void test_one_unit_alone_may_have_all_of_it(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 40; i++)
		assert_true(take_ms(f, 0, 10));
	assert_false(take_ms(f, 0, 10));
	f->now_ns += SECOND + 100 * MS;
	assert_true(take_ms(f, 0, 10));
}

static void test_no_second_gets_more_than_the_rate(void **state)
{
	struct fixture *f = *state;
	static const struct demand greedy[UNITS] = {{5, 7}, {5, 11}, {35, 60}, {300, 200}, {50, 1}};
	uint64_t worst_ns = run(f, greedy, 0, STEPS);

	assert_true(worst_ns <= f->budget.rate_ns);
	/* And little of it lies fallow: windows of 1.1 s are kept within a second's rate. */
	assert_true(worst_ns > f->budget.rate_ns * 8 / 10);
}

static void test_two_greedy_units_get_half_each(void **state)
{
	struct fixture *f = *state;
	static const struct demand greedy[UNITS] = {{5, 10}, {5, 10}};

	(void)run(f, greedy, 0, STEPS);
	assert_ms_per_s(f, 0, 60, 160, 200);
	assert_ms_per_s(f, 1, 60, 160, 200);
}

static void test_a_unit_that_asks_for_more_at_a_time_gets_no_more(void **state)
{
	struct fixture *f = *state;
	static const struct demand greedy[UNITS] = {{5, 5}, {5, 50}};

	(void)run(f, greedy, 0, STEPS);
	assert_ms_per_s(f, 0, 60, 150, 220);
	assert_ms_per_s(f, 1, 60, 140, 210);
}

static void test_small_demands_are_met_and_the_rest_is_shared(void **state)
{
	struct fixture *f = *state;
	/* 20, 50, and two that want everything: max-min gives them (400 - 70) / 2 = 165. */
	static const struct demand demands[UNITS] = {{500, 10}, {200, 10}, {5, 10}, {5, 10}};

	(void)run(f, demands, 0, STEPS);
	/* Each refusal puts an ask off by up to 100 ms. */
	assert_ms_per_s(f, 0, 60, 17, 21);
	assert_ms_per_s(f, 1, 60, 40, 51);
	assert_ms_per_s(f, 2, 60, 125, 170);
	assert_ms_per_s(f, 3, 60, 125, 170);
}

static void test_a_newcomer_gets_its_part_within_little_more_than_a_second(void **state)
{
	struct fixture *f = *state;
	static const struct demand alone[UNITS] = {{5, 10}};
	static const struct demand both[UNITS] = {{5, 10}, {5, 10}};

	(void)run(f, alone, 0, 2000 / STEP_MS);
	assert_int_equal(f->spent_ns[1], 0);
	(void)run(f, both, 2000 / STEP_MS, 3200 / STEP_MS);
	assert_true(f->spent_ns[1] > 0);
	f->spent_ns[0] = f->spent_ns[1] = 0;
	(void)run(f, both, 3200 / STEP_MS, 13200 / STEP_MS);
	assert_ms_per_s(f, 0, 10, 150, 210);
	assert_ms_per_s(f, 1, 10, 150, 210);
}

static void test_an_ask_larger_than_a_part_gets_its_turn(void **state)
{
	struct fixture *f = *state;
	/* 300 ms at a time of 400 a second, beside a unit that always takes what there is. */
	static const struct demand demands[UNITS] = {{5, 10}, {5, 300}};

	(void)run(f, demands, 0, STEPS);
	assert_ms_per_s(f, 0, 60, 100, 260);
	assert_ms_per_s(f, 1, 60, 100, 260);
}

static void test_an_ask_over_the_rate_is_refused_and_keeps_nobody_waiting(void **state)
{
	struct fixture *f = *state;
	static const struct demand demands[UNITS] = {{5, 401}, {5, 10}};

	(void)run(f, demands, 0, STEPS);
	assert_int_equal(f->spent_ns[0], 0);
	assert_ms_per_s(f, 1, 60, 340, 400);
}

static void test_who_stops_asking_is_forgotten(void **state)
{
	struct fixture *f = *state;
	static const struct demand both[UNITS] = {{5, 10}, {5, 10}};
	static const struct demand alone[UNITS] = {{5, 10}};

	(void)run(f, both, 0, 3000 / STEP_MS);
	(void)run(f, alone, 3000 / STEP_MS, 13000 / STEP_MS);
	f->spent_ns[0] = 0;
	(void)run(f, alone, 13000 / STEP_MS, 23000 / STEP_MS);
	assert_ms_per_s(f, 0, 10, 340, 400);
	assert_false(f->shares[1].is_listed);
}

static void test_what_was_not_used_can_be_taken_again(void **state)
{
	struct fixture *f = *state;

	assert_true(take_ms(f, 0, 390));
	assert_false(take_ms(f, 0, 100));
	spare_return(&f->budget, &f->shares[0], 300 * MS, f->now_ns);
	assert_int_equal(spare_spent_ns(&f->budget, f->now_ns), 90 * MS);
	assert_true(take_ms(f, 0, 100));
	/* More than was spent cannot come back. */
	spare_return(&f->budget, &f->shares[0], 5000 * MS, f->now_ns);
	assert_int_equal(spare_spent_ns(&f->budget, f->now_ns), 0);
}

static void test_what_was_used_beyond_it_counts_as_taken(void **state)
{
	struct fixture *f = *state;

	assert_true(take_ms(f, 0, 200));
	spare_charge(&f->budget, &f->shares[0], 150 * MS, f->now_ns);
	assert_int_equal(spare_spent_ns(&f->budget, f->now_ns), 350 * MS);
	assert_false(take_ms(f, 0, 100));
	assert_true(take_ms(f, 0, 50));
}

static void test_a_unit_that_leaves_is_not_touched_again(void **state)
{
	struct fixture *f = *state;

	assert_true(take_ms(f, 0, 10));
	assert_true(take_ms(f, 1, 10));
	assert_true(take_ms(f, 2, 10));
	spare_leave(&f->budget, &f->shares[1]);
	memset(&f->shares[1], 0xff, sizeof(f->shares[1]));
	assert_true(take_ms(f, 0, 10));
	assert_true(take_ms(f, 2, 10));
	spare_leave(&f->budget, &f->shares[0]);
	spare_leave(&f->budget, &f->shares[2]);
	assert_null(f->budget.first);
	/* One that never asked. */
	spare_leave(&f->budget, &f->shares[3]);
}

static void test_spare_is_idle_time_and_what_refills_took(void **state)
{
	(void)state;
	/* 600 ms idle of two CPUs in half a second, 100 ms of refills in it. */
	assert_int_equal(spare_rate_ns(600 * MS, 100 * MS, 500 * MS), 1400 * MS);
	assert_int_equal(spare_rate_ns(0, 0, 500 * MS), 0);
	assert_int_equal(spare_rate_ns(1, 1, 0), 0);
}

/* Any units, any asks, any rate that changes: the property of the header. */
static void test_random_asks_never_exceed_the_rate(void **state)
{
	struct fixture *f = *state;

	srand(11);
	for (int round = 0; round < 20; round++) {
		struct demand demands[UNITS];

		setup(state);
		f->budget.rate_ns = (uint64_t)(1 + rand() % 2000) * MS;
		for (int i = 0; i < UNITS; i++)
			demands[i] = (struct demand){.every_ms = (uint64_t)(rand() % 40) * 5,
				.ask_ms = 1 + (uint64_t)rand() % 90};
		assert_true(run(f, demands, 0, 2000) <= f->budget.rate_ns);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(test_a_budget_of_nothing_allows_nothing),
		TEST(test_one_unit_alone_may_have_all_of_it),
		TEST(test_no_second_gets_more_than_the_rate),
		TEST(test_two_greedy_units_get_half_each),
		TEST(test_a_unit_that_asks_for_more_at_a_time_gets_no_more),
		TEST(test_small_demands_are_met_and_the_rest_is_shared),
		TEST(test_a_newcomer_gets_its_part_within_little_more_than_a_second),
		TEST(test_an_ask_larger_than_a_part_gets_its_turn),
		TEST(test_an_ask_over_the_rate_is_refused_and_keeps_nobody_waiting),
		TEST(test_who_stops_asking_is_forgotten),
		TEST(test_what_was_not_used_can_be_taken_again),
		TEST(test_what_was_used_beyond_it_counts_as_taken),
		TEST(test_a_unit_that_leaves_is_not_touched_again),
		TEST(test_spare_is_idle_time_and_what_refills_took),
		TEST(test_random_asks_never_exceed_the_rate),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
