// SPDX-License-Identifier: Apache-2.0
/*
 * Other autoscalers: two that set the same fight, and what was there first is what the owner asked
 * for. So what one of the others sets is left to it for as long as it is there.
 */
#include "common/log.h"
#include "learner/learner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The API may have no such kind (a CRD that nobody installed): it is asked for again this often. */
#define ABSENT_REST_S 60
#define RETRY_REST_S  5

void contest_settle(struct learner *learner, struct service *service)
{
	for (int kind = 0; kind < AUTOSCALER_KINDS; kind++) {
		const struct autoscaler_info *info = &autoscaler_infos[kind];
		const char *name = autoscalers_of(
			&learner->autoscalers, kind, service->namespace, service->name);
		bool leaves;

		snprintf(service->others[kind], sizeof(service->others[kind]), "%s",
			name ? name : "");
		leaves = policy_leaves(service, kind);
		if (leaves && !service->left[kind])
			log_warning("service=%s/%s autoscaler=%s/%s effect=\"the %s are left to "
				    "it\" do=\"delete it, or choose a policy that leaves the %s\"",
				service->namespace, service->name, info->kind, name, info->sets,
				info->sets);
		else if (!leaves && service->left[kind])
			log_notice("service=%s/%s event=\"the %s are not left to another "
				   "autoscaler any more\"",
				service->namespace, service->name, info->sets);
		service->left[kind] = leaves;
		/* Not asked for yet. */
		if (kind == AUTOSCALER_HORIZONTAL && leaves)
			service->wanted = 0;
	}
}

static void settle_named(struct learner *learner, const char *namespace, const char *deployment)
{
	struct service *service = services_find(&learner->services, namespace, deployment);

	if (service)
		contest_settle(learner, service);
}

void contest_see(struct learner *learner, enum autoscaler_kind kind, enum kube_event event,
	const json_t *object)
{
	const char *namespace = kube_string(object, "metadata", "namespace", NULL);
	const char *name = kube_string(object, "metadata", "name", NULL);
	const char *target = event == KUBE_EVENT_DELETED ? NULL : autoscaler_target(kind, object);
	const char *known;
	char before[OBJECTIVE_NAME_MAX];

	if (!namespace || !name)
		return;
	pthread_mutex_lock(&learner->lock);
	known = autoscalers_target(&learner->autoscalers, kind, namespace, name);
	snprintf(before, sizeof(before), "%s", known ? known : "");
	/* Most events are of its status. */
	if (strcmp(before, target ? target : "") == 0) {
		pthread_mutex_unlock(&learner->lock);
		return;
	}
	if (!target)
		autoscalers_remove(&learner->autoscalers, kind, namespace, name);
	else if (autoscalers_put(&learner->autoscalers, kind, namespace, name, target))
		log_err("autoscaler=%s/%s/%s error=\"out of memory\" effect=\"it is not seen\"",
			autoscaler_infos[kind].kind, namespace, name);
	if (before[0])
		settle_named(learner, namespace, before);
	if (target)
		settle_named(learner, namespace, target);
	pthread_mutex_unlock(&learner->lock);
}

struct watch {
	struct learner *learner;
	enum autoscaler_kind kind;
	struct kube_client *client;
};

static void say_unseen(const struct watch *watch)
{
	log_warning("watch=%s error=\"%s\" effect=\"one that appears now is not seen\"",
		autoscaler_infos[watch->kind].path, kube_last_error(watch->client));
}

static void on_event(enum kube_event event, const json_t *object, void *context)
{
	const struct watch *watch = context;

	if (object)
		contest_see(watch->learner, watch->kind, event, object);
	else if (event == KUBE_EVENT_LOST)
		say_unseen(watch);
}

/* Until the API has such a kind, which may be never: of that nothing is said. */
static bool wait_for_kind(const struct watch *watch)
{
	struct learner *learner = watch->learner;
	char path[128];
	bool said = false;

	snprintf(path, sizeof(path), "%s?limit=1", autoscaler_infos[watch->kind].path);
	while (!atomic_load(&learner->stop)) {
		int err = kube_request(watch->client, "GET", path, NULL, NULL, NULL, NULL);

		if (!err)
			return true;
		if (err != -ENOENT && !said)
			say_unseen(watch);
		said = err != -ENOENT;
		learner_rest_until(
			learner, learner_now_s() + (said ? RETRY_REST_S : ABSENT_REST_S));
	}
	return false;
}

static void follow(struct learner *learner, enum autoscaler_kind kind)
{
	struct watch watch = {.learner = learner,
		.kind = kind,
		.client = learner_client(learner, autoscaler_infos[kind].path)};

	if (!watch.client)
		return;
	if (wait_for_kind(&watch))
		(void)kube_reflect(watch.client, autoscaler_infos[kind].path, on_event, &watch,
			&learner->stop);
	kube_client_free(watch.client);
}

void *contest_horizontal_thread(void *learner)
{
	follow(learner, AUTOSCALER_HORIZONTAL);
	return NULL;
}

void *contest_vertical_thread(void *learner)
{
	follow(learner, AUTOSCALER_VERTICAL);
	return NULL;
}
