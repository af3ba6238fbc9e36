// SPDX-License-Identifier: Apache-2.0
/*
 * The bounded history of changes that watches read. Pure: no lock, no clock; the store calls it
 * under its own lock.
 *
 * Rules: versions grow by appends; history_next gives the oldest event after @after; a reader that
 * asks for a version at or below the last dropped one less one is told -ESTALE (410 Gone) and has
 * to list again. Readers keep only a version, so a slow one costs nothing.
 */
#ifndef EBBTIDE_LOCAL_WATCH_H
#define EBBTIDE_LOCAL_WATCH_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "local/api/resources.h"

#define WATCH_HISTORY_EVENTS 4096

enum change_type {
	CHANGE_ADDED,
	CHANGE_MODIFIED,
	CHANGE_DELETED
};

struct change {
	uint64_t version;
	enum change_type type;
	enum resource_id resource;
	json_t *object;	  /* after the change; for DELETED the last state */
	json_t *previous; /* before the change, NULL for ADDED: selectors need it */
};

struct history {
	struct change *ring;
	size_t size;
	size_t first;
	size_t count;
	uint64_t dropped; /* the newest version that is no longer here */
};

/* @version: where the counter starts; older readers are stale. -ENOMEM. */
int history_init(struct history *history, size_t size, uint64_t version);
void history_free(struct history *history);
/* Takes its own references. The oldest goes when the ring is full. */
void history_append(struct history *history, uint64_t version, enum change_type type,
	enum resource_id resource, json_t *object, json_t *previous);
/*
 * The oldest change of @resource after *@after: 1 and *out with new references (change_release),
 * 0 when there is none, -ESTALE. Moves *@after past what was read or skipped.
 */
int history_next(const struct history *history, enum resource_id resource, uint64_t *after,
	struct change *out);
void change_release(struct change *change);
const char *change_type_name(enum change_type type);

#endif
