// SPDX-License-Identifier: Apache-2.0
/*
 * An answer of the learner from its bytes, all of it in a few pieces of memory: a thousand actions
 * are ten thousand small ones otherwise.
 */
#ifndef EBBTIDE_ANSWER_H
#define EBBTIDE_ANSWER_H

#include "wire.pb-c.h"

struct answer_piece;

struct answer_memory {
	ProtobufCAllocator allocator;
	struct answer_piece *pieces; /* the newest first */
	size_t piece_bytes;
};

/* NULL when it is none, or out of memory. In either case answer_free() ends it; @memory stays where it is until then. */
Ebbtide__Wire__Answer *answer_decode(
	struct answer_memory *memory, const uint8_t *bytes, size_t size);
void answer_free(struct answer_memory *memory);

#endif
