// SPDX-License-Identifier: Apache-2.0
/* One rule over simulated ticks, for the tests of the rules. */
#ifndef EBBTIDE_TEST_RULE_RUN_H
#define EBBTIDE_TEST_RULE_RUN_H

#include "learner/rules/rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ULL << 20)

struct rule_run {
	struct rule_config config;
	void *state;
	double now_s;
	struct sample sample; /* of the next tick */
	struct objective objective;
	struct plan plan; /* in force */
	uint32_t replicas;
	uint32_t wanted;
};

/* One container of 1000m and 512 MiB, ticks of @tick_s, CPU bounds 10m to 2000m. */
static inline void run_start(struct rule_run *run, enum policy_id id, double tick_s)
{
	memset(run, 0, sizeof(*run));
	rule_config_init(&run->config, rule_of(id));
	run->state = calloc(1, run->config.rule->state_size + 1);
	assert_non_null(run->state);
	objective_init(&run->objective);
	run->objective.cpu_max_millicores = 2000;
	run->objective.memory_max_bytes = 1024 * MIB;
	run->objective.replicas_max = 1000;
	run->sample.tick_s = tick_s;
	run->sample.containers = 1;
	run->sample.memory_limit_bytes = 512 * MIB;
	run->plan.cpu_millicores = 1000;
	run->plan.memory_bytes = 512 * MIB;
	run->replicas = run->wanted = 1;
}

static inline void run_end(struct rule_run *run)
{
	free(run->state);
	run->state = NULL;
}

static inline void run_set(struct rule_run *run, const char *parameter, double value)
{
	if (rule_config_set(&run->config, parameter, value))
		fail_msg("%s.%s cannot be %g", run->config.rule->info->name, parameter, value);
}

/* A tick with all that run->sample says; true when the rule decided. */
static inline bool run_tick(struct rule_run *run)
{
	run->now_s += run->sample.tick_s;
	return run->config.rule->decide(&run->config, run->state, run->now_s, &run->sample,
		&run->objective, run->replicas, &run->plan, &run->wanted);
}

/* A tick in which @millicores of CPU were used by each container. */
static inline bool run_used(struct rule_run *run, double millicores)
{
	run->sample.cpu_used_us =
		(uint64_t)llround(millicores * 1000 * run->sample.tick_s * run->sample.containers);
	return run_tick(run);
}

#define assert_near(value, expected, within)                                                       \
	do {                                                                                       \
		double near_value = (value), near_expected = (expected);                           \
		if (!(fabs(near_value - near_expected) <= (within)))                               \
			fail_msg("%s: %.9g, expected %.9g", #value, near_value, near_expected);    \
	} while (0)

#endif
