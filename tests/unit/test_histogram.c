// SPDX-License-Identifier: Apache-2.0
#include "common/histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_buckets_are_one_wide_up_to_32_then_32_an_octave(void **state)
{
	(void)state;
	for (uint64_t us = 0; us < 64; us++)
		assert_int_equal(hist_bucket(us), us);
	assert_int_equal(hist_bucket(64), 64);
	assert_int_equal(hist_bucket(65), 64);
	assert_int_equal(hist_bucket(66), 65);
	assert_int_equal(hist_bucket(1 << 20) - hist_bucket(1 << 19), 32);
}

static void test_every_bucket_begins_where_it_says(void **state)
{
	(void)state;
	for (uint32_t bucket = 0; bucket < HIST_BUCKETS; bucket++) {
		uint64_t lower = hist_lower_us(bucket);

		assert_int_equal(hist_bucket(lower), bucket);
		if (lower > 0)
			assert_int_equal(hist_bucket(lower - 1), bucket - 1);
	}
}

static void test_a_value_over_a_minute_fits_and_the_largest_is_the_last(void **state)
{
	(void)state;
	assert_true(hist_bucket(60000000) < HIST_BUCKETS - 1);
	assert_int_equal(hist_bucket(HIST_MAX_US), HIST_BUCKETS - 1);
	assert_int_equal(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static void test_a_quantile_is_off_by_at_most_3_2_percent(void **state)
{
	uint32_t counts[HIST_BUCKETS];

	(void)state;
	for (uint64_t us = 32; us < HIST_MAX_US; us = us * 101 / 100 + 1) {
		double found;

		memset(counts, 0, sizeof(counts));
		counts[hist_bucket(us)] = 1;
		found = histogram_quantile_us(counts, 0.99);
		assert_true(fabs(found - (double)us) <= 0.032 * (double)us);
	}
}

static void test_quantiles_are_by_nearest_rank(void **state)
{
	uint32_t counts[HIST_BUCKETS] = {0};

	(void)state;
	assert_true(histogram_quantile_us(counts, 0.5) == 0);
	counts[10] = 98;
	counts[20] = 2;
	assert_true(histogram_quantile_us(counts, 0.5) == 10.5);
	assert_true(histogram_quantile_us(counts, 0.98) == 10.5);
	assert_true(histogram_quantile_us(counts, 0.99) == 20.5);
	assert_true(histogram_quantile_us(counts, 1) == 20.5);
	assert_int_equal(histogram_count(counts), 100);
}

static void test_a_delta_survives_a_counter_that_wraps(void **state)
{
	uint32_t now[HIST_BUCKETS] = {0}, before[HIST_BUCKETS] = {0}, delta[HIST_BUCKETS];

	(void)state;
	before[3] = UINT32_MAX - 1;
	now[3] = 3;
	histogram_take_delta(now, before, delta);
	assert_int_equal(delta[3], 5);
	assert_int_equal(before[3], 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_are_one_wide_up_to_32_then_32_an_octave),
		cmocka_unit_test(test_every_bucket_begins_where_it_says),
		cmocka_unit_test(test_a_value_over_a_minute_fits_and_the_largest_is_the_last),
		cmocka_unit_test(test_a_quantile_is_off_by_at_most_3_2_percent),
		cmocka_unit_test(test_quantiles_are_by_nearest_rank),
		cmocka_unit_test(test_a_delta_survives_a_counter_that_wraps),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
