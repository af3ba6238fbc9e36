// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/what_if.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define LIMITS_CHOSEN	   8
#define LIMIT_LOWEST_SHARE 0.8 /* of the mean demand on the most replicas */
#define RESERVED_LOWEST	   0.2 /* the same of a reservation, which may lie under it */
#define LIMIT_HIGHEST	   4.0 /* times the demand of the busiest second on the fewest */

bool what_if_reserves(const struct what_if *what_if)
{
	return what_if->config.service[0].reserves > 0;
}

static void cell_fill(const struct what_if *what_if, const struct sample *sum,
	const uint32_t latency[HIST_BUCKETS], uint32_t violations, struct what_if_cell *cell)
{
	const struct simulate_service *service = &what_if->config.service[0];
	const double shares[4] = {0.5, 0.95, 0.99, service->latency_percentile / 100};
	const double asked = (double)(sum->requests + sum->requests_failed);
	double values_us[4];

	histogram_quantiles_us(latency, shares, values_us, 4);
	cell->latency_p50_us = values_us[0];
	cell->latency_p95_us = values_us[1];
	cell->latency_p99_us = values_us[2];
	cell->latency_objective_us = values_us[3];
	cell->over_share = asked > 0 ? (double)sum->requests_over / asked : 0;
	cell->failed_share = asked > 0 ? (double)sum->requests_failed / asked : 0;
	cell->violations = (double)violations / what_if->ticks;
	cell->used_cores = (double)sum->cpu_used_us / sum->tick_s / 1e6;
	cell->allocated_cores = (double)sum->cpu_allocated_us / sum->tick_s / 1e6;
	cell->refills_per_s = sum->refills / sum->tick_s;
	cell->holds = cell->violations <= what_if->acceptable_violations;
}

static void cell_run(
	const struct what_if *what_if, struct simulation *simulation, struct what_if_cell *cell)
{
	const struct simulate_service *service = &what_if->config.service[0];
	struct simulate_input input = {.plan = what_if->plan, .replicas = cell->replicas};
	uint32_t latency[HIST_BUCKETS] = {0}, violations = 0;
	struct objective objective;
	struct sample sum = {0};

	objective_init(&objective);
	objective.latency_target_us = service->latency_target_us;
	objective.latency_percentile = service->latency_percentile;
	input.plan.cpu_millicores = cell->limit_millicores;
	input.plan.reserves = what_if_reserves(what_if);
	for (uint32_t tick = 0; tick < what_if->ticks; tick++) {
		struct sample sample;

		simulate_tick(simulation, &input, &sample);
		histogram_add(latency, simulate_latency(simulation, 0));
		violations += sample_violates(&sample, &objective);
		sample_extend(&sum, &sample);
	}
	cell_fill(what_if, &sum, latency, violations, cell);
}

int what_if_run(const struct what_if *what_if, struct what_if_cell *cells)
{
	struct simulate_config config = what_if->config;
	struct simulation *simulation = NULL;
	int err;

	config.services = 1;
	config.replicas_max = SIMULATE_REPLICAS_MAX;
	err = simulate_create(&simulation, &config, what_if->seed);
	for (uint32_t r = 0; !err && r < what_if->replica_count; r++)
		for (uint32_t l = 0; !err && l < what_if->limit_count; l++) {
			struct what_if_cell *cell = &cells[r * what_if->limit_count + l];

			*cell = (struct what_if_cell){
				.limit_millicores = what_if->limit_millicores[l],
				.replicas = what_if->replicas[r]};
			err = simulate_reset(simulation, &config, what_if->seed);
			if (!err)
				cell_run(what_if, simulation, cell);
		}
	simulate_destroy(simulation);
	return err;
}

const struct what_if_cell *what_if_cheapest(const struct what_if_cell *cells, uint32_t count)
{
	const struct what_if_cell *best = NULL;

	for (uint32_t i = 0; i < count; i++) {
		if (!cells[i].holds)
			continue;
		if (!best || cells[i].allocated_cores < best->allocated_cores ||
			(cells[i].allocated_cores == best->allocated_cores &&
				cells[i].replicas < best->replicas))
			best = &cells[i];
	}
	return best;
}

/* To two digits, in steps that read well. */
static double round_limit(double millicores)
{
	double step = pow(10, floor(log10(millicores)) - 1);

	return fmax(round(millicores / step) * step, 10);
}

void what_if_choose_limits(struct what_if *what_if)
{
	const struct simulate_trace *trace = &what_if->config.trace;
	double mean = 0, peak = 0, lowest, highest;
	uint32_t most = 1, fewest = SIMULATE_REPLICAS_MAX;

	for (uint32_t i = 0; trace->rate_per_s && i < trace->seconds; i++) {
		mean += trace->rate_per_s[i] * trace->scale / trace->seconds;
		peak = fmax(peak, trace->rate_per_s[i] * trace->scale);
	}
	for (uint32_t i = 0; i < what_if->replica_count; i++) {
		most = what_if->replicas[i] > most ? what_if->replicas[i] : most;
		fewest = what_if->replicas[i] < fewest ? what_if->replicas[i] : fewest;
	}
	/* Requests a second times microseconds are microcores. */
	mean *= what_if->config.service[0].work_us / 1000;
	peak *= what_if->config.service[0].work_us / 1000;
	lowest = what_if_reserves(what_if) ? RESERVED_LOWEST : LIMIT_LOWEST_SHARE;
	lowest = fmax(lowest * mean / most, 10);
	highest = fmax(LIMIT_HIGHEST * peak / (fewest ? fewest : 1), 2 * lowest);
	highest = fmin(highest, fmax(what_if->config.service[0].cores * 1000, 2 * lowest));
	what_if->limit_count = 0;
	for (int i = 0; i < LIMITS_CHOSEN; i++) {
		double limit = round_limit(
			lowest * pow(highest / lowest, (double)i / (LIMITS_CHOSEN - 1)));

		if (what_if->limit_count == 0 ||
			limit > what_if->limit_millicores[what_if->limit_count - 1])
			what_if->limit_millicores[what_if->limit_count++] = limit;
	}
}
