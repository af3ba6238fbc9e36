/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of reports as agents would send them, packed once and shared by all simulated agents: a
 * block is the units of one agent, and each block has a few variants, one tick after the other of
 * a service whose rate swings and whose limits follow random actions. States and rewards are made
 * by the code that real agents run.
 */
#ifndef EBBTIDE_AGENT_REPORTS_H
#define EBBTIDE_AGENT_REPORTS_H

#include "common/state.h"
#include "learner/dqn/random.h"
#include "wire.pb-c.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_REPORTS_VARIANTS 8

struct agent_reports_body {
	uint8_t *bytes; /* the packed units field of a Report */
	size_t size;
};

struct agent_reports {
	struct agent_reports_body *bodies; /* [blocks][AGENT_REPORTS_VARIANTS] */
	uint32_t blocks;
	uint32_t units; /* in each */
};

struct agent_reports_options {
	uint32_t services; /* named service-0, ... in namespace default */
	uint32_t units;
	bool decide;
	bool experience;
	uint64_t seed;
};

/* One service as it is simulated. */
struct agent_reports_unit {
	struct state_history history;
	double rate; /* requests a second */
	double cpu_per_request_us;
	double cpu_millicores;
	uint64_t memory_bytes;
	uint64_t working_set_bytes;
	struct sample sample;
	float state[STATE_SIZE];
	float previous[STATE_SIZE];
	uint32_t action;
	float reward;
};

static inline void agent_reports_objective(struct objective *objective)
{
	objective_init(objective);
	objective->mode = OBJECTIVE_AUTO;
	objective->latency_percentile = 99;
	objective->latency_target_us = 50000;
	objective->cpu_min_millicores = 50;
	objective->cpu_max_millicores = 1000;
	objective->memory_min_bytes = 24 << 20;
	objective->memory_max_bytes = 128 << 20;
	objective->replicas_min = 1;
	objective->replicas_max = 3;
}

/* A tick of one second: latency grows as a queue's does when the limit nears the demand. */
static inline void agent_reports_tick(struct agent_reports_unit *unit, struct random_state *random)
{
	struct sample *sample = &unit->sample;
	double limit = unit->cpu_millicores;
	double demand, use, service_us, over;

	unit->rate *= exp(0.1 * (double)random_normal(random));
	unit->rate = fmin(fmax(unit->rate, 5), 300);
	demand = unit->rate * unit->cpu_per_request_us / 1000;
	use = fmin(demand, limit);
	service_us = unit->cpu_per_request_us * fmax(1, 1000 / limit);
	service_us /= fmax(0.05, 1 - use / (limit * 1.05));
	memset(sample, 0, sizeof(*sample));
	sample->tick_s = 1;
	sample->requests = (uint64_t)(unit->rate * use / fmax(demand, 1));
	over = exp(-50000 / service_us);
	sample->requests_over = (uint64_t)((double)sample->requests * over);
	sample->latency_p50_us = service_us * 0.7;
	sample->latency_p95_us = service_us * 3;
	sample->latency_p99_us = service_us * 4.6;
	sample->latency_objective_us = sample->latency_p99_us;
	sample->in_flight = floor(unit->rate * service_us / 1e6);
	sample->cpu_used_us = (uint64_t)(use * 1000);
	sample->cpu_allocated_us = (uint64_t)(limit * 1000);
	sample->throttled_us = demand > limit * 0.8 ? random_below(random, 400000) : 0;
	sample->run_queue_us = random_below(random, 30000);
	sample->cpu_pressure_us = random_below(random, 50000);
	unit->working_set_bytes += random_below(random, 2 << 20);
	unit->working_set_bytes -= random_below(random, 2 << 20);
	sample->memory_used_bytes = unit->working_set_bytes + (2 << 20);
	sample->memory_peak_bytes = unit->working_set_bytes + (3 << 20);
	sample->memory_working_set_bytes = unit->working_set_bytes;
	sample->containers = 1;
	sample->cpu_limit_millicores = limit;
	sample->memory_limit_bytes = unit->memory_bytes;
}

static inline void agent_reports_step(struct agent_reports_unit *unit,
	const struct objective *objective, struct random_state *random)
{
	double cpu, memory;

	unit->action = random_below(random, ACTION_VERTICAL);
	cpu = unit->cpu_millicores * (1 + 0.2 * action_cpu_direction(unit->action));
	memory = (double)unit->memory_bytes *
		 action_memory_factor[action_memory_direction(unit->action) + 1];
	unit->cpu_millicores =
		fmin(fmax(cpu, objective->cpu_min_millicores), objective->cpu_max_millicores);
	unit->memory_bytes =
		(uint64_t)fmin(fmax(memory, 56 << 20), (double)objective->memory_max_bytes);
	state_note_action(&unit->history, action_cpu_direction(unit->action),
		action_memory_direction(unit->action));
	memcpy(unit->previous, unit->state, sizeof(unit->previous));
	agent_reports_tick(unit, random);
	state_build(&unit->history, &unit->sample, objective, unit->state);
	unit->reward =
		reward_compute(&unit->sample, objective, &unit->history, 1, &reward_defaults);
}

struct agent_reports_message {
	Ebbtide__Wire__Unit unit;
	Ebbtide__Wire__Sample sample;
	Ebbtide__Wire__Experience experience;
	char service[32];
};

static inline void agent_reports_fill(struct agent_reports_message *message,
	struct agent_reports_unit *unit, uint32_t service,
	const struct agent_reports_options *options)
{
	ebbtide__wire__unit__init(&message->unit);
	ebbtide__wire__sample__init(&message->sample);
	ebbtide__wire__experience__init(&message->experience);
#define COPY(field) message->sample.field = unit->sample.field;
	SAMPLE_FIELDS(COPY)
#undef COPY
	snprintf(message->service, sizeof(message->service), "service-%u", service);
	message->unit.namespace_ = (char *)"default";
	message->unit.service = message->service;
	message->unit.sample = &message->sample;
	message->unit.n_state = STATE_SIZE;
	message->unit.state = unit->state;
	message->unit.decide = options->decide;
	message->unit.cpu_declared_millicores = 1000;
	message->unit.memory_declared_bytes = 128 << 20;
	if (!options->experience)
		return;
	message->experience.n_state = message->experience.n_next_state = STATE_SIZE;
	message->experience.state = unit->previous;
	message->experience.action = unit->action;
	message->experience.reward = unit->reward;
	message->experience.next_state = unit->state;
	message->unit.experience = &message->experience;
}

static inline int agent_reports_pack(struct agent_reports_body *body,
	struct agent_reports_message *messages, Ebbtide__Wire__Unit **list, uint32_t count)
{
	/* Head fields at their defaults take no bytes, so these are the units alone. */
	Ebbtide__Wire__Report report = EBBTIDE__WIRE__REPORT__INIT;

	for (uint32_t i = 0; i < count; i++)
		list[i] = &messages[i].unit;
	report.n_units = count;
	report.units = list;
	body->size = ebbtide__wire__report__get_packed_size(&report);
	body->bytes = malloc(body->size ? body->size : 1);
	if (!body->bytes)
		return -1;
	ebbtide__wire__report__pack(&report, body->bytes);
	return 0;
}

static inline void agent_reports_free(struct agent_reports *reports)
{
	for (size_t i = 0; i < (size_t)reports->blocks * AGENT_REPORTS_VARIANTS; i++)
		free(reports->bodies[i].bytes);
	free(reports->bodies);
	memset(reports, 0, sizeof(*reports));
}

/* 0, or -1 when out of memory. */
static inline int agent_reports_make(
	struct agent_reports *reports, const struct agent_reports_options *options)
{
	uint32_t units = options->units, blocks = options->services / units;
	struct agent_reports_unit *states = calloc(units, sizeof(*states));
	struct agent_reports_message *messages = calloc(units, sizeof(*messages));
	Ebbtide__Wire__Unit **list = calloc(units, sizeof(Ebbtide__Wire__Unit *));
	struct objective objective;
	struct random_state random;
	int err = 0;

	random_seed(&random, options->seed);
	agent_reports_objective(&objective);
	reports->blocks = blocks ? blocks : 1;
	reports->units = units;
	reports->bodies =
		calloc((size_t)reports->blocks * AGENT_REPORTS_VARIANTS, sizeof(*reports->bodies));
	if (!states || !messages || !list || !reports->bodies)
		err = -1;
	for (uint32_t block = 0; !err && block < reports->blocks; block++) {
		memset(states, 0, units * sizeof(*states));
		for (uint32_t i = 0; i < units; i++) {
			states[i].rate = 20 + random_below(&random, 100);
			states[i].cpu_per_request_us = 1000 + random_below(&random, 3000);
			states[i].cpu_millicores = 300 + random_below(&random, 600);
			states[i].memory_bytes = 96 << 20;
			states[i].working_set_bytes = (20 << 20) + random_below(&random, 16 << 20);
			agent_reports_step(&states[i], &objective, &random);
		}
		for (uint32_t v = 0; !err && v < AGENT_REPORTS_VARIANTS; v++) {
			for (uint32_t i = 0; i < units; i++) {
				agent_reports_step(&states[i], &objective, &random);
				agent_reports_fill(
					&messages[i], &states[i], block * units + i, options);
			}
			err = agent_reports_pack(
				&reports->bodies[block * AGENT_REPORTS_VARIANTS + v], messages,
				list, units);
		}
	}
	free(states);
	free(messages);
	free(list);
	return err;
}

/* The body of @agent's report number @tick. */
static inline const struct agent_reports_body *agent_reports_of(
	const struct agent_reports *reports, uint32_t agent, uint64_t tick)
{
	return &reports->bodies[(size_t)(agent % reports->blocks) * AGENT_REPORTS_VARIANTS +
				(tick + agent / reports->blocks) % AGENT_REPORTS_VARIANTS];
}

#endif
