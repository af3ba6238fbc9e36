// SPDX-License-Identifier: Apache-2.0
/*
 * Limits in and out. The owner's limits are kept on disk before the first change, so that an agent
 * that was killed still knows them; they are written back when it leaves.
 */
#include "common/log.h"
#include "node/agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGINALS_FILE "originals.json"
/* The kernel's smallest quota (min_cfs_quota_period). */
#define QUOTA_MIN_US 1000
/* Never below what is in use plus this: a lower limit would mean reclaim or an OOM kill. */
#define MEMORY_MARGIN_SHARE 0.1
#define MEMORY_MARGIN_BYTES (4 << 20)

int64_t actuate_memory_limit(const struct cgroup_limits *limits)
{
	return limits->memory_high_bytes > 0 ? limits->memory_high_bytes : limits->memory_max_bytes;
}

static json_t *limits_to_json(const struct cgroup_limits *limits, uint64_t cpu_id)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "cgroup_id", (json_int_t)cpu_id,
		"cpu_quota_us", (json_int_t)limits->cpu_quota_us, "cpu_period_us",
		(json_int_t)limits->cpu_period_us, "cpu_burst_us", (json_int_t)limits->cpu_burst_us,
		"memory_max_bytes", (json_int_t)limits->memory_max_bytes, "memory_high_bytes",
		(json_int_t)limits->memory_high_bytes);
}

static bool limits_from_json(const json_t *kept, uint64_t cpu_id, struct cgroup_limits *limits)
{
	json_int_t id, quota, period, burst, maximum, high;

	if (json_unpack((json_t *)kept, "{s:I, s:I, s:I, s:I, s:I, s:I}", "cgroup_id", &id,
		    "cpu_quota_us", &quota, "cpu_period_us", &period, "cpu_burst_us", &burst,
		    "memory_max_bytes", &maximum, "memory_high_bytes", &high))
		return false;
	/* The path may have been reused by another cgroup. */
	if ((uint64_t)id != cpu_id || period <= 0)
		return false;
	limits->cpu_quota_us = quota;
	limits->cpu_period_us = period;
	limits->cpu_burst_us = burst;
	limits->memory_max_bytes = maximum;
	limits->memory_high_bytes = high;
	return true;
}

int actuate_load(struct agent *agent)
{
	char path[512];
	json_error_t error;

	snprintf(path, sizeof(path), "%s/%s", agent->config.state_directory, ORIGINALS_FILE);
	agent->originals = json_load_file(path, 0, &error);
	if (!json_is_object(agent->originals)) {
		if (access(path, F_OK) == 0)
			log_warning(
				"file=%s line=%d error=\"%s\" effect=\"limits found now are taken "
				"for the owners'\"",
				path, error.line, error.text);
		json_decref(agent->originals);
		agent->originals = json_object();
	}
	return agent->originals ? 0 : -ENOMEM;
}

int actuate_save(struct agent *agent)
{
	char path[512], temporary[520];

	snprintf(path, sizeof(path), "%s/%s", agent->config.state_directory, ORIGINALS_FILE);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	if (json_object_size(agent->originals) == 0) {
		if (unlink(path) != 0 && errno != ENOENT)
			return -errno;
		return 0;
	}
	if (json_dump_file(agent->originals, temporary, JSON_INDENT(1)) != 0 ||
		rename(temporary, path) != 0) {
		log_warning("file=%s error=\"%s\" effect=\"a killed agent would not know the "
			    "owners' limits\"",
			path, strerror(errno));
		return -EIO;
	}
	return 0;
}

int actuate_adopt(struct agent *agent, struct container *container)
{
	uint64_t cpu_id = probes_slot(agent->probes, container->attachment.slot)->cpu_id;
	int err = cgroup_read_limits(&agent->driver, container->path, &container->current);

	if (err)
		return err;
	if (limits_from_json(json_object_get(agent->originals, container->path), cpu_id,
		    &container->original))
		return 0;
	container->original = container->current;
	json_object_set_new(
		agent->originals, container->path, limits_to_json(&container->original, cpu_id));
	return 0;
}

void actuate_forget(struct agent *agent, struct container *container)
{
	json_object_del(agent->originals, container->path);
}

static int write_quota(
	struct agent *agent, struct container *container, int64_t quota_us, int64_t period_us)
{
	int err;

	/* A write is a refill even when the value is the same: compare first. */
	if (quota_us == container->current.cpu_quota_us &&
		period_us == container->current.cpu_period_us)
		return 0;
	err = cgroup_write_cpu_quota(&agent->driver, container->path, quota_us, period_us);
	if (err)
		return err;
	sample_note_limit(container);
	container->current.cpu_quota_us = quota_us;
	container->current.cpu_period_us = period_us;
	agent->status.limit_writes++;
	return 0;
}

static int write_memory(struct agent *agent, struct container *container, int64_t bytes)
{
	bool v2 = agent->driver.layout == CGROUP_LAYOUT_V2;
	int64_t page = sysconf(_SC_PAGESIZE);
	int err;

	bytes -= bytes % page;
	if (bytes == actuate_memory_limit(&container->current))
		return 0;
	/* memory.high slows and reclaims, memory.max kills: on v2 only the first is ours to move. */
	err = v2 ? cgroup_write_memory_high(&agent->driver, container->path, bytes)
		 : cgroup_write_memory_max(&agent->driver, container->path, bytes);
	if (err)
		return err;
	if (v2)
		container->current.memory_high_bytes = bytes;
	else
		container->current.memory_max_bytes = bytes;
	agent->status.limit_writes++;
	return 0;
}

int actuate_container(struct agent *agent, struct container *container, double cpu_millicores,
	uint64_t memory_bytes)
{
	const struct cgroup_limits *original = &container->original;
	struct slot *slot = probes_slot(agent->probes, container->attachment.slot);
	int err = 0;

	/* A limit that the owner did not set is never added. */
	if (cpu_millicores > 0 && original->cpu_quota_us > 0) {
		int64_t quota_us =
			(int64_t)(cpu_millicores * (double)original->cpu_period_us / 1000);
		int64_t most_us = original->cpu_quota_us;

		if (quota_us > most_us)
			quota_us = most_us;
		if (quota_us < QUOTA_MIN_US)
			quota_us = QUOTA_MIN_US;
		err = write_quota(agent, container, quota_us, original->cpu_period_us);
	}
	if (!err && memory_bytes > 0 && original->memory_max_bytes > 0) {
		int64_t used = (int64_t)slot->memory_used_bytes;
		int64_t least =
			used + (int64_t)(MEMORY_MARGIN_SHARE * (double)used) + MEMORY_MARGIN_BYTES;
		int64_t bytes = (int64_t)memory_bytes;

		if (bytes < least)
			bytes = least;
		if (bytes > original->memory_max_bytes)
			bytes = original->memory_max_bytes;
		err = write_memory(agent, container, bytes);
	}
	return err;
}

static unsigned int restore_container(struct agent *agent, struct container *container)
{
	const struct cgroup_limits *original = &container->original;
	uint64_t before = agent->status.limit_writes;
	int err;

	err = write_quota(agent, container, original->cpu_quota_us, original->cpu_period_us);
	if (!err && original->memory_max_bytes != container->current.memory_max_bytes) {
		err = cgroup_write_memory_max(
			&agent->driver, container->path, original->memory_max_bytes);
		container->current.memory_max_bytes = original->memory_max_bytes;
		agent->status.limit_writes++;
	}
	if (!err && original->memory_high_bytes != container->current.memory_high_bytes) {
		err = cgroup_write_memory_high(
			&agent->driver, container->path, original->memory_high_bytes);
		container->current.memory_high_bytes = original->memory_high_bytes;
		agent->status.limit_writes++;
	}
	if (err && err != -ENOENT)
		log_err("pod=%s cgroup=%s error=\"cannot write the owner's limits back: %s\"",
			container->pod, container->path, strerror(-err));
	return agent->status.limit_writes != before;
}

unsigned int actuate_restore(struct agent *agent, struct unit *unit)
{
	unsigned int restored = 0;

	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *each = agent->units.items[i];

		if (unit && each != unit)
			continue;
		for (size_t k = 0; k < each->container_count; k++)
			restored += restore_container(agent, each->containers[k]);
		each->action = ACTION_VERTICAL_HOLD;
		each->acted = false;
	}
	agent->status.restored += restored;
	return restored;
}

/* The kubelet has carried out our own resize, in whole or in part. */
static void take_asked(struct container *container, const struct cgroup_limits *now)
{
	struct cgroup_limits *ours = &container->current;

	if (now->cpu_quota_us == container->asked.cpu_quota_us &&
		now->cpu_quota_us != ours->cpu_quota_us) {
		sample_note_limit(container);
		ours->cpu_quota_us = now->cpu_quota_us;
	}
	if (now->memory_max_bytes == container->asked.memory_max_bytes)
		ours->memory_max_bytes = now->memory_max_bytes;
}

static void verify_container(struct agent *agent, struct unit *unit, struct container *container)
{
	struct cgroup_limits *ours = &container->current;
	struct cgroup_limits now;

	if (cgroup_read_limits(&agent->driver, container->path, &now))
		return;
	if (agent->config.actuator == ACTUATOR_RESIZE)
		take_asked(container, &now);
	if (now.cpu_quota_us == ours->cpu_quota_us && now.cpu_period_us == ours->cpu_period_us &&
		now.memory_max_bytes == ours->memory_max_bytes &&
		now.memory_high_bytes == ours->memory_high_bytes)
		return;
	log_notice("unit=%s/%s pod=%s event=\"someone else changed a limit\" cpu_quota_us=%ld->%ld "
		   "memory_max_bytes=%ld->%ld effect=\"taken over as the owner's\"",
		unit->namespace, unit->service, container->pod, (long)ours->cpu_quota_us,
		(long)now.cpu_quota_us, (long)ours->memory_max_bytes, (long)now.memory_max_bytes);
	sample_note_limit(container);
	/* Only what changed: the rest may still be ours. */
	if (now.cpu_quota_us != ours->cpu_quota_us || now.cpu_period_us != ours->cpu_period_us) {
		container->original.cpu_quota_us = now.cpu_quota_us;
		container->original.cpu_period_us = now.cpu_period_us;
	}
	if (now.memory_max_bytes != ours->memory_max_bytes)
		container->original.memory_max_bytes = now.memory_max_bytes;
	if (now.memory_high_bytes != ours->memory_high_bytes)
		container->original.memory_high_bytes = now.memory_high_bytes;
	*ours = now;
	agent->status.foreign_writes++;
	json_object_set_new(agent->originals, container->path,
		limits_to_json(&container->original,
			probes_slot(agent->probes, container->attachment.slot)->cpu_id));
	(void)actuate_save(agent);
}

void actuate_verify(struct agent *agent)
{
	for (size_t i = 0; i < agent->units.count; i++)
		for (size_t k = 0; k < agent->units.items[i]->container_count; k++)
			verify_container(
				agent, agent->units.items[i], agent->units.items[i]->containers[k]);
}
