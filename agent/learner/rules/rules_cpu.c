// SPDX-License-Identifier: Apache-2.0
/* CPU limits: static, K8s-CPU and K8s-CPU-Fast, Captain, Koordinator's CPU Burst. */
#include "learner/rules/rules_family.h"

#include <stdio.h>

/* --- static: peak provisioning, what every comparison starts from --- */

struct static_parameters {
	RULE_PARAMETERS_static(RULE_FIELD)
};

static bool static_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct static_parameters *p = RULE_VALUES(struct static_parameters, config);

	(void)state, (void)now_s, (void)sample, (void)replicas, (void)replicas_wanted;
	if (objective->cpu_max_millicores > 0)
		plan->cpu_millicores = p->cpu_share * objective->cpu_max_millicores;
	if (objective->memory_max_bytes > 0)
		plan->memory_bytes =
			(uint64_t)(p->memory_share * (double)objective->memory_max_bytes);
	return true;
}

static void static_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	(void)config, (void)state;
	snprintf(out, size, "the upper bounds");
}

RULE_DEFINE(static, 0, static_decide, static_explain);

/* --- K8s-CPU and K8s-CPU-Fast (Autothrottle, NSDI 2024: its baselines) --- */

struct k8s_cpu_parameters {
	RULE_PARAMETERS_k8s_cpu(RULE_FIELD)
};

struct k8s_cpu_state {
	struct rule_window usage; /* mean use of a period, millicores */
	double used_us;		  /* in the period that runs, of one container */
	double elapsed_s;
	double most_millicores;
};

static bool k8s_cpu_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct k8s_cpu_parameters *p = RULE_VALUES(struct k8s_cpu_parameters, config);
	struct k8s_cpu_state *s = state;

	(void)objective, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample))
		return false;
	s->used_us += rule_used_us(sample);
	s->elapsed_s += sample->tick_s;
	if (!rule_due(s->elapsed_s, sample->tick_s, p->period_s))
		return false;
	rule_window_add(&s->usage, now_s, s->used_us / (s->elapsed_s * 1000));
	s->used_us = s->elapsed_s = 0;
	s->most_millicores = rule_window_max(&s->usage, now_s, fmax(p->window_s, p->period_s));
	plan->cpu_millicores = s->most_millicores / p->target;
	return true;
}

static void k8s_cpu_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct k8s_cpu_parameters *p = RULE_VALUES(struct k8s_cpu_parameters, config);
	const struct k8s_cpu_state *s = state;

	snprintf(out, size, "largest use of %g s %.0fm over %g", p->window_s, s->most_millicores,
		p->target);
}

RULE_DEFINE(k8s_cpu, sizeof(struct k8s_cpu_state), k8s_cpu_decide, k8s_cpu_explain);
RULE_DEFINE(k8s_cpu_fast, sizeof(struct k8s_cpu_state), k8s_cpu_decide, k8s_cpu_explain);

/*
 * --- Captain (Autothrottle, NSDI 2024) ---
 *
 * Published at one look a CFS period of 100 ms; here a look is a tick. A tick as long as the
 * deciding period sees the outcome of a cut only when the next decision is due: then the cut is
 * taken back and that decision waits for the next period.
 */

struct captain_parameters {
	RULE_PARAMETERS_captain(RULE_FIELD)
};

struct captain_state {
	struct rule_ring usage;	  /* millicores of each tick */
	double throttled_periods; /* since the last decision */
	double elapsed_s;
	double margin;
	double before_millicores; /* the limit that the last decision found */
	double throttled_share;	  /* of the newest look, to be explained */
	const char *move;
	bool started;
	bool cut; /* the last decision was one */
};

static void captain_restart(struct captain_state *s)
{
	s->throttled_periods = 0;
	s->elapsed_s = 0;
}

/* Throttling broke out right after a cut: as far over the old limit as the cut went under it. */
static void captain_roll_back(
	const struct captain_parameters *p, struct captain_state *s, struct plan *plan)
{
	plan->cpu_millicores = 2 * s->before_millicores - plan->cpu_millicores;
	s->margin += s->throttled_share - p->target;
	s->throttled_periods = 0;
	s->cut = false;
	s->move = "the last cut is taken back";
}

static void captain_move(const struct captain_parameters *p, struct captain_state *s, double now_s,
	struct plan *plan)
{
	struct rule_moments usage = rule_ring_moments(&s->usage, now_s, p->usage_window_s);
	double enough = usage.maximum + usage.deviation * s->margin;

	if (s->throttled_share > p->tolerance * p->target) {
		plan->cpu_millicores *= 1 + s->throttled_share - p->tolerance * p->target;
		s->move = "up by what is over";
	} else if (enough <= (1 - p->cut_least) * plan->cpu_millicores) {
		plan->cpu_millicores = fmax((1 - p->cut_most) * plan->cpu_millicores, enough);
		s->cut = true;
		s->move = "down to largest use and margin";
	}
	plan->cpu_millicores = fmax(plan->cpu_millicores, p->least_millicores);
}

static bool captain_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct captain_parameters *p = RULE_VALUES(struct captain_parameters, config);
	struct captain_state *s = state;
	const double periods = p->period_s * 1e6 / PLAN_PERIOD_US;
	bool due, back;

	(void)objective, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample) || plan->cpu_millicores <= 0)
		return false;
	if (!s->started) {
		s->started = true;
		s->margin = p->margin;
	}
	rule_ring_add(&s->usage, now_s, rule_used_us(sample) / (sample->tick_s * 1000));
	s->throttled_periods += rule_throttled_periods(sample);
	s->elapsed_s += sample->tick_s;
	due = rule_due(s->elapsed_s, sample->tick_s, p->period_s);
	/* Before a decision is due the rest of its period counts as not throttled. */
	s->throttled_share =
		s->throttled_periods / fmax(periods, s->elapsed_s * 1e6 / PLAN_PERIOD_US);
	back = s->cut && s->throttled_share > p->tolerance * p->target;
	if (back)
		captain_roll_back(p, s, plan);
	if (!due || back) {
		if (due)
			captain_restart(s);
		return back;
	}
	s->before_millicores = plan->cpu_millicores;
	s->margin = fmax(0, s->margin + s->throttled_share - p->target);
	s->cut = false;
	s->move = "holds";
	captain_move(p, s, now_s, plan);
	captain_restart(s);
	return true;
}

static void captain_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct captain_parameters *p = RULE_VALUES(struct captain_parameters, config);
	const struct captain_state *s = state;

	snprintf(out, size, "throttled in %.0f %% of periods, target %g %%, margin %.2f: %s",
		s->throttled_share * 100, p->target * 100, s->margin, s->move ? s->move : "holds");
}

RULE_DEFINE(captain, sizeof(struct captain_state), captain_decide, captain_explain);

/*
 * --- Koordinator's CPU Burst (koordlet, plugin cpuburst) ---
 *
 * The service's declared limit is the base there and the quota goes over it. Here nothing goes over
 * the upper bound, so the base is a share of it: by default that of which 300 % are the bound.
 * Koordinator lowers the quota when its node is busy or the token bucket empty; a rule that sees one
 * unit knows no node, so calm_s without throttling stands for it.
 */

struct koordinator_parameters {
	RULE_PARAMETERS_koordinator(RULE_FIELD)
};

struct koordinator_state {
	double used_us; /* in the period that runs, of one container */
	double throttled_periods;
	double elapsed_s;
	double calm_s;
	double tokens; /* percent of the base x seconds */
	const char *move;
	bool started;
};

/* Whether more than the base is allowed, after a period of @elapsed_s at @use_percent of it. */
static bool koordinator_tokens(const struct koordinator_parameters *p, struct koordinator_state *s,
	double use_percent, double elapsed_s)
{
	const double room = p->token_period_s * (p->quota_percent - 100);

	if (p->token_period_s < 0)
		return true;
	if (!s->started)
		/* Published: at random in the lower half, so that a node's containers differ. */
		s->tokens = room / 4;
	if (use_percent >= p->consume_percent)
		s->tokens -= (use_percent - 100) * elapsed_s;
	else if (use_percent < p->save_percent)
		s->tokens += (100 - use_percent) * elapsed_s;
	s->tokens = fmax(-room, fmin(room, s->tokens));
	return s->tokens > 0;
}

static bool koordinator_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct koordinator_parameters *p = RULE_VALUES(struct koordinator_parameters, config);
	struct koordinator_state *s = state;
	const double base = p->base_share * objective->cpu_max_millicores;
	const double in_force = plan->cpu_millicores;
	double use_percent, factor = 1, burst_us;
	bool allowed;

	(void)now_s, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample) || base <= 0)
		return false;
	s->used_us += rule_used_us(sample);
	s->throttled_periods += rule_throttled_periods(sample);
	s->elapsed_s += sample->tick_s;
	if (!rule_due(s->elapsed_s, sample->tick_s, p->period_s))
		return false;
	use_percent = s->used_us / (s->elapsed_s * 1000) / base * 100;
	s->calm_s = s->throttled_periods > 0 ? 0 : s->calm_s + s->elapsed_s;
	allowed = koordinator_tokens(p, s, use_percent, s->elapsed_s);
	s->started = true;
	s->move = "holds";
	if (!allowed) {
		factor = p->step_down;
		s->move = "no token left: down";
	} else if (s->throttled_periods > 0) {
		factor = p->step_up;
		s->move = "throttled: up";
	} else if (p->calm_s > 0 && rule_due(s->calm_s, sample->tick_s, p->calm_s)) {
		factor = p->step_down;
		s->move = "calm: down";
	}
	plan->cpu_millicores =
		fmax(base, fmin(in_force * factor, base * fmax(p->quota_percent, 100) / 100));
	if (fabs(plan->cpu_millicores - in_force) <= 0)
		s->move = "holds";
	burst_us = base / 1000 * p->burst_percent / 100 * PLAN_PERIOD_US;
	plan->burst_us = (uint64_t)fmin(burst_us, plan->cpu_millicores / 1000 * PLAN_PERIOD_US);
	s->used_us = s->throttled_periods = s->elapsed_s = 0;
	return true;
}

static void koordinator_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct koordinator_parameters *p = RULE_VALUES(struct koordinator_parameters, config);
	const struct koordinator_state *s = state;

	snprintf(out, size, "%s, ceiling %g %% of the base", s->move ? s->move : "holds",
		p->quota_percent);
}

RULE_DEFINE(koordinator, sizeof(struct koordinator_state), koordinator_decide, koordinator_explain);
