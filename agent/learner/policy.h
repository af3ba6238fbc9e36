// SPDX-License-Identifier: Apache-2.0
/*
 * Decisions. A policy proposes, the envelope disposes; what was done and why comes back. Every
 * policy stands behind the same two calls, so any service can run on any of them.
 *
 * No I/O and no clock; the caller holds the learner's lock.
 */
#ifndef EBBTIDE_POLICY_H
#define EBBTIDE_POLICY_H

#include "learner/service.h"

/* A rule's move that is too far from all of the table's for the network to learn from. */
#define POLICY_NO_ACTION UINT32_MAX

enum explore_schedule {
	EXPLORE_DECAY, /* a service's epsilon falls with what it has taught */
	EXPLORE_APEX,  /* each unit has its own, always: actors of Ape-X (Horgan et al. 2018) */
};

struct policy_config {
	struct rule_configs rules;
	enum explore_schedule explore_schedule;
	double explore_apex_base;  /* epsilon of the first unit */
	double explore_apex_alpha; /* the last one's is base^(1 + alpha) */
	double explore_start;	   /* decay: epsilon of a service's first decisions */
	double explore_end;
	double explore_decisions; /* e-folding of epsilon, in decisions of the service */
	double explore_guided;	  /* share of explored actions that follow the rules' direction */
	double cooldown_s;	  /* after a scale-in */
	uint32_t revert_ticks;	  /* a cut is on probation for so long */
};
void policy_config_init(struct policy_config *config);

/* Whether the networks are among the parts of the policy of this name. */
bool policy_learns(const char *name);
/* Whether the network decides the service's replicas. */
bool policy_learns_replicas(struct service *service);
/* Whether another autoscaler sets what the service's policy decides. */
bool policy_contested(struct service *service, enum autoscaler_kind kind);
/* Likewise, and it is left to that one: in mode auto, unless nothing is to be changed anyway. */
bool policy_leaves(struct service *service, enum autoscaler_kind kind);
/* Whether a service whose replicas the network decides has fewer than have room, and may have more. */
bool policy_lacks_replicas(struct service *service);

/*
 * A tick broke the objective, and for want of what its plan could have set aside: its containers were
 * throttled (without a limit: waited for a CPU) for as long as they were late, or stalled for memory.
 * A request whose own work is longer than the objective is late at any limit, and at any price.
 */
bool policy_broke_for_want(const struct envelope_unit *bounds);

struct policy_context {
	const struct policy_config *config;
	struct brain *vertical;
	struct brain *horizontal;
	struct random_state *random;
	double now_s; /* monotonic */
	/* Q values of the unit's state, evaluated together with others'; NULL: evaluate here. */
	const float *vertical_q;
	const float *horizontal_q; /* the same of the service's */
};

struct vertical_decision {
	uint32_t action; /* or POLICY_NO_ACTION */
	struct plan plan;
	enum envelope_rule rule; /* that changed what the policy wanted */
	bool released;		 /* the owner's limits are to come back, and to stay */
	bool explored;
	bool guided;	/* of an explored one: not at random */
	double epsilon; /* share of decisions that explore, as it was */
	bool has_q;
	float q[ACTION_VERTICAL];
	uint64_t mask;
	enum envelope_rule forbidden[ACTION_VERTICAL]; /* what is not in @mask, by which rule */
	char why[192];
};
/*
 * The action of the table that leads nearest to @to from @from: along the ladder of operating
 * points, and in the ratio of memory limits; or POLICY_NO_ACTION when it is further than two rungs
 * or twice the memory's step.
 */
uint32_t policy_nearest_action(
	const struct envelope_unit *bounds, const struct plan *from, const struct plan *to);
/*
 * The bounds of a unit's decision: @sample and @state of the tick that ended; @reflex: an allowance
 * would be kept. The rung is the newest plan's, or, where the limit in force is someone else's, the
 * one that it comes to. The demand of a reservation has what waited for a CPU in it while the
 * objective is broken. @unit may be a new one.
 */
struct envelope_unit policy_bounds(const struct service_unit *unit, const struct sample *sample,
	const float *state, bool reflex);

void policy_decide_vertical(const struct policy_context *context, struct service *service,
	struct service_unit *unit, const struct envelope_unit *bounds,
	struct vertical_decision *decision);

struct horizontal_decision {
	uint32_t action; /* or POLICY_NO_ACTION */
	uint32_t replicas;
	enum envelope_rule rule;
	bool explored;
	bool guided;
	double epsilon;
	bool has_q;
	float q[ACTION_HORIZONTAL];
	uint64_t mask;
	enum envelope_rule forbidden[ACTION_HORIZONTAL];
	char why[192];
};
void policy_decide_horizontal(const struct policy_context *context, struct service *service,
	const struct envelope_service *bounds, double declared_millicores,
	struct horizontal_decision *decision);

#endif
