// SPDX-License-Identifier: Apache-2.0
/* What the rules' own files share: how a rule is defined, and what a sample says. */
#ifndef EBBTIDE_RULES_FAMILY_H
#define EBBTIDE_RULES_FAMILY_H

#include "learner/rules/rules.h"
#include "learner/rules/rules_statistics.h"

#include <math.h>

/* A rule's parameters as a struct: one of doubles is laid out as the array of values is. */
#define RULE_FIELD(name, standard, lowest, highest, text) double name;
#define RULE_VALUES(type, config)                                                                  \
	({                                                                                         \
		_Static_assert(sizeof(type) % sizeof(double) == 0 &&                               \
				       sizeof(type) <= sizeof((config)->values),                   \
			"a struct of doubles that fits");                                          \
		(const type *)(const void *)(config)->values;                                      \
	})
#define RULE_DEFINE(id, size, decide_function, explain_function)                                   \
	const struct rule rule_##id = {.info = &policy_infos[POLICY_##id],                         \
		.parameters = &rule_parameters[POLICY_##id],                                       \
		.state_size = (size),                                                              \
		.decide = (decide_function),                                                       \
		.explain = (explain_function)}

#define X(id, name, decides, text) extern const struct rule rule_##id;
POLICY_RULES(X)
#undef X

/* Whether a period is over, to the nearest tick: a tick's length is never exact. */
static inline bool rule_due(double elapsed_s, double tick_s, double period_s)
{
	return elapsed_s + fmin(0.5 * tick_s, 0.05 * period_s) >= period_s;
}

/* A tick without length or containers tells nothing. */
static inline bool rule_sees(const struct sample *sample)
{
	return sample->tick_s > 0 && sample->containers > 0;
}

/* CPU time of one container over the tick. */
static inline double rule_used_us(const struct sample *sample)
{
	return (double)sample->cpu_used_us / sample->containers;
}

/* Periods of the tick in which one container was throttled, of those it had. */
static inline double rule_throttled_periods(const struct sample *sample)
{
	double most = sample->tick_s * 1e6 / PLAN_PERIOD_US;
	double counted = (double)sample->throttled_periods / sample->containers;
	/* Without the kernel's count: no fewer than the time throttled fills. */
	double filled = ceil((double)sample->throttled_us / PLAN_PERIOD_US) / sample->containers;

	return fmin(most, fmax(counted, filled));
}

#endif
