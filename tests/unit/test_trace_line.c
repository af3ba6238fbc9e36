// SPDX-License-Identifier: Apache-2.0
/* The JSON of one event: every protocol and outcome, parts that add up, bytes that cannot break it. */
#include "node/trace/trace_line.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct trace_source source = {.namespace = "default",
	.service = "fibonacci",
	.pod = "fibonacci-abc",
	.container = "server",
	.time_us = 1795000000123456,
	.process = 4711,
	.command = "python3",
	.reasons = REASON_SLOW};

static struct request_event event_make(uint8_t protocol, const char *head, size_t size)
{
	struct request_event event = {.kind = EVENT_REQUEST,
		.latency_ns = 61500789,
		.socket_queue_ns = 1000001,
		.waiting_cpu_ns = 2000020,
		.on_cpu_ns = 30000300,
		.throttled_ns = 20000000,
		.blocked_ns = 8500460,
		.sending_ns = 8,
		.has_breakdown = 1,
		.request_bytes = 78,
		.response_bytes = 312,
		.head_bytes = (uint32_t)size,
		.protocol = protocol,
		.side = SIDE_SERVER,
		.grpc_status = GRPC_STATUS_NONE,
		.family = AF_INET,
		.local_port = 8080,
		.remote_port = 40000,
		.status = protocol == PROTOCOL_HTTP1 || protocol == PROTOCOL_HTTP2 ? 200 : 0};

	event.local_ip4 = htonl(0x0a000001);
	event.remote_ip4 = htonl(0x7f000001);
	memcpy(event.head, head, size);
	return event;
}

/* The caller decrefs. */
static json_t *line_of(const struct request_event *event, const struct trace_source *from)
{
	char text[TRACE_LINE_BYTES];
	size_t size = trace_line_request(event, from, text);
	json_error_t error;
	json_t *line;

	assert_int_equal(size, strlen(text));
	assert_int_equal(text[size - 1], '\n');
	assert_null(memchr(text, '\n', size - 1));
	line = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (!line)
		fail_msg("%s at %d: %s", error.text, error.column, text);
	return line;
}

static const char *text_of(const json_t *line, const char *name)
{
	return json_string_value(json_object_get(line, name));
}

static double number_of(const json_t *line, const char *name)
{
	const json_t *value = json_object_get(line, name);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static void test_every_field_of_a_request_is_there(void **state)
{
	static const char head[] = "GET /fib?n=30 HTTP/1.1\r\n";
	struct request_event event = event_make(PROTOCOL_HTTP1, head, sizeof(head) - 1);
	json_t *line = line_of(&event, &source);

	(void)state;
	assert_string_equal(text_of(line, "kind"), "request");
	assert_true(number_of(line, "time_us") == 1795000000123456);
	assert_true(number_of(line, "latency_us") == 61500.789);
	assert_string_equal(text_of(line, "service"), "default/fibonacci");
	assert_string_equal(text_of(line, "pod"), "fibonacci-abc");
	assert_string_equal(text_of(line, "container"), "server");
	assert_true(number_of(line, "pid") == 4711);
	assert_string_equal(text_of(line, "comm"), "python3");
	assert_string_equal(text_of(line, "side"), "server");
	assert_string_equal(text_of(line, "protocol"), "http/1");
	assert_string_equal(text_of(line, "method"), "GET");
	assert_string_equal(text_of(line, "path"), "/fib");
	assert_true(number_of(line, "status") == 200);
	assert_null(json_object_get(line, "grpc_status"));
	assert_string_equal(text_of(line, "outcome"), "answered");
	assert_true(number_of(line, "request_bytes") == 78);
	assert_true(number_of(line, "response_bytes") == 312);
	assert_string_equal(text_of(line, "address"), "10.0.0.1");
	assert_true(number_of(line, "port") == 8080);
	assert_string_equal(text_of(line, "peer"), "127.0.0.1");
	assert_true(number_of(line, "peer_port") == 40000);
	json_decref(line);
}

static void test_the_parts_add_up_to_the_latency(void **state)
{
	struct request_event event = event_make(PROTOCOL_TCP, "", 0);
	json_t *line = line_of(&event, &source);
	const json_t *parts = json_object_get(line, "breakdown");
	double sum_us = number_of(parts, "socket_queue_us") + number_of(parts, "waiting_cpu_us") +
			number_of(parts, "throttled_us") + number_of(parts, "on_cpu_us") +
			number_of(parts, "blocked_us") + number_of(parts, "sending_us");

	(void)state;
	assert_int_equal(json_object_size(parts), 6);
	assert_true(number_of(parts, "waiting_cpu_us") == 2000.020);
	assert_true(number_of(parts, "sending_us") == 0.008);
	assert_true(fabs(sum_us - number_of(line, "latency_us")) < 0.0005);
	json_decref(line);
	event.has_breakdown = 0;
	line = line_of(&event, &source);
	assert_null(json_object_get(line, "breakdown"));
	json_decref(line);
}

static void test_every_protocol_has_its_name_and_path(void **state)
{
#define HEAD(text) text, sizeof(text) - 1
	static const struct {
		uint8_t protocol;
		uint16_t status;
		uint8_t grpc_status;
		const char *head;
		size_t size;
		const char *name, *method, *path;
	} cases[] = {
		{PROTOCOL_HTTP1, 200, GRPC_STATUS_NONE, HEAD("PUT /a HTTP/1.1\r\n"), "http/1",
			"PUT", "/a"},
		/* Not followed in detail: no head. */
		{PROTOCOL_HTTP1, 200, GRPC_STATUS_NONE, HEAD(""), "http/1", "", "*"},
		{PROTOCOL_HTTP2, 200, GRPC_STATUS_NONE, HEAD("\x82\x84"), "http/2", "GET", "/"},
		{PROTOCOL_HTTP2, 200, GRPC_STATUS_NONE, HEAD("\x83\xbe"), "http/2", "POST", "*"},
		{PROTOCOL_HTTP2, 200, GRPC_STATUS_NONE,
			HEAD("\x83\x44\x02/s\x5f\x10"
			     "application/grpc"),
			"grpc", "POST", "/s"},
		{PROTOCOL_HTTP2, 200, 14, HEAD("\x83\xbe"), "grpc", "POST", "*"},
		{PROTOCOL_TLS, 0, GRPC_STATUS_NONE, HEAD("\x17\x03\x03"), "tls", "", ""},
		{PROTOCOL_TCP, 0, GRPC_STATUS_NONE, HEAD("*1\r\n$4\r\nPING\r\n"), "tcp", "", ""},
		/* Came before its socket: known by its answer. */
		{PROTOCOL_UNKNOWN, 404, GRPC_STATUS_NONE, HEAD(""), "http/1", "", "*"},
		{PROTOCOL_UNKNOWN, 0, GRPC_STATUS_NONE, HEAD(""), "tcp", "", ""},
		{PROTOCOL_OPAQUE, 101, GRPC_STATUS_NONE, HEAD(""), "http/1", "", "*"},
		{PROTOCOL_LOST, 0, GRPC_STATUS_NONE, HEAD(""), "tcp", "", ""},
	};
#undef HEAD

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct request_event event =
			event_make(cases[i].protocol, cases[i].head, cases[i].size);
		json_t *line;

		event.status = cases[i].status;
		event.grpc_status = cases[i].grpc_status;
		line = line_of(&event, &source);
		if (strcmp(text_of(line, "protocol"), cases[i].name) != 0 ||
			strcmp(text_of(line, "method"), cases[i].method) != 0 ||
			strcmp(text_of(line, "path"), cases[i].path) != 0)
			fail_msg("case %zu: got %s %s %s", i, text_of(line, "protocol"),
				text_of(line, "method"), text_of(line, "path"));
		assert_true(number_of(line, "status") == cases[i].status);
		if (cases[i].grpc_status != GRPC_STATUS_NONE)
			assert_true(number_of(line, "grpc_status") == cases[i].grpc_status);
		json_decref(line);
	}
}

static void test_a_failure_and_a_call_say_so(void **state)
{
	struct request_event event = event_make(PROTOCOL_TCP, "", 0);
	json_t *line;

	(void)state;
	event.outcome = OUTCOME_FAILED;
	event.side = SIDE_CLIENT;
	line = line_of(&event, &source);
	assert_string_equal(text_of(line, "outcome"), "failed");
	assert_string_equal(text_of(line, "side"), "client");
	json_decref(line);
}

static void test_an_ipv6_peer_is_written_in_full(void **state)
{
	struct request_event event = event_make(PROTOCOL_TCP, "", 0);
	json_t *line;

	(void)state;
	event.family = AF_INET6;
	event.local_ip6[3] = htonl(1);
	event.remote_ip6[0] = htonl(0x20010db8);
	event.remote_ip6[3] = htonl(0xabcd);
	line = line_of(&event, &source);
	assert_string_equal(text_of(line, "address"), "::1");
	assert_string_equal(text_of(line, "peer"), "2001:db8::abcd");
	json_decref(line);
}

static void test_every_reason_is_named(void **state)
{
	static const char *const names[] = {"slow", "error", "sampled", "exemplar", "refill"};
	struct request_event event = event_make(PROTOCOL_TCP, "", 0);

	(void)state;
	for (uint8_t reasons = 0; reasons < 32; reasons++) {
		struct trace_source from = source;
		const json_t *array;
		size_t count = 0;
		json_t *line;

		from.reasons = reasons;
		line = line_of(&event, &from);
		array = json_object_get(line, "reasons");
		for (size_t i = 0; i < 5; i++)
			if (reasons & 1U << i)
				assert_string_equal(
					json_string_value(json_array_get(array, count++)),
					names[i]);
		assert_int_equal(json_array_size(array), count);
		json_decref(line);
	}
}

static void test_any_name_of_a_process_keeps_the_line_whole(void **state)
{
	struct request_event event = event_make(PROTOCOL_TCP, "", 0);
	struct trace_source from = source;
	json_t *line;

	(void)state;
	from.command = "a\"b\\c\n\x80\x01";
	line = line_of(&event, &from);
	assert_string_equal(text_of(line, "comm"), "a?b?c???");
	json_decref(line);
}

static void test_the_longest_line_fits(void **state)
{
	struct request_event event = event_make(PROTOCOL_HTTP2, "", 0);
	char namespace[64], name[254], container[64], command[16];
	struct trace_source from = {
		namespace, name, name, container, UINT64_MAX, UINT32_MAX, command, 15};
	json_t *line;

	(void)state;
	memset(namespace, 'n', 63);
	memset(name, 's', 253);
	memset(container, 'c', 63);
	memset(command, 'p', 15);
	namespace[63] = name[253] = container[63] = command[15] = '\0';
	from.time_us = INT64_MAX;
	memset(&event.local_ip6, 0xff, sizeof(event.local_ip6));
	memset(&event.remote_ip6, 0xff, sizeof(event.remote_ip6));
	event.family = AF_INET6;
	/* Five-bit codes: more characters than bytes. */
	memset(event.head, 0x08, sizeof(event.head));
	memcpy(event.head, "\x04\xfd", 2);
	event.head_bytes = REQUEST_HEAD_BYTES;
	event.latency_ns = event.socket_queue_ns = event.waiting_cpu_ns = event.on_cpu_ns =
		event.throttled_ns = event.blocked_ns = event.sending_ns = UINT64_MAX;
	event.request_bytes = event.response_bytes = UINT32_MAX;
	event.local_port = event.remote_port = event.status = UINT16_MAX;
	event.grpc_status = 16;
	line = line_of(&event, &from);
	assert_string_equal(text_of(line, "pod"), name);
	json_decref(line);
}

static void test_an_oom_kill_names_its_victim(void **state)
{
	char text[TRACE_LINE_BYTES];
	size_t size = trace_line_oom(&source, text);
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	(void)state;
	assert_int_equal(size, strlen(text));
	assert_non_null(line);
	assert_string_equal(text_of(line, "kind"), "oom");
	assert_string_equal(text_of(line, "service"), "default/fibonacci");
	assert_string_equal(text_of(line, "comm"), "python3");
	assert_true(number_of(line, "pid") == 4711);
	json_decref(line);
}

static void test_a_refill_says_what_it_saw_and_gave(void **state)
{
	const struct reflex_event event = {.slot = 3,
		.oldest_ns = 20500001,
		.throttled_ns = 11000000,
		.grant_ns = 30000000,
		.reaction_ns = 45678,
		.in_flight = 7,
		.number = 2};
	char text[TRACE_LINE_BYTES];
	size_t size = trace_line_refill(&event, &source, text);
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	(void)state;
	assert_int_equal(size, strlen(text));
	assert_non_null(line);
	assert_string_equal(text_of(line, "kind"), "refill");
	assert_string_equal(text_of(line, "pod"), "fibonacci-abc");
	assert_true(number_of(line, "oldest_request_us") == 20500.001);
	assert_true(number_of(line, "throttled_us") == 11000);
	assert_true(number_of(line, "granted_us") == 30000);
	assert_true(number_of(line, "reaction_us") == 45.678);
	assert_true(number_of(line, "in_flight") == 7);
	assert_true(number_of(line, "number") == 2);
	json_decref(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_of_a_request_is_there),
		cmocka_unit_test(test_the_parts_add_up_to_the_latency),
		cmocka_unit_test(test_every_protocol_has_its_name_and_path),
		cmocka_unit_test(test_a_failure_and_a_call_say_so),
		cmocka_unit_test(test_an_ipv6_peer_is_written_in_full),
		cmocka_unit_test(test_every_reason_is_named),
		cmocka_unit_test(test_any_name_of_a_process_keeps_the_line_whole),
		cmocka_unit_test(test_the_longest_line_fits),
		cmocka_unit_test(test_an_oom_kill_names_its_victim),
		cmocka_unit_test(test_a_refill_says_what_it_saw_and_gave),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
