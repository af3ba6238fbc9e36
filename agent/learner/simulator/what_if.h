// SPDX-License-Identifier: Apache-2.0
/*
 * Which limit, and how many replicas, would hold an objective at a load: each pair of a grid played
 * in the simulator on the same requests.
 *
 * Pure but for what_if_draw(), which writes to the file that it is given.
 */
#ifndef EBBTIDE_WHAT_IF_H
#define EBBTIDE_WHAT_IF_H

#include "learner/simulator/simulate.h"

#include <stdio.h>

#define WHAT_IF_LIMITS_MAX 32

struct what_if {
	struct simulate_config config; /* one service; its objective, its trace */
	struct plan plan;	       /* but for its limit */
	double limit_millicores
		[WHAT_IF_LIMITS_MAX]; /* of one replica, or its reservation; 0: none */
	uint32_t limit_count;
	uint32_t replicas[SIMULATE_REPLICAS_MAX];
	uint32_t replica_count;
	uint32_t ticks;
	double acceptable_violations; /* share of ticks that may break the objective */
	uint64_t seed;
};

struct what_if_cell {
	double limit_millicores;
	uint32_t replicas;
	double latency_p50_us; /* of all requests */
	double latency_p95_us;
	double latency_p99_us;
	double latency_objective_us;
	double over_share;   /* of requests */
	double failed_share; /* of requests */
	double violations;   /* share of ticks that broke the objective */
	double used_cores;   /* mean */
	double allocated_cores;
	double refills_per_s;
	bool holds;
};

/* The service has no CPU limit: limits are reservations here. */
bool what_if_reserves(const struct what_if *what_if);
/* Fills [limit_count * replica_count] @cells, a row of limits for each number of replicas. */
int what_if_run(const struct what_if *what_if, struct what_if_cell *cells);
/* Which of those that hold sets the least CPU aside (then has the fewest replicas); NULL: none. */
const struct what_if_cell *what_if_cheapest(const struct what_if_cell *cells, uint32_t count);
/*
 * Limits that are worth a look at this load: from less than it needs on the most replicas to far
 * more than its busiest second on the fewest, a factor apart and round.
 */
void what_if_choose_limits(struct what_if *what_if);
/* The grid as an SVG picture. -EIO. */
int what_if_draw(FILE *file, const struct what_if *what_if, const struct what_if_cell *cells);

#endif
