// SPDX-License-Identifier: Apache-2.0
/*
 * The rules above the network: what an action may be, whatever a policy says. Each rule has a name
 * that appears in logs, metrics and the reason of a decision. docs/envelope.md is the prose.
 *
 * Pure: no clock, file or global.
 */
#ifndef EBBTIDE_ENVELOPE_H
#define EBBTIDE_ENVELOPE_H

#include "common/envelope_rule.h"
#include "common/plan.h"
#include "common/state.h"

struct envelope_unit {
	const struct objective *objective;
	const struct sample *sample;
	double cpu_declared_millicores; /* 0: the owner set no limit, see envelope_reserves() */
	uint64_t memory_declared_bytes;
	uint64_t memory_needed_bytes; /* of one container, lately; 0: the sample's */
	/* What is moved is memory.high: too low a limit stalls until it is raised, and kills nothing. */
	bool memory_high;
	/* For what moves along the ladder of operating points. */
	uint32_t cpu_rung; /* in force */
	struct demand demand;
	bool reflex;	   /* the agent can keep an allowance */
	uint32_t starting; /* containers that start: the agent cuts them for nobody */
	double violation_price;
	uint32_t throttling_rung; /* the lowest for the throttling that is accepted */
};

/*
 * Whether the CPU that is decided on is a reservation: the owner set no limit, and the agent says what
 * is reserved. Of CPU beyond it nothing is taken away by a quota, so no reflex is needed either.
 */
bool envelope_reserves(const struct envelope_unit *unit);
/*
 * Whether what runs is held back and nothing tells how much of that is too much: no request was answered,
 * by whose latency it could be judged, and the reflex did not act.
 */
bool envelope_unwatched(const struct envelope_unit *unit);
/* The lowest rung that needs no reflex where there is none. */
uint32_t envelope_lowest_rung(const struct envelope_unit *unit);
/* Bounds of one container after the owner's own limits; 0: a reservation without an upper bound. */
double envelope_cpu_max(const struct envelope_unit *unit);
uint64_t envelope_memory_max(const struct envelope_unit *unit);
uint64_t envelope_memory_floor(const struct envelope_unit *unit);
/*
 * Memory that one container works with: the largest working set of the tick, its peak of use less
 * the file pages that nobody uses.
 */
uint64_t sample_memory_needed_bytes(const struct sample *sample);
/* Tasks stood still for want of memory. */
bool sample_memory_hurts(const struct sample *sample);

/*
 * Which vertical actions are allowed, a bit each; hold always is. @rules, if given, gets the rule
 * that forbids each of the others.
 */
uint64_t envelope_vertical_mask(
	const struct envelope_unit *unit, enum envelope_rule rules[ACTION_VERTICAL]);
/* The plan that @action leads to, inside the bounds; what is not decided in it stays. */
void envelope_vertical_plan(const struct envelope_unit *unit, uint32_t action, struct plan *plan);
/* Bring limits that a rule computed inside the envelope; the first rule that changed them. */
enum envelope_rule envelope_clamp(
	const struct envelope_unit *unit, double *cpu_millicores, uint64_t *memory_bytes);
/*
 * Bring what a plan lets happen between two decisions inside the envelope, once its limits are: the
 * reflex's ceiling to the upper bound, the burst to a period's quota (the kernel takes no more), and
 * neither where there is no quota. The rule that changed it.
 */
enum envelope_rule envelope_clamp_allowance(const struct envelope_unit *unit, struct plan *plan);

/* Whether all that there is of the unit starts: then there is nothing to decide on its CPU. */
bool envelope_starts(const struct envelope_unit *unit);
/* The limit of what starts is its start-up limit. The rule, when that is more than was planned. */
enum envelope_rule envelope_keep_starting(const struct envelope_unit *unit, struct plan *plan);

struct envelope_service {
	const struct objective *objective;
	const struct sample *sample; /* of all units together */
	uint32_t replicas;
	uint32_t replicas_needed; /* room_replicas(); 0: not known */
	double since_scale_in_s;
	double cooldown_s;
};
/* As envelope_vertical_mask(); while replicas lack room and more are allowed, holding is not. */
uint64_t envelope_horizontal_mask(
	const struct envelope_service *service, enum envelope_rule rules[ACTION_HORIZONTAL]);
/*
 * How many replicas @action leads to, inside the bounds: one more or less, of many a tenth, and where
 * they lack room half as many more, at most what is needed.
 */
uint32_t envelope_horizontal_replicas(const struct envelope_service *service, uint32_t action);
/* Bring a wanted number of replicas inside the envelope. */
enum envelope_rule envelope_clamp_replicas(
	const struct envelope_service *service, uint32_t *replicas);

#endif
