// SPDX-License-Identifier: Apache-2.0
#include "local/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/log.h"
#include "local/api/object.h"
#include "local/api/resources.h"
#include "local/api/validate.h"

#define DEPTH_MAX 64
/* Aliases can multiply: a file of a few lines must not fill the memory. */
#define NODES_MAX 200000
#define FILE_MAX  (4 * 1024 * 1024)

struct mark {
	const json_t *value;
	size_t line;
};

/* Where each object and array began; scalars are found through their parents. */
struct reader {
	const char *name;
	struct mark *marks;
	size_t mark_count;
	size_t mark_room;
	size_t nodes;
	char *error;
	size_t error_size;
};

static int fail(const struct reader *reader, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct reader *reader, size_t line, const char *format, ...)
{
	char text[900];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(reader->error, reader->error_size, "%s:%zu: %s", reader->name, line, text);
	return -EINVAL;
}

static int add_mark(struct reader *reader, const json_t *value, size_t line)
{
	if (reader->mark_count == reader->mark_room) {
		size_t room = reader->mark_room ? reader->mark_room * 2 : 256;
		struct mark *marks = realloc(reader->marks, room * sizeof(*marks));

		if (!marks)
			return -ENOMEM;
		reader->marks = marks;
		reader->mark_room = room;
	}
	reader->marks[reader->mark_count++] = (struct mark){value, line};
	return 0;
}

static size_t line_of(const struct reader *reader, const json_t *value)
{
	for (size_t i = reader->mark_count; i-- > 0;)
		if (reader->marks[i].value == value)
			return reader->marks[i].line;
	return 0;
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(text, *words))
			return true;
	return false;
}

/* A plain scalar, as YAML 1.1 resolves it. */
static json_t *resolve_plain(const char *text)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const trues[] = {
		"true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", NULL};
	static const char *const falses[] = {
		"false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", NULL};
	const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
	char *end;

	if (is_one_of(text, nulls))
		return json_null();
	if (is_one_of(text, trues))
		return json_true();
	if (is_one_of(text, falses))
		return json_false();
	if (isdigit((unsigned char)*digits)) {
		long long number;

		errno = 0;
		number = strtoll(text, &end, 0);
		if (!*end && !errno)
			return json_integer(number);
	}
	if ((isdigit((unsigned char)*digits) || *digits == '.') &&
		strspn(digits, "0123456789.eE+-") == strlen(digits)) {
		double number = strtod(text, &end);

		if (!*end && end != digits && isfinite(number))
			return json_real(number);
	}
	return json_string(text);
}

static json_t *convert(struct reader *reader, yaml_document_t *document, int index, int depth);

static int convert_pair(struct reader *reader, yaml_document_t *document, json_t *object,
	const yaml_node_pair_t *pair, int depth)
{
	const yaml_node_t *key = yaml_document_get_node(document, pair->key);
	size_t line = key->start_mark.line + 1;
	const char *name;
	json_t *value;

	if (key->type != YAML_SCALAR_NODE)
		return fail(reader, line, "a key must be plain text");
	name = (const char *)key->data.scalar.value;
	value = convert(reader, document, pair->value, depth + 1);
	if (!value)
		return -EINVAL;
	if (!strcmp(name, "<<") && json_is_object(value)) {
		json_object_update_missing(object, value);
		json_decref(value);
		return 0;
	}
	if (json_object_get(object, name)) {
		json_decref(value);
		return fail(reader, line, "key \"%.100s\" is there twice", name);
	}
	if (json_object_set_new(object, name, value))
		return fail(reader, line, "key \"%.100s\" is not UTF-8", name);
	return 0;
}

/* A new reference, or NULL with the reason in the reader's error. */
static json_t *convert(struct reader *reader, yaml_document_t *document, int index, int depth)
{
	const yaml_node_t *node = yaml_document_get_node(document, index);
	size_t line = node->start_mark.line + 1;
	json_t *value;

	if (depth > DEPTH_MAX || ++reader->nodes > NODES_MAX) {
		fail(reader, line,
			depth > DEPTH_MAX ? "nested too deeply (at most %d levels)"
					  : "too many values (at most %d)",
			depth > DEPTH_MAX ? DEPTH_MAX : NODES_MAX);
		return NULL;
	}
	if (node->type == YAML_SCALAR_NODE) {
		const char *text = (const char *)node->data.scalar.value;

		value = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? resolve_plain(text)
									   : json_string(text);
		if (!value)
			fail(reader, line, "text is not UTF-8");
		return value;
	}
	value = node->type == YAML_SEQUENCE_NODE ? json_array() : json_object();
	if (add_mark(reader, value, line))
		goto drop;
	if (node->type == YAML_SEQUENCE_NODE) {
		for (const yaml_node_item_t *item = node->data.sequence.items.start;
			item < node->data.sequence.items.top; item++) {
			json_t *child = convert(reader, document, *item, depth + 1);

			if (!child)
				goto drop;
			json_array_append_new(value, child);
		}
		return value;
	}
	for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
		pair < node->data.mapping.pairs.top; pair++)
		if (convert_pair(reader, document, value, pair, depth))
			goto drop;
	return value;
drop:
	json_decref(value);
	return NULL;
}

/* The line of "spec.containers[0].name", or of the deepest part of it that is there. */
static size_t line_of_field(const struct reader *reader, const json_t *object, const char *field)
{
	size_t line = line_of(reader, object);

	while (*field && object) {
		char key[128];
		size_t length = strcspn(field, ".[]"), found;

		if (*field == '[') {
			object = json_array_get(object, strtoul(field + 1, NULL, 10));
			field += strcspn(field, "]");
			field += *field == ']';
		} else {
			snprintf(key, sizeof(key), "%.*s", (int)length, field);
			object = json_object_get(object, key);
			field += length;
		}
		field += *field == '.';
		found = line_of(reader, object);
		if (found)
			line = found;
	}
	return line;
}

static int accept_object(struct reader *reader, json_t *object, json_t *objects)
{
	const char *kind = json_string_value(json_object_get(object, "kind"));
	const char *api_version = json_string_value(json_object_get(object, "apiVersion"));
	const struct resource *resource;
	size_t line = line_of(reader, object), index;
	json_t *causes, *item;
	int err = 0;

	if (!json_is_object(object))
		return fail(reader, line, "not a Kubernetes object");
	if (!kind || !*kind)
		return fail(reader, line, "kind: Required value");
	if (!api_version || !*api_version)
		return fail(reader, line, "apiVersion: Required value");
	if (!strcmp(kind, "List")) {
		json_array_foreach (json_object_get(object, "items"), index, item) {
			err = accept_object(reader, item, objects);
			if (err)
				return err;
		}
		return 0;
	}
	resource = resource_find_kind(api_version, kind);
	if (!resource && (!strcmp(kind, "Deployment") || !strcmp(kind, "ScaleObjective")))
		return fail(reader, line_of_field(reader, object, "apiVersion"),
			"apiVersion: %s has no version \"%s\" here (use %s)", kind, api_version,
			*kind == 'D' ? "apps/v1" : "ebbtide.io/v1alpha1");
	if (!resource || !(resource->verbs & VERB_CREATE) || resource->id == RESOURCE_EVENTS) {
		log_warning("%s:%zu: %s \"%s\" is passed over: ebbtide-local has no use for it",
			reader->name, line, kind, object_name(object));
		return 0;
	}
	validate_set_defaults(resource, object);
	kind = resource->kind; /* the old text went with the defaults */
	causes = json_array();
	validate_object(resource, object, causes);
	if (json_array_size(causes) > 0) {
		const char *field = object_string(json_array_get(causes, 0), "field", NULL);

		err = fail(reader, line_of_field(reader, object, field), "%s \"%s\": %s: %s", kind,
			object_name(object), field,
			object_string(json_array_get(causes, 0), "message", NULL));
	}
	json_decref(causes);
	if (err)
		return err;
	json_array_foreach (objects, index, item)
		if (json_equal(json_object_get(item, "kind"), json_object_get(object, "kind")) &&
			!strcmp(object_name(item), object_name(object)) &&
			!strcmp(object_namespace(item), object_namespace(object)))
			return fail(reader, line, "%s \"%s\" is there twice", kind,
				object_name(object));
	json_array_append(objects, object);
	return 0;
}

static int read_yaml(struct reader *reader, const char *text, size_t size, json_t *objects)
{
	yaml_parser_t parser;
	yaml_document_t document;
	int err = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
	for (;;) {
		json_t *object;
		bool end;

		if (!yaml_parser_load(&parser, &document)) {
			err = fail(reader, parser.problem_mark.line + 1, "%s%s%s",
				parser.problem ? parser.problem : "not YAML",
				parser.context ? " " : "", parser.context ? parser.context : "");
			break;
		}
		end = !yaml_document_get_root_node(&document);
		object = end ? NULL : convert(reader, &document, 1, 0);
		yaml_document_delete(&document);
		if (end)
			break;
		if (!object)
			err = -EINVAL;
		else if (!json_is_null(object)) /* "---" and nothing */
			err = accept_object(reader, object, objects);
		json_decref(object);
		/* Its addresses may come back in the next document. */
		reader->mark_count = 0;
		if (err)
			break;
	}
	yaml_parser_delete(&parser);
	return err;
}

/* libyaml does not know all escapes of JSON: text that is JSON is read as such. */
static json_t *read_json(const char *text, size_t size)
{
	size_t start = 0;

	while (start < size && isspace((unsigned char)text[start]))
		start++;
	return start < size && text[start] == '{'
		       ? json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL)
		       : NULL;
}

int manifest_parse(const char *name, const char *text, size_t size, json_t **objects, char *error,
	size_t error_size)
{
	struct reader reader = {.name = name, .error = error, .error_size = error_size};
	json_t *list = json_array();
	int err = read_yaml(&reader, text, size, list);

	if (err == -EINVAL && strstr(error, "escape")) {
		json_t *object = read_json(text, size);

		if (object) {
			json_array_clear(list);
			reader.mark_count = 0;
			err = add_mark(&reader, object, 1);
			if (!err)
				err = accept_object(&reader, object, list);
			json_decref(object);
		}
	}
	free(reader.marks);
	if (!err && json_array_size(list) == 0)
		err = fail(&reader, 1, "no Deployment in it");
	if (err) {
		if (err == -ENOMEM)
			snprintf(error, error_size, "%s: out of memory", name);
		json_decref(list);
		return err;
	}
	*objects = list;
	return 0;
}

int manifest_read(const char *path, json_t **objects, char *error, size_t error_size)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size;
	int err = 0;

	if (!file) {
		err = -errno;
		snprintf(error, error_size, "%s: %s", path, strerror(-err));
		return err;
	}
	text = malloc(FILE_MAX + 1);
	if (!text) {
		err = -ENOMEM;
		goto out;
	}
	size = fread(text, 1, FILE_MAX + 1, file);
	if (ferror(file))
		err = -errno;
	else if (size > FILE_MAX)
		err = -EFBIG;
out:
	fclose(file);
	if (err)
		snprintf(error, error_size, "%s: %s", path, strerror(-err));
	else
		err = manifest_parse(path, text, size, objects, error, error_size);
	free(text);
	return err;
}
