// SPDX-License-Identifier: Apache-2.0
/* Events of a trace as text for people: an aligned line, and a waterfall of a request's parts. */
#ifndef EBBTIDE_CTL_TRACE_TEXT_H
#define EBBTIDE_CTL_TRACE_TEXT_H

#include "ctl/trace_event.h"

#include <stdio.h>

void trace_text_header(FILE *out);
/* @colour: escape sequences for a terminal. Local time of day. */
void trace_text_line(FILE *out, const struct trace_event *event, bool colour);
/*
 * One bar a part below one another. How long each took is true, and that the socket queue comes
 * first and sending last; the others take turns in truth and are drawn one after another.
 */
void trace_text_waterfall(FILE *out, const struct trace_event *event);

#endif
