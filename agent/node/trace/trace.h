// SPDX-License-Identifier: Apache-2.0
/*
 * Events for people. Lines go into one bounded ring of the node, from which any number of readers
 * take those of their service at their own pace, each with its own choice; one that is too slow is
 * told how many it missed. Beside it every unit keeps its exemplars: the newest request of each
 * octave of latency, whether anyone reads or not.
 *
 * The agent's lock is held by the caller, except for trace_event(), which takes it.
 */
#ifndef EBBTIDE_TRACE_H
#define EBBTIDE_TRACE_H

#include "node/agent.h"

struct trace_reader;

int trace_open(struct agent *agent);
void trace_close(struct agent *agent);
/* The ring buffer's handler; takes the agent's lock. */
void trace_event(const union probes_event *event, void *agent);

/* What the reflex did since the last call: a line each, if anyone wants any of the unit's. */
void trace_refills(struct agent *agent);

/* A reader of what comes from now on; NULL: out of memory. Until it chooses, of all there is. */
struct trace_reader *trace_reader_open(struct trace *trace, struct unit *unit);
void trace_reader_close(struct trace *trace, struct trace_reader *reader);
/*
 * Choose: "slower_us 20000", "one_in 64", "errors 1"; several add up. "kept 1" goes back to the
 * oldest line that is kept. -EINVAL, -ERANGE: nothing changes.
 */
int trace_reader_choose(struct trace *trace, struct trace_reader *reader, const char *text);
/* Whole lines into @out; returns bytes, 0: nothing new. */
size_t trace_reader_read(struct trace *trace, struct trace_reader *reader, char *out, size_t size);

bool trace_is_read(const struct trace *trace, const struct unit *unit);
/* The unit, which nobody reads, goes; its lines must not be another's that gets its address. */
void trace_forget(struct trace *trace, const struct unit *unit);

/* What all readers of @unit and the operator's own files want together. */
struct trace_choice trace_wanted(const struct trace *trace, const struct unit *unit);
/* One of the three from its text: -EINVAL, -ERANGE. For the operator's files as well. */
int trace_choice_set(struct trace_choice *choice, const char *name, const char *text);

/* The unit's exemplars as lines, by latency; free() it. NULL: none, or out of memory. */
char *trace_exemplars(const struct unit *unit);

#endif
