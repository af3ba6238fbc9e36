// SPDX-License-Identifier: Apache-2.0
/*
 * What the reflex may do for a unit: the allowance of the learner's newest plan while it is young,
 * else the one that the operator fixed, else none. And what it did, once a tick.
 *
 * A plan is one decision: its base limit may lie under the demand only because its allowance is
 * there. So when the allowance falls away and no new plan comes with that, the base limit becomes
 * the ceiling that the allowance would have reached.
 */
#include "common/log.h"
#include "node/agent.h"
#include "node/trace/trace.h"

#include <stdio.h>

static bool has_allowance(const struct allowance *allowance)
{
	return allowance->trigger_age_share > 0;
}

static bool may_act(const struct unit *unit)
{
	return unit->has_objective && unit->objective.mode == OBJECTIVE_AUTO && !unit->is_left &&
	       !unit->objective.frozen && unit->objective.reflex;
}

static uint64_t expires_us(const struct agent *agent, const struct unit *unit)
{
	return unit->planned_us +
	       (uint64_t)agent->config.reflex_silent_ticks * agent->config.tick_ms * 1000;
}

bool allowance_is_possible(const struct agent *agent, const struct unit *unit)
{
	return may_act(unit) && unit_declared_millicores(unit) > 0 && reflex_is_on(agent->reflex);
}

/* Which allowance holds, NULL for none. The fixed one is the operator's and does not expire. */
static const struct allowance *allowance_of(
	const struct agent *agent, const struct unit *unit, uint64_t *until_us)
{
	*until_us = 0;
	if (!may_act(unit))
		return NULL;
	if (unit->has_plan && has_allowance(&unit->plan.allowance)) {
		*until_us = expires_us(agent, unit);
		if (*until_us > monotonic_us())
			return &unit->plan.allowance;
		*until_us = 0;
	}
	return has_allowance(&agent->config.reflex_fixed) ? &agent->config.reflex_fixed : NULL;
}

void allowance_apply(struct agent *agent, struct unit *unit)
{
	uint64_t until_us;
	const struct allowance *allowance = allowance_of(agent, unit, &until_us);

	for (size_t i = 0; i < unit->container_count; i++) {
		const struct container *container = unit->containers[i];
		struct allowance own = {0};
		double most = unit->objective.cpu_max_millicores;

		if (allowance)
			own = *allowance;
		/* Neither the owner's limit nor the objective's bound is passed. */
		if (allowance && most > 0 && own.ceiling_millicores > most)
			own.ceiling_millicores = most;
		reflex_allow(agent->reflex, container->attachment.slot, allowance ? &own : NULL,
			unit->objective.latency_target_us, container->original.cpu_quota_us,
			until_us * 1000);
	}
}

/* The plan without its allowance: true when its base limit had to change for that. */
static bool plan_strip(struct plan *plan)
{
	double ceiling = plan->allowance.ceiling_millicores;
	bool is_under = plan->cpu_millicores < ceiling;

	plan->allowance = (struct allowance){0};
	if (is_under)
		plan->cpu_millicores = ceiling;
	return is_under;
}

void allowance_take(struct agent *agent, struct unit *unit, const struct plan *plan)
{
	unit->plan = *plan;
	unit->has_plan = true;
	unit->planned_us = monotonic_us();
	if (has_allowance(&plan->allowance) && !allowance_is_possible(agent, unit))
		agent->status.allowances_withdrawn += plan_strip(&unit->plan);
}

void allowance_withdraw(struct agent *agent, struct unit *unit, const char *rule)
{
	double before = unit->plan.cpu_millicores;
	uint64_t until_us;

	if (!unit->has_plan || !has_allowance(&unit->plan.allowance))
		return;
	if (!plan_strip(&unit->plan) || allowance_of(agent, unit, &until_us)) {
		unit->plan.cpu_millicores = before;
		allowance_apply(agent, unit);
		return;
	}
	unit->plan.memory_bytes = 0;
	actuate_unit(agent, unit);
	snprintf(unit->rule, sizeof(unit->rule), "%s", rule);
	agent->status.allowances_withdrawn++;
	log_notice("unit=%s/%s event=\"allowance withdrawn\" rule=%s cpu_millicores=%.0f->%.0f",
		unit->namespace, unit->service, rule, before, unit->plan.cpu_millicores);
}

double allowance_trigger_us(const struct agent *agent, const struct unit *unit)
{
	uint64_t until_us;
	const struct allowance *allowance = allowance_of(agent, unit, &until_us);

	return allowance ? allowance->trigger_age_share * unit->objective.latency_target_us : 0;
}

void allowance_tick(struct agent *agent)
{
	uint64_t now_us = monotonic_us();

	reflex_tick(agent->reflex);
	trace_refills(agent);
	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *unit = agent->units.items[i];

		if (unit->has_plan && has_allowance(&unit->plan.allowance) &&
			now_us >= expires_us(agent, unit))
			allowance_withdraw(agent, unit, "allowance-expired");
	}
}

static void note_stuck(struct unit *unit, const struct container *container)
{
	log_warning("unit=%s/%s pod=%s container=%s event=\"refills without effect\" "
		    "effect=\"no more of them until a request is completed\" rule=reflex-stuck",
		unit->namespace, unit->service, container->pod, container->name);
}

void allowance_collect(struct agent *agent, struct unit *unit, struct container *container,
	struct sample *sample, uint64_t *over_limit_us)
{
	struct reflex_counts counts;

	reflex_collect(agent->reflex, container->attachment.slot, &counts);
	sample->refills += counts.refills;
	unit->total_granted_us += counts.granted_us;
	for (int i = 0; i < REFILL_DENIAL_COUNT; i++)
		unit->total_denied[i] += counts.denied[i];
	/* Said when it begins, not every period. */
	if (counts.denied[REFILL_stuck] && !container->reflex_is_stuck)
		note_stuck(unit, container);
	container->reflex_is_stuck = counts.denied[REFILL_stuck] > 0;
	*over_limit_us = counts.over_limit_us;
}
