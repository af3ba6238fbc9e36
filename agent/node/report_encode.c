// SPDX-License-Identifier: Apache-2.0
#include "node/report_encode.h"

#include "node/limits/pressure.h"
#include "wire.pb-c.h"

#include <errno.h>
#include <stdlib.h>

/* Of a unit with names as they usually are; grown where they are longer. */
#define UNIT_BYTES_USUAL 768
#define HEAD_BYTES_USUAL 512
/* A length-delimited field: its key and the most that its length takes. */
#define PREFIX_BYTES_MAX 11
#define UNITS_KEY	 (6 << 3 | 2) /* Report.units, length-delimited */

/* Everything a Unit message points to, in one piece. */
struct wire_unit {
	Ebbtide__Wire__Unit unit;
	Ebbtide__Wire__Sample sample;
	Ebbtide__Wire__Experience experience;
};

static void sample_to_wire(const struct sample *sample, Ebbtide__Wire__Sample *wire)
{
	ebbtide__wire__sample__init(wire);
#define COPY(field) wire->field = sample->field;
	SAMPLE_FIELDS(COPY)
#undef COPY
}

/* Until its first limit of ours nothing is watched, and it keeps the larger margin. */
static bool moves_memory_high(const struct agent *agent, const struct unit *unit)
{
	bool high = actuate_moves_high(agent) && unit->container_count > 0;

	for (size_t i = 0; high && i < unit->container_count; i++)
		high = pressure_is_watched(unit->containers[i]);
	return high;
}

static void unit_to_wire(
	const struct agent *agent, struct unit *unit, bool decide, struct wire_unit *wire)
{
	Ebbtide__Wire__Unit *out = &wire->unit;

	ebbtide__wire__unit__init(out);
	sample_to_wire(&unit->sample, &wire->sample);
	out->namespace_ = unit->namespace;
	out->service = unit->service;
	out->sample = &wire->sample;
	out->n_state = STATE_SIZE;
	out->state = unit->state;
	out->decide = unit->container_count > 0 && decide;
	out->cpu_declared_millicores = unit_declared_millicores(unit);
	out->memory_declared_bytes = unit_declared_bytes(unit);
	out->reflex = allowance_is_possible(agent, unit);
	out->starting = starting_count(unit);
	out->memory_high = moves_memory_high(agent, unit);
	if (unit->acted && unit->has_previous && unit->action < ACTION_VERTICAL) {
		ebbtide__wire__experience__init(&wire->experience);
		wire->experience.n_state = STATE_SIZE;
		wire->experience.state = unit->previous_state;
		wire->experience.action = unit->action;
		wire->experience.reward = unit->reward;
		wire->experience.n_next_state = STATE_SIZE;
		wire->experience.next_state = unit->state;
		wire->experience.terminal = unit->container_count == 0;
		out->experience = &wire->experience;
	}
	unit->acted = false;
	/* A unit that ended has said so now; a new container starts a new episode. */
	if (unit->container_count == 0)
		unit->has_state = false;
}

static int room_make(struct report_bytes *report, size_t *room, size_t more)
{
	uint8_t *grown;

	if (report->size + more <= *room)
		return 0;
	*room += *room / 2 + more;
	grown = realloc(report->bytes, *room);
	if (!grown)
		return -ENOMEM;
	report->bytes = grown;
	return 0;
}

static int unit_append(struct report_bytes *report, size_t *room, const Ebbtide__Wire__Unit *unit)
{
	size_t size = ebbtide__wire__unit__get_packed_size(unit);
	uint8_t *at;

	if (room_make(report, room, size + PREFIX_BYTES_MAX))
		return -ENOMEM;
	at = report->bytes + report->size;
	*at++ = UNITS_KEY;
	for (size_t left = size;; left >>= 7) {
		*at++ = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
		if (left <= 0x7f)
			break;
	}
	at += ebbtide__wire__unit__pack(unit, at);
	report->size = (size_t)(at - report->bytes);
	return 0;
}

int report_encode(struct agent *agent, uint64_t sequence, bool decide, struct report_bytes *report)
{
	size_t room = HEAD_BYTES_USUAL + agent->units.count * UNIT_BYTES_USUAL;
	Ebbtide__Wire__Report head = EBBTIDE__WIRE__REPORT__INIT;
	struct wire_unit wire;
	int err;

	head.schema = STATE_SCHEMA;
	head.agent = (char *)agent->config.node;
	head.incarnation = agent->started_unix_us;
	head.sequence = sequence;
	head.sampled_at_us = unix_us();
	*report = (struct report_bytes){.bytes = malloc(room)};
	err = report->bytes
		      ? room_make(report, &room, ebbtide__wire__report__get_packed_size(&head))
		      : -ENOMEM;
	if (!err)
		report->size = ebbtide__wire__report__pack(&head, report->bytes);
	for (size_t i = 0; i < agent->units.count && !err; i++) {
		struct unit *unit = agent->units.items[i];

		if (!unit->has_objective || !unit->has_state)
			continue;
		unit_to_wire(agent, unit, decide, &wire);
		report->experiences += wire.unit.experience != NULL;
		err = unit_append(report, &room, &wire.unit);
	}
	if (err) {
		free(report->bytes);
		report->bytes = NULL;
	}
	return err;
}
