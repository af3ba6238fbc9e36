// SPDX-License-Identifier: Apache-2.0
/* Services of known parameters are measured in the simulator and must be found again. */
#include "learner/simulator/calibrate.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TICKS 120

static struct sample samples[TICKS];

/* @service under @rates, each of @count plans for 20 ticks and again; another seed than the fit's. */
static void play(const struct simulate_service *service, const double rates[TICKS],
	const double *millicores, int count, bool reserves)
{
	struct simulate_config config;
	struct simulate_input input = {.plan = {.reserves = reserves}, .replicas = 1};
	struct simulation *simulation;

	simulate_config_init(&config);
	config.service[0] = *service;
	config.trace.rate_per_s = rates;
	config.trace.seconds = TICKS;
	assert_int_equal(simulate_create(&simulation, &config, 99), 0);
	for (int i = 0; i < TICKS; i++) {
		input.plan.cpu_millicores = millicores[i / 20 % count];
		simulate_tick(simulation, &input, &samples[i]);
	}
	simulate_destroy(simulation);
}

/* Rates from idle to busy, limits from ample to short. */
static void measure(const struct simulate_service *service)
{
	const double limits[] = {0, 800, 1300, 600};
	double rates[TICKS];

	for (int i = 0; i < TICKS; i++)
		rates[i] = 0.55 * (1 + 0.9 * sin(i / 19.0)) * 1e6 / service->work_us;
	play(service, rates, limits, 4, false);
}

static void check(double value, double wanted, double share, const char *what)
{
	if (fabs(value - wanted) > share * wanted)
		fail_msg("%s is %g, expected %g within %g %%", what, value, wanted, 100 * share);
}

static void find(const struct simulate_service *service, struct calibrate_result *result)
{
	struct simulate_service start;

	simulate_service_init(&start);
	start.work_us = 777;
	start.cores = service->cores;
	measure(service);
	assert_int_equal(calibrate_fit(samples, TICKS, &start, 1, result), 0);
	print_message(
		"# work %.0f wake %.0f cv %.2f wait %.0f workers %g (known: %d), errors %.3f %.3f %.3f\n",
		result->service.work_us, result->service.wake_us, result->service.work_cv,
		result->service.wait_us, result->service.workers, result->workers_known,
		result->error_share[0], result->error_share[1], result->error_share[2]);
	for (int k = 0; k < 3; k++)
		assert_true(result->error_share[k] < 0.12);
}

static void test_a_serial_service_is_found(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 2900;
	service.work_cv = 0.1;
	service.workers = 1;
	find(&service, &result);
	check(result.service.work_us, 2900, 0.02, "work");
	/* A percentile is a bucket of 3 %: so small a spread is only known to be small. */
	assert_true(result.service.work_cv < 0.2);
	assert_true(result.service.workers == 1);
	assert_true(result.workers_known);
	assert_true(result.service.wait_us < 100);
}

static void test_the_cost_of_waking_up_is_found(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 2000;
	service.work_cv = 0.2;
	service.wake_us = 500;
	service.workers = 1;
	find(&service, &result);
	check(result.service.work_us, 2000, 0.03, "work");
	check(result.service.wake_us, 500, 0.2, "wake");
}

static void test_many_workers_are_found(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 5000;
	service.work_cv = 0.8;
	service.workers = 32;
	find(&service, &result);
	check(result.service.work_us, 5000, 0.02, "work");
	check(result.service.work_cv, 0.8, 0.25, "cv");
	assert_true(result.service.workers >= 8);
}

static void test_a_wait_is_told_from_work(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 1500;
	service.work_cv = 0.3;
	service.wait_us = 8000;
	service.workers = 64;
	find(&service, &result);
	check(result.service.work_us, 1500, 0.02, "work");
	check(result.service.wait_us, 8000, 0.1, "wait");
}

static void test_the_workers_of_an_idle_service_are_not_known(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;
	struct simulate_config config;
	struct simulate_input input = {.replicas = 2};
	struct simulation *simulation;
	double rate = 20;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 500;
	service.workers = 8;
	simulate_config_init(&config);
	config.service[0] = service;
	config.trace.rate_per_s = &rate;
	config.trace.seconds = 1;
	assert_int_equal(simulate_create(&simulation, &config, 99), 0);
	for (int i = 0; i < TICKS; i++)
		simulate_tick(simulation, &input, &samples[i]);
	simulate_destroy(simulation);
	assert_int_equal(calibrate_fit(samples, TICKS, &service, 1, &result), 0);
	assert_false(result.workers_known);
	check(result.service.work_us, 500, 0.03, "work");
}

static void test_too_few_ticks_are_refused(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	measure(&service);
	assert_int_equal(calibrate_fit(samples, 0, &service, 1, &result), -ENODATA);
	assert_int_equal(
		calibrate_fit(samples, CALIBRATE_TICKS_LEAST - 1, &service, 1, &result), -ENODATA);
	memset(samples, 0, sizeof(samples));
	assert_int_equal(calibrate_fit(samples, TICKS, &service, 1, &result), -ENODATA);
}

static void test_memory_is_what_a_replica_had_at_least(void **state)
{
	struct simulate_service service;
	struct calibrate_result result;

	(void)state;
	simulate_service_init(&service);
	service.memory_base_bytes = 40e6;
	service.memory_hot_bytes = 10e6;
	service.memory_cold_bytes = 5e6;
	service.memory_request_bytes = 0;
	measure(&service);
	assert_int_equal(calibrate_fit(samples, TICKS, &service, 1, &result), 0);
	check(result.service.memory_base_bytes + result.service.memory_hot_bytes, 50e6, 0.01,
		"working set");
	check(result.service.memory_cold_bytes, 5e6, 0.01, "cold pages");
}

/* A service without a limit on two cores, whose neighbours want all of them half of the time. */
static struct simulate_service service_beside(void)
{
	struct simulate_service service;

	simulate_service_init(&service);
	service.work_us = 4000;
	service.work_cv = 0.5;
	service.workers = 8;
	service.reserves = 1;
	service.cores = 2;
	service.neighbour_cores = 4;
	service.neighbour_reserved_millicores = 1500;
	service.neighbour_busy_us = service.neighbour_idle_us = 5e6;
	return service;
}

/* Half of the node to all of it is reserved, at 0.4 to 1 cores of load. */
static void measure_beside(const struct simulate_service *service)
{
	const double reservations[] = {1000, 1500, 2000};
	double rates[TICKS];

	for (int i = 0; i < TICKS; i++)
		rates[i] = (0.7 + 0.3 * sin(i / 19.0)) * 1e6 / service->work_us;
	play(service, rates, reservations, 3, true);
}

static double wait_of(const struct calibrate_result *result, bool measured)
{
	double sum = 0;

	for (int g = 0; g < CALIBRATE_GROUPS; g++)
		sum += result->groups[g].ticks *
		       (measured ? result->groups[g].measured_wait
				 : result->groups[g].simulated_wait) /
		       result->ticks;
	return sum;
}

static void test_a_service_without_a_limit_stays_one_and_waits_as_long(void **state)
{
	struct simulate_service service = service_beside(), start;
	struct calibrate_result result;

	(void)state;
	measure_beside(&service);
	simulate_service_init(&start);
	start.cores = 2;
	start.neighbour_reserved_millicores = 1500;
	assert_int_equal(calibrate_fit(samples, TICKS, &start, 1, &result), 0);
	print_message(
		"# want %.2f cores, busy %.1f s, idle %.1f s; waited %.3f, fitted %.3f; cv %.2f "
		"wait %.0f workers %g, errors %.3f %.3f %.3f\n",
		result.service.neighbour_cores, result.service.neighbour_busy_us / 1e6,
		result.service.neighbour_idle_us / 1e6, wait_of(&result, true),
		wait_of(&result, false), result.service.work_cv, result.service.wait_us,
		result.service.workers, result.error_share[0], result.error_share[1],
		result.error_share[2]);
	assert_true(result.service.reserves == 1);
	check(result.service.work_us, 4000, 0.02, "work");
	/* Much half of the time and less all of the time look alike: the wait is what must be the same. */
	assert_true(result.service.neighbour_cores > 0.5);
	assert_true(wait_of(&result, true) > 0.1);
	check(wait_of(&result, false), wait_of(&result, true), 0.15, "waited");
	for (int k = 0; k < 3; k++)
		assert_true(result.error_share[k] < 0.35);
}

static void test_a_service_that_never_waits_has_no_neighbours(void **state)
{
	struct simulate_service service = service_beside(), start;
	struct calibrate_result result;

	(void)state;
	service.neighbour_cores = 0;
	service.workers = 2;
	measure_beside(&service);
	simulate_service_init(&start);
	start.cores = 2;
	start.neighbour_reserved_millicores = 0;
	assert_int_equal(calibrate_fit(samples, TICKS / 2, &start, 1, &result), 0);
	assert_true(result.service.reserves == 1);
	assert_true(result.service.neighbour_cores == 0);
	/* 1500m of 2000m on average. */
	check(result.service.neighbour_reserved_millicores, 500, 0.01, "neighbours' reservation");
	/* The owner set a limit meanwhile: the newest tick says what it is. */
	for (int i = TICKS / 4; i < TICKS / 2; i++) {
		samples[i].cpu_limit_millicores = samples[i].cpu_reserved_millicores;
		samples[i].cpu_reserved_millicores = 0;
	}
	assert_int_equal(calibrate_fit(samples, TICKS / 2, &start, 1, &result), 0);
	assert_true(result.service.reserves == 0);
}

/* What a request reserves is no limit of the ticks in which the owner had set none. */
static void test_ticks_before_there_was_a_limit_had_none(void **state)
{
	struct simulate_service service, start;
	struct calibrate_result plain, reserved;

	(void)state;
	simulate_service_init(&service);
	service.work_us = 2900;
	service.workers = 1;
	find(&service, &plain);
	for (int i = 0; i < TICKS; i++)
		samples[i].cpu_reserved_millicores = samples[i].cpu_limit_millicores > 0 ? 0 : 100;
	simulate_service_init(&start);
	start.work_us = 777;
	start.cores = service.cores;
	assert_true(samples[0].cpu_reserved_millicores > 0);
	assert_true(samples[TICKS - 1].cpu_reserved_millicores <= 0);
	assert_int_equal(calibrate_fit(samples, TICKS, &start, 1, &reserved), 0);
	assert_int_equal(reserved.ticks, plain.ticks);
	for (int k = 0; k < 3; k++)
		assert_true(reserved.error_share[k] == plain.error_share[k]);
}

/* What an operator says of them is not fitted. */
static void test_neighbours_that_are_given_are_kept(void **state)
{
	struct simulate_service service = service_beside(), start;
	struct calibrate_result result;

	(void)state;
	measure_beside(&service);
	start = service;
	start.neighbour_cores = 1.25;
	start.neighbour_busy_us = 3e6;
	assert_int_equal(calibrate_fit(samples, CALIBRATE_TICKS_LEAST, &start, 1, &result), 0);
	assert_true(result.service.neighbour_cores == 1.25);
	assert_true(result.service.neighbour_busy_us == 3e6);
	assert_true(result.service.neighbour_reserved_millicores == 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_serial_service_is_found),
		cmocka_unit_test(test_the_cost_of_waking_up_is_found),
		cmocka_unit_test(test_many_workers_are_found),
		cmocka_unit_test(test_a_wait_is_told_from_work),
		cmocka_unit_test(test_the_workers_of_an_idle_service_are_not_known),
		cmocka_unit_test(test_too_few_ticks_are_refused),
		cmocka_unit_test(test_memory_is_what_a_replica_had_at_least),
		cmocka_unit_test(test_a_service_without_a_limit_stays_one_and_waits_as_long),
		cmocka_unit_test(test_a_service_that_never_waits_has_no_neighbours),
		cmocka_unit_test(test_ticks_before_there_was_a_limit_had_none),
		cmocka_unit_test(test_neighbours_that_are_given_are_kept),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
