// SPDX-License-Identifier: Apache-2.0
/* HTTP/1 as bpf/ follows it: each dialogue counts what it holds, however it is cut into segments. */
#include "dialogues_http1.h"

#include "dialogue_check.h"

static void all_dialogues(uint8_t side)
{
	static struct dialogue dialogue;

	for (size_t i = 0; http1_dialogue(i, &dialogue); i++)
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

/* @size bytes of one direction, in segments of at most @most bytes. */
static void say_in_segments(int is_response, const uint8_t *bytes, size_t size, size_t most)
{
	for (size_t at = 0; at < size; at += most)
		talk_say(is_response, bytes + at, size - at < most ? size - at : most);
}

static const struct talk_told *say_text(int is_response, const char *text)
{
	user_clock_ns += TALK_TURN_NS;
	say_in_segments(is_response, (const uint8_t *)text, strlen(text), TALK_BYTES_MAX);
	return talk_look();
}

#define GET   "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK_2  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define ERROR "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"

static void test_a_segment_full_of_chunks_is_read_to_its_end(void **state)
{
	static uint8_t bytes[TALK_BYTES_MAX];
	static const char chunk[] = "1\r\n\n\r\n";
	size_t size;

	(void)state;
	/* A GET behind the body, in the same segment; then its neighbour in the next one. */
	memset(bytes, '0', sizeof(bytes));
	size = strlen(
		strcpy((char *)bytes, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (; size + sizeof(chunk) + 40 < sizeof(bytes); size += sizeof(chunk) - 1)
		memcpy(bytes + size, chunk, sizeof(chunk) - 1);
	size += (size_t)sprintf((char *)bytes + size, "0\r\n\r\n" GET);
	talk_begin(SIDE_SERVER);
	talk_say(CLIENT, bytes, size);
	assert_int_equal(say_text(CLIENT, GET)->in_flight, 3);
	assert_int_equal(say_text(SERVER, OK_2 ERROR OK_2)->requests, 3);
	assert_int_equal(talk_end()->server_errors, 1);
}

static void test_thousands_of_pipelined_requests_are_each_counted(void **state)
{
	static uint8_t requests[TALK_BYTES_MAX], answers[2 * TALK_BYTES_MAX];
	static const char request[] = "GET / HTTP/1.1\n\n",
			  answer[] = "HTTP/1.1 500 No\nContent-Length: 0\n\n";
	const size_t count = 3000;

	(void)state;
	for (size_t i = 0; i < count; i++) {
		memcpy(requests + i * (sizeof(request) - 1), request, sizeof(request) - 1);
		memcpy(answers + i * (sizeof(answer) - 1), answer, sizeof(answer) - 1);
	}
	talk_begin(SIDE_SERVER);
	talk_say(CLIENT, requests, count * (sizeof(request) - 1));
	assert_int_equal(talk_look()->in_flight, count);
	say_in_segments(SERVER, answers, count * (sizeof(answer) - 1), 1448);
	assert_int_equal(talk_look()->requests, count);
	assert_int_equal(talk_end()->server_errors, count);
}

/* Everything twice, and each segment once more together with what comes next. */
static void test_segments_sent_again_change_nothing(void **state)
{
	static struct dialogue dialogue;
	struct talk_told once, again;

	(void)state;
	for (size_t i = 0; http1_dialogue(i, &dialogue); i++) {
		uint32_t begun[2];

		once = *dialogue_hold(&dialogue, SIDE_SERVER, cut_nowhere, NULL);
		talk_begin(SIDE_SERVER);
		begun[0] = talk.sequence[0];
		begun[1] = talk.sequence[1];
		for (size_t turn = 0; turn < dialogue.turn_count; turn++) {
			int speaker = dialogue.turns[turn].speaker;
			const uint8_t *bytes = dialogue.bytes + dialogue.turns[turn].begin;
			size_t size = dialogue.turns[turn].end - dialogue.turns[turn].begin;

			user_clock_ns += TALK_TURN_NS;
			begun[speaker] = talk.sequence[speaker];
			talk_say(speaker, bytes, size / 2);
			talk_segment(speaker, begun[speaker], bytes, size / 2);
			talk_segment(speaker, begun[speaker], bytes, size);
			talk_segment(speaker, begun[speaker] + (uint32_t)size / 2, bytes + size / 2,
				size - size / 2);
			talk.sequence[speaker] = begun[speaker] + (uint32_t)size;
		}
		again = *talk_end();
		dialogue_check_same(&dialogue, SIDE_SERVER, "and sent again", &again, &once);
	}
}

/* What was in flight stays known, and what comes afterwards is. */
static void test_a_missing_segment_costs_no_more_than_what_was_in_it(void **state)
{
	const struct talk_told *told;

	(void)state;
	talk_begin(SIDE_SERVER);
	say_text(CLIENT, GET GET);
	say_text(SERVER, OK_2);
	talk.sequence[CLIENT] += 1000;
	told = say_text(CLIENT, GET);
	assert_int_equal(told->lost, 1);
	assert_int_equal(told->in_flight, 2);
	say_text(SERVER, OK_2);
	say_text(SERVER, ERROR);
	say_text(CLIENT, GET);
	told = say_text(SERVER, ERROR);
	assert_int_equal(told->requests, 4);
	assert_int_equal(told->server_errors, 2);
	assert_int_equal(talk_end()->failed, 0);
}

/* Of sixteen requests, in segments of @count, every fourth. */
static void follow_every_fourth(int count)
{
	talk_begin(SIDE_SERVER);
	talk_slot()->detail_mask = 3;
	for (int i = 0; i < 16; i += count) {
		say_text(CLIENT, count == 2 ? GET GET : GET);
		say_text(SERVER, count == 2 ? OK_2 OK_2 : OK_2);
	}
	assert_int_equal(talk_end()->requests, 16);
	assert_int_equal(talk_slot()->breakdowns, 4);
}

static void test_as_many_as_the_mask_says_are_followed_in_detail(void **state)
{
	(void)state;
	follow_every_fourth(1);
	follow_every_fourth(2);
}

/* The commonest exchange costs no loop in the kernel; what is not that goes through one. */
static void test_a_lone_request_and_its_answer_take_no_loop(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	user_loop_turns = 0;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(say_text(CLIENT, GET)->in_flight, 1);
		assert_int_equal(say_text(SERVER, ERROR)->in_flight, 0);
	}
	assert_int_equal(user_loop_turns, 0);
	say_text(CLIENT, GET GET);
	assert_true(user_loop_turns > 0);
	say_text(SERVER, OK_2 OK_2);
	assert_int_equal(talk_end()->requests, 5);
}

/* Turns of a wait after which the other CPU is done with its segment; 3 ns each. */
static uint32_t turns_of_other;

static void gate_set(uint32_t flags)
{
	struct connection *connection = bpf_sk_storage_get(&connections, &talk.sk, 0, 0);

	connection->gate = flags;
}

static void leave_in_turn(uint32_t turn)
{
	if (turn == turns_of_other)
		gate_set(0);
}

/* A GET that arrives while another CPU is inside for so many turns. */
static const struct talk_told *say_at_a_busy_gate(uint32_t turns)
{
	const struct talk_told *told;

	gate_set(GATE_BUSY);
	turns_of_other = turns;
	user_on_turn = leave_in_turn;
	told = say_text(CLIENT, GET);
	user_on_turn = NULL;
	gate_set(0);
	return told;
}

/* 50 us: twice what large segments of heads were seen to take. */
static void test_a_segment_waits_while_another_cpu_is_at_a_large_one(void **state)
{
	const struct talk_told *told;

	(void)state;
	talk_begin(SIDE_SERVER);
	say_text(CLIENT, GET GET);
	told = say_at_a_busy_gate(50000 / 3);
	assert_int_equal(told->in_flight, 3);
	told = say_text(CLIENT, GET);
	assert_int_equal(told->lost, 0);
	assert_int_equal(told->in_flight, 4);
	assert_int_equal(say_text(SERVER, OK_2 ERROR OK_2 OK_2)->requests, 4);
	assert_int_equal(talk_end()->failed, 0);
}

/* What another CPU has of this connection, and sends on in a turn of our wait. */
static uint32_t overtaken_sequence;

static void overtaken_in_turn(uint32_t turn)
{
	if (turn != turns_of_other)
		return;
	user_on_turn = NULL;
	talk_segment(0, overtaken_sequence, (const uint8_t *)GET, strlen(GET));
}

/* A GET, and two more in the next segment, which comes so many turns before the first. */
static const struct talk_told *say_in_wrong_order(uint32_t turns)
{
	const struct talk_told *told;

	overtaken_sequence = talk.sequence[0];
	talk.sequence[0] += (uint32_t)strlen(GET);
	turns_of_other = turns;
	user_loop_turns = 0;
	user_on_turn = overtaken_in_turn;
	told = say_text(CLIENT, GET GET);
	user_on_turn = NULL;
	return told;
}

static void test_a_segment_waits_for_the_one_that_it_overtook_on_another_cpu(void **state)
{
	const struct talk_told *told;

	(void)state;
	talk_begin(SIDE_SERVER);
	say_text(CLIENT, GET GET);
	told = say_in_wrong_order(10000);
	assert_int_equal(told->in_flight, 5);
	assert_int_equal(told->lost, 0);
	assert_int_equal(say_text(SERVER, OK_2 OK_2 ERROR OK_2 OK_2)->requests, 5);
	assert_int_equal(talk_end()->failed, 0);
}

/* Lost in the network: its sender sends it again much later. */
static void test_a_connection_waits_in_vain_for_a_segment_once(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	say_text(CLIENT, GET GET);
	assert_int_equal(say_in_wrong_order(UINT32_MAX)->lost, 1);
	assert_true(user_loop_turns >= ORDER_TURNS);
	assert_int_equal(say_in_wrong_order(UINT32_MAX)->lost, 2);
	assert_true(user_loop_turns < ORDER_TURNS);
	/* What was begun and never answered. */
	assert_true(talk_end()->failed > 0);
}

/* The other CPU may have been taken away by a hypervisor: missed, and said to be. */
static void test_a_segment_at_a_gate_that_stays_busy_is_missed_and_said_to_be(void **state)
{
	const struct talk_told *told;

	(void)state;
	talk_begin(SIDE_SERVER);
	say_text(CLIENT, GET GET);
	told = say_at_a_busy_gate(UINT32_MAX);
	assert_int_equal(told->in_flight, 2);
	told = say_text(CLIENT, GET);
	assert_int_equal(told->lost, 1);
	assert_int_equal(told->in_flight, 3);
	/* Four answers, three of them to requests that are known. */
	assert_int_equal(say_text(SERVER, OK_2 ERROR OK_2 OK_2)->requests, 3);
	assert_int_equal(talk_end()->failed, 0);
}

/* Protocols whose requests begin like a method of HTTP, taken by turns. */
static void test_words_in_capitals_are_no_http(void **state)
{
	static const char *const requests[] = {"PING\r\n", "P", "PRI", "QUIT", "HELLO WORLD\r\n",
		"GETALLVALUES 1\r\n", "GET key\r\n", "A B C\r\n"};
	const struct talk_told *told;

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		talk_begin(SIDE_SERVER);
		for (int turn = 0; turn < 3; turn++) {
			told = say_text(CLIENT, requests[i]);
			assert_int_equal(told->in_flight, 1);
			say_text(SERVER, "HERE\r\n");
			told = say_text(SERVER, "and more\r\n");
			if (told->requests != (uint64_t)turn + 1)
				fail_msg("\"%s\": expected %d requests, got %llu", requests[i],
					turn + 1, (unsigned long long)told->requests);
		}
		assert_int_equal(talk_end()->failed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_server_counts_the_same_however_segments_are_cut),
		cmocka_unit_test(test_a_client_counts_the_same_however_segments_are_cut),
		cmocka_unit_test(test_a_segment_full_of_chunks_is_read_to_its_end),
		cmocka_unit_test(test_thousands_of_pipelined_requests_are_each_counted),
		cmocka_unit_test(test_segments_sent_again_change_nothing),
		cmocka_unit_test(test_a_missing_segment_costs_no_more_than_what_was_in_it),
		cmocka_unit_test(test_as_many_as_the_mask_says_are_followed_in_detail),
		cmocka_unit_test(test_a_lone_request_and_its_answer_take_no_loop),
		cmocka_unit_test(test_a_segment_waits_while_another_cpu_is_at_a_large_one),
		cmocka_unit_test(test_a_segment_waits_for_the_one_that_it_overtook_on_another_cpu),
		cmocka_unit_test(test_a_connection_waits_in_vain_for_a_segment_once),
		cmocka_unit_test(test_a_segment_at_a_gate_that_stays_busy_is_missed_and_said_to_be),
		cmocka_unit_test(test_words_in_capitals_are_no_http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
