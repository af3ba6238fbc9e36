// SPDX-License-Identifier: Apache-2.0
/* What each policy decides, with real networks, and that no policy leaves the envelope. */

#include "common/rung.h"
#include "learner/policy.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB    (1ULL << 20)
#define CPU_UP 7 /* cpu-up memory-hold */

struct fixture {
	struct policy_config config;
	struct random_state random;
	struct policy_context context;
	struct services services;
	struct service *service;
	struct service_unit *unit;
	struct envelope_unit bounds;
	struct envelope_service service_bounds;
};

static int brains_open(struct policy_context *context)
{
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = 64,
		.replay_ratio = 1,
		.updates_per_s_max = 100};
	int err;

	train_config_init(&options.train);
	err = brain_open(&context->vertical, &options);
	options.name = "horizontal";
	options.actions = ACTION_HORIZONTAL;
	if (!err)
		err = brain_open(&context->horizontal, &options);
	return err;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct objective *objective;

	if (!f)
		return -1;
	*state = f;
	policy_config_init(&f->config);
	random_seed(&f->random, 7);
	f->context.config = &f->config;
	f->context.random = &f->random;
	if (brains_open(&f->context))
		return -1;
	f->service = services_get(&f->services, "default", "fibonacci");
	if (!f->service)
		return -1;
	f->unit = service_get_unit(f->service, "node", brain_train_config(f->context.vertical));
	if (!f->unit)
		return -1;
	objective = &f->service->objective;
	f->service->has_objective = true;
	objective->latency_target_us = 50000;
	objective->cpu_min_millicores = 100;
	objective->cpu_max_millicores = 1000;
	objective->memory_min_bytes = 16 * MIB;
	objective->memory_max_bytes = 256 * MIB;
	objective->replicas_max = 6;
	f->unit->sample = (struct sample){.tick_s = 1,
		.requests = 1000,
		.latency_objective_us = 10000,
		.cpu_used_us = 50000,
		.containers = 1,
		.cpu_limit_millicores = 500,
		.memory_used_bytes = 20 * MIB,
		.memory_working_set_bytes = 20 * MIB,
		.memory_limit_bytes = 128 * MIB};
	f->bounds = (struct envelope_unit){.objective = objective,
		.sample = &f->unit->sample,
		.cpu_declared_millicores = 800,
		.memory_declared_bytes = 192 * MIB,
		.cpu_rung = 6,
		.demand = {400, 400},
		.reflex = true};
	f->service_bounds = (struct envelope_service){.objective = objective,
		.sample = &f->unit->sample,
		.replicas = 3,
		.since_scale_in_s = 1e9,
		.cooldown_s = 30};
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->services);
	brain_close(f->context.vertical);
	brain_close(f->context.horizontal);
	free(f);
	return 0;
}

static void policy_set(struct fixture *f, const char *name)
{
	strcpy(f->service->objective.policy, name);
}

/* Exploration always or never, and then by the rules' direction or at random. */
static void explore_set(struct fixture *f, double share, double guided)
{
	f->config.explore_start = f->config.explore_end = share;
	f->config.explore_guided = guided;
}

static struct vertical_decision decide(struct fixture *f)
{
	struct vertical_decision decision;

	policy_decide_vertical(&f->context, f->service, f->unit, &f->bounds, &decision);
	assert_true(decision.why[0] != '\0');
	return decision;
}

static struct horizontal_decision decide_replicas(struct fixture *f)
{
	struct horizontal_decision decision;

	policy_decide_horizontal(&f->context, f->service, &f->service_bounds, 800, &decision);
	assert_true(decision.why[0] != '\0');
	return decision;
}

static void test_static_is_the_upper_bounds(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "static");
	decision = decide(f);
	assert_true(decision.plan.cpu_millicores == 800);
	assert_true(decision.plan.memory_bytes == 192 * MIB);
	assert_false(decision.explored);
	f->bounds.cpu_declared_millicores = 4000;
	assert_true(decide(f).plan.cpu_millicores == 1000);
	assert_int_equal(decide_replicas(f).replicas, 3);
	assert_int_equal(decide_replicas(f).action, ACTION_HORIZONTAL_HOLD);
}

static void test_a_rule_runs_on_what_the_unit_used(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu-fast");
	f->unit->sample.cpu_used_us = 600000;
	f->unit->sample.containers = 2;
	decision = decide(f);
	assert_true(fabs(decision.plan.cpu_millicores - 600) < 1e-9);
	assert_true(decision.plan.memory_bytes == 128 * MIB);
	assert_int_equal(decision.rule, RULE_NONE);
	assert_string_equal(decision.why, "CPU 500m -> 600m, memory 128 -> 128 MiB; "
					  "k8s-cpu-fast: largest use of 20 s 300m over 0.5");
	assert_false(decision.has_q);
	/* Its parameters are the learner's. */
	rule_config_set(&f->config.rules.of[POLICY_k8s_cpu_fast], "target", 0.4);
	f->context.now_s = 1;
	assert_true(fabs(decide(f).plan.cpu_millicores - 750) < 1e-9);
}

/* The unit without a CPU limit: it is on a reservation of as much. */
static void unlimit(struct fixture *f)
{
	f->bounds.cpu_declared_millicores = 0;
	f->bounds.reflex = false;
	f->unit->sample.cpu_reserved_millicores = f->unit->sample.cpu_limit_millicores;
	f->unit->sample.cpu_limit_millicores = 0;
}

static void test_a_rule_moves_the_reservation_where_there_is_no_limit(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	unlimit(f);
	policy_set(f, "k8s-cpu-fast+reflex+burst");
	f->unit->sample.cpu_used_us = 300000;
	decision = decide(f);
	assert_true(decision.plan.reserves);
	assert_true(fabs(decision.plan.cpu_millicores - 600) < 1e-9);
	assert_non_null(strstr(decision.why, "CPU reserved 500m -> 600m"));
	assert_true(decision.plan.allowance.trigger_age_share == 0 && decision.plan.burst_us == 0);
	/* Inside the objective's bounds, as the VPA is inside its policy's. */
	f->context.now_s = 1;
	f->unit->sample.cpu_used_us = 900000;
	assert_true(decide(f).plan.cpu_millicores == 1000);
	f->service->objective.frozen = true;
	assert_true(decide(f).plan.cpu_millicores == 500);
}

static void test_what_waits_for_a_cpu_is_demand_while_requests_are_late(void **state)
{
	struct fixture *f = *state;
	struct sample *sample = &f->unit->sample;
	float features[STATE_SIZE] = {0};

	sample->cpu_used_us = 100000;
	sample->run_queue_us = 600000;
	/* A quota's throttling is in that wait, and has its own cure. */
	sample->requests_over = 500;
	assert_true(policy_bounds(f->unit, sample, features, true).demand.usual < 700);
	unlimit(f);
	assert_true(
		fabs(policy_bounds(f->unit, sample, features, false).demand.usual - 700) < 1e-6);
	sample->containers = 2;
	assert_true(
		fabs(policy_bounds(f->unit, sample, features, false).demand.usual - 350) < 1e-6);
	/* Nobody is late: the neighbours have their turn. */
	sample->requests_over = 0;
	assert_true(policy_bounds(f->unit, sample, features, false).demand.usual < 350);
}

static void test_the_network_moves_the_reservation_and_takes_a_cut_back(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	unlimit(f);
	policy_set(f, "dqn");
	explore_set(f, 0, 0);
	f->unit->cut_from = 700;
	f->unit->cut_remaining = 2;
	f->unit->sample.requests_over = 100;
	decision = decide(f);
	assert_int_equal(decision.rule, RULE_REVERT);
	assert_true(decision.plan.reserves && decision.plan.cpu_millicores >= 700);
	f->unit->sample.requests_over = 0;
	decision = decide(f);
	assert_true(decision.has_q && decision.plan.reserves);
	assert_int_equal(decision.mask, 0x1ff);
	assert_non_null(strstr(decision.why, "CPU reserved 500m -> "));
}

static void test_an_objective_has_its_own_parameters_of_a_rule(void **state)
{
	struct fixture *f = *state;

	policy_set(f, "k8s-cpu-fast+hpa");
	f->unit->sample.cpu_used_us = 200000;
	strcpy(f->service->objective.rule_parameters, "k8s-cpu-fast.target=0.4 hpa.target=0.01");
	assert_true(fabs(decide(f).plan.cpu_millicores - 500) < 1e-9);
	f->unit->sample.tick_s = 15;
	/* 13m of 3 x 800m are 0.56 %: two are enough for 1 %, for 50 % one would be. */
	assert_int_equal(decide_replicas(f).replicas, 2);
	/* Changed, with what the rule remembers; and back to the learner's. */
	f->unit->sample.tick_s = 1;
	f->context.now_s = 1;
	strcpy(f->service->objective.rule_parameters, "k8s-cpu-fast.target=0.25");
	assert_true(fabs(decide(f).plan.cpu_millicores - 800) < 1e-9);
	f->service->objective.rule_parameters[0] = '\0';
	f->context.now_s = 2;
	assert_true(fabs(decide(f).plan.cpu_millicores - 400) < 1e-9);
}

static void test_between_two_periods_a_rule_holds(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu");
	f->unit->sample.cpu_used_us = 150000;
	for (int second = 1; second < 15; second++) {
		f->context.now_s = second;
		decision = decide(f);
		assert_int_equal(decision.action, ACTION_VERTICAL_HOLD);
		assert_true(decision.plan.cpu_millicores == 500);
		assert_string_equal(decision.why, "k8s-cpu: holds until its next period");
	}
	f->context.now_s = 15;
	assert_true(fabs(decide(f).plan.cpu_millicores - 300) < 1e-9);
}

static void test_a_rule_stays_inside_the_bounds(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu-fast");
	f->unit->sample.cpu_used_us = 1000;
	decision = decide(f);
	assert_true(decision.plan.cpu_millicores == 100);
	assert_int_equal(decision.rule, RULE_BOUNDS);
	f->context.now_s = 15;
	f->unit->sample.cpu_used_us = 900000;
	decision = decide(f);
	assert_true(decision.plan.cpu_millicores == 800);
	assert_int_equal(decision.rule, RULE_BOUNDS);
	assert_int_equal(f->service->counts.interventions[RULE_BOUNDS], 2);
	/* Not under what is in use, either. */
	policy_set(f, "senpai");
	f->unit->sample.tick_s = 6;
	f->unit->sample.memory_used_bytes = f->unit->sample.memory_working_set_bytes = 100 * MIB;
	decision = decide(f);
	assert_int_equal(decision.rule, RULE_MEMORY_FLOOR);
	assert_true(decision.plan.memory_bytes == 114 * MIB);
}

static double price_after(struct fixture *f, double before)
{
	f->unit->plan.violation_price = before;
	return decide(f).plan.violation_price;
}

static void test_a_violation_that_no_limit_avoids_leaves_the_price(void **state)
{
	struct fixture *f = *state;
	struct sample *sample = &f->unit->sample;

	f->bounds.objective = &f->service->objective;
	sample->requests_over = 20;
	sample->latency_objective_us = 70000; /* of 50 ms */
	sample->throttled_us = 19999;
	assert_true(price_after(f, 1) < 1);
	sample->throttled_us = 20000;
	assert_true(price_after(f, 1) > 1.3);
	/* A quarter of the target at least: other requests than the late ones were throttled. */
	sample->latency_objective_us = 51000;
	sample->throttled_us = 12000;
	assert_true(price_after(f, 1) < 1);
	sample->throttled_us = 12500;
	assert_true(price_after(f, 1) > 1.3);
	/* Each of four containers. */
	sample->containers = 4;
	assert_true(price_after(f, 1) < 1);
	sample->throttled_us = 50000;
	assert_true(price_after(f, 1) > 1.3);
	/* Or one of them, to the end of a period: its requests were late, whatever the others did. */
	sample->throttled_us = 12500;
	sample->throttled_periods = 1;
	assert_true(price_after(f, 1) > 1.3);
	sample->throttled_us = 12499;
	assert_true(price_after(f, 1) < 1);
	sample->throttled_periods = 0;
	/* Memory may be what was wanting; where there is no limit it is the wait for a CPU. */
	sample->throttled_us = 0;
	sample->memory_pressure_us = 50000;
	assert_true(price_after(f, 1) > 1.3);
	sample->memory_pressure_us = 0;
	assert_true(price_after(f, 1) < 1);
	f->bounds.cpu_declared_millicores = 0;
	sample->run_queue_us = 50000;
	assert_true(price_after(f, 1) > 1.3);
}

static void test_the_price_rests_while_a_rule_decides(void **state)
{
	struct fixture *f = *state;
	struct sample *sample = &f->unit->sample;

	f->bounds.objective = &f->service->objective;
	sample->requests_over = 20;
	sample->latency_objective_us = 70000; /* of 50 ms */
	sample->throttled_us = 50000;
	assert_true(price_after(f, 2) > 2);
	policy_set(f, "vpa");
	assert_true(price_after(f, 2) == 2);
	policy_set(f, "dqn");
	assert_true(price_after(f, 2) > 2);
}

static void test_a_peak_of_memory_is_forgotten_sooner_where_forgetting_kills_nothing(void **state)
{
	struct fixture *f = *state;
	const double at_once = 100 * MIB;

	f->unit->sample.tick_s = 300;
	f->unit->memory_needed_bytes = at_once;
	(void)decide(f);
	assert_true(fabs(f->unit->memory_needed_bytes - at_once * exp2(-1.0 / 3)) < 1);
	f->bounds.memory_high = true;
	f->unit->memory_needed_bytes = at_once;
	(void)decide(f);
	assert_true(fabs(f->unit->memory_needed_bytes - at_once / 2) < 1);
	/* Not while what is there is too little already. */
	f->unit->sample.memory_pressure_us = 6000000;
	f->unit->memory_needed_bytes = at_once;
	(void)decide(f);
	assert_true(fabs(f->unit->memory_needed_bytes - at_once * exp2(-1.0 / 3)) < 1);
}

static void test_a_rules_move_is_the_nearest_action_of_the_table(void **state)
{
	struct fixture *f = *state;
	static const struct {
		double cpu, memory; /* CPU over demand, from 1.2; ratio of memory */
		const char *action; /* NULL: none */
	} cases[] = {{1.2, 1, "hold"}, {1.15, 1, "cpu-down memory-hold"},
		{1.4, 1.25, "cpu-up memory-up"}, {1.25, 1.1, "hold"},
		{1.7, 1, "cpu-up memory-hold"}, {1.0, 0.9, "cpu-down memory-down"},
		{2.1, 1, "cpu-up memory-hold"}, {2.2, 1, NULL}, {0.9, 1, NULL}, {1.2, 1.57, NULL},
		{1.2, 0.8, NULL}, {0, 1, "hold"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan from = {.cpu_millicores = 480, .memory_bytes = 1000 * MIB};
		struct plan to = {.cpu_millicores = 400 * cases[i].cpu,
			.memory_bytes = (uint64_t)(cases[i].memory * 1000 * (double)MIB)};
		uint32_t action = policy_nearest_action(&f->bounds, &from, &to);

		if (cases[i].action ? strcmp(action_vertical_name(action), cases[i].action) != 0
				    : action != POLICY_NO_ACTION)
			fail_msg("x%g x%g: %s", cases[i].cpu, cases[i].memory,
				action_vertical_name(action));
	}
}

static void test_a_jump_teaches_nothing_but_counts(void **state)
{
	struct fixture *f = *state;

	policy_set(f, "k8s-cpu-fast");
	/* To 500m of use over 0.9: from 1.25 to 1.4 times the demand, a rung. */
	strcpy(f->service->objective.rule_parameters, "k8s-cpu-fast.target=0.9");
	f->unit->sample.cpu_used_us = 500000;
	assert_string_equal(action_vertical_name(decide(f).action), "cpu-up memory-hold");
	f->unit->sample.cpu_limit_millicores = 200;
	assert_int_equal(decide(f).action, POLICY_NO_ACTION);
	assert_int_equal(f->service->counts.vertical[CPU_UP], 2);
}

static void test_replicas_follow_the_rule_that_is_named_for_them(void **state)
{
	struct fixture *f = *state;
	struct horizontal_decision decision;

	policy_set(f, "k8s-cpu+hpa");
	f->unit->sample.tick_s = 15;
	f->service_bounds.replicas = 2;
	/* 1600 of 2 x 800 declared is 100 %, twice the target: four replicas. */
	f->unit->sample.cpu_used_us = 1600000 * 15;
	decision = decide_replicas(f);
	assert_int_equal(decision.action, POLICY_NO_ACTION);
	assert_int_equal(decision.replicas, 4);
	assert_string_equal(decision.why, "replicas 2 -> 4; hpa: utilisation 1.00 of 0.5, wish 4");
	f->service_bounds.replicas = 4;
	f->context.now_s = 15;
	f->unit->sample.cpu_used_us = 6400000ULL * 15;
	decision = decide_replicas(f);
	assert_int_equal(decision.replicas, 6);
	assert_int_equal(decision.rule, RULE_BOUNDS);
	/* One more is an action of the table. */
	f->service_bounds.replicas = 5;
	f->context.now_s = 30;
	assert_int_equal(decide_replicas(f).action, 2);
	/* The same policy without it leaves them as deployed. */
	policy_set(f, "k8s-cpu");
	decision = decide_replicas(f);
	assert_int_equal(decision.replicas, 5);
	assert_string_equal(decision.why, "k8s-cpu: as deployed");
	/* And one for replicas only leaves the limits. */
	policy_set(f, "kpa");
	assert_true(decide(f).plan.cpu_millicores == 500);
	assert_string_equal(decide(f).why, "kpa: the limits stay");
}

static void test_an_allowance_is_brought_inside_and_ends_with_its_policy(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu-fast+reflex+burst");
	f->unit->sample.cpu_used_us = 200000;
	decision = decide(f);
	assert_true(decision.plan.allowance.trigger_age_share == 0.4);
	assert_int_equal(decision.plan.allowance.refills_per_period, 8);
	assert_true(decision.plan.allowance.ceiling_millicores == 800);
	assert_int_equal(decision.plan.burst_us, 40000);
	/* The burst is that of the limit that came out: the rule's 20m are under the bound. */
	f->unit->sample.cpu_used_us = 10000;
	f->context.now_s = 60;
	decision = decide(f);
	assert_true(decision.plan.cpu_millicores == 100);
	assert_true(decision.plan.burst_us <= 10000);
	/* The network's is that of its rung. */
	policy_set(f, "dqn");
	decision = decide(f);
	assert_true(decision.has_q);
	assert_true(decision.plan.allowance.trigger_age_share == RUNG_TRIGGER_AGE_SHARE);
	assert_true(decision.plan.burst_us > 0);
	f->bounds.reflex = false;
	assert_true(decide(f).plan.allowance.trigger_age_share <= 0);
	f->bounds.reflex = true;
	policy_set(f, "k8s-cpu-fast+reflex");
	decision = decide(f);
	assert_true(decision.plan.allowance.trigger_age_share == 0.4);
	assert_int_equal(decision.plan.burst_us, 0);
	assert_non_null(strstr(decision.why, "; reflex: from 0.4 of the target"));
	policy_set(f, "k8s-cpu-fast");
	decision = decide(f);
	assert_true(decision.plan.allowance.trigger_age_share <= 0);
	assert_int_equal(decision.plan.allowance.refills_per_period, 0);
	/* Where the owner set no limit there is no quota to be refilled. */
	policy_set(f, "reflex+burst");
	f->bounds.cpu_declared_millicores = 0;
	decision = decide(f);
	assert_true(decision.plan.allowance.trigger_age_share <= 0);
	assert_int_equal(decision.plan.burst_us, 0);
	assert_int_equal(decision.rule, RULE_UNLIMITED);
}

static void test_a_unit_has_its_own_memory_of_a_rule(void **state)
{
	struct fixture *f = *state;
	struct service_unit *other =
		service_get_unit(f->service, "other", brain_train_config(f->context.vertical));
	struct service_unit *units[2] = {f->unit, other};

	assert_non_null(other);
	policy_set(f, "k8s-cpu-fast");
	for (int second = 1; second <= 5; second++) {
		f->context.now_s = second;
		for (int i = 0; i < 2; i++) {
			struct vertical_decision decision;

			f->unit->sample.cpu_used_us = second == 1 && i == 0 ? 350000 : 100000;
			policy_decide_vertical(
				&f->context, f->service, units[i], &f->bounds, &decision);
			assert_true(fabs(decision.plan.cpu_millicores - (i ? 200 : 700)) < 1e-9);
		}
	}
}

static void test_the_network_takes_its_best_allowed_action(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;
	float q[ACTION_VERTICAL];

	explore_set(f, 0, 0);
	for (int i = 0; i < 500; i++) {
		for (int k = 0; k < STATE_SIZE; k++)
			f->unit->state[k] = 4 * random_uniform(&f->random) - 2;
		f->unit->sample.requests_over = i % 2 ? 500 : 0;
		f->unit->cut_remaining = 0;
		assert_int_equal(brain_evaluate(f->context.vertical, f->unit->state, 1, q), 0);
		decision = decide(f);
		assert_true(decision.has_q);
		assert_memory_equal(decision.q, q, sizeof(q));
		assert_false(decision.explored);
		assert_int_equal(
			decision.action, network_best_action(q, ACTION_VERTICAL, decision.mask));
		/* A rule is named exactly when it changed what the network wanted. */
		assert_int_equal(decision.rule == RULE_NONE,
			(int)decision.action ==
				network_best_action(q, ACTION_VERTICAL, NETWORK_ALL_ACTIONS));
	}
	assert_int_equal(f->service->counts.decisions, 500);
	assert_int_equal(f->service->counts.explored, 0);
}

static void sample_randomise(struct fixture *f)
{
	struct sample *sample = &f->unit->sample;

	sample->cpu_limit_millicores = 100 + 700 * random_uniform_double(&f->random);
	sample->memory_limit_bytes = 16 * MIB + random_below(&f->random, (uint32_t)(176 * MIB + 1));
	sample->memory_used_bytes = random_below(&f->random, (uint32_t)(150 * MIB));
	sample->memory_working_set_bytes = sample->memory_used_bytes / 2;
	sample->requests_over = random_below(&f->random, 20);
	sample->cpu_used_us = random_below(&f->random, 1000000);
	f->service->objective.frozen = random_below(&f->random, 10) == 0;
	for (int k = 0; k < STATE_SIZE; k++)
		f->unit->state[k] = 6 * random_uniform(&f->random) - 3;
}

static void test_explored_or_not_an_action_is_never_a_forbidden_one(void **state)
{
	struct fixture *f = *state;
	uint32_t explored = 0;

	for (int i = 0; i < 20000; i++) {
		const struct sample *sample = &f->unit->sample;
		struct vertical_decision decision;
		double cpu;

		explore_set(f, 0.7, i % 2);
		sample_randomise(f);
		decision = decide(f);
		cpu = decision.plan.cpu_millicores;
		explored += decision.explored;
		if (decision.rule == RULE_REVERT) {
			assert_true(cpu > sample->cpu_limit_millicores && cpu <= 800);
			continue;
		}
		assert_int_equal(decision.mask, envelope_vertical_mask(&f->bounds, NULL));
		assert_true(decision.mask >> decision.action & 1);
		if (decision.explored && !decision.guided)
			assert_false(sample_violates(sample, &f->service->objective));
		assert_true(cpu >= 100 && cpu <= 800);
		assert_true(decision.plan.memory_bytes <= 192 * MIB);
		if (action_memory_direction(decision.action) < 0)
			assert_true(
				decision.plan.memory_bytes >= envelope_memory_floor(&f->bounds));
	}
	assert_true(explored > 2000);
	assert_int_equal(f->service->counts.explored, explored);
}

static void test_nothing_is_tried_outside_auto(void **state)
{
	struct fixture *f = *state;

	explore_set(f, 1, 0);
	assert_true(decide(f).explored);
	f->service->objective.mode = OBJECTIVE_RECOMMEND;
	assert_false(decide(f).explored);
	assert_false(decide_replicas(f).explored);
}

/* A network that has learnt nothing must not hold what is overloaded. */
static void test_over_the_objective_an_explored_step_follows_the_guide(void **state)
{
	struct fixture *f = *state;

	explore_set(f, 1, 0);
	f->bounds.cpu_rung = 3;
	f->unit->sample.requests_over = 100;
	f->unit->sample.cpu_used_us = 5000000;
	for (int i = 0; i < 50; i++) {
		struct vertical_decision decision = decide(f);
		struct horizontal_decision scaled = decide_replicas(f);

		assert_true(decision.explored && decision.guided);
		assert_int_equal(action_cpu_direction(decision.action), 1);
		assert_true(scaled.explored && scaled.guided);
		assert_int_equal(scaled.replicas, f->service_bounds.replicas + 1);
	}
}

static void test_replicas_that_lack_room_are_added_whatever_the_network_says(void **state)
{
	struct fixture *f = *state;
	uint32_t changed = 0;

	policy_set(f, "dqn");
	f->service_bounds.replicas = 1;
	f->service_bounds.replicas_needed = 2;
	for (int i = 0; i < 100; i++) {
		struct horizontal_decision decision;

		explore_set(f, i % 2 ? 0.7 : 0, i % 4 > 1);
		decision = decide_replicas(f);
		assert_int_equal(decision.replicas, 2);
		if (decision.rule) {
			assert_int_equal(decision.rule, RULE_REPLICA_ROOM);
			changed++;
		}
	}
	assert_int_equal(f->service->counts.interventions[RULE_REPLICA_ROOM], changed);
	f->service_bounds.replicas = 2;
	explore_set(f, 0.7, 0);
	for (int i = 0; i < 100; i++)
		assert_true(decide_replicas(f).replicas >= 2);
}

static void test_every_tick_tells_how_much_room_a_unit_has(void **state)
{
	struct fixture *f = *state;

	policy_set(f, "dqn");
	f->service->replicas = 1;
	f->unit->cpu_declared_millicores = 800;
	f->unit->sample.cpu_used_us = 700000;
	assert_false(policy_lacks_replicas(f->service));
	f->bounds.starting = 1;
	for (int i = 0; i < 5; i++)
		(void)decide(f);
	assert_false(policy_lacks_replicas(f->service));
	f->bounds.starting = 0;
	for (int i = 0; i < 5; i++)
		(void)decide(f);
	assert_true(policy_lacks_replicas(f->service));
	/* What others published decides as it was published. */
	policy_set(f, "k8s-cpu+hpa");
	assert_false(policy_lacks_replicas(f->service));
	policy_set(f, "dqn");
	f->service->objective.replicas_max = 1;
	assert_false(policy_lacks_replicas(f->service));
	f->service->objective.replicas_max = 6;
	f->service->objective.frozen = true;
	assert_false(policy_lacks_replicas(f->service));
}

static void test_exploration_fades_with_what_the_service_has_taught(void **state)
{
	struct fixture *f = *state;
	uint32_t explored[2] = {0};

	for (int late = 0; late < 2; late++) {
		f->service->counts.experiences = late ? 100000 : 0;
		for (int i = 0; i < 2000; i++)
			explored[late] += decide(f).explored;
	}
	assert_in_range(explored[0], 1700, 1900);
	assert_in_range(explored[1], 10, 100);
}

/* A service has taught its limits far more often than its replicas. */
static void test_exploration_of_replicas_fades_with_what_replicas_have_taught(void **state)
{
	struct fixture *f = *state;
	uint32_t explored[2] = {0};

	f->service->counts.experiences = 100000;
	for (int late = 0; late < 2; late++) {
		f->service->counts.scale_experiences = late ? 100000 : 0;
		for (int i = 0; i < 2000; i++)
			explored[late] += decide_replicas(f).explored;
	}
	assert_in_range(explored[0], 1700, 1900);
	assert_in_range(explored[1], 10, 100);
}

static void test_guided_exploration_follows_the_load(void **state)
{
	struct fixture *f = *state;

	explore_set(f, 1, 1);
	/* High on the ladder, with six times the memory it works with. */
	f->bounds.cpu_rung = RUNG_COUNT - 1;
	assert_string_equal(action_vertical_name(decide(f).action), "cpu-down memory-down");
	/* Low on it, memory in use near its own limit. */
	f->bounds.cpu_rung = 1;
	f->unit->sample.memory_used_bytes = f->unit->sample.memory_working_set_bytes = 110 * MIB;
	assert_string_equal(action_vertical_name(decide(f).action), "cpu-up memory-up");
	/* At its upper bound the other dimension still moves. */
	f->unit->sample.cpu_limit_millicores = 800;
	assert_string_equal(action_vertical_name(decide(f).action), "cpu-hold memory-up");
}

/* One tick on which CPU was cut from 500. */
static void cut(struct fixture *f)
{
	struct vertical_decision decision;

	explore_set(f, 1, 1);
	f->unit->sample.cpu_limit_millicores = 500;
	f->unit->sample.cpu_used_us = 50000;
	f->bounds.cpu_rung = RUNG_COUNT - 1;
	f->bounds.demand = (struct demand){100, 100};
	decision = decide(f);
	assert_int_equal(decision.plan.cpu_rung, RUNG_COUNT - 2);
	assert_true(fabs(decision.plan.cpu_millicores - 350) < 1e-9);
	f->unit->sample.cpu_limit_millicores = decision.plan.cpu_millicores;
	f->bounds.cpu_rung = decision.plan.cpu_rung;
	explore_set(f, 0, 0);
}

/* Guided exploration finds nothing to change: it is where it leads, 1.25 x memory is just inside. */
static void hold(struct fixture *f)
{
	explore_set(f, 1, 1);
	f->bounds.cpu_rung = RUNG_START;
	f->unit->sample.memory_used_bytes = f->unit->sample.memory_working_set_bytes = 97 * MIB;
}

static void test_a_cut_that_breaks_the_objective_is_taken_back(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	cut(f);
	f->unit->sample.requests_over = 100;
	decision = decide(f);
	assert_int_equal(decision.rule, RULE_REVERT);
	assert_int_equal(decision.action, CPU_UP);
	assert_true(decision.plan.cpu_millicores == 500);
	assert_true(decision.plan.memory_bytes == f->unit->sample.memory_limit_bytes);
	assert_int_equal(f->service->counts.interventions[RULE_REVERT], 1);
	/* Once. */
	f->unit->sample.cpu_limit_millicores = 500;
	assert_int_not_equal(decide(f).rule, RULE_REVERT);
}

static void test_a_cut_is_on_probation_for_its_ticks_only(void **state)
{
	struct fixture *f = *state;

	for (uint32_t late = 0; late < 2; late++) {
		uint32_t ticks = f->config.revert_ticks - 1 + late;

		cut(f);
		hold(f);
		for (uint32_t i = 0; i < ticks; i++)
			assert_int_equal(decide(f).action, ACTION_VERTICAL_HOLD);
		f->unit->sample.requests_over = 100;
		assert_int_equal(decide(f).rule == RULE_REVERT, late == 0);
		f->unit->sample.requests_over = 0;
	}
}

static void test_a_limit_raised_meanwhile_is_not_taken_back(void **state)
{
	struct fixture *f = *state;

	cut(f);
	f->unit->sample.cpu_limit_millicores = 600;
	f->unit->sample.requests_over = 100;
	assert_int_not_equal(decide(f).rule, RULE_REVERT);
}

static void test_a_freeze_holds_whatever_the_policy(void **state)
{
	struct fixture *f = *state;

	cut(f);
	f->service->objective.frozen = true;
	f->unit->sample.requests_over = 100;
	f->unit->sample.cpu_used_us = 4000000;
	for (int i = 0; i < POLICY_COUNT; i++) {
		struct vertical_decision decision;

		policy_set(f, policy_infos[i].name);
		f->context.now_s += 60;
		decision = decide(f);
		if (decision.plan.cpu_millicores != f->unit->sample.cpu_limit_millicores ||
			decision.plan.memory_bytes != f->unit->sample.memory_limit_bytes)
			fail_msg("%s: %s", policy_infos[i].name, decision.why);
		if (decide_replicas(f).replicas != 3)
			fail_msg("%s changes replicas", policy_infos[i].name);
	}
	/* What may happen within the limits still may. */
	policy_set(f, "reflex-fixed");
	assert_true(decide(f).plan.allowance.trigger_age_share == 0.4);
}

/* Every rule over samples of every kind, as the agent would be told. */
/* Whatever decides, a rule or the network; a freeze stands above it. */
static void test_what_starts_keeps_its_limit_whatever_the_policy(void **state)
{
	static const char *const policies[] = {"dqn", "static", "k8s-cpu-fast", "reflex-fixed"};
	struct fixture *f = *state;
	struct vertical_decision decision;

	explore_set(f, 1, 1);
	f->bounds.starting = 1;
	f->unit->sample.cpu_limit_millicores = 800;
	f->service->objective.cpu_max_millicores = 0;
	f->service->objective.startup_cpu_millicores = 700;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		policy_set(f, policies[i]);
		for (int tick = 0; tick < 20; tick++) {
			decision = decide(f);
			assert_true(decision.plan.cpu_millicores >= 700);
			if (decision.plan.cpu_millicores > 700)
				continue;
			assert_int_equal(decision.rule, RULE_STARTING);
			assert_non_null(strstr(decision.why, "it starts: CPU 700m"));
			assert_true(decision.plan.allowance.ceiling_millicores <= 800);
		}
	}
	policy_set(f, "dqn");
	f->unit->sample.cpu_limit_millicores = 500;
	f->service->objective.frozen = true;
	decision = decide(f);
	assert_int_equal(decision.rule, RULE_FROZEN);
	assert_true(decision.plan.cpu_millicores == 500);
	/* Of one among others only the reason speaks. */
	f->service->objective.frozen = false;
	f->unit->sample.containers = 2;
	decision = decide(f);
	assert_true(decision.rule != RULE_STARTING);
	assert_true(decision.plan.cpu_millicores < 700);
	assert_non_null(strstr(decision.why, "1 of 2 containers start and keep up to 700m"));
	/* Without a limit there is none to keep. */
	f->bounds.cpu_declared_millicores = 0;
	assert_null(strstr(decide(f).why, "containers start"));
}

static void test_no_rule_leaves_the_envelope(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < POLICY_COUNT; i++) {
		policy_set(f, policy_infos[i].name);
		for (int tick = 0; tick < 3000; tick++) {
			struct vertical_decision decision;
			struct plan *plan = &decision.plan;

			sample_randomise(f);
			f->unit->sample.throttled_us = random_below(&f->random, 200000);
			f->unit->sample.memory_pressure_us = random_below(&f->random, 20000);
			f->context.now_s += 1;
			decision = decide(f);
			if (f->service->objective.frozen)
				continue;
			assert_true(plan->cpu_millicores >= 100 && plan->cpu_millicores <= 800);
			assert_true(plan->memory_bytes <= 192 * MIB);
			assert_true(plan->allowance.ceiling_millicores <= 800);
			assert_true((double)plan->burst_us <= plan->cpu_millicores * 100 + 1e-6);
			assert_true(decision.action < ACTION_VERTICAL ||
				    decision.action == POLICY_NO_ACTION);
			decide_replicas(f);
		}
	}
}

static void test_replicas_move_by_one_inside_the_envelope(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 5000; i++) {
		struct horizontal_decision decision;
		uint32_t replicas = 1 + random_below(&f->random, 6);

		explore_set(f, 0.7, i % 2);
		sample_randomise(f);
		memcpy(f->service->state, f->unit->state, sizeof(f->service->state));
		f->service_bounds.replicas = replicas;
		f->service_bounds.since_scale_in_s = 60 * random_uniform_double(&f->random);
		decision = decide_replicas(f);
		assert_true(decision.action < ACTION_HORIZONTAL);
		assert_true(decision.mask >> decision.action & 1);
		assert_int_equal(
			decision.replicas, replicas + decision.action - ACTION_HORIZONTAL_HOLD);
		assert_in_range(decision.replicas, 1, 6);
		if (decision.replicas < replicas)
			assert_true(f->service_bounds.since_scale_in_s >= 30);
	}
}

/* --- divergence --- */

/* A value out of range, and no good weights to fall back to. */
static void diverge(struct brain *brain)
{
	float state[STATE_SIZE] = {1e30F}, q[ACTION_VERTICAL];

	assert_int_equal(brain_evaluate(brain, state, 1, q), -ERANGE);
	brain_train_due(brain, 0);
	assert_int_equal(brain_health(brain), BRAIN_UNUSABLE);
}

static void test_a_rule_decides_for_a_network_that_diverged(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	explore_set(f, 1, 0);
	diverge(f->context.vertical);
	/* The limit that k8s-cpu sets, after its period of 15 s, is twice the use. */
	f->unit->sample.cpu_used_us = 350000;
	for (int second = 0; second < 20; second++) {
		f->context.now_s = 1000 + second;
		decision = decide(f);
		if (fabs(decision.plan.cpu_millicores - 500) > 1)
			break;
	}
	assert_false(decision.explored);
	assert_false(decision.has_q);
	assert_int_equal(decision.rule, RULE_DIVERGED);
	assert_true(fabs(decision.plan.cpu_millicores - 700) < 1);
	assert_true(decision.plan.memory_bytes == 128 * MIB);
	assert_non_null(strstr(decision.why, "network diverged"));
	assert_int_equal(
		f->service->counts.interventions[RULE_DIVERGED], f->service->counts.decisions);
	assert_int_equal(f->service->counts.explored, 0);
}

static void test_the_rule_in_its_place_cuts_nothing_it_does_not_know(void **state)
{
	struct fixture *f = *state;
	double least = INFINITY;

	diverge(f->context.vertical);
	f->unit->sample.cpu_used_us = 100000;
	/* Its window is 300 s: until then it cannot know what was used before. */
	for (int second = 0; second < 300; second++) {
		f->context.now_s = 1000 + second;
		assert_true(decide(f).plan.cpu_millicores >= 500);
	}
	f->unit->sample.requests_over = 500;
	for (int second = 300; second < 340; second++) {
		f->context.now_s = 1000 + second;
		assert_true(decide(f).plan.cpu_millicores >= 500);
	}
	f->unit->sample.requests_over = 0;
	for (int second = 340; second < 356; second++) {
		f->context.now_s = 1000 + second;
		least = fmin(least, decide(f).plan.cpu_millicores);
	}
	assert_true(least < 500);
}

static void test_the_network_decides_again_when_it_is_sound(void **state)
{
	struct fixture *f = *state;
	float *weights;
	uint64_t steps;
	size_t count;

	explore_set(f, 0, 0);
	assert_int_equal(brain_copy_weights(f->context.vertical, &weights, &count, &steps), 0);
	diverge(f->context.vertical);
	assert_int_equal(decide(f).rule, RULE_DIVERGED);
	assert_int_equal(brain_adopt_weights(f->context.vertical, weights, count), 0);
	free(weights);
	assert_true(decide(f).has_q);
	/* The next time begins with a window of its own. */
	assert_true(f->unit->fallen_since_s <= 0);
}

static void test_a_policys_other_parts_go_on_without_the_network(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "dqn");
	decision = decide(f);
	assert_true(decision.plan.allowance.trigger_age_share > 0);
	diverge(f->context.vertical);
	decision = decide(f);
	assert_int_equal(decision.rule, RULE_DIVERGED);
	assert_true(decision.plan.allowance.trigger_age_share > 0);
}

static void test_replicas_stay_or_grow_without_the_network(void **state)
{
	struct fixture *f = *state;
	struct horizontal_decision decision;
	uint32_t most = 0, least = UINT32_MAX;

	diverge(f->context.horizontal);
	/* All of what three replicas declare: more are asked for. */
	f->unit->sample.cpu_used_us = 2400000;
	for (int second = 0; second < 20; second++) {
		f->context.now_s = 1000 + second;
		decision = decide_replicas(f);
		assert_int_equal(decision.rule, RULE_DIVERGED);
		most = decision.replicas > most ? decision.replicas : most;
	}
	assert_true(most > 3);
	f->unit->sample.cpu_used_us = 1000;
	for (int second = 20; second < 300; second++) {
		f->context.now_s = 1000 + second;
		assert_true(decide_replicas(f).replicas >= 3);
	}
	for (int second = 300; second < 700; second++) {
		f->context.now_s = 1000 + second;
		decision = decide_replicas(f);
		least = decision.replicas < least ? decision.replicas : least;
	}
	assert_true(least < 3);
}

static void test_ape_x_gives_each_unit_an_exploration_of_its_own(void **state)
{
	enum {
		UNITS = 5,
		ROUNDS = 4000
	};
	struct fixture *f = *state;
	uint64_t explored[UNITS];

	f->config.explore_schedule = EXPLORE_APEX;
	for (int i = 1; i < UNITS; i++) {
		char node[16];

		snprintf(node, sizeof(node), "node-%d", i);
		assert_non_null(service_get_unit(
			f->service, node, brain_train_config(f->context.vertical)));
	}
	/* Experience does not lower it. */
	f->service->counts.experiences = 1000000;
	for (int i = 0; i < UNITS; i++) {
		uint64_t before = f->service->counts.explored;
		struct vertical_decision decision;
		double expected = pow(0.4, 1 + 7.0 * i / (UNITS - 1)) * ROUNDS;

		for (int round = 0; round < ROUNDS; round++)
			policy_decide_vertical(&f->context, f->service, f->services.units[i],
				&f->bounds, &decision);
		explored[i] = f->service->counts.explored - before;
		/* Five standard deviations. */
		assert_true(fabs((double)explored[i] - expected) < 5 * sqrt(expected) + 1);
		assert_true(i == 0 || explored[i] < explored[i - 1]);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_static_is_the_upper_bounds),
		TEST(test_a_rule_runs_on_what_the_unit_used),
		TEST(test_a_rule_moves_the_reservation_where_there_is_no_limit),
		TEST(test_what_waits_for_a_cpu_is_demand_while_requests_are_late),
		TEST(test_the_network_moves_the_reservation_and_takes_a_cut_back),
		TEST(test_an_objective_has_its_own_parameters_of_a_rule),
		TEST(test_between_two_periods_a_rule_holds),
		TEST(test_a_rule_stays_inside_the_bounds),
		TEST(test_a_violation_that_no_limit_avoids_leaves_the_price),
		TEST(test_the_price_rests_while_a_rule_decides),
		TEST(test_a_peak_of_memory_is_forgotten_sooner_where_forgetting_kills_nothing),
		TEST(test_a_rules_move_is_the_nearest_action_of_the_table),
		TEST(test_a_jump_teaches_nothing_but_counts),
		TEST(test_replicas_follow_the_rule_that_is_named_for_them),
		TEST(test_an_allowance_is_brought_inside_and_ends_with_its_policy),
		TEST(test_a_unit_has_its_own_memory_of_a_rule),
		TEST(test_the_network_takes_its_best_allowed_action),
		TEST(test_explored_or_not_an_action_is_never_a_forbidden_one),
		TEST(test_nothing_is_tried_outside_auto),
		TEST(test_over_the_objective_an_explored_step_follows_the_guide),
		TEST(test_replicas_that_lack_room_are_added_whatever_the_network_says),
		TEST(test_every_tick_tells_how_much_room_a_unit_has),
		TEST(test_exploration_fades_with_what_the_service_has_taught),
		TEST(test_exploration_of_replicas_fades_with_what_replicas_have_taught),
		TEST(test_guided_exploration_follows_the_load),
		TEST(test_a_cut_that_breaks_the_objective_is_taken_back),
		TEST(test_a_cut_is_on_probation_for_its_ticks_only),
		TEST(test_a_limit_raised_meanwhile_is_not_taken_back),
		TEST(test_a_freeze_holds_whatever_the_policy),
		TEST(test_what_starts_keeps_its_limit_whatever_the_policy),
		TEST(test_no_rule_leaves_the_envelope),
		TEST(test_replicas_move_by_one_inside_the_envelope),
		TEST(test_a_rule_decides_for_a_network_that_diverged),
		TEST(test_the_rule_in_its_place_cuts_nothing_it_does_not_know),
		TEST(test_the_network_decides_again_when_it_is_sound),
		TEST(test_a_policys_other_parts_go_on_without_the_network),
		TEST(test_replicas_stay_or_grow_without_the_network),
		TEST(test_ape_x_gives_each_unit_an_exploration_of_its_own),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
