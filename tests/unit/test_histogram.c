// SPDX-License-Identifier: Apache-2.0
#include "common/histogram.h"
#include "learner/dqn/random.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
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

#define COUNTED 200000

static void *count_into(void *counts)
{
	for (uint32_t i = 0; i < COUNTED; i++)
		__atomic_fetch_add(&((uint32_t *)counts)[i % HIST_BUCKETS], 1, __ATOMIC_RELAXED);
	return NULL;
}

static void test_counts_are_moved_while_others_count(void **state)
{
	static uint32_t from[HIST_BUCKETS] __attribute__((aligned(8))), into[HIST_BUCKETS];
	uint64_t moved = 0;
	pthread_t thread;

	(void)state;
	into[7] = 1;
	assert_int_equal(pthread_create(&thread, NULL, count_into, from), 0);
	while (moved < COUNTED)
		moved += histogram_move(from, into, HIST_BUCKETS);
	pthread_join(thread, NULL);
	assert_int_equal(histogram_move(from, into, HIST_BUCKETS), 0);
	assert_int_equal(histogram_count(from), 0);
	assert_int_equal(histogram_count(into), COUNTED + 1);
	assert_int_equal(into[7], COUNTED / HIST_BUCKETS + 1 + 1);
	assert_int_equal(into[HIST_BUCKETS - 1], COUNTED / HIST_BUCKETS);
}

static void test_buckets_are_in_order_without_gap_and_3_2_percent_wide(void **state)
{
	(void)state;
	for (uint32_t bucket = 0; bucket < HIST_BUCKETS; bucket++) {
		uint64_t lower = hist_lower_us(bucket), next = hist_lower_us(bucket + 1);

		assert_true(next > lower);
		assert_int_equal(hist_bucket(next - 1), bucket);
		if (bucket >= HIST_LINEAR)
			assert_true((double)(next - lower) <= 0.03126 * (double)lower);
		else
			assert_int_equal(next - lower, 1);
	}
	assert_int_equal(hist_lower_us(0), 0);
	assert_int_equal(hist_lower_us(HIST_BUCKETS), HIST_MAX_US + 1);
}

static void test_a_middle_is_at_most_1_6_percent_from_any_value_in_its_bucket(void **state)
{
	(void)state;
	for (uint32_t bucket = 0; bucket < HIST_BUCKETS; bucket++) {
		double first = (double)hist_lower_us(bucket);
		double last = (double)hist_lower_us(bucket + 1) - 1;
		double middle = histogram_value_us(bucket);
		double most = bucket < HIST_LINEAR ? 0.5 : 0.016 * first;

		assert_true(fabs(middle - first) <= most);
		assert_true(fabs(middle - last) <= most);
	}
}

static void test_a_longer_time_is_never_in_a_lower_bucket(void **state)
{
	struct random_state random;

	(void)state;
	random_seed(&random, 2);
	for (int i = 0; i < 100000; i++) {
		uint64_t a = random_next(&random) >> random_below(&random, 64);
		uint64_t b = random_next(&random) >> random_below(&random, 64);

		assert_true(hist_bucket(a) < HIST_BUCKETS);
		assert_true(a <= b ? hist_bucket(a) <= hist_bucket(b)
				   : hist_bucket(a) >= hist_bucket(b));
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void test_quantiles_of_many_values_are_those_of_the_sorted_list(void **state)
{
	static uint64_t values[5000];
	const size_t count = sizeof(values) / sizeof(values[0]);
	uint32_t counts[HIST_BUCKETS] = {0};
	struct random_state random;

	(void)state;
	random_seed(&random, 4);
	for (size_t i = 0; i < count; i++) {
		values[i] = (uint64_t)exp2(5 + 20 * random_uniform_double(&random));
		counts[hist_bucket(values[i])]++;
	}
	qsort(values, count, sizeof(values[0]), compare);
	for (uint32_t per_mille = 1; per_mille <= 1000; per_mille++) {
		size_t rank = (per_mille * count + 999) / 1000;
		double exact = (double)values[rank - 1];
		double found = histogram_quantile_us(counts, ((double)rank - 0.5) / (double)count);

		assert_true(fabs(found - exact) <= 0.016 * exact);
	}
}

static void test_sums_of_histograms_are_by_bucket(void **state)
{
	uint32_t a[HIST_BUCKETS] = {[0] = 1, [5] = 2}, b[HIST_BUCKETS] = {[5] = 3, [671] = 4};

	(void)state;
	histogram_add(a, b);
	assert_int_equal(a[0], 1);
	assert_int_equal(a[5], 5);
	assert_int_equal(a[671], 4);
	assert_int_equal(histogram_count(a), 10);
}

static void test_several_quantiles_are_those_of_a_plain_search(void **state)
{
	const double shares[] = {0.999, 0.5, 1e-9, 0.99, 1, 0.25};
	struct random_state random;

	(void)state;
	random_seed(&random, 4);
	for (int round = 0; round < 300; round++) {
		uint32_t counts[HIST_BUCKETS] = {0};
		uint64_t total = 0;
		double values_us[6];

		for (uint32_t i = random_below(&random, 400); i > 0; i--) {
			uint32_t count = 1 + random_below(&random, round % 3 ? 2 : 100000);

			counts[random_below(&random, HIST_BUCKETS)] += count;
			total += count;
		}
		assert_int_equal(histogram_count(counts), total);
		histogram_quantiles_us(counts, shares, values_us, 6);
		for (int k = 0; k < 6; k++) {
			uint64_t seen = 0,
				 rank = (uint64_t)fmax(1, ceil(shares[k] * (double)total));
			uint32_t bucket = 0;

			while (total && (seen += counts[bucket]) < rank)
				bucket++;
			assert_true(values_us[k] == (total ? histogram_value_us(bucket) : 0));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_are_one_wide_up_to_32_then_32_an_octave),
		cmocka_unit_test(test_every_bucket_begins_where_it_says),
		cmocka_unit_test(test_a_value_over_a_minute_fits_and_the_largest_is_the_last),
		cmocka_unit_test(test_a_quantile_is_off_by_at_most_3_2_percent),
		cmocka_unit_test(test_quantiles_are_by_nearest_rank),
		cmocka_unit_test(test_counts_are_moved_while_others_count),
		cmocka_unit_test(test_a_delta_survives_a_counter_that_wraps),
		cmocka_unit_test(test_buckets_are_in_order_without_gap_and_3_2_percent_wide),
		cmocka_unit_test(test_a_middle_is_at_most_1_6_percent_from_any_value_in_its_bucket),
		cmocka_unit_test(test_a_longer_time_is_never_in_a_lower_bucket),
		cmocka_unit_test(test_quantiles_of_many_values_are_those_of_the_sorted_list),
		cmocka_unit_test(test_sums_of_histograms_are_by_bucket),
		cmocka_unit_test(test_several_quantiles_are_those_of_a_plain_search),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
