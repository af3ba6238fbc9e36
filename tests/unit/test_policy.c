// SPDX-License-Identifier: Apache-2.0
/* What each policy decides, with real networks, and that no policy leaves the envelope. */
#include "learner/policy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
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
		.memory_declared_bytes = 192 * MIB};
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

static void test_every_named_policy_exists_and_no_other(void **state)
{
	(void)state;
	for (size_t i = 0; policy_names[i]; i++)
		assert_true(policy_exists(policy_names[i]));
	assert_true(policy_exists("dqn"));
	assert_false(policy_exists(""));
	assert_false(policy_exists("DQN"));
}

static void test_static_is_the_upper_bounds(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "static");
	decision = decide(f);
	assert_int_equal(decision.action, POLICY_NO_ACTION);
	assert_true(decision.cpu_millicores == 800);
	assert_true(decision.memory_bytes == 192 * MIB);
	assert_false(decision.explored);
	f->bounds.cpu_declared_millicores = 4000;
	assert_true(decide(f).cpu_millicores == 1000);
	assert_int_equal(decide_replicas(f).replicas, 3);
}

static void test_k8s_cpu_is_the_largest_use_over_its_target(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu");
	f->unit->sample.cpu_used_us = 150000;
	decision = decide(f);
	assert_int_equal(decision.action, POLICY_NO_ACTION);
	assert_true(fabs(decision.cpu_millicores - 300) < 1e-9);
	assert_true(decision.memory_bytes == 128 * MIB);
	assert_int_equal(decision.rule, RULE_NONE);
	/* Between two periods nothing changes, but use counts. */
	f->context.now_s = 5;
	f->unit->sample.cpu_used_us = 350000;
	assert_true(decide(f).cpu_millicores == 500);
	f->context.now_s = 15;
	f->unit->sample.cpu_used_us = 10000;
	assert_true(fabs(decide(f).cpu_millicores - 700) < 1e-9);
}

static void test_k8s_cpu_divides_use_by_containers_and_ticks(void **state)
{
	struct fixture *f = *state;

	policy_set(f, "k8s-cpu");
	f->unit->sample.cpu_used_us = 800000;
	f->unit->sample.containers = 2;
	f->unit->sample.tick_s = 2;
	assert_true(fabs(decide(f).cpu_millicores - 400) < 1e-9);
}

static void test_k8s_cpu_stays_inside_the_bounds(void **state)
{
	struct fixture *f = *state;
	struct vertical_decision decision;

	policy_set(f, "k8s-cpu");
	f->unit->sample.cpu_used_us = 1000;
	decision = decide(f);
	assert_true(decision.cpu_millicores == 100);
	assert_int_equal(decision.rule, RULE_BOUNDS);
	f->context.now_s = 15;
	f->unit->sample.cpu_used_us = 900000;
	decision = decide(f);
	assert_true(decision.cpu_millicores == 800);
	assert_int_equal(decision.rule, RULE_BOUNDS);
	assert_int_equal(f->service->counts.interventions[RULE_BOUNDS], 2);
}

static void test_k8s_cpu_scales_replicas_as_the_hpa(void **state)
{
	struct fixture *f = *state;
	struct horizontal_decision decision;

	policy_set(f, "k8s-cpu");
	f->service_bounds.replicas = 2;
	/* 1600 of 2 x 800 declared is 100 %, twice the target: four replicas. */
	f->unit->sample.cpu_used_us = 1600000;
	decision = decide_replicas(f);
	assert_int_equal(decision.action, POLICY_NO_ACTION);
	assert_int_equal(decision.replicas, 4);
	f->service_bounds.replicas = 4;
	f->context.now_s = 15;
	f->unit->sample.cpu_used_us = 6400000;
	decision = decide_replicas(f);
	assert_int_equal(decision.replicas, 6);
	assert_int_equal(decision.rule, RULE_BOUNDS);
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
		brain_evaluate(f->context.vertical, f->unit->state, 1, q);
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
		cpu = decision.cpu_millicores;
		explored += decision.explored;
		if (decision.rule == RULE_REVERT) {
			assert_true(cpu > sample->cpu_limit_millicores && cpu <= 800);
			continue;
		}
		assert_int_equal(decision.mask, envelope_vertical_mask(&f->bounds, NULL));
		assert_true(decision.mask >> decision.action & 1);
		if (decision.explored)
			assert_false(sample_violates(sample, &f->service->objective));
		assert_true(cpu >= 100 && cpu <= 800);
		assert_true(decision.memory_bytes <= 192 * MIB);
		if (action_memory_direction(decision.action) < 0)
			assert_true(decision.memory_bytes >= envelope_memory_floor(&f->bounds));
	}
	assert_true(explored > 2000);
	assert_int_equal(f->service->counts.explored, explored);
}

static void test_nothing_is_tried_over_the_objective_or_outside_auto(void **state)
{
	struct fixture *f = *state;

	explore_set(f, 1, 0);
	assert_true(decide(f).explored);
	f->service->objective.mode = OBJECTIVE_RECOMMEND;
	assert_false(decide(f).explored);
	assert_false(decide_replicas(f).explored);
	f->service->objective.mode = OBJECTIVE_AUTO;
	f->unit->sample.requests_over = 100;
	assert_false(decide(f).explored);
	assert_false(decide_replicas(f).explored);
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

static void test_guided_exploration_follows_the_load(void **state)
{
	struct fixture *f = *state;

	explore_set(f, 1, 1);
	/* Idle, with six times the memory it works with. */
	assert_string_equal(action_vertical_name(decide(f).action), "cpu-down memory-down");
	/* Demand over the limit, memory in use near its own. */
	f->unit->state[STATE_demand_max] = 1.2F;
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
	decision = decide(f);
	assert_true(fabs(decision.cpu_millicores - 425) < 1e-9);
	f->unit->sample.cpu_limit_millicores = decision.cpu_millicores;
	explore_set(f, 0, 0);
}

/* Guided exploration finds nothing to change: 1.8 x use and 1.25 x memory are just inside. */
static void hold(struct fixture *f)
{
	explore_set(f, 1, 1);
	f->unit->sample.cpu_used_us = 220000;
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
	assert_true(decision.cpu_millicores == 500);
	assert_true(decision.memory_bytes == f->unit->sample.memory_limit_bytes);
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
	for (size_t i = 0; policy_names[i]; i++) {
		struct vertical_decision decision;

		policy_set(f, policy_names[i]);
		f->context.now_s += 60;
		decision = decide(f);
		if (decision.cpu_millicores != f->unit->sample.cpu_limit_millicores ||
			decision.memory_bytes != f->unit->sample.memory_limit_bytes)
			fail_msg("%s: %s", policy_names[i], decision.why);
		if (decide_replicas(f).replicas != 3)
			fail_msg("%s changes replicas", policy_names[i]);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_named_policy_exists_and_no_other),
		TEST(test_static_is_the_upper_bounds),
		TEST(test_k8s_cpu_is_the_largest_use_over_its_target),
		TEST(test_k8s_cpu_divides_use_by_containers_and_ticks),
		TEST(test_k8s_cpu_stays_inside_the_bounds),
		TEST(test_k8s_cpu_scales_replicas_as_the_hpa),
		TEST(test_the_network_takes_its_best_allowed_action),
		TEST(test_explored_or_not_an_action_is_never_a_forbidden_one),
		TEST(test_nothing_is_tried_over_the_objective_or_outside_auto),
		TEST(test_exploration_fades_with_what_the_service_has_taught),
		TEST(test_guided_exploration_follows_the_load),
		TEST(test_a_cut_that_breaks_the_objective_is_taken_back),
		TEST(test_a_cut_is_on_probation_for_its_ticks_only),
		TEST(test_a_limit_raised_meanwhile_is_not_taken_back),
		TEST(test_a_freeze_holds_whatever_the_policy),
		TEST(test_replicas_move_by_one_inside_the_envelope),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
