// SPDX-License-Identifier: Apache-2.0
/* The first bytes of a request, as anyone may send them, become a method and a path for people. */
#include "node/trace/request_head.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_http1(const char *bytes, const char *method, const char *path)
{
	struct request_head head;

	request_head_http1((const uint8_t *)bytes, strlen(bytes), &head);
	assert_string_equal(head.method, method);
	assert_string_equal(head.path, path);
	assert_false(head.is_grpc);
}

static void test_method_and_path_of_http_1(void **state)
{
	(void)state;
	assert_http1("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/");
	assert_http1("DELETE /a/b.c-d_e~f HTTP/1.0\r\n", "DELETE", "/a/b.c-d_e~f");
	assert_http1("OPTIONS * HTTP/1.1\r\n", "OPTIONS", "*");
}

static void test_a_query_is_never_shown(void **state)
{
	(void)state;
	assert_http1("GET /login?password=secret HTTP/1.1\r\n", "GET", "/login");
	assert_http1("GET /page#part HTTP/1.1\r\n", "GET", "/page");
}

static void test_the_user_of_an_absolute_url_is_never_shown(void **state)
{
	(void)state;
	assert_http1("GET http://me:secret@host/a?b HTTP/1.1\r\n", "GET", "/a");
	assert_http1("GET http://me:secret@host HTTP/1.1\r\n", "GET", "");
	assert_http1("GET https://me:sec", "GET", "");
}

static void test_a_head_that_was_cut_gives_what_is_there(void **state)
{
	(void)state;
	assert_http1("GET /abc", "GET", "/abc");
	assert_http1("GET ", "GET", "");
	assert_http1("GET /a\r\n", "GET", "/a");
}

static void test_what_is_not_http_has_no_method(void **state)
{
	(void)state;
	assert_http1("", "", "");
	assert_http1("GET", "", "");
	assert_http1("GE /", "", "");
	assert_http1("get / HTTP/1.1", "", "");
	assert_http1("*3\r\n$3\r\nSET\r\n", "", "");
	assert_http1("\x16\x03\x01\x02", "", "");
	assert_http1("AVERYLONGMETHODTHATISNONE /", "", "");
}

static void test_bytes_that_would_break_a_line_are_replaced(void **state)
{
	(void)state;
	assert_http1("GET /a\"b\\c HTTP/1.1", "GET", "/a?b?c");
	assert_http1("GET /\x01\x7f\x80\xff\t HTTP/1.1", "GET", "/?????");
}

static void test_a_long_path_is_cut_to_its_room(void **state)
{
	char bytes[REQUEST_PATH_MAX + 100] = "GET /";
	struct request_head head;

	(void)state;
	memset(bytes + 5, 'a', sizeof(bytes) - 5);
	request_head_http1((const uint8_t *)bytes, sizeof(bytes), &head);
	assert_int_equal(strlen(head.path), REQUEST_PATH_MAX - 1);
}

static void assert_block(
	const uint8_t *block, size_t size, const char *method, const char *path, bool is_grpc)
{
	/* Of exactly its size, for the sanitizers. */
	uint8_t *exact = malloc(size ? size : 1);
	struct request_head head;

	assert_non_null(exact);
	memcpy(exact, block, size);
	request_head_http2(exact, size, &head);
	free(exact);
	assert_string_equal(head.method, method);
	assert_string_equal(head.path, path);
	assert_int_equal(head.is_grpc, is_grpc);
}

/* The three requests of RFC 7541, C.3 (plain) and C.4 (Huffman code), each seen by itself. */
static void test_the_standards_own_requests(void **state)
{
	static const uint8_t plain[] = "\x82\x86\x84\x41\x0fwww.example.com";
	static const uint8_t coded[] =
		"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
	static const uint8_t second[] = "\x82\x86\x84\xbe\x58\x08no-cache";
	static const uint8_t third[] = "\x82\x87\x85\xbf\x40\x0a"
				       "custom-key\x0c"
				       "custom-value";

	(void)state;
	assert_block(plain, sizeof(plain) - 1, "GET", "/", false);
	assert_block(coded, sizeof(coded) - 1, "GET", "/", false);
	assert_block(second, sizeof(second) - 1, "GET", "/", false);
	assert_block(third, sizeof(third) - 1, "GET", "/index.html", false);
}

static void test_a_path_in_a_table_that_is_not_known_is_not_guessed(void **state)
{
	/* :path by a dynamic entry; and one entry of the block's own before it. */
	static const uint8_t only[] = "\x83\x86\xbe";
	static const uint8_t behind[] = "\x83\x86\x41\x01h\xbf";
	static const uint8_t own[] = "\x83\x86\x44\x02/a\xbe";
	/* A value for a name that only the connection knows; then the one behind that. */
	static const uint8_t unknown_name[] = "\x83\x7e\x02/x\xbe\xbf";
	static const uint8_t unknown_then_own[] = "\x83\x44\x02/a\x7f\x01\x02/x\xbf";

	(void)state;
	assert_block(only, sizeof(only) - 1, "POST", "", false);
	assert_block(behind, sizeof(behind) - 1, "POST", "", false);
	assert_block(own, sizeof(own) - 1, "POST", "/a", false);
	assert_block(unknown_name, sizeof(unknown_name) - 1, "POST", "", false);
	assert_block(unknown_then_own, sizeof(unknown_then_own) - 1, "POST", "/a", false);
}

static void test_a_literal_path_behind_unknown_entries_is_read(void **state)
{
	static const uint8_t block[] = "\xc1\x83\xc0\x04\x03/ab\xbf";

	(void)state;
	assert_block(block, sizeof(block) - 1, "POST", "/ab", false);
}

static void test_a_change_of_the_tables_size_may_lead(void **state)
{
	static const uint8_t smaller[] = "\x20\x3f\xe1\x1f\x82\x84";
	static const uint8_t larger[] = "\x3f\xe1\xff\x03\x82\x84";

	(void)state;
	assert_block(smaller, sizeof(smaller) - 1, "GET", "/", false);
	assert_block(larger, sizeof(larger) - 1, "GET", "/", false);
}

static void test_a_block_that_is_none_or_cut_gives_what_came_whole(void **state)
{
	static const uint8_t cut[] = "\x82\x44\x0a/abcdef";
	static const uint8_t endless[] = "\x82\xff\xff\xff\xff\xff\xff\xff\x84";
	static const uint8_t bad_code[] = "\x82\x44\x81\x00\x84";

	(void)state;
	assert_block((const uint8_t *)"", 0, "", "", false);
	assert_block(cut, sizeof(cut) - 1, "GET", "", false);
	assert_block(endless, sizeof(endless) - 1, "GET", "", false);
	assert_block(bad_code, sizeof(bad_code) - 1, "GET", "", false);
	assert_block((const uint8_t *)"\x80\x82\x84", 3, "", "", false);
}

static nghttp2_nv field(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)name,
		.value = (uint8_t *)value,
		.namelen = strlen(name),
		.valuelen = strlen(value)};
}

/*
 * A connection's requests as a real encoder writes them, with its table: each block by itself gives
 * the true path or none, and at least every first one of a path gives it.
 */
static void test_blocks_of_a_real_encoder_give_the_true_path_or_none(void **state)
{
	static const char *const paths[] = {"/", "/index.html", "/hotel.Search/Nearby",
		"/a/long/path/with/many/parts/and.a-name_that~is%20coded?token=secret"};
	static const char *const shown[] = {"/", "/index.html", "/hotel.Search/Nearby",
		"/a/long/path/with/many/parts/and.a-name_that~is%20coded"};
	nghttp2_hd_deflater *deflater;
	int known = 0;

	(void)state;
	assert_int_equal(nghttp2_hd_deflate_new(&deflater, 4096), 0);
	for (int i = 0; i < 400; i++) {
		/* A header that changes pushes the table on, until it evicts. */
		char changing[16] = "token-00000";
		nghttp2_nv fields[] = {field(":authority", "service:8080"),
			field(":method", i & 1 ? "POST" : "GET"), field(":scheme", "http"),
			field(":path", paths[i & 3]), field("content-type", "application/grpc"),
			field("x-request", changing)};
		struct request_head head;
		uint8_t block[512];
		ssize_t size;

		changing[9] = (char)('0' + i / 10 % 10);
		changing[10] = (char)('0' + i % 10);
		size = nghttp2_hd_deflate_hd(deflater, block, sizeof(block), fields, 6);
		assert_true(size > 0);
		request_head_http2(block,
			(size_t)size < REQUEST_HEAD_BYTES ? (size_t)size : REQUEST_HEAD_BYTES,
			&head);
		assert_string_equal(head.method, i & 1 ? "POST" : "GET");
		if (head.path[0]) {
			assert_string_equal(head.path, shown[i & 3]);
			known++;
		}
		if (i == 0)
			assert_true(head.is_grpc);
	}
	nghttp2_hd_deflate_del(deflater);
	/* This encoder never puts a path into its table. */
	assert_int_equal(known, 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_method_and_path_of_http_1),
		cmocka_unit_test(test_a_query_is_never_shown),
		cmocka_unit_test(test_the_user_of_an_absolute_url_is_never_shown),
		cmocka_unit_test(test_a_head_that_was_cut_gives_what_is_there),
		cmocka_unit_test(test_what_is_not_http_has_no_method),
		cmocka_unit_test(test_bytes_that_would_break_a_line_are_replaced),
		cmocka_unit_test(test_a_long_path_is_cut_to_its_room),
		cmocka_unit_test(test_the_standards_own_requests),
		cmocka_unit_test(test_a_path_in_a_table_that_is_not_known_is_not_guessed),
		cmocka_unit_test(test_a_literal_path_behind_unknown_entries_is_read),
		cmocka_unit_test(test_a_change_of_the_tables_size_may_lead),
		cmocka_unit_test(test_a_block_that_is_none_or_cut_gives_what_came_whole),
		cmocka_unit_test(test_blocks_of_a_real_encoder_give_the_true_path_or_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
