// SPDX-License-Identifier: Apache-2.0
#include "common/histogram.h"

#include <math.h>

double histogram_value_us(uint32_t bucket)
{
	double lower = (double)hist_lower_us(bucket);
	double upper = (double)hist_lower_us(bucket + 1);

	return (lower + upper) / 2;
}

uint64_t histogram_count(const uint32_t counts[HIST_BUCKETS])
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		total += counts[i];
	return total;
}

void histogram_quantiles_us(
	const uint32_t counts[HIST_BUCKETS], const double *q, double *values_us, uint32_t count)
{
	uint64_t octave[HIST_OCTAVES + 1] = {0}, total = 0;

	/* Sums of an octave first, so that a rank is found in two short searches. */
	for (uint32_t i = 0; i <= HIST_OCTAVES; i++) {
		for (uint32_t k = 0; k < HIST_LINEAR; k++)
			octave[i] += counts[i * HIST_LINEAR + k];
		total += octave[i];
	}
	for (uint32_t k = 0; k < count; k++) {
		uint64_t rank = (uint64_t)ceil(q[k] * (double)total), before = 0;
		uint32_t i = 0, bucket;

		rank = rank < 1 ? 1 : rank > total ? total : rank;
		while (i < HIST_OCTAVES && before + octave[i] < rank)
			before += octave[i++];
		bucket = i * HIST_LINEAR;
		while (bucket < HIST_BUCKETS - 1 && (before += counts[bucket]) < rank)
			bucket++;
		values_us[k] = total ? histogram_value_us(bucket) : 0;
	}
}

double histogram_quantile_us(const uint32_t counts[HIST_BUCKETS], double q)
{
	double value_us;

	histogram_quantiles_us(counts, &q, &value_us, 1);
	return value_us;
}

void histogram_take_delta(const uint32_t now[HIST_BUCKETS], uint32_t before[HIST_BUCKETS],
	uint32_t delta[HIST_BUCKETS])
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		uint32_t value = now[i];

		delta[i] = value - before[i];
		before[i] = value;
	}
}

uint64_t histogram_move(uint32_t *from, uint32_t *into, uint32_t buckets)
{
	uint64_t moved = 0;

	for (uint32_t i = 0; i < buckets; i += 2) {
		/* Most are empty: look at two at a time, and write to none of these. */
		if (*(const volatile uint64_t __attribute__((may_alias)) *)(from + i) == 0)
			continue;
		for (uint32_t k = i; k < i + 2; k++) {
			uint32_t count = __atomic_exchange_n(&from[k], 0, __ATOMIC_RELAXED);

			into[k] += count;
			moved += count;
		}
	}
	return moved;
}

void histogram_add(uint32_t into[HIST_BUCKETS], const uint32_t other[HIST_BUCKETS])
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		into[i] += other[i];
}
