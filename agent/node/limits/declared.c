// SPDX-License-Identifier: Apache-2.0
#include "node/limits/declared.h"

#include "common/kube.h"
#include "common/log.h"
#include "common/quantity.h"
#include "node/agent.h"

#include <string.h>
#include <unistd.h>

static const json_t *find_named(const json_t *list, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach (list, i, one) {
		const char *found = kube_string(one, "name", NULL);

		if (found && strcmp(found, name) == 0)
			return one;
	}
	return NULL;
}

static const char *limit_text(const json_t *of, const char *resource)
{
	return kube_string(of, "resources", "limits", resource, NULL);
}

/* Of a container's spec or status, or a pod's; 0: none. */
static double limit_of(const json_t *of, const char *resource)
{
	const char *text = limit_text(of, resource);
	double millicores;
	uint64_t bytes;

	if (!text)
		return 0;
	if (strcmp(resource, "cpu") == 0)
		return quantity_parse_millicores(text, &millicores) ? 0 : millicores;
	return quantity_parse_bytes(text, &bytes) ? 0 : (double)bytes;
}

static double in_force(const json_t *spec, const json_t *status, const char *resource)
{
	double limit = limit_of(spec, resource);

	return limit_of(status, resource) == limit ? limit : 0;
}

void declared_read(
	struct declared *declared, const json_t *pod, const char *container, bool of_pod_only)
{
	const json_t *whole = kube_get(pod, "spec", NULL),
		     *whole_now = kube_get(pod, "status", NULL);
	const json_t *spec = find_named(kube_get(whole, "containers", NULL), container);
	const json_t *status =
		find_named(kube_get(whole_now, "containerStatuses", NULL), container);

	*declared = (struct declared){0};
	if (!spec)
		return;
	if (!limit_text(spec, "cpu"))
		declared->cpu_millicores = in_force(whole, whole_now, "cpu");
	else if (!of_pod_only)
		declared->cpu_millicores = in_force(spec, status, "cpu");
	if (!limit_text(spec, "memory"))
		declared->memory_bytes = in_force(whole, whole_now, "memory");
	else if (!of_pod_only)
		declared->memory_bytes = in_force(spec, status, "memory");
}

int64_t declared_burst_us(const struct cgroup_limits *original, uint64_t wanted_us,
	int64_t lowest_quota_us, int64_t highest_quota_us)
{
	int64_t own_us = original->cpu_burst_us > 0 ? original->cpu_burst_us : 0;
	int64_t room_us = original->cpu_quota_us + own_us - highest_quota_us;
	int64_t most_us = room_us < lowest_quota_us ? room_us : lowest_quota_us;

	if (most_us <= 0)
		return 0;
	if (wanted_us > (uint64_t)own_us)
		return wanted_us < (uint64_t)most_us ? (int64_t)wanted_us : most_us;
	return own_us < most_us ? own_us : most_us;
}

/* True: the cgroup's files said something else of the owner's limit. */
static bool take_cpu(struct container *container, double millicores)
{
	struct cgroup_limits *original = &container->original;
	int64_t quota_us = (int64_t)(millicores * (double)original->cpu_period_us / 1000 + 0.5);

	if (quota_us < ACTUATE_QUOTA_MIN_US)
		quota_us = ACTUATE_QUOTA_MIN_US;
	/* The node has none: quotas are off there, or the container has its CPUs for itself. */
	if (original->cpu_quota_us <= 0)
		return false;
	/* systemd keeps quotas in steps of a hundredth of the period and rounds up. */
	if (original->cpu_quota_us >= quota_us &&
		original->cpu_quota_us < quota_us + original->cpu_period_us / 100)
		return false;
	original->cpu_quota_us = quota_us;
	return true;
}

static bool take_memory(struct container *container, double bytes)
{
	struct cgroup_limits *original = &container->original;
	int64_t whole = (int64_t)bytes - (int64_t)bytes % sysconf(_SC_PAGESIZE);

	if (original->memory_max_bytes <= 0 || original->memory_max_bytes == whole)
		return false;
	original->memory_max_bytes = whole;
	return true;
}

bool declared_see(struct agent *agent, struct container *container, const json_t *pod)
{
	struct declared *known = &container->declared, now, before = *known;
	bool changed = false;

	/* With the resizer a container's limits in the pod are ours; those of the pod never are. */
	declared_read(&now, pod, container->name, agent->resizer != NULL);
	if (now.cpu_millicores > 0)
		known->cpu_millicores = now.cpu_millicores;
	if (now.memory_bytes > 0)
		known->memory_bytes = now.memory_bytes;
	if (known->cpu_millicores == before.cpu_millicores &&
		known->memory_bytes == before.memory_bytes)
		return false;
	/* Of a first look there is nothing to tell a change by. */
	if (before.cpu_millicores > 0 && known->cpu_millicores != before.cpu_millicores)
		changed |= take_cpu(container, known->cpu_millicores);
	if (before.memory_bytes > 0 && known->memory_bytes != before.memory_bytes)
		changed |= take_memory(container, known->memory_bytes);
	actuate_keep_original(agent, container);
	if (!changed)
		return false;
	log_notice("pod=%s container=%s event=\"the owner changed the pod's limits\" "
		   "cpu_millicores=%.0f memory_bytes=%.0f",
		container->pod, container->name, known->cpu_millicores, known->memory_bytes);
	agent->status.foreign_writes++;
	return true;
}

void declared_enforce(struct agent *agent, struct container *container)
{
	const struct cgroup_limits *original = &container->original, *now = &container->current;

	if (container->unit->has_plan)
		actuate_unit(agent, container->unit);
	else if (now->cpu_quota_us > original->cpu_quota_us ||
		 now->memory_max_bytes > original->memory_max_bytes)
		(void)actuate_restore_container(agent, container);
	allowance_apply(agent, container->unit);
}
