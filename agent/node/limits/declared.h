// SPDX-License-Identifier: Apache-2.0
/*
 * The limits that an owner declares in the pod, and the agent leaves there. The kubelet
 * writes an owner's new limit into the cgroup once, when the pod is resized; where a refill or a plan of
 * ours goes over that before the agent's next look, or no agent is there to see it, only the pod tells.
 */
#ifndef EBBTIDE_DECLARED_H
#define EBBTIDE_DECLARED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct agent;
struct cgroup_limits;
struct container;

/* Of one container; 0: none, or not known. */
struct declared {
	double cpu_millicores;
	double memory_bytes;
};

/*
 * As far as the kubelet says that they are in force: a resize may wait, or be refused. A limit of the pod
 * as a whole stands for the container that has none of its own, whose cgroup gets it as well.
 * @of_pod_only: no others.
 */
void declared_read(
	struct declared *declared, const json_t *pod, const char *container, bool of_pod_only);
/*
 * The pod as it is now: a limit other than what was declared before is the owner's from now on. True:
 * there is one, and what is in force may be over it.
 */
bool declared_see(struct agent *agent, struct container *container, const json_t *pod);
/*
 * The CFS burst that is wanted, or the owner's own where that is more, with a quota that is between
 * these two: quota and burst together never give a period more than the owner's own do, and the kernel
 * takes no burst over its quota.
 */
int64_t declared_burst_us(const struct cgroup_limits *original, uint64_t wanted_us,
	int64_t lowest_quota_us, int64_t highest_quota_us);
void declared_enforce(struct agent *agent, struct container *container);

#endif
