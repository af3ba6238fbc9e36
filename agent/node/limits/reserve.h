// SPDX-License-Identifier: Apache-2.0
/*
 * Reservations: what a container without a CPU limit has. In the API it is the request, in the kernel
 * a weight (common/cpu_weight.h) of the container among its pod's and of the pod among the node's, so
 * both are moved: the pod's by as much as its containers' reservations. With --actuator resize the
 * kubelet writes both, and here is only seen what it wrote.
 *
 * All with the agent's lock held.
 */
#ifndef EBBTIDE_RESERVE_H
#define EBBTIDE_RESERVE_H

#include "node/unit.h"

#include <jansson.h>

struct agent;

/* Of the container's pod as it is now: its own request. */
void reserve_see_pod(struct container *container, const json_t *pod);
/*
 * The container was found and its weights are known (actuate_adopt()): which formula made them, and
 * what is reserved.
 */
void reserve_adopt(struct agent *agent, struct container *container);
/* Its pod's cgroup, one above its own; false when that is not the pod's. */
bool reserve_pod_path(const struct container *container, char *path, size_t size);
/* Write a reservation to container and pod, where it is another. At most all of the node's CPUs. */
int reserve_write(struct agent *agent, struct container *container, double millicores);
/* The container is gone, and out of its unit: its pod, which may start another, has its share less. */
void reserve_leave(struct agent *agent, struct container *container);
/*
 * The owner's weight of a pod, of which another container is in @originals: one that has started
 * again has a cgroup of its own in a pod that has our weight still. CGROUP_UNLIMITED: none is.
 */
int64_t reserve_pod_original(const json_t *originals, const char *pod_path);
/* The owner's weights back. */
int reserve_restore(struct agent *agent, struct container *container);
/* Once a tick: a weight that someone else has changed is the owner's from then on. */
void reserve_verify(struct agent *agent, struct container *container);
/* All CPUs of the node, which no reservation is over. */
double reserve_most_millicores(void);

#endif
