// SPDX-License-Identifier: Apache-2.0
/* Decisions that do not wait for a unit's next report. */
#include "learner/learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Cuts are taken back at most so often for a service, whatever its units report. */
#define BROKEN_PERIOD_S 1.0
/* Less of a limit is rounding. */
#define CHANGE_SHARE 0.001

static struct envelope_unit bounds_of(const struct service_unit *unit)
{
	return (struct envelope_unit){.objective = &unit->service->objective,
		.sample = &unit->sample,
		.cpu_declared_millicores = unit->cpu_declared_millicores,
		.memory_declared_bytes = unit->memory_declared_bytes,
		.memory_high = unit->memory_high};
}

/* What holds on the unit now: the last decision when it was carried out, else what it reported. */
static struct plan in_force(const struct service_unit *unit, bool applied)
{
	struct plan plan = unit->plan;

	if (!applied || plan.cpu_millicores <= 0)
		plan.cpu_millicores = sample_cpu_millicores(&unit->sample);
	plan.reserves = unit->cpu_declared_millicores <= 0 && sample_reserves(&unit->sample);
	if (!applied || plan.memory_bytes == 0)
		plan.memory_bytes = unit->sample.memory_limit_bytes;
	return plan;
}

static bool differs(const struct plan *a, const struct plan *b)
{
	return fabs(a->cpu_millicores - b->cpu_millicores) > CHANGE_SHARE * a->cpu_millicores ||
	       a->memory_bytes != b->memory_bytes;
}

static void send(struct learner *learner, struct service_unit *unit, const struct plan *now,
	struct vertical_decision *decision)
{
	struct service *service = unit->service;
	bool apply = service->objective.mode == OBJECTIVE_AUTO;
	struct answer_allowance allowance = {
		.trigger_age_share = (float)decision->plan.allowance.trigger_age_share,
		.refills_per_period = decision->plan.allowance.refills_per_period,
		.ceiling_millicores = decision->plan.allowance.ceiling_millicores,
		.burst_us = decision->plan.burst_us};
	struct answer_action action = {.namespace = service->namespace,
		.service = service->name,
		/* No action of the table: a tick with two is nothing to learn from. */
		.action = POLICY_NO_ACTION,
		.apply = apply,
		.memory_limit_bytes = decision->plan.memory_bytes,
		.policy = service->objective.policy,
		.rule = envelope_rule_name(decision->rule),
		.why = decision->why,
		.cpu_rung = decision->plan.cpu_rung,
		.violation_price = decision->plan.violation_price,
		.allowance = apply && (allowance.trigger_age_share > 0 || allowance.burst_us)
				     ? &allowance
				     : NULL};
	struct envelope_unit bounds = bounds_of(unit);
	struct decision_record record;

	answer_set_cpu(&action, &decision->plan);
	decision->action = POLICY_NO_ACTION;
	if (!push_add(&learner->push, unit->agent, &action))
		return;
	unit->plan = decision->plan;
	unit->cut_remaining = 0;
	service->counts.interventions[decision->rule]++;
	/* The tick's reward is that of the decision before. */
	bounds.cpu_rung = now->cpu_rung;
	decision_record_vertical(&record, learner_unix_s(), unit, &bounds, decision, NAN, apply);
	record.pushed = true;
	record.from_millicores = now->cpu_millicores;
	record.from_bytes = now->memory_bytes;
	decisions_keep(learner, service, unit, &record);
}

static void unit_rebound(struct learner *learner, struct service_unit *unit,
	const struct objective *before, bool told)
{
	const struct objective *objective = &unit->service->objective;
	struct envelope_unit bounds = bounds_of(unit);
	struct plan now = in_force(unit, before->mode == OBJECTIVE_AUTO);
	struct vertical_decision decision = {.plan = now};

	if (objective->frozen) {
		decision.rule = RULE_FROZEN;
		snprintf(decision.why, sizeof(decision.why), "frozen: the limits stay");
	} else {
		decision.rule = envelope_clamp(
			&bounds, &decision.plan.cpu_millicores, &decision.plan.memory_bytes);
		(void)envelope_clamp_allowance(&bounds, &decision.plan);
		snprintf(decision.why, sizeof(decision.why),
			"the objective changed: CPU %.0fm -> %.0fm, memory %.0f -> %.0f MiB",
			now.cpu_millicores, decision.plan.cpu_millicores,
			(double)now.memory_bytes / (1 << 20),
			(double)decision.plan.memory_bytes / (1 << 20));
	}
	if (told || differs(&now, &decision.plan))
		send(learner, unit, &now, &decision);
}

void urgent_objective(
	struct learner *learner, struct service *service, const struct objective *before)
{
	const struct objective *now = &service->objective;
	/* The agent shows these, so it is told even when no limit moves. */
	bool told = before->mode != now->mode || before->frozen != now->frozen;

	/* What is left to another autoscaler is told with the next report. */
	if (now->mode == OBJECTIVE_OBSERVE || policy_leaves(service, AUTOSCALER_VERTICAL))
		return;
	for (size_t i = 0; i < service->unit_count; i++)
		if (push_reaches(&learner->push, service->units[i]->agent))
			unit_rebound(learner, service->units[i], before, told);
}

static void cut_revert(
	struct learner *learner, struct service_unit *unit, const struct service_unit *broken)
{
	struct envelope_unit bounds = bounds_of(unit);
	struct plan now = in_force(unit, true);
	struct vertical_decision decision = {.plan = now, .rule = RULE_REVERT};

	if (unit->cut_remaining == 0 || unit->cut_from <= now.cpu_millicores)
		return;
	decision.plan.cpu_millicores = unit->cut_from;
	(void)envelope_clamp(&bounds, &decision.plan.cpu_millicores, &decision.plan.memory_bytes);
	(void)envelope_clamp_allowance(&bounds, &decision.plan);
	snprintf(decision.why, sizeof(decision.why),
		"objective broke on %.60s within ticks of a cut here: CPU back %.0fm -> %.0fm",
		broken->agent, now.cpu_millicores, decision.plan.cpu_millicores);
	if (differs(&now, &decision.plan))
		send(learner, unit, &now, &decision);
}

void urgent_broken(struct learner *learner, struct service_unit *broken, double now_s)
{
	struct service *service = broken->service;

	if (!service->has_objective || service->objective.frozen ||
		service->objective.mode != OBJECTIVE_AUTO ||
		now_s - service->urgent_s < BROKEN_PERIOD_S)
		return;
	service->urgent_s = now_s;
	for (size_t i = 0; i < service->unit_count; i++)
		if (service->units[i] != broken)
			cut_revert(learner, service->units[i], broken);
}
