// SPDX-License-Identifier: Apache-2.0
/* A segment that is told to be one request and no more is that to the automaton as well. */
#include "http1_plain.h"

#include "learner/dqn/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROOM (HTTP1_PLAIN_BYTES + HTTP1_PLAIN_BEHIND)

/* As in the kernel: what is behind the bytes may be anything. */
static bool is_plain(const char *bytes, size_t size, uint8_t behind)
{
	uint8_t room[ROOM];

	memset(room, behind, sizeof(room));
	memcpy(room, bytes, size);
	return http1_is_plain(room, (uint32_t)size);
}

/* Requests that the automaton finds in @size bytes; *@state is where it stands behind them. */
static int count_requests(const char *bytes, size_t size, uint8_t *state)
{
	uint8_t room[ROOM + HTTP1_BEHIND] = {0};
	struct http1 http1 = {0};
	uint32_t event;
	int count = 0;

	memcpy(room, bytes, size);
	for (size_t at = 0; at < size;) {
		at += http1_step(&http1, room + at, (uint32_t)(size - at), 0, &event);
		count += event == HTTP1_REQUEST;
	}
	*state = http1.state;
	return count;
}

#define LINE  "GET /a?b=c HTTP/1.1\r\n"
#define LINES LINE "Host: a\r\n"
#define TEN   "0123456789"
#define FIFTY TEN TEN TEN TEN TEN

static void test_usual_requests_are_plain(void **state)
{
	static const char *const requests[] = {
		LINE "\r\n",
		LINES "\r\n",
		"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
		"HEAD / HTTP/1.0\r\n\r\n",
		"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n",
		LINES "Connection: keep-alive\r\nCache-Control: max-age=0\r\nCookie: a=b\r\nTE: "
		      "trailers\r\nContent-Type: text/plain\r\n\r\n",
		LINES "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\nAccept: */*\r\n"
		      "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n"
		      "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
		      "Transfer: no\r\nX-Content-Length: 7\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		for (int behind = 0; behind < 256; behind++)
			if (!is_plain(requests[i], strlen(requests[i]), (uint8_t)behind))
				fail_msg("\"%s\" before bytes %d: expected plain, got not",
					requests[i], behind);
}

static void test_a_request_of_any_length_that_fits_is_plain(void **state)
{
	char bytes[HTTP1_PLAIN_BYTES + 1];

	(void)state;
	for (size_t size = 20; size <= HTTP1_PLAIN_BYTES; size++) {
		memset(bytes, 'x', size);
		memcpy(bytes, "GET / HTTP/1.1\n", 15);
		memcpy(bytes + size - 4, "\r\n\r\n", 4);
		assert_true(is_plain(bytes, size, 'x'));
		/* A second one in it, wherever that begins. */
		for (size_t at = 16; at + 6 < size; at++) {
			memcpy(bytes + at, "\n\r\nG", 4);
			assert_false(is_plain(bytes, size, 'x'));
			memcpy(bytes + at, "xxxx", 4);
		}
	}
}

static void test_whatever_else_is_left_to_the_automaton(void **state)
{
	static const char *const requests[] = {
		"G",
		"GET",
		"\r\n\r\n",
		LINES,
		LINES "\r",
		LINES "\r\n\r",
		LINES "\r\n" LINES "\r\n",
		LINES "\n" LINES "\r\n",
		"\r\n" LINES "\r\n",
		"get / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n",
		LINES "Content-Length: 0\r\n\r\n",
		LINES "content-length:4\r\n\r\n\r\n\r\n",
		LINES "A: " FIFTY "\r\nCONTENT-LENGTH: 9\r\nB: " FIFTY "\r\n\r\n",
		LINES "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\ntRANSFER-ENCODING:chunked\n\n3\n\r\n\n0\n\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (is_plain(requests[i], strlen(requests[i]), 0))
			fail_msg("\"%s\": expected not plain, got plain", requests[i]);
}

static void test_what_is_plain_is_one_request_to_the_automaton(void **state)
{
	static const char *const pieces[] = {LINE, LINES, "HEAD / HTTP/1.1\r\n", "\r\n", "\n", "\r",
		"\r\n\r\n", "Content-Length: 2\r\n", "content-length:\n", "CONTENT-LENGTH",
		"Content-Lengthy: 7\r\n", "Transfer-Encoding: chunked\r\n", "Cookie: l\r\n",
		"TRANSFER-ENCODING: identity\r\n", "transfer\rencoding:x\r\n", "t", "c", "C: -\r\n",
		" folded\r\n", "A: b\r\n", "\n\r", "0", FIFTY, ":", "\x0b", "\x0d\x0b"};
	static const size_t count = sizeof(pieces) / sizeof(pieces[0]);
	struct random_state random;
	int plain = 0;

	(void)state;
	random_seed(&random, 7);
	for (int i = 0; i < 2000000; i++) {
		uint32_t number = random_below(&random, 8);
		char bytes[HTTP1_PLAIN_BYTES];
		uint8_t automaton;
		size_t size = 0;

		/* Mostly something that begins and ends like a request. */
		for (uint32_t k = 0; k <= number; k++) {
			const char *piece = pieces[k ? random_below(&random, (uint32_t)count)
						     : random_below(&random, 3)];

			memcpy(bytes + size, piece, strlen(piece));
			size += strlen(piece);
		}
		if (random_below(&random, 8))
			size += (size_t)sprintf(bytes + size, "\r\n\r\n");
		if (!is_plain(bytes, size, (uint8_t)random_next(&random)))
			continue;
		plain++;
		if (count_requests(bytes, size, &automaton) != 1 || automaton != HTTP1_START)
			fail_msg("\"%.*s\": said to be plain, but the automaton is in state %d "
				 "behind it",
				(int)size, bytes, automaton);
	}
	assert_true(plain > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual_requests_are_plain),
		cmocka_unit_test(test_a_request_of_any_length_that_fits_is_plain),
		cmocka_unit_test(test_whatever_else_is_left_to_the_automaton),
		cmocka_unit_test(test_what_is_plain_is_one_request_to_the_automaton),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
