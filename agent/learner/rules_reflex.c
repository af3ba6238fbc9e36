// SPDX-License-Identifier: Apache-2.0
/*
 * Hand-set allowances for the agent's reflex: beside any rule (reflex, burst), and with a base limit
 * that follows the measured demand (reflex-fixed).
 */
#include "learner/rules_family.h"

#include <stdio.h>

#define REFLEX_PARAMETERS(X)                                                                       \
	X(trigger_age_share, 0.4, 0.01, 10, "age of the oldest request, of the latency target")    \
	X(refills_per_period, 8, 0, 1000, "of the quota, at most, in a CFS period")                \
	X(ceiling_share, 1, 0.01, 1, "of the upper bound: CPU of a period, refills included")

struct reflex_parameters {
	REFLEX_PARAMETERS(RULE_FIELD)
};
static const struct rule_parameter reflex_table[] = {REFLEX_PARAMETERS(RULE_ROW)};

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
		reflex_allowance(RULE_PARAMETERS(struct reflex_parameters, config), objective);
	return true;
}

static void reflex_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct reflex_parameters *p = RULE_PARAMETERS(struct reflex_parameters, config);

	(void)state;
	snprintf(out, size, "from %g of the target, %g refills", p->trigger_age_share,
		p->refills_per_period);
}

RULE_DEFINE(reflex, reflex_table, 0, reflex_decide, reflex_explain);

/* --- burst: unused quota may be used later --- */

#define BURST_PARAMETERS(X)                                                                        \
	X(quota_share, 1, 0, 1, "of the quota of a period; the kernel takes no more than all")

struct burst_parameters {
	BURST_PARAMETERS(RULE_FIELD)
};
static const struct rule_parameter burst_table[] = {BURST_PARAMETERS(RULE_ROW)};

static uint64_t burst_of(double share, const struct plan *plan)
{
	/* Until the envelope has seen it a limit may be anything. */
	return (uint64_t)fmin(share * plan->cpu_millicores / 1000 * PLAN_PERIOD_US, 0x1p62);
}

static bool burst_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct burst_parameters *p = RULE_PARAMETERS(struct burst_parameters, config);

	(void)state, (void)now_s, (void)sample, (void)objective, (void)replicas;
	(void)replicas_wanted;
	plan->burst_us = burst_of(p->quota_share, plan);
	return true;
}

static void burst_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct burst_parameters *p = RULE_PARAMETERS(struct burst_parameters, config);

	(void)state;
	snprintf(out, size, "%g of the quota", p->quota_share);
}

RULE_DEFINE(burst, burst_table, 0, burst_decide, burst_explain);

/* --- reflex-fixed: the limit follows the demand of the last seconds, the reflex does the rest --- */

#define REFLEX_FIXED_PARAMETERS(X)                                                                 \
	REFLEX_PARAMETERS(X)                                                                       \
	X(factor, 1, 0.1, 10, "times the mean use")                                                \
	X(window_s, 2, 0.1, 600, "that the mean use is taken over")                                \
	X(burst_share, 0, 0, 1, "CFS burst, of the quota")                                         \
	X(no_reflex_factor, 2, 1, 100,                                                             \
		"times the limit when a tick was late, throttled, and had no refill")

struct reflex_fixed_parameters {
	REFLEX_FIXED_PARAMETERS(RULE_FIELD)
};
static const struct rule_parameter reflex_fixed_table[] = {REFLEX_FIXED_PARAMETERS(RULE_ROW)};

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
		RULE_PARAMETERS(struct reflex_fixed_parameters, config);
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
	/* The first fields are those of the reflex. */
	plan->allowance =
		reflex_allowance((const struct reflex_parameters *)(const void *)p, objective);
	plan->burst_us = burst_of(p->burst_share, plan);
	return true;
}

static void reflex_fixed_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct reflex_fixed_parameters *p =
		RULE_PARAMETERS(struct reflex_fixed_parameters, config);
	const struct reflex_fixed_state *s = state;

	if (s->alone)
		snprintf(out, size, "late and throttled without a refill: the limit x %g",
			p->no_reflex_factor);
	else
		snprintf(out, size, "%g x mean use of %g s %.0fm, reflex from %g of the target",
			p->factor, p->window_s, s->mean_millicores, p->trigger_age_share);
}

RULE_DEFINE(reflex_fixed, reflex_fixed_table, sizeof(struct reflex_fixed_state),
	reflex_fixed_decide, reflex_fixed_explain);
