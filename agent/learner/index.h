// SPDX-License-Identifier: Apache-2.0
/*
 * A hash index: finds what its caller owns by a hash, in constant time. The caller hashes its keys
 * and compares them; the index holds pointers only. Not thread-safe.
 */
#ifndef EBBTIDE_INDEX_H
#define EBBTIDE_INDEX_H

#include <stddef.h>
#include <stdint.h>

struct index_slot {
	uint64_t hash;
	void *item; /* NULL: empty */
};

/* Zero-initialise. */
struct index {
	struct index_slot *slots; /* a power of two of them, at most half in use; linear probing */
	size_t size;
	size_t count;
};

/* FNV-1a over @size bytes, going on from @hash; begin with INDEX_HASH_START. */
#define INDEX_HASH_START 0xcbf29ce484222325ULL
static inline uint64_t index_hash(uint64_t hash, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ at[i]) * 0x100000001b3ULL;
	return hash;
}

void index_free(struct index *index);
/* @item must not be in it yet. 0 or -ENOMEM. */
int index_add(struct index *index, uint64_t hash, void *item);
/* Nothing happens when it is not there. */
void index_remove(struct index *index, uint64_t hash, const void *item);

/* FNV's low bits are weak for short keys that differ in their last byte only. */
static inline size_t index_home(const struct index *index, uint64_t hash)
{
	return (size_t)(hash ^ hash >> 29) & (index->size - 1);
}

/*
 * The first item of this hash (@at 0), or the next after the one that was found with @at:
 *	for (size_t at = 0; (item = index_find(&index, hash, &at));)
 */
static inline void *index_find(const struct index *index, uint64_t hash, size_t *at)
{
	if (!index->size)
		return NULL;
	for (;;) {
		const struct index_slot *slot =
			&index->slots[(index_home(index, hash) + (*at)++) & (index->size - 1)];

		if (!slot->item)
			return NULL;
		if (slot->hash == hash)
			return slot->item;
	}
}

#endif
