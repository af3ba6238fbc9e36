// SPDX-License-Identifier: Apache-2.0
/* Which reports were taken: each is new once, in any order, and what is remembered has a bound. */
#include "learner/storage/sequences.h"

#include "learner/storage/segment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_US (1700000000ULL * 1000000)

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct sequences));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	sequences_free(*state);
	free(*state);
	return 0;
}

static int claim(struct sequences *s, uint64_t sequence, struct sequence_claim *out)
{
	return sequences_claim(s, "node-1", 7, sequence, NOW_US, out);
}

/* Claim and settle as stored. */
static int take(struct sequences *s, uint64_t sequence)
{
	struct sequence_claim held;
	int err = claim(s, sequence, &held);

	if (!err)
		sequences_settle(s, &held, true);
	return err;
}

/* All that @s knows, in a new one. */
static void copy(struct sequences *s, struct sequences *into)
{
	uint8_t *record = NULL;
	size_t bytes = 0;

	memset(into, 0, sizeof(*into));
	assert_int_equal(sequences_pack(s, 1, NOW_US, &record, &bytes), 0);
	assert_int_equal(bytes % 8, 0);
	assert_int_equal(sequences_unpack(into, record + SEGMENT_PREFIX_BYTES,
				 bytes - SEGMENT_PREFIX_BYTES, NOW_US),
		0);
	free(record);
}

static void test_a_report_is_new_once(void **state)
{
	assert_int_equal(take(*state, 1), 0);
	assert_int_equal(take(*state, 1), -EEXIST);
	assert_int_equal(take(*state, 2), 0);
	assert_int_equal(take(*state, 2), -EEXIST);
	assert_int_equal(take(*state, 1), -EEXIST);
}

static void test_one_that_was_not_stored_may_come_again(void **state)
{
	struct sequence_claim held;

	assert_int_equal(claim(*state, 5, &held), 0);
	sequences_settle(*state, &held, false);
	assert_int_equal(claim(*state, 5, &held), 0);
	/* It is still the agent's newest. */
	assert_true(held.newest);
	sequences_settle(*state, &held, true);
	assert_int_equal(take(*state, 5), -EEXIST);
}

static void test_one_that_is_being_stored_is_neither_new_nor_stored(void **state)
{
	struct sequence_claim held, other;

	assert_int_equal(claim(*state, 5, &held), 0);
	assert_int_equal(claim(*state, 5, &other), -EBUSY);
	assert_int_equal(claim(*state, 6, &other), 0);
	sequences_settle(*state, &held, true);
	assert_int_equal(take(*state, 5), -EEXIST);
	sequences_settle(*state, &other, true);
}

static void test_reports_of_one_agent_at_the_same_time_are_bounded(void **state)
{
	struct sequence_claim held[64];
	uint64_t count = 0;

	while (count < 64 && claim(*state, count + 1, &held[count]) == 0)
		count++;
	assert_true(count >= 2 && count < 64);
	assert_int_equal(claim(*state, 100, &held[63]), -EBUSY);
	for (uint64_t i = 0; i < count; i++)
		sequences_settle(*state, &held[i], true);
	assert_int_equal(take(*state, 100), 0);
}

static void test_the_newest_is_known_when_repeated_as_well(void **state)
{
	struct sequence_claim held;

	assert_int_equal(take(*state, 9), 0);
	assert_int_equal(claim(*state, 9, &held), -EEXIST);
	assert_true(held.newest);
	assert_int_equal(claim(*state, 3, &held), 0);
	assert_false(held.newest);
	sequences_settle(*state, &held, true);
	assert_int_equal(claim(*state, 3, &held), -EEXIST);
	assert_false(held.newest);
}

static void test_any_order_is_stored_once(void **state)
{
	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 8192; i++)
			assert_int_equal(take(*state, (i ^ 37) + 1), round ? -EEXIST : 0);
}

static void test_a_long_spool_behind_the_newest_is_new(void **state)
{
	/* However long the learner was away. */
	assert_int_equal(take(*state, 10), 0);
	assert_int_equal(take(*state, 1000000), 0);
	for (uint64_t i = 11; i < 1000000; i += 1)
		assert_int_equal(take(*state, i), 0);
	for (uint64_t i = 10; i <= 1000000; i += 999)
		assert_int_equal(take(*state, i), -EEXIST);
}

static void test_the_ends_of_the_range_of_sequences_are_ordinary(void **state)
{
	const uint64_t ends[] = {UINT64_MAX, 1, UINT64_MAX - 1, 2, UINT64_MAX - 3};

	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < 5; i++)
			assert_int_equal(take(*state, ends[i]), round ? -EEXIST : 0);
	assert_int_equal(take(*state, UINT64_MAX - 2), 0);
	assert_int_equal(take(*state, 3), 0);
}

static void test_of_too_many_gaps_the_oldest_closes(void **state)
{
	struct sequence_claim held;

	/* Every other one: a gap between any two. */
	for (uint64_t i = 1; i <= SEQUENCES_RANGES; i++)
		assert_int_equal(take(*state, 2 * i), 0);
	assert_int_equal(take(*state, 2 * SEQUENCES_RANGES + 2), 0);
	/* 3 is in the closed gap: not known, and 2 and 4 cannot be told from it. */
	assert_int_equal(claim(*state, 3, &held), -ESTALE);
	assert_int_equal(claim(*state, 2, &held), -ESTALE);
	assert_int_equal(take(*state, 4), -EEXIST);
	assert_int_equal(take(*state, 5), 0);
	assert_int_equal(take(*state, 2 * SEQUENCES_RANGES + 1), 0);
	assert_int_equal(take(*state, 1), 0);
}

static void test_agents_and_their_starts_are_apart(void **state)
{
	struct sequences *s = *state;
	struct sequence_claim held;

	assert_int_equal(take(s, 1), 0);
	assert_int_equal(sequences_claim(s, "node-1", 8, 1, NOW_US, &held), 0);
	sequences_settle(s, &held, true);
	assert_int_equal(sequences_claim(s, "node-2", 7, 1, NOW_US, &held), 0);
	sequences_settle(s, &held, true);
	assert_int_equal(sequences_count(s), 3);
	assert_int_equal(take(s, 1), -EEXIST);
	assert_int_equal(sequences_claim(s, "node-2", 7, 1, NOW_US, &held), -EEXIST);
}

static void test_who_is_silent_for_a_day_is_forgotten(void **state)
{
	struct sequences *s = *state;
	const uint64_t day = SEQUENCES_IDLE_US;
	struct sequence_claim held, other;

	assert_int_equal(take(s, 1), 0);
	/* One whose report is being stored stays. */
	assert_int_equal(sequences_claim(s, "busy", 1, 1, NOW_US, &held), 0);
	assert_int_equal(sequences_claim(s, "other", 1, 1, NOW_US + day, &other), 0);
	sequences_settle(s, &other, true);
	assert_int_equal(sequences_count(s), 3);
	assert_int_equal(sequences_claim(s, "last", 1, 1, NOW_US + day + 1, &other), 0);
	sequences_settle(s, &other, true);
	assert_int_equal(sequences_count(s), 3);
	sequences_settle(s, &held, true);
	assert_int_equal(sequences_claim(s, "busy", 1, 1, NOW_US + day + 1, &held), -EEXIST);
}

static void test_a_new_agent_replaces_the_longest_silent_when_there_are_too_many(void **state)
{
	struct sequences *s = *state;
	struct sequence_claim held;
	char name[32];

	for (int i = 0; i < SEQUENCES_AGENTS; i++) {
		snprintf(name, sizeof(name), "node-%d", i);
		assert_int_equal(sequences_claim(s, name, 1, 1, NOW_US, &held), 0);
		sequences_settle(s, &held, true);
	}
	assert_int_equal(sequences_count(s), SEQUENCES_AGENTS);
	/* The first speaks again, so the second is the longest silent. */
	assert_int_equal(sequences_claim(s, "node-0", 1, 1, NOW_US, &held), -EEXIST);
	assert_int_equal(sequences_claim(s, "one more", 1, 1, NOW_US, &held), 0);
	sequences_settle(s, &held, true);
	assert_int_equal(sequences_count(s), SEQUENCES_AGENTS);
	assert_int_equal(sequences_claim(s, "node-0", 1, 1, NOW_US, &held), -EEXIST);
	assert_int_equal(sequences_claim(s, "node-2", 1, 1, NOW_US, &held), -EEXIST);
	assert_int_equal(sequences_claim(s, "node-1", 1, 1, NOW_US, &held), 0);
	sequences_settle(s, &held, true);
}

static void test_what_is_known_survives_a_record(void **state)
{
	struct sequences *s = *state, copied;
	struct sequence_claim held;

	for (uint64_t i = 1; i <= SEQUENCES_RANGES + 1; i++)
		assert_int_equal(take(s, 3 * i), 0);
	assert_int_equal(sequences_claim(s, "node-2", 1ULL << 63, 1, NOW_US, &held), 0);
	sequences_settle(s, &held, true);
	copy(s, &copied);
	assert_int_equal(sequences_count(&copied), 2);
	assert_int_equal(sequences_claim(&copied, "node-2", 1ULL << 63, 1, NOW_US, &held), -EEXIST);
	for (uint64_t i = 3; i <= SEQUENCES_RANGES; i++)
		assert_int_equal(claim(&copied, 3 * i, &held), -EEXIST);
	assert_int_equal(claim(&copied, 4, &held), -ESTALE);
	assert_int_equal(take(&copied, 8), 0);
	sequences_free(&copied);
}

static void test_what_is_being_stored_is_not_in_a_record(void **state)
{
	struct sequences *s = *state, copied;
	struct sequence_claim held;

	assert_int_equal(take(s, 1), 0);
	assert_int_equal(claim(s, 2, &held), 0);
	copy(s, &copied);
	sequences_settle(s, &held, true);
	assert_int_equal(take(&copied, 1), -EEXIST);
	assert_int_equal(take(&copied, 2), 0);
	sequences_free(&copied);
}

static void test_records_and_marks_add_up_in_any_order(void **state)
{
	struct sequences *s = *state, copied;

	assert_int_equal(take(s, 1), 0);
	assert_int_equal(take(s, 5), 0);
	copy(s, &copied);
	assert_int_equal(sequences_mark(&copied, "node-1", 7, 9, NOW_US), 0);
	assert_int_equal(sequences_mark(&copied, "node-1", 7, 5, NOW_US), -EEXIST);
	/* The older record once more. */
	{
		uint8_t *record;
		size_t bytes;

		assert_int_equal(sequences_pack(s, 1, NOW_US, &record, &bytes), 0);
		assert_int_equal(sequences_unpack(&copied, record + SEGMENT_PREFIX_BYTES,
					 bytes - SEGMENT_PREFIX_BYTES, NOW_US),
			0);
		free(record);
	}
	assert_int_equal(take(&copied, 9), -EEXIST);
	assert_int_equal(take(&copied, 1), -EEXIST);
	assert_int_equal(take(&copied, 7), 0);
	sequences_free(&copied);
}

static void test_who_was_silent_for_a_day_is_not_taken_from_a_record(void **state)
{
	struct sequences *s = *state, later = {0};
	uint8_t *record;
	size_t bytes;

	assert_int_equal(take(s, 1), 0);
	assert_int_equal(sequences_pack(s, 1, NOW_US, &record, &bytes), 0);
	assert_int_equal(sequences_unpack(&later, record + SEGMENT_PREFIX_BYTES,
				 bytes - SEGMENT_PREFIX_BYTES, NOW_US + SEQUENCES_IDLE_US + 1),
		0);
	assert_int_equal(sequences_count(&later), 0);
	sequences_free(&later);
	free(record);
}

static void test_a_payload_cut_anywhere_is_refused(void **state)
{
	struct sequences *s = *state;
	uint8_t *record;
	size_t bytes;

	assert_int_equal(take(s, 1), 0);
	assert_int_equal(take(s, 9), 0);
	assert_int_equal(sequences_pack(s, 1, NOW_US, &record, &bytes), 0);
	bytes -= SEGMENT_PREFIX_BYTES;
	for (size_t cut = 0; cut < bytes; cut++) {
		struct sequences into = {0};
		uint8_t *exact = malloc(cut ? cut : 1);

		assert_non_null(exact);
		memcpy(exact, record + SEGMENT_PREFIX_BYTES, cut);
		assert_int_equal(sequences_unpack(&into, exact, cut, NOW_US), -EINVAL);
		sequences_free(&into);
		free(exact);
	}
	free(record);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_report_is_new_once),
		TEST(test_one_that_was_not_stored_may_come_again),
		TEST(test_one_that_is_being_stored_is_neither_new_nor_stored),
		TEST(test_reports_of_one_agent_at_the_same_time_are_bounded),
		TEST(test_the_newest_is_known_when_repeated_as_well),
		TEST(test_any_order_is_stored_once),
		TEST(test_a_long_spool_behind_the_newest_is_new),
		TEST(test_the_ends_of_the_range_of_sequences_are_ordinary),
		TEST(test_of_too_many_gaps_the_oldest_closes),
		TEST(test_agents_and_their_starts_are_apart),
		TEST(test_who_is_silent_for_a_day_is_forgotten),
		TEST(test_a_new_agent_replaces_the_longest_silent_when_there_are_too_many),
		TEST(test_what_is_known_survives_a_record),
		TEST(test_what_is_being_stored_is_not_in_a_record),
		TEST(test_records_and_marks_add_up_in_any_order),
		TEST(test_who_was_silent_for_a_day_is_not_taken_from_a_record),
		TEST(test_a_payload_cut_anywhere_is_refused),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
