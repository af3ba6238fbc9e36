// SPDX-License-Identifier: Apache-2.0
#include "common/objective.h"

#include "common/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION    "ebbtide.io/v1alpha1"
#define KIND	       "ScaleObjective"
#define FIELD_PATH_MAX 96
#define MIB	       (1024.0 * 1024)

/*
 * Lowest and highest value of each field. 10m of a CPU is 1 ms of the 100 ms period, the smallest
 * quota the kernel takes. 60 s is what the latency histogram can tell apart.
 */
#define LATENCY_MOST_US 60e6
#define CPU_LEAST	10.0
#define CPU_MOST	1e6
#define MEMORY_LEAST	MIB
#define MEMORY_MOST	(1024 * 1024 * 1024 * MIB)
#define REPLICAS_MOST	10000

enum kind {
	KIND_NUMBER,   /* double, a JSON number */
	KIND_DURATION, /* double, microseconds, "50ms" in JSON */
	KIND_CPU,      /* double, millicores, a quantity in JSON */
	KIND_MEMORY,   /* uint64_t, bytes, a quantity in JSON */
	KIND_COUNT,    /* uint32_t */
	KIND_BOOL,
	KIND_MODE,
	KIND_NAME, /* policy */
	KIND_PARAMETERS,
};

/* X(field, path below spec, kind, lowest, highest, 0 means "not set", example) */
#define FIELDS(X)                                                                                  \
	X(latency_percentile, "latency.percentile", KIND_NUMBER, 0, 100, false, "99")              \
	X(latency_target_us, "latency.target", KIND_DURATION, 1, LATENCY_MOST_US, false, "50ms")   \
	X(acceptable_violations, "acceptableViolations", KIND_NUMBER, 0, 1, false, "0.01")         \
	X(acceptable_throttling, "acceptableThrottling", KIND_NUMBER, 0, 1, false, "0.05")         \
	X(mode, "mode", KIND_MODE, 0, 0, false, "auto")                                            \
	X(policy, "policy", KIND_NAME, 0, 0, false, "dqn")                                         \
	X(rule_parameters, "ruleParameters", KIND_PARAMETERS, 0, 0, true, "k8s-cpu.target=0.6")    \
	X(frozen, "frozen", KIND_BOOL, 0, 0, false, "true")                                        \
	X(reflex, "reflex", KIND_BOOL, 0, 0, false, "false")                                       \
	X(startup_cpu_millicores, "startup.cpu", KIND_CPU, CPU_LEAST, CPU_MOST, true, "500m")      \
	X(cpu_min_millicores, "bounds.cpu.min", KIND_CPU, CPU_LEAST, CPU_MOST, false, "250m")      \
	X(cpu_max_millicores, "bounds.cpu.max", KIND_CPU, CPU_LEAST, CPU_MOST, true, "250m")       \
	X(memory_min_bytes, "bounds.memory.min", KIND_MEMORY, MEMORY_LEAST, MEMORY_MOST, false,    \
		"64Mi")                                                                            \
	X(memory_max_bytes, "bounds.memory.max", KIND_MEMORY, MEMORY_LEAST, MEMORY_MOST, true,     \
		"64Mi")                                                                            \
	X(replicas_min, "bounds.replicas.min", KIND_COUNT, 1, REPLICAS_MOST, false, "1")           \
	X(replicas_max, "bounds.replicas.max", KIND_COUNT, 1, REPLICAS_MOST, false, "10")

struct field {
	const char *name;
	const char *path;
	enum kind kind;
	double lowest;
	double highest;
	bool zero_is_unset;
	const char *example;
	size_t offset;
};

static const struct field fields[] = {
#define X(field, path, kind, lowest, highest, unset, example)                                      \
	{#field, path, kind, lowest, highest, unset, example, offsetof(struct objective, field)},
	FIELDS(X)
#undef X
};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

const char *const objective_fields[] = {
#define X(field, path, kind, lowest, highest, unset, example) #field,
	FIELDS(X)
#undef X
		NULL,
};

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

static void *field_value(struct objective *objective, const struct field *field)
{
	return (char *)objective + field->offset;
}

static const void *field_value_const(const struct objective *objective, const struct field *field)
{
	return (const char *)objective + field->offset;
}

static double field_number(const struct objective *objective, const struct field *field)
{
	const void *value = field_value_const(objective, field);

	switch (field->kind) {
	case KIND_MEMORY:
		return (double)*(const uint64_t *)value;
	case KIND_COUNT:
		return *(const uint32_t *)value;
	default:
		return *(const double *)value;
	}
}

static bool field_in_range(const struct field *field, double value)
{
	if (value == 0 && field->zero_is_unset)
		return true;
	/* No percentile is 0 or 100; every other end is included. */
	if (field->offset == offsetof(struct objective, latency_percentile))
		return value > field->lowest && value < field->highest;
	return value >= field->lowest && value <= field->highest;
}

double objective_startup_millicores(const struct objective *objective, double declared_millicores)
{
	double most = declared_millicores;

	if (most <= 0)
		return 0;
	if (objective->cpu_max_millicores > 0)
		most = fmin(most, objective->cpu_max_millicores);
	return objective->startup_cpu_millicores > 0 ? fmin(most, objective->startup_cpu_millicores)
						     : most;
}

const char *objective_mode_name(enum objective_mode mode)
{
	switch (mode) {
	case OBJECTIVE_OBSERVE:
		return "observe";
	case OBJECTIVE_RECOMMEND:
		return "recommend";
	case OBJECTIVE_AUTO:
		break;
	}
	return "auto";
}

static int parse_mode(const char *text, enum objective_mode *mode)
{
	for (int i = OBJECTIVE_OBSERVE; i <= OBJECTIVE_AUTO; i++) {
		if (strcmp(text, objective_mode_name((enum objective_mode)i)) == 0) {
			*mode = (enum objective_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_parameters(
	const char *text, char out[OBJECTIVE_PARAMETERS_MAX], char *error, size_t error_size)
{
	struct rule_assignment assignment;
	const char *rest = text;
	size_t length = strlen(text);
	int more;

	if (length >= OBJECTIVE_PARAMETERS_MAX) {
		snprintf(error, error_size, "%zu characters, at most %d", length,
			OBJECTIVE_PARAMETERS_MAX - 1);
		return -EINVAL;
	}
	while ((more = rule_assignment_next(&rest, &assignment, error, error_size)) > 0)
		;
	if (!more)
		memcpy(out, text, length + 1);
	return more;
}

/* A plain decimal number, nothing after it; strtod alone takes "nan", "0x10" and spaces. */
static int parse_number(const char *text, double *number)
{
	char *end;

	if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
		return -EINVAL;
	*number = strtod(text, &end);
	return *end || !isfinite(*number) ? -EINVAL : 0;
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
	if (parse_number(number, &value))
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
static void format_as_json(char *out, size_t size, const struct field *field, double value)
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

void objective_init(struct objective *objective)
{
	*objective = (struct objective){
		.namespace = "default",
		.mode = OBJECTIVE_AUTO,
		.latency_percentile = 99,
		.latency_target_us = 100000,
		.acceptable_violations = 0.01,
		.acceptable_throttling = 1,
		.policy = "dqn",
		.reflex = true,
		.cpu_min_millicores = CPU_LEAST,
		.memory_min_bytes = (uint64_t)(16 * MIB),
		.replicas_min = 1,
		.replicas_max = 1,
	};
}

/* Index of a field whose minimum is over its maximum, or -1. A maximum of 0 is "not set". */
static int bounds_crossed(const struct objective *objective)
{
	for (size_t i = 0; i + 1 < FIELD_COUNT; i++) {
		size_t length = strlen(fields[i].path);

		if (length < 4 || strcmp(fields[i].path + length - 4, ".min") != 0)
			continue;
		double most = field_number(objective, &fields[i + 1]);
		if (most > 0 && field_number(objective, &fields[i]) > most)
			return (int)i;
	}
	return -1;
}

static int store_number(struct objective *objective, const struct field *field, double value)
{
	void *slot = field_value(objective, field);

	if (!field_in_range(field, value))
		return -ERANGE;
	switch (field->kind) {
	case KIND_MEMORY:
		*(uint64_t *)slot = (uint64_t)value;
		return 0;
	case KIND_COUNT:
		if (value != floor(value))
			return -EINVAL;
		*(uint32_t *)slot = (uint32_t)value;
		return 0;
	default:
		*(double *)slot = value;
		return 0;
	}
}

/* --- from JSON --- */

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

static int parse_quantity(const struct field *field, const json_t *value, double *number)
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

static int parse_field_number(struct objective *objective, const struct field *field,
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
		err = store_number(objective, field, number);
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

static int parse_field(struct objective *objective, const struct field *field, const json_t *value,
	struct report *report)
{
	const char *text = json_string_value(value);
	char shown[64], why[288];

	show_json(shown, sizeof(shown), value);
	switch (field->kind) {
	case KIND_MODE:
		if (!text || parse_mode(text, &objective->mode))
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
		if (parse_parameters(text, objective->rule_parameters, why, sizeof(why)))
			return invalid(report, "spec.ruleParameters: %s", why);
		return 0;
	case KIND_BOOL:
		if (!json_is_boolean(value))
			return invalid(
				report, "spec.%s: %s is not true or false", field->path, shown);
		*(bool *)field_value(objective, field) = json_is_true(value);
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

		for (size_t i = 0; length < (int)sizeof(path) && i < FIELD_COUNT; i++) {
			leaf |= strcmp(fields[i].path, path) == 0;
			branch |= strncmp(fields[i].path, path, (size_t)length) == 0 &&
				  fields[i].path[length] == '.';
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
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		const json_t *value = json_at(spec, fields[i].path);

		if (value)
			err = parse_field(&parsed, &fields[i], value, &report);
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
	crossed = bounds_crossed(&parsed);
	if (crossed >= 0) {
		const struct field *low = &fields[crossed], *high = &fields[crossed + 1];
		char least[32], most[32];

		format_as_json(least, sizeof(least), low, field_number(&parsed, low));
		format_as_json(most, sizeof(most), high, field_number(&parsed, high));
		return invalid(&report, "spec.%s: %s is over spec.%s: %s", low->path, least,
			high->path, most);
	}
	*objective = parsed;
	return 0;
}

/* --- one field by name --- */

static const struct field *find_field(const char *name)
{
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

static int parse_bool(const char *text, bool *out)
{
	if (strcmp(text, "1") == 0 || strcmp(text, "true") == 0)
		*out = true;
	else if (strcmp(text, "0") == 0 || strcmp(text, "false") == 0)
		*out = false;
	else
		return -EINVAL;
	return 0;
}

int objective_set(struct objective *objective, const char *field_name, const char *text)
{
	const struct field *field = find_field(field_name);
	struct objective changed = *objective;
	size_t length = strlen(text);
	char line[OBJECTIVE_PARAMETERS_MAX];
	double number;
	int err;

	if (!field)
		return -ENOENT;
	/* `echo 5 > file` ends its value with a newline. */
	if (length && text[length - 1] == '\n')
		length--;
	if (length >= (field->kind == KIND_PARAMETERS ? sizeof(line) : POLICY_NAME_MAX))
		return -EINVAL;
	memcpy(line, text, length);
	line[length] = '\0';

	switch (field->kind) {
	case KIND_MODE:
		err = parse_mode(line, &changed.mode);
		break;
	case KIND_NAME:
		err = policy_parse(line, NULL, NULL, 0);
		if (!err)
			snprintf(changed.policy, sizeof(changed.policy), "%s", line);
		break;
	case KIND_PARAMETERS:
		err = parse_parameters(line, changed.rule_parameters, NULL, 0);
		break;
	case KIND_BOOL:
		err = parse_bool(line, field_value(&changed, field));
		break;
	default:
		err = parse_number(line, &number);
		if (!err)
			err = store_number(&changed, field, number);
	}
	if (!err && bounds_crossed(&changed) >= 0)
		err = -ERANGE;
	if (!err)
		*objective = changed;
	return err;
}

int objective_show(
	const struct objective *objective, const char *field_name, char *out, size_t size)
{
	const struct field *field = find_field(field_name);
	int length;

	if (!field)
		return -ENOENT;
	switch (field->kind) {
	case KIND_MODE:
		length = snprintf(out, size, "%s", objective_mode_name(objective->mode));
		break;
	case KIND_NAME:
		length = snprintf(out, size, "%s", objective->policy);
		break;
	case KIND_PARAMETERS:
		length = snprintf(out, size, "%s", objective->rule_parameters);
		break;
	case KIND_BOOL:
		length = snprintf(
			out, size, "%d", *(const bool *)field_value_const(objective, field));
		break;
	case KIND_MEMORY:
		length = snprintf(out, size, "%llu",
			(unsigned long long)*(const uint64_t *)field_value_const(objective, field));
		break;
	default:
		length = snprintf(out, size, "%.15g", field_number(objective, field));
	}
	return (size_t)length < size ? 0 : -ENOSPC;
}

int objective_refusal(const char *field_name, const char *text, char *out, size_t size)
{
	const struct field *field = find_field(field_name);
	char parameters[OBJECTIVE_PARAMETERS_MAX];
	bool is_open, is_bound;

	if (!field)
		return -ENOENT;
	out[0] = '\0';
	switch (field->kind) {
	case KIND_MODE:
		snprintf(out, size, "it takes observe, recommend or auto");
		break;
	case KIND_NAME:
		(void)policy_parse(text, NULL, out, size);
		break;
	case KIND_PARAMETERS:
		(void)parse_parameters(text, parameters, out, size);
		break;
	case KIND_BOOL:
		snprintf(out, size, "it takes 0, 1, true or false");
		break;
	default:
		is_open = field->offset == offsetof(struct objective, latency_percentile);
		is_bound = strncmp(field->path, "bounds.", 7) == 0;
		snprintf(out, size,
			is_open ? "it takes %s above %.16g and below %.16g%s%s"
				: "it takes %s from %.16g to %.16g%s%s",
			field->kind == KIND_COUNT ? "whole numbers" : "numbers", field->lowest,
			field->highest, field->zero_is_unset ? ", or 0 for the owner's" : "",
			is_bound ? ", the minimum not over the maximum" : "");
	}
	/* A policy or a parameter that is one here. */
	if (!out[0])
		snprintf(out, size, "the API refuses it");
	return 0;
}

/* --- to JSON --- */

static json_t *number_to_json(double value)
{
	return value == floor(value) ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *field_to_json(const struct objective *objective, const struct field *field)
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
		return json_boolean(*(const bool *)field_value_const(objective, field));
	case KIND_NUMBER:
	case KIND_COUNT:
		return number_to_json(field_number(objective, field));
	default:
		format_as_json(text, sizeof(text), field, field_number(objective, field));
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

static bool field_is_unset(const struct objective *objective, const struct field *field)
{
	if (!field->zero_is_unset)
		return false;
	if (field->kind == KIND_PARAMETERS)
		return !objective->rule_parameters[0];
	return field_number(objective, field) == 0;
}

json_t *objective_to_json(const struct objective *objective, bool patch)
{
	json_t *spec = json_object();

	for (size_t i = 0; i < FIELD_COUNT; i++) {
		bool unset = field_is_unset(objective, &fields[i]);

		/* Null in a merge patch removes what may be there. */
		if (unset && patch)
			json_put(spec, fields[i].path, json_null());
		else if (!unset)
			json_put(spec, fields[i].path, field_to_json(objective, &fields[i]));
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
