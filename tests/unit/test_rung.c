// SPDX-License-Identifier: Apache-2.0
/* The ladder's plans, on a service of one thread that may use one core. */
#include "common/rung.h"
#include "unit/simulate_fixture.h"

#define CEILING_MILLICORES 1000.0
#define WORK_US		   5000.0
#define TARGET_US	   50000.0
#define SECONDS		   600

/* Share of requests over the objective with @plan for a load of @used of the core. */
static double over_share(const struct plan *plan, double used)
{
	double rate = used * 1e6 / WORK_US;
	struct simulate_input input = {.plan = *plan, .replicas = 1};
	struct simulate_config config;
	struct totals totals;

	simulate_config_init(&config);
	config.trace = (struct simulate_trace){.rate_per_s = &rate, .seconds = 1, .scale = 1};
	config.service[0].work_us = WORK_US;
	config.service[0].work_cv = 0.2;
	config.service[0].workers = 1;
	config.service[0].reaction_us = 300;
	config.service[0].latency_target_us = TARGET_US;
	run_config(&config, &input, SECONDS, &totals);
	return (double)totals.sum.requests_over / (double)totals.sum.requests;
}

static void test_no_rung_takes_from_a_service_what_is_under_its_ceiling(void **state)
{
	(void)state;
	for (double used = 0.5; used < 0.82; used += 0.05) {
		const struct plan all = {.cpu_millicores = CEILING_MILLICORES};
		const double usual = used * CEILING_MILLICORES, least = over_share(&all, used);

		for (uint32_t rung = 0; rung < RUNG_COUNT; rung++) {
			double limit = rung_limit(rung, &(struct demand){usual, usual}), over;
			struct plan plan = {0};

			rung_plan(fmin(limit, CEILING_MILLICORES), CEILING_MILLICORES, true, &plan);
			over = over_share(&plan, used);
			if (over > 1.4 * least + 0.001)
				fail_msg("rung %u at %.0f %% of the ceiling: %.2f %% over, "
					 "without a limit %.2f %%",
					rung, 100 * used, 100 * over, 100 * least);
		}
	}
}

static void test_a_burst_leaves_the_last_refill_of_a_period_its_place(void **state)
{
	struct plan plan = {0};

	(void)state;
	/* Far under the ceiling all of a period's quota may be used later. */
	rung_plan(50, CEILING_MILLICORES, true, &plan);
	assert_int_equal(plan.burst_us, 5000);
	rung_plan(400, CEILING_MILLICORES, true, &plan);
	assert_int_equal(plan.burst_us, 60000 / 16);
	rung_plan(CEILING_MILLICORES, CEILING_MILLICORES, true, &plan);
	assert_int_equal(plan.burst_us, 0);
	/* Without refills there is nothing in its way. */
	rung_plan(400, CEILING_MILLICORES, false, &plan);
	assert_int_equal(plan.burst_us, 40000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_rung_takes_from_a_service_what_is_under_its_ceiling),
		cmocka_unit_test(test_a_burst_leaves_the_last_refill_of_a_period_its_place),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
