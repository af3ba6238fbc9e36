// SPDX-License-Identifier: Apache-2.0
/* What the tree's files show: one table a directory. tree.c does the file system around it. */
#ifndef EBBTIDE_TREE_FILES_H
#define EBBTIDE_TREE_FILES_H

#include "node/agent.h"

/* Longest value, newline included. */
#define TREE_VALUE_MAX 512

struct tree_agent_file {
	const char *name;
	void (*show)(const struct agent *agent, char *out, size_t size);
	/* -EINVAL, -ERANGE; NULL: read only. */
	int (*store)(struct agent *agent, const char *text);
};
extern const struct tree_agent_file tree_agent_files[];
extern const size_t tree_agent_file_count;

struct tree_unit_file {
	const char *name;
	void (*show)(const struct unit *unit, char *out, size_t size);
};
extern const struct tree_unit_file tree_unit_files[];
extern const size_t tree_unit_file_count;

#endif
