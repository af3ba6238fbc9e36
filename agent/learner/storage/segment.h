// SPDX-License-Identifier: Apache-2.0
/*
 * One segment of the experience log as bytes: a header, then one record after another. Pure; the
 * files are segments.h's, docs/replay.md gives the layout.
 *
 * Little-endian, everything begins at a multiple of 8. A record is sound at its own place only: its
 * checksum covers the segment's number and the record's offset, so that bytes which look like a
 * record (a payload's, a stale block's) are never taken for one when damage is passed over.
 */
#ifndef EBBTIDE_SEGMENT_H
#define EBBTIDE_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#define SEGMENT_VERSION	      1U
#define SEGMENT_HEADER_BYTES  64
#define SEGMENT_PREFIX_BYTES  32	  /* of a record, before its payload */
#define SEGMENT_PAYLOAD_BYTES (64U << 20) /* at most */

/* What the experiences in a segment were made for. */
struct segment_identity {
	uint32_t schema; /* STATE_SCHEMA */
	uint32_t inputs; /* floats in a state */
	uint32_t actions;
};

enum segment_type {
	SEGMENT_EXPERIENCES = 1, /* batch.h */
	SEGMENT_SEQUENCES = 2,	 /* sequences.h */
};

struct segment_record {
	uint64_t offset;  /* in the segment */
	uint64_t time_us; /* Unix, of the writing */
	uint16_t type;
	uint16_t schema;
	size_t size;
	const uint8_t *payload; /* the segment's own bytes, at a multiple of 8 */
};

void segment_header_pack(uint8_t out[SEGMENT_HEADER_BYTES], uint64_t number, uint64_t created_us,
	const struct segment_identity *identity);
/*
 * 0; -EINVAL with the reason in @error: no segment or a damaged header; -EPROTO: another version,
 * whose number is in @error.
 */
int segment_header_parse(const uint8_t *bytes, size_t size, uint64_t number,
	struct segment_identity *identity, char *error, size_t error_size);

/*
 * A record is made in two steps. Seal one whose payload of @size bytes (a multiple of 8) stands
 * behind SEGMENT_PREFIX_BYTES: reads all of it, needs no lock. Place it: cheap, once its offset is
 * known; may be done again.
 */
void segment_record_seal(
	uint8_t *record, size_t size, enum segment_type type, uint16_t schema, uint64_t time_us);
void segment_record_place(uint8_t *record, uint64_t number, uint64_t offset);

struct segment_visitor {
	void *context;
	void (*record)(void *context, const struct segment_record *record);
	/* Bytes between two sound records that are none. */
	void (*damage)(void *context, uint64_t offset, uint64_t bytes);
};

/*
 * Every sound record of a segment, in order. What is damaged is passed over: by its length when its
 * prefix is sound, else to the next multiple of 8 where a sound record begins. Returns the end of
 * the last sound record, @size when nothing is behind it; what is behind is not reported.
 * @bytes are aligned to 8.
 */
uint64_t segment_walk(
	const uint8_t *bytes, size_t size, uint64_t number, const struct segment_visitor *visitor);

#endif
