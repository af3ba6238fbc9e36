// SPDX-License-Identifier: Apache-2.0
/*
 * Replicas that start: their CPU limit is not cut below a start-up value, because a start takes many
 * times the CPU of what comes after it, once. It is the agent that knows when, so it keeps to this
 * whatever plan is in force, also while the learner is silent; the learner hears of it and decides
 * nothing else meanwhile (rule `starting`, docs/envelope.md).
 */
#ifndef EBBTIDE_STARTING_H
#define EBBTIDE_STARTING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* A replica that is not ready after so long does not start, it waits for something else. */
#define STARTING_MOST_US (300 * 1000000ULL)
/* The first requests still load code and fill caches. */
#define STARTING_SERVED_US (2 * 1000000ULL)
/* Of one without a probe, of which only its first request says that it is ready. */
#define STARTING_IDLE_US (10 * 1000000ULL)

/* Times are CLOCK_MONOTONIC, 0: not yet. */
struct starting {
	bool is_new; /* it was seen to begin: others have started before anyone looked */
	uint64_t found_us;
	uint64_t ready_us;
	uint64_t served_us; /* its first request */
};

/* @is_known: it may have been there for long, unless it says that it is not ready. */
void starting_find(struct starting *starting, bool is_ready, bool is_known, uint64_t now_us);
/* Once it was ready it has started, whatever it says later. */
void starting_see_ready(struct starting *starting, bool is_ready, uint64_t now_us);
void starting_see_requests(struct starting *starting, uint64_t requests, uint64_t now_us);
bool starting_goes_on(const struct starting *starting, uint64_t now_us);

struct agent;
struct container;
struct unit;

/* Whether a pod says of its container that it is ready; @status: the container's in it. */
bool starting_is_ready(const json_t *pod, const json_t *status);
/* Once a tick, after the units are sampled and before they are reported; the lock is held. */
void starting_tick(struct agent *agent);
/* How many of the unit's containers start now. */
uint32_t starting_count(const struct unit *unit);
/* What the container's CPU limit is kept at while it starts, in millicores; 0: it does not. */
double starting_millicores(const struct container *container);

#endif
