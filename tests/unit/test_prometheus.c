// SPDX-License-Identifier: Apache-2.0
/* The exposition format: what a scraper reads is what was put in. */
#include "common/prometheus.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_metric_is_declared_and_sampled(void **state)
{
	struct prometheus page = {0};

	(void)state;
	prometheus_declare(&page, "ebbtide_ticks_total", "counter", "Ticks since the start.");
	prometheus_sample(&page, "ebbtide_ticks_total", NULL, 12);
	prometheus_sample(&page, "ebbtide_limit", "service=\"a/b\"", 0.5);
	assert_string_equal(page.text, "# HELP ebbtide_ticks_total Ticks since the start.\n"
				       "# TYPE ebbtide_ticks_total counter\n"
				       "ebbtide_ticks_total 12\n"
				       "ebbtide_limit{service=\"a/b\"} 0.5\n");
	assert_int_equal(page.used, strlen(page.text));
	free(page.text);
}

static void test_values_keep_all_their_digits(void **state)
{
	const double values[] = {0, -1, 0.1, 1e300, 5e-324, 9007199254740993.0, 4294967296.0};

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct prometheus page = {0};

		prometheus_sample(&page, "m", NULL, values[i]);
		assert_true(strtod(page.text + 2, NULL) == values[i]);
		free(page.text);
	}
}

static void test_values_that_are_not_finite_have_their_own_names(void **state)
{
	struct prometheus page = {0};

	(void)state;
	prometheus_sample(&page, "m", NULL, (double)NAN);
	prometheus_sample(&page, "m", NULL, (double)INFINITY);
	prometheus_sample(&page, "m", NULL, -(double)INFINITY);
	assert_string_equal(page.text, "m NaN\nm +Inf\nm -Inf\n");
	free(page.text);
}

static void test_a_page_grows_as_needed(void **state)
{
	struct prometheus page = {0};
	const char *line;
	char labels[3000];
	int count = 0;

	(void)state;
	memset(labels, 'x', sizeof(labels));
	memcpy(labels, "a=\"", 3);
	strcpy(labels + sizeof(labels) - 2, "\"");
	for (int i = 0; i < 500; i++)
		prometheus_sample(&page, "m", i % 7 ? NULL : labels, i);
	for (line = page.text; *line; line = strchr(line, '\n') + 1) {
		const char *value = strchr(line, ' ');

		assert_non_null(value);
		assert_true(strtod(value, NULL) == count);
		count++;
	}
	assert_int_equal(count, 500);
	assert_true(page.used < page.size);
	free(page.text);
}

static void test_a_label_is_escaped(void **state)
{
	char out[64];

	(void)state;
	prometheus_escape(out, sizeof(out), "a\\b\"c\nd");
	assert_string_equal(out, "a\\\\b\\\"c\\nd");
	prometheus_escape(out, sizeof(out), "");
	assert_string_equal(out, "");
}

static void test_a_long_label_is_cut_and_never_within_an_escape(void **state)
{
	char out[9];

	(void)state;
	for (size_t size = 1; size <= sizeof(out); size++) {
		size_t length;

		memset(out, 'z', sizeof(out));
		prometheus_escape(out, size, "\"\"\"\"\"\"\"\"");
		length = strlen(out);
		assert_true(length < size);
		assert_int_equal(length % 2, 0);
		for (size_t i = size; i < sizeof(out); i++)
			assert_int_equal(out[i], 'z');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_metric_is_declared_and_sampled),
		cmocka_unit_test(test_values_keep_all_their_digits),
		cmocka_unit_test(test_values_that_are_not_finite_have_their_own_names),
		cmocka_unit_test(test_a_page_grows_as_needed),
		cmocka_unit_test(test_a_label_is_escaped),
		cmocka_unit_test(test_a_long_label_is_cut_and_never_within_an_escape),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
