// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/sequences.h"

#include "learner/dqn/batch.h"
#include "learner/storage/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Reports of one start that are handled at the same time: a retry beside one that is slow. */
#define PENDING_MAX 8

struct range {
	uint64_t first;
	uint64_t last;
};

struct sequence_agent {
	struct sequence_agent *newer;
	struct sequence_agent *older;
	uint64_t hash;
	uint64_t incarnation;
	uint64_t heard_us;
	uint64_t highest;      /* claimed */
	uint64_t closed_until; /* gaps up to here were closed; 0: none */
	uint64_t pending[PENDING_MAX];
	uint32_t pending_count;
	uint32_t range_count;
	uint32_t range_room;
	struct range *ranges; /* owned, ascending, with a gap between any two */
	char name[];
};

static uint64_t hash_of(const char *name, uint64_t incarnation)
{
	uint64_t hash = index_hash(INDEX_HASH_START, &incarnation, sizeof(incarnation));

	return index_hash(hash, name, strlen(name));
}

static void list_remove(struct sequences *s, struct sequence_agent *agent)
{
	*(agent->newer ? &agent->newer->older : &s->newest) = agent->older;
	*(agent->older ? &agent->older->newer : &s->oldest) = agent->newer;
	agent->newer = agent->older = NULL;
}

static void list_put_newest(struct sequences *s, struct sequence_agent *agent)
{
	agent->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = agent;
	s->newest = agent;
}

static void agent_forget(struct sequences *s, struct sequence_agent *agent)
{
	index_remove(&s->agents, agent->hash, agent);
	list_remove(s, agent);
	free(agent->ranges);
	free(agent);
}

static void forget_idle(struct sequences *s, uint64_t now_us)
{
	struct sequence_agent *agent = s->oldest;

	while (agent) {
		struct sequence_agent *newer = agent->newer;
		bool full = s->agents.count >= SEQUENCES_AGENTS;
		bool idle = agent->heard_us + SEQUENCES_IDLE_US < now_us;

		if (!full && !idle)
			return;
		if (agent->pending_count == 0)
			agent_forget(s, agent);
		agent = newer;
	}
}

static struct sequence_agent *agent_find(
	const struct sequences *s, const char *name, uint64_t incarnation, uint64_t hash)
{
	struct sequence_agent *agent;

	for (size_t at = 0; (agent = index_find(&s->agents, hash, &at));)
		if (agent->incarnation == incarnation && strcmp(agent->name, name) == 0)
			return agent;
	return NULL;
}

/* Finds or makes, and notes that it was heard of. NULL when out of memory. */
static struct sequence_agent *agent_get(
	struct sequences *s, const char *name, uint64_t incarnation, uint64_t now_us)
{
	uint64_t hash = hash_of(name, incarnation);
	struct sequence_agent *agent = agent_find(s, name, incarnation, hash);
	size_t bytes = strlen(name) + 1;

	if (agent) {
		list_remove(s, agent);
	} else {
		forget_idle(s, now_us);
		agent = calloc(1, sizeof(*agent) + bytes);
		if (!agent)
			return NULL;
		agent->hash = hash;
		agent->incarnation = incarnation;
		memcpy(agent->name, name, bytes);
		if (index_add(&s->agents, hash, agent)) {
			free(agent);
			return NULL;
		}
	}
	if (now_us > agent->heard_us)
		agent->heard_us = now_us;
	list_put_newest(s, agent);
	return agent;
}

static bool range_has(const struct sequence_agent *agent, uint64_t sequence)
{
	uint32_t i = agent->range_count;

	/* From the end: nearly always it is the next one. */
	while (i > 0 && agent->ranges[i - 1].first > sequence)
		i--;
	return i > 0 && agent->ranges[i - 1].last >= sequence;
}

static int range_room(struct sequence_agent *agent)
{
	uint32_t room = agent->range_room ? 2 * agent->range_room : 1;
	struct range *ranges;

	if (agent->range_count < agent->range_room)
		return 0;
	ranges = realloc(agent->ranges, room * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	agent->ranges = ranges;
	agent->range_room = room;
	return 0;
}

static bool touches(const struct range *earlier, const struct range *later)
{
	return earlier->last == UINT64_MAX || earlier->last + 1 >= later->first;
}

/* Range @i and the next one become one. */
static void range_join(struct sequence_agent *agent, uint32_t i)
{
	struct range *ranges = agent->ranges;

	if (ranges[i + 1].last > ranges[i].last)
		ranges[i].last = ranges[i + 1].last;
	memmove(&ranges[i + 1], &ranges[i + 2],
		(agent->range_count - i - 2) * sizeof(struct range));
	agent->range_count--;
}

/* @first to @last are seen. */
static int range_add(struct sequence_agent *agent, uint64_t first, uint64_t last)
{
	uint32_t i = agent->range_count;
	struct range *ranges;

	if (last > agent->highest)
		agent->highest = last;
	if (range_room(agent))
		return -ENOMEM;
	ranges = agent->ranges;
	while (i > 0 && ranges[i - 1].first > first)
		i--;
	memmove(&ranges[i + 1], &ranges[i], (agent->range_count - i) * sizeof(*ranges));
	ranges[i] = (struct range){.first = first, .last = last};
	agent->range_count++;
	while (i + 1 < agent->range_count && touches(&ranges[i], &ranges[i + 1]))
		range_join(agent, i);
	if (i > 0 && touches(&ranges[i - 1], &ranges[i]))
		range_join(agent, i - 1);
	if (agent->range_count > SEQUENCES_RANGES) {
		agent->closed_until = ranges[1].first - 1;
		range_join(agent, 0);
	}
	return 0;
}

void sequences_free(struct sequences *sequences)
{
	pthread_mutex_lock(&sequences->lock);
	while (sequences->oldest)
		agent_forget(sequences, sequences->oldest);
	index_free(&sequences->agents);
	pthread_mutex_unlock(&sequences->lock);
}

size_t sequences_count(struct sequences *sequences)
{
	size_t count;

	pthread_mutex_lock(&sequences->lock);
	count = sequences->agents.count;
	pthread_mutex_unlock(&sequences->lock);
	return count;
}

/* What is known of @sequence; 0: nothing. */
static int known(const struct sequence_agent *agent, uint64_t sequence)
{
	for (uint32_t i = 0; i < agent->pending_count; i++)
		if (agent->pending[i] == sequence)
			return -EBUSY;
	if (range_has(agent, sequence))
		return sequence <= agent->closed_until ? -ESTALE : -EEXIST;
	return 0;
}

int sequences_claim(struct sequences *sequences, const char *name, uint64_t incarnation,
	uint64_t sequence, uint64_t now_us, struct sequence_claim *claim)
{
	struct sequence_agent *agent;
	int err = -ENOMEM;

	memset(claim, 0, sizeof(*claim));
	pthread_mutex_lock(&sequences->lock);
	agent = agent_get(sequences, name, incarnation, now_us);
	if (agent) {
		*claim = (struct sequence_claim){
			.agent = agent, .sequence = sequence, .newest = sequence >= agent->highest};
		err = known(agent, sequence);
		if (!err && agent->pending_count == PENDING_MAX)
			err = -EBUSY;
	}
	if (!err) {
		agent->pending[agent->pending_count++] = sequence;
		if (sequence > agent->highest)
			agent->highest = sequence;
	}
	pthread_mutex_unlock(&sequences->lock);
	return err;
}

void sequences_settle(struct sequences *sequences, const struct sequence_claim *claim, bool stored)
{
	struct sequence_agent *agent = claim->agent;

	pthread_mutex_lock(&sequences->lock);
	for (uint32_t i = 0; i < agent->pending_count; i++)
		if (agent->pending[i] == claim->sequence) {
			agent->pending[i] = agent->pending[--agent->pending_count];
			break;
		}
	/* Without memory for a range it is not seen: better stored twice than lost. */
	if (stored)
		(void)range_add(agent, claim->sequence, claim->sequence);
	pthread_mutex_unlock(&sequences->lock);
}

int sequences_mark(struct sequences *sequences, const char *name, uint64_t incarnation,
	uint64_t sequence, uint64_t time_us)
{
	struct sequence_agent *agent;
	int err = -ENOMEM;

	pthread_mutex_lock(&sequences->lock);
	agent = agent_get(sequences, name, incarnation, time_us);
	if (agent)
		err = range_has(agent, sequence) ? -EEXIST : range_add(agent, sequence, sequence);
	pthread_mutex_unlock(&sequences->lock);
	return err;
}

/* On disk: a head, then for each agent an entry, its ranges, its name, filled up to 8. */
struct head {
	uint32_t count;
	uint32_t reserved;
};

struct entry {
	uint64_t incarnation;
	uint64_t heard_us;
	uint64_t closed_until;
	uint16_t name_bytes; /* with its zero */
	uint16_t range_count;
	uint32_t reserved;
};
_Static_assert(sizeof(struct head) == 8 && sizeof(struct entry) == 32, "docs/replay.md");

static size_t entry_bytes(size_t name_bytes, size_t range_count)
{
	return sizeof(struct entry) + range_count * sizeof(struct range) + (name_bytes + 7) / 8 * 8;
}

static uint8_t *agent_pack(const struct sequence_agent *agent, uint8_t *at)
{
	struct entry entry = {.incarnation = agent->incarnation,
		.heard_us = agent->heard_us,
		.closed_until = agent->closed_until,
		.name_bytes = (uint16_t)(strlen(agent->name) + 1),
		.range_count = (uint16_t)agent->range_count};
	size_t ranges_bytes = agent->range_count * sizeof(struct range);

	memcpy(at, &entry, sizeof(entry));
	if (ranges_bytes)
		memcpy(at + sizeof(entry), agent->ranges, ranges_bytes);
	memcpy(at + sizeof(entry) + ranges_bytes, agent->name, entry.name_bytes);
	return at + entry_bytes(entry.name_bytes, entry.range_count);
}

int sequences_pack(struct sequences *sequences, uint16_t schema, uint64_t now_us, uint8_t **record,
	size_t *bytes)
{
	struct head head = {0};
	uint8_t *at;
	int err = -ENOMEM;

	pthread_mutex_lock(&sequences->lock);
	forget_idle(sequences, now_us);
	*bytes = SEGMENT_PREFIX_BYTES + sizeof(head);
	for (const struct sequence_agent *agent = sequences->oldest; agent; agent = agent->newer)
		*bytes += entry_bytes(strlen(agent->name) + 1, agent->range_count);
	*record = calloc(1, *bytes);
	if (*record) {
		head.count = (uint32_t)sequences->agents.count;
		at = *record + SEGMENT_PREFIX_BYTES;
		memcpy(at, &head, sizeof(head));
		at += sizeof(head);
		/* The longest silent first, so that reading it gives the same order. */
		for (const struct sequence_agent *agent = sequences->oldest; agent;
			agent = agent->newer)
			at = agent_pack(agent, at);
		err = 0;
	}
	pthread_mutex_unlock(&sequences->lock);
	if (!err)
		segment_record_seal(
			*record, *bytes - SEGMENT_PREFIX_BYTES, SEGMENT_SEQUENCES, schema, now_us);
	return err;
}

static int agent_unpack(struct sequences *s, const struct entry *entry, const uint8_t *at)
{
	const uint8_t *name = at + entry->range_count * sizeof(struct range);
	struct sequence_agent *agent =
		agent_get(s, (const char *)name, entry->incarnation, entry->heard_us);

	if (!agent)
		return -ENOMEM;
	for (uint32_t i = 0; i < entry->range_count; i++) {
		struct range range;

		memcpy(&range, at + i * sizeof(range), sizeof(range));
		if (range.first > range.last)
			return -EINVAL;
		if (range_add(agent, range.first, range.last))
			return -ENOMEM;
	}
	if (entry->closed_until > agent->closed_until)
		agent->closed_until = entry->closed_until;
	return 0;
}

int sequences_unpack(
	struct sequences *sequences, const uint8_t *payload, size_t size, uint64_t now_us)
{
	size_t at = sizeof(struct head);
	struct head head = {0};
	int err = size < sizeof(head) ? -EINVAL : 0;

	if (!err)
		memcpy(&head, payload, sizeof(head));
	pthread_mutex_lock(&sequences->lock);
	for (uint32_t i = 0; !err && i < head.count; i++) {
		struct entry entry = {0};
		size_t bytes;
		const uint8_t *name;

		if (size - at < sizeof(entry)) {
			err = -EINVAL;
			break;
		}
		memcpy(&entry, payload + at, sizeof(entry));
		bytes = entry_bytes(entry.name_bytes, entry.range_count);
		name = payload + at + sizeof(entry) + entry.range_count * sizeof(struct range);
		if (bytes > size - at || entry.name_bytes == 0 ||
			entry.name_bytes > BATCH_AGENT_BYTES ||
			memchr(name, 0, entry.name_bytes) != name + entry.name_bytes - 1) {
			err = -EINVAL;
			break;
		}
		if (entry.heard_us + SEQUENCES_IDLE_US >= now_us)
			err = agent_unpack(sequences, &entry, payload + at + sizeof(entry));
		at += bytes;
	}
	pthread_mutex_unlock(&sequences->lock);
	return err;
}
