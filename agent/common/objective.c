// SPDX-License-Identifier: Apache-2.0
/* What an objective's fields are; set, shown and refused one by one. Objects: objective_json.c. */
#include "common/objective_field.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024.0 * 1024)

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

const struct objective_field objective_table[] = {
#define X(field, path, kind, lowest, highest, unset, example)                                      \
	{#field, path, kind, lowest, highest, unset, example, offsetof(struct objective, field)},
	FIELDS(X)
#undef X
};
const size_t objective_field_count = sizeof(objective_table) / sizeof(objective_table[0]);

const char *const objective_fields[] = {
#define X(field, path, kind, lowest, highest, unset, example) #field,
	FIELDS(X)
#undef X
		NULL,
};

void *objective_field_value(struct objective *objective, const struct objective_field *field)
{
	return (char *)objective + field->offset;
}

const void *objective_field_const(
	const struct objective *objective, const struct objective_field *field)
{
	return (const char *)objective + field->offset;
}

double objective_field_number(
	const struct objective *objective, const struct objective_field *field)
{
	const void *value = objective_field_const(objective, field);

	switch (field->kind) {
	case KIND_MEMORY:
		return (double)*(const uint64_t *)value;
	case KIND_COUNT:
		return *(const uint32_t *)value;
	default:
		return *(const double *)value;
	}
}

static bool field_in_range(const struct objective_field *field, double value)
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

int objective_parse_mode(const char *text, enum objective_mode *mode)
{
	for (int i = OBJECTIVE_OBSERVE; i <= OBJECTIVE_AUTO; i++) {
		if (strcmp(text, objective_mode_name((enum objective_mode)i)) == 0) {
			*mode = (enum objective_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

int objective_parse_parameters(
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

/* strtod() alone takes "nan", "0x10" and spaces. */
int objective_parse_number(const char *text, double *number)
{
	char *end;

	if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
		return -EINVAL;
	*number = strtod(text, &end);
	return *end || !isfinite(*number) ? -EINVAL : 0;
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

int objective_bounds_crossed(const struct objective *objective)
{
	for (size_t i = 0; i + 1 < objective_field_count; i++) {
		size_t length = strlen(objective_table[i].path);

		if (length < 4 || strcmp(objective_table[i].path + length - 4, ".min") != 0)
			continue;
		double most = objective_field_number(objective, &objective_table[i + 1]);
		if (most > 0 && objective_field_number(objective, &objective_table[i]) > most)
			return (int)i;
	}
	return -1;
}

int objective_store_number(
	struct objective *objective, const struct objective_field *field, double value)
{
	void *slot = objective_field_value(objective, field);

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

static const struct objective_field *find_field(const char *name)
{
	for (size_t i = 0; i < objective_field_count; i++)
		if (strcmp(objective_table[i].name, name) == 0)
			return &objective_table[i];
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
	const struct objective_field *field = find_field(field_name);
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
		err = objective_parse_mode(line, &changed.mode);
		break;
	case KIND_NAME:
		err = policy_parse(line, NULL, NULL, 0);
		if (!err)
			snprintf(changed.policy, sizeof(changed.policy), "%s", line);
		break;
	case KIND_PARAMETERS:
		err = objective_parse_parameters(line, changed.rule_parameters, NULL, 0);
		break;
	case KIND_BOOL:
		err = parse_bool(line, objective_field_value(&changed, field));
		break;
	default:
		err = objective_parse_number(line, &number);
		if (!err)
			err = objective_store_number(&changed, field, number);
	}
	if (!err && objective_bounds_crossed(&changed) >= 0)
		err = -ERANGE;
	if (!err)
		*objective = changed;
	return err;
}

int objective_show(
	const struct objective *objective, const char *field_name, char *out, size_t size)
{
	const struct objective_field *field = find_field(field_name);
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
			out, size, "%d", *(const bool *)objective_field_const(objective, field));
		break;
	case KIND_MEMORY:
		length = snprintf(out, size, "%llu",
			(unsigned long long)*(const uint64_t *)objective_field_const(
				objective, field));
		break;
	default:
		length = snprintf(out, size, "%.15g", objective_field_number(objective, field));
	}
	return (size_t)length < size ? 0 : -ENOSPC;
}

int objective_refusal(const char *field_name, const char *text, char *out, size_t size)
{
	const struct objective_field *field = find_field(field_name);
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
		(void)objective_parse_parameters(text, parameters, out, size);
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
