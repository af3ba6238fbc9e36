// SPDX-License-Identifier: Apache-2.0
/* Weights on disk: what was written comes back, and nothing else is taken for it. */
#include "learner/dqn/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define WEIGHTS	     9
#define HEADER_BYTES 40
#define FILE_BYTES   (HEADER_BYTES + WEIGHTS * 4 + 4)
/* Offsets of docs/checkpoint.md. */
#define AT_VERSION 8
#define AT_COUNT   32

struct fixture {
	char directory[64];
	char path[128];
	float weights[WEIGHTS];
	struct checkpoint written;
	uint8_t bytes[FILE_BYTES];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	FILE *file;
	size_t size;

	if (!f)
		return -1;
	snprintf(f->directory, sizeof(f->directory), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/vertical.checkpoint", f->directory);
	for (int i = 0; i < WEIGHTS; i++)
		f->weights[i] = (float)i * 0.25F - 1;
	f->written = (struct checkpoint){.schema = 3,
		.inputs = 32,
		.actions = 9,
		.steps = 1ULL << 40,
		.count = WEIGHTS,
		.weights = f->weights};
	if (checkpoint_write(f->path, &f->written, 1))
		return -1;
	file = fopen(f->path, "re");
	size = file ? fread(f->bytes, 1, sizeof(f->bytes), file) : 0;
	if (file)
		fclose(file);
	*state = f;
	return size == sizeof(f->bytes) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (uint32_t age = 0; age < 8; age++) {
		char path[160];

		checkpoint_path(f->path, age, path, sizeof(path));
		unlink(path);
	}
	rmdir(f->directory);
	free(f);
	return 0;
}

/* What a writer of a wrong but whole file would have put at its end. */
static void checksum_renew(uint8_t bytes[FILE_BYTES])
{
	uint32_t crc = (uint32_t)crc32(0, bytes, FILE_BYTES - 4);

	memcpy(bytes + FILE_BYTES - 4, &crc, sizeof(crc));
}

/* From a copy of exactly @size bytes, so that a sanitizer sees a read past its end. */
static int parse(const uint8_t *bytes, size_t size, char *error, size_t error_size)
{
	struct checkpoint checkpoint;
	uint8_t *exact = malloc(size ? size : 1);
	int err;

	assert_non_null(exact);
	memcpy(exact, bytes, size);
	error[0] = '\0';
	err = checkpoint_parse(exact, size, &checkpoint, error, error_size);
	if (err)
		assert_null(checkpoint.weights);
	free(checkpoint.weights);
	free(exact);
	return err;
}

static void assert_refused(const uint8_t *bytes, size_t size, const char *word)
{
	char error[160];
	int err = parse(bytes, size, error, sizeof(error));

	assert_true(err == -EINVAL || err == -EPROTO);
	assert_true(error[0] != '\0');
	if (word && !strstr(error, word))
		fail_msg("\"%s\" does not say \"%s\"", error, word);
}

static void test_what_was_written_is_read(void **state)
{
	struct fixture *f = *state;
	struct checkpoint read;
	char error[160];

	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), 0);
	assert_int_equal(read.schema, 3);
	assert_int_equal(read.inputs, 32);
	assert_int_equal(read.actions, 9);
	assert_true(read.steps == 1ULL << 40);
	assert_int_equal(read.count, WEIGHTS);
	assert_memory_equal(read.weights, f->weights, sizeof(f->weights));
	free(read.weights);
}

static void test_a_checkpoint_without_weights_is_sound(void **state)
{
	struct fixture *f = *state;
	struct checkpoint empty = {.schema = 1}, read;
	char error[160];

	empty.weights = f->weights;
	assert_int_equal(checkpoint_write(f->path, &empty, 1), 0);
	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), 0);
	assert_int_equal(read.count, 0);
	free(read.weights);
}

static void test_a_newer_one_replaces_the_old_and_leaves_no_other_file(void **state)
{
	struct fixture *f = *state;
	struct checkpoint read;
	char other[160], error[160];

	f->written.steps = 7;
	assert_int_equal(checkpoint_write(f->path, &f->written, 1), 0);
	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), 0);
	assert_true(read.steps == 7);
	free(read.weights);
	snprintf(other, sizeof(other), "%s.new", f->path);
	assert_int_not_equal(access(other, F_OK), 0);
}

/* Steps of the checkpoint that is @age older than the newest; 0: there is none. */
static uint64_t steps_of(const struct fixture *f, uint32_t age)
{
	struct checkpoint read;
	char path[160], error[160];

	checkpoint_path(f->path, age, path, sizeof(path));
	if (checkpoint_read(path, &read, error, sizeof(error)))
		return 0;
	free(read.weights);
	return read.steps;
}

static void write_steps(struct fixture *f, uint64_t first, uint64_t last, uint32_t keep)
{
	for (f->written.steps = first; f->written.steps <= last; f->written.steps++)
		assert_int_equal(checkpoint_write(f->path, &f->written, keep), 0);
}

static void test_the_last_few_are_kept(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	write_steps(f, 1, 2, 3);
	assert_int_equal(steps_of(f, 0), 2);
	assert_int_equal(steps_of(f, 1), 1);
	assert_int_equal(steps_of(f, 2), 0);
	write_steps(f, 3, 9, 3);
	for (uint32_t age = 0; age < 3; age++)
		assert_int_equal(steps_of(f, age), 9 - age);
	assert_int_equal(steps_of(f, 3), 0);
	/* Fewer from now on: what is too many goes. */
	write_steps(f, 10, 10, 2);
	assert_int_equal(steps_of(f, 0), 10);
	assert_int_equal(steps_of(f, 1), 9);
	assert_int_equal(steps_of(f, 2), 0);
	write_steps(f, 11, 11, 1);
	assert_int_equal(steps_of(f, 0), 11);
	assert_int_equal(steps_of(f, 1), 0);
}

static void test_an_older_one_is_not_lost_to_a_newest_that_was_moved_away(void **state)
{
	struct fixture *f = *state;

	write_steps(f, 1, 3, 3);
	unlink(f->path);
	write_steps(f, 4, 4, 3);
	assert_int_equal(steps_of(f, 0), 4);
	assert_int_equal(steps_of(f, 1), 2);
	assert_int_equal(steps_of(f, 2), 1);
}

static void test_a_missing_file_is_no_entry(void **state)
{
	struct checkpoint read = {0};
	char error[160];

	(void)state;
	assert_int_equal(checkpoint_read("/nowhere/at/all", &read, error, sizeof(error)), -ENOENT);
	assert_int_equal(checkpoint_write("/nowhere/at/all", &(struct checkpoint){0}, 1), -ENOENT);
}

static void test_every_shorter_length_is_refused(void **state)
{
	struct fixture *f = *state;

	for (size_t size = 0; size < FILE_BYTES; size++)
		assert_refused(f->bytes, size, NULL);
}

static void test_a_byte_too_many_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t longer[FILE_BYTES + 1] = {0};

	memcpy(longer, f->bytes, FILE_BYTES);
	assert_refused(longer, sizeof(longer), "bytes");
}

static void test_every_changed_bit_is_refused(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < FILE_BYTES; i++) {
		for (int bit = 0; bit < 8; bit++) {
			f->bytes[i] ^= (uint8_t)(1 << bit);
			assert_refused(f->bytes, FILE_BYTES, NULL);
			f->bytes[i] ^= (uint8_t)(1 << bit);
		}
	}
}

static void test_another_version_is_named(void **state)
{
	struct fixture *f = *state;

	char error[160];

	f->bytes[AT_VERSION] = 2;
	checksum_renew(f->bytes);
	assert_int_equal(parse(f->bytes, FILE_BYTES, error, sizeof(error)), -EPROTO);
	assert_non_null(strstr(error, "version 2"));
}

static void test_a_count_that_overflows_is_refused(void **state)
{
	struct fixture *f = *state;
	/* The second, times four, is the right size again in 64 bits. */
	const uint64_t counts[] = {UINT64_MAX, (1ULL << 62) + WEIGHTS, WEIGHTS + 1, WEIGHTS - 1, 0};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		memcpy(f->bytes + AT_COUNT, &counts[i], sizeof(counts[i]));
		checksum_renew(f->bytes);
		assert_refused(f->bytes, FILE_BYTES, "weights");
	}
}

static void test_a_weight_that_is_not_finite_is_named(void **state)
{
	struct fixture *f = *state;
	const float bad[] = {NAN, INFINITY, -INFINITY};

	for (size_t i = 0; i < 3; i++) {
		memcpy(f->bytes + HEADER_BYTES + 4 * 5, &bad[i], sizeof(bad[i]));
		checksum_renew(f->bytes);
		assert_refused(f->bytes, FILE_BYTES, "weight 5");
	}
}

static void test_a_damaged_file_is_refused_as_memory_is(void **state)
{
	struct fixture *f = *state;
	struct checkpoint read = {0};
	char error[160] = "";

	assert_int_equal(truncate(f->path, FILE_BYTES - 1), 0);
	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), -EINVAL);
	assert_true(error[0] != '\0');
	assert_int_equal(truncate(f->path, 0), 0);
	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), -EINVAL);
	/* A hole of a gigabyte is refused before memory is taken for it. */
	assert_int_equal(truncate(f->path, 1LL << 30), 0);
	assert_int_equal(checkpoint_read(f->path, &read, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "too large"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_written_is_read),
		TEST(test_a_checkpoint_without_weights_is_sound),
		TEST(test_a_newer_one_replaces_the_old_and_leaves_no_other_file),
		TEST(test_the_last_few_are_kept),
		TEST(test_an_older_one_is_not_lost_to_a_newest_that_was_moved_away),
		TEST(test_a_missing_file_is_no_entry),
		TEST(test_every_shorter_length_is_refused),
		TEST(test_a_byte_too_many_is_refused),
		TEST(test_every_changed_bit_is_refused),
		TEST(test_another_version_is_named),
		TEST(test_a_count_that_overflows_is_refused),
		TEST(test_a_weight_that_is_not_finite_is_named),
		TEST(test_a_damaged_file_is_refused_as_memory_is),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
