// SPDX-License-Identifier: Apache-2.0
#include "learner/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const policy_names[] = {"dqn", "static", "k8s-cpu", NULL};

bool policy_exists(const char *name)
{
	for (size_t i = 0; policy_names[i]; i++)
		if (strcmp(policy_names[i], name) == 0)
			return true;
	return false;
}

void policy_config_init(struct policy_config *config)
{
	*config = (struct policy_config){
		.k8s_cpu = rules_k8s_cpu_default,
		.hpa = rules_hpa_default,
		.explore_start = 0.9,
		.explore_end = 0.02,
		.explore_decisions = 120,
		.explore_guided = 0.95,
		.cooldown_s = 30,
		.revert_ticks = 3,
	};
}

/* Exploration falls with what the service has taught; none without headroom or outside auto. */
static double explore_share(const struct policy_config *config, const struct service *service,
	const struct sample *sample)
{
	if (service->objective.mode != OBJECTIVE_AUTO)
		return 0;
	if (sample_violates(sample, &service->objective))
		return 0;
	return config->explore_end +
	       (config->explore_start - config->explore_end) *
		       exp(-(double)service->counts.experiences / config->explore_decisions);
}

/*
 * Where an engineer would look first: CPU demand with four fifths in reserve, memory a
 * quarter over what is in use. Guides exploration only, so that a new service is not tried at
 * random.
 */
static uint32_t guided_vertical(const struct service_unit *unit, const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;
	double containers = sample->containers ? sample->containers : 1;
	double limit = sample->cpu_limit_millicores;
	double used = sample->tick_s > 0
			      ? (double)sample->cpu_used_us / (sample->tick_s * 1000) / containers
			      : 0;
	double demand = unit->state[STATE_demand_max] * limit;
	double want = 1.8 * fmax(used, demand);
	double memory = (double)sample->memory_working_set_bytes / containers * 1.25;
	int cpu = 0, mem = 0;

	if (want < limit * action_cpu_factor[0])
		cpu = -1;
	else if (want > limit || sample_violates(sample, bounds->objective))
		cpu = 1;
	if (memory < (double)sample->memory_limit_bytes * action_memory_factor[0])
		mem = -1;
	else if (memory > (double)sample->memory_limit_bytes)
		mem = 1;
	return (uint32_t)((cpu + 1) * ACTION_MEMORY_STEPS + mem + 1);
}

static uint32_t random_action(struct random_state *random, uint64_t mask, uint32_t actions)
{
	uint32_t nth = random_below(random, (uint32_t)__builtin_popcountll(mask));

	for (uint32_t action = 0; action < actions; action++)
		if (mask >> action & 1 && nth-- == 0)
			return action;
	return 0;
}

/* A forbidden action's nearest: hold in the dimension that is forbidden, if that is allowed. */
static uint32_t soften_vertical(uint32_t action, uint64_t mask)
{
	uint32_t cpu = action / ACTION_MEMORY_STEPS, memory = action % ACTION_MEMORY_STEPS;

	if (mask >> action & 1)
		return action;
	if (mask >> (cpu * ACTION_MEMORY_STEPS + 1) & 1)
		return cpu * ACTION_MEMORY_STEPS + 1;
	if (mask >> (1 * ACTION_MEMORY_STEPS + memory) & 1)
		return 1 * ACTION_MEMORY_STEPS + memory;
	return ACTION_VERTICAL_HOLD;
}

/* A cut that was followed at once by a broken objective goes back, ahead of any policy. */
static bool revert_cut(struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	double limit = bounds->sample->cpu_limit_millicores;

	if (unit->cut_remaining == 0)
		return false;
	unit->cut_remaining--;
	if (bounds->objective->frozen || unit->cut_from <= limit ||
		!sample_violates(bounds->sample, bounds->objective))
		return false;
	decision->cpu_millicores = unit->cut_from;
	decision->memory_bytes = bounds->sample->memory_limit_bytes;
	(void)envelope_clamp(bounds, &decision->cpu_millicores, &decision->memory_bytes);
	decision->action = 2 * ACTION_MEMORY_STEPS + 1;
	decision->rule = RULE_REVERT;
	unit->cut_remaining = 0;
	snprintf(decision->why, sizeof(decision->why),
		"objective broke within ticks of a cut: CPU back %.0fm -> %.0fm", limit,
		decision->cpu_millicores);
	return true;
}

static void decide_dqn(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	enum envelope_rule rules[ACTION_VERTICAL];
	const struct sample *sample = bounds->sample;
	double epsilon = explore_share(context->config, service, sample);
	int wanted;

	decision->mask = envelope_vertical_mask(bounds, rules);
	if (context->vertical_q)
		memcpy(decision->q, context->vertical_q, sizeof(decision->q));
	else
		brain_evaluate(context->vertical, unit->state, 1, decision->q);
	decision->has_q = true;
	wanted = network_best_action(decision->q, ACTION_VERTICAL, NETWORK_ALL_ACTIONS);
	decision->explored = random_uniform(context->random) < epsilon;
	if (decision->explored) {
		if (random_uniform(context->random) < context->config->explore_guided)
			decision->action =
				soften_vertical(guided_vertical(unit, bounds), decision->mask);
		else
			decision->action =
				random_action(context->random, decision->mask, ACTION_VERTICAL);
	} else {
		int best = network_best_action(decision->q, ACTION_VERTICAL, decision->mask);

		decision->action = best < 0 ? ACTION_VERTICAL_HOLD : (uint32_t)best;
		if (wanted >= 0 && (uint32_t)wanted != decision->action)
			decision->rule = rules[wanted];
	}
	envelope_vertical_limits(
		bounds, decision->action, &decision->cpu_millicores, &decision->memory_bytes);
	snprintf(decision->why, sizeof(decision->why),
		"%s%s: CPU %.0fm -> %.0fm, p%g %.1f ms of %.0f ms, Q %.3f, hold %.3f",
		action_vertical_name(decision->action), decision->explored ? " (explored)" : "",
		sample->cpu_limit_millicores, decision->cpu_millicores,
		service->objective.latency_percentile, sample->latency_objective_us / 1000,
		service->objective.latency_target_us / 1000, (double)decision->q[decision->action],
		(double)decision->q[ACTION_VERTICAL_HOLD]);
}

static void decide_k8s_cpu(const struct policy_context *context, struct service_unit *unit,
	const struct envelope_unit *bounds, struct vertical_decision *decision)
{
	const struct sample *sample = bounds->sample;
	double containers = sample->containers ? sample->containers : 1;
	double used = sample->tick_s > 0
			      ? (double)sample->cpu_used_us / (sample->tick_s * 1000) / containers
			      : 0;
	double limit;

	decision->action = POLICY_NO_ACTION;
	if (!rules_k8s_cpu_decide(
		    &context->config->k8s_cpu, &unit->k8s_cpu, context->now_s, used, &limit)) {
		snprintf(decision->why, sizeof(decision->why), "k8s-cpu: not its period yet");
		return;
	}
	decision->cpu_millicores = limit;
	decision->rule = envelope_clamp(bounds, &decision->cpu_millicores, &decision->memory_bytes);
	snprintf(decision->why, sizeof(decision->why),
		"k8s-cpu: CPU %.0fm -> %.0fm, the largest use of %.0f s over %.2f",
		sample->cpu_limit_millicores, decision->cpu_millicores,
		context->config->k8s_cpu.window_s, context->config->k8s_cpu.target);
}

/* The operator's freeze stands above every policy, which still sees what it needs to go on. */
static void freeze_vertical(const struct envelope_unit *bounds, struct vertical_decision *decision)
{
	const struct sample *sample = bounds->sample;
	double limit = sample->cpu_limit_millicores;

	if (!bounds->objective->frozen ||
		(fabs(decision->cpu_millicores - limit) <= 0 &&
			decision->memory_bytes == sample->memory_limit_bytes))
		return;
	decision->action = ACTION_VERTICAL_HOLD;
	decision->cpu_millicores = limit;
	decision->memory_bytes = sample->memory_limit_bytes;
	decision->rule = RULE_FROZEN;
	snprintf(decision->why, sizeof(decision->why), "frozen: the limits stay");
}

void policy_decide_vertical(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	const char *policy = service->objective.policy;
	double limit = bounds->sample->cpu_limit_millicores;

	memset(decision, 0, sizeof(*decision));
	decision->action = ACTION_VERTICAL_HOLD;
	decision->cpu_millicores = limit;
	decision->memory_bytes = bounds->sample->memory_limit_bytes;
	decision->mask = 1ULL << ACTION_VERTICAL_HOLD;
	if (strcmp(policy, "static") == 0) {
		/* Peak provisioning: the most that objective and owner allow. */
		decision->action = POLICY_NO_ACTION;
		decision->cpu_millicores = envelope_cpu_max(bounds);
		decision->memory_bytes = envelope_memory_max(bounds);
		snprintf(decision->why, sizeof(decision->why), "static: the upper bounds");
	} else if (strcmp(policy, "k8s-cpu") == 0) {
		decide_k8s_cpu(context, unit, bounds, decision);
	} else if (!revert_cut(unit, bounds, decision)) {
		decide_dqn(context, service, unit, bounds, decision);
		if (decision->cpu_millicores < limit * 0.999) {
			unit->cut_from = limit;
			unit->cut_remaining = context->config->revert_ticks;
		}
	}
	freeze_vertical(bounds, decision);
	service->counts.decisions++;
	service->counts.explored += decision->explored;
	if (decision->rule)
		service->counts.interventions[decision->rule]++;
	if (decision->action < ACTION_VERTICAL)
		service->counts.vertical[decision->action]++;
	else if (fabs(decision->cpu_millicores - limit) > 0.5)
		service->counts
			.vertical[decision->cpu_millicores > limit ? 2 * ACTION_MEMORY_STEPS + 1
								   : 0 * ACTION_MEMORY_STEPS + 1]++;
}

/* Enough replicas that each stays under two thirds of its declared CPU at the recent peak. */
static uint32_t guided_horizontal(const struct service *service,
	const struct envelope_service *bounds, double declared_millicores)
{
	const struct sample *sample = bounds->sample;
	double limit = sample->cpu_limit_millicores * fmax(1, sample->containers);
	double used =
		sample->tick_s > 0 ? (double)sample->cpu_used_us / (sample->tick_s * 1000) : 0;
	double demand = fmax(used, service->state[STATE_demand_max] * limit);
	double want = declared_millicores > 0 ? ceil(demand / (declared_millicores * 2 / 3)) : 1;

	if (want < 1)
		want = 1;
	if (want < bounds->replicas)
		return 0;
	return want > bounds->replicas ? 2 : 1;
}

static void horizontal_dqn(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	enum envelope_rule rules[ACTION_HORIZONTAL];
	double epsilon = explore_share(context->config, service, bounds->sample);
	uint32_t guided;
	int wanted, best;

	decision->mask = envelope_horizontal_mask(bounds, rules);
	brain_evaluate(context->horizontal, service->state, 1, decision->q);
	decision->has_q = true;
	wanted = network_best_action(decision->q, ACTION_HORIZONTAL, NETWORK_ALL_ACTIONS);
	best = network_best_action(decision->q, ACTION_HORIZONTAL, decision->mask);
	decision->action = best < 0 ? ACTION_HORIZONTAL_HOLD : (uint32_t)best;
	decision->explored = random_uniform(context->random) < epsilon;
	if (decision->explored) {
		guided = guided_horizontal(service, bounds, declared_millicores);
		if (random_uniform(context->random) >= context->config->explore_guided)
			guided = random_action(context->random, decision->mask, ACTION_HORIZONTAL);
		decision->action = decision->mask >> guided & 1 ? guided : ACTION_HORIZONTAL_HOLD;
	} else if (wanted >= 0 && (uint32_t)wanted != decision->action) {
		decision->rule = rules[wanted];
	}
	decision->replicas = bounds->replicas + decision->action - ACTION_HORIZONTAL_HOLD;
	snprintf(decision->why, sizeof(decision->why),
		"%s%s: replicas %u -> %u, p%g %.1f ms of %.0f ms, Q %.3f, hold %.3f",
		action_horizontal_name(decision->action), decision->explored ? " (explored)" : "",
		bounds->replicas, decision->replicas, service->objective.latency_percentile,
		bounds->sample->latency_objective_us / 1000,
		service->objective.latency_target_us / 1000, (double)decision->q[decision->action],
		(double)decision->q[ACTION_HORIZONTAL_HOLD]);
}

static void horizontal_hpa(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	const struct sample *sample = bounds->sample;
	double used =
		sample->tick_s > 0 ? (double)sample->cpu_used_us / (sample->tick_s * 1000) : 0;
	double utilisation = declared_millicores > 0 && bounds->replicas
				     ? used / bounds->replicas / declared_millicores
				     : 0;
	uint32_t desired = bounds->replicas;

	decision->action = POLICY_NO_ACTION;
	if (!rules_hpa_decide(&context->config->hpa, &service->hpa, context->now_s,
		    bounds->replicas, utilisation, &desired)) {
		snprintf(decision->why, sizeof(decision->why), "hpa: not its period yet");
		return;
	}
	decision->replicas = desired;
	/* The HPA knows bounds and its own stabilisation, not the objective. */
	if (desired > bounds->objective->replicas_max)
		decision->replicas = bounds->objective->replicas_max;
	if (decision->replicas < bounds->objective->replicas_min)
		decision->replicas = bounds->objective->replicas_min;
	if (decision->replicas != desired)
		decision->rule = RULE_BOUNDS;
	snprintf(decision->why, sizeof(decision->why),
		"hpa: replicas %u -> %u, utilisation %.2f of %.2f", bounds->replicas,
		decision->replicas, utilisation, context->config->hpa.target);
}

void policy_decide_horizontal(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	const char *policy = service->objective.policy;

	memset(decision, 0, sizeof(*decision));
	decision->action = ACTION_HORIZONTAL_HOLD;
	decision->replicas = bounds->replicas;
	decision->mask = 1ULL << ACTION_HORIZONTAL_HOLD;
	if (strcmp(policy, "static") == 0) {
		decision->action = POLICY_NO_ACTION;
		snprintf(decision->why, sizeof(decision->why), "static: as deployed");
	} else if (strcmp(policy, "k8s-cpu") == 0) {
		horizontal_hpa(context, service, bounds, declared_millicores, decision);
	} else {
		horizontal_dqn(context, service, bounds, declared_millicores, decision);
	}
	if (bounds->objective->frozen && decision->replicas != bounds->replicas) {
		decision->action = ACTION_HORIZONTAL_HOLD;
		decision->replicas = bounds->replicas;
		decision->rule = RULE_FROZEN;
		snprintf(decision->why, sizeof(decision->why), "frozen: the replicas stay");
	}
	if (decision->rule)
		service->counts.interventions[decision->rule]++;
	if (decision->replicas != bounds->replicas)
		service->counts.horizontal[decision->replicas > bounds->replicas ? 2 : 0]++;
	else
		service->counts.horizontal[ACTION_HORIZONTAL_HOLD]++;
}
