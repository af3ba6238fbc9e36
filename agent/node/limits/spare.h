// SPDX-License-Identifier: Apache-2.0
/*
 * The node's budget for refills: how much CPU time all units' refills may take in any second, and
 * who gets it when several ask. Pure: no clock, file or global; time comes in and does not go back.
 *
 * Any second: spending is kept in slots of 100 ms, and the eleven newest together stay within the
 * rate, so that every window of one second does.
 *
 * Fair: max-min, by a token bucket a unit. Tokens come at the level up to which the rate fills all
 * demands (as water would); a unit that has them takes its part, and without them what is left
 * after everyone else's part. Who has tokens but finds the second full is first in line: the others
 * leave room for it, so that no unit waits much longer than a second.
 */
#ifndef EBBTIDE_SPARE_H
#define EBBTIDE_SPARE_H

#include <stdbool.h>
#include <stdint.h>

#define SPARE_SLOTS   11
#define SPARE_SLOT_NS 100000000ULL

struct spare_window {
	uint64_t newest; /* number of the newest slot since time 0 */
	uint64_t ns[SPARE_SLOTS];
};

/* A unit's part; embed it where the unit is, zero-initialised. */
struct spare_share {
	struct spare_window spent;
	struct spare_window asked; /* refused or not */
	double demand_ns;	   /* asked in a second, at its recent highest */
	double tokens_ns;
	uint64_t renewed_ns; /* demand and tokens are of this moment */
	uint64_t ask_ns;     /* the newest */
	uint64_t asked_at_ns;
	uint64_t
		waiting_ns; /* asked for, had the tokens, no room in the second; 0: does not wait */
	uint64_t waiting_since_ns;
	struct spare_share *next;
	bool is_listed;
};

/* Zero-initialise: a rate of 0 allows nothing. */
struct spare {
	uint64_t rate_ns; /* CPU time a second */
	struct spare_window spent;
	struct spare_share *first;
	double demand_ns; /* of all, at most, while nobody has to give way */
	bool has_waiting;
};

/* Ask for @ns now; true, and spent, when there is room for all of it. Never for over the rate. */
bool spare_take(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns);
/* Of what was taken lately @ns were not used after all. */
void spare_return(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns);
/* What was taken lately used @ns more than it said: no question whether there is room. */
void spare_charge(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns);
/* The unit goes: no pointer to it stays. */
void spare_leave(struct spare *budget, struct spare_share *share);
/* Taken in the newest second, and up to a slot before it. */
uint64_t spare_spent_ns(struct spare *budget, uint64_t now_ns);
/* When room may have grown next. */
uint64_t spare_renewed_ns(uint64_t now_ns);
/*
 * A rate from what the node had to spare: it was idle (or ran what is nice) for @idle_ns of CPU time
 * in @elapsed_ns, beside the refills of that time.
 */
uint64_t spare_rate_ns(uint64_t idle_ns, uint64_t refilled_ns, uint64_t elapsed_ns);

#endif
