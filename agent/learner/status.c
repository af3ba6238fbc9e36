// SPDX-License-Identifier: Apache-2.0
/* What an objective's status says of its service, and an event for each action on replicas. */
#include "common/log.h"
#include "common/quantity.h"
#include "learner/learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void time_text(double unix_s, char *out, size_t size)
{
	time_t seconds = (time_t)unix_s;
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static json_t *condition(const char *type, bool truth, const char *reason, const char *message)
{
	char now[64];

	time_text(learner_unix_s(), now, sizeof(now));
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", type, "status",
		truth ? "True" : "False", "reason", reason, "message", message,
		"lastTransitionTime", now);
}

/* What became of the networks, for a service whose policy has them; NULL for another's. */
static json_t *policy_condition(const struct learner *learner, const struct service *service)
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
	return condition("PolicySound", worst == BRAIN_SOUND, reasons[worst], messages[worst]);
}

json_t *status_describe(const struct learner *learner, const struct service *service)
{
	const struct sample *sample = &service->tick;
	bool measured = service->unit_count > 0;
	bool met = measured && !sample_violates(sample, &service->objective);
	char cpu[32], memory[32], when[64];
	json_t *status, *last, *policy = policy_condition(learner, service);

	quantity_format_millicores(cpu, sizeof(cpu), round(service->recommended_millicores));
	quantity_format_bytes(memory, sizeof(memory), service->recommended_bytes);
	status = json_pack("{s:I, s:f, s:{s:s, s:s, s:i}, s:[o, o]}", "currentLatencyUs",
		(json_int_t)sample->latency_objective_us, "violationShare",
		measured ? (double)service->state[STATE_violations] *
				   (double)service->state[STATE_violations]
			 : 0.0,
		"recommendation", "cpu", cpu, "memory", memory, "replicas",
		(int)service->recommended_replicas, "conditions",
		condition("Measured", measured, measured ? "AgentsReport" : "NoAgentReports",
			measured ? "agents report this service" : "no agent reports this service"),
		condition("ObjectiveMet", met, met ? "WithinTarget" : "OverTarget",
			met ? "the latency percentile is within its target"
			    : "the latency percentile is over its target, or nothing is measured"));
	if (policy)
		json_array_append_new(json_object_get(status, "conditions"), policy);
	if (!status || !service->last_action[0])
		return status;
	time_text(service->last_action_unix_s, when, sizeof(when));
	last = json_pack("{s:s, s:s, s:s}", "time", when, "why", service->last_action, "rule",
		service->last_rule);
	json_object_set_new(status, "lastAction", last);
	return status;
}

void status_publish(struct learner *learner, struct kube_client *client)
{
	for (size_t i = 0;; i++) {
		json_t *body = NULL;
		char path[768] = "";
		struct service *service;

		if (!atomic_load(&learner->leader))
			return;
		pthread_mutex_lock(&learner->lock);
		if (i >= learner->services.count) {
			pthread_mutex_unlock(&learner->lock);
			return;
		}
		service = learner->services.items[i];
		if (service->has_objective && service->status_due) {
			service_merge_units(service, &service->tick);
			service->status_due = false;
			body = json_pack("{s:o}", "status", status_describe(learner, service));
			snprintf(path, sizeof(path),
				"/apis/ebbtide.io/v1alpha1/namespaces/%s/scaleobjectives/%s/status",
				service->objective.namespace, service->objective.name);
		}
		pthread_mutex_unlock(&learner->lock);
		if (!body)
			continue;
		if (kube_request(client, "PATCH", path, KUBE_MERGE_PATCH, body, NULL, NULL))
			log_debug("path=%s error=\"%s\"", path, kube_last_error(client));
		json_decref(body);
	}
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
	if (kube_request(client, "POST", path, KUBE_JSON, event, NULL, NULL))
		log_debug("path=%s error=\"%s\"", path, kube_last_error(client));
	json_decref(event);
}
