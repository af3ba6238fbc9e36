/* SPDX-License-Identifier: Apache-2.0 */
/* As much of protobuf as a report's head and a look at an answer need; the rest is packed once. */
#ifndef EBBTIDE_AGENT_WIRE_H
#define EBBTIDE_AGENT_WIRE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline size_t agent_wire_put_varint(uint8_t *out, uint64_t value)
{
	size_t used = 0;

	for (; value >= 0x80; value >>= 7)
		out[used++] = (uint8_t)(value | 0x80);
	out[used++] = (uint8_t)value;
	return used;
}

static inline size_t agent_wire_put_field(uint8_t *out, uint32_t field, uint64_t value)
{
	size_t used = agent_wire_put_varint(out, (uint64_t)field << 3);

	return used + agent_wire_put_varint(out + used, value);
}

static inline int agent_wire_get_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64; shift += 7) {
		if (*at == end)
			return -EINVAL;
		*value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80))
			return 0;
	}
	return -EINVAL;
}

/* An Answer without what its actions say. */
struct answer_head {
	uint64_t numbers[5]; /* by field: sequence 1, number 3, learner 4 */
	uint64_t actions;
};

static inline int agent_wire_answer_read(
	const uint8_t *bytes, size_t size, struct answer_head *head)
{
	const uint8_t *at = bytes, *end = bytes + size;

	memset(head, 0, sizeof(*head));
	while (at < end) {
		uint64_t tag, value;

		if (agent_wire_get_varint(&at, end, &tag) ||
			agent_wire_get_varint(&at, end, &value))
			return -EINVAL;
		if ((tag & 7) == 2) {
			if (value > (uint64_t)(end - at))
				return -EINVAL;
			at += value;
			head->actions += tag >> 3 == 2;
		} else if ((tag & 7) == 0 && tag >> 3 < 5) {
			head->numbers[tag >> 3] = value;
		} else if ((tag & 7) != 0) {
			return -EINVAL;
		}
	}
	return 0;
}

#endif
