// SPDX-License-Identifier: Apache-2.0
/*
 * A service's one unit under a policy, away from any cluster: state and reward are the agent's, the
 * decision is the learner's with its envelope. Ticks come from the caller, who simulates them.
 * Pretraining and the comparison of policies are made of these.
 *
 * Pure but for memory; one thread at a time may use an episode.
 */
#ifndef EBBTIDE_EPISODE_H
#define EBBTIDE_EPISODE_H

#include "learner/policy.h"

struct episode_config {
	struct objective objective;	/* mode is taken to be auto */
	double cpu_declared_millicores; /* the owner's limits, of one container; 0: none */
	uint64_t memory_declared_bytes;
	struct plan start; /* in force in the first tick */
	bool reflex;	   /* the agent can keep an allowance */
	bool memory_high;  /* what is moved of the memory's limits */
	double cooldown_s; /* after a scale-in */
};

struct episode {
	struct episode_config config;
	struct services services; /* the one service with one unit */
	struct service *service;
	struct service_unit *unit;
	struct state_history history;
	struct plan plan;     /* in force */
	struct sample sample; /* of the newest tick, and the state and reward of it */
	float state[STATE_SIZE];
	float reward;
	double now_s;
	struct vertical_decision decision; /* the newest */
	float period_reward;
	double scale_in_s;
	struct horizontal_decision scaled; /* the newest */
};

/* Zero-initialise before the first call; may be called again. 0, -ENOMEM. @vertical gives
 * the shape of experiences. */
int episode_begin(struct episode *episode, const struct episode_config *config,
	const struct train_config *vertical);
void episode_end(struct episode *episode);
/* A tick under the plan in force has come to @sample, with @replicas; state and reward are of it. */
void episode_note(struct episode *episode, const struct sample *sample, uint32_t replicas);
/* What @context's policy decides on that, with @q the state's values or NULL; in force from now. */
void episode_decide(struct episode *episode, struct policy_context *context, const float *q);
/* Which actions are allowed now, for the target of the tick that ended. */
uint64_t episode_mask(const struct episode *episode);

/*
 * The same of the service: its state and reward of all ticks since the last call, with @replicas
 * asked for; and how many are to be. @q as above.
 */
void episode_note_period(struct episode *episode, uint32_t replicas);
uint32_t episode_scale(struct episode *episode, struct policy_context *context, const float *q);
uint64_t episode_scale_mask(const struct episode *episode);

#endif
