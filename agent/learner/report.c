// SPDX-License-Identifier: Apache-2.0
/* A report of an agent: checked as a whole, stored, answered with an action for each unit. */
#include "learner/answer_encode.h"
#include "learner/learner.h"
#include "learner/report_decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Units are worked on so many at a time: their states go through the network together, and what a
 * report takes besides its bytes is the same for a small one and a large one.
 */
#define CHUNK 64

struct chunk {
	size_t count;
	struct report_unit units[CHUNK];
	struct service_unit *known[CHUNK];
	struct brain_experience experiences[CHUNK];
	/* Of those that ask for an action, one after the other. */
	size_t asking;
	float states[CHUNK][STATE_SIZE];
	float q[CHUNK][ACTION_VERTICAL];
};

struct work {
	struct learner *learner;
	const uint8_t *bytes;
	size_t size;
	struct report_head head;
	struct chunk *chunk;
	bool filled; /* the only chunk of a small report is there since its check */
	struct answer answer;
	double now_s;
	double unix_s;
	bool begun;
	bool first;  /* not a repetition */
	bool newest; /* it says what is now; one that waited in a spool only teaches */
};

static struct agent_record *agent_get(
	struct learner *learner, const char *name, uint64_t incarnation)
{
	struct agent_record **agents, *record;
	uint64_t hash = index_hash(INDEX_HASH_START, &incarnation, sizeof(incarnation));

	hash = index_hash(hash, name, strlen(name));
	for (size_t at = 0; (record = index_find(&learner->agent_index, hash, &at));)
		if (record->incarnation == incarnation && strcmp(record->name, name) == 0)
			return record;
	agents = realloc(learner->agents, (learner->agent_count + 1) * sizeof(*agents));
	if (!agents)
		return NULL;
	learner->agents = agents;
	record = calloc(1, sizeof(*record));
	if (!record)
		return NULL;
	snprintf(record->name, sizeof(record->name), "%s", name);
	record->incarnation = incarnation;
	record->hash = hash;
	if (index_add(&learner->agent_index, hash, record)) {
		free(record);
		return NULL;
	}
	agents[learner->agent_count++] = record;
	return record;
}

/* True the first time. A sequence older than the window counts as seen. */
static bool agent_first(struct agent_record *record, uint64_t sequence)
{
	uint64_t *word, bit;

	if (sequence > record->highest) {
		uint64_t from = record->highest + 1;

		if (sequence - record->highest >= AGENT_WINDOW)
			memset(record->seen, 0, sizeof(record->seen));
		else
			for (uint64_t s = from; s <= sequence; s++)
				record->seen[s % AGENT_WINDOW / 64] &= ~(1ULL << (s % 64));
		record->highest = sequence;
	} else if (record->highest - sequence >= AGENT_WINDOW) {
		return false;
	}
	word = &record->seen[sequence % AGENT_WINDOW / 64];
	bit = 1ULL << (sequence % 64);
	if (*word & bit)
		return false;
	*word |= bit;
	return true;
}

typedef int chunk_body(struct work *work);

/* Decode the units and call @body (or nothing) for every chunk of them; at least once. */
static int chunks_run(struct work *work, chunk_body *body, struct report_error *error)
{
	struct chunk *chunk = work->chunk;
	struct report_cursor cursor;
	size_t seen = 0;
	int err;

	if (work->filled)
		return body(work);
	report_cursor_init(&cursor, work->bytes, work->size);
	do {
		for (chunk->count = 0; chunk->count < CHUNK && seen < work->head.unit_count;
			seen++) {
			err = report_decode_unit(&cursor, &chunk->units[chunk->count], error);
			if (err < 0)
				return err;
			chunk->count++;
		}
		err = body ? body(work) : 0;
	} while (!err && seen < work->head.unit_count);
	work->filled = work->head.unit_count <= CHUNK;
	return err;
}

/* Where each unit of the chunk is kept; NULL when there is no room for a new one. */
static bool chunk_find(struct work *work)
{
	struct learner *learner = work->learner;
	struct chunk *chunk = work->chunk;
	bool all = true;

	for (size_t i = 0; i < chunk->count; i++) {
		const struct report_unit *wire = &chunk->units[i];
		struct service *service =
			services_get(&learner->services, wire->namespace, wire->service);
		struct service_unit *unit = service ? service_get_unit(service, work->head.agent,
							      brain_train_config(learner->vertical))
						    : NULL;

		/* One that begins with a spooled report lives as long as any other. */
		if (unit && unit->updated_s <= 0)
			unit->updated_s = work->now_s;
		chunk->known[i] = unit;
		all = all && unit;
	}
	return all;
}

static int chunk_reserve(struct work *work)
{
	bool all;

	pthread_mutex_lock(&work->learner->lock);
	all = chunk_find(work);
	pthread_mutex_unlock(&work->learner->lock);
	return all ? 0 : -ENOSPC;
}

/* All states of the chunk in one pass through the network. */
static void chunk_evaluate(struct work *work)
{
	struct chunk *chunk = work->chunk;

	chunk->asking = 0;
	for (size_t i = 0; i < chunk->count; i++)
		if (chunk->units[i].decide)
			memcpy(chunk->states[chunk->asking++], chunk->units[i].state,
				sizeof(chunk->states[0]));
	if (chunk->asking)
		brain_evaluate(work->learner->vertical, chunk->states[0], (uint32_t)chunk->asking,
			chunk->q[0]);
}

static struct envelope_unit bounds_of(const struct service *service, const struct report_unit *wire)
{
	return (struct envelope_unit){.objective = &service->objective,
		.sample = &wire->sample,
		.cpu_declared_millicores = wire->cpu_declared_millicores,
		.memory_declared_bytes = wire->memory_declared_bytes};
}

/* Store the chunk's experiences, in the order in which the report has them. */
static void chunk_store(struct work *work)
{
	struct learner *learner = work->learner;
	struct chunk *chunk = work->chunk;
	struct service *owners[CHUNK];
	size_t count = 0;

	for (size_t i = 0; i < chunk->count; i++) {
		const struct report_unit *wire = &chunk->units[i];
		struct service_unit *unit = chunk->known[i];
		struct envelope_unit bounds;

		if (!unit || !wire->has_experience)
			continue;
		bounds = bounds_of(unit->service, wire);
		owners[count] = unit->service;
		chunk->experiences[count++] = (struct brain_experience){.stream = &unit->stream,
			.state = wire->experience.state,
			.next_state = wire->experience.next_state,
			.next_mask = envelope_vertical_mask(&bounds, NULL),
			.action = wire->experience.action,
			.reward = wire->experience.reward,
			.end = wire->experience.terminal ? REPLAY_TERMINAL : REPLAY_CONTINUES};
	}
	learner->counts.experiences += brain_store(learner->vertical, chunk->experiences, count);
	for (size_t i = 0; i < count; i++) {
		if (chunk->experiences[i].err)
			continue;
		owners[i]->counts.experiences++;
		owners[i]->counts.reward_sum += (double)chunk->experiences[i].reward;
	}
}

static void action_note(
	struct work *work, struct service *service, const struct vertical_decision *decision)
{
	service->recommended_millicores = decision->cpu_millicores;
	service->recommended_bytes = decision->memory_bytes;
	if (decision->action == ACTION_VERTICAL_HOLD)
		return;
	snprintf(service->last_action, sizeof(service->last_action), "%s", decision->why);
	snprintf(service->last_rule, sizeof(service->last_rule), "%s",
		envelope_rule_name(decision->rule));
	service->last_action_unix_s = work->unix_s;
}

/* Decide on a unit and add the action to the answer. */
static void unit_decide(struct work *work, struct service_unit *unit,
	const struct report_unit *wire, const float *q)
{
	struct learner *learner = work->learner;
	struct service *service = unit->service;
	struct policy_context context = {.config = &learner->config.policy,
		.vertical = learner->vertical,
		.horizontal = learner->horizontal,
		.random = &learner->random,
		.now_s = work->now_s,
		.vertical_q = q};
	struct envelope_unit bounds = bounds_of(service, wire);
	bool apply = service->objective.mode == OBJECTIVE_AUTO;
	struct vertical_decision decision;
	struct answer_action action;

	policy_decide_vertical(&context, service, unit, &bounds, &decision);
	journal_vertical(learner->journal, work->unix_s, service, unit, &decision, apply);
	action_note(work, service, &decision);
	action = (struct answer_action){.namespace = wire->namespace,
		.service = wire->service,
		/* What was learnt from is what was done: nothing, when it is not applied. */
		.action = apply ? decision.action : ACTION_VERTICAL_HOLD,
		.apply = apply,
		.cpu_limit_millicores = decision.cpu_millicores,
		.memory_limit_bytes = decision.memory_bytes,
		.policy = service->objective.policy,
		.rule = envelope_rule_name(decision.rule),
		.why = decision.why,
		.q = decision.has_q ? decision.q : NULL,
		.q_count = decision.has_q ? ACTION_VERTICAL : 0};
	answer_add(&work->answer, &action);
	learner->counts.actions++;
}

/* What is now of the chunk's units, and an action for each that asks. */
static void chunk_decide(struct work *work)
{
	struct chunk *chunk = work->chunk;
	size_t asked = 0;

	for (size_t i = 0; i < chunk->count; i++) {
		const struct report_unit *wire = &chunk->units[i];
		struct service_unit *unit = chunk->known[i];
		const float *q = wire->decide ? chunk->q[asked++] : NULL;

		if (!unit)
			continue;
		unit->sample = wire->sample;
		memcpy(unit->state, wire->state, sizeof(unit->state));
		unit->updated_s = work->now_s;
		sample_extend(&unit->service->period, &unit->sample);
		if (wire->decide && unit->service->has_objective &&
			unit->service->objective.mode != OBJECTIVE_OBSERVE)
			unit_decide(work, unit, wire, q);
	}
}

/* Whose report it is and whether it was there before; the lock is held. */
static int report_begin(struct work *work)
{
	struct learner *learner = work->learner;
	const struct report_head *head = &work->head;
	struct agent_record *record = agent_get(learner, head->agent, head->incarnation);

	if (!record)
		return -ENOMEM;
	work->begun = true;
	work->newest = head->sequence > record->highest;
	work->first = agent_first(record, head->sequence);
	if (work->first)
		learner->counts.reports++;
	else
		learner->counts.reports_repeated++;
	return 0;
}

static int chunk_handle(struct work *work)
{
	struct learner *learner = work->learner;
	int err = 0;

	chunk_evaluate(work);
	pthread_mutex_lock(&learner->lock);
	/* A report of several chunks has its units since chunk_reserve(). */
	if (!chunk_find(work) && work->filled)
		err = -ENOSPC;
	if (!err && !work->begun)
		err = report_begin(work);
	if (!err && work->first) {
		chunk_store(work);
		if (work->newest)
			chunk_decide(work);
	}
	pthread_mutex_unlock(&learner->lock);
	return err;
}

static int work_run(struct work *work, struct report_error *error)
{
	int err = report_decode_head(work->bytes, work->size, &work->head, error);

	if (!err)
		err = chunks_run(work, NULL, error);
	if (!err && !work->filled)
		err = chunks_run(work, chunk_reserve, error);
	if (err)
		return err;
	answer_begin(&work->answer, work->head.sequence, work->head.unit_count);
	return chunks_run(work, chunk_handle, error);
}

int report_handle(struct learner *learner, const uint8_t *bytes, size_t size, uint8_t **answer,
	size_t *answer_size, char *error, size_t error_size)
{
	struct work work = {.learner = learner,
		.bytes = bytes,
		.size = size,
		.now_s = learner_now_s(),
		.unix_s = learner_unix_s(),
		.chunk = malloc(sizeof(struct chunk))};
	struct report_error reason;
	int err, answer_err;

	if (!work.chunk)
		return -ENOMEM;
	err = work_run(&work, &reason);
	if (err == -EINVAL)
		snprintf(error, error_size, "%s", reason.text);
	free(work.chunk);
	answer_err = answer_end(&work.answer, answer, answer_size);
	if (err) {
		if (!answer_err)
			free(*answer);
		*answer = NULL;
		return err;
	}
	pthread_mutex_lock(&learner->lock);
	learner->counts.decision_us_sum += (learner_now_s() - work.now_s) * 1e6;
	pthread_mutex_unlock(&learner->lock);
	return answer_err;
}
