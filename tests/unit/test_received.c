// SPDX-License-Identifier: Apache-2.0
#include "common/received.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t take(struct received *received, const char *text)
{
	char piece[32];

	strncpy(piece, text, sizeof(piece));
	return received_take(piece, 1, strlen(text), received);
}

static void test_pieces_become_one_body(void **state)
{
	struct received received = {.most = 100};

	(void)state;
	assert_string_equal(received_text(&received), "");
	assert_int_equal(take(&received, "tail "), 5);
	assert_int_equal(take(&received, "latency"), 7);
	assert_int_equal(received.size, 12);
	assert_string_equal(received_text(&received), "tail latency");
	/* The next answer; what was of the one before is not shown. */
	received.size = 0;
	assert_string_equal(received_text(&received), "");
	assert_int_equal(take(&received, "new"), 3);
	assert_string_equal(received_text(&received), "new");
	free(received.bytes);
}

static void test_too_long_a_body_ends_the_transfer(void **state)
{
	struct received received = {.most = 8};

	(void)state;
	assert_int_equal(take(&received, "12345678"), 8);
	assert_int_equal(take(&received, "9"), 0);
	assert_int_equal(received_take((char[]){"9"}, SIZE_MAX, 1, &received), 0);
	assert_int_equal(received.size, 8);
	assert_string_equal(received_text(&received), "12345678");
	free(received.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_become_one_body),
		cmocka_unit_test(test_too_long_a_body_ends_the_transfer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
