// SPDX-License-Identifier: Apache-2.0
/*
 * The rules that Ebbtide has to beat and can fall back on, as published, behind one interface: the
 * learner runs them for units and services, a simulator over thousands of ticks.
 *
 * A rule is a table entry (struct rule), a state of fixed size, and parameters that are named
 * numbers with a default, a unit and a range. It changes in a plan only what it decides; the rest
 * of the plan, and all of it between two of its periods, stays as it is in force. It knows no
 * envelope: the caller brings what comes out inside the bounds.
 *
 * Pure: no clock, file or global; time comes in as an argument and does not go back. Sources and
 * formulas: docs/policies.md.
 */
#ifndef EBBTIDE_RULES_H
#define EBBTIDE_RULES_H

#include "common/plan.h"
#include "common/policy_name.h"
#include "common/rule_parameters.h"
#include "common/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rule;

/* A rule with its parameters, in the order of its table. */
struct rule_config {
	const struct rule *rule;
	double values[RULE_PARAMETERS_MAX];
};

struct rule {
	const struct policy_info *info; /* its name and what it decides */
	const struct rule_parameter_list *parameters;
	size_t state_size; /* zeroed memory, aligned for any type, is a new state */
	/*
	 * One tick. @sample: of the tick that ended, of one unit (or, for replicas, of the service
	 * since the last call). @objective: its upper bounds are the largest that may be set. @plan:
	 * in force now, what the rule decides in it is replaced. @replicas: in force, and what is
	 * wanted instead comes out. Returns whether it decided; if not, nothing was changed.
	 */
	bool (*decide)(const struct rule_config *config, void *state, double now_s,
		const struct sample *sample, const struct objective *objective, uint32_t replicas,
		struct plan *plan, uint32_t *replicas_wanted);
	/* What the newest decision came from, for people. */
	void (*explain)(
		const struct rule_config *config, const void *state, char *out, size_t size);
};

/* NULL: not a rule (what is learnt is a policy, too). */
const struct rule *rule_of(enum policy_id id);
/* The rule's defaults. */
void rule_config_init(struct rule_config *config, const struct rule *rule);
/* -ENOENT: no such parameter, -ERANGE: outside its range or not a number. */
int rule_config_set(struct rule_config *config, const char *name, double value);

/* Every rule's parameters. */
struct rule_configs {
	struct rule_config of[POLICY_COUNT];
};
void rule_configs_init(struct rule_configs *configs);
/*
 * Assignments, "k8s-cpu.target=0.6, hpa.target=0.7": 0, or -EINVAL with the reason and what there
 * is; then nothing is changed.
 */
int rule_configs_set(
	struct rule_configs *configs, const char *assignments, char *error, size_t error_size);

/*
 * The rules of a policy's name, with their states: a part each of 'k8s-cpu+hpa+reflex'. Parts that
 * are learnt are left to the caller.
 */
struct rule_team {
	struct policy_set set;
	void *states[DECIDES_COUNT];
	void *memory; /* of all states; owned */
	bool formed;
};
/*
 * Make @team the one of @set; its states begin anew if it was another's. -ENOMEM: there is none.
 * Zero-initialise before the first call; rule_team_free() takes a zeroed one, too.
 */
int rule_team_form(struct rule_team *team, const struct policy_set *set);
void rule_team_free(struct rule_team *team);
/* One tick of those parts that decide any of @decides. Returns which of it was decided. */
uint32_t rule_team_decide(struct rule_team *team, const struct rule_configs *configs,
	uint32_t decides, double now_s, const struct sample *sample,
	const struct objective *objective, uint32_t replicas, struct plan *plan,
	uint32_t *replicas_wanted);
/* What those parts' newest decisions came from, joined. */
void rule_team_explain(const struct rule_team *team, const struct rule_configs *configs,
	uint32_t decides, char *out, size_t size);

#endif
