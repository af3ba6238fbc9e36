// SPDX-License-Identifier: Apache-2.0
#include "local/api/api_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "local/api/object.h"
#include "local/api/patch.h"
#include "local/api/status.h"
#include "local/api/validate.h"
#include "local/limits.h"
#include "local/pod_object.h"

/* How often a patch without a version is tried again when others write at the same time. */
#define PATCH_TRIES 16

static bool is_subresource(const struct api_target *target, const char *name)
{
	return target->subresource && !strcmp(target->subresource->name, name);
}

static bool is_dry_run(const struct api_request *request)
{
	const char *text = request->query(request, "dryRun");

	return text && !strcmp(text, "All");
}

static bool media_is(const struct api_request *request, const char *type)
{
	size_t length = strlen(type);

	return request->content_type && !strncasecmp(request->content_type, type, length) &&
	       (!request->content_type[length] || strchr("; ", request->content_type[length]));
}

/* The body as a JSON value, or NULL and a Status in *error. */
static json_t *parse_body(const struct api_request *request, json_t **error)
{
	json_error_t where;
	json_t *body =
		json_loadb(request->body ? request->body : "", request->body_size, 0, &where);

	if (!body)
		*error = status_new(400, "BadRequest",
			"the object provided is unrecognized (must be of type JSON): line %d: %s",
			where.line, where.text);
	return body;
}

static json_t *read_object(
	const struct api_request *request, const struct resource *resource, json_t **error)
{
	const char *kind, *api_version;
	char wanted[128];
	json_t *body;

	if (request->content_type && !media_is(request, "application/json") &&
		!media_is(request, "*/*")) {
		*error = status_unsupported_media("application/json");
		return NULL;
	}
	body = parse_body(request, error);
	if (!body)
		return NULL;
	kind = object_string(body, "kind", NULL);
	api_version = object_string(body, "apiVersion", NULL);
	resource_api_version(resource, wanted, sizeof(wanted));
	if (!json_is_object(body) || (kind && strcmp(kind, resource->kind) != 0) ||
		(api_version && strcmp(api_version, wanted) != 0)) {
		*error = status_new(400, "BadRequest",
			"%s in version \"%s\" cannot be handled as a %s: expected %s, %s",
			kind ? kind : "object", api_version ? api_version : "", resource->kind,
			wanted, resource->kind);
		json_decref(body);
		return NULL;
	}
	return body;
}

/* metadata.namespace is the path's; another one in the body is a mistake. */
static json_t *settle_namespace(const struct api_target *target, json_t *object)
{
	json_t *metadata = object_child(object, "metadata");
	const char *given = json_string_value(json_object_get(metadata, "namespace"));

	if (!target->resource->namespaced)
		return NULL;
	if (given && *given && strcmp(given, target->namespace) != 0)
		return status_new(400, "BadRequest",
			"the namespace of the provided object does not match the namespace sent on "
			"the request");
	object_set_string(metadata, "namespace", target->namespace);
	return NULL;
}

/* A namespace appears with its first object: there is nothing else to set up in one here. */
static void ensure_namespace(struct api *api, const char *name)
{
	const struct resource *resource = &resources[RESOURCE_NAMESPACES];
	json_t *namespace = store_get(api->store, resource, NULL, name);

	if (!namespace) {
		namespace = json_pack("{s:{s:s}}", "metadata", "name", name);
		validate_set_defaults(resource, namespace);
		store_create(api->store, resource, namespace, NULL);
		return;
	}
	json_decref(namespace);
}

void api_create(struct api *api, const struct api_request *request, const struct api_target *target,
	struct api_answer *answer)
{
	const struct resource *resource = target->resource;
	json_t *error = NULL, *object, *causes, *metadata;
	const char *prefix;
	char name[300], suffix[8];

	if (resource->namespaced && !target->namespace) {
		answer->json = status_method_not_allowed();
		return;
	}
	object = read_object(request, resource, &error);
	if (!object) {
		answer->json = error;
		return;
	}
	answer->json = settle_namespace(target, object);
	if (answer->json)
		goto out;
	metadata = object_child(object, "metadata");
	prefix = json_string_value(json_object_get(metadata, "generateName"));
	if (prefix && !json_object_get(metadata, "name")) {
		object_make_suffix(suffix, 5);
		snprintf(name, sizeof(name), "%.247s%s", prefix, suffix);
		object_set_string(metadata, "name", name);
	}
	if (json_object_get(metadata, "resourceVersion") && object_version(object)) {
		answer->json = status_new(400, "BadRequest",
			"resourceVersion should not be set on objects to be created");
		goto out;
	}
	validate_set_defaults(resource, object);
	causes = json_array();
	validate_object(resource, object, causes);
	if (json_array_size(causes) > 0)
		answer->json = status_invalid(resource, object_name(object), causes);
	json_decref(causes);
	if (answer->json)
		goto out;
	/* Status belongs to its subresource, or to ebbtide-local. */
	if (resource_subresource(resource, "status"))
		json_object_del(object, "status");
	if (is_dry_run(request)) {
		answer->json = json_incref(object);
		answer->code = 201;
		goto out;
	}
	if (resource->namespaced)
		ensure_namespace(api, target->namespace);
	if (store_create(api->store, resource, json_incref(object), &answer->json))
		answer->json = status_already_exists(resource, object_name(object));
	else
		answer->code = 201;
out:
	json_decref(object);
}

json_t *api_scale_of(const json_t *deployment)
{
	const json_t *metadata = json_object_get(deployment, "metadata");
	json_t *labels = object_get(deployment, "spec", "selector", "matchLabels", NULL), *value;
	char selector[1024] = "";
	const char *key;
	size_t used = 0;
	json_t *scale;

	json_object_foreach (labels, key, value)
		if (used < sizeof(selector) - 1)
			used += (size_t)snprintf(selector + used, sizeof(selector) - used,
				"%s%.200s=%.200s", used ? "," : "", key, json_string_value(value));
	scale = json_pack("{s:s, s:s, s:{s:O, s:O, s:O, s:O, s:O}, s:{s:I}, s:{s:I, s:s}}", "kind",
		"Scale", "apiVersion", "autoscaling/v1", "metadata", "name",
		json_object_get(metadata, "name"), "namespace",
		json_object_get(metadata, "namespace"), "uid", json_object_get(metadata, "uid"),
		"resourceVersion", json_object_get(metadata, "resourceVersion"),
		"creationTimestamp", json_object_get(metadata, "creationTimestamp"), "spec",
		"replicas", object_integer(json_object_get(deployment, "spec"), "replicas", 0),
		"status", "replicas",
		object_integer(json_object_get(deployment, "status"), "replicas", 0), "selector",
		selector);
	return scale;
}

/* The Deployment with a Scale's replicas, or NULL and a Status. */
static json_t *apply_scale(
	const struct api_target *target, const json_t *old, const json_t *scale, json_t **error)
{
	const json_t *replicas = object_get(scale, "spec", "replicas", NULL);
	json_t *object, *causes;

	if (replicas && !json_is_integer(replicas)) {
		*error = status_new(400, "BadRequest",
			"Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is no "
			"integer");
		return NULL;
	}
	if (replicas && json_integer_value(replicas) < 0) {
		causes = json_array();
		validate_add_cause(causes, "FieldValueInvalid", "spec.replicas",
			"Invalid value: %" JSON_INTEGER_FORMAT
			": must be greater than or equal to 0",
			json_integer_value(replicas));
		*error = status_new(422, "Invalid", "Scale.autoscaling \"%s\" is invalid: %s: %s",
			target->name, "spec.replicas",
			object_string(json_array_get(causes, 0), "message", NULL));
		json_object_set_new(*error, "details",
			json_pack("{s:s, s:s, s:s, s:o}", "name", target->name, "group",
				"autoscaling", "kind", "Scale", "causes", causes));
		return NULL;
	}
	object = json_deep_copy(old);
	json_object_set_new(object_child(object, "spec"), "replicas",
		json_integer(replicas ? json_integer_value(replicas) : 0));
	return object;
}

static json_t *apply_patch(const struct api_request *request, const struct api_target *target,
	const json_t *base, const json_t *patch, json_t **error)
{
	char text[512] = "";
	enum patch_type type;
	json_t *object;
	int err;

	if (media_is(request, "application/json-patch+json"))
		type = PATCH_JSON;
	else if (media_is(request, "application/strategic-merge-patch+json"))
		type = PATCH_STRATEGIC_MERGE;
	else
		type = PATCH_MERGE;
	/* Whoever resizes names the containers it means; the others are not to be deleted. */
	if (type == PATCH_MERGE && is_subresource(target, "resize"))
		type = PATCH_STRATEGIC_MERGE;
	err = patch_apply(type, base, patch, &object, text, sizeof(text));
	if (!err && json_is_object(object))
		return object;
	if (!err) {
		json_decref(object);
		snprintf(text, sizeof(text), "the patch leaves no object");
	}
	*error = err == -ENOENT ? status_new(422, "Invalid",
					  "the server rejected our request due to an error in "
					  "our request: %s",
					  text)
				: status_new(400, "BadRequest", "error decoding patch: %s", text);
	return NULL;
}

/* The copy of @old that the request asks for, without validation; or NULL and a Status. */
static json_t *make_changed(const struct api_request *request, const struct api_target *target,
	const json_t *old, const json_t *body, bool patch, json_t **error)
{
	bool scale = is_subresource(target, "scale");
	json_t *base = scale ? api_scale_of(old) : json_incref((json_t *)old);
	json_t *wanted, *object;

	wanted = patch ? apply_patch(request, target, base, body, error) : json_deep_copy(body);
	json_decref(base);
	if (!wanted || !scale)
		return wanted;
	object = apply_scale(target, old, wanted, error);
	/* A version that the caller gave counts for the Deployment. */
	if (object && object_get(wanted, "metadata", "resourceVersion", NULL))
		json_object_set(object_child(object, "metadata"), "resourceVersion",
			object_get(wanted, "metadata", "resourceVersion", NULL));
	json_decref(wanted);
	return object;
}

/* Keep what the request's door does not open: status, or everything but status. */
static void limit_scope(const struct api_target *target, const json_t *old, json_t *object)
{
	if (is_subresource(target, "status")) {
		json_t *status = json_deep_copy(json_object_get(object, "status"));

		json_object_set_new(object, "spec", json_deep_copy(json_object_get(old, "spec")));
		json_object_set_new(
			object, "metadata", json_deep_copy(json_object_get(old, "metadata")));
		if (status)
			json_object_set_new(object, "status", status);
		else
			json_object_del(object, "status");
	} else if (resource_subresource(target->resource, "status") ||
		   target->resource->id == RESOURCE_PODS) {
		if (json_object_get(old, "status"))
			json_object_set(object, "status", json_object_get(old, "status"));
		else
			json_object_del(object, "status");
	}
}

static json_t *check_changed(const struct api_target *target, const json_t *old, json_t *object)
{
	const struct resource *resource = target->resource;
	json_t *status = NULL, *causes = json_array();

	if (strcmp(object_name(object), object_name(old)) != 0)
		status = status_new(400, "BadRequest",
			"the name of the object (%s) does not match the name on the URL (%s)",
			object_name(object), target->name);
	else if (resource->namespaced &&
		 strcmp(object_namespace(object), object_namespace(old)) != 0)
		status = status_new(400, "BadRequest",
			"the namespace of the object (%s) does not match the namespace on the "
			"request (%s)",
			object_namespace(object), target->namespace);
	else
		validate_object(resource, object, causes);
	if (resource->id == RESOURCE_PODS && json_array_size(causes) == 0) {
		if (is_subresource(target, "resize"))
			validate_pod_resize(old, object, causes);
		else
			validate_pod_update(old, object, causes);
	}
	if (resource->id == RESOURCE_DEPLOYMENTS &&
		!json_equal(object_get(old, "spec", "selector", NULL),
			object_get(object, "spec", "selector", NULL)))
		validate_add_cause(causes, "FieldValueInvalid", "spec.selector",
			"Invalid value: field is immutable");
	if (!status && json_array_size(causes) > 0)
		status = status_invalid(resource, object_name(object), causes);
	json_decref(causes);
	return status;
}

static json_t *find_named(json_t *list, const json_t *name)
{
	json_t *item;
	size_t index;

	json_array_foreach (list, index, item)
		if (json_equal(json_object_get(item, "name"), name))
			return item;
	return NULL;
}

/* Write the new limits to the cgroups, then show them in the status. */
static json_t *apply_resize(
	struct api *api, const struct api_target *target, const json_t *old, json_t *object)
{
	json_t *shown = json_deep_copy(json_object_get(object, "status")), *container;
	char error[512], pod[CGROUP_PATH_MAX] = "";
	size_t index;

	json_object_set_new(object, "status", shown);
	json_array_foreach (object_get(object, "spec", "containers", NULL), index, container) {
		json_t *name = json_object_get(container, "name");
		json_t *status = find_named(json_object_get(shown, "containerStatuses"), name);
		json_t *before = json_object_get(
			find_named(object_get(old, "spec", "containers", NULL), name), "resources");
		json_t *after = json_object_get(container, "resources");
		const char *id = object_string(status, "containerID", NULL);
		int err = 0;

		if (json_equal(before, after))
			continue;
		if (id && api->driver)
			err = limits_apply(api->driver, id + strlen(POD_CONTAINER_SCHEME), after,
				before, error, sizeof(error));
		if (err) {
			char field[64];
			json_t *causes = json_array(), *answer;

			snprintf(field, sizeof(field), "spec.containers[%zu].resources.limits",
				index);
			validate_add_cause(
				causes, "FieldValueInvalid", field, "Invalid value: %s", error);
			answer = status_invalid(target->resource, target->name, causes);
			json_decref(causes);
			return answer;
		}
		if (id)
			snprintf(pod, sizeof(pod), "%s", id + strlen(POD_CONTAINER_SCHEME));
		if (!status)
			continue;
		json_object_set_new(status, "resources", json_deep_copy(after));
		if (json_object_get(after, "requests"))
			json_object_set_new(status, "allocatedResources",
				json_deep_copy(json_object_get(after, "requests")));
	}
	/* The pod's cgroup is one above its containers'. */
	if (pod[0] && api->driver) {
		*strrchr(pod, '/') = '\0';
		(void)limits_apply_pod(
			api->driver, pod, object_get(object, "spec", "containers", NULL));
	}
	return NULL;
}

/* One attempt; -EAGAIN when somebody else wrote meanwhile and the caller gave no version. */
static int try_change(struct api *api, const struct api_request *request,
	const struct api_target *target, const json_t *body, bool patch, struct api_answer *answer)
{
	const struct resource *resource = target->resource;
	json_t *old = store_get(api->store, resource, target->namespace, target->name);
	json_t *object = NULL, *stored = NULL;
	const char *uid = object_string(body, "metadata", "uid", NULL);
	uint64_t given;
	int err = 0;

	if (!old) {
		answer->json = status_not_found(resource, target->name);
		return 0;
	}
	object = make_changed(request, target, old, body, patch, &answer->json);
	if (!object)
		goto out;
	given = json_is_object(body) ? object_version(body) : 0;
	if (patch && media_is(request, "application/json-patch+json"))
		given = object_version(object) == object_version(old) ? 0 : object_version(object);
	if (given && given != object_version(old)) {
		answer->json = status_conflict(resource, target->name, NULL);
		goto out;
	}
	if (!given && !patch && resource->custom) {
		answer->json = status_new(422, "Invalid",
			"%s.%s \"%s\" is invalid: metadata.resourceVersion: Invalid value: 0x0: "
			"must be specified for an update",
			resource->kind, resource->group, target->name);
		goto out;
	}
	if (uid && !patch && strcmp(uid, object_uid(old)) != 0) {
		answer->json = status_conflict(resource, target->name,
			"Precondition failed: UID in precondition does not match");
		goto out;
	}
	if (!is_subresource(target, "scale") && !patch)
		answer->json = settle_namespace(target, object);
	if (answer->json)
		goto out;
	limit_scope(target, old, object);
	validate_set_defaults(resource, object);
	answer->json = check_changed(target, old, object);
	if (!answer->json && is_subresource(target, "resize") && !is_dry_run(request))
		answer->json = apply_resize(api, target, old, object);
	if (answer->json)
		goto out;
	if (is_dry_run(request))
		stored = json_incref(object);
	else
		err = store_replace(
			api->store, resource, json_incref(object), object_version(old), &stored);
	if (err == -EAGAIN && given)
		answer->json = status_conflict(resource, target->name, NULL);
	else if (err == -ENOENT)
		answer->json = status_not_found(resource, target->name);
	else if (!err)
		answer->json = is_subresource(target, "scale") ? api_scale_of(stored)
							       : json_incref(stored);
out:
	json_decref(stored);
	json_decref(object);
	json_decref(old);
	return answer->json ? 0 : err;
}

static json_t *read_scale(const struct api_request *request, json_t **error)
{
	json_t *body;

	if (request->content_type && !media_is(request, "application/json")) {
		*error = status_unsupported_media("application/json");
		return NULL;
	}
	body = parse_body(request, error);
	if (body && !json_is_object(body)) {
		*error = status_new(400, "BadRequest", "a Scale is an object");
		json_decref(body);
		return NULL;
	}
	return body;
}

static json_t *read_patch(
	const struct api_request *request, const struct api_target *target, json_t **error)
{
	bool custom = target->resource->custom;

	if (!media_is(request, "application/json-patch+json") &&
		!media_is(request, "application/merge-patch+json") &&
		(custom || !media_is(request, "application/strategic-merge-patch+json"))) {
		*error = status_unsupported_media(
			custom ? "application/json-patch+json, application/merge-patch+json"
			       : "application/json-patch+json, application/merge-patch+json, "
				 "application/strategic-merge-patch+json");
		return NULL;
	}
	return parse_body(request, error);
}

void api_change(struct api *api, const struct api_request *request, const struct api_target *target,
	bool patch, struct api_answer *answer)
{
	bool resize = is_subresource(target, "resize");
	json_t *body;
	int err = -EAGAIN;

	if (patch)
		body = read_patch(request, target, &answer->json);
	else if (is_subresource(target, "scale"))
		body = read_scale(request, &answer->json);
	else
		body = read_object(request, target->resource, &answer->json);
	if (!body)
		return;
	if (resize)
		pthread_mutex_lock(&api->resize_lock);
	for (int i = 0; i < PATCH_TRIES && err == -EAGAIN; i++)
		err = try_change(api, request, target, body, patch, answer);
	if (resize)
		pthread_mutex_unlock(&api->resize_lock);
	if (err == -EAGAIN)
		answer->json = status_conflict(target->resource, target->name, NULL);
	else if (err)
		answer->json = status_new(500, "InternalError", "%s", strerror(-err));
	json_decref(body);
}

/* A pod goes when its processes have: mark it, the main loop does the rest. */
static void delete_pod(struct api *api, const struct api_target *target, json_t *old,
	json_int_t grace_s, struct api_answer *answer)
{
	json_t *object;
	int err;

	do {
		json_decref(answer->json);
		answer->json = NULL;
		object = json_deep_copy(old);
		pod_object_set_deletion(object, grace_s);
		err = store_replace(
			api->store, target->resource, object, object_version(old), &answer->json);
		if (err == -EAGAIN) {
			json_decref(old);
			old = store_get(
				api->store, target->resource, target->namespace, target->name);
			if (!old)
				err = -ENOENT;
		}
	} while (err == -EAGAIN);
	if (err)
		answer->json = status_not_found(target->resource, target->name);
	json_decref(old);
}

void api_delete(struct api *api, const struct api_request *request, const struct api_target *target,
	struct api_answer *answer)
{
	const struct resource *resource = target->resource;
	const char *grace = request->query(request, "gracePeriodSeconds");
	json_t *options = NULL, *old, *last = NULL;
	const char *uid, *version;
	json_int_t grace_s;

	if (request->body_size > 0) {
		options = parse_body(request, &answer->json);
		if (!options)
			return;
	}
	old = store_get(api->store, resource, target->namespace, target->name);
	if (!old) {
		answer->json = status_not_found(resource, target->name);
		goto out;
	}
	uid = object_string(options, "preconditions", "uid", NULL);
	version = object_string(options, "preconditions", "resourceVersion", NULL);
	if ((uid && strcmp(uid, object_uid(old)) != 0) ||
		(version && strtoull(version, NULL, 10) != object_version(old))) {
		answer->json = status_conflict(resource, target->name,
			"Precondition failed: it is not the object that was meant");
		goto out;
	}
	if (is_dry_run(request)) {
		answer->json = status_success(resource, target->name, object_uid(old));
		goto out;
	}
	if (resource->id == RESOURCE_PODS) {
		grace_s = object_integer(
			json_object_get(old, "spec"), "terminationGracePeriodSeconds", 30);
		grace_s = object_integer(options, "gracePeriodSeconds", grace_s);
		if (grace)
			grace_s = atoll(grace);
		delete_pod(api, target, old, grace_s < 0 ? 1 : grace_s, answer);
		old = NULL;
		goto out;
	}
	if (store_delete(api->store, resource, target->namespace, target->name, 0, &last))
		answer->json = status_not_found(resource, target->name);
	else
		answer->json = status_success(resource, target->name, object_uid(last));
out:
	json_decref(last);
	json_decref(old);
	json_decref(options);
}
