// SPDX-License-Identifier: Apache-2.0
/* ScaleObjectives as the API has them: read with a word on what is wrong, and written. */
#include "common/objective_field.h"
#include "common/quantity.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION    "ebbtide.io/v1alpha1"
#define KIND	       "ScaleObjective"
#define FIELD_PATH_MAX 96

/* Where parsing has got to, so that a message can say what was wrong. */
struct report {
	char *text;
	size_t size;
};

static int __attribute__((format(printf, 2, 3)))
invalid(struct report *report, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (report->size)
		vsnprintf(report->text, report->size, format, args);
	va_end(args);
	return -EINVAL;
}

int objective_parse_duration_us(const char *text, double *us)
{
	static const struct {
		const char *suffix;
		double us;
	} units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}};
	size_t digits = strspn(text, "0123456789.");
	char number[32];
	double value;

	if (digits == 0 || digits >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, digits);
	number[digits] = '\0';
	if (objective_parse_number(number, &value))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + digits, units[i].suffix) == 0) {
			*us = value * units[i].us;
			return 0;
		}
	}
	return -EINVAL;
}

static void format_number(char *out, size_t size, double value)
{
	snprintf(out, size, "%.15g", value);
}

static void format_duration(char *out, size_t size, double us)
{
	if (fmod(us, 1e6) == 0)
		snprintf(out, size, "%.0fs", us / 1e6);
	else if (fmod(us, 1e3) == 0)
		snprintf(out, size, "%.0fms", us / 1e3);
	else
		/* Never an exponent: a duration's grammar has none. */
		snprintf(out, size, "%.*fus", fmod(us, 1) == 0 ? 0 : 3, us);
}

/* As the value is written in JSON, for messages. */
static void format_as_json(
	char *out, size_t size, const struct objective_field *field, double value)
{
	switch (field->kind) {
	case KIND_CPU:
		quantity_format_millicores(out, size, value);
		break;
	case KIND_MEMORY:
		quantity_format_bytes(out, size, (uint64_t)value);
		break;
	case KIND_DURATION:
		format_duration(out, size, value);
		break;
	default:
		format_number(out, size, value);
	}
}

/* A value's JSON text, shortened, for a message. */
static void show_json(char *out, size_t size, const json_t *value)
{
	char *text = json_dumps(value,
		JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15) | JSON_ENSURE_ASCII);

	if (!text || strlen(text) < size)
		snprintf(out, size, "%s", text ? text : "?");
	else
		snprintf(out, size, "%.*s...", (int)size - 4, text);
	free(text);
}

/* A quantity may also be a JSON integer ("max: 2"), as in Kubernetes. */
static const char *quantity_text(const json_t *value, char integer[32])
{
	if (json_is_string(value))
		return json_string_value(value);
	if (!json_is_integer(value))
		return NULL;
	snprintf(integer, 32, "%lld", (long long)json_integer_value(value));
	return integer;
}

static int parse_quantity(const struct objective_field *field, const json_t *value, double *number)
{
	uint64_t bytes;
	char integer[32];
	const char *text = quantity_text(value, integer);
	int err;

	if (!text)
		return -EINVAL;
	if (field->kind == KIND_CPU)
		return quantity_parse_millicores(text, number);
	err = quantity_parse_bytes(text, &bytes);
	if (!err)
		*number = (double)bytes;
	return err;
}

static int parse_field_number(struct objective *objective, const struct objective_field *field,
	const json_t *value, struct report *report)
{
	const char *what = "a number";
	char shown[64], lowest[32], highest[32];
	double number = 0;
	int err = 0;

	switch (field->kind) {
	case KIND_CPU:
	case KIND_MEMORY:
		what = "a quantity";
		err = parse_quantity(field, value, &number);
		break;
	case KIND_DURATION:
		what = "a duration in us, ms or s";
		err = json_is_string(value)
			      ? objective_parse_duration_us(json_string_value(value), &number)
			      : -EINVAL;
		break;
	case KIND_COUNT:
		what = "a whole number";
		err = json_is_integer(value) ? 0 : -EINVAL;
		number = json_number_value(value);
		break;
	default:
		err = json_is_number(value) ? 0 : -EINVAL;
		number = json_number_value(value);
	}
	if (!err)
		err = objective_store_number(objective, field, number);
	if (!err)
		return 0;
	show_json(shown, sizeof(shown), value);
	if (err == -EINVAL)
		return invalid(report, "spec.%s: %s is not %s (use for example %s)", field->path,
			shown, what, field->example);
	format_as_json(lowest, sizeof(lowest), field, field->lowest);
	format_as_json(highest, sizeof(highest), field, field->highest);
	return invalid(report, "spec.%s: %s is out of range (%s to %s)", field->path, shown, lowest,
		highest);
}

static int parse_field(struct objective *objective, const struct objective_field *field,
	const json_t *value, struct report *report)
{
	const char *text = json_string_value(value);
	char shown[64], why[288];

	show_json(shown, sizeof(shown), value);
	switch (field->kind) {
	case KIND_MODE:
		if (!text || objective_parse_mode(text, &objective->mode))
			return invalid(
				report, "spec.mode: %s is none of observe, recommend, auto", shown);
		return 0;
	case KIND_NAME:
		if (!text)
			return invalid(report, "spec.policy: %s is not a string", shown);
		if (policy_parse(text, NULL, why, sizeof(why)))
			return invalid(report, "spec.policy: %s", why);
		snprintf(objective->policy, sizeof(objective->policy), "%s", text);
		return 0;
	case KIND_PARAMETERS:
		if (!text)
			return invalid(report, "spec.ruleParameters: %s is not a string", shown);
		if (objective_parse_parameters(text, objective->rule_parameters, why, sizeof(why)))
			return invalid(report, "spec.ruleParameters: %s", why);
		return 0;
	case KIND_BOOL:
		if (!json_is_boolean(value))
			return invalid(
				report, "spec.%s: %s is not true or false", field->path, shown);
		*(bool *)objective_field_value(objective, field) = json_is_true(value);
		return 0;
	default:
		return parse_field_number(objective, field, value, report);
	}
}

/* The value at "a.b.c" below @object, or NULL. Null counts as absent, as in the API. */
static json_t *json_at(const json_t *object, const char *path)
{
	char key[32];

	while (object) {
		size_t length = strcspn(path, ".");
		json_t *value;

		snprintf(key, sizeof(key), "%.*s", (int)length, path);
		value = json_object_get(object, key);
		if (!value || json_is_null(value))
			return NULL;
		if (!path[length])
			return value;
		object = value;
		path += length + 1;
	}
	return NULL;
}

/* Refuse keys that no field has: a misspelt bound that is silently ignored costs a night. */
static int check_keys(const json_t *object, const char *prefix, struct report *report)
{
	char path[FIELD_PATH_MAX];
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)object, key, value) {
		bool leaf = false, branch = false;
		int length = snprintf(path, sizeof(path), "%s%s", prefix, key);

		for (size_t i = 0; length < (int)sizeof(path) && i < objective_field_count; i++) {
			leaf |= strcmp(objective_table[i].path, path) == 0;
			branch |= strncmp(objective_table[i].path, path, (size_t)length) == 0 &&
				  objective_table[i].path[length] == '.';
		}
		if (leaf || strcmp(path, "targetRef") == 0 || (branch && json_is_null(value)))
			continue;
		if (!branch)
			return invalid(report,
				"spec.%.60s: no such field (see docs/kubernetes.md for the list)",
				path);
		if (!json_is_object(value))
			return invalid(report, "spec.%s: must be an object", path);
		snprintf(path + length, sizeof(path) - (size_t)length, ".");
		int err = check_keys(value, path, report);
		if (err)
			return err;
	}
	return 0;
}

static int copy_name(
	const json_t *value, const char *path, char *out, size_t size, struct report *report)
{
	char shown[64];
	const char *text = json_string_value(value);

	if (!value || json_is_null(value))
		return invalid(report, "%s: missing", path);
	if (text && *text && strlen(text) < size &&
		strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.") == strlen(text)) {
		memcpy(out, text, strlen(text) + 1);
		return 0;
	}
	show_json(shown, sizeof(shown), value);
	return invalid(report, "%s: %s is not a name (lower-case letters, digits, '-' and '.')",
		path, shown);
}

static int check_constant(const json_t *object, const char *key, const char *path,
	const char *wanted, struct report *report)
{
	const json_t *value = json_object_get(object, key);
	char shown[64];

	if (!value || (json_is_string(value) && strcmp(json_string_value(value), wanted) == 0))
		return 0;
	show_json(shown, sizeof(shown), value);
	return invalid(report, "%s: %s is not supported (use %s)", path, shown, wanted);
}

static int parse_metadata(const json_t *object, struct objective *objective, struct report *report)
{
	const json_t *namespace = json_at(object, "metadata.namespace");
	const json_t *target = json_at(object, "spec.targetRef");
	int err = check_constant(object, "apiVersion", "apiVersion", API_VERSION, report);

	objective->generation = json_integer_value(json_at(object, "metadata.generation"));
	if (!err)
		err = check_constant(object, "kind", "kind", KIND, report);
	if (!err)
		err = copy_name(json_at(object, "metadata.name"), "metadata.name", objective->name,
			sizeof(objective->name), report);
	if (!err && namespace)
		err = copy_name(namespace, "metadata.namespace", objective->namespace,
			sizeof(objective->namespace), report);
	if (err)
		return err;
	if (!json_is_object(json_object_get(object, "spec")))
		return invalid(
			report, "spec: missing (a ScaleObjective needs targetRef and latency)");
	if (!json_is_object(target))
		return invalid(report,
			"spec.targetRef: missing (use for example {kind: Deployment, name: web})");
	err = check_constant(target, "kind", "spec.targetRef.kind", "Deployment", report);
	if (!err)
		err = check_constant(
			target, "apiVersion", "spec.targetRef.apiVersion", "apps/v1", report);
	if (!err)
		err = copy_name(json_object_get(target, "name"), "spec.targetRef.name",
			objective->service, sizeof(objective->service), report);
	return err;
}

int objective_identify(
	const json_t *object, struct objective *objective, char *error, size_t error_size)
{
	struct report report = {error, error_size};

	objective_init(objective);
	if (error_size)
		error[0] = '\0';
	if (!json_is_object(object))
		return invalid(&report, "a ScaleObjective must be a JSON object");
	return parse_metadata(object, objective, &report);
}

int objective_parse(
	const json_t *object, struct objective *objective, char *error, size_t error_size)
{
	struct report report = {error, error_size};
	struct objective parsed;
	const json_t *spec;
	int err = objective_identify(object, &parsed, error, error_size), crossed;

	if (err)
		return err;
	spec = json_object_get(object, "spec");
	err = check_keys(spec, "", &report);
	if (err)
		return err;
	for (size_t i = 0; i < objective_field_count; i++) {
		const json_t *value = json_at(spec, objective_table[i].path);

		if (value)
			err = parse_field(&parsed, &objective_table[i], value, &report);
		if (err)
			return err;
	}
	if (!json_at(spec, "latency.target"))
		return invalid(&report, "spec.latency.target: missing (use for example 50ms)");
	/* A lower bound alone raises the default upper one. */
	if (!json_at(spec, "bounds.replicas.max") && parsed.replicas_max < parsed.replicas_min)
		parsed.replicas_max = parsed.replicas_min;
	/* An upper bound alone lowers the default lower one. */
	if (!json_at(spec, "bounds.memory.min") && parsed.memory_max_bytes &&
		parsed.memory_max_bytes < parsed.memory_min_bytes)
		parsed.memory_min_bytes = parsed.memory_max_bytes;
	crossed = objective_bounds_crossed(&parsed);
	if (crossed >= 0) {
		const struct objective_field *low = &objective_table[crossed],
					     *high = &objective_table[crossed + 1];
		char least[32], most[32];

		format_as_json(least, sizeof(least), low, objective_field_number(&parsed, low));
		format_as_json(most, sizeof(most), high, objective_field_number(&parsed, high));
		return invalid(&report, "spec.%s: %s is over spec.%s: %s", low->path, least,
			high->path, most);
	}
	*objective = parsed;
	return 0;
}

static json_t *number_to_json(double value)
{
	return value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *field_to_json(const struct objective *objective, const struct objective_field *field)
{
	char text[48];

	switch (field->kind) {
	case KIND_MODE:
		return json_string(objective_mode_name(objective->mode));
	case KIND_NAME:
		return json_string(objective->policy);
	case KIND_PARAMETERS:
		return json_string(objective->rule_parameters);
	case KIND_BOOL:
		return json_boolean(*(const bool *)objective_field_const(objective, field));
	case KIND_NUMBER:
	case KIND_COUNT:
		return number_to_json(objective_field_number(objective, field));
	default:
		format_as_json(text, sizeof(text), field, objective_field_number(objective, field));
		return json_string(text);
	}
}

/* Put @value (taken over) at "a.b.c" below @object, making what is missing on the way. */
static int json_put(json_t *object, const char *path, json_t *value)
{
	size_t length = strcspn(path, ".");
	char key[32];
	json_t *next;

	snprintf(key, sizeof(key), "%.*s", (int)length, path);
	if (!path[length])
		return json_object_set_new(object, key, value);
	next = json_object_get(object, key);
	if (!next) {
		next = json_object();
		if (json_object_set_new(object, key, next)) {
			json_decref(value);
			return -1;
		}
	}
	return json_put(next, path + length + 1, value);
}

static bool field_is_unset(const struct objective *objective, const struct objective_field *field)
{
	if (!field->zero_is_unset)
		return false;
	if (field->kind == KIND_PARAMETERS)
		return !objective->rule_parameters[0];
	return objective_field_number(objective, field) == 0;
}

json_t *objective_to_json(const struct objective *objective, bool patch)
{
	json_t *spec = json_object();

	for (size_t i = 0; i < objective_field_count; i++) {
		bool unset = field_is_unset(objective, &objective_table[i]);

		/* Null in a merge patch removes what may be there. */
		if (unset && patch)
			json_put(spec, objective_table[i].path, json_null());
		else if (!unset)
			json_put(spec, objective_table[i].path,
				field_to_json(objective, &objective_table[i]));
	}
	if (patch)
		return json_pack("{s:o}", "spec", spec);
	json_object_set_new(spec, "targetRef",
		json_pack("{s:s, s:s, s:s}", "apiVersion", "apps/v1", "kind", "Deployment", "name",
			objective->service));
	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "apiVersion", API_VERSION, "kind", KIND,
		"metadata", "name", objective->name, "namespace", objective->namespace, "spec",
		spec);
}
