// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Little-endian on disk; all machines that Ebbtide runs on are. */
struct head {
	uint64_t incarnation;
	uint64_t sequence;
	uint32_t count;
	uint32_t inputs;
	uint32_t agent_bytes; /* behind this, with its zero, filled up to a multiple of 8 */
	uint32_t reserved;
};

/* Then state[inputs], next_state[inputs], both names, filled up to a multiple of 8. */
struct entry {
	uint64_t next_mask;
	float reward;
	uint8_t action;
	uint8_t end;
	uint8_t namespace_bytes; /* with their zeros */
	uint8_t service_bytes;
};
_Static_assert(sizeof(struct head) == 32 && sizeof(struct entry) == 16, "docs/replay.md");

/* A batch of 64 experiences with common names then needs no second allocation. */
#define FIRST_BYTES 24576

static size_t round_up(size_t bytes)
{
	return (bytes + 7) / 8 * 8;
}

static size_t states_bytes(uint32_t inputs)
{
	return 2 * (size_t)inputs * sizeof(float);
}

/* Room for @bytes more, zeroed; NULL when there is none. */
static uint8_t *extend(struct batch_writer *writer, size_t bytes)
{
	uint8_t *at;

	if (writer->bytes + bytes > writer->allocated) {
		size_t allocated = 2 * writer->allocated + bytes;
		uint8_t *grown = realloc(writer->record, allocated);

		if (!grown)
			return NULL;
		writer->record = grown;
		writer->allocated = allocated;
	}
	at = writer->record + writer->bytes;
	writer->bytes += bytes;
	return at;
}

int batch_writer_init(
	struct batch_writer *writer, const struct batch_source *source, uint32_t inputs)
{
	size_t agent_bytes = strlen(source->agent) + 1;
	struct head head = {.incarnation = source->incarnation,
		.sequence = source->sequence,
		.inputs = inputs,
		.agent_bytes = (uint32_t)agent_bytes};
	uint8_t *at;

	memset(writer, 0, sizeof(*writer));
	if (agent_bytes > BATCH_AGENT_BYTES || inputs < 1 || inputs > NETWORK_INPUTS_MAX)
		return -EINVAL;
	writer->record = malloc(FIRST_BYTES);
	if (!writer->record)
		return -ENOMEM;
	writer->allocated = FIRST_BYTES;
	writer->inputs = inputs;
	at = extend(writer, SEGMENT_PREFIX_BYTES + sizeof(head) + round_up(agent_bytes));
	if (!at)
		return -ENOMEM;
	memset(at, 0, writer->bytes);
	at += SEGMENT_PREFIX_BYTES;
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), source->agent, agent_bytes);
	return 0;
}

void batch_writer_free(struct batch_writer *writer)
{
	free(writer->record);
	memset(writer, 0, sizeof(*writer));
}

int batch_add(struct batch_writer *writer, const struct experience *experience)
{
	size_t namespace_bytes = strlen(experience->namespace) + 1;
	size_t service_bytes = strlen(experience->service) + 1;
	size_t names_bytes = round_up(namespace_bytes + service_bytes);
	size_t half = states_bytes(writer->inputs) / 2;
	size_t bytes = sizeof(struct entry) + 2 * half + names_bytes;
	struct entry entry = {.next_mask = experience->next_mask,
		.reward = experience->reward,
		.action = (uint8_t)experience->action,
		.end = (uint8_t)experience->end,
		.namespace_bytes = (uint8_t)namespace_bytes,
		.service_bytes = (uint8_t)service_bytes};
	uint8_t *at;

	if (namespace_bytes > BATCH_NAMESPACE_BYTES || service_bytes > BATCH_SERVICE_BYTES ||
		experience->action > UINT8_MAX)
		return -EINVAL;
	if (writer->bytes + bytes > SEGMENT_PAYLOAD_BYTES)
		return -E2BIG;
	at = extend(writer, bytes);
	if (!at)
		return -ENOMEM;
	memcpy(at, &entry, sizeof(entry));
	at += sizeof(entry);
	memcpy(at, experience->state, half);
	memcpy(at + half, experience->next_state, half);
	at += 2 * half;
	memset(at + names_bytes - 8, 0, 8);
	memcpy(at, experience->namespace, namespace_bytes);
	memcpy(at + namespace_bytes, experience->service, service_bytes);
	writer->count++;
	return 0;
}

void batch_seal(struct batch_writer *writer, uint16_t schema, uint64_t time_us)
{
	memcpy(writer->record + SEGMENT_PREFIX_BYTES + offsetof(struct head, count), &writer->count,
		sizeof(writer->count));
	segment_record_seal(writer->record, writer->bytes - SEGMENT_PREFIX_BYTES,
		SEGMENT_EXPERIENCES, schema, time_us);
}

/* @bytes of text whose only zero is the last. */
static bool is_string(const uint8_t *text, size_t bytes)
{
	return bytes > 0 && memchr(text, 0, bytes) == text + bytes - 1;
}

/* The bytes of the entry at @at of at most @size; 0: it is none. */
static size_t entry_check(const uint8_t *at, size_t size, uint32_t inputs, uint32_t actions)
{
	size_t fixed = sizeof(struct entry) + states_bytes(inputs);
	struct entry entry;
	size_t names;

	if (size < fixed)
		return 0;
	memcpy(&entry, at, sizeof(entry));
	names = (size_t)entry.namespace_bytes + entry.service_bytes;
	if (entry.action >= actions || entry.end > REPLAY_TRUNCATED ||
		round_up(names) > size - fixed || entry.namespace_bytes > BATCH_NAMESPACE_BYTES ||
		entry.service_bytes > BATCH_SERVICE_BYTES)
		return 0;
	if (!is_string(at + fixed, entry.namespace_bytes) ||
		!is_string(at + fixed + entry.namespace_bytes, entry.service_bytes))
		return 0;
	return fixed + round_up(names);
}

int batch_reader_init(struct batch_reader *reader, const struct segment_record *record,
	uint32_t inputs, uint32_t actions)
{
	const uint8_t *at = record->payload;
	size_t left = record->size;
	struct head head;

	memset(reader, 0, sizeof(*reader));
	if (record->type != SEGMENT_EXPERIENCES || left < sizeof(head))
		return -EINVAL;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	left -= sizeof(head);
	if (head.inputs != inputs || head.agent_bytes > BATCH_AGENT_BYTES ||
		round_up(head.agent_bytes) > left || !is_string(at, head.agent_bytes))
		return -EINVAL;
	reader->source = (struct batch_source){.agent = (const char *)at,
		.incarnation = head.incarnation,
		.sequence = head.sequence};
	at += round_up(head.agent_bytes);
	left -= round_up(head.agent_bytes);
	reader->next = at;
	reader->count = head.count;
	reader->inputs = inputs;
	for (uint32_t i = 0; i < head.count; i++) {
		size_t bytes = entry_check(at, left, inputs, actions);

		if (bytes == 0)
			return -EINVAL;
		at += bytes;
		left -= bytes;
	}
	return left == 0 ? 0 : -EINVAL;
}

bool batch_read(struct batch_reader *reader, struct experience *experience)
{
	const uint8_t *at = reader->next;
	size_t half = states_bytes(reader->inputs) / 2;
	struct entry entry;

	if (reader->read == reader->count)
		return false;
	memcpy(&entry, at, sizeof(entry));
	at += sizeof(entry);
	*experience = (struct experience){.namespace = (const char *)(at + 2 * half),
		.service = (const char *)(at + 2 * half + entry.namespace_bytes),
		.state = (const float *)(const void *)at,
		.next_state = (const float *)(const void *)(at + half),
		.reward = entry.reward,
		.action = entry.action,
		.end = (enum replay_end)entry.end,
		.next_mask = entry.next_mask};
	reader->next =
		at + 2 * half + round_up((size_t)entry.namespace_bytes + entry.service_bytes);
	reader->read++;
	return true;
}
