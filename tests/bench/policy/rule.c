// SPDX-License-Identifier: Apache-2.0
/* The published rules as policies of the comparison. */
#include "bench/policy/policy.h"

#include "learner/rules/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *const variant_names[VARIANT_COUNT] = {"", "+burst", "+reflex+burst"};

struct rule_run {
	struct rule_team team;
	struct rule_configs configs;
};

static void rule_end(void *run)
{
	struct rule_run *r = run;

	rule_team_free(&r->team);
	free(r);
}

static int rule_start(
	void **run, const struct bench_setting *setting, const struct objective *objective)
{
	struct rule_run *r = calloc(1, sizeof(*r));
	struct policy_set set;
	char error[256];

	(void)objective;
	if (!r)
		return -ENOMEM;
	rule_configs_init(&r->configs);
	if (policy_parse(setting->name, &set, error, sizeof(error)) ||
		rule_configs_set(&r->configs, setting->parameters, error, sizeof(error))) {
		fprintf(stderr, "bench-policy: %s: %s\n", setting->name, error);
		rule_end(r);
		return -EINVAL;
	}
	if (rule_team_form(&r->team, &set)) {
		rule_end(r);
		return -ENOMEM;
	}
	*run = r;
	return 0;
}

static void rule_decide(void *run, double now_s, const struct sample *sample,
	const struct objective *objective, struct simulate_input *input)
{
	struct rule_run *r = run;
	uint32_t replicas = input->replicas;

	(void)rule_team_decide(&r->team, &r->configs, DECIDES_PLAN | DECIDES_REPLICAS, now_s,
		sample, objective, replicas, &input->plan, &input->replicas);
}

/* Captain counts throttled CFS periods and is published at a look each. */
const struct bench_policy policy_rules[] = {
	{"static", 1, rule_start, rule_decide, rule_end},
	{"k8s-cpu", 1, rule_start, rule_decide, rule_end},
	{"k8s-cpu-fast", 1, rule_start, rule_decide, rule_end},
	{"captain", 0.1, rule_start, rule_decide, rule_end},
	{"koordinator", 1, rule_start, rule_decide, rule_end},
	{"vpa", 1, rule_start, rule_decide, rule_end},
	{"autopilot", 1, rule_start, rule_decide, rule_end},
	{"k8s-cpu-fast+senpai", 1, rule_start, rule_decide, rule_end},
	{"static+hpa", 1, rule_start, rule_decide, rule_end},
	{"static+kpa", 1, rule_start, rule_decide, rule_end},
	{"k8s-cpu-fast+hpa", 1, rule_start, rule_decide, rule_end},
	{"reflex-fixed+hpa", 1, rule_start, rule_decide, rule_end},
	{"reflex-fixed+kpa", 1, rule_start, rule_decide, rule_end},
	{"reflex-fixed", 1, rule_start, rule_decide, rule_end},
};
const uint32_t policy_rule_count = sizeof(policy_rules) / sizeof(policy_rules[0]);
