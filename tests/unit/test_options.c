// SPDX-License-Identifier: Apache-2.0
/* Values of command lines: taken inside their range, refused with name and value outside. */
#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error goes here until assert_said(). */
static FILE *said;
static int kept;

static void hear(void)
{
	fflush(stderr);
	said = tmpfile();
	assert_non_null(said);
	kept = dup(STDERR_FILENO);
	dup2(fileno(said), STDERR_FILENO);
}

static void assert_said(const char *wanted)
{
	char text[256] = "";

	fflush(stderr);
	dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(said);
	text[fread(text, 1, sizeof(text) - 1, said)] = '\0';
	fclose(said);
	assert_string_equal(text, wanted);
}

static void test_numbers_are_taken_inside_their_range(void **state)
{
	uint32_t whole = 0;
	double real = 0;

	(void)state;
	hear();
	assert_int_equal(options_whole("p", "n", "1", 1, 9, &whole), 0);
	assert_int_equal(whole, 1);
	assert_int_equal(options_whole("p", "n", "9", 1, 9, &whole), 0);
	assert_int_equal(whole, 9);
	assert_int_equal(options_real("p", "n", "0.25", 0.25, 1, &real), 0);
	assert_true(real == 0.25);
	assert_int_equal(options_real("p", "n", "1e0", 0.25, 1, &real), 0);
	assert_true(real == 1);
	assert_int_equal(options_log_level("p", "debug"), 0);
	assert_said("");
}

static void test_what_is_no_such_number_changes_nothing(void **state)
{
	static const char *const wholes[] = {
		"", "0", "10", "1.5", "x", "5x", " 5", "-1", "+5", "99999999999999999999"};
	static const char *const reals[] = {"", "0.2", "1.1", "x", "0.5x", "nan", "inf"};
	uint32_t whole = 7;
	double real = 7;
	char wanted[128];

	(void)state;
	for (size_t i = 0; i < sizeof(wholes) / sizeof(wholes[0]); i++) {
		hear();
		assert_int_equal(options_whole("p", "n", wholes[i], 1, 9, &whole), -EINVAL);
		snprintf(wanted, sizeof(wanted), "p: --n: \"%s\" is not a number from 1 to 9\n",
			wholes[i]);
		assert_said(wanted);
		assert_int_equal(whole, 7);
	}
	for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
		hear();
		assert_int_equal(options_real("p", "n", reals[i], 0.25, 1, &real), -EINVAL);
		snprintf(wanted, sizeof(wanted), "p: --n: \"%s\" is not a number from 0.25 to 1\n",
			reals[i]);
		assert_said(wanted);
		assert_true(real == 7);
	}
}

static void test_a_level_and_an_argument_that_are_none_are_named(void **state)
{
	char program[] = "p", stray[] = "stray";
	char *argv[] = {program, stray, NULL};

	(void)state;
	hear();
	assert_int_equal(options_log_level("p", "loud"), -EINVAL);
	assert_said("p: --log-level: \"loud\" is not one of err, warning, notice, info, debug\n");
	hear();
	optind = 1;
	assert_int_equal(options_stray("p", 1, argv), 0);
	assert_int_equal(options_stray("p", 2, argv), -EINVAL);
	assert_said("p: \"stray\" is not an option. Try --help.\n");
	hear();
	assert_int_equal(options_refer("p"), -EINVAL);
	assert_said("Try 'p --help'.\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_are_taken_inside_their_range),
		cmocka_unit_test(test_what_is_no_such_number_changes_nothing),
		cmocka_unit_test(test_a_level_and_an_argument_that_are_none_are_named),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
