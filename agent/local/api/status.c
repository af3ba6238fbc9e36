// SPDX-License-Identifier: Apache-2.0
#include "local/api/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "local/api/object.h"

static json_t *new_status(const char *result, int code, const char *reason, const char *message)
{
	json_t *status = json_pack("{s:s, s:s, s:{}, s:s}", "kind", "Status", "apiVersion", "v1",
		"metadata", "status", result);

	if (message)
		json_object_set_new(status, "message", json_string(message));
	if (reason)
		json_object_set_new(status, "reason", json_string(reason));
	json_object_set_new(status, "code", json_integer(code));
	return status;
}

json_t *status_new(int code, const char *reason, const char *format, ...)
{
	char *message = NULL;
	va_list args;
	json_t *status;

	va_start(args, format);
	if (vasprintf(&message, format, args) < 0)
		message = NULL;
	va_end(args);
	status = new_status("Failure", code, reason, message ? message : "");
	free(message);
	return status;
}

static json_t *add_details(
	json_t *status, const struct resource *resource, const char *kind, const char *name)
{
	json_t *details = object_child(status, "details");

	if (*name)
		object_set_string(details, "name", name);
	if (*resource->group)
		object_set_string(details, "group", resource->group);
	object_set_string(details, "kind", kind);
	return status;
}

json_t *status_success(const struct resource *resource, const char *name, const char *uid)
{
	json_t *status = add_details(
		new_status("Success", 200, NULL, NULL), resource, resource->plural, name);

	object_set_string(object_child(status, "details"), "uid", uid);
	json_object_del(status, "code");
	return status;
}

json_t *status_not_found(const struct resource *resource, const char *name)
{
	char qualified[128];

	resource_qualified_name(resource, qualified, sizeof(qualified));
	return add_details(status_new(404, "NotFound", "%s \"%s\" not found", qualified, name),
		resource, resource->plural, name);
}

json_t *status_already_exists(const struct resource *resource, const char *name)
{
	char qualified[128];

	resource_qualified_name(resource, qualified, sizeof(qualified));
	return add_details(
		status_new(409, "AlreadyExists", "%s \"%s\" already exists", qualified, name),
		resource, resource->plural, name);
}

json_t *status_conflict(const struct resource *resource, const char *name, const char *why)
{
	char qualified[128];

	resource_qualified_name(resource, qualified, sizeof(qualified));
	return add_details(
		status_new(409, "Conflict", "Operation cannot be fulfilled on %s \"%s\": %s",
			qualified, name,
			why ? why
			    : "the object has been modified; please apply your changes "
			      "to the latest version and try again"),
		resource, resource->plural, name);
}

json_t *status_invalid(const struct resource *resource, const char *name, const json_t *causes)
{
	char list[2048] = "";
	size_t index, used = 0;
	json_t *cause, *status;

	json_array_foreach ((json_t *)causes, index, cause) {
		int n = snprintf(list + used, sizeof(list) - used, "%s%s: %s", index ? ", " : "",
			json_string_value(json_object_get(cause, "field")),
			json_string_value(json_object_get(cause, "message")));

		if (n < 0 || (size_t)n >= sizeof(list) - used)
			break;
		used += (size_t)n;
	}
	status = status_new(422, "Invalid",
		json_array_size(causes) > 1 ? "%s%s%s \"%s\" is invalid: [%s]"
					    : "%s%s%s \"%s\" is invalid: %s",
		resource->kind, *resource->group ? "." : "", resource->group, name, list);
	add_details(status, resource, resource->kind, name);
	json_object_set(object_child(status, "details"), "causes", (json_t *)causes);
	return status;
}

json_t *status_no_such_path(void)
{
	json_t *status =
		status_new(404, "NotFound", "the server could not find the requested resource");

	object_child(status, "details");
	return status;
}

json_t *status_method_not_allowed(void)
{
	json_t *status = status_new(405, "MethodNotAllowed",
		"the server does not allow this method on the requested resource");

	object_child(status, "details");
	return status;
}

json_t *status_unsupported_media(const char *accepted)
{
	return status_new(415, "UnsupportedMediaType",
		"the body of the request was in an unknown format - accepted media types "
		"include: %s",
		accepted);
}

json_t *status_expired(unsigned long long asked, unsigned long long oldest)
{
	return status_new(410, "Expired", "too old resource version: %llu (%llu)", asked, oldest);
}

int status_code(const json_t *status)
{
	return (int)object_integer(status, "code", 200);
}
