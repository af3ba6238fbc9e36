// SPDX-License-Identifier: Apache-2.0
#include "node/answer.h"

#include <stdalign.h>
#include <stdlib.h>

/* Structures are larger than what they are sent as: an action without a reason, fourfold. */
#define LARGER_BY   4
#define PIECE_LEAST 4096

struct answer_piece {
	struct answer_piece *next;
	size_t used;
	size_t size;
	alignas(max_align_t) uint8_t bytes[];
};

static void *memory_take(void *context, size_t size)
{
	const size_t mask = alignof(max_align_t) - 1;
	struct answer_memory *memory = context;
	struct answer_piece *piece = memory->pieces;
	void *taken;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + mask) & ~mask;
	if (!piece || piece->size - piece->used < size) {
		size_t bytes = size > memory->piece_bytes ? size : memory->piece_bytes;

		piece = malloc(sizeof(*piece) + bytes);
		if (!piece)
			return NULL;
		*piece = (struct answer_piece){.next = memory->pieces, .size = bytes};
		memory->pieces = piece;
	}
	taken = piece->bytes + piece->used;
	piece->used += size;
	return taken;
}

/* With all the rest, in answer_free(). */
static void memory_give_back(void *context, void *taken)
{
	(void)context;
	(void)taken;
}

Ebbtide__Wire__Answer *answer_decode(
	struct answer_memory *memory, const uint8_t *bytes, size_t size)
{
	*memory = (struct answer_memory){.allocator = {.alloc = memory_take,
						 .free = memory_give_back,
						 .allocator_data = memory},
		.piece_bytes = PIECE_LEAST + LARGER_BY * size};
	return ebbtide__wire__answer__unpack(
		&memory->allocator, size, bytes ? bytes : (const uint8_t *)"");
}

void answer_free(struct answer_memory *memory)
{
	while (memory->pieces) {
		struct answer_piece *next = memory->pieces->next;

		free(memory->pieces);
		memory->pieces = next;
	}
}
