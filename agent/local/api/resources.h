// SPDX-License-Identifier: Apache-2.0
/*
 * The table of what the API serves: one row a resource. Discovery, routing, storage, error texts
 * and selectors all read it.
 */
#ifndef EBBTIDE_LOCAL_RESOURCES_H
#define EBBTIDE_LOCAL_RESOURCES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum resource_id {
	RESOURCE_PODS,
	RESOURCE_NAMESPACES,
	RESOURCE_NODES,
	RESOURCE_EVENTS,
	RESOURCE_DEPLOYMENTS,
	RESOURCE_REPLICASETS,
	RESOURCE_LEASES,
	RESOURCE_HORIZONTALS,
	RESOURCE_VERTICALS,
	RESOURCE_OBJECTIVES,
	RESOURCE_COUNT,
};

enum verb {
	VERB_GET = 1 << 0,
	VERB_LIST = 1 << 1,
	VERB_WATCH = 1 << 2,
	VERB_CREATE = 1 << 3,
	VERB_UPDATE = 1 << 4,
	VERB_PATCH = 1 << 5,
	VERB_DELETE = 1 << 6,
};

struct subresource {
	const char *name; /* "scale" */
	const char *kind; /* "Scale"; NULL: the parent's kind */
	const char *group;
	const char *version;
	unsigned int verbs;
};

struct resource {
	enum resource_id id;
	const char *group; /* "" for the core group */
	const char *version;
	const char *plural;
	const char *singular;
	const char *kind;
	const char *short_names[3]; /* NULL-terminated */
	const char *categories[2];  /* NULL-terminated */
	const char *fields[12];	    /* field selectors beyond metadata.name/namespace */
	bool namespaced;
	bool custom;	 /* defined by a CustomResourceDefinition on a real cluster */
	bool generation; /* metadata.generation counts the changes of spec */
	size_t most;	 /* oldest objects go beyond this many; 0: no bound */
	unsigned int verbs;
	struct subresource subresources[3]; /* name NULL ends */
};

extern const struct resource resources[RESOURCE_COUNT];

/* NULL when there is none. */
const struct resource *resource_find(const char *group, const char *version, const char *plural);
const struct resource *resource_find_kind(const char *api_version, const char *kind);
const struct subresource *resource_subresource(const struct resource *resource, const char *name);
/* True when some resource lives in it. */
bool resource_group_exists(const char *group, const char *version);
/* "deployments.apps", "pods". */
void resource_qualified_name(const struct resource *resource, char *out, size_t size);
/* "apps/v1", "v1". */
void resource_api_version(const struct resource *resource, char *out, size_t size);

/* Discovery documents; the caller decrefs. */
json_t *resource_discover_versions(void);				     /* /api */
json_t *resource_discover_groups(void);					     /* /apis */
json_t *resource_discover_group(const char *group);			     /* /apis/GROUP */
json_t *resource_discover_resources(const char *group, const char *version); /* .../VERSION */

#endif
