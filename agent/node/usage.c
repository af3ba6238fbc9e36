// SPDX-License-Identifier: Apache-2.0
#include "node/usage.h"

#include "node/probes/probes.h"

#include <string.h>

/*
 * memory.stat is read every so many looks, or as soon as the memory in use has moved by a
 * sixty-fourth: inactive file pages, the difference to the working set, change slowly.
 */
#define LOOKS_BETWEEN 8
#define MOVED_SHARE   64
/* Where inactive pages are less than that share: the working set is at most so much larger. */
#define LOOKS_BETWEEN_FEW 64

/* PSI at the latest: a wait is counted when it ends. */
#define LOOKS_BETWEEN_PRESSURES 8
/* Less than tasks may have waited, all together, counts with what comes next. */
#define WAITED_LEAST_NS 2000000

static void slot_fill(struct slot *slot, const struct cgroup_usage *usage)
{
	slot->throttled_ns = usage->throttled_us * 1000;
	slot->periods = usage->periods;
	slot->throttled_periods = usage->throttled_periods;
	slot->memory_used_bytes = usage->memory_used_bytes;
}

static bool memory_is_due(const struct usage_files *files, const struct slot *slot)
{
	uint64_t used = slot->memory_used_bytes, before = files->memory_used_bytes;
	uint64_t moved = used > before ? used - before : before - used;

	return files->memory_due == 0 || moved > before / MOVED_SHARE;
}

static uint32_t looks_between(const struct usage_files *files)
{
	return files->memory_inactive_bytes < files->memory_used_bytes / MOVED_SHARE
		       ? LOOKS_BETWEEN_FEW
		       : LOOKS_BETWEEN;
}

static bool read_memory(struct usage_files *files, const struct cgroup_driver *driver,
	const char *path, struct slot *slot)
{
	struct cgroup_usage usage;
	int err = 0;

	if (probes_slot_is_tied(slot)) {
		usage.memory_used_bytes = slot->memory_used_bytes;
		err = cgroup_read_inactive_bytes(driver, path, &files->memory_inactive_bytes);
	} else {
		err = cgroup_read_usage(driver, path, &usage);
		if (!err)
			slot_fill(slot, &usage);
		files->memory_inactive_bytes =
			usage.memory_used_bytes - usage.memory_working_set_bytes;
	}
	if (err)
		return false;
	files->memory_used_bytes = usage.memory_used_bytes;
	files->memory_due = probes_slot_is_tied(slot) ? looks_between(files) : LOOKS_BETWEEN;
	/* Containers that came together are not read in the same looks for ever. */
	if (!files->has_looked)
		files->memory_due = 1 + slot->index % LOOKS_BETWEEN;
	return true;
}

/* PSI of a CPU cannot have grown by more than its tasks waited, unless one still waits. */
static bool cpu_may_press(const struct usage_files *files, const struct slot *slot)
{
	return slot->run_queue_ns - files->run_queue_ns >= WAITED_LEAST_NS ||
	       slot_in_flight(slot) > 0 || slot->throttled_since_ns;
}

/* What stalls for memory reclaims some, or reads back from a disk what was taken from it. */
static bool memory_may_press(const struct usage_files *files, const struct slot *slot)
{
	return files->memory_presses || slot->reclaim_ns != files->reclaim_ns ||
	       slot->major_faults != files->major_faults;
}

static int read_pressures(struct usage_files *files, const struct slot *slot)
{
	bool is_due = files->pressure_due == 0 || !probes_slot_is_tied(slot);
	uint64_t before_us = files->pressures.memory_pressure_some_us;
	int err = 0;

	if (is_due || cpu_may_press(files, slot)) {
		files->run_queue_ns = slot->run_queue_ns;
		err = cgroup_read_cpu_pressure(&files->pressure, &files->pressures);
	}
	if (!err && (is_due || memory_may_press(files, slot))) {
		files->reclaim_ns = slot->reclaim_ns;
		files->major_faults = slot->major_faults;
		err = cgroup_read_memory_pressure(&files->pressure, &files->pressures);
		files->memory_presses =
			files->has_looked && files->pressures.memory_pressure_some_us != before_us;
	}
	if (is_due)
		files->pressure_due = files->has_looked ? LOOKS_BETWEEN_PRESSURES
							: 1 + slot->index % LOOKS_BETWEEN_PRESSURES;
	files->pressure_due--;
	return err;
}

bool usage_look(struct usage_files *files, const struct cgroup_driver *driver, const char *path,
	struct slot *slot, struct cgroup_usage *usage)
{
	uint64_t used, inactive;

	memset(usage, 0, sizeof(*usage));
	if (!files->are_open) {
		cgroup_open_pressure(driver, path, &files->pressure);
		files->are_open = true;
	}
	if (memory_is_due(files, slot) && !read_memory(files, driver, path, slot))
		return false;
	files->memory_due--;
	if (read_pressures(files, slot))
		return false;
	files->has_looked = true;
	*usage = files->pressures;
	used = slot->memory_used_bytes;
	inactive = files->memory_inactive_bytes;
	usage->memory_working_set_bytes = used > inactive ? used - inactive : 0;
	return true;
}

void usage_close(struct usage_files *files)
{
	if (files->are_open)
		cgroup_close_pressure(&files->pressure);
	*files = (struct usage_files){0};
}
