// SPDX-License-Identifier: Apache-2.0
/*
 * What is in force on a unit over one tick: its base limit and what the reflex may add to it. A
 * policy makes it, the agent and the simulator carry it out. All values are of one container.
 */
#ifndef EBBTIDE_PLAN_H
#define EBBTIDE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

/* The kernel's default CFS period; quota and refills are counted by it. */
#define PLAN_PERIOD_US 100000U

/* The reflex: when the unit is throttled and its oldest request is older, write the quota again. */
struct allowance {
	double trigger_age_share;    /* of the latency target; 0: no reflex */
	uint32_t refills_per_period; /* at most */
	double ceiling_millicores; /* CPU of a period, refills included; never over the declared limit */
};

struct plan {
	double cpu_millicores; /* base limit, or reservation; 0: none */
	/* The owner set no CPU limit: cpu_millicores is the request, and no limit is written. */
	bool reserves;
	uint64_t burst_us;     /* cpu.max.burst: unused quota that later periods may use */
	uint64_t memory_bytes; /* 0: none */
	struct allowance allowance;
	uint32_t cpu_rung;	/* the operating point that it is (common/rung.h); for the state */
	double violation_price; /* of a violated tick; for the reward; 0: not set */
};

#endif
