// SPDX-License-Identifier: Apache-2.0
/*
 * One policy's memory and network: replay, trainer and the weights that decisions read. There are
 * two, vertical and horizontal, of the same code with another action table.
 *
 * Decisions read an immutable snapshot, so training never blocks them. Thread-safe.
 *
 * Divergence: a loss or a value that is not finite or outside its bound, seen in training or when a
 * decision is made. From then on decisions read the last good weights, which training goes on from,
 * until it was sound for train.good_period steps. When there are no good weights (nothing trained
 * soundly for so long, and none came from a checkpoint) the brain is not to be used till then.
 */
#ifndef EBBTIDE_BRAIN_H
#define EBBTIDE_BRAIN_H

#include "learner/dqn/train.h"

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

enum brain_health {
	BRAIN_SOUND,
	BRAIN_FELL_BACK, /* decisions read the last good weights */
	BRAIN_UNUSABLE,	 /* there are none: decide by a rule */
};

struct brain_status {
	uint64_t stored; /* transitions ever */
	uint32_t held;	 /* now in the buffer */
	double age_s;	 /* since the oldest of these came, to a 64th of the buffer */
	uint64_t steps;
	double steps_per_s; /* over the last few seconds of the training thread */
	double train_cpu_s; /* of the training thread, on this brain */
	uint64_t divergences;
	bool anchored; /* training is, to what was learnt in the simulator */
	enum brain_health health;
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
 * when evaluations hold all others. Any number of threads at a time. 0, or -ERANGE: the brain is
 * not usable or a value is out of range, do not act on any of them.
 */
int brain_evaluate(struct brain *brain, const float *states, uint32_t rows, float *q);
enum brain_health brain_health(const struct brain *brain);
#define BRAIN_TRAIN_MAX 4 /* brains of one training thread */
/*
 * Body of the training thread of one or more brains, on @share of a core at most; returns when
 * *stop is set.
 */
void brain_train(struct brain *const *brains, size_t count, double share, const atomic_bool *stop);
/* As many steps as are due after @elapsed_s more; for tests. Returns steps done. */
uint32_t brain_train_due(struct brain *brain, double elapsed_s);
void brain_read_status(struct brain *brain, struct brain_status *status);

/*
 * A copy of the weights (layout.count floats): the newest, or the last good ones after a divergence;
 * -ENODATA: there are none. And the other way: -EINVAL: another count; -EDOM: not finite.
 */
int brain_copy_weights(struct brain *brain, float **weights, size_t *count, uint64_t *steps);
int brain_adopt_weights(struct brain *brain, const float *weights, size_t count);
/*
 * Weights to which training is anchored (train.anchor; learner/dqn/train.h). -EINVAL: another
 * count; -ENOMEM.
 */
int brain_anchor(struct brain *brain, const float *weights, size_t count);

#endif
