// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of the simulator share. Times are microseconds since the start.
 *
 * Running requests of a tier (all replicas of a service, one node) share its cores equally, each at
 * most one. `virtual_us` is the CPU time that a running request has got so far: it grows with
 * `rate`, which is 1 until there are more of them than cores. So a request that starts at v and
 * needs w ends at v + w, whatever comes and goes in between, and a replica's quota runs dry at a
 * virtual time known beforehand: no event changes a request but its own. A throttled replica stands
 * still at `frozen_us`; what it runs is moved on by what it missed when it runs again.
 */
#ifndef EBBTIDE_SIMULATE_MODEL_H
#define EBBTIDE_SIMULATE_MODEL_H

#include "learner/simulator/simulate_load.h"

#include <math.h>
#include <string.h>

#define PERIOD_US      ((double)PLAN_PERIOD_US)
#define QUOTA_LEAST_US 1000.0 /* the kernel takes no less */
#define CALLER_CLIENT  UINT32_MAX
#define CALLER_STARTUP (UINT32_MAX - 1) /* not a request: what a replica does before it is ready */
#define CACHE_LINE     64		/* hot structures begin on one: up to a third faster */
#define LATER_NONE     (-1.0F)

/* A request that has a worker. */
struct flight {
	double until_us; /* virtual time at which its CPU work ends; time at which its wait ends */
	double arrived_us;
	float later_us; /* CPU work after its wait or call; LATER_NONE: past those */
	uint32_t caller;
};

/* Requests in the order of until_us: [first, first + count) of [room]. */
struct line {
	struct flight *at;
	uint32_t first;
	uint32_t count;
	uint32_t room;
};

/* A request that has none yet. */
struct waiting {
	double arrived_us;
	float work_us;
	uint32_t caller;
};

enum replica_phase {
	REPLICA_NONE,
	REPLICA_STARTING,
	REPLICA_WARMING, /* the CPU work of its start */
	REPLICA_READY,
	REPLICA_DRAINING,
};

struct replica {
	struct line running;
	double charged_us; /* virtual time up to which left_us and used_us are right */
	double left_us;	   /* of the quota; infinite without one; below 0 a debt */
	double used_us;	   /* of CPU, in this period */
	double slowdown;   /* time over CPU time: what reclaim adds; at least 1 */
	uint32_t busy;	   /* workers that are: running, waiting or calling */
	uint32_t queued;
	uint32_t queue_first;
	uint32_t in_flight_peak; /* of the period */
	bool throttled;
	bool overrun;	       /* the quota is used up, the tick that sees it is still to come */
	struct waiting *queue; /* ring of the tier's queue_room */

	/* What changes at most a few times a period. */
	enum replica_phase phase;
	uint32_t incarnation;
	double frozen_us;    /* virtual time at which it was throttled */
	double frozen_at_us; /* and time */
	double throttled_us; /* time up to which its throttling is accounted */
	double quota_us;     /* infinite: none */
	double burst_us;
	double highest_us; /* quota in force in this period; 0: none */
	double period_from_us;
	double period_end_us;
	double reserved_us;   /* time up to which its reservation is accounted */
	double used_seen_us;  /* of used_us, in the sample */
	double allocated_us;  /* of this period, in the sample */
	double reflex_us;     /* when the reflex writes; infinite: it does not */
	double overrun_us;    /* when the tick sees the dry quota, or infinite */
	double tick_phase_us; /* of the scheduler's ticks */
	double ready_us;      /* end of its start-up, or infinite */
	uint32_t refills;     /* in this period */
	double born_us;
	double memory_used;
	double memory_working_set;
	double memory_peak;  /* in the tick */
	double memory_limit; /* in force: the plan's, or what it was raised to; infinite: none */
	double memory_stalled_us; /* by it, in the window that goes on */
	uint32_t memory_looks;	  /* at that */

	struct line away;    /* in their wait */
	struct flight *call; /* [workers], in a call; arrived_us is infinite where free */
	uint16_t *call_free; /* stack of free ones */
	uint32_t call_free_count;
} __attribute__((aligned(CACHE_LINE)));

/* What a tick adds up. */
struct tier_counts {
	uint64_t answered;
	uint64_t over;
	uint64_t failed;
	double used_us;
	double allocated_us;
	double throttled_us;
	double run_queue_us;
	double cpu_pressure_us;
	double reclaim_us;
	double memory_pressure_us;
	uint32_t oom_kills;
	uint32_t refills;
	uint32_t throttled_periods;
};

struct tier {
	/* The path of every request. */
	double now_us;
	double virtual_us;
	double rate; /* virtual over real time */
	double inverse_rate;
	double cpu_next_us; /* virtual time of the nearest end of work or of a quota */
	uint32_t cpu_index; /* of its replica */
	uint32_t slots;	    /* replicas are in the first so many */
	double timer_next_us;
	double runnable; /* requests that run or wait for a core, throttled ones not */
	double cores;	 /* what neighbours leave, or what the weights give */
	double target_us;
	uint32_t workers;
	uint32_t queue_room; /* power of two above the backlog */
	uint32_t backlog;
	uint32_t ready_count;
	uint32_t cursor;
	bool round_robin;
	bool plain;	/* a request is one stretch of CPU work */
	bool contended; /* neighbours want CPU by weight */
	struct tier_counts counts;
	double cpu_at_us[SIMULATE_REPLICAS_MAX]; /* virtual; infinite */
	double timer_at_us[SIMULATE_REPLICAS_MAX];
	uint32_t in_flight[SIMULATE_REPLICAS_MAX];
	uint8_t ready[SIMULATE_REPLICAS_MAX]; /* those that take requests */
	struct replica replica[SIMULATE_REPLICAS_MAX];
	uint32_t latency[HIST_BUCKETS];

	struct simulate_service service;
	struct plan plan;
	double memory_most;  /* of struct simulate_input */
	double neighbour_us; /* when neighbours come or go */
	bool neighbour_busy;
	bool has_plan;
	bool reserves;		 /* has weights, no quota */
	double room;		 /* cores that weights share */
	double reserved_cores;	 /* of a replica */
	double weight;		 /* of a replica */
	double neighbour_weight; /* of all of them */
	uint32_t index;
	struct random_state random;
	struct sampler work;
	struct sampler wait;
} __attribute__((aligned(CACHE_LINE)));

struct simulation {
	struct simulate_config config;
	double now_us;
	struct tier *tier; /* [services] */
	struct load load;
	struct sampler gap;
	struct sampler_normal normal;
	double *inverse; /* [replicas_max * workers + 1] of whole numbers */
	void *memory;	 /* flights, queues and stacks of all replicas */
	size_t memory_size;
	size_t tier_room;
	size_t inverse_room;
};

void tier_share_cores(struct tier *tier);

/* After what runs, or what may run, changed: replicas' lines are right already. */
static inline void tier_set_rate(const struct simulation *simulation, struct tier *tier)
{
	if (tier->contended)
		tier_share_cores(tier);
	if (tier->runnable <= tier->cores) {
		tier->rate = tier->inverse_rate = 1;
		return;
	}
	tier->rate = tier->cores * simulation->inverse[(uint32_t)tier->runnable];
	tier->inverse_rate = tier->runnable / tier->cores;
}

void tier_account_contention(struct tier *tier, double span_us);

static inline void tier_advance(struct tier *tier, double now_us)
{
	double span_us = now_us - tier->now_us;

	tier->virtual_us += span_us * tier->rate;
	tier->now_us = now_us;
	if (tier->runnable > tier->cores)
		tier_account_contention(tier, span_us);
}

/* Before what @replica runs changes. */
static inline void replica_charge(const struct tier *tier, struct replica *replica)
{
	double used_us;

	if (replica->throttled)
		return;
	used_us = replica->running.count * (tier->virtual_us - replica->charged_us);
	if (replica->slowdown != 1)
		used_us /= replica->slowdown;
	replica->charged_us = tier->virtual_us;
	replica->used_us += used_us;
	replica->left_us -= used_us;
}

/* After what a replica runs, or what may run, changed. */
static inline void tier_renew(
	const struct simulation *simulation, struct tier *tier, uint32_t index)
{
	const struct replica *replica = &tier->replica[index];
	const struct line *running = &replica->running;
	double next = INFINITY, best;
	uint32_t nearest = 0;

	if (running->count && !replica->throttled) {
		double dry = replica->charged_us + replica->left_us *
							   simulation->inverse[running->count] *
							   replica->slowdown;

		next = running->at[running->first].until_us;
		next = dry < next && !replica->overrun ? dry : next;
	}
	tier->cpu_at_us[index] = next;
	best = tier->cpu_at_us[0];
	for (uint32_t i = 1; i < tier->slots; i++) {
		nearest = tier->cpu_at_us[i] < best ? i : nearest;
		best = tier->cpu_at_us[i] < best ? tier->cpu_at_us[i] : best;
	}
	tier->cpu_next_us = best;
	tier->cpu_index = nearest;
}

/* hist_bucket() by the highest bit set; tests compare them. */
static inline uint32_t latency_bucket(double us)
{
	uint32_t value = us < (double)HIST_MAX_US ? (uint32_t)us : (uint32_t)HIST_MAX_US;
	uint32_t shift = 26 - (uint32_t)__builtin_clz(value | (2 * HIST_LINEAR - 1));

	return HIST_LINEAR * shift + (value >> shift);
}

static inline void line_put(struct line *line, const struct flight *flight)
{
	uint32_t place;

	if (line->first + line->count == line->room) {
		memmove(line->at, line->at + line->first, line->count * sizeof(*line->at));
		line->first = 0;
	}
	place = line->first + line->count++;
	while (place > line->first && line->at[place - 1].until_us > flight->until_us) {
		line->at[place] = line->at[place - 1];
		place--;
	}
	line->at[place] = *flight;
}

static inline struct flight line_take(struct line *line)
{
	line->count--;
	return line->at[line->first++];
}

static inline double random_exponential(struct random_state *random, double mean)
{
	return -mean * log1p(-random_uniform_double(random));
}

/* simulate_request.c: the way of a request */
void tier_run(struct simulation *simulation, struct tier *tier, double until_us);
void simulation_run_chain(struct simulation *simulation, double until_us);
void replica_wake(struct simulation *simulation, struct tier *tier, uint32_t index);
/* Put @work_us on a worker that was taken for it. */
void replica_start(struct simulation *simulation, struct tier *tier, uint32_t index,
	double arrived_us, double work_us, uint32_t caller);
/* All it has in flight fails. */
void replica_fail_all(struct simulation *simulation, struct tier *tier, uint32_t index);

/* simulate_quota.c: CFS bandwidth and the reflex */
void replica_run_dry(struct simulation *simulation, struct tier *tier, uint32_t index);
void replica_see_dry(struct simulation *simulation, struct tier *tier, uint32_t index);
void replica_throttle(struct simulation *simulation, struct tier *tier, uint32_t index);
void replica_account_throttled(struct tier *tier, struct replica *replica);
void replica_settle(struct tier *tier, struct replica *replica);
void replica_write_quota(
	struct simulation *simulation, struct tier *tier, uint32_t index, const struct plan *plan);
/* In force from now on; what changed is written. */
void tier_set_plan(struct simulation *simulation, struct tier *tier, const struct plan *plan);
void replica_reflex(struct simulation *simulation, struct tier *tier, uint32_t index);
void replica_turn_period(struct simulation *simulation, struct tier *tier, uint32_t index);

/* simulate_weight.c: a service without a CPU limit, and its neighbours */
void tier_init_weights(struct tier *tier);
/* Neighbours came or went: @room is what the weights share now. */
void tier_contend(struct simulation *simulation, struct tier *tier, double room);
/* What each replica reserves from now on. */
void tier_reserve(struct simulation *simulation, struct tier *tier, double millicores);

/* simulate_replica.c: life, timers and memory of replicas */
void tier_scale(struct simulation *simulation, struct tier *tier, uint32_t wanted);
void tier_set_timer(struct tier *tier, uint32_t index);
void tier_run_timers(struct simulation *simulation, struct tier *tier);
void replica_set_ready(struct tier *tier, uint32_t index);
/* What is in use under the limit now; may kill it. */
void replica_remember(struct simulation *simulation, struct tier *tier, uint32_t index);
/* The plan's memory limit comes into force again; true: it is another one. */
bool replica_limit_memory(struct tier *tier, uint32_t index);

#endif
