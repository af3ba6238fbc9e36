// SPDX-License-Identifier: Apache-2.0
/*
 * The learner's own reading of reports and writing of answers against protobuf-c, which reads
 * wire.proto: on random reports, in every spelling that protobuf allows.
 */
#include "learner/answer_encode.h"
#include "learner/dqn/random.h"
#include "report_agree.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define UNITS  5
#define ROUNDS 2000

struct message {
	Ebbtide__Wire__Report report;
	Ebbtide__Wire__Unit units[UNITS];
	Ebbtide__Wire__Unit *list[UNITS];
	Ebbtide__Wire__Sample samples[UNITS];
	Ebbtide__Wire__Experience experiences[UNITS];
	float states[3 * UNITS][STATE_SIZE];
	char names[2 * UNITS + 1][OBJECTIVE_NAME_MAX];
};

static double random_amount(struct random_state *random)
{
	return random_below(random, 4)
		       ? ldexp(random_uniform_double(random), (int)random_below(random, 60) - 10)
		       : 0;
}

/* Any number of bits, so that varints of every length appear. */
static uint64_t random_count(struct random_state *random, int bits)
{
	uint32_t shift = random_below(random, (uint32_t)bits + 1);

	return shift == 64 ? 0 : random_next(random) >> (64 - bits) >> shift;
}

static char *random_name(struct random_state *random, char *out, uint32_t most)
{
	uint32_t length = 1 + random_below(random, most);

	for (uint32_t i = 0; i < length; i++)
		out[i] = (char)('a' + random_below(random, 26));
	out[length] = '\0';
	return out;
}

static void random_sample(struct random_state *random, Ebbtide__Wire__Sample *sample)
{
	ebbtide__wire__sample__init(sample);
#define X(field)                                                                                   \
	sample->field = _Generic(sample->field, double                                             \
				 : random_amount(random), uint32_t                                 \
				 : (uint32_t)random_count(random, 32), uint64_t                    \
				 : random_count(random, 60));
	SAMPLE_FIELDS(X)
#undef X
}

static float *random_floats(struct random_state *random, float *out)
{
	for (int i = 0; i < STATE_SIZE; i++) {
		float lowest = state_features[i].lowest, highest = state_features[i].highest;
		float between = lowest + (highest - lowest) * random_uniform(random);

		/* The bounds themselves are values too. */
		out[i] = random_below(random, 8) ? between : lowest;
		out[i] = random_below(random, 8) ? out[i] : highest;
	}
	return out;
}

static void random_message(struct random_state *random, struct message *m)
{
	ebbtide__wire__report__init(&m->report);
	m->report.schema = STATE_SCHEMA;
	m->report.agent = random_name(random, m->names[2 * UNITS], 253);
	m->report.incarnation = random_count(random, 64);
	m->report.sequence = random_count(random, 63) + 1;
	m->report.sampled_at_us = random_count(random, 64);
	m->report.n_units = random_below(random, UNITS + 1);
	m->report.units = m->list;
	for (uint32_t i = 0; i < UNITS; i++) {
		Ebbtide__Wire__Unit *unit = &m->units[i];
		Ebbtide__Wire__Experience *experience = &m->experiences[i];

		ebbtide__wire__unit__init(unit);
		m->list[i] = unit;
		random_sample(random, &m->samples[i]);
		unit->namespace_ = random_name(random, m->names[2 * i], 63);
		unit->service = random_name(random, m->names[2 * i + 1], 253);
		unit->sample = &m->samples[i];
		unit->n_state = STATE_SIZE;
		unit->state = random_floats(random, m->states[3 * i]);
		unit->decide = random_below(random, 2);
		unit->cpu_declared_millicores = random_amount(random);
		unit->memory_declared_bytes = random_count(random, 64);
		unit->reflex = random_below(random, 2);
		unit->memory_high = random_below(random, 2);
		if (random_below(random, 2))
			continue;
		ebbtide__wire__experience__init(experience);
		experience->n_state = experience->n_next_state = STATE_SIZE;
		experience->state = random_floats(random, m->states[3 * i + 1]);
		experience->next_state = random_floats(random, m->states[3 * i + 2]);
		experience->action = random_below(random, ACTION_VERTICAL);
		experience->reward = random_normal(random);
		experience->terminal = random_below(random, 2);
		unit->experience = experience;
	}
}

static void assert_agreed(const uint8_t *bytes, size_t size)
{
	struct report_error error;
	bool refused;
	const char *wrong = report_agree(bytes, size, &refused, &error);

	if (wrong)
		fail_msg("they do not agree: %s", wrong);
	if (refused)
		fail_msg("refused: %s", error.text);
}

static void test_random_reports_are_read_as_protobuf_reads_them(void **state)
{
	static struct message m;
	struct random_state random;

	(void)state;
	random_seed(&random, 1);
	for (int round = 0; round < ROUNDS; round++) {
		uint8_t *bytes;
		size_t size;

		random_message(&random, &m);
		size = ebbtide__wire__report__get_packed_size(&m.report);
		/* Exactly its size: a sanitizer sees a read past the end. */
		bytes = malloc(size);
		assert_non_null(bytes);
		ebbtide__wire__report__pack(&m.report, bytes);
		assert_agreed(bytes, size);
		free(bytes);
	}
}

/* --- spellings that protobuf-c never writes and every decoder must read --- */

struct buffer {
	uint8_t bytes[1 << 16];
	size_t used;
};

static void add(struct buffer *to, const void *bytes, size_t size)
{
	assert_true(to->used + size <= sizeof(to->bytes));
	memcpy(to->bytes + to->used, bytes, size);
	to->used += size;
}

static void add_varint(struct buffer *to, uint64_t value, int longest)
{
	for (; value >= 0x80 || longest > 1; value >>= 7, longest--)
		add(to, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
	add(to, &(uint8_t){(uint8_t)value}, 1);
}

static void add_number(struct buffer *to, uint32_t field, uint64_t value, int longest)
{
	add_varint(to, (uint64_t)field << 3, 1);
	add_varint(to, value, longest);
}

static void add_bytes(struct buffer *to, uint32_t field, const void *bytes, size_t size)
{
	add_varint(to, (uint64_t)field << 3 | 2, 1);
	add_varint(to, size, 1);
	add(to, bytes, size);
}

static void add_double(struct buffer *to, uint32_t field, double value)
{
	add_varint(to, (uint64_t)field << 3 | 1, 1);
	add(to, &value, sizeof(value));
}

static void add_float(struct buffer *to, uint32_t field, float value)
{
	add_varint(to, (uint64_t)field << 3 | 5, 1);
	add(to, &value, sizeof(value));
}

static void add_unknown(struct buffer *to)
{
	add_number(to, 99, UINT64_MAX, 1);
	add_double(to, 100, 1.5);
	add_bytes(to, 5000000, "anything", 8);
	add_float(to, 101, 2.5F);
}

static void add_floats_one_by_one(struct buffer *to, uint32_t field, const float *values, int count)
{
	for (int i = 0; i < count; i++)
		add_float(to, field, values[i]);
}

static void add_odd_unit(struct buffer *report, bool experience)
{
	static struct buffer unit, part;
	float values[STATE_SIZE];

	unit.used = part.used = 0;
	for (int i = 0; i < STATE_SIZE; i++)
		values[i] = state_features[i].highest / (float)(i + 1);
	add_unknown(&unit);
	/* Last field first; the service named twice, the second time right. */
	add_number(&unit, 8, 1 << 20, 5);
	add_double(&unit, 7, 1000);
	add_bytes(&unit, 2, "wrong", 5);
	add_bytes(&unit, 2, "right", 5);
	/* Half of the states packed, in two parts, half not. */
	add_bytes(&unit, 4, values, 4 * sizeof(float));
	add_bytes(&unit, 4, values + 4, 12 * sizeof(float));
	add_floats_one_by_one(&unit, 4, values + 16, 16);
	/* A number twice: the second one holds. */
	add_double(&part, 1, 7);
	add_number(&part, 2, 300, 10);
	add_unknown(&part);
	add_double(&part, 1, 1);
	add_number(&part, 24, UINT64_MAX, 10);
	add_bytes(&unit, 3, part.bytes, part.used);
	add_number(&unit, 6, 77, 3);
	add_bytes(&unit, 1, "default", 7);
	if (experience) {
		part.used = 0;
		add_floats_one_by_one(&part, 4, values, STATE_SIZE);
		add_unknown(&part);
		add_bytes(&part, 1, values, sizeof(values));
		add_float(&part, 3, -0.5F);
		add_number(&part, 2, 8, 4);
		add_number(&part, 5, 2, 1);
		add_bytes(&unit, 5, part.bytes, part.used);
	}
	add_bytes(report, 6, unit.bytes, unit.used);
}

static void test_every_spelling_that_protobuf_allows_is_read(void **state)
{
	static struct buffer report;

	(void)state;
	report.used = 0;
	add_odd_unit(&report, false);
	add_unknown(&report);
	add_number(&report, 4, 12, 10);
	add_odd_unit(&report, true);
	add_number(&report, 1, STATE_SCHEMA, 1);
	add_bytes(&report, 2, "node", 4);
	add_odd_unit(&report, true);
	assert_agreed(report.bytes, report.used);
}

static void assert_refused(const struct buffer *report, const char *text)
{
	struct report_error error;
	bool refused;
	const char *wrong = report_agree(report->bytes, report->used, &refused, &error);

	if (wrong)
		fail_msg("they do not agree: %s", wrong);
	assert_true(refused);
	if (strncmp(error.text, text, strlen(text)) != 0)
		fail_msg("\"%s\" does not begin with \"%s\"", error.text, text);
}

static void head(struct buffer *report)
{
	report->used = 0;
	add_number(report, 1, STATE_SCHEMA, 1);
	add_bytes(report, 2, "node", 4);
	add_number(report, 4, 1, 1);
}

static void unit_with(struct buffer *report, const struct buffer *unit)
{
	head(report);
	add_bytes(report, 6, unit->bytes, unit->used);
}

static void test_a_field_of_another_type_is_refused_by_its_name(void **state)
{
	static struct buffer report, unit, part;

	(void)state;
	head(&report);
	add_bytes(&report, 1, "1", 1);
	assert_refused(&report, "schema: wire type bytes, expected varint");
	head(&report);
	add_number(&report, 2, 5, 1);
	assert_refused(&report, "agent: wire type varint, expected bytes");
	head(&report);
	add_number(&report, 6, 5, 1);
	assert_refused(&report, "units: wire type varint, expected bytes");
	for (uint32_t field = 1; field <= 11; field++) {
		static const char *const names[] = {"namespace", "service", "sample", "state",
			"experience", "decide", "cpu_declared_millicores", "memory_declared_bytes",
			"reflex", "starting", "memory_high"};
		char text[64];

		unit.used = 0;
		/* A fixed64 where none is, a fixed32 where one is. */
		if (field == 7)
			add_float(&unit, field, 1);
		else
			add_double(&unit, field, 1);
		unit_with(&report, &unit);
		snprintf(text, sizeof(text), "units[0].%s: wire type fixed", names[field - 1]);
		assert_refused(&report, text);
	}
	for (size_t i = 0; i < 24; i++) {
		static const char *const names[] = {
#define X(field) #field,
			SAMPLE_FIELDS(X)
#undef X
		};
		char text[64];

		unit.used = part.used = 0;
		add_float(&part, (uint32_t)i + 1, 1);
		add_bytes(&unit, 3, part.bytes, part.used);
		unit_with(&report, &unit);
		snprintf(text, sizeof(text), "units[0].sample.%s: wire type fixed32", names[i]);
		assert_refused(&report, text);
	}
	for (uint32_t field = 1; field <= 5; field++) {
		unit.used = part.used = 0;
		add_double(&part, field, 1);
		add_bytes(&unit, 5, part.bytes, part.used);
		unit_with(&report, &unit);
		assert_refused(&report, "units[0].experience.");
	}
}

static void test_bytes_that_protobuf_forbids_are_refused(void **state)
{
	static struct buffer report, unit;
	float values[STATE_SIZE] = {0};

	(void)state;
	head(&report);
	add(&report, "\x02\x01", 2);
	assert_refused(&report, "body: a field number that cannot be at byte 10");
	head(&report);
	add(&report, "\x3b", 1);
	assert_refused(&report, "body: a wire type that proto3 does not have");
	head(&report);
	add(&report, "\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12);
	assert_refused(&report, "body: a number of more than 10 bytes");
	head(&report);
	add(&report, "\x38\xff", 2);
	assert_refused(&report, "body: the message ends inside a number");
	head(&report);
	add(&report, "\x3a\x05hell", 6);
	assert_refused(&report, "body: the message ends inside the field");
	unit.used = 0;
	add_bytes(&unit, 4, values, 7);
	unit_with(&report, &unit);
	assert_refused(&report, "units[0].state: 7 bytes of packed floats");
	unit.used = 0;
	add(&unit, "\x09\x01", 2);
	unit_with(&report, &unit);
	assert_refused(&report, "units[0]: the message ends inside the field at byte");
}

static void test_a_message_in_two_parts_is_refused(void **state)
{
	static struct buffer report, unit;

	(void)state;
	unit.used = 0;
	add_bytes(&unit, 3, "", 0);
	add_bytes(&unit, 3, "", 0);
	unit_with(&report, &unit);
	assert_refused(&report, "units[0].sample: given twice");
	unit.used = 0;
	add_bytes(&unit, 5, "", 0);
	add_bytes(&unit, 5, "", 0);
	unit_with(&report, &unit);
	assert_refused(&report, "units[0].experience: given twice");
}

static void test_a_name_that_would_break_a_label_is_refused(void **state)
{
	static const char *const bad[] = {"a b", "a\"b", "a\\b", "a\nb", "caf\xc3\xa9", "a\x7f"};
	static struct buffer report, unit;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unit.used = 0;
		add_bytes(&unit, 2, bad[i], strlen(bad[i]));
		unit_with(&report, &unit);
		assert_refused(&report, "units[0].service: byte 0x");
		head(&report);
		add_bytes(&report, 2, bad[i], strlen(bad[i]));
		assert_refused(&report, "agent: byte 0x");
	}
	head(&report);
	add_bytes(&report, 2, "a\0b", 3);
	assert_refused(&report, "agent: byte 0x00");
}

static void test_more_units_than_a_report_may_have_are_refused(void **state)
{
	size_t size = 2 * (REPORT_UNITS_MAX + 1);
	uint8_t *bytes = malloc(size + 16);
	struct report_head seen;
	struct report_error error;
	struct buffer *report = calloc(1, sizeof(*report));

	(void)state;
	assert_non_null(bytes);
	assert_non_null(report);
	head(report);
	memcpy(bytes, report->bytes, report->used);
	for (size_t i = 0; i < size; i += 2)
		memcpy(bytes + report->used + i, "\x32", 2);
	assert_int_equal(report_decode_head(bytes, report->used + size, &seen, &error), -EINVAL);
	assert_string_equal(error.text, "units: 100001, at most 100000");
	assert_int_equal(report_decode_head(bytes, report->used + size - 2, &seen, &error), 0);
	assert_int_equal(seen.unit_count, REPORT_UNITS_MAX);
	free(report);
	free(bytes);
}

/* --- answers --- */

static void test_answers_are_written_as_protobuf_reads_them(void **state)
{
	struct random_state random;
	char names[5][OBJECTIVE_NAME_MAX];
	float q[ACTION_VERTICAL];

	(void)state;
	random_seed(&random, 2);
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t count = random_below(&random, 4);
		struct answer_allowance allowance = {0.5F, 3, 900, 20000};
		struct answer_action action = {0};
		Ebbtide__Wire__Answer *read;
		struct answer answer;
		uint8_t *bytes = NULL;
		size_t size = 0;

		for (int i = 0; i < 5; i++)
			random_name(&random, names[i], 253);
		for (int i = 0; i < ACTION_VERTICAL; i++)
			q[i] = random_normal(&random);
		action.namespace = names[0];
		action.service = names[1];
		action.action = (uint32_t)random_count(&random, 32);
		action.apply = random_below(&random, 2);
		action.cpu_limit_millicores = random_amount(&random);
		action.memory_limit_bytes = random_count(&random, 64);
		action.cpu_request_millicores = random_amount(&random);
		action.release = random_below(&random, 2);
		action.policy = names[2];
		action.rule = random_below(&random, 2) ? names[3] : NULL;
		action.why = names[4];
		action.q = random_below(&random, 2) ? q : NULL;
		action.q_count = action.q ? ACTION_VERTICAL : 0;
		if (random_below(&random, 3) == 0)
			memset(&allowance, 0, sizeof(allowance));
		action.allowance = random_below(&random, 2) ? &allowance : NULL;
		/* Room for none, so that it has to grow. */
		answer_begin(&answer, (uint64_t)round, round % 2 ? count : 0);
		action.number = random_count(&random, 64);
		answer_number(&answer, random_count(&random, 64), 17);
		for (uint32_t i = 0; i < count; i++)
			answer_add(&answer, &action);
		assert_int_equal(answer_end(&answer, &bytes, &size), 0);
		read = ebbtide__wire__answer__unpack(NULL, size, bytes);
		assert_non_null(read);
		assert_int_equal(read->sequence, round);
		assert_int_equal(read->n_actions, count);
		assert_int_equal(read->learner, 17);
		for (uint32_t i = 0; i < count; i++) {
			const Ebbtide__Wire__Action *a = read->actions[i];

			assert_string_equal(a->namespace_, action.namespace);
			assert_string_equal(a->service, action.service);
			assert_true(a->number == action.number);
			assert_true(a->action == action.action);
			assert_int_equal(a->release, action.release);
			assert_true((a->apply != 0) == action.apply);
			assert_memory_equal(&a->cpu_limit_millicores, &action.cpu_limit_millicores,
				sizeof(double));
			assert_memory_equal(&a->cpu_request_millicores,
				&action.cpu_request_millicores, sizeof(double));
			assert_true(a->memory_limit_bytes == action.memory_limit_bytes);
			assert_string_equal(a->policy, action.policy);
			assert_string_equal(a->rule, action.rule ? action.rule : "");
			assert_string_equal(a->why, action.why);
			assert_int_equal(a->n_q, action.q_count);
			if (action.q)
				assert_memory_equal(a->q, q, sizeof(q));
			assert_int_equal(a->allowance != NULL, action.allowance != NULL);
			if (!a->allowance)
				continue;
			assert_memory_equal(&a->allowance->trigger_age_share,
				&allowance.trigger_age_share, sizeof(float));
			assert_int_equal(
				a->allowance->refills_per_period, allowance.refills_per_period);
			assert_memory_equal(&a->allowance->ceiling_millicores,
				&allowance.ceiling_millicores, sizeof(double));
			assert_true(a->allowance->burst_us == allowance.burst_us);
		}
		ebbtide__wire__answer__free_unpacked(read, NULL);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_reports_are_read_as_protobuf_reads_them),
		cmocka_unit_test(test_every_spelling_that_protobuf_allows_is_read),
		cmocka_unit_test(test_a_field_of_another_type_is_refused_by_its_name),
		cmocka_unit_test(test_bytes_that_protobuf_forbids_are_refused),
		cmocka_unit_test(test_a_message_in_two_parts_is_refused),
		cmocka_unit_test(test_a_name_that_would_break_a_label_is_refused),
		cmocka_unit_test(test_more_units_than_a_report_may_have_are_refused),
		cmocka_unit_test(test_answers_are_written_as_protobuf_reads_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
