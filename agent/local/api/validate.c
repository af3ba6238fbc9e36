// SPDX-License-Identifier: Apache-2.0
#include "local/api/validate.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/objective.h"
#include "common/quantity.h"
#include "local/api/object.h"
#include "local/limits.h"
#include "local/pod_object.h"

#define FIELD_MAX     256
#define REPLICAS_MOST 1000
#define GRACE_MOST_S  86400

void validate_add_cause(
	json_t *causes, const char *reason, const char *field, const char *format, ...)
{
	char message[512];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	json_array_append_new(causes,
		json_pack("{s:s, s:s, s:s}", "reason", reason, "message", message, "field", field));
}

static void required(json_t *causes, const char *field, const char *why)
{
	validate_add_cause(causes, "FieldValueRequired", field,
		*why ? "Required value: %s" : "Required value%s", why);
}

static void invalid(json_t *causes, const char *field, const json_t *value, const char *why)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	validate_add_cause(causes, "FieldValueInvalid", field, "Invalid value: %.200s: %s",
		text ? text : "null", why);
	free(text);
}

static void set_default(json_t *object, const char *key, json_t *value)
{
	if (!json_object_get(object, key))
		json_object_set(object, key, value);
	json_decref(value);
}

/* 1 or 0.5 (numbers in YAML) and "1000m" become "1" and "500m". */
static void canonicalise(json_t *list, const char *key)
{
	json_t *value = json_object_get(list, key);
	char text[64];
	bool cpu = !strcmp(key, "cpu");
	double millicores;
	uint64_t bytes;

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, sizeof(text), "%.9g", json_real_value(value));
	else if (json_is_string(value))
		snprintf(text, sizeof(text), "%s", json_string_value(value));
	else
		return;
	if (json_is_string(value) && strlen(json_string_value(value)) >= sizeof(text))
		return;
	if (cpu && !quantity_parse_millicores(text, &millicores))
		quantity_format_millicores(text, sizeof(text), millicores);
	else if (!cpu && !strcmp(key, "memory") && !quantity_parse_bytes(text, &bytes))
		quantity_format_bytes(text, sizeof(text), bytes);
	object_set_string(list, key, text);
}

static void default_probe(json_t *probe)
{
	if (!json_is_object(probe))
		return;
	set_default(probe, "timeoutSeconds", json_integer(1));
	set_default(probe, "periodSeconds", json_integer(10));
	set_default(probe, "successThreshold", json_integer(1));
	set_default(probe, "failureThreshold", json_integer(3));
	if (json_is_object(json_object_get(probe, "httpGet")))
		set_default(json_object_get(probe, "httpGet"), "scheme", json_string("HTTP"));
}

static void default_container(json_t *container)
{
	json_t *resources_ = json_object_get(container, "resources");
	json_t *limits, *requests, *value, *port;
	size_t index;
	static const char *const lists[] = {"limits", "requests"};
	const char *key;

	if (!json_is_object(container))
		return;
	json_array_foreach (json_object_get(container, "ports"), index, port)
		if (json_is_object(port))
			set_default(port, "protocol", json_string("TCP"));
	default_probe(json_object_get(container, "readinessProbe"));
	if (!resources_) {
		json_object_set_new(container, "resources", json_object());
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		json_t *list = json_object_get(resources_, lists[i]);

		canonicalise(list, "cpu");
		canonicalise(list, "memory");
	}
	/* A request that is left out is the limit. */
	limits = json_object_get(resources_, "limits");
	if (!json_is_object(limits) || !json_is_object(resources_))
		return;
	requests = json_object_get(resources_, "requests");
	if (!requests) {
		requests = json_object();
		json_object_set_new(resources_, "requests", requests);
	}
	if (!json_is_object(requests))
		return;
	json_object_foreach (limits, key, value)
		if (!json_object_get(requests, key))
			json_object_set(requests, key, value);
	if (json_object_size(requests) == 0)
		json_object_del(resources_, "requests");
}

static void default_pod_spec(json_t *spec)
{
	json_t *container;
	size_t index;

	if (!json_is_object(spec))
		return;
	set_default(spec, "restartPolicy", json_string("Always"));
	set_default(spec, "terminationGracePeriodSeconds", json_integer(30));
	json_array_foreach (json_object_get(spec, "containers"), index, container)
		default_container(container);
}

static void default_deployment(json_t *object)
{
	json_t *spec = json_object_get(object, "spec");

	if (!json_is_object(spec))
		return;
	set_default(spec, "replicas", json_integer(1));
	set_default(spec, "revisionHistoryLimit", json_integer(10));
	set_default(spec, "progressDeadlineSeconds", json_integer(600));
	set_default(spec, "strategy",
		json_pack("{s:s, s:{s:s, s:s}}", "type", "RollingUpdate", "rollingUpdate",
			"maxUnavailable", "25%", "maxSurge", "25%"));
	default_pod_spec(object_get(spec, "template", "spec", NULL));
}

void validate_set_defaults(const struct resource *resource, json_t *object)
{
	json_t *metadata = object_child(object, "metadata");
	char api_version[128];

	resource_api_version(resource, api_version, sizeof(api_version));
	object_set_string(object, "apiVersion", api_version);
	object_set_string(object, "kind", resource->kind);
	if (resource->namespaced)
		set_default(metadata, "namespace", json_string("default"));
	else
		json_object_del(metadata, "namespace");
	if (resource->id == RESOURCE_DEPLOYMENTS)
		default_deployment(object);
	else if (resource->id == RESOURCE_PODS)
		default_pod_spec(json_object_get(object, "spec"));
	else if (resource->id == RESOURCE_NAMESPACES)
		json_object_set_new(object, "status", json_pack("{s:s}", "phase", "Active"));
}

static bool is_name(const char *name, size_t most, bool dots)
{
	size_t length = strlen(name);

	if (length == 0 || length > most || !isalnum((unsigned char)name[0]) ||
		!isalnum((unsigned char)name[length - 1]))
		return false;
	for (; *name; name++)
		if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
			*name != '-' && !(dots && *name == '.'))
			return false;
	return true;
}

static void check_metadata(const struct resource *resource, const json_t *object, json_t *causes)
{
	const json_t *name = object_get(object, "metadata", "name", NULL);
	const json_t *namespace = object_get(object, "metadata", "namespace", NULL);
	/* Names of pods and cgroups are made from these: room for the suffixes is left. */
	size_t most = resource->id == RESOURCE_DEPLOYMENTS  ? 200
		      : resource->id == RESOURCE_NAMESPACES ? 63
							    : 253;

	if (!name)
		required(causes, "metadata.name", "name or generateName is required");
	else if (!json_is_string(name) ||
		 !is_name(json_string_value(name), most, resource->id != RESOURCE_NAMESPACES))
		invalid(causes, "metadata.name", name,
			"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
			"characters, '-' or '.', and must start and end with an alphanumeric "
			"character");
	if (resource->namespaced && namespace &&
		(!json_is_string(namespace) || !is_name(json_string_value(namespace), 63, false)))
		invalid(causes, "metadata.namespace", namespace,
			"a lowercase RFC 1123 label must consist of lower case alphanumeric "
			"characters or '-'");
}

static bool parse_resource(const char *name, const json_t *value, double *amount)
{
	const char *text = json_string_value(value);
	uint64_t bytes;

	if (!text)
		return false;
	if (!strcmp(name, "cpu"))
		return quantity_parse_millicores(text, amount) == 0;
	if (quantity_parse_bytes(text, &bytes))
		return false;
	*amount = (double)bytes;
	return true;
}

static void check_resources(const json_t *container, const char *field, json_t *causes)
{
	static const char *const lists[] = {"limits", "requests"};
	const json_t *given = json_object_get(container, "resources");
	char path[FIELD_MAX + 64];
	const char *key;
	json_t *value;

	for (size_t i = 0; i < 2; i++) {
		json_t *list = json_object_get(given, lists[i]);
		double amount, limit;

		snprintf(path, sizeof(path), "%s.resources.%s", field, lists[i]);
		if (list && !json_is_object(list))
			invalid(causes, path, list, "must be an object of quantities");
		json_object_foreach (list, key, value) {
			snprintf(
				path, sizeof(path), "%s.resources.%s[%.32s]", field, lists[i], key);
			if (strcmp(key, "cpu") != 0 && strcmp(key, "memory") != 0) {
				validate_add_cause(causes, "FieldValueNotSupported", path,
					"Unsupported value: \"%.64s\": supported values: "
					"\"cpu\", \"memory\"",
					key);
				continue;
			}
			if (!parse_resource(key, value, &amount)) {
				invalid(causes, path, value,
					"must be a quantity (\"400m\", \"64Mi\") greater than or "
					"equal to 0");
				continue;
			}
			if (i == 0 && amount <= 0)
				invalid(causes, path, value, "must be greater than 0");
			if (i == 1 &&
				parse_resource(
					key, object_get(given, "limits", key, NULL), &limit) &&
				amount > limit) {
				char why[64];

				snprintf(why, sizeof(why), "must be less than or equal to %s limit",
					key);
				invalid(causes, path, value, why);
			}
		}
	}
}

static void check_strings(
	const json_t *container, const char *key, const char *field, json_t *causes)
{
	const json_t *list = json_object_get(container, key), *item;
	char path[FIELD_MAX + 64];
	size_t index;

	snprintf(path, sizeof(path), "%s.%s", field, key);
	if (list && !json_is_array(list))
		invalid(causes, path, list, "must be a list of strings");
	json_array_foreach ((json_t *)list, index, item)
		if (!json_is_string(item)) {
			snprintf(path, sizeof(path), "%s.%s[%zu]", field, key, index);
			invalid(causes, path, item, "must be a string (put it in quotes)");
		}
}

static void check_env(const json_t *container, const char *field, json_t *causes)
{
	const json_t *list = json_object_get(container, "env"), *item;
	char path[FIELD_MAX + 64];
	size_t index;

	snprintf(path, sizeof(path), "%s.env", field);
	if (list && !json_is_array(list))
		invalid(causes, path, list, "must be a list of {name, value}");
	json_array_foreach ((json_t *)list, index, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		const json_t *value = json_object_get(item, "value");

		snprintf(path, sizeof(path), "%s.env[%zu].name", field, index);
		if (!name || !*name)
			required(causes, path, "");
		else if (strchr(name, '='))
			invalid(causes, path, json_object_get(item, "name"),
				"a name must not contain '='");
		snprintf(path, sizeof(path), "%s.env[%zu].value", field, index);
		if (value && !json_is_string(value))
			invalid(causes, path, value, "must be a string (put it in quotes)");
		if (json_object_get(item, "valueFrom")) {
			snprintf(path, sizeof(path), "%s.env[%zu].valueFrom", field, index);
			validate_add_cause(causes, "FieldValueForbidden", path,
				"Forbidden: ebbtide-local has only value");
		}
	}
}

static void check_integer(const json_t *object, const char *key, const char *field,
	json_int_t least, json_int_t most, json_t *causes)
{
	const json_t *value = json_object_get(object, key);
	char path[FIELD_MAX + 64], why[96];

	if (!value)
		return;
	snprintf(path, sizeof(path), "%s.%s", field, key);
	if (json_is_integer(value) && json_integer_value(value) >= least &&
		json_integer_value(value) <= most)
		return;
	if (json_is_integer(value) && json_integer_value(value) < least)
		snprintf(why, sizeof(why), "must be greater than or equal to %lld",
			(long long)least);
	else
		snprintf(why, sizeof(why), "must be an integer of at most %lld", (long long)most);
	invalid(causes, path, value, why);
}

static void check_container(const json_t *container, const char *field, json_t *causes)
{
	const json_t *ports = json_object_get(container, "ports");
	const json_t *command = json_object_get(container, "command");
	const json_t *name = json_object_get(container, "name");
	const json_t *directory = json_object_get(container, "workingDir");
	char path[FIELD_MAX + 64];

	snprintf(path, sizeof(path), "%s.name", field);
	if (!name)
		required(causes, path, "");
	else if (!json_is_string(name) || !is_name(json_string_value(name), 63, false))
		invalid(causes, path, name,
			"a lowercase RFC 1123 label must consist of lower case alphanumeric "
			"characters or '-'");
	snprintf(path, sizeof(path), "%s.command", field);
	if (!command || json_array_size(command) == 0)
		required(causes, path, "ebbtide-local runs a command, it has no images");
	check_strings(container, "command", field, causes);
	check_strings(container, "args", field, causes);
	check_env(container, field, causes);
	check_resources(container, field, causes);
	snprintf(path, sizeof(path), "%s.workingDir", field);
	if (directory && !json_is_string(directory))
		invalid(causes, path, directory, "must be a string");
	snprintf(path, sizeof(path), "%s.ports", field);
	if (ports && !json_is_array(ports))
		invalid(causes, path, ports, "must be a list");
	if (json_array_size(ports) > 0) {
		bool is_given = object_get(json_array_get(ports, 0), "containerPort", NULL);

		snprintf(path, sizeof(path), "%s.ports[0]%s", field,
			is_given ? "" : ".containerPort");
		if (is_given)
			check_integer(
				json_array_get(ports, 0), "containerPort", path, 1, 65535, causes);
		else
			required(causes, path, "");
	}
	snprintf(path, sizeof(path), "%s.readinessProbe", field);
	check_integer(json_object_get(container, "readinessProbe"), "periodSeconds", path, 1, 3600,
		causes);
	check_integer(json_object_get(container, "readinessProbe"), "failureThreshold", path, 1,
		100, causes);
	check_integer(json_object_get(container, "readinessProbe"), "initialDelaySeconds", path, 0,
		3600, causes);
}

static void check_pod_spec(const json_t *spec, const char *field, json_t *causes)
{
	const json_t *containers = json_object_get(spec, "containers"), *container;
	const char *policy = json_string_value(json_object_get(spec, "restartPolicy"));
	char path[FIELD_MAX];
	size_t index;

	snprintf(path, sizeof(path), "%s.containers", field);
	if (!json_is_array(containers) || json_array_size(containers) == 0) {
		required(causes, path, "");
		return;
	}
	if (json_array_size(containers) > PODS_CONTAINERS_MAX)
		validate_add_cause(causes, "FieldValueTooMany", path,
			"Too many: %zu: must have at most %d items", json_array_size(containers),
			PODS_CONTAINERS_MAX);
	json_array_foreach ((json_t *)containers, index, container) {
		snprintf(path, sizeof(path), "%s.containers[%zu]", field, index);
		if (!json_is_object(container))
			invalid(causes, path, container, "must be an object");
		else
			check_container(container, path, causes);
		for (size_t i = 0; i < index; i++) {
			const char *name = object_string(container, "name", NULL);
			const char *other =
				object_string(json_array_get(containers, i), "name", NULL);

			if (!name || !other || strcmp(name, other) != 0)
				continue;
			snprintf(path, sizeof(path), "%s.containers[%zu].name", field, index);
			validate_add_cause(causes, "FieldValueDuplicate", path,
				"Duplicate value: \"%s\"", name);
		}
	}
	if (!policy || strcmp(policy, "Always") != 0) {
		snprintf(path, sizeof(path), "%s.restartPolicy", field);
		validate_add_cause(causes, "FieldValueNotSupported", path,
			"Unsupported value: \"%.64s\": supported values: \"Always\"",
			policy ? policy : "");
	}
	check_integer(spec, "terminationGracePeriodSeconds", field, 0, GRACE_MOST_S, causes);
}

static void check_deployment(const json_t *object, json_t *causes)
{
	const json_t *spec = json_object_get(object, "spec");
	const json_t *template = json_object_get(spec, "template");
	json_t *match = object_get(spec, "selector", "matchLabels", NULL), *value;
	const json_t *labels = object_get(template, "metadata", "labels", NULL);
	const char *key;

	if (!json_is_object(spec)) {
		required(causes, "spec", "");
		return;
	}
	check_integer(spec, "replicas", "spec", 0, REPLICAS_MOST, causes);
	if (!json_is_object(match) || json_object_size(match) == 0)
		required(causes, "spec.selector", "matchLabels with at least one label");
	json_object_foreach (match, key, value)
		if (!json_is_string(value) || !json_equal(value, json_object_get(labels, key))) {
			invalid(causes, "spec.template.metadata.labels",
				labels ? labels : json_null(),
				"`selector` does not match template `labels`");
			break;
		}
	if (!json_is_object(template)) {
		required(causes, "spec.template", "");
		return;
	}
	check_pod_spec(json_object_get(template, "spec"), "spec.template.spec", causes);
}

static void check_objective(const json_t *object, json_t *causes)
{
	struct objective objective;
	char error[384] = "", field[FIELD_MAX];
	size_t length;

	objective_init(&objective);
	if (!objective_parse(object, &objective, error, sizeof(error)))
		return;
	/* "spec.latency.target: ..." names its field first. */
	length = strcspn(error, ": =");
	snprintf(field, sizeof(field), "%.*s", (int)length, error);
	if (strncmp(field, "spec", 4) != 0 && strncmp(field, "metadata", 8) != 0) {
		validate_add_cause(causes, "FieldValueInvalid", "spec", "Invalid value: %s", error);
		return;
	}
	validate_add_cause(causes, "FieldValueInvalid", field, "Invalid value: %s",
		error + length + strspn(error + length, ": ="));
}

/* What an autoscaler sets is all that anybody here reads of it. */
static void check_reference(const json_t *object, const char *key, json_t *causes)
{
	const json_t *reference = object_get(object, "spec", key, NULL);
	char path[FIELD_MAX];

	for (int i = 0; i < 2; i++) {
		const char *part = i ? "name" : "kind";
		const char *text = json_string_value(json_object_get(reference, part));

		snprintf(path, sizeof(path), "spec.%s.%s", key, part);
		if (!text || !*text)
			required(causes, path, "");
	}
}

static void check_horizontal(const json_t *object, json_t *causes)
{
	const json_t *spec = json_object_get(object, "spec");

	check_reference(object, "scaleTargetRef", causes);
	if (!json_object_get(spec, "maxReplicas"))
		required(causes, "spec.maxReplicas", "");
	check_integer(spec, "maxReplicas", "spec", 1, REPLICAS_MOST, causes);
	check_integer(spec, "minReplicas", "spec", 1, REPLICAS_MOST, causes);
}

static void check_vertical(const json_t *object, json_t *causes)
{
	static const char *const modes[] = {
		"Off", "Initial", "Recreate", "InPlaceOrRecreate", "InPlace", "Auto"};
	const json_t *mode = object_get(object, "spec", "updatePolicy", "updateMode", NULL);
	const char *text = json_string_value(mode);
	bool known = false;

	check_reference(object, "targetRef", causes);
	for (size_t i = 0; text && i < sizeof(modes) / sizeof(modes[0]); i++)
		known = known || strcmp(text, modes[i]) == 0;
	if (mode && !known)
		invalid(causes, "spec.updatePolicy.updateMode", mode,
			"must be one of Off, Initial, Recreate, InPlaceOrRecreate, InPlace, Auto");
}

static void check_lease(const json_t *object, json_t *causes)
{
	const json_t *spec = json_object_get(object, "spec");
	const json_t *holder = json_object_get(spec, "holderIdentity");

	if (spec && !json_is_object(spec))
		invalid(causes, "spec", spec, "must be an object");
	check_integer(spec, "leaseDurationSeconds", "spec", 1, INT32_MAX, causes);
	check_integer(spec, "leaseTransitions", "spec", 0, INT32_MAX, causes);
	if (holder && !json_is_null(holder) && !json_is_string(holder))
		invalid(causes, "spec.holderIdentity", holder, "must be a string");
}

static void check_event(const json_t *object, json_t *causes)
{
	const char *namespace = object_string(object, "involvedObject", "namespace", NULL);

	if (!json_is_object(json_object_get(object, "involvedObject")))
		required(causes, "involvedObject", "");
	else if (namespace && *namespace && strcmp(namespace, object_namespace(object)) != 0)
		invalid(causes, "involvedObject.namespace",
			object_get(object, "involvedObject", "namespace", NULL),
			"does not match event.namespace");
}

void validate_object(const struct resource *resource, const json_t *object, json_t *causes)
{
	check_metadata(resource, object, causes);
	switch (resource->id) {
	case RESOURCE_DEPLOYMENTS:
		check_deployment(object, causes);
		break;
	case RESOURCE_OBJECTIVES:
		/* Its own text for a missing name would say the same again. */
		if (json_array_size(causes) == 0)
			check_objective(object, causes);
		break;
	case RESOURCE_HORIZONTALS:
		check_horizontal(object, causes);
		break;
	case RESOURCE_VERTICALS:
		check_vertical(object, causes);
		break;
	case RESOURCE_LEASES:
		check_lease(object, causes);
		break;
	case RESOURCE_EVENTS:
		check_event(object, causes);
		break;
	case RESOURCE_PODS:
		check_pod_spec(json_object_get(object, "spec"), "spec", causes);
		break;
	default:
		break;
	}
}

void validate_pod_update(const json_t *old, const json_t *object, json_t *causes)
{
	if (!json_equal(json_object_get(old, "spec"), json_object_get(object, "spec")))
		validate_add_cause(causes, "FieldValueForbidden", "spec",
			"Forbidden: pod updates may not change fields other than metadata (use the "
			"resize subresource for resources)");
}

void validate_pod_resize(const json_t *old, const json_t *object, json_t *causes)
{
	json_t *before = json_deep_copy(json_object_get(old, "spec"));
	json_t *after = json_deep_copy(json_object_get(object, "spec")), *container;
	const char *qos = limits_qos_class(before);
	size_t index;

	if (strcmp(qos, limits_qos_class(after)) != 0)
		validate_add_cause(causes, "FieldValueInvalid", "spec",
			"Invalid value: \"%s\": Pod QOS Class may not change as a result of "
			"resizing",
			limits_qos_class(after));
	json_array_foreach (json_object_get(before, "containers"), index, container)
		json_object_del(container, "resources");
	json_array_foreach (json_object_get(after, "containers"), index, container)
		json_object_del(container, "resources");
	if (!json_equal(before, after))
		validate_add_cause(causes, "FieldValueForbidden", "spec",
			"Forbidden: only cpu and memory resources are mutable");
	json_decref(before);
	json_decref(after);
}
