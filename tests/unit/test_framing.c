// SPDX-License-Identifier: Apache-2.0
/* HTTP's framing as the kernel side follows it: the same code, over bytes that are known. */
#include "http1.h"
#include "http2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What http1_step() may read behind the bytes it is given. */
#define BEHIND	  24
#define BYTES_MAX 65536

struct seen {
	uint32_t requests, heads, responses, statuses, upgrades;
	struct http1 end;
};

/* All of @bytes in pieces of at most @piece, each in a room of its own, as the kernel side does. */
static struct seen follow(const uint8_t *bytes, uint32_t size, uint32_t piece, int is_response)
{
	struct seen seen = {0};
	struct http1 http1 = {0};
	uint8_t room[128 + BEHIND];
	uint32_t at = 0;

	while (at < size) {
		uint32_t left = size - at, done = 0;

		if (left > piece)
			left = piece;
		/* What stands behind them must not matter. */
		memset(room, piece & 1 ? '\n' : 0xaa, sizeof(room));
		memcpy(room, bytes + at, left);
		while (done < left) {
			uint32_t event = HTTP1_NOTHING, taken;

			taken = http1_step(&http1, room + done, left - done, is_response, &event);
			assert_in_range(taken, 1, left - done);
			done += taken;
			seen.requests += event == HTTP1_REQUEST;
			seen.heads += event == HTTP1_REQUEST && http1.flags & HTTP1_HEAD;
			seen.responses += event == HTTP1_RESPONSE;
			seen.statuses += event == HTTP1_RESPONSE ? http1.status : 0;
			seen.upgrades += event == HTTP1_UPGRADED;
		}
		at += left;
	}
	seen.end = http1;
	return seen;
}

static void assert_same_however_cut(const uint8_t *bytes, uint32_t size, int is_response)
{
	struct seen whole = follow(bytes, size, 128, is_response);

	for (uint32_t piece = 1; piece < 128; piece++) {
		struct seen cut = follow(bytes, size, piece, is_response);

		assert_memory_equal(&cut, &whole, sizeof(cut));
	}
}

static uint32_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dULL) >> 40);
}

static const char *const requests[] = {
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /a/long/path/to/somewhere HTTP/1.1\r\nHost: b\r\nConnection: keep-alive\r\n\r\n",
	"POST / HTTP/1.1\r\ncontent-LENGTH: 10\r\nTrailer: x\r\n\r\nGET / HTTP",
	"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
	"5\r\nGET /\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: 1\r\n\r\n",
	"\r\nOPTIONS * HTTP/1.1\r\nTransfer-Encodings: chunked\r\nContent-Lengths: 99\r\n\r\n",
	"GET /bare HTTP/1.1\nHost: line feeds alone\n\n",
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]))

static void test_pipelined_requests_are_told_apart_however_they_are_cut(void **state)
{
	static uint8_t bytes[BYTES_MAX];
	uint64_t random = 7;
	uint32_t size = 0, count = 0, heads = 0;
	struct seen seen;

	(void)state;
	while (size < 4000) {
		uint32_t pick = random_next(&random) % REQUESTS;

		memcpy(bytes + size, requests[pick], strlen(requests[pick]));
		size += (uint32_t)strlen(requests[pick]);
		heads += pick == 1;
		count++;
	}
	seen = follow(bytes, size, 128, 0);
	assert_int_equal(seen.requests, count);
	assert_int_equal(seen.heads, heads);
	assert_int_equal(seen.end.state, HTTP1_START);
	assert_same_however_cut(bytes, size, 0);
}

static void test_responses_are_told_apart_however_they_are_cut(void **state)
{
	static const char bytes[] = "HTTP/1.1 100 Continue\r\n\r\n"
				    "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nHTTP/1.1 500 \n"
				    "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"
				    "HTTP/1.1 503 Gone\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
				    "3\r\nabc\r\n0\r\n\r\n"
				    "HTTP/1.0 404 Not Found\r\n\r\nHTTP/1.1 200 OK until it closes";
	struct seen seen = follow((const uint8_t *)bytes, sizeof(bytes) - 1, 128, 1);

	(void)state;
	assert_int_equal(seen.responses, 4);
	assert_int_equal(seen.statuses, 200 + 204 + 503 + 404);
	assert_int_equal(seen.end.state, HTTP1_UNTIL_CLOSE);
	assert_same_however_cut((const uint8_t *)bytes, sizeof(bytes) - 1, 1);
}

static void test_arbitrary_bytes_are_followed_the_same_however_they_are_cut(void **state)
{
	static const char letters[] = "GETHTTP/1.1 \r\n\r\n:0123456789chunkedtransfer-encoding";
	uint8_t bytes[400];
	uint64_t random = 3;

	(void)state;
	for (int round = 0; round < 300; round++) {
		uint32_t base = random_next(&random) % REQUESTS, size = sizeof(bytes);

		for (uint32_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)random_next(&random);
		for (uint32_t i = 0; i < size && round % 3; i++)
			bytes[i] = (uint8_t)letters[bytes[i] % (sizeof(letters) - 1)];
		if (round % 2)
			memcpy(bytes, requests[base], strlen(requests[base]));
		assert_same_however_cut(bytes, size, round & 4);
	}
}

/* gRPC's status of one block, after those before it on the same connection. */
static uint32_t block_status(struct http2_statuses *statuses, const char *block, size_t size)
{
	uint8_t room[128 + BEHIND] = {0};
	struct http2_fields fields = {.size = (uint32_t)size, .grpc_status = GRPC_STATUS_NONE};

	memcpy(room, block, size);
	while (http2_field_take(&fields, statuses, room))
		;
	if (fields.is_broken)
		memset(statuses, 0, sizeof(*statuses));
	return fields.grpc_status;
}

#define BLOCK(statuses, text) block_status(statuses, text, sizeof(text) - 1)

static void test_a_grpc_status_is_read_where_it_is_written_out(void **state)
{
	struct http2_statuses statuses = {0};

	(void)state;
	assert_int_equal(BLOCK(&statuses, "\x00\x0bgrpc-status\x01"
					  "0"),
		0);
	assert_int_equal(BLOCK(&statuses, "\x10\x0bgrpc-status\x02"
					  "16"),
		16);
	assert_int_equal(BLOCK(&statuses, "\x88\x5f\x10"
					  "application/grpc"
					  "\x40\x0bgrpc-status\x01"
					  "5"),
		5);
	/* In Huffman code, name and value: 7, then 13. */
	assert_int_equal(BLOCK(&statuses, "\x00\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x81\x77"), 7);
	assert_int_equal(
		BLOCK(&statuses, "\x00\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x82\x0b\x3f"), 13);
	assert_int_equal(BLOCK(&statuses, "\x00\x0bgrpc-statuz\x01"
					  "3"),
		GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\x00\x0bgrpc-status\x02"
					  "17"),
		GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\x00\x0bgrpc-status\x03"
					  "100"),
		GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\x88"), GRPC_STATUS_NONE);
}

static void test_a_grpc_status_is_known_again_from_the_header_table(void **state)
{
	struct http2_statuses statuses = {0};

	(void)state;
	assert_int_equal(BLOCK(&statuses, "\xbe"), GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\x40\x0bgrpc-status\x02"
					  "14"),
		14);
	assert_int_equal(BLOCK(&statuses, "\xbe"), 14);
	/* Two more entries before it: another field, another status by the same name. */
	assert_int_equal(BLOCK(&statuses, "\x40\x01"
					  "x\x01"
					  "y"),
		GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\x7f\x00\x01"
					  "0"),
		0);
	assert_int_equal(BLOCK(&statuses, "\xc0"), 14);
	assert_int_equal(BLOCK(&statuses, "\xbf"), GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\xbe"), 0);
	/* A change of the table's size is no field. */
	assert_int_equal(BLOCK(&statuses, "\x3f\xe1\x1f\xbe"), GRPC_STATUS_NONE);
}

static void test_a_broken_block_ends_the_walk(void **state)
{
	struct http2_statuses statuses = {0};
	uint64_t random = 11;
	char block[128];

	(void)state;
	assert_int_equal(BLOCK(&statuses, "\x40\x0bgrpc-status\x02"
					  "14"),
		14);
	assert_int_equal(BLOCK(&statuses, "\x40\x7f\xff\xff"), GRPC_STATUS_NONE);
	assert_int_equal(BLOCK(&statuses, "\xbe"), GRPC_STATUS_NONE);
	/* Whatever comes, it ends, and within the block. */
	for (int round = 0; round < 20000; round++) {
		size_t size = random_next(&random) % sizeof(block);
		uint32_t status;

		for (size_t i = 0; i < size; i++)
			block[i] = (char)random_next(&random);
		status = block_status(&statuses, block, size);
		assert_true(status < HTTP2_GRPC_STATUSES || status == GRPC_STATUS_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pipelined_requests_are_told_apart_however_they_are_cut),
		cmocka_unit_test(test_responses_are_told_apart_however_they_are_cut),
		cmocka_unit_test(test_arbitrary_bytes_are_followed_the_same_however_they_are_cut),
		cmocka_unit_test(test_a_grpc_status_is_read_where_it_is_written_out),
		cmocka_unit_test(test_a_grpc_status_is_known_again_from_the_header_table),
		cmocka_unit_test(test_a_broken_block_ends_the_walk),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
