// SPDX-License-Identifier: Apache-2.0
/*
 * Which reports were taken, so that one which comes again is stored once: for each start of an agent
 * (incarnation) the sequences seen, as ranges. An agent delivers in order but for what waited in its
 * spool, so there are few.
 *
 * Bounded: starts that were silent for SEQUENCES_IDLE_US are forgotten, the longest silent one when
 * there are SEQUENCES_AGENTS; of a start SEQUENCES_RANGES ranges are kept, then the gap between the
 * two oldest closes. Thread-safe; zero-initialise it.
 */
#ifndef EBBTIDE_SEQUENCES_H
#define EBBTIDE_SEQUENCES_H

#include "learner/index.h"

#include <pthread.h>
#include <stdbool.h>

#define SEQUENCES_AGENTS  65536
#define SEQUENCES_RANGES  256
#define SEQUENCES_IDLE_US (24ULL * 3600 * 1000000)

struct sequence_agent;

struct sequences {
	pthread_mutex_t lock;
	struct index agents;	       /* owned, by name and incarnation */
	struct sequence_agent *newest; /* by when they were heard of */
	struct sequence_agent *oldest;
};

/* One report between its arrival and its storing. */
struct sequence_claim {
	struct sequence_agent *agent;
	uint64_t sequence;
	bool newest; /* no later one of this start was claimed before */
};

void sequences_free(struct sequences *sequences);
size_t sequences_count(struct sequences *sequences);

/*
 * 0: not seen before; settle the claim. -EEXIST: stored before (@claim->newest is set). -EBUSY:
 * another claim on it is not settled. -ESTALE: in a gap that was closed, nobody knows. -ENOMEM.
 */
int sequences_claim(struct sequences *sequences, const char *agent, uint64_t incarnation,
	uint64_t sequence, uint64_t now_us, struct sequence_claim *claim);
/* @stored: it is seen from now on; otherwise it may come again. */
void sequences_settle(struct sequences *sequences, const struct sequence_claim *claim, bool stored);

/* At the start, from the log. 0: was not known; -EEXIST; -ENOMEM. */
int sequences_mark(struct sequences *sequences, const char *agent, uint64_t incarnation,
	uint64_t sequence, uint64_t time_us);
/* All of it as a whole record of a segment (free() it); claims that are not settled are not in it. */
int sequences_pack(struct sequences *sequences, uint16_t schema, uint64_t now_us, uint8_t **record,
	size_t *bytes);
/* Adds what a record's payload says. 0; -EINVAL, and some of it may have been added; -ENOMEM. */
int sequences_unpack(
	struct sequences *sequences, const uint8_t *payload, size_t size, uint64_t now_us);

#endif
