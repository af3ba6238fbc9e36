/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-linear histogram of durations in nanoseconds, as HdrHistogram's: exact below 2048 ns, then
 * 1024 buckets an octave, so a quantile is at most 0.1 % above the recorded value. Durations of
 * 2^42 ns (73 minutes) and more share the last bucket; the maximum is kept exactly.
 */
#ifndef EBBTIDE_LOAD_HISTOGRAM_H
#define EBBTIDE_LOAD_HISTOGRAM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_HISTOGRAM_LINEAR_BITS 11
#define LOAD_HISTOGRAM_MAX_BITS	   42
#define LOAD_HISTOGRAM_LINEAR	   (1u << LOAD_HISTOGRAM_LINEAR_BITS)
#define LOAD_HISTOGRAM_OCTAVE	   (1u << (LOAD_HISTOGRAM_LINEAR_BITS - 1))
#define LOAD_HISTOGRAM_BUCKETS                                                                     \
	(LOAD_HISTOGRAM_LINEAR +                                                                   \
		(LOAD_HISTOGRAM_MAX_BITS - LOAD_HISTOGRAM_LINEAR_BITS) * LOAD_HISTOGRAM_OCTAVE)

/* Zeroed memory is an empty histogram. */
struct load_histogram {
	uint64_t count;
	uint64_t max_ns;
	double sum_ns;
	uint64_t buckets[LOAD_HISTOGRAM_BUCKETS];
};

static inline size_t load_histogram_bucket(uint64_t ns)
{
	if (ns < LOAD_HISTOGRAM_LINEAR)
		return (size_t)ns;
	if (ns >> LOAD_HISTOGRAM_MAX_BITS)
		return LOAD_HISTOGRAM_BUCKETS - 1;
	unsigned shift = (unsigned)(64 - __builtin_clzll(ns)) - LOAD_HISTOGRAM_LINEAR_BITS;
	return LOAD_HISTOGRAM_LINEAR + (shift - 1) * LOAD_HISTOGRAM_OCTAVE + (size_t)(ns >> shift) -
	       LOAD_HISTOGRAM_OCTAVE;
}

/* The largest duration that falls into @bucket. */
static inline uint64_t load_histogram_upper_ns(size_t bucket)
{
	if (bucket < LOAD_HISTOGRAM_LINEAR)
		return bucket;
	size_t above = bucket - LOAD_HISTOGRAM_LINEAR;
	unsigned shift = (unsigned)(above / LOAD_HISTOGRAM_OCTAVE) + 1;
	uint64_t first = LOAD_HISTOGRAM_OCTAVE + above % LOAD_HISTOGRAM_OCTAVE;
	return ((first + 1) << shift) - 1;
}

static inline void load_histogram_record(struct load_histogram *histogram, uint64_t ns)
{
	histogram->buckets[load_histogram_bucket(ns)]++;
	histogram->count++;
	histogram->sum_ns += (double)ns;
	if (ns > histogram->max_ns)
		histogram->max_ns = ns;
}

/* How many of @count sorted values lie at or below quantile @share (0 to 1); at least 1. */
static inline uint64_t load_histogram_rank(double share, uint64_t count)
{
	/* 0.99 * 100 must give 99, whatever the last bit of the product says. */
	uint64_t rank = (uint64_t)ceil(share * (double)count - 1e-9);
	if (rank < 1)
		return 1;
	return rank > count ? count : rank;
}

/* 0 when nothing was recorded. */
static inline uint64_t load_histogram_quantile_ns(
	const struct load_histogram *histogram, double share)
{
	uint64_t seen = 0;

	if (!histogram->count)
		return 0;
	uint64_t rank = load_histogram_rank(share, histogram->count);
	for (size_t i = 0; i < LOAD_HISTOGRAM_BUCKETS - 1; i++) {
		seen += histogram->buckets[i];
		if (seen >= rank) {
			uint64_t upper = load_histogram_upper_ns(i);
			return upper < histogram->max_ns ? upper : histogram->max_ns;
		}
	}
	return histogram->max_ns;
}

static inline double load_histogram_mean_ns(const struct load_histogram *histogram)
{
	return histogram->count ? histogram->sum_ns / (double)histogram->count : 0;
}

#endif
