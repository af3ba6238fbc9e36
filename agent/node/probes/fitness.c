// SPDX-License-Identifier: Apache-2.0
#include "node/probes/fitness.h"

#include "common/cgroup.h"
#include "node/probes/probes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FUSE_DEVICE "/dev/fuse"
/* Limits that any machine takes. */
#define TRIED_QUOTA_US	   100000
#define TRIED_MEMORY_BYTES (64LL << 20)

struct finding {
	char *reason;
	size_t size;
	int err; /* of the first part refused */
};

static void __attribute__((format(printf, 3, 4)))
refused(struct finding *finding, int err, const char *format, ...)
{
	size_t used = strlen(finding->reason);
	va_list arguments;

	if (finding->err && used + 2 < finding->size)
		used += (size_t)snprintf(finding->reason + used, finding->size - used, "; ");
	else
		finding->err = err;
	va_start(arguments, format);
	vsnprintf(finding->reason + used, finding->size - used, format, arguments);
	va_end(arguments);
}

/* Whether @path is there now, to be removed. */
static bool cgroups_check(
	struct finding *finding, const struct cgroup_driver *driver, const char *path)
{
	const char *what = "make a cgroup";
	int err = cgroup_create(driver, path);

	if (!err) {
		what = "write a CPU limit";
		err = cgroup_write_cpu_quota(driver, path, TRIED_QUOTA_US, TRIED_QUOTA_US);
	}
	if (!err) {
		what = "write a memory limit";
		err = cgroup_write_memory_max(driver, path, TRIED_MEMORY_BYTES);
	}
	if (err)
		refused(finding, err, "cannot %s below %s (%s layout): %s", what, driver->cpu_root,
			cgroup_layout_name(driver->layout), strerror(-err));
	return cgroup_exists(driver, path);
}

/* @path: a cgroup to attach to, or NULL when none could be made. */
static void probes_check(
	struct finding *finding, const struct cgroup_driver *driver, const char *path)
{
	struct probes_attachment attachment = {0};
	struct probes *probes = NULL;
	char error[256] = "";
	int err = probes_open(&probes, driver, 1, error, sizeof(error));

	if (err) {
		refused(finding, err, "%s", error);
		return;
	}
	err = path ? probes_attach(probes, path, &attachment) : 0;
	if (err)
		refused(finding, err, "cannot attach BPF programs to a cgroup: %s", strerror(-err));
	else if (path)
		probes_detach(probes, &attachment);
	probes_close(probes);
}

static void tree_check(struct finding *finding)
{
	int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC), err = errno;

	if (fd < 0)
		refused(finding, -err, "no tree, %s: %s", FUSE_DEVICE, strerror(err));
	else
		close(fd);
}

int fitness_check(const char *cgroup_mount, bool with_tree, char *reason, size_t reason_size)
{
	struct finding finding = {reason, reason_size, 0};
	struct cgroup_driver driver = {0};
	char path[64];
	bool made = false;
	int err;

	reason[0] = '\0';
	if (geteuid() != 0)
		refused(&finding, -EPERM, "not root");
	snprintf(path, sizeof(path), "/ebbtide-check-%d", (int)getpid());
	err = cgroup_driver_detect(&driver, cgroup_mount);
	if (err)
		refused(&finding, err, "no cgroup v2 and no hybrid layout at %s", cgroup_mount);
	else
		made = cgroups_check(&finding, &driver, path);
	probes_check(&finding, &driver, made ? path : NULL);
	if (with_tree)
		tree_check(&finding);
	if (made)
		cgroup_remove(&driver, path);
	return finding.err;
}
