// SPDX-License-Identifier: Apache-2.0
/*
 * The replay buffer: a ring of transitions in flat arrays, with uniform and prioritised sampling
 * (Schaul et al. 2016), and the assembler that makes n-step transitions of a unit's experiences.
 *
 * Pure: memory is allocated once, at creation; randomness comes in as an argument. One thread at a
 * time may change a buffer or sample from it. What a batch holds is copied, so a trainer may work
 * on a batch while another thread pushes; replay_update_priorities() then skips what was
 * overwritten meanwhile.
 */
#ifndef EBBTIDE_REPLAY_H
#define EBBTIDE_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "learner/dqn/network.h"
#include "learner/dqn/random.h"

#define REPLAY_CAPACITY_MAX   (1U << 28)
#define REPLAY_PRIORITY_FLOOR 1e-3F /* added to |TD|, so that nothing is out of reach for ever */
#define NSTEP_MAX	      32

struct replay_config {
	uint32_t capacity; /* transitions, 1 to REPLAY_CAPACITY_MAX */
	uint32_t inputs;   /* floats in a state, 1 to NETWORK_INPUTS_MAX */
	uint32_t actions;  /* 1 to NETWORK_ACTIONS_MAX */
	bool prioritised;  /* keep a sum tree (16 bytes or more a transition) */
	float alpha;	   /* 0: as good as uniform, 1: in proportion to |TD| */
};

/* (s, a, R, s', discount, valid actions in s'); R may be the sum of several discounted rewards. */
struct replay {
	struct replay_config config;
	size_t bytes;	    /* of the arrays below */
	uint32_t size;	    /* transitions stored, at most capacity */
	uint32_t head;	    /* where the next one goes */
	uint64_t pushed;    /* transitions ever stored; the one at slot i is the (pushed - age)th */
	float *states;	    /* [capacity][inputs] */
	float *next_states; /* [capacity][inputs] */
	float *returns;	    /* [capacity] */
	float *discounts;   /* [capacity]: gamma^n, or 0 when the episode ended */
	uint64_t *masks;    /* [capacity]: bit a is set when action a is valid in the next state */
	uint8_t *actions;   /* [capacity] */
	double *tree;	    /* [2 * leaves] sums, the root at 1; NULL without priorities */
	uint32_t leaves;    /* a power of two, at least capacity */
	double priority_max;
};

/* A sample, copied out of the buffer. */
struct replay_batch {
	uint32_t rows_max;
	uint32_t rows;
	uint32_t inputs;
	uint64_t pushed; /* the buffer's count when the sample was taken */
	void *memory;	 /* the one allocation, owned; the others point into it */
	float *states; /* [2 * rows][inputs]: the states, then the next states (one forward pass) */
	float *returns;
	float *discounts;
	float *weights; /* importance weights, at most 1; all 1 for a uniform sample */
	uint32_t *actions;
	uint32_t *slots;
	uint64_t *masks;
};

/* Memory that a buffer of this configuration takes, all at creation; 0 when it is not valid. */
size_t replay_bytes(const struct replay_config *config);
/* 0, -EINVAL (a field outside its range), -ENOMEM. */
int replay_create(struct replay *replay, const struct replay_config *config);
void replay_destroy(struct replay *replay);
/* Forget all transitions; what a batch that was sampled before feeds back is skipped. */
void replay_clear(struct replay *replay);

/*
 * Store one transition, over the oldest when full; its priority is the highest so far. @discount is
 * 0 for an end, and the mask is not looked at then. -EINVAL, and nothing stored: action too large,
 * a value that is not finite, a discount outside 0 to 1, or a mask without an action and no end.
 */
int replay_push(struct replay *replay, const float *state, uint32_t action, float n_step_return,
	float discount, const float *next_state, uint64_t next_mask);

int replay_batch_create(struct replay_batch *batch, uint32_t rows_max, uint32_t inputs);
void replay_batch_destroy(struct replay_batch *batch);

/* @rows transitions, each with equal probability, with replacement. -EAGAIN: nothing stored yet. */
int replay_sample_uniform(const struct replay *replay, struct random_state *random,
	struct replay_batch *batch, uint32_t rows);
/*
 * Transition i with probability p_i^alpha / sum, one draw from each of @rows equal shares of the
 * sum; weights are (size * P(i))^-beta over the batch's largest. -EAGAIN: nothing stored yet.
 */
int replay_sample_prioritised(const struct replay *replay, struct random_state *random, float beta,
	struct replay_batch *batch, uint32_t rows);
/* Priorities of the batch's transitions become |td_error|; slots overwritten since are skipped. */
void replay_update_priorities(
	struct replay *replay, const struct replay_batch *batch, const float *td_errors);
/* The stored priority to the power alpha of a slot; for tests and metrics. */
double replay_priority(const struct replay *replay, uint32_t slot);

enum replay_end {
	REPLAY_CONTINUES,
	REPLAY_TERMINAL, /* nothing follows: no bootstrap */
	REPLAY_TRUNCATED, /* the stream stops here but the world goes on: bootstrap from next_state */
};

/* The last few experiences of one stream (one unit, one episode after another). */
struct nstep {
	uint32_t steps;
	uint32_t inputs;
	float gamma;
	uint32_t count; /* experiences waiting, less than steps between two calls */
	uint32_t first; /* ring position of the oldest */
	float *states;	/* [steps][inputs], owned */
	float returns[NSTEP_MAX];
	float powers[NSTEP_MAX]; /* gamma^(rewards summed so far) */
	uint8_t actions[NSTEP_MAX];
};

/* @steps 1 to NSTEP_MAX (1: ordinary transitions), @gamma 0 to 1. 0, -EINVAL, -ENOMEM. */
int nstep_create(struct nstep *stream, uint32_t steps, uint32_t inputs, float gamma);
void nstep_destroy(struct nstep *stream);
/* Forget what waits: after a gap in the stream whose rewards are not known. */
void nstep_reset(struct nstep *stream);
/*
 * Add one experience of @stream; transitions that are complete go to @replay: with
 * REPLAY_CONTINUES at most one, otherwise all that wait, with the rewards they have. Errors as
 * replay_push(), and then neither the stream nor the buffer has changed.
 */
int replay_nstep_push(struct replay *replay, struct nstep *stream, const float *state,
	uint32_t action, float reward, const float *next_state, enum replay_end end,
	uint64_t next_mask);

#endif
