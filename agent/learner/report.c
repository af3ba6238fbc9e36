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

static struct agent_record *agent_get(
	struct learner *learner, const char *name, uint64_t incarnation)
{
	struct agent_record **agents, *record;

	for (size_t i = 0; i < learner->agent_count; i++)
		if (learner->agents[i]->incarnation == incarnation &&
			strcmp(learner->agents[i]->name, name) == 0)
			return learner->agents[i];
	agents = realloc(learner->agents, (learner->agent_count + 1) * sizeof(*agents));
	if (!agents)
		return NULL;
	learner->agents = agents;
	record = calloc(1, sizeof(*record));
	if (!record)
		return NULL;
	snprintf(record->name, sizeof(record->name), "%s", name);
	record->incarnation = incarnation;
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

/* True when @out holds an action for the agent. */
static bool unit_handle(struct learner *learner, const char *agent, Ebbtide__Wire__Unit *wire,
	bool fresh, struct wire_action *out)
{
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

	unit = service ? service_get_unit(service, agent, brain_train_config(learner->vertical))
		       : NULL;
	if (!unit)
		return false;
	sample_from_wire(wire->sample, &sample);
	bounds = (struct envelope_unit){.objective = &service->objective,
		.sample = &sample,
		.cpu_declared_millicores = wire->cpu_declared_millicores,
		.memory_declared_bytes = wire->memory_declared_bytes};
	if (wire->experience)
		experience_store(learner, service, unit, wire->experience,
			envelope_vertical_mask(&bounds, NULL));
	/* A report that waited in a spool teaches, but says nothing of now. */
	if (!fresh)
		return false;
	unit->sample = sample;
	memcpy(unit->state, wire->state, sizeof(unit->state));
	unit->updated_s = context.now_s;
	sample_extend(&service->period, &unit->sample);
	if (!wire->decide || !service->has_objective ||
		service->objective.mode == OBJECTIVE_OBSERVE) {
		journal_sample(learner->journal, learner_unix_s(), service, unit);
		return false;
	}
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

int report_handle(struct learner *learner, const uint8_t *bytes, size_t size, uint8_t **answer,
	size_t *answer_size, char *error, size_t error_size)
{
	Ebbtide__Wire__Report *report = ebbtide__wire__report__unpack(NULL, size, bytes);
	struct wire_action *actions = NULL;
	struct agent_record *record;
	double start_s = learner_now_s();
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
	if (!actions) {
		err = -ENOMEM;
		goto out;
	}
	pthread_mutex_lock(&learner->lock);
	record = agent_get(learner, report->agent, report->incarnation);
	if (record) {
		bool newest = report->sequence > record->highest;

		if (agent_first(record, report->sequence)) {
			learner->counts.reports++;
			for (size_t i = 0; i < report->n_units; i++)
				count += unit_handle(learner, report->agent, report->units[i],
					newest, &actions[count]);
		} else {
			learner->counts.reports_repeated++;
		}
		learner->counts.decision_us_sum += (learner_now_s() - start_s) * 1e6;
	}
	pthread_mutex_unlock(&learner->lock);
	err = answer_pack(report, actions, count, answer, answer_size);
out:
	free(actions);
	ebbtide__wire__report__free_unpacked(report, NULL);
	return err;
}
