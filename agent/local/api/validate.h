// SPDX-License-Identifier: Apache-2.0
/*
 * Defaults and validation of objects, as the API server's admission does them. Pure.
 * A cause is {"reason": "FieldValueInvalid", "message": "...", "field": "spec.replicas"}.
 */
#ifndef EBBTIDE_LOCAL_VALIDATE_H
#define EBBTIDE_LOCAL_VALIDATE_H

#include <jansson.h>

#include "local/api/resources.h"

/*
 * Fill in what may be left out and bring quantities into their canonical text, in place.
 * Works on anything, also on what validation will refuse.
 */
void validate_set_defaults(const struct resource *resource, json_t *object);
/* Append what is wrong with @object to the array @causes. */
void validate_object(const struct resource *resource, const json_t *object, json_t *causes);
/* A change of an existing pod: what may not change. */
void validate_pod_update(const json_t *old, const json_t *object, json_t *causes);
/* A resize: only resources may change, and not the QoS class. */
void validate_pod_resize(const json_t *old, const json_t *object, json_t *causes);

/* @reason: "FieldValueRequired", "FieldValueInvalid", "FieldValueNotSupported", ... */
void validate_add_cause(json_t *causes, const char *reason, const char *field, const char *format,
	...) __attribute__((format(printf, 4, 5)));

#endif
