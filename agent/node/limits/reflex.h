// SPDX-License-Identifier: Apache-2.0
/*
 * The reflex's hands: a thread that the kernel wakes when a container is throttled with requests in
 * flight, that asks refill.h and the node's budget what to do, and writes the quota. docs/reflex.md.
 *
 * The thread takes only the reflex's own lock, never the agent's: a tick in progress does not delay
 * it. Functions here take that lock themselves and may be called with the agent's lock held. All
 * take NULL for a reflex that there is none of.
 */
#ifndef EBBTIDE_REFLEX_H
#define EBBTIDE_REFLEX_H

#include "common/cgroup.h"
#include "common/histogram.h"
#include "node/limits/refill.h"
#include "node/limits/spare.h"
#include "node/probes/probes.h"

#define REFLEX_PRIORITY_MAX 99

struct reflex;

struct reflex_config {
	uint32_t budget_millicores; /* 0: what the node has to spare */
	uint32_t stuck_refills;
	uint32_t priority; /* SCHED_RR; 0: as any thread */
};

/* Of one container since the last time it was asked. */
struct reflex_counts {
	uint32_t refills;
	uint32_t denied[REFILL_DENIAL_COUNT];
	uint64_t granted_us;
	uint64_t over_limit_us; /* CPU used over the limit in refilled periods, burst left out */
};

/* One refill, for people. */
struct reflex_event {
	uint32_t slot;
	uint32_t epoch;
	uint64_t at_ns; /* CLOCK_MONOTONIC, the write done */
	uint64_t throttled_ns;
	uint64_t oldest_ns;    /* age of the request it was for */
	uint64_t came_from_ns; /* which came between these: an age bucket */
	uint64_t came_until_ns;
	uint64_t grant_ns;
	uint64_t reaction_ns; /* since it was throttled and the request old enough */
	int64_t in_flight;
	uint32_t number; /* of its period */
};

struct reflex_status {
	bool is_on;
	uint32_t watched; /* containers looked at again by time */
	uint64_t wakes;	  /* of the thread */
	uint64_t looks;
	uint64_t refills;
	uint64_t denied[REFILL_DENIAL_COUNT];
	uint64_t events_lost; /* for people; what they tell of is counted */
	uint64_t budget_ns;   /* CPU time a second */
	uint64_t spent_ns;    /* of it, in the newest second */
	uint64_t cpu_ns;      /* that the thread has used */
	char priority[32];    /* what it runs at */
	uint32_t reaction[HIST_BUCKETS];
	uint64_t reaction_sum_ns;
};

/* -ENOTSUP without requests or a ring buffer to see: then there is no reflex on this kernel. */
int reflex_open(struct reflex **reflex, struct probes *probes, const struct cgroup_driver *driver,
	uint32_t max_slots, const struct reflex_config *config);
/* Quotas that are lowered for the rest of a period are put back first. */
void reflex_close(struct reflex *reflex);

/* The node's switch. */
void reflex_switch(struct reflex *reflex, bool is_on);
bool reflex_is_on(struct reflex *reflex);
void reflex_set_budget(struct reflex *reflex, uint32_t millicores);
/* Once a tick: what the node has to spare becomes the budget, if it is the one. */
void reflex_tick(struct reflex *reflex);
void reflex_status(struct reflex *reflex, struct reflex_status *status);

/*
 * A container joins, with its slot given out; @path and @share (its unit's) must stay until
 * reflex_leave(), which comes before the slot is taken back.
 */
void reflex_enter(struct reflex *reflex, uint32_t slot, const char *path, struct spare_share *share,
	const struct cgroup_limits *limits);
void reflex_leave(struct reflex *reflex, uint32_t slot);
void reflex_forget_share(struct reflex *reflex, struct spare_share *share);

/*
 * Around every other write of the container's quota: no refill comes between, and what the write
 * gives is accounted for. Release tells what is in force now. True: the slot has been looked at.
 */
bool reflex_hold(struct reflex *reflex, uint32_t slot);
void reflex_release(struct reflex *reflex, uint32_t slot, const struct cgroup_limits *limits);
/* The quota in the cgroup's file while it is held: the last refill of a period may have lowered it. */
int64_t reflex_quota_us(const struct reflex *reflex, uint32_t slot, int64_t base_us);

/*
 * What the container may have from now on; @allowance NULL: nothing. @target_us: the objective's.
 * @declared_us: the owner's quota. @expires_ns: CLOCK_MONOTONIC, 0 for never.
 */
void reflex_allow(struct reflex *reflex, uint32_t slot, const struct allowance *allowance,
	double target_us, int64_t declared_us, uint64_t expires_ns);

/* What happened since the last call. */
void reflex_collect(struct reflex *reflex, uint32_t slot, struct reflex_counts *counts);
/* The oldest refills not yet told of; how many. */
size_t reflex_events(struct reflex *reflex, struct reflex_event *events, size_t most);

#endif
