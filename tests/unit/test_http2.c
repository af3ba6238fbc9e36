// SPDX-License-Identifier: Apache-2.0
/* HTTP/2 as bpf/ follows it: each dialogue counts what it holds, however it is cut into segments. */
#include "dialogues_http2.h"

#include "dialogue_check.h"

static void all_dialogues(uint8_t side)
{
	static struct dialogue dialogue;

	for (size_t i = 0; http2_dialogue(i, &dialogue); i++)
		dialogue_check_cuts(&dialogue, side);
}

static void test_a_server_counts_the_same_however_segments_are_cut(void **state)
{
	(void)state;
	all_dialogues(SIDE_SERVER);
}

static void test_a_client_counts_the_same_however_segments_are_cut(void **state)
{
	(void)state;
	all_dialogues(SIDE_CLIENT);
}

/* The agent came when the connection had been open for long: neither preface nor first streams. */
static void test_a_connection_older_than_the_agent_counts_from_its_next_request(void **state)
{
	static struct dialogue dialogue;
	struct dialogue *d = &dialogue;
	const struct talk_told *told;

	(void)state;
	memset(d, 0, sizeof(*d));
	for (uint32_t stream = 2001; stream < 2009; stream += 2) {
		dialogue_frame(d, CLIENT, HTTP2_HEADERS, END_BOTH, stream, "\x82\x87\xbe", 3);
		dialogue_frame(d, SERVER, HTTP2_HEADERS, END_HEADERS, stream, BLOCK_503, 5);
		dialogue_frame(d, SERVER, HTTP2_DATA, END_STREAM, stream, "no", 2);
	}
	told = dialogue_hold(d, SIDE_SERVER, cut_nowhere, NULL);
	assert_int_equal(told->requests, 4);
	assert_int_equal(told->server_errors, 4);
	assert_int_equal(told->failed, 0);
	assert_int_equal(told->lost, 0);
}

static void test_a_segment_full_of_frames_is_read_to_its_end(void **state)
{
	static uint8_t bytes[TALK_BYTES_MAX];
	static struct dialogue dialogue;
	size_t size = 0;
	const struct talk_told *told;

	(void)state;
	memset(&dialogue, 0, sizeof(dialogue));
	http2_greet(&dialogue);
	dialogue_frame(&dialogue, CLIENT, HTTP2_HEADERS, END_HEADERS, 1, BLOCK_GET, 6);
	talk_begin(SIDE_SERVER);
	talk_say(CLIENT, dialogue.bytes, dialogue.size);
	/* Data frames of one byte, and a request behind them. */
	for (; size + 40 < sizeof(bytes); size += 10)
		memcpy(bytes + size, "\x00\x00\x01\x00\x00\x00\x00\x00\x01x", 10);
	memcpy(bytes + size, "\x00\x00\x06\x01\x05\x00\x00\x00\x03" BLOCK_GET, 15);
	talk_say(CLIENT, bytes, size + 15);
	told = talk_look();
	assert_int_equal(told->in_flight, 2);
	assert_int_equal(told->lost, 0);
	assert_int_equal(talk_end()->failed, 2);
}

static void test_more_streams_than_the_table_holds_are_counted_as_untracked(void **state)
{
	static struct dialogue dialogue;
	const struct talk_told *told;

	(void)state;
	memset(&dialogue, 0, sizeof(dialogue));
	http2_greet(&dialogue);
	talk_begin(SIDE_SERVER);
	talk_say(CLIENT, dialogue.bytes, dialogue.size);
	for (uint32_t stream = 1; stream < 2000; stream += 2) {
		memset(&dialogue, 0, sizeof(dialogue));
		dialogue_frame(&dialogue, CLIENT, HTTP2_HEADERS, END_BOTH, stream, BLOCK_GET, 6);
		talk_say(CLIENT, dialogue.bytes, dialogue.size);
	}
	told = talk_look();
	assert_int_equal(told->in_flight + (int64_t)told->untracked, 1000);
	/* A few probes fill most of it. */
	assert_true(told->in_flight > EXCHANGES * 3 / 4 && told->in_flight <= EXCHANGES);
	told = talk_end();
	assert_int_equal(told->in_flight, 0);
	assert_int_equal(told->failed + told->untracked, 1000);
}

/* Statuses as encoders write them: by index, as digits, Huffman-coded, with a table size before. */
static void test_the_status_is_read_from_each_way_to_write_it(void **state)
{
	static const struct {
		const char *block;
		size_t size;
		uint16_t status;
	} cases[] = {
		{"\x88", 1, 200},
		{"\x89", 1, 204},
		{"\x8b", 1, 304},
		{"\x8c", 1, 400},
		{"\x3f\x88", 2, 0},
		{"\x3f\x88\x01\x8e", 4, 500},
		{"\x3f\xe1\x1f\x8e", 4, 500},
		{"\x20\x8d", 2, 404},
		{"\x48\x03"
		 "100",
			5, 100},
		{"\x18\x03"
		 "429",
			5, 429},
		{"\x48\x82\x64\x02", 4, 302},
		{"\x08\x82\x10\x03", 4, 201},
		{"\x48\x83\x68\x4f\xff", 5, 429},
		{"\x48\x82\x6c", 3, 0},
		{"\xbe", 1, 0},
		{"", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t block[32] = {0};

		memcpy(block, cases[i].block, cases[i].size);
		if (http2_status(block, (uint32_t)cases[i].size) != cases[i].status)
			fail_msg("case %zu: expected %u, got %u", i, cases[i].status,
				http2_status(block, (uint32_t)cases[i].size));
	}
}

/* As its first bytes did not tell what it is, a request was begun; it was none. */
static void test_a_cut_preface_is_no_failed_request(void **state)
{
	const uint8_t *preface = (const uint8_t *)"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	(void)state;
	for (size_t cut = 1; cut < HTTP2_PREFACE_BYTES; cut++) {
		talk_begin(SIDE_SERVER);
		talk_say(0, preface, cut);
		talk_say(0, preface + cut, HTTP2_PREFACE_BYTES - cut);
		assert_int_equal(talk_end()->failed, 0);
		assert_int_equal(talk_look()->requests, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_server_counts_the_same_however_segments_are_cut),
		cmocka_unit_test(test_a_client_counts_the_same_however_segments_are_cut),
		cmocka_unit_test(
			test_a_connection_older_than_the_agent_counts_from_its_next_request),
		cmocka_unit_test(test_a_segment_full_of_frames_is_read_to_its_end),
		cmocka_unit_test(test_more_streams_than_the_table_holds_are_counted_as_untracked),
		cmocka_unit_test(test_the_status_is_read_from_each_way_to_write_it),
		cmocka_unit_test(test_a_cut_preface_is_no_failed_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
