// SPDX-License-Identifier: Apache-2.0
/* From a container's resources to its cgroup. */
#ifndef EBBTIDE_LOCAL_LIMITS_H
#define EBBTIDE_LOCAL_LIMITS_H

#include <jansson.h>
#include <stddef.h>

#include "common/cgroup.h"

/*
 * Write the limits of @resources ({"limits": {"cpu", "memory"}}) to @cgroup where they differ
 * from @before (NULL: nothing is set yet). A write refills the quota, so what is unchanged is not
 * written. -errno with the failing limit in @error.
 */
int limits_apply(const struct cgroup_driver *driver, const char *cgroup, const json_t *resources,
	const json_t *before, char *error, size_t error_size);
/* "Guaranteed", "Burstable" or "BestEffort" of a pod spec. */
const char *limits_qos_class(const json_t *pod_spec);

#endif
