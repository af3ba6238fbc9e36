// SPDX-License-Identifier: Apache-2.0
/* The limits of a unit: what its network or its rules want, and what the envelope makes of it. */
#include "common/rung.h"
#include "learner/policy_shared.h"
#include "learner/text.h"
#include "learner/throttling.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Which step of the memory's down, hold, up a ratio is nearest to; -1: too far from all. */
static int nearest_step(double from, double to)
{
	double moved, step;
	int direction;

	/* Where the owner set no limit nothing is changed, whatever is decided. */
	if (from <= 0 || to <= 0)
		return 1;
	moved = log(to / from);
	direction = moved > 0 ? 2 : 0;
	step = log(action_memory_factor[direction]);
	if (moved / step > 2)
		return -1;
	return moved / step > 0.5 ? direction : 1;
}

/* The rung that a limit, whoever set it, comes to on a unit. */
static uint32_t nearest_rung(const struct envelope_unit *bounds, double limit_millicores)
{
	return rung_of_limit(limit_millicores, bounds->demand.usual, envelope_lowest_rung(bounds));
}

/* The same along the ladder. Without a limit or demand nothing moves. */
static int nearest_rung_step(const struct envelope_unit *bounds, double from, double to)
{
	int rungs_moved;

	if (from <= 0 || to <= 0 || bounds->demand.usual <= 0)
		return 1;
	rungs_moved = (int)nearest_rung(bounds, to) - (int)nearest_rung(bounds, from);
	if (rungs_moved < -2 || rungs_moved > 2)
		return -1;
	return 1 + (rungs_moved > 0) - (rungs_moved < 0);
}

uint32_t policy_nearest_action(
	const struct envelope_unit *bounds, const struct plan *from, const struct plan *to)
{
	int cpu = nearest_rung_step(bounds, from->cpu_millicores, to->cpu_millicores);
	int memory = nearest_step((double)from->memory_bytes, (double)to->memory_bytes);

	return cpu < 0 || memory < 0 ? POLICY_NO_ACTION
				     : (uint32_t)(cpu * ACTION_MEMORY_STEPS + memory);
}

/* Quotas are whole microseconds and a container may join late: a limit as planned is about that. */
#define SAME_LIMIT_SHARE 0.02
#define SAME_LIMIT_LEAST 2.0

/*
 * A peak of memory is expected to come again for about so long. Where a limit that is too low costs a
 * moment's stall and no kill, what it was is found out by pressure instead: it is forgotten soon
 * while nothing hurts.
 */
#define MEMORY_HALF_LIFE_S	900.0
#define MEMORY_HIGH_HALF_LIFE_S 300.0

/* The largest working set of before, faded. */
static double memory_needed(const struct service_unit *unit, const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;
	double half_life_s = bounds->memory_high && !sample_memory_hurts(sample)
				     ? MEMORY_HIGH_HALF_LIFE_S
				     : MEMORY_HALF_LIFE_S;

	return fmax((double)sample_memory_needed_bytes(sample),
		unit->memory_needed_bytes * exp2(-sample->tick_s / half_life_s));
}

static void __attribute__((format(printf, 3, 4)))
add_why(char *why, size_t size, const char *format, ...)
{
	size_t length = strlen(why);
	va_list args;

	if (length && length + 2 < size)
		length += (size_t)snprintf(why + length, size - length, "; ");
	va_start(args, format);
	vsnprintf(why + length, size - length, format, args);
	va_end(args);
}

/*
 * Where an engineer would look first: the start of the ladder, memory a quarter over what is in
 * use. Guides exploration only, so that a new service is not tried at random.
 */
static uint32_t guided_vertical(const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;
	double containers = sample->containers ? sample->containers : 1;
	double memory = (double)sample->memory_working_set_bytes / containers * 1.25;
	uint32_t start = envelope_lowest_rung(bounds) ? RUNG_ALONE + 1 : RUNG_START;
	int cpu = (bounds->cpu_rung < start) - (bounds->cpu_rung > start), mem = 0;

	if (sample_violates(sample, bounds->objective))
		cpu = 1;
	if (memory < (double)sample->memory_limit_bytes * action_memory_factor[0])
		mem = -1;
	else if (memory > (double)sample->memory_limit_bytes)
		mem = 1;
	return (uint32_t)((cpu + 1) * ACTION_MEMORY_STEPS + mem + 1);
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
	double limit = sample_cpu_millicores(bounds->sample);

	if (unit->cut_remaining == 0)
		return false;
	unit->cut_remaining--;
	if (bounds->objective->frozen || unit->cut_from <= limit ||
		!sample_violates(bounds->sample, bounds->objective))
		return false;
	/* One rung up, and no less than there was. */
	decision->action = 2 * ACTION_MEMORY_STEPS + 1;
	envelope_vertical_plan(bounds, decision->action, &decision->plan);
	decision->plan.cpu_millicores = fmax(decision->plan.cpu_millicores, unit->cut_from);
	(void)envelope_clamp(bounds, &decision->plan.cpu_millicores, &decision->plan.memory_bytes);
	decision->rule = RULE_REVERT;
	unit->cut_remaining = 0;
	snprintf(decision->why, sizeof(decision->why),
		"objective broke within ticks of a cut: CPU back %.0fm -> %.0fm", limit,
		decision->plan.cpu_millicores);
	return true;
}

static void explain_dqn(const struct service *service, const struct sample *sample,
	struct vertical_decision *decision)
{
	struct text why;

	text_begin(&why, decision->why, sizeof(decision->why));
	text_add(&why, action_vertical_name(decision->action));
	text_add(&why, decision->explored ? " (explored): CPU " : ": CPU ");
	text_add(&why, decision->plan.reserves ? "reserved " : "");
	text_add_fixed(&why, sample_cpu_millicores(sample), 0);
	text_add(&why, "m -> ");
	text_add_fixed(&why, decision->plan.cpu_millicores, 0);
	text_add(&why, "m, ");
	text_add_fixed(&why, rungs[decision->plan.cpu_rung].factor, 2);
	text_add(&why, " x demand, p");
	text_add_short(&why, service->objective.latency_percentile);
	text_add(&why, " ");
	text_add_fixed(&why, sample->latency_objective_us / 1000, 1);
	text_add(&why, " ms of ");
	text_add_fixed(&why, service->objective.latency_target_us / 1000, 0);
	text_add(&why, " ms, Q ");
	text_add_fixed(&why, (double)decision->q[decision->action], 3);
	text_add(&why, ", hold ");
	text_add_fixed(&why, (double)decision->q[ACTION_VERTICAL_HOLD], 3);
}

/* False, and nothing decided, when the network has diverged and is not to be used. */
static bool decide_dqn(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	const struct sample *sample = bounds->sample;
	double epsilon = policy_explore_share(context->config, service, service->counts.experiences,
		unit->index, service->owner->unit_count);
	int wanted;

	if (context->vertical_q)
		memcpy(decision->q, context->vertical_q, sizeof(decision->q));
	else if (brain_evaluate(context->vertical, unit->state, 1, decision->q))
		return false;
	service->counts.epsilon_mean = service_mean(service->counts.epsilon_mean, epsilon);
	decision->mask = envelope_vertical_mask(bounds, decision->forbidden);
	decision->has_q = true;
	decision->epsilon = epsilon;
	wanted = network_best_action(decision->q, ACTION_VERTICAL, NETWORK_ALL_ACTIONS);
	decision->explored = random_uniform(context->random) < epsilon;
	if (decision->explored) {
		decision->guided = policy_explore_guided(context, sample, &service->objective);
		if (decision->guided)
			decision->action = soften_vertical(guided_vertical(bounds), decision->mask);
		else
			decision->action = policy_random_action(
				context->random, decision->mask, ACTION_VERTICAL);
	} else {
		int best = network_best_action(decision->q, ACTION_VERTICAL, decision->mask);

		decision->action = best < 0 ? ACTION_VERTICAL_HOLD : (uint32_t)best;
		if (wanted >= 0 && (uint32_t)wanted != decision->action)
			decision->rule = decision->forbidden[wanted];
	}
	envelope_vertical_plan(bounds, decision->action, &decision->plan);
	explain_dqn(service, sample, decision);
	return true;
}

/* What the rules in @set decide, inside the envelope. */
static void decide_rules(const struct policy_context *context, const struct policy_set *set,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	/* A rule sees the bounds that hold: the owner's own limits are among them. */
	struct objective objective = *bounds->objective;
	const struct rule_configs *configs = policy_rule_configs(context, unit->service);
	struct plan before = decision->plan, *plan = &decision->plan;
	uint32_t decided, replicas = bounds->sample->containers;
	char text[160];

	if (rule_team_form(&unit->rules, set)) {
		add_why(decision->why, sizeof(decision->why), "out of memory: the limits stay");
		return;
	}
	objective.cpu_max_millicores = envelope_cpu_max(bounds);
	objective.memory_max_bytes = envelope_memory_max(bounds);
	decided = rule_team_decide(&unit->rules, configs, DECIDES_PLAN, context->now_s,
		bounds->sample, &objective, replicas, plan, &replicas);
	if (decided & (DECIDES_CPU | DECIDES_MEMORY)) {
		decision->rule = envelope_clamp(bounds, &plan->cpu_millicores, &plan->memory_bytes);
		decision->action = policy_nearest_action(bounds, &before, plan);
		plan->cpu_rung = nearest_rung(bounds, plan->cpu_millicores);
		add_why(decision->why, sizeof(decision->why),
			"CPU %s%.0fm -> %.0fm, memory %.0f -> %.0f MiB",
			plan->reserves ? "reserved " : "", before.cpu_millicores,
			plan->cpu_millicores, (double)before.memory_bytes / (1 << 20),
			(double)plan->memory_bytes / (1 << 20));
	}
	rule_team_explain(&unit->rules, configs, decided, text, sizeof(text));
	if (decided)
		add_why(decision->why, sizeof(decision->why), "%s", text);
	else
		add_why(decision->why, sizeof(decision->why), "%s: holds until its next period",
			unit->service->policy_name);
}

/*
 * The network has diverged and there are no good weights: k8s-cpu decides. It knows neither the
 * objective nor, at first, what was used before, so it cuts nothing until it has seen its window,
 * and nothing while the objective is broken.
 */
static void decide_fallback(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	struct plan before = decision->plan, *plan = &decision->plan;
	bool cuts;

	if (unit->fallen_since_s <= 0)
		unit->fallen_since_s = context->now_s;
	snprintf(decision->why, sizeof(decision->why), "network diverged");
	decide_rules(context, &service->fallback, unit, bounds, decision);
	cuts = plan->cpu_millicores < before.cpu_millicores ||
	       plan->memory_bytes < before.memory_bytes;
	if (cuts &&
		(sample_violates(bounds->sample, bounds->objective) ||
			context->now_s - unit->fallen_since_s <
				policy_rule_value(context, service, POLICY_k8s_cpu, "window_s"))) {
		plan->cpu_millicores = fmax(plan->cpu_millicores, before.cpu_millicores);
		if (plan->memory_bytes < before.memory_bytes)
			plan->memory_bytes = before.memory_bytes;
		decision->action = policy_nearest_action(bounds, &before, plan);
		add_why(decision->why, sizeof(decision->why), "no cut yet");
	}
	decision->rule = RULE_DIVERGED;
}

/* The operator's freeze stands above every policy, which still sees what it needs to go on. */
static void freeze_vertical(const struct envelope_unit *bounds, struct vertical_decision *decision)
{
	const struct sample *sample = bounds->sample;
	double limit = sample_cpu_millicores(sample);

	if (!bounds->objective->frozen ||
		(fabs(decision->plan.cpu_millicores - limit) <= 0 &&
			decision->plan.memory_bytes == sample->memory_limit_bytes))
		return;
	decision->action = ACTION_VERTICAL_HOLD;
	decision->plan.cpu_millicores = limit;
	decision->plan.memory_bytes = sample->memory_limit_bytes;
	decision->rule = RULE_FROZEN;
	snprintf(decision->why, sizeof(decision->why), "frozen: the limits stay");
}

/* What starts lives on its start-up limit; what has started beside it, on the decision. */
static void keep_starting(const struct envelope_unit *bounds, struct vertical_decision *decision)
{
	enum envelope_rule rule = envelope_keep_starting(bounds, &decision->plan);

	if (rule) {
		decision->rule = rule;
		add_why(decision->why, sizeof(decision->why),
			"it starts: CPU %.0fm until it is ready", decision->plan.cpu_millicores);
	} else if (bounds->starting > 0 && bounds->cpu_declared_millicores > 0 &&
		   !envelope_starts(bounds)) {
		add_why(decision->why, sizeof(decision->why),
			"%u of %u containers start and keep up to %.0fm", bounds->starting,
			bounds->sample->containers,
			objective_startup_millicores(
				bounds->objective, bounds->cpu_declared_millicores));
	}
}

/* Of the latency target: who stood still for less was not late for it. */
#define HELD_BACK_SHARE 0.25

bool policy_broke_for_want(const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;
	const double target_us = bounds->objective->latency_target_us;
	const uint64_t stood_us =
		bounds->cpu_declared_millicores > 0 ? sample->throttled_us : sample->run_queue_us;
	const double late_us =
		fmax(HELD_BACK_SHARE * target_us, sample->latency_objective_us - target_us);
	/* A few requests are late where one of many containers stood still, to the end of a period. */
	const bool one_stood = bounds->cpu_declared_millicores > 0 && sample->throttled_periods > 0;
	const double containers = one_stood ? 1 : fmax(1, sample->containers);

	return sample_violates(sample, bounds->objective) &&
	       ((double)stood_us >= late_us * containers || sample_memory_hurts(sample));
}

struct envelope_unit policy_bounds(const struct service_unit *unit, const struct sample *sample,
	const float *state, bool reflex)
{
	struct envelope_unit bounds = {.objective = &unit->service->objective,
		.sample = sample,
		.cpu_declared_millicores = unit->cpu_declared_millicores,
		.memory_declared_bytes = unit->memory_declared_bytes,
		.memory_needed_bytes = (uint64_t)unit->memory_needed_bytes,
		.memory_high = unit->memory_high,
		.violation_price = unit->plan.violation_price,
		.throttling_rung = throttling_rung(unit->throttling_floor),
		.cpu_rung = unit->plan.cpu_rung,
		.demand = state_demand(state, sample),
		.reflex = reflex && unit->service->objective.reflex};
	double planned = unit->plan.cpu_millicores, limit = sample_cpu_millicores(sample);

	/*
	 * What is answered says too little of the demand while requests pile up: what waited for a CPU
	 * was wanted as well. As long as nothing is late, that wait is only the neighbours' turn.
	 */
	if (sample_reserves(sample) && sample_violates(sample, bounds.objective))
		bounds.demand.usual = fmax(bounds.demand.usual, sample_wanted_millicores(sample));
	/* The same of work that no request waits for, as far as it can be told: it takes all there is. */
	if (envelope_unwatched(&bounds))
		bounds.demand.usual = fmax(bounds.demand.usual, limit);
	if (planned <= 0 || fabs(planned - limit) > SAME_LIMIT_SHARE * planned + SAME_LIMIT_LEAST)
		bounds.cpu_rung = nearest_rung(&bounds, limit);
	return bounds;
}

/* The owner's limits, which the other autoscaler sets; nothing is to be learnt from them. */
static void vertical_left(const struct service *service, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	decision->action = POLICY_NO_ACTION;
	decision->rule = RULE_OTHER_AUTOSCALER;
	decision->released = true;
	decision->plan.allowance = (struct allowance){.trigger_age_share = 0};
	decision->plan.burst_us = 0;
	if (bounds->cpu_declared_millicores > 0)
		decision->plan.cpu_millicores = bounds->cpu_declared_millicores;
	if (bounds->memory_declared_bytes > 0)
		decision->plan.memory_bytes = bounds->memory_declared_bytes;
	policy_explain_left(service, AUTOSCALER_VERTICAL, decision->why, sizeof(decision->why));
}

/* What the policy's parts decide, inside the envelope. */
static void vertical_decided(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	const struct policy_set *set = policy_of_service(service);
	double limit = sample_cpu_millicores(bounds->sample);
	enum envelope_rule allowed;
	bool fallen = false;

	if (policy_decided_by(set, true) & DECIDES_PLAN && !revert_cut(unit, bounds, decision)) {
		fallen = !decide_dqn(context, service, unit, bounds, decision);
		if (fallen)
			decide_fallback(context, service, unit, bounds, decision);
		else
			unit->fallen_since_s = 0;
		if (decision->plan.cpu_rung < bounds->cpu_rung) {
			unit->cut_from = limit;
			unit->cut_remaining = context->config->revert_ticks;
		}
	}
	if (policy_decided_by(set, false) & DECIDES_PLAN && !fallen)
		decide_rules(context, set, unit, bounds, decision);
	if (!(set->decides & DECIDES_PLAN))
		snprintf(decision->why, sizeof(decision->why), "%s: the limits stay",
			service->policy_name);
	keep_starting(bounds, decision);
	freeze_vertical(bounds, decision);
	allowed = envelope_clamp_allowance(bounds, &decision->plan);
	if (!decision->rule)
		decision->rule = allowed;
}

void policy_decide_vertical(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision)
{
	const struct policy_set *set = policy_of_service(service);
	const bool left = policy_leaves(service, AUTOSCALER_VERTICAL);
	double limit = sample_cpu_millicores(bounds->sample);

	memset(decision, 0, sizeof(*decision));
	/* What a start takes is no load: more replicas would only add starts. */
	if (bounds->starting == 0)
		room_note(&unit->busy, bounds->sample);
	unit->memory_needed_bytes = memory_needed(unit, bounds);
	decision->action = ACTION_VERTICAL_HOLD;
	decision->plan = unit->plan;
	decision->plan.cpu_millicores = limit;
	decision->plan.reserves = envelope_reserves(bounds);
	decision->plan.memory_bytes = bounds->sample->memory_limit_bytes;
	/* An allowance that nobody decides any more is void. */
	if (!(set->decides & DECIDES_ALLOWANCE))
		decision->plan.allowance = (struct allowance){.trigger_age_share = 0};
	if (!(set->decides & DECIDES_BURST))
		decision->plan.burst_us = 0;
	decision->mask = 1ULL << ACTION_VERTICAL_HOLD;
	decision->plan.cpu_rung = bounds->cpu_rung;
	/* What others' limits break says nothing of what the network's plans are worth. */
	if (policy_decided_by(set, true) & DECIDES_PLAN && !left)
		decision->plan.violation_price =
			price_adapt(unit->plan.violation_price, policy_broke_for_want(bounds),
				bounds->objective->acceptable_violations, bounds->sample->tick_s);
	unit->throttling_floor = throttling_adapt(
		unit->throttling_floor, bounds->sample, bounds->objective->acceptable_throttling);
	if (left) {
		unit->cut_remaining = 0;
		vertical_left(service, bounds, decision);
	} else {
		vertical_decided(context, service, unit, bounds, decision);
	}
	unit->plan = decision->plan;
	service->counts.decisions++;
	service->counts.explored += decision->explored;
	if (decision->rule)
		service->counts.interventions[decision->rule]++;
	if (decision->action < ACTION_VERTICAL)
		service->counts.vertical[decision->action]++;
	else if (fabs(decision->plan.cpu_millicores - limit) > 0.5)
		service->counts.vertical[decision->plan.cpu_millicores > limit
						 ? 2 * ACTION_MEMORY_STEPS + 1
						 : 0 * ACTION_MEMORY_STEPS + 1]++;
}
