// SPDX-License-Identifier: Apache-2.0
/*
 * State, actions and reward: the one table that names, orders, scales and bounds them. Agent,
 * learner, simulator, `ebbctl explain` and the tests all read it. docs/learning.md is its prose.
 *
 * Pure: no clock, file or global. Not thread-safe for one history; use one a unit.
 */
#ifndef EBBTIDE_STATE_H
#define EBBTIDE_STATE_H

#include "common/objective.h"
#include "common/rung.h"

#include <stdbool.h>
#include <stdint.h>

/* Raised whenever a feature or an action changes meaning; both ends and checkpoints carry it. */
#define STATE_SCHEMA 2

/* X(name, lowest, highest, what it is). All are dimensionless and clipped to the bounds. */
#define STATE_FEATURES(X)                                                                          \
	X(latency_p50, -3, 3, "log2 of p50 over the latency target, halved")                       \
	X(latency_p95, -3, 3, "log2 of p95 over the latency target, halved")                       \
	X(latency_p99, -3, 3, "log2 of the objective's percentile over its target, halved")        \
	X(over_share, 0, 1, "share of requests over the target, square root")                      \
	X(rate_change, -2, 2, "log2 of the request rate over its slow average")                    \
	X(in_flight, 0, 2, "requests in flight per replica, log2(1 + n) / 4")                      \
	X(cpu_use, 0, 2, "CPU used over the limit")                                                \
	X(throttled, 0, 2, "throttled time per container and tick, square root")                   \
	X(run_queue, 0, 2, "run-queue wait per CPU second, square root")                           \
	X(cpu_pressure, 0, 1, "CPU pressure (PSI some), share of the tick")                        \
	X(memory_pressure, 0, 1, "memory pressure (PSI some), share of the tick")                  \
	X(cpu_limit, 0, 1, "CPU limit between its bounds, log scale")                              \
	X(memory_use, 0, 1.5, "working set over the memory limit")                                 \
	X(reclaim, 0, 1, "time stalled in reclaim, share of the tick, square root")                \
	X(memory_limit, 0, 1, "memory limit between its bounds, log scale")                        \
	X(replicas, 0, 1, "replicas over their upper bound")                                       \
	X(target, -3, 3, "log10 of the latency target over 50 ms")                                 \
	X(last_cpu, -1, 1, "direction of the last CPU (or replica) action")                        \
	X(last_memory, -1, 1, "direction of the last memory action")                               \
	X(since_action, 0, 1, "ticks since an action that changed something, log2(1 + n) / 6")     \
	X(d_latency_p99, -2, 2, "change of latency_p99 since the last tick")                       \
	X(d_over_share, -1, 1, "change of over_share")                                             \
	X(cpu_rung, 0, 1, "operating point of the CPU in force, from the cheapest to the safest")  \
	X(d_cpu_use, -2, 2, "change of cpu_use")                                                   \
	X(d_throttled, -2, 2, "change of throttled")                                               \
	X(demand, 0, 3, "rate x CPU per request over the limit, now")                              \
	X(demand_mean, 0, 3, "its mean over the last ten ticks")                                   \
	X(demand_max, 0, 3, "its peak, which fades with a half-life of a minute")                  \
	X(demand_change, -2, 2, "log2 of demand over its mean")                                    \
	X(refills, 0, 2, "reflex refills a second, log2(1 + n) / 4")                               \
	X(violations, 0, 1, "share of the last 30 ticks over the objective, square root")          \
	X(violation_price, 0, 1, "what a violated tick costs now, log scale")

enum state_feature {
#define X(name, lowest, highest, text) STATE_##name,
	STATE_FEATURES(X)
#undef X
	STATE_SIZE,
};

struct state_feature_info {
	const char *name;
	float lowest;
	float highest;
	const char *text;
};
extern const struct state_feature_info state_features[STATE_SIZE];

/* Vertical actions: index = cpu step x ACTION_MEMORY_STEPS + memory step. */
#define ACTION_CPU_STEPS     3
#define ACTION_MEMORY_STEPS  3
#define ACTION_VERTICAL	     (ACTION_CPU_STEPS * ACTION_MEMORY_STEPS)
#define ACTION_VERTICAL_HOLD 4
/* Horizontal actions: replicas -1, 0, +1. */
#define ACTION_HORIZONTAL      3
#define ACTION_HORIZONTAL_HOLD 1

/* CPU moves along the ladder of common/rung.h, memory by a factor: x0.9, x1, x1.25. */
extern const double action_memory_factor[ACTION_MEMORY_STEPS];
/* "cpu-down memory-hold", ... */
const char *action_vertical_name(uint32_t action);
const char *action_horizontal_name(uint32_t action);
static inline int action_cpu_direction(uint32_t action)
{
	return (int)(action / ACTION_MEMORY_STEPS) - 1;
}
static inline int action_memory_direction(uint32_t action)
{
	return (int)(action % ACTION_MEMORY_STEPS) - 1;
}

/* What was measured over one tick; wire.proto's Sample says which fields add up over units. */
struct sample {
	double tick_s;
	uint64_t requests;
	uint64_t requests_over;
	uint64_t requests_failed;
	double latency_p50_us;
	double latency_p95_us;
	double latency_p99_us;
	double latency_objective_us;
	double in_flight;
	uint64_t cpu_used_us;
	uint64_t cpu_allocated_us;
	uint64_t throttled_us;
	uint64_t run_queue_us;
	uint64_t cpu_pressure_us;
	uint64_t memory_pressure_us;
	uint64_t reclaim_us;
	uint64_t memory_used_bytes;
	uint64_t memory_peak_bytes;
	uint64_t memory_working_set_bytes;
	uint32_t oom_kills;
	uint32_t containers;
	double cpu_limit_millicores; /* of one container; 0: none */
	uint64_t memory_limit_bytes; /* of one container; 0: none */
	uint32_t refills;
	uint32_t throttled_periods;	/* CFS periods in which quota ran out */
	double cpu_reserved_millicores; /* of one container whose owner set no limit; 0: has one */
};

/* Every field of it, each named the same in wire.proto: what is copied to and from the wire. */
#define SAMPLE_FIELDS(X)                                                                           \
	X(tick_s)                                                                                  \
	X(requests)                                                                                \
	X(requests_over)                                                                           \
	X(requests_failed)                                                                         \
	X(latency_p50_us)                                                                          \
	X(latency_p95_us)                                                                          \
	X(latency_p99_us)                                                                          \
	X(latency_objective_us)                                                                    \
	X(in_flight)                                                                               \
	X(cpu_used_us)                                                                             \
	X(cpu_allocated_us)                                                                        \
	X(throttled_us)                                                                            \
	X(run_queue_us)                                                                            \
	X(cpu_pressure_us)                                                                         \
	X(memory_pressure_us)                                                                      \
	X(reclaim_us)                                                                              \
	X(memory_used_bytes)                                                                       \
	X(memory_peak_bytes)                                                                       \
	X(memory_working_set_bytes)                                                                \
	X(oom_kills)                                                                               \
	X(containers)                                                                              \
	X(cpu_limit_millicores)                                                                    \
	X(memory_limit_bytes)                                                                      \
	X(refills)                                                                                 \
	X(throttled_periods)                                                                       \
	X(cpu_reserved_millicores)

/*
 * What is set aside for one container, in millicores: its CPU limit, or where there is none its
 * reservation. The state's and the ladder's "limit" is this.
 */
double sample_cpu_millicores(const struct sample *sample);
/* No CPU limit but a reservation: CPU beyond it is to be had while others leave it. */
bool sample_reserves(const struct sample *sample);
/* CPU that one container would have used had none of its tasks waited for a CPU. */
double sample_wanted_millicores(const struct sample *sample);
/* Add @other to @into; percentiles become means weighted by requests, limits by containers. */
void sample_merge(struct sample *into, const struct sample *other);
/* Add a later tick of the same unit or service: counts and times add up, gauges are the newest. */
void sample_extend(struct sample *into, const struct sample *next);
/* Share of requests over the target that the objective's percentile allows (p99: 0.01). */
double sample_over_allowed(const struct objective *objective);
/* Whether the tick broke the objective: answered requests and too many of them over. */
bool sample_violates(const struct sample *sample, const struct objective *objective);

#define STATE_HISTORY	 10
#define STATE_VIOLATIONS 30

/* What a unit (or service) remembers between ticks. Zero-initialise. */
struct state_history {
	bool started;
	double rate_average; /* requests a second, half-life about 60 ticks */
	double cpu_per_request_us;
	double cpu_usual_millicores; /* CPU used, of all containers, half-life about 60 ticks */
	uint32_t cpu_rung;	     /* in force */
	double violation_price;	     /* in force; 0: none yet */
	double demand_millicores[STATE_HISTORY];
	uint32_t demand_next;
	uint32_t demand_count;
	double demand_peak_millicores; /* fades with a half-life of a minute */
	uint32_t violation_bits;       /* newest in bit 0 */
	uint32_t ticks;
	uint32_t since_action;
	int last_cpu;
	int last_memory;
	float previous[STATE_SIZE];
};

/* Note an action that is now in force, before the next tick's state is built. */
void state_note_action(struct state_history *history, int cpu_direction, int memory_direction);
/* Which operating point is in force and what a violation costs (common/rung.h); the same. */
void state_note_plan(struct state_history *history, uint32_t cpu_rung, double violation_price);
/* The state after a tick; advances @history. */
void state_build(struct state_history *history, const struct sample *sample,
	const struct objective *objective, float state[STATE_SIZE]);

/* What of a state is a matter of the limits in force and of how they came about. */
struct state_place {
	uint32_t cpu_rung;
	uint32_t since_action;
	int last_cpu;
	int last_memory;
};
/*
 * The state that @from was made into, as it would be were @to's limits in force and all that was
 * measured the same. Of @objective the upper bounds are the owner's limits where these are lower, as for
 * state_build().
 */
void state_move(float state[STATE_SIZE], const struct sample *from, const struct sample *to,
	const struct objective *objective, const struct state_place *place);

/*
 * By a state and the sample it was made of: between the newest demand and its mean of ten ticks;
 * what was used, where that is out of range.
 */
struct demand state_demand(const float state[STATE_SIZE], const struct sample *sample);

/* Weights of the reward's cost. */
struct reward_weights {
	double cpu;	 /* of allocated CPU over the CPU that is used on average */
	double memory;	 /* of the memory limit over the working set */
	double replicas; /* of replicas over their upper bound */
	double refills;	 /* of a refill a second and container */
};
extern const struct reward_weights reward_defaults;

/*
 * Reward of a tick, at most 0:
 *	-(cost + price * (over + failure)) / (1 + price)
 * Cost is what is set aside over what is needed: CPU over its average use, memory over the working
 * set, replicas over their bound, and refills. over is 0.5 to 1 when the tick broke the objective, by
 * how far, else up to 0.25 by how near it came; failure is 1 with an OOM kill or a failed request. The price is the
 * history's, which the tick has gone into (state_build()). Falls in allocation and in overshoot;
 * at a high price violations decide, at a low one the cost.
 */
float reward_compute(const struct sample *sample, const struct objective *objective,
	const struct state_history *history, uint32_t replicas,
	const struct reward_weights *weights);

#endif
