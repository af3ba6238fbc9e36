// SPDX-License-Identifier: Apache-2.0
#include "learner/rules/rules_statistics.h"

#include <math.h>
#include <string.h>

/* Sums of ticks are a little off: 300.0000001 s is not younger than 300 s. */
#define TIME_EPSILON_S 1e-6

void rule_window_add(struct rule_window *window, double now_s, double value)
{
	uint32_t last;

	while (window->count) {
		last = (window->first + window->count - 1) % RULE_WINDOW_MAX;
		if (window->value[last] > value)
			break;
		window->count--;
	}
	if (window->count == RULE_WINDOW_MAX) {
		last = (window->first + window->count - 1) % RULE_WINDOW_MAX;
		window->time_s[last] = now_s;
		return;
	}
	last = (window->first + window->count++) % RULE_WINDOW_MAX;
	window->time_s[last] = now_s;
	window->value[last] = value;
}

double rule_window_max(struct rule_window *window, double now_s, double span_s)
{
	while (window->count && now_s - window->time_s[window->first] > span_s - TIME_EPSILON_S) {
		window->first = (window->first + 1) % RULE_WINDOW_MAX;
		window->count--;
	}
	return window->count ? window->value[window->first] : -INFINITY;
}

void rule_ring_add(struct rule_ring *ring, double now_s, double value)
{
	ring->time_s[ring->next] = now_s;
	ring->value[ring->next] = value;
	ring->next = (ring->next + 1) % RULE_RING_MAX;
	if (ring->count < RULE_RING_MAX)
		ring->count++;
}

struct rule_moments rule_ring_moments(const struct rule_ring *ring, double now_s, double span_s)
{
	struct rule_moments moments = {.count = 0};
	double squares = 0;

	/* Welford's update: no difference of large sums. */
	for (uint32_t i = 0; i < ring->count; i++) {
		double value = ring->value[i], away;

		if (now_s - ring->time_s[i] > span_s - TIME_EPSILON_S)
			continue;
		moments.count++;
		away = value - moments.mean;
		moments.mean += away / moments.count;
		squares += away * (value - moments.mean);
		if (moments.count == 1 || value > moments.maximum)
			moments.maximum = value;
	}
	if (moments.count > 1)
		moments.deviation = sqrt(squares / (moments.count - 1));
	return moments;
}

void rule_slots_add(
	struct rule_slots *slots, double slot_s, double now_s, double value, double weight)
{
	int64_t slot = (int64_t)floor((now_s + TIME_EPSILON_S) / slot_s);
	int64_t behind = slot - slots->newest;

	if (!slots->started || behind >= RULE_SLOTS) {
		memset(slots->sum, 0, sizeof(slots->sum));
		memset(slots->weight, 0, sizeof(slots->weight));
		slots->newest = slot;
		slots->started = true;
	}
	while (slots->newest < slot) {
		slots->newest++;
		slots->sum[slots->newest % RULE_SLOTS] = 0;
		slots->weight[slots->newest % RULE_SLOTS] = 0;
	}
	slots->sum[slots->newest % RULE_SLOTS] += value * weight;
	slots->weight[slots->newest % RULE_SLOTS] += weight;
}

bool rule_slots_mean(const struct rule_slots *slots, uint32_t count, double *mean)
{
	double sum = 0, weight = 0;

	for (uint32_t i = 0; i < count && i < RULE_SLOTS; i++) {
		/* Slots before time 0 were never written. */
		uint64_t slot = (uint64_t)(slots->newest - i + RULE_SLOTS) % RULE_SLOTS;

		sum += slots->sum[slot];
		weight += slots->weight[slot];
	}
	if (!(weight > 0))
		return false;
	*mean = sum / weight;
	return true;
}

static double bucket_start(double first, int bucket)
{
	return first * (pow(RULE_BUCKET_GROWTH, bucket) - 1) / (RULE_BUCKET_GROWTH - 1);
}

static int bucket_of(double first, double value)
{
	double bucket;

	if (!(value >= first))
		return 0;
	bucket = floor(log(value * (RULE_BUCKET_GROWTH - 1) / first + 1) / log(RULE_BUCKET_GROWTH));
	return bucket < RULE_BUCKETS - 1 ? (int)bucket : RULE_BUCKETS - 1;
}

/* The weights of today would overflow beside those of the first day: bring all to today's. */
static void histogram_shift(struct rule_histogram *histogram, double time_s, double half_life_s)
{
	double halvings = floor((time_s - histogram->reference_s) / half_life_s);
	double keep = exp2(-halvings);

	for (int i = 0; i < RULE_BUCKETS; i++)
		histogram->weight[i] *= keep;
	histogram->reference_s += halvings * half_life_s;
}

void rule_histogram_add(struct rule_histogram *histogram, double first, double value, double weight,
	double time_s, double half_life_s)
{
	double *slot = &histogram->weight[bucket_of(first, value)];

	/* One use without end (a tick of no length) would outweigh all others for ever. */
	if (!isfinite(value) || !isfinite(weight))
		return;
	if (!histogram->started) {
		histogram->started = true;
		histogram->reference_s = time_s;
	}
	if ((time_s - histogram->reference_s) / half_life_s > 64)
		histogram_shift(histogram, time_s, half_life_s);
	*slot += weight * exp2((time_s - histogram->reference_s) / half_life_s);
	/* What rounding leaves of a sample that was taken back is no sample. */
	if (weight < 0 && *slot < 1e-9 * fabs(weight))
		*slot = 0;
}

double rule_histogram_percentile(
	const struct rule_histogram *histogram, double first, double percentile)
{
	double total = 0, reached = 0;

	for (int i = 0; i < RULE_BUCKETS; i++)
		total += histogram->weight[i];
	if (!(total > 0))
		return 0;
	for (int i = 0; i < RULE_BUCKETS - 1; i++) {
		reached += histogram->weight[i];
		if (reached >= total * percentile / 100)
			return bucket_start(first, i + 1);
	}
	return bucket_start(first, RULE_BUCKETS - 1);
}

double rule_histogram_round(double first, double value)
{
	int bucket = bucket_of(first, value) + 1;

	return bucket_start(first, bucket < RULE_BUCKETS ? bucket : RULE_BUCKETS - 1);
}
