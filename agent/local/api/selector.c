// SPDX-License-Identifier: Apache-2.0
#include "local/api/selector.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "local/api/object.h"

static const char *skip_spaces(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("-_./", c));
}

static char *take_word(const char **p)
{
	const char *start = *p = skip_spaces(*p);

	while (is_word(**p))
		(*p)++;
	return strndup(start, (size_t)(*p - start));
}

static struct requirement *add_requirement(struct selector *selector)
{
	struct requirement *list =
		realloc(selector->requirements, (selector->count + 1) * sizeof(*list));

	if (!list)
		return NULL;
	selector->requirements = list;
	list[selector->count] = (struct requirement){0};
	return &list[selector->count++];
}

static int add_value(struct requirement *requirement, char *value)
{
	char **list;

	if (!value)
		return -ENOMEM;
	list = realloc(requirement->values, (requirement->value_count + 1) * sizeof(char *));
	if (!list) {
		free(value);
		return -ENOMEM;
	}
	requirement->values = list;
	list[requirement->value_count++] = value;
	return 0;
}

static int bad(const char *text, const char *at, char *error, size_t error_size)
{
	snprintf(error, error_size, "unable to parse requirement: \"%.200s\": unexpected \"%.50s\"",
		text, at);
	return -EINVAL;
}

static int parse_set(struct requirement *requirement, const char **p)
{
	*p = skip_spaces(*p);
	if (**p != '(')
		return -EINVAL;
	do {
		(*p)++;
		if (add_value(requirement, take_word(p)))
			return -ENOMEM;
		*p = skip_spaces(*p);
	} while (**p == ',');
	if (**p != ')')
		return -EINVAL;
	(*p)++;
	return 0;
}

/* One requirement of a label selector at *p. */
static int parse_requirement(struct requirement *requirement, const char **p)
{
	const char *after;
	char *word;

	*p = skip_spaces(*p);
	if (**p == '!') {
		(*p)++;
		requirement->type = REQUIREMENT_NOT_EXISTS;
		requirement->key = take_word(p);
		return requirement->key && *requirement->key ? 0 : -EINVAL;
	}
	requirement->key = take_word(p);
	if (!requirement->key || !*requirement->key)
		return -EINVAL;
	*p = skip_spaces(*p);
	if (**p == '=' || (**p == '!' && (*p)[1] == '=')) {
		requirement->type = **p == '=' ? REQUIREMENT_IN : REQUIREMENT_NOT_IN;
		*p += **p == '=' && (*p)[1] != '=' ? 1 : 2;
		return add_value(requirement, take_word(p));
	}
	if (**p == ',' || !**p) {
		requirement->type = REQUIREMENT_EXISTS;
		return 0;
	}
	after = *p;
	word = take_word(&after);
	requirement->type = word && !strcmp(word, "in") ? REQUIREMENT_IN : REQUIREMENT_NOT_IN;
	if (!word || (strcmp(word, "in") != 0 && strcmp(word, "notin") != 0)) {
		free(word);
		return -EINVAL;
	}
	free(word);
	*p = after;
	return parse_set(requirement, p);
}

int selector_parse_labels(
	struct selector *selector, const char *text, char *error, size_t error_size)
{
	const char *p = skip_spaces(text);

	*selector = (struct selector){0};
	while (*p) {
		struct requirement *requirement = add_requirement(selector);
		int err = requirement ? parse_requirement(requirement, &p) : -ENOMEM;

		p = skip_spaces(p);
		if (!err && *p && *p != ',')
			err = -EINVAL;
		if (err) {
			selector_free(selector);
			return err == -EINVAL ? bad(text, p, error, error_size) : err;
		}
		if (*p == ',')
			p++;
	}
	return 0;
}

static bool is_field(const struct resource *resource, const char *field)
{
	if (!strcmp(field, "metadata.name") ||
		(resource->namespaced && !strcmp(field, "metadata.namespace")))
		return true;
	for (size_t i = 0; i < sizeof(resource->fields) / sizeof(resource->fields[0]); i++)
		if (resource->fields[i] && !strcmp(resource->fields[i], field))
			return true;
	return false;
}

int selector_parse_fields(struct selector *selector, const struct resource *resource,
	const char *text, char *error, size_t error_size)
{
	const char *p = text;

	*selector = (struct selector){0};
	while (*p) {
		size_t length = strcspn(p, ",");
		const char *equals = memchr(p, '=', length);
		struct requirement *requirement;
		const char *key_end, *value;

		if (length == 0) {
			p++;
			continue;
		}
		requirement = add_requirement(selector);
		if (!requirement)
			goto no_memory;
		if (!equals || equals == p) {
			snprintf(error, error_size,
				"invalid selector: '%.200s'; can't understand "
				"'%.*s'",
				text, (int)length, p);
			goto fail;
		}
		requirement->type = equals[-1] == '!' ? REQUIREMENT_NOT_IN : REQUIREMENT_IN;
		key_end = equals[-1] == '!' ? equals - 1 : equals;
		value = equals[1] == '=' ? equals + 2 : equals + 1;
		requirement->key = strndup(p, (size_t)(key_end - p));
		if (!requirement->key ||
			add_value(requirement, strndup(value, (size_t)(p + length - value))))
			goto no_memory;
		if (!is_field(resource, requirement->key)) {
			snprintf(error, error_size, "field label not supported: %.200s",
				requirement->key);
			goto fail;
		}
		p += length;
	}
	return 0;
fail:
	selector_free(selector);
	return -EINVAL;
no_memory:
	selector_free(selector);
	return -ENOMEM;
}

void selector_free(struct selector *selector)
{
	for (size_t i = 0; i < selector->count; i++) {
		struct requirement *requirement = &selector->requirements[i];

		for (size_t v = 0; v < requirement->value_count; v++)
			free(requirement->values[v]);
		free(requirement->values);
		free(requirement->key);
	}
	free(selector->requirements);
	*selector = (struct selector){0};
}

static bool meets(const struct requirement *requirement, const char *value)
{
	bool in = false;

	for (size_t i = 0; value && i < requirement->value_count; i++)
		in |= !strcmp(requirement->values[i], value);
	switch (requirement->type) {
	case REQUIREMENT_IN:
		return in;
	case REQUIREMENT_NOT_IN:
		return !in;
	case REQUIREMENT_EXISTS:
		return value != NULL;
	case REQUIREMENT_NOT_EXISTS:
		return value == NULL;
	}
	return false;
}

bool selector_match_labels(const struct selector *selector, const json_t *object)
{
	const json_t *labels =
		selector->count ? object_get(object, "metadata", "labels", NULL) : NULL;

	for (size_t i = 0; i < selector->count; i++)
		if (!meets(&selector->requirements[i], json_string_value(json_object_get(labels,
							       selector->requirements[i].key))))
			return false;
	return true;
}

/* A missing field reads as "", as in Kubernetes. "source" of an event is its component. */
static const char *field_value(const json_t *object, const char *field)
{
	char key[64];
	const char *text;

	if (!strcmp(field, "source"))
		field = "source.component";
	for (;;) {
		size_t length = strcspn(field, ".");

		snprintf(key, sizeof(key), "%.*s", (int)length, field);
		object = json_object_get(object, key);
		if (!field[length])
			break;
		field += length + 1;
	}
	if (json_is_true(object))
		return "true";
	text = json_string_value(object);
	return text ? text : "";
}

bool selector_match_fields(const struct selector *selector, const json_t *object)
{
	for (size_t i = 0; i < selector->count; i++)
		if (!meets(&selector->requirements[i],
			    field_value(object, selector->requirements[i].key)))
			return false;
	return true;
}
