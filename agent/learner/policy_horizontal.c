// SPDX-License-Identifier: Apache-2.0
/* The replicas of a service: what its network or its rules want, inside its bounds. */
#include "learner/policy_shared.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Enough replicas that each stays under two thirds of its declared CPU at the recent peak. */
static uint32_t guided_horizontal(const struct service *service,
	const struct envelope_service *bounds, double declared_millicores)
{
	const struct sample *sample = bounds->sample;
	double limit = sample_cpu_millicores(sample) * fmax(1, sample->containers);
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

/* False, and nothing decided, when the network has diverged and is not to be used. */
static bool horizontal_dqn(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	double epsilon = policy_explore_share(context->config, service,
		service->counts.scale_experiences, service->index, service->owner->count);
	uint32_t guided;
	int wanted, best;

	if (context->horizontal_q)
		memcpy(decision->q, context->horizontal_q, sizeof(decision->q));
	else if (brain_evaluate(context->horizontal, service->state, 1, decision->q))
		return false;
	decision->mask = envelope_horizontal_mask(bounds, decision->forbidden);
	decision->has_q = true;
	decision->epsilon = epsilon;
	wanted = network_best_action(decision->q, ACTION_HORIZONTAL, NETWORK_ALL_ACTIONS);
	best = network_best_action(decision->q, ACTION_HORIZONTAL, decision->mask);
	decision->action = best < 0 ? ACTION_HORIZONTAL_HOLD : (uint32_t)best;
	decision->explored = random_uniform(context->random) < epsilon;
	if (decision->explored) {
		guided = guided_horizontal(service, bounds, declared_millicores);
		decision->guided =
			policy_explore_guided(context, bounds->sample, &service->objective);
		if (!decision->guided)
			guided = policy_random_action(
				context->random, decision->mask, ACTION_HORIZONTAL);
		if (decision->mask >> guided & 1)
			decision->action = guided;
		else if (decision->mask >> ACTION_HORIZONTAL_HOLD & 1)
			decision->action = ACTION_HORIZONTAL_HOLD;
	} else if (wanted >= 0 && (uint32_t)wanted != decision->action) {
		decision->rule = decision->forbidden[wanted];
	}
	/* Whatever was wanted, or explored: only more are allowed. */
	if (!(decision->mask >> ACTION_HORIZONTAL_HOLD & 1) && (uint32_t)wanted != decision->action)
		decision->rule = decision->forbidden[ACTION_HORIZONTAL_HOLD];
	decision->replicas = envelope_horizontal_replicas(bounds, decision->action);
	snprintf(decision->why, sizeof(decision->why),
		"%s%s: replicas %u -> %u, p%g %.1f ms of %.0f ms, Q %.3f, hold %.3f",
		action_horizontal_name(decision->action), decision->explored ? " (explored)" : "",
		bounds->replicas, decision->replicas, service->objective.latency_percentile,
		bounds->sample->latency_objective_us / 1000,
		service->objective.latency_target_us / 1000, (double)decision->q[decision->action],
		(double)decision->q[ACTION_HORIZONTAL_HOLD]);
	return true;
}

/* The action of the table, which moves by one. */
static uint32_t horizontal_action(uint32_t from, uint32_t to)
{
	if (to > from + 1 || to + 1 < from)
		return POLICY_NO_ACTION;
	return ACTION_HORIZONTAL_HOLD + to - from;
}

/* They know bounds and their own stabilisation, not the objective. */
static void horizontal_rules(const struct policy_context *context, const struct policy_set *set,
	struct service *service, const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	struct objective objective = *bounds->objective;
	const struct rule_configs *configs = policy_rule_configs(context, service);
	uint32_t wanted = bounds->replicas;
	char text[128];

	if (rule_team_form(&service->rules, set)) {
		snprintf(decision->why, sizeof(decision->why), "out of memory: as deployed");
		return;
	}
	objective.cpu_max_millicores = declared_millicores;
	if (!rule_team_decide(&service->rules, configs, DECIDES_REPLICAS, context->now_s,
		    bounds->sample, &objective, bounds->replicas, NULL, &wanted)) {
		snprintf(decision->why, sizeof(decision->why), "%s: holds until its next period",
			service->policy_name);
		return;
	}
	decision->replicas = wanted;
	if (decision->replicas > objective.replicas_max)
		decision->replicas = objective.replicas_max;
	if (decision->replicas < objective.replicas_min)
		decision->replicas = objective.replicas_min;
	if (decision->replicas != wanted)
		decision->rule = RULE_BOUNDS;
	decision->action = horizontal_action(bounds->replicas, decision->replicas);
	rule_team_explain(&service->rules, configs, DECIDES_REPLICAS, text, sizeof(text));
	snprintf(decision->why, sizeof(decision->why), "replicas %u -> %u; %s", bounds->replicas,
		decision->replicas, text);
}

/* As with limits then: a rule decides, the HPA, and takes no replica away at first. */
static void horizontal_fallback(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	if (service->fallen_since_s <= 0)
		service->fallen_since_s = context->now_s;
	horizontal_rules(
		context, &service->fallback, service, bounds, declared_millicores, decision);
	if (decision->replicas < bounds->replicas &&
		(sample_violates(bounds->sample, bounds->objective) ||
			context->now_s - service->fallen_since_s <
				policy_rule_value(
					context, service, POLICY_hpa, "down_stabilisation_s"))) {
		decision->replicas = bounds->replicas;
		decision->action = ACTION_HORIZONTAL_HOLD;
		snprintf(decision->why, sizeof(decision->why),
			"network diverged: the replicas stay at first");
	}
	decision->rule = RULE_DIVERGED;
}

/*
 * What is outside its bounds goes to the nearest at once, whatever is thought of it: they were moved, or
 * somebody else scaled.
 */
static bool horizontal_bounds(
	const struct envelope_service *bounds, struct horizontal_decision *decision)
{
	uint32_t replicas = bounds->replicas;

	decision->rule = envelope_clamp_replicas(bounds, &replicas);
	if (!decision->rule)
		return false;
	decision->replicas = replicas;
	decision->action = horizontal_action(bounds->replicas, replicas);
	snprintf(decision->why, sizeof(decision->why),
		"replicas %u -> %u: there are to be %u to %u", bounds->replicas, replicas,
		bounds->objective->replicas_min, bounds->objective->replicas_max);
	return true;
}

static void horizontal_learnt(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	if (horizontal_bounds(bounds, decision))
		return;
	if (horizontal_dqn(context, service, bounds, declared_millicores, decision))
		service->fallen_since_s = 0;
	else
		horizontal_fallback(context, service, bounds, declared_millicores, decision);
}

void policy_decide_horizontal(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision)
{
	const struct policy_set *set = policy_of_service(service);

	memset(decision, 0, sizeof(*decision));
	decision->action = ACTION_HORIZONTAL_HOLD;
	decision->replicas = bounds->replicas;
	decision->mask = 1ULL << ACTION_HORIZONTAL_HOLD;
	if (policy_leaves(service, AUTOSCALER_HORIZONTAL)) {
		decision->action = POLICY_NO_ACTION;
		decision->rule = RULE_OTHER_AUTOSCALER;
		policy_explain_left(
			service, AUTOSCALER_HORIZONTAL, decision->why, sizeof(decision->why));
	} else if (policy_learns_replicas(service)) {
		horizontal_learnt(context, service, bounds, declared_millicores, decision);
	} else if (policy_decided_by(set, false) & DECIDES_REPLICAS) {
		horizontal_rules(context, set, service, bounds, declared_millicores, decision);
	} else {
		snprintf(decision->why, sizeof(decision->why), "%s: as deployed",
			service->policy_name);
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
