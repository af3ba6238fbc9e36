// SPDX-License-Identifier: Apache-2.0
/* Reports that wait on disk: in order, bounded, and there after a restart. */
#include "node/spool.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MOST 4

struct fixture {
	char directory[64];
	char reports[80];
	struct spool *spool;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	snprintf(f->directory, sizeof(f->directory), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	snprintf(f->reports, sizeof(f->reports), "%s/spool", f->directory);
	*state = f;
	return spool_open(&f->spool, f->directory, MOST);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	DIR *stream = opendir(f->reports);
	struct dirent *entry;

	spool_close(f->spool);
	while (stream && (entry = readdir(stream)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(stream), entry->d_name, 0);
	if (stream)
		closedir(stream);
	rmdir(f->reports);
	rmdir(f->directory);
	free(f);
	return 0;
}

static int put(struct spool *spool, const char *text)
{
	return spool_put(spool, (const uint8_t *)text, strlen(text));
}

/* The oldest is @text; takes it out. */
static void assert_oldest(struct spool *spool, const char *text)
{
	uint64_t sequence;
	uint8_t *bytes;
	size_t size;

	assert_int_equal(spool_oldest(spool, &sequence, &bytes, &size), 0);
	assert_int_equal(size, strlen(text));
	assert_memory_equal(bytes, text, size);
	free(bytes);
	spool_drop(spool, sequence);
}

static void assert_empty(struct spool *spool)
{
	uint64_t sequence;
	uint8_t *bytes = NULL;
	size_t size;

	assert_int_equal(spool_count(spool), 0);
	assert_int_equal(spool_oldest(spool, &sequence, &bytes, &size), -ENOENT);
}

static size_t files_in(const char *directory)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	size_t count = 0;

	assert_non_null(stream);
	while ((entry = readdir(stream)))
		count += entry->d_name[0] != '.';
	closedir(stream);
	return count;
}

static void test_reports_leave_in_the_order_they_came(void **state)
{
	struct fixture *f = *state;

	assert_empty(f->spool);
	assert_int_equal(put(f->spool, "first"), 0);
	assert_int_equal(put(f->spool, "second"), 0);
	assert_int_equal(spool_count(f->spool), 2);
	assert_oldest(f->spool, "first");
	assert_int_equal(put(f->spool, "third"), 0);
	assert_oldest(f->spool, "second");
	assert_oldest(f->spool, "third");
	assert_empty(f->spool);
	assert_int_equal(files_in(f->reports), 0);
}

static void test_a_report_stays_until_it_is_dropped(void **state)
{
	struct fixture *f = *state;
	uint64_t sequence;
	uint8_t *bytes;
	size_t size;

	put(f->spool, "kept");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(spool_oldest(f->spool, &sequence, &bytes, &size), 0);
		free(bytes);
	}
	assert_int_equal(spool_count(f->spool), 1);
	assert_oldest(f->spool, "kept");
}

static void test_a_full_spool_gives_up_its_oldest(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < MOST; i++)
		assert_int_equal(put(f->spool, (const char *[]){"0", "1", "2", "3"}[i]), 0);
	assert_int_equal(put(f->spool, "4"), 1);
	assert_int_equal(put(f->spool, "5"), 1);
	assert_int_equal(spool_count(f->spool), MOST);
	assert_int_equal(files_in(f->reports), MOST);
	assert_oldest(f->spool, "2");
}

static void test_a_restart_takes_over_what_waits(void **state)
{
	struct fixture *f = *state;

	put(f->spool, "a");
	put(f->spool, "b");
	put(f->spool, "c");
	assert_oldest(f->spool, "a");
	spool_close(f->spool);
	assert_int_equal(spool_open(&f->spool, f->directory, MOST), 0);
	assert_int_equal(spool_count(f->spool), 2);
	put(f->spool, "d");
	assert_oldest(f->spool, "b");
	assert_oldest(f->spool, "c");
	assert_oldest(f->spool, "d");
	assert_empty(f->spool);
}

static void test_a_restart_with_a_smaller_bound_keeps_the_newest(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < MOST; i++)
		put(f->spool, (const char *[]){"0", "1", "2", "3"}[i]);
	spool_close(f->spool);
	assert_int_equal(spool_open(&f->spool, f->directory, 2), 0);
	assert_int_equal(put(f->spool, "4"), 3);
	assert_oldest(f->spool, "3");
	assert_oldest(f->spool, "4");
	assert_empty(f->spool);
}

static void file_make(const char *directory, const char *name)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs("x", file);
	fclose(file);
}

static void test_files_that_are_not_reports_are_left_alone(void **state)
{
	struct fixture *f = *state;

	file_make(f->reports, "notes.txt");
	file_make(f->reports, "00000000000000000007.report.new");
	spool_close(f->spool);
	assert_int_equal(spool_open(&f->spool, f->directory, MOST), 0);
	assert_empty(f->spool);
	assert_int_equal(files_in(f->reports), 2);
}

static void test_a_report_that_vanished_is_passed_over(void **state)
{
	struct fixture *f = *state;
	char path[160];

	put(f->spool, "0");
	put(f->spool, "1");
	put(f->spool, "2");
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%020d.report", f->reports, i);
		assert_int_equal(unlink(path), 0);
	}
	assert_oldest(f->spool, "2");
	assert_empty(f->spool);
}

static void test_a_report_that_cannot_be_written_counts_as_lost(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rmdir(f->reports), 0);
	assert_int_equal(put(f->spool, "x"), 1);
	assert_empty(f->spool);
}

static void test_no_folder_for_state_is_an_error(void **state)
{
	struct spool *spool = NULL;

	(void)state;
	assert_int_equal(spool_open(&spool, "/nowhere/at/all", MOST), -ENOENT);
	assert_null(spool);
}

static void *put_many(void *context)
{
	for (int i = 0; i < 100; i++)
		put(context, "threaded");
	return NULL;
}

static void test_two_threads_lose_nothing(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[2];

	spool_close(f->spool);
	assert_int_equal(spool_open(&f->spool, f->directory, 1000), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_many, f->spool), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(spool_count(f->spool), 200);
	for (int i = 0; i < 200; i++)
		assert_oldest(f->spool, "threaded");
	assert_empty(f->spool);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_reports_leave_in_the_order_they_came),
		TEST(test_a_report_stays_until_it_is_dropped),
		TEST(test_a_full_spool_gives_up_its_oldest),
		TEST(test_a_restart_takes_over_what_waits),
		TEST(test_a_restart_with_a_smaller_bound_keeps_the_newest),
		TEST(test_files_that_are_not_reports_are_left_alone),
		TEST(test_a_report_that_vanished_is_passed_over),
		TEST(test_a_report_that_cannot_be_written_counts_as_lost),
		TEST(test_no_folder_for_state_is_an_error),
		TEST(test_two_threads_lose_nothing),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
