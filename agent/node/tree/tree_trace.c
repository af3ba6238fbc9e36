// SPDX-License-Identifier: Apache-2.0
#include "node/tree/tree_trace.h"

#include "node/probes/detail.h"
#include "node/trace/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tree_trace_names[TREE_TRACE_FILES] = {
	[TREE_TRACE_SLOWER_US] = "slower_us",
	[TREE_TRACE_ONE_IN] = "one_in",
	[TREE_TRACE_ERRORS] = "errors",
	[TREE_TRACE_EXEMPLARS] = "exemplars",
	[TREE_TRACE_PIPE] = "pipe",
};

bool tree_trace_is_writable(enum tree_trace_file file)
{
	return file != TREE_TRACE_EXEMPLARS;
}

char *tree_trace_show(const struct unit *unit, enum tree_trace_file file)
{
	uint64_t value = 0;
	char *text = NULL;

	switch (file) {
	case TREE_TRACE_EXEMPLARS:
		text = trace_exemplars(unit);
		return text ? text : strdup("");
	case TREE_TRACE_SLOWER_US:
		value = unit->trace.slower_us;
		break;
	case TREE_TRACE_ONE_IN:
		value = unit->trace.one_in;
		break;
	case TREE_TRACE_ERRORS:
		value = unit->trace.errors;
		break;
	default:
		return NULL;
	}
	return asprintf(&text, "%" PRIu64 "\n", value) < 0 ? NULL : text;
}

int tree_trace_store(
	struct agent *agent, struct unit *unit, enum tree_trace_file file, const char *text)
{
	int err = trace_choice_set(&unit->trace, tree_trace_names[file], text);

	if (!err)
		detail_apply(agent, unit);
	return err;
}
