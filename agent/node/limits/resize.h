// SPDX-License-Identifier: Apache-2.0
/*
 * --actuator resize: limits are asked for with a patch of the pod's resize subresource, and the
 * kubelet writes the cgroup. Others say what they want under the agent's lock; one thread brings the
 * API server there without it, a container's next patch after the kubelet has carried out its last.
 */
#ifndef EBBTIDE_RESIZE_H
#define EBBTIDE_RESIZE_H

#include "common/cgroup.h"
#include "common/plan.h"
#include "node/limits/resize_spec.h"

#include <stdint.h>

struct agent;
struct container;
struct resizer;

/* Patches that the kubelet may still be at: what it writes into the cgroup for them is ours. */
#define RESIZE_ASKED 4

struct container_resize {
	struct resize_spec spec;
	bool known; /* spec was read */
	bool in_flight;
	uint64_t
		version; /* resourceVersion after our newest patch: older news are not the owner's */
	uint64_t sent_us; /* CLOCK_MONOTONIC of it; 0: none */
	uint64_t retry_at_us;
	uint32_t failures;
	char pending[24]; /* why the kubelet does not do what was asked for; "": it does */
	struct cgroup_limits asked[RESIZE_ASKED]; /* quota and memory_max; 0: not asked for */
	double asked_request[RESIZE_ASKED];	  /* millicores; 0: the same */
	uint32_t asked_next;
};

int resize_open(struct agent *agent);
/*
 * Sends what is wanted still, once, for 15 s at most; where that fails the owner's limits are
 * written to the cgroup. Then the thread ends. Takes the lock.
 */
void resize_close(struct agent *agent);

/* The rest with the lock held; @pod is the container's. */
void resize_adopt(struct agent *agent, struct container *container, const json_t *pod);
/* The pod is there; its end; NULL: of all that this agent has not seen, once it has the list. */
void resize_see_pod(struct agent *agent, const char *pod_uid);
void resize_forget_pod(struct agent *agent, const char *pod_uid);
void resize_forget(struct agent *agent, const struct container *container);
void resize_observe(struct agent *agent, struct container *container, const json_t *pod);
/* Want what a limit of @quota_us and @memory_bytes comes to, or a request; 0: as it is. */
void resize_ask(struct agent *agent, struct container *container, int64_t quota_us,
	double request_millicores, int64_t memory_bytes);
/* Want the owner's limits; true when something else was wanted. */
bool resize_restore(struct agent *agent, struct container *container);
/* Whether the kubelet, doing what it was asked to, writes this value. */
bool resize_wrote_quota(const struct container *container, int64_t quota_us);
bool resize_wrote_weight(const struct container *container, int64_t weight);
bool resize_wrote_memory(const struct container *container, int64_t bytes);

#endif
