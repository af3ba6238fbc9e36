// SPDX-License-Identifier: Apache-2.0
/* Status objects: the API's errors, worded as the real API server words them. */
#ifndef EBBTIDE_LOCAL_STATUS_H
#define EBBTIDE_LOCAL_STATUS_H

#include <jansson.h>

#include "local/api/resources.h"

/* A failure with an HTTP code; @reason as in metav1.StatusReason. */
json_t *status_new(int code, const char *reason, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
json_t *status_success(const struct resource *resource, const char *name, const char *uid);
json_t *status_not_found(const struct resource *resource, const char *name);
json_t *status_already_exists(const struct resource *resource, const char *name);
json_t *status_conflict(const struct resource *resource, const char *name, const char *why);
/* @causes: an array of {field, reason, message} as validate.h makes them; borrowed. */
json_t *status_invalid(const struct resource *resource, const char *name, const json_t *causes);
json_t *status_no_such_path(void);
json_t *status_method_not_allowed(void);
json_t *status_unsupported_media(const char *accepted);
/* In a watch, as an ERROR event: the version is older than the history. */
json_t *status_expired(unsigned long long asked, unsigned long long oldest);

int status_code(const json_t *status);

#endif
