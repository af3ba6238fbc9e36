// SPDX-License-Identifier: Apache-2.0
#include "common/state.h"

#include <math.h>
#include <string.h>

const struct state_feature_info state_features[STATE_SIZE] = {
#define X(name, lowest, highest, text) {#name, lowest, highest, text},
	STATE_FEATURES(X)
#undef X
};

const double action_cpu_factor[ACTION_CPU_STEPS] = {0.85, 1.0, 1.3};
const double action_memory_factor[ACTION_MEMORY_STEPS] = {0.9, 1.0, 1.25};

/* Violations weigh several times the whole of the bounds: a second over the objective must never
 * pay for itself by what it saved. */
const struct reward_weights reward_defaults = {
	.cpu = 0.6, .memory = 0.2, .replicas = 0.2, .overshoot = 3.0, .failure = 1.0};

const char *action_vertical_name(uint32_t action)
{
	static const char *const names[ACTION_VERTICAL] = {
		"cpu-down memory-down",
		"cpu-down memory-hold",
		"cpu-down memory-up",
		"cpu-hold memory-down",
		"hold",
		"cpu-hold memory-up",
		"cpu-up memory-down",
		"cpu-up memory-hold",
		"cpu-up memory-up",
	};

	return action < ACTION_VERTICAL ? names[action] : "invalid";
}

const char *action_horizontal_name(uint32_t action)
{
	static const char *const names[ACTION_HORIZONTAL] = {
		"replicas-down", "hold", "replicas-up"};

	return action < ACTION_HORIZONTAL ? names[action] : "invalid";
}

static double weighted(double a, double wa, double b, double wb)
{
	return wa + wb > 0 ? (a * wa + b * wb) / (wa + wb) : 0;
}

void sample_merge(struct sample *into, const struct sample *other)
{
	double wa = (double)into->requests, wb = (double)other->requests;
	double ca = into->containers, cb = other->containers;

	into->latency_p50_us = weighted(into->latency_p50_us, wa, other->latency_p50_us, wb);
	into->latency_p95_us = weighted(into->latency_p95_us, wa, other->latency_p95_us, wb);
	into->latency_p99_us = weighted(into->latency_p99_us, wa, other->latency_p99_us, wb);
	into->latency_objective_us =
		weighted(into->latency_objective_us, wa, other->latency_objective_us, wb);
	into->cpu_limit_millicores =
		weighted(into->cpu_limit_millicores, ca, other->cpu_limit_millicores, cb);
	into->memory_limit_bytes = (uint64_t)weighted(
		(double)into->memory_limit_bytes, ca, (double)other->memory_limit_bytes, cb);
	into->tick_s = other->tick_s > into->tick_s ? other->tick_s : into->tick_s;
	into->requests += other->requests;
	into->requests_over += other->requests_over;
	into->requests_failed += other->requests_failed;
	into->in_flight += other->in_flight;
	into->cpu_used_us += other->cpu_used_us;
	into->cpu_allocated_us += other->cpu_allocated_us;
	into->throttled_us += other->throttled_us;
	into->run_queue_us += other->run_queue_us;
	into->cpu_pressure_us += other->cpu_pressure_us;
	into->memory_pressure_us += other->memory_pressure_us;
	into->reclaim_us += other->reclaim_us;
	into->memory_used_bytes += other->memory_used_bytes;
	into->memory_peak_bytes += other->memory_peak_bytes;
	into->memory_working_set_bytes += other->memory_working_set_bytes;
	into->oom_kills += other->oom_kills;
	into->containers += other->containers;
	into->refills += other->refills;
	into->throttled_periods += other->throttled_periods;
}

void sample_extend(struct sample *into, const struct sample *next)
{
	struct sample gauges = *next;
	double tick_s = into->tick_s + next->tick_s;

	sample_merge(into, next);
	into->tick_s = tick_s;
	into->in_flight = gauges.in_flight;
	into->containers = gauges.containers;
	into->cpu_limit_millicores = gauges.cpu_limit_millicores;
	into->memory_limit_bytes = gauges.memory_limit_bytes;
	into->memory_used_bytes = gauges.memory_used_bytes;
	into->memory_peak_bytes = gauges.memory_peak_bytes;
	into->memory_working_set_bytes = gauges.memory_working_set_bytes;
}

double sample_over_allowed(const struct objective *objective)
{
	return 1.0 - objective->latency_percentile / 100.0;
}

bool sample_violates(const struct sample *sample, const struct objective *objective)
{
	uint64_t asked = sample->requests + sample->requests_failed;

	if (asked == 0)
		/* Requests wait and none was answered in a whole tick. */
		return sample->in_flight >= 1 &&
		       sample->tick_s * 1e6 > objective->latency_target_us;
	return (double)(sample->requests_over + sample->requests_failed) >
	       sample_over_allowed(objective) * (double)asked;
}

void state_note_action(struct state_history *history, int cpu_direction, int memory_direction)
{
	history->last_cpu = cpu_direction;
	history->last_memory = memory_direction;
	if (cpu_direction || memory_direction)
		history->since_action = 0;
}

static double log_between(double value, double lowest, double highest)
{
	if (value <= 0 || lowest <= 0 || highest <= lowest)
		return 1;
	return log(value / lowest) / log(highest / lowest);
}

static double half_log2(double ratio)
{
	return ratio > 0 ? log2(ratio) / 2 : -3;
}

static double share(uint64_t part_us, double whole_us)
{
	return whole_us > 0 ? (double)part_us / whole_us : 0;
}

static double demand_statistics(const struct state_history *history, double *maximum)
{
	double sum = 0;

	*maximum = 0;
	for (uint32_t i = 0; i < history->demand_count; i++) {
		sum += history->demand_millicores[i];
		if (history->demand_millicores[i] > *maximum)
			*maximum = history->demand_millicores[i];
	}
	return history->demand_count ? sum / history->demand_count : 0;
}

static void history_advance(struct state_history *history, const struct sample *sample,
	const struct objective *objective, double rate)
{
	/* Half-life of 60 ticks for the rate, 15 answered ticks for the cost of a request. */
	const double rate_keep = exp2(-1.0 / 60), cost_keep = exp2(-1.0 / 15);
	double cost_us =
		sample->requests ? (double)sample->cpu_used_us / (double)sample->requests : 0;

	if (!history->started) {
		history->started = true;
		history->rate_average = rate;
		history->cpu_per_request_us = cost_us;
		history->since_action = UINT16_MAX;
	} else {
		history->rate_average = rate_keep * history->rate_average + (1 - rate_keep) * rate;
		if (sample->requests)
			history->cpu_per_request_us =
				cost_keep * history->cpu_per_request_us + (1 - cost_keep) * cost_us;
		history->since_action++;
	}
	history->demand_millicores[history->demand_next] =
		rate * history->cpu_per_request_us / 1000;
	history->demand_next = (history->demand_next + 1) % STATE_HISTORY;
	if (history->demand_count < STATE_HISTORY)
		history->demand_count++;
	history->violation_bits =
		history->violation_bits << 1 | (sample_violates(sample, objective) ? 1U : 0U);
	if (history->ticks < STATE_VIOLATIONS)
		history->ticks++;
}

void state_build(struct state_history *history, const struct sample *sample,
	const struct objective *objective, float state[STATE_SIZE])
{
	const double tick_us = sample->tick_s * 1e6;
	const double containers = sample->containers ? sample->containers : 1;
	const double asked = (double)(sample->requests + sample->requests_failed);
	const double rate = sample->tick_s > 0 ? asked / sample->tick_s : 0;
	const double limit = sample->cpu_limit_millicores * containers;
	const double target = objective->latency_target_us;
	const bool first = !history->started;
	double v[STATE_SIZE] = {0};
	double demand, mean, maximum;
	uint32_t window = (1U << STATE_VIOLATIONS) - 1;

	history_advance(history, sample, objective, rate);
	mean = demand_statistics(history, &maximum);
	demand = rate * history->cpu_per_request_us / 1000;

	v[STATE_latency_p50] = half_log2(sample->latency_p50_us / target);
	v[STATE_latency_p95] = half_log2(sample->latency_p95_us / target);
	v[STATE_latency_p99] = half_log2(sample->latency_objective_us / target);
	v[STATE_over_share] =
		asked > 0 ? sqrt((double)(sample->requests_over + sample->requests_failed) / asked)
			  : (sample_violates(sample, objective) ? 1 : 0);
	v[STATE_rate_change] = history->rate_average > 0 && rate > 0
				       ? log2(rate / history->rate_average)
				       : (history->rate_average > 0 ? -2 : 0);
	v[STATE_in_flight] = log2(1 + fmax(sample->in_flight, 0) / containers) / 4;
	v[STATE_cpu_use] = limit > 0 ? share(sample->cpu_used_us, tick_us) * 1000 / limit : 0;
	v[STATE_throttled] = sqrt(share(sample->throttled_us, tick_us) / containers);
	v[STATE_run_queue] = sqrt(share(sample->run_queue_us, (double)sample->cpu_used_us));
	v[STATE_cpu_pressure] = share(sample->cpu_pressure_us, tick_us) / containers;
	v[STATE_memory_pressure] = share(sample->memory_pressure_us, tick_us) / containers;
	v[STATE_cpu_limit] = log_between(sample->cpu_limit_millicores,
		objective->cpu_min_millicores, objective->cpu_max_millicores);
	v[STATE_memory_use] = sample->memory_limit_bytes
				      ? (double)sample->memory_working_set_bytes / containers /
						(double)sample->memory_limit_bytes
				      : 0;
	v[STATE_reclaim] = sqrt(share(sample->reclaim_us, tick_us) / containers);
	v[STATE_memory_limit] = log_between((double)sample->memory_limit_bytes,
		(double)objective->memory_min_bytes, (double)objective->memory_max_bytes);
	v[STATE_replicas] =
		objective->replicas_max ? sample->containers / (double)objective->replicas_max : 0;
	v[STATE_target] = log10(target / 50000);
	v[STATE_last_cpu] = history->last_cpu;
	v[STATE_last_memory] = history->last_memory;
	v[STATE_since_action] = log2(1 + (double)history->since_action) / 6;
	v[STATE_demand] = limit > 0 ? demand / limit : 0;
	v[STATE_demand_mean] = limit > 0 ? mean / limit : 0;
	v[STATE_demand_max] = limit > 0 ? maximum / limit : 0;
	v[STATE_demand_change] = demand > 0 && mean > 0 ? log2(demand / mean) : 0;
	v[STATE_refills] =
		log2(1 + (sample->tick_s > 0 ? sample->refills / sample->tick_s : 0)) / 4;
	v[STATE_violations] =
		sqrt(__builtin_popcount(history->violation_bits & window) / (double)history->ticks);
	v[STATE_violations_asked] = sqrt(objective->acceptable_violations);

	for (int i = 0; i < STATE_SIZE; i++)
		state[i] = (float)fmin(
			fmax(v[i], state_features[i].lowest), state_features[i].highest);
	for (int i = 0; i < 5; i++) {
		static const int of[5] = {STATE_latency_p99, STATE_over_share, STATE_rate_change,
			STATE_cpu_use, STATE_throttled};
		int d = STATE_d_latency_p99 + i;
		float change = first ? 0 : state[of[i]] - history->previous[of[i]];

		state[d] =
			fminf(fmaxf(change, state_features[d].lowest), state_features[d].highest);
	}
	memcpy(history->previous, state, sizeof(history->previous));
}

float reward_compute(const struct sample *sample, const struct objective *objective,
	uint32_t replicas, const struct reward_weights *weights)
{
	const double most = objective->replicas_max ? objective->replicas_max : 1;
	const double asked = (double)(sample->requests + sample->requests_failed);
	double cost = 0, over = 0, late = 0;

	if (objective->cpu_max_millicores > 0 && sample->tick_s > 0)
		cost += weights->cpu * (double)sample->cpu_allocated_us / (sample->tick_s * 1000) /
			(objective->cpu_max_millicores * most);
	if (objective->memory_max_bytes > 0)
		cost += weights->memory * (double)sample->memory_limit_bytes * sample->containers /
			((double)objective->memory_max_bytes * most);
	cost += weights->replicas * replicas / most;

	if (sample_violates(sample, objective)) {
		/* Half for by how much the percentile is over, half for how many requests are. */
		if (sample->latency_objective_us > objective->latency_target_us)
			late = fmin(
				log2(sample->latency_objective_us / objective->latency_target_us) /
					4,
				1);
		over = asked > 0 ? (double)(sample->requests_over + sample->requests_failed) / asked
				 : 1;
		over = 0.25 + 0.75 * fmin(1, 0.5 * late + 0.5 * over);
	}
	cost += weights->overshoot * over;
	if (sample->oom_kills || sample->requests_failed)
		cost += weights->failure;
	return (float)-cost;
}
