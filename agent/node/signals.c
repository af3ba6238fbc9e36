// SPDX-License-Identifier: Apache-2.0
#include "node/signals.h"

#include "common/histogram.h"

#include <math.h>
#include <stddef.h>

void signals_start(struct signals_before *before, const struct cgroup_usage *usage)
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

/*
 * Whether the histograms may have something: their counters are raised first, so for a tick longer.
 * A response's last byte has no counter.
 */
static bool may_have_values(struct signals_before *before, const struct slot *slot)
{
	bool counts = slot->breakdowns != before->breakdowns || slot->calls != before->calls;
	bool has_counted = before->has_counted;

	before->has_counted = counts;
	return counts || has_counted;
}

void signals_take(struct signals *tick, struct signals_before *before, struct slot *slot,
	const struct cgroup_usage *usage)
{
	bool all = may_have_values(before, slot);

#define X(name, text) counter_take(&tick->name, &before->name, slot->name);
	SIGNAL_COUNTERS(X)
#undef X
#define X(name, text)                                                                              \
	if (usage)                                                                                 \
		counter_take(&tick->name, &before->name, usage->name);
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text)                                                                      \
	if (all || offsetof(struct slot, name) == offsetof(struct slot, service_time))             \
		tick->values += histogram_move(slot->name, tick->name, HIST_COARSE);
	SIGNAL_HISTOGRAMS(X)
#undef X
}

void signals_add(struct signals_total *total, const struct signals *tick)
{
#define X(name, text) total->name += tick->name;
	SIGNAL_COUNTERS(X)
	SIGNAL_PRESSURES(X)
#undef X
	if (!tick->values)
		return;
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
	/* Most of what is in the first is nothing at all, such as no throttling. */
	return bucket == 0 ? 0 : middle_us(bucket, HIST_BUCKETS / HIST_COARSE);
}

void signals_show(struct signals_shown *shown, const struct signals *tick)
{
#define X(name, text) shown->name = tick->name;
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text)                                                                      \
	shown->name##_p50_us = tick->values ? (float)signals_quantile_us(tick->name, 0.50) : 0;    \
	shown->name##_p99_us = tick->values ? (float)signals_quantile_us(tick->name, 0.99) : 0;
	SIGNAL_HISTOGRAMS(X)
#undef X
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
