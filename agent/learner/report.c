// SPDX-License-Identifier: Apache-2.0
/* A report of an agent: checked as a whole, stored, answered with an action for each unit. */
#include "learner/advice.h"
#include "learner/answer_encode.h"
#include "learner/learner.h"
#include "learner/report_decode.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
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
	bool evaluated;
	float states[CHUNK][STATE_SIZE];
	float q[CHUNK][ACTION_VERTICAL];
};

struct work {
	struct learner *learner;
	const uint8_t *bytes;
	size_t size;
	struct report_head head;
	struct chunk *chunk;
	size_t first; /* number in the report of the chunk's first unit */
	bool filled;  /* the only chunk of a small report is there since its check */
	struct sequence_claim claim;
	bool repeated; /* stored before; its answer may have been lost */
	struct batch_writer batch;
	uint64_t *next_masks; /* [units], of those with an experience */
	struct answer answer;
	uint64_t number; /* of the answer, among all that is sent */
	double now_s;
	double unix_s;
	struct report_error error;
};

typedef int chunk_body(struct work *work);

/* Decode the units and call @body (or nothing) for every chunk of them; at least once. */
static int chunks_run(struct work *work, chunk_body *body)
{
	struct chunk *chunk = work->chunk;
	struct report_cursor cursor;
	size_t seen = 0;
	int err;

	if (work->filled)
		return body ? body(work) : 0;
	report_cursor_init(&cursor, work->bytes, work->size);
	do {
		work->first = seen;
		for (chunk->count = 0; chunk->count < CHUNK && seen < work->head.unit_count;
			seen++) {
			err = report_decode_unit(
				&cursor, &chunk->units[chunk->count], &work->error);
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

/* All states of the chunk in one pass through the network. */
static void chunk_evaluate(struct work *work)
{
	struct chunk *chunk = work->chunk;

	chunk->asking = 0;
	for (size_t i = 0; i < chunk->count; i++)
		if (chunk->units[i].decide)
			memcpy(chunk->states[chunk->asking++], chunk->units[i].state,
				sizeof(chunk->states[0]));
	/* With one value out of range each unit is evaluated anew, alone. */
	chunk->evaluated =
		chunk->asking && brain_evaluate(work->learner->vertical, chunk->states[0],
					 (uint32_t)chunk->asking, chunk->q[0]) == 0;
}

static struct envelope_unit bounds_of(
	const struct service_unit *unit, const struct report_unit *wire)
{
	struct envelope_unit bounds = policy_bounds(unit, &wire->sample, wire->state, wire->reflex);

	bounds.cpu_declared_millicores = wire->cpu_declared_millicores;
	bounds.memory_declared_bytes = wire->memory_declared_bytes;
	bounds.starting = wire->starting;
	/* Its limit is nobody's decision: the service goes on from where it was. */
	if (envelope_starts(&bounds) && unit->plan.cpu_millicores > 0)
		bounds.cpu_rung = unit->plan.cpu_rung;
	bounds.memory_high = wire->memory_high;
	return bounds;
}

__attribute__((format(printf, 2, 3))) static void say(struct work *work, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(work->error.text, sizeof(work->error.text), format, args);
	va_end(args);
}

/* The chunk's experiences into the batch. What is stored later is what is logged now. */
static int chunk_log(struct work *work)
{
	struct chunk *chunk = work->chunk;
	int err = 0;

	pthread_mutex_lock(&work->learner->lock);
	if (!chunk_find(work)) {
		/* Not to be taken for a full disk. */
		say(work,
			"no room for more units: %zu of %d services, %zu units: try again later\n",
			work->learner->services.count, SERVICES_MAX,
			work->learner->services.unit_count);
		err = -EUSERS;
	}
	for (size_t i = 0; i < chunk->count && !err; i++) {
		const struct report_unit *wire = &chunk->units[i];
		struct envelope_unit bounds = bounds_of(chunk->known[i], wire);
		struct experience experience;

		if (!wire->has_experience)
			continue;
		experience = (struct experience){.namespace = wire->namespace,
			.service = wire->service,
			.state = wire->experience.state,
			.next_state = wire->experience.next_state,
			.reward = wire->experience.reward,
			.action = wire->experience.action,
			.end = wire->experience.terminal ? REPLAY_TERMINAL : REPLAY_CONTINUES,
			.next_mask = envelope_vertical_mask(&bounds, NULL)};
		work->next_masks[work->first + i] = experience.next_mask;
		err = batch_add(&work->batch, &experience);
	}
	pthread_mutex_unlock(&work->learner->lock);
	return err;
}

/* The report's experiences into the log, before anything is acknowledged or learnt from. */
static int report_log(struct work *work)
{
	const struct batch_source source = {.agent = work->head.agent,
		.incarnation = work->head.incarnation,
		.sequence = work->head.sequence};
	int err = batch_writer_init(&work->batch, &source, STATE_SIZE);

	if (!err)
		err = chunks_run(work, chunk_log);
	if (!err && work->batch.count)
		err = experience_log_append(work->learner->log, &work->batch);
	batch_writer_free(&work->batch);
	return err;
}

/* The chunk's experiences into the replay buffer, in the order in which the report has them. */
static void chunk_store(struct work *work)
{
	struct learner *learner = work->learner;
	struct chunk *chunk = work->chunk;
	struct service *owners[CHUNK];
	size_t count = 0;

	for (size_t i = 0; i < chunk->count; i++) {
		const struct report_experience *experience = &chunk->units[i].experience;
		struct service_unit *unit = chunk->known[i];

		if (!unit || !chunk->units[i].has_experience)
			continue;
		owners[count] = unit->service;
		chunk->experiences[count++] = (struct brain_experience){.stream = &unit->stream,
			.state = experience->state,
			.next_state = experience->next_state,
			.next_mask = work->next_masks[work->first + i],
			.action = experience->action,
			.reward = experience->reward,
			.end = experience->terminal ? REPLAY_TERMINAL : REPLAY_CONTINUES};
	}
	learner->counts.experiences += brain_store(learner->vertical, chunk->experiences, count);
	for (size_t i = 0; i < count; i++) {
		if (chunk->experiences[i].err)
			continue;
		owners[i]->counts.experiences++;
		owners[i]->counts.reward_sum += (double)chunk->experiences[i].reward;
		owners[i]->counts.reward_mean = service_mean(
			owners[i]->counts.reward_mean, (double)chunk->experiences[i].reward);
	}
}

/* For the objective's status: what would be, and what was done last. */
static void action_note(struct work *work, struct service *service,
	const struct vertical_decision *decision, const struct plan *advised, bool apply)
{
	service->recommended_millicores = advised->cpu_millicores;
	service->recommended_bytes = advised->memory_bytes;
	if (!apply || decision->action == ACTION_VERTICAL_HOLD)
		return;
	snprintf(service->last_action, sizeof(service->last_action), "%s", decision->why);
	snprintf(service->last_rule, sizeof(service->last_rule), "%s",
		envelope_rule_name(decision->rule));
	service->last_action_unix_s = work->unix_s;
}

/* What may happen on the unit until the next action; none is said to be none by its absence. */
static const struct answer_allowance *allowance_of(
	const struct plan *plan, struct answer_allowance *allowance)
{
	if (plan->allowance.trigger_age_share <= 0 && plan->burst_us == 0)
		return NULL;
	*allowance = (struct answer_allowance){
		.trigger_age_share = (float)plan->allowance.trigger_age_share,
		.refills_per_period = plan->allowance.refills_per_period,
		.ceiling_millicores = plan->allowance.ceiling_millicores,
		.burst_us = plan->burst_us};
	return allowance;
}

/* What was learnt from is what was done: nothing, when it is not applied. */
static uint32_t action_learnt(const struct vertical_decision *decision, bool apply, bool starting)
{
	if (!apply)
		return ACTION_VERTICAL_HOLD;
	/* What a start costs comes of no action. */
	return starting ? POLICY_NO_ACTION : decision->action;
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
	struct envelope_unit bounds = bounds_of(unit, wire);
	bool apply = service->objective.mode == OBJECTIVE_AUTO, does;
	const struct plan *advised = NULL;
	struct answer_allowance allowance;
	struct vertical_decision decision;
	struct decision_record record;
	struct answer_action action;

	policy_decide_vertical(&context, service, unit, &bounds, &decision);
	/* The agent's own of the tick that ended, when something was learnt from it. */
	decision_record_vertical(&record, work->unix_s, unit, &bounds, &decision,
		wire->has_experience ? wire->experience.reward : NAN, apply);
	decisions_keep(learner, service, unit, &record);
	/* An owner's limits that come back are nothing to be set. */
	does = apply && !decision.released;
	if (service->objective.mode == OBJECTIVE_RECOMMEND)
		advised = advice_move(&context, unit, &bounds);
	else
		advice_forget(unit);
	action_note(work, service, &decision, advised ? advised : &decision.plan, does);
	action = (struct answer_action){.namespace = wire->namespace,
		.service = wire->service,
		.action = action_learnt(&decision, apply, wire->starting > 0),
		.apply = does,
		.release = decision.released,
		.memory_limit_bytes = decision.plan.memory_bytes,
		.policy = service->objective.policy,
		.rule = envelope_rule_name(decision.rule),
		.why = decision.why,
		.cpu_rung = decision.plan.cpu_rung,
		.violation_price = decision.plan.violation_price,
		.q = decision.has_q ? decision.q : NULL,
		.q_count = decision.has_q ? ACTION_VERTICAL : 0,
		.allowance = does ? allowance_of(&decision.plan, &allowance) : NULL};
	answer_set_cpu(&action, &decision.plan);
	push_supersede(&learner->push, unit->agent, service->namespace, service->name);
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
		const float *q = NULL;
		bool broke;

		if (wire->decide) {
			q = chunk->evaluated ? chunk->q[asked] : NULL;
			asked++;
		}
		if (!unit)
			continue;
		broke = sample_violates(&wire->sample, &unit->service->objective) &&
			!sample_violates(&unit->sample, &unit->service->objective);
		unit->sample = wire->sample;
		unit->cpu_declared_millicores = wire->cpu_declared_millicores;
		unit->memory_declared_bytes = wire->memory_declared_bytes;
		unit->memory_high = wire->memory_high;
		memcpy(unit->state, wire->state, sizeof(unit->state));
		unit->updated_s = work->now_s;
		if (!work->repeated)
			service_note_tick(unit);
		if (wire->decide && unit->service->has_objective &&
			unit->service->objective.mode != OBJECTIVE_OBSERVE)
			unit_decide(work, unit, wire, q);
		else
			journal_sample(
				work->learner->journal, learner_unix_s(), unit->service, unit);
		if (broke)
			urgent_broken(work->learner, unit, work->now_s);
	}
}

static int chunk_handle(struct work *work)
{
	struct learner *learner = work->learner;

	if (work->claim.newest)
		chunk_evaluate(work);
	pthread_mutex_lock(&learner->lock);
	/* A unit may have been forgotten since the log was written: find again. */
	(void)chunk_find(work);
	if (!work->repeated)
		chunk_store(work);
	if (!work->number) {
		work->number = push_number(&learner->push);
		answer_number(&work->answer, work->number, learner->push.learner);
	}
	/* A report that waited in a spool teaches, but says nothing of now. */
	if (work->claim.newest)
		chunk_decide(work);
	pthread_mutex_unlock(&learner->lock);
	return 0;
}

static int refuse_claim(struct work *work, int err)
{
	unsigned long long sequence = work->head.sequence;

	switch (err) {
	case -EBUSY:
		say(work, "sequence %llu is being stored: try again\n", sequence);
		return err;
	case -ESTALE:
		say(work, "sequence: %llu is older than the %d gaps that are remembered", sequence,
			SEQUENCES_RANGES);
		return -EINVAL;
	default:
		say(work, "out of memory: try again\n");
		return err;
	}
}

static int refuse_storing(struct work *work, int err)
{
	if (!work->error.text[0])
		say(work, "not stored: %s: try again\n", strerror(-err));
	return err == -EINVAL ? -EIO : err;
}

/* Store what is new, decide, and count what it took. */
static int report_take(struct work *work)
{
	struct learner *learner = work->learner;
	const struct report_head *head = &work->head;
	int err = sequences_claim(&learner->sequences, head->agent, head->incarnation,
		head->sequence, (uint64_t)(work->unix_s * 1e6), &work->claim);

	work->repeated = err == -EEXIST;
	if (err && !work->repeated)
		return refuse_claim(work, err);
	err = work->repeated ? 0 : report_log(work);
	if (err) {
		sequences_settle(&learner->sequences, &work->claim, false);
		return refuse_storing(work, err);
	}
	answer_begin(&work->answer, head->sequence, work->claim.newest ? head->unit_count : 0);
	(void)chunks_run(work, chunk_handle);
	if (!work->repeated)
		sequences_settle(&learner->sequences, &work->claim, true);
	pthread_mutex_lock(&learner->lock);
	if (work->repeated)
		learner->counts.reports_repeated++;
	else
		learner->counts.reports++;
	learner->counts.decision_us_sum += (learner_now_s() - work->now_s) * 1e6;
	pthread_mutex_unlock(&learner->lock);
	return 0;
}

static int work_run(struct work *work)
{
	int err = report_decode_head(work->bytes, work->size, &work->head, &work->error);

	if (err)
		return err;
	work->chunk = malloc(sizeof(*work->chunk));
	work->next_masks = malloc((work->head.unit_count + 1) * sizeof(*work->next_masks));
	if (!work->chunk || !work->next_masks) {
		say(work, "out of memory: try again\n");
		return -ENOMEM;
	}
	err = chunks_run(work, NULL);
	if (err)
		return err;
	err = experience_log_enter(work->learner->log);
	if (err) {
		say(work, "standby: the state directory is not open\n");
		return err;
	}
	err = report_take(work);
	experience_log_leave(work->learner->log);
	return err;
}

int report_handle(struct learner *learner, const uint8_t *bytes, size_t size, uint8_t **answer,
	size_t *answer_size, char *error, size_t error_size)
{
	struct work work = {.learner = learner,
		.bytes = bytes,
		.size = size,
		.now_s = learner_now_s(),
		.unix_s = learner_unix_s()};
	int err = work_run(&work);

	free(work.chunk);
	free(work.next_masks);
	if (err)
		snprintf(error, error_size, "%s", work.error.text);
	/* Out of memory for the answer only: what was stored is stored, a retry will tell. */
	return err ? err : answer_end(&work.answer, answer, answer_size);
}
