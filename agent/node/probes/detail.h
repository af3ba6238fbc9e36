// SPDX-License-Identifier: Apache-2.0
/*
 * How closely the kernel side looks at each container: which requests it follows through socket,
 * run queue and CPU, which it tells of one by one, and how fine it keeps the ages of those in
 * flight. All of it is set anew every tick.
 */
#ifndef EBBTIDE_DETAIL_H
#define EBBTIDE_DETAIL_H

#include "node/agent.h"

/*
 * Of a container's requests as many a second are followed in detail; beyond, one in 2^k. Enough for
 * histograms; more where someone reads of single requests, most of which then have their parts.
 */
#define DETAIL_REQUESTS_PER_S	   2500
#define DETAIL_READ_REQUESTS_PER_S 20000

/* "full", "eighth", "sixty-fourth", "aggregates" */
const char *detail_level_name(enum detail_level level);

/* For struct slot. A request whose number has none of the mask's bits is followed. */
uint64_t detail_mask(
	double requests_per_s, const struct trace_choice *wanted, enum detail_level level);
uint64_t detail_trace_mask(const struct trace_choice *wanted, enum detail_level level);
uint64_t detail_trace_threshold_ns(const struct trace_choice *wanted, enum detail_level level);
/* Width of an age bucket as a power of two of ns: all AGE_BUCKETS span about 4 targets. */
uint32_t detail_age_shift(double latency_target_us);

/* Set the slots of one unit, after its objective or what is wanted of it changed. */
void detail_apply(struct agent *agent, const struct unit *unit);
/* Set all, and ask for the next exemplars. */
void detail_tick(struct agent *agent);

#endif
