// SPDX-License-Identifier: Apache-2.0
/*
 * The agent watches what its BPF programs cost the node. Now and then it turns on the kernel's
 * run-time statistics for a short window, adds up the time of all programs, and where that is more
 * than the operator's budget it looks less closely (enum detail_level), until it is well below.
 */
#ifndef EBBTIDE_BUDGET_H
#define EBBTIDE_BUDGET_H

#include "node/probes/detail.h"

#define BUDGET_PROGRAMS_MAX 32

/* The kernel's counters of one program. */
struct budget_counters {
	uint64_t run_time_ns;
	uint64_t runs;
};

struct budget_cost {
	double ns_per_run; /* without what the measuring itself takes */
	double runs_per_s;
};

/* Of the newest window; all zero before the first. */
struct budget_reading {
	double empty_ns; /* what a program that does nothing reads: the measuring's own time */
	double cores;	 /* kept busy by all programs */
	double share;	 /* of all the node's CPU time */
	struct budget_cost all;
	struct budget_cost programs[BUDGET_PROGRAMS_MAX]; /* in the order of probes_programs() */
	uint64_t windows;
};

/* Pure: the reading of a window of @window_s from the counters at its ends. Keeps windows. */
void budget_read(struct budget_reading *reading, const struct budget_counters *before,
	const struct budget_counters *after, size_t programs, double empty_ns, double window_s,
	int cpus);

/* Zero-initialise. */
struct budget_state {
	enum detail_level level;
	unsigned int calm;     /* windows in a row well below the budget */
	unsigned int relapses; /* times that coming up was too much, lately */
	bool came_up;	       /* at the last change */
};

/*
 * Pure: the level after a window in which the programs took @share of the node's CPU time, where
 * @budget is allowed; 0: any. Over it: one level less. At most half of it for some windows in a
 * row: one more; how many doubles with each time that this was too much.
 */
enum detail_level budget_decide(struct budget_state *state, double share, double budget);

struct budget;

/* Starts a timer; the first window comes after --probe-check-s. -errno. */
int budget_open(struct agent *agent, struct budget **budget);
void budget_close(struct budget *budget);
/* To poll; when it can be read, call budget_expired(). The latter takes the agent's lock. */
int budget_fd(const struct budget *budget);
void budget_expired(struct budget *budget);
/* The agent's lock is held. */
const struct budget_reading *budget_reading(const struct budget *budget);

#endif
