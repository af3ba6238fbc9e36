/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulator's tests share: a plain configuration, runs, and comparison with a tolerance. */
#ifndef EBBTIDE_SIMULATE_FIXTURE_H
#define EBBTIDE_SIMULATE_FIXTURE_H

#include "learner/simulator/simulate_model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1024.0 * 1024)

#define assert_near(value, wanted, tolerance)                                                      \
	do {                                                                                       \
		double near_value = (value), near_wanted = (wanted);                               \
		if (!(fabs(near_value - near_wanted) <= (tolerance)))                              \
			fail_msg("%s is %g, expected %g within %g", #value, near_value,            \
				near_wanted, (double)(tolerance));                                 \
	} while (0)

/* One service at a constant rate; limits off, so that only what a test sets plays a part. */
static inline struct simulate_config config_make(const double *rate_per_s)
{
	struct simulate_config config;

	simulate_config_init(&config);
	config.trace.rate_per_s = rate_per_s;
	config.trace.seconds = 1;
	config.service[0].period_phases = 0;
	config.service[0].scheduler_tick_us = 0;
	config.service[0].idle_quota_us = 0;
	return config;
}

static inline struct simulation *simulation_make(
	const struct simulate_config *config, uint64_t seed)
{
	struct simulation *simulation;

	assert_int_equal(simulate_create(&simulation, config, seed), 0);
	return simulation;
}

/* A run's samples added up, and its latencies. */
struct totals {
	struct sample sum;
	double latency_mean_us;
	double in_flight_mean;
	uint32_t latency[HIST_BUCKETS];
};

static inline void run_ticks(struct simulation *simulation, const struct simulate_input *input,
	uint32_t ticks, struct totals *totals)
{
	double sum_us = 0, in_flight = 0;

	memset(totals, 0, sizeof(*totals));
	for (uint32_t i = 0; i < ticks; i++) {
		struct sample sample;

		simulate_tick(simulation, input, &sample);
		sample_extend(&totals->sum, &sample);
		histogram_add(totals->latency, simulate_latency(simulation, 0));
		in_flight += sample.in_flight;
	}
	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		sum_us += totals->latency[i] * histogram_value_us(i);
	totals->latency_mean_us = sum_us / (double)totals->sum.requests;
	totals->in_flight_mean = in_flight / ticks;
}

static inline void run_config(const struct simulate_config *config,
	const struct simulate_input *input, uint32_t ticks, struct totals *totals)
{
	struct simulation *simulation = simulation_make(config, 1);

	run_ticks(simulation, input, ticks, totals);
	simulate_destroy(simulation);
}

#endif
