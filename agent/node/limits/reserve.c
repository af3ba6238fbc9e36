// SPDX-License-Identifier: Apache-2.0
#include "node/limits/reserve.h"

#include "common/log.h"
#include "node/agent.h"
#include "node/pod.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

double reserve_most_millicores(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return 1000.0 * (double)(cpus > 0 ? cpus : 1);
}

void reserve_see_pod(struct container *container, const json_t *pod)
{
	struct pod_requests requests = pod_requests(pod, container->name);

	container->reserve.declared_millicores = requests.container_millicores;
	container->reserve.pod_declared_millicores = requests.pod_millicores;
}

/* Whether a cgroup's name is its pod's: with the uid in one of the drivers' spellings, or the name. */
static bool names_pod(const char *name, const struct container *container)
{
	char underscored[sizeof(container->pod_uid)];

	if (strcmp(name, container->pod) == 0)
		return true;
	if (!container->pod_uid[0])
		return false;
	snprintf(underscored, sizeof(underscored), "%s", container->pod_uid);
	for (char *c = underscored; *c; c++)
		if (*c == '-')
			*c = '_';
	return strstr(name, container->pod_uid) || strstr(name, underscored);
}

bool reserve_pod_path(const struct container *container, char *path, size_t size)
{
	const char *end = strrchr(container->path, '/');
	char *name;

	if (!end || end == container->path || (size_t)(end - container->path) >= size)
		return false;
	memcpy(path, container->path, (size_t)(end - container->path));
	path[end - container->path] = '\0';
	name = strrchr(path, '/');
	return name && names_pod(name + 1, container);
}

/*
 * Which formula made @weight of @millicores. Of little or nothing both make the same: then the one
 * that was seen last on this node.
 */
static enum cpu_weight_scale scale_find(
	const struct agent *agent, enum cpu_weight_scale *seen, int64_t weight, double millicores)
{
	if (agent->driver.layout == CGROUP_LAYOUT_HYBRID)
		return CPU_WEIGHT_SHARES;
	if (cpu_weight_of(CPU_WEIGHT_LINEAR, millicores) !=
		cpu_weight_of(CPU_WEIGHT_QUADRATIC, millicores))
		*seen = cpu_weight_scale_of(weight, millicores);
	return *seen == CPU_WEIGHT_SHARES ? CPU_WEIGHT_LINEAR : *seen;
}

/* What a weight stands for: @known where it comes to that, else the least that does. */
static double stands_for(enum cpu_weight_scale scale, int64_t weight, double known)
{
	if (weight <= 0)
		return 0;
	if (cpu_weight_of(scale, known) == weight)
		return known;
	return cpu_weight_millicores(scale, weight);
}

/* At a pod's weight, which is seldom written by others. */
#define TICKS_BETWEEN_PODS 8

/* A reservation that is as small as can be is one, too. */
#define RESERVED_LEAST 1.0

static void note(struct container *container)
{
	const struct resize_value *spec = &container->resize.spec.values[RESIZE_CPU];
	struct container_reserve *reserve = &container->reserve;
	int64_t original = container->original.cpu_weight, current = container->current.cpu_weight;
	bool asks = container->resize.known && spec->reserves;
	double asked = asks ? spec->want : reserve->millicores;

	/* What was in force until now counts in this tick's allocation. */
	if (container->limit_since_us)
		sample_note_limit(container);
	reserve->requested_millicores = stands_for(
		reserve->scale, original, asks ? spec->request : reserve->declared_millicores);
	reserve->millicores = stands_for(reserve->scale, current,
		current == original ? reserve->requested_millicores : asked);
	if (current > 0)
		reserve->millicores = fmax(reserve->millicores, RESERVED_LEAST);
}

/* Containers of the same pod: its main one, and for a moment the one that it was before a restart. */
static bool same_pod(const struct container *a, const struct container *b)
{
	return strcmp(a->pod_uid, b->pod_uid) == 0 && strcmp(a->pod, b->pod) == 0;
}

void reserve_adopt(struct agent *agent, struct container *container)
{
	const struct resize_value *spec = &container->resize.spec.values[RESIZE_CPU];
	struct container_reserve *reserve = &container->reserve;
	/* With resize the spec has what is in the cgroup, else what the owner had there. */
	int64_t weight =
		agent->resizer ? container->current.cpu_weight : container->original.cpu_weight;

	reserve->scale =
		scale_find(agent, &agent->weight_scale, weight, reserve->declared_millicores);
	reserve->pod_scale = scale_find(agent, &agent->pod_weight_scale,
		agent->resizer ? reserve->pod_weight : reserve->pod_weight_original,
		reserve->pod_declared_millicores);
	/* Started again on our request: the kubelet wrote that to its new cgroup. */
	if (container->resize.known && spec->reserves && spec->spec != spec->request) {
		container->original.cpu_weight = cpu_weight_of(reserve->scale, spec->request);
		actuate_keep_original(agent, container);
	}
	note(container);
}

static int write_weight(struct agent *agent, const char *path, int64_t weight, int64_t *now)
{
	int err;

	if (weight == *now)
		return 0;
	err = cgroup_write_cpu_weight(&agent->driver, path, weight);
	if (err)
		return err;
	*now = weight;
	agent->status.reservation_writes++;
	return 0;
}

/* All containers of a pod have its weight. */
static void pod_weight_share(const struct container *container)
{
	const struct unit *unit = container->unit;

	for (size_t i = 0; i < unit->container_count; i++)
		if (same_pod(unit->containers[i], container))
			unit->containers[i]->reserve.pod_weight = container->reserve.pod_weight;
}

/* The pod's weight follows its containers' reservations: the owner's, and what was added to each. */
static int write_pod(struct agent *agent, struct container *container)
{
	struct container_reserve *reserve = &container->reserve;
	const struct unit *unit = container->unit;
	char path[CGROUP_PATH_MAX];
	double added = 0, requested;
	int64_t weight = reserve->pod_weight_original;
	int err;

	if (weight <= 0 || !reserve_pod_path(container, path, sizeof(path)))
		return 0;
	for (size_t i = 0; i < unit->container_count; i++) {
		const struct container *one = unit->containers[i];

		if (same_pod(one, container) && one->current.cpu_weight != one->original.cpu_weight)
			added += one->reserve.millicores - one->reserve.requested_millicores;
	}
	if (fabs(added) > 0) {
		requested =
			stands_for(reserve->pod_scale, weight, reserve->pod_declared_millicores);
		weight = cpu_weight_of(reserve->pod_scale, fmax(requested + added, 0));
	}
	err = write_weight(agent, path, weight, &reserve->pod_weight);
	pod_weight_share(container);
	return err;
}

int reserve_write(struct agent *agent, struct container *container, double millicores)
{
	struct container_reserve *reserve = &container->reserve;
	int err;

	/* A weight that cannot be read could not be put back either. */
	if (container->original.cpu_weight <= 0 || !(millicores > 0))
		return 0;
	millicores = fmin(millicores, reserve_most_millicores());
	if (fabs(millicores - reserve->millicores) < 0.5)
		return 0;
	(void)actuate_save(agent);
	sample_note_limit(container);
	err = write_weight(agent, container->path, cpu_weight_of(reserve->scale, millicores),
		&container->current.cpu_weight);
	if (err)
		return err;
	reserve->millicores = millicores;
	return write_pod(agent, container);
}

void reserve_leave(struct agent *agent, struct container *container)
{
	/* Mostly the pod goes with it. */
	if (container->current.cpu_weight != container->original.cpu_weight && !agent->resizer)
		(void)write_pod(agent, container);
}

int64_t reserve_pod_original(const json_t *originals, const char *pod_path)
{
	size_t length = strlen(pod_path);
	json_int_t weight;
	const char *key;
	json_t *kept;

	json_object_foreach ((json_t *)originals, key, kept)
		if (strncmp(key, pod_path, length) == 0 && key[length] == '/' &&
			!strchr(key + length + 1, '/') &&
			json_unpack(kept, "{s:I}", "pod_cpu_weight", &weight) == 0)
			return weight;
	return CGROUP_UNLIMITED;
}

/* The kubelet may have written since the last tick. */
static void look(struct agent *agent, struct container *container)
{
	char path[CGROUP_PATH_MAX];

	(void)cgroup_read_cpu_weight(
		&agent->driver, container->path, &container->current.cpu_weight);
	if (reserve_pod_path(container, path, sizeof(path)))
		(void)cgroup_read_cpu_weight(&agent->driver, path, &container->reserve.pod_weight);
}

int reserve_restore(struct agent *agent, struct container *container)
{
	int err;

	if (container->original.cpu_weight <= 0)
		return 0;
	if (agent->resizer)
		look(agent, container);
	err = write_weight(agent, container->path, container->original.cpu_weight,
		&container->current.cpu_weight);
	if (err)
		return err;
	note(container);
	return write_pod(agent, container);
}

/*
 * Whether the pod's weight is another than we left there; then it is the owner's. The kubelet writes it
 * for a resize of any of the pod's containers.
 */
static void verify_pod(struct agent *agent, struct container *container)
{
	struct container_reserve *reserve = &container->reserve;
	char path[CGROUP_PATH_MAX];
	int64_t weight;

	if (reserve->pod_weight_original <= 0 || !reserve_pod_path(container, path, sizeof(path)) ||
		cgroup_read_cpu_weight(&agent->driver, path, &weight) ||
		weight == reserve->pod_weight)
		return;
	for (size_t i = 0; i < container->unit->container_count; i++) {
		struct container *one = container->unit->containers[i];

		if (!same_pod(one, container))
			continue;
		one->reserve.pod_weight = weight;
		one->reserve.pod_weight_original = weight;
		actuate_keep_original(agent, one);
	}
	/* What is added for its containers was written over as well. */
	(void)write_pod(agent, container);
	agent->status.foreign_writes++;
	(void)actuate_save(agent);
}

void reserve_verify(struct agent *agent, struct container *container)
{
	int64_t ours = container->current.cpu_weight, now;

	if (container->original.cpu_weight <= 0 ||
		cgroup_read_cpu_weight(&agent->driver, container->path, &now))
		return;
	if (now == ours) {
		/* With resize what the kubelet writes there is what it was asked for. */
		if (!agent->resizer &&
			(agent->status.ticks + container->attachment.slot) % TICKS_BETWEEN_PODS ==
				0)
			verify_pod(agent, container);
		return;
	}
	container->current.cpu_weight = now;
	if (agent->resizer && resize_wrote_weight(container, now)) {
		note(container);
		return;
	}
	container->original.cpu_weight = now;
	note(container);
	verify_pod(agent, container);
	log_notice("unit=%s/%s pod=%s event=\"someone else changed a reservation\" "
		   "cpu_weight=%ld->%ld effect=\"taken over as the owner's\"",
		container->unit->namespace, container->unit->service, container->pod, (long)ours,
		(long)now);
	agent->status.foreign_writes++;
	actuate_keep_original(agent, container);
	(void)actuate_save(agent);
}
