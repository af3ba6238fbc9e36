// SPDX-License-Identifier: Apache-2.0
#include "node/tree/publish.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct publisher {
	struct agent *agent;
	struct kube_client *client;
};

int publish_open(struct agent *agent, struct publisher **out)
{
	struct publisher *publisher = calloc(1, sizeof(*publisher));

	if (!publisher)
		return -ENOMEM;
	publisher->agent = agent;
	publisher->client = kube_client_new(&agent->kube, "ebbtide-agent/" EBBTIDE_VERSION);
	if (!publisher->client) {
		free(publisher);
		return -ENOMEM;
	}
	*out = publisher;
	return 0;
}

void publish_close(struct publisher *publisher)
{
	if (!publisher)
		return;
	kube_client_free(publisher->client);
	free(publisher);
}

void publish_start(const struct unit *unit, struct objective *objective)
{
	if (unit->has_objective) {
		*objective = unit->objective;
		return;
	}
	objective_init(objective);
	objective->mode = OBJECTIVE_OBSERVE;
	snprintf(objective->namespace, sizeof(objective->namespace), "%s", unit->namespace);
	snprintf(objective->name, sizeof(objective->name), "%s", unit->service);
	snprintf(objective->service, sizeof(objective->service), "%s", unit->service);
}

int publish_objective(struct publisher *publisher, const struct objective *objective)
{
	json_t *patch = objective_to_json(objective, true);
	json_t *whole = objective_to_json(objective, false);
	json_t *answer = NULL;
	char path[768];
	int err = -ENOMEM;

	if (!patch || !whole)
		goto out;
	snprintf(path, sizeof(path), "/apis/ebbtide.io/v1alpha1/namespaces/%s/scaleobjectives/%s",
		objective->namespace, objective->name);
	err = kube_request(
		publisher->client, "PATCH", path, KUBE_MERGE_PATCH, patch, NULL, &answer);
	if (err == -ENOENT) {
		snprintf(path, sizeof(path),
			"/apis/ebbtide.io/v1alpha1/namespaces/%s/scaleobjectives",
			objective->namespace);
		json_decref(answer);
		answer = NULL;
		err = kube_request(
			publisher->client, "POST", path, KUBE_JSON, whole, NULL, &answer);
	}
	if (err)
		log_warning("objective=%s/%s error=\"%s\" effect=\"the old value stays\"",
			objective->namespace, objective->name, kube_last_error(publisher->client));
	else
		discover_objective(publisher->agent, KUBE_EVENT_MODIFIED, answer);
out:
	json_decref(answer);
	json_decref(patch);
	json_decref(whole);
	return err;
}
