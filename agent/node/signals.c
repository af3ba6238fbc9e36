// SPDX-License-Identifier: Apache-2.0
#include "node/signals.h"

#include <math.h>

void signals_start(struct signals *before, const struct cgroup_usage *usage)
{
#define X(name, text) before->name = usage->name;
	SIGNAL_PRESSURES(X)
#undef X
}

static void counter_take(uint64_t *tick, uint64_t *before, uint64_t now)
{
	*tick += now - *before;
	*before = now;
}

static void histogram_take(uint32_t *tick, uint32_t *before, const uint32_t *now)
{
	for (uint32_t i = 0; i < HIST_COARSE; i++) {
		uint32_t value = now[i];

		tick[i] += value - before[i];
		before[i] = value;
	}
}

void signals_take(struct signals *tick, struct signals *before, const struct slot *slot,
	const struct cgroup_usage *usage)
{
#define X(name, text) counter_take(&tick->name, &before->name, slot->name);
	SIGNAL_COUNTERS(X)
#undef X
#define X(name, text)                                                                              \
	if (usage)                                                                                 \
		counter_take(&tick->name, &before->name, usage->name);
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text) histogram_take(tick->name, before->name, slot->name);
	SIGNAL_HISTOGRAMS(X)
#undef X
}

void signals_add(struct signals_total *total, const struct signals *tick)
{
#define X(name, text) total->name += tick->name;
	SIGNAL_COUNTERS(X)
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text) octaves_add(&total->name, tick->name, HIST_COARSE);
	SIGNAL_HISTOGRAMS(X)
#undef X
}

static double middle_us(uint32_t bucket, uint32_t width)
{
	return (double)(hist_lower_us(bucket * width) + hist_lower_us((bucket + 1) * width)) / 2;
}

double signals_quantile_us(const uint32_t counts[HIST_COARSE], double q)
{
	uint64_t total = 0, seen = 0, rank;
	uint32_t bucket = 0;

	for (uint32_t i = 0; i < HIST_COARSE; i++)
		total += counts[i];
	if (total == 0)
		return 0;
	rank = (uint64_t)ceil(q * (double)total);
	if (rank < 1)
		rank = 1;
	while (bucket < HIST_COARSE - 1 && (seen += counts[bucket]) < rank)
		bucket++;
	return middle_us(bucket, HIST_BUCKETS / HIST_COARSE);
}

void octaves_add(struct octaves *octaves, const uint32_t *counts, uint32_t buckets)
{
	uint32_t width = HIST_BUCKETS / buckets, octave_buckets = HIST_LINEAR / width;

	for (uint32_t i = 0; i < buckets; i++) {
		if (!counts[i])
			continue;
		octaves->counts[i / octave_buckets] += counts[i];
		octaves->sum_us += (double)counts[i] * middle_us(i, width);
	}
}
