// SPDX-License-Identifier: Apache-2.0
/* The parameters of a simulated service: their table, ranges and defaults. */
#include "learner/simulator/simulate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const struct simulate_field simulate_fields[] = {
#define X(name, lowest, highest, fallback, whole, text)                                            \
	{#name, lowest, highest, fallback, whole, text, offsetof(struct simulate_service, name)},
	SIMULATE_SERVICE_FIELDS(X)
#undef X
};
const size_t simulate_field_count = sizeof(simulate_fields) / sizeof(simulate_fields[0]);

static double *field_value(struct simulate_service *service, const struct simulate_field *field)
{
	void *value = (char *)service + field->offset;

	return value;
}

static bool field_takes(const struct simulate_field *field, double value)
{
	return value >= field->lowest && value <= field->highest &&
	       (!field->whole || value == floor(value));
}

void simulate_service_init(struct simulate_service *service)
{
	for (size_t i = 0; i < simulate_field_count; i++)
		*field_value(service, &simulate_fields[i]) = simulate_fields[i].fallback;
}

int simulate_service_set(struct simulate_service *service, const char *name, double value)
{
	for (size_t i = 0; i < simulate_field_count; i++) {
		if (strcmp(simulate_fields[i].name, name) != 0)
			continue;
		if (!field_takes(&simulate_fields[i], value))
			return -ERANGE;
		*field_value(service, &simulate_fields[i]) = value;
		return 0;
	}
	return -ENOENT;
}

void simulate_config_init(struct simulate_config *config)
{
	memset(config, 0, sizeof(*config));
	config->services = 1;
	for (int i = 0; i < SIMULATE_SERVICES_MAX; i++)
		simulate_service_init(&config->service[i]);
	config->trace.scale = 1;
	config->replicas_max = 16;
	config->tick_us = 1e6;
}

static int check_range(const char *name, double value, double lowest, double highest, char *error,
	size_t error_size)
{
	if (value >= lowest && value <= highest)
		return 0;
	snprintf(error, error_size, "%s: %g is not from %g to %g", name, value, lowest, highest);
	return -EINVAL;
}

static int check_service(
	const struct simulate_service *service, uint32_t index, char *error, size_t error_size)
{
	for (size_t i = 0; i < simulate_field_count; i++) {
		const struct simulate_field *field = &simulate_fields[i];
		double value = *field_value((struct simulate_service *)service, field);

		if (field_takes(field, value))
			continue;
		snprintf(error, error_size, "service[%u].%s: %g is not a%s number from %g to %g",
			index, field->name, value, field->whole ? " whole" : "", field->lowest,
			field->highest);
		return -EINVAL;
	}
	return 0;
}

static int check_trace(const struct simulate_trace *trace, char *error, size_t error_size)
{
	if (!trace->rate_per_s)
		return 0;
	if (trace->seconds == 0) {
		snprintf(error, error_size, "trace.seconds: 0; give at least one rate");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < trace->seconds; i++) {
		if (trace->rate_per_s[i] >= 0 && trace->rate_per_s[i] * trace->scale <= 1e7)
			continue;
		snprintf(error, error_size,
			"trace.rate_per_s[%u]: %g x %g is not from 0 to 1e7 requests a second", i,
			trace->rate_per_s[i], trace->scale);
		return -EINVAL;
	}
	return check_range("trace.scale", trace->scale, 0, 1e7, error, error_size);
}

int simulate_config_check(const struct simulate_config *config, char *error, size_t error_size)
{
	int err = check_range(
		"services", config->services, 1, SIMULATE_SERVICES_MAX, error, error_size);

	if (!err)
		err = check_range("replicas_max", config->replicas_max, 1, SIMULATE_REPLICAS_MAX,
			error, error_size);
	if (!err)
		err = check_range("tick_us", config->tick_us, 1e4, 6e7, error, error_size);
	for (uint32_t i = 0; !err && i < config->services; i++)
		err = check_service(&config->service[i], i, error, error_size);
	return err ? err : check_trace(&config->trace, error, error_size);
}
