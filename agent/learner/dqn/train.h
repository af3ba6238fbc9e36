// SPDX-License-Identifier: Apache-2.0
/*
 * One gradient step of (Double, dueling, n-step, prioritised) deep Q-learning.
 *
 *	y = R + discount * Q_target(s', argmax over valid a of Q_online(s', a))
 *	loss = mean over the batch of weight * Huber(Q_online(s, a) - y)
 *
 * Training may be anchored to weights that were learnt elsewhere, from more than the replay can
 * hold: then the loss has in addition, for each row of the batch,
 *	anchor / held * 1 / (2 actions) * sum over all a of (A_online(s, a) - A_anchor(s, a))^2
 * where A(s, a) = Q(s, a) - mean over a of Q(s, a). What a state is worth moves freely; which action
 * is better than which moves as the evidence outgrows what the anchor stands for.
 *
 * Every part can be switched off (train_config), which leaves the DQN of Mnih et al. 2015. Pure: no
 * input or output, no clock, no globals; the same seed, experiences and processor give the same
 * bytes on one BLAS thread. One thread at a time may use a trainer. A reader of the weights takes a
 * network_copy() of trainer->online between two steps.
 */
#ifndef EBBTIDE_TRAIN_H
#define EBBTIDE_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "learner/dqn/adam.h"
#include "learner/dqn/network.h"
#include "learner/dqn/random.h"
#include "learner/dqn/replay.h"

#define TRAIN_BATCH_MAX 4096

struct train_config {
	float learning_rate;	/* Adam's, above 0 */
	float adam_epsilon;	/* Adam's, above 0; larger damps small steps */
	float gamma;		/* discount of one step, 0 to 1; the n-step assembler applies it */
	uint32_t n_step;	/* 1 to NSTEP_MAX, for the assembler; 1 is off */
	uint32_t batch;		/* transitions a step, 1 to TRAIN_BATCH_MAX */
	float huber_delta;	/* error up to which the loss is a square; 0 is off: always */
	float grad_clip;	/* largest global norm of a gradient; 0 is off */
	bool double_dqn;	/* off: the target network picks the next action itself */
	bool dueling;		/* value and advantage heads */
	bool prioritised;	/* needs a replay with priorities */
	float alpha;		/* for the replay: how far |TD| counts, 0 to 1 */
	float beta_start;	/* importance weights' exponent at step 0, 0 to 1; it grows to 1 */
	uint64_t beta_steps;	/* over this many steps */
	uint32_t target_period; /* steps between two updates of the target network, at least 1 */
	float tau;		/* how far such an update goes, above 0; 1 is a copy */
	uint32_t warmup;	/* transitions stored before the first step */
	float q_bound;		/* a |Q| over this is divergence */
	float anchor;		/* transitions that the anchor counts as; 0 is off */
	uint32_t good_period; /* steps that weights must train on soundly to be good, at least 1 */
	uint64_t seed;	      /* of the initial weights and the sampling */
};

struct train_stats {
	double loss;
	double td_error_mean_abs;
	double q_min; /* of all actions in the batch's states */
	double q_max;
	double q_mean;
	double grad_norm; /* before clipping */
	double beta;
};

struct trainer {
	struct train_config config;
	struct network online;
	struct network target;
	struct network good; /* to fall back to: trained on soundly for a period or more since */
	struct network candidate; /* the next good one, if this period ends well */
	struct network anchor;	  /* no parameters: there is none */
	uint64_t good_steps;	  /* at which good was taken; 0: weights that never were trained */
	struct adam adam;
	struct random_state random;
	uint64_t steps;	      /* gradient steps done */
	uint64_t divergences; /* times that the weights fell back */
	struct network_workspace workspace;
	struct replay_batch batch;
	float *gradients; /* [layout.count], owned */
	float *q;	  /* [2 * batch][actions]: of the states, then the next states */
	float *q_target;  /* [batch][actions] of the next states */
	float *q_anchor;  /* [batch][actions] of the states; then the loss's derivatives by all Q */
	uint32_t held;	  /* transitions in the replay when the batch was taken */
	float *dq;	  /* [batch] */
	float *td_errors; /* [batch] */
};

/* The defaults; docs/dqn.md says what they were measured on. */
void train_config_init(struct train_config *config);
/* 0, or -EINVAL with the field, its value and its range in @error. */
int train_config_check(const struct train_config *config, char *error, size_t error_size);

/*
 * @shape's dueling is taken from @config. Weights are drawn from the seed. 0, -EINVAL (see
 * train_config_check()), -ENOMEM.
 */
int trainer_create(struct trainer *trainer, const struct network_shape *shape,
	const struct train_config *config);
void trainer_destroy(struct trainer *trainer);
/* After weights were put into trainer->online from outside: target and fallback become copies. */
void trainer_adopt_online(struct trainer *trainer);
/* Anchors it, where config.anchor says so, to @weights (layout.count floats, copied). 0, -ENOMEM. */
int trainer_anchor(struct trainer *trainer, const float *weights);

/*
 * One step: sample, learn, feed the priorities back.
 * 0; -EAGAIN: fewer transitions than warmup or than one batch; -EINVAL: another shape of replay, or
 * one without priorities; -ERANGE: loss or gradient not finite, |Q| over q_bound, or a loss that no
 * two such values could have. Then online and target are the last good weights, Adam starts anew,
 * and the priorities stay as they were. Good weights are one to two periods old: what was taken just
 * before a divergence was seen is part of it.
 */
int trainer_step(struct trainer *trainer, struct replay *replay, struct train_stats *stats);

/* What -ERANGE does, for a divergence that was seen elsewhere. */
void trainer_fall_back(struct trainer *trainer);

/*
 * The same in three parts, for a replay that another thread fills under a lock: only the first
 * and the last touch the replay, and both are short.
 */
int trainer_sample(struct trainer *trainer, const struct replay *replay);
int trainer_learn(struct trainer *trainer, struct train_stats *stats);
void trainer_feed_back(const struct trainer *trainer, struct replay *replay);

/*
 * y[rows] of the batch by the rule above. @q_online and @q_target are of the next states; without
 * @double_dqn the former is not read and may be NULL.
 */
void train_compute_targets(const struct replay_batch *batch, uint32_t actions,
	const float *q_online, const float *q_target, bool double_dqn, float *targets);

/* Importance exponent after @steps gradient steps. */
double train_beta(const struct train_config *config, uint64_t steps);
/*
 * Exploration of actor @index of @actors as in Ape-X (Horgan et al. 2018):
 * base^(1 + alpha * index / (actors - 1)); base for a single one. The paper's are 0.4 and 7.
 */
double epsilon_apex(uint32_t index, uint32_t actors, double base, double alpha);

#endif
