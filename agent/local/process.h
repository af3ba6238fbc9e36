// SPDX-License-Identifier: Apache-2.0
/*
 * Starting one container's process inside its cgroup, and looking at it from outside.
 * Main thread only (the parent-death signal is bound to the thread that forks).
 */
#ifndef EBBTIDE_LOCAL_PROCESS_H
#define EBBTIDE_LOCAL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cgroup.h"

struct process_spec {
	char *const *arguments;	  /* NULL-terminated; [0] is looked up in PATH */
	char *const *environment; /* NULL-terminated "NAME=value" */
	const char *directory;	  /* NULL: as it is */
	const char *log_path; /* standard output and error are appended; NULL: left as they are */
	const char *cgroup;   /* path, or NULL to stay in the caller's */
};

/*
 * Fork, join the cgroup in every hierarchy, then exec, so that every socket the program opens
 * belongs to the cgroup. Its own process group; SIGKILL when the caller dies. -errno also for a
 * failure after the fork; *step then names what failed ("exec", "chdir", "log", "cgroup").
 */
int process_start(const struct cgroup_driver *driver, const struct process_spec *spec, pid_t *pid,
	const char **step);

/* A TCP port on 127.0.0.1 that nobody listens on, below the range of outgoing connections. */
int process_find_port(uint16_t *port);
/* True when 127.0.0.1:@port accepts a connection; it is closed without a byte sent. */
bool process_port_answers(uint16_t port);
/* True when a listener could be bound to @address:@port now; else -errno of bind. */
int process_check_listen(const char *address, uint16_t port);

/* Processes in @path and below, by the cgroup.procs files of every hierarchy. */
int process_count_in_cgroup(const struct cgroup_driver *driver, const char *path);
/* Send @sig to each of them (never to the caller). The number of processes seen. */
int process_signal_cgroup(const struct cgroup_driver *driver, const char *path, int sig);
/*
 * What an earlier run left in @path: kill what is inside, wait up to 5 s, remove the cgroups.
 * The number killed, or -EBUSY when something would not die.
 */
int process_clear_cgroup(const struct cgroup_driver *driver, const char *path);

#endif
