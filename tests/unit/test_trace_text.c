// SPDX-License-Identifier: Apache-2.0
/* The agent's lines, read by ebbctl, as text for people. */
#include "ctl/trace_text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char request[] =
	"{\"kind\":\"request\",\"time_us\":1795000000123456,\"latency_us\":60000.000,"
	"\"service\":\"default/fibonacci\",\"pod\":\"fibonacci-abc\",\"container\":\"server\","
	"\"pid\":4711,\"comm\":\"python3\",\"side\":\"server\",\"protocol\":\"http/1\","
	"\"method\":\"GET\",\"path\":\"/fib\",\"status\":200,\"outcome\":\"answered\","
	"\"request_bytes\":78,\"response_bytes\":312,\"address\":\"10.0.0.1\",\"port\":8080,"
	"\"peer\":\"127.0.0.1\",\"peer_port\":40000,\"breakdown\":{\"socket_queue_us\":1000.000,"
	"\"waiting_cpu_us\":2000.000,\"throttled_us\":20000.000,\"on_cpu_us\":30000.000,"
	"\"blocked_us\":6999.000,\"sending_us\":1.000},\"reasons\":[\"slow\",\"sampled\"]}";

static struct trace_event event_of(const char *line)
{
	struct trace_event event;

	assert_int_equal(trace_event_parse(line, &event), 0);
	return event;
}

/* The caller frees. Inlined, the stream's own pointer to the text looks like a dangling one. */
__attribute__((noinline)) static char *text_of(
	void (*write)(FILE *, const struct trace_event *), const struct trace_event *event)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	write(out, event);
	fclose(out);
	return text;
}

static void write_plain(FILE *out, const struct trace_event *event)
{
	trace_text_line(out, event, false);
}

static void write_colour(FILE *out, const struct trace_event *event)
{
	trace_text_line(out, event, true);
}

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected \"%s\" in: %s", part, text);
}

static void test_a_request_is_read_in_full(void **state)
{
	struct trace_event event = event_of(request);
	uint64_t sum_ns = 0;

	(void)state;
	assert_int_equal(event.kind, TRACE_REQUEST);
	assert_true(event.time_us == 1795000000123456);
	assert_int_equal(event.latency_ns, 60000000);
	assert_true(event.has_parts);
	for (int part = 0; part < PARTS; part++)
		sum_ns += event.parts_ns[part];
	assert_int_equal(sum_ns, event.latency_ns);
	assert_int_equal(event.parts_ns[PART_sending_us], 1000);
	assert_int_equal(event.pid, 4711);
	assert_string_equal(event.comm, "python3");
	assert_string_equal(event.path, "/fib");
	assert_string_equal(event.peer, "127.0.0.1");
	assert_string_equal(event.reasons, "slow,sampled");
	assert_false(event.is_call || event.failed || event.error);
	assert_int_equal(event.grpc_status, -1);
}

static void test_a_line_that_is_none_is_refused(void **state)
{
	static const char *const lines[] = {"", "{", "[]", "5", "{\"kind\":\"other\"}", "null",
		"{\"kind\":5}", "{\"missed\":\"x\"}"};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct trace_event event;

		if (trace_event_parse(lines[i], &event) != -EINVAL)
			fail_msg("taken: %s", lines[i]);
	}
}

static void test_fields_of_the_wrong_kind_are_not_believed(void **state)
{
	struct trace_event event = event_of(
		"{\"kind\":\"request\",\"time_us\":\"x\",\"latency_us\":-5,\"pid\":-1,\"pod\":7,"
		"\"breakdown\":[],\"reasons\":{\"a\":1},\"status\":-200,\"grpc_status\":\"0\"}");

	(void)state;
	assert_int_equal(event.latency_ns, 0);
	assert_int_equal(event.pid, 0);
	assert_string_equal(event.pod, "");
	assert_false(event.has_parts);
	assert_int_equal(event.grpc_status, -1);
}

static void test_a_line_says_what_took_most(void **state)
{
	struct trace_event event = event_of(request);
	char *text = text_of(write_plain, &event);

	(void)state;
	assert_contains(text, ".123456     60.000  200 GET     /fib ");
	assert_contains(text, " 50% on CPU ");
	assert_contains(text, " fibonacci-abc ");
	assert_contains(text, " python3[4711] ");
	assert_contains(text, " 127.0.0.1:40000\n");
	free(text);
}

static void test_lines_are_aligned_whatever_is_in_them(void **state)
{
	struct trace_event one = event_of(request), other = event_of(request);
	char *first, *second;

	(void)state;
	memset(other.path, 'p', sizeof(other.path) - 1);
	memset(other.pod, 'q', sizeof(other.pod) - 1);
	strcpy(other.pod + sizeof(other.pod) - 4, "xyz");
	other.has_parts = false;
	other.latency_ns = 3;
	first = text_of(write_plain, &one);
	second = text_of(write_plain, &other);
	assert_int_equal(strstr(first, "python3") - first, strstr(second, "python3") - second);
	/* Of a path the start is told, of a pod the end. */
	assert_contains(second, "ppp... ");
	assert_contains(second, " ...qqq");
	assert_contains(second, "xyz ");
	free(first);
	free(second);
}

static void test_failures_and_errors_are_marked(void **state)
{
	struct trace_event event = event_of(request);
	char *text;

	(void)state;
	text = text_of(write_colour, &event);
	assert_null(strchr(text, '\033'));
	free(text);
	event.failed = event.error = true;
	text = text_of(write_colour, &event);
	assert_contains(text, " fail ");
	assert_contains(text, "\033[31m");
	assert_contains(text, "\033[0m\n");
	free(text);
	event.failed = false;
	event.grpc_status = 14;
	text = text_of(write_plain, &event);
	assert_contains(text, "  g14 ");
	assert_null(strchr(text, '\033'));
	free(text);
}

static void test_a_call_an_oom_kill_and_misses_are_told_apart(void **state)
{
	struct trace_event event = event_of(request);
	char *text;

	(void)state;
	event.is_call = true;
	text = text_of(write_plain, &event);
	assert_contains(text, " to 127.0.0.1:40000\n");
	free(text);
	event = event_of("{\"kind\":\"oom\",\"time_us\":1795000000123456,\"pod\":\"a\","
			 "\"container\":\"b\",\"pid\":12,\"comm\":\"eater\"}");
	text = text_of(write_plain, &event);
	assert_contains(text, " OOM ");
	assert_contains(text, "eater[12]");
	free(text);
	event = event_of("{\"missed\":17}");
	text = text_of(write_plain, &event);
	assert_string_equal(text, "(17 came faster than they were read)\n");
	free(text);
}

static void test_the_waterfall_of_a_known_request(void **state)
{
	/* 60 ms on 60 columns: a column a millisecond. */
	static const char expected[] =
		"  socket queue |#                                                           |      1.000 ms   1.7 %\n"
		"  waiting CPU  | ##                                                         |      2.000 ms   3.3 %\n"
		"  throttled    |   ####################                                     |     20.000 ms  33.3 %\n"
		"  on CPU       |                       ##############################       |     30.000 ms  50.0 %\n"
		"  blocked      |                                                     #######|      6.999 ms  11.7 %\n"
		"  sending      |                                                           .|      0.001 ms   0.0 %\n"
		"\n";
	struct trace_event event = event_of(request);
	char *text = text_of(trace_text_waterfall, &event);

	(void)state;
	assert_string_equal(text, expected);
	free(text);
}

/* Each column belongs to one part, whatever the shares. */
static void test_a_waterfalls_bars_tile_its_width(void **state)
{
	struct trace_event event = event_of(request);
	uint64_t seed = 7;

	(void)state;
	for (int round = 0; round < 200; round++) {
		int columns = 0;
		char *text;

		event.latency_ns = 0;
		for (int part = 0; part < PARTS; part++) {
			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			event.parts_ns[part] = (seed >> 33) % 3 ? (seed >> 35) % 100000 : 0;
			event.latency_ns += event.parts_ns[part];
		}
		if (!event.latency_ns)
			continue;
		text = text_of(trace_text_waterfall, &event);
		for (const char *c = text; *c; c++)
			columns += *c == '#';
		assert_int_equal(columns, 60);
		free(text);
	}
}

static void test_a_request_without_parts_says_so(void **state)
{
	struct trace_event event = event_of(request);
	char *text;

	(void)state;
	event.has_parts = false;
	text = text_of(trace_text_waterfall, &event);
	assert_contains(text, "not followed in detail");
	free(text);
	event.is_call = true;
	text = text_of(trace_text_waterfall, &event);
	assert_contains(text, "call");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_read_in_full),
		cmocka_unit_test(test_a_line_that_is_none_is_refused),
		cmocka_unit_test(test_fields_of_the_wrong_kind_are_not_believed),
		cmocka_unit_test(test_a_line_says_what_took_most),
		cmocka_unit_test(test_lines_are_aligned_whatever_is_in_them),
		cmocka_unit_test(test_failures_and_errors_are_marked),
		cmocka_unit_test(test_a_call_an_oom_kill_and_misses_are_told_apart),
		cmocka_unit_test(test_the_waterfall_of_a_known_request),
		cmocka_unit_test(test_a_waterfalls_bars_tile_its_width),
		cmocka_unit_test(test_a_request_without_parts_says_so),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
