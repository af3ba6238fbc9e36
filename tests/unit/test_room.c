// SPDX-License-Identifier: Apache-2.0
/* How many replicas the present load needs: each well under the most CPU that it may use. */
#include "learner/room.h"
#include "learner/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TICK_S 0.25

struct fixture {
	struct services services;
	struct service *service;
	struct service_unit *units[2];
};

static int setup(void **state)
{
	static struct fixture fixture;
	static const char *const nodes[] = {"one", "two"};
	struct train_config train;

	fixture = (struct fixture){.service = NULL};
	train_config_init(&train);
	fixture.service = services_get(&fixture.services, "default", "fibonacci");
	if (!fixture.service)
		return -1;
	fixture.service->objective.cpu_max_millicores = 1000;
	for (int i = 0; i < 2; i++) {
		fixture.units[i] = service_get_unit(fixture.service, nodes[i], &train);
		if (!fixture.units[i])
			return -1;
		fixture.units[i]->cpu_declared_millicores = 1000;
	}
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->services);
	return 0;
}

static void use(struct fixture *f, int unit, double millicores, double seconds)
{
	const struct sample sample = {
		.tick_s = TICK_S, .cpu_used_us = (uint64_t)(millicores * 1000 * TICK_S)};

	for (double at = 0; at < seconds; at += TICK_S)
		room_note(&f->units[unit]->busy, &sample);
}

static void test_a_replica_is_to_use_half_of_what_it_may(void **state)
{
	struct fixture *f = *state;

	use(f, 0, 500, 10);
	assert_int_equal(room_replicas(f->service), 1);
	use(f, 0, 620, 10);
	assert_int_equal(room_replicas(f->service), 2);
	/* All nodes' together. */
	use(f, 1, 620, 10);
	assert_int_equal(room_replicas(f->service), 3);
}

static void test_the_lowest_bound_of_a_replicas_cpu_counts(void **state)
{
	struct fixture *f = *state;

	use(f, 0, 500, 10);
	f->units[1]->cpu_declared_millicores = 400;
	assert_int_equal(room_replicas(f->service), 3);
	f->service->objective.cpu_max_millicores = 250;
	assert_int_equal(room_replicas(f->service), 4);
}

static void test_without_a_limit_nothing_is_known(void **state)
{
	struct fixture *f = *state;

	use(f, 0, 5000, 10);
	f->units[1]->cpu_declared_millicores = 0;
	assert_int_equal(room_replicas(f->service), 0);
}

static void test_a_node_that_its_replicas_have_left_does_not_count(void **state)
{
	struct fixture *f = *state;

	use(f, 0, 900, 10);
	use(f, 1, 900, 10);
	assert_int_equal(room_replicas(f->service), 4);
	f->units[0]->sample = (struct sample){.tick_s = 1, .containers = 2};
	/* Its agent says so at every tick from then on, and no limit. */
	f->units[1]->sample = (struct sample){.tick_s = 1};
	f->units[1]->cpu_declared_millicores = 0;
	assert_int_equal(room_replicas(f->service), 2);
}

static void test_a_moment_is_no_load_and_a_peak_is_remembered_for_a_minute(void **state)
{
	struct fixture *f = *state;

	use(f, 0, 300, 10);
	use(f, 0, 900, TICK_S);
	assert_int_equal(room_replicas(f->service), 1);
	use(f, 0, 900, 3);
	assert_int_equal(room_replicas(f->service), 2);
	use(f, 0, 300, 20);
	assert_int_equal(room_replicas(f->service), 2);
	use(f, 0, 300, 40);
	assert_int_equal(room_replicas(f->service), 1);
}

static void test_a_tick_of_no_length_says_nothing(void **state)
{
	struct fixture *f = *state;
	const struct sample none = {.cpu_used_us = 1000000};

	room_note(&f->units[0]->busy, &none);
	assert_int_equal(room_replicas(f->service), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_replica_is_to_use_half_of_what_it_may),
		TEST(test_the_lowest_bound_of_a_replicas_cpu_counts),
		TEST(test_without_a_limit_nothing_is_known),
		TEST(test_a_node_that_its_replicas_have_left_does_not_count),
		TEST(test_a_moment_is_no_load_and_a_peak_is_remembered_for_a_minute),
		TEST(test_a_tick_of_no_length_says_nothing),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
