// SPDX-License-Identifier: Apache-2.0
#include "learner/answer_encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "protobuf's fixed fields are little-endian");

#define TAG(number, type) ((uint8_t)((number) << 3 | (type)))

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5
};

/* Field numbers of wire.proto. */
enum {
	ANSWER_SEQUENCE = 1,
	ANSWER_ACTIONS,
	ANSWER_NUMBER,
	ANSWER_LEARNER
};
enum {
	ACTION_NAMESPACE = 1,
	ACTION_SERVICE,
	ACTION_ACTION,
	ACTION_APPLY,
	ACTION_CPU_LIMIT,
	ACTION_MEMORY_LIMIT,
	ACTION_POLICY,
	ACTION_RULE,
	ACTION_Q,
	ACTION_ALLOWANCE,
	ACTION_WHY,
	ACTION_NUMBER,
	ACTION_CPU_RUNG,
	ACTION_PRICE,
	ACTION_CPU_REQUEST,
	ACTION_RELEASE
};
enum {
	ALLOWANCE_TRIGGER = 1,
	ALLOWANCE_REFILLS,
	ALLOWANCE_CEILING,
	ALLOWANCE_BURST
};

/* An action's length is written when it is known, into this many bytes: up to 2^21. */
#define LENGTH_BYTES	3
#define ACTION_TYPICAL	320
#define NUMBER_BYTES	11 /* tag and varint, or tag and fixed64 */
#define ANSWER_RESERVED 32

/* Room for @size bytes more. */
static bool reserve(struct answer *answer, size_t size)
{
	size_t wanted = answer->used + size;
	uint8_t *grown;

	if (answer->err)
		return false;
	if (wanted <= answer->size)
		return true;
	wanted += wanted / 2;
	grown = realloc(answer->bytes, wanted);
	if (!grown) {
		answer->err = -ENOMEM;
		return false;
	}
	answer->bytes = grown;
	answer->size = wanted;
	return true;
}

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

/* Proto3 leaves out what is zero. */
static uint8_t *put_number(uint8_t *at, uint8_t field, uint64_t value)
{
	if (value == 0)
		return at;
	*at++ = TAG(field, WIRE_VARINT);
	return put_varint(at, value);
}

static uint8_t *put_double(uint8_t *at, uint8_t field, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if (bits == 0)
		return at;
	*at++ = TAG(field, WIRE_FIXED64);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_float(uint8_t *at, uint8_t field, float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if (bits == 0)
		return at;
	*at++ = TAG(field, WIRE_FIXED32);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_bytes(uint8_t *at, uint8_t field, const void *bytes, size_t size)
{
	if (size == 0)
		return at;
	*at++ = TAG(field, WIRE_BYTES);
	at = put_varint(at, size);
	memcpy(at, bytes, size);
	return at + size;
}

/* From field 16 on a tag takes two bytes. */
static uint8_t *put_flag(uint8_t *at, uint32_t field, bool value)
{
	if (!value)
		return at;
	at = put_varint(at, field << 3 | WIRE_VARINT);
	*at++ = 1;
	return at;
}

/* Short enough that its length takes one byte; one that is all zero is there all the same. */
static uint8_t *put_allowance(uint8_t *at, const struct answer_allowance *allowance)
{
	uint8_t *length;

	if (!allowance)
		return at;
	*at++ = TAG(ACTION_ALLOWANCE, WIRE_BYTES);
	length = at++;
	at = put_float(at, ALLOWANCE_TRIGGER, allowance->trigger_age_share);
	at = put_number(at, ALLOWANCE_REFILLS, allowance->refills_per_period);
	at = put_double(at, ALLOWANCE_CEILING, allowance->ceiling_millicores);
	at = put_number(at, ALLOWANCE_BURST, allowance->burst_us);
	*length = (uint8_t)(at - length - 1);
	return at;
}

void answer_begin(struct answer *answer, uint64_t sequence, size_t actions)
{
	memset(answer, 0, sizeof(*answer));
	if (reserve(answer, ANSWER_RESERVED + actions * ACTION_TYPICAL))
		answer->used = (size_t)(put_number(answer->bytes, ANSWER_SEQUENCE, sequence) -
					answer->bytes);
}

void answer_number(struct answer *answer, uint64_t number, uint64_t learner)
{
	uint8_t *at;

	if (!reserve(answer, 2 * NUMBER_BYTES))
		return;
	at = put_number(answer->bytes + answer->used, ANSWER_NUMBER, number);
	at = put_number(at, ANSWER_LEARNER, learner);
	answer->used = (size_t)(at - answer->bytes);
}

void answer_set_cpu(struct answer_action *action, const struct plan *plan)
{
	action->cpu_limit_millicores = plan->reserves ? 0 : plan->cpu_millicores;
	action->cpu_request_millicores = plan->reserves ? plan->cpu_millicores : 0;
}

void answer_add(struct answer *answer, const struct answer_action *action)
{
	const char *const texts[] = {
		action->namespace, action->service, action->policy, action->rule, action->why};
	size_t lengths[5], most = (5 + 11 + 5) * NUMBER_BYTES + action->q_count * sizeof(float);
	uint8_t *at, *length;

	for (int i = 0; i < 5; i++) {
		lengths[i] = texts[i] ? strlen(texts[i]) : 0;
		most += lengths[i];
	}
	if (!reserve(answer, most))
		return;
	at = answer->bytes + answer->used;
	*at++ = TAG(ANSWER_ACTIONS, WIRE_BYTES);
	length = at;
	at += LENGTH_BYTES;
	at = put_bytes(at, ACTION_NAMESPACE, texts[0], lengths[0]);
	at = put_bytes(at, ACTION_SERVICE, texts[1], lengths[1]);
	at = put_number(at, ACTION_ACTION, action->action);
	at = put_number(at, ACTION_APPLY, action->apply);
	at = put_double(at, ACTION_CPU_LIMIT, action->cpu_limit_millicores);
	at = put_number(at, ACTION_MEMORY_LIMIT, action->memory_limit_bytes);
	at = put_bytes(at, ACTION_POLICY, texts[2], lengths[2]);
	at = put_bytes(at, ACTION_RULE, texts[3], lengths[3]);
	at = put_bytes(at, ACTION_Q, action->q, action->q_count * sizeof(float));
	at = put_allowance(at, action->allowance);
	at = put_bytes(at, ACTION_WHY, texts[4], lengths[4]);
	at = put_number(at, ACTION_NUMBER, action->number);
	at = put_number(at, ACTION_CPU_RUNG, action->cpu_rung);
	at = put_double(at, ACTION_PRICE, action->violation_price);
	at = put_double(at, ACTION_CPU_REQUEST, action->cpu_request_millicores);
	at = put_flag(at, ACTION_RELEASE, action->release);
	most = (size_t)(at - length - LENGTH_BYTES);
	/* A varint may be longer than it must be; the last byte has no continuation bit. */
	length[0] = (uint8_t)(most | 0x80);
	length[1] = (uint8_t)(most >> 7 | 0x80);
	length[2] = (uint8_t)(most >> 14 & 0x7f);
	answer->used = (size_t)(at - answer->bytes);
	answer->actions++;
}

int answer_end(struct answer *answer, uint8_t **bytes, size_t *size)
{
	if (answer->err) {
		free(answer->bytes);
		memset(answer, 0, sizeof(*answer));
		return -ENOMEM;
	}
	*bytes = answer->bytes;
	*size = answer->used;
	return 0;
}
