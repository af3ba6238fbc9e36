// SPDX-License-Identifier: Apache-2.0
/* Label and field selectors. Pure. */
#ifndef EBBTIDE_LOCAL_SELECTOR_H
#define EBBTIDE_LOCAL_SELECTOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "local/api/resources.h"

enum requirement_type {
	REQUIREMENT_IN,		/* also "=" and "==" */
	REQUIREMENT_NOT_IN,	/* also "!=" */
	REQUIREMENT_EXISTS,	/* "key" */
	REQUIREMENT_NOT_EXISTS, /* "!key" */
};

struct requirement {
	enum requirement_type type;
	char *key;
	char **values;
	size_t value_count;
};

/* Owned by whoever parsed it: selector_free. All zero matches everything. */
struct selector {
	struct requirement *requirements;
	size_t count;
};

/* "app=x,tier in (a, b),!old"; -EINVAL with the reason in @error. */
int selector_parse_labels(
	struct selector *selector, const char *text, char *error, size_t error_size);
/* "spec.nodeName=a,metadata.name!=b"; -EINVAL also for fields that @resource does not index. */
int selector_parse_fields(struct selector *selector, const struct resource *resource,
	const char *text, char *error, size_t error_size);
void selector_free(struct selector *selector);

bool selector_match_labels(const struct selector *selector, const json_t *object);
bool selector_match_fields(const struct selector *selector, const json_t *object);

#endif
