// SPDX-License-Identifier: Apache-2.0
#include "learner/decision_record.h"

#include "learner/policy.h"

#include <stdio.h>
#include <string.h>

/* What both kinds have, in fields of the same names. */
#define COPY_DECISION(record, decision)                                                            \
	do {                                                                                       \
		(record)->action = (decision)->action;                                             \
		(record)->rule = (decision)->rule;                                                 \
		(record)->explored = (decision)->explored;                                         \
		(record)->guided = (decision)->guided;                                             \
		(record)->epsilon = (float)(decision)->epsilon;                                    \
		(record)->has_q = (decision)->has_q;                                               \
		memcpy((record)->q, (decision)->q, sizeof((decision)->q));                         \
		for (size_t i = 0; i < sizeof((decision)->q) / sizeof((decision)->q[0]); i++)      \
			(record)->forbidden[i] = (uint8_t)(decision)->forbidden[i];                \
		memcpy((record)->why, (decision)->why, sizeof((record)->why));                     \
	} while (0)

static void record_begin(struct decision_record *record, enum decision_kind kind, double unix_s,
	const struct service *service, float reward, bool apply)
{
	const struct objective *objective = &service->objective;

	memset(record, 0, sizeof(*record));
	record->time_us = (uint64_t)(unix_s * 1e6);
	record->kind = kind;
	record->mode = objective->mode;
	record->percentile = objective->latency_percentile;
	record->target_us = objective->latency_target_us;
	record->reward = reward;
	record->apply = apply;
	snprintf(record->policy, sizeof(record->policy), "%s", objective->policy);
}

void decision_record_vertical(struct decision_record *record, double unix_s,
	const struct service_unit *unit, const struct envelope_unit *bounds,
	const struct vertical_decision *decision, float reward, bool apply)
{
	record_begin(record, DECISION_VERTICAL, unix_s, unit->service, reward, apply);
	COPY_DECISION(record, decision);
	record->sample = *bounds->sample;
	record->from_millicores = sample_cpu_millicores(bounds->sample);
	record->from_bytes = bounds->sample->memory_limit_bytes;
	record->from_rung = bounds->cpu_rung;
	record->demand = bounds->demand;
	record->plan = decision->plan;
	memcpy(record->state, unit->state, sizeof(record->state));
}

void decision_record_horizontal(struct decision_record *record, double unix_s,
	const struct service *service, const struct horizontal_decision *decision, float reward,
	bool apply)
{
	record_begin(record, DECISION_HORIZONTAL, unix_s, service, reward, apply);
	COPY_DECISION(record, decision);
	record->sample = service->period;
	record->from_replicas = service->replicas;
	record->to_replicas = decision->replicas;
	memcpy(record->state, service->state, sizeof(record->state));
}
