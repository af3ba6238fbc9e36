// SPDX-License-Identifier: Apache-2.0
#include "node/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

uint64_t unix_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

struct unit *units_find(struct units *units, const char *namespace, const char *service)
{
	for (size_t i = 0; i < units->count; i++) {
		size_t at = (units->found + i) % units->count;

		if (strcmp(units->items[at]->service, service) != 0 ||
			strcmp(units->items[at]->namespace, namespace) != 0)
			continue;
		units->found = at;
		return units->items[at];
	}
	return NULL;
}

struct unit *units_get(struct units *units, const char *namespace, const char *service)
{
	struct unit *unit = units_find(units, namespace, service);
	struct unit **items;

	if (unit)
		return unit;
	items = realloc(units->items, (units->count + 1) * sizeof(struct unit *));
	if (!items)
		return NULL;
	units->items = items;
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return NULL;
	snprintf(unit->namespace, sizeof(unit->namespace), "%s", namespace);
	snprintf(unit->service, sizeof(unit->service), "%s", service);
	unit->action = ACTION_VERTICAL_HOLD;
	objective_init(&unit->objective);
	items[units->count++] = unit;
	return unit;
}

void units_remove(struct units *units, struct unit *unit)
{
	for (size_t i = 0; i < units->count; i++) {
		if (units->items[i] != unit)
			continue;
		units->items[i] = units->items[--units->count];
		free(unit->exemplars);
		free(unit->ended);
		free(unit->containers);
		free(unit);
		return;
	}
}

struct container *unit_find_container(const struct unit *unit, const char *id)
{
	for (size_t i = 0; i < unit->container_count; i++)
		if (strcmp(unit->containers[i]->id, id) == 0)
			return unit->containers[i];
	return NULL;
}

int unit_add_container(struct unit *unit, struct container *container)
{
	struct container **containers =
		realloc(unit->containers, (unit->container_count + 1) * sizeof(struct container *));

	if (!containers)
		return -ENOMEM;
	unit->containers = containers;
	container->unit = unit;
	containers[unit->container_count++] = container;
	return 0;
}

void unit_drop_container(struct unit *unit, struct container *container)
{
	for (size_t i = 0; i < unit->container_count; i++) {
		if (unit->containers[i] != container)
			continue;
		unit->containers[i] = unit->containers[--unit->container_count];
		return;
	}
}

bool unit_reserves(const struct unit *unit)
{
	return unit->container_count > 0 && unit_declared_millicores(unit) <= 0;
}

double unit_reserved_millicores(const struct unit *unit)
{
	double sum = 0;

	if (!unit_reserves(unit))
		return 0;
	for (size_t i = 0; i < unit->container_count; i++)
		sum += unit->containers[i]->reserve.millicores;
	return sum / (double)unit->container_count;
}

double unit_requested_millicores(const struct unit *unit)
{
	double sum = 0;

	if (!unit_reserves(unit))
		return 0;
	for (size_t i = 0; i < unit->container_count; i++)
		sum += unit->containers[i]->reserve.requested_millicores;
	return sum / (double)unit->container_count;
}

double unit_declared_millicores(const struct unit *unit)
{
	double declared = 0;

	for (size_t i = 0; i < unit->container_count; i++) {
		const struct cgroup_limits *original = &unit->containers[i]->original;
		double millicores;

		if (original->cpu_quota_us <= 0 || original->cpu_period_us <= 0)
			continue;
		millicores =
			1000.0 * (double)original->cpu_quota_us / (double)original->cpu_period_us;
		if (millicores > declared)
			declared = millicores;
	}
	return declared;
}

uint64_t unit_declared_bytes(const struct unit *unit)
{
	uint64_t declared = 0;

	for (size_t i = 0; i < unit->container_count; i++) {
		int64_t bytes = unit->containers[i]->original.memory_max_bytes;

		if (bytes > 0 && (uint64_t)bytes > declared)
			declared = (uint64_t)bytes;
	}
	return declared;
}
