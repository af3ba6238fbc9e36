// SPDX-License-Identifier: Apache-2.0
/* A segment of the experience log as a disk may give it back: what is sound is read, no more. */
#include "driver.h"

#include "learner/dqn/batch.h"
#include "learner/storage/sequences.h"

#include <errno.h>
#include <zlib.h>

#define INPUTS	4
#define ACTIONS 9
#define NUMBER	1

struct seen {
	const uint8_t *bytes;
	size_t size;
	uint64_t end; /* of what was reported so far */
	size_t records;
};

/* Records and damage come in order, do not overlap and lie within the file. */
static void pass(struct seen *seen, uint64_t offset, uint64_t bytes)
{
	if (offset < seen->end || bytes > seen->size || offset > seen->size - bytes)
		abort();
	seen->end = offset + bytes;
}

static void batch_use(const struct segment_record *record)
{
	struct experience experience;
	struct batch_reader reader;
	uint32_t count = 0;
	float sum = 0;

	if (batch_reader_init(&reader, record, INPUTS, ACTIONS))
		return;
	if (strlen(reader.source.agent) >= BATCH_AGENT_BYTES)
		abort();
	while (batch_read(&reader, &experience)) {
		for (int i = 0; i < INPUTS; i++)
			sum += experience.state[i] + experience.next_state[i];
		if (experience.action >= ACTIONS || experience.end > REPLAY_TRUNCATED ||
			strlen(experience.namespace) >= BATCH_NAMESPACE_BYTES ||
			strlen(experience.service) >= BATCH_SERVICE_BYTES)
			abort();
		count++;
	}
	/* The sum is for the sanitizer: every float is read. */
	if (count != reader.count || (sum > 1 && sum < 0))
		abort();
}

static void sequences_use(const struct segment_record *record)
{
	struct sequences sequences = {0};
	uint8_t *packed = NULL;
	size_t bytes = 0;

	(void)sequences_unpack(&sequences, record->payload, record->size, 1);
	/* Whatever was taken can be written again. */
	if (sequences_pack(&sequences, 1, 1, &packed, &bytes))
		abort();
	free(packed);
	sequences_free(&sequences);
}

static void on_record(void *context, const struct segment_record *record)
{
	struct seen *seen = context;

	pass(seen, record->offset, SEGMENT_PREFIX_BYTES + record->size);
	if (record->payload != seen->bytes + record->offset + SEGMENT_PREFIX_BYTES ||
		record->offset % 8 != 0)
		abort();
	seen->records++;
	batch_use(record);
	if (record->type == SEGMENT_SEQUENCES)
		sequences_use(record);
}

static void on_damage(void *context, uint64_t offset, uint64_t bytes)
{
	if (bytes == 0)
		abort();
	pass(context, offset, bytes);
}

static size_t walk(const uint8_t *data, size_t size)
{
	struct seen seen = {.bytes = data, .size = size, .end = SEGMENT_HEADER_BYTES};
	const struct segment_visitor visitor = {
		.context = &seen, .record = on_record, .damage = on_damage};
	struct segment_identity identity;
	char error[160] = "";

	if (segment_header_parse(data, size, NUMBER, &identity, error, sizeof(error)) && !error[0])
		abort();
	if (segment_walk(data, size, NUMBER, &visitor) > size)
		abort();
	return seen.records;
}

/* Wherever a record's beginning is left, the checksums that its writer would have made. */
static void seal(uint8_t *data, size_t size)
{
	uint32_t magic;

	memcpy(&magic, data + SEGMENT_HEADER_BYTES, sizeof(magic));
	for (size_t at = SEGMENT_HEADER_BYTES; at + SEGMENT_PREFIX_BYTES <= size; at += 8) {
		uint32_t bytes, crc;

		if (memcmp(data + at, &magic, sizeof(magic)) != 0)
			continue;
		memcpy(&bytes, data + at + 12, sizeof(bytes));
		if (bytes > size - at - SEGMENT_PREFIX_BYTES)
			continue;
		crc = (uint32_t)crc32(0, data + at + SEGMENT_PREFIX_BYTES, bytes);
		memcpy(data + at + 8, &crc, sizeof(crc));
		segment_record_place(data + at, NUMBER, at);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *sealed;

	(void)walk(data, size);
	if (size < SEGMENT_HEADER_BYTES + SEGMENT_PREFIX_BYTES)
		return 0;
	sealed = malloc(size);
	if (!sealed)
		return 0;
	memcpy(sealed, data, size);
	seal(sealed, size);
	(void)walk(sealed, size);
	free(sealed);
	return 0;
}

static size_t put(uint8_t *out, size_t at, uint8_t *record, size_t bytes)
{
	memcpy(out + at, record, bytes);
	segment_record_place(out + at, NUMBER, at);
	return at + bytes;
}

static size_t put_batch(uint8_t *out, size_t at, uint64_t sequence, int experiences)
{
	const struct batch_source source = {
		.agent = "node", .incarnation = 1, .sequence = sequence};
	const float state[INPUTS] = {0.5F, -1};
	const struct experience experience = {.namespace = "default",
		.service = "fibonacci",
		.state = state,
		.next_state = state,
		.reward = -1,
		.action = 3,
		.next_mask = 511};
	struct batch_writer writer;

	if (batch_writer_init(&writer, &source, INPUTS))
		abort();
	for (int i = 0; i < experiences; i++)
		if (batch_add(&writer, &experience))
			abort();
	batch_seal(&writer, 1, 9);
	at = put(out, at, writer.record, writer.bytes);
	batch_writer_free(&writer);
	return at;
}

static size_t put_sequences(uint8_t *out, size_t at)
{
	struct sequences sequences = {0};
	uint8_t *record;
	size_t bytes;

	for (uint64_t i = 1; i < 9; i++)
		if (sequences_mark(&sequences, i % 2 ? "node-a" : "node-b", 1, i * i, 1))
			abort();
	if (sequences_pack(&sequences, 1, 1, &record, &bytes))
		abort();
	at = put(out, at, record, bytes);
	free(record);
	sequences_free(&sequences);
	return at;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	const struct segment_identity identity = {
		.schema = 1, .inputs = INPUTS, .actions = ACTIONS};
	size_t at = SEGMENT_HEADER_BYTES, records = 4;

	if (index > 1)
		return 0;
	segment_header_pack(out, NUMBER, 1, &identity);
	if (index == 0)
		at = put_sequences(out, at);
	for (uint64_t i = 0; i < records - (index == 0); i++)
		at = put_batch(out, at, i + 1, (int)i);
	/* The seeds themselves are read whole. */
	if (walk(out, at) != records)
		abort();
	return at;
}
