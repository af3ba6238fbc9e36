// SPDX-License-Identifier: Apache-2.0
#include "local/api/resources.h"

#include <stdio.h>
#include <string.h>

#define READ  (VERB_GET | VERB_LIST | VERB_WATCH)
#define WRITE (VERB_CREATE | VERB_UPDATE | VERB_PATCH | VERB_DELETE)
#define EDIT  (VERB_GET | VERB_UPDATE | VERB_PATCH)

const struct resource resources[RESOURCE_COUNT] = {
	[RESOURCE_PODS] =
		{
			.id = RESOURCE_PODS,
			.group = "",
			.version = "v1",
			.plural = "pods",
			.singular = "pod",
			.kind = "Pod",
			.short_names = {"po"},
			.categories = {"all"},
			.fields = {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName",
				"spec.serviceAccountName", "status.phase", "status.podIP",
				"status.nominatedNodeName"},
			.namespaced = true,
			/* Pods are made by Deployments only: there is no scheduler for others. */
			.verbs = READ | VERB_UPDATE | VERB_PATCH | VERB_DELETE,
			.subresources = {{"resize", NULL, NULL, NULL, EDIT},
				{"log", NULL, NULL, NULL, VERB_GET}},
		},
	[RESOURCE_NAMESPACES] =
		{
			.id = RESOURCE_NAMESPACES,
			.group = "",
			.version = "v1",
			.plural = "namespaces",
			.singular = "namespace",
			.kind = "Namespace",
			.short_names = {"ns"},
			.fields = {"status.phase"},
			.verbs = READ | VERB_CREATE,
		},
	[RESOURCE_NODES] =
		{
			.id = RESOURCE_NODES,
			.group = "",
			.version = "v1",
			.plural = "nodes",
			.singular = "node",
			.kind = "Node",
			.short_names = {"no"},
			.fields = {"spec.unschedulable"},
			.verbs = READ,
		},
	[RESOURCE_EVENTS] =
		{
			.id = RESOURCE_EVENTS,
			.group = "",
			.version = "v1",
			.plural = "events",
			.singular = "event",
			.kind = "Event",
			.short_names = {"ev"},
			.fields = {"involvedObject.kind", "involvedObject.namespace",
				"involvedObject.name", "involvedObject.uid",
				"involvedObject.apiVersion", "involvedObject.resourceVersion",
				"involvedObject.fieldPath", "reason", "reportingComponent",
				"source", "type"},
			.namespaced = true,
			.most = 1000,
			.verbs = READ | WRITE,
		},
	[RESOURCE_DEPLOYMENTS] =
		{
			.id = RESOURCE_DEPLOYMENTS,
			.group = "apps",
			.version = "v1",
			.plural = "deployments",
			.singular = "deployment",
			.kind = "Deployment",
			.short_names = {"deploy"},
			.categories = {"all"},
			.namespaced = true,
			.generation = true,
			.verbs = READ | WRITE,
			.subresources = {{"scale", "Scale", "autoscaling", "v1", EDIT},
				{"status", NULL, NULL, NULL, EDIT}},
		},
	[RESOURCE_REPLICASETS] =
		{
			.id = RESOURCE_REPLICASETS,
			.group = "apps",
			.version = "v1",
			.plural = "replicasets",
			.singular = "replicaset",
			.kind = "ReplicaSet",
			.short_names = {"rs"},
			.categories = {"all"},
			.namespaced = true,
			.generation = true,
			.verbs = READ,
		},
	[RESOURCE_LEASES] =
		{
			.id = RESOURCE_LEASES,
			.group = "coordination.k8s.io",
			.version = "v1",
			.plural = "leases",
			.singular = "lease",
			.kind = "Lease",
			.namespaced = true,
			.verbs = READ | WRITE,
		},
	/* Autoscalers of others are kept and carried out by nobody here. */
	[RESOURCE_HORIZONTALS] =
		{
			.id = RESOURCE_HORIZONTALS,
			.group = "autoscaling",
			.version = "v2",
			.plural = "horizontalpodautoscalers",
			.singular = "horizontalpodautoscaler",
			.kind = "HorizontalPodAutoscaler",
			.short_names = {"hpa"},
			.categories = {"all"},
			.namespaced = true,
			.verbs = READ | WRITE,
			.subresources = {{"status", NULL, NULL, NULL, EDIT}},
		},
	[RESOURCE_VERTICALS] =
		{
			.id = RESOURCE_VERTICALS,
			.group = "autoscaling.k8s.io",
			.version = "v1",
			.plural = "verticalpodautoscalers",
			.singular = "verticalpodautoscaler",
			.kind = "VerticalPodAutoscaler",
			.short_names = {"vpa"},
			.namespaced = true,
			.custom = true,
			.generation = true,
			.verbs = READ | WRITE,
			.subresources = {{"status", NULL, NULL, NULL, EDIT}},
		},
	[RESOURCE_OBJECTIVES] =
		{
			.id = RESOURCE_OBJECTIVES,
			.group = "ebbtide.io",
			.version = "v1alpha1",
			.plural = "scaleobjectives",
			.singular = "scaleobjective",
			.kind = "ScaleObjective",
			.short_names = {"so"},
			.categories = {"all"},
			.namespaced = true,
			.custom = true,
			.generation = true,
			.verbs = READ | WRITE,
			.subresources = {{"status", NULL, NULL, NULL, EDIT}},
		},
};

#define FOR_EACH_RESOURCE(r)                                                                       \
	for (const struct resource *r = resources; r < resources + RESOURCE_COUNT; r++)

const struct resource *resource_find(const char *group, const char *version, const char *plural)
{
	FOR_EACH_RESOURCE(r)
	if (!strcmp(r->group, group) && !strcmp(r->version, version) && !strcmp(r->plural, plural))
		return r;
	return NULL;
}

const struct resource *resource_find_kind(const char *api_version, const char *kind)
{
	char text[128];

	FOR_EACH_RESOURCE(r)
	{
		resource_api_version(r, text, sizeof(text));
		if (!strcmp(text, api_version) && !strcmp(r->kind, kind))
			return r;
	}
	return NULL;
}

const struct subresource *resource_subresource(const struct resource *resource, const char *name)
{
	for (size_t i = 0; i < sizeof(resource->subresources) / sizeof(resource->subresources[0]);
		i++) {
		const struct subresource *sub = &resource->subresources[i];

		if (!sub->name)
			break;
		if (!strcmp(sub->name, name))
			return sub;
	}
	return NULL;
}

bool resource_group_exists(const char *group, const char *version)
{
	FOR_EACH_RESOURCE(r)
	if (!strcmp(r->group, group) && (!version || !strcmp(r->version, version)))
		return true;
	return false;
}

void resource_qualified_name(const struct resource *resource, char *out, size_t size)
{
	snprintf(out, size, "%s%s%s", resource->plural, *resource->group ? "." : "",
		resource->group);
}

void resource_api_version(const struct resource *resource, char *out, size_t size)
{
	snprintf(out, size, "%s%s%s", resource->group, *resource->group ? "/" : "",
		resource->version);
}

json_t *resource_discover_versions(void)
{
	return json_pack("{s:s, s:[s], s:[{s:s, s:s}]}", "kind", "APIVersions", "versions", "v1",
		"serverAddressByClientCIDRs", "clientCIDR", "0.0.0.0/0", "serverAddress", "");
}

json_t *resource_discover_group(const char *group)
{
	const struct resource *found = NULL;
	char group_version[128];

	FOR_EACH_RESOURCE(r)
	if (!strcmp(r->group, group))
		found = r;
	if (!found || !*group)
		return NULL;
	resource_api_version(found, group_version, sizeof(group_version));
	return json_pack("{s:s, s:s, s:s, s:[{s:s, s:s}], s:{s:s, s:s}}", "kind", "APIGroup",
		"apiVersion", "v1", "name", group, "versions", "groupVersion", group_version,
		"version", found->version, "preferredVersion", "groupVersion", group_version,
		"version", found->version);
}

json_t *resource_discover_groups(void)
{
	json_t *groups = json_array();
	const char *last = "";

	FOR_EACH_RESOURCE(r)
	{
		json_t *group;

		if (!*r->group || !strcmp(r->group, last))
			continue;
		last = r->group;
		group = resource_discover_group(r->group);
		json_object_del(group, "kind");
		json_object_del(group, "apiVersion");
		json_array_append_new(groups, group);
	}
	return json_pack(
		"{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", groups);
}

static json_t *verbs_to_json(unsigned int verbs)
{
	static const struct {
		unsigned int verb;
		const char *name;
	} names[] = {
		{VERB_CREATE, "create"},
		{VERB_DELETE, "delete"},
		{VERB_GET, "get"},
		{VERB_LIST, "list"},
		{VERB_PATCH, "patch"},
		{VERB_UPDATE, "update"},
		{VERB_WATCH, "watch"},
	};
	json_t *list = json_array();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (verbs & names[i].verb)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static void append_names(json_t *entry, const char *key, const char *const *names, size_t most)
{
	json_t *list;

	if (!names[0])
		return;
	list = json_array();
	for (size_t i = 0; i < most && names[i]; i++)
		json_array_append_new(list, json_string(names[i]));
	json_object_set_new(entry, key, list);
}

static void append_subresources(json_t *list, const struct resource *r)
{
	for (size_t i = 0; i < sizeof(r->subresources) / sizeof(r->subresources[0]); i++) {
		const struct subresource *sub = &r->subresources[i];
		char name[128];
		json_t *entry;

		if (!sub->name)
			break;
		snprintf(name, sizeof(name), "%s/%s", r->plural, sub->name);
		entry = json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", name, "singularName", "",
			"namespaced", r->namespaced, "kind", sub->kind ? sub->kind : r->kind,
			"verbs", verbs_to_json(sub->verbs));
		if (sub->group) {
			json_object_set_new(entry, "group", json_string(sub->group));
			json_object_set_new(entry, "version", json_string(sub->version));
		}
		json_array_append_new(list, entry);
	}
}

json_t *resource_discover_resources(const char *group, const char *version)
{
	json_t *list = json_array();
	char group_version[128];

	snprintf(group_version, sizeof(group_version), "%s%s%s", group, *group ? "/" : "", version);
	FOR_EACH_RESOURCE(r)
	{
		json_t *entry;

		if (strcmp(r->group, group) != 0 || strcmp(r->version, version) != 0)
			continue;
		entry = json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", r->plural, "singularName",
			r->singular, "namespaced", r->namespaced, "kind", r->kind, "verbs",
			verbs_to_json(r->verbs));
		append_names(entry, "shortNames", r->short_names, 3);
		append_names(entry, "categories", r->categories, 2);
		json_array_append_new(list, entry);
		append_subresources(list, r);
	}
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", "APIResourceList", "apiVersion", "v1",
		"groupVersion", group_version, "resources", list);
}
