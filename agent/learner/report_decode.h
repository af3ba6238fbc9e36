// SPDX-License-Identifier: Apache-2.0
/*
 * Report of agent/common/wire.proto, read straight from its bytes into fixed memory: no allocation,
 * one pass over the fields, one unit at a time. The .proto stays the contract; a unit test holds
 * this against protobuf-c's decoder.
 *
 * What it takes is what the protobuf specification asks for: fields in any order, unknown ones
 * skipped, the last of a repeated scalar, packed and unpacked floats. One exception: a sample or an
 * experience that comes in two parts is refused (decoders differ in what they make of it, and no
 * encoder writes it). Every refusal is -EINVAL and names field and value. Beyond the format, values
 * must be what a node can have measured: states within their table, amounts not negative, names that are
 * names.
 */
#ifndef EBBTIDE_REPORT_DECODE_H
#define EBBTIDE_REPORT_DECODE_H

#include "common/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPORT_AGENT_MAX 256
#define REPORT_UNITS_MAX 100000

struct report_error {
	char text[256];
};

/* What stands over the units. */
struct report_head {
	uint32_t schema;
	char agent[REPORT_AGENT_MAX];
	uint64_t incarnation;
	uint64_t sequence;
	uint64_t sampled_at_us;
	size_t unit_count;
};

struct report_experience {
	float state[STATE_SIZE];
	float next_state[STATE_SIZE];
	float reward;
	uint32_t action; /* below ACTION_VERTICAL */
	bool terminal;
};

struct report_unit {
	char namespace[64];
	char service[OBJECTIVE_NAME_MAX];
	bool decide;
	bool has_experience;
	struct sample sample;
	double cpu_declared_millicores;
	uint64_t memory_declared_bytes;
	bool reflex;	   /* an allowance would be kept */
	uint32_t starting; /* containers that start */
	bool memory_high;
	float state[STATE_SIZE];
	struct report_experience experience;
};

/* Goes from unit to unit. */
struct report_cursor {
	const uint8_t *start;
	const uint8_t *at;
	const uint8_t *end;
	size_t index; /* of the next unit */
};

/* The head, with the units skipped over. 0 or -EINVAL. */
int report_decode_head(
	const uint8_t *bytes, size_t size, struct report_head *head, struct report_error *error);
void report_cursor_init(struct report_cursor *cursor, const uint8_t *bytes, size_t size);
/* The next unit of bytes whose head was read. 1; 0 after the last; -EINVAL. */
int report_decode_unit(
	struct report_cursor *cursor, struct report_unit *unit, struct report_error *error);

#endif
