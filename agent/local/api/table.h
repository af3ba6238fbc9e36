// SPDX-License-Identifier: Apache-2.0
/* meta.k8s.io/v1 Tables: what "kubectl get" prints. Pure, apart from the clock for ages. */
#ifndef EBBTIDE_LOCAL_TABLE_H
#define EBBTIDE_LOCAL_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "local/api/resources.h"

enum table_include {
	TABLE_METADATA,
	TABLE_OBJECT,
	TABLE_NONE
};

/*
 * A Table of @items (array of objects); columns are left out of the rows of a watch after its
 * first (@headers false). The caller decrefs.
 */
json_t *table_new(const struct resource *resource, const json_t *items, enum table_include include,
	bool headers, time_t now);
/* "5s", "3m20s", "2d4h": an age as kubectl writes it. */
void table_format_age(char *out, size_t size, time_t seconds);

#endif
