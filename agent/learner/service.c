// SPDX-License-Identifier: Apache-2.0
#include "learner/service.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_names(const char *namespace, const char *name)
{
	/* With the byte that ends it, so that the two do not run into each other. */
	uint64_t hash = index_hash(INDEX_HASH_START, namespace, strlen(namespace) + 1);

	return index_hash(hash, name, strlen(name));
}

static struct service *find(
	const struct services *services, uint64_t hash, const char *namespace, const char *name)
{
	struct service *service;

	for (size_t at = 0; (service = index_find(&services->by_name, hash, &at));)
		if (strcmp(service->name, name) == 0 && strcmp(service->namespace, namespace) == 0)
			return service;
	return NULL;
}

struct service *services_find(
	const struct services *services, const char *namespace, const char *name)
{
	return find(services, hash_names(namespace, name), namespace, name);
}

struct service *services_get(struct services *services, const char *namespace, const char *name)
{
	uint64_t hash = hash_names(namespace, name);
	struct service *service = find(services, hash, namespace, name);
	struct service **items;

	if (service)
		return service;
	if (services->count >= SERVICES_MAX)
		return NULL;
	items = realloc(services->items, (services->count + 1) * sizeof(struct service *));
	if (!items)
		return NULL;
	services->items = items;
	service = calloc(1, sizeof(*service));
	if (!service)
		return NULL;
	snprintf(service->namespace, sizeof(service->namespace), "%s", namespace);
	snprintf(service->name, sizeof(service->name), "%s", name);
	service->owner = services;
	service->index = services->count;
	service->hash = hash;
	objective_init(&service->objective);
	service->action = ACTION_HORIZONTAL_HOLD;
	service->scale_in_s = -1e9;
	service->period_number = 1;
	if (index_add(&services->by_name, hash, service)) {
		free(service);
		return NULL;
	}
	items[services->count++] = service;
	return service;
}

static void unit_free(struct service_unit *unit)
{
	decision_ring_free(&unit->decisions, &unit->service->owner->decisions);
	nstep_destroy(&unit->stream);
	rule_team_free(&unit->rules);
	free(unit);
}

static void service_free(struct service *service)
{
	decision_ring_free(&service->decisions, &service->owner->decisions);
	nstep_destroy(&service->stream);
	rule_team_free(&service->rules);
	free(service->units);
	free(service);
}

bool services_forget(struct services *services, struct service *service)
{
	struct service *last;

	if (service->has_objective || service->has_deployment || service->unit_count > 0)
		return false;
	last = services->items[--services->count];
	services->items[service->index] = last;
	last->index = service->index;
	index_remove(&services->by_name, service->hash, service);
	service_free(service);
	return true;
}

void services_free(struct services *services)
{
	for (size_t i = 0; i < services->unit_count; i++)
		unit_free(services->units[i]);
	for (size_t i = 0; i < services->count; i++)
		service_free(services->items[i]);
	index_free(&services->by_name);
	index_free(&services->by_agent);
	free(services->units);
	free(services->items);
	memset(services, 0, sizeof(*services));
}

/* Room for one more in both lists. */
static int units_grow(struct service *service)
{
	struct services *all = service->owner;
	struct service_unit **units;

	if (service->unit_count >= SERVICE_UNITS_MAX || all->unit_count >= SERVICES_UNITS_MAX)
		return -ENOSPC;
	units = realloc(service->units, (service->unit_count + 1) * sizeof(struct service_unit *));
	if (!units)
		return -ENOMEM;
	service->units = units;
	units = realloc(all->units, (all->unit_count + 1) * sizeof(struct service_unit *));
	if (!units)
		return -ENOMEM;
	all->units = units;
	return 0;
}

struct service_unit *service_get_unit(
	struct service *service, const char *agent, const struct train_config *vertical)
{
	struct services *all = service->owner;
	uint64_t hash = index_hash(service->hash, agent, strlen(agent));
	struct service_unit *unit;

	for (size_t at = 0; (unit = index_find(&all->by_agent, hash, &at));)
		if (unit->service == service && strcmp(unit->agent, agent) == 0)
			return unit;
	if (units_grow(service))
		return NULL;
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return NULL;
	unit->service = service;
	if (nstep_create(&unit->stream, vertical->n_step, STATE_SIZE, vertical->gamma) ||
		index_add(&all->by_agent, hash, unit)) {
		unit_free(unit);
		return NULL;
	}
	snprintf(unit->agent, sizeof(unit->agent), "%s", agent);
	unit->hash = hash;
	unit->position = service->unit_count;
	unit->index = all->unit_count;
	service->units[service->unit_count++] = unit;
	all->units[all->unit_count++] = unit;
	return unit;
}

static void unit_forget(struct services *services, struct service_unit *unit)
{
	struct service *service = unit->service;
	struct service_unit *last = service->units[--service->unit_count];

	service->units[unit->position] = last;
	last->position = unit->position;
	last = services->units[--services->unit_count];
	services->units[unit->index] = last;
	last->index = unit->index;
	index_remove(&services->by_agent, unit->hash, unit);
	unit_free(unit);
	(void)services_forget(services, service);
}

void services_expire_units(struct services *services, double now_s, double age_s, size_t most)
{
	if (most > services->unit_count)
		most = services->unit_count;
	while (most-- > 0 && services->unit_count > 0) {
		size_t at = services->expiring < services->unit_count ? services->expiring : 0;

		const struct service_unit *unit = services->units[at];
		double ticks_s =
			SERVICE_UNIT_AGE_TICKS * fmin(unit->sample.tick_s, SERVICE_TICK_MOST_S);

		if (now_s - unit->updated_s > fmax(age_s, ticks_s))
			unit_forget(services, services->units[at]);
		else
			services->expiring = at + 1;
	}
}

void service_merge_units(const struct service *service, struct sample *merged)
{
	memset(merged, 0, sizeof(*merged));
	for (size_t i = 0; i < service->unit_count; i++)
		sample_merge(merged, &service->units[i]->sample);
}

void service_note_tick(struct service_unit *unit)
{
	struct service *service = unit->service;

	sample_extend(&service->period, &unit->sample);
	service->period_tick_s =
		fmax(service->period_tick_s, fmin(unit->sample.tick_s, SERVICE_TICK_MOST_S));
	service->period_units += unit->period_number != service->period_number;
	unit->period_number = service->period_number;
}

void service_end_period(struct service *service)
{
	struct sample *period = &service->period;
	const struct sample *tick = &service->tick;

	service_merge_units(service, &service->tick);
	/*
	 * What was measured is of the ticks, wherever these begin and end: the time that it took is
	 * theirs, not the clock's.
	 */
	period->tick_s /= service->period_units ? service->period_units : 1;
	period->containers = tick->containers;
	period->in_flight = tick->in_flight;
	period->cpu_limit_millicores = tick->cpu_limit_millicores;
	period->cpu_reserved_millicores = tick->cpu_reserved_millicores;
	period->memory_limit_bytes = tick->memory_limit_bytes;
	period->memory_used_bytes = tick->memory_used_bytes;
	period->memory_peak_bytes = tick->memory_peak_bytes;
	period->memory_working_set_bytes = tick->memory_working_set_bytes;
}

void service_begin_period(struct service *service, double now_s)
{
	service->decided_s = now_s;
	service->period_tick_s = 0;
	service->period_units = 0;
	service->period_number++;
	memset(&service->period, 0, sizeof(service->period));
}

float service_build_state(struct service *service, bool learnt)
{
	const struct objective *objective = &service->objective;
	double price = service->history.violation_price;

	if (learnt)
		price = price_adapt(price, sample_violates(&service->period, objective),
			objective->acceptable_violations, service->period.tick_s);
	state_note_plan(&service->history, 0, price);
	state_build(&service->history, &service->period, objective, service->state);
	return reward_compute(&service->period, objective, &service->history, service->replicas,
		&reward_defaults);
}
