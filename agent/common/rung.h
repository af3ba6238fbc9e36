// SPDX-License-Identifier: Apache-2.0
/*
 * The ladder of CPU operating points that the actions Up and Down move along. A rung says how a
 * unit lives on its measured demand: the base limit as a multiple of it, and what the reflex and
 * CFS burst may add. So a limit follows the load by itself, and what is learnt is how close to it a
 * service can live. The order is from the cheapest to the safest.
 *
 * And the price of a violated second, which makes the share of them that an operator accepts into a
 * weight of the reward: a Lagrange multiplier that rises with each violation and falls without, so
 * that the share obtained comes to the share asked for. docs/learning.md has both.
 *
 * Pure: no clock, file or global.
 */
#ifndef EBBTIDE_RUNG_H
#define EBBTIDE_RUNG_H

#include "common/plan.h"

#include <stdbool.h>
#include <stdint.h>

struct rung {
	double factor;	   /* base limit over demand */
	double peak_share; /* of the recent peak of the demand, which is not gone under */
};

/* CPU that one container will need in the coming tick, in millicores. */
struct demand {
	double usual;
	double peak; /* of the last ticks */
};

#define RUNG_COUNT 14
/*
 * On every rung the reflex acts early, and unused quota of a whole period may be used later. Allocation is
 * what was used above the limit, whenever it was granted, so waiting saves writes and nothing else; and
 * each wait is a part of the period in which nobody works, which a service near its ceiling lacks.
 */
#define RUNG_TRIGGER_AGE_SHARE	0.05 /* of the latency target */
#define RUNG_REFILLS_PER_PERIOD 16
/* Where no reflex works, a limit must hold what it would have added: rungs from here on. */
#define RUNG_ALONE 9
/* Of a unit of which nothing is known. */
#define RUNG_START 7
extern const struct rung rungs[RUNG_COUNT];

/* The lowest rung, from @lowest on, that sets at least @limit aside for @demand (any unit). */
uint32_t rung_of_limit(double limit, double demand, uint32_t lowest);
/* The base limit that a rung sets for a demand, in millicores. */
double rung_limit(uint32_t rung, const struct demand *demand);
/*
 * The plan of any rung with @limit_millicores in force: limit, burst and allowance; memory is left. The
 * ceiling is @most_millicores (none without one: then no allowance either).
 */
void rung_plan(double limit_millicores, double most_millicores, bool reflex, struct plan *plan);

#define PRICE_LEAST 0.1
#define PRICE_MOST  50.0
/* In units of the CPU a unit uses on average, for one violated tick. */
double price_start(double violations_asked);
/* After a tick of @tick_s seconds, of which at most five count. @price 0: begin. */
double price_adapt(double price, bool violated, double violations_asked, double tick_s);
/*
 * The lowest rung at a price: more violations than asked for, again and again, bar the cheap end of the
 * ladder, whatever a network thinks of it. Of a reservation, which nothing refills, up to its last rung.
 */
uint32_t price_rung(double price, bool reserves);
/* 0 to 1, log scale: how far it is from where it bars the first rung to where it ends. */
double price_share(double price);
/* 0 to 1, log scale: the feature of the state. */
double price_feature(double price);

#endif
