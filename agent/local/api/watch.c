// SPDX-License-Identifier: Apache-2.0
#include "local/api/watch.h"

#include <errno.h>
#include <stdlib.h>

int history_init(struct history *history, size_t size, uint64_t version)
{
	*history = (struct history){.size = size, .dropped = version};
	history->ring = calloc(size, sizeof(*history->ring));
	return history->ring ? 0 : -ENOMEM;
}

void history_free(struct history *history)
{
	for (size_t i = 0; i < history->count; i++)
		change_release(&history->ring[(history->first + i) % history->size]);
	free(history->ring);
	history->ring = NULL;
	history->count = 0;
}

void history_append(struct history *history, uint64_t version, enum change_type type,
	enum resource_id resource, json_t *object, json_t *previous)
{
	struct change *slot;

	if (history->count == history->size) {
		slot = &history->ring[history->first];
		history->dropped = slot->version;
		change_release(slot);
		history->first = (history->first + 1) % history->size;
		history->count--;
	}
	slot = &history->ring[(history->first + history->count) % history->size];
	*slot = (struct change){
		.version = version,
		.type = type,
		.resource = resource,
		.object = json_incref(object),
		.previous = json_incref(previous),
	};
	history->count++;
}

int history_next(const struct history *history, enum resource_id resource, uint64_t *after,
	struct change *out)
{
	size_t low = 0, high = history->count;

	if (*after < history->dropped)
		return -ESTALE;
	/* Versions are in order: the first one above *after. */
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (history->ring[(history->first + middle) % history->size].version <= *after)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < history->count; low++) {
		const struct change *change =
			&history->ring[(history->first + low) % history->size];

		*after = change->version;
		if (change->resource != resource)
			continue;
		*out = *change;
		json_incref(out->object);
		json_incref(out->previous);
		return 1;
	}
	return 0;
}

void change_release(struct change *change)
{
	json_decref(change->object);
	json_decref(change->previous);
	change->object = NULL;
	change->previous = NULL;
}

const char *change_type_name(enum change_type type)
{
	static const char *const names[] = {"ADDED", "MODIFIED", "DELETED"};

	return names[type];
}
