// SPDX-License-Identifier: Apache-2.0
/* Worlds side by side, one network deciding for all of them. */
#include "learner/pretraining/pretrain_room.h"
#include "common/rung.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void room_free(struct room *room)
{
	for (uint32_t i = 0; room->actors && i < room->count; i++) {
		episode_end(&room->actors[i].episode);
		simulate_destroy(room->actors[i].simulation);
		free(room->actors[i].rates);
	}
	free(room->actors);
	free(room->states);
	free(room->q);
}

static void explorer_init(struct policy_config *config)
{
	policy_config_init(config);
	config->explore_schedule = EXPLORE_APEX;
	config->explore_guided = 0;
	config->explore_apex_base = 0;
}

int room_make(struct room *room, uint32_t count, uint32_t seconds, bool scales, uint64_t seed)
{
	*room = (struct room){.count = count, .seconds = seconds, .scales = scales};
	room->actors = calloc(count, sizeof(*room->actors));
	room->states = calloc(count, STATE_SIZE * sizeof(float));
	room->q = calloc(count, ACTION_VERTICAL * sizeof(float));
	if (!room->actors || !room->states || !room->q)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct actor *actor = &room->actors[i];

		actor->rates = calloc(seconds, sizeof(double));
		if (!actor->rates)
			return -ENOMEM;
		random_seed(&actor->random, seed * 1000003 + i);
		explorer_init(&actor->vertical);
		explorer_init(&actor->horizontal);
	}
	return 0;
}

/* The last world's experiences end there, though it goes on. */
int actor_begin(
	struct room *room, struct actor *actor, const struct train_config *train, double asked)
{
	struct world *world = &actor->world;
	uint64_t seed;
	int err;

	world_draw(&actor->random, world, actor->rates, room->seconds, room->scales);
	/* No draw where there are none: then worlds are what they were before there were such. */
	if (room->reserving > 0 && random_uniform_double(&actor->random) < room->reserving)
		world_reserve(&actor->random, world);
	if (asked >= 0) {
		world->episode.objective.acceptable_violations = asked;
		world->episode.start.violation_price = price_start(asked);
	}
	seed = random_next(&actor->random);
	err = actor->simulation ? simulate_reset(actor->simulation, &world->simulate, seed)
				: simulate_create(&actor->simulation, &world->simulate, seed);
	if (!err)
		err = episode_begin(&actor->episode, &world->episode, train);
	actor->replicas = world->replicas;
	actor->ticks = actor->decisions = 0;
	actor->decided = false;
	actor->used_us = actor->allocated_us = actor->violations = actor->oom_kills = 0;
	actor->reward_sum = actor->memory_sum = actor->refills = actor->replicas_sum = 0;
	return err;
}

void actor_tick(struct actor *actor)
{
	struct simulate_input input = {.plan = actor->episode.plan, .replicas = actor->replicas};
	struct sample sample;

	simulate_tick(actor->simulation, &input, &sample);
	episode_note(&actor->episode, &sample, input.replicas);
}

void actor_count(struct actor *actor)
{
	const struct sample *sample = &actor->episode.sample;
	double containers = sample->containers ? sample->containers : 1;

	actor->used_us += sample->cpu_used_us;
	actor->allocated_us += sample->cpu_allocated_us;
	actor->violations += sample_violates(sample, &actor->episode.service->objective);
	actor->oom_kills += sample->oom_kills;
	actor->reward_sum += (double)actor->episode.reward;
	actor->memory_sum += (double)sample->memory_limit_bytes * containers /
			     fmax(1, (double)sample->memory_working_set_bytes);
	actor->refills += sample->refills / sample->tick_s / containers;
	actor->replicas_sum +=
		(double)actor->replicas / actor->episode.service->objective.replicas_max;
	actor->ticks++;
}

void score_add(struct pretrain_score *score, const struct actor *actor)
{
	if (!actor->ticks)
		return;
	score->worlds++;
	score->reward += actor->reward_sum / actor->ticks;
	score->allocated += (double)actor->allocated_us / fmax(1, (double)actor->used_us);
	score->violations += (double)actor->violations / actor->ticks;
	score->asked += actor->episode.service->objective.acceptable_violations;
	score->memory += actor->memory_sum / actor->ticks;
	score->refills += actor->refills / actor->ticks;
	score->replicas += actor->replicas_sum / actor->ticks;
	score->oom_kills += actor->oom_kills;
}

void score_mean(struct pretrain_score *score)
{
	double worlds = score->worlds ? score->worlds : 1;

	score->reward /= worlds;
	score->allocated /= worlds;
	score->violations /= worlds;
	score->asked /= worlds;
	score->memory /= worlds;
	score->refills /= worlds;
	score->replicas /= worlds;
}

void room_decide(
	struct room *room, const struct network *network, struct network_workspace *workspace)
{
	for (uint32_t i = 0; i < room->count; i++)
		memcpy(room->states + i * STATE_SIZE, room->actors[i].episode.state,
			sizeof(float) * STATE_SIZE);
	network_forward(network, workspace, room->states, room->count, room->q);
	for (uint32_t i = 0; i < room->count; i++) {
		struct actor *actor = &room->actors[i];
		struct policy_context context = {
			.config = &actor->vertical, .random = &actor->random};

		episode_decide(&actor->episode, &context, room->q + i * ACTION_VERTICAL);
		/* Where replicas are learnt, these decisions are not what is learnt from. */
		if (room->scales)
			continue;
		memcpy(actor->previous, actor->episode.state, sizeof(actor->previous));
		actor->decided = true;
	}
}

void room_scale(
	struct room *room, const struct network *network, struct network_workspace *workspace)
{
	for (uint32_t i = 0; i < room->count; i++)
		memcpy(room->states + i * STATE_SIZE, room->actors[i].episode.service->state,
			sizeof(float) * STATE_SIZE);
	network_forward(network, workspace, room->states, room->count, room->q);
	for (uint32_t i = 0; i < room->count; i++) {
		struct actor *actor = &room->actors[i];
		struct policy_context context = {
			.config = &actor->horizontal, .random = &actor->random};

		memcpy(actor->previous, actor->episode.service->state, sizeof(actor->previous));
		actor->replicas =
			episode_scale(&actor->episode, &context, room->q + i * ACTION_HORIZONTAL);
		actor->decided = true;
	}
}
