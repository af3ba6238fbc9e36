// SPDX-License-Identifier: Apache-2.0
/*
 * Events of a trace as a file in the Trace Event Format (JSON), which ui.perfetto.dev and
 * chrome://tracing open: a process for each pod, in it as many tracks as requests were under way at
 * a time, and on them each request with its parts nested inside.
 */
#ifndef EBBTIDE_CTL_TRACE_PERFETTO_H
#define EBBTIDE_CTL_TRACE_PERFETTO_H

#include "ctl/trace_event.h"

#include <stddef.h>
#include <stdio.h>

/* Kept in memory until the end, since requests end in another order than they begin. */
#define PERFETTO_EVENTS_MAX 200000

struct perfetto;

struct perfetto *perfetto_new(void);
void perfetto_free(struct perfetto *perfetto);
/* 0; -ENOSPC after PERFETTO_EVENTS_MAX, -ENOMEM: this one is left out and counted. */
int perfetto_add(struct perfetto *perfetto, const struct trace_event *event);
size_t perfetto_count(const struct perfetto *perfetto);
size_t perfetto_left_out(const struct perfetto *perfetto);
/*
 * Write all of it, by time, so that no timestamp is before the one above it. 0 or -errno. @missed
 * and @lost, of the whole trace, are in its "otherData".
 */
int perfetto_write(
	struct perfetto *perfetto, FILE *out, const char *service, uint64_t missed, uint64_t lost);

#endif
