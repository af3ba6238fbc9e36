// SPDX-License-Identifier: Apache-2.0
/* The hash index against a plain list. */
#include "learner/dqn/random.h"
#include "learner/index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ITEMS 3000

static bool holds(const struct index *index, uint64_t hash, const void *item)
{
	void *found;

	for (size_t at = 0; (found = index_find(index, hash, &at));)
		if (found == item)
			return true;
	return false;
}

static void test_an_empty_index_finds_nothing(void **state)
{
	struct index index = {0};
	size_t at = 0;
	int item;

	(void)state;
	assert_null(index_find(&index, 7, &at));
	index_remove(&index, 7, &item);
	assert_int_equal(index.count, 0);
}

static void test_items_of_one_hash_are_all_found(void **state)
{
	struct index index = {0};
	int items[5];
	size_t found = 0;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(index_add(&index, 42, &items[i]), 0);
	for (size_t at = 0; index_find(&index, 42, &at);)
		found++;
	assert_int_equal(found, 5);
	index_remove(&index, 42, &items[2]);
	assert_false(holds(&index, 42, &items[2]));
	for (int i = 0; i < 5; i++)
		assert_true(i == 2 || holds(&index, 42, &items[i]));
	index_free(&index);
}

/* Few home slots, so that runs are long, wrap around and get holes. */
static void test_any_order_of_additions_and_removals_agrees_with_a_list(void **state)
{
	static int items[ITEMS];
	static uint64_t hashes[ITEMS];
	static bool present[ITEMS];
	struct index index = {0};
	struct random_state random;
	size_t count = 0;

	(void)state;
	random_seed(&random, 3);
	for (int i = 0; i < ITEMS; i++)
		hashes[i] = random_below(&random, 400);
	for (int round = 0; round < 40 * ITEMS; round++) {
		uint32_t i = random_below(&random, ITEMS);

		/* Mostly growing in the first half, mostly shrinking in the second. */
		if (!present[i] && (round < 20 * ITEMS || random_below(&random, 4) == 0)) {
			assert_int_equal(index_add(&index, hashes[i], &items[i]), 0);
			present[i] = true;
			count++;
		} else if (present[i]) {
			index_remove(&index, hashes[i], &items[i]);
			present[i] = false;
			count--;
		}
		assert_int_equal(index.count, count);
		if (round % 5000 == 0)
			for (int k = 0; k < ITEMS; k++)
				assert_int_equal(holds(&index, hashes[k], &items[k]), present[k]);
	}
	index_free(&index);
}

static void test_the_hash_goes_on_where_it_stopped(void **state)
{
	(void)state;
	assert_true(index_hash(index_hash(INDEX_HASH_START, "ab", 2), "cd", 2) ==
		    index_hash(INDEX_HASH_START, "abcd", 4));
	assert_true(index_hash(INDEX_HASH_START, "a", 1) != index_hash(INDEX_HASH_START, "b", 1));
	/* Published test vector of FNV-1a, 64 bits. */
	assert_true(index_hash(INDEX_HASH_START, "foobar", 6) == 0x85944171f73967e8ULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_index_finds_nothing),
		cmocka_unit_test(test_items_of_one_hash_are_all_found),
		cmocka_unit_test(test_any_order_of_additions_and_removals_agrees_with_a_list),
		cmocka_unit_test(test_the_hash_goes_on_where_it_stopped),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
