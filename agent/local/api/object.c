// SPDX-License-Identifier: Apache-2.0
#include "local/api/object.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* No vowels and no 0, 1, 3: generated names never spell a word. */
static const char safe_alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
#define SAFE_LETTERS (sizeof(safe_alphabet) - 1)

static json_t *walk(const json_t *object, va_list keys)
{
	const char *key;

	while (object && (key = va_arg(keys, const char *)))
		object = json_object_get(object, key);
	return (json_t *)object;
}

json_t *object_get(const json_t *object, ...)
{
	va_list keys;
	json_t *value;

	va_start(keys, object);
	value = walk(object, keys);
	va_end(keys);
	return value;
}

const char *object_string(const json_t *object, ...)
{
	va_list keys;
	const char *text;

	va_start(keys, object);
	text = json_string_value(walk(object, keys));
	va_end(keys);
	return text;
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

const char *object_name(const json_t *object)
{
	return or_empty(object_string(object, "metadata", "name", NULL));
}

const char *object_namespace(const json_t *object)
{
	return or_empty(object_string(object, "metadata", "namespace", NULL));
}

const char *object_uid(const json_t *object)
{
	return or_empty(object_string(object, "metadata", "uid", NULL));
}

uint64_t object_version(const json_t *object)
{
	return strtoull(
		or_empty(object_string(object, "metadata", "resourceVersion", NULL)), NULL, 10);
}

json_t *object_child(json_t *parent, const char *key)
{
	json_t *child = json_object_get(parent, key);

	if (!json_is_object(child)) {
		child = json_object();
		json_object_set_new(parent, key, child);
	}
	return child;
}

void object_set_string(json_t *object, const char *key, const char *value)
{
	json_object_set_new(object, key, json_string(value));
}

json_int_t object_integer(const json_t *object, const char *key, json_int_t fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

void object_format_time(char out[OBJECT_TIME_SIZE], time_t seconds)
{
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(out, OBJECT_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

void object_format_micro_time(char out[OBJECT_TIME_SIZE])
{
	struct timespec now;
	struct tm utc;
	size_t used;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	used = strftime(out, OBJECT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + used, OBJECT_TIME_SIZE - used, ".%06ldZ", (now.tv_nsec / 1000) % 1000000);
}

time_t object_parse_time(const char *text)
{
	struct tm utc = {0};

	if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%S", &utc))
		return -1;
	return timegm(&utc);
}

static void random_bytes(unsigned char *out, size_t size)
{
	/* getrandom cannot fail for so few bytes once the pool is ready; it blocks until then. */
	while (getrandom(out, size, 0) != (ssize_t)size)
		;
}

void object_make_uid(char out[OBJECT_UID_SIZE])
{
	unsigned char b[16];

	random_bytes(b, sizeof(b));
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	snprintf(out, OBJECT_UID_SIZE,
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		b[15]);
}

void object_make_suffix(char *out, size_t length)
{
	unsigned char b[32];

	if (length > sizeof(b))
		length = sizeof(b);
	random_bytes(b, length);
	for (size_t i = 0; i < length; i++)
		out[i] = safe_alphabet[b[i] % SAFE_LETTERS];
	out[length] = '\0';
}

void object_hash(char out[16], const json_t *template)
{
	char *text = json_dumps(template, JSON_COMPACT | JSON_SORT_KEYS);
	uint32_t hash = 2166136261u; /* FNV-1a, as the Deployment controller */
	char digits[16];
	size_t i;

	for (const char *p = text ? text : ""; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	free(text);
	snprintf(digits, sizeof(digits), "%u", hash);
	for (i = 0; digits[i]; i++)
		out[i] = safe_alphabet[(unsigned char)digits[i] % SAFE_LETTERS];
	out[i] = '\0';
}
