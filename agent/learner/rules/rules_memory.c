// SPDX-License-Identifier: Apache-2.0
/* Memory by its pressure: Senpai (Meta; TMO, ASPLOS 2022). */
#include "learner/rules/rules_family.h"

#include <stdio.h>

#define MIB  1048576.0
#define PAGE 4096U

/*
 * The control law of the published senpai.py: stalls add up; over the target the limit backs off at
 * once, and after a quiet interval it is tightened, both by the square of how far off the stalls
 * are. It starts at what is in use.
 */

struct senpai_parameters {
	RULE_PARAMETERS_senpai(RULE_FIELD)
};

struct senpai_state {
	double stalled_us; /* since the last change, of one container */
	double elapsed_s;
	double shown_us; /* the stalls of the newest change */
	double change;	 /* share of the limit, signed */
	bool started;
};

static void senpai_adjust(const struct senpai_parameters *p, struct senpai_state *s, double change,
	const struct sample *sample, struct plan *plan)
{
	double limit = (double)plan->memory_bytes * (1 + change);

	if (!s->started)
		limit = (double)sample->memory_used_bytes / sample->containers;
	s->started = true;
	limit = fmax(limit, p->least_mib * MIB);
	plan->memory_bytes = limit < 0x1p63 ? (uint64_t)limit / PAGE * PAGE : INT64_MAX;
	s->change = change;
	s->shown_us = s->stalled_us;
	s->stalled_us = s->elapsed_s = 0;
}

static bool senpai_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct senpai_parameters *p = RULE_VALUES(struct senpai_parameters, config);
	struct senpai_state *s = state;
	double off;

	(void)now_s, (void)objective, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample) || plan->memory_bytes == 0)
		return false;
	s->stalled_us += (double)sample->memory_pressure_us / sample->containers;
	s->elapsed_s += sample->tick_s;
	if (s->stalled_us > p->pressure_us) {
		off = s->stalled_us / p->pressure_us / p->coeff_backoff;
		senpai_adjust(p, s, fmin(off * off, 1) * p->max_backoff, sample, plan);
		return true;
	}
	if (!rule_due(s->elapsed_s, sample->tick_s, p->interval_s))
		return false;
	off = p->pressure_us / fmax(s->stalled_us, 1) / p->coeff_probe;
	senpai_adjust(p, s, -fmin(off * off, 1) * p->max_probe, sample, plan);
	return true;
}

static void senpai_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct senpai_parameters *p = RULE_VALUES(struct senpai_parameters, config);
	const struct senpai_state *s = state;

	snprintf(out, size, "stalled %.1f ms of %.1f: memory %+.2f %%", s->shown_us / 1000,
		p->pressure_us / 1000, s->change * 100);
}

RULE_DEFINE(senpai, sizeof(struct senpai_state), senpai_decide, senpai_explain);
