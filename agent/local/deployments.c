// SPDX-License-Identifier: Apache-2.0
#include "local/deployments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "local/api/object.h"
#include "local/events.h"

#define REVISION_ANNOTATION "deployment.kubernetes.io/revision"
/* A pod that cannot even be made (no cgroup) is tried again after this. */
#define CREATE_PAUSE_MS 2000

struct deployments {
	struct store *store;
	struct pods *pods;
	struct gateway *gateway;
	int64_t paused_until_ms;
};

struct tally {
	long current; /* pods of the present template, not going */
	long ready;   /* of those, ready */
	long old;     /* pods of earlier templates, not going */
	long old_ready;
	long terminating;
};

struct deployments *deployments_new(struct store *store, struct pods *pods, struct gateway *gateway)
{
	struct deployments *deployments = calloc(1, sizeof(*deployments));

	if (deployments)
		*deployments = (struct deployments){
			.store = store,
			.pods = pods,
			.gateway = gateway,
		};
	return deployments;
}

void deployments_free(struct deployments *deployments)
{
	free(deployments);
}

static void count_pods(const struct deployments *deployments, const char *uid, const char *hash,
	struct tally *tally)
{
	*tally = (struct tally){0};
	for (size_t i = 0; i < pods_count(deployments->pods); i++) {
		struct pod_view pod;

		pods_view(deployments->pods, i, &pod);
		if (strcmp(pod.deployment_uid, uid) != 0)
			continue;
		if (pod.terminating) {
			tally->terminating++;
		} else if (!strcmp(pod.hash, hash)) {
			tally->current++;
			tally->ready += pod.ready;
		} else {
			tally->old++;
			tally->old_ready += pod.ready;
		}
	}
}

/* Not ready first, then the newest, as the ReplicaSet controller does. */
static bool stop_one(struct deployments *deployments, const char *uid, const char *hash, bool old,
	int64_t now_ms)
{
	struct pod_view victim = {0};

	for (size_t i = 0; i < pods_count(deployments->pods); i++) {
		struct pod_view pod;

		pods_view(deployments->pods, i, &pod);
		if (strcmp(pod.deployment_uid, uid) != 0 || pod.terminating ||
			(strcmp(pod.hash, hash) != 0) != old)
			continue;
		if (!victim.name || (victim.ready && !pod.ready) ||
			(victim.ready == pod.ready && pod.sequence > victim.sequence))
			victim = pod;
	}
	if (!victim.name)
		return false;
	pods_stop(deployments->pods, victim.namespace, victim.name, false, now_ms);
	return true;
}

static json_t *new_replicaset(const json_t *deployment, const char *name, const char *hash)
{
	const json_t *spec = json_object_get(deployment, "spec");
	json_t *template = json_deep_copy(json_object_get(spec, "template"));
	json_t *selector = json_deep_copy(json_object_get(spec, "selector"));
	json_t *labels;

	object_set_string(object_child(object_child(template, "metadata"), "labels"),
		"pod-template-hash", hash);
	object_set_string(object_child(selector, "matchLabels"), "pod-template-hash", hash);
	labels = json_deep_copy(object_get(template, "metadata", "labels", NULL));
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:o, s:{s:s}, "
			 "s:[{s:s, s:s, s:s, s:s, s:b, s:b}]}, s:{s:i, s:o, s:o}, s:{s:i}}",
		"apiVersion", "apps/v1", "kind", "ReplicaSet", "metadata", "name", name,
		"namespace", object_namespace(deployment), "labels", labels, "annotations",
		REVISION_ANNOTATION, "1", "ownerReferences", "apiVersion", "apps/v1", "kind",
		"Deployment", "name", object_name(deployment), "uid", object_uid(deployment),
		"controller", true, "blockOwnerDeletion", true, "spec", "replicas", 0, "selector",
		selector, "template", template, "status", "replicas", 0);
}

/* A new reference to the ReplicaSet of the present template, made when it is missing. */
static json_t *ensure_replicaset(
	struct deployments *deployments, const json_t *deployment, const char *hash)
{
	const struct resource *resource = &resources[RESOURCE_REPLICASETS];
	char name[300];
	json_t *replicaset;

	snprintf(name, sizeof(name), "%.240s-%s", object_name(deployment), hash);
	replicaset = store_get(deployments->store, resource, object_namespace(deployment), name);
	if (!replicaset)
		store_create(deployments->store, resource, new_replicaset(deployment, name, hash),
			&replicaset);
	return replicaset;
}

static bool owned_by(const json_t *object, const char *uid)
{
	const char *owner = json_string_value(json_object_get(
		json_array_get(object_get(object, "metadata", "ownerReferences", NULL), 0), "uid"));

	return owner && !strcmp(owner, uid);
}

static void update_replicasets(
	struct deployments *deployments, const json_t *deployment, const char *present, long wanted)
{
	const struct resource *resource = &resources[RESOURCE_REPLICASETS];
	json_t *list = store_list(deployments->store, resource, object_namespace(deployment), NULL);
	const json_t *replicaset;
	size_t index;

	json_array_foreach (list, index, replicaset) {
		const char *hash =
			object_string(replicaset, "metadata", "labels", "pod-template-hash", NULL);
		struct tally tally;
		json_t *object, *status;
		bool is_present = hash && !strcmp(hash, present);

		if (!owned_by(replicaset, object_uid(deployment)))
			continue;
		count_pods(deployments, object_uid(deployment), hash ? hash : "", &tally);
		if (!is_present && tally.current == 0) {
			store_delete(deployments->store, resource, object_namespace(replicaset),
				object_name(replicaset), 0, NULL);
			continue;
		}
		object = json_deep_copy(replicaset);
		json_object_set_new(object_child(object, "spec"), "replicas",
			json_integer(is_present ? wanted : tally.current));
		status = object_child(object, "status");
		json_object_set_new(status, "replicas", json_integer(tally.current));
		json_object_set_new(status, "fullyLabeledReplicas", json_integer(tally.current));
		json_object_set_new(status, "readyReplicas", json_integer(tally.ready));
		json_object_set_new(status, "availableReplicas", json_integer(tally.ready));
		json_object_set(status, "observedGeneration",
			object_get(object, "metadata", "generation", NULL));
		store_replace(
			deployments->store, resource, object, object_version(replicaset), NULL);
	}
	json_decref(list);
}

/* lastTransitionTime moves only when the value does. */
static json_t *condition(const json_t *old_list, const char *type, bool value, const char *reason,
	const char *message)
{
	const char *text = value ? "True" : "False";
	char now[OBJECT_TIME_SIZE];
	const char *since = now, *updated = now;
	const json_t *old;
	size_t index;

	object_format_time(now, time(NULL));
	json_array_foreach ((json_t *)old_list, index, old) {
		const char *old_type = object_string(old, "type", NULL);
		const char *old_status = object_string(old, "status", NULL);
		const char *old_message = object_string(old, "message", NULL);

		if (!old_type || strcmp(old_type, type) != 0 || !old_status ||
			strcmp(old_status, text) != 0)
			continue;
		if (object_string(old, "lastTransitionTime", NULL))
			since = object_string(old, "lastTransitionTime", NULL);
		if (old_message && !strcmp(old_message, message) &&
			object_string(old, "lastUpdateTime", NULL))
			updated = object_string(old, "lastUpdateTime", NULL);
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", type, "status", text, "reason",
		reason, "message", message, "lastUpdateTime", updated, "lastTransitionTime", since);
}

static void set_count(json_t *status, const char *key, long value)
{
	/* Zero counts are left out, as in Kubernetes. */
	if (value > 0)
		json_object_set_new(status, key, json_integer(value));
	else
		json_object_del(status, key);
}

static void write_status(
	struct deployments *deployments, const json_t *deployment, const char *hash, long wanted)
{
	const struct resource *resource = &resources[RESOURCE_DEPLOYMENTS];
	json_t *object = json_deep_copy(deployment), *status = object_child(object, "status");
	const json_t *old = object_get(deployment, "status", "conditions", NULL);
	char message[400];
	struct tally tally;
	bool done;

	count_pods(deployments, object_uid(deployment), hash, &tally);
	done = tally.ready >= wanted && tally.old == 0;
	set_count(status, "replicas", tally.current + tally.old);
	set_count(status, "updatedReplicas", tally.current);
	set_count(status, "readyReplicas", tally.ready + tally.old_ready);
	set_count(status, "availableReplicas", tally.ready + tally.old_ready);
	set_count(status, "unavailableReplicas", wanted - tally.ready - tally.old_ready);
	json_object_set(status, "observedGeneration",
		object_get(deployment, "metadata", "generation", NULL));
	snprintf(message, sizeof(message),
		done ? "ReplicaSet \"%.240s-%s\" has successfully progressed."
		     : "ReplicaSet \"%.240s-%s\" is progressing.",
		object_name(deployment), hash);
	json_object_set_new(status, "conditions",
		json_pack("[o, o]",
			condition(old, "Available", tally.ready + tally.old_ready >= wanted,
				tally.ready + tally.old_ready >= wanted
					? "MinimumReplicasAvailable"
					: "MinimumReplicasUnavailable",
				tally.ready + tally.old_ready >= wanted
					? "Deployment has minimum availability."
					: "Deployment does not have minimum availability."),
			condition(old, "Progressing", true,
				done ? "NewReplicaSetAvailable" : "ReplicaSetUpdated", message)));
	/* Someone else's change meanwhile wakes the loop again: no retry here. */
	store_replace(deployments->store, resource, object, object_version(deployment), NULL);
}

static void reconcile_one(struct deployments *deployments, const json_t *deployment, int64_t now_ms)
{
	long wanted = (long)object_integer(json_object_get(deployment, "spec"), "replicas", 1);
	json_t *replicaset;
	struct tally tally;
	long keep_old, before;
	char hash[16];

	object_hash(hash, object_get(deployment, "spec", "template", NULL));
	gateway_add_function(
		deployments->gateway, object_namespace(deployment), object_name(deployment));
	replicaset = ensure_replicaset(deployments, deployment, hash);
	if (!replicaset)
		return;
	count_pods(deployments, object_uid(deployment), hash, &tally);
	before = tally.current;
	for (; tally.current < wanted && now_ms >= deployments->paused_until_ms; tally.current++)
		if (pods_create(deployments->pods, deployment, replicaset, hash, now_ms))
			deployments->paused_until_ms = now_ms + CREATE_PAUSE_MS;
	for (; tally.current > wanted; tally.current--)
		if (!stop_one(deployments, object_uid(deployment), hash, false, now_ms))
			break;
	keep_old = wanted - tally.ready;
	if (keep_old < 0)
		keep_old = 0;
	for (; tally.old > keep_old; tally.old--)
		if (!stop_one(deployments, object_uid(deployment), hash, true, now_ms))
			break;
	if (tally.current != before) {
		events_record(deployments->store, deployment, false, "ScalingReplicaSet",
			"Scaled %s replica set %s from %ld to %ld",
			tally.current > before ? "up" : "down", object_name(replicaset), before,
			tally.current);
		log_info("scaled deployment=%s namespace=%s from=%ld to=%ld",
			object_name(deployment), object_namespace(deployment), before,
			tally.current);
	}
	update_replicasets(deployments, deployment, hash, wanted);
	write_status(deployments, deployment, hash, wanted);
	json_decref(replicaset);
}

static bool uid_in_list(const json_t *list, const char *uid)
{
	const json_t *object;
	size_t index;

	json_array_foreach ((json_t *)list, index, object)
		if (!strcmp(object_uid(object), uid))
			return true;
	return false;
}

/* What belonged to Deployments that are no longer there. */
static void collect_orphans(struct deployments *deployments, const json_t *list, int64_t now_ms)
{
	const struct resource *resource = &resources[RESOURCE_REPLICASETS];
	json_t *replicasets = store_list(deployments->store, resource, NULL, NULL), *replicaset;
	size_t index;

	for (size_t i = 0; i < pods_count(deployments->pods); i++) {
		struct pod_view pod;

		pods_view(deployments->pods, i, &pod);
		if (!pod.terminating && !uid_in_list(list, pod.deployment_uid))
			pods_stop(deployments->pods, pod.namespace, pod.name, false, now_ms);
	}
	json_array_foreach (replicasets, index, replicaset) {
		const json_t *owner = json_array_get(
			object_get(replicaset, "metadata", "ownerReferences", NULL), 0);
		const char *uid = object_string(owner, "uid", NULL);
		const char *name = object_string(owner, "name", NULL);

		if (uid && uid_in_list(list, uid))
			continue;
		store_delete(deployments->store, resource, object_namespace(replicaset),
			object_name(replicaset), 0, NULL);
		/* The name may have come back with another uid: the route stays then. */
		json_t *again =
			name ? store_get(deployments->store, &resources[RESOURCE_DEPLOYMENTS],
				       object_namespace(replicaset), name)
			     : NULL;

		if (name && !again)
			gateway_remove_function(
				deployments->gateway, object_namespace(replicaset), name);
		json_decref(again);
	}
	json_decref(replicasets);
}

void deployments_reconcile(struct deployments *deployments, int64_t now_ms)
{
	json_t *list = store_list(deployments->store, &resources[RESOURCE_DEPLOYMENTS], NULL, NULL);
	const json_t *deployment;
	size_t index;

	collect_orphans(deployments, list, now_ms);
	json_array_foreach (list, index, deployment)
		reconcile_one(deployments, deployment, now_ms);
	json_decref(list);
}
