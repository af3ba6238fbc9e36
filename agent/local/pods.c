// SPDX-License-Identifier: Apache-2.0
#include "local/pods.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/log.h"
#include "local/api/object.h"
#include "local/events.h"
#include "local/limits.h"
#include "local/pod_object.h"
#include "local/process.h"

/* How often a start is looked at, and how long a slow one is looked at as often. */
#define START_PROBE_MS	    10
#define START_PROBE_SLOW_MS 100
#define START_EAGER_MS	    10000
/* First restart at once, then 1 s, 2 s, ... 60 s; forgotten after two minutes of running. */
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MOST_MS	 60000
#define BACKOFF_RESET_MS 120000
/* Draining: looked at this often; over after two looks without a request, or at the bound. */
#define DRAIN_LOOK_MS  20
#define DRAIN_MOST_MS  10000
#define STOP_LOOK_MS   10
#define REMOVE_MOST_MS 10000
#define IDLE_LOOK_MS   1000
#define NEVER	       INT64_MAX

enum pod_state {
	POD_RUNNING,
	POD_DRAINING,
	POD_STOPPING,
	POD_REMOVING
};

struct pod {
	char namespace[64];
	char name[254];
	char deployment[254];
	char deployment_uid[OBJECT_UID_SIZE];
	char hash[16];
	char cgroup[CGROUP_PATH_MAX];
	unsigned long sequence;
	enum pod_state state;
	int64_t state_ms; /* when the state was entered */
	int64_t grace_ms;
	int64_t next_ms;
	int quiet_looks;
	bool in_gateway;
	bool drained_by_probe;
	bool drain_told; /* the gateway knows that no request is to come any more */
	bool killed;
	bool dirty; /* the store shows an older state */
	struct pod_status status;
	struct pod_launch launches[PODS_CONTAINERS_MAX];
};

struct pods {
	struct pods_options options;
	struct pod **list;
	size_t count;
	size_t room;
	unsigned long sequence;
};

struct pods *pods_new(const struct pods_options *options)
{
	struct pods *pods = calloc(1, sizeof(*pods));

	if (pods)
		pods->options = *options;
	return pods;
}

static void pod_free(struct pod *pod)
{
	for (size_t i = 0; i < pod->status.container_count; i++)
		pod_launch_free(&pod->launches[i]);
	free(pod);
}

void pods_free(struct pods *pods)
{
	if (!pods)
		return;
	for (size_t i = 0; i < pods->count; i++)
		pod_free(pods->list[i]);
	free(pods->list);
	free(pods);
}

size_t pods_count(const struct pods *pods)
{
	return pods->count;
}

void pods_view(const struct pods *pods, size_t index, struct pod_view *out)
{
	const struct pod *pod = pods->list[index];

	*out = (struct pod_view){
		.namespace = pod->namespace,
		.name = pod->name,
		.deployment_uid = pod->deployment_uid,
		.hash = pod->hash,
		.ready = pod->status.ready,
		.terminating = pod->state != POD_RUNNING,
		.sequence = pod->sequence,
	};
}

/* Bring the store up to date, whatever others changed meanwhile (a resize, labels). */
static void publish(struct pods *pods, struct pod *pod)
{
	const struct resource *resource = &resources[RESOURCE_PODS];
	int err;

	pod->dirty = false;
	do {
		json_t *old = store_get(pods->options.store, resource, pod->namespace, pod->name);
		json_t *object;

		if (!old)
			return;
		object = json_deep_copy(old);
		pod_object_set_status(object, &pod->status);
		err = store_replace(
			pods->options.store, resource, object, object_version(old), NULL);
		json_decref(old);
	} while (err == -EAGAIN);
}

static void record(struct pods *pods, const struct pod *pod, bool warning, const char *reason,
	const char *message)
{
	json_t *object = store_get(
		pods->options.store, &resources[RESOURCE_PODS], pod->namespace, pod->name);

	if (!object)
		return;
	events_record(pods->options.store, object, warning, reason, "%s", message);
	json_decref(object);
}

static void back_off(struct pod *pod, struct container_status *container, int64_t now_ms)
{
	container->backoff_ms =
		container->backoff_ms ? container->backoff_ms * 2 : BACKOFF_FIRST_MS;
	if (container->backoff_ms > BACKOFF_MOST_MS)
		container->backoff_ms = BACKOFF_MOST_MS;
	container->start_ms = now_ms + container->backoff_ms;
	pod->dirty = true;
}

static void start_container(struct pods *pods, struct pod *pod, size_t index, int64_t now_ms)
{
	struct container_status *container = &pod->status.containers[index];
	struct pod_launch *launch = &pod->launches[index];
	char log_path[1024], message[600];
	struct process_spec spec = {
		.arguments = launch->arguments,
		.directory = launch->directory,
		.log_path = log_path,
		.cgroup = container->cgroup,
	};
	const char *step = "port";
	int err = 0;

	if (index == 0)
		snprintf(log_path, sizeof(log_path), "%s/logs/%s.log",
			pods->options.state_directory, pod->name);
	else
		snprintf(log_path, sizeof(log_path), "%s/logs/%s.%s.log",
			pods->options.state_directory, pod->name, container->name);
	if (launch->has_port)
		err = process_find_port(&container->port);
	if (!err)
		err = pod_launch_prepare(launch, container->port, pod->name, &step);
	if (!err) {
		spec.arguments = launch->expanded;
		spec.environment = launch->environment;
		err = process_start(pods->options.driver, &spec, &container->pid, &step);
	}
	pod->dirty = true;
	if (err) {
		container->pid = 0;
		snprintf(container->reason, sizeof(container->reason), "%s", "RunContainerError");
		snprintf(container->message, sizeof(container->message), "%s %s: %s", step,
			launch->arguments[0], strerror(-err));
		snprintf(message, sizeof(message), "Error: %s", container->message);
		log_warning("container failed to start pod=%s container=%s %s", pod->name,
			container->name, container->message);
		record(pods, pod, true, "Failed", message);
		back_off(pod, container, now_ms);
		return;
	}
	container->running = true;
	container->started_ms = now_ms;
	container->started_at = time(NULL);
	container->start_ms = NEVER;
	container->probe_ms = now_ms + launch->initial_delay_ms;
	container->failures = 0;
	container->reason[0] = container->message[0] = '\0';
	snprintf(message, sizeof(message), "Started container %s", container->name);
	record(pods, pod, false, "Started", message);
	log_debug("container started pod=%s container=%s pid=%d port=%u", pod->name,
		container->name, container->pid, container->port);
}

/* Ready when every container is; tells the gateway and the store. */
static void settle_ready(struct pods *pods, struct pod *pod)
{
	bool ready = pod->state == POD_RUNNING;
	struct gateway *gateway = pods->options.gateway;
	uint16_t port = 0;

	for (size_t i = 0; i < pod->status.container_count; i++) {
		ready = ready && pod->status.containers[i].ready;
		if (!port)
			port = pod->status.containers[i].port;
	}
	if (ready && port && !pod->in_gateway) {
		int err = gateway_add_server(
			gateway, pod->namespace, pod->deployment, pod->name, port);

		if (err && err != -ENOENT) {
			/* HAProxy is away for a moment: tried again at the next look. */
			pod->next_ms = 0;
			ready = false;
		}
		pod->in_gateway = !err;
	} else if (ready && pod->drained_by_probe) {
		gateway_undrain_server(gateway, pod->name);
		pod->drained_by_probe = false;
	} else if (!ready && pod->in_gateway && pod->state == POD_RUNNING) {
		gateway_drain_server(gateway, pod->name);
		pod->drained_by_probe = true;
	}
	if (ready == pod->status.ready)
		return;
	pod->status.ready = ready;
	pod->status.ready_at = time(NULL);
	pod->dirty = true;
	log_info("pod %s name=%s namespace=%s port=%u", ready ? "ready" : "not ready", pod->name,
		pod->namespace, port);
}

static int apply_pod_weight(struct pods *pods, const struct pod *pod, const json_t *containers,
	char *error, size_t error_size)
{
	int err = limits_apply_pod(pods->options.driver, pod->cgroup, containers);

	if (err)
		snprintf(error, error_size, "weight of cgroup %s: %s", pod->cgroup, strerror(-err));
	return err;
}

static int make_cgroups(
	struct pods *pods, struct pod *pod, const json_t *object, char *error, size_t error_size)
{
	const json_t *containers = object_get(object, "spec", "containers", NULL);

	for (size_t i = 0; i < pod->status.container_count; i++) {
		const struct container_status *container = &pod->status.containers[i];
		const json_t *spec = json_array_get(containers, i);
		int err = cgroup_create(pods->options.driver, container->cgroup);

		if (err) {
			snprintf(error, error_size, "cannot make cgroup %s: %s", container->cgroup,
				strerror(-err));
			return err;
		}
		err = limits_apply(pods->options.driver, container->cgroup,
			json_object_get(spec, "resources"), NULL, error, error_size);
		if (err)
			return err;
	}
	return apply_pod_weight(pods, pod, containers, error, error_size);
}

static int append(struct pods *pods, struct pod *pod)
{
	if (pods->count == pods->room) {
		size_t room = pods->room ? pods->room * 2 : 16;
		struct pod **list = realloc(pods->list, room * sizeof(struct pod *));

		if (!list)
			return -ENOMEM;
		pods->list = list;
		pods->room = room;
	}
	pods->list[pods->count++] = pod;
	return 0;
}

static void fill_identity(struct pods *pods, struct pod *pod, const json_t *deployment,
	const json_t *replicaset, const char *hash)
{
	char suffix[8];

	object_make_suffix(suffix, 5);
	snprintf(pod->namespace, sizeof(pod->namespace), "%s", object_namespace(deployment));
	snprintf(pod->deployment, sizeof(pod->deployment), "%s", object_name(deployment));
	snprintf(pod->deployment_uid, sizeof(pod->deployment_uid), "%s", object_uid(deployment));
	snprintf(pod->hash, sizeof(pod->hash), "%s", hash);
	snprintf(pod->name, sizeof(pod->name), "%.240s-%s", object_name(replicaset), suffix);
	snprintf(pod->cgroup, sizeof(pod->cgroup), "%.150s/%s/%s", pods->options.cgroup,
		pod->namespace, pod->name);
}

int pods_create(struct pods *pods, const json_t *deployment, const json_t *replicaset,
	const char *hash, int64_t now_ms)
{
	struct pod *pod = calloc(1, sizeof(*pod));
	json_t *object, *stored = NULL;
	char error[512] = "";
	int err;

	if (!pod)
		return -ENOMEM;
	fill_identity(pods, pod, deployment, replicaset, hash);
	pod->sequence = ++pods->sequence;
	pod->state_ms = now_ms;
	object = pod_object_new(pod->name, pods->options.node, deployment, replicaset, hash);
	pod->grace_ms = object_integer(json_object_get(object, "spec"),
				"terminationGracePeriodSeconds", 30) *
			1000;
	pod_status_init(&pod->status, pod->launches, pod->cgroup, object);
	pod_object_set_status(object, &pod->status);
	err = store_create(pods->options.store, &resources[RESOURCE_PODS], object, &stored);
	if (err) {
		pod_free(pod);
		return err;
	}
	err = append(pods, pod);
	if (err) {
		store_delete(pods->options.store, &resources[RESOURCE_PODS], pod->namespace,
			pod->name, 0, NULL);
		pod_free(pod);
		goto out;
	}
	events_record(pods->options.store, stored, false, "Scheduled",
		"Successfully assigned %s/%s to %s", pod->namespace, pod->name, pods->options.node);
	err = make_cgroups(pods, pod, stored, error, sizeof(error));
	if (err) {
		log_err("pod=%s: %s", pod->name, error);
		record(pods, pod, true, "Failed", error);
		pods_stop(pods, pod->namespace, pod->name, true, now_ms);
		goto out;
	}
	for (size_t i = 0; i < pod->status.container_count; i++)
		start_container(pods, pod, i, now_ms);
	publish(pods, pod);
out:
	json_decref(stored);
	return err;
}

static struct pod *find_pod(const struct pods *pods, const char *namespace, const char *name)
{
	for (size_t i = 0; i < pods->count; i++)
		if (!strcmp(pods->list[i]->name, name) &&
			!strcmp(pods->list[i]->namespace, namespace))
			return pods->list[i];
	return NULL;
}

static void signal_pod(const struct pod *pod, int sig)
{
	for (size_t i = 0; i < pod->status.container_count; i++)
		if (pod->status.containers[i].running)
			kill(-pod->status.containers[i].pid, sig);
}

static void enter(struct pod *pod, enum pod_state state, int64_t now_ms)
{
	pod->state = state;
	pod->state_ms = now_ms;
	pod->next_ms = now_ms;
}

static void terminate(struct pods *pods, struct pod *pod, int64_t now_ms)
{
	if (pod->in_gateway)
		gateway_remove_server(pods->options.gateway, pod->name);
	pod->in_gateway = false;
	signal_pod(pod, SIGTERM);
	enter(pod, POD_STOPPING, now_ms);
}

static void mark_deleted(struct pods *pods, const struct pod *pod)
{
	const struct resource *resource = &resources[RESOURCE_PODS];
	int err;

	do {
		json_t *old = store_get(pods->options.store, resource, pod->namespace, pod->name);
		json_t *object;

		if (!old || object_string(old, "metadata", "deletionTimestamp", NULL)) {
			json_decref(old);
			return;
		}
		object = json_deep_copy(old);
		pod_object_set_deletion(object, pod->grace_ms / 1000);
		err = store_replace(
			pods->options.store, resource, object, object_version(old), NULL);
		json_decref(old);
	} while (err == -EAGAIN);
}

void pods_stop(
	struct pods *pods, const char *namespace, const char *name, bool at_once, int64_t now_ms)
{
	struct pod *pod = find_pod(pods, namespace, name);

	if (!pod || pod->state != POD_RUNNING)
		return;
	mark_deleted(pods, pod);
	record(pods, pod, false, "Killing", "Stopping pod");
	if (at_once || !pod->in_gateway) {
		terminate(pods, pod, now_ms);
	} else {
		pod->drain_told = !gateway_drain_server(pods->options.gateway, pod->name);
		pod->quiet_looks = 0;
		enter(pod, POD_DRAINING, now_ms);
	}
	settle_ready(pods, pod);
}

void pods_stop_all(struct pods *pods, int64_t grace_ms, int64_t now_ms)
{
	for (size_t i = 0; i < pods->count; i++) {
		struct pod *pod = pods->list[i];

		if (pod->grace_ms > grace_ms)
			pod->grace_ms = grace_ms;
		if (pod->state == POD_RUNNING)
			pods_stop(pods, pod->namespace, pod->name, true, now_ms);
		else if (pod->state == POD_DRAINING)
			terminate(pods, pod, now_ms);
	}
}

void pods_check_deleted(struct pods *pods, int64_t now_ms)
{
	for (size_t i = 0; i < pods->count; i++) {
		struct pod *pod = pods->list[i];
		const json_t *metadata;
		json_t *object;

		if (pod->state == POD_STOPPING || pod->state == POD_REMOVING)
			continue;
		object = store_get(
			pods->options.store, &resources[RESOURCE_PODS], pod->namespace, pod->name);
		metadata = json_object_get(object, "metadata");
		if (json_object_get(metadata, "deletionTimestamp")) {
			pod->grace_ms =
				object_integer(metadata, "deletionGracePeriodSeconds", 30) * 1000;
			pods_stop(pods, pod->namespace, pod->name, pod->grace_ms == 0, now_ms);
		}
		json_decref(object);
	}
}

static bool was_oom_killed(struct pods *pods, struct container_status *container)
{
	struct cgroup_usage usage;
	bool more;

	if (cgroup_read_usage(pods->options.driver, container->cgroup, &usage))
		return false;
	more = usage.oom_kills > container->oom_kills;
	container->oom_kills = usage.oom_kills;
	return more;
}

static void container_ended(struct pods *pods, struct pod *pod, struct container_status *container,
	int wait_status, int64_t now_ms)
{
	int64_t ran_ms = now_ms - container->started_ms;
	char message[600];

	container_set_terminated(container, wait_status, was_oom_killed(pods, container));
	container->running = container->ready = false;
	container->pid = 0;
	pod->dirty = true;
	/* What it forked goes with it: the cgroup is the container. */
	process_signal_cgroup(pods->options.driver, container->cgroup, SIGKILL);
	if (pod->state == POD_STOPPING || pod->state == POD_REMOVING) {
		pod->next_ms = now_ms;
		return;
	}
	if (pod->in_gateway)
		gateway_remove_server(pods->options.gateway, pod->name);
	pod->in_gateway = pod->drained_by_probe = false;
	settle_ready(pods, pod);
	if (pod->state == POD_DRAINING)
		return;
	container->restarts++;
	if (ran_ms >= BACKOFF_RESET_MS)
		container->backoff_ms = 0;
	log_warning("container ended pod=%s container=%s reason=%s code=%d restarts=%d", pod->name,
		container->name, container->last_reason, container->last_code, container->restarts);
	if (container->backoff_ms == 0) {
		container->backoff_ms = BACKOFF_FIRST_MS / 2; /* doubled at the next end */
		container->start_ms = now_ms;
	} else {
		back_off(pod, container, now_ms);
		snprintf(container->reason, sizeof(container->reason), "CrashLoopBackOff");
		snprintf(container->message, sizeof(container->message),
			"back-off %.0fs restarting failed container=%s pod=%s_%s",
			(double)container->backoff_ms / 1000, container->name, pod->name,
			pod->namespace);
		snprintf(message, sizeof(message),
			"Back-off restarting failed container %s in pod %s", container->name,
			pod->name);
		record(pods, pod, true, "BackOff", message);
	}
	pod->next_ms = now_ms;
}

bool pods_reaped(struct pods *pods, pid_t pid, int wait_status, int64_t now_ms)
{
	for (size_t i = 0; i < pods->count; i++) {
		struct pod *pod = pods->list[i];

		for (size_t c = 0; c < pod->status.container_count; c++)
			if (pod->status.containers[c].running &&
				pod->status.containers[c].pid == pid) {
				container_ended(
					pods, pod, &pod->status.containers[c], wait_status, now_ms);
				return true;
			}
	}
	return false;
}

/* Look at a running container: still starting, or due for its probe. When to look again. */
static int64_t probe(struct pods *pods, struct pod *pod, struct container_status *container,
	const struct pod_launch *launch, int64_t now_ms)
{
	bool answers;

	if (now_ms < container->probe_ms)
		return container->probe_ms;
	answers = !launch->has_port || process_port_answers(container->port);
	if (!container->ready) {
		container->probe_ms = now_ms + (now_ms - container->started_ms < START_EAGER_MS
							       ? START_PROBE_MS
							       : START_PROBE_SLOW_MS);
		if (answers) {
			container->ready = true;
			container->failures = 0;
			pod->dirty = true;
			container->probe_ms =
				launch->has_probe ? now_ms + launch->probe_period_ms : NEVER;
		}
	} else {
		container->failures = answers ? 0 : container->failures + 1;
		container->probe_ms = now_ms + launch->probe_period_ms;
		if (container->failures >= launch->failure_threshold) {
			container->ready = false;
			pod->dirty = true;
			record(pods, pod, true, "Unhealthy",
				"Readiness probe failed: the port does not accept connections");
		}
	}
	return container->probe_ms;
}

static int64_t advance_running(struct pods *pods, struct pod *pod, int64_t now_ms)
{
	int64_t next = NEVER;

	for (size_t i = 0; i < pod->status.container_count; i++) {
		struct container_status *container = &pod->status.containers[i];
		int64_t look;

		if (!container->running && now_ms >= container->start_ms)
			start_container(pods, pod, i, now_ms);
		look = container->running ? probe(pods, pod, container, &pod->launches[i], now_ms)
					  : container->start_ms;
		if (look < next)
			next = look;
	}
	pod->next_ms = next;
	settle_ready(pods, pod);
	return pod->next_ms ? pod->next_ms : now_ms + START_PROBE_SLOW_MS;
}

static int64_t advance_draining(struct pods *pods, struct pod *pod, int64_t now_ms)
{
	int64_t most = pod->grace_ms < DRAIN_MOST_MS ? pod->grace_ms : DRAIN_MOST_MS;
	int sessions;

	if (now_ms < pod->next_ms)
		return pod->next_ms;
	if (!pod->drain_told)
		pod->drain_told = !gateway_drain_server(pods->options.gateway, pod->name);
	sessions = pod->in_gateway ? gateway_count_sessions(pods->options.gateway, pod->name)
				   : -ENOENT;
	/* A gateway that was not told, or does not answer, may have requests under way. */
	if (!pod->drain_told || sessions > 0 || (sessions < 0 && sessions != -ENOENT))
		pod->quiet_looks = 0;
	else
		pod->quiet_looks++;
	if (pod->quiet_looks < 2 && now_ms - pod->state_ms < most) {
		pod->next_ms = now_ms + DRAIN_LOOK_MS;
		return pod->next_ms;
	}
	if (sessions > 0)
		log_warning("drain ran out pod=%s requests_in_flight=%d", pod->name, sessions);
	terminate(pods, pod, now_ms);
	return now_ms;
}

static int64_t advance_stopping(struct pods *pods, struct pod *pod, int64_t now_ms)
{
	bool alive = false;

	for (size_t i = 0; i < pod->status.container_count; i++)
		alive |= pod->status.containers[i].running;
	if (!alive) {
		enter(pod, POD_REMOVING, now_ms);
		return now_ms;
	}
	if (now_ms - pod->state_ms < pod->grace_ms) {
		/* SIGCHLD ends the wait earlier. */
		return pod->state_ms + pod->grace_ms;
	}
	if (!pod->killed)
		log_warning("grace is over, killing pod=%s grace_s=%lld", pod->name,
			(long long)pod->grace_ms / 1000);
	pod->killed = true;
	signal_pod(pod, SIGKILL);
	process_signal_cgroup(pods->options.driver, pod->cgroup, SIGKILL);
	return now_ms + STOP_LOOK_MS;
}

/* True when it is gone. */
static bool remove_pod(struct pods *pods, struct pod *pod, int64_t now_ms)
{
	int err = cgroup_remove(pods->options.driver, pod->cgroup);

	if (err == -EBUSY && now_ms - pod->state_ms < REMOVE_MOST_MS) {
		process_signal_cgroup(pods->options.driver, pod->cgroup, SIGKILL);
		pod->next_ms = now_ms + STOP_LOOK_MS;
		return false;
	}
	if (err && err != -ENOENT)
		log_err("cannot remove cgroup %s: %s", pod->cgroup, strerror(-err));
	if (pod->dirty)
		publish(pods, pod);
	store_delete(
		pods->options.store, &resources[RESOURCE_PODS], pod->namespace, pod->name, 0, NULL);
	log_info("pod removed name=%s namespace=%s", pod->name, pod->namespace);
	return true;
}

int64_t pods_advance(struct pods *pods, int64_t now_ms)
{
	int64_t next = now_ms + IDLE_LOOK_MS;

	for (size_t i = 0; i < pods->count;) {
		struct pod *pod = pods->list[i];
		int64_t look = now_ms;

		if (pod->state == POD_RUNNING)
			look = advance_running(pods, pod, now_ms);
		if (pod->state == POD_DRAINING)
			look = advance_draining(pods, pod, now_ms);
		if (pod->state == POD_STOPPING)
			look = advance_stopping(pods, pod, now_ms);
		if (pod->state == POD_REMOVING) {
			if (remove_pod(pods, pod, now_ms)) {
				pod_free(pod);
				pods->list[i] = pods->list[--pods->count];
				continue;
			}
			look = pod->next_ms;
		}
		if (pod->dirty)
			publish(pods, pod);
		if (look < next)
			next = look;
		i++;
	}
	return next;
}
