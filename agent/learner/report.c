// SPDX-License-Identifier: Apache-2.0
/* A report of an agent: checked as a whole, stored, answered with an action for each unit. */
#include "learner/learner.h"

#include "wire.pb-c.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNITS_MAX 100000
/* An exbibyte: more than a node has, and sums over all units stay inside 64 bits. */
#define BYTES_MAX (1ULL << 60)

static bool all_finite(const float *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!isfinite(values[i]))
			return false;
	return true;
}

static bool sample_sound(const Ebbtide__Wire__Sample *s)
{
	const double numbers[] = {s->tick_s, s->latency_p50_us, s->latency_p95_us,
		s->latency_p99_us, s->latency_objective_us, s->in_flight, s->cpu_limit_millicores};
	const uint64_t bytes[] = {s->memory_used_bytes, s->memory_peak_bytes,
		s->memory_working_set_bytes, s->memory_limit_bytes};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!isfinite(numbers[i]) || numbers[i] < 0)
			return false;
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++)
		if (bytes[i] > BYTES_MAX)
			return false;
	return true;
}

#define REFUSE(...)                                                                                \
	do {                                                                                       \
		snprintf(error, error_size, __VA_ARGS__);                                          \
		return -EINVAL;                                                                    \
	} while (0)

static int unit_check(const Ebbtide__Wire__Unit *unit, size_t i, char *error, size_t error_size)
{
	const Ebbtide__Wire__Experience *experience = unit->experience;

	if (!unit->namespace_[0] || strlen(unit->namespace_) > 63)
		REFUSE("units[%zu].namespace: \"%.80s\" is not a namespace", i, unit->namespace_);
	if (!unit->service[0] || strlen(unit->service) >= OBJECTIVE_NAME_MAX)
		REFUSE("units[%zu].service: \"%.80s\" is not a name", i, unit->service);
	if (!unit->sample)
		REFUSE("units[%zu].sample: missing", i);
	if (!sample_sound(unit->sample))
		REFUSE("units[%zu].sample: a value is negative, not finite or over 2^60 bytes", i);
	if (unit->n_state != STATE_SIZE)
		REFUSE("units[%zu].state: %zu values, expected %d", i, unit->n_state, STATE_SIZE);
	if (!all_finite(unit->state, STATE_SIZE))
		REFUSE("units[%zu].state: a value is not finite", i);
	if (!isfinite(unit->cpu_declared_millicores) || unit->cpu_declared_millicores < 0)
		REFUSE("units[%zu].cpu_declared_millicores: negative or not finite", i);
	if (!experience)
		return 0;
	if (experience->n_state != STATE_SIZE || experience->n_next_state != STATE_SIZE)
		REFUSE("units[%zu].experience: %zu and %zu state values, expected %d", i,
			experience->n_state, experience->n_next_state, STATE_SIZE);
	if (!all_finite(experience->state, STATE_SIZE) ||
		!all_finite(experience->next_state, STATE_SIZE) || !isfinite(experience->reward))
		REFUSE("units[%zu].experience: a value is not finite", i);
	if (experience->action >= ACTION_VERTICAL)
		REFUSE("units[%zu].experience.action: %u, expected 0 to %d", i, experience->action,
			ACTION_VERTICAL - 1);
	return 0;
}

static int report_check(const Ebbtide__Wire__Report *report, char *error, size_t error_size)
{
	if (report->schema != STATE_SCHEMA)
		REFUSE("schema: %u, this learner speaks %d: run the same version of both",
			report->schema, STATE_SCHEMA);
	if (!report->agent[0] || strlen(report->agent) > 255)
		REFUSE("agent: \"%.80s\" is not a node's name", report->agent);
	if (report->sequence == 0)
		REFUSE("sequence: 0, the first one is 1");
	if (report->n_units > UNITS_MAX)
		REFUSE("units: %zu, at most %d", report->n_units, UNITS_MAX);
	for (size_t i = 0; i < report->n_units; i++) {
		int err = unit_check(report->units[i], i, error, error_size);

		if (err)
			return err;
	}
	return 0;
}

static void sample_from_wire(const Ebbtide__Wire__Sample *wire, struct sample *sample)
{
#define COPY(field) sample->field = wire->field;
	SAMPLE_FIELDS(COPY)
#undef COPY
}

struct wire_action {
	Ebbtide__Wire__Action action;
	struct vertical_decision decision;
};

static void experience_store(struct learner *learner, struct service *service,
	struct service_unit *unit, const Ebbtide__Wire__Experience *experience, uint64_t next_mask)
{
	int err = brain_store(learner->vertical, &unit->stream, experience->state,
		experience->action, experience->reward, experience->next_state,
		experience->terminal ? REPLAY_TERMINAL : REPLAY_CONTINUES, next_mask);

	if (err)
		return;
	service->counts.experiences++;
	service->counts.reward_sum += (double)experience->reward;
	learner->counts.experiences++;
}

/* One report on its way. */
struct arrival {
	struct learner *learner;
	const Ebbtide__Wire__Report *report;
	struct sequence_claim claim;
	bool repeated;	      /* stored before; its answer may have been lost */
	uint64_t *next_masks; /* [units], of those with an experience */
};

static struct envelope_unit bounds_of(
	const struct service *service, const struct sample *sample, const Ebbtide__Wire__Unit *wire)
{
	return (struct envelope_unit){.objective = &service->objective,
		.sample = sample,
		.cpu_declared_millicores = wire->cpu_declared_millicores,
		.memory_declared_bytes = wire->memory_declared_bytes};
}

/* With the lock held. What is stored later is what is logged now, the mask included. */
static int experience_pack(struct arrival *arrival, size_t i, struct batch_writer *batch)
{
	struct learner *learner = arrival->learner;
	const Ebbtide__Wire__Unit *wire = arrival->report->units[i];
	const Ebbtide__Wire__Experience *from = wire->experience;
	struct service *service = services_get(&learner->services, wire->namespace_, wire->service);
	struct experience experience = {.namespace = wire->namespace_,
		.service = wire->service,
		.state = from->state,
		.next_state = from->next_state,
		.reward = from->reward,
		.action = from->action,
		.end = from->terminal ? REPLAY_TERMINAL : REPLAY_CONTINUES};
	struct envelope_unit bounds;
	struct sample sample;

	if (!service)
		return -ENOMEM;
	sample_from_wire(wire->sample, &sample);
	bounds = bounds_of(service, &sample, wire);
	experience.next_mask = envelope_vertical_mask(&bounds, NULL);
	arrival->next_masks[i] = experience.next_mask;
	return batch_add(batch, &experience);
}

/* The experiences into the log, before anything is acknowledged or learnt from. */
static int experiences_log(struct arrival *arrival)
{
	const Ebbtide__Wire__Report *report = arrival->report;
	const struct batch_source source = {.agent = report->agent,
		.incarnation = report->incarnation,
		.sequence = report->sequence};
	struct batch_writer batch;
	int err = batch_writer_init(&batch, &source, STATE_SIZE);

	pthread_mutex_lock(&arrival->learner->lock);
	for (size_t i = 0; i < report->n_units && !err; i++)
		if (report->units[i]->experience)
			err = experience_pack(arrival, i, &batch);
	pthread_mutex_unlock(&arrival->learner->lock);
	if (!err && batch.count)
		err = experience_log_append(arrival->learner->log, &batch);
	batch_writer_free(&batch);
	return err;
}

/* True when @out holds an action for the agent. */
static bool unit_handle(struct arrival *arrival, size_t i, struct wire_action *out)
{
	struct learner *learner = arrival->learner;
	Ebbtide__Wire__Unit *wire = arrival->report->units[i];
	struct policy_context context = {.config = &learner->config.policy,
		.vertical = learner->vertical,
		.horizontal = learner->horizontal,
		.random = &learner->random,
		.now_s = learner_now_s()};
	struct service *service = services_get(&learner->services, wire->namespace_, wire->service);
	struct envelope_unit bounds;
	struct service_unit *unit;
	struct sample sample;
	bool apply;

	unit = service ? service_get_unit(service, arrival->report->agent,
				 brain_train_config(learner->vertical))
		       : NULL;
	if (!unit)
		return false;
	sample_from_wire(wire->sample, &sample);
	bounds = bounds_of(service, &sample, wire);
	if (wire->experience && !arrival->repeated)
		experience_store(learner, service, unit, wire->experience, arrival->next_masks[i]);
	/* A report that waited in a spool teaches, but says nothing of now. */
	if (!arrival->claim.newest)
		return false;
	unit->sample = sample;
	memcpy(unit->state, wire->state, sizeof(unit->state));
	unit->updated_s = context.now_s;
	if (!arrival->repeated)
		sample_extend(&service->period, &unit->sample);
	if (!wire->decide || !service->has_objective ||
		service->objective.mode == OBJECTIVE_OBSERVE)
		return false;
	policy_decide_vertical(&context, service, unit, &bounds, &out->decision);
	apply = service->objective.mode == OBJECTIVE_AUTO;
	journal_vertical(learner->journal, learner_unix_s(), service, unit, &out->decision, apply);
	service->recommended_millicores = out->decision.cpu_millicores;
	service->recommended_bytes = out->decision.memory_bytes;
	if (out->decision.action != ACTION_VERTICAL_HOLD) {
		snprintf(service->last_action, sizeof(service->last_action), "%s",
			out->decision.why);
		snprintf(service->last_rule, sizeof(service->last_rule), "%s",
			envelope_rule_name(out->decision.rule));
		service->last_action_unix_s = learner_unix_s();
	}
	ebbtide__wire__action__init(&out->action);
	out->action.namespace_ = wire->namespace_;
	out->action.service = wire->service;
	/* What was learnt from is what was done: nothing, when it is not applied. */
	out->action.action = apply ? out->decision.action : ACTION_VERTICAL_HOLD;
	out->action.apply = apply;
	out->action.cpu_limit_millicores = out->decision.cpu_millicores;
	out->action.memory_limit_bytes = out->decision.memory_bytes;
	out->action.policy = service->objective.policy;
	out->action.rule = (char *)envelope_rule_name(out->decision.rule);
	out->action.why = out->decision.why;
	if (out->decision.has_q) {
		out->action.n_q = ACTION_VERTICAL;
		out->action.q = out->decision.q;
	}
	learner->counts.actions++;
	return true;
}

static int answer_pack(const Ebbtide__Wire__Report *report, struct wire_action *actions,
	size_t count, uint8_t **answer, size_t *answer_size)
{
	Ebbtide__Wire__Answer message = EBBTIDE__WIRE__ANSWER__INIT;
	Ebbtide__Wire__Action **list = calloc(count + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		list[i] = &actions[i].action;
	message.sequence = report->sequence;
	message.n_actions = count;
	message.actions = list;
	*answer_size = ebbtide__wire__answer__get_packed_size(&message);
	*answer = malloc(*answer_size + 1);
	if (*answer)
		ebbtide__wire__answer__pack(&message, *answer);
	free(list);
	return *answer ? 0 : -ENOMEM;
}

static int refuse_claim(int err, uint64_t sequence, char *error, size_t error_size)
{
	switch (err) {
	case -EBUSY:
		snprintf(error, error_size, "sequence %llu is being stored: try again\n",
			(unsigned long long)sequence);
		return err;
	case -ESTALE:
		snprintf(error, error_size,
			"sequence: %llu is older than the %d gaps that are remembered",
			(unsigned long long)sequence, SEQUENCES_RANGES);
		return -EINVAL;
	default:
		snprintf(error, error_size, "out of memory: try again\n");
		return err;
	}
}

/* Store what is new and decide; @actions get what the answer says, @count of them. */
static int arrival_handle(struct arrival *arrival, struct wire_action *actions, size_t *count,
	char *error, size_t error_size)
{
	struct learner *learner = arrival->learner;
	const Ebbtide__Wire__Report *report = arrival->report;
	double start_s = learner_now_s();
	int err = sequences_claim(&learner->sequences, report->agent, report->incarnation,
		report->sequence, (uint64_t)(learner_unix_s() * 1e6), &arrival->claim);

	arrival->repeated = err == -EEXIST;
	if (err && !arrival->repeated)
		return refuse_claim(err, report->sequence, error, error_size);
	err = arrival->repeated ? 0 : experiences_log(arrival);
	if (err) {
		sequences_settle(&learner->sequences, &arrival->claim, false);
		snprintf(error, error_size, "not stored: %s: try again\n", strerror(-err));
		return err == -EINVAL ? -EIO : err;
	}
	pthread_mutex_lock(&learner->lock);
	if (arrival->repeated)
		learner->counts.reports_repeated++;
	else
		learner->counts.reports++;
	for (size_t i = 0; i < report->n_units; i++)
		*count += unit_handle(arrival, i, &actions[*count]);
	learner->counts.decision_us_sum += (learner_now_s() - start_s) * 1e6;
	pthread_mutex_unlock(&learner->lock);
	if (!arrival->repeated)
		sequences_settle(&learner->sequences, &arrival->claim, true);
	return 0;
}

int report_handle(struct learner *learner, const uint8_t *bytes, size_t size, uint8_t **answer,
	size_t *answer_size, char *error, size_t error_size)
{
	Ebbtide__Wire__Report *report = ebbtide__wire__report__unpack(NULL, size, bytes);
	struct arrival arrival = {.learner = learner, .report = report};
	struct wire_action *actions = NULL;
	size_t count = 0;
	int err;

	if (!report) {
		snprintf(error, error_size, "body: %zu bytes that are not a Report", size);
		return -EINVAL;
	}
	err = report_check(report, error, error_size);
	if (err)
		goto out;
	actions = calloc(report->n_units + 1, sizeof(*actions));
	arrival.next_masks = calloc(report->n_units + 1, sizeof(*arrival.next_masks));
	if (!actions || !arrival.next_masks) {
		err = -ENOMEM;
		goto out;
	}
	err = experience_log_enter(learner->log);
	if (err) {
		snprintf(error, error_size, "standby: the state directory is not open\n");
		goto out;
	}
	err = arrival_handle(&arrival, actions, &count, error, error_size);
	experience_log_leave(learner->log);
	if (!err)
		err = answer_pack(report, actions, count, answer, answer_size);
out:
	free(actions);
	free(arrival.next_masks);
	ebbtide__wire__report__free_unpacked(report, NULL);
	return err;
}
