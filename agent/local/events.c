// SPDX-License-Identifier: Apache-2.0
#include "local/events.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "local/api/object.h"

#define COMPONENT "ebbtide-local"

static uint64_t hash_text(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 1099511628211u;
	return hash;
}

static const char *text_or_empty(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

void events_record(struct store *store, const json_t *object, bool warning, const char *reason,
	const char *format, ...)
{
	const struct resource *events = &resources[RESOURCE_EVENTS];
	const char *namespace = object_namespace(object);
	char message[512], name[320], now[OBJECT_TIME_SIZE];
	json_t *event, *old;
	uint64_t hash;
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (!*namespace)
	namespace = "default";
	hash = hash_text(hash_text(14695981039346656037u, reason), message);
	hash = hash_text(hash, object_uid(object));
	snprintf(name, sizeof(name), "%s.%016llx", object_name(object), (unsigned long long)hash);
	object_format_time(now, time(NULL));
	old = store_get(store, events, namespace, name);
	if (old) {
		event = json_deep_copy(old);
		json_object_set_new(
			event, "count", json_integer(object_integer(old, "count", 1) + 1));
		object_set_string(event, "lastTimestamp", now);
		store_replace(store, events, event, 0, NULL);
		json_decref(old);
		return;
	}
	event = json_pack(
		"{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s, s:s, s:s}, s:s, s:s, s:s, "
		"s:{s:s}, s:s, s:s, s:s, s:i, s:n}",
		"apiVersion", "v1", "kind", "Event", "metadata", "name", name, "namespace",
		namespace, "involvedObject", "kind", text_or_empty(object, "kind"), "apiVersion",
		text_or_empty(object, "apiVersion"), "namespace", object_namespace(object), "name",
		object_name(object), "uid", object_uid(object), "resourceVersion",
		object_string(object, "metadata", "resourceVersion", NULL)
			? object_string(object, "metadata", "resourceVersion", NULL)
			: "",
		"reason", reason, "message", message, "type", warning ? "Warning" : "Normal",
		"source", "component", COMPONENT, "firstTimestamp", now, "lastTimestamp", now,
		"reportingComponent", COMPONENT, "count", 1, "eventTime");
	store_create(store, events, event, NULL);
}
