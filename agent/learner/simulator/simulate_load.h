// SPDX-License-Identifier: Apache-2.0
/*
 * The simulator's load: when requests come and how much work each is. Drawn in batches, from the
 * seed and the trace alone.
 */
#ifndef EBBTIDE_SIMULATE_LOAD_H
#define EBBTIDE_SIMULATE_LOAD_H

#include "learner/dqn/random.h"
#include "learner/simulator/simulate.h"

/*
 * A positive distribution by the inverse of its distribution function: cells of equal probability,
 * straight within, except the last ones, whose tail is drawn exactly.
 */
#define SAMPLER_CELLS	   1024
#define SAMPLER_TAIL_CELLS 8
#define SAMPLER_BODY	   (SAMPLER_CELLS - SAMPLER_TAIL_CELLS)
struct sampler {
	struct {
		float base;
		float width;
	} cell[SAMPLER_CELLS];
	double log_scale;  /* a log-normal's: exp(log_scale + log_spread * normal) */
	double log_spread; /* 0: constant, every cell holds it */
	double tail_bound; /* where a log-normal's tail begins, of the standard normal */
};

/* Bounds of the cells of the standard normal distribution; made once. */
struct sampler_normal {
	float bound[SAMPLER_CELLS + 1];
};
void sampler_normal_init(struct sampler_normal *normal);
/* Log-normal with this mean, exactly, and this coefficient of variation. */
void sampler_lognormal_init(
	struct sampler *sampler, const struct sampler_normal *normal, double mean, double cv);
/* Mean 1. */
void sampler_exponential_init(struct sampler *sampler);

double sampler_lognormal_tail(const struct sampler *sampler, struct random_state *random);
double sampler_exponential_tail(const struct sampler *sampler, struct random_state *random);

/* One value from 32 random bits; @random is for the tail. */
static inline double sampler_lognormal(
	const struct sampler *sampler, uint32_t bits, struct random_state *random)
{
	uint32_t cell = bits >> 22;

	if (__builtin_expect(cell >= SAMPLER_BODY, 0))
		return sampler_lognormal_tail(sampler, random);
	return (double)(sampler->cell[cell].base +
			sampler->cell[cell].width * (float)(int)(bits & 0x3fffff));
}
static inline double sampler_exponential(
	const struct sampler *sampler, uint32_t bits, struct random_state *random)
{
	uint32_t cell = bits >> 22;

	if (__builtin_expect(cell >= SAMPLER_BODY, 0))
		return sampler_exponential_tail(sampler, random);
	return (double)(sampler->cell[cell].base +
			sampler->cell[cell].width * (float)(int)(bits & 0x3fffff));
}

#define LOAD_BATCH 256
struct load {
	struct simulate_trace trace;
	const struct sampler *gap;  /* mean 1 */
	const struct sampler *work; /* us */
	struct random_state random;
	double now_us;	   /* of the last arrival, or where the search for the next one is */
	double gap_left;   /* of the gap to it, in mean gaps */
	double segment_us; /* end of the stretch of constant rate */
	double rate_per_us;
	double covered_us; /* all arrivals before this are drawn */
	uint64_t slots;	   /* segments begun */
	uint32_t bursts;   /* slots of this second that are one, a bit each */
	uint32_t next;
	uint32_t count;
	double time_us[LOAD_BATCH + 1]; /* of the arrivals next to count; infinite at count */
	float work_us[LOAD_BATCH];
};

void load_init(struct load *load, const struct simulate_trace *trace, const struct sampler *gap,
	const struct sampler *work, uint64_t seed);
/* The batch is used up: draw the next one, at least up to @until_us if there are so few. */
void load_draw(struct load *load, double until_us);
/* Before a tick: time_us[next] is then the next arrival, or infinite if it is not before. */
static inline void load_prepare(struct load *load, double until_us)
{
	if (load->next == load->count && load->covered_us < until_us)
		load_draw(load, until_us);
}

#endif
