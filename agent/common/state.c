// SPDX-License-Identifier: Apache-2.0
#include "common/state.h"

#include <math.h>
#include <string.h>

const struct state_feature_info state_features[STATE_SIZE] = {
#define X(name, lowest, highest, text) {#name, lowest, highest, text},
	STATE_FEATURES(X)
#undef X
};

const double action_memory_factor[ACTION_MEMORY_STEPS] = {0.9, 1.0, 1.25};

/* CPU is what is short; a refill costs the node a write under its run queues' locks. */
const struct reward_weights reward_defaults = {
	.cpu = 1.0, .memory = 0.2, .replicas = 0.2, .refills = 0.003};

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

/* A tick with so many requests says what one costs, and what is so far off is news. */
#define COST_REQUESTS 20
#define COST_JUMP     0.3
/* A peak of the load is expected to come again for about so long. */
#define PEAK_HALF_LIFE_S 60.0
/* Nothing is more than so many times what is needed. */
#define COST_MOST 5.0

static double weighted(double a, double wa, double b, double wb)
{
	return wa + wb > 0 ? (a * wa + b * wb) / (wa + wb) : 0;
}

bool sample_reserves(const struct sample *sample)
{
	return sample->cpu_limit_millicores <= 0 && sample->cpu_reserved_millicores > 0;
}

double sample_cpu_millicores(const struct sample *sample)
{
	return sample_reserves(sample) ? sample->cpu_reserved_millicores
				       : sample->cpu_limit_millicores;
}

double sample_wanted_millicores(const struct sample *sample)
{
	const double containers = sample->containers ? sample->containers : 1;

	if (sample->tick_s <= 0)
		return 0;
	return ((double)sample->cpu_used_us + (double)sample->run_queue_us) /
	       (sample->tick_s * 1000) / containers;
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
	into->cpu_reserved_millicores =
		weighted(into->cpu_reserved_millicores, ca, other->cpu_reserved_millicores, cb);
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
	into->cpu_reserved_millicores = gauges.cpu_reserved_millicores;
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

void state_note_plan(struct state_history *history, uint32_t cpu_rung, double violation_price)
{
	history->cpu_rung = cpu_rung;
	history->violation_price = violation_price;
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

static double demand_mean(const struct state_history *history)
{
	double sum = 0;

	for (uint32_t i = 0; i < history->demand_count; i++)
		sum += history->demand_millicores[i];
	return history->demand_count ? sum / history->demand_count : 0;
}

static void history_advance(struct state_history *history, const struct sample *sample,
	const struct objective *objective, double rate)
{
	/* Half-life of 60 ticks for rate and use, 15 answered ticks for the cost of a request. */
	const double rate_keep = exp2(-1.0 / 60), cost_keep = exp2(-1.0 / 15);
	double cost_us =
		sample->requests ? (double)sample->cpu_used_us / (double)sample->requests : 0;
	double demand;
	double used =
		sample->tick_s > 0 ? (double)sample->cpu_used_us / (sample->tick_s * 1000) : 0;

	if (!history->started) {
		history->started = true;
		history->rate_average = rate;
		history->cpu_per_request_us = cost_us;
		history->cpu_usual_millicores = used;
		history->since_action = UINT16_MAX;
	} else {
		history->rate_average = rate_keep * history->rate_average + (1 - rate_keep) * rate;
		history->cpu_usual_millicores =
			rate_keep * history->cpu_usual_millicores + (1 - rate_keep) * used;
		/*
		 * What is far off and not a few requests' chance is another cost, not noise; and
		 * anything is news to who has seen no request.
		 */
		if (history->cpu_per_request_us <= 0 ||
			(sample->requests >= COST_REQUESTS &&
				fabs(cost_us - history->cpu_per_request_us) >
					COST_JUMP * history->cpu_per_request_us))
			history->cpu_per_request_us = cost_us;
		else if (sample->requests)
			history->cpu_per_request_us =
				cost_keep * history->cpu_per_request_us + (1 - cost_keep) * cost_us;
		history->since_action++;
	}
	/* Work that comes with no request is demand as well. */
	demand = sample->requests ? rate * history->cpu_per_request_us / 1000 : used;
	history->demand_millicores[history->demand_next] = demand;
	history->demand_peak_millicores = fmax(
		demand, history->demand_peak_millicores * exp2(-sample->tick_s / PEAK_HALF_LIFE_S));
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
	const double limit = sample_cpu_millicores(sample) * containers;
	const double target = objective->latency_target_us;
	const bool first = !history->started;
	double v[STATE_SIZE] = {0};
	double demand, mean;
	uint32_t window = (1U << STATE_VIOLATIONS) - 1;

	history_advance(history, sample, objective, rate);
	mean = demand_mean(history);
	demand = history->demand_millicores[(history->demand_next + STATE_HISTORY - 1) %
					    STATE_HISTORY];

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
	v[STATE_cpu_limit] = log_between(sample_cpu_millicores(sample),
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
	v[STATE_demand_max] = limit > 0 ? history->demand_peak_millicores / limit : 0;
	v[STATE_demand_change] = demand > 0 && mean > 0 ? log2(demand / mean) : 0;
	v[STATE_refills] =
		log2(1 + (sample->tick_s > 0 ? sample->refills / sample->tick_s : 0)) / 4;
	v[STATE_violations] =
		sqrt(__builtin_popcount(history->violation_bits & window) / (double)history->ticks);
	v[STATE_cpu_rung] = history->cpu_rung / (double)(RUNG_COUNT - 1);
	v[STATE_violation_price] = price_feature(history->violation_price);

	for (int i = 0; i < STATE_SIZE; i++)
		state[i] = (float)fmin(
			fmax(v[i], state_features[i].lowest), state_features[i].highest);
	for (int i = 0; i < 4; i++) {
		static const int pairs[4][2] = {{STATE_d_latency_p99, STATE_latency_p99},
			{STATE_d_over_share, STATE_over_share}, {STATE_d_cpu_use, STATE_cpu_use},
			{STATE_d_throttled, STATE_throttled}};
		int d = pairs[i][0], from = pairs[i][1];
		float change = first ? 0 : state[from] - history->previous[from];

		state[d] =
			fminf(fmaxf(change, state_features[d].lowest), state_features[d].highest);
	}
	memcpy(history->previous, state, sizeof(history->previous));
}

static void state_set(float state[STATE_SIZE], int feature, double value)
{
	state[feature] = (float)fmin(
		fmax(value, state_features[feature].lowest), state_features[feature].highest);
}

static double over(double from, double to)
{
	return to > 0 ? from / to : 1;
}

void state_move(float state[STATE_SIZE], const struct sample *from, const struct sample *to,
	const struct objective *objective, const struct state_place *place)
{
	static const int of_cpu[] = {
		STATE_cpu_use, STATE_d_cpu_use, STATE_demand, STATE_demand_mean, STATE_demand_max};
	const double cpu = over(sample_cpu_millicores(from), sample_cpu_millicores(to));
	const double memory =
		over((double)from->memory_limit_bytes, (double)to->memory_limit_bytes);

	for (size_t i = 0; i < sizeof(of_cpu) / sizeof(of_cpu[0]); i++)
		state_set(state, of_cpu[i], (double)state[of_cpu[i]] * cpu);
	state_set(state, STATE_memory_use, (double)state[STATE_memory_use] * memory);
	state_set(state, STATE_cpu_limit,
		log_between(sample_cpu_millicores(to), objective->cpu_min_millicores,
			objective->cpu_max_millicores));
	state_set(state, STATE_memory_limit,
		log_between((double)to->memory_limit_bytes, (double)objective->memory_min_bytes,
			(double)objective->memory_max_bytes));
	state_set(state, STATE_cpu_rung, place->cpu_rung / (double)(RUNG_COUNT - 1));
	state_set(state, STATE_last_cpu, place->last_cpu);
	state_set(state, STATE_last_memory, place->last_memory);
	state_set(state, STATE_since_action, log2(1 + (double)place->since_action) / 6);
}

struct demand state_demand(const float state[STATE_SIZE], const struct sample *sample)
{
	const double limit = sample_cpu_millicores(sample);
	const double containers = sample->containers ? sample->containers : 1;
	const float most = state_features[STATE_demand].highest;
	struct demand demand = {
		.usual = ((double)state[STATE_demand] + (double)state[STATE_demand_mean]) / 2 *
			 limit,
		.peak = (double)state[STATE_demand_max] * limit};

	if (sample->tick_s > 0 && (limit <= 0 || state[STATE_demand] >= most))
		demand.usual = fmax(demand.usual,
			(double)sample->cpu_used_us / (sample->tick_s * 1000) / containers);
	return demand;
}

/* What is set aside over what is needed, 0 when it is exactly that. */
static double slack(double set_aside, double needed)
{
	if (set_aside <= 0)
		return 0;
	return needed > 0 ? fmin(set_aside / needed, COST_MOST) : COST_MOST;
}

static double overshoot(const struct sample *sample, const struct objective *objective)
{
	const double asked = (double)(sample->requests + sample->requests_failed);
	double late = 0, share_over = 1;

	if (asked > 0)
		share_over = (double)(sample->requests_over + sample->requests_failed) / asked;
	/* Broken objectives are rare; how near a tick came to one says something every time. */
	if (!sample_violates(sample, objective))
		return asked > 0 ? 0.25 * share_over / sample_over_allowed(objective) : 0;
	/* Half for by how much the percentile is over, half for how many requests are. */
	if (sample->latency_objective_us > objective->latency_target_us)
		late = fmin(
			log2(sample->latency_objective_us / objective->latency_target_us) / 4, 1);
	return 0.5 + 0.25 * late + 0.25 * fmin(1, share_over);
}

float reward_compute(const struct sample *sample, const struct objective *objective,
	const struct state_history *history, uint32_t replicas,
	const struct reward_weights *weights)
{
	const double most = objective->replicas_max ? objective->replicas_max : 1;
	const double containers = sample->containers ? sample->containers : 1;
	const double price = history->violation_price > 0
				     ? history->violation_price
				     : price_start(objective->acceptable_violations);
	double cost = weights->replicas * replicas / most;
	double penalty = overshoot(sample, objective);

	if (sample->tick_s > 0) {
		/* An idle unit needs what it may not be cut under. */
		double needed = fmax(
			history->cpu_usual_millicores, objective->cpu_min_millicores * containers);

		cost += weights->cpu *
			slack((double)sample->cpu_allocated_us / (sample->tick_s * 1000), needed);
		cost += weights->refills * sample->refills / sample->tick_s / containers;
	}
	cost += weights->memory * slack((double)sample->memory_limit_bytes * containers,
					  (double)sample->memory_working_set_bytes);
	if (sample->oom_kills || sample->requests_failed)
		penalty += 1;
	return (float)(-(cost + price * penalty) / (1 + price));
}
