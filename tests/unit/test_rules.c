// SPDX-License-Identifier: Apache-2.0
/* The table of rules: parameters and their ranges, teams of rules, and what no rule may do. */
#include "learner/dqn/random.h"

#include "rule_run.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

static void test_every_policy_but_the_learnt_has_a_rule(void **state)
{
	(void)state;
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct rule *rule = rule_of((enum policy_id)id);

		assert_int_equal(rule == NULL, id == POLICY_dqn);
		if (rule)
			assert_ptr_equal(rule->info, &policy_infos[id]);
	}
	assert_null(rule_of(POLICY_COUNT));
}

static void test_every_parameter_is_named_and_its_default_in_range(void **state)
{
	(void)state;
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct rule *rule = rule_of((enum policy_id)id);

		if (!rule)
			continue;
		assert_in_range(rule->parameters->count, 1, RULE_PARAMETERS_MAX);
		for (uint32_t i = 0; i < rule->parameters->count; i++) {
			const struct rule_parameter *p = &rule->parameters->list[i];

			if (!(p->lowest <= p->standard && p->standard <= p->highest))
				fail_msg("%s.%s: default %g is not in %g to %g", rule->info->name,
					p->name, p->standard, p->lowest, p->highest);
			assert_true(p->text[0] != '\0');
			assert_int_equal(rule_parameter_index((enum policy_id)id, p->name), i);
			for (const char *c = p->name; *c; c++)
				assert_true(islower(*c) || isdigit(*c) || *c == '_');
		}
		assert_int_equal(rule_parameter_index((enum policy_id)id, "no_such"), -1);
	}
}

static void test_a_parameter_stays_in_its_range(void **state)
{
	struct rule_config config;

	(void)state;
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct rule *rule = rule_of((enum policy_id)id);

		if (!rule)
			continue;
		rule_config_init(&config, rule);
		for (uint32_t i = 0; i < rule->parameters->count; i++) {
			const struct rule_parameter *p = &rule->parameters->list[i];

			assert_true(config.values[i] == p->standard);
			assert_int_equal(rule_config_set(&config, p->name, p->highest), 0);
			assert_int_equal(rule_config_set(&config, p->name, p->lowest), 0);
			assert_int_equal(
				rule_config_set(&config, p->name, p->lowest - 1e-6), -ERANGE);
			assert_int_equal(
				rule_config_set(&config, p->name, p->highest * 1.01), -ERANGE);
			assert_int_equal(rule_config_set(&config, p->name, (double)NAN), -ERANGE);
			assert_true(config.values[i] == p->lowest);
		}
		assert_int_equal(rule_config_set(&config, "target_x", 1), -ENOENT);
	}
}

static void test_assignments_set_their_rules_parameters(void **state)
{
	struct rule_configs configs, untouched;
	char error[512] = "";

	(void)state;
	rule_configs_init(&configs);
	untouched = configs;
	assert_int_equal(rule_configs_set(&configs, "k8s-cpu.target=0.6", error, sizeof(error)), 0);
	assert_int_equal(rule_configs_set(&configs, "hpa.period_s=4", error, sizeof(error)), 0);
	assert_true(configs.of[POLICY_k8s_cpu].values[2] == 0.6);
	assert_true(configs.of[POLICY_hpa].values[0] == 4);
	/* Several at once, and none. */
	assert_int_equal(
		rule_configs_set(&configs, " hpa.target=0.7,k8s-cpu.window_s=60 vpa.margin=0 ",
			error, sizeof(error)),
		0);
	assert_int_equal(rule_configs_set(&configs, "", error, sizeof(error)), 0);
	assert_true(configs.of[POLICY_hpa].values[1] == 0.7);
	assert_true(configs.of[POLICY_k8s_cpu].values[1] == 60);
	assert_true(configs.of[POLICY_vpa].values[6] == 0);
	/* The fast one has the same parameters and its own values. */
	assert_memory_equal(&configs.of[POLICY_k8s_cpu_fast], &untouched.of[POLICY_k8s_cpu_fast],
		sizeof(struct rule_config));
}

static void test_a_wrong_assignment_is_named(void **state)
{
	static const struct {
		const char *assignment;
		const char *error;
	} cases[] = {
		{"hpa.target=0.7, k8s-cpu", "\"k8s-cpu\" is not RULE.PARAMETER=VALUE"},
		{"k8s-cpu", "\"k8s-cpu\" is not RULE.PARAMETER=VALUE"},
		{"k8s-cpu.target", "\"k8s-cpu.target\" is not RULE.PARAMETER=VALUE"},
		{"k8s-cpu=0.5", "\"k8s-cpu=0.5\" is not RULE.PARAMETER=VALUE"},
		{"k8s.target=0.5", "\"k8s\" is not a rule (use one of dqn, static, k8s-cpu, "},
		{"dqn.target=0.5", "\"dqn\" is not a rule"},
		{"k8s-cpu.goal=0.5", "\"goal\" is not a parameter of k8s-cpu (use one of "
				     "period_s, window_s, target)"},
		{"k8s-cpu.target=2", "k8s-cpu.target: \"2\" is not a number from 0.01 to 1"},
		{"k8s-cpu.target=", "k8s-cpu.target: \"\" is not a number from 0.01 to 1"},
		{"k8s-cpu.target=0.5x", "k8s-cpu.target: \"0.5x\" is not a number"},
		{"k8s-cpu.target=nan", "k8s-cpu.target: \"nan\" is not a number"},
	};
	struct rule_configs configs, untouched;

	(void)state;
	rule_configs_init(&configs);
	untouched = configs;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char error[512] = "";

		assert_int_equal(
			rule_configs_set(&configs, cases[i].assignment, error, sizeof(error)),
			-EINVAL);
		if (strncmp(error, cases[i].error, strlen(cases[i].error)) != 0)
			fail_msg("%s: %s", cases[i].assignment, error);
	}
	assert_memory_equal(&configs, &untouched, sizeof(configs));
}

static struct policy_set set_of(const char *name)
{
	struct policy_set set;

	assert_int_equal(policy_parse(name, &set, NULL, 0), 0);
	return set;
}

static void test_a_team_decides_what_its_rules_decide(void **state)
{
	struct policy_set set = set_of("k8s-cpu-fast+senpai+hpa+reflex+burst");
	struct rule_team team = {.formed = false};
	struct rule_configs configs;
	struct rule_run run;
	uint32_t wanted = 2;
	char why[512];

	(void)state;
	rule_configs_init(&configs);
	assert_int_equal(rule_team_form(&team, &set), 0);
	run_start(&run, POLICY_static, 15);
	run.sample.cpu_used_us = 3000000; /* 200m */
	run.sample.memory_used_bytes = 200 * MIB;
	/* Of a unit: all but the replicas; the burst is that of the new limit. */
	assert_int_equal(rule_team_decide(&team, &configs, DECIDES_PLAN, 15, &run.sample,
				 &run.objective, 2, &run.plan, &wanted),
		DECIDES_PLAN);
	assert_near(run.plan.cpu_millicores, 400, 1e-9);
	assert_int_equal(run.plan.burst_us, 40000);
	assert_int_equal(run.plan.memory_bytes, 200 * MIB);
	assert_near(run.plan.allowance.trigger_age_share, 0.4, 0);
	assert_int_equal(wanted, 2);
	rule_team_explain(&team, &configs, DECIDES_PLAN, why, sizeof(why));
	assert_string_equal(why,
		"k8s-cpu-fast: largest use of 20 s 200m over 0.5; "
		"senpai: stalled 0.0 ms of 10.0: memory -1.00 %; "
		"reflex: from 0.4 of the target, 8 refills; burst: 1 of the quota");
	/* Of a service: the replicas. 3.2 of 2 x 2 cores are 80 % of 50 %. */
	run.sample.cpu_used_us = 48000000;
	assert_int_equal(rule_team_decide(&team, &configs, DECIDES_REPLICAS, 15, &run.sample,
				 &run.objective, 2, NULL, &wanted),
		DECIDES_REPLICAS);
	assert_int_equal(wanted, 4);
	run_end(&run);
	rule_team_free(&team);
	rule_team_free(&team);
}

static void test_a_team_remembers_until_it_is_another(void **state)
{
	struct policy_set fast = set_of("k8s-cpu-fast"), same = set_of("k8s-cpu-fast");
	struct policy_set other = set_of("k8s-cpu-fast+hpa");
	struct rule_team team = {.formed = false};
	struct rule_configs configs;
	struct rule_run run;
	uint32_t wanted;

	(void)state;
	rule_configs_init(&configs);
	run_start(&run, POLICY_static, 1);
	for (int second = 1; second <= 3; second++) {
		assert_int_equal(rule_team_form(&team, second == 1   ? &fast
						       : second == 2 ? &same
								     : &other),
			0);
		run.sample.cpu_used_us = second == 1 ? 800000 : 100000;
		rule_team_decide(&team, &configs, DECIDES_PLAN, second, &run.sample, &run.objective,
			1, &run.plan, &wanted);
		assert_near(run.plan.cpu_millicores, second == 3 ? 200 : 1600, 1e-9);
	}
	run_end(&run);
	rule_team_free(&team);
}

static void test_what_is_learnt_is_left_to_the_caller(void **state)
{
	struct policy_set set = set_of("dqn");
	struct rule_team team = {.formed = false};
	struct rule_configs configs;
	struct rule_run run;
	uint32_t wanted = 3;
	char why[128];

	(void)state;
	rule_configs_init(&configs);
	run_start(&run, POLICY_static, 1);
	assert_int_equal(rule_team_form(&team, &set), 0);
	assert_int_equal(rule_team_decide(&team, &configs, DECIDES_PLAN | DECIDES_REPLICAS, 1,
				 &run.sample, &run.objective, 3, &run.plan, &wanted),
		0);
	assert_near(run.plan.cpu_millicores, 1000, 0);
	assert_int_equal(wanted, 3);
	rule_team_explain(&team, &configs, DECIDES_PLAN, why, sizeof(why));
	assert_string_equal(why, "");
	run_end(&run);
	rule_team_free(&team);
}

static void sample_randomise(struct rule_run *run, struct random_state *random)
{
	struct sample *sample = &run->sample;

	*sample = (struct sample){
		.tick_s = random_below(random, 20) ? 0.1 + random_below(random, 20) : 0,
		.requests = random_below(random, 1000),
		.requests_over = random_below(random, 30),
		.in_flight = random_below(random, 500),
		.cpu_used_us = random_below(random, 4000000),
		.throttled_us = random_below(random, 2) * random_below(random, 1000000),
		.throttled_periods = random_below(random, 30),
		.memory_pressure_us = random_below(random, 3) * random_below(random, 100000),
		.memory_used_bytes = random_below(random, 1 << 30),
		.memory_peak_bytes = random_below(random, 1 << 30),
		.memory_working_set_bytes = random_below(random, 1 << 30),
		.memory_limit_bytes = random_below(random, 1 << 30),
		.oom_kills = random_below(random, 20) == 0,
		.containers = random_below(random, 5),
		.refills = random_below(random, 3)};
	/* Now and then what no machine has. */
	if (random_below(random, 200) == 0)
		sample->cpu_used_us = sample->throttled_us = UINT64_MAX;
	if (random_below(random, 200) == 0)
		sample->memory_working_set_bytes = sample->memory_peak_bytes = UINT64_MAX;
}

static void bounds_keep(struct rule_run *run)
{
	struct plan *plan = &run->plan;

	/* As an envelope would. */
	plan->cpu_millicores = fmax(10, fmin(plan->cpu_millicores, 2000));
	if (plan->memory_bytes < 16 * MIB || plan->memory_bytes > 1024 * MIB)
		plan->memory_bytes = 512 * MIB;
	run->replicas = run->wanted < 1000 ? run->wanted : 1000;
}

static void check_untouched(
	const struct rule_run *run, const struct plan *before, uint32_t wanted, bool decided)
{
	uint32_t decides = decided ? run->config.rule->info->decides : 0;
	const struct plan *plan = &run->plan;
	const struct allowance *a = &plan->allowance, *b = &before->allowance;

	if (!(decides & DECIDES_CPU))
		assert_true(plan->cpu_millicores == before->cpu_millicores);
	if (!(decides & DECIDES_MEMORY))
		assert_true(plan->memory_bytes == before->memory_bytes);
	if (!(decides & DECIDES_BURST))
		assert_true(plan->burst_us == before->burst_us);
	if (!(decides & DECIDES_ALLOWANCE))
		assert_true(a->trigger_age_share == b->trigger_age_share &&
			    a->refills_per_period == b->refills_per_period &&
			    a->ceiling_millicores == b->ceiling_millicores);
	if (!(decides & DECIDES_REPLICAS))
		assert_int_equal(run->wanted, wanted);
}

static void test_no_rule_touches_what_it_does_not_decide_whatever_it_sees(void **state)
{
	struct random_state random;

	(void)state;
	random_seed(&random, 11);
	for (int id = 0; id < POLICY_COUNT; id++) {
		struct rule_run run;
		uint32_t decisions = 0;
		char why[128];

		if (!rule_of((enum policy_id)id))
			continue;
		run_start(&run, (enum policy_id)id, 1);
		for (int tick = 0; tick < 20000; tick++) {
			struct plan before = run.plan;
			uint32_t wanted = run.wanted;
			bool decided;

			sample_randomise(&run, &random);
			decided = run_tick(&run);
			decisions += decided;
			check_untouched(&run, &before, wanted, decided);
			assert_true(isfinite(run.plan.cpu_millicores));
			assert_true(run.plan.cpu_millicores >= 0);
			assert_in_range(run.wanted, 1, INT32_MAX);
			assert_true(run.plan.burst_us <=
				    run.plan.cpu_millicores * PLAN_PERIOD_US / 1000 + 1);
			bounds_keep(&run);
			run.plan.burst_us = 0;
		}
		assert_true(decisions > 20);
		run.config.rule->explain(&run.config, run.state, why, sizeof(why));
		assert_true(why[0] != '\0');
		run_end(&run);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_policy_but_the_learnt_has_a_rule),
		cmocka_unit_test(test_every_parameter_is_named_and_its_default_in_range),
		cmocka_unit_test(test_a_parameter_stays_in_its_range),
		cmocka_unit_test(test_assignments_set_their_rules_parameters),
		cmocka_unit_test(test_a_wrong_assignment_is_named),
		cmocka_unit_test(test_a_team_decides_what_its_rules_decide),
		cmocka_unit_test(test_a_team_remembers_until_it_is_another),
		cmocka_unit_test(test_what_is_learnt_is_left_to_the_caller),
		cmocka_unit_test(test_no_rule_touches_what_it_does_not_decide_whatever_it_sees),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
