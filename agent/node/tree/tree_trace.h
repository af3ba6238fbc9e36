// SPDX-License-Identifier: Apache-2.0
/* The files of services/NAMESPACE/SERVICE/trace/. The agent's lock is held by the caller. */
#ifndef EBBTIDE_TREE_TRACE_H
#define EBBTIDE_TREE_TRACE_H

#include "node/agent.h"

enum tree_trace_file {
	TREE_TRACE_SLOWER_US,
	TREE_TRACE_ONE_IN,
	TREE_TRACE_ERRORS,
	TREE_TRACE_EXEMPLARS,
	TREE_TRACE_PIPE,
	TREE_TRACE_FILES,
};

/* The name of one, in the order of the enumeration. */
extern const char *const tree_trace_names[TREE_TRACE_FILES];
bool tree_trace_is_writable(enum tree_trace_file file);

/* For all but the pipe: the whole content, to be freed; NULL when out of memory. */
char *tree_trace_show(const struct unit *unit, enum tree_trace_file file);
/* 0 or -errno; takes effect at once. */
int tree_trace_store(
	struct agent *agent, struct unit *unit, enum tree_trace_file file, const char *text);

#endif
