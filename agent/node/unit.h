// SPDX-License-Identifier: Apache-2.0
/*
 * The agent's picture of its node: units, their containers, the objectives. One lock guards all of
 * it (struct agent's); functions below expect the caller to hold it unless they say otherwise.
 */
#ifndef EBBTIDE_UNIT_H
#define EBBTIDE_UNIT_H

#include "common/cgroup.h"
#include "common/cpu_weight.h"
#include "common/histogram.h"
#include "common/objective.h"
#include "common/plan.h"
#include "common/state.h"
#include "node/limits/declared.h"
#include "node/limits/refill.h"
#include "node/limits/resize.h"
#include "node/limits/spare.h"
#include "node/limits/starting.h"
#include "node/probes/probes.h"
#include "node/signals.h"
#include "node/usage.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define UNIT_NAME_MAX OBJECTIVE_NAME_MAX

/* Counters of a container at the last tick, to take differences from. */
struct container_before {
	uint64_t cpu_used_ns;
	uint64_t run_queue_ns;
	uint64_t throttled_ns;
	uint64_t throttled_periods;
	uint64_t burst_ns;
	uint64_t reclaim_ns;
	uint64_t oom_kills;
	uint64_t requests;
	uint64_t requests_over;
	uint64_t requests_failed;
	uint64_t cpu_pressure_us;
	uint64_t memory_pressure_us;
};

/* What one tick adds up from the containers of a unit. */
struct tick {
	struct sample sample;
	uint64_t latencies; /* in the histogram */
	uint32_t latency[HIST_BUCKETS];
	struct signals signals;
};

struct unit;

/* What is reserved for a container whose owner set no CPU limit (reserve.h), and its pod's weight. */
struct container_reserve {
	enum cpu_weight_scale scale;	 /* of its own weight */
	enum cpu_weight_scale pod_scale; /* of its pod's */
	double declared_millicores;	 /* in the pod's spec; 0: no request */
	double pod_declared_millicores;	 /* of the pod as a whole (pod_requests()) */
	double requested_millicores;	 /* that its owner's weight stands for */
	double millicores;		 /* in force */
	int64_t pod_weight_original;	 /* CGROUP_UNLIMITED: not known, and left alone */
	int64_t pod_weight;
};

/* The newest refills, to know a request by that one of them was for. */
#define REFILLS_KEPT 8

struct container {
	struct unit *unit;
	char pod[UNIT_NAME_MAX];
	char pod_uid[64];
	char name[64];
	char id[128]; /* containerID as the API gives it */
	char path[CGROUP_PATH_MAX];
	struct probes_attachment attachment;
	struct container_before before;
	struct signals_before signals_before;
	struct usage_files usage_files;
	struct cgroup_limits original; /* the owner's, to be restored */
	struct cgroup_limits current;  /* as last written or read */
	struct container_resize resize;
	struct declared declared; /* by the owner, in the pod */
	struct container_reserve reserve;
	double limit_us_in_tick; /* quota x time of this tick, for the allocation */
	uint64_t limit_since_us; /* CLOCK_MONOTONIC of the newest change */
	uint64_t memory_working_set_bytes;
	double requests_per_s; /* in the newest tick */
	uint32_t sole_process; /* the only one; 0: not known, none or several */
	uint64_t sole_seen_us; /* when that was looked up */
	int pressure_fd;       /* its PSI trigger; 0: none */
	struct cgroup_limit_files limit_files;
	/* Came in between: the requests of the newest refills, while they are traced. */
	uint64_t refilled_from_ns[REFILLS_KEPT];
	uint64_t refilled_until_ns[REFILLS_KEPT];
	uint32_t refilled_next;
	struct starting starting;
	bool is_starting;     /* as of the newest tick */
	bool reflex_is_stuck; /* likewise */
	bool has_answered;    /* requests, in the newest tick */
	bool sampled;	      /* before is valid */
	bool seen;	      /* mark and sweep of discovery */
};

/* Which requests someone wants told of one by one; all zero: none. */
struct trace_choice {
	uint64_t slower_us; /* at least this slow; 0: not for that */
	uint64_t one_in;    /* one in so many, whatever its latency; 0: none */
	bool errors;	    /* HTTP 5xx, gRPC errors, no answer */
};

struct trace_exemplar;

struct unit {
	char namespace[64];
	char service[UNIT_NAME_MAX];
	struct container **containers;
	size_t container_count;
	struct objective objective;
	bool has_objective;

	/* Of the newest tick. */
	struct sample sample;
	struct state_history history;
	float state[STATE_SIZE];
	float previous_state[STATE_SIZE];
	struct signals_shown signals;
	uint64_t oldest_request_us; /* in flight */
	bool has_state;
	bool has_previous;
	float reward;

	/* In force since the last answer. */
	struct plan plan; /* of one container */
	bool has_plan;
	bool is_left; /* to something else that sets limits, by the learner's word: the owner's stay */
	uint64_t planned_us; /* CLOCK_MONOTONIC */
	uint32_t action;
	bool acted;		 /* action was carried out: the tick makes an experience */
	uint64_t action_number;	 /* of the newest action that came */
	uint64_t action_learner; /* whose number that is */
	char rule[64];
	char policy[POLICY_NAME_MAX];
	char why[192];
	uint64_t actions_cpu;
	uint64_t actions_memory;

	/* Since the agent found the unit. */
	uint64_t total_requests;
	uint64_t total_over;
	uint64_t total_failed;
	uint64_t total_used_us;
	uint64_t total_allocated_us;
	uint64_t total_throttled_us;
	uint64_t total_run_queue_us;
	uint64_t total_reclaim_us;
	uint64_t total_refills;
	uint64_t total_denied[REFILL_DENIAL_COUNT];
	uint64_t total_granted_us;
	uint64_t total_memory_raises;
	uint64_t total_oom_kills;
	uint64_t total_ticks;
	uint64_t total_violations;
	uint32_t total_latency[HIST_BUCKETS];
	struct octaves total_octaves; /* of it, without its wrap */
	struct signals_total signals_total;

	struct trace_choice trace;	  /* the operator's, for as long as the agent runs */
	uint64_t trace_lines;		  /* ever written */
	struct trace_exemplar *exemplars; /* one an octave; NULL: none yet */

	uint64_t empty_since_us;  /* without containers and objective; 0: with */
	struct spare_share share; /* of the refills' budget; the reflex's lock guards it */

	/* Of containers that ended since the last tick: counted in the next one. NULL: none did. */
	struct tick *ended;
};

struct units {
	struct unit **items;
	size_t count;
	size_t found; /* by units_find(): sought from there on */
};

/* Quick when asked in the order of @units, as answers to reports come. */
struct unit *units_find(struct units *units, const char *namespace, const char *service);
/* Finds or makes; NULL when out of memory. */
struct unit *units_get(struct units *units, const char *namespace, const char *service);
/* Frees the unit; its containers must be gone. */
void units_remove(struct units *units, struct unit *unit);
struct container *unit_find_container(const struct unit *unit, const char *id);
int unit_add_container(struct unit *unit, struct container *container);
/* Takes it out of the list; the caller frees. */
void unit_drop_container(struct unit *unit, struct container *container);

/* Whether it has containers, and no owner set a CPU limit for any: its CPU is a reservation. */
bool unit_reserves(const struct unit *unit);
/* Of one container, mean: in force, and the owners'. 0 where it is no reservation, or not known. */
double unit_reserved_millicores(const struct unit *unit);
double unit_requested_millicores(const struct unit *unit);

/* The declared limit of the containers in millicores and bytes; 0 where the owner set none. */
double unit_declared_millicores(const struct unit *unit);
uint64_t unit_declared_bytes(const struct unit *unit);

uint64_t monotonic_us(void);
uint64_t unix_us(void);

#endif
