// SPDX-License-Identifier: Apache-2.0
/* Events become lines for those who asked, exemplars for those who will. */
#include "node/trace/process.h"
#include "node/trace/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LINES_KEPT 1024
#define SLOT	   7

static int agent_setup(void **state)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	struct container *container = calloc(1, sizeof(*container));
	struct unit *unit;

	if (!agent || !container)
		return -1;
	pthread_mutex_init(&agent->lock, NULL);
	agent->config.max_slots = SLOT + 2;
	agent->owners = calloc(agent->config.max_slots, sizeof(*agent->owners));
	unit = units_get(&agent->units, "default", "fibonacci");
	if (!unit || !agent->owners || trace_open(agent))
		return -1;
	strcpy(container->pod, "fibonacci-abc");
	strcpy(container->name, "server");
	container->attachment.slot = SLOT;
	agent->owners[SLOT] = container;
	*state = agent;
	return unit_add_container(unit, container);
}

static int agent_teardown(void **state)
{
	struct agent *agent = *state;

	while (agent->units.count) {
		struct unit *unit = agent->units.items[0];

		while (unit->container_count) {
			struct container *container = unit->containers[0];

			unit_drop_container(unit, container);
			free(container);
		}
		units_remove(&agent->units, unit);
	}
	free(agent->units.items);
	free(agent->owners);
	trace_close(agent);
	free(agent);
	return 0;
}

static struct unit *unit_of(struct agent *agent)
{
	return units_find(&agent->units, "default", "fibonacci");
}

static union probes_event event_make(void)
{
	union probes_event event = {.request = {.kind = EVENT_REQUEST,
					    .latency_ns = 61500000,
					    .slot = SLOT,
					    .head_bytes = 24,
					    .process = 4711,
					    .command = "python3",
					    .protocol = PROTOCOL_HTTP1,
					    .side = SIDE_SERVER,
					    .reasons = REASON_SLOW,
					    .grpc_status = GRPC_STATUS_NONE,
					    .family = AF_INET,
					    .local_port = 8080,
					    .remote_port = 40000,
					    .status = 200}};

	memcpy(event.request.head, "GET /fib?n=30 HTTP/1.1\r\n", 24);
	event.request.start_ns = monotonic_us() * 1000;
	event.request.remote_ip4 = htonl(0x7f000001);
	return event;
}

/* All that the reader gets, as an array of objects; the caller decrefs. */
static json_t *lines_read(struct agent *agent, struct trace_reader *reader)
{
	static char text[LINES_KEPT * 1024];
	json_t *lines = json_array();
	char *save = NULL;
	size_t size;

	while ((size = trace_reader_read(agent->trace, reader, text, sizeof(text) - 1)) > 0) {
		assert_int_equal(text[size - 1], '\n');
		text[size] = '\0';
		for (char *line = strtok_r(text, "\n", &save); line;
			line = strtok_r(NULL, "\n", &save)) {
			json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

			if (!object)
				fail_msg("no JSON: %s", line);
			json_array_append_new(lines, object);
		}
	}
	return lines;
}

static const char *text_of(const json_t *lines, size_t index, const char *name)
{
	return json_string_value(json_object_get(json_array_get(lines, index), name));
}

static json_int_t number_of(const json_t *lines, size_t index, const char *name)
{
	return json_integer_value(json_object_get(json_array_get(lines, index), name));
}

static void test_an_event_is_one_json_line_of_its_service(void **state)
{
	struct agent *agent = *state;
	struct unit *other = units_get(&agent->units, "default", "other");
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	struct trace_reader *elsewhere = trace_reader_open(agent->trace, other);
	union probes_event event = event_make();
	uint64_t now_us = unix_us();
	json_t *lines;

	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 1);
	assert_string_equal(text_of(lines, 0, "kind"), "request");
	assert_string_equal(text_of(lines, 0, "service"), "default/fibonacci");
	assert_string_equal(text_of(lines, 0, "pod"), "fibonacci-abc");
	assert_string_equal(text_of(lines, 0, "container"), "server");
	assert_string_equal(text_of(lines, 0, "path"), "/fib");
	/* On the wall's clock. */
	assert_in_range(number_of(lines, 0, "time_us"), now_us - 1000000, now_us + 1000000);
	json_decref(lines);
	/* Read once; another service's reader sees nothing of it. */
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 0);
	json_decref(lines);
	lines = lines_read(agent, elsewhere);
	assert_int_equal(json_array_size(lines), 0);
	json_decref(lines);
}

static void test_an_event_of_no_container_is_dropped(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	json_t *lines;

	event.request.slot = SLOT + 1;
	trace_event(&event, agent);
	event.request.slot = UINT32_MAX;
	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 0);
	json_decref(lines);
}

static void test_a_head_size_beyond_the_head_is_not_believed(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	json_t *lines;

	memset(event.request.head + 4, 'x', sizeof(event.request.head) - 4);
	event.request.head_bytes = UINT32_MAX;
	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	assert_int_equal(strlen(text_of(lines, 0, "path")), REQUEST_HEAD_BYTES - 4);
	json_decref(lines);
}

static void test_a_slow_reader_is_told_what_it_missed(void **state)
{
	struct agent *agent = *state;
	struct unit *other = units_get(&agent->units, "default", "other");
	struct container *neighbour = calloc(1, sizeof(*neighbour));
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make(), noise = event_make();
	json_t *lines;

	assert_int_equal(unit_add_container(other, neighbour), 0);
	agent->owners[SLOT + 1] = neighbour;
	noise.request.slot = SLOT + 1;
	for (int i = 0; i < 5; i++)
		trace_event(&event, agent);
	/* Another service's lines push the first three out; they are not counted. */
	for (int i = 0; i < LINES_KEPT - 2; i++)
		trace_event(&noise, agent);
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 3);
	assert_int_equal(number_of(lines, 0, "missed"), 3);
	assert_string_equal(text_of(lines, 1, "kind"), "request");
	json_decref(lines);
}

static void test_a_small_buffer_gets_whole_lines_and_then_the_rest(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	char text[1000];
	int lines = 0;
	size_t size;

	for (int i = 0; i < 10; i++)
		trace_event(&event, agent);
	while ((size = trace_reader_read(agent->trace, reader, text, sizeof(text))) > 0) {
		assert_true(size <= sizeof(text));
		assert_int_equal(text[size - 1], '\n');
		for (size_t i = 0; i < size; i++)
			lines += text[i] == '\n';
	}
	assert_int_equal(lines, 10);
}

static void test_a_reader_gets_what_it_chose(void **state)
{
	struct agent *agent = *state;
	static const struct {
		const char *choice;
		size_t lines;
	} cases[] = {{"slower_us 50000", 1}, {"errors 1", 1}, {"one_in 8", 1},
		{"slower_us 50000\nerrors 1", 2}, {"slower_us 1\n", 3}};
	struct trace_reader *readers[5];
	union probes_event event = event_make();

	for (size_t i = 0; i < 5; i++) {
		readers[i] = trace_reader_open(agent->trace, unit_of(agent));
		assert_int_equal(trace_reader_choose(agent->trace, readers[i], cases[i].choice), 0);
	}
	trace_event(&event, agent);
	event.request.latency_ns = 3000000;
	event.request.reasons = REASON_ERROR;
	trace_event(&event, agent);
	event.request.reasons = REASON_SAMPLED;
	trace_event(&event, agent);
	for (size_t i = 0; i < 5; i++) {
		json_t *lines = lines_read(agent, readers[i]);

		if (json_array_size(lines) != cases[i].lines)
			fail_msg("%s: expected %zu lines, got %zu", cases[i].choice, cases[i].lines,
				json_array_size(lines));
		json_decref(lines);
	}
}

static void test_a_choice_that_is_none_changes_nothing(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	static const struct {
		const char *text;
		int err;
	} cases[] = {{"slower_us", -EINVAL}, {"slower_us -1", -EINVAL}, {"slower_us 5x", -EINVAL},
		{"slower_us 67108864", -ERANGE}, {"one_in 99999999999999999999", -ERANGE},
		{"errors 2", -ERANGE}, {"faster_us 5", -EINVAL}, {"kept 2", -EINVAL},
		{"one_in 8\nslower_us x", -EINVAL}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trace_choice wanted;

		if (trace_reader_choose(agent->trace, reader, cases[i].text) != cases[i].err)
			fail_msg("%s", cases[i].text);
		wanted = trace_wanted(agent->trace, unit_of(agent));
		assert_int_equal(wanted.slower_us, 0);
		assert_int_equal(wanted.one_in, 0);
		assert_false(wanted.errors);
	}
}

static void test_the_most_that_anyone_wants_is_wanted_until_he_leaves(void **state)
{
	struct agent *agent = *state;
	struct unit *unit = unit_of(agent);
	struct trace_reader *one = trace_reader_open(agent->trace, unit);
	struct trace_reader *two = trace_reader_open(agent->trace, unit);
	struct trace_choice wanted;

	unit->trace = (struct trace_choice){.slower_us = 20000};
	assert_int_equal(trace_reader_choose(agent->trace, one, "slower_us 5000"), 0);
	assert_int_equal(trace_reader_choose(agent->trace, two, "one_in 64\nerrors 1"), 0);
	wanted = trace_wanted(agent->trace, unit);
	assert_int_equal(wanted.slower_us, 5000);
	assert_int_equal(wanted.one_in, 64);
	assert_true(wanted.errors);
	trace_reader_close(agent->trace, one);
	trace_reader_close(agent->trace, two);
	wanted = trace_wanted(agent->trace, unit);
	assert_int_equal(wanted.slower_us, 20000);
	assert_int_equal(wanted.one_in, 0);
	assert_false(wanted.errors);
}

static void test_kept_lines_can_be_read_again(void **state)
{
	struct agent *agent = *state;
	union probes_event event = event_make();
	struct trace_reader *reader;
	json_t *lines;

	for (int i = 0; i < LINES_KEPT + 5; i++)
		trace_event(&event, agent);
	reader = trace_reader_open(agent->trace, unit_of(agent));
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 0);
	json_decref(lines);
	assert_int_equal(trace_reader_choose(agent->trace, reader, "kept 1"), 0);
	lines = lines_read(agent, reader);
	/* What was over before he came, he has not missed. */
	assert_int_equal(json_array_size(lines), LINES_KEPT);
	json_decref(lines);
}

static void test_that_all_are_told_of_makes_none_slow(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	const json_t *reasons;
	json_t *lines;

	assert_int_equal(trace_reader_choose(agent->trace, reader, "one_in 1"), 0);
	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	reasons = json_object_get(json_array_get(lines, 0), "reasons");
	assert_int_equal(json_array_size(reasons), 1);
	assert_string_equal(json_string_value(json_array_get(reasons, 0)), "sampled");
	json_decref(lines);
}

static void test_exemplars_are_kept_by_octave_and_are_no_lines(void **state)
{
	static const uint64_t latencies_us[] = {10, 20, 40, 100, 70000, 100000, 90000000};
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	double last_us = 0;
	char *text, *save = NULL;
	int count = 0;
	json_t *lines;

	assert_null(trace_exemplars(unit_of(agent)));
	event.request.reasons = REASON_EXEMPLAR;
	for (size_t i = 0; i < 7; i++) {
		event.request.latency_ns = latencies_us[i] * 1000;
		trace_event(&event, agent);
	}
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 0);
	json_decref(lines);
	text = trace_exemplars(unit_of(agent));
	assert_non_null(text);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *object = json_loads(line, 0, NULL);
		double us = json_number_value(json_object_get(object, "latency_us"));

		assert_non_null(object);
		assert_true(us > last_us);
		last_us = us;
		count++;
		json_decref(object);
	}
	free(text);
	/* 10 and 20 share the linear part, 70000 and 100000 an octave. */
	assert_int_equal(count, 5);
	assert_true(last_us == 90000000);
}

static void test_an_oom_kill_is_a_line_of_its_own(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = {
		.oom = {.kind = EVENT_OOM, .slot = SLOT, .process = 4711, .command = "eater"}};
	json_t *lines;

	/* Whatever a reader chose of the requests. */
	assert_int_equal(trace_reader_choose(agent->trace, reader, "slower_us 60000000"), 0);
	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	assert_int_equal(json_array_size(lines), 1);
	assert_string_equal(text_of(lines, 0, "kind"), "oom");
	assert_string_equal(text_of(lines, 0, "pod"), "fibonacci-abc");
	assert_string_equal(text_of(lines, 0, "comm"), "eater");
	assert_int_equal(number_of(lines, 0, "pid"), 4711);
	json_decref(lines);
}

static void test_a_process_without_a_name_is_looked_up(void **state)
{
	struct agent *agent = *state;
	struct trace_reader *reader = trace_reader_open(agent->trace, unit_of(agent));
	union probes_event event = event_make();
	char own[PROCESS_COMMAND_BYTES];
	json_t *lines;

	assert_int_equal(process_command((uint32_t)getpid(), own), 0);
	assert_string_equal(own, "test_trace");
	event.request.process = (uint32_t)getpid();
	event.request.command[0] = '\0';
	trace_event(&event, agent);
	/* One that is gone has none. */
	event.request.process = 0x7ffffffe;
	trace_event(&event, agent);
	lines = lines_read(agent, reader);
	assert_string_equal(text_of(lines, 0, "comm"), "test_trace");
	assert_string_equal(text_of(lines, 1, "comm"), "");
	json_decref(lines);
}

static void test_the_only_process_of_a_cgroup_is_known(void **state)
{
	struct agent *agent = *state;
	char folder[] = "/tmp/ebbtide-process-XXXXXX", path[128];
	static const struct {
		const char *text;
		uint32_t process;
	} cases[] = {{"", 0}, {"4711\n", 4711}, {"4711\n4712\n", 0}};

	assert_non_null(mkdtemp(folder));
	snprintf(agent->driver.unified_root, sizeof(agent->driver.unified_root), "%s", folder);
	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	assert_int_equal(process_sole(&agent->driver, ""), 0);
	for (size_t i = 0; i < 3; i++) {
		FILE *file = fopen(path, "w");

		assert_non_null(file);
		fputs(cases[i].text, file);
		fclose(file);
		assert_int_equal(process_sole(&agent->driver, ""), cases[i].process);
	}
	unlink(path);
	rmdir(folder);
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
		TEST(test_a_reader_gets_what_it_chose),
		TEST(test_a_choice_that_is_none_changes_nothing),
		TEST(test_the_most_that_anyone_wants_is_wanted_until_he_leaves),
		TEST(test_kept_lines_can_be_read_again),
		TEST(test_that_all_are_told_of_makes_none_slow),
		TEST(test_exemplars_are_kept_by_octave_and_are_no_lines),
		TEST(test_an_oom_kill_is_a_line_of_its_own),
		TEST(test_a_process_without_a_name_is_looked_up),
		TEST(test_the_only_process_of_a_cgroup_is_known),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
