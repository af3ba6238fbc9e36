// SPDX-License-Identifier: Apache-2.0
#include "learner/report_decode.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* An exbibyte: more than a node has, and sums over all units stay inside 64 bits. */
#define BYTES_MAX (1ULL << 60)
/* Fixed fields and floats are copied as they are. */
_Static_assert(
	__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "protobuf's fixed fields are little-endian");

#define VARINT_MAX    10
#define NAMESPACE_MAX 63
/* Agents' rewards are -5 to 0; other weights may widen that, but not without end. */
#define REWARD_MAX 100.0F

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5
};

/* Field numbers of wire.proto. */
enum {
	REPORT_SCHEMA = 1,
	REPORT_AGENT,
	REPORT_INCARNATION,
	REPORT_SEQUENCE,
	REPORT_SAMPLED_AT,
	REPORT_UNITS
};
enum {
	UNIT_NAMESPACE = 1,
	UNIT_SERVICE,
	UNIT_SAMPLE,
	UNIT_STATE,
	UNIT_EXPERIENCE,
	UNIT_DECIDE,
	UNIT_CPU_DECLARED,
	UNIT_MEMORY_DECLARED,
	UNIT_REFLEX,
	UNIT_STARTING,
	UNIT_MEMORY_HIGH
};
enum {
	EXPERIENCE_STATE = 1,
	EXPERIENCE_ACTION,
	EXPERIENCE_REWARD,
	EXPERIENCE_NEXT_STATE,
	EXPERIENCE_TERMINAL
};

/* Sample's are its fields' order. */
enum sample_kind {
	SAMPLE_DOUBLE,
	SAMPLE_COUNT32,
	SAMPLE_COUNT64
};
struct sample_field {
	const char *name;
	size_t offset;
	enum sample_kind kind;
};
static const struct sample_field sample_fields[] = {
#define X(field)                                                                                   \
	{#field, offsetof(struct sample, field),                                                   \
		_Generic(((struct sample *)NULL)->field, double                                    \
			 : SAMPLE_DOUBLE, uint32_t                                                 \
			 : SAMPLE_COUNT32, uint64_t                                                \
			 : SAMPLE_COUNT64)},
	SAMPLE_FIELDS(X)
#undef X
};
#define SAMPLE_FIELD_COUNT (sizeof(sample_fields) / sizeof(sample_fields[0]))

struct reader {
	const uint8_t *at;
	const uint8_t *end;
};

/* One field: its number and type, and its value or where its bytes are. */
struct field {
	uint32_t number;
	enum wire_type type;
	uint64_t value;
	struct reader bytes;
};

/* Which message is read, for errors: "units[3].sample". */
struct place {
	const char *message;  /* "", "sample", "experience" */
	ssize_t unit;	      /* -1: the report itself */
	const uint8_t *start; /* of the body */
	struct report_error *error;
};

__attribute__((format(printf, 3, 4), cold)) static int refuse(
	const struct place *place, const char *field, const char *format, ...)
{
	char path[96] = "", reason[144];
	va_list args;

	if (place->unit >= 0)
		snprintf(path, sizeof(path), "units[%zd]%s%s%s", place->unit,
			place->message[0] ? "." : "", place->message, field[0] ? "." : "");
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	snprintf(place->error->text, sizeof(place->error->text), "%s%s: %s", path, field, reason);
	return -EINVAL;
}

static __attribute__((cold)) int refuse_at(
	const struct place *place, const uint8_t *at, const char *reason)
{
	return refuse(place, place->unit < 0 ? "body" : "", "%s at byte %zu", reason,
		(size_t)(at - place->start));
}

static int varint_slow(struct reader *reader, uint64_t *value)
{
	uint64_t sum = 0;

	for (int i = 0; i < VARINT_MAX && reader->at < reader->end; i++) {
		uint8_t byte = *reader->at++;

		sum |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (!(byte & 0x80)) {
			*value = sum;
			return 0;
		}
	}
	return -EINVAL;
}

static inline int varint(struct reader *reader, uint64_t *value)
{
	if (reader->at < reader->end && *reader->at < 0x80) {
		*value = *reader->at++;
		return 0;
	}
	return varint_slow(reader, value);
}

static int number(const struct place *place, struct reader *reader, uint64_t *value)
{
	const uint8_t *start = reader->at;

	if (varint(reader, value) == 0)
		return 0;
	return refuse_at(place, start,
		reader->at - start == VARINT_MAX ? "a number of more than 10 bytes"
						 : "the message ends inside a number");
}

static int field_next(const struct place *place, struct reader *reader, struct field *field)
{
	const uint8_t *start = reader->at;
	uint64_t tag = 0;
	size_t fixed;
	int err = number(place, reader, &tag);

	if (err)
		return err;
	if (tag >> 3 == 0 || tag >> 32 != 0)
		return refuse_at(place, start, "a field number that cannot be");
	field->number = (uint32_t)(tag >> 3);
	field->value = 0;
	field->bytes = (struct reader){NULL, NULL};
	field->type = (enum wire_type)(tag & 7);
	switch (field->type) {
	case WIRE_VARINT:
		return number(place, reader, &field->value);
	case WIRE_BYTES:
		err = number(place, reader, &field->value);
		if (err)
			return err;
		if (field->value > (uint64_t)(reader->end - reader->at))
			return refuse_at(place, start, "the message ends inside the field");
		field->bytes = (struct reader){reader->at, reader->at + field->value};
		reader->at += field->value;
		return 0;
	case WIRE_FIXED64:
	case WIRE_FIXED32:
		fixed = field->type == WIRE_FIXED64 ? 8 : 4;
		if ((size_t)(reader->end - reader->at) < fixed)
			return refuse_at(place, start, "the message ends inside the field");
		memcpy(&field->value, reader->at, fixed);
		reader->at += fixed;
		return 0;
	default:
		return refuse_at(place, start, "a wire type that proto3 does not have");
	}
}

static __attribute__((cold)) int refuse_type(const struct place *place, const char *name,
	const struct field *field, const char *expected)
{
	static const char *const types[] = {"varint", "fixed64", "bytes", "?", "?", "fixed32"};

	return refuse(place, name, "wire type %s, expected %s", types[field->type], expected);
}

static inline int take_count(
	const struct place *place, const char *name, const struct field *field, uint64_t *value)
{
	if (field->type != WIRE_VARINT)
		return refuse_type(place, name, field, "varint");
	*value = field->value;
	return 0;
}

static inline int take_amount(
	const struct place *place, const char *name, const struct field *field, double *value)
{
	if (field->type != WIRE_FIXED64)
		return refuse_type(place, name, field, "fixed64");
	memcpy(value, &field->value, sizeof(*value));
	if (!isfinite(*value) || *value < 0)
		return refuse(place, name, "%g is negative or not finite", *value);
	return 0;
}

/* A string that is a name: at least one byte, at most @most, none that would break a label. */
static int take_name(const struct place *place, const char *name, const struct field *field,
	char *out, size_t most, const char *what)
{
	const uint8_t *bytes;

	if (field->type != WIRE_BYTES)
		return refuse_type(place, name, field, "bytes");
	bytes = field->bytes.at;
	if (!bytes || field->value == 0 || field->value > most)
		return refuse(place, name, "%llu bytes long, %s has 1 to %zu",
			(unsigned long long)field->value, what, most);
	for (uint64_t i = 0; i < field->value; i++)
		if (bytes[i] <= ' ' || bytes[i] >= 0x7f || bytes[i] == '"' || bytes[i] == '\\')
			return refuse(place, name, "byte 0x%02x at %llu is not one of %s", bytes[i],
				(unsigned long long)i, what);
	memcpy(out, bytes, field->value);
	out[field->value] = '\0';
	return 0;
}

/* Repeated floats, packed or one by one; *count goes on from what came before. */
static int take_floats(const struct place *place, const char *name, const struct field *field,
	float *out, size_t *count)
{
	size_t values = field->value / sizeof(float);
	float one;

	if (field->type == WIRE_FIXED32) {
		memcpy(&one, &field->value, sizeof(one));
		if (*count < STATE_SIZE)
			out[*count] = one;
		++*count;
		return 0;
	}
	if (field->type != WIRE_BYTES)
		return refuse_type(place, name, field, "packed floats");
	if (field->value % sizeof(float))
		return refuse(place, name, "%llu bytes of packed floats, not a multiple of 4",
			(unsigned long long)field->value);
	if (*count < STATE_SIZE) {
		size_t room = STATE_SIZE - *count;

		memcpy(out + *count, field->bytes.at,
			(values < room ? values : room) * sizeof(float));
	}
	*count += values;
	return 0;
}

static const float state_lowest[STATE_SIZE] = {
#define X(name, lowest, highest, text) lowest,
	STATE_FEATURES(X)
#undef X
};
static const float state_highest[STATE_SIZE] = {
#define X(name, lowest, highest, text) highest,
	STATE_FEATURES(X)
#undef X
};

/* Agents clip what they send; a value outside would make the network's outputs anything. */
static int check_state(
	const struct place *place, const char *name, const float *values, size_t count)
{
	int bad = 0;

	if (count != STATE_SIZE)
		return refuse(place, name, "%zu values, expected %d", count, STATE_SIZE);
	/* No way out of the loop, so that it runs on vectors; a NaN fails both comparisons. */
	for (int i = 0; i < STATE_SIZE; i++)
		bad |= !(values[i] >= state_lowest[i] && values[i] <= state_highest[i]);
	if (!bad)
		return 0;
	for (int i = 0; i < STATE_SIZE; i++)
		if (!(values[i] >= state_lowest[i] && values[i] <= state_highest[i]))
			return refuse(place, name, "value %d (%s) is %g, expected %g to %g", i,
				state_features[i].name, (double)values[i], (double)state_lowest[i],
				(double)state_highest[i]);
	return 0;
}

static int take_sample(struct place *place, struct reader reader, struct sample *sample)
{
	place->message = "sample";
	while (reader.at < reader.end) {
		const struct sample_field *known;
		struct field field;
		char *to;
		int err = field_next(place, &reader, &field);

		if (err)
			return err;
		if (field.number > SAMPLE_FIELD_COUNT)
			continue;
		known = &sample_fields[field.number - 1];
		to = (char *)sample + known->offset;
		if (known->kind == SAMPLE_DOUBLE) {
			double amount = 0;

			err = take_amount(place, known->name, &field, &amount);
			memcpy(to, &amount, sizeof(amount));
		} else {
			uint64_t count = 0;
			uint32_t narrow;

			err = take_count(place, known->name, &field, &count);
			narrow = (uint32_t)count;
			if (known->kind == SAMPLE_COUNT64)
				memcpy(to, &count, sizeof(count));
			else
				memcpy(to, &narrow, sizeof(narrow));
		}
		if (err)
			return err;
	}
	place->message = "";
	return 0;
}

static int check_bytes(const struct place *place, const struct sample *sample)
{
	const struct {
		const char *name;
		uint64_t bytes;
	} fields[] = {{"memory_used_bytes", sample->memory_used_bytes},
		{"memory_peak_bytes", sample->memory_peak_bytes},
		{"memory_working_set_bytes", sample->memory_working_set_bytes},
		{"memory_limit_bytes", sample->memory_limit_bytes}};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].bytes > BYTES_MAX) {
			struct place inside = *place;

			inside.message = "sample";
			return refuse(&inside, fields[i].name, "%llu is over 2^60 bytes",
				(unsigned long long)fields[i].bytes);
		}
	return 0;
}

/* How many floats of each array have come so far. */
struct float_counts {
	size_t state;
	size_t before;
	size_t after;
};

static int take_experience(struct place *place, struct reader reader,
	struct report_experience *experience, struct float_counts *counts)
{
	place->message = "experience";
	while (reader.at < reader.end) {
		struct field field;
		uint64_t value = 0;
		int err = field_next(place, &reader, &field);

		if (err)
			return err;
		switch (field.number) {
		case EXPERIENCE_STATE:
			err = take_floats(
				place, "state", &field, experience->state, &counts->before);
			break;
		case EXPERIENCE_ACTION:
			err = take_count(place, "action", &field, &value);
			experience->action = (uint32_t)value;
			break;
		case EXPERIENCE_REWARD:
			if (field.type != WIRE_FIXED32)
				return refuse_type(place, "reward", &field, "fixed32");
			memcpy(&experience->reward, &field.value, sizeof(experience->reward));
			break;
		case EXPERIENCE_NEXT_STATE:
			err = take_floats(place, "next_state", &field, experience->next_state,
				&counts->after);
			break;
		case EXPERIENCE_TERMINAL:
			err = take_count(place, "terminal", &field, &value);
			experience->terminal = value != 0;
			break;
		default:
			break;
		}
		if (err)
			return err;
	}
	place->message = "";
	return 0;
}

static int check_experience(struct place *place, const struct report_experience *experience,
	const struct float_counts *counts)
{
	int err;

	place->message = "experience";
	err = check_state(place, "state", experience->state, counts->before);
	if (!err)
		err = check_state(place, "next_state", experience->next_state, counts->after);
	if (err)
		return err;
	if (!(fabsf(experience->reward) <= REWARD_MAX))
		return refuse(place, "reward", "%g, expected %g to %g", (double)experience->reward,
			(double)-REWARD_MAX, (double)REWARD_MAX);
	if (experience->action >= ACTION_VERTICAL)
		return refuse(place, "action", "%u, expected 0 to %d", experience->action,
			ACTION_VERTICAL - 1);
	place->message = "";
	return 0;
}

static int unit_fields(struct place *place, struct reader reader, struct report_unit *unit,
	struct float_counts *counts, bool *has_sample)
{
	while (reader.at < reader.end) {
		struct field field;
		uint64_t value = 0;
		int err = field_next(place, &reader, &field);

		if (err)
			return err;
		switch (field.number) {
		case UNIT_NAMESPACE:
			err = take_name(place, "namespace", &field, unit->namespace, NAMESPACE_MAX,
				"a namespace");
			break;
		case UNIT_SERVICE:
			err = take_name(place, "service", &field, unit->service,
				OBJECTIVE_NAME_MAX - 1, "a service's name");
			break;
		case UNIT_SAMPLE:
			if (field.type != WIRE_BYTES)
				return refuse_type(place, "sample", &field, "bytes");
			if (*has_sample)
				return refuse(place, "sample", "given twice");
			err = take_sample(place, field.bytes, &unit->sample);
			*has_sample = true;
			break;
		case UNIT_STATE:
			err = take_floats(place, "state", &field, unit->state, &counts->state);
			break;
		case UNIT_EXPERIENCE:
			if (field.type != WIRE_BYTES)
				return refuse_type(place, "experience", &field, "bytes");
			if (unit->has_experience)
				return refuse(place, "experience", "given twice");
			err = take_experience(place, field.bytes, &unit->experience, counts);
			unit->has_experience = true;
			break;
		case UNIT_DECIDE:
			err = take_count(place, "decide", &field, &value);
			unit->decide = value != 0;
			break;
		case UNIT_CPU_DECLARED:
			err = take_amount(place, "cpu_declared_millicores", &field,
				&unit->cpu_declared_millicores);
			break;
		case UNIT_MEMORY_DECLARED:
			err = take_count(place, "memory_declared_bytes", &field,
				&unit->memory_declared_bytes);
			break;
		case UNIT_REFLEX:
			err = take_count(place, "reflex", &field, &value);
			unit->reflex = value != 0;
			break;
		case UNIT_STARTING:
			err = take_count(place, "starting", &field, &value);
			unit->starting = (uint32_t)value;
			break;
		case UNIT_MEMORY_HIGH:
			err = take_count(place, "memory_high", &field, &value);
			unit->memory_high = value != 0;
			break;
		default:
			break;
		}
		if (err)
			return err;
	}
	return 0;
}

static void unit_clear(struct report_unit *unit)
{
	unit->namespace[0] = '\0';
	unit->service[0] = '\0';
	unit->decide = unit->has_experience = false;
	memset(&unit->sample, 0, sizeof(unit->sample));
	unit->cpu_declared_millicores = 0;
	unit->memory_declared_bytes = 0;
	unit->reflex = unit->memory_high = false;
	unit->starting = 0;
	/* States are written in full or refused. */
	unit->experience.action = 0;
	unit->experience.reward = 0;
	unit->experience.terminal = false;
}

static int unit_decode(struct place *place, struct reader reader, struct report_unit *unit)
{
	struct float_counts counts = {0};
	bool has_sample = false;
	int err;

	unit_clear(unit);
	err = unit_fields(place, reader, unit, &counts, &has_sample);
	if (err)
		return err;
	if (!unit->namespace[0])
		return refuse(place, "namespace", "missing");
	if (!unit->service[0])
		return refuse(place, "service", "missing");
	if (!has_sample)
		return refuse(place, "sample", "missing");
	err = check_bytes(place, &unit->sample);
	if (!err)
		err = check_state(place, "state", unit->state, counts.state);
	if (!err && unit->has_experience)
		err = check_experience(place, &unit->experience, &counts);
	return err;
}

void report_cursor_init(struct report_cursor *cursor, const uint8_t *bytes, size_t size)
{
	*cursor = (struct report_cursor){.start = bytes, .at = bytes, .end = bytes + size};
}

int report_decode_unit(
	struct report_cursor *cursor, struct report_unit *unit, struct report_error *error)
{
	struct place place = {.message = "", .unit = -1, .start = cursor->start, .error = error};
	struct reader reader = {cursor->at, cursor->end};
	struct field field;

	while (reader.at < reader.end) {
		int err = field_next(&place, &reader, &field);

		if (err)
			return err;
		if (field.number != REPORT_UNITS)
			continue;
		cursor->at = reader.at;
		place.unit = (ssize_t)cursor->index++;
		err = unit_decode(&place, field.bytes, unit);
		return err ? err : 1;
	}
	cursor->at = reader.at;
	return 0;
}

static int check_head(const struct place *place, const struct report_head *head)
{
	if (head->schema != STATE_SCHEMA)
		return refuse(place, "schema",
			"%u, this learner speaks %d: run the same version of both", head->schema,
			STATE_SCHEMA);
	if (!head->agent[0])
		return refuse(place, "agent", "missing");
	if (head->sequence == 0)
		return refuse(place, "sequence", "0, the first one is 1");
	if (head->unit_count > REPORT_UNITS_MAX)
		return refuse(
			place, "units", "%zu, at most %d", head->unit_count, REPORT_UNITS_MAX);
	return 0;
}

int report_decode_head(
	const uint8_t *bytes, size_t size, struct report_head *head, struct report_error *error)
{
	struct place place = {.message = "", .unit = -1, .start = bytes, .error = error};
	struct reader reader = {bytes, bytes + size};

	memset(head, 0, sizeof(*head));
	while (reader.at < reader.end) {
		struct field field;
		uint64_t value = 0;
		int err = field_next(&place, &reader, &field);

		if (err)
			return err;
		switch (field.number) {
		case REPORT_SCHEMA:
			err = take_count(&place, "schema", &field, &value);
			head->schema = (uint32_t)value;
			break;
		case REPORT_AGENT:
			err = take_name(&place, "agent", &field, head->agent, REPORT_AGENT_MAX - 1,
				"a node's name");
			break;
		case REPORT_INCARNATION:
			err = take_count(&place, "incarnation", &field, &head->incarnation);
			break;
		case REPORT_SEQUENCE:
			err = take_count(&place, "sequence", &field, &head->sequence);
			break;
		case REPORT_SAMPLED_AT:
			err = take_count(&place, "sampled_at_us", &field, &head->sampled_at_us);
			break;
		case REPORT_UNITS:
			if (field.type != WIRE_BYTES)
				return refuse_type(&place, "units", &field, "bytes");
			head->unit_count++;
			break;
		default:
			break;
		}
		if (err)
			return err;
	}
	return check_head(&place, head);
}
