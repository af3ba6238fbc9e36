/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of each second's requests. A request belongs to the second in which it should have
 * been sent, however late it ends, so a row is final (and written) once all of its requests ended.
 */
#ifndef EBBTIDE_LOAD_SECONDS_H
#define EBBTIDE_LOAD_SECONDS_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "load_histogram.h"

/* A second is within the target when no more than this share of its requests was over it. */
#define LOAD_SECONDS_VIOLATIONS 0.01

struct load_second {
	uint32_t intended;
	uint32_t sent;
	uint32_t completed;
	uint32_t failed;
	uint32_t over; /* slower than the target, or failed */
	uint32_t capacity;
	uint32_t *ttfb_us; /* of the completed, from the intended send time; owned until written */
};

struct load_seconds {
	struct load_second *second;
	size_t count;
	size_t begun;	/* seconds below this one get no more requests */
	size_t written; /* rows that are final */
	size_t within_target;
	uint64_t over_target;
	double target_us; /* 0: none */
	FILE *output;	  /* borrowed, may be NULL */
};

static inline int load_seconds_init(
	struct load_seconds *seconds, size_t count, double target_us, FILE *output)
{
	*seconds = (struct load_seconds){.count = count, .target_us = target_us, .output = output};
	seconds->second = calloc(count, sizeof(*seconds->second));
	if (!seconds->second)
		return -ENOMEM;
	if (output)
		fprintf(output, "second,intended,sent,completed,failed,p50_us,p95_us,p99_us,max_us,"
				"over_target\n");
	return 0;
}

static inline void load_seconds_free(struct load_seconds *seconds)
{
	for (size_t i = 0; seconds->second && i < seconds->count; i++)
		free(seconds->second[i].ttfb_us);
	free(seconds->second);
	seconds->second = NULL;
}

static inline int load_seconds_complete(
	struct load_seconds *seconds, size_t number, uint64_t ttfb_ns)
{
	struct load_second *second = &seconds->second[number];
	uint64_t us = (ttfb_ns + 500) / 1000;

	if (second->completed == second->capacity) {
		uint32_t capacity = second->capacity ? second->capacity * 2 : 64;
		uint32_t *grown = realloc(second->ttfb_us, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		second->ttfb_us = grown;
		second->capacity = capacity;
	}
	second->ttfb_us[second->completed++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
	if (seconds->target_us > 0 && (double)ttfb_ns > seconds->target_us * 1000)
		second->over++;
	return 0;
}

static inline void load_seconds_fail(struct load_seconds *seconds, size_t number)
{
	seconds->second[number].failed++;
	seconds->second[number].over++;
}

static inline int load_seconds_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static inline void load_seconds_write_row(struct load_seconds *seconds, size_t number)
{
	struct load_second *second = &seconds->second[number];
	const double shares[] = {0.50, 0.95, 0.99, 1.0};
	bool within = second->over <= LOAD_SECONDS_VIOLATIONS * second->intended;

	seconds->over_target += second->over;
	seconds->within_target += within;
	if (seconds->output) {
		fprintf(seconds->output, "%zu,%u,%u,%u,%u", number, second->intended, second->sent,
			second->completed, second->failed);
		if (second->completed)
			qsort(second->ttfb_us, second->completed, sizeof(uint32_t),
				load_seconds_compare);
		for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
			/* No request, no latency: an empty field, not a zero. */
			fputc(',', seconds->output);
			if (second->completed)
				fprintf(seconds->output, "%u",
					second->ttfb_us[load_histogram_rank(
								shares[i], second->completed) -
							1]);
		}
		if (seconds->target_us > 0)
			fprintf(seconds->output, ",%u\n", second->over);
		else
			fprintf(seconds->output, ",\n");
		/* Somebody may be following the file while the load runs. */
		fflush(seconds->output);
	}
	free(second->ttfb_us);
	second->ttfb_us = NULL;
	second->capacity = 0;
}

/* Seconds below @begun get no more requests; write the rows that became final. */
static inline void load_seconds_advance(struct load_seconds *seconds, size_t begun)
{
	if (begun > seconds->begun)
		seconds->begun = begun;
	while (seconds->written < seconds->begun) {
		const struct load_second *second = &seconds->second[seconds->written];
		if (second->completed + second->failed < second->intended)
			break;
		load_seconds_write_row(seconds, seconds->written++);
	}
}

#endif
