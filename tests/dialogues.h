/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversations of known content, by turns, and what has to be counted of each. Static, for one test
 * program at a time.
 */
#ifndef EBBTIDE_DIALOGUES_H
#define EBBTIDE_DIALOGUES_H

#include "request_talk.h"

#define DIALOGUE_BYTES	  4096
#define DIALOGUE_TURNS	  24
#define DIALOGUE_STATUSES 8

enum speaker {
	CLIENT = 0,
	SERVER = 1,
};

struct turn {
	uint8_t speaker;
	size_t begin, end; /* in bytes[] */
};

struct dialogue {
	const char *name;
	struct turn turns[DIALOGUE_TURNS];
	size_t turn_count;
	size_t size;
	uint8_t bytes[DIALOGUE_BYTES];
	/* After the connection has closed. */
	uint32_t requests, failed, client_errors, server_errors;
	uint16_t statuses[DIALOGUE_STATUSES]; /* in order; 0 after the last that is looked at */
};

/* @speaker goes on, or its turn begins. */
static __attribute__((unused)) void dialogue_say(
	struct dialogue *dialogue, uint8_t speaker, const void *bytes, size_t size)
{
	struct turn *turn =
		dialogue->turn_count ? &dialogue->turns[dialogue->turn_count - 1] : NULL;

	if (!turn || turn->speaker != speaker) {
		if (dialogue->turn_count == DIALOGUE_TURNS)
			user_fail("a dialogue of too many turns");
		turn = &dialogue->turns[dialogue->turn_count++];
		*turn = (struct turn){
			.speaker = speaker, .begin = dialogue->size, .end = dialogue->size};
	}
	if (size > sizeof(dialogue->bytes) - dialogue->size)
		user_fail("a dialogue of too many bytes");
	memcpy(dialogue->bytes + dialogue->size, bytes, size);
	dialogue->size += size;
	turn->end = dialogue->size;
}

/* How segments are cut: whether one ends before byte @at of a dialogue. */
typedef bool (*dialogue_cut)(size_t at, const void *context);

/* Say @dialogue from beginning to end; each turn comes 1 ms after the one before. */
static __attribute__((unused)) const struct talk_told *dialogue_hold(
	const struct dialogue *dialogue, uint8_t side, dialogue_cut is_cut, const void *context)
{
	talk_begin(side);
	for (size_t i = 0; i < dialogue->turn_count; i++) {
		const struct turn *turn = &dialogue->turns[i];
		size_t begin = turn->begin;

		user_clock_ns += TALK_TURN_NS;
		for (size_t at = begin + 1; at <= turn->end; at++) {
			uint8_t *exact;

			if (at < turn->end && !is_cut(at, context))
				continue;
			/* A copy of exactly its size, so that a read past the end is seen. */
			exact = malloc(at - begin);
			if (!exact)
				user_fail("out of memory");
			memcpy(exact, dialogue->bytes + begin, at - begin);
			talk_say(turn->speaker, exact, at - begin);
			free(exact);
			begin = at;
		}
		talk_look();
	}
	return talk_end();
}

static __attribute__((unused)) bool cut_nowhere(size_t at, const void *context)
{
	(void)at, (void)context;
	return false;
}

static __attribute__((unused)) bool cut_everywhere(size_t at, const void *context)
{
	(void)at, (void)context;
	return true;
}

/* @context: two places. */
static __attribute__((unused)) bool cut_at_two(size_t at, const void *context)
{
	const size_t *places = context;

	return at == places[0] || at == places[1];
}

/* @context: a bit for each byte, as often as need be. */
static __attribute__((unused)) bool cut_by_mask(size_t at, const void *context)
{
	return *(const uint64_t *)context >> at % 61 & 1;
}

#endif
