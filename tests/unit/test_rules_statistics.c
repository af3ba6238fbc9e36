// SPDX-License-Identifier: Apache-2.0
/* Maxima, averages and distributions over time, each against a plain reckoning. */
#include "learner/dqn/random.h"
#include "learner/rules/rules_statistics.h"

#include "rule_run.h"

static void test_an_empty_window_has_no_maximum(void **state)
{
	struct rule_window window = {.count = 0};

	(void)state;
	assert_true(isinf(rule_window_max(&window, 5, 10)));
	rule_window_add(&window, 5, 3);
	assert_near(rule_window_max(&window, 5, 10), 3, 0);
	/* As old as the span is too old. */
	assert_near(rule_window_max(&window, 14.9, 10), 3, 0);
	assert_true(isinf(rule_window_max(&window, 15, 10)));
}

static void test_a_window_is_the_maximum_of_what_is_young_enough(void **state)
{
	struct rule_window window = {.count = 0};
	struct random_state random;
	double values[5000];

	(void)state;
	random_seed(&random, 5);
	for (int i = 0; i < 5000; i++) {
		double most = -INFINITY;

		values[i] = random_below(&random, 1000);
		rule_window_add(&window, i, values[i]);
		for (int k = i; k > i - 50 && k >= 0; k--)
			most = fmax(most, values[k]);
		assert_near(rule_window_max(&window, i, 50), most, 0);
	}
}

static void test_a_window_without_room_errs_upward(void **state)
{
	struct rule_window window = {.count = 0};

	(void)state;
	/* Ever falling: each is a maximum to come. More than there is room for. */
	for (int i = 0; i < 200; i++) {
		rule_window_add(&window, i, 1000 - i);
		assert_near(rule_window_max(&window, i, 1000), 1000, 0);
	}
	for (int now = 200; now < 1200; now++) {
		int oldest = now - 999 > 0 ? now - 999 : 0;
		double most = rule_window_max(&window, now, 1000);

		if (oldest < 200)
			assert_true(most >= 1000 - oldest && most <= 1000);
		else
			assert_true(isinf(most));
	}
}

static void test_moments_are_those_of_the_newest_values(void **state)
{
	struct rule_ring ring = {.count = 0};
	struct rule_moments moments = rule_ring_moments(&ring, 0, 10);

	(void)state;
	assert_int_equal(moments.count, 0);
	assert_near(moments.maximum, 0, 0);
	rule_ring_add(&ring, 1, -4);
	moments = rule_ring_moments(&ring, 1, 10);
	assert_near(moments.maximum, -4, 0);
	assert_near(moments.deviation, 0, 0);
	/* 2, 4, 4, 4, 5, 5, 7, 9: mean 5, sum of squares 32. */
	for (int i = 0; i < 8; i++)
		rule_ring_add(&ring, 11 + i, (const double[]){2, 4, 4, 4, 5, 5, 7, 9}[i]);
	moments = rule_ring_moments(&ring, 18, 10);
	assert_int_equal(moments.count, 8);
	assert_near(moments.mean, 5, 1e-12);
	assert_near(moments.maximum, 9, 0);
	assert_near(moments.deviation, sqrt(32.0 / 7), 1e-12);
	/* Only as many as there is room for. */
	for (int i = 0; i < 2 * RULE_RING_MAX; i++)
		rule_ring_add(&ring, 100, i);
	moments = rule_ring_moments(&ring, 100, 1000);
	assert_int_equal(moments.count, RULE_RING_MAX);
	assert_near(moments.mean, RULE_RING_MAX * 1.5 - 0.5, 1e-9);
}

static void test_slots_average_by_the_time_a_value_held(void **state)
{
	struct rule_slots slots = {.newest = 0};
	double mean = -1;

	(void)state;
	assert_false(rule_slots_mean(&slots, 60, &mean));
	rule_slots_add(&slots, 1, 1, 10, 1);
	rule_slots_add(&slots, 1, 2, 40, 0.5);
	assert_true(rule_slots_mean(&slots, 60, &mean));
	assert_near(mean, 20, 1e-12);
	/* The newest slot alone. */
	assert_true(rule_slots_mean(&slots, 1, &mean));
	assert_near(mean, 40, 1e-12);
	/* Second 1 is out of the window of 60 at second 61, all of it at second 62. */
	rule_slots_add(&slots, 1, 60, 0, 0.5);
	assert_true(rule_slots_mean(&slots, 60, &mean));
	assert_near(mean, 15, 1e-12);
	rule_slots_add(&slots, 1, 61, 0, 0.5);
	assert_true(rule_slots_mean(&slots, 60, &mean));
	assert_near(mean, 40.0 / 3, 1e-12);
	/* A gap longer than the window. */
	rule_slots_add(&slots, 1, 1000, 7, 1);
	assert_true(rule_slots_mean(&slots, 60, &mean));
	assert_near(mean, 7, 1e-12);
}

static void test_a_histograms_buckets_grow_by_five_percent(void **state)
{
	(void)state;
	/* 10 x (1.05^n - 1) / 0.05: 0, 10, 20.5, 31.525 ... 110.27 ... */
	assert_near(rule_histogram_round(10, 0), 10, 1e-9);
	assert_near(rule_histogram_round(10, 9.99), 10, 1e-9);
	assert_near(rule_histogram_round(10, 10.01), 20.5, 1e-9);
	assert_near(rule_histogram_round(10, 21), 31.525, 1e-9);
	assert_near(rule_histogram_round(10, 100), 110.2656, 1e-4);
	/* The last bucket has no end: 1000 cores are its start in the VPA as well. */
	assert_near(rule_histogram_round(10, 1e9), rule_histogram_round(10, 1e12), 0);
	assert_true(rule_histogram_round(10, 1e9) > 1e6);
}

static void test_a_sample_weighs_half_after_a_half_life(void **state)
{
	struct rule_histogram histogram = {.started = false};

	(void)state;
	assert_near(rule_histogram_percentile(&histogram, 10, 90), 0, 0);
	rule_histogram_add(&histogram, 10, 100, 1, 1000, 60);
	assert_near(rule_histogram_percentile(&histogram, 10, 1), 110.2656, 1e-4);
	assert_near(rule_histogram_percentile(&histogram, 10, 100), 110.2656, 1e-4);
	/* One half-life on, the old one has a third of the weight. */
	rule_histogram_add(&histogram, 10, 15, 1, 1060, 60);
	assert_near(rule_histogram_percentile(&histogram, 10, 66), 20.5, 1e-9);
	assert_near(rule_histogram_percentile(&histogram, 10, 67), 110.2656, 1e-4);
	/* A hundred on, there is nothing left of either. */
	rule_histogram_add(&histogram, 10, 5, 1, 7060, 60);
	assert_near(rule_histogram_percentile(&histogram, 10, 99.999), 10, 1e-9);
}

static void test_a_sample_can_be_taken_back(void **state)
{
	struct rule_histogram histogram = {.started = false};

	(void)state;
	rule_histogram_add(&histogram, 10, 15, 1, 10, 60);
	rule_histogram_add(&histogram, 10, 100, 1, 40, 60);
	rule_histogram_add(&histogram, 10, 100, -1, 40, 60);
	assert_near(rule_histogram_percentile(&histogram, 10, 100), 20.5, 1e-9);
	rule_histogram_add(&histogram, 10, 15, -1, 10, 60);
	assert_near(rule_histogram_percentile(&histogram, 10, 100), 0, 0);
}

static void test_a_year_of_samples_neither_overflows_nor_sticks(void **state)
{
	struct rule_histogram histogram = {.started = false};

	(void)state;
	/* 3650 half-lives: as a power of two, more than a double holds. */
	for (double now = 0; now < 365 * 86400.0; now += 3600)
		rule_histogram_add(&histogram, 10, now < 300 * 86400.0 ? 100 : 15, 1, now, 8640);
	assert_near(rule_histogram_percentile(&histogram, 10, 99), 20.5, 1e-9);
	for (int i = 0; i < RULE_BUCKETS; i++)
		assert_true(isfinite(histogram.weight[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_window_has_no_maximum),
		cmocka_unit_test(test_a_window_is_the_maximum_of_what_is_young_enough),
		cmocka_unit_test(test_a_window_without_room_errs_upward),
		cmocka_unit_test(test_moments_are_those_of_the_newest_values),
		cmocka_unit_test(test_slots_average_by_the_time_a_value_held),
		cmocka_unit_test(test_a_histograms_buckets_grow_by_five_percent),
		cmocka_unit_test(test_a_sample_weighs_half_after_a_half_life),
		cmocka_unit_test(test_a_sample_can_be_taken_back),
		cmocka_unit_test(test_a_year_of_samples_neither_overflows_nor_sticks),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
