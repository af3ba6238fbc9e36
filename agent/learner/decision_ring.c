// SPDX-License-Identifier: Apache-2.0
#include "learner/decision_ring.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES sizeof(struct decision_record)

/* Records of a ring's share: a power of two, so that a ring that comes or goes seldom moves others. */
static uint32_t room_fair(const struct decision_budget *budget)
{
	size_t share = budget->bytes / (budget->rings ? budget->rings : 1) / RECORD_BYTES;
	uint32_t room = DECISION_RING_LEAST;

	while (room < DECISION_RING_MOST && 2 * (size_t)room <= share)
		room *= 2;
	return room;
}

const struct decision_record *decision_ring_get(const struct decision_ring *ring, uint32_t age)
{
	return &ring->records[(ring->next + ring->room - 1 - age) % ring->room];
}

/* With the newest that fit. Without memory it stays as it is. */
static void ring_resize(struct decision_ring *ring, struct decision_budget *budget, uint32_t room)
{
	struct decision_ring resized = {.room = room};

	resized.records = malloc(room * RECORD_BYTES);
	if (!resized.records)
		return;
	/* One without room has none. */
	resized.count = ring->room == 0 ? 0 : ring->count < room ? ring->count : room;
	for (uint32_t i = 0; i < resized.count; i++)
		resized.records[i] = *decision_ring_get(ring, resized.count - 1 - i);
	resized.next = resized.count % room;
	budget->used += (room - (size_t)ring->room) * RECORD_BYTES;
	budget->rings += ring->room == 0;
	free(ring->records);
	*ring = resized;
}

void decision_ring_push(struct decision_ring *ring, struct decision_budget *budget,
	const struct decision_record *record)
{
	uint32_t fair;

	if (budget->bytes == 0)
		return;
	fair = room_fair(budget);
	if (ring->room == 0)
		ring_resize(ring, budget, DECISION_RING_LEAST);
	else if (ring->room > fair)
		ring_resize(ring, budget, fair);
	else if (ring->count == ring->room && 2 * ring->room <= fair &&
		 budget->used + ring->room * RECORD_BYTES <= budget->bytes)
		ring_resize(ring, budget, 2 * ring->room);
	if (ring->room == 0)
		return;
	ring->records[ring->next] = *record;
	ring->next = (ring->next + 1) % ring->room;
	ring->count += ring->count < ring->room;
}

void decision_ring_free(struct decision_ring *ring, struct decision_budget *budget)
{
	if (ring->room == 0)
		return;
	budget->used -= ring->room * RECORD_BYTES;
	budget->rings--;
	free(ring->records);
	memset(ring, 0, sizeof(*ring));
}

uint32_t decision_ring_find(const struct decision_ring *ring, uint64_t time_us)
{
	uint32_t age = 0;

	while (age < ring->count && decision_ring_get(ring, age)->time_us > time_us)
		age++;
	return age;
}

uint32_t decision_ring_read(const struct decision_ring *ring, uint64_t time_us, uint32_t most,
	struct decision_record *out)
{
	uint32_t newest = decision_ring_find(ring, time_us), count = 0;
	uint32_t left = ring->count - newest;

	if (newest == ring->count)
		return 0;
	for (uint32_t i = left < most ? left : most; i > 0; i--)
		out[count++] = *decision_ring_get(ring, newest + i - 1);
	while (newest > 0) {
		out[count] = *decision_ring_get(ring, --newest);
		if (!out[count++].pushed)
			break;
	}
	return count;
}
