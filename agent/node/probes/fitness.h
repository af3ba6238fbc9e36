// SPDX-License-Identifier: Apache-2.0
/* Whether this machine lets the agent do its work, found out by doing a little of each part of it. */
#ifndef EBBTIDE_FITNESS_H
#define EBBTIDE_FITNESS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Makes a cgroup below @cgroup_mount, writes limits to it, loads the BPF programs, attaches them to
 * it, and removes all of it again. With @with_tree also whether FUSE is there. 0; or -errno of the
 * first part that is refused, with one line in @reason that names every part that is.
 */
int fitness_check(const char *cgroup_mount, bool with_tree, char *reason, size_t reason_size);

#endif
