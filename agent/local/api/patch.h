// SPDX-License-Identifier: Apache-2.0
/* The three ways to patch an object. Pure. */
#ifndef EBBTIDE_LOCAL_PATCH_H
#define EBBTIDE_LOCAL_PATCH_H

#include <jansson.h>
#include <stddef.h>

enum patch_type {
	PATCH_JSON,	       /* RFC 6902 */
	PATCH_MERGE,	       /* RFC 7396 */
	PATCH_STRATEGIC_MERGE, /* Kubernetes' own: lists of named things merge by their key */
};

/*
 * The patched copy of @object in *out (caller decrefs); @object stays as it is. -EINVAL: not a
 * patch of that type; -ENOENT: a JSON patch names a place that is not there, or a test fails;
 * the reason in @error.
 */
int patch_apply(enum patch_type type, const json_t *object, const json_t *patch, json_t **out,
	char *error, size_t error_size);

#endif
