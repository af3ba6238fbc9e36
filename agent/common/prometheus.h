// SPDX-License-Identifier: Apache-2.0
/* Text for /metrics: an append-only buffer in the Prometheus exposition format. */
#ifndef EBBTIDE_PROMETHEUS_H
#define EBBTIDE_PROMETHEUS_H

#include <stddef.h>

struct prometheus {
	char *text; /* free() it when done */
	size_t used;
	size_t size;
};

/* HELP and TYPE lines; @type "counter", "gauge" or "histogram". */
void prometheus_declare(
	struct prometheus *out, const char *name, const char *type, const char *help);
/* One sample; @labels such as service="a/b", already escaped, or NULL. */
void prometheus_sample(struct prometheus *out, const char *name, const char *labels, double value);
/* @text with backslash, quote and newline escaped for a label's value. */
void prometheus_escape(char *out, size_t size, const char *text);

#endif
