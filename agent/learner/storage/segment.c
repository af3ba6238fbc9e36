// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/segment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define FILE_MAGIC   "EBBTLOG\n"
#define RECORD_MAGIC 0x63657245U /* "Erec" */

/* Little-endian on disk; all machines that Ebbtide runs on are. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t schema;
	uint32_t inputs;
	uint32_t actions;
	uint64_t number;
	uint64_t created_us;
	uint8_t reserved[20];
	uint32_t crc; /* of all before */
};
_Static_assert(sizeof(struct header) == SEGMENT_HEADER_BYTES, "layout of docs/replay.md");

struct prefix {
	uint32_t magic;
	uint32_t prefix_crc; /* of number, offset and what follows here */
	uint32_t payload_crc;
	uint32_t payload_bytes;
	uint16_t type;
	uint16_t schema;
	uint32_t reserved;
	uint64_t time_us;
};
_Static_assert(sizeof(struct prefix) == SEGMENT_PREFIX_BYTES, "layout of docs/replay.md");

static uint32_t checksum(uint32_t crc, const void *bytes, size_t size)
{
	return (uint32_t)crc32(crc, bytes, (uInt)size);
}

void segment_header_pack(uint8_t out[SEGMENT_HEADER_BYTES], uint64_t number, uint64_t created_us,
	const struct segment_identity *identity)
{
	struct header header = {.version = SEGMENT_VERSION,
		.schema = identity->schema,
		.inputs = identity->inputs,
		.actions = identity->actions,
		.number = number,
		.created_us = created_us};

	memcpy(header.magic, FILE_MAGIC, sizeof(header.magic));
	header.crc = checksum(0, &header, offsetof(struct header, crc));
	memcpy(out, &header, sizeof(header));
}

int segment_header_parse(const uint8_t *bytes, size_t size, uint64_t number,
	struct segment_identity *identity, char *error, size_t error_size)
{
	struct header header;

	memset(identity, 0, sizeof(*identity));
	if (size < sizeof(header)) {
		snprintf(error, error_size, "%zu bytes, a header has %d", size,
			SEGMENT_HEADER_BYTES);
		return -EINVAL;
	}
	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.magic, FILE_MAGIC, sizeof(header.magic)) != 0) {
		snprintf(error, error_size, "not a segment of Ebbtide's log");
		return -EINVAL;
	}
	if (header.crc != checksum(0, &header, offsetof(struct header, crc))) {
		snprintf(error, error_size, "the header's checksum does not match: damaged");
		return -EINVAL;
	}
	if (header.version != SEGMENT_VERSION) {
		snprintf(error, error_size, "version %u; this program reads version %u",
			header.version, SEGMENT_VERSION);
		return -EPROTO;
	}
	if (header.number != number) {
		snprintf(error, error_size, "its header says segment %llu",
			(unsigned long long)header.number);
		return -EINVAL;
	}
	*identity = (struct segment_identity){
		.schema = header.schema, .inputs = header.inputs, .actions = header.actions};
	return 0;
}

void segment_record_seal(
	uint8_t *record, size_t size, enum segment_type type, uint16_t schema, uint64_t time_us)
{
	struct prefix prefix = {.magic = RECORD_MAGIC,
		.payload_crc = checksum(0, record + SEGMENT_PREFIX_BYTES, size),
		.payload_bytes = (uint32_t)size,
		.type = (uint16_t)type,
		.schema = schema,
		.time_us = time_us};

	memcpy(record, &prefix, sizeof(prefix));
}

static uint32_t prefix_checksum(const struct prefix *prefix, uint64_t number, uint64_t offset)
{
	const uint64_t place[2] = {number, offset};

	return checksum(checksum(0, place, sizeof(place)), &prefix->payload_crc,
		sizeof(*prefix) - offsetof(struct prefix, payload_crc));
}

void segment_record_place(uint8_t *record, uint64_t number, uint64_t offset)
{
	struct prefix prefix;

	memcpy(&prefix, record, sizeof(prefix));
	prefix.prefix_crc = prefix_checksum(&prefix, number, offset);
	memcpy(record, &prefix, sizeof(prefix));
}

/* True when a record may begin at @at: its prefix is sound and its payload is not cut off. */
static bool prefix_read(
	const uint8_t *bytes, size_t size, uint64_t number, uint64_t at, struct prefix *prefix)
{
	memcpy(prefix, bytes + at, sizeof(*prefix));
	return prefix->magic == RECORD_MAGIC &&
	       prefix->prefix_crc == prefix_checksum(prefix, number, at) &&
	       prefix->payload_bytes % 8 == 0 && prefix->payload_bytes <= SEGMENT_PAYLOAD_BYTES &&
	       prefix->payload_bytes <= size - at - sizeof(*prefix);
}

uint64_t segment_walk(
	const uint8_t *bytes, size_t size, uint64_t number, const struct segment_visitor *visitor)
{
	uint64_t at = SEGMENT_HEADER_BYTES;
	uint64_t sound = at; /* end of the last sound record */

	while (at + sizeof(struct prefix) <= size) {
		struct segment_record record;
		struct prefix prefix;

		if (!prefix_read(bytes, size, number, at, &prefix)) {
			at += 8;
			continue;
		}
		record = (struct segment_record){.offset = at,
			.time_us = prefix.time_us,
			.type = prefix.type,
			.schema = prefix.schema,
			.size = prefix.payload_bytes,
			.payload = bytes + at + sizeof(prefix)};
		at += sizeof(prefix) + record.size;
		if (prefix.payload_crc != checksum(0, record.payload, record.size))
			continue;
		if (record.offset > sound && visitor->damage)
			visitor->damage(visitor->context, sound, record.offset - sound);
		visitor->record(visitor->context, &record);
		sound = at;
	}
	return sound < size ? sound : size;
}
