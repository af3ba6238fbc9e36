// SPDX-License-Identifier: Apache-2.0
/* The first bytes of a request, as anyone may send them, become a line for people. */
#include "node/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LINES_KEPT 1024

static int agent_setup(void **state)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	struct container *container = calloc(1, sizeof(*container));
	struct unit *unit;

	if (!agent || !container)
		return -1;
	pthread_mutex_init(&agent->lock, NULL);
	unit = units_get(&agent->units, "default", "fibonacci");
	if (!unit || trace_open(agent))
		return -1;
	strcpy(container->pod, "fibonacci-abc");
	strcpy(container->name, "server");
	container->attachment.slot = 7;
	*state = agent;
	return unit_add_container(unit, container);
}

static int agent_teardown(void **state)
{
	struct agent *agent = *state;
	struct unit *unit = units_find(&agent->units, "default", "fibonacci");
	struct container *container = unit->containers[0];

	unit_drop_container(unit, container);
	free(container);
	units_remove(&agent->units, unit);
	free(agent->units.items);
	trace_close(agent);
	free(agent);
	return 0;
}

static union probes_event event_make(void)
{
	union probes_event event = {.request = {.kind = EVENT_REQUEST,
					    .latency_ns = 61500000,
					    .slot = 7,
					    .head_bytes = 24,
					    .family = 2,
					    .local_port = 8080,
					    .remote_port = 40000,
					    .status = 200}};

	memcpy(event.request.head, "GET /fib?n=30 HTTP/1.1\r\n", 24);
	event.request.start_ns = monotonic_us() * 1000;
	event.request.remote_ip4 = 0x0100007f;
	return event;
}

static void test_an_event_is_one_json_line_of_its_service(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();
	char text[4096];
	uint64_t cursor = 0;
	json_t *line;
	size_t size;

	trace_event(&event, agent);
	size = trace_read(agent->trace, "default", "fibonacci", &cursor, text, sizeof(text));
	assert_true(size > 0 && text[size - 1] == '\n');
	line = json_loadb(text, size, 0, NULL);
	assert_non_null(line);
	assert_int_equal(json_integer_value(json_object_get(line, "latency_us")), 61500);
	assert_string_equal(json_string_value(json_object_get(line, "path")), "/fib");
	assert_string_equal(json_string_value(json_object_get(line, "method")), "GET");
	assert_string_equal(json_string_value(json_object_get(line, "pod")), "fibonacci-abc");
	assert_string_equal(json_string_value(json_object_get(line, "peer")), "127.0.0.1");
	json_decref(line);
	/* Read once; another service's reader sees nothing of it. */
	assert_int_equal(
		trace_read(agent->trace, "default", "fibonacci", &cursor, text, sizeof(text)), 0);
	cursor = 0;
	assert_int_equal(
		trace_read(agent->trace, "default", "other", &cursor, text, sizeof(text)), 0);
}

static void test_an_event_of_no_container_is_dropped(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();

	event.request.slot = 8;
	trace_event(&event, agent);
	assert_true(trace_newest(agent->trace) == 0);
}

static void test_a_head_size_beyond_the_head_is_not_believed(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();

	memset(event.request.head + 4, 'x', sizeof(event.request.head) - 4);
	event.request.head_bytes = UINT32_MAX;
	trace_event(&event, agent);
	assert_true(trace_newest(agent->trace) == 1);
}

static void test_a_slow_reader_is_told_what_it_missed(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();
	char text[4096];
	uint64_t cursor = 0;
	size_t size;

	for (int i = 0; i < LINES_KEPT + 5; i++)
		trace_event(&event, agent);
	size = trace_read(agent->trace, "default", "fibonacci", &cursor, text, sizeof(text));
	assert_true(size > 0 && size <= sizeof(text));
	assert_memory_equal(text, "{\"missed\":5}\n", 13);
	assert_int_equal(text[size - 1], '\n');
}

static void test_a_small_buffer_gets_whole_lines_and_then_the_rest(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();
	uint64_t cursor = 0;
	char text[400];
	int lines = 0;
	size_t size;

	for (int i = 0; i < 10; i++)
		trace_event(&event, agent);
	while ((size = trace_read(
			agent->trace, "default", "fibonacci", &cursor, text, sizeof(text))) > 0) {
		assert_true(size <= sizeof(text));
		assert_int_equal(text[size - 1], '\n');
		for (size_t i = 0; i < size; i++)
			lines += text[i] == '\n';
	}
	assert_int_equal(lines, 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, agent_setup, agent_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_an_event_is_one_json_line_of_its_service),
		TEST(test_an_event_of_no_container_is_dropped),
		TEST(test_a_head_size_beyond_the_head_is_not_believed),
		TEST(test_a_slow_reader_is_told_what_it_missed),
		TEST(test_a_small_buffer_gets_whole_lines_and_then_the_rest),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
