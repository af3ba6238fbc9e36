// SPDX-License-Identifier: Apache-2.0
#include "node/limits/starting.h"

#include "node/agent.h"

#include <string.h>

void starting_find(struct starting *starting, bool is_ready, bool is_known, uint64_t now_us)
{
	*starting = (struct starting){.is_new = !is_ready || !is_known,
		.found_us = now_us,
		.ready_us = is_ready ? now_us : 0};
}

void starting_see_ready(struct starting *starting, bool is_ready, uint64_t now_us)
{
	if (is_ready && !starting->ready_us)
		starting->ready_us = now_us;
}

void starting_see_requests(struct starting *starting, uint64_t requests, uint64_t now_us)
{
	if (requests && !starting->served_us)
		starting->served_us = now_us;
}

bool starting_goes_on(const struct starting *starting, uint64_t now_us)
{
	if (!starting->is_new)
		return false;
	if (!starting->ready_us)
		return now_us - starting->found_us < STARTING_MOST_US;
	if (starting->served_us)
		return now_us - starting->served_us < STARTING_SERVED_US;
	/* Ready at once: it has no probe that could have said otherwise. */
	return starting->ready_us == starting->found_us &&
	       now_us - starting->found_us < STARTING_IDLE_US;
}

bool starting_is_ready(const json_t *pod, const json_t *status)
{
	const json_t *condition;
	size_t i;

	/* The pod's has the other containers and the readiness gates in it. */
	json_array_foreach (kube_get(pod, "status", "conditions", NULL), i, condition) {
		const char *type = kube_string(condition, "type", NULL);
		const char *is = kube_string(condition, "status", NULL);

		if (type && is && strcmp(type, "Ready") == 0)
			return strcmp(is, "True") == 0;
	}
	return json_is_true(json_object_get(status, "ready"));
}

static double declared_millicores(const struct container *container)
{
	const struct cgroup_limits *original = &container->original;

	if (original->cpu_quota_us <= 0 || original->cpu_period_us <= 0)
		return 0;
	return 1000.0 * (double)original->cpu_quota_us / (double)original->cpu_period_us;
}

double starting_millicores(const struct container *container)
{
	if (!container->is_starting)
		return 0;
	return objective_startup_millicores(
		&container->unit->objective, declared_millicores(container));
}

uint32_t starting_count(const struct unit *unit)
{
	uint32_t count = 0;

	for (size_t i = 0; i < unit->container_count; i++)
		count += unit->containers[i]->is_starting;
	return count;
}

/* Up when the first request has come, and down again, without waiting for the next answer. */
static void take_limit(struct agent *agent, struct container *container)
{
	const struct unit *unit = container->unit;
	struct plan plan = unit->plan;

	if (!unit->has_objective || unit->objective.mode != OBJECTIVE_AUTO ||
		unit->objective.frozen || !unit->has_plan)
		return;
	/* What it has now may have been raised since. */
	plan.memory_bytes = 0;
	(void)actuate_container(agent, container, &plan);
}

void starting_tick(struct agent *agent)
{
	uint64_t now_us = monotonic_us();

	for (size_t i = 0; i < agent->units.count; i++) {
		const struct unit *unit = agent->units.items[i];

		for (size_t k = 0; k < unit->container_count; k++) {
			struct container *container = unit->containers[k];
			bool was = container->is_starting;

			starting_see_requests(
				&container->starting, container->before.requests, now_us);
			container->is_starting = starting_goes_on(&container->starting, now_us);
			if (container->is_starting != was)
				take_limit(agent, container);
		}
	}
}
