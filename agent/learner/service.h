// SPDX-License-Identifier: Apache-2.0
/*
 * What the learner knows of the cluster: services, their units on each node, their objectives.
 * One lock (struct learner's) guards it all; callers hold it.
 */
#ifndef EBBTIDE_SERVICE_H
#define EBBTIDE_SERVICE_H

#include "common/state.h"
#include "learner/autoscalers.h"
#include "learner/brain.h"
#include "learner/decision_ring.h"
#include "learner/envelope.h"
#include "learner/index.h"
#include "learner/room.h"
#include "learner/rules/rules.h"

#define SERVICE_UNITS_MAX 16384
/* Bounds on what names in reports can make the learner hold: about 0.2 GB and 1 GB. */
#define SERVICES_MAX	   16384
#define SERVICES_UNITS_MAX 262144
/* A unit that has said nothing for so long, and so many of its ticks, is gone with its node. */
#define SERVICE_UNIT_AGE_S     60
#define SERVICE_UNIT_AGE_TICKS 3
/* The longest that an agent has; one tick of one that stood still for an hour is no reason to wait. */
#define SERVICE_TICK_MOST_S 60

/* advice.h */
struct advice {
	bool begun;
	struct plan plan;
	struct state_place place;
};

struct service_unit {
	struct service *service;
	char agent[256];
	uint64_t hash;	 /* of service and agent */
	size_t position; /* in its service's list */
	size_t index;	 /* in the list of all units */
	double updated_s;
	struct sample sample;
	double cpu_declared_millicores; /* the owner's limits, as last reported */
	uint64_t memory_declared_bytes;
	bool memory_high; /* what the agent moves is memory.high, and raises when it hurts */
	float state[STATE_SIZE];
	struct nstep stream;
	struct rule_team rules; /* those of the service's policy, with this unit's states */
	struct plan plan;	/* of the newest decision */
	struct advice advice;
	double throttling_floor; /* throttling_adapt() */
	double memory_needed_bytes; /* highest working set, which fades (half-life a quarter of an hour) */
	struct busy busy;
	uint64_t period_number; /* the service's newest that it has a tick in */
	double cut_from;	/* the limit before that cut, millicores */
	uint32_t cut_remaining; /* ticks in which a broken objective takes the cut back */
	struct decision_ring decisions;
	double fallen_since_s; /* a rule decides in the network's place; 0: it does not */
};

/* A mean of the last few: each new value weighs a sixteenth. */
static inline double service_mean(double mean, double value)
{
	return mean + (value - mean) / 16;
}

struct service_counts {
	uint64_t vertical[ACTION_VERTICAL];
	uint64_t horizontal[ACTION_HORIZONTAL];
	uint64_t explored;
	uint64_t interventions[RULE_COUNT];
	uint64_t experiences;	    /* of its units */
	uint64_t scale_experiences; /* of its replicas */
	uint64_t decisions;
	double reward_sum;
	double reward_mean;  /* of the last few */
	double epsilon_mean; /* of the last few decisions */
};

enum condition {
	CONDITION_MEASURED,
	CONDITION_OBJECTIVE_MET,
	CONDITION_POLICY_SOUND,
	CONDITION_UNCONTESTED,
	CONDITION_COUNT
};

enum truth {
	TRUTH_FALSE,
	TRUTH_TRUE,
	TRUTH_UNKNOWN
};

struct condition_since {
	bool known;
	enum truth truth;
	double unix_s;
};

struct service {
	char namespace[64];
	char name[OBJECTIVE_NAME_MAX];
	bool has_objective;
	struct services *owner;
	size_t index;  /* in its list */
	uint64_t hash; /* of namespace and name */
	struct objective objective;
	struct service_unit **units;
	size_t unit_count;
	struct service_counts counts;

	/* Horizontal: one decision a scale period. */
	bool has_deployment;
	char deployment_uid[64];
	uint32_t replicas; /* spec.replicas */
	uint32_t ready;
	struct sample period;  /* since the last decision */
	double period_tick_s;  /* the longest tick in it */
	uint32_t period_units; /* that it has a tick of */
	uint64_t period_number;
	struct sample tick; /* of the newest reports, all units */
	double decided_s;
	double room_looked_s;
	double scale_in_s; /* of the newest scale-in; far past at start */
	struct state_history history;
	float state[STATE_SIZE];
	bool has_state;
	bool acted;
	uint32_t action;
	struct nstep stream;
	struct policy_set policy;	   /* objective.policy, taken apart */
	struct policy_set fallback;	   /* the same with rules in the network's place */
	double fallen_since_s;		   /* as a unit's, for the replicas */
	char policy_name[POLICY_NAME_MAX]; /* of that */
	struct rule_team rules;		   /* the same, with the service's states */
	double urgent_s;		   /* when cuts were last taken back for another unit */
	struct rule_configs rule_configs;  /* the learner's, changed by objective.rule_parameters */
	char rule_parameters[OBJECTIVE_PARAMETERS_MAX]; /* of those; empty: they are not made */
	struct decision_ring decisions;			/* on its replicas */
	uint32_t wanted;				/* replicas to be asked for; 0: none */
	char wanted_why[192];

	/* Who else sets it, by name; empty: nobody. */
	char others[AUTOSCALER_KINDS][OBJECTIVE_NAME_MAX];
	bool left[AUTOSCALER_KINDS]; /* policy_leaves(), as it was last said */

	/* For the objective's status. */
	char last_action[192];
	char last_rule[40];
	double last_action_unix_s;
	double recommended_millicores;
	uint64_t recommended_bytes;
	uint32_t recommended_replicas;
	struct condition_since conditions[CONDITION_COUNT];
	uint64_t status_hash; /* of what the API server was last told; 0: nothing */
};

/* Zero-initialise. */
struct services {
	struct service **items;
	size_t count;
	struct index by_name;
	struct service_unit **units; /* of all services */
	size_t unit_count;
	struct index by_agent;		  /* units by service and agent */
	size_t expiring;		  /* where services_expire_units() goes on */
	struct decision_budget decisions; /* of all units and services */
};

struct service *services_find(
	const struct services *services, const char *namespace, const char *name);
struct service *services_get(struct services *services, const char *namespace, const char *name);
void services_free(struct services *services);
/* Finds or makes; NULL when out of memory. @vertical gives the shape of its experiences. */
struct service_unit *service_get_unit(
	struct service *service, const char *agent, const struct train_config *vertical);
/* After something of it has gone: whether nothing is left that the API or an agent knows. Then it is freed. */
bool services_forget(struct services *services, struct service *service);
/*
 * Forget units, and services with them, that have not reported for @age_s and SERVICE_UNIT_AGE_TICKS, looking at @most of them
 * and going on from there with the next call.
 */
void services_expire_units(struct services *services, double now_s, double age_s, size_t most);
/* @unit's newest tick into its service's period, from one decision on replicas to the next. */
void service_note_tick(struct service_unit *unit);
/* From ticks of some units to the whole: rates are those of all units, gauges the newest. */
void service_end_period(struct service *service);
void service_begin_period(struct service *service, double now_s);
/*
 * The service's state of the ticks since its last decision (service->period), and their reward. The
 * price of a violation moves with them when it was the network that decided (@learnt).
 */
float service_build_state(struct service *service, bool learnt);
/* All units' newest samples together. */
void service_merge_units(const struct service *service, struct sample *merged);

#endif
