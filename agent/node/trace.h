// SPDX-License-Identifier: Apache-2.0
/*
 * Slow requests for people: the newest events as JSON lines, read by any number of readers at their
 * own pace. Bounded; a reader that is too slow is told how many lines it missed.
 */
#ifndef EBBTIDE_TRACE_H
#define EBBTIDE_TRACE_H

#include "node/agent.h"

int trace_open(struct agent *agent);
void trace_close(struct agent *agent);
/* The ring buffer's handler; takes the agent's lock. */
void trace_event(const union probes_event *event, void *agent);
/*
 * Lines of one service after *cursor into @out, whole lines only; returns bytes, advances *cursor.
 * A cursor of 0 starts at the oldest kept.
 */
size_t trace_read(struct trace *trace, const char *namespace, const char *service, uint64_t *cursor,
	char *out, size_t size);
/* Where a reader starts that wants only what comes. */
uint64_t trace_newest(struct trace *trace);

#endif
