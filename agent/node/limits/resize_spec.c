// SPDX-License-Identifier: Apache-2.0
#include "node/limits/resize_spec.h"

#include "common/kube.h"
#include "common/quantity.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[RESIZE_COUNT] = {
	[RESIZE_CPU] = "cpu",
	[RESIZE_MEMORY] = "memory",
};

static double parse(enum resize_resource which, const char *text)
{
	double millicores;
	uint64_t bytes;

	if (!text)
		return 0;
	if (which == RESIZE_CPU)
		return quantity_parse_millicores(text, &millicores) ? 0 : millicores;
	return quantity_parse_bytes(text, &bytes) ? 0 : (double)bytes;
}

static void format(enum resize_resource which, double value, char *text, size_t size)
{
	if (which == RESIZE_CPU)
		quantity_format_millicores(text, size, value);
	else
		quantity_format_bytes(text, size, (uint64_t)value);
}

static double step(enum resize_resource which, double value)
{
	if (which == RESIZE_MEMORY)
		return (double)sysconf(_SC_PAGESIZE);
	return value < RESIZE_FINE_UNDER_MILLICORES ? RESIZE_FINE_STEP_MILLICORES
						    : RESIZE_STEP_MILLICORES;
}

static const json_t *find_container(const json_t *pod, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach (kube_get(pod, "spec", "containers", NULL), i, one) {
		const char *found = kube_string(one, "name", NULL);

		if (found && strcmp(found, name) == 0)
			return one;
	}
	return NULL;
}

static bool restarts(const json_t *container, const char *resource)
{
	const json_t *policy;
	size_t i;

	json_array_foreach (json_object_get(container, "resizePolicy"), i, policy) {
		const char *name = kube_string(policy, "resourceName", NULL);
		const char *what = kube_string(policy, "restartPolicy", NULL);

		if (name && what && strcmp(name, resource) == 0)
			return strcmp(what, "RestartContainer") == 0;
	}
	return false;
}

double resize_value_declared(const struct resize_value *value)
{
	return value->reserves ? value->request : value->limit;
}

static void value_read(
	struct resize_value *value, enum resize_resource which, const json_t *container)
{
	const char *limit = kube_string(container, "resources", "limits", names[which], NULL);
	const char *request = kube_string(container, "resources", "requests", names[which], NULL);

	memset(value, 0, sizeof(*value));
	value->restarts = restarts(container, names[which]);
	value->limit = parse(which, limit);
	value->request = parse(which, request);
	value->reserves = which == RESIZE_CPU && value->limit <= 0 && value->request > 0;
	value->spec = value->want = resize_value_declared(value);
	if (value->reserves)
		limit = request;
	snprintf(value->words, sizeof(value->words), "%s", limit ? limit : "");
}

bool resize_spec_read(struct resize_spec *spec, const json_t *pod, const char *container)
{
	const json_t *found = find_container(pod, container);

	memset(spec, 0, sizeof(*spec));
	for (int i = 0; found && i < RESIZE_COUNT; i++)
		value_read(&spec->values[i], i, found);
	return found != NULL;
}

bool resize_spec_observe(struct resize_spec *spec, const json_t *pod, const char *container)
{
	struct resize_spec now;
	bool changed = false;

	if (!resize_spec_read(&now, pod, container))
		return false;
	for (int i = 0; i < RESIZE_COUNT; i++) {
		struct resize_value *value = &spec->values[i];

		if (now.values[i].spec == value->want) {
			value->spec = value->want;
		} else if (now.values[i].spec != value->spec) {
			*value = now.values[i];
			changed = true;
		}
	}
	return changed;
}

void resize_spec_want(struct resize_spec *spec, enum resize_resource which, double wanted)
{
	struct resize_value *value = &spec->values[which];
	double unit = step(which, wanted);
	double least = which == RESIZE_CPU ? RESIZE_LEAST_MILLICORES : unit;

	/* A limit that the owner did not set is never added. */
	if (value->limit <= 0 || value->restarts || !(wanted > 0))
		return;
	if (value->request > 0 && value->request < value->limit)
		least = fmax(least, value->request + step(which, value->request));
	wanted = ceil(wanted / unit) * unit;
	if (wanted < least)
		wanted = least;
	if (wanted > value->limit)
		wanted = value->limit;
	if (value->cannot_fall && wanted < value->spec)
		wanted = value->spec;
	value->want = wanted;
}

void resize_spec_want_request(struct resize_spec *spec, double millicores)
{
	struct resize_value *value = &spec->values[RESIZE_CPU];
	double unit;

	/* One that the owner did not set is not added: the pod would be of another QoS class. */
	if (!value->reserves || value->restarts || !(millicores > 0))
		return;
	unit = step(RESIZE_CPU, millicores);
	value->want = ceil(millicores / unit) * unit;
}

bool resize_spec_want_declared(struct resize_spec *spec)
{
	bool changed = false;

	for (int i = 0; i < RESIZE_COUNT; i++) {
		double declared = resize_value_declared(&spec->values[i]);

		changed |= spec->values[i].want != declared;
		spec->values[i].want = declared;
	}
	return changed;
}

bool resize_spec_is_due(const struct resize_spec *spec)
{
	for (int i = 0; i < RESIZE_COUNT; i++)
		if (spec->values[i].want != spec->values[i].spec)
			return true;
	return false;
}

bool resize_spec_is_declared(const struct resize_spec *spec)
{
	for (int i = 0; i < RESIZE_COUNT; i++)
		if (spec->values[i].spec != resize_value_declared(&spec->values[i]))
			return false;
	return true;
}

/* Takes @list over. */
static void put_list(json_t *resources, const char *name, json_t *list)
{
	if (json_object_size(list))
		json_object_set_new(resources, name, list);
	else
		json_decref(list);
}

json_t *resize_spec_patch(const struct resize_spec *spec, const char *container)
{
	json_t *limits = json_object(), *requests = json_object(), *resources;

	for (int i = 0; i < RESIZE_COUNT; i++) {
		const struct resize_value *value = &spec->values[i];
		char text[32];

		if (value->want == value->spec)
			continue;
		format(i, value->want, text, sizeof(text));
		if (value->want == resize_value_declared(value))
			snprintf(text, sizeof(text), "%s", value->words);
		if (!value->reserves)
			json_object_set_new(limits, names[i], json_string(text));
		if (value->reserves || value->request == value->limit)
			json_object_set_new(requests, names[i], json_string(text));
	}
	resources = json_object();
	put_list(resources, "limits", limits);
	put_list(resources, "requests", requests);
	if (json_object_size(resources) == 0) {
		json_decref(resources);
		return NULL;
	}
	return json_pack("{s:{s:[{s:s, s:o}]}}", "spec", "containers", "name", container,
		"resources", resources);
}

void resize_spec_refused(struct resize_spec *spec)
{
	struct resize_value *memory = &spec->values[RESIZE_MEMORY];

	if (memory->want < memory->spec) {
		memory->cannot_fall = true;
		memory->want = memory->spec;
		return;
	}
	for (int i = 0; i < RESIZE_COUNT; i++)
		spec->values[i].want = spec->values[i].spec;
}

const char *resize_pending(const json_t *pod, const char **message)
{
	const json_t *condition;
	size_t i;

	json_array_foreach (kube_get(pod, "status", "conditions", NULL), i, condition) {
		const char *type = kube_string(condition, "type", NULL);
		const char *is = kube_string(condition, "status", NULL);
		const char *reason = kube_string(condition, "reason", NULL);

		if (!type || strcmp(type, "PodResizePending") != 0 || !is ||
			strcmp(is, "True") != 0)
			continue;
		*message = kube_string(condition, "message", NULL);
		if (!*message)
			*message = "";
		return reason ? reason : "";
	}
	return NULL;
}

void resize_spec_save(const struct resize_spec *spec, json_t *kept)
{
	for (int i = 0; i < RESIZE_COUNT; i++) {
		const struct resize_value *value = &spec->values[i];

		json_object_set_new(kept, names[i],
			json_pack("{s:s, s:f, s:b, s:f, s:f}", "limit", value->words, "request",
				value->request, "reserves", value->reserves, "spec", value->spec,
				"want", value->want));
	}
}

/* Whether the spec has neither what was kept of ours nor the owner's of then: the owner's of now. */
static bool is_owners_new(
	enum resize_resource which, const struct resize_value *value, const json_t *kept)
{
	const json_t *before = json_object_get(kept, "spec"),
		     *asked = json_object_get(kept, "want");

	/* An earlier version did not say what it had asked for. */
	if (!before || !asked)
		return false;
	return value->spec != json_number_value(before) &&
	       value->spec != json_number_value(asked) &&
	       value->spec != parse(which, kube_string(kept, "limit", NULL));
}

bool resize_spec_load(struct resize_spec *spec, const json_t *kept)
{
	bool found = false;

	for (int i = 0; i < RESIZE_COUNT; i++) {
		struct resize_value *value = &spec->values[i];
		const char *limit = kube_string(kept, names[i], "limit", NULL);

		if (!limit)
			continue;
		found = true;
		/* An earlier version's, which moved no request. */
		if (!limit[0] && value->reserves)
			continue;
		if (is_owners_new(i, value, kube_get(kept, names[i], NULL)))
			continue;
		value->reserves =
			json_is_true(json_object_get(kube_get(kept, names[i], NULL), "reserves"));
		snprintf(value->words, sizeof(value->words), "%s", limit);
		value->limit = value->reserves ? 0 : parse(i, limit);
		value->request = json_number_value(
			json_object_get(kube_get(kept, names[i], NULL), "request"));
	}
	return found;
}
