// SPDX-License-Identifier: Apache-2.0
/* Counters and histograms of a container over ticks, their sums and their percentiles. */
#include "node/signals.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_tick_has_what_came_since_the_last_one(void **state)
{
	static struct slot slot;
	static struct signals tick;
	static struct signals_before before;
	static struct signals_total total;
	struct cgroup_usage usage = {.cpu_pressure_full_us = 1000, .memory_pressure_some_us = 500};

	(void)state;
	signals_start(&before, &usage);
	slot.client_errors = 3;
	slot.calls = 10;
	slot.on_cpu[5] = 7;
	usage.cpu_pressure_full_us = 1400;
	signals_take(&tick, &before, &slot, &usage);
	assert_int_equal(tick.client_errors, 3);
	assert_int_equal(tick.calls, 10);
	assert_int_equal(tick.on_cpu[5], 7);
	assert_int_equal(tick.cpu_pressure_full_us, 400);
	assert_int_equal(tick.memory_pressure_some_us, 0);
	signals_add(&total, &tick);
	memset(&tick, 0, sizeof(tick));
	slot.client_errors = 4;
	slot.on_cpu[5] += 2;
	signals_take(&tick, &before, &slot, &usage);
	assert_int_equal(tick.client_errors, 1);
	assert_int_equal(tick.calls, 0);
	assert_int_equal(tick.on_cpu[5], 2);
	assert_int_equal(tick.cpu_pressure_full_us, 0);
	signals_add(&total, &tick);
	assert_int_equal(total.client_errors, 4);
	assert_int_equal(total.calls, 10);
	assert_int_equal(total.cpu_pressure_full_us, 400);
	assert_int_equal(total.on_cpu.counts[0], 9);
}

static void test_two_containers_of_a_unit_add_up(void **state)
{
	static struct slot slots[2];
	static struct signals tick;
	static struct signals_before before[2];
	struct cgroup_usage usage = {0};

	(void)state;
	slots[0].server_errors = 2;
	slots[1].server_errors = 5;
	slots[0].breakdowns = slots[1].breakdowns = 4;
	slots[0].socket_queue[1] = slots[1].socket_queue[1] = 4;
	for (int i = 0; i < 2; i++)
		signals_take(&tick, &before[i], &slots[i], &usage);
	assert_int_equal(tick.server_errors, 7);
	assert_int_equal(tick.socket_queue[1], 8);
}

/* The kernel side raises the counter first: a tick may come in between. */
static void test_a_value_that_came_after_its_counter_is_of_the_next_tick(void **state)
{
	static struct slot slot;
	static struct signals tick;
	static struct signals_before before;
	struct cgroup_usage usage = {0};

	(void)state;
	slot.breakdowns = 1;
	signals_take(&tick, &before, &slot, &usage);
	slot.on_cpu[9] = 1;
	signals_take(&tick, &before, &slot, &usage);
	assert_int_equal(tick.on_cpu[9], 1);
	assert_int_equal(tick.values, 1);
}

static void test_a_last_byte_is_counted_though_nothing_else_came(void **state)
{
	static struct slot slot;
	static struct signals tick;
	static struct signals_before before;
	struct cgroup_usage usage = {0};

	(void)state;
	slot.service_time[9] = 2;
	signals_take(&tick, &before, &slot, &usage);
	assert_int_equal(tick.service_time[9], 2);
	assert_int_equal(tick.values, 2);
}

static void test_a_tick_is_shown_by_its_percentiles(void **state)
{
	static struct signals tick;
	struct signals_shown shown;

	(void)state;
	tick.memory_pressure_full_us = 7;
	tick.throttled[HIST_COARSE_BUCKET(1000)] = 90;
	tick.throttled[HIST_COARSE_BUCKET(8000)] = 10;
	tick.values = 100;
	signals_show(&shown, &tick);
	assert_int_equal(shown.memory_pressure_full_us, 7);
	assert_true(fabs(shown.throttled_p50_us - 1000) < 63);
	assert_true(fabs(shown.throttled_p99_us - 8000) < 500);
	assert_true(shown.on_cpu_p99_us == 0);
}

static void test_a_cgroup_that_is_gone_adds_no_pressure(void **state)
{
	static struct slot slot;
	static struct signals tick;
	static struct signals_before before;

	(void)state;
	before.cpu_pressure_some_us = 100;
	signals_take(&tick, &before, &slot, NULL);
	assert_int_equal(tick.cpu_pressure_some_us, 0);
	assert_int_equal(before.cpu_pressure_some_us, 100);
}

static int compare(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return a < b ? -1 : a > b;
}

static void test_a_quantile_is_within_its_resolution(void **state)
{
	static uint32_t counts[HIST_COARSE];
	static uint64_t values[20000];
	uint64_t seed = 12345;

	(void)state;
	assert_true(signals_quantile_us(counts, 0.5) == 0);
	for (size_t i = 0; i < 20000; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		values[i] = 1ULL << (seed >> 59) % 24;
		values[i] += (seed >> 20) % values[i];
		counts[HIST_COARSE_BUCKET(values[i])]++;
	}
	qsort(values, 20000, sizeof(values[0]), compare);
	for (int percent = 1; percent <= 100; percent++) {
		double exact = (double)values[percent * 200 - 1];
		double got = signals_quantile_us(counts, percent / 100.0);

		if (fabs(got - exact) > fmax(exact < 4 ? 4 : 2, 0.0625 * exact))
			fail_msg("p%d: expected %.0f us, got %.0f us", percent, exact, got);
	}
}

static void test_octaves_of_fine_and_coarse_histograms_agree(void **state)
{
	static uint32_t fine[HIST_BUCKETS], coarse[HIST_COARSE];
	struct octaves of_fine = {0}, of_coarse = {0};
	double sum_us = 0;

	(void)state;
	for (uint64_t us = 1; us < HIST_MAX_US; us = us * 5 / 4 + 1) {
		fine[hist_bucket(us)]++;
		coarse[HIST_COARSE_BUCKET(us)]++;
		sum_us += (double)us;
	}
	octaves_add(&of_fine, fine, HIST_BUCKETS);
	octaves_add(&of_coarse, coarse, HIST_COARSE);
	for (int i = 0; i <= HIST_OCTAVES; i++) {
		assert_int_equal(of_fine.counts[i], of_coarse.counts[i]);
		assert_true(of_fine.counts[i] > 0);
	}
	assert_true(fabs(of_fine.sum_us / sum_us - 1) < 0.016);
	assert_true(fabs(of_coarse.sum_us / sum_us - 1) < 0.062);
}

static void test_an_octaves_bounds_are_powers_of_two(void **state)
{
	(void)state;
	for (uint32_t octave = 0; octave < HIST_OCTAVES; octave++) {
		static uint32_t fine[HIST_BUCKETS];
		uint64_t bound_us = hist_lower_us(HIST_LINEAR * (octave + 1));
		struct octaves octaves = {0};

		assert_int_equal(bound_us, 32ULL << octave);
		memset(fine, 0, sizeof(fine));
		fine[hist_bucket(bound_us - 1)]++;
		fine[hist_bucket(bound_us)]++;
		octaves_add(&octaves, fine, HIST_BUCKETS);
		assert_int_equal(octaves.counts[octave], 1);
		assert_int_equal(octaves.counts[octave + 1], 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_tick_has_what_came_since_the_last_one),
		cmocka_unit_test(test_two_containers_of_a_unit_add_up),
		cmocka_unit_test(test_a_value_that_came_after_its_counter_is_of_the_next_tick),
		cmocka_unit_test(test_a_last_byte_is_counted_though_nothing_else_came),
		cmocka_unit_test(test_a_tick_is_shown_by_its_percentiles),
		cmocka_unit_test(test_a_cgroup_that_is_gone_adds_no_pressure),
		cmocka_unit_test(test_a_quantile_is_within_its_resolution),
		cmocka_unit_test(test_octaves_of_fine_and_coarse_histograms_agree),
		cmocka_unit_test(test_an_octaves_bounds_are_powers_of_two),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
