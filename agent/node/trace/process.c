// SPDX-License-Identifier: Apache-2.0
#include "node/trace/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first bytes of a file, a string. -errno. */
static int file_start(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	out[0] = '\0';
	if (fd < 0)
		return -errno;
	got = read(fd, out, size - 1);
	close(fd);
	if (got < 0)
		return -errno;
	out[got] = '\0';
	return 0;
}

int process_command(uint32_t process, char command[PROCESS_COMMAND_BYTES])
{
	char path[32], text[PROCESS_COMMAND_BYTES + 1];
	int err;

	snprintf(path, sizeof(path), "/proc/%u/comm", process);
	err = file_start(path, text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	memcpy(command, text, PROCESS_COMMAND_BYTES);
	return err;
}

uint32_t process_sole(const struct cgroup_driver *driver, const char *path)
{
	char name[2 * CGROUP_PATH_MAX + 16], text[64];
	unsigned long process;
	char *end;

	snprintf(name, sizeof(name), "%s%s/cgroup.procs", driver->unified_root, path);
	if (file_start(name, text, sizeof(text)))
		return 0;
	process = strtoul(text, &end, 10);
	return *end == '\n' && end[1] == '\0' ? (uint32_t)process : 0;
}
