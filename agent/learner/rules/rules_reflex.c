// SPDX-License-Identifier: Apache-2.0
/*
 * Hand-set allowances for the agent's reflex: beside any rule (reflex, burst), and with a base limit
 * that follows the measured demand (reflex-fixed).
 */
#include "learner/rules/rules_family.h"

#include <stdio.h>

struct reflex_parameters {
	RULE_PARAMETERS_reflex(RULE_FIELD)
};

static struct allowance reflex_allowance(
	const struct reflex_parameters *p, const struct objective *objective)
{
	return (struct allowance){.trigger_age_share = p->trigger_age_share,
		.refills_per_period = (uint32_t)p->refills_per_period,
		.ceiling_millicores = p->ceiling_share * objective->cpu_max_millicores};
}

/* Without an upper bound there is no ceiling, and without a ceiling no reflex. */
static bool reflex_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	(void)state, (void)now_s, (void)sample, (void)replicas, (void)replicas_wanted;
	if (objective->cpu_max_millicores <= 0)
		return false;
	plan->allowance =
		reflex_allowance(RULE_VALUES(struct reflex_parameters, config), objective);
	return true;
}

static void reflex_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct reflex_parameters *p = RULE_VALUES(struct reflex_parameters, config);

	(void)state;
	snprintf(out, size, "from %g of the target, %g refills", p->trigger_age_share,
		p->refills_per_period);
}

RULE_DEFINE(reflex, 0, reflex_decide, reflex_explain);

/* --- burst: unused quota may be used later --- */

struct burst_parameters {
	RULE_PARAMETERS_burst(RULE_FIELD)
};

static uint64_t burst_of(double share, const struct plan *plan)
{
	/* Until the envelope has seen it a limit may be anything. */
	return (uint64_t)fmin(share * plan->cpu_millicores / 1000 * PLAN_PERIOD_US, 0x1p62);
}

static bool burst_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct burst_parameters *p = RULE_VALUES(struct burst_parameters, config);

	(void)state, (void)now_s, (void)sample, (void)objective, (void)replicas;
	(void)replicas_wanted;
	plan->burst_us = burst_of(p->quota_share, plan);
	return true;
}

static void burst_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct burst_parameters *p = RULE_VALUES(struct burst_parameters, config);

	(void)state;
	snprintf(out, size, "%g of the quota", p->quota_share);
}

RULE_DEFINE(burst, 0, burst_decide, burst_explain);

/* --- reflex-fixed: the limit follows the demand of the last seconds, the reflex does the rest --- */

struct reflex_fixed_parameters {
	RULE_PARAMETERS_reflex_fixed(RULE_FIELD)
};

struct reflex_fixed_state {
	struct rule_ring usage; /* millicores of each tick */
	double mean_millicores;
	bool alone; /* the reflex did not work */
};

static bool reflex_fixed_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct reflex_fixed_parameters *p =
		RULE_VALUES(struct reflex_fixed_parameters, config);
	struct reflex_fixed_state *s = state;
	double in_force = plan->cpu_millicores;

	(void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample) || objective->cpu_max_millicores <= 0)
		return false;
	rule_ring_add(&s->usage, now_s, rule_used_us(sample) / (sample->tick_s * 1000));
	s->mean_millicores = rule_ring_moments(&s->usage, now_s, p->window_s).mean;
	plan->cpu_millicores = p->factor * s->mean_millicores;
	/*
	 * Where there is no reflex (its programs are off), use cannot rise over the limit and the
	 * limit would follow it down for ever.
	 */
	s->alone = sample->refills == 0 && rule_throttled_periods(sample) > 0 &&
		   sample_violates(sample, objective);
	if (s->alone)
		plan->cpu_millicores = fmax(plan->cpu_millicores, in_force * p->no_reflex_factor);
	/* The last fields are those of the reflex. */
	plan->allowance = reflex_allowance(
		(const struct reflex_parameters *)(const void *)&p->trigger_age_share, objective);
	plan->burst_us = burst_of(p->burst_share, plan);
	return true;
}

static void reflex_fixed_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct reflex_fixed_parameters *p =
		RULE_VALUES(struct reflex_fixed_parameters, config);
	const struct reflex_fixed_state *s = state;

	if (s->alone)
		snprintf(out, size, "late and throttled without a refill: the limit x %g",
			p->no_reflex_factor);
	else
		snprintf(out, size, "%g x mean use of %g s %.0fm, reflex from %g of the target",
			p->factor, p->window_s, s->mean_millicores, p->trigger_age_share);
}

RULE_DEFINE(
	reflex_fixed, sizeof(struct reflex_fixed_state), reflex_fixed_decide, reflex_fixed_explain);
