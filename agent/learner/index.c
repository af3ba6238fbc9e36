// SPDX-License-Identifier: Apache-2.0
#include "learner/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_LEAST 16

void index_free(struct index *index)
{
	free(index->slots);
	memset(index, 0, sizeof(*index));
}

static void place(struct index *index, uint64_t hash, void *item)
{
	size_t at = index_home(index, hash);

	while (index->slots[at].item)
		at = (at + 1) & (index->size - 1);
	index->slots[at] = (struct index_slot){.hash = hash, .item = item};
}

static int grow(struct index *index)
{
	struct index old = *index;
	size_t size = old.size ? 2 * old.size : SIZE_LEAST;
	struct index_slot *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	index->slots = slots;
	index->size = size;
	for (size_t i = 0; i < old.size; i++)
		if (old.slots[i].item)
			place(index, old.slots[i].hash, old.slots[i].item);
	free(old.slots);
	return 0;
}

int index_add(struct index *index, uint64_t hash, void *item)
{
	if (2 * (index->count + 1) > index->size) {
		int err = grow(index);

		if (err)
			return err;
	}
	place(index, hash, item);
	index->count++;
	return 0;
}

void index_remove(struct index *index, uint64_t hash, const void *item)
{
	size_t mask = index->size - 1, hole, at;

	if (!index->size)
		return;
	hole = index_home(index, hash);
	while (index->slots[hole].item != item) {
		if (!index->slots[hole].item)
			return;
		hole = (hole + 1) & mask;
	}
	/* What comes after in the same run moves up, so that a search never meets a gap. */
	for (at = (hole + 1) & mask; index->slots[at].item; at = (at + 1) & mask) {
		size_t home = index_home(index, index->slots[at].hash);

		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		index->slots[hole] = index->slots[at];
		hole = at;
	}
	index->slots[hole].item = NULL;
	index->count--;
}
