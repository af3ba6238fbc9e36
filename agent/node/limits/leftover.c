// SPDX-License-Identifier: Apache-2.0
#include "node/limits/leftover.h"

#include "common/log.h"
#include "node/agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Whether a container of ours is @path, or below it. */
static bool is_ours(const struct agent *agent, const char *path)
{
	size_t length = strlen(path);

	for (uint32_t slot = 0; slot < agent->config.max_slots; slot++) {
		const struct container *owner = agent->owners[slot];

		if (owner && strncmp(owner->path, path, length) == 0 &&
			(owner->path[length] == '\0' || owner->path[length] == '/'))
			return true;
	}
	return false;
}

static int write_limits(const struct cgroup_driver *driver, const char *path,
	const struct cgroup_limits *original, struct cgroup_limits *now)
{
	struct cgroup_limit_files files = {0};
	int err = cgroup_change_cpu(driver, path, &files, now, original->cpu_quota_us,
		original->cpu_period_us, original->cpu_burst_us);

	cgroup_close_limits(&files);
	if (!err && original->memory_max_bytes != now->memory_max_bytes)
		err = cgroup_write_memory_max(driver, path, original->memory_max_bytes);
	if (!err && original->memory_high_bytes != now->memory_high_bytes)
		err = cgroup_write_memory_high(driver, path, original->memory_high_bytes);
	if (!err && original->cpu_weight > 0 && original->cpu_weight != now->cpu_weight)
		err = cgroup_write_cpu_weight(driver, path, original->cpu_weight);
	return err;
}

/* The container's own; 1, 0 where it is gone or had them, or -errno. */
static int container_back(const struct agent *agent, const char *path, const json_t *kept)
{
	struct container was = {0};
	struct cgroup_limits before;
	uint64_t unified, cpu, memory;
	int err;

	if (cgroup_read_ids(&agent->driver, path, &unified, &cpu, &memory) ||
		cgroup_read_limits(&agent->driver, path, &was.current) ||
		!actuate_read_kept(kept, cpu, &was))
		return 0;
	before = was.current;
	err = write_limits(&agent->driver, path, &was.original, &was.current);
	/* It went just now. */
	if (err)
		return err == -ENOENT || err == -ENODEV ? 0 : err;
	return before.cpu_quota_us != was.original.cpu_quota_us ||
	       before.memory_max_bytes != was.original.memory_max_bytes ||
	       before.memory_high_bytes != was.original.memory_high_bytes ||
	       before.cpu_weight != was.original.cpu_weight;
}

/* Its pod may be there without it, and start another. */
static void pod_back(const struct agent *agent, const char *path, const json_t *kept)
{
	int64_t weight = json_integer_value(json_object_get(kept, "pod_cpu_weight")), now;
	const char *end = strrchr(path, '/');
	char pod[CGROUP_PATH_MAX];

	if (weight <= 0 || !end || end == path)
		return;
	snprintf(pod, sizeof(pod), "%.*s", (int)(end - path), path);
	if (!is_ours(agent, pod) && cgroup_read_cpu_weight(&agent->driver, pod, &now) == 0 &&
		now != weight)
		(void)cgroup_write_cpu_weight(&agent->driver, pod, weight);
}

unsigned int leftover_settle(struct agent *agent)
{
	unsigned int restored = 0;
	const char *path;
	json_t *kept;
	void *next;

	json_object_foreach_safe(agent->originals, next, path, kept)
	{
		int back;

		if (path[0] != '/' || is_ours(agent, path))
			continue;
		back = container_back(agent, path, kept);
		pod_back(agent, path, kept);
		if (back < 0) {
			log_err("cgroup=%s error=\"cannot write the owner's limits back: %s\"",
				path, strerror(-back));
			continue;
		}
		if (back)
			log_notice("cgroup=%s event=\"limits of a container that is not known\" "
				   "effect=\"the owner's written back\"",
				path);
		restored += (unsigned int)back;
		agent->originals_changed = true;
		json_object_del(agent->originals, path);
	}
	agent->status.restored += restored;
	return restored;
}
