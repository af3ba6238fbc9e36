// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/simulate_load.h"

#include <math.h>

#define SECOND_US     1e6
#define SLOTS_A_S     10
#define SLOT_US	      (SECOND_US / SLOTS_A_S)
#define BURST_SLOTS   3 /* of a second's */
#define BURST_FACTOR  2.0
#define FRACTION_STEP 0x1p-22 /* of a cell: 22 of the 32 bits */

static double normal_below(double z)
{
	return 0.5 * erfc(-z * M_SQRT1_2);
}

/* By bisection: only at start. */
static double normal_quantile(double share)
{
	double low = -9, high = 9;

	for (int i = 0; i < 60; i++) {
		double middle = (low + high) / 2;

		if (normal_below(middle) < share)
			low = middle;
		else
			high = middle;
	}
	return (low + high) / 2;
}

void sampler_normal_init(struct sampler_normal *normal)
{
	/* The lowest cell has no bound; where a quarter of it lies stands in for one. */
	normal->bound[0] = (float)normal_quantile(0.25 / SAMPLER_CELLS);
	for (int i = 1; i < SAMPLER_CELLS; i++)
		normal->bound[i] = (float)normal_quantile((double)i / SAMPLER_CELLS);
	normal->bound[SAMPLER_CELLS] = (float)normal_quantile(1 - 0.25 / SAMPLER_CELLS);
}

void sampler_lognormal_init(
	struct sampler *sampler, const struct sampler_normal *normal, double mean, double cv)
{
	double spread = sqrt(log1p(cv * cv));
	double scale = log(mean) - spread * spread / 2;
	double from = exp(scale + spread * (double)normal->bound[0]), sum = 0, correction;

	sampler->log_scale = scale;
	sampler->log_spread = spread;
	sampler->tail_bound = (double)normal->bound[SAMPLER_BODY];
	for (int i = 0; i < SAMPLER_CELLS; i++) {
		double to = exp(scale + spread * (double)normal->bound[i + 1]);

		sampler->cell[i].base = (float)from;
		sampler->cell[i].width = (float)((to - from) * FRACTION_STEP);
		if (i < SAMPLER_BODY)
			sum += (from + to) / 2 / SAMPLER_CELLS;
		from = to;
	}
	/* What straight cells are off by: the body's share of the mean is known in closed form. */
	correction = mean * normal_below((double)normal->bound[SAMPLER_BODY] - spread) / sum;
	for (int i = 0; i < SAMPLER_CELLS; i++) {
		sampler->cell[i].base *= (float)correction;
		sampler->cell[i].width *= (float)correction;
	}
}

void sampler_exponential_init(struct sampler *sampler)
{
	const double tail = (double)SAMPLER_TAIL_CELLS / SAMPLER_CELLS;
	double from = 0, sum = 0, correction;

	sampler->log_scale = 0;
	sampler->log_spread = 0;
	for (int i = 0; i < SAMPLER_BODY; i++) {
		double to = -log1p(-(double)(i + 1) / SAMPLER_CELLS);

		sampler->cell[i].base = (float)from;
		sampler->cell[i].width = (float)((to - from) * FRACTION_STEP);
		sum += (from + to) / 2 / SAMPLER_CELLS;
		from = to;
	}
	/* The mean of 1 less the tail's share, tail x (1 - log tail). */
	correction = (1 - tail * (1 - log(tail))) / sum;
	for (int i = 0; i < SAMPLER_BODY; i++) {
		sampler->cell[i].base *= (float)correction;
		sampler->cell[i].width *= (float)correction;
	}
	for (int i = SAMPLER_BODY; i < SAMPLER_CELLS; i++)
		sampler->cell[i].base = sampler->cell[i].width = 0;
}

double sampler_exponential_tail(const struct sampler *sampler, struct random_state *random)
{
	/* An exponential variable forgets how far it has come. */
	(void)sampler;
	return log((double)SAMPLER_CELLS / SAMPLER_TAIL_CELLS) -
	       log1p(-random_uniform_double(random));
}

double sampler_lognormal_tail(const struct sampler *sampler, struct random_state *random)
{
	/* A normal variable beyond a bound by rejection, Marsaglia 1964. */
	const double bound = sampler->tail_bound;
	double beyond, other;

	do {
		beyond = -log1p(-random_uniform_double(random)) / bound;
		other = -log1p(-random_uniform_double(random));
	} while (2 * other < beyond * beyond);
	return exp(sampler->log_scale + sampler->log_spread * (bound + beyond));
}

static double draw_gap(struct load *load, uint32_t bits)
{
	return load->trace.arrivals == SIMULATE_UNIFORM
		       ? 1
		       : sampler_exponential(load->gap, bits, &load->random);
}

/* Three different ones of the ten. */
static uint32_t draw_bursts(struct random_state *random)
{
	uint32_t bursts = 0;

	while (__builtin_popcount(bursts) < BURST_SLOTS)
		bursts |= 1U << random_below(random, SLOTS_A_S);
	return bursts;
}

static void next_segment(struct load *load)
{
	const struct simulate_trace *trace = &load->trace;
	bool bursty = trace->arrivals == SIMULATE_BURSTY;
	uint64_t second = bursty ? load->slots / SLOTS_A_S : load->slots;
	uint32_t slot = bursty ? (uint32_t)(load->slots % SLOTS_A_S) : 0;
	double rate = trace->rate_per_s[(trace->first + second) % trace->seconds] * trace->scale;

	if (bursty) {
		if (slot == 0)
			load->bursts = draw_bursts(&load->random);
		rate *= load->bursts >> slot & 1 ? BURST_FACTOR
						 : (SLOTS_A_S - BURST_FACTOR * BURST_SLOTS) /
							   (SLOTS_A_S - BURST_SLOTS);
	}
	load->slots++;
	load->segment_us = (double)load->slots * (bursty ? SLOT_US : SECOND_US);
	load->rate_per_us = rate / SECOND_US;
}

void load_init(struct load *load, const struct simulate_trace *trace, const struct sampler *gap,
	const struct sampler *work, uint64_t seed)
{
	load->trace = *trace;
	load->gap = gap;
	load->work = work;
	random_seed(&load->random, seed);
	load->now_us = 0;
	load->slots = 0;
	load->bursts = 0;
	load->next = 0;
	load->count = 0;
	load->time_us[0] = INFINITY;
	load->covered_us = INFINITY;
	if (!trace->rate_per_s)
		return;
	load->covered_us = 0;
	load->gap_left = draw_gap(load, (uint32_t)(random_next(&load->random) >> 32));
	next_segment(load);
}

/* Arrivals of the segment that fit the batch; false: it is full. */
static bool draw_segment(struct load *load)
{
	double now = load->now_us, gap = load->gap_left;
	const double mean_gap = 1 / load->rate_per_us, end = load->segment_us;
	uint32_t count = load->count;

	for (;;) {
		double time = now + gap * mean_gap;
		uint64_t bits;

		if (time >= end || count == LOAD_BATCH)
			break;
		bits = random_next(&load->random);
		load->time_us[count] = time;
		load->work_us[count] =
			(float)sampler_lognormal(load->work, (uint32_t)bits, &load->random);
		count++;
		now = time;
		gap = draw_gap(load, (uint32_t)(bits >> 32));
	}
	load->count = count;
	load->now_us = now;
	load->gap_left = gap;
	if (count == LOAD_BATCH)
		return false;
	load->gap_left -= (end - now) * load->rate_per_us;
	load->now_us = end;
	return true;
}

void load_draw(struct load *load, double until_us)
{
	load->next = 0;
	load->count = 0;
	while (load->covered_us < until_us) {
		if (load->rate_per_us > 0 && !draw_segment(load)) {
			load->covered_us = load->now_us;
			break;
		}
		load->now_us = load->segment_us;
		load->covered_us = load->segment_us;
		next_segment(load);
	}
	load->time_us[load->count] = INFINITY;
}
