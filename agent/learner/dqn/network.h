// SPDX-License-Identifier: Apache-2.0
/*
 * The Q-network: inputs -> hidden1 -> hidden2 -> one value for each action, ReLU between, fp32.
 *
 * With dueling heads the last layer has one row more, the state's value V, and
 * Q(a) = V + A(a) - mean of A (Wang et al. 2016).
 *
 * All parameters are one allocation, in this order (row-major; a stride is the width rounded up to
 * NETWORK_LANES, and what is added stays zero for ever, so it never changes an output):
 *	weight1 [inputs][stride1]	bias1 [stride1]
 *	weight2 [hidden1][stride2]	bias2 [stride2]
 *	weight3 [outputs][stride2]	bias3 [outputs, padded]
 * Gradients and the optimiser's moments have the same layout, so a loop over all is one loop.
 *
 * Pure: no input or output, no clock, no globals. A network may be read by any number of threads as
 * long as none writes it; a workspace belongs to one thread at a time.
 */
#ifndef EBBTIDE_NETWORK_H
#define EBBTIDE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "learner/dqn/random.h"

#define NETWORK_INPUTS_MAX  64
#define NETWORK_HIDDEN_MAX  1024
#define NETWORK_ACTIONS_MAX 64 /* a mask of actions is one uint64_t */
#define NETWORK_LANES	    16 /* floats in one 64-byte line */
#define NETWORK_ALL_ACTIONS UINT64_MAX

struct network_shape {
	uint32_t inputs;  /* 1 to NETWORK_INPUTS_MAX */
	uint32_t hidden1; /* 1 to NETWORK_HIDDEN_MAX */
	uint32_t hidden2; /* 1 to NETWORK_HIDDEN_MAX */
	uint32_t actions; /* 1 to NETWORK_ACTIONS_MAX */
	bool dueling;
};

/* Where each part begins in the one allocation, in floats. */
struct network_layout {
	size_t weight1, bias1, weight2, bias2, weight3, bias3;
	size_t count; /* floats in all, a multiple of NETWORK_LANES */
	uint32_t stride1, stride2;
	uint32_t outputs; /* actions, and one more with dueling heads (the last row: V) */
};

struct network {
	struct network_shape shape;
	struct network_layout layout;
	float *parameters; /* layout.count floats, 64-byte aligned, owned */
};

/* Activations and their gradients for up to rows_max states. */
struct network_workspace {
	uint32_t rows_max;
	float *memory;	/* the one allocation, owned; the others point into it */
	float *hidden1; /* [rows][stride1] after ReLU */
	float *hidden2; /* [rows][stride2] after ReLU */
	float *heads;	/* [rows][outputs] before the dueling sum; unused without dueling */
	float *delta1;	/* [rows][stride1] */
	float *delta2;	/* [rows][stride2] */
};

/* 0, or -EINVAL: a size outside its range. */
int network_layout_compute(const struct network_shape *shape, struct network_layout *layout);

/* All parameters zero. 0, -EINVAL (shape), -ENOMEM. */
int network_create(struct network *network, const struct network_shape *shape);
void network_destroy(struct network *network);
/*
 * Weights uniform within 1 / sqrt(fan-in), the heads' within 1 / sqrt(2 fan-in), as frameworks do;
 * biases zero. Smaller than He's: the first Q values are near zero, which is more stable here.
 */
void network_init(struct network *network, struct random_state *random);
/* Both of one shape: -EINVAL otherwise. */
int network_copy(struct network *to, const struct network *from);
/* to += tau * (from - to); tau 1 is a copy. -EINVAL: shapes differ. */
int network_soft_update(struct network *to, const struct network *from, float tau);
bool network_is_finite(const struct network *network);

int network_workspace_create(
	struct network_workspace *workspace, const struct network *network, uint32_t rows_max);
void network_workspace_destroy(struct network_workspace *workspace);

/*
 * q[rows][actions] of states[rows][inputs]; @rows at most workspace->rows_max. The workspace keeps
 * what network_backward() needs.
 */
void network_forward(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, float *q);

/* Floats of scratch that network_forward_one() needs; any alignment. */
size_t network_scratch_floats(const struct network *network);
/*
 * q[actions] of one state, without BLAS: for decisions, by any thread with scratch of its own.
 * Agrees with network_forward() up to rounding.
 */
void network_forward_one(
	const struct network *network, const float *state, float *scratch, float *q);

/*
 * Gradients of a loss that depends on Q(states[row], action[row]) only, for the first @rows rows of
 * the forward pass before: dq[row] is the loss's derivative by that one value. (Every loss of
 * Q-learning is of this form, and that saves the last layer's dense products.) Overwrites
 * gradients[layout.count], 64-byte aligned.
 */
void network_backward(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, const uint32_t *action, const float *dq,
	float *gradients);
/* The same of a loss that depends on all values: dq[rows][actions]. */
void network_backward_all(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, const float *dq, float *gradients);

/*
 * The best of the actions whose bit in @mask is set, the lowest index of equals; -1 when the mask
 * leaves none of them.
 */
int network_best_action(const float *q, uint32_t actions, uint64_t mask);

#endif
