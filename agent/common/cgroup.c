// SPDX-License-Identifier: Apache-2.0
#include "common/cgroup.h"

#include "common/small_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX 16384

/* The hierarchies a path lives in, without repeats. */
static size_t driver_roots(const struct cgroup_driver *driver, const char *roots[3])
{
	roots[0] = driver->unified_root;
	if (driver->layout == CGROUP_LAYOUT_V2)
		return 1;
	roots[1] = driver->cpu_root;
	roots[2] = driver->memory_root;
	return 3;
}

static int path_join(char *out, size_t size, const char *root, const char *path, const char *file)
{
	int used = snprintf(out, size, "%s%s%s%s", root, path, file ? "/" : "", file ? file : "");

	return used < 0 || (size_t)used >= size ? -ENAMETOOLONG : 0;
}

static int file_read(const char *root, const char *path, const char *file, char *out, size_t size)
{
	char name[2 * CGROUP_PATH_MAX];
	int err = path_join(name, sizeof(name), root, path, file);

	return err ? err : small_file_read(name, out, size);
}

static int file_write(const char *root, const char *path, const char *file, const char *text)
{
	char name[2 * CGROUP_PATH_MAX];
	int err = path_join(name, sizeof(name), root, path, file);

	return err ? err : small_file_write(name, text);
}

static int file_write_number(const char *root, const char *path, const char *file, int64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, number);
	return file_write(root, path, file, text);
}

/* The number after @key at the start of a line of a flat-keyed file; 0 when it is not there. */
static uint64_t keyed_number(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, length) == 0 && line[length] == ' ')
			return strtoull(line + length + 1, NULL, 10);
	}
	return 0;
}

/* "some avg10=.. total=N" -> N in microseconds. */
static uint64_t pressure_total_us(const char *text, const char *kind)
{
	const char *line = strstr(text, kind);
	const char *total = line ? strstr(line, "total=") : NULL;

	return total ? strtoull(total + strlen("total="), NULL, 10) : 0;
}

int cgroup_driver_detect(struct cgroup_driver *driver, const char *mount)
{
	char probe[CGROUP_PATH_MAX];

	memset(driver, 0, sizeof(*driver));
	snprintf(probe, sizeof(probe), "%s/cgroup.controllers", mount);
	if (access(probe, F_OK) == 0) {
		driver->layout = CGROUP_LAYOUT_V2;
		snprintf(driver->unified_root, sizeof(driver->unified_root), "%s", mount);
		snprintf(driver->cpu_root, sizeof(driver->cpu_root), "%s", mount);
		snprintf(driver->memory_root, sizeof(driver->memory_root), "%s", mount);
		return 0;
	}
	driver->layout = CGROUP_LAYOUT_HYBRID;
	snprintf(driver->unified_root, sizeof(driver->unified_root), "%s/unified", mount);
	snprintf(driver->memory_root, sizeof(driver->memory_root), "%s/memory", mount);
	snprintf(driver->cpu_root, sizeof(driver->cpu_root), "%s/cpu,cpuacct", mount);
	if (access(driver->cpu_root, F_OK) != 0)
		snprintf(driver->cpu_root, sizeof(driver->cpu_root), "%s/cpu", mount);
	if (access(driver->unified_root, F_OK) != 0 || access(driver->memory_root, F_OK) != 0 ||
		access(driver->cpu_root, F_OK) != 0)
		return -ENOENT;
	return 0;
}

const char *cgroup_layout_name(enum cgroup_layout layout)
{
	return layout == CGROUP_LAYOUT_V2 ? "v2" : "hybrid";
}

static int make_directories(const struct cgroup_driver *driver, const char *root, const char *path)
{
	char part[CGROUP_PATH_MAX];
	char full[2 * CGROUP_PATH_MAX];
	size_t length = strlen(path);

	if (length >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t end = 1; end <= length; end++) {
		if (path[end] != '/' && path[end] != '\0')
			continue;
		memcpy(part, path, end);
		part[end] = '\0';
		/* Controllers are handed down from the parent; one that is on already stays on. */
		if (driver->layout == CGROUP_LAYOUT_V2) {
			char parent[CGROUP_PATH_MAX];
			char *slash;

			memcpy(parent, part, end + 1);
			slash = strrchr(parent, '/');
			*slash = '\0';
			(void)file_write(root, parent, "cgroup.subtree_control", "+cpu +memory");
		}
		snprintf(full, sizeof(full), "%s%s", root, part);
		if (mkdir(full, 0755) != 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

int cgroup_create(const struct cgroup_driver *driver, const char *path)
{
	const char *roots[3];
	size_t count = driver_roots(driver, roots);

	if (path[0] != '/' || path[1] == '\0')
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int err = make_directories(driver, roots[i], path);

		if (err)
			return err;
	}
	return 0;
}

static int remove_tree(const char *directory)
{
	char child[2 * CGROUP_PATH_MAX + 256];
	struct dirent *entry;
	DIR *stream = opendir(directory);
	int err = 0;

	if (!stream)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(stream))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		snprintf(child, sizeof(child), "%s/%s", directory, entry->d_name);
		err = remove_tree(child);
		if (err)
			break;
	}
	closedir(stream);
	if (!err && rmdir(directory) != 0 && errno != ENOENT)
		err = -errno;
	return err;
}

int cgroup_remove(const struct cgroup_driver *driver, const char *path)
{
	char full[2 * CGROUP_PATH_MAX];
	const char *roots[3];
	size_t count = driver_roots(driver, roots);
	int result = 0;

	if (path[0] != '/' || path[1] == '\0')
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int err = path_join(full, sizeof(full), roots[i], path, NULL);

		if (!err)
			err = remove_tree(full);
		if (err && !result)
			result = err;
	}
	return result;
}

int cgroup_add_process(const struct cgroup_driver *driver, const char *path, pid_t pid)
{
	const char *roots[3];
	size_t count = driver_roots(driver, roots);

	for (size_t i = 0; i < count; i++) {
		int err = file_write_number(roots[i], path, "cgroup.procs", pid);

		if (err)
			return err;
	}
	return 0;
}

bool cgroup_exists(const struct cgroup_driver *driver, const char *path)
{
	char full[2 * CGROUP_PATH_MAX];

	return !path_join(full, sizeof(full), driver->cpu_root, path, NULL) &&
	       access(full, F_OK) == 0;
}

/* A file with one number or "max"; values the kernel shows for "none" become CGROUP_UNLIMITED. */
static int read_limit(const char *root, const char *path, const char *file, int64_t *limit)
{
	char text[64];
	int err = file_read(root, path, file, text, sizeof(text));

	if (err)
		return err;
	*limit = strncmp(text, "max", 3) == 0 ? CGROUP_UNLIMITED : strtoll(text, NULL, 10);
	/* Version 1 shows LONG_MAX rounded down to a page. */
	if (*limit < 0 || *limit >= INT64_MAX - 65536)
		*limit = CGROUP_UNLIMITED;
	return 0;
}

int cgroup_read_limits(
	const struct cgroup_driver *driver, const char *path, struct cgroup_limits *limits)
{
	char text[64];
	char *rest;
	int err;

	limits->memory_high_bytes = CGROUP_UNLIMITED;
	limits->cpu_burst_us = CGROUP_UNLIMITED;
	if (cgroup_read_cpu_weight(driver, path, &limits->cpu_weight))
		limits->cpu_weight = CGROUP_UNLIMITED;
	if (driver->layout == CGROUP_LAYOUT_HYBRID) {
		(void)read_limit(driver->cpu_root, path, "cpu.cfs_burst_us", &limits->cpu_burst_us);
		err = read_limit(driver->cpu_root, path, "cpu.cfs_quota_us", &limits->cpu_quota_us);
		if (!err)
			err = read_limit(driver->cpu_root, path, "cpu.cfs_period_us",
				&limits->cpu_period_us);
		if (!err)
			err = read_limit(driver->memory_root, path, "memory.limit_in_bytes",
				&limits->memory_max_bytes);
		return err;
	}
	(void)read_limit(driver->cpu_root, path, "cpu.max.burst", &limits->cpu_burst_us);
	err = file_read(driver->cpu_root, path, "cpu.max", text, sizeof(text));
	if (err)
		return err;
	rest = strchr(text, ' ');
	limits->cpu_quota_us =
		strncmp(text, "max", 3) == 0 ? CGROUP_UNLIMITED : strtoll(text, NULL, 10);
	limits->cpu_period_us = rest ? strtoll(rest, NULL, 10) : 100000;
	err = read_limit(driver->memory_root, path, "memory.max", &limits->memory_max_bytes);
	if (!err)
		err = read_limit(
			driver->memory_root, path, "memory.high", &limits->memory_high_bytes);
	return err;
}

static const char *inactive_key(const struct cgroup_driver *driver)
{
	return driver->layout == CGROUP_LAYOUT_V2 ? "inactive_file" : "total_inactive_file";
}

int cgroup_read_inactive_bytes(
	const struct cgroup_driver *driver, const char *path, uint64_t *bytes)
{
	char text[FILE_BYTES_MAX];
	int err = file_read(driver->memory_root, path, "memory.stat", text, sizeof(text));

	if (!err)
		*bytes = keyed_number(text, inactive_key(driver));
	return err;
}

static void read_memory(const struct cgroup_driver *driver, const char *path, char *text,
	struct cgroup_usage *usage)
{
	bool v2 = driver->layout == CGROUP_LAYOUT_V2;
	const char *root = driver->memory_root;
	uint64_t inactive = 0;

	if (!file_read(root, path, v2 ? "memory.current" : "memory.usage_in_bytes", text,
		    FILE_BYTES_MAX))
		usage->memory_used_bytes = strtoull(text, NULL, 10);
	if (!file_read(root, path, "memory.stat", text, FILE_BYTES_MAX)) {
		inactive = keyed_number(text, inactive_key(driver));
		usage->memory_major_faults =
			keyed_number(text, v2 ? "pgmajfault" : "total_pgmajfault");
	}
	usage->memory_working_set_bytes =
		usage->memory_used_bytes > inactive ? usage->memory_used_bytes - inactive : 0;
	if (!file_read(
		    root, path, v2 ? "memory.events" : "memory.oom_control", text, FILE_BYTES_MAX))
		usage->oom_kills = keyed_number(text, "oom_kill");
}

int cgroup_read_usage(
	const struct cgroup_driver *driver, const char *path, struct cgroup_usage *usage)
{
	bool v2 = driver->layout == CGROUP_LAYOUT_V2;
	char text[FILE_BYTES_MAX];
	int err;

	memset(usage, 0, sizeof(*usage));
	err = file_read(driver->unified_root, path, "cpu.stat", text, sizeof(text));
	if (err)
		return err;
	usage->cpu_used_us = keyed_number(text, "usage_usec");
	if (!v2)
		err = file_read(driver->cpu_root, path, "cpu.stat", text, sizeof(text));
	if (err)
		return err;
	usage->periods = keyed_number(text, "nr_periods");
	usage->throttled_periods = keyed_number(text, "nr_throttled");
	usage->throttled_us = v2 ? keyed_number(text, "throttled_usec")
				 : keyed_number(text, "throttled_time") / 1000;
	read_memory(driver, path, text, usage);
	/* Without CONFIG_PSI there are no such files, and the totals stay 0. */
	if (!file_read(driver->unified_root, path, "cpu.pressure", text, sizeof(text))) {
		usage->cpu_pressure_some_us = pressure_total_us(text, "some");
		usage->cpu_pressure_full_us = pressure_total_us(text, "full");
	}
	if (!file_read(driver->unified_root, path, "memory.pressure", text, sizeof(text))) {
		usage->memory_pressure_some_us = pressure_total_us(text, "some");
		usage->memory_pressure_full_us = pressure_total_us(text, "full");
	}
	return 0;
}

static int pressure_file_open(
	const struct cgroup_driver *driver, const char *path, const char *file)
{
	char name[2 * CGROUP_PATH_MAX];

	if (path_join(name, sizeof(name), driver->unified_root, path, file))
		return -1;
	return open(name, O_RDONLY | O_CLOEXEC);
}

void cgroup_open_pressure(
	const struct cgroup_driver *driver, const char *path, struct cgroup_pressure_files *files)
{
	files->cpu = pressure_file_open(driver, path, "cpu.pressure");
	files->memory = pressure_file_open(driver, path, "memory.pressure");
}

static int pressure_file_read(int fd, uint64_t *some_us, uint64_t *full_us)
{
	char text[256];
	ssize_t got;

	if (fd < 0)
		return 0;
	got = pread(fd, text, sizeof(text) - 1, 0);
	/* PSI may be switched off at boot; its files are there all the same. */
	if (got < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	text[got] = '\0';
	*some_us = pressure_total_us(text, "some");
	*full_us = pressure_total_us(text, "full");
	return 0;
}

int cgroup_read_cpu_pressure(const struct cgroup_pressure_files *files, struct cgroup_usage *usage)
{
	return pressure_file_read(
		files->cpu, &usage->cpu_pressure_some_us, &usage->cpu_pressure_full_us);
}

int cgroup_read_memory_pressure(
	const struct cgroup_pressure_files *files, struct cgroup_usage *usage)
{
	return pressure_file_read(
		files->memory, &usage->memory_pressure_some_us, &usage->memory_pressure_full_us);
}

void cgroup_close_pressure(struct cgroup_pressure_files *files)
{
	if (files->cpu >= 0)
		close(files->cpu);
	if (files->memory >= 0)
		close(files->memory);
	files->cpu = files->memory = -1;
}

static int cpu_quota_write(const struct cgroup_driver *driver, const char *path, int64_t quota_us,
	int64_t period_us, int64_t period_now_us)
{
	char text[64];

	if (driver->layout == CGROUP_LAYOUT_V2) {
		if (quota_us < 0)
			snprintf(text, sizeof(text), "max %" PRId64, period_us);
		else
			snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, quota_us, period_us);
		return file_write(driver->cpu_root, path, "cpu.max", text);
	}
	if (period_now_us != period_us) {
		int err = file_write_number(driver->cpu_root, path, "cpu.cfs_period_us", period_us);

		if (err)
			return err;
	}
	return file_write_number(
		driver->cpu_root, path, "cpu.cfs_quota_us", quota_us < 0 ? -1 : quota_us);
}

int cgroup_write_cpu_quota(
	const struct cgroup_driver *driver, const char *path, int64_t quota_us, int64_t period_us)
{
	int64_t period_now_us = period_us;

	/* On v2 both are one value. */
	if (driver->layout == CGROUP_LAYOUT_HYBRID)
		(void)read_limit(driver->cpu_root, path, "cpu.cfs_period_us", &period_now_us);
	return cpu_quota_write(driver, path, quota_us, period_us, period_now_us);
}

/* By a path, a write costs several times what it does by an open file. */
static int limit_file_open(int *fd, const char *root, const char *path, const char *file)
{
	char name[2 * CGROUP_PATH_MAX];
	int err;

	if (*fd > 0)
		return 0;
	err = path_join(name, sizeof(name), root, path, file);
	if (err)
		return err;
	*fd = open(name, O_WRONLY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	*fd = 0;
	return -errno;
}

static int limit_write(int fd, int64_t number)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%" PRId64, number);

	return pwrite(fd, text, (size_t)length, 0) < 0 ? -errno : 0;
}

static const char *quota_file(const struct cgroup_driver *driver)
{
	return driver->layout == CGROUP_LAYOUT_V2 ? "cpu.max" : "cpu.cfs_quota_us";
}

static const char *burst_file(const struct cgroup_driver *driver)
{
	return driver->layout == CGROUP_LAYOUT_V2 ? "cpu.max.burst" : "cpu.cfs_burst_us";
}

static int quota_change(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, const struct cgroup_limits *now, int64_t quota_us,
	int64_t period_us)
{
	int err;

	if (quota_us <= 0 || period_us != now->cpu_period_us)
		return cpu_quota_write(driver, path, quota_us, period_us, now->cpu_period_us);
	err = limit_file_open(&files->quota, driver->cpu_root, path, quota_file(driver));
	return err ? err : cgroup_refill(driver, files->quota, quota_us, period_us);
}

static int burst_change(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, int64_t burst_us)
{
	int err = limit_file_open(&files->burst, driver->cpu_root, path, burst_file(driver));

	return err ? err : limit_write(files->burst, burst_us);
}

int cgroup_change_cpu(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, struct cgroup_limits *now, int64_t quota_us,
	int64_t period_us, int64_t burst_us)
{
	bool has_burst = burst_us >= 0 && now->cpu_burst_us >= 0;
	int err = 0;

	if (has_burst && now->cpu_burst_us > burst_us) {
		err = burst_change(driver, path, files, burst_us);
		if (err)
			return err;
		now->cpu_burst_us = burst_us;
	}
	if (quota_us != now->cpu_quota_us || period_us != now->cpu_period_us) {
		err = quota_change(driver, path, files, now, quota_us, period_us);
		if (err)
			return err;
		now->cpu_quota_us = quota_us;
		now->cpu_period_us = period_us;
	}
	if (has_burst && now->cpu_burst_us < burst_us) {
		err = burst_change(driver, path, files, burst_us);
		if (!err)
			now->cpu_burst_us = burst_us;
	}
	return err;
}

int cgroup_change_memory(const struct cgroup_driver *driver, const char *path,
	struct cgroup_limit_files *files, bool is_high, int64_t bytes)
{
	const char *file = is_high				? "memory.high"
			   : driver->layout == CGROUP_LAYOUT_V2 ? "memory.max"
								: "memory.limit_in_bytes";
	int err = limit_file_open(&files->memory, driver->memory_root, path, file);

	return err ? err : limit_write(files->memory, bytes);
}

void cgroup_close_limits(struct cgroup_limit_files *files)
{
	int *const fds[] = {&files->quota, &files->burst, &files->memory};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] > 0)
			close(*fds[i]);
		*fds[i] = 0;
	}
}

int cgroup_open_cpu_quota(const struct cgroup_driver *driver, const char *path)
{
	int fd = 0, err = limit_file_open(&fd, driver->cpu_root, path, quota_file(driver));

	return err ? err : fd;
}

int cgroup_refill(const struct cgroup_driver *driver, int fd, int64_t quota_us, int64_t period_us)
{
	char text[64];
	int length;

	if (driver->layout != CGROUP_LAYOUT_V2)
		return limit_write(fd, quota_us);
	length = snprintf(text, sizeof(text), "%" PRId64 " %" PRId64, quota_us, period_us);
	return pwrite(fd, text, (size_t)length, 0) < 0 ? -errno : 0;
}

int cgroup_write_cpu_burst(const struct cgroup_driver *driver, const char *path, int64_t burst_us)
{
	return file_write_number(driver->cpu_root, path, burst_file(driver), burst_us);
}

static const char *weight_file(const struct cgroup_driver *driver)
{
	return driver->layout == CGROUP_LAYOUT_V2 ? "cpu.weight" : "cpu.shares";
}

int cgroup_read_cpu_weight(const struct cgroup_driver *driver, const char *path, int64_t *weight)
{
	int err = read_limit(driver->cpu_root, path, weight_file(driver), weight);

	/* An idle group (cpu.idle) shows 0. */
	if (!err && *weight <= 0)
		*weight = CGROUP_UNLIMITED;
	return err;
}

int cgroup_write_cpu_weight(const struct cgroup_driver *driver, const char *path, int64_t weight)
{
	return file_write_number(driver->cpu_root, path, weight_file(driver), weight);
}

int cgroup_open_memory_trigger(
	const struct cgroup_driver *driver, const char *path, uint32_t stall_us, uint32_t window_us)
{
	char name[2 * CGROUP_PATH_MAX], text[64];
	int err = path_join(name, sizeof(name), driver->unified_root, path, "memory.pressure");
	int fd, length;

	if (err)
		return err;
	if (driver->layout != CGROUP_LAYOUT_V2)
		return -ENOTSUP;
	fd = open(name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = snprintf(text, sizeof(text), "some %u %u", stall_us, window_us);
	/* The kernel wants the final zero as well. */
	if (write(fd, text, (size_t)length + 1) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

int cgroup_write_memory_max(const struct cgroup_driver *driver, const char *path, int64_t bytes)
{
	bool v2 = driver->layout == CGROUP_LAYOUT_V2;

	if (v2 && bytes < 0)
		return file_write(driver->memory_root, path, "memory.max", "max");
	return file_write_number(driver->memory_root, path,
		v2 ? "memory.max" : "memory.limit_in_bytes", bytes < 0 ? -1 : bytes);
}

int cgroup_write_memory_high(const struct cgroup_driver *driver, const char *path, int64_t bytes)
{
	if (driver->layout == CGROUP_LAYOUT_HYBRID)
		return -ENOTSUP;
	if (bytes < 0)
		return file_write(driver->memory_root, path, "memory.high", "max");
	return file_write_number(driver->memory_root, path, "memory.high", bytes);
}

static int directory_id(const char *root, const char *path, uint64_t *id)
{
	char full[2 * CGROUP_PATH_MAX];
	struct stat found;
	int err = path_join(full, sizeof(full), root, path, NULL);

	if (err)
		return err;
	if (stat(full, &found) != 0)
		return -errno;
	*id = found.st_ino;
	return 0;
}

int cgroup_read_ids(const struct cgroup_driver *driver, const char *path, uint64_t *unified,
	uint64_t *cpu, uint64_t *memory)
{
	int err = directory_id(driver->unified_root, path, unified);

	if (!err)
		err = directory_id(driver->cpu_root, path, cpu);
	if (!err)
		err = directory_id(driver->memory_root, path, memory);
	return err;
}
