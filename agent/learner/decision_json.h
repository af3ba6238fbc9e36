// SPDX-License-Identifier: Apache-2.0
/* A decision as a line of JSON: in the decisions file, and in the answer to GET /v1/decisions. */
#ifndef EBBTIDE_DECISION_JSON_H
#define EBBTIDE_DECISION_JSON_H

#include "learner/decision_record.h"

#include <stddef.h>

/* A line with all states, and names as long as they may be, is half of it. */
#define DECISION_LINE_BYTES 8192

/* Whose decision it is. */
struct decision_subject {
	const char *namespace;
	const char *service;
	const char *agent; /* NULL: on the service's replicas */
};

/* With its newline; how many bytes. */
size_t decision_json_line(char line[DECISION_LINE_BYTES], const struct decision_subject *subject,
	const struct decision_record *record);
/* What a unit measured in a tick on which nothing is decided. */
size_t decision_json_sample(char line[DECISION_LINE_BYTES], double unix_s,
	const struct service *service, const struct service_unit *unit);

#endif
