// SPDX-License-Identifier: Apache-2.0
/* The share of a core, with simulated time. */
#include "learner/budget.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Work in pieces of @piece_s for @seconds, resting as told; the share that was worked. */
static double run(double share, double piece_s, double seconds)
{
	struct budget budget;
	double wall_s = 0, worked_s = 0, last_s = 0;

	budget_init(&budget, share);
	while (wall_s < seconds) {
		double passed_s = wall_s - last_s;

		last_s = wall_s;
		wall_s += piece_s;
		worked_s += piece_s;
		wall_s += budget_spend(&budget, passed_s, piece_s);
	}
	return worked_s / wall_s;
}

static void test_work_takes_its_share_and_no_more(void **state)
{
	const double shares[] = {0.05, 0.25, 0.5, 0.9};
	const double pieces[] = {0.0005, 0.003, 0.02, 0.2};

	(void)state;
	for (int i = 0; i < 4; i++) {
		for (int k = 0; k < 4; k++) {
			double share = run(shares[i], pieces[k], 60);

			assert_true(share <= shares[i] + 0.02);
			assert_true(share >= shares[i] - 0.02);
		}
	}
}

static void test_a_whole_core_never_rests(void **state)
{
	(void)state;
	assert_true(fabs(run(1, 0.01, 10) - 1) < 1e-9);
}

static void test_quiet_time_buys_a_short_burst_only(void **state)
{
	struct budget budget;
	double free_s = 0;

	(void)state;
	budget_init(&budget, 0.5);
	assert_true(budget_spend(&budget, 3600, 0) <= 0);
	while (budget_spend(&budget, 0.001, 0.001) <= 0)
		free_s += 0.001;
	assert_true(free_s > 0.05 && free_s < 0.15);
}

static void test_work_that_was_held_up_owes_no_rest(void **state)
{
	struct budget budget;

	(void)state;
	budget_init(&budget, 0.5);
	/* Others had the processor: 10 ms of work took 30 ms. */
	assert_true(budget_spend(&budget, 0.03, 0.01) <= 0);
	assert_true(budget_spend(&budget, 0.01, 0.01) <= 0.0101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_work_takes_its_share_and_no_more),
		cmocka_unit_test(test_a_whole_core_never_rests),
		cmocka_unit_test(test_quiet_time_buys_a_short_burst_only),
		cmocka_unit_test(test_work_that_was_held_up_owes_no_rest),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
