// SPDX-License-Identifier: Apache-2.0
/*
 * What of a container the BPF programs do not give, from the kernel's files: PSI and the working
 * set. Opening a file by its path costs several times what reading it does, so those that every
 * tick needs stay open, what changes slowly is read in turns, and PSI when the slot tells that some
 * task has waited.
 */
#ifndef EBBTIDE_USAGE_H
#define EBBTIDE_USAGE_H

#include "common/cgroup.h"
#include "shared.h"

#include <stdbool.h>

/* Of one container; all zero before the first look, and again after usage_close(). */
struct usage_files {
	struct cgroup_pressure_files pressure;
	bool are_open;
	bool has_looked;
	uint32_t memory_due; /* looks until memory.stat is read again */
	/* As of the last time that it was. */
	uint64_t memory_used_bytes;
	uint64_t memory_inactive_bytes;
	uint32_t pressure_due; /* looks until PSI is read again, whatever the slot says */
	struct cgroup_usage pressures;
	/* The slot's counters when PSI was read. */
	uint64_t run_queue_ns;
	uint64_t reclaim_ns;
	uint64_t major_faults;
	bool memory_presses; /* it had moved then */
};

/*
 * Look at the container whose cgroup is @path. What the kernel side keeps in @slot is not read again;
 * until it has tied the slot to the cgroup, its counters come from the files and are written there.
 * In @usage only the pressures and memory_working_set_bytes are set. False: the cgroup is gone.
 */
bool usage_look(struct usage_files *files, const struct cgroup_driver *driver, const char *path,
	struct slot *slot, struct cgroup_usage *usage);
void usage_close(struct usage_files *files);

#endif
