// SPDX-License-Identifier: Apache-2.0
/* Units from the pods of this node, and the objectives that ask something of them. */
#include "common/log.h"
#include "node/limits/leftover.h"
#include "node/limits/pressure.h"
#include "node/limits/reserve.h"
#include "node/pod.h"
#include "node/probes/detail.h"
#include "node/trace/trace.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of several owners one is the controller. */
static const json_t *controller_of(const json_t *pod)
{
	const json_t *owners = kube_get(pod, "metadata", "ownerReferences", NULL), *one;
	size_t i;

	json_array_foreach (owners, i, one)
		if (json_is_true(json_object_get(one, "controller")))
			return one;
	return json_array_get(owners, 0);
}

void discover_service(const json_t *pod, char *service, size_t size)
{
	const json_t *owner = controller_of(pod);
	const char *kind = kube_string(owner, "kind", NULL);
	const char *name = kube_string(owner, "name", NULL);
	const char *hash = kube_string(pod, "metadata", "labels", "pod-template-hash", NULL);
	const char *own = kube_string(pod, "metadata", "name", NULL);
	size_t length;

	if (!name) {
		snprintf(service, size, "%s", own ? own : "");
		return;
	}
	snprintf(service, size, "%s", name);
	if (!kind || strcmp(kind, "ReplicaSet") != 0 || !hash)
		return;
	/* A Deployment's ReplicaSet is called deployment-hash. */
	length = strlen(service);
	if (length > strlen(hash) + 1 && strcmp(service + length - strlen(hash), hash) == 0 &&
		service[length - strlen(hash) - 1] == '-')
		service[length - strlen(hash) - 1] = '\0';
}

static bool path_usable(const struct cgroup_driver *driver, const char *path)
{
	return path[0] == '/' && !strstr(path, "..") && cgroup_exists(driver, path);
}

/*
 * A directory below @parent whose name contains @part: how runtimes differ is the decoration. CRI-O's
 * monitor of the container has one beside it, of the same name but for "conmon".
 */
static int child_containing(const struct cgroup_driver *driver, const char *parent,
	const char *part, char *path, size_t size)
{
	char full[2 * CGROUP_PATH_MAX];
	struct dirent *entry;
	int err = -ENOENT;
	DIR *stream;

	snprintf(full, sizeof(full), "%s%s", driver->cpu_root, parent);
	stream = opendir(full);
	if (!stream)
		return -errno;
	while (err && (entry = readdir(stream)))
		if (entry->d_type == DT_DIR && strstr(entry->d_name, part) &&
			!strstr(entry->d_name, "conmon"))
			err = snprintf(path, size, "%s/%s", parent, entry->d_name) >= (int)size
				      ? -ENAMETOOLONG
				      : 0;
	closedir(stream);
	return err;
}

static void pod_cgroup_candidates(const json_t *pod, char out[6][CGROUP_PATH_MAX])
{
	const char *uid = kube_string(pod, "metadata", "uid", NULL);
	const char *qos = kube_string(pod, "status", "qosClass", NULL);
	/* A static pod's cgroup carries the hash of its manifest instead of the API's uid. */
	const char *mirror =
		kube_string(pod, "metadata", "annotations", "kubernetes.io/config.hash", NULL);
	char dashed[64], underscored[64], infix[32] = "", folder[32] = "";

	snprintf(dashed, sizeof(dashed), "%s", mirror ? mirror : (uid ? uid : ""));
	snprintf(underscored, sizeof(underscored), "%s", dashed);
	for (char *c = underscored; *c; c++)
		if (*c == '-')
			*c = '_';
	if (qos && strcmp(qos, "Burstable") == 0)
		snprintf(infix, sizeof(infix), "burstable-"),
			snprintf(folder, sizeof(folder), "/burstable");
	else if (qos && strcmp(qos, "BestEffort") == 0)
		snprintf(infix, sizeof(infix), "besteffort-"),
			snprintf(folder, sizeof(folder), "/besteffort");

	if (infix[0]) {
		char class[32];

		snprintf(class, sizeof(class), "%.*s", (int)strlen(infix) - 1, infix);
		snprintf(out[0], CGROUP_PATH_MAX,
			"/kubepods.slice/kubepods-%s.slice/kubepods-%spod%s.slice", class, infix,
			underscored);
		snprintf(out[1], CGROUP_PATH_MAX,
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-%s.slice/"
			"kubelet-kubepods-%spod%s.slice",
			class, infix, underscored);
	} else {
		snprintf(out[0], CGROUP_PATH_MAX, "/kubepods.slice/kubepods-pod%s.slice",
			underscored);
		snprintf(out[1], CGROUP_PATH_MAX,
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod%s.slice",
			underscored);
	}
	snprintf(out[2], CGROUP_PATH_MAX, "/kubepods%s/pod%s", folder, dashed);
	snprintf(out[3], CGROUP_PATH_MAX, "/kubelet/kubepods%s/pod%s", folder, dashed);
	snprintf(out[4], CGROUP_PATH_MAX, "/k8s.io/kubepods%s/pod%s", folder, dashed);
	snprintf(out[5], CGROUP_PATH_MAX, "/system.slice/kubepods%s/pod%s", folder, dashed);
}

int discover_cgroup(const struct cgroup_driver *driver, const json_t *pod, const char *container_id,
	char *path, size_t size)
{
	char candidates[6][CGROUP_PATH_MAX];
	const char *id = strstr(container_id, "://");

	if (!id)
		return -EINVAL;
	id += 3;
	/* ebbtide-local says the path itself; only a node's own runtime can write a status. */
	if (strncmp(container_id, "ebbtide://", 10) == 0) {
		snprintf(path, size, "%s", id);
		return path_usable(driver, path) ? 0 : -ENOENT;
	}
	if (strlen(id) < 8 || strchr(id, '/'))
		return -EINVAL;
	pod_cgroup_candidates(pod, candidates);
	for (size_t i = 0; i < 6; i++) {
		char pod_path[CGROUP_PATH_MAX];

		snprintf(pod_path, sizeof(pod_path), "%s", candidates[i]);
		if (!cgroup_exists(driver, pod_path))
			continue;
		if (child_containing(driver, pod_path, id, path, size) == 0)
			return 0;
	}
	return -ENOENT;
}

/* Containers of @pod beside the main one. */
static size_t others_of(const json_t *pod)
{
	size_t count = json_array_size(kube_get(pod, "spec", "containers", NULL));

	return count > 0 ? count - 1 : 0;
}

static void container_end(struct agent *agent, struct unit *unit, struct container *container)
{
	log_info("unit=%s/%s pod=%s container=%s event=gone", unit->namespace, unit->service,
		container->pod, container->name);
	/* Not its end, only ours: its pod was deleted by force, or names another as the main one. */
	if (cgroup_exists(&agent->driver, container->path))
		(void)actuate_restore_cgroup(agent, container);
	sample_last(agent, unit, container);
	agent->owners[container->attachment.slot] = NULL;
	reflex_leave(agent->reflex, container->attachment.slot);
	pressure_unwatch(agent, container);
	usage_close(&container->usage_files);
	probes_detach(agent->probes, &container->attachment);
	actuate_forget(agent, container);
	unit_drop_container(unit, container);
	reserve_leave(agent, container);
	free(container);
}

/*
 * A replica that joins lives on what its unit lives on, not on the declared limit: the next action
 * is taken on the mean of the unit's limits. (Its CPU limit waits until it has started.)
 */
static void container_join(
	struct agent *agent, const struct unit *unit, struct container *container)
{
	const struct cgroup_limits *first = &unit->containers[0]->current;
	int64_t memory_bytes = actuate_memory_limit(first);
	struct plan plan = unit->plan;

	if (unit->container_count < 2)
		return;
	if (!unit->has_plan) {
		/* Of an earlier agent, which is all that is known. */
		if (first->cpu_quota_us > 0 && first->cpu_period_us > 0)
			plan.cpu_millicores =
				1000.0 * (double)first->cpu_quota_us / (double)first->cpu_period_us;
		else
			plan.cpu_millicores = unit->containers[0]->reserve.millicores;
		plan.reserves = unit_reserves(unit);
		plan.memory_bytes = memory_bytes > 0 ? (uint64_t)memory_bytes : 0;
	}
	(void)actuate_container(agent, container, &plan);
}

static bool is_ours(const struct unit *unit)
{
	return unit->has_objective && unit->objective.mode == OBJECTIVE_AUTO && !unit->is_left;
}

/*
 * What it lives on in its unit. Where nothing is set, an earlier agent may have: the objective went, or
 * its mode changed, while none was here.
 */
static void container_settle(
	struct agent *agent, const struct unit *unit, struct container *container)
{
	if (is_ours(unit))
		container_join(agent, unit, container);
	else if (agent->status.objectives_synced)
		(void)actuate_restore_container(agent, container);
}

static void container_enter(struct agent *agent, struct unit *unit, struct container *container)
{
	reflex_enter(agent->reflex, container->attachment.slot, container->path, &unit->share,
		&container->current);
	detail_apply(agent, unit);
	container_settle(agent, unit, container);
	allowance_apply(agent, unit);
}

static void waiting_key(const json_t *pod, char *key, size_t size)
{
	const char *namespace = kube_string(pod, "metadata", "namespace", NULL);
	const char *name = kube_string(pod, "metadata", "name", NULL);

	snprintf(key, size, "%s/%s", namespace ? namespace : "", name ? name : "");
}

/* Not measured. What was found out too early is told of again; a slot gets free without a word. */
static void container_refuse(
	struct agent *agent, struct container *container, const json_t *pod, int err)
{
	char key[2 * UNIT_NAME_MAX];

	log_warning(
		"pod=%s container=%s id=%s error=\"%s\" effect=\"not measured; tried again %s\"",
		container->pod, container->name, container->id,
		err == -ENOSPC ? "all of --max-containers are taken" : strerror(-err),
		err == -ENOSPC ? "when one is free" : "at the pod's next change");
	if (container->attachment.key_count)
		probes_detach(agent->probes, &container->attachment);
	free(container);
	if (err != -ENOSPC)
		return;
	if (!agent->waiting)
		agent->waiting = json_object();
	waiting_key(pod, key, sizeof(key));
	json_object_set(agent->waiting, key, (json_t *)pod);
}

static void container_start(struct agent *agent, struct unit *unit, const json_t *pod,
	const json_t *status, const char *id)
{
	const char *name = kube_string(status, "name", NULL);
	const char *pod_name = kube_string(pod, "metadata", "name", NULL);
	const char *uid = kube_string(pod, "metadata", "uid", NULL);
	struct container *container = calloc(1, sizeof(*container));
	bool has_changed;
	int err;

	if (!container)
		return;
	snprintf(container->pod, sizeof(container->pod), "%s", pod_name ? pod_name : "");
	snprintf(container->pod_uid, sizeof(container->pod_uid), "%s", uid ? uid : "");
	snprintf(container->name, sizeof(container->name), "%s", name ? name : "");
	snprintf(container->id, sizeof(container->id), "%s", id);
	container->seen = true;
	err = discover_cgroup(&agent->driver, pod, id, container->path, sizeof(container->path));
	if (!err)
		err = probes_attach(agent->probes, container->path, &container->attachment);
	if (!err)
		err = actuate_adopt(agent, container);
	if (!err)
		err = unit_add_container(unit, container);
	if (err) {
		container_refuse(agent, container, pod, err);
		return;
	}
	container->limit_since_us = monotonic_us();
	starting_find(&container->starting, starting_is_ready(pod, status),
		!agent->status.pods_synced, container->limit_since_us);
	container->is_starting = starting_goes_on(&container->starting, container->limit_since_us);
	has_changed = declared_see(agent, container, pod);
	resize_adopt(agent, container, pod);
	reserve_see_pod(container, pod);
	reserve_adopt(agent, container);
	agent->owners[container->attachment.slot] = container;
	container_enter(agent, unit, container);
	if (has_changed)
		declared_enforce(agent, container);
	log_info("unit=%s/%s pod=%s container=%s event=found others_left_alone=%zu cgroup=%s",
		unit->namespace, unit->service, container->pod, container->name, others_of(pod),
		container->path);
}

static void container_move(struct agent *agent, struct unit *unit, struct container *container)
{
	struct unit *before = container->unit;

	sample_last(agent, before, container);
	if (unit_add_container(unit, container))
		return;
	unit_drop_container(before, container);
	reflex_leave(agent->reflex, container->attachment.slot);
	container_enter(agent, unit, container);
	log_notice("unit=%s/%s pod=%s container=%s event=\"belongs to another service now\" "
		   "before=%s",
		unit->namespace, unit->service, container->pod, container->name, before->service);
}

/*
 * A pod whose labels were changed is let go by its ReplicaSet, and another may take it: it is of another
 * service from then on.
 */
static void pod_move(struct agent *agent, struct unit *unit, const char *uid)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *each = agent->units.items[i];

		for (size_t k = each == unit ? 0 : each->container_count; k-- > 0;)
			if (strcmp(each->containers[k]->pod_uid, uid) == 0)
				container_move(agent, unit, each->containers[k]);
	}
}

/* Containers of @pod not marked as seen go; an empty unit without them stays for its history. */
static void pod_sweep(struct agent *agent, struct unit *unit, const char *pod)
{
	for (size_t i = unit->container_count; i-- > 0;) {
		struct container *container = unit->containers[i];

		if (strcmp(container->pod, pod) == 0 && !container->seen)
			container_end(agent, unit, container);
	}
}

/* The lock is held. */
static void pod_see(struct agent *agent, enum kube_event event, const json_t *pod)
{
	const char *namespace = kube_string(pod, "metadata", "namespace", NULL);
	const char *name = kube_string(pod, "metadata", "name", NULL);
	const char *uid = kube_string(pod, "metadata", "uid", NULL);
	const json_t *statuses = kube_get(pod, "status", "containerStatuses", NULL);
	char service[UNIT_NAME_MAX], key[2 * UNIT_NAME_MAX];
	const struct objective *objective;
	const json_t *status;
	struct unit *unit;
	size_t i;

	if (!namespace || !name)
		return;
	waiting_key(pod, key, sizeof(key));
	(void)json_object_del(agent->waiting, key);
	discover_service(pod, service, sizeof(service));
	unit = units_get(&agent->units, namespace, service);
	if (!unit)
		return;
	objective =
		unit->has_objective ? NULL : objectives_of(&agent->objectives, namespace, service);
	if (objective) {
		unit->objective = *objective;
		unit->has_objective = true;
	}
	if (uid)
		pod_move(agent, unit, uid);
	for (size_t k = 0; k < unit->container_count; k++)
		unit->containers[k]->seen = strcmp(unit->containers[k]->pod, name) != 0;
	if (event != KUBE_EVENT_DELETED) {
		json_array_foreach (statuses, i, status) {
			const char *id = kube_string(status, "containerID", NULL);
			struct container *container;

			if (!id || !kube_get(status, "state", "running", NULL) ||
				!pod_is_main(pod, kube_string(status, "name", NULL)))
				continue;
			container = unit_find_container(unit, id);
			if (container) {
				container->seen = true;
				starting_see_ready(&container->starting,
					starting_is_ready(pod, status), monotonic_us());
				resize_observe(agent, container, pod);
				reserve_see_pod(container, pod);
				if (declared_see(agent, container, pod))
					declared_enforce(agent, container);
			} else {
				container_start(agent, unit, pod, status, id);
			}
		}
	}
	pod_sweep(agent, unit, name);
	if (uid && event == KUBE_EVENT_DELETED)
		resize_forget_pod(agent, uid);
	else if (uid)
		resize_see_pod(agent, uid);
}

void discover_pod(struct agent *agent, enum kube_event event, const json_t *pod)
{
	pthread_mutex_lock(&agent->lock);
	pod_see(agent, event, pod);
	pthread_mutex_unlock(&agent->lock);
}

void discover_waiting(struct agent *agent)
{
	json_t *waiting, *pod;
	const char *key;

	if (json_object_size(agent->waiting) == 0 || !probes_have_room(agent->probes))
		return;
	waiting = json_copy(agent->waiting);
	json_object_foreach (waiting, key, pod)
		if (probes_have_room(agent->probes))
			pod_see(agent, KUBE_EVENT_MODIFIED, pod);
	json_decref(waiting);
}

void discover_forget(struct agent *agent)
{
	uint64_t now_us = monotonic_us();

	for (size_t i = agent->units.count; i-- > 0;) {
		struct unit *unit = agent->units.items[i];

		if (unit->container_count > 0 || unit->has_objective ||
			trace_is_read(agent->trace, unit)) {
			unit->empty_since_us = 0;
		} else if (unit->empty_since_us == 0) {
			unit->empty_since_us = now_us;
		} else if (now_us - unit->empty_since_us >=
			   (uint64_t)agent->config.forget_s * 1000000) {
			log_info("unit=%s/%s event=forgotten", unit->namespace, unit->service);
			trace_forget(agent->trace, unit);
			reflex_forget_share(agent->reflex, &unit->share);
			units_remove(&agent->units, unit);
		}
	}
}

static void objective_apply(
	struct agent *agent, struct unit *unit, const struct objective *objective)
{
	unit->has_objective = objective != NULL;
	if (objective)
		unit->objective = *objective;
	detail_apply(agent, unit);
	if (!objective || objective->mode != OBJECTIVE_AUTO)
		(void)actuate_restore(agent, unit);
	else if (objective->frozen)
		allowance_withdraw(agent, unit, "frozen");
	else if (!objective->reflex)
		allowance_withdraw(agent, unit, "reflex-off");
	allowance_apply(agent, unit);
}

/* What holds for a service now, after a change of one that names it or did. */
static void objective_settle(struct agent *agent, const char *namespace, const char *service)
{
	struct unit *unit = units_find(&agent->units, namespace, service);

	if (unit)
		objective_apply(agent, unit, objectives_of(&agent->objectives, namespace, service));
}

void discover_objective(struct agent *agent, enum kube_event event, const json_t *object)
{
	struct objective objective, before;
	char error[384];
	bool changed;
	int err;

	/* One that is gone may have been edited into what does not parse before. */
	err = event == KUBE_EVENT_DELETED
		      ? objective_identify(object, &objective, error, sizeof(error))
		      : objective_parse(object, &objective, error, sizeof(error));
	if (err) {
		const char *name = kube_string(object, "metadata", "name", NULL);

		log_err("objective=%s error=\"%s\" effect=\"the old objective stays\"",
			name ? name : "?", error);
		return;
	}
	pthread_mutex_lock(&agent->lock);
	if (event == KUBE_EVENT_DELETED)
		changed = objectives_remove(
			&agent->objectives, objective.namespace, objective.name, &before);
	else
		changed = objectives_put(&agent->objectives, &objective, &before) == 0;
	/* It may have named another service until now. */
	if (changed && before.service[0])
		objective_settle(agent, before.namespace, before.service);
	if (changed && strcmp(before.service, objective.service) != 0)
		objective_settle(agent, objective.namespace, objective.service);
	pthread_mutex_unlock(&agent->lock);
}

static void status_note(struct agent *agent, enum kube_event event)
{
	pthread_mutex_lock(&agent->lock);
	if (agent->status.pods_synced)
		resize_forget_pod(agent, NULL);
	agent->status.api_reachable = event != KUBE_EVENT_LOST;
	pthread_mutex_unlock(&agent->lock);
}

/* All that there are have been told of: now it is known which went while no agent was here. */
static void pods_synced(struct agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	/* The agent's own pod is one, on a cluster. */
	if (!agent->status.pods_synced && agent->units.count == 0)
		log_notice(
			"node=%s event=\"the API tells of no pod on this node\" do=\"if there are "
			"some, is that the node's name in Kubernetes?\"",
			agent->config.node);
	agent->status.pods_synced = true;
	(void)leftover_settle(agent);
	pthread_mutex_unlock(&agent->lock);
}

static void objectives_synced(struct agent *agent)
{
	pthread_mutex_lock(&agent->lock);
	agent->status.objectives_synced = true;
	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *unit = agent->units.items[i];

		for (size_t k = 0; k < unit->container_count && !is_ours(unit); k++)
			container_settle(agent, unit, unit->containers[k]);
	}
	pthread_mutex_unlock(&agent->lock);
}

static void on_pod(enum kube_event event, const json_t *object, void *context)
{
	struct agent *agent = context;

	if (object)
		discover_pod(agent, event, object);
	else if (event == KUBE_EVENT_SYNCED)
		pods_synced(agent);
	if (!object)
		status_note(agent, event);
}

static void on_objective(enum kube_event event, const json_t *object, void *context)
{
	struct agent *agent = context;

	if (object)
		discover_objective(agent, event, object);
	else if (event == KUBE_EVENT_SYNCED)
		objectives_synced(agent);
	if (!object)
		status_note(agent, event);
}

static void watch(struct agent *agent, const char *path, kube_event_handler handler)
{
	struct kube_client *client =
		kube_client_new(&agent->kube, "ebbtide-agent/" EBBTIDE_VERSION);

	if (!client) {
		log_err("watch=%s error=\"out of memory\"", path);
		return;
	}
	(void)kube_reflect(client, path, handler, agent, &agent->stop);
	kube_client_free(client);
}

void *discover_pods_thread(void *context)
{
	struct agent *agent = context;
	char path[512];

	snprintf(path, sizeof(path), "/api/v1/pods?fieldSelector=spec.nodeName%%3D%s",
		agent->config.node);
	watch(agent, path, on_pod);
	return NULL;
}

void *discover_objectives_thread(void *context)
{
	watch(context, KUBE_OBJECTIVES_PATH, on_objective);
	return NULL;
}
