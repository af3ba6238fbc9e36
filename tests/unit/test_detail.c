// SPDX-License-Identifier: Apache-2.0
/* How closely the kernel side looks: masks, thresholds and the width of an age. */
#include "node/probes/detail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct trace_choice nothing = {0};

static void test_every_request_is_followed_up_to_the_bound(void **state)
{
	struct trace_choice slow = {.slower_us = 20000}, errors = {.errors = true},
			    sampled = {.one_in = 64};

	(void)state;
	assert_int_equal(detail_mask(0, &nothing, DETAIL_FULL), 0);
	assert_int_equal(detail_mask(DETAIL_REQUESTS_PER_S, &nothing, DETAIL_FULL), 0);
	assert_int_equal(detail_mask(DETAIL_REQUESTS_PER_S + 1, &nothing, DETAIL_FULL), 1);
	assert_int_equal(detail_mask(2 * DETAIL_REQUESTS_PER_S + 1, &nothing, DETAIL_FULL), 3);
	/* More of them where any are read one by one. */
	assert_int_equal(detail_mask(DETAIL_READ_REQUESTS_PER_S, &slow, DETAIL_FULL), 0);
	assert_int_equal(detail_mask(DETAIL_READ_REQUESTS_PER_S, &errors, DETAIL_FULL), 0);
	assert_int_equal(detail_mask(DETAIL_READ_REQUESTS_PER_S, &sampled, DETAIL_FULL), 0);
	assert_int_equal(detail_mask(DETAIL_READ_REQUESTS_PER_S + 1, &slow, DETAIL_FULL), 1);
}

static void test_never_more_are_followed_than_the_bound_and_never_less_than_half(void **state)
{
	(void)state;
	for (double rate = 100; rate < 1e8; rate *= 1.37) {
		double followed = rate / (double)(detail_mask(rate, &nothing, DETAIL_FULL) + 1);

		assert_true(followed <= DETAIL_REQUESTS_PER_S);
		assert_true(followed == rate || 2 * followed > DETAIL_REQUESTS_PER_S);
	}
}

static void test_each_level_follows_fewer(void **state)
{
	(void)state;
	for (double rate = 10; rate < 1e7; rate *= 10) {
		uint64_t full = detail_mask(rate, &nothing, DETAIL_FULL);

		assert_int_equal(detail_mask(rate, &nothing, DETAIL_EIGHTH) + 1, 8 * (full + 1));
		assert_int_equal(
			detail_mask(rate, &nothing, DETAIL_SIXTYFOURTH) + 1, 64 * (full + 1));
		assert_true(detail_mask(rate, &nothing, DETAIL_AGGREGATES) == UINT64_MAX);
	}
}

static void test_one_in_n_is_rounded_up_to_a_power_of_two(void **state)
{
	static const struct {
		uint64_t one_in;
		uint64_t mask;
	} cases[] = {{0, 0}, {1, 0}, {2, 1}, {3, 3}, {4, 3}, {100, 127}, {128, 127}, {129, 255},
		{1U << 31, (1U << 31) - 1}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trace_choice wanted = {.one_in = cases[i].one_in};

		assert_int_equal(detail_trace_mask(&wanted, DETAIL_FULL), cases[i].mask);
		assert_int_equal(detail_trace_mask(&wanted, DETAIL_AGGREGATES), 0);
	}
}

static void test_the_threshold_tells_of_what_is_wanted_and_nothing_else(void **state)
{
	struct trace_choice none = {0}, slow = {.slower_us = 20000}, errors = {.errors = true};
	struct trace_choice sampled = {.one_in = 64}, every = {.one_in = 1, .slower_us = 20000};

	(void)state;
	assert_int_equal(detail_trace_threshold_ns(&none, DETAIL_FULL), 0);
	assert_int_equal(detail_trace_threshold_ns(&slow, DETAIL_FULL), 20000000);
	assert_int_equal(detail_trace_threshold_ns(&every, DETAIL_FULL), 1);
	/* On, for the errors' and the heads' sake, and above what a request can take. */
	assert_true(detail_trace_threshold_ns(&errors, DETAIL_FULL) > HIST_MAX_US * 1000 * 1000);
	assert_true(detail_trace_threshold_ns(&sampled, DETAIL_FULL) > HIST_MAX_US * 1000 * 1000);
	assert_int_equal(detail_trace_threshold_ns(&slow, DETAIL_AGGREGATES), 0);
	assert_int_equal(detail_trace_threshold_ns(&errors, DETAIL_AGGREGATES), 0);
}

static void test_ages_span_about_four_targets(void **state)
{
	(void)state;
	for (double target_us = 5000; target_us <= 60e6; target_us *= 1.21) {
		double span_us = (double)(1ULL << detail_age_shift(target_us)) * AGE_BUCKETS / 1000;

		if (span_us > 4 * target_us || span_us <= 2 * target_us)
			fail_msg("target %.0f us: expected up to 4 of it, got %.0f us", target_us,
				span_us);
	}
	assert_int_equal(detail_age_shift(0), AGE_SHIFT_DEFAULT);
	/* 50 ms: 1.56 ms, 2^20 ns. */
	assert_int_equal(detail_age_shift(50000), 20);
	assert_int_equal(detail_age_shift(1), 17);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_request_is_followed_up_to_the_bound),
		cmocka_unit_test(
			test_never_more_are_followed_than_the_bound_and_never_less_than_half),
		cmocka_unit_test(test_each_level_follows_fewer),
		cmocka_unit_test(test_one_in_n_is_rounded_up_to_a_power_of_two),
		cmocka_unit_test(test_the_threshold_tells_of_what_is_wanted_and_nothing_else),
		cmocka_unit_test(test_ages_span_about_four_targets),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
