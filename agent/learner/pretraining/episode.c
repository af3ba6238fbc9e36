// SPDX-License-Identifier: Apache-2.0
#include "learner/pretraining/episode.h"

#include "common/rung.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int episode_begin(struct episode *episode, const struct episode_config *config,
	const struct train_config *vertical)
{
	services_free(&episode->services);
	*episode = (struct episode){.config = *config, .plan = config->start, .scale_in_s = -1e9};
	episode->service = services_get(&episode->services, "simulated", "service");
	episode->unit =
		episode->service ? service_get_unit(episode->service, "simulated", vertical) : NULL;
	if (!episode->unit)
		return -ENOMEM;
	episode->service->objective = config->objective;
	episode->service->objective.mode = OBJECTIVE_AUTO;
	episode->service->has_objective = true;
	episode->unit->cpu_declared_millicores = config->cpu_declared_millicores;
	episode->unit->memory_declared_bytes = config->memory_declared_bytes;
	episode->unit->memory_high = config->memory_high;
	episode->unit->plan = config->start;
	state_note_plan(&episode->history, config->start.cpu_rung, config->start.violation_price);
	return 0;
}

void episode_end(struct episode *episode)
{
	services_free(&episode->services);
	memset(episode, 0, sizeof(*episode));
}

void episode_note(struct episode *episode, const struct sample *sample, uint32_t replicas)
{
	const struct objective *objective = &episode->service->objective;

	episode->sample = *sample;
	state_build(&episode->history, &episode->sample, objective, episode->state);
	episode->reward =
		reward_compute(sample, objective, &episode->history, replicas, &reward_defaults);
	episode->now_s += episode->sample.tick_s;
	sample_extend(&episode->service->period, sample);
	episode->unit->sample = episode->sample;
	memcpy(episode->unit->state, episode->state, sizeof(episode->state));
}

static struct envelope_unit bounds_of(const struct episode *episode)
{
	return policy_bounds(
		episode->unit, &episode->sample, episode->state, episode->config.reflex);
}

uint64_t episode_mask(const struct episode *episode)
{
	struct envelope_unit bounds = bounds_of(episode);

	return envelope_vertical_mask(&bounds, NULL);
}

void episode_decide(struct episode *episode, struct policy_context *context, const float *q)
{
	struct envelope_unit bounds = bounds_of(episode);
	struct vertical_decision *decision = &episode->decision;

	context->now_s = episode->now_s;
	context->vertical_q = q;
	policy_decide_vertical(context, episode->service, episode->unit, &bounds, decision);
	episode->plan = decision->plan;
	/* What the owner did not limit stays so; then it is the reservation that moves. */
	if (episode->config.cpu_declared_millicores <= 0 && !episode->plan.reserves)
		episode->plan.cpu_millicores = 0;
	if (decision->action < ACTION_VERTICAL)
		state_note_action(&episode->history, action_cpu_direction(decision->action),
			action_memory_direction(decision->action));
	state_note_plan(&episode->history, decision->plan.cpu_rung, decision->plan.violation_price);
}

void episode_note_period(struct episode *episode, uint32_t replicas)
{
	struct service *service = episode->service;

	service->replicas = replicas;
	episode->period_reward = service_build_state(service, policy_learns_replicas(service));
}

static struct envelope_service scale_bounds(const struct episode *episode)
{
	const struct service *service = episode->service;

	return (struct envelope_service){.objective = &service->objective,
		.sample = &service->period,
		.replicas = service->replicas,
		.replicas_needed = room_replicas(service),
		.since_scale_in_s = episode->now_s - episode->scale_in_s,
		.cooldown_s = episode->config.cooldown_s};
}

uint64_t episode_scale_mask(const struct episode *episode)
{
	struct envelope_service bounds = scale_bounds(episode);

	return envelope_horizontal_mask(&bounds, NULL);
}

uint32_t episode_scale(struct episode *episode, struct policy_context *context, const float *q)
{
	struct service *service = episode->service;
	struct envelope_service bounds = scale_bounds(episode);
	struct horizontal_decision *decision = &episode->scaled;

	context->now_s = episode->now_s;
	context->horizontal_q = q;
	policy_decide_horizontal(
		context, service, &bounds, service->objective.cpu_max_millicores, decision);
	if (decision->action < ACTION_HORIZONTAL)
		state_note_action(
			&service->history, (int)decision->action - ACTION_HORIZONTAL_HOLD, 0);
	if (decision->replicas < bounds.replicas)
		episode->scale_in_s = episode->now_s;
	memset(&service->period, 0, sizeof(service->period));
	return decision->replicas;
}
