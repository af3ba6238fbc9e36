// SPDX-License-Identifier: Apache-2.0
/*
 * One policy's memory and network: replay, trainer and the weights that decisions read. There are
 * two, vertical and horizontal, of the same code with another action table.
 *
 * Decisions read an immutable snapshot, so training never blocks them. Thread-safe.
 */
#ifndef EBBTIDE_BRAIN_H
#define EBBTIDE_BRAIN_H

#include "learner/train.h"

#include <stdatomic.h>

struct brain;

struct brain_options {
	const char *name; /* "vertical", "horizontal" */
	uint32_t inputs;
	uint32_t actions;
	uint32_t capacity; /* of the replay buffer, transitions */
	struct train_config train;
	double replay_ratio;	  /* gradient steps per stored transition */
	double updates_per_s_max; /* bound on them, whatever arrives */
};

struct brain_status {
	uint64_t stored; /* transitions ever */
	uint32_t held;	 /* now in the buffer */
	uint64_t steps;
	uint64_t divergences;
	size_t replay_bytes;
	struct train_stats last;
};

int brain_open(struct brain **brain, const struct brain_options *options);
void brain_close(struct brain *brain);
const struct train_config *brain_train_config(const struct brain *brain);

/* One experience of @stream (made with nstep_create()); the states stay the caller's. */
struct brain_experience {
	struct nstep *stream;
	const float *state;
	const float *next_state;
	uint64_t next_mask;
	uint32_t action;
	float reward;
	enum replay_end end;
	int err; /* out: 0, or as replay_nstep_push() */
};
/* Store @count of them, in order, under one lock. Returns how many were stored. */
size_t brain_store(struct brain *brain, struct brain_experience *experiences, size_t count);
/* The same of ones that were stored before, by another process: no gradient steps follow. */
size_t brain_recall(struct brain *brain, struct brain_experience *experiences, size_t count);
/* Empty the replay buffer; the weights stay. */
void brain_forget(struct brain *brain);
/* For tests, while no other thread uses it. */
const struct replay *brain_replay(const struct brain *brain);
/*
 * q[rows][actions] of states[rows][inputs], all by one snapshot: the newest, or its forerunner
 * when evaluations hold all others. Any number of threads at a time.
 */
void brain_evaluate(struct brain *brain, const float *states, uint32_t rows, float *q);
/* Body of the training thread of one or more brains; returns when *stop is set. */
void brain_train(struct brain *const *brains, size_t count, const atomic_bool *stop);
/* As many steps as are due now; for tests and brain_train(). Returns steps done. */
uint32_t brain_train_due(struct brain *brain, double elapsed_s);
void brain_read_status(struct brain *brain, struct brain_status *status);

/* A copy of the weights (layout.count floats), and the other way. -EINVAL: another count. */
int brain_copy_weights(struct brain *brain, float **weights, size_t *count, uint64_t *steps);
int brain_adopt_weights(struct brain *brain, const float *weights, size_t count);

#endif
