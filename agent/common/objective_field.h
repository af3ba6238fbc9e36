// SPDX-License-Identifier: Apache-2.0
/*
 * The inside of an objective: the one table of its fields, and what both its rooms do with one.
 * Only objective.c (fields by name) and objective_json.c (whole objects) include this.
 */
#ifndef EBBTIDE_OBJECTIVE_FIELD_H
#define EBBTIDE_OBJECTIVE_FIELD_H

#include "common/objective.h"

enum objective_kind {
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

struct objective_field {
	const char *name; /* in the operator's tree */
	const char *path; /* below spec */
	enum objective_kind kind;
	double lowest;
	double highest;
	bool zero_is_unset;
	const char *example;
	size_t offset;
};

/* A minimum stands right before its maximum. */
extern const struct objective_field objective_table[];
extern const size_t objective_field_count;

void *objective_field_value(struct objective *objective, const struct objective_field *field);
const void *objective_field_const(
	const struct objective *objective, const struct objective_field *field);
/* Of a field that is a number of any kind. */
double objective_field_number(
	const struct objective *objective, const struct objective_field *field);
/* The same stored: -ERANGE outside the field's range, -EINVAL no whole number where it has to be. */
int objective_store_number(
	struct objective *objective, const struct objective_field *field, double value);
/* Index of a field whose minimum is over its maximum, or -1. A maximum of 0 is "not set". */
int objective_bounds_crossed(const struct objective *objective);

/* 0 or -EINVAL. */
int objective_parse_mode(const char *text, enum objective_mode *mode);
/* A plain decimal number, nothing after it. */
int objective_parse_number(const char *text, double *number);
/* The assignments checked and copied; what is wrong with them in @error. */
int objective_parse_parameters(
	const char *text, char out[OBJECTIVE_PARAMETERS_MAX], char *error, size_t error_size);

#endif
