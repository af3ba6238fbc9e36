// SPDX-License-Identifier: Apache-2.0
#include "ctl/trace_event.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const trace_part_names[PARTS] = {
#define X(field, name) [PART_##field] = (name),
	TRACE_PARTS(X)
#undef X
};

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

#define COPY(event, field, object)                                                                 \
	snprintf(event->field, sizeof(event->field), "%s", text(object, #field))

static uint64_t whole(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t)value : 0;
}

static uint64_t ns_of_us(const json_t *object, const char *name)
{
	double us = json_number_value(json_object_get(object, name));

	return us > 0 && us < 1e15 ? (uint64_t)llround(us * 1000) : 0;
}

static void reasons_parse(const json_t *reasons, struct trace_event *event)
{
	const json_t *reason;
	size_t i, used = 0;

	json_array_foreach (reasons, i, reason) {
		const char *name = json_string_value(reason);

		if (!name || used + strlen(name) + 2 > sizeof(event->reasons))
			continue;
		event->error |= strcmp(name, "error") == 0;
		used += (size_t)snprintf(event->reasons + used, sizeof(event->reasons) - used,
			"%s%s", used ? "," : "", name);
	}
}

static void request_parse(const json_t *object, struct trace_event *event)
{
	const json_t *parts = json_object_get(object, "breakdown");
	const json_t *grpc = json_object_get(object, "grpc_status");

	event->latency_ns = ns_of_us(object, "latency_us");
	event->has_parts = json_is_object(parts);
#define X(field, name) event->parts_ns[PART_##field] = ns_of_us(parts, #field);
	TRACE_PARTS(X)
#undef X
	event->is_call = strcmp(text(object, "side"), "client") == 0;
	event->failed = strcmp(text(object, "outcome"), "failed") == 0;
	COPY(event, protocol, object);
	COPY(event, method, object);
	COPY(event, path, object);
	COPY(event, peer, object);
	event->status = (unsigned int)whole(object, "status");
	event->grpc_status = json_is_integer(grpc) ? (int)json_integer_value(grpc) : -1;
	event->request_bytes = whole(object, "request_bytes");
	event->response_bytes = whole(object, "response_bytes");
	event->peer_port = (unsigned int)whole(object, "peer_port");
	event->error = event->failed;
	reasons_parse(json_object_get(object, "reasons"), event);
}

int trace_event_parse(const char *line, struct trace_event *event)
{
	json_t *object = json_loads(line, 0, NULL);
	const char *kind = text(object, "kind");
	int err = 0;

	memset(event, 0, sizeof(*event));
	event->time_us = whole(object, "time_us");
	event->pid = (uint32_t)whole(object, "pid");
	COPY(event, pod, object);
	COPY(event, container, object);
	COPY(event, comm, object);
	if (json_is_integer(json_object_get(object, "missed"))) {
		event->kind = TRACE_MISSED;
		event->missed = whole(object, "missed");
	} else if (strcmp(kind, "oom") == 0) {
		event->kind = TRACE_OOM;
	} else if (strcmp(kind, "refill") == 0) {
		event->kind = TRACE_REFILL;
		event->oldest_us = json_number_value(json_object_get(object, "oldest_request_us"));
		event->granted_us = json_number_value(json_object_get(object, "granted_us"));
	} else if (strcmp(kind, "request") == 0) {
		event->kind = TRACE_REQUEST;
		request_parse(object, event);
	} else {
		err = -EINVAL;
	}
	json_decref(object);
	return err;
}
