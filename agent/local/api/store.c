// SPDX-License-Identifier: Apache-2.0
#include "local/api/store.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "local/api/object.h"

struct entry {
	char *key; /* "namespace/name" */
	json_t *object;
};

struct shelf {
	struct entry *entries; /* in the order of keys */
	size_t count;
	size_t room;
};

struct store {
	pthread_mutex_t lock;
	struct shelf shelves[RESOURCE_COUNT];
	struct history history;
	uint64_t version;
	int *listeners;
	size_t listener_count;
};

struct store *store_new(uint64_t version, size_t history_events)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	pthread_mutex_init(&store->lock, NULL);
	store->version = version;
	if (history_init(&store->history, history_events, version)) {
		free(store);
		return NULL;
	}
	return store;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (size_t r = 0; r < RESOURCE_COUNT; r++) {
		for (size_t i = 0; i < store->shelves[r].count; i++) {
			free(store->shelves[r].entries[i].key);
			json_decref(store->shelves[r].entries[i].object);
		}
		free(store->shelves[r].entries);
	}
	history_free(&store->history);
	free(store->listeners);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

static void make_key(char *out, size_t size, const struct resource *resource, const char *namespace,
	const char *name)
{
	snprintf(out, size, "%s/%s", resource->namespaced && namespace ? namespace : "", name);
}

/* True and the place when found, else the place where it belongs. */
static bool shelf_search(const struct shelf *shelf, const char *key, size_t *place)
{
	size_t low = 0, high = shelf->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(shelf->entries[middle].key, key);

		if (order == 0) {
			*place = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*place = low;
	return false;
}

static int shelf_insert(struct shelf *shelf, size_t place, const char *key, json_t *object)
{
	char *copy = strdup(key);

	if (!copy)
		return -ENOMEM;
	if (shelf->count == shelf->room) {
		size_t room = shelf->room ? shelf->room * 2 : 16;
		struct entry *entries = realloc(shelf->entries, room * sizeof(*entries));

		if (!entries) {
			free(copy);
			return -ENOMEM;
		}
		shelf->entries = entries;
		shelf->room = room;
	}
	memmove(shelf->entries + place + 1, shelf->entries + place,
		(shelf->count - place) * sizeof(*shelf->entries));
	shelf->entries[place] = (struct entry){.key = copy, .object = object};
	shelf->count++;
	return 0;
}

/* The caller gets the shelf's reference. */
static json_t *shelf_take(struct shelf *shelf, size_t place)
{
	json_t *object = shelf->entries[place].object;

	free(shelf->entries[place].key);
	shelf->count--;
	memmove(shelf->entries + place, shelf->entries + place + 1,
		(shelf->count - place) * sizeof(*shelf->entries));
	return object;
}

static void set_version(json_t *object, uint64_t version)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, version);
	object_set_string(object_child(object, "metadata"), "resourceVersion", text);
}

static void wake_listeners(const struct store *store)
{
	for (size_t i = 0; i < store->listener_count; i++)
		eventfd_write(store->listeners[i], 1);
}

static void record(struct store *store, enum change_type type, const struct resource *resource,
	json_t *object, json_t *previous)
{
	history_append(&store->history, store->version, type, resource->id, object, previous);
	wake_listeners(store);
}

json_t *store_get(struct store *store, const struct resource *resource, const char *namespace,
	const char *name)
{
	const struct shelf *shelf = &store->shelves[resource->id];
	json_t *object = NULL;
	char key[600];
	size_t place;

	make_key(key, sizeof(key), resource, namespace, name);
	pthread_mutex_lock(&store->lock);
	if (shelf_search(shelf, key, &place))
		object = json_incref(shelf->entries[place].object);
	pthread_mutex_unlock(&store->lock);
	return object;
}

json_t *store_list(struct store *store, const struct resource *resource, const char *namespace,
	uint64_t *version)
{
	const struct shelf *shelf = &store->shelves[resource->id];
	json_t *list = json_array();

	pthread_mutex_lock(&store->lock);
	for (size_t i = 0; i < shelf->count; i++)
		if (!namespace || !strcmp(object_namespace(shelf->entries[i].object), namespace))
			json_array_append(list, shelf->entries[i].object);
	if (version)
		*version = store->version;
	pthread_mutex_unlock(&store->lock);
	return list;
}

uint64_t store_version(struct store *store)
{
	uint64_t version;

	pthread_mutex_lock(&store->lock);
	version = store->version;
	pthread_mutex_unlock(&store->lock);
	return version;
}

/* Remove the entry that has not changed for longest. Called with the lock held. */
static void evict_oldest(struct store *store, const struct resource *resource)
{
	struct shelf *shelf = &store->shelves[resource->id];
	size_t oldest = 0;
	json_t *object, *last;

	for (size_t i = 1; i < shelf->count; i++)
		if (object_version(shelf->entries[i].object) <
			object_version(shelf->entries[oldest].object))
			oldest = i;
	object = shelf_take(shelf, oldest);
	last = json_deep_copy(object);
	store->version++;
	set_version(last, store->version);
	record(store, CHANGE_DELETED, resource, last, object);
	json_decref(last);
	json_decref(object);
}

int store_create(
	struct store *store, const struct resource *resource, json_t *object, json_t **stored)
{
	struct shelf *shelf = &store->shelves[resource->id];
	json_t *metadata = object_child(object, "metadata");
	char key[600], time_text[OBJECT_TIME_SIZE], uid[OBJECT_UID_SIZE];
	size_t place;
	int err = 0;

	make_key(key, sizeof(key), resource, object_namespace(object), object_name(object));
	object_make_uid(uid);
	object_set_string(metadata, "uid", uid);
	object_format_time(time_text, time(NULL));
	object_set_string(metadata, "creationTimestamp", time_text);
	if (resource->generation)
		json_object_set_new(metadata, "generation", json_integer(1));
	pthread_mutex_lock(&store->lock);
	if (shelf_search(shelf, key, &place)) {
		err = -EEXIST;
		goto out;
	}
	if (resource->most && shelf->count >= resource->most) {
		evict_oldest(store, resource);
		shelf_search(shelf, key, &place);
	}
	err = shelf_insert(shelf, place, key, object);
	if (err)
		goto out;
	store->version++;
	set_version(object, store->version);
	record(store, CHANGE_ADDED, resource, object, NULL);
	json_incref(object); /* the shelf's */
	if (stored)
		*stored = json_incref(object);
out:
	pthread_mutex_unlock(&store->lock);
	json_decref(object);
	return err;
}

static void keep_identity(const struct resource *resource, json_t *object, const json_t *old)
{
	json_t *metadata = object_child(object, "metadata");
	const json_t *before = json_object_get(old, "metadata");
	static const char *const fixed[] = {
		"uid", "creationTimestamp", "resourceVersion", "generation"};

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		json_t *value = json_object_get(before, fixed[i]);

		if (value)
			json_object_set(metadata, fixed[i], value);
		else
			json_object_del(metadata, fixed[i]);
	}
	if (resource->generation &&
		!json_equal(json_object_get(object, "spec"), json_object_get(old, "spec")))
		json_object_set_new(metadata, "generation",
			json_integer(object_integer(before, "generation", 0) + 1));
}

int store_replace(struct store *store, const struct resource *resource, json_t *object,
	uint64_t version, json_t **stored)
{
	struct shelf *shelf = &store->shelves[resource->id];
	char key[600];
	json_t *old;
	size_t place;
	int err = 0;

	make_key(key, sizeof(key), resource, object_namespace(object), object_name(object));
	pthread_mutex_lock(&store->lock);
	if (!shelf_search(shelf, key, &place)) {
		err = -ENOENT;
		goto out;
	}
	old = shelf->entries[place].object;
	if (version && object_version(old) != version) {
		err = -EAGAIN;
		goto out;
	}
	keep_identity(resource, object, old);
	if (!json_equal(object, old)) {
		store->version++;
		set_version(object, store->version);
		record(store, CHANGE_MODIFIED, resource, object, old);
		shelf->entries[place].object = json_incref(object);
		json_decref(old);
	}
	if (stored)
		*stored = json_incref(shelf->entries[place].object);
out:
	pthread_mutex_unlock(&store->lock);
	json_decref(object);
	return err;
}

int store_delete(struct store *store, const struct resource *resource, const char *namespace,
	const char *name, uint64_t version, json_t **last)
{
	struct shelf *shelf = &store->shelves[resource->id];
	json_t *object, *final;
	char key[600];
	size_t place;
	int err = 0;

	make_key(key, sizeof(key), resource, namespace, name);
	pthread_mutex_lock(&store->lock);
	if (!shelf_search(shelf, key, &place)) {
		err = -ENOENT;
		goto out;
	}
	if (version && object_version(shelf->entries[place].object) != version) {
		err = -EAGAIN;
		goto out;
	}
	object = shelf_take(shelf, place);
	final = json_deep_copy(object);
	store->version++;
	set_version(final, store->version);
	record(store, CHANGE_DELETED, resource, final, object);
	if (last)
		*last = json_incref(final);
	json_decref(final);
	json_decref(object);
out:
	pthread_mutex_unlock(&store->lock);
	return err;
}

int store_next_change(
	struct store *store, enum resource_id resource, uint64_t *after, struct change *out)
{
	int found;

	pthread_mutex_lock(&store->lock);
	found = history_next(&store->history, resource, after, out);
	pthread_mutex_unlock(&store->lock);
	return found;
}

uint64_t store_oldest_version(struct store *store)
{
	uint64_t version;

	pthread_mutex_lock(&store->lock);
	version = store->history.dropped;
	pthread_mutex_unlock(&store->lock);
	return version;
}

int store_add_listener(struct store *store, int eventfd)
{
	int *listeners;

	pthread_mutex_lock(&store->lock);
	listeners = realloc(store->listeners, (store->listener_count + 1) * sizeof(*listeners));
	if (listeners) {
		store->listeners = listeners;
		store->listeners[store->listener_count++] = eventfd;
	}
	pthread_mutex_unlock(&store->lock);
	return listeners ? 0 : -ENOMEM;
}

void store_remove_listener(struct store *store, int eventfd)
{
	pthread_mutex_lock(&store->lock);
	for (size_t i = 0; i < store->listener_count; i++)
		if (store->listeners[i] == eventfd) {
			store->listeners[i] = store->listeners[--store->listener_count];
			break;
		}
	pthread_mutex_unlock(&store->lock);
}

void store_wake_listeners(struct store *store)
{
	pthread_mutex_lock(&store->lock);
	wake_listeners(store);
	pthread_mutex_unlock(&store->lock);
}
