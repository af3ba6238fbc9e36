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

double histogram_quantile_us(const uint32_t counts[HIST_BUCKETS], double q)
{
	uint64_t total = histogram_count(counts);
	uint64_t rank, seen = 0;

	if (total == 0)
		return 0;
	rank = (uint64_t)ceil(q * (double)total);
	if (rank < 1)
		rank = 1;
	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		seen += counts[i];
		if (seen >= rank)
			return histogram_value_us(i);
	}
	return histogram_value_us(HIST_BUCKETS - 1);
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

void histogram_add(uint32_t into[HIST_BUCKETS], const uint32_t other[HIST_BUCKETS])
{
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		into[i] += other[i];
}
