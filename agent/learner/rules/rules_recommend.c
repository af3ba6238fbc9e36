// SPDX-License-Identifier: Apache-2.0
/*
 * Recommenders from the distribution of use, for CPU and memory: Kubernetes' Vertical Pod
 * Autoscaler and Google's Autopilot.
 *
 * Both think in days. `compression` says how many seconds of theirs one second of ours stands for:
 * 24 where an hour's trace stands for a day. All of their times are divided by it.
 */
#include "learner/rules/rules_family.h"

#include <stdio.h>

#define MIB 1048576.0
/* Width of the first bucket: 0.01 core and 10 MB, as in the VPA's recommender. */
#define FIRST_MILLICORES 10.0
#define FIRST_BYTES	 1e7

/* --- Vertical Pod Autoscaler (kubernetes/autoscaler, recommender) --- */

struct vpa_parameters {
	RULE_PARAMETERS_vpa(RULE_FIELD)
};

struct vpa_state {
	struct rule_histogram cpu;    /* millicores */
	struct rule_histogram memory; /* peaks, bytes */
	double used_us;		      /* in the period that runs, of one container */
	double elapsed_s;
	double interval_end_s; /* of the memory interval that runs */
	double peak_bytes;     /* of that interval, by use */
	double oom_bytes;      /* by OOM kills */
	bool started;
};

/* One peak an interval stands in the histogram: a higher one takes its place. */
static void vpa_peak(
	const struct vpa_parameters *p, struct vpa_state *s, double now_s, double bytes, bool oom)
{
	const double interval_s = p->memory_interval_s / p->compression;
	const double half_life_s = p->half_life_s / p->compression;
	double before;

	if (!s->started || now_s >= s->interval_end_s) {
		s->interval_end_s =
			s->started ? s->interval_end_s +
					     (floor((now_s - s->interval_end_s) / interval_s) + 1) *
						     interval_s
				   : now_s + interval_s;
		s->started = true;
		s->peak_bytes = s->oom_bytes = 0;
	}
	before = fmax(s->peak_bytes, s->oom_bytes);
	if (bytes <= before)
		return;
	if (before > 0)
		rule_histogram_add(
			&s->memory, FIRST_BYTES, before, -1, s->interval_end_s, half_life_s);
	rule_histogram_add(&s->memory, FIRST_BYTES, bytes, 1, s->interval_end_s, half_life_s);
	if (oom)
		s->oom_bytes = bytes;
	else
		s->peak_bytes = bytes;
}

static void vpa_memory(const struct vpa_parameters *p, struct vpa_state *s, double now_s,
	const struct sample *sample)
{
	double used, needed;

	vpa_peak(p, s, now_s, (double)sample->memory_working_set_bytes / sample->containers, false);
	if (!sample->oom_kills)
		return;
	used = fmax((double)sample->memory_limit_bytes, s->peak_bytes);
	needed = fmax(used + p->oom_least_mib * MIB, used * p->oom_ratio);
	vpa_peak(p, s, now_s, needed, true);
}

static bool vpa_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct vpa_parameters *p = RULE_VALUES(struct vpa_parameters, config);
	struct vpa_state *s = state;
	double cpu, memory;

	(void)objective, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample))
		return false;
	vpa_memory(p, s, now_s, sample);
	s->used_us += rule_used_us(sample);
	s->elapsed_s += sample->tick_s;
	if (!rule_due(s->elapsed_s, sample->tick_s, p->period_s / p->compression))
		return false;
	rule_histogram_add(&s->cpu, FIRST_MILLICORES, s->used_us / (s->elapsed_s * 1000), 1, now_s,
		p->half_life_s / p->compression);
	s->used_us = s->elapsed_s = 0;
	cpu = rule_histogram_percentile(&s->cpu, FIRST_MILLICORES, p->cpu_percentile);
	memory = rule_histogram_percentile(&s->memory, FIRST_BYTES, p->memory_percentile);
	plan->cpu_millicores = fmax(cpu * (1 + p->margin), p->cpu_least_millicores);
	/* Without a peak there is nothing to recommend: no container has used memory yet. */
	if (memory > 0)
		plan->memory_bytes =
			(uint64_t)fmax(memory * (1 + p->margin), p->memory_least_mib * MIB);
	return true;
}

static void vpa_explain(const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct vpa_parameters *p = RULE_VALUES(struct vpa_parameters, config);
	const struct vpa_state *s = state;

	snprintf(out, size, "use p%g %.0fm, memory p%g %.0f MiB, and %g %%", p->cpu_percentile,
		rule_histogram_percentile(&s->cpu, FIRST_MILLICORES, p->cpu_percentile),
		p->memory_percentile,
		rule_histogram_percentile(&s->memory, FIRST_BYTES, p->memory_percentile) / MIB,
		p->margin * 100);
}

RULE_DEFINE(vpa, sizeof(struct vpa_state), vpa_decide, vpa_explain);

/*
 * --- Autopilot's moving-window recommender (Rzadca et al., EuroSys 2020, section 3.2.2) ---
 *
 * A sample of every tick goes, with its load as its weight, into a histogram that decays from the
 * end of the sample's aggregation window on: 'p95' is the limit under which 95 % of the load was
 * served. The largest recommendation of the last hour counts. The paper's histograms have linear
 * buckets, these grow by 5 %.
 */

struct autopilot_parameters {
	RULE_PARAMETERS_autopilot(RULE_FIELD)
};

struct autopilot_state {
	struct rule_histogram cpu;    /* millicores */
	struct rule_histogram memory; /* largest of each window, bytes */
	struct rule_window cpu_held;
	struct rule_window memory_held;
	double elapsed_s; /* in the aggregation window that runs */
	double peak_bytes;
};

static bool autopilot_decide(const struct rule_config *config, void *state, double now_s,
	const struct sample *sample, const struct objective *objective, uint32_t replicas,
	struct plan *plan, uint32_t *replicas_wanted)
{
	const struct autopilot_parameters *p = RULE_VALUES(struct autopilot_parameters, config);
	struct autopilot_state *s = state;
	const double aggregation_s = p->aggregation_s / p->compression;
	const double cpu_half_life_s = p->cpu_half_life_s / p->compression;
	const double memory_half_life_s = p->memory_half_life_s / p->compression;
	const double held_s = fmax(p->hold_s / p->compression, aggregation_s);
	double cpu, memory, window_end_s;

	(void)objective, (void)replicas, (void)replicas_wanted;
	if (!rule_sees(sample))
		return false;
	window_end_s = now_s + fmax(aggregation_s - s->elapsed_s - sample->tick_s, 0);
	cpu = rule_used_us(sample) / (sample->tick_s * 1000);
	rule_histogram_add(&s->cpu, FIRST_MILLICORES, cpu, cpu * sample->tick_s, window_end_s,
		cpu_half_life_s);
	s->peak_bytes = fmax(s->peak_bytes, (double)sample->memory_peak_bytes / sample->containers);
	s->elapsed_s += sample->tick_s;
	if (!rule_due(s->elapsed_s, sample->tick_s, aggregation_s))
		return false;
	rule_histogram_add(
		&s->memory, FIRST_BYTES, s->peak_bytes, s->peak_bytes, now_s, memory_half_life_s);
	s->elapsed_s = s->peak_bytes = 0;
	cpu = rule_histogram_percentile(&s->cpu, FIRST_MILLICORES, p->cpu_percentile);
	memory = rule_histogram_percentile(&s->memory, FIRST_BYTES, p->memory_percentile);
	rule_window_add(&s->cpu_held, now_s, cpu * (1 + p->margin));
	rule_window_add(&s->memory_held, now_s, memory * (1 + p->margin));
	cpu = rule_window_max(&s->cpu_held, now_s, held_s);
	memory = rule_window_max(&s->memory_held, now_s, held_s);
	/* Nothing was used yet: nothing is known. */
	if (cpu > 0)
		plan->cpu_millicores = cpu;
	if (memory > 0)
		plan->memory_bytes = (uint64_t)memory;
	return cpu > 0 || memory > 0;
}

static void autopilot_explain(
	const struct rule_config *config, const void *state, char *out, size_t size)
{
	const struct autopilot_parameters *p = RULE_VALUES(struct autopilot_parameters, config);
	const struct autopilot_state *s = state;

	snprintf(out, size, "load p%g %.0fm, memory p%g %.0f MiB, and %g %%, largest of %g s",
		p->cpu_percentile,
		rule_histogram_percentile(&s->cpu, FIRST_MILLICORES, p->cpu_percentile),
		p->memory_percentile,
		rule_histogram_percentile(&s->memory, FIRST_BYTES, p->memory_percentile) / MIB,
		p->margin * 100, p->hold_s / p->compression);
}

RULE_DEFINE(autopilot, sizeof(struct autopilot_state), autopilot_decide, autopilot_explain);
