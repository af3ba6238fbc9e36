// SPDX-License-Identifier: Apache-2.0
/*
 * A decision as it is kept: what was measured, what each action was worth, which were forbidden and
 * by what, what was chosen and why. Flat, without pointers. What happened after it is the next
 * record's sample and reward.
 */
#ifndef EBBTIDE_DECISION_RECORD_H
#define EBBTIDE_DECISION_RECORD_H

#include "common/envelope_rule.h"
#include "common/plan.h"
#include "common/state.h"

#define DECISION_ACTIONS (ACTION_VERTICAL > ACTION_HORIZONTAL ? ACTION_VERTICAL : ACTION_HORIZONTAL)

enum decision_kind {
	DECISION_VERTICAL,
	DECISION_HORIZONTAL
};

struct decision_record {
	uint64_t time_us; /* Unix */
	enum decision_kind kind;
	enum objective_mode mode;
	enum envelope_rule rule; /* that changed what the policy wanted */
	uint32_t action;	 /* or POLICY_NO_ACTION */
	bool apply;		 /* carried out, not only recommended */
	bool pushed;		 /* between two reports: @sample is the decision's before it */
	bool explored;
	bool guided; /* of an explored one: not at random */
	bool has_q;
	float epsilon; /* share of decisions that explore */
	float reward;  /* of the tick (or scale period) that ended with it; NaN: not known */
	double percentile;
	double target_us;
	struct sample sample; /* of the unit's tick, or of all units over the scale period */
	/* DECISION_VERTICAL: limits of one container and operating point before, and what is to be. */
	double from_millicores;
	uint64_t from_bytes;
	uint32_t from_rung;
	struct demand demand;
	struct plan plan;
	/* DECISION_HORIZONTAL. */
	uint32_t from_replicas;
	uint32_t to_replicas;
	float state[STATE_SIZE];
	float q[DECISION_ACTIONS];
	uint8_t forbidden[DECISION_ACTIONS]; /* enum envelope_rule; RULE_NONE: allowed */
	char policy[POLICY_NAME_MAX];
	char why[192];
};

struct envelope_unit;
struct service;
struct service_unit;
struct vertical_decision;
struct horizontal_decision;

void decision_record_vertical(struct decision_record *record, double unix_s,
	const struct service_unit *unit, const struct envelope_unit *bounds,
	const struct vertical_decision *decision, float reward, bool apply);
void decision_record_horizontal(struct decision_record *record, double unix_s,
	const struct service *service, const struct horizontal_decision *decision, float reward,
	bool apply);

#endif
