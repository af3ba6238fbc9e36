// SPDX-License-Identifier: Apache-2.0
/* Replicas: Kubernetes' Horizontal Pod Autoscaler and Knative's Pod Autoscaler. */
#include "learner/rules/rules_family.h"

#include <stdio.h>

/* A Deployment's field holds no more; a tick of no length makes any use infinite. */
static uint32_t to_replicas(double wanted)
{
	if (wanted > INT32_MAX)
		return INT32_MAX;
	return wanted >= 1 ? (uint32_t)wanted : 1;
}

static double clamp_replicas(double wanted, const struct objective *objective)
{
	return fmax(objective->replicas_min, fmin(objective->replicas_max, wanted));
}

/*
 * --- Horizontal Pod Autoscaler (Kubernetes, autoscaling/v2) ---
 *
 * The metric is CPU utilisation of the declared CPU, mean over the replicas. Bounds are the
 * caller's, but what is remembered of an own step is the step that they leave.
 */

struct hpa_parameters {
	RULE_PARAMETERS_hpa(RULE_FIELD)
};

#define HPA_STEPS 32

struct hpa_state {
	struct rule_window most;  /* wishes */
	struct rule_window least; /* the same, negated */
	double step_s[HPA_STEPS]; /* own steps: when, and by how many replicas */
	double step[HPA_STEPS];
	uint32_t next_step;
	uint32_t steps;
	double used_us; /* in the period that runs, all replicas together */
	double elapsed_s;
	double utilisation;
	double wish;
};

/* Replicas added (and, as a negative number, taken) by own steps of the newest @span_s. */
static void hpa_changes(
	const struct hpa_state *s, double now_s, double span_s, double *added, double *taken)
{
	*added = *taken = 0;
	for (uint32_t i = 0; i < s->steps; i++) {
		if (now_s - s->step_s[i] >= span_s - 1e-6)
			continue;
		if (s->step[i] > 0)
			*added += s->step[i];
		else
			*taken += s->step[i];
	}
}

static double hpa_most(
	const struct hpa_parameters *p, const struct hpa_state *s, double now_s, double replicas)
{
	double added, taken, start, percent, pods, most;

	hpa_changes(s, now_s, p->up_period_s, &added, &taken);
	start = replicas - added - taken;
	percent = ceil(start * (1 + p->up_percent / 100));
	pods = start + p->up_pods;
	if (p->up_percent <= 0 && p->up_pods <= 0)
		return replicas;
	if (p->up_percent <= 0 || p->up_pods <= 0)
		most = p->up_pods <= 0 ? percent : pods;
	else
		most = p->up_select_most > 0 ? fmax(percent, pods) : fmin(percent, pods);
	return fmax(most, replicas);
}

static double hpa_least(
	const struct hpa_parameters *p, const struct hpa_state *s, double now_s, double replicas)
{
	double added, taken, start, percent, pods, least;

	hpa_changes(s, now_s, p->down_period_s, &added, &taken);
	start = replicas - added - taken;
	percent = floor(start * (1 - p->down_percent / 100));
	pods = start - p->down_pods;
	if (p->down_percent <= 0 && p->down_pods <= 0)
		return replicas;
	if (p->down_percent <= 0 || p->down_pods <= 0)
		least = p->down_pods <= 0 ? percent : pods;
	else
		least = p->down_select_most > 0 ? fmin(percent, pods) : fmax(percent, pods);
	return fmin(least, replicas);
}

/* Up no further than the lowest wish of its window, down no further than the highest of its. */
static double hpa_stabilise(
	const struct hpa_parameters *p, struct hpa_state *s, double now_s, double replicas)
{
	/* A wish as old as the window still counts. */
	const double more_s = 1e-3;
	double up, down;

	rule_window_add(&s->most, now_s, s->wish);
	rule_window_add(&s->least, now_s, -s->wish);
	down = rule_window_max(&s->most, now_s, p->down_stabilisation_s + more_s);
	up = -rule_window_max(&s->least, now_s, p->up_stabilisation_s + more_s);
	return fmin(fmax(replicas, up), down);
}

static void hpa_note_step(struct hpa_state *s, double now_s, double step)
{
	if (fabs(step) < 1)
		return;
	s->step_s[s->next_step] = now_s;
	s->step[s->next_step] = step;
	s->next_step = (s->next_step + 1) % HPA_STEPS;
	if (s->steps < HPA_STEPS)
		s->steps++;
}

static bool hpa_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct hpa_parameters *p = RULE_VALUES(struct hpa_parameters, config);
	struct hpa_state *s = state;
	const double declared = objective->cpu_max_millicores > 0 ? objective->cpu_max_millicores
								  : sample_cpu_millicores(sample);
	double ratio, wanted;

	(void)plan;
	if (sample->tick_s <= 0 || replicas == 0 || declared <= 0)
		return false;
	s->used_us += (double)sample->cpu_used_us;
	s->elapsed_s += sample->tick_s;
	if (!rule_due(s->elapsed_s, sample->tick_s, p->period_s))
		return false;
	s->utilisation = s->used_us / (s->elapsed_s * 1000) / replicas / declared;
	s->used_us = s->elapsed_s = 0;
	ratio = s->utilisation / p->target;
	s->wish = fabs(ratio - 1) > p->tolerance ? ceil(replicas * ratio - 1e-9) : replicas;
	wanted = hpa_stabilise(p, s, now_s, replicas);
	if (wanted > replicas)
		wanted = fmin(wanted, hpa_most(p, s, now_s, replicas));
	else
		wanted = fmax(wanted, hpa_least(p, s, now_s, replicas));
	*replicas_wanted = to_replicas(wanted);
	hpa_note_step(s, now_s, clamp_replicas(*replicas_wanted, objective) - replicas);
	return true;
}

static void hpa_explain(const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct hpa_parameters *p = RULE_VALUES(struct hpa_parameters, config);
	const struct hpa_state *s = state;

	snprintf(
		out, size, "utilisation %.2f of %g, wish %.0f", s->utilisation, p->target, s->wish);
}

RULE_DEFINE(hpa, sizeof(struct hpa_state), hpa_decide, hpa_explain);

/*
 * --- Knative Pod Autoscaler (knative/serving, pkg/autoscaler) ---
 *
 * The metric is concurrency: requests in flight, at the end of each tick. It never goes to none:
 * that is a bound here (replicas of at least 1).
 */

struct kpa_parameters {
	RULE_PARAMETERS_kpa(RULE_FIELD)
};

struct kpa_state {
	struct rule_slots concurrency;
	struct rule_window delayed;
	double decided_s;
	double panic_s; /* when it was last called for */
	double panic_most;
	double stable; /* mean concurrency */
	double panic;
	bool started;
	bool panicking;
};

static void kpa_start(struct kpa_state *s, double now_s, uint32_t replicas)
{
	s->started = true;
	s->decided_s = now_s;
	/* Without a history nothing is given up: what runs is kept for a stable window. */
	s->panicking = replicas > 1;
	s->panic_s = now_s;
	s->panic_most = replicas;
}

static double kpa_panic(const struct kpa_parameters *p, struct kpa_state *s, double now_s,
	double replicas, double wish, double stable_wanted, double panic_wanted)
{
	bool over = wish / replicas >= p->panic_threshold_percent / 100;

	if (over && !s->panicking)
		s->panic_most = 0;
	if (over) {
		s->panicking = true;
		s->panic_s = now_s;
	} else if (s->panicking && now_s - s->panic_s > p->stable_window_s) {
		s->panicking = false;
	}
	if (!s->panicking)
		return stable_wanted;
	/* While it lasts, replicas are added only. */
	s->panic_most = fmax(s->panic_most, fmax(stable_wanted, panic_wanted));
	return s->panic_most;
}

static bool kpa_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct kpa_parameters *p = RULE_VALUES(struct kpa_parameters, config);
	struct kpa_state *s = state;
	const double target = p->target * p->utilisation_percent / 100;
	const double panic_slots = fmax(1, round(RULE_SLOTS * p->panic_window_percent / 100));
	double ready = fmax(1, replicas), most, least, panic_wish, wanted;

	(void)plan, (void)objective;
	if (sample->tick_s <= 0)
		return false;
	if (!s->started)
		kpa_start(s, now_s, replicas);
	rule_slots_add(&s->concurrency, p->stable_window_s / RULE_SLOTS, now_s, sample->in_flight,
		sample->tick_s);
	if (!rule_due(now_s - s->decided_s, sample->tick_s, p->period_s))
		return false;
	if (!rule_slots_mean(&s->concurrency, RULE_SLOTS, &s->stable) ||
		!rule_slots_mean(&s->concurrency, (uint32_t)panic_slots, &s->panic))
		return false;
	s->decided_s = now_s;
	most = ceil(p->max_scale_up_rate * ready);
	least = floor(ready / p->max_scale_down_rate);
	panic_wish = ceil(s->panic / target);
	wanted = kpa_panic(p, s, now_s, ready, panic_wish,
		fmin(fmax(ceil(s->stable / target), least), most),
		fmin(fmax(panic_wish, least), most));
	rule_window_add(&s->delayed, now_s, wanted);
	wanted = fmax(wanted, rule_window_max(&s->delayed, now_s, p->scale_down_delay_s));
	*replicas_wanted = to_replicas(wanted);
	return true;
}

static void kpa_explain(const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct kpa_parameters *p = RULE_VALUES(struct kpa_parameters, config);
	const struct kpa_state *s = state;

	snprintf(out, size, "%s, concurrency %.1f, in panic's window %.1f, target %g",
		s->panicking ? "panic" : "stable", s->stable, s->panic,
		p->target * p->utilisation_percent / 100);
}

RULE_DEFINE(kpa, sizeof(struct kpa_state), kpa_decide, kpa_explain);
