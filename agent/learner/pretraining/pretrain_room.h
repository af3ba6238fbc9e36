// SPDX-License-Identifier: Apache-2.0
/* Worlds side by side, for pretrain.c only. */
#ifndef EBBTIDE_PRETRAIN_ROOM_H
#define EBBTIDE_PRETRAIN_ROOM_H

#include "learner/pretraining/episode.h"
#include "learner/pretraining/pretrain.h"
#include "learner/simulator/simulate.h"

/* A service, its load and its objective. */
struct world {
	struct simulate_config simulate;
	struct episode_config episode;
	uint32_t replicas;
};
/*
 * One at random (pretrain_world.c). @rates[@seconds] is where its trace is put. @scales: the load
 * asks for more or fewer replicas; else they stay.
 */
void world_draw(struct random_state *random, struct world *world, double *rates, uint32_t seconds,
	bool scales);

/* Take its CPU limit away and put neighbours beside it, with weights on both. */
void world_reserve(struct random_state *random, struct world *world);

/* One of the worlds, with what it came to so far. */
struct actor {
	struct world world;
	struct episode episode;
	struct simulation *simulation;
	struct policy_config vertical; /* how each explores */
	struct policy_config horizontal;
	struct random_state random;
	double *rates; /* owned */
	uint32_t replicas;
	uint32_t ticks;
	uint32_t decisions;
	bool decided;
	float previous[STATE_SIZE]; /* that was decided on */
	uint64_t used_us;
	uint64_t allocated_us;
	uint64_t violations;
	uint64_t oom_kills;
	double reward_sum;
	double memory_sum;
	double refills;
	double replicas_sum;
};

struct room {
	struct actor *actors; /* [count] */
	uint32_t count;
	uint32_t seconds; /* of a world's trace */
	bool scales;
	double reserving; /* of struct pretrain_config */
	float *states;	  /* [count][STATE_SIZE] */
	float *q;	  /* [count][ACTION_VERTICAL] */
};

int room_make(struct room *room, uint32_t count, uint32_t seconds, bool scales, uint64_t seed);
void room_free(struct room *room);
/* Another world for an actor. @asked negative: as drawn. */
int actor_begin(
	struct room *room, struct actor *actor, const struct train_config *train, double asked);
void actor_tick(struct actor *actor);
/* The newest tick into the score. */
void actor_count(struct actor *actor);
void score_add(struct pretrain_score *score, const struct actor *actor);
void score_mean(struct pretrain_score *score);

/* All actors' states through the network, and a decision for each. */
void room_decide(
	struct room *room, const struct network *network, struct network_workspace *workspace);
/* The same of the replicas. */
void room_scale(
	struct room *room, const struct network *network, struct network_workspace *workspace);

/* Ticks between two decisions on replicas. */
#define ROOM_SCALE_TICKS 5

#endif
