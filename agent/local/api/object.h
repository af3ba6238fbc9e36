// SPDX-License-Identifier: Apache-2.0
/*
 * Kubernetes objects as JSON: what every object has (metadata), and small builders.
 * Objects in the store are never changed in place: copy, change the copy, put it back.
 */
#ifndef EBBTIDE_LOCAL_OBJECT_H
#define EBBTIDE_LOCAL_OBJECT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define OBJECT_TIME_SIZE 32
#define OBJECT_UID_SIZE	 37

/* The value at a path of keys, borrowed, or NULL: object_get(pod, "spec", "containers", NULL). */
json_t *object_get(const json_t *object, ...) __attribute__((sentinel));
/* The same, when it is a string. */
const char *object_string(const json_t *object, ...) __attribute__((sentinel));
/* metadata.name and metadata.namespace; "" where missing, so that both can be compared. */
const char *object_name(const json_t *object);
const char *object_namespace(const json_t *object);
const char *object_uid(const json_t *object);
uint64_t object_version(const json_t *object);
/* The object at @key of @parent, made when it is missing or not an object. Borrowed. */
json_t *object_child(json_t *parent, const char *key);
void object_set_string(json_t *object, const char *key, const char *value);
/* An integer at a path, or @fallback. */
json_int_t object_integer(const json_t *object, const char *key, json_int_t fallback);

/* RFC 3339 in seconds ("2026-01-02T03:04:05Z"), as in creationTimestamp. */
void object_format_time(char out[OBJECT_TIME_SIZE], time_t seconds);
/* The same with microseconds, as in a Lease's renewTime. */
void object_format_micro_time(char out[OBJECT_TIME_SIZE]);
/* Seconds since the epoch, or -1. */
time_t object_parse_time(const char *text);

/* A random (version 4) UID. */
void object_make_uid(char out[OBJECT_UID_SIZE]);
/* @length random characters of the alphabet that Kubernetes uses for generated names, and a 0. */
void object_make_suffix(char *out, size_t length);
/* The pod-template-hash of a template: up to ten characters of that alphabet, and a 0. */
void object_hash(char out[16], const json_t *template);

#endif
