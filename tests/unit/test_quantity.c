// SPDX-License-Identifier: Apache-2.0
#include "common/quantity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_every_suffix_is_read_as_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{"0", 0},
		{"128974848", 128974848},
		{"1000000000n", 1},
		{"3000000u", 3},
		{"2000m", 2},
		{"1k", 1000},
		{"129M", 129000000},
		{"2G", 2000000000},
		{"1T", 1000000000000},
		{"1P", 1000000000000000},
		{"1E", 1000000000000000000},
		{"1Ki", 1024},
		{"123Mi", 128974848},
		{"1Gi", 1073741824},
		{"1Ti", 1099511627776},
		{"1Pi", 1125899906842624},
		{"7Ei", 8070450532247928832},
		{"129e6", 129000000},
		{"12E+3", 12000},
		{"15e-1", 2},
		{"+5", 5},
		{"-0", 0},
		{"1.5Gi", 1610612736},
		{".5Ki", 512},
		{"5.", 5},
		{"0.0000000000000000000000001Ei", 1},
		{"00000000000000000000000000000001Ki", 1024},
		{"9223372036854775807", INT64_MAX},
		{"9223372036854775807000n", 9223372036855},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t bytes = 77;

		if (quantity_parse_bytes(cases[i].text, &bytes) || bytes != cases[i].bytes)
			fail_msg("%s: got %llu, expected %llu", cases[i].text,
				(unsigned long long)bytes, (unsigned long long)cases[i].bytes);
	}
}

static void test_parts_of_a_byte_round_up(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(quantity_parse_bytes("1m", &bytes), 0);
	assert_int_equal(bytes, 1);
	assert_int_equal(quantity_parse_bytes("1001m", &bytes), 0);
	assert_int_equal(bytes, 2);
	assert_int_equal(quantity_parse_bytes("1.00000000000000000000000000001", &bytes), 0);
	assert_int_equal(bytes, 2);
}

static void test_millicores_are_exact(void **state)
{
	static const struct {
		const char *text;
		double millicores;
	} cases[] = {
		{"400m", 400},
		{"2", 2000},
		{"0.1", 100},
		{"62500u", 62.5},
		{"100n", 0.0001},
		{"0.1n", 0.000001},
		{"1e-1", 100},
		{"2k", 2000000},
		{"1Ki", 1024000},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		double millicores = -1;

		if (quantity_parse_millicores(cases[i].text, &millicores) ||
			millicores != cases[i].millicores)
			fail_msg("%s: got %.17g, expected %.17g", cases[i].text, millicores,
				cases[i].millicores);
	}
}

static void test_what_is_no_quantity_is_refused(void **state)
{
	static const char *const cases[] = {"", " ", "abc", "m", ".", "-", "+", "1 ", " 1", "1mm",
		"1K", "1ki", "1mi", "1g", "1e", "1e+", "1e3m", "1.2.3", "0x10", "1,5", "--1", "1\n",
		"nan", "inf", "1Ei3", "50ms"};
	uint64_t bytes = 7;
	double millicores = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (quantity_parse_bytes(cases[i], &bytes) != -EINVAL ||
			quantity_parse_millicores(cases[i], &millicores) != -EINVAL)
			fail_msg("\"%s\" was taken for a quantity", cases[i]);
	}
	assert_int_equal(bytes, 7);
	assert_true(millicores == 7);
}

static void test_negative_and_huge_are_out_of_range(void **state)
{
	static const char *const cases[] = {"-1", "-1n", "-1Gi", "8Ei", "10E", "1e19",
		"1e999999999999", "9223372036854775808",
		"99999999999999999999999999999999999999999999", "16Ei"};
	uint64_t bytes;
	double millicores;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (quantity_parse_bytes(cases[i], &bytes) != -ERANGE)
			fail_msg("%s is in range for bytes", cases[i]);
		if (quantity_parse_millicores(cases[i], &millicores) != -ERANGE)
			fail_msg("%s is in range for millicores", cases[i]);
	}
	assert_int_equal(quantity_parse_bytes("1e-999999999999", &bytes), 0);
	assert_int_equal(bytes, 1);
}

static void test_millicores_are_written_in_canonical_form(void **state)
{
	static const struct {
		double millicores;
		const char *text;
	} cases[] = {
		{0, "0"},
		{-5, "0"},
		{400, "400m"},
		{1000, "1"},
		{2000, "2"},
		{1500, "1500m"},
		{62.5, "62500u"},
		{0.0001, "100n"},
		{2000000, "2k"},
		{100 * 1.3 * 1.3 * 1.3, "219700u"},
		{1e300, "9223372036854775807n"},
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		quantity_format_millicores(out, sizeof(out), cases[i].millicores);
		assert_string_equal(out, cases[i].text);
	}
}

static void test_bytes_are_written_in_canonical_form(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0"},
		{1000, "1000"},
		{1024, "1Ki"},
		{1536, "1536"},
		{64 << 20, "64Mi"},
		{1610612736, "1536Mi"},
		{128974848, "123Mi"},
		{1ull << 60, "1Ei"},
		{INT64_MAX, "9223372036854775807"},
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		quantity_format_bytes(out, sizeof(out), cases[i].bytes);
		assert_string_equal(out, cases[i].text);
	}
}

static void test_writing_and_reading_again_gives_the_same_value(void **state)
{
	uint64_t seed = 88172645463325252ull;
	char out[32];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t bytes;
		double millicores;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		uint64_t value = (seed >> 1) >> (i % 60) << (i % 40);
		value &= INT64_MAX;
		quantity_format_bytes(out, sizeof(out), value);
		assert_int_equal(quantity_parse_bytes(out, &bytes), 0);
		assert_true(bytes == value);
		double nano = (double)(seed >> 14);
		quantity_format_millicores(out, sizeof(out), nano / 1e6);
		assert_int_equal(quantity_parse_millicores(out, &millicores), 0);
		assert_true(millicores == nano / 1e6);
	}
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_suffix_is_read_as_bytes),
		cmocka_unit_test(test_parts_of_a_byte_round_up),
		cmocka_unit_test(test_millicores_are_exact),
		cmocka_unit_test(test_what_is_no_quantity_is_refused),
		cmocka_unit_test(test_negative_and_huge_are_out_of_range),
		cmocka_unit_test(test_millicores_are_written_in_canonical_form),
		cmocka_unit_test(test_bytes_are_written_in_canonical_form),
		cmocka_unit_test(test_writing_and_reading_again_gives_the_same_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
