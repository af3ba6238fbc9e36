// SPDX-License-Identifier: Apache-2.0
/*
 * Function files: Kubernetes manifests in YAML (several documents) or JSON (also kind: List).
 * YAML 1.1 as kubectl reads it; anchors and "<<" work, tags do not.
 */
#ifndef EBBTIDE_LOCAL_MANIFEST_H
#define EBBTIDE_LOCAL_MANIFEST_H

#include <jansson.h>
#include <stddef.h>

/*
 * Read, fill in defaults, validate. *objects: a new array of Deployments, ScaleObjectives,
 * Namespaces and Leases; other kinds are passed over with a warning. On an error a line
 * "FILE:LINE: what" in @error and -EINVAL (content) or the -errno of reading.
 */
int manifest_read(const char *path, json_t **objects, char *error, size_t error_size);
/* The same on text; @name stands for the file in messages. */
int manifest_parse(const char *name, const char *text, size_t size, json_t **objects, char *error,
	size_t error_size);

#endif
