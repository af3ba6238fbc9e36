// SPDX-License-Identifier: Apache-2.0
/* What bpf/ takes by turns: a request begins with the first payload while none is in flight. */
#include "request_talk.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum speaker {
	CLIENT = 0,
	SERVER = 1,
};

static const struct talk_told *say(int speaker, const char *bytes, size_t size)
{
	user_clock_ns += TALK_TURN_NS;
	talk_say(speaker, (const uint8_t *)bytes, size);
	return talk_look();
}

#define SAY(speaker, text) say(speaker, text, sizeof(text) - 1)

#define TLS_HELLO	   "\x16\x03\x01\x00\x06hello!"
#define TLS_CIPHERS	   "\x14\x03\x03\x00\x01\x01"
#define TLS_DATA	   "\x17\x03\x03\x00\x0dsecret secret"
#define TLS_ALERT13                                                                                \
	"\x17\x03\x03\x00\x13"                                                                     \
	"1234567890123456789"
#define TLS_ALERT12 "\x15\x03\x03\x00\x02\x01\x00"

static void test_redis_in_turns_of_any_segments(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	for (int turn = 0; turn < 10; turn++) {
		SAY(CLIENT, "*2\r\n$3\r\nGET\r\n");
		assert_int_equal(SAY(CLIENT, "$1\r\nk\r\n")->in_flight, 1);
		SAY(SERVER, "$5\r\nhel");
		assert_int_equal(SAY(SERVER, "lo\r\n")->requests, turn + 1);
	}
	assert_int_equal(talk_end()->failed, 0);
}

static void test_a_banner_answers_nothing(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	assert_int_equal(SAY(SERVER, "220 mail\r\n")->requests, 0);
	SAY(CLIENT, "HELO a\r\n");
	assert_int_equal(SAY(SERVER, "250 ok\r\n")->requests, 1);
	SAY(CLIENT, "QUIT\r\n");
	assert_int_equal(talk_end()->failed, 1);
}

static void test_a_handshake_of_tls_1_2_is_no_request(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	SAY(CLIENT, TLS_HELLO);
	SAY(SERVER, TLS_HELLO);
	SAY(CLIENT, TLS_HELLO TLS_CIPHERS TLS_HELLO);
	assert_int_equal(SAY(SERVER, TLS_CIPHERS TLS_HELLO)->requests, 0);
	for (int turn = 0; turn < 3; turn++) {
		assert_int_equal(SAY(CLIENT, TLS_DATA)->in_flight, 1);
		assert_int_equal(SAY(SERVER, TLS_DATA)->requests, turn + 1);
	}
	SAY(CLIENT, TLS_ALERT12);
	assert_int_equal(talk_end()->failed, 0);
}

/* Finished and alerts come as application data. */
static void test_handshake_and_goodbye_of_tls_1_3_are_no_requests(void **state)
{
	(void)state;
	talk_begin(SIDE_SERVER);
	SAY(CLIENT, TLS_HELLO);
	SAY(SERVER, TLS_HELLO TLS_CIPHERS TLS_DATA);
	/* Finished, and the first request in the same segment. */
	assert_int_equal(SAY(CLIENT, TLS_CIPHERS TLS_DATA TLS_DATA)->in_flight, 1);
	assert_int_equal(SAY(SERVER, TLS_DATA)->requests, 1);
	SAY(SERVER, TLS_DATA);
	SAY(CLIENT, TLS_DATA);
	assert_int_equal(SAY(SERVER, TLS_DATA)->requests, 2);
	assert_int_equal(SAY(CLIENT, TLS_ALERT13)->in_flight, 0);
	SAY(SERVER, TLS_ALERT13);
	assert_int_equal(talk_end()->requests, 2);
	assert_int_equal(talk_look()->failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redis_in_turns_of_any_segments),
		cmocka_unit_test(test_a_banner_answers_nothing),
		cmocka_unit_test(test_a_handshake_of_tls_1_2_is_no_request),
		cmocka_unit_test(test_handshake_and_goodbye_of_tls_1_3_are_no_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
