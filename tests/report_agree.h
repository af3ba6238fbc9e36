/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the learner's own decoder says of a report what protobuf-c's says. */
#ifndef EBBTIDE_TESTS_REPORT_AGREE_H
#define EBBTIDE_TESTS_REPORT_AGREE_H

#include "learner/report_decode.h"
#include "wire.pb-c.h"

#include <stdio.h>
#include <string.h>

/* Bytewise, so that a NaN equals itself. */
#define REPORT_AGREE_SAME(a, b) (memcmp(&(a), &(b), sizeof(a)) == 0)

/* NULL, or the name of the first field that differs. */
static inline const char *report_agree_unit(
	const struct report_unit *unit, const Ebbtide__Wire__Unit *wire)
{
	const Ebbtide__Wire__Experience *experience = wire->experience;

	if (strcmp(unit->namespace, wire->namespace_) != 0)
		return "namespace";
	if (strcmp(unit->service, wire->service) != 0)
		return "service";
	if (!wire->sample)
		return "sample";
#define X(field)                                                                                   \
	if (!REPORT_AGREE_SAME(unit->sample.field, wire->sample->field))                           \
		return "sample." #field;
	SAMPLE_FIELDS(X)
#undef X
	if (wire->n_state != STATE_SIZE || memcmp(unit->state, wire->state, sizeof(unit->state)))
		return "state";
	if (unit->decide != (wire->decide != 0))
		return "decide";
	if (!REPORT_AGREE_SAME(unit->cpu_declared_millicores, wire->cpu_declared_millicores))
		return "cpu_declared_millicores";
	if (unit->memory_declared_bytes != wire->memory_declared_bytes)
		return "memory_declared_bytes";
	if (unit->reflex != (wire->reflex != 0))
		return "reflex";
	if (unit->starting != wire->starting)
		return "starting";
	if (unit->memory_high != (wire->memory_high != 0))
		return "memory_high";
	if (unit->has_experience != (experience != NULL))
		return "experience";
	if (!experience)
		return NULL;
	if (experience->n_state != STATE_SIZE ||
		memcmp(unit->experience.state, experience->state, sizeof(unit->experience.state)))
		return "experience.state";
	if (experience->n_next_state != STATE_SIZE ||
		memcmp(unit->experience.next_state, experience->next_state,
			sizeof(unit->experience.next_state)))
		return "experience.next_state";
	if (unit->experience.action != experience->action)
		return "experience.action";
	if (!REPORT_AGREE_SAME(unit->experience.reward, experience->reward))
		return "experience.reward";
	if (unit->experience.terminal != (experience->terminal != 0))
		return "experience.terminal";
	return NULL;
}

/*
 * Decode with both. NULL: they agree, or the learner's refuses (*refused, with its @error); else
 * what is wrong.
 */
static inline const char *report_agree(
	const uint8_t *bytes, size_t size, bool *refused, struct report_error *error)
{
	Ebbtide__Wire__Report *wire = ebbtide__wire__report__unpack(NULL, size, bytes);
	static struct report_unit unit;
	struct report_head head;
	struct report_cursor cursor;
	const char *wrong = NULL;
	size_t units = 0;
	int got;

	error->text[0] = '\0';
	*refused = report_decode_head(bytes, size, &head, error) != 0;
	report_cursor_init(&cursor, bytes, size);
	while (!*refused && !wrong && (got = report_decode_unit(&cursor, &unit, error)) != 0) {
		*refused = got < 0;
		if (!*refused && wire)
			wrong = units < wire->n_units ? report_agree_unit(&unit, wire->units[units])
						      : "units: too many";
		units++;
	}
	if (*refused && !error->text[0])
		wrong = "a refusal that says nothing";
	if (*refused || wrong)
		goto out;
	if (!wire)
		wrong = "taken, but protobuf-c refuses it";
	else if (units != wire->n_units || head.unit_count != units)
		wrong = "units: too few";
	else if (head.schema != wire->schema)
		wrong = "schema";
	else if (strcmp(head.agent, wire->agent) != 0)
		wrong = "agent";
	else if (head.incarnation != wire->incarnation || head.sequence != wire->sequence ||
		 head.sampled_at_us != wire->sampled_at_us)
		wrong = "incarnation, sequence or sampled_at_us";
out:
	if (wire)
		ebbtide__wire__report__free_unpacked(wire, NULL);
	return wrong;
}

#endif
