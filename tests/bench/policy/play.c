// SPDX-License-Identifier: Apache-2.0
/* One policy on one row: a run of the simulator, looked at by the second. */
#include "bench/policy/policy.h"

#include "common/histogram.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct play {
	const struct bench_row *row;
	struct objective objective;
	struct bench_outcome *outcome;
	struct sample sum;
	uint32_t latency[HIST_BUCKETS];
	float *allocated_cores; /* [seconds] */
	uint32_t violations;
	uint32_t actions;
	double memory_bytes_s;
	double replica_s;
};

/* No rule of the envelope but the bounds: the others are not in what was published. */
static void input_bound(const struct objective *objective, struct simulate_input *input)
{
	struct plan *plan = &input->plan;
	double quota_us;

	plan->cpu_millicores = fmin(fmax(plan->cpu_millicores, objective->cpu_min_millicores),
		objective->cpu_max_millicores);
	if (plan->memory_bytes < objective->memory_min_bytes)
		plan->memory_bytes = objective->memory_min_bytes;
	if (plan->memory_bytes > objective->memory_max_bytes)
		plan->memory_bytes = objective->memory_max_bytes;
	plan->allowance.ceiling_millicores =
		fmin(plan->allowance.ceiling_millicores, objective->cpu_max_millicores);
	quota_us = plan->cpu_millicores / 1000 * PLAN_PERIOD_US;
	if ((double)plan->burst_us > quota_us)
		plan->burst_us = (uint64_t)quota_us;
	if (input->replicas < objective->replicas_min)
		input->replicas = objective->replicas_min;
	if (input->replicas > objective->replicas_max)
		input->replicas = objective->replicas_max;
}

static bool input_differs(const struct simulate_input *a, const struct simulate_input *b)
{
	return a->plan.cpu_millicores != b->plan.cpu_millicores ||
	       a->plan.burst_us != b->plan.burst_us ||
	       a->plan.memory_bytes != b->plan.memory_bytes || a->replicas != b->replicas;
}

static void play_window(struct play *play, const struct sample *window,
	const uint32_t latency[HIST_BUCKETS], const struct simulate_input *input)
{
	const double share = play->objective.latency_percentile / 100;
	double worst_us;

	play->allocated_cores[play->outcome->windows++] =
		(float)((double)window->cpu_allocated_us / window->tick_s / 1e6);
	play->violations += sample_violates(window, &play->objective);
	histogram_quantiles_us(latency, &share, &worst_us, 1);
	play->outcome->worst_window_ms = fmax(play->outcome->worst_window_ms, worst_us / 1e3);
	/* The agent may have raised it meanwhile. */
	play->memory_bytes_s +=
		fmax((double)input->plan.memory_bytes, (double)window->memory_limit_bytes) *
		input->replicas;
	play->replica_s += input->replicas;
	histogram_add(play->latency, latency);
	sample_extend(&play->sum, window);
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void play_finish(struct play *play)
{
	struct bench_outcome *outcome = play->outcome;
	const struct sample *sum = &play->sum;
	const double seconds = outcome->windows, share = play->objective.latency_percentile / 100;
	const double asked = (double)(sum->requests + sum->requests_failed);
	double latency_us;

	qsort(play->allocated_cores, outcome->windows, sizeof(float), by_value);
	outcome->allocated_p99_cores =
		(double)play->allocated_cores[(uint32_t)(0.99 * (outcome->windows - 1))];
	histogram_quantiles_us(play->latency, &share, &latency_us, 1);
	outcome->latency_ms = latency_us / 1e3;
	outcome->used_cores = (double)sum->cpu_used_us / seconds / 1e6;
	outcome->allocated_cores = (double)sum->cpu_allocated_us / seconds / 1e6;
	outcome->violations = play->violations / seconds;
	outcome->failed_share = asked > 0 ? (double)sum->requests_failed / asked : 0;
	outcome->memory_bytes = play->memory_bytes_s / seconds;
	outcome->replica_s = play->replica_s;
	outcome->actions_per_h = play->actions * 3600 / seconds;
	outcome->refills_per_s = sum->refills / seconds;
	outcome->oom_kills = sum->oom_kills;
}

static void play_run(struct play *play, struct simulation *simulation, uint32_t seconds,
	const struct bench_setting *setting, void *run)
{
	const struct bench_policy *policy = setting->policy;
	const uint32_t ticks_per_s = (uint32_t)(1 / policy->tick_s + 0.5);
	struct simulate_input input = {
		.plan = {.cpu_millicores = play->objective.cpu_max_millicores,
			.reserves = play->row->reserving != NULL,
			.memory_bytes = play->objective.memory_max_bytes},
		.replicas = play->row->replicas};

	for (uint32_t second = 0; second < ROW_WARM_UP_S + seconds; second++) {
		struct simulate_input in_force = input;
		uint32_t latency[HIST_BUCKETS] = {0};
		struct sample window = {0};

		for (uint32_t i = 0; i < ticks_per_s; i++) {
			struct sample sample;

			in_force = input;
			simulate_tick(simulation, &input, &sample);
			histogram_add(latency, simulate_latency(simulation, 0));
			policy->decide(run, simulate_now_us(simulation) / 1e6, &sample,
				&play->objective, &input);
			input_bound(&play->objective, &input);
			if (second >= ROW_WARM_UP_S)
				play->actions += input_differs(&input, &in_force);
			sample_extend(&window, &sample);
		}
		if (second >= ROW_WARM_UP_S)
			play_window(play, &window, latency, &in_force);
	}
}

int bench_play(struct simulation **simulation, const struct bench_row *row,
	const struct simulate_trace *trace, uint32_t seconds, uint64_t seed,
	const struct bench_setting *setting, struct bench_outcome *outcome)
{
	struct play play = {.row = row, .outcome = outcome};
	struct simulate_config config;
	void *run = NULL;
	int err;

	memset(outcome, 0, sizeof(*outcome));
	row_objective(row, &play.objective);
	if (setting->asked > 0)
		play.objective.acceptable_violations = setting->asked;
	row_service(row, &config);
	config.trace = *trace;
	/* The trace repeats: what comes before its first second is the warm-up. */
	config.trace.first = (trace->first + 2 * trace->seconds - ROW_WARM_UP_S) % trace->seconds;
	config.trace.arrivals = row->bursts ? SIMULATE_BURSTY : SIMULATE_POISSON;
	config.tick_us = setting->policy->tick_s * 1e6;
	play.allocated_cores = calloc(seconds, sizeof(float));
	if (!play.allocated_cores)
		return -ENOMEM;
	err = *simulation ? simulate_reset(*simulation, &config, seed)
			  : simulate_create(simulation, &config, seed);
	if (!err)
		err = setting->policy->start(&run, setting, &play.objective);
	if (!err) {
		play_run(&play, *simulation, seconds, setting, run);
		play_finish(&play);
		setting->policy->end(run);
	}
	free(play.allocated_cores);
	return err;
}

void bench_outcome_mean(
	const struct bench_outcome *of_seeds, uint32_t seeds, struct bench_outcome *mean)
{
	memset(mean, 0, sizeof(*mean));
	for (uint32_t i = 0; i < seeds; i++) {
		const struct bench_outcome *one = &of_seeds[i];

		mean->used_cores += one->used_cores / seeds;
		mean->allocated_cores += one->allocated_cores / seeds;
		mean->allocated_p99_cores += one->allocated_p99_cores / seeds;
		mean->violations += one->violations / seeds;
		mean->latency_ms += one->latency_ms / seeds;
		mean->failed_share += one->failed_share / seeds;
		mean->memory_bytes += one->memory_bytes / seeds;
		mean->replica_s += one->replica_s / seeds;
		mean->actions_per_h += one->actions_per_h / seeds;
		mean->refills_per_s += one->refills_per_s / seeds;
		mean->worst_window_ms = fmax(mean->worst_window_ms, one->worst_window_ms);
		mean->oom_kills += one->oom_kills;
		mean->windows += one->windows;
	}
}
