// SPDX-License-Identifier: Apache-2.0
/*
 * The newest decisions of one unit, or on one service's replicas. All rings share one budget of
 * memory evenly: each has as many records as fit into its share, from DECISION_RING_LEAST, whatever
 * the budget is, to DECISION_RING_MOST. A ring gives back what is over its share at its next push.
 *
 * So memory is at most the budget plus DECISION_RING_LEAST records for each ring. Not thread-safe.
 */
#ifndef EBBTIDE_DECISION_RING_H
#define EBBTIDE_DECISION_RING_H

#include "learner/decision_record.h"

#include <stddef.h>

/* A decision, and one that tells what came of it. Powers of two. */
#define DECISION_RING_LEAST 2
#define DECISION_RING_MOST  512

struct decision_budget {
	size_t bytes; /* of all rings together; 0: nothing is kept */
	size_t used;
	size_t rings; /* that have records */
};

/* Zero-initialise. */
struct decision_ring {
	struct decision_record *records; /* [room], owned */
	uint32_t room;
	uint32_t count;
	uint32_t next; /* where the next one goes */
};

/* The oldest gives way. Out of memory: it is not kept. */
void decision_ring_push(struct decision_ring *ring, struct decision_budget *budget,
	const struct decision_record *record);
void decision_ring_free(struct decision_ring *ring, struct decision_budget *budget);
/* @age 0 is the newest; below ring->count. */
const struct decision_record *decision_ring_get(const struct decision_ring *ring, uint32_t age);
/* The age of the newest that is not after @time_us; ring->count when there is none. */
uint32_t decision_ring_find(const struct decision_ring *ring, uint64_t time_us);
/*
 * The @most newest that are not after @time_us and what tells how the last of them ended: the ones
 * after it up to the first that has a sample of its own. Oldest first; @out has room for
 * ring->count. How many.
 */
uint32_t decision_ring_read(const struct decision_ring *ring, uint64_t time_us, uint32_t most,
	struct decision_record *out);

#endif
