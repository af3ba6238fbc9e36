// SPDX-License-Identifier: Apache-2.0
/*
 * From the log back into memory: experiences in the order in which they were stored go through
 * their streams' n-step windows into a replay buffer. Windows of streams that still run are handed
 * to the learner's units and services at the end.
 */
#ifndef EBBTIDE_RECALL_H
#define EBBTIDE_RECALL_H

#include "learner/storage/segments.h"

struct learner;
struct recall;

struct recall_counts {
	uint64_t experiences;
	uint64_t repeated; /* of reports that are in the log more than once: passed over */
	uint64_t refused;  /* not experiences of this network, or not numbers */
	uint64_t homeless; /* streams whose unit or service there is no room for: they begin anew */
};

/* For the network of agents' experiences, or the @horizontal one. 0 or -ENOMEM. */
int recall_open(struct recall **recall, struct learner *learner, bool horizontal);
/* For segments_open(): @recall is the reader's context. */
uint32_t recall_record(void *recall, const char *path, const struct segment_record *record);
/* Hands over what waits in the streams; takes learner->lock. */
void recall_finish(struct recall *recall, struct recall_counts *counts);
void recall_close(struct recall *recall);

#endif
