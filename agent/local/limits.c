// SPDX-License-Identifier: Apache-2.0
#include "local/limits.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/quantity.h"
#include "local/api/object.h"

#define CPU_PERIOD_US	 100000
#define CPU_QUOTA_MIN_US 1000 /* the kernel's least */

static bool same_text(const char *a, const char *b)
{
	return (!a && !b) || (a && b && !strcmp(a, b));
}

static int apply_cpu(const struct cgroup_driver *driver, const char *cgroup, const char *text)
{
	int64_t quota_us = CGROUP_UNLIMITED;
	double millicores;

	if (text) {
		int err = quantity_parse_millicores(text, &millicores);

		if (err)
			return err;
		quota_us = (int64_t)(millicores * CPU_PERIOD_US / 1000.0 + 0.5);
		if (quota_us < CPU_QUOTA_MIN_US)
			quota_us = CPU_QUOTA_MIN_US;
	}
	return cgroup_write_cpu_quota(driver, cgroup, quota_us, CPU_PERIOD_US);
}

static int apply_memory(const struct cgroup_driver *driver, const char *cgroup, const char *text)
{
	uint64_t bytes;
	int err;

	if (!text)
		return cgroup_write_memory_max(driver, cgroup, CGROUP_UNLIMITED);
	err = quantity_parse_bytes(text, &bytes);
	return err ? err : cgroup_write_memory_max(driver, cgroup, (int64_t)bytes);
}

int limits_apply(const struct cgroup_driver *driver, const char *cgroup, const json_t *resources,
	const json_t *before, char *error, size_t error_size)
{
	static const struct {
		const char *name;
		int (*apply)(
			const struct cgroup_driver *driver, const char *cgroup, const char *text);
	} limits[] = {{"memory", apply_memory}, {"cpu", apply_cpu}};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const char *text = object_string(resources, "limits", limits[i].name, NULL);
		int err;

		if (same_text(text, object_string(before, "limits", limits[i].name, NULL)))
			continue;
		err = limits[i].apply(driver, cgroup, text);
		if (err) {
			snprintf(error, error_size, "%s limit %s of cgroup %s: %s%s",
				limits[i].name, text ? text : "none", cgroup, strerror(-err),
				err == -EBUSY ? " (more memory is in use)" : "");
			return err;
		}
	}
	return 0;
}

const char *limits_qos_class(const json_t *pod_spec)
{
	static const char *const names[] = {"cpu", "memory"};
	bool any = false, guaranteed = true;
	const json_t *container;
	size_t index;

	json_array_foreach (json_object_get(pod_spec, "containers"), index, container) {
		for (size_t i = 0; i < 2; i++) {
			const char *limit =
				object_string(container, "resources", "limits", names[i], NULL);
			const char *request =
				object_string(container, "resources", "requests", names[i], NULL);

			any |= limit || request;
			if (!limit || (request && strcmp(limit, request)))
				guaranteed = false;
		}
	}
	return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}
