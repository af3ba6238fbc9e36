// SPDX-License-Identifier: Apache-2.0
/* The Events that ebbtide-local itself writes. */
#ifndef EBBTIDE_LOCAL_EVENTS_H
#define EBBTIDE_LOCAL_EVENTS_H

#include <stdbool.h>

#include "local/api/store.h"

/*
 * Write an Event about @object (with kind and apiVersion); one that repeats (same object, reason
 * and message) is counted up instead.
 */
void events_record(struct store *store, const json_t *object, bool warning, const char *reason,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
