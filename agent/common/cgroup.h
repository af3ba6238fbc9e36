// SPDX-License-Identifier: Apache-2.0
/*
 * Cgroup driver with two back ends. A cgroup is named by its path below the hierarchy's root,
 * for example "/ebbtide/default/fibonacci/0"; on the hybrid layout the same path is used in every
 * hierarchy (cpu, memory, unified), on v2 there is one.
 *
 * All functions return 0 or -errno and never print.
 */
#ifndef EBBTIDE_CGROUP_H
#define EBBTIDE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUP_PATH_MAX	 512
#define CGROUP_UNLIMITED (-1)

enum cgroup_layout {
	CGROUP_LAYOUT_V2,     /* one hierarchy with controllers: every current Kubernetes node */
	CGROUP_LAYOUT_HYBRID, /* version-1 controllers, version-2 tree without: older nodes */
};

struct cgroup_driver {
	enum cgroup_layout layout;
	char unified_root[CGROUP_PATH_MAX]; /* the version-2 tree: sockets, PSI, CPU use */
	char cpu_root[CGROUP_PATH_MAX];	    /* where the quota is written */
	char memory_root[CGROUP_PATH_MAX];  /* where the memory limit is written */
};

/* A limit that is not set is CGROUP_UNLIMITED. */
struct cgroup_limits {
	int64_t cpu_quota_us;
	int64_t cpu_period_us;
	int64_t cpu_burst_us; /* CGROUP_UNLIMITED where the kernel has no burst */
	int64_t memory_max_bytes;
	int64_t memory_high_bytes; /* always CGROUP_UNLIMITED on hybrid (no such file) */
	/* Its share among its siblings: cpu.weight on v2, cpu.shares on hybrid (common/cpu_weight.h). */
	int64_t cpu_weight; /* CGROUP_UNLIMITED: it has none (cpu.idle, no controller) */
};

/* Cumulative counters since the cgroup was made, the whole subtree. */
struct cgroup_usage {
	uint64_t cpu_used_us;
	uint64_t periods;
	uint64_t throttled_periods;
	uint64_t throttled_us;
	uint64_t memory_used_bytes;
	uint64_t
		memory_working_set_bytes; /* used less inactive file pages, as the kubelet counts */
	uint64_t memory_major_faults;
	uint64_t oom_kills;
	uint64_t cpu_pressure_some_us; /* PSI totals; full of CPU since 5.13 */
	uint64_t cpu_pressure_full_us;
	uint64_t memory_pressure_some_us;
	uint64_t memory_pressure_full_us;
};

/* Look at @mount (normally "/sys/fs/cgroup"). -ENOENT: neither layout found there. */
int cgroup_driver_detect(struct cgroup_driver *driver, const char *mount);
const char *cgroup_layout_name(enum cgroup_layout layout);

/* Make @path, and its parents, in every hierarchy; on v2 turn the controllers on along the way. */
int cgroup_create(const struct cgroup_driver *driver, const char *path);
/* Remove @path and its descendants, all empty of processes. -EBUSY while a process is inside. */
int cgroup_remove(const struct cgroup_driver *driver, const char *path);
/* Move a process into @path in every hierarchy. The caller's own pid may be given as 0. */
int cgroup_add_process(const struct cgroup_driver *driver, const char *path, pid_t pid);
bool cgroup_exists(const struct cgroup_driver *driver, const char *path);

int cgroup_read_limits(
	const struct cgroup_driver *driver, const char *path, struct cgroup_limits *limits);
int cgroup_read_usage(
	const struct cgroup_driver *driver, const char *path, struct cgroup_usage *usage);

/* Of that, only what inactive file pages take. */
int cgroup_read_inactive_bytes(
	const struct cgroup_driver *driver, const char *path, uint64_t *bytes);

/* A cgroup's PSI files, kept open. Without CONFIG_PSI there are none, and the totals are 0. */
struct cgroup_pressure_files {
	int cpu;    /* -1: there is none */
	int memory; /* the same */
};
void cgroup_open_pressure(
	const struct cgroup_driver *driver, const char *path, struct cgroup_pressure_files *files);
/* Two of the four pressures of @usage each. -ENODEV: the cgroup is gone. */
int cgroup_read_cpu_pressure(const struct cgroup_pressure_files *files, struct cgroup_usage *usage);
int cgroup_read_memory_pressure(
	const struct cgroup_pressure_files *files, struct cgroup_usage *usage);
void cgroup_close_pressure(struct cgroup_pressure_files *files);

/* A cgroup's limits, each open for writing from its first change on. 0: not yet. */
struct cgroup_limit_files {
	int quota;
	int burst;
	int memory;
};
void cgroup_close_limits(struct cgroup_limit_files *files);

/* Each writes one value. Every write of a quota is a refill, so callers compare first. */
int cgroup_write_cpu_quota(
	const struct cgroup_driver *driver, const char *path, int64_t quota_us, int64_t period_us);
/*
 * Quota and burst, where they differ from @now, in the order that the kernel takes: a burst over its
 * quota is refused. @burst_us CGROUP_UNLIMITED leaves it. @now is then what is in force.
 */
int cgroup_change_cpu(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, struct cgroup_limits *now, int64_t quota_us,
	int64_t period_us, int64_t burst_us);
/* memory.high when @is_high, else the maximum; always the same of the two by the same @files. */
int cgroup_change_memory(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, bool is_high, int64_t bytes);
/* A file to write quotas to without a path to walk; -errno. cgroup_refill() writes one. */
int cgroup_open_cpu_quota(const struct cgroup_driver *driver, const char *path);
int cgroup_refill(const struct cgroup_driver *driver, int fd, int64_t quota_us, int64_t period_us);
int cgroup_write_cpu_burst(const struct cgroup_driver *driver, const char *path, int64_t burst_us);
/* In the layout's own scale. */
int cgroup_read_cpu_weight(const struct cgroup_driver *driver, const char *path, int64_t *weight);
int cgroup_write_cpu_weight(const struct cgroup_driver *driver, const char *path, int64_t weight);
/*
 * A PSI trigger on the container's memory: poll the file for POLLPRI, which comes when tasks were
 * stalled for @stall_us within @window_us. -errno; -ENOTSUP on the hybrid layout, whose limit does
 * not stall.
 */
int cgroup_open_memory_trigger(const struct cgroup_driver *driver, const char *path,
	uint32_t stall_us, uint32_t window_us);
int cgroup_write_memory_max(const struct cgroup_driver *driver, const char *path, int64_t bytes);
int cgroup_write_memory_high(const struct cgroup_driver *driver, const char *path, int64_t bytes);

/* The id that BPF sees for @path in each hierarchy (the directory's inode number). */
int cgroup_read_ids(const struct cgroup_driver *driver, const char *path, uint64_t *unified,
	uint64_t *cpu, uint64_t *memory);

#endif
