// SPDX-License-Identifier: Apache-2.0
#include "local/api/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "local/api/object.h"

struct column {
	const char *name;
	const char *type;
	int priority; /* above 0: only with -o wide */
	/* A new JSON value. */
	json_t *(*cell)(const json_t *object, time_t now);
};

void table_format_age(char *out, size_t size, time_t seconds)
{
	long s = (long)seconds, m = s / 60, h = s / 3600, d = h / 24;

	if (s < 0)
		snprintf(out, size, "0s");
	else if (s < 120)
		snprintf(out, size, "%lds", s);
	else if (m < 10)
		snprintf(out, size, s % 60 ? "%ldm%lds" : "%ldm", m, s % 60);
	else if (m < 180)
		snprintf(out, size, "%ldm", m);
	else if (h < 8)
		snprintf(out, size, m % 60 ? "%ldh%ldm" : "%ldh", h, m % 60);
	else if (h < 48)
		snprintf(out, size, "%ldh", h);
	else if (d < 8)
		snprintf(out, size, h % 24 ? "%ldd%ldh" : "%ldd", d, h % 24);
	else
		snprintf(out, size, "%ldd", d);
}

static json_t *age_since(const char *text, time_t now)
{
	time_t then = object_parse_time(text);
	char age[32];

	if (then < 0)
		return json_string("<unknown>");
	table_format_age(age, sizeof(age), now - then);
	return json_string(age);
}

static json_t *text_or_none(const char *text)
{
	return json_string(text && *text ? text : "<none>");
}

static json_t *cell_name(const json_t *object, time_t now)
{
	(void)now;
	return json_string(object_name(object));
}

static json_t *cell_age(const json_t *object, time_t now)
{
	return age_since(object_string(object, "metadata", "creationTimestamp", NULL), now);
}

static json_t *cell_pod_ready(const json_t *object, time_t now)
{
	const json_t *list = object_get(object, "status", "containerStatuses", NULL), *container;
	size_t index, ready = 0;
	char text[32];

	(void)now;
	json_array_foreach ((json_t *)list, index, container)
		ready += json_is_true(json_object_get(container, "ready"));
	snprintf(text, sizeof(text), "%zu/%zu", ready,
		json_array_size(object_get(object, "spec", "containers", NULL)));
	return json_string(text);
}

static json_t *cell_pod_status(const json_t *object, time_t now)
{
	const json_t *list = object_get(object, "status", "containerStatuses", NULL), *container;
	const char *text = object_string(object, "status", "phase", NULL);
	size_t index;

	(void)now;
	json_array_foreach ((json_t *)list, index, container) {
		const char *reason = object_string(container, "state", "waiting", "reason", NULL);

		if (!reason)
			reason = object_string(container, "state", "terminated", "reason", NULL);
		if (reason)
			text = reason;
	}
	if (object_string(object, "metadata", "deletionTimestamp", NULL))
		text = "Terminating";
	return json_string(text ? text : "Unknown");
}

static json_t *cell_pod_restarts(const json_t *object, time_t now)
{
	const json_t *list = object_get(object, "status", "containerStatuses", NULL), *container;
	json_int_t restarts = 0;
	time_t last = -1;
	char text[64], age[32];
	size_t index;

	json_array_foreach ((json_t *)list, index, container) {
		time_t ended = object_parse_time(
			object_string(container, "lastState", "terminated", "finishedAt", NULL));

		restarts += object_integer(container, "restartCount", 0);
		if (ended > last)
			last = ended;
	}
	if (restarts == 0 || last < 0)
		return json_integer(restarts);
	table_format_age(age, sizeof(age), now - last);
	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " (%s ago)", restarts, age);
	return json_string(text);
}

#define STRING_CELL(function, ...)                                                                 \
	static json_t *function(const json_t *object, time_t now)                                  \
	{                                                                                          \
		(void)now;                                                                         \
		return text_or_none(object_string(object, __VA_ARGS__, NULL));                     \
	}

#define INTEGER_CELL(function, parent, key)                                                        \
	static json_t *function(const json_t *object, time_t now)                                  \
	{                                                                                          \
		(void)now;                                                                         \
		return json_integer(object_integer(json_object_get(object, parent), key, 0));      \
	}

STRING_CELL(cell_pod_ip, "status", "podIP")
STRING_CELL(cell_pod_node, "spec", "nodeName")
STRING_CELL(cell_nominated, "status", "nominatedNodeName")
STRING_CELL(cell_phase, "status", "phase")
STRING_CELL(cell_kubelet, "status", "nodeInfo", "kubeletVersion")
STRING_CELL(cell_kernel, "status", "nodeInfo", "kernelVersion")
STRING_CELL(cell_holder, "spec", "holderIdentity")
STRING_CELL(cell_vertical_mode, "spec", "updatePolicy", "updateMode")
STRING_CELL(cell_event_type, "type")
STRING_CELL(cell_event_reason, "reason")
STRING_CELL(cell_event_message, "message")
STRING_CELL(cell_objective_service, "spec", "targetRef", "name")
STRING_CELL(cell_objective_mode, "spec", "mode")
STRING_CELL(cell_objective_target, "spec", "latency", "target")
INTEGER_CELL(cell_updated, "status", "updatedReplicas")
INTEGER_CELL(cell_available, "status", "availableReplicas")
INTEGER_CELL(cell_desired, "spec", "replicas")
INTEGER_CELL(cell_current, "status", "replicas")
INTEGER_CELL(cell_ready, "status", "readyReplicas")
INTEGER_CELL(cell_horizontal_least, "spec", "minReplicas")
INTEGER_CELL(cell_horizontal_most, "spec", "maxReplicas")
INTEGER_CELL(cell_horizontal_current, "status", "currentReplicas")

static json_t *cell_gates(const json_t *object, time_t now)
{
	(void)object;
	(void)now;
	return json_string("<none>");
}

static json_t *cell_horizontal_target(const json_t *object, time_t now)
{
	const char *kind = object_string(object, "spec", "scaleTargetRef", "kind", NULL);
	const char *name = object_string(object, "spec", "scaleTargetRef", "name", NULL);
	char text[400];

	(void)now;
	snprintf(text, sizeof(text), "%.60s/%.300s", kind ? kind : "", name ? name : "");
	return json_string(text);
}

static json_t *cell_deployment_ready(const json_t *object, time_t now)
{
	char text[64];

	(void)now;
	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT,
		object_integer(json_object_get(object, "status"), "readyReplicas", 0),
		object_integer(json_object_get(object, "spec"), "replicas", 0));
	return json_string(text);
}

static json_t *join_containers(const json_t *object, const char *key)
{
	const json_t *list = object_get(object, "spec", "template", "spec", "containers", NULL);
	const json_t *container;
	char text[512] = "";
	size_t index, used = 0;

	json_array_foreach ((json_t *)list, index, container) {
		const char *value = object_string(container, key, NULL);

		if (used < sizeof(text) - 1)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.200s",
				index ? "," : "", value ? value : "");
	}
	return text_or_none(text);
}

static json_t *cell_container_names(const json_t *object, time_t now)
{
	(void)now;
	return join_containers(object, "name");
}

static json_t *cell_images(const json_t *object, time_t now)
{
	(void)now;
	return join_containers(object, "image");
}

static json_t *cell_selector(const json_t *object, time_t now)
{
	json_t *labels = object_get(object, "spec", "selector", "matchLabels", NULL), *value;
	char text[512] = "";
	const char *key;
	size_t used = 0;

	(void)now;
	json_object_foreach (labels, key, value)
		if (used < sizeof(text) - 1)
			used += (size_t)snprintf(text + used, sizeof(text) - used,
				"%s%.100s=%.100s", used ? "," : "", key, json_string_value(value));
	return text_or_none(text);
}

static json_t *cell_node_status(const json_t *object, time_t now)
{
	(void)object;
	(void)now;
	return json_string("Ready");
}

static json_t *cell_event_seen(const json_t *object, time_t now)
{
	const char *text = object_string(object, "lastTimestamp", NULL);

	if (!text)
		text = object_string(object, "eventTime", NULL);
	if (!text)
		text = object_string(object, "metadata", "creationTimestamp", NULL);
	return age_since(text, now);
}

static json_t *cell_event_object(const json_t *object, time_t now)
{
	const char *kind = object_string(object, "involvedObject", "kind", NULL);
	const char *name = object_string(object, "involvedObject", "name", NULL);
	char text[400];

	(void)now;
	snprintf(text, sizeof(text), "%.60s/%.300s", kind ? kind : "", name ? name : "");
	for (char *p = text; *p && *p != '/'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + ('a' - 'A'));
	return json_string(text);
}

/* As a server shows what is not there: blank. */
static json_t *scalar_or_blank(json_t *value)
{
	return json_is_string(value) || json_is_integer(value) ? json_incref(value)
							       : json_string("");
}

#define SCALAR_CELL(function, ...)                                                                 \
	static json_t *function(const json_t *object, time_t now)                                  \
	{                                                                                          \
		(void)now;                                                                         \
		return scalar_or_blank(object_get(object, __VA_ARGS__, NULL));                     \
	}

SCALAR_CELL(cell_objective_latency, "status", "currentLatencyUs")
SCALAR_CELL(cell_objective_cpu, "status", "recommendation", "cpu")
SCALAR_CELL(cell_objective_replicas, "status", "recommendation", "replicas")
SCALAR_CELL(cell_objective_memory, "status", "recommendation", "memory")
SCALAR_CELL(cell_objective_action, "status", "lastAction", "why")
SCALAR_CELL(cell_objective_rule, "status", "lastAction", "rule")

static json_t *cell_objective_met(const json_t *object, time_t now)
{
	const char *type;
	json_t *condition;
	size_t index;

	(void)now;
	json_array_foreach (object_get(object, "status", "conditions", NULL), index, condition) {
		type = object_string(condition, "type", NULL);
		if (type && strcmp(type, "ObjectiveMet") == 0)
			return scalar_or_blank(json_object_get(condition, "status"));
	}
	return json_string("");
}

#define COLUMNS_MAX 13

static const struct column columns[RESOURCE_COUNT][COLUMNS_MAX] = {
	[RESOURCE_PODS] = {{"Name", "string", 0, cell_name}, {"Ready", "string", 0, cell_pod_ready},
		{"Status", "string", 0, cell_pod_status},
		{"Restarts", "string", 0, cell_pod_restarts}, {"Age", "string", 0, cell_age},
		{"IP", "string", 1, cell_pod_ip}, {"Node", "string", 1, cell_pod_node},
		{"Nominated Node", "string", 1, cell_nominated},
		{"Readiness Gates", "string", 1, cell_gates}},
	[RESOURCE_NAMESPACES] = {{"Name", "string", 0, cell_name},
		{"Status", "string", 0, cell_phase}, {"Age", "string", 0, cell_age}},
	[RESOURCE_NODES] = {{"Name", "string", 0, cell_name},
		{"Status", "string", 0, cell_node_status}, {"Roles", "string", 0, cell_gates},
		{"Age", "string", 0, cell_age}, {"Version", "string", 0, cell_kubelet},
		{"Kernel-Version", "string", 1, cell_kernel}},
	[RESOURCE_EVENTS] = {{"Last Seen", "string", 0, cell_event_seen},
		{"Type", "string", 0, cell_event_type}, {"Reason", "string", 0, cell_event_reason},
		{"Object", "string", 0, cell_event_object},
		{"Message", "string", 0, cell_event_message}, {"Name", "string", 1, cell_name}},
	[RESOURCE_DEPLOYMENTS] = {{"Name", "string", 0, cell_name},
		{"Ready", "string", 0, cell_deployment_ready},
		{"Up-to-date", "integer", 0, cell_updated},
		{"Available", "integer", 0, cell_available}, {"Age", "string", 0, cell_age},
		{"Containers", "string", 1, cell_container_names},
		{"Images", "string", 1, cell_images}, {"Selector", "string", 1, cell_selector}},
	[RESOURCE_REPLICASETS] = {{"Name", "string", 0, cell_name},
		{"Desired", "integer", 0, cell_desired}, {"Current", "integer", 0, cell_current},
		{"Ready", "integer", 0, cell_ready}, {"Age", "string", 0, cell_age},
		{"Containers", "string", 1, cell_container_names},
		{"Images", "string", 1, cell_images}, {"Selector", "string", 1, cell_selector}},
	[RESOURCE_LEASES] = {{"Name", "string", 0, cell_name}, {"Holder", "string", 0, cell_holder},
		{"Age", "string", 0, cell_age}},
	/* Without metrics: nobody measures any for them here. */
	[RESOURCE_HORIZONTALS] = {{"Name", "string", 0, cell_name},
		{"Reference", "string", 0, cell_horizontal_target},
		{"MinPods", "integer", 0, cell_horizontal_least},
		{"MaxPods", "integer", 0, cell_horizontal_most},
		{"Replicas", "integer", 0, cell_horizontal_current},
		{"Age", "string", 0, cell_age}},
	[RESOURCE_VERTICALS] = {{"Name", "string", 0, cell_name},
		{"Mode", "string", 0, cell_vertical_mode}, {"Age", "string", 0, cell_age}},
	/* Those of k8s/crd.yaml. */
	[RESOURCE_OBJECTIVES] = {{"Name", "string", 0, cell_name},
		{"Service", "string", 0, cell_objective_service},
		{"Mode", "string", 0, cell_objective_mode},
		{"Target", "string", 0, cell_objective_target},
		{"Latency (us)", "integer", 0, cell_objective_latency},
		{"CPU", "string", 0, cell_objective_cpu},
		{"Replicas", "integer", 0, cell_objective_replicas},
		{"Met", "string", 0, cell_objective_met},
		{"Memory", "string", 1, cell_objective_memory},
		{"Last action", "string", 1, cell_objective_action},
		{"Rule", "string", 1, cell_objective_rule}, {"Age", "string", 0, cell_age}},
};

static json_t *column_definitions(const struct resource *resource)
{
	json_t *list = json_array();

	for (const struct column *column = columns[resource->id]; column->name; column++)
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s, s:s, s:i}", "name", column->name, "type",
				column->type, "format", column->cell == cell_name ? "name" : "",
				"description", "", "priority", column->priority));
	return list;
}

static json_t *row_object(const json_t *object, enum table_include include)
{
	if (include == TABLE_NONE)
		return json_null();
	if (include == TABLE_OBJECT)
		return json_incref((json_t *)object);
	return json_pack("{s:s, s:s, s:O}", "kind", "PartialObjectMetadata", "apiVersion",
		"meta.k8s.io/v1", "metadata", json_object_get(object, "metadata"));
}

json_t *table_new(const struct resource *resource, const json_t *items, enum table_include include,
	bool headers, time_t now)
{
	json_t *rows = json_array(), *item;
	size_t index;

	json_array_foreach ((json_t *)items, index, item) {
		json_t *cells = json_array();

		for (const struct column *column = columns[resource->id]; column->name; column++)
			json_array_append_new(cells, column->cell(item, now));
		json_array_append_new(rows, json_pack("{s:o, s:o}", "cells", cells, "object",
						    row_object(item, include)));
	}
	return json_pack("{s:s, s:s, s:{}, s:o, s:o}", "kind", "Table", "apiVersion",
		"meta.k8s.io/v1", "metadata", "columnDefinitions",
		headers ? column_definitions(resource) : json_array(), "rows", rows);
}
