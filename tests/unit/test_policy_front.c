// SPDX-License-Identifier: Apache-2.0
/* The fronts that policies are compared along. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/policy/front.h"

static void test_a_front_leaves_out_what_another_point_beats(void **state)
{
	struct front_point points[] = {{0.05, 2.0, 0}, {0.00, 4.0, 1}, {0.02, 3.0, 2},
		{0.03, 3.5, 3}, {0.02, 3.2, 4}, {0.10, 2.0, 5}};

	(void)state;
	assert_int_equal(front_make(points, 6), 3);
	assert_int_equal(points[0].index, 1);
	assert_int_equal(points[1].index, 2);
	assert_int_equal(points[2].index, 0);
}

static void test_between_two_points_the_front_is_straight(void **state)
{
	const struct front_point front[] = {{0.00, 4.0, 0}, {0.02, 3.0, 1}, {0.06, 2.0, 2}};

	(void)state;
	assert_float_equal(front_cores_at(front, 3, 0.01), 3.5, 1e-12);
	assert_float_equal(front_cores_at(front, 3, 0.02), 3.0, 1e-12);
	assert_float_equal(front_cores_at(front, 3, 0.05), 2.25, 1e-12);
	assert_float_equal(front_violations_at(front, 3, 3.5), 0.01, 1e-12);
	assert_float_equal(front_violations_at(front, 3, 2.25), 0.05, 1e-12);
}

static void test_a_front_ends_on_the_left_and_is_level_on_the_right(void **state)
{
	const struct front_point front[] = {{0.01, 4.0, 0}, {0.02, 3.0, 1}};

	(void)state;
	assert_true(isinf(front_cores_at(front, 2, 0.005)));
	assert_float_equal(front_cores_at(front, 2, 0.5), 3.0, 1e-12);
	/* With more cores than it needs it breaks no less than its best, with fewer it is not. */
	assert_float_equal(front_violations_at(front, 2, 9), 0.01, 1e-12);
	assert_true(isinf(front_violations_at(front, 2, 2.9)));
}

static void test_best_tuned_is_cheapest_of_those_that_hold(void **state)
{
	const struct front_point points[] = {{0.00, 4.0, 0}, {0.01, 3.0, 1}, {0.011, 1.0, 2}};

	(void)state;
	assert_int_equal(front_best(points, 3, 0.01)->index, 1);
}

static void test_where_none_holds_the_fewest_violations_are_best(void **state)
{
	const struct front_point points[] = {{0.05, 4.0, 0}, {0.04, 9.0, 1}, {0.04, 8.0, 2}};

	(void)state;
	assert_int_equal(front_best(points, 3, 0.01)->index, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_front_leaves_out_what_another_point_beats),
		cmocka_unit_test(test_between_two_points_the_front_is_straight),
		cmocka_unit_test(test_a_front_ends_on_the_left_and_is_level_on_the_right),
		cmocka_unit_test(test_best_tuned_is_cheapest_of_those_that_hold),
		cmocka_unit_test(test_where_none_holds_the_fewest_violations_are_best),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
