// SPDX-License-Identifier: Apache-2.0
#include "learner/pretraining/pretrain.h"

#include "learner/pretraining/pretrain_room.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORLDS_MAX 1024
#define HIDDEN	   128

void pretrain_config_init(struct pretrain_config *config, enum pretrain_part part)
{
	*config = (struct pretrain_config){.part = part,
		.seed = 1,
		.worlds = 64,
		.rounds = part == PRETRAIN_VERTICAL ? 12000 : 4000,
		.length = part == PRETRAIN_VERTICAL ? 400 : 200,
		.updates = 4,
		.replay = 400000,
		.explore_least = 0.02};
	train_config_init(&config->train);
	config->train.gamma = 0.9F;
	config->train.n_step = 3;
	config->train.batch = 128;
	config->train.learning_rate = 5e-4F;
	config->train.prioritised = true;
	config->train.beta_steps = (uint64_t)config->rounds * config->updates;
	config->train.target_period = 1;
	config->train.tau = 0.005F;
	config->train.huber_delta = 1;
	config->train.grad_clip = 10;
	config->train.warmup = 5000;
	config->train.q_bound = 500;
}

struct network_shape pretrain_shape(enum pretrain_part part)
{
	return (struct network_shape){.inputs = STATE_SIZE,
		.hidden1 = HIDDEN,
		.hidden2 = HIDDEN,
		.actions = part == PRETRAIN_VERTICAL ? ACTION_VERTICAL : ACTION_HORIZONTAL,
		.dueling = true};
}

struct pretraining {
	const struct pretrain_config *config;
	struct trainer trainer;
	struct replay replay;
	struct nstep *streams; /* [worlds], of the replicas' experiences */
	struct room room;
	struct network_workspace workspace;
	struct network_workspace limits; /* of config->vertical */
	struct pretrain_score score;
	uint64_t experiences;
	double td_error;
};

static bool learns_replicas(const struct pretraining *all)
{
	return all->config->part == PRETRAIN_HORIZONTAL;
}

/* What came of an actor's last decision; and another world when this one has been long enough. */
static int actor_learn(struct pretraining *all, uint32_t index)
{
	struct actor *actor = &all->room.actors[index];
	struct episode *episode = &actor->episode;
	const bool replicas = learns_replicas(all);
	const uint32_t action = replicas ? episode->scaled.action : episode->decision.action;
	const bool last = ++actor->decisions >= all->config->length;
	const enum replay_end end = last ? REPLAY_TRUNCATED : REPLAY_CONTINUES;
	int err = 0;

	if (actor->decided && action < (replicas ? ACTION_HORIZONTAL : ACTION_VERTICAL)) {
		err = replay_nstep_push(&all->replay,
			replicas ? &all->streams[index] : &episode->unit->stream, actor->previous,
			action, replicas ? episode->period_reward : episode->reward,
			replicas ? episode->service->state : episode->state, end,
			replicas ? episode_scale_mask(episode) : episode_mask(episode));
		all->experiences++;
	}
	if (!last || err)
		return err;
	score_add(&all->score, actor);
	if (replicas)
		nstep_reset(&all->streams[index]);
	return actor_begin(&all->room, actor, &all->config->train, -1);
}

/* Epsilon falls over the first half of the training, to a value of each world's own. */
static void room_explore(struct pretraining *all, uint32_t round)
{
	double progress = fmin(1, 2.0 * round / all->config->rounds);

	for (uint32_t i = 0; i < all->room.count; i++) {
		struct actor *actor = &all->room.actors[i];
		double least =
			fmax(all->config->explore_least, epsilon_apex(i, all->room.count, 0.3, 5));
		double share = 1 + (least - 1) * progress;

		if (learns_replicas(all))
			actor->horizontal.explore_apex_base = share;
		else
			actor->vertical.explore_apex_base = share;
	}
}

static int round_train(struct pretraining *all, uint32_t round)
{
	const struct pretrain_config *config = all->config;
	const float left = (float)(config->rounds - round) / (float)config->rounds;

	/* The last quarter ends with small steps. */
	all->trainer.config.learning_rate =
		config->train.learning_rate * fminf(1, 4 * left + 0.02F);
	for (uint32_t i = 0; i < config->updates && all->replay.size >= config->train.warmup; i++) {
		struct train_stats stats;
		int err = trainer_step(&all->trainer, &all->replay, &stats);

		/* A divergence fell back by itself. */
		if (err && err != -ERANGE && err != -EAGAIN)
			return err;
		if (!err)
			all->td_error += (stats.td_error_mean_abs - all->td_error) / 256;
	}
	return 0;
}

static void room_tick(struct room *room)
{
	for (uint32_t i = 0; i < room->count; i++) {
		actor_tick(&room->actors[i]);
		actor_count(&room->actors[i]);
	}
}

/* Ticks until there is something to decide on. */
static void round_play(struct pretraining *all)
{
	struct room *room = &all->room;
	const uint32_t ticks = learns_replicas(all) ? ROOM_SCALE_TICKS : 1;

	for (uint32_t i = 0; i < ticks; i++) {
		room_tick(room);
		if (learns_replicas(all))
			room_decide(room, all->config->vertical, &all->limits);
	}
	for (uint32_t i = 0; learns_replicas(all) && i < room->count; i++)
		episode_note_period(&room->actors[i].episode, room->actors[i].replicas);
}

static int round_run(struct pretraining *all, uint32_t round)
{
	struct room *room = &all->room;
	int err = 0;

	round_play(all);
	for (uint32_t i = 0; i < room->count && !err; i++)
		err = actor_learn(all, i);
	/* A world that begins has a tick before it is decided on. */
	for (uint32_t i = 0; i < room->count && !err; i++) {
		struct actor *actor = &room->actors[i];

		if (actor->ticks)
			continue;
		actor_tick(actor);
		if (learns_replicas(all))
			episode_note_period(&actor->episode, actor->replicas);
	}
	if (err)
		return err;
	if (round % 16 == 0)
		room_explore(all, round);
	if (learns_replicas(all))
		room_scale(room, &all->trainer.online, &all->workspace);
	else
		room_decide(room, &all->trainer.online, &all->workspace);
	return round_train(all, round);
}

static int streams_make(struct pretraining *all)
{
	const struct pretrain_config *config = all->config;
	int err = 0;

	all->streams = calloc(config->worlds, sizeof(*all->streams));
	if (!all->streams)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->worlds && !err; i++)
		err = nstep_create(
			&all->streams[i], config->train.n_step, STATE_SIZE, config->train.gamma);
	return err;
}

static int pretraining_open(struct pretraining *all)
{
	const struct pretrain_config *config = all->config;
	const struct network_shape shape = pretrain_shape(config->part);
	const struct replay_config replay = {.capacity = config->replay,
		.inputs = STATE_SIZE,
		.actions = shape.actions,
		.prioritised = config->train.prioritised,
		.alpha = config->train.alpha};
	struct train_config train = config->train;
	int err;

	train.seed = config->seed;
	err = trainer_create(&all->trainer, &shape, &train);
	if (!err)
		err = replay_create(&all->replay, &replay);
	if (!err)
		err = streams_make(all);
	if (!err)
		err = room_make(&all->room, config->worlds,
			config->length * (learns_replicas(all) ? ROOM_SCALE_TICKS : 1),
			learns_replicas(all), config->seed);
	all->room.reserving = config->reserving;
	if (!err)
		err = network_workspace_create(
			&all->workspace, &all->trainer.online, config->worlds);
	if (!err && learns_replicas(all))
		err = network_workspace_create(&all->limits, config->vertical, config->worlds);
	for (uint32_t i = 0; i < config->worlds && !err; i++) {
		err = actor_begin(&all->room, &all->room.actors[i], &train, -1);
		/* Not all end at once. */
		all->room.actors[i].decisions = i * config->length / config->worlds;
	}
	return err;
}

static void pretraining_close(struct pretraining *all)
{
	for (uint32_t i = 0; all->streams && i < all->config->worlds; i++)
		nstep_destroy(&all->streams[i]);
	free(all->streams);
	network_workspace_destroy(&all->workspace);
	network_workspace_destroy(&all->limits);
	room_free(&all->room);
	replay_destroy(&all->replay);
	trainer_destroy(&all->trainer);
}

int pretrain_run(const struct pretrain_config *config, struct pretrain_result *result,
	pretrain_progress *progress, void *context)
{
	struct pretraining all = {.config = config};
	int err;

	memset(result, 0, sizeof(*result));
	if (config->worlds < 1 || config->worlds > WORLDS_MAX || config->length < 2 ||
		!(config->reserving >= 0 && config->reserving <= 1) ||
		(config->part == PRETRAIN_HORIZONTAL && !config->vertical))
		return -EINVAL;
	err = pretraining_open(&all);
	for (uint32_t round = 0; round < config->rounds && !err; round++) {
		err = round_run(&all, round);
		if (!progress || (round + 1) % config->length)
			continue;
		score_mean(&all.score);
		progress(context, round + 1, &all.score, all.td_error);
		memset(&all.score, 0, sizeof(all.score));
	}
	if (!err)
		err = network_create(&result->network, &all.trainer.online.shape);
	if (!err)
		err = network_copy(&result->network, &all.trainer.online);
	result->steps = all.trainer.steps;
	result->experiences = all.experiences;
	pretraining_close(&all);
	return err;
}

/* The way down from the owner's limits is no part of a score. */
#define TEST_WARM_UP 4

int pretrain_test(const struct network *vertical, const struct network *horizontal, uint64_t seed,
	uint32_t worlds, uint32_t ticks, double asked, double reserving,
	struct pretrain_score *score)
{
	struct network_workspace workspace = {0}, scaling = {0};
	struct room room;
	struct train_config train;
	int err = room_make(&room, worlds, ticks, horizontal != NULL, seed);

	room.reserving = reserving;
	train_config_init(&train);
	memset(score, 0, sizeof(*score));
	if (!err)
		err = network_workspace_create(&workspace, vertical, worlds);
	if (!err && horizontal)
		err = network_workspace_create(&scaling, horizontal, worlds);
	for (uint32_t i = 0; i < worlds && !err; i++)
		err = actor_begin(&room, &room.actors[i], &train, asked);
	for (uint32_t tick = 1; tick <= ticks && !err; tick++) {
		for (uint32_t i = 0; i < worlds; i++) {
			actor_tick(&room.actors[i]);
			if (tick > ticks / TEST_WARM_UP)
				actor_count(&room.actors[i]);
		}
		room_decide(&room, vertical, &workspace);
		if (!horizontal || tick % ROOM_SCALE_TICKS)
			continue;
		for (uint32_t i = 0; i < worlds; i++)
			episode_note_period(&room.actors[i].episode, room.actors[i].replicas);
		room_scale(&room, horizontal, &scaling);
	}
	for (uint32_t i = 0; i < worlds && !err; i++)
		score_add(score, &room.actors[i]);
	score_mean(score);
	network_workspace_destroy(&workspace);
	network_workspace_destroy(&scaling);
	room_free(&room);
	return err;
}
