// SPDX-License-Identifier: Apache-2.0
#include "common/objectives.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void objectives_free(struct objectives *objectives)
{
	free(objectives->items);
	memset(objectives, 0, sizeof(*objectives));
}

static struct objective *find(
	const struct objectives *objectives, const char *namespace, const char *name)
{
	for (size_t i = 0; i < objectives->count; i++)
		if (strcmp(objectives->items[i].name, name) == 0 &&
			strcmp(objectives->items[i].namespace, namespace) == 0)
			return &objectives->items[i];
	return NULL;
}

int objectives_put(
	struct objectives *objectives, const struct objective *objective, struct objective *before)
{
	struct objective *known = find(objectives, objective->namespace, objective->name), *all;

	before->service[0] = '\0';
	if (known) {
		*before = *known;
		/* A watch may trail a write through the tree. */
		if (objective->generation < known->generation)
			return -ESTALE;
		*known = *objective;
		return 0;
	}
	all = realloc(objectives->items, (objectives->count + 1) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	objectives->items = all;
	all[objectives->count++] = *objective;
	return 0;
}

bool objectives_remove(struct objectives *objectives, const char *namespace, const char *name,
	struct objective *before)
{
	struct objective *known = find(objectives, namespace, name);

	if (!known)
		return false;
	*before = *known;
	*known = objectives->items[--objectives->count];
	return true;
}

const struct objective *objectives_of(
	const struct objectives *objectives, const char *namespace, const char *service)
{
	const struct objective *first = NULL;

	for (size_t i = 0; i < objectives->count; i++) {
		const struct objective *one = &objectives->items[i];

		if (strcmp(one->service, service) == 0 && strcmp(one->namespace, namespace) == 0 &&
			(!first || strcmp(one->name, first->name) < 0))
			first = one;
	}
	return first;
}
