// SPDX-License-Identifier: Apache-2.0
/* Texts without printf, against printf. */
#include "learner/dqn/random.h"
#include "learner/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *fixed(double value, unsigned int decimals)
{
	static char out[64];
	struct text text;

	text_begin(&text, out, sizeof(out));
	text_add_fixed(&text, value, decimals);
	return out;
}

static const char *shortened(double value)
{
	static char out[64];
	struct text text;

	text_begin(&text, out, sizeof(out));
	text_add_short(&text, value);
	return out;
}

/* The same text, or the other neighbour of a value half way between the two. */
static void test_numbers_are_those_of_printf(void **state)
{
	struct random_state random;
	int exact = 0, rounds = 200000;

	(void)state;
	random_seed(&random, 1);
	for (int i = 0; i < rounds; i++) {
		unsigned int decimals = random_below(&random, 7);
		double value = ldexp(
			random_uniform_double(&random) - 0.5, (int)random_below(&random, 50) - 20);
		char expected[64];
		const char *got = fixed(value, decimals);

		snprintf(expected, sizeof(expected), "%.*f", (int)decimals, value);
		exact += strcmp(got, expected) == 0;
		assert_int_equal(strlen(got), strlen(expected));
		assert_true(fabs(strtod(got, NULL) - value) <=
			    0.5 * pow(10, -(double)decimals) + 1e-15 * fabs(value) * 4);
	}
	assert_true(exact > rounds - rounds / 100);
}

static void test_numbers_at_the_edges(void **state)
{
	(void)state;
	assert_string_equal(fixed(0, 0), "0");
	assert_string_equal(fixed(0, 3), "0.000");
	assert_string_equal(fixed(-0.0, 1), "-0.0");
	assert_string_equal(fixed(0.9996, 3), "1.000");
	assert_string_equal(fixed(-12.346, 2), "-12.35");
	assert_string_equal(fixed(999999999.0, 6), "999999999.000000");
	assert_string_equal(fixed(1e9, 1), "1e+09");
	assert_string_equal(fixed(-1e300, 1), "-1e+300");
	assert_string_equal(fixed((double)NAN, 1), "nan");
	assert_string_equal(fixed((double)INFINITY, 1), "inf");
	assert_string_equal(shortened(99), "99");
	assert_string_equal(shortened(99.9), "99.9");
	assert_string_equal(shortened(99.99), "99.99");
	assert_string_equal(shortened(100), "100");
	assert_string_equal(shortened(0), "0");
	assert_string_equal(shortened(1e13), "1e+13");
}

static void test_counts_and_strings(void **state)
{
	char out[128];
	struct text text;

	(void)state;
	text_begin(&text, out, sizeof(out));
	text_add_count(&text, 0);
	text_add(&text, " ");
	text_add_count(&text, UINT64_MAX);
	assert_string_equal(out, "0 18446744073709551615");
	text_begin(&text, out, sizeof(out));
	text_add_quoted(&text, "");
	text_add_quoted(&text, "a\"b\\c\nd\x7f");
	assert_string_equal(out, "\"\"\"a\\u0022b\\u005cc\\u000ad\x7f\"");
}

static void test_what_does_not_fit_is_cut(void **state)
{
	char out[8], longer[32];
	struct text text;

	(void)state;
	memset(out, 'x', sizeof(out));
	text_begin(&text, out, 5);
	text_add(&text, "ab");
	text_add_fixed(&text, 1234, 1);
	text_add(&text, "more");
	assert_string_equal(out, "ab12");
	assert_int_equal(out[5], 'x');
	text_begin(&text, out, 1);
	text_add(&text, "a");
	text_add_short(&text, 1.5);
	assert_string_equal(out, "");
	/* Nothing is taken off what another call wrote. */
	text_begin(&text, longer, sizeof(longer));
	text_add(&text, "1.000");
	text_add_short(&text, 7);
	assert_string_equal(longer, "1.0007");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_are_those_of_printf),
		cmocka_unit_test(test_numbers_at_the_edges),
		cmocka_unit_test(test_counts_and_strings),
		cmocka_unit_test(test_what_does_not_fit_is_cut),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
