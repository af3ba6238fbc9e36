// SPDX-License-Identifier: Apache-2.0
/* Who a process is, from /proc and the cgroup's own list, where the kernel side could not tell. */
#ifndef EBBTIDE_PROCESS_H
#define EBBTIDE_PROCESS_H

#include "common/cgroup.h"

#include <stdint.h>

#define PROCESS_COMMAND_BYTES 16

/* "python3" of a living process; "" and -errno when it is gone. */
int process_command(uint32_t process, char command[PROCESS_COMMAND_BYTES]);
/* The one process of a cgroup; 0 when there are none or several. */
uint32_t process_sole(const struct cgroup_driver *driver, const char *path);

#endif
