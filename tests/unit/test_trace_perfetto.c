// SPDX-License-Identifier: Apache-2.0
/* The trace-event file: valid JSON, in order of time, slices that nest and never overlap. */
#include "ctl/trace_perfetto.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_US 1795000000000000ULL

static struct trace_event event_make(const char *pod, uint64_t offset_us, uint64_t latency_ns)
{
	struct trace_event event = {.kind = TRACE_REQUEST,
		.time_us = START_US + offset_us,
		.pid = 4711,
		.comm = "python3",
		.container = "server",
		.latency_ns = latency_ns,
		.has_parts = true,
		.protocol = "http/1",
		.method = "GET",
		.path = "/fib",
		.status = 200,
		.grpc_status = -1,
		.peer = "127.0.0.1",
		.reasons = "slow"};

	snprintf(event.pod, sizeof(event.pod), "%s", pod);
	event.parts_ns[PART_socket_queue_us] = latency_ns / 3;
	event.parts_ns[PART_on_cpu_us] = latency_ns / 2;
	event.parts_ns[PART_sending_us] = latency_ns - latency_ns / 3 - latency_ns / 2;
	return event;
}

/* The file's root; the caller decrefs. */
static json_t *file_of(struct perfetto *perfetto)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	json_error_t error;
	json_t *root;

	assert_non_null(out);
	assert_int_equal(perfetto_write(perfetto, out, "default/fibonacci", 3, 4), 0);
	fclose(out);
	root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		fail_msg("%s at line %d", error.text, error.line);
	free(text);
	return root;
}

static const char *text_of(const json_t *event, const char *name)
{
	const char *text = json_string_value(json_object_get(event, name));

	return text ? text : "";
}

static double number_of(const json_t *event, const char *name)
{
	return json_number_value(json_object_get(event, name));
}

/* Any two slices of a track: one inside the other, or apart. And no time before the one above. */
static void assert_sound(const json_t *events)
{
	double last = 0;
	const json_t *one, *other;
	size_t i, k;

	json_array_foreach (events, i, one) {
		if (strcmp(text_of(one, "ph"), "M") == 0)
			continue;
		assert_true(number_of(one, "ts") >= last);
		last = number_of(one, "ts");
		if (strcmp(text_of(one, "ph"), "X") != 0)
			continue;
		for (k = i + 1; k < json_array_size(events); k++) {
			double from, to, end = last + number_of(one, "dur");

			other = json_array_get(events, k);
			if (strcmp(text_of(other, "ph"), "X") != 0 ||
				number_of(other, "pid") != number_of(one, "pid") ||
				number_of(other, "tid") != number_of(one, "tid"))
				continue;
			from = number_of(other, "ts");
			to = from + number_of(other, "dur");
			if (from < end - 1e-4 && to > end + 1e-4)
				fail_msg("slices %zu and %zu overlap", i, k);
		}
	}
}

static void test_an_empty_trace_is_a_valid_file(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	json_t *root = file_of(perfetto);

	(void)state;
	assert_true(json_is_array(json_object_get(root, "traceEvents")));
	assert_int_equal(json_array_size(json_object_get(root, "traceEvents")), 0);
	json_decref(root);
	perfetto_free(perfetto);
}

static void test_a_request_has_its_parts_inside(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	struct trace_event event = event_make("fibonacci-abc", 0, 6000123);
	const json_t *events, *whole, *part;
	double end = 0;
	size_t i;
	json_t *root;

	(void)state;
	assert_int_equal(perfetto_add(perfetto, &event), 0);
	root = file_of(perfetto);
	events = json_object_get(root, "traceEvents");
	/* The pod, its track, the request, and the three parts that took any time. */
	assert_int_equal(json_array_size(events), 6);
	assert_string_equal(text_of(json_object_get(json_array_get(events, 0), "args"), "name"),
		"fibonacci-abc");
	whole = json_array_get(events, 2);
	assert_string_equal(text_of(whole, "name"), "GET /fib");
	assert_true(number_of(whole, "ts") == 0);
	assert_true(number_of(whole, "dur") == 6000.123);
	assert_true(number_of(json_object_get(whole, "args"), "pid") == 4711);
	assert_string_equal(text_of(json_object_get(whole, "args"), "comm"), "python3");
	for (i = 3; i < 6; i++) {
		part = json_array_get(events, i);
		assert_true(fabs(number_of(part, "ts") - end) < 1e-6);
		end = number_of(part, "ts") + number_of(part, "dur");
		assert_true(number_of(part, "tid") == number_of(whole, "tid"));
	}
	assert_string_equal(text_of(json_array_get(events, 3), "name"), "socket queue");
	assert_string_equal(text_of(json_array_get(events, 5), "name"), "sending");
	assert_true(fabs(end - 6000.123) < 1e-6);
	assert_true(number_of(json_object_get(root, "otherData"), "start_unix_us") == START_US);
	assert_true(number_of(json_object_get(root, "otherData"), "missed") == 3);
	assert_true(number_of(json_object_get(root, "otherData"), "lost_on_node") == 4);
	json_decref(root);
	perfetto_free(perfetto);
}

static void test_requests_at_a_time_get_tracks_of_their_own(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	/* Two at a time, then one that fits on the first track again; another pod has its own. */
	struct trace_event events[] = {event_make("a", 0, 1000000), event_make("a", 500, 1000000),
		event_make("a", 1000, 1000000), event_make("b", 600, 1000000)};
	int tracks[3][3] = {{0}};
	const json_t *event;
	json_t *root;
	size_t i;

	(void)state;
	/* As they end, which is not as they begin. */
	for (i = 4; i-- > 0;)
		assert_int_equal(perfetto_add(perfetto, &events[i]), 0);
	root = file_of(perfetto);
	assert_sound(json_object_get(root, "traceEvents"));
	json_array_foreach (json_object_get(root, "traceEvents"), i, event)
		if (strcmp(text_of(event, "cat"), "request") == 0)
			tracks[(int)number_of(event, "pid")][(int)number_of(event, "tid")]++;
	/* b was seen first. */
	assert_int_equal(tracks[1][1], 1);
	assert_int_equal(tracks[2][1], 2);
	assert_int_equal(tracks[2][2], 1);
	json_decref(root);
	perfetto_free(perfetto);
}

static void test_any_trace_is_in_order_and_never_overlaps(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	uint64_t seed = 99;
	json_t *root;

	(void)state;
	for (int i = 0; i < 300; i++) {
		struct trace_event event;
		char pod[16];

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		snprintf(pod, sizeof(pod), "pod-%d", (int)(seed >> 60) % 3);
		event = event_make(pod, (seed >> 40) % 20000, (seed >> 20) % 3000000);
		if (i % 50 == 0)
			event.kind = TRACE_OOM;
		event.has_parts = i % 7 != 0;
		assert_int_equal(perfetto_add(perfetto, &event), 0);
	}
	root = file_of(perfetto);
	assert_sound(json_object_get(root, "traceEvents"));
	json_decref(root);
	perfetto_free(perfetto);
}

static void test_an_oom_kill_is_a_moment(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	struct trace_event event = {.kind = TRACE_OOM, .time_us = START_US, .pid = 5};
	const json_t *moment;
	json_t *root;

	(void)state;
	strcpy(event.pod, "a");
	strcpy(event.comm, "ea\"ter");
	assert_int_equal(perfetto_add(perfetto, &event), 0);
	root = file_of(perfetto);
	moment = json_array_get(json_object_get(root, "traceEvents"), 2);
	assert_string_equal(text_of(moment, "ph"), "i");
	assert_string_equal(text_of(moment, "name"), "OOM kill of ea\"ter");
	json_decref(root);
	perfetto_free(perfetto);
}

static void test_what_does_not_fit_is_counted(void **state)
{
	struct perfetto *perfetto = perfetto_new();
	struct trace_event event = event_make("a", 0, 1000);

	(void)state;
	for (int i = 0; i < PERFETTO_EVENTS_MAX; i++)
		assert_int_equal(perfetto_add(perfetto, &event), 0);
	assert_int_equal(perfetto_add(perfetto, &event), -ENOSPC);
	assert_int_equal(perfetto_count(perfetto), PERFETTO_EVENTS_MAX);
	assert_int_equal(perfetto_left_out(perfetto), 1);
	perfetto_free(perfetto);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_trace_is_a_valid_file),
		cmocka_unit_test(test_a_request_has_its_parts_inside),
		cmocka_unit_test(test_requests_at_a_time_get_tracks_of_their_own),
		cmocka_unit_test(test_any_trace_is_in_order_and_never_overlaps),
		cmocka_unit_test(test_an_oom_kill_is_a_moment),
		cmocka_unit_test(test_what_does_not_fit_is_counted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
