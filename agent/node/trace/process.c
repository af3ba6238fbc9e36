// SPDX-License-Identifier: Apache-2.0
#include "node/trace/process.h"

#include "common/small_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int process_command(uint32_t process, char command[PROCESS_COMMAND_BYTES])
{
	char path[32], text[PROCESS_COMMAND_BYTES + 1];
	int err;

	snprintf(path, sizeof(path), "/proc/%u/comm", process);
	err = small_file_read(path, text, sizeof(text));
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
	if (small_file_read(name, text, sizeof(text)))
		return 0;
	process = strtoul(text, &end, 10);
	return *end == '\n' && end[1] == '\0' ? (uint32_t)process : 0;
}
