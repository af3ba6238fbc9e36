// SPDX-License-Identifier: Apache-2.0
/* A decision of explain_select() in plain words. */
#ifndef EBBTIDE_CTL_EXPLAIN_TEXT_H
#define EBBTIDE_CTL_EXPLAIN_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* "cut CPU 400m -> 340m: p99 21.0 ms of 50 ms, throttled 0 %, Q -0.31 against -0.36 for hold" */
void explain_headline(const json_t *decision, char *out, size_t size);
/* One line: time, headline, and what stood above the policy. */
void explain_line(FILE *out, const json_t *decision);
/* All of it; with @state also what the network saw. */
void explain_text(FILE *out, const json_t *decision, bool state);

#endif
