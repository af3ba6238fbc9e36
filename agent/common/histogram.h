// SPDX-License-Identifier: Apache-2.0
/* Quantiles of the histogram whose layout bpf/shared.h gives. Counts are plain uint32 arrays. */
#ifndef EBBTIDE_HISTOGRAM_H
#define EBBTIDE_HISTOGRAM_H

#include "shared.h"

#include <stdint.h>

/* Middle of a bucket in microseconds: at most 1.6 % from any value in it (0.5 us below 32 us). */
double histogram_value_us(uint32_t bucket);
uint64_t histogram_count(const uint32_t counts[HIST_BUCKETS]);
/*
 * Quantile @q in (0, 1] by nearest rank; 0 for an empty histogram.
 */
double histogram_quantile_us(const uint32_t counts[HIST_BUCKETS], double q);
/* The same of @count quantiles, in any order, for about the price of one. */
void histogram_quantiles_us(
	const uint32_t counts[HIST_BUCKETS], const double *q, double *values_us, uint32_t count);
/* delta = now - before, counters that wrapped included; then before = now. */
void histogram_take_delta(const uint32_t now[HIST_BUCKETS], uint32_t before[HIST_BUCKETS],
	uint32_t delta[HIST_BUCKETS]);
/*
 * Move @buckets counts from @from, which others go on counting into, to @into; how much it was.
 * @buckets is even, @from aligned to 8 bytes.
 */
uint64_t histogram_move(uint32_t *from, uint32_t *into, uint32_t buckets);
void histogram_add(uint32_t into[HIST_BUCKETS], const uint32_t other[HIST_BUCKETS]);

#endif
