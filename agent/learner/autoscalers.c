// SPDX-License-Identifier: Apache-2.0
#include "learner/autoscalers.h"

#include "common/kube.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct autoscaler_info autoscaler_infos[AUTOSCALER_KINDS] = {
	[AUTOSCALER_HORIZONTAL] = {"HorizontalPodAutoscaler",
		"/apis/autoscaling/v2/horizontalpodautoscalers", "replicas"},
	[AUTOSCALER_VERTICAL] = {"VerticalPodAutoscaler",
		"/apis/autoscaling.k8s.io/v1/verticalpodautoscalers", "limits"},
};

struct autoscaler {
	enum autoscaler_kind kind;
	char *namespace;
	char *name;
	char *target;
	size_t position; /* in the list */
	uint64_t name_hash;
	uint64_t target_hash;
};

const char *autoscaler_target(enum autoscaler_kind kind, const json_t *object)
{
	const char *key = kind == AUTOSCALER_HORIZONTAL ? "scaleTargetRef" : "targetRef";
	const json_t *reference = kube_get(object, "spec", key, NULL);
	const char *group = kube_string(reference, "apiVersion", NULL);
	const char *target_kind = kube_string(reference, "kind", NULL);
	const char *mode = kube_string(object, "spec", "updatePolicy", "updateMode", NULL);

	if (!target_kind || strcmp(target_kind, "Deployment") != 0 ||
		(group && strncmp(group, "apps/", strlen("apps/")) != 0))
		return NULL;
	/* Without a word it acts. */
	if (kind == AUTOSCALER_VERTICAL && mode && strcmp(mode, "Off") == 0)
		return NULL;
	return kube_string(reference, "name", NULL);
}

static uint64_t hash_of(enum autoscaler_kind kind, const char *namespace, const char *name)
{
	uint64_t hash = index_hash(INDEX_HASH_START, &kind, sizeof(kind));

	/* With the byte that ends it, so that the two do not run into each other. */
	hash = index_hash(hash, namespace, strlen(namespace) + 1);
	return index_hash(hash, name, strlen(name));
}

static struct autoscaler *find(const struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name)
{
	uint64_t hash = hash_of(kind, namespace, name);
	struct autoscaler *one;

	for (size_t at = 0; (one = index_find(&autoscalers->by_name, hash, &at));)
		if (one->kind == kind && strcmp(one->name, name) == 0 &&
			strcmp(one->namespace, namespace) == 0)
			return one;
	return NULL;
}

static void autoscaler_free(struct autoscaler *one)
{
	free(one->namespace);
	free(one->name);
	free(one->target);
	free(one);
}

static void forget(struct autoscalers *autoscalers, struct autoscaler *one)
{
	struct autoscaler *last = autoscalers->items[--autoscalers->count];

	autoscalers->items[one->position] = last;
	last->position = one->position;
	index_remove(&autoscalers->by_name, one->name_hash, one);
	index_remove(&autoscalers->by_target, one->target_hash, one);
	autoscaler_free(one);
}

static struct autoscaler *autoscaler_new(
	enum autoscaler_kind kind, const char *namespace, const char *name, const char *target)
{
	struct autoscaler *one = calloc(1, sizeof(*one));

	if (!one)
		return NULL;
	one->kind = kind;
	one->namespace = strdup(namespace);
	one->name = strdup(name);
	one->target = strdup(target);
	one->name_hash = hash_of(kind, namespace, name);
	one->target_hash = hash_of(kind, namespace, target);
	if (one->namespace && one->name && one->target)
		return one;
	autoscaler_free(one);
	return NULL;
}

int autoscalers_put(struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name, const char *target)
{
	struct autoscaler **items, *one;

	autoscalers_remove(autoscalers, kind, namespace, name);
	items = realloc(autoscalers->items, (autoscalers->count + 1) * sizeof(struct autoscaler *));
	if (!items)
		return -ENOMEM;
	autoscalers->items = items;
	one = autoscaler_new(kind, namespace, name, target);
	if (!one)
		return -ENOMEM;
	one->position = autoscalers->count;
	items[autoscalers->count++] = one;
	if (index_add(&autoscalers->by_name, one->name_hash, one) ||
		index_add(&autoscalers->by_target, one->target_hash, one)) {
		forget(autoscalers, one);
		return -ENOMEM;
	}
	return 0;
}

const char *autoscalers_target(const struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name)
{
	const struct autoscaler *one = find(autoscalers, kind, namespace, name);

	return one ? one->target : NULL;
}

void autoscalers_remove(struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name)
{
	struct autoscaler *one = find(autoscalers, kind, namespace, name);

	if (one)
		forget(autoscalers, one);
}

const char *autoscalers_of(const struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *deployment)
{
	uint64_t hash = hash_of(kind, namespace, deployment);
	const char *first = NULL;
	struct autoscaler *one;

	for (size_t at = 0; (one = index_find(&autoscalers->by_target, hash, &at));)
		if (one->kind == kind && strcmp(one->target, deployment) == 0 &&
			strcmp(one->namespace, namespace) == 0 &&
			(!first || strcmp(one->name, first) < 0))
			first = one->name;
	return first;
}

void autoscalers_free(struct autoscalers *autoscalers)
{
	for (size_t i = 0; i < autoscalers->count; i++)
		autoscaler_free(autoscalers->items[i]);
	index_free(&autoscalers->by_name);
	index_free(&autoscalers->by_target);
	free(autoscalers->items);
	memset(autoscalers, 0, sizeof(*autoscalers));
}
