// SPDX-License-Identifier: Apache-2.0
/* From a container's resources to its cgroup. */
#ifndef EBBTIDE_LOCAL_LIMITS_H
#define EBBTIDE_LOCAL_LIMITS_H

#include <jansson.h>
#include <stddef.h>

#include "common/cgroup.h"

/*
 * Write @resources ({"limits": {"cpu", "memory"}, "requests": {"cpu"}}) to @cgroup where they differ
 * from @before (NULL: nothing is set yet). A write refills the quota, so what is unchanged is not
 * written. -errno with the failing one in @error.
 */
int limits_apply(const struct cgroup_driver *driver, const char *cgroup, const json_t *resources,
	const json_t *before, char *error, size_t error_size);
/*
 * The weight of the pod's own cgroup: by the requests of all its containers together, as the kubelet
 * sets it. -errno.
 */
int limits_apply_pod(
	const struct cgroup_driver *driver, const char *cgroup, const json_t *containers);
/* "Guaranteed", "Burstable" or "BestEffort" of a pod spec. */
const char *limits_qos_class(const json_t *pod_spec);

#endif
