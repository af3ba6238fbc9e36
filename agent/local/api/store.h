// SPDX-License-Identifier: Apache-2.0
/*
 * All objects, in memory, with one global resourceVersion counter and the history for watches.
 *
 * Every function may be called from any thread. Objects handed out are shared and must not be
 * changed: json_deep_copy first. A change is: get, copy, change, store_replace with the version
 * that was read; -EAGAIN means that somebody was faster: read again.
 */
#ifndef EBBTIDE_LOCAL_STORE_H
#define EBBTIDE_LOCAL_STORE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "local/api/resources.h"
#include "local/api/watch.h"

struct store;

/*
 * @version: what the counter starts from. A number taken from the clock makes the versions of an
 * earlier run stale, so that its watchers list again. NULL: out of memory.
 */
struct store *store_new(uint64_t version, size_t history_events);
void store_free(struct store *store);

/* A new reference, or NULL. */
json_t *store_get(struct store *store, const struct resource *resource, const char *namespace,
	const char *name);
/* A new array, in the order of namespace and name. @namespace NULL: all. @version may be NULL. */
json_t *store_list(struct store *store, const struct resource *resource, const char *namespace,
	uint64_t *version);
uint64_t store_version(struct store *store);

/*
 * Store a new object: fills in uid, creationTimestamp, generation, resourceVersion; metadata.name
 * must be there. Takes the reference to @object in any case. *stored (may be NULL): a new
 * reference. -EEXIST.
 */
int store_create(
	struct store *store, const struct resource *resource, json_t *object, json_t **stored);
/*
 * Replace: uid and creationTimestamp stay, generation grows when spec changes, nothing happens
 * (0, and no new version) when nothing differs. Takes the reference to @object in any case.
 * @version 0: whatever is there. -ENOENT, -EAGAIN (another version is there).
 */
int store_replace(struct store *store, const struct resource *resource, json_t *object,
	uint64_t version, json_t **stored);
/* *last (may be NULL): a new reference to its last state. -ENOENT, -EAGAIN. */
int store_delete(struct store *store, const struct resource *resource, const char *namespace,
	const char *name, uint64_t version, json_t **last);

/* As history_next, under the lock. */
int store_next_change(
	struct store *store, enum resource_id resource, uint64_t *after, struct change *out);
/* The oldest version from which a watch can start. */
uint64_t store_oldest_version(struct store *store);
/*
 * @eventfd is written to (adds 1) after every change until it is removed; -ENOMEM.
 */
int store_add_listener(struct store *store, int eventfd);
void store_remove_listener(struct store *store, int eventfd);
/* Wake them without a change. */
void store_wake_listeners(struct store *store);

#endif
