// SPDX-License-Identifier: Apache-2.0
#include "common/rung.h"
#include "learner/dqn/random.h"
#include "learner/envelope.h"

#include <math.h>
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
	f.unit.cpu_rung = 6;
	f.unit.demand = (struct demand){400, 400};
	f.unit.reflex = true;
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
	struct plan plan = {0};

	(void)state;
	f.unit.cpu_declared_millicores = 510;
	f.unit.demand = (struct demand){600, 600};
	envelope_vertical_plan(unit_of(&f), CPU_UP, &plan);
	assert_true(plan.cpu_millicores == 510);
	assert_true(plan.allowance.ceiling_millicores == 510);
}

static void test_an_action_moves_along_the_ladder_of_operating_points(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	envelope_vertical_plan(unit_of(&f), CPU_UP, &plan);
	assert_int_equal(plan.cpu_rung, 7);
	assert_true(plan.cpu_millicores == rungs[7].factor * 400);
	assert_true(plan.allowance.trigger_age_share == RUNG_TRIGGER_AGE_SHARE);
	assert_int_equal(plan.allowance.refills_per_period, RUNG_REFILLS_PER_PERIOD);
	/* A part of what the limit leaves of the ceiling: no refill is refused for more. */
	assert_in_range(plan.burst_us, (1000 - plan.cpu_millicores) / 16 * 100 - 1,
		(1000 - plan.cpu_millicores) / 16 * 100 + 1);
	assert_int_equal(plan.memory_bytes, 128 << 20);
	/* Hold follows the demand up at once, down in steps. */
	f.unit.demand = (struct demand){700, 700};
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, 6);
	assert_true(plan.cpu_millicores == rungs[6].factor * 700);
	f.unit.demand = (struct demand){10, 10};
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_true(plan.cpu_millicores == 350);
	/* A few percent are not worth a write. */
	f.unit.demand.usual = f.unit.demand.peak = 1.03 * 500 / rungs[6].factor;
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_true(plan.cpu_millicores == 500);
	f.unit.demand = (struct demand){10, 10};
	/* And not down at all while the objective is broken. */
	f.sample.requests_over = 500;
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_true(plan.cpu_millicores == 500);
}

static void test_the_ends_of_the_ladder_are_bounds(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	f.unit.cpu_rung = 0;
	assert_forbidden(&f, CPU_DOWN, RULE_BOUNDS);
	/* And taken all the same it leads nowhere. */
	envelope_vertical_plan(&f.unit, CPU_DOWN, &plan);
	assert_int_equal(plan.cpu_rung, 0);
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_UP & 1);
	f.unit.cpu_rung = RUNG_COUNT - 1;
	assert_forbidden(&f, CPU_UP, RULE_BOUNDS);
	envelope_vertical_plan(&f.unit, CPU_UP, &plan);
	assert_int_equal(plan.cpu_rung, RUNG_COUNT - 1);
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
}

/* A service that uses 5 millicores: nothing on the way makes tens of millicores of it. */
static void test_a_tiny_service_moves_in_fine_steps(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	f.objective.cpu_min_millicores = 10;
	f.unit.demand = (struct demand){5, 5};
	f.unit.cpu_rung = 11;
	f.sample.cpu_limit_millicores = 17;
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_true(fabs(plan.cpu_millicores - 2.6 * 5) < 1e-9);
	f.sample.cpu_limit_millicores = plan.cpu_millicores;
	envelope_vertical_plan(&f.unit, CPU_DOWN, &plan);
	assert_true(fabs(plan.cpu_millicores - 2.1 * 5) < 1e-9);
	/* The kernel's smallest quota is the end. */
	f.unit.cpu_rung = 6;
	f.sample.cpu_limit_millicores = plan.cpu_millicores;
	envelope_vertical_plan(&f.unit, CPU_DOWN, &plan);
	assert_true(fabs(plan.cpu_millicores - 10) < 1e-9);
}

static void test_a_high_price_bars_the_low_rungs(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};
	uint32_t last = 0;

	(void)state;
	for (double price = PRICE_LEAST; price < PRICE_MOST; price *= 1.1) {
		assert_true(price_rung(price, false) >= last);
		last = price_rung(price, false);
	}
	assert_int_equal(price_rung(PRICE_LEAST, false), 0);
	assert_int_equal(price_rung(PRICE_MOST, false), 8);
	f.unit.violation_price = PRICE_MOST;
	assert_forbidden(&f, CPU_DOWN, RULE_VIOLATIONS_ASKED);
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, 8);
	f.unit.violation_price = PRICE_LEAST;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
}

static void test_a_high_price_bars_more_of_a_reservations_rungs(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	assert_int_equal(price_rung(PRICE_LEAST, true), 0);
	assert_int_equal(price_rung(PRICE_MOST, true), RUNG_COUNT - 1);
	f.unit.cpu_declared_millicores = 0;
	f.sample.cpu_limit_millicores = 0;
	f.sample.cpu_reserved_millicores = 200;
	f.unit.violation_price = PRICE_MOST;
	assert_true(envelope_reserves(unit_of(&f)));
	assert_forbidden(&f, CPU_DOWN, RULE_VIOLATIONS_ASKED);
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, RUNG_COUNT - 1);
}

static void test_throttling_that_is_not_accepted_bars_the_low_rungs(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	f.unit.throttling_rung = 9;
	assert_forbidden(&f, CPU_DOWN, RULE_THROTTLING_ASKED);
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, 9);
	/* The higher of two floors counts. */
	f.unit.violation_price = PRICE_MOST;
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, 9);
	f.unit.throttling_rung = 5;
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, 8);
}

static void test_a_violation_says_more_to_who_accepts_fewer(void **state)
{
	const double shares[] = {0.05, 0.01, 0.001, 0.0001};
	double last = 1;

	(void)state;
	for (int i = 0; i < 4; i++) {
		uint32_t ticks = (uint32_t)(1 / shares[i] + 0.5);
		double price = price_adapt(1, true, shares[i], 1);

		assert_true(price > last);
		last = price;
		/* What is asked for leaves the price where it was. */
		for (uint32_t tick = 1; tick < ticks; tick++)
			price = price_adapt(price, false, shares[i], 1);
		assert_true(fabs(price - 1) < 1e-6);
	}
	assert_true(price_adapt(1, true, 0, 1) < 3);
	assert_true(price_adapt(1, false, 0, 1) == 1);
	/* One long scale period does not decide alone. */
	assert_true(price_adapt(1, true, 0.01, 60) == price_adapt(1, true, 0.01, 5));
	assert_true(price_adapt(1, true, 0.01, 60) < 5);
}

static void test_without_a_reflex_the_low_rungs_are_forbidden(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	f.unit.reflex = false;
	assert_forbidden(&f, CPU_DOWN, RULE_NO_REFLEX);
	/* One that went away brings the unit up to where it can live alone. */
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, RUNG_ALONE);
	assert_true(plan.allowance.trigger_age_share == 0);
	f.unit.cpu_rung = RUNG_ALONE + 1;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
}

static double limit_at_price(struct fixture *f, double price)
{
	struct plan plan = {0};

	f->unit.violation_price = price;
	envelope_vertical_plan(unit_of(f), ACTION_VERTICAL_HOLD, &plan);
	return plan.cpu_millicores;
}

static void test_without_a_reflex_a_price_leads_past_the_ladder(void **state)
{
	struct fixture f = make();
	double before = 0;

	(void)state;
	/* Asked once in ten seconds: on average it needs next to nothing. */
	f.unit.demand = (struct demand){2, 2};
	f.unit.cpu_rung = RUNG_COUNT - 1;
	f.sample.cpu_limit_millicores = 100;
	assert_true(limit_at_price(&f, PRICE_MOST) <= 100);
	f.unit.reflex = false;
	assert_true(limit_at_price(&f, 1) <= 100);
	for (double price = 5; price < PRICE_MOST; price *= 1.5) {
		double limit = limit_at_price(&f, price);

		assert_true(limit >= before && limit <= 1000);
		before = limit;
	}
	assert_true(fabs(limit_at_price(&f, PRICE_MOST) - 1000) < 1e-6);
	/* No more than the owner allows, and no reservation. */
	f.unit.cpu_declared_millicores = 300;
	assert_true(fabs(limit_at_price(&f, PRICE_MOST) - 300) < 1e-6);
	f.unit.cpu_declared_millicores = 0;
	f.sample.cpu_limit_millicores = 0;
	f.sample.cpu_reserved_millicores = 100;
	assert_true(limit_at_price(&f, PRICE_MOST) <= 100);
}

static void test_work_that_no_request_waits_for_is_not_held_back_for_nothing(void **state)
{
	struct fixture f = make();
	struct plan plan = {0};

	(void)state;
	f.sample.requests = 0;
	f.sample.latency_objective_us = 0;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
	f.sample.throttled_us = 300000;
	assert_forbidden(&f, CPU_DOWN, RULE_NO_REFLEX);
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_int_equal(plan.cpu_rung, RUNG_ALONE);
	/* The reflex is there all the same, for the next request. */
	assert_true(plan.allowance.trigger_age_share > 0);
	/* It worked for a request that has no answer yet. */
	f.sample.refills = 3;
	assert_int_equal(envelope_lowest_rung(unit_of(&f)), 0);
	/* Latencies tell whether it is too much. */
	f.sample.refills = 0;
	f.sample.requests = 10;
	assert_int_equal(envelope_lowest_rung(unit_of(&f)), 0);
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
	/* A peak within the tick counts as well, and one of before. */
	f.sample.memory_peak_bytes = 100 << 20;
	memory = 1;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_true(memory >= 110 << 20);
	f.unit.memory_needed_bytes = 120 << 20;
	memory = 1;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_true(memory >= 132 << 20);
	/* Cold pages of files are not what it works with. */
	f.unit.memory_needed_bytes = 0;
	f.sample.memory_used_bytes = 80 << 20;
	memory = 1;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_in_range(memory, 44 << 20, 60 << 20);
}

static void test_memory_high_is_given_back_until_it_hurts(void **state)
{
	struct fixture f = make();
	uint64_t memory = 1;
	double cpu = 500;

	(void)state;
	/* 20 MiB of working set: a limit that kills keeps 26, one that stalls 21.4. */
	f.sample.memory_limit_bytes = 26 << 20;
	f.unit.memory_high = true;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> MEM_DOWN & 1);
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_in_range(memory, 21 << 20, 22 << 20);
	/* 1 % of a tick is nothing yet. */
	f.sample.memory_pressure_us = 10000;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> MEM_DOWN & 1);
	f.sample.memory_pressure_us = 10001;
	assert_forbidden(&f, MEM_DOWN, RULE_MEMORY_FLOOR);
	memory = 1;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_int_equal(memory, 26 << 20);
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

static void test_what_starts_is_not_cut(void **state)
{
	struct fixture f = make();
	struct plan plan = {.cpu_millicores = 300};

	(void)state;
	f.unit.starting = 1;
	assert_forbidden(&f, CPU_DOWN, RULE_STARTING);
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_UP & 1);
	assert_int_equal(envelope_keep_starting(&f.unit, &plan), RULE_STARTING);
	assert_true(plan.cpu_millicores == 1000);
	assert_int_equal(envelope_keep_starting(&f.unit, &plan), RULE_NONE);
	plan.cpu_millicores = 300;
	f.objective.startup_cpu_millicores = 600;
	assert_int_equal(envelope_keep_starting(&f.unit, &plan), RULE_STARTING);
	assert_true(plan.cpu_millicores == 600);
	/* Nothing is added where the owner set no limit. */
	plan.cpu_millicores = 0;
	f.unit.cpu_declared_millicores = 0;
	assert_int_equal(envelope_keep_starting(&f.unit, &plan), RULE_NONE);
	assert_true(plan.cpu_millicores == 0);
}

static void test_what_has_started_is_cut_beside_what_starts(void **state)
{
	struct fixture f = make();
	struct plan plan = {.cpu_millicores = 300};

	(void)state;
	f.sample.containers = 3;
	f.unit.starting = 2;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
	assert_int_equal(envelope_keep_starting(&f.unit, &plan), RULE_NONE);
	assert_true(plan.cpu_millicores == 300);
	f.unit.starting = 3;
	assert_forbidden(&f, CPU_DOWN, RULE_STARTING);
}

/* The same unit without a limit: what was that is its reservation. */
static struct fixture make_reserving(void)
{
	struct fixture f = make();

	f.unit.cpu_declared_millicores = 0;
	f.unit.reflex = false;
	f.sample.cpu_reserved_millicores = f.sample.cpu_limit_millicores;
	f.sample.cpu_limit_millicores = 0;
	return f;
}

static void test_without_a_limit_the_reservation_moves_along_the_ladder(void **state)
{
	struct fixture f = make_reserving();
	struct plan plan = {0};

	(void)state;
	assert_int_equal(envelope_vertical_mask(unit_of(&f), NULL), 0x1ff);
	envelope_vertical_plan(unit_of(&f), CPU_UP, &plan);
	assert_true(plan.reserves);
	assert_int_equal(plan.cpu_rung, 7);
	assert_true(fabs(plan.cpu_millicores - rungs[7].factor * 400) < 1e-6);
	/* There is no quota that could be refilled or carried over. */
	assert_true(plan.allowance.trigger_age_share == 0 && plan.burst_us == 0);
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_NONE);
	/* CPU beyond it is not taken away, so it may lie under the demand without a reflex. */
	f.unit.cpu_rung = 1;
	envelope_vertical_plan(unit_of(&f), CPU_DOWN, &plan);
	assert_int_equal(plan.cpu_rung, 0);
}

static void test_a_reservation_keeps_to_the_objective(void **state)
{
	struct fixture f = make_reserving();

	(void)state;
	f.sample.cpu_reserved_millicores = 1000;
	assert_forbidden(&f, CPU_UP, RULE_BOUNDS);
	/* Without an upper bound the ladder ends it. */
	f.objective.cpu_max_millicores = 0;
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_UP & 1);
	f.unit.cpu_rung = RUNG_COUNT - 1;
	assert_forbidden(&f, CPU_UP, RULE_BOUNDS);
	f.sample.cpu_reserved_millicores = 100;
	f.unit.cpu_rung = 3;
	assert_forbidden(&f, CPU_DOWN, RULE_BOUNDS);
	f.sample.cpu_reserved_millicores = 500;
	f.unit.violation_price = PRICE_MOST;
	assert_forbidden(&f, CPU_DOWN, RULE_VIOLATIONS_ASKED);
	f.sample.requests_over = 100;
	assert_forbidden(&f, CPU_DOWN, RULE_OVER_OBJECTIVE);
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_UP & 1);
}

/* An agent of before says nothing of reservations. */
static void test_neither_limit_nor_reservation_is_left_alone(void **state)
{
	struct fixture f = make_reserving();
	struct plan plan = {0};

	(void)state;
	f.sample.cpu_reserved_millicores = 0;
	assert_forbidden(&f, CPU_UP, RULE_UNLIMITED);
	assert_forbidden(&f, CPU_DOWN, RULE_UNLIMITED);
	envelope_vertical_plan(unit_of(&f), ACTION_VERTICAL_HOLD, &plan);
	assert_false(plan.reserves);
	/* And where the owner has set a limit it is that which moves. */
	f = make();
	f.sample.cpu_reserved_millicores = 300;
	envelope_vertical_plan(unit_of(&f), CPU_UP, &plan);
	assert_false(plan.reserves);
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
		struct plan plan = {0};

		f.sample.cpu_limit_millicores = 100 + 900 * random_uniform_double(&random);
		f.sample.memory_limit_bytes = (16ULL << 20) + random_below(&random, 240 << 20);
		f.sample.memory_used_bytes = random_below(&random, 200 << 20);
		f.sample.requests_over = random_below(&random, 30);
		f.unit.cpu_rung = random_below(&random, RUNG_COUNT);
		f.unit.demand.usual = 3000 * random_uniform_double(&random);
		f.unit.reflex = random_below(&random, 4) != 0;
		if (!(envelope_vertical_mask(unit_of(&f), NULL) >> action & 1))
			continue;
		envelope_vertical_plan(unit_of(&f), action, &plan);
		assert_true(plan.cpu_millicores >= 100 && plan.cpu_millicores <= 1000);
		assert_true(plan.memory_bytes <= 256 << 20);
		assert_true(plan.memory_bytes >= envelope_memory_floor(unit_of(&f)) ||
			    plan.memory_bytes == 256 << 20);
		assert_true(plan.cpu_rung < RUNG_COUNT);
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

static void test_replicas_keep_room_for_the_load(void **state)
{
	struct fixture f = make();
	struct envelope_service service = {.objective = &f.objective,
		.sample = &f.sample,
		.replicas = 2,
		.replicas_needed = 2,
		.since_scale_in_s = 1e9};
	enum envelope_rule rules[ACTION_HORIZONTAL];

	(void)state;
	assert_int_equal(envelope_horizontal_mask(&service, rules), 0x6);
	assert_int_equal(rules[0], RULE_REPLICA_ROOM);
	service.replicas = 3;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x7);
	/* Too few: only more are allowed. */
	service.replicas = 1;
	service.replicas_needed = 3;
	f.objective.replicas_min = 1;
	assert_int_equal(envelope_horizontal_mask(&service, rules), 0x4);
	assert_int_equal(rules[ACTION_HORIZONTAL_HOLD], RULE_REPLICA_ROOM);
	/* Neither the bounds nor the operator are passed. */
	f.objective.replicas_max = 1;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x2);
	f.objective.replicas_max = 4;
	f.objective.frozen = true;
	assert_int_equal(envelope_horizontal_mask(&service, NULL), 0x2);
}

static void test_every_rule_has_its_own_name(void **state)
{
	(void)state;
	assert_string_equal(envelope_rule_name(RULE_NONE), "");
	for (int a = 1; a < RULE_COUNT; a++) {
		assert_true(envelope_rule_name((enum envelope_rule)a)[0] != '\0');
		assert_non_null(envelope_rule_text(envelope_rule_name((enum envelope_rule)a)));
		for (int b = 0; b < a; b++)
			assert_string_not_equal(envelope_rule_name((enum envelope_rule)a),
				envelope_rule_name((enum envelope_rule)b));
	}
	assert_string_equal(envelope_rule_name(RULE_COUNT), "");
	assert_null(envelope_rule_text(""));
	assert_null(envelope_rule_text("bound"));
}

static void test_a_memory_limit_that_the_owner_did_not_set_is_never_added(void **state)
{
	struct fixture f = make();

	(void)state;
	f.unit.memory_declared_bytes = 0;
	f.sample.memory_limit_bytes = 0;
	assert_forbidden(&f, MEM_DOWN, RULE_UNLIMITED);
	assert_forbidden(&f, MEM_UP, RULE_UNLIMITED);
	/* CPU still moves, alone. */
	assert_true(envelope_vertical_mask(unit_of(&f), NULL) >> CPU_DOWN & 1);
}

static void test_memory_at_its_lower_bound_is_not_cut(void **state)
{
	struct fixture f = make();

	(void)state;
	f.objective.memory_min_bytes = 64 << 20;
	f.sample.memory_limit_bytes = 64 << 20;
	assert_false(envelope_vertical_mask(unit_of(&f), NULL) >> MEM_DOWN & 1);
}

static void test_the_memory_floor_is_that_of_one_container(void **state)
{
	struct fixture f = make();

	(void)state;
	f.sample.memory_used_bytes = f.sample.memory_working_set_bytes = 80 << 20;
	f.sample.containers = 4;
	assert_int_equal(envelope_memory_floor(unit_of(&f)), (22 << 20) + (4 << 20));
	f.sample.containers = 0;
	assert_int_equal(envelope_memory_floor(unit_of(&f)), (88 << 20) + (4 << 20));
}

static void test_bounds_without_an_upper_one_end_at_the_owners_limit(void **state)
{
	struct fixture f = make();

	(void)state;
	f.objective.cpu_max_millicores = 0;
	f.objective.memory_max_bytes = 0;
	f.unit.cpu_declared_millicores = 700;
	f.unit.memory_declared_bytes = 200 << 20;
	assert_true(envelope_cpu_max(unit_of(&f)) == 700);
	assert_int_equal(envelope_memory_max(unit_of(&f)), 200 << 20);
	f.sample.cpu_limit_millicores = 700;
	assert_forbidden(&f, CPU_UP, RULE_BOUNDS);
}

static void test_a_computed_limit_is_brought_inside(void **state)
{
	struct fixture f = make();
	uint64_t memory = 128 << 20;
	double cpu = 1;

	(void)state;
	assert_int_equal(envelope_clamp(unit_of(&f), &cpu, &memory), RULE_BOUNDS);
	assert_true(cpu == 100 && memory == 128 << 20);
	cpu = 1e9;
	assert_int_equal(envelope_clamp(unit_of(&f), &cpu, &memory), RULE_BOUNDS);
	assert_true(cpu == 1000);
	cpu = 500;
	assert_int_equal(envelope_clamp(unit_of(&f), &cpu, &memory), RULE_NONE);
	memory = UINT64_MAX;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_true(memory == 256 << 20);
	/* The owner's limit is above the objective's lower bound as well. */
	f.unit.cpu_declared_millicores = 50;
	(void)envelope_clamp(unit_of(&f), &cpu, &memory);
	assert_true(cpu == 50);
}

static void test_an_allowance_is_brought_inside(void **state)
{
	struct fixture f = make();
	struct plan plan = {.cpu_millicores = 400,
		.burst_us = 40000,
		.allowance = {.trigger_age_share = 0.4,
			.refills_per_period = 8,
			.ceiling_millicores = 1000}};

	(void)state;
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_NONE);
	/* The ceiling is under the upper bound, the burst under the quota of 100 ms. */
	plan.allowance.ceiling_millicores = 1001;
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_BOUNDS);
	assert_true(plan.allowance.ceiling_millicores == 1000);
	plan.burst_us = 40001;
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_BOUNDS);
	assert_int_equal(plan.burst_us, 40000);
	f.unit.cpu_declared_millicores = 700;
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_BOUNDS);
	assert_true(plan.allowance.ceiling_millicores == 700);
	assert_true(plan.allowance.trigger_age_share == 0.4);
	/* Without a quota there is nothing to be refilled or saved. */
	f.unit.cpu_declared_millicores = 0;
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_UNLIMITED);
	assert_true(
		plan.allowance.trigger_age_share <= 0 && plan.allowance.ceiling_millicores <= 0);
	assert_int_equal(plan.allowance.refills_per_period, 0);
	assert_int_equal(plan.burst_us, 0);
	assert_int_equal(envelope_clamp_allowance(unit_of(&f), &plan), RULE_NONE);
}

static void test_hold_is_allowed_and_no_limit_leaves_its_bounds_whatever_is_measured(void **state)
{
	struct random_state random;

	(void)state;
	random_seed(&random, 6);
	for (int i = 0; i < 50000; i++) {
		struct fixture f = make();
		uint64_t words[8], mask;
		struct plan plan = {0};

		for (int k = 0; k < 8; k++)
			words[k] = random_next(&random) >> random_below(&random, 64);
		f.sample.cpu_limit_millicores = (double)words[0];
		f.sample.memory_limit_bytes = words[1];
		f.sample.memory_used_bytes = words[2];
		f.sample.memory_peak_bytes = words[3] >> 1;
		f.sample.requests_over = words[4] >> 32;
		f.sample.containers = (uint32_t)(words[5] >> 40);
		f.sample.tick_s = random_below(&random, 3);
		f.objective.frozen = random_below(&random, 8) == 0;
		f.unit.cpu_rung = (uint32_t)words[6];
		f.unit.demand.usual = (double)words[7];
		mask = envelope_vertical_mask(unit_of(&f), NULL);
		assert_true(mask >> ACTION_VERTICAL_HOLD & 1);
		assert_true(mask < 1 << ACTION_VERTICAL);
		for (uint32_t action = 0; action < ACTION_VERTICAL; action++) {
			envelope_vertical_plan(unit_of(&f), action, &plan);
			assert_true(plan.cpu_millicores >= 0 && plan.cpu_millicores <= 1000);
			assert_true(plan.memory_bytes <= 256 << 20);
			assert_true(plan.cpu_rung < RUNG_COUNT);
		}
	}
}

static void test_a_wanted_number_of_replicas_is_brought_inside(void **state)
{
	struct fixture f = make();
	struct envelope_service service = {.objective = &f.objective,
		.sample = &f.sample,
		.replicas = 3,
		.since_scale_in_s = 5,
		.cooldown_s = 30};
	uint32_t wanted = 2;

	(void)state;
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_COOLDOWN);
	assert_int_equal(wanted, 3);
	service.since_scale_in_s = 60;
	wanted = 2;
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_NONE);
	assert_int_equal(wanted, 2);
	wanted = 0;
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_BOUNDS);
	assert_int_equal(wanted, 1);
	f.objective.frozen = true;
	wanted = 4;
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_FROZEN);
	assert_int_equal(wanted, 3);
	f.objective.frozen = false;
	f.sample.requests_over = 500;
	wanted = 1;
	assert_int_equal(envelope_clamp_replicas(&service, &wanted), RULE_OVER_OBJECTIVE);
	assert_int_equal(wanted, 3);
}

static uint32_t replicas_after(uint32_t replicas, uint32_t needed, uint32_t action)
{
	struct fixture f = make();
	struct envelope_service service = {.objective = &f.objective,
		.sample = &f.sample,
		.replicas = replicas,
		.replicas_needed = needed};

	f.objective.replicas_min = 2;
	f.objective.replicas_max = 1000;
	return envelope_horizontal_replicas(&service, action);
}

static void test_of_many_replicas_a_tenth_comes_or_goes(void **state)
{
	const uint32_t down = 0, up = 2;

	(void)state;
	/* Of few it is one, however much is lacking. */
	for (uint32_t replicas = 3; replicas < 20; replicas++) {
		assert_int_equal(replicas_after(replicas, 0, up), replicas + 1);
		assert_int_equal(replicas_after(replicas, 0, down), replicas - 1);
	}
	assert_int_equal(replicas_after(9, 100, up), 10);
	assert_int_equal(replicas_after(100, 0, up), 110);
	assert_int_equal(replicas_after(100, 0, ACTION_HORIZONTAL_HOLD), 100);
	assert_int_equal(replicas_after(100, 0, down), 90);
	/* Where they lack room, what is needed, at most half as many again. */
	assert_int_equal(replicas_after(100, 130, up), 130);
	assert_int_equal(replicas_after(100, 105, up), 110);
	assert_int_equal(replicas_after(100, 900, up), 150);
	/* Never past what is needed or a bound. */
	assert_int_equal(replicas_after(100, 97, down), 97);
	assert_int_equal(replicas_after(2, 0, down), 2);
	assert_int_equal(replicas_after(990, 0, up), 1000);
	assert_int_equal(replicas_after(990, 5000, up), 1000);
	assert_int_equal(replicas_after(1000, 0, up), 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_action_is_free_with_headroom),
		cmocka_unit_test(test_no_cut_while_over_the_objective),
		cmocka_unit_test(test_limits_stay_inside_their_bounds),
		cmocka_unit_test(test_the_owners_limit_is_the_outermost_bound),
		cmocka_unit_test(test_an_action_moves_along_the_ladder_of_operating_points),
		cmocka_unit_test(test_the_ends_of_the_ladder_are_bounds),
		cmocka_unit_test(test_a_tiny_service_moves_in_fine_steps),
		cmocka_unit_test(test_a_high_price_bars_the_low_rungs),
		cmocka_unit_test(test_a_high_price_bars_more_of_a_reservations_rungs),
		cmocka_unit_test(test_throttling_that_is_not_accepted_bars_the_low_rungs),
		cmocka_unit_test(test_a_violation_says_more_to_who_accepts_fewer),
		cmocka_unit_test(test_without_a_reflex_the_low_rungs_are_forbidden),
		cmocka_unit_test(test_work_that_no_request_waits_for_is_not_held_back_for_nothing),
		cmocka_unit_test(test_without_a_reflex_a_price_leads_past_the_ladder),
		cmocka_unit_test(test_memory_is_never_cut_under_what_is_in_use),
		cmocka_unit_test(test_memory_high_is_given_back_until_it_hurts),
		cmocka_unit_test(test_a_limit_that_the_owner_did_not_set_is_never_added),
		cmocka_unit_test(test_what_starts_is_not_cut),
		cmocka_unit_test(test_what_has_started_is_cut_beside_what_starts),
		cmocka_unit_test(test_without_a_limit_the_reservation_moves_along_the_ladder),
		cmocka_unit_test(test_a_reservation_keeps_to_the_objective),
		cmocka_unit_test(test_neither_limit_nor_reservation_is_left_alone),
		cmocka_unit_test(test_a_freeze_leaves_only_hold),
		cmocka_unit_test(test_any_action_on_any_sample_stays_inside),
		cmocka_unit_test(test_replicas_rest_after_a_scale_in),
		cmocka_unit_test(test_replicas_keep_room_for_the_load),
		cmocka_unit_test(test_replicas_stay_inside_their_bounds),
		cmocka_unit_test(test_every_rule_has_its_own_name),
		cmocka_unit_test(test_a_memory_limit_that_the_owner_did_not_set_is_never_added),
		cmocka_unit_test(test_memory_at_its_lower_bound_is_not_cut),
		cmocka_unit_test(test_the_memory_floor_is_that_of_one_container),
		cmocka_unit_test(test_bounds_without_an_upper_one_end_at_the_owners_limit),
		cmocka_unit_test(test_a_computed_limit_is_brought_inside),
		cmocka_unit_test(test_an_allowance_is_brought_inside),
		cmocka_unit_test(
			test_hold_is_allowed_and_no_limit_leaves_its_bounds_whatever_is_measured),
		cmocka_unit_test(test_a_wanted_number_of_replicas_is_brought_inside),
		cmocka_unit_test(test_of_many_replicas_a_tenth_comes_or_goes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
