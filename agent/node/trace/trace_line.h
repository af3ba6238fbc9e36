// SPDX-License-Identifier: Apache-2.0
/*
 * One event as one line of JSON, for people and programs; docs/trace.md lists the fields.
 *
 * Pure. What came over the network is cleaned so that it cannot break the line.
 */
#ifndef EBBTIDE_TRACE_LINE_H
#define EBBTIDE_TRACE_LINE_H

#include "node/limits/reflex.h"
#include "shared.h"

#include <stddef.h>
#include <stdint.h>

/* The longest names, addresses and numbers fit. */
#define TRACE_LINE_BYTES 2048

/* Whose event it is, and what the agent knows better than the kernel side. */
struct trace_source {
	const char *namespace;
	const char *service;
	const char *pod;
	const char *container;
	uint64_t time_us;    /* Unix, of the request's first byte or of the kill */
	uint32_t process;    /* 0: not known */
	const char *command; /* "": not known */
	uint8_t reasons;     /* enum request_reason */
};

/* All end with a newline and return the length without the final zero. */
size_t trace_line_request(const struct request_event *event, const struct trace_source *source,
	char out[TRACE_LINE_BYTES]);
size_t trace_line_oom(const struct trace_source *source, char out[TRACE_LINE_BYTES]);
size_t trace_line_refill(const struct reflex_event *event, const struct trace_source *source,
	char out[TRACE_LINE_BYTES]);

#endif
