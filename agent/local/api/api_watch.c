// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "local/api/api.h"
#include "local/api/object.h"
#include "local/api/status.h"

static char *to_event(const char *type, json_t *object)
{
	json_t *event = json_pack("{s:s, s:o}", "type", type, "object", object);
	char *text = json_dumps(event, JSON_COMPACT);

	json_decref(event);
	return text;
}

static char *object_event(struct api_watch *watch, const char *type, json_t *object)
{
	json_t *items, *table;

	if (!watch->table)
		return to_event(type, json_incref(object));
	items = json_pack("[O]", object);
	table = table_new(watch->resource, items, watch->include, !watch->headers_sent, time(NULL));
	watch->headers_sent = true;
	json_decref(items);
	return to_event(type, table);
}

static bool selects(const struct api_watch *watch, const json_t *object)
{
	if (watch->namespace && strcmp(object_namespace(object), watch->namespace) != 0)
		return false;
	if (watch->name && strcmp(object_name(object), watch->name) != 0)
		return false;
	return selector_match_labels(&watch->labels, object) &&
	       selector_match_fields(&watch->fields, object);
}

/* What a change is for a watch that sees only part: coming into view is ADDED, leaving DELETED. */
static const char *seen_as(const struct api_watch *watch, const struct change *change)
{
	bool after = change->type != CHANGE_DELETED && selects(watch, change->object);
	bool before = change->previous && selects(watch, change->previous);

	if (after)
		return before ? "MODIFIED" : "ADDED";
	return before ? "DELETED" : NULL;
}

/* A DELETED event carries the last state that was seen, with the version of the change. */
static char *change_event(struct api_watch *watch, const char *type, const struct change *change)
{
	char version[24], *text;
	json_t *object;

	if (strcmp(type, "DELETED") != 0 || change->type == CHANGE_DELETED)
		return object_event(watch, type, change->object);
	object = json_deep_copy(change->previous);
	snprintf(version, sizeof(version), "%" PRIu64, change->version);
	object_set_string(object_child(object, "metadata"), "resourceVersion", version);
	text = object_event(watch, type, object);
	json_decref(object);
	return text;
}

char *api_watch_next(struct api *api, struct api_watch *watch)
{
	struct change change;
	int found;

	if (watch->failed)
		return NULL;
	while (watch->initial && watch->initial_sent < json_array_size(watch->initial)) {
		json_t *object = json_array_get(watch->initial, watch->initial_sent++);

		if (selects(watch, object))
			return object_event(watch, "ADDED", object);
	}
	if (watch->mark_initial) {
		watch->mark_initial = false;
		json_t *mark = json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "kind",
			watch->resource->kind, "apiVersion", "v1", "metadata", "resourceVersion",
			"", "annotations", "k8s.io/initial-events-end", "true");
		char version[24], api_version[128];

		snprintf(version, sizeof(version), "%" PRIu64, watch->after);
		resource_api_version(watch->resource, api_version, sizeof(api_version));
		object_set_string(mark, "apiVersion", api_version);
		object_set_string(json_object_get(mark, "metadata"), "resourceVersion", version);
		return to_event("BOOKMARK", mark);
	}
	while ((found = store_next_change(
			api->store, watch->resource->id, &watch->after, &change)) > 0) {
		const char *type = seen_as(watch, &change);
		char *text = type ? change_event(watch, type, &change) : NULL;

		change_release(&change);
		if (text)
			return text;
	}
	if (found == -ESTALE) {
		watch->failed = true;
		return to_event(
			"ERROR", status_expired(watch->after, store_oldest_version(api->store)));
	}
	return NULL;
}

char *api_watch_bookmark(struct api *api, struct api_watch *watch)
{
	char version[24], api_version[128];
	json_t *object;

	(void)api;
	snprintf(version, sizeof(version), "%" PRIu64, watch->after);
	resource_api_version(watch->resource, api_version, sizeof(api_version));
	object = json_pack("{s:s, s:s, s:{s:s, s:n}}", "kind", watch->resource->kind, "apiVersion",
		api_version, "metadata", "resourceVersion", version, "creationTimestamp");
	return to_event("BOOKMARK", object);
}

void api_watch_free(struct api_watch *watch)
{
	if (!watch)
		return;
	free(watch->namespace);
	free(watch->name);
	selector_free(&watch->labels);
	selector_free(&watch->fields);
	json_decref(watch->initial);
	free(watch);
}
