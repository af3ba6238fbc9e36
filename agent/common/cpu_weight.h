// SPDX-License-Identifier: Apache-2.0
/*
 * A CPU reservation (Kubernetes' request) as the kernel keeps it: cpu.shares on version 1, cpu.weight
 * on version 2. Both are proportions among siblings, so what we write must be what the node's other
 * cgroups were written by.
 *
 * Millicores to shares is the kubelet's MilliCPUToShares (kubernetes, pkg/kubelet/cm/helpers_linux.go):
 * 1024 for a CPU, rounded down, from 2 to 262144. Shares to weight is ConvertCPUSharesToCgroupV2Value
 * (opencontainers/cgroups, utils.go, in runc and the kubelet; crun has the same), of which there are two:
 *
 *	linear     1 + (shares - 2) * 9999 / 262142, rounded down: KEP-2254; a CPU becomes 39
 *	quadratic  10^((l^2 + 125 l) / 612 - 7 / 34), l = log2(shares), rounded up: runc from 1.3.2, crun
 *	           from 1.23; a CPU becomes 100, the kernel's default
 *
 * The kubelet writes a pod's cgroup, the runtime a container's, and they may differ in it. So which
 * one wrote a cgroup is told by its weight and a request that is known.
 *
 * Pure.
 */
#ifndef EBBTIDE_CPU_WEIGHT_H
#define EBBTIDE_CPU_WEIGHT_H

#include <stdint.h>

/* What the number in a cgroup's file is. */
enum cpu_weight_scale {
	CPU_WEIGHT_SHARES, /* version 1 */
	CPU_WEIGHT_LINEAR,
	CPU_WEIGHT_QUADRATIC,
};

/* What the kernel takes of a scale. */
int64_t cpu_weight_least(enum cpu_weight_scale scale);
int64_t cpu_weight_most(enum cpu_weight_scale scale);

/* The number that a request of @millicores becomes; no request is the least. */
int64_t cpu_weight_of(enum cpu_weight_scale scale, double millicores);
/* A request that becomes @weight: the least such; of the least weight 0, no request. */
double cpu_weight_millicores(enum cpu_weight_scale scale, int64_t weight);
/* By which of the two a @weight of version 2 was made of a request of @millicores: the nearer. */
enum cpu_weight_scale cpu_weight_scale_of(int64_t weight, double millicores);

#endif
