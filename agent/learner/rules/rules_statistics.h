// SPDX-License-Identifier: Apache-2.0
/*
 * What the rules remember of a series: its maximum, its average and its distribution over time.
 * All of fixed size, so that a simulator can hold thousands of them.
 *
 * Pure: time comes in as an argument and does not go back. Zero-initialise the structures.
 */
#ifndef EBBTIDE_RULES_STATISTICS_H
#define EBBTIDE_RULES_STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

#define RULE_WINDOW_MAX 64

/*
 * A maximum over the newest seconds, as a monotonic queue: a step costs O(1) amortised, however
 * long the span. Only values that no later one reached are kept. When more of them fall in a row
 * than there is room for, the newest two are taken for one, as large as the larger and as young as
 * the younger: then the maximum errs upward and late, never downward.
 */
struct rule_window {
	double time_s[RULE_WINDOW_MAX];
	double value[RULE_WINDOW_MAX];
	uint32_t first;
	uint32_t count;
};
void rule_window_add(struct rule_window *window, double now_s, double value);
/* Largest value younger than @span_s; -INFINITY when there is none. Older ones are forgotten. */
double rule_window_max(struct rule_window *window, double now_s, double span_s);

/* The newest values of a series, for statistics over all of them. */
#define RULE_RING_MAX 64
struct rule_ring {
	double time_s[RULE_RING_MAX];
	double value[RULE_RING_MAX];
	uint32_t next;
	uint32_t count;
};
void rule_ring_add(struct rule_ring *ring, double now_s, double value);

struct rule_moments {
	uint32_t count;
	double maximum;
	double mean;
	double deviation; /* of a sample: divided by count - 1; 0 for fewer than two values */
};
/* Of the values younger than @span_s; all 0 when there is none. */
struct rule_moments rule_ring_moments(const struct rule_ring *ring, double now_s, double span_s);

/* Averages over the newest slots of time. */
#define RULE_SLOTS 60
struct rule_slots {
	double sum[RULE_SLOTS];
	double weight[RULE_SLOTS];
	int64_t newest; /* number of the newest slot since time 0 */
	bool started;
};
/* @weight: the seconds that @value holds for. */
void rule_slots_add(
	struct rule_slots *slots, double slot_s, double now_s, double value, double weight);
/* Weighted mean of the newest @count slots; false when nothing is in them. */
bool rule_slots_mean(const struct rule_slots *slots, uint32_t count, double *mean);

/*
 * A distribution whose samples lose half of their weight every half-life. Buckets grow by 5 %, as
 * in Kubernetes' VPA: bucket n starts at first x (1.05^n - 1) / 0.05.
 */
#define RULE_BUCKETS	   176
#define RULE_BUCKET_GROWTH 1.05
struct rule_histogram {
	double weight[RULE_BUCKETS]; /* as of reference_s */
	double reference_s;
	bool started;
};
/*
 * @first: width of the first bucket. A negative weight takes a sample back; what is not finite is
 * left out.
 */
void rule_histogram_add(struct rule_histogram *histogram, double first, double value, double weight,
	double time_s, double half_life_s);
/* Upper end of the bucket in which @percentile (0 to 100) of the weight is reached; 0 if empty. */
double rule_histogram_percentile(
	const struct rule_histogram *histogram, double first, double percentile);
/* Where the bucket after the one of @value starts: what a percentile can come out as. */
double rule_histogram_round(double first, double value);

#endif
