// SPDX-License-Identifier: Apache-2.0
#include "node/usage.h"

#include "node/probes.h"

#include <string.h>

/*
 * Everything is read every so many looks, or as soon as the memory in use has moved by a
 * sixty-fourth: inactive file pages, the difference to the working set, change slowly.
 */
#define LOOKS_BETWEEN 8
#define MOVED_SHARE   64

static void slot_fill(struct slot *slot, const struct cgroup_usage *usage)
{
	slot->throttled_ns = usage->throttled_us * 1000;
	slot->periods = usage->periods;
	slot->throttled_periods = usage->throttled_periods;
	slot->memory_used_bytes = usage->memory_used_bytes;
}

static bool is_due(const struct usage_files *files, const struct slot *slot)
{
	uint64_t used = slot->memory_used_bytes, before = files->memory_used_bytes;
	uint64_t moved = used > before ? used - before : before - used;

	return files->due == 0 || moved > before / MOVED_SHARE;
}

static bool read_everything(struct usage_files *files, const struct cgroup_driver *driver,
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
	/* Containers that came together are not read in the same looks for ever. */
	files->due = files->has_looked ? LOOKS_BETWEEN : 1 + slot->index % LOOKS_BETWEEN;
	files->has_looked = true;
	return true;
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
	if (is_due(files, slot) && !read_everything(files, driver, path, slot))
		return false;
	files->due--;
	used = slot->memory_used_bytes;
	inactive = files->memory_inactive_bytes;
	usage->memory_working_set_bytes = used > inactive ? used - inactive : 0;
	return cgroup_read_pressure(&files->pressure, usage) == 0;
}

void usage_close(struct usage_files *files)
{
	if (files->are_open)
		cgroup_close_pressure(&files->pressure);
	*files = (struct usage_files){0};
}
