// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/simulate_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/ebbtide-simulate-XXXXXX";

static int file_make(void **state)
{
	int file = mkstemp(path);

	(void)state;
	if (file < 0)
		return -1;
	close(file);
	return 0;
}

static int file_remove(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_text(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fputs(text, file) < 0, 0);
	assert_int_equal(fclose(file), 0);
}

static void test_what_is_written_is_read_back(void **state)
{
	struct simulate_service written, read;
	char error[256];
	FILE *file;

	(void)state;
	simulate_service_init(&written);
	simulate_service_init(&read);
	for (size_t i = 0; i < simulate_field_count; i++)
		*(double *)((char *)&written + simulate_fields[i].offset) =
			i % 2 ? simulate_fields[i].highest : simulate_fields[i].lowest;
	written.work_us = 1234.567;
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(simulate_file_write(file, &written, "of fibonacci\nand more"), 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(simulate_file_read(path, &read, error, sizeof(error)), 0);
	assert_memory_equal(&read, &written, sizeof(read));
}

static void test_a_file_sets_what_it_names(void **state)
{
	struct simulate_service service, defaults;
	char error[256];

	(void)state;
	simulate_service_init(&service);
	simulate_service_init(&defaults);
	write_text("# mine\n\n  work_us\t2900 # of one\nworkers 1\r\n");
	assert_int_equal(simulate_file_read(path, &service, error, sizeof(error)), 0);
	assert_true(service.work_us == 2900);
	assert_true(service.workers == 1);
	defaults.work_us = 2900;
	defaults.workers = 1;
	assert_memory_equal(&service, &defaults, sizeof(service));
}

static void test_a_wrong_line_is_named_and_changes_nothing(void **state)
{
	const char *const texts[][2] = {
		{"work_us 5\nspeed 3\n", "line 2: no parameter 'speed'; docs/simulator.md"},
		{"work_us 5\nworkers 1.5\n",
			"line 2: workers: 1.5 is not a whole number from 1 to 256"},
		{"work_us\n", "line 1: work_us: '' is not a number"},
		{"work_us 5 6\n", "line 1: work_us: '5 6' is not a number"},
		{"work_us nan\n", "line 1: work_us: 'nan' is not a number"},
		{"work_us -1\n", "line 1: work_us: -1 is not a number from 1 to 1e+08"},
	};
	struct simulate_service service, before;
	char error[256], line[400];

	(void)state;
	simulate_service_init(&service);
	before = service;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_text(texts[i][0]);
		assert_int_equal(simulate_file_read(path, &service, error, sizeof(error)), -EINVAL);
		assert_non_null(strstr(error, texts[i][1]));
		assert_memory_equal(&service, &before, sizeof(service));
	}
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	write_text(line);
	assert_int_equal(simulate_file_read(path, &service, error, sizeof(error)), -EINVAL);
	assert_int_equal(
		simulate_file_read("/nonexistent/x", &service, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/x"));
}

static void test_a_trace_is_a_number_a_line(void **state)
{
	char error[256], comment[1000];
	double *rates;
	uint32_t seconds;

	(void)state;
	memset(comment, '#', sizeof(comment) - 1);
	comment[sizeof(comment) - 1] = '\0';
	write_text("# seconds\n10\n20.5\n\n0\n7 # last\n");
	assert_int_equal(simulate_trace_read(path, 1, &rates, &seconds, error, sizeof(error)), 0);
	assert_int_equal(seconds, 4);
	assert_true(rates[0] == 10 && rates[1] == 20.5 && rates[2] == 0 && rates[3] == 7);
	free(rates);
	assert_int_equal(simulate_trace_read(path, 3, &rates, &seconds, error, sizeof(error)), 0);
	assert_int_equal(seconds, 2);
	assert_true(rates[0] == 10 && rates[1] == 7);
	free(rates);
	write_text(comment);
	assert_int_equal(
		simulate_trace_read(path, 1, &rates, &seconds, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "has no line with a rate"));
	assert_null(rates);
	write_text("3\n-1\n");
	assert_int_equal(
		simulate_trace_read(path, 1, &rates, &seconds, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "line 2: '-1' is not a number of requests"));
	assert_null(rates);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read_back),
		cmocka_unit_test(test_a_file_sets_what_it_names),
		cmocka_unit_test(test_a_wrong_line_is_named_and_changes_nothing),
		cmocka_unit_test(test_a_trace_is_a_number_a_line),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, file_make, file_remove);
}
