// SPDX-License-Identifier: Apache-2.0
/* Requests as shares and weights, by the formulas of the kubelet and the runtimes. */
#include "common/cpu_weight.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_requests_become_what_the_kubelet_and_the_runtimes_write(void **state)
{
	static const struct {
		double millicores;
		int64_t shares, linear, quadratic;
	} cases[] = {
		/* No request is the kernel's least. */
		{0, 2, 1, 1},
		{1, 2, 1, 1},
		{10, 10, 1, 4},
		{100, 102, 4, 17},
		{250, 256, 10, 35},
		{1000, 1024, 39, 100},
		{2000, 2048, 79, 174},
		{256000, 262144, 10000, 10000},
		{1e9, 262144, 10000, 10000},
		{-5, 2, 1, 1},
		{NAN, 2, 1, 1},
		{INFINITY, 262144, 10000, 10000},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		double millicores = cases[i].millicores;

		assert_int_equal(cpu_weight_of(CPU_WEIGHT_SHARES, millicores), cases[i].shares);
		assert_int_equal(cpu_weight_of(CPU_WEIGHT_LINEAR, millicores), cases[i].linear);
		assert_int_equal(
			cpu_weight_of(CPU_WEIGHT_QUADRATIC, millicores), cases[i].quadratic);
	}
}

static void test_a_weight_becomes_the_least_request_that_has_it(void **state)
{
	static const enum cpu_weight_scale scales[] = {
		CPU_WEIGHT_SHARES, CPU_WEIGHT_LINEAR, CPU_WEIGHT_QUADRATIC};

	(void)state;
	for (size_t i = 0; i < COUNT(scales); i++) {
		for (double millicores = 40; millicores < 300000;
			millicores = floor(millicores * 1.07)) {
			int64_t weight = cpu_weight_of(scales[i], millicores);
			double back = cpu_weight_millicores(scales[i], weight);

			assert_int_equal(cpu_weight_of(scales[i], back), weight);
			assert_true(back <= millicores);
			assert_true(cpu_weight_of(scales[i], back - 1) < weight);
		}
		assert_true(cpu_weight_millicores(scales[i], cpu_weight_least(scales[i])) <= 0);
		/* Out of the kernel's range is not out of ours. */
		assert_true(cpu_weight_millicores(scales[i], 1 << 30) <= 256000);
	}
}

static void test_the_formula_is_told_by_a_known_request(void **state)
{
	(void)state;
	for (double millicores = 20; millicores < 200000; millicores *= 1.3) {
		assert_int_equal(cpu_weight_scale_of(
					 cpu_weight_of(CPU_WEIGHT_LINEAR, millicores), millicores),
			CPU_WEIGHT_LINEAR);
		assert_int_equal(
			cpu_weight_scale_of(
				cpu_weight_of(CPU_WEIGHT_QUADRATIC, millicores), millicores),
			CPU_WEIGHT_QUADRATIC);
	}
	/* Neither's: the nearer. */
	assert_int_equal(cpu_weight_scale_of(90, 1000), CPU_WEIGHT_QUADRATIC);
	assert_int_equal(cpu_weight_scale_of(45, 1000), CPU_WEIGHT_LINEAR);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_become_what_the_kubelet_and_the_runtimes_write),
		cmocka_unit_test(test_a_weight_becomes_the_least_request_that_has_it),
		cmocka_unit_test(test_the_formula_is_told_by_a_known_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
