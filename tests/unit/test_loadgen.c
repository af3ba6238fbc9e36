// SPDX-License-Identifier: Apache-2.0
/* The load generator's pure parts: histogram, trace and arrivals, response parser, rows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/load_histogram.h"
#include "bench/load_response.h"
#include "bench/load_schedule.h"
#include "bench/load_seconds.h"

static void test_every_duration_lies_within_its_bucket(void **state)
{
	(void)state;
	for (uint64_t ns = 0; ns < 1ULL << LOAD_HISTOGRAM_MAX_BITS; ns += ns / 700 + 1) {
		size_t bucket = load_histogram_bucket(ns);
		uint64_t upper = load_histogram_upper_ns(bucket);

		assert_true(bucket < LOAD_HISTOGRAM_BUCKETS);
		assert_true(upper >= ns);
		assert_true((double)(upper - ns) <= 0.001 * (double)ns);
		assert_int_equal(load_histogram_bucket(upper), bucket);
		assert_int_equal(load_histogram_bucket(upper + 1),
			bucket + 1 < LOAD_HISTOGRAM_BUCKETS ? bucket + 1 : bucket);
	}
}

static void test_quantiles_are_of_the_recorded_values(void **state)
{
	struct load_histogram *histogram = calloc(1, sizeof(*histogram));

	(void)state;
	assert_non_null(histogram);
	assert_int_equal(load_histogram_quantile_ns(histogram, 0.5), 0);
	for (uint64_t i = 1; i <= 100; i++)
		load_histogram_record(histogram, i);
	assert_int_equal(load_histogram_quantile_ns(histogram, 0.5), 50);
	assert_int_equal(load_histogram_quantile_ns(histogram, 0.99), 99);
	assert_int_equal(load_histogram_quantile_ns(histogram, 0.999), 100);
	assert_true(load_histogram_mean_ns(histogram) == 50.5);
	load_histogram_record(histogram, 1ULL << 50);
	assert_true(load_histogram_quantile_ns(histogram, 1) == 1ULL << 50);
	free(histogram);
}

/* Read a trace with this text; the value is load_trace_read()'s. */
static int read_text(const char *text, size_t every, struct load_trace *trace, char error[256])
{
	char path[64];
	int fd = memfd_create("trace", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int rc = load_trace_read(path, every, trace, error, 256);
	close(fd);
	return rc;
}

static void test_trace_is_read_and_compressed(void **state)
{
	struct load_trace trace;
	char error[256];

	(void)state;
	assert_int_equal(read_text("# rates\n1\n2.5\n3e1\r\n4\n5", 2, &trace, error), 0);
	assert_int_equal(trace.seconds, 3);
	assert_true(trace.rate[0] == 1 && trace.rate[1] == 30 && trace.rate[2] == 5);
	load_trace_scale(&trace, 60 / load_trace_peak(&trace));
	assert_true(trace.rate[1] == 60 && trace.rate[2] == 10);
	load_trace_free(&trace);
}

static void test_bad_trace_line_is_named(void **state)
{
	static const char *const bad[] = {"1\n2\nx\n", "1\n2\n-3\n", "1\n2\nnan\n", "1\n2\n\n4\n",
		"1\n2\n3,4\n", "1\n2\n1e7\n"};
	struct load_trace trace;
	char error[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_not_equal(read_text(bad[i], 1, &trace, error), 0);
		assert_non_null(strstr(error, "line 3: "));
		assert_null(trace.rate);
	}
	assert_int_equal(read_text("# nothing\n", 1, &trace, error), -EINVAL);
	assert_int_equal(load_trace_read("/nonexistent", 1, &trace, error, 256), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent"));
}

static void test_uniform_arrivals_are_evenly_spaced(void **state)
{
	double rate[] = {2, 0, 4};
	const struct load_trace trace = {.rate = rate, .seconds = 3};
	static const uint64_t expected_ms[] = {250, 750, 2125, 2375, 2625, 2875};
	struct load_arrivals arrivals;
	uint64_t offset_ns = 0;
	size_t second = 0;

	(void)state;
	load_arrivals_init(&arrivals, &trace, LOAD_UNIFORM, 1);
	for (size_t i = 0; i < 6; i++) {
		assert_true(load_arrivals_next(&arrivals, &offset_ns, &second));
		assert_int_equal(offset_ns / 1000000, expected_ms[i]);
		assert_int_equal(second, expected_ms[i] / 1000);
	}
	assert_false(load_arrivals_next(&arrivals, &offset_ns, &second));
}

static void test_poisson_arrivals_have_the_rate_and_its_variance(void **state)
{
	struct load_trace trace;
	struct load_arrivals arrivals, again;
	uint64_t offset_ns = 0, same_ns = 0, before_ns = 0;
	size_t second = 0, same = 0;
	double count[4000] = {0}, mean = 0, variance = 0;

	(void)state;
	assert_int_equal(load_trace_constant(&trace, 25, 4000), 0);
	load_arrivals_init(&arrivals, &trace, LOAD_POISSON, 7);
	load_arrivals_init(&again, &trace, LOAD_POISSON, 7);
	while (load_arrivals_next(&arrivals, &offset_ns, &second)) {
		assert_true(load_arrivals_next(&again, &same_ns, &same));
		assert_int_equal(offset_ns, same_ns);
		assert_true(offset_ns >= before_ns);
		assert_int_equal(offset_ns / LOAD_NS_PER_SECOND, second);
		before_ns = offset_ns;
		count[second]++;
	}
	for (size_t i = 0; i < 4000; i++)
		mean += count[i] / 4000;
	for (size_t i = 0; i < 4000; i++)
		variance += (count[i] - mean) * (count[i] - mean) / 3999;
	/* Four standard errors: sqrt(25/4000) and 25*sqrt(2/4000). */
	assert_true(fabs(mean - 25) < 0.32);
	assert_true(fabs(variance - 25) < 2.3);
	load_trace_free(&trace);
}

static void test_bursts_have_the_rate_and_vary_within_the_second(void **state)
{
	static double count[20000];
	struct load_trace trace;
	struct load_arrivals arrivals;
	uint64_t offset_ns = 0;
	size_t second = 0;
	double mean = 0, variance = 0;

	(void)state;
	memset(count, 0, sizeof(count));
	assert_int_equal(load_trace_constant(&trace, 100, 2000), 0);
	load_arrivals_init(&arrivals, &trace, LOAD_BURSTS, 7);
	while (load_arrivals_next(&arrivals, &offset_ns, &second)) {
		assert_int_equal(offset_ns / LOAD_NS_PER_SECOND, second);
		count[offset_ns / (LOAD_NS_PER_SECOND / LOAD_BURST_PARTS)]++;
	}
	for (size_t i = 0; i < 20000; i++)
		mean += count[i] / 20000;
	for (size_t i = 0; i < 20000; i++)
		variance += (count[i] - mean) * (count[i] - mean) / 19999;
	/* Of a tenth: 10, and 10 + 10^2 * (0.3 * 2^2 + 0.7 * (4/7)^2 - 1). */
	assert_true(fabs(mean - 10) < 0.2);
	assert_true(fabs(variance - 52.86) < 2.5);
	load_trace_free(&trace);
}

/* Feed @text in pieces of @step bytes; the status, or the error. */
static int parse(struct load_response *response, const char *text, size_t step, size_t *rest)
{
	size_t length = strlen(text), at = 0;

	load_response_init(response);
	while (at < length && response->state != LOAD_RESPONSE_DONE) {
		size_t size = length - at < step ? length - at : step, used;
		int rc = load_response_feed(response, text + at, size, &used);
		if (rc)
			return rc;
		at += used;
	}
	*rest = length - at;
	return response->state == LOAD_RESPONSE_DONE ? response->status : -EAGAIN;
}

static void test_responses_end_where_they_end(void **state)
{
	static const struct {
		const char *text;
		int status;
		size_t rest;
		bool close;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP", 200, 4, false},
		{"HTTP/1.1 200 OK\r\ncontent-length:0\r\nConnection: close\r\n\r\n", 200, 0, true},
		{"HTTP/1.0 200\r\nContent-Length: 1\r\n\r\nx", 200, 0, true},
		{"HTTP/1.0 200\nConnection: Keep-Alive\nContent-Length: 1\n\nx", 200, 0, false},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", 503,
			0, false},
		{"HTTP/1.1 204 No Content\r\n\r\nH", 204, 1, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
		 "5;x=\"y\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nH",
			200, 1, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", -EAGAIN, 0, false},
		{"HTTP/1.1 200 OK\r\n\r\nto the end", -EAGAIN, 0, true},
		{"HTTP/2 200 OK\r\n\r\n", -EPROTO, 0, false},
		{"HTTP/1.1 20x\r\n\r\n", -EPROTO, 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", -EPROTO, 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -EPROTO, 0,
			false},
		{"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", -EPROTO, 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", -EPROTO, 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", -EPROTO, 0,
			false},
	};
	struct load_response response;
	size_t rest;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t step = 1; step < 200; step += 7) {
			rest = 0;
			int status = parse(&response, cases[i].text, step, &rest);
			assert_int_equal(status, cases[i].status);
			if (status > 0)
				assert_int_equal(rest, cases[i].rest);
			if (status != -EPROTO)
				assert_int_equal(response.close, cases[i].close);
		}
	}
}

static void test_close_ends_only_a_body_without_length(void **state)
{
	struct load_response response;
	size_t rest;

	(void)state;
	parse(&response, "HTTP/1.1 200 OK\r\n\r\nsome", 3, &rest);
	assert_int_equal(load_response_end(&response), 0);
	parse(&response, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", 3, &rest);
	assert_int_equal(load_response_end(&response), -ECONNRESET);
}

static void test_endless_head_is_refused(void **state)
{
	struct load_response response;
	size_t used;
	int rc = 0;

	(void)state;
	load_response_init(&response);
	for (int i = 0; i < LOAD_RESPONSE_HEAD_MAX && !rc; i++)
		rc = load_response_feed(&response, "HTTP/1.1 200 OK\r\n" + (i ? 9 : 0), 1, &used);
	assert_int_equal(rc, 0);
	assert_int_equal(load_response_feed(&response, "x", 1, &used), -EPROTO);
}

static void test_row_waits_for_the_last_request_of_its_second(void **state)
{
	struct load_seconds seconds;
	char *text = NULL;
	size_t size;
	FILE *output = open_memstream(&text, &size);

	(void)state;
	assert_non_null(output);
	assert_int_equal(load_seconds_init(&seconds, 3, 1000, output), 0);
	seconds.second[0].intended = seconds.second[0].sent = 3;
	seconds.second[1].intended = seconds.second[1].sent = 100;
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(load_seconds_complete(&seconds, 1, i ? 500000 : 1500000), 0);
	load_seconds_complete(&seconds, 0, 1000000);
	load_seconds_complete(&seconds, 0, 1000001);
	load_seconds_advance(&seconds, 3);
	assert_int_equal(seconds.written, 0);
	load_seconds_fail(&seconds, 0);
	load_seconds_advance(&seconds, 0);
	assert_int_equal(seconds.written, 3);
	/* One in a hundred over is within, so is a second without a request. */
	assert_int_equal(seconds.within_target, 2);
	assert_int_equal(seconds.over_target, 3);
	fclose(output);
	assert_string_equal(text,
		"second,intended,sent,completed,failed,p50_us,p95_us,p99_us,max_us,over_target\n"
		"0,3,3,2,1,1000,1000,1000,1000,2\n"
		"1,100,100,100,0,500,500,500,1500,1\n"
		"2,0,0,0,0,,,,,0\n");
	load_seconds_free(&seconds);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_duration_lies_within_its_bucket),
		cmocka_unit_test(test_quantiles_are_of_the_recorded_values),
		cmocka_unit_test(test_trace_is_read_and_compressed),
		cmocka_unit_test(test_bad_trace_line_is_named),
		cmocka_unit_test(test_uniform_arrivals_are_evenly_spaced),
		cmocka_unit_test(test_poisson_arrivals_have_the_rate_and_its_variance),
		cmocka_unit_test(test_bursts_have_the_rate_and_vary_within_the_second),
		cmocka_unit_test(test_responses_end_where_they_end),
		cmocka_unit_test(test_close_ends_only_a_body_without_length),
		cmocka_unit_test(test_endless_head_is_refused),
		cmocka_unit_test(test_row_waits_for_the_last_request_of_its_second),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
