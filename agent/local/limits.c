// SPDX-License-Identifier: Apache-2.0
#include "local/limits.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/cpu_weight.h"
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

/* As the kubelet and a current runtime do: what has no request gets the least. */
static int write_weight(const struct cgroup_driver *driver, const char *cgroup, double millicores)
{
	enum cpu_weight_scale scale =
		driver->layout == CGROUP_LAYOUT_HYBRID ? CPU_WEIGHT_SHARES : CPU_WEIGHT_QUADRATIC;

	return cgroup_write_cpu_weight(driver, cgroup, cpu_weight_of(scale, millicores));
}

static int apply_request(const struct cgroup_driver *driver, const char *cgroup, const char *text)
{
	double millicores = 0;
	int err = text ? quantity_parse_millicores(text, &millicores) : 0;

	return err ? err : write_weight(driver, cgroup, millicores);
}

static const struct {
	const char *list;
	const char *name;
	int (*apply)(const struct cgroup_driver *driver, const char *cgroup, const char *text);
} applied[] = {
	{"limits", "memory", apply_memory},
	{"limits", "cpu", apply_cpu},
	{"requests", "cpu", apply_request},
};

int limits_apply(const struct cgroup_driver *driver, const char *cgroup, const json_t *resources,
	const json_t *before, char *error, size_t error_size)
{
	for (size_t i = 0; i < sizeof(applied) / sizeof(applied[0]); i++) {
		const char *list = applied[i].list, *name = applied[i].name;
		const char *text = object_string(resources, list, name, NULL);
		bool is_request = applied[i].apply == apply_request;
		int err;

		/* A new cgroup has no limit, but the kernel's usual weight. */
		if (same_text(text, object_string(before, list, name, NULL)) &&
			(before || !is_request))
			continue;
		err = applied[i].apply(driver, cgroup, text);
		if (err) {
			snprintf(error, error_size, "%s %s %s of cgroup %s: %s%s", name,
				is_request ? "request" : "limit", text ? text : "none", cgroup,
				strerror(-err), err == -EBUSY ? " (more memory is in use)" : "");
			return err;
		}
	}
	return 0;
}

int limits_apply_pod(
	const struct cgroup_driver *driver, const char *cgroup, const json_t *containers)
{
	const json_t *container;
	double sum = 0;
	size_t index;

	json_array_foreach (containers, index, container) {
		const char *text = object_string(container, "resources", "requests", "cpu", NULL);
		double millicores;

		if (text && quantity_parse_millicores(text, &millicores) == 0)
			sum += millicores;
	}
	return write_weight(driver, cgroup, sum);
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
			if (!limit || (request && strcmp(limit, request) != 0))
				guaranteed = false;
		}
	}
	return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}
