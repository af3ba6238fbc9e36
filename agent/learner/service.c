// SPDX-License-Identifier: Apache-2.0
#include "learner/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct service *services_find(
	const struct services *services, const char *namespace, const char *name)
{
	for (size_t i = 0; i < services->count; i++)
		if (strcmp(services->items[i]->name, name) == 0 &&
			strcmp(services->items[i]->namespace, namespace) == 0)
			return services->items[i];
	return NULL;
}

struct service *services_get(struct services *services, const char *namespace, const char *name)
{
	struct service *service = services_find(services, namespace, name);
	struct service **items;

	if (service)
		return service;
	items = realloc(services->items, (services->count + 1) * sizeof(*items));
	if (!items)
		return NULL;
	services->items = items;
	service = calloc(1, sizeof(*service));
	if (!service)
		return NULL;
	snprintf(service->namespace, sizeof(service->namespace), "%s", namespace);
	snprintf(service->name, sizeof(service->name), "%s", name);
	objective_init(&service->objective);
	service->action = ACTION_HORIZONTAL_HOLD;
	service->scale_in_s = -1e9;
	items[services->count++] = service;
	return service;
}

static void unit_free(struct service_unit *unit)
{
	nstep_destroy(&unit->stream);
	rule_team_free(&unit->rules);
	free(unit);
}

void services_free(struct services *services)
{
	for (size_t i = 0; i < services->count; i++) {
		struct service *service = services->items[i];

		for (size_t k = 0; k < service->unit_count; k++)
			unit_free(service->units[k]);
		nstep_destroy(&service->stream);
		rule_team_free(&service->rules);
		free(service->units);
		free(service);
	}
	free(services->items);
	memset(services, 0, sizeof(*services));
}

struct service_unit *service_get_unit(
	struct service *service, const char *agent, const struct train_config *vertical)
{
	struct service_unit **units;
	struct service_unit *unit;

	for (size_t i = 0; i < service->unit_count; i++)
		if (strcmp(service->units[i]->agent, agent) == 0)
			return service->units[i];
	if (service->unit_count >= SERVICE_UNITS_MAX)
		return NULL;
	units = realloc(service->units, (service->unit_count + 1) * sizeof(*units));
	if (!units)
		return NULL;
	service->units = units;
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return NULL;
	if (nstep_create(&unit->stream, vertical->n_step, STATE_SIZE, vertical->gamma)) {
		free(unit);
		return NULL;
	}
	snprintf(unit->agent, sizeof(unit->agent), "%s", agent);
	units[service->unit_count++] = unit;
	return unit;
}

void service_expire_units(struct service *service, double now_s, double age_s)
{
	for (size_t i = service->unit_count; i-- > 0;) {
		if (now_s - service->units[i]->updated_s <= age_s)
			continue;
		unit_free(service->units[i]);
		service->units[i] = service->units[--service->unit_count];
	}
}

void service_merge_units(const struct service *service, struct sample *merged)
{
	memset(merged, 0, sizeof(*merged));
	for (size_t i = 0; i < service->unit_count; i++)
		sample_merge(merged, &service->units[i]->sample);
}
