// SPDX-License-Identifier: Apache-2.0
#include "learner/envelope.h"
#include "learner/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct objective objective;
	struct sample sample;
	struct envelope_unit unit;
};

static struct fixture make(void)
{
	struct fixture f;

	memset(&f, 0, sizeof(f));
	objective_init(&f.objective);
	f.objective.latency_target_us = 50000;
	f.objective.cpu_min_millicores = 100;
	f.objective.cpu_max_millicores = 1000;
	f.objective.memory_min_bytes = 16 << 20;
	f.objective.memory_max_bytes = 256 << 20;
	f.objective.replicas_min = 1;
	f.objective.replicas_max = 4;
	f.sample.tick_s = 1;
	f.sample.requests = 1000;
	f.sample.containers = 1;
	f.sample.latency_objective_us = 10000;
	f.sample.cpu_limit_millicores = 500;
	f.sample.memory_limit_bytes = 128 << 20;
	f.sample.memory_used_bytes = 20 << 20;
	f.sample.memory_working_set_bytes = 20 << 20;
	f.unit.cpu_declared_millicores = 1000;
	f.unit.memory_declared_bytes = 256 << 20;
	return f;
}

/* Pointers into a fixture that was returned by value are set where it now lives. */
static struct envelope_unit *unit_of(struct fixture *f)
{
	f->unit.objective = &f->objective;
	f->unit.sample = &f->sample;
	return &f->unit;
}

#define CPU_DOWN 1 /* cpu-down memory-hold */
#define CPU_UP	 7
#define MEM_DOWN 3
#define MEM_UP	 5

static void test_every_action_is_free_with_headroom(void **state)
{
	struct fixture f = make();

	(void)state;
	assert_int_equal(envelope_vertical_mask(unit_of(&f), NULL), 0x1ff);
}

static void assert_forbidden(struct fixture *f, uint32_t action, enum envelope_rule rule)
{
	enum envelope_rule rules[ACTION_VERTICAL];
	uint64_t mask = envelope_vertical_mask(unit_of(f), rules);

	assert_false(mask >> action & 1);
	assert_string_equal(envelope_rule_name(rules[action]), envelope_rule_name(rule));
	assert_true(mask >> ACTION_VERTICAL_HOLD & 1);
}

static void test_no_cut_while_over_the_objective(void **state)
{
	struct fixture f = make();

	(void)state;
	f.sample.requests_over = 11; /* p99: ten of a thousand may be */
	assert_forbidden(&f, CPU_DOWN, RULE_OVER_OBJECTIVE);
	assert_forbidden(&f, MEM_DOWN, RULE_OVER_OBJECTIVE);
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_UP & 1);
	f.sample.requests_over = 10;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
}

static void test_limits_stay_inside_their_bounds(void **state)
{
	struct fixture f = make();

	(void)state;
	f.sample.cpu_limit_millicores = 100;
	assert_forbidden(&f, CPU_DOWN, RULE_BOUNDS);
	f.sample.cpu_limit_millicores = 1000;
	assert_forbidden(&f, CPU_UP, RULE_BOUNDS);
	f.sample.memory_limit_bytes = 256 << 20;
	assert_forbidden(&f, MEM_UP, RULE_BOUNDS);
}

static void test_the_owners_limit_is_the_outermost_bound(void **state)
{
	struct fixture f = make();
	double cpu;
	uint64_t memory;

	(void)state;
	f.unit.cpu_declared_millicores = 510;
	envelope_vertical_limits(unit_of(&f), CPU_UP, &cpu, &memory);
	assert_true(cpu == 510);
}

static void test_memory_is_never_cut_under_what_is_in_use(void **state)
{
	struct fixture f = make();
	uint64_t memory = 1;
	double cpu = 500;

	(void)state;
	f.sample.memory_limit_bytes = 26 << 20;
	assert_forbidden(&f, MEM_DOWN, RULE_MEMORY_FLOOR);
	assert_int_equal(envelope_clamp(unit_of(&f), &cpu, &memory), RULE_MEMORY_FLOOR);
	assert_true(memory >= 22 << 20);
	/* A peak within the tick counts as well. */
	f.sample.memory_peak_bytes = 100 << 20;
	memory = 1;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_true(memory >= 110 << 20);
}

static void test_a_limit_that_the_owner_did_not_set_is_never_added(void **state)
{
	struct fixture f = make();

	(void)state;
	f.unit.cpu_declared_millicores = 0;
	f.sample.cpu_limit_millicores = 0;
	assert_forbidden(&f, CPU_DOWN, RULE_UNLIMITED);
	assert_forbidden(&f, CPU_UP, RULE_UNLIMITED);
}

static void test_a_freeze_leaves_only_hold(void **state)
{
	struct fixture f = make();

	(void)state;
	f.objective.frozen = true;
	assert_int_equal(envelope_vertical_mask(unit_of(&f), NULL), 1 << ACTION_VERTICAL_HOLD);
}

static void test_any_action_on_any_sample_stays_inside(void **state)
{
	struct random_state random;

	(void)state;
	random_seed(&random, 5);
	for (int i = 0; i < 20000; i++) {
		struct fixture f = make();
		uint32_t action = random_below(&random, ACTION_VERTICAL);
		uint64_t memory;
		double cpu;

		f.sample.cpu_limit_millicores = 100 + 900 * random_uniform_double(&random);
		f.sample.memory_limit_bytes = (16ULL << 20) + random_below(&random, 240 << 20);
		f.sample.memory_used_bytes = random_below(&random, 200 << 20);
		f.sample.requests_over = random_below(&random, 30);
		if (!(envelope_vertical_mask(unit_of(&f), NULL) >> action & 1))
			continue;
		envelope_vertical_limits(unit_of(&f), action, &cpu, &memory);
		assert_true(cpu >= 100 && cpu <= 1000);
		assert_true(memory <= 256 << 20);
		assert_true(memory >= envelope_memory_floor(unit_of(&f)) || memory == 256 << 20);
	}
}

static void test_replicas_rest_after_a_scale_in(void **state)
{
	struct fixture f = make();
	struct envelope_service service = {.objective = &f.objective,
		.sample = &f.sample,
		.replicas = 3,
		.since_scale_in_s = 5,
		.cooldown_s = 30};
	enum envelope_rule rules[ACTION_HORIZONTAL];

	(void)state;
	assert_int_equal(envelope_horizontal_mask(&service, rules), 0x6);
	assert_int_equal(rules[0], RULE_COOLDOWN);
	service.since_scale_in_s = 31;
	assert_int_equal(envelope_horizontal_mask(&service, rules), 0x7);
	f.sample.requests_over = 500;
	assert_int_equal(envelope_horizontal_mask(&service, rules), 0x6);
	assert_int_equal(rules[0], RULE_OVER_OBJECTIVE);
}

static void test_replicas_stay_inside_their_bounds(void **state)
{
	struct fixture f = make();
	struct envelope_service service = {.objective = &f.objective,
		.sample = &f.sample,
		.replicas = 4,
		.since_scale_in_s = 1e9};
	uint32_t wanted = 9;

	(void)state;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x3);
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_BOUNDS);
	assert_int_equal(wanted, 4);
	service.replicas = 1;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x6);
	f.objective.frozen = true;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_action_is_free_with_headroom),
		cmocka_unit_test(test_no_cut_while_over_the_objective),
		cmocka_unit_test(test_limits_stay_inside_their_bounds),
		cmocka_unit_test(test_the_owners_limit_is_the_outermost_bound),
		cmocka_unit_test(test_memory_is_never_cut_under_what_is_in_use),
		cmocka_unit_test(test_a_limit_that_the_owner_did_not_set_is_never_added),
		cmocka_unit_test(test_a_freeze_leaves_only_hold),
		cmocka_unit_test(test_any_action_on_any_sample_stays_inside),
		cmocka_unit_test(test_replicas_rest_after_a_scale_in),
		cmocka_unit_test(test_replicas_stay_inside_their_bounds),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
