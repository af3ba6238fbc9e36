// SPDX-License-Identifier: Apache-2.0
/* Replicas: what the API says of services, one horizontal decision a period, the scale request. */
#include "common/log.h"
#include "learner/advice.h"
#include "learner/learner.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Units looked at in one round, ten a second: all of 100,000 within their age. */
#define UNITS_EXPIRE_MOST 512

/* Of a service's agents, from one decision to the next. */
#define TICKS_LEAST 1.2

#define ROOM_REST_S 1.0
#define ROOM_LOOK_S 0.25

/* From one look at what is due, or to be asked for, to the next. */
#define TURN_S 0.1

/* In observe nothing is decided, and what was decided before says nothing of now. */
static void recommendation_forget(struct service *service)
{
	service->recommended_millicores = 0;
	service->recommended_bytes = 0;
	service->recommended_replicas = 0;
	for (size_t i = 0; i < service->unit_count; i++)
		advice_forget(service->units[i]);
}

/* What holds for a service now; @changed, which @object is, names it or did. */
static void objective_settle(struct learner *learner, const char *namespace, const char *name,
	const json_t *object, const char *changed)
{
	const struct objective *now = objectives_of(&learner->objectives, namespace, name);
	struct service *service = now ? services_get(&learner->services, namespace, name)
				      : services_find(&learner->services, namespace, name);
	struct objective before;
	bool had;

	if (!service)
		return;
	before = service->objective;
	had = service->has_objective;
	service->has_objective = now != NULL;
	if (!now || strcmp(before.name, now->name) != 0)
		status_forget(service);
	if (!now || now->mode == OBJECTIVE_OBSERVE)
		recommendation_forget(service);
	if (!now) {
		contest_settle(learner, service);
		(void)services_forget(&learner->services, service);
		return;
	}
	service->objective = *now;
	contest_settle(learner, service);
	if (strcmp(now->name, changed) == 0)
		status_adopt(service, object);
	if (had)
		urgent_objective(learner, service, &before);
}

void scale_objective(struct learner *learner, enum kube_event event, const json_t *object)
{
	struct objective objective, before;
	const struct objective *holds;
	char error[384];
	bool changed;
	/* One that is gone may have been edited into what does not parse before. */
	int err = event == KUBE_EVENT_DELETED
			  ? objective_identify(object, &objective, error, sizeof(error))
			  : objective_parse(object, &objective, error, sizeof(error));

	if (err) {
		const char *name = kube_string(object, "metadata", "name", NULL);

		log_err("objective=%s error=\"%s\" effect=\"the old objective stays\"",
			name ? name : "?", error);
		return;
	}
	pthread_mutex_lock(&learner->lock);
	if (event == KUBE_EVENT_DELETED)
		changed = objectives_remove(
			&learner->objectives, objective.namespace, objective.name, &before);
	else
		changed = objectives_put(&learner->objectives, &objective, &before) == 0;
	/* It may have named another service until now. */
	if (changed && before.service[0])
		objective_settle(learner, before.namespace, before.service, object, objective.name);
	if (changed && strcmp(before.service, objective.service) != 0)
		objective_settle(
			learner, objective.namespace, objective.service, object, objective.name);
	holds = objectives_of(&learner->objectives, objective.namespace, objective.service);
	if (event != KUBE_EVENT_DELETED && holds && strcmp(holds->name, objective.name) != 0)
		log_warning("objective=%s/%s service=%s error=\"%s is for it as well\" "
			    "effect=\"the first by name holds\"",
			objective.namespace, objective.name, objective.service, holds->name);
	pthread_mutex_unlock(&learner->lock);
}

void scale_deployment(struct learner *learner, enum kube_event event, const json_t *object)
{
	const char *namespace = kube_string(object, "metadata", "namespace", NULL);
	const char *name = kube_string(object, "metadata", "name", NULL);
	const json_t *replicas = json_object_get(kube_get(object, "spec", NULL), "replicas");
	const json_t *ready = json_object_get(kube_get(object, "status", NULL), "readyReplicas");
	const char *uid = kube_string(object, "metadata", "uid", NULL);
	struct service *service;

	if (!namespace || !name)
		return;
	pthread_mutex_lock(&learner->lock);
	service = event == KUBE_EVENT_DELETED ? services_find(&learner->services, namespace, name)
					      : services_get(&learner->services, namespace, name);
	if (service && event == KUBE_EVENT_DELETED) {
		service->has_deployment = false;
		(void)services_forget(&learner->services, service);
	} else if (service) {
		service->has_deployment = true;
		snprintf(service->deployment_uid, sizeof(service->deployment_uid), "%s",
			uid ? uid : "");
		service->replicas =
			json_is_integer(replicas) ? (uint32_t)json_integer_value(replicas) : 1;
		service->ready = (uint32_t)json_integer_value(ready);
	}
	pthread_mutex_unlock(&learner->lock);
}

static void on_objective(enum kube_event event, const json_t *object, void *context)
{
	if (object)
		scale_objective(context, event, object);
}

static void on_deployment(enum kube_event event, const json_t *object, void *context)
{
	if (object)
		scale_deployment(context, event, object);
}

static void watch(struct learner *learner, const char *path, kube_event_handler handler)
{
	struct kube_client *client = learner_client(learner, path);

	if (!client)
		return;
	(void)kube_reflect(client, path, handler, learner, &learner->stop);
	kube_client_free(client);
}

void *scale_objectives_thread(void *learner)
{
	watch(learner, KUBE_OBJECTIVES_PATH, on_objective);
	return NULL;
}

void *scale_deployments_thread(void *learner)
{
	watch(learner, "/apis/apps/v1/deployments", on_deployment);
	return NULL;
}

static double declared_millicores(const struct service *service)
{
	return service->objective.cpu_max_millicores > 0 ? service->objective.cpu_max_millicores
							 : sample_cpu_millicores(&service->period);
}

static float period_learn(
	struct learner *learner, struct service *service, const struct envelope_service *bounds)
{
	float previous[STATE_SIZE];
	bool had = service->has_state;
	float reward;

	memcpy(previous, service->state, sizeof(previous));
	reward = service_build_state(service,
		policy_learns_replicas(service) && !policy_leaves(service, AUTOSCALER_HORIZONTAL));
	service->has_state = true;
	if (!service->stream.steps &&
		nstep_create(&service->stream, brain_train_config(learner->horizontal)->n_step,
			STATE_SIZE, brain_train_config(learner->horizontal)->gamma))
		return reward;
	if (had && service->acted) {
		const struct experience logged = {.namespace = service->namespace,
			.service = service->name,
			.state = previous,
			.next_state = service->state,
			.reward = reward,
			.action = service->action,
			.end = REPLAY_CONTINUES,
			.next_mask = envelope_horizontal_mask(bounds, NULL)};
		struct brain_experience experience = {.stream = &service->stream,
			.state = logged.state,
			.next_state = logged.next_state,
			.reward = logged.reward,
			.action = logged.action,
			.end = logged.end,
			.next_mask = logged.next_mask};

		service->counts.scale_experiences +=
			brain_store(learner->horizontal, &experience, 1);
		experience_log_queue(learner->log, &logged);
	}
	service->acted = false;
	return reward;
}

static void service_decide(struct learner *learner, struct service *service, double now_s)
{
	struct policy_context context = {.config = &learner->config.policy,
		.vertical = learner->vertical,
		.horizontal = learner->horizontal,
		.random = &learner->random,
		.now_s = now_s};
	struct envelope_service bounds = {.objective = &service->objective,
		.sample = &service->period,
		.replicas = service->replicas,
		.replicas_needed = room_replicas(service),
		.since_scale_in_s = now_s - service->scale_in_s,
		.cooldown_s = learner->config.policy.cooldown_s};
	struct horizontal_decision decision;
	struct decision_record record;
	bool apply = service->objective.mode == OBJECTIVE_AUTO;
	float reward;

	service_end_period(service);
	reward = period_learn(learner, service, &bounds);
	policy_decide_horizontal(
		&context, service, &bounds, declared_millicores(service), &decision);
	decision_record_horizontal(&record, learner_unix_s(), service, &decision, reward, apply);
	decisions_keep(learner, service, NULL, &record);
	service->recommended_replicas = decision.replicas;
	if (decision.action < ACTION_HORIZONTAL) {
		service->action = apply ? decision.action : ACTION_HORIZONTAL_HOLD;
		service->acted = true;
		state_note_action(&service->history, (int)service->action - 1, 0);
	}
	if (apply && decision.replicas != service->replicas) {
		service->wanted = decision.replicas;
		snprintf(service->wanted_why, sizeof(service->wanted_why), "%s", decision.why);
		snprintf(service->last_action, sizeof(service->last_action), "%s", decision.why);
		snprintf(service->last_rule, sizeof(service->last_rule), "%s",
			envelope_rule_name(decision.rule));
		service->last_action_unix_s = learner_unix_s();
		if (decision.replicas < service->replicas)
			service->scale_in_s = now_s;
	}
}

/*
 * A load that grows faster than decisions come: those that lack room are looked for a few times in a
 * second, from a second after the last decision on, and not while the replicas of the last decision are on their way.
 */
static bool is_urgent(struct service *service, double now_s)
{
	if (now_s - service->decided_s < ROOM_REST_S ||
		now_s - service->room_looked_s < ROOM_LOOK_S)
		return false;
	service->room_looked_s = now_s;
	return service->objective.mode == OBJECTIVE_AUTO && service->ready >= service->replicas &&
	       policy_lacks_replicas(service);
}

static bool is_due(const struct learner *learner, struct service *service, double now_s)
{
	/* Units look at different times: in so long each has, at least once. */
	double period_s =
		fmax(learner->config.scale_period_s, TICKS_LEAST * service->period_tick_s);

	return now_s - service->decided_s >= period_s || is_urgent(service, now_s);
}

/* What its owner scaled to none stays so until he gives it replicas again, as with Kubernetes' HPA. */
static bool has_replicas(const struct service *service)
{
	return service->has_objective && service->has_deployment && service->replicas > 0;
}

void scale_decide(struct learner *learner, double now_s)
{
	services_expire_units(&learner->services, now_s, SERVICE_UNIT_AGE_S, UNITS_EXPIRE_MOST);
	for (size_t i = 0; i < learner->services.count; i++) {
		struct service *service = learner->services.items[i];

		if (!is_due(learner, service, now_s))
			continue;
		if (service->decided_s > 0 && has_replicas(service) &&
			service->objective.mode != OBJECTIVE_OBSERVE && service->unit_count > 0 &&
			service->period.tick_s > 0)
			service_decide(learner, service, now_s);
		service_begin_period(service, now_s);
	}
}

static int scale_request(
	struct kube_client *client, const struct service *service, uint32_t replicas)
{
	json_t *body = json_pack("{s:{s:i}}", "spec", "replicas", (int)replicas);
	char path[768];
	int err;

	if (!body)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/apis/apps/v1/namespaces/%s/deployments/%s/scale",
		service->namespace, service->name);
	err = kube_request(client, "PATCH", path, KUBE_MERGE_PATCH, body, NULL, NULL);
	json_decref(body);
	return err;
}

/* The replicas to be asked for, when that is still to be done; with the lock held. */
static uint32_t wanted_take(struct service *service)
{
	uint32_t wanted = service->wanted;
	/* The objective may be another by now, and so the Deployment. */
	bool stands = has_replicas(service) && service->objective.mode == OBJECTIVE_AUTO &&
		      !service->objective.frozen;

	service->wanted = 0;
	return stands ? wanted : 0;
}

/* Requests are made without the lock; the deployments watch brings what came of them. */
static void scale_send(struct learner *learner, struct kube_client *client)
{
	for (size_t i = 0;; i++) {
		struct service copy;
		char error[512];
		uint32_t wanted;
		int err;

		/* A slow server may outlast the lease. */
		if (!atomic_load(&learner->leader))
			return;
		pthread_mutex_lock(&learner->lock);
		if (i >= learner->services.count) {
			pthread_mutex_unlock(&learner->lock);
			return;
		}
		wanted = wanted_take(learner->services.items[i]);
		if (wanted)
			copy = *learner->services.items[i];
		pthread_mutex_unlock(&learner->lock);
		if (!wanted)
			continue;
		err = scale_request(client, &copy, wanted);
		pthread_mutex_lock(&learner->lock);
		learner->counts.scale_requests++;
		learner->counts.scale_failures += err != 0;
		pthread_mutex_unlock(&learner->lock);
		/* The event's own request has an error of its own. */
		snprintf(error, sizeof(error), "%s", err ? kube_last_error(client) : "");
		status_event(client, &copy, err != 0, err ? error : copy.wanted_why);
		if (err)
			log_warning("service=%s/%s replicas=%u->%u error=\"%s\"", copy.namespace,
				copy.name, copy.replicas, wanted, error);
		else
			log_info("service=%s/%s replicas=%u->%u why=\"%s\"", copy.namespace,
				copy.name, copy.replicas, wanted, copy.wanted_why);
	}
}

void *scale_thread(void *context)
{
	struct learner *learner = context;

	while (!atomic_load(&learner->stop)) {
		double now_s = learner_now_s();

		if (atomic_load(&learner->leader)) {
			pthread_mutex_lock(&learner->lock);
			scale_decide(learner, now_s);
			pthread_mutex_unlock(&learner->lock);
			experience_log_flush(learner);
		}
		push_expire(&learner->push, now_s);
		learner_rest_until(learner, learner_now_s() + TURN_S);
	}
	return NULL;
}

void *scale_requests_thread(void *learner)
{
	learner_repeat(learner, "scale", TURN_S, scale_send);
	return NULL;
}
