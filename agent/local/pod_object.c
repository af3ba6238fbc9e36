// SPDX-License-Identifier: Apache-2.0
#include "local/pod_object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "local/api/object.h"
#include "local/limits.h"

#define PROBE_PERIOD_S 10
#define PROBE_FAILURES 3
#define DEFAULT_PATH   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define EXPANDED_MAX   65536

json_t *pod_object_new(const char *name, const char *node, const json_t *deployment,
	const json_t *replicaset, const char *hash)
{
	const json_t *template = object_get(deployment, "spec", "template", NULL);
	json_t *labels = json_deep_copy(object_get(template, "metadata", "labels", NULL));
	json_t *annotations = json_deep_copy(object_get(template, "metadata", "annotations", NULL));
	json_t *spec = json_deep_copy(json_object_get(template, "spec"));
	char prefix[300];

	if (!labels)
		labels = json_object();
	if (!annotations)
		annotations = json_object();
	object_set_string(labels, "pod-template-hash", hash);
	object_set_string(spec, "nodeName", node);
	snprintf(prefix, sizeof(prefix), "%s-", object_name(replicaset));
	return json_pack(
		"{s:s, s:s, s:{s:s, s:s, s:s, s:o, s:o, s:[{s:s, s:s, s:s, s:s, s:b, s:b}]}, "
		"s:o}",
		"apiVersion", "v1", "kind", "Pod", "metadata", "name", name, "generateName", prefix,
		"namespace", object_namespace(deployment), "labels", labels, "annotations",
		annotations, "ownerReferences", "apiVersion", "apps/v1", "kind", "ReplicaSet",
		"name", object_name(replicaset), "uid", object_uid(replicaset), "controller", true,
		"blockOwnerDeletion", true, "spec", spec);
}

static char **copy_arguments(const json_t *container)
{
	const json_t *command = json_object_get(container, "command");
	const json_t *args = json_object_get(container, "args");
	size_t count = json_array_size(command) + json_array_size(args), n = 0, index;
	char **list = calloc(count + 1, sizeof(char *));
	json_t *value;

	if (!list)
		return NULL;
	json_array_foreach ((json_t *)command, index, value)
		list[n++] = strdup(json_string_value(value));
	json_array_foreach ((json_t *)args, index, value)
		list[n++] = strdup(json_string_value(value));
	return list;
}

static void free_list(char ***list)
{
	if (!*list)
		return;
	for (size_t i = 0; (*list)[i]; i++)
		free((*list)[i]);
	free(*list);
	*list = NULL;
}

void pod_launch_free(struct pod_launch *launch)
{
	json_decref(launch->env);
	free_list(&launch->arguments);
	free_list(&launch->expanded);
	free_list(&launch->environment);
	free(launch->directory);
	*launch = (struct pod_launch){0};
}

static void init_launch(struct pod_launch *launch, const json_t *container)
{
	const json_t *probe = json_object_get(container, "readinessProbe");
	const char *directory = json_string_value(json_object_get(container, "workingDir"));

	launch->env = json_incref(json_object_get(container, "env"));
	launch->arguments = copy_arguments(container);
	launch->directory = directory && *directory ? strdup(directory) : NULL;
	launch->has_port = json_array_size(json_object_get(container, "ports")) > 0;
	launch->has_probe = json_is_object(probe);
	launch->probe_period_ms = object_integer(probe, "periodSeconds", PROBE_PERIOD_S) * 1000;
	launch->initial_delay_ms = object_integer(probe, "initialDelaySeconds", 0) * 1000;
	launch->failure_threshold = (int)object_integer(probe, "failureThreshold", PROBE_FAILURES);
}

void pod_status_init(struct pod_status *status, struct pod_launch *launches, const char *cgroup,
	const json_t *object)
{
	const json_t *containers = object_get(object, "spec", "containers", NULL), *spec;
	size_t index;

	*status = (struct pod_status){.ready_at = time(NULL)};
	json_array_foreach ((json_t *)containers, index, spec) {
		struct container_status *container = &status->containers[index];

		if (index == PODS_CONTAINERS_MAX)
			break;
		status->container_count = index + 1;
		snprintf(container->name, sizeof(container->name), "%s",
			json_string_value(json_object_get(spec, "name")));
		snprintf(container->cgroup, sizeof(container->cgroup), "%.440s/%.63s", cgroup,
			container->name);
		snprintf(container->reason, sizeof(container->reason), "ContainerCreating");
		launches[index] = (struct pod_launch){0};
		init_launch(&launches[index], spec);
	}
}

/* The value of NAME in a list of "NAME=value", or NULL. */
static const char *look_up(char *const *environment, const char *name, size_t length)
{
	const char *found = NULL;

	for (size_t i = 0; environment[i]; i++)
		if (!strncmp(environment[i], name, length) && environment[i][length] == '=')
			found = environment[i] + length + 1;
	return found;
}

/* As Kubernetes: $(NAME) is replaced when NAME is known, $$ is one dollar. */
static char *expand(const char *text, char *const *environment)
{
	char *out = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&out, &size);

	if (!stream)
		return NULL;
	while (*text && ftell(stream) < EXPANDED_MAX) {
		const char *end = text[0] == '$' && text[1] == '(' ? strchr(text, ')') : NULL;
		const char *value =
			end ? look_up(environment, text + 2, (size_t)(end - text) - 2) : NULL;

		if (value) {
			fputs(value, stream);
			text = end + 1;
		} else if (text[0] == '$' && text[1] == '$') {
			fputc('$', stream);
			text += 2;
		} else {
			fputc(*text++, stream);
		}
	}
	fclose(stream);
	return out;
}

static int fill_environment(struct pod_launch *launch, uint16_t port, const char *pod_name)
{
	const char *path = getenv("PATH"), *home = getenv("HOME");
	size_t n = 0, index;
	const json_t *variable;
	char **list;

	list = launch->environment = calloc(json_array_size(launch->env) + 6, sizeof(char *));
	if (!list || asprintf(&list[n++], "PATH=%s", path ? path : DEFAULT_PATH) < 0 ||
		asprintf(&list[n++], "HOME=%s", home ? home : "/") < 0 ||
		asprintf(&list[n++], "HOSTNAME=%s", pod_name) < 0 ||
		(port && asprintf(&list[n++], "PORT=%u", port) < 0))
		return -ENOMEM;
	json_array_foreach ((json_t *)launch->env, index, variable) {
		const char *name = json_string_value(json_object_get(variable, "name"));
		const char *text = json_string_value(json_object_get(variable, "value"));
		char *value = expand(text ? text : "", list);
		size_t place = 0;
		int made;

		/* The spec's word wins over ours, except for the port, which it cannot know. */
		if (!strcmp(name, "PORT") && port) {
			free(value);
			continue;
		}
		while (place < n && (strncmp(list[place], name, strlen(name)) != 0 ||
					    list[place][strlen(name)] != '='))
			place++;
		if (place < n)
			free(list[place]);
		made = asprintf(&list[place], "%s=%s", name, value ? value : "");
		free(value);
		if (made < 0) {
			list[place] = NULL;
			return -ENOMEM;
		}
		if (place == n)
			n++;
	}
	return 0;
}

int pod_launch_prepare(
	struct pod_launch *launch, uint16_t port, const char *pod_name, const char **step)
{
	size_t count = 0;

	*step = "memory";
	free_list(&launch->environment);
	free_list(&launch->expanded);
	if (!launch->arguments || fill_environment(launch, port, pod_name))
		return -ENOMEM;
	while (launch->arguments[count])
		count++;
	launch->expanded = calloc(count + 1, sizeof(char *));
	if (!launch->expanded)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		launch->expanded[i] = expand(launch->arguments[i], launch->environment);
		if (!launch->expanded[i])
			return -ENOMEM;
	}
	return 0;
}

void container_set_terminated(struct container_status *container, int wait_status, bool oom)
{
	container->has_last = true;
	container->last_signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
	container->last_code =
		container->last_signal ? 128 + container->last_signal : WEXITSTATUS(wait_status);
	snprintf(container->last_reason, sizeof(container->last_reason), "%s",
		oom && container->last_code ? "OOMKilled"
		: container->last_code	    ? "Error"
					    : "Completed");
	container->last_started_at = container->started_at;
	container->last_finished_at = time(NULL);
}

static json_t *terminated_to_json(const struct container_status *container)
{
	char started[OBJECT_TIME_SIZE], finished[OBJECT_TIME_SIZE];
	json_t *state;

	object_format_time(started, container->last_started_at);
	object_format_time(finished, container->last_finished_at);
	state = json_pack("{s:{s:i, s:s, s:s, s:s}}", "terminated", "exitCode",
		container->last_code, "reason", container->last_reason, "startedAt", started,
		"finishedAt", finished);
	if (container->last_signal)
		json_object_set_new(json_object_get(state, "terminated"), "signal",
			json_integer(container->last_signal));
	return state;
}

static json_t *state_to_json(const struct container_status *container)
{
	char started[OBJECT_TIME_SIZE];
	json_t *state;

	if (container->running) {
		object_format_time(started, container->started_at);
		return json_pack("{s:{s:s}}", "running", "startedAt", started);
	}
	if (container->has_last && !*container->reason)
		return terminated_to_json(container);
	state = json_pack("{s:{s:s}}", "waiting", "reason", container->reason);
	if (*container->message)
		object_set_string(json_object_get(state, "waiting"), "message", container->message);
	return state;
}

static const json_t *find_named(const json_t *list, const char *name)
{
	const json_t *item;
	size_t index;

	json_array_foreach ((json_t *)list, index, item) {
		const char *text = json_string_value(json_object_get(item, "name"));

		if (text && !strcmp(text, name))
			return item;
	}
	return NULL;
}

static json_t *container_to_json(const struct container_status *container, const json_t *object)
{
	const json_t *shown = find_named(
		object_get(object, "status", "containerStatuses", NULL), container->name);
	const json_t *spec =
		find_named(object_get(object, "spec", "containers", NULL), container->name);
	/* A resize has written what is in force; before the first one it is the spec's. */
	json_t *in_force = json_object_get(shown ? shown : spec, "resources");
	const char *image = json_string_value(json_object_get(spec, "image"));
	json_t *status = json_pack("{s:s, s:b, s:b, s:i, s:o, s:o, s:s, s:s}", "name",
		container->name, "ready", container->ready, "started", container->running,
		"restartCount", container->restarts, "state", state_to_json(container), "lastState",
		container->has_last && (container->running || *container->reason)
			? terminated_to_json(container)
			: json_object(),
		"image", image ? image : "", "imageID", "");
	char id[CGROUP_PATH_MAX + 16];

	snprintf(id, sizeof(id), POD_CONTAINER_SCHEME "%s", container->cgroup);
	object_set_string(status, "containerID", id);
	if (in_force) {
		json_object_set_new(status, "resources", json_deep_copy(in_force));
		if (json_object_get(in_force, "requests"))
			json_object_set_new(status, "allocatedResources",
				json_deep_copy(json_object_get(in_force, "requests")));
	}
	return status;
}

static void add_condition(json_t *list, const char *type, bool value, const char *since,
	const char *reason, const char *message)
{
	json_t *condition = json_pack("{s:s, s:s, s:n, s:s}", "type", type, "status",
		value ? "True" : "False", "lastProbeTime", "lastTransitionTime", since);

	if (!value) {
		object_set_string(condition, "reason", reason);
		object_set_string(condition, "message", message);
	}
	json_array_append_new(list, condition);
}

static void set_conditions(json_t *shown, const struct pod_status *status, const char *created)
{
	json_t *conditions = json_array();
	char since[OBJECT_TIME_SIZE], message[600] = "containers with unready status: [";
	size_t used = strlen(message);

	for (size_t i = 0; i < status->container_count; i++)
		if (!status->containers[i].ready && used < sizeof(message) - 70)
			used += (size_t)snprintf(message + used, sizeof(message) - used, "%s%s",
				message[used - 1] == '[' ? "" : " ", status->containers[i].name);
	snprintf(message + used, sizeof(message) - used, "]");
	object_format_time(since, status->ready_at);
	add_condition(conditions, "PodReadyToStartContainers", true, created, "", "");
	add_condition(conditions, "Initialized", true, created, "", "");
	add_condition(conditions, "Ready", status->ready, since, "ContainersNotReady", message);
	add_condition(
		conditions, "ContainersReady", status->ready, since, "ContainersNotReady", message);
	add_condition(conditions, "PodScheduled", true, created, "", "");
	json_object_set_new(shown, "conditions", conditions);
}

void pod_object_set_status(json_t *object, const struct pod_status *status)
{
	const char *created = object_string(object, "metadata", "creationTimestamp", NULL);
	json_t *annotations = object_child(object_child(object, "metadata"), "annotations");
	json_t *shown = json_object(), *containers = json_array();
	char now[OBJECT_TIME_SIZE], text[16];
	bool started = false;

	object_format_time(now, time(NULL));
	if (!created)
		created = now;
	for (size_t i = 0; i < status->container_count; i++) {
		const struct container_status *container = &status->containers[i];

		started |= container->running || container->has_last;
		json_array_append_new(containers, container_to_json(container, object));
		if (i == 0)
			object_set_string(annotations, POD_CGROUP_ANNOTATION, container->cgroup);
		if (container->port) {
			snprintf(text, sizeof(text), "%u", container->port);
			object_set_string(annotations, POD_PORT_ANNOTATION, text);
		}
	}
	object_set_string(shown, "phase", started ? "Running" : "Pending");
	set_conditions(shown, status, created);
	object_set_string(shown, "hostIP", "127.0.0.1");
	object_set_string(shown, "podIP", "127.0.0.1");
	json_object_set_new(shown, "podIPs", json_pack("[{s:s}]", "ip", "127.0.0.1"));
	object_set_string(shown, "startTime", created);
	json_object_set_new(shown, "containerStatuses", containers);
	object_set_string(shown, "qosClass", limits_qos_class(json_object_get(object, "spec")));
	json_object_set_new(object, "status", shown);
}

void pod_object_set_deletion(json_t *object, int64_t grace_s)
{
	json_t *metadata = object_child(object, "metadata");
	char text[OBJECT_TIME_SIZE];

	object_format_time(text, time(NULL) + grace_s);
	object_set_string(metadata, "deletionTimestamp", text);
	json_object_set_new(metadata, "deletionGracePeriodSeconds", json_integer(grace_s));
}
