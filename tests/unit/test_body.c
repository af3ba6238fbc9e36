// SPDX-License-Identifier: Apache-2.0
/* Bodies: their bounds, and inflating within them. */
#include "learner/body.h"

#include "learner/dqn/random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#define KIB 1024U
#define MIB (1024U * KIB)

static uint8_t *noise(size_t size)
{
	uint8_t *bytes = malloc(size);
	struct random_state random;

	assert_non_null(bytes);
	random_seed(&random, 1);
	/* Four bits of eight: it compresses by about half. */
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)random_below(&random, 16);
	return bytes;
}

/* @data compressed; windowBits 15 for zlib's format, 31 for gzip's. */
static uint8_t *compressed(const void *data, size_t size, int window_bits, size_t *out_size)
{
	z_stream stream = {.next_in = (Bytef *)data, .avail_in = (uInt)size};
	size_t bound = size + size / 100 + 1000;
	uint8_t *out = malloc(bound);

	assert_non_null(out);
	assert_int_equal(
		deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	stream.next_out = out;
	stream.avail_out = (uInt)bound;
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	*out_size = stream.total_out;
	deflateEnd(&stream);
	return out;
}

static void test_a_body_grows_by_what_comes(void **state)
{
	struct body_budget budget = {.most = MIB};
	struct body body = {.budget = &budget};
	uint8_t *data = noise(300 * KIB);

	(void)state;
	for (size_t at = 0; at < 300 * KIB; at += 1000)
		assert_int_equal(
			body_add(&body, data + at, 300 * KIB - at < 1000 ? 300 * KIB - at : 1000),
			0);
	assert_int_equal(body.size, 300 * KIB);
	assert_memory_equal(body.bytes, data, body.size);
	assert_true(atomic_load(&budget.used) >= body.size);
	assert_true(atomic_load(&budget.used) <= 2 * body.size);
	body_free(&body);
	assert_int_equal(atomic_load(&budget.used), 0);
	free(data);
}

static void test_one_body_is_bounded(void **state)
{
	struct body_budget budget = {.most = 1024 * (size_t)MIB};
	struct body body = {.budget = &budget};
	uint8_t *data = noise(MIB);

	(void)state;
	for (size_t i = 0; i < BODY_BYTES_MAX / MIB; i++)
		assert_int_equal(body_add(&body, data, MIB), 0);
	assert_int_equal(body_add(&body, data, 1), -EMSGSIZE);
	assert_int_equal(body.size, BODY_BYTES_MAX);
	body_free(&body);
	free(data);
}

static void test_all_bodies_together_are_bounded(void **state)
{
	struct body_budget budget = {.most = 100 * KIB};
	struct body bodies[20];
	uint8_t *data = noise(10 * KIB);
	int taken = 0, err = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		bodies[i] = (struct body){.budget = &budget};
		err = body_add(&bodies[i], data, 10 * KIB);
		taken += err == 0;
		assert_true(err == 0 || err == -ENOBUFS);
		assert_true(atomic_load(&budget.used) <= budget.most);
	}
	assert_true(taken >= 5 && taken <= 10);
	/* One that goes makes room. */
	assert_int_equal(err, -ENOBUFS);
	body_free(&bodies[0]);
	assert_int_equal(body_add(&bodies[19], data, 10 * KIB), 0);
	for (int i = 0; i < 20; i++)
		body_free(&bodies[i]);
	assert_int_equal(atomic_load(&budget.used), 0);
	free(data);
}

static void test_zlib_and_gzip_are_inflated(void **state)
{
	const size_t sizes[] = {0, 1, 8191, 8192, 8193, 300000, 5 * MIB};
	struct body_budget budget = {.most = 64 * MIB};
	uint8_t *data = noise(5 * MIB);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int bits = 15; bits <= 31; bits += 16) {
			struct body body = {.budget = &budget};
			size_t size;
			uint8_t *bytes = compressed(data, sizes[i], bits, &size);

			assert_int_equal(body_add(&body, bytes, size), 0);
			free(bytes);
			assert_int_equal(body_inflate(&body), 0);
			assert_int_equal(body.size, sizes[i]);
			if (body.size)
				assert_memory_equal(body.bytes, data, body.size);
			body_free(&body);
			assert_int_equal(atomic_load(&budget.used), 0);
		}
	}
	free(data);
}

static void test_a_bomb_stops_at_the_bound(void **state)
{
	const size_t sizes[] = {BODY_BYTES_MAX, BODY_BYTES_MAX + 1, 8 * (size_t)BODY_BYTES_MAX};
	const int expected[] = {0, -EMSGSIZE, -EMSGSIZE};
	struct body_budget budget = {.most = 64 * MIB};
	uint8_t *zeros = calloc(8, BODY_BYTES_MAX);

	(void)state;
	assert_non_null(zeros);
	for (int i = 0; i < 3; i++) {
		struct body body = {.budget = &budget};
		size_t size;
		uint8_t *bytes = compressed(zeros, sizes[i], 15, &size);

		assert_int_equal(body_add(&body, bytes, size), 0);
		free(bytes);
		assert_int_equal(body_inflate(&body), expected[i]);
		body_free(&body);
		assert_int_equal(atomic_load(&budget.used), 0);
	}
	free(zeros);
}

static void test_inflating_stays_within_the_budget(void **state)
{
	struct body_budget budget = {.most = 256 * KIB};
	struct body body = {.budget = &budget};
	uint8_t *zeros = calloc(1, MIB), *bytes;
	size_t size;

	(void)state;
	assert_non_null(zeros);
	bytes = compressed(zeros, MIB, 15, &size);
	assert_int_equal(body_add(&body, bytes, size), 0);
	assert_int_equal(body_inflate(&body), -ENOBUFS);
	assert_int_equal(body.size, 0);
	assert_int_equal(atomic_load(&budget.used), 0);
	free(bytes);
	free(zeros);
}

static void test_what_is_no_stream_is_refused(void **state)
{
	struct body_budget budget = {.most = MIB};
	uint8_t *data = noise(1000), *bytes;
	size_t size;

	(void)state;
	bytes = compressed(data, 1000, 15, &size);
	/* Cut anywhere. */
	for (size_t cut = 0; cut < size; cut++) {
		struct body body = {.budget = &budget};

		assert_int_equal(body_add(&body, bytes, cut), 0);
		assert_int_equal(body_inflate(&body), -EINVAL);
		body_free(&body);
	}
	/* Something behind the end; a bit that flipped; not compressed at all. */
	for (int i = 0; i < 3; i++) {
		struct body body = {.budget = &budget};

		assert_int_equal(body_add(&body, i < 2 ? bytes : data, i < 2 ? size : 1000), 0);
		if (i == 0)
			assert_int_equal(body_add(&body, "x", 1), 0);
		else
			body.bytes[body.size / 2] ^= 1;
		assert_int_equal(body_inflate(&body), -EINVAL);
		assert_int_equal(atomic_load(&budget.used), 0);
	}
	free(bytes);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_body_grows_by_what_comes),
		cmocka_unit_test(test_one_body_is_bounded),
		cmocka_unit_test(test_all_bodies_together_are_bounded),
		cmocka_unit_test(test_zlib_and_gzip_are_inflated),
		cmocka_unit_test(test_a_bomb_stops_at_the_bound),
		cmocka_unit_test(test_inflating_stays_within_the_budget),
		cmocka_unit_test(test_what_is_no_stream_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
