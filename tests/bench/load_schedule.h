/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to send: a trace of request rates, one value a second, and the arrivals drawn from it. Pure
 * but for load_trace_read(): the same trace and seed give the same arrivals everywhere.
 */
#ifndef EBBTIDE_LOAD_SCHEDULE_H
#define EBBTIDE_LOAD_SCHEDULE_H

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_NS_PER_SECOND 1000000000ULL
/* A day; longer runs are a mistake in the trace or the option. */
#define LOAD_TRACE_MAX_SECONDS 86400
/* More than one thread can send; a larger value is a column of something else. */
#define LOAD_RATE_MAX 1e6

struct load_trace {
	double *rate; /* requests per second, of each second; owned */
	size_t seconds;
};

static inline void load_trace_free(struct load_trace *trace)
{
	free(trace->rate);
	*trace = (struct load_trace){0};
}

/* A finite number from 0 to LOAD_RATE_MAX with nothing but blanks behind it. */
static inline int load_parse_rate(const char *text, double *rate)
{
	char *end;

	errno = 0;
	double value = strtod(text, &end);
	if (end == text || errno || !isfinite(value))
		return -EINVAL;
	if (end[strspn(end, " \t\r\n")])
		return -EINVAL;
	if (value < 0 || value > LOAD_RATE_MAX)
		return -ERANGE;
	*rate = value;
	return 0;
}

static inline int load_trace_append(struct load_trace *trace, double rate)
{
	if (trace->seconds >= LOAD_TRACE_MAX_SECONDS)
		return -E2BIG;
	/* Grown when the length is a power of two: no capacity to keep. */
	if (!(trace->seconds & (trace->seconds - 1))) {
		size_t capacity = trace->seconds ? trace->seconds * 2 : 1;
		double *grown = realloc(trace->rate, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		trace->rate = grown;
	}
	trace->rate[trace->seconds++] = rate;
	return 0;
}

/*
 * Read @path, keeping the first second and every @every-th after it. Lines that begin with '#' are
 * comments. On an error (-errno) @error says which line and why, and @trace is empty.
 */
static inline int load_trace_read(
	const char *path, size_t every, struct load_trace *trace, char *error, size_t error_size)
{
	char line[256];
	size_t number = 0, second = 0;
	int rc = 0;

	*trace = (struct load_trace){0};
	FILE *file = fopen(path, "re");
	if (!file) {
		rc = -errno;
		snprintf(error, error_size, "cannot open trace %s: %s", path, strerror(-rc));
		return rc;
	}
	while (fgets(line, sizeof(line), file)) {
		double rate;

		number++;
		if (line[0] == '#') {
			/* A comment may be longer than the buffer. */
			while (!strchr(line, '\n') && fgets(line, sizeof(line), file))
				;
			continue;
		}
		rc = strchr(line, '\n') || feof(file) ? load_parse_rate(line, &rate) : -EINVAL;
		if (rc) {
			line[strcspn(line, "\r\n")] = '\0';
			snprintf(error, error_size,
				"trace %s line %zu: '%.40s' is not a request rate; give one number "
				"from 0 to %.0f a line",
				path, number, line, LOAD_RATE_MAX);
			goto out;
		}
		if (second++ % every)
			continue;
		rc = load_trace_append(trace, rate);
		if (rc) {
			snprintf(error, error_size, "trace %s line %zu: %s", path, number,
				rc == -E2BIG ? "more than a day; take fewer seconds with --every"
					     : strerror(-rc));
			goto out;
		}
	}
	if (ferror(file)) {
		rc = -EIO;
		snprintf(error, error_size, "cannot read trace %s after line %zu", path, number);
	} else if (!trace->seconds) {
		rc = -EINVAL;
		snprintf(error, error_size, "trace %s has no line with a rate", path);
	}
out:
	fclose(file);
	if (rc)
		load_trace_free(trace);
	return rc;
}

/* @seconds at a constant @rate; 0 or -errno. */
static inline int load_trace_constant(struct load_trace *trace, double rate, size_t seconds)
{
	*trace = (struct load_trace){0};
	for (size_t i = 0; i < seconds; i++) {
		int rc = load_trace_append(trace, rate);
		if (rc) {
			load_trace_free(trace);
			return rc;
		}
	}
	return 0;
}

static inline double load_trace_peak(const struct load_trace *trace)
{
	double peak = 0;

	for (size_t i = 0; i < trace->seconds; i++)
		peak = fmax(peak, trace->rate[i]);
	return peak;
}

static inline void load_trace_scale(struct load_trace *trace, double factor)
{
	for (size_t i = 0; i < trace->seconds; i++)
		trace->rate[i] *= factor;
}

enum load_kind {
	LOAD_POISSON,
	LOAD_UNIFORM, /* evenly spaced */
	LOAD_BURSTS,  /* Poisson, but the rate of each tenth of a second is its own */
};

/* X(kind, name): as options spell it. */
#define LOAD_KINDS(X)                                                                              \
	X(LOAD_POISSON, "poisson")                                                                 \
	X(LOAD_UNIFORM, "uniform")                                                                 \
	X(LOAD_BURSTS, "bursts")

/* Of bursts: tenths of a second, by chance, at a multiple of the second's rate; the rest less. */
#define LOAD_BURST_PARTS 10
#define LOAD_BURST_SHARE 0.3
#define LOAD_BURST_TIMES 2.0

/* Walks a trace; borrows it. */
struct load_arrivals {
	const struct load_trace *trace;
	enum load_kind kind;
	uint64_t random;
	uint64_t burst_random; /* another sequence than that of the gaps */
	size_t second;
	size_t part;	 /* of the second */
	double times;	 /* the part's rate, of the second's */
	double position; /* within the part, 0 to 1 */
	bool started;
};

/* splitmix64 (Steele, Lea, Flood 2014); result in [0, 1). */
static inline double load_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53;
}

static inline size_t load_arrivals_parts(const struct load_arrivals *arrivals)
{
	return arrivals->kind == LOAD_BURSTS ? LOAD_BURST_PARTS : 1;
}

static inline void load_arrivals_part_begin(struct load_arrivals *arrivals)
{
	arrivals->position = 0;
	arrivals->times = 1;
	if (arrivals->kind != LOAD_BURSTS)
		return;
	arrivals->times =
		load_random(&arrivals->burst_random) < LOAD_BURST_SHARE
			? LOAD_BURST_TIMES
			: (1 - LOAD_BURST_SHARE * LOAD_BURST_TIMES) / (1 - LOAD_BURST_SHARE);
}

static inline void load_arrivals_init(struct load_arrivals *arrivals,
	const struct load_trace *trace, enum load_kind kind, uint64_t seed)
{
	*arrivals = (struct load_arrivals){
		.trace = trace, .kind = kind, .random = seed, .burst_random = ~seed};
	load_arrivals_part_begin(arrivals);
}

/*
 * The next arrival, as nanoseconds since the run's start, and the second it belongs to; false after
 * the last one. The rate is constant within a part of a second, so the process is stepped in its own
 * time: each gap is one expected request (exponential for Poisson), spent at the rate of the parts it
 * crosses. A second of rate 0 is crossed at no cost.
 */
static inline bool load_arrivals_next(
	struct load_arrivals *arrivals, uint64_t *offset_ns, size_t *second)
{
	const struct load_trace *trace = arrivals->trace;
	size_t parts = load_arrivals_parts(arrivals);
	double gap = 1;

	if (arrivals->kind != LOAD_UNIFORM)
		gap = -log1p(-load_random(&arrivals->random));
	else if (!arrivals->started)
		gap = 0.5;
	arrivals->started = true;

	while (arrivals->second < trace->seconds) {
		double expected = trace->rate[arrivals->second] * arrivals->times / (double)parts;
		double room = expected * (1 - arrivals->position);

		if (gap < room) {
			arrivals->position += gap / expected;
			uint64_t within = (uint64_t)(((double)arrivals->part + arrivals->position) *
						     1e9 / (double)parts);
			if (within >= LOAD_NS_PER_SECOND)
				within = LOAD_NS_PER_SECOND - 1;
			*second = arrivals->second;
			*offset_ns = arrivals->second * LOAD_NS_PER_SECOND + within;
			return true;
		}
		gap -= room;
		if (++arrivals->part == parts) {
			arrivals->part = 0;
			arrivals->second++;
		}
		load_arrivals_part_begin(arrivals);
	}
	return false;
}

#endif
