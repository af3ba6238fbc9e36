// SPDX-License-Identifier: Apache-2.0
/* What the programs cost, and when the agent looks less closely for it. */
#include "node/probes/budget.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BUDGET 0.02

static enum detail_level decide(struct budget_state *state, double share, int times)
{
	enum detail_level level = state->level;

	for (int i = 0; i < times; i++)
		level = budget_decide(state, share, BUDGET);
	return level;
}

static void test_a_cost_within_the_budget_changes_nothing(void **state)
{
	struct budget_state budget = {0};

	(void)state;
	assert_int_equal(decide(&budget, 0.0, 10), DETAIL_FULL);
	assert_int_equal(decide(&budget, 0.015, 10), DETAIL_FULL);
	assert_int_equal(decide(&budget, 0.02, 10), DETAIL_FULL);
}

static void test_each_window_over_the_budget_takes_a_level_down_to_the_last(void **state)
{
	struct budget_state budget = {0};

	(void)state;
	assert_int_equal(decide(&budget, 0.021, 1), DETAIL_EIGHTH);
	assert_int_equal(decide(&budget, 0.021, 1), DETAIL_SIXTYFOURTH);
	assert_int_equal(decide(&budget, 0.021, 1), DETAIL_AGGREGATES);
	assert_int_equal(decide(&budget, 0.5, 5), DETAIL_AGGREGATES);
}

static void test_a_level_comes_back_after_two_windows_well_below(void **state)
{
	struct budget_state budget = {.level = DETAIL_AGGREGATES};

	(void)state;
	/* Just below is not enough: a level more costs more. */
	assert_int_equal(decide(&budget, 0.011, 20), DETAIL_AGGREGATES);
	assert_int_equal(decide(&budget, 0.01, 1), DETAIL_AGGREGATES);
	assert_int_equal(decide(&budget, 0.01, 1), DETAIL_SIXTYFOURTH);
	/* In a row. */
	assert_int_equal(decide(&budget, 0.01, 1), DETAIL_SIXTYFOURTH);
	assert_int_equal(decide(&budget, 0.015, 1), DETAIL_SIXTYFOURTH);
	assert_int_equal(decide(&budget, 0.01, 1), DETAIL_SIXTYFOURTH);
	assert_int_equal(decide(&budget, 0.01, 1), DETAIL_EIGHTH);
	assert_int_equal(decide(&budget, 0, 2), DETAIL_FULL);
	assert_int_equal(decide(&budget, 0, 20), DETAIL_FULL);
}

/* A load that fits at an eighth and not in full: tried ever more seldom, but tried. */
static void test_a_level_that_was_too_much_is_tried_less_and_less(void **state)
{
	struct budget_state budget = {0};
	int tries[3] = {0};

	(void)state;
	for (int window = 0; window < 300; window++) {
		enum detail_level before = budget.level;

		budget_decide(&budget, before == DETAIL_FULL ? 0.05 : 0.005, BUDGET);
		assert_true(budget.level <= DETAIL_EIGHTH);
		if (before == DETAIL_EIGHTH && budget.level == DETAIL_FULL)
			tries[window / 100]++;
	}
	assert_true(tries[0] > tries[1]);
	assert_true(tries[1] >= tries[2]);
	assert_in_range(tries[2], 2, 4);
}

static void test_after_a_calm_time_a_level_comes_back_at_once_again(void **state)
{
	struct budget_state budget = {0};

	(void)state;
	for (int i = 0; i < 60; i++)
		budget_decide(&budget, budget.level == DETAIL_FULL ? 0.05 : 0.005, BUDGET);
	decide(&budget, 0.001, 200);
	assert_int_equal(decide(&budget, 0.05, 1), DETAIL_EIGHTH);
	assert_int_equal(decide(&budget, 0.001, 2), DETAIL_FULL);
}

static void test_without_a_budget_all_is_looked_at(void **state)
{
	struct budget_state budget = {.level = DETAIL_AGGREGATES, .relapses = 3};

	(void)state;
	assert_int_equal(budget_decide(&budget, 0.9, 0), DETAIL_FULL);
	assert_int_equal(budget_decide(&budget, 0.9, 0), DETAIL_FULL);
}

static void test_a_reading_leaves_out_what_measuring_takes(void **state)
{
	const struct budget_counters before[2] = {{1000000, 1000}, {500, 5}};
	/* 1000 runs of 300 ns, 3000 of 130, of which 30 each are the clock's. */
	const struct budget_counters after[2] = {{1300000, 2000}, {390500, 3005}};
	struct budget_reading reading = {.windows = 7};

	(void)state;
	budget_read(&reading, before, after, 2, 30, 0.5, 4);
	assert_true(fabs(reading.programs[0].ns_per_run - 270) < 1e-6);
	assert_true(fabs(reading.programs[0].runs_per_s - 2000) < 1e-6);
	assert_true(fabs(reading.programs[1].ns_per_run - 100) < 1e-6);
	assert_true(fabs(reading.all.runs_per_s - 8000) < 1e-6);
	assert_true(fabs(reading.all.ns_per_run - 142.5) < 1e-6);
	assert_true(fabs(reading.cores - 0.00114) < 1e-9);
	assert_true(fabs(reading.share - 0.000285) < 1e-9);
	assert_int_equal(reading.windows, 7);
}

static void test_a_window_without_a_run_costs_nothing(void **state)
{
	const struct budget_counters counters[2] = {{1000, 10}, {0, 0}};
	/* A program that is cheaper than the clock is free, not paid for. */
	const struct budget_counters cheap[2] = {{1100, 20}, {0, 0}};
	struct budget_reading reading = {0};

	(void)state;
	budget_read(&reading, counters, counters, 2, 30, 0.2, 2);
	assert_true(reading.share == 0);
	assert_true(reading.all.ns_per_run == 0);
	budget_read(&reading, counters, cheap, 2, 30, 0.2, 2);
	assert_true(reading.share == 0);
	assert_true(reading.all.runs_per_s == 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cost_within_the_budget_changes_nothing),
		cmocka_unit_test(test_each_window_over_the_budget_takes_a_level_down_to_the_last),
		cmocka_unit_test(test_a_level_comes_back_after_two_windows_well_below),
		cmocka_unit_test(test_a_level_that_was_too_much_is_tried_less_and_less),
		cmocka_unit_test(test_after_a_calm_time_a_level_comes_back_at_once_again),
		cmocka_unit_test(test_without_a_budget_all_is_looked_at),
		cmocka_unit_test(test_a_reading_leaves_out_what_measuring_takes),
		cmocka_unit_test(test_a_window_without_a_run_costs_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
