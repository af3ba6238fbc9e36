// SPDX-License-Identifier: Apache-2.0
/* What an objective's status says of its service, and an event for each action on replicas. */
#include "common/log.h"
#include "common/quantity.h"
#include "learner/learner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void time_text(double unix_s, char *out, size_t size)
{
	time_t seconds = (time_t)unix_s;
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static const char *const condition_names[CONDITION_COUNT] = {
	[CONDITION_MEASURED] = "Measured",
	[CONDITION_OBJECTIVE_MET] = "ObjectiveMet",
	[CONDITION_POLICY_SOUND] = "PolicySound",
	[CONDITION_UNCONTESTED] = "Uncontested",
};

static const char *const truths[] = {
	[TRUTH_FALSE] = "False",
	[TRUTH_TRUE] = "True",
	[TRUTH_UNKNOWN] = "Unknown",
};

/* Its time is that of its last change, not of the last look at it. */
static json_t *condition(struct service *service, enum condition which, enum truth truth,
	const char *reason, const char *message)
{
	struct condition_since *since = &service->conditions[which];
	json_t *made;
	char when[64];

	if (!since->known || since->truth != truth)
		*since = (struct condition_since){
			.known = true, .truth = truth, .unix_s = learner_unix_s()};
	time_text(since->unix_s, when, sizeof(when));
	made = json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", condition_names[which], "status",
		truths[truth], "reason", reason, "message", message, "lastTransitionTime", when);
	if (made && service->objective.generation > 0)
		json_object_set_new(made, "observedGeneration",
			json_integer((json_int_t)service->objective.generation));
	return made;
}

static void adopt_one(struct service *service, const json_t *kept)
{
	const char *type = kube_string(kept, "type", NULL);
	const char *status = kube_string(kept, "status", NULL);
	const char *when = kube_string(kept, "lastTransitionTime", NULL);
	enum truth truth = TRUTH_FALSE;
	struct tm utc = {0};

	if (!type || !status || !when || !strptime(when, "%Y-%m-%dT%H:%M:%SZ", &utc))
		return;
	while (truth < TRUTH_UNKNOWN && strcmp(status, truths[truth]) != 0)
		truth++;
	for (int i = 0; i < CONDITION_COUNT; i++)
		if (strcmp(type, condition_names[i]) == 0 && !service->conditions[i].known)
			service->conditions[i] = (struct condition_since){
				.known = true, .truth = truth, .unix_s = (double)timegm(&utc)};
}

void status_adopt(struct service *service, const json_t *object)
{
	const json_t *kept;
	size_t i;

	json_array_foreach (kube_get(object, "status", "conditions", NULL), i, kept)
		adopt_one(service, kept);
}

/* What became of the networks, for a service whose policy has them; NULL for another's. */
static json_t *policy_condition(const struct learner *learner, struct service *service)
{
	static const char *const messages[] = {
		[BRAIN_SOUND] = "the networks decide",
		[BRAIN_FELL_BACK] = "a network diverged: the last good weights decide",
		[BRAIN_UNUSABLE] = "a network diverged: k8s-cpu and hpa decide in its place",
	};
	static const char *const reasons[] = {
		[BRAIN_SOUND] = "Sound",
		[BRAIN_FELL_BACK] = "DivergedFellBack",
		[BRAIN_UNUSABLE] = "DivergedRulesDecide",
	};
	enum brain_health vertical = brain_health(learner->vertical);
	enum brain_health horizontal = brain_health(learner->horizontal);
	enum brain_health worst = vertical > horizontal ? vertical : horizontal;

	if (!policy_learns(service->objective.policy))
		return NULL;
	return condition(service, CONDITION_POLICY_SOUND,
		worst == BRAIN_SOUND ? TRUTH_TRUE : TRUTH_FALSE, reasons[worst], messages[worst]);
}

/* In every mode: who turns to auto is to know before. */
static json_t *contest_condition(struct service *service)
{
	const struct autoscaler_info *info;
	char message[2 * OBJECTIVE_NAME_MAX + 192];
	size_t used = 0;

	for (int kind = 0; kind < AUTOSCALER_KINDS; kind++) {
		info = &autoscaler_infos[kind];
		if (policy_contested(service, kind))
			used += (size_t)snprintf(message + used, sizeof(message) - used,
				"%s%s %s sets the %s, which mode auto leaves to it",
				used ? "; " : "", info->kind, service->others[kind], info->sets);
	}
	if (used)
		return condition(
			service, CONDITION_UNCONTESTED, TRUTH_FALSE, "OtherAutoscaler", message);
	return condition(service, CONDITION_UNCONTESTED, TRUTH_TRUE, "NoOtherAutoscaler",
		"no other autoscaler sets what the policy decides");
}

static json_t *objective_condition(struct service *service, bool measured)
{
	if (!measured)
		return condition(service, CONDITION_OBJECTIVE_MET, TRUTH_UNKNOWN, "NotMeasured",
			"no agent reports this service");
	if (sample_violates(&service->tick, &service->objective))
		return condition(service, CONDITION_OBJECTIVE_MET, TRUTH_FALSE, "OverTarget",
			"the latency percentile is over its target");
	return condition(service, CONDITION_OBJECTIVE_MET, TRUTH_TRUE, "WithinTarget",
		"the latency percentile is within its target");
}

/* Only what has been decided: a 0 would read like advice. A null takes an older value away. */
static json_t *recommendation(const struct service *service)
{
	json_t *cpu = json_null(), *memory = json_null(), *replicas = json_null();
	char text[32];

	if (service->recommended_millicores > 0) {
		quantity_format_millicores(
			text, sizeof(text), round(service->recommended_millicores));
		cpu = json_string(text);
	}
	if (service->recommended_bytes) {
		quantity_format_bytes(text, sizeof(text), service->recommended_bytes);
		memory = json_string(text);
	}
	if (service->recommended_replicas)
		replicas = json_integer(service->recommended_replicas);
	return json_pack("{s:o, s:o, s:o}", "cpu", cpu, "memory", memory, "replicas", replicas);
}

/*
 * By the agents, which look at every tick in every mode; what the service's own state has is of
 * scale periods, and only of those that were decided on.
 */
static double violation_share(const struct service *service)
{
	double sum = 0;

	for (size_t i = 0; i < service->unit_count; i++) {
		double root = (double)service->units[i]->state[STATE_violations];

		sum += root * root;
	}
	return sum / (double)service->unit_count;
}

json_t *status_describe(const struct learner *learner, struct service *service)
{
	const struct sample *sample = &service->tick;
	bool measured = service->unit_count > 0;
	json_t *status, *last, *policy = policy_condition(learner, service);
	char when[64];

	status = json_pack("{s:o, s:o, s:o, s:[o, o, o]}", "currentLatencyUs",
		measured ? json_integer((json_int_t)sample->latency_objective_us) : json_null(),
		"violationShare", measured ? json_real(violation_share(service)) : json_null(),
		"recommendation", recommendation(service), "conditions",
		condition(service, CONDITION_MEASURED, measured ? TRUTH_TRUE : TRUTH_FALSE,
			measured ? "AgentsReport" : "NoAgentReports",
			measured ? "agents report this service" : "no agent reports this service"),
		objective_condition(service, measured), contest_condition(service));
	if (policy)
		json_array_append_new(json_object_get(status, "conditions"), policy);
	if (status && service->objective.generation > 0)
		json_object_set_new(status, "observedGeneration",
			json_integer((json_int_t)service->objective.generation));
	if (!status || !service->last_action[0])
		return status;
	time_text(service->last_action_unix_s, when, sizeof(when));
	last = json_pack("{s:s, s:s, s:s}", "time", when, "why", service->last_action, "rule",
		service->last_rule);
	json_object_set_new(status, "lastAction", last);
	return status;
}

void status_forget(struct service *service)
{
	memset(service->conditions, 0, sizeof(service->conditions));
	service->status_hash = 0;
}

/* The status, when it is not what was told last; the lock is held. */
static json_t *status_news(struct learner *learner, struct service *service, uint64_t *hash)
{
	json_t *status;
	char *text;

	service_merge_units(service, &service->tick);
	status = status_describe(learner, service);
	text = json_dumps(status, JSON_COMPACT | JSON_SORT_KEYS);
	*hash = text ? index_hash(INDEX_HASH_START, text, strlen(text)) : 0;
	free(text);
	if (*hash == service->status_hash) {
		json_decref(status);
		return NULL;
	}
	service->status_hash = *hash;
	return status;
}

static void status_send(struct learner *learner, struct kube_client *client,
	const struct objective *objective, json_t *status, uint64_t hash)
{
	json_t *body = json_pack("{s:o}", "status", status);
	struct service *service;
	char path[768];

	snprintf(path, sizeof(path),
		"/apis/ebbtide.io/v1alpha1/namespaces/%s/scaleobjectives/%s/status",
		objective->namespace, objective->name);
	if (body && !kube_request(client, "PATCH", path, KUBE_MERGE_PATCH, body, NULL, NULL)) {
		json_decref(body);
		return;
	}
	log_debug("path=%s error=\"%s\"", path, kube_last_error(client));
	json_decref(body);
	/* Again the next time, unless it was made anew meanwhile. */
	pthread_mutex_lock(&learner->lock);
	service = services_find(&learner->services, objective->namespace, objective->service);
	if (service && service->status_hash == hash)
		service->status_hash = 0;
	pthread_mutex_unlock(&learner->lock);
}

/*
 * Each status is a write into etcd and an event to every agent's watch. With a few objectives they come
 * this often, with many as fast as one write after the other allows.
 */
#define PUBLISH_PERIOD_S 5
#define PUBLISH_REST_S	 0.1

static void status_publish(struct learner *learner, struct kube_client *client)
{
	/* A slow server may outlast the lease. */
	for (size_t i = 0; atomic_load(&learner->leader) && !atomic_load(&learner->stop); i++) {
		struct objective objective;
		json_t *status = NULL;
		uint64_t hash = 0;

		pthread_mutex_lock(&learner->lock);
		if (i >= learner->services.count) {
			pthread_mutex_unlock(&learner->lock);
			return;
		}
		if (learner->services.items[i]->has_objective) {
			objective = learner->services.items[i]->objective;
			status = status_news(learner, learner->services.items[i], &hash);
		}
		pthread_mutex_unlock(&learner->lock);
		if (!status)
			continue;
		status_send(learner, client, &objective, status, hash);
		learner_rest_until(learner, learner_now_s() + PUBLISH_REST_S);
	}
}

void *status_thread(void *learner)
{
	learner_repeat(learner, "status", PUBLISH_PERIOD_S, status_publish);
	return NULL;
}

void status_event(
	struct kube_client *client, const struct service *service, bool failed, const char *message)
{
	char now[64], path[256];
	json_t *event;

	time_text(learner_unix_s(), now, sizeof(now));
	snprintf(path, sizeof(path), "/api/v1/namespaces/%s/events", service->namespace);
	event = json_pack(
		"{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:s, s:s, "
		"s:i, s:{s:s}}",
		"apiVersion", "v1", "kind", "Event", "metadata", "generateName", "ebbtide-",
		"namespace", service->namespace, "involvedObject", "apiVersion", "apps/v1", "kind",
		"Deployment", "namespace", service->namespace, "name", service->name, "reason",
		failed ? "ScaleFailed" : "Scaled", "message", message, "type",
		failed ? "Warning" : "Normal", "firstTimestamp", now, "lastTimestamp", now, "count",
		1, "source", "component", "ebbtide-learner");
	/* `kubectl describe` shows the events of one uid. */
	if (event && service->deployment_uid[0])
		json_object_set_new(json_object_get(event, "involvedObject"), "uid",
			json_string(service->deployment_uid));
	if (kube_request(client, "POST", path, KUBE_JSON, event, NULL, NULL))
		log_debug("path=%s error=\"%s\"", path, kube_last_error(client));
	json_decref(event);
}
