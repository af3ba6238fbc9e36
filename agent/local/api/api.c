// SPDX-License-Identifier: Apache-2.0
#include "local/api/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "local/api/api_write.h"
#include "local/api/object.h"
#include "local/api/status.h"

#define WATCH_TIMEOUT_S 1800 /* as the API server: half an hour, and up to twice that */
#define LOG_MOST	(4 * 1024 * 1024)
#define PATH_PARTS_MAX	12

void api_init(struct api *api, struct store *store, const struct cgroup_driver *driver,
	const char *state_directory)
{
	*api = (struct api){.store = store, .driver = driver, .state_directory = state_directory};
	pthread_mutex_init(&api->resize_lock, NULL);
}

void api_answer_free(struct api_answer *answer)
{
	json_decref(answer->json);
	free(answer->text);
	api_watch_free(answer->watch);
	*answer = (struct api_answer){0};
}

static bool is_true(const struct api_request *request, const char *name)
{
	const char *text = request->query(request, name);

	return text && (!strcmp(text, "true") || !strcmp(text, "1"));
}

static json_t *version_document(void)
{
	struct utsname system;

	uname(&system);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s+}", "major", "1", "minor",
		"33", "gitVersion", "v1.33.0+ebbtide." EBBTIDE_VERSION, "gitCommit", "",
		"gitTreeState", "clean", "buildDate", "1970-01-01T00:00:00Z", "goVersion", "none",
		"compiler", "gcc", "platform", "linux/",
		!strcmp(system.machine, "x86_64")    ? "amd64"
		: !strcmp(system.machine, "aarch64") ? "arm64"
						     : system.machine);
}

/* What the path names, after /api/VERSION or /apis/GROUP/VERSION. */
static bool parse_target(char **parts, size_t count, size_t at, const char *group,
	const char *version, struct api_target *target)
{
	*target = (struct api_target){0};
	if (count - at >= 3 && !strcmp(parts[at], "namespaces")) {
		const struct resource *resource = resource_find(group, version, parts[at + 2]);

		if (resource && resource->namespaced) {
			target->namespace = parts[at + 1];
			at += 2;
		}
	}
	if (at >= count)
		return false;
	target->resource = resource_find(group, version, parts[at]);
	if (!target->resource)
		return false;
	if (at + 1 < count)
		target->name = parts[at + 1];
	if (at + 2 < count) {
		target->subresource = resource_subresource(target->resource, parts[at + 2]);
		if (!target->subresource)
			return false;
	}
	if (at + 3 < count)
		return false;
	/* One object of a namespaced resource has no path without its namespace. */
	return !target->name || !target->resource->namespaced || target->namespace;
}

static json_t *strip_kind(const json_t *object)
{
	json_t *copy = json_copy((json_t *)object);

	json_object_del(copy, "kind");
	json_object_del(copy, "apiVersion");
	return copy;
}

static bool wants_table(const struct api_request *request, const struct resource *resource)
{
	/* kubectl asks for a Table first and names plain JSON as the fallback. */
	return request->accept && strstr(request->accept, "as=Table") && resource;
}

static enum table_include table_include(const struct api_request *request)
{
	const char *text = request->query(request, "includeObject");

	if (text && !strcmp(text, "Object"))
		return TABLE_OBJECT;
	return text && !strcmp(text, "None") ? TABLE_NONE : TABLE_METADATA;
}

static json_t *read_selectors(const struct api_request *request, const struct resource *resource,
	struct selector *labels, struct selector *fields)
{
	const char *label_text = request->query(request, "labelSelector");
	const char *field_text = request->query(request, "fieldSelector");
	char error[512] = "out of memory";

	*labels = *fields = (struct selector){0};
	if (label_text && selector_parse_labels(labels, label_text, error, sizeof(error)))
		return status_new(400, "BadRequest", "%s", error);
	if (field_text &&
		selector_parse_fields(fields, resource, field_text, error, sizeof(error))) {
		selector_free(labels);
		return status_new(400, "BadRequest", "%s", error);
	}
	return NULL;
}

static void set_version(json_t *list, uint64_t version)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)version);
	object_set_string(object_child(list, "metadata"), "resourceVersion", text);
}

static void handle_list(struct api *api, const struct api_request *request,
	const struct api_target *target, struct api_answer *answer)
{
	const struct resource *resource = target->resource;
	json_t *all, *items, *object, *list;
	struct selector labels, fields;
	char api_version[128], kind[128];
	uint64_t version;
	size_t index;

	answer->json = read_selectors(request, resource, &labels, &fields);
	if (answer->json)
		return;
	all = store_list(api->store, resource, target->namespace, &version);
	items = json_array();
	json_array_foreach (all, index, object)
		if (selector_match_labels(&labels, object) &&
			selector_match_fields(&fields, object))
			json_array_append(items, object);
	json_decref(all);
	selector_free(&labels);
	selector_free(&fields);
	if (wants_table(request, resource)) {
		list = table_new(resource, items, table_include(request), true, time(NULL));
		json_decref(items);
	} else {
		if (!resource->custom)
			json_array_foreach (items, index, object)
				json_array_set_new(items, index, strip_kind(object));
		resource_api_version(resource, api_version, sizeof(api_version));
		snprintf(kind, sizeof(kind), "%sList", resource->kind);
		list = json_pack("{s:s, s:s, s:{}, s:o}", "kind", kind, "apiVersion", api_version,
			"metadata", "items", items);
	}
	set_version(list, version);
	answer->json = list;
}

static void handle_watch(struct api *api, const struct api_request *request,
	const struct api_target *target, struct api_answer *answer)
{
	const char *version_text = request->query(request, "resourceVersion");
	const char *timeout = request->query(request, "timeoutSeconds");
	struct api_watch *watch = calloc(1, sizeof(*watch));
	uint64_t version = 0, now;
	bool initial;
	char *end;

	if (!watch) {
		answer->json = status_new(500, "InternalError", "out of memory");
		return;
	}
	answer->json = read_selectors(request, target->resource, &watch->labels, &watch->fields);
	if (!answer->json && version_text && *version_text) {
		errno = 0;
		version = strtoull(version_text, &end, 10);
		if (*end || errno || *version_text == '-')
			answer->json = status_new(400, "BadRequest",
				"resourceVersion: Invalid value: \"%.64s\": strconv.ParseUint: "
				"parsing \"%.64s\": invalid syntax",
				version_text, version_text);
	}
	now = store_version(api->store);
	if (!answer->json && version > now) {
		answer->json = status_new(504, "Timeout",
			"Too large resource version: %llu, current: %llu",
			(unsigned long long)version, (unsigned long long)now);
		json_object_set_new(answer->json, "details",
			json_pack("{s:[{s:s, s:s}], s:i}", "causes", "reason",
				"ResourceVersionTooLarge", "message", "Too large resource version",
				"retryAfterSeconds", 1));
	}
	if (answer->json) {
		api_watch_free(watch);
		return;
	}
	watch->resource = target->resource;
	watch->namespace = target->namespace ? strdup(target->namespace) : NULL;
	watch->name = target->name ? strdup(target->name) : NULL;
	watch->bookmarks = is_true(request, "allowWatchBookmarks");
	watch->table = wants_table(request, target->resource);
	watch->include = table_include(request);
	watch->timeout_s = timeout ? atoll(timeout) : 0;
	if (watch->timeout_s <= 0)
		watch->timeout_s = WATCH_TIMEOUT_S + random() % WATCH_TIMEOUT_S;
	watch->after = version;
	watch->mark_initial = is_true(request, "sendInitialEvents");
	initial = version == 0 || watch->mark_initial;
	if (initial)
		watch->initial =
			store_list(api->store, target->resource, target->namespace, &watch->after);
	answer->watch = watch;
}

static void handle_get(struct api *api, const struct api_request *request,
	const struct api_target *target, struct api_answer *answer)
{
	json_t *object = store_get(api->store, target->resource, target->namespace, target->name);

	if (!object) {
		answer->json = status_not_found(target->resource, target->name);
	} else if (target->subresource && !strcmp(target->subresource->name, "scale")) {
		answer->json = api_scale_of(object);
	} else if (!target->subresource && wants_table(request, target->resource)) {
		json_t *items = json_pack("[O]", object);

		answer->json = table_new(
			target->resource, items, table_include(request), true, time(NULL));
		set_version(answer->json, object_version(object));
		json_decref(items);
	} else {
		answer->json = json_incref(object);
	}
	json_decref(object);
}

/* GET .../pods/NAME/log: what the container has written, its end when that is long. */
static void handle_log(struct api *api, const struct api_request *request,
	const struct api_target *target, struct api_answer *answer)
{
	json_t *object = store_get(api->store, target->resource, target->namespace, target->name);
	const json_t *containers = object_get(object, "spec", "containers", NULL);
	const char *container = request->query(request, "container");
	const char *tail = request->query(request, "tailLines");
	long lines = tail ? atol(tail) : -1;
	const char *first = object_string(json_array_get(containers, 0), "name", NULL);
	char path[1200];
	FILE *file;
	size_t got, start;

	if (!object) {
		answer->json = status_not_found(target->resource, target->name);
		return;
	}
	if (!container || (first && !strcmp(container, first)))
		snprintf(path, sizeof(path), "%s/logs/%s.log", api->state_directory,
			object_name(object));
	else
		snprintf(path, sizeof(path), "%s/logs/%s.%.63s.log", api->state_directory,
			object_name(object), strchr(container, '/') ? "" : container);
	json_decref(object);
	file = fopen(path, "re");
	answer->text = calloc(1, LOG_MOST + 1);
	if (!file || !answer->text) {
		if (file)
			fclose(file);
		free(answer->text);
		answer->text = NULL;
		answer->json = status_new(400, "BadRequest", "container %s of pod %s has no log",
			container ? container : "", target->name);
		return;
	}
	if (!fseek(file, 0, SEEK_END) && ftell(file) > LOG_MOST)
		fseek(file, -LOG_MOST, SEEK_END);
	else
		rewind(file);
	got = fread(answer->text, 1, LOG_MOST, file);
	fclose(file);
	for (start = got; start > 0 && lines >= 0; start--)
		if (answer->text[start - 1] == '\n' && start != got && --lines == 0)
			break;
	if (lines == 0 || tail)
		memmove(answer->text, answer->text + start, got - start + 1);
	answer->content_type = "text/plain";
}

static enum verb verb_of(const struct api_request *request, const struct api_target *target)
{
	const char *method = request->method;

	if (!strcmp(method, "GET") || !strcmp(method, "HEAD"))
		return target->name && !is_true(request, "watch") ? VERB_GET
		       : is_true(request, "watch")		  ? VERB_WATCH
								  : VERB_LIST;
	if (!strcmp(method, "POST"))
		return target->name ? (enum verb)0 : VERB_CREATE;
	if (!target->name)
		return (enum verb)0; /* deletecollection is not served */
	if (!strcmp(method, "PUT"))
		return VERB_UPDATE;
	if (!strcmp(method, "PATCH"))
		return VERB_PATCH;
	return !strcmp(method, "DELETE") ? VERB_DELETE : (enum verb)0;
}

static void handle_target(struct api *api, const struct api_request *request,
	const struct api_target *target, struct api_answer *answer)
{
	enum verb verb = verb_of(request, target);
	unsigned int allowed =
		target->subresource ? target->subresource->verbs : target->resource->verbs;

	if (!verb || !(allowed & verb)) {
		answer->json = status_method_not_allowed();
		return;
	}
	switch (verb) {
	case VERB_LIST:
		handle_list(api, request, target, answer);
		break;
	case VERB_WATCH:
		handle_watch(api, request, target, answer);
		break;
	case VERB_GET:
		if (target->subresource && !strcmp(target->subresource->name, "log"))
			handle_log(api, request, target, answer);
		else
			handle_get(api, request, target, answer);
		break;
	case VERB_CREATE:
		api_create(api, request, target, answer);
		break;
	case VERB_UPDATE:
	case VERB_PATCH:
		api_change(api, request, target, verb == VERB_PATCH, answer);
		break;
	case VERB_DELETE:
		api_delete(api, request, target, answer);
		break;
	}
}

static void handle_parts(struct api *api, const struct api_request *request, char **parts,
	size_t count, struct api_answer *answer)
{
	bool core = count > 0 && !strcmp(parts[0], "api");
	const char *group = core ? "" : count > 1 ? parts[1] : NULL;
	size_t at = core ? 2 : 3;
	const char *version = count >= at ? parts[at - 1] : NULL;
	struct api_target target;

	if (count == 1 && !strcmp(parts[0], "version"))
		answer->json = version_document();
	else if (count == 1 && core)
		answer->json = resource_discover_versions();
	else if (count == 1 && !strcmp(parts[0], "apis"))
		answer->json = resource_discover_groups();
	else if (count == 2 && !strcmp(parts[0], "apis"))
		answer->json = resource_discover_group(group);
	else if (count >= at && (core || !strcmp(parts[0], "apis")) &&
		 resource_group_exists(group, version)) {
		if (count == at)
			answer->json = resource_discover_resources(group, version);
		else if (parse_target(parts, count, at, group, version, &target)) {
			handle_target(api, request, &target, answer);
			return;
		}
	}
	if (!answer->json)
		answer->json = status_no_such_path();
	else if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
		json_decref(answer->json);
		answer->json = status_method_not_allowed();
	}
}

void api_handle(struct api *api, const struct api_request *request, struct api_answer *answer)
{
	char *path = strdup(request->path), *rest = NULL, *parts[PATH_PARTS_MAX];
	size_t count = 0;

	*answer = (struct api_answer){.code = 0, .content_type = "application/json"};
	if (!path) {
		answer->json = status_new(500, "InternalError", "out of memory");
	} else if (!strcmp(path, "/healthz") || !strcmp(path, "/livez") ||
		   !strcmp(path, "/readyz")) {
		answer->text = strdup("ok");
		answer->content_type = "text/plain; charset=utf-8";
	} else {
		for (char *part = strtok_r(path, "/", &rest); part && count < PATH_PARTS_MAX;
			part = strtok_r(NULL, "/", &rest))
			parts[count++] = part;
		handle_parts(api, request, parts, count, answer);
	}
	free(path);
	if (answer->code == 0)
		answer->code =
			answer->json && object_string(answer->json, "kind", NULL) &&
					!strcmp(object_string(answer->json, "kind", NULL), "Status")
				? status_code(answer->json)
				: 200;
}
