// SPDX-License-Identifier: Apache-2.0
/* Services and their units: found again by name, forgotten when silent. */
#include "learner/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SERVICES 20
#define AGENTS	 30

static struct train_config config;

static struct service_unit *unit_of(struct services *services, int service, int agent)
{
	char name[32], node[32];
	struct service *found;

	snprintf(name, sizeof(name), "service-%d", service);
	snprintf(node, sizeof(node), "node-%d", agent);
	found = services_get(services, "default", name);
	assert_non_null(found);
	return service_get_unit(found, node, &config);
}

static void fill(struct services *services)
{
	train_config_init(&config);
	for (int s = 0; s < SERVICES; s++)
		for (int a = 0; a < AGENTS; a++)
			unit_of(services, s, a)->updated_s = 100 + (a % 3) * 10;
}

static void test_a_service_is_found_by_namespace_and_name(void **state)
{
	struct services services = {0};
	struct service *first = services_get(&services, "a", "bc");
	struct service *second = services_get(&services, "ab", "c");

	(void)state;
	assert_non_null(first);
	assert_ptr_not_equal(first, second);
	assert_ptr_equal(services_get(&services, "a", "bc"), first);
	assert_ptr_equal(services_find(&services, "ab", "c"), second);
	assert_null(services_find(&services, "a", "c"));
	assert_int_equal(services.count, 2);
	services_free(&services);
}

static void test_a_unit_is_one_service_on_one_node(void **state)
{
	struct services services = {0};
	struct service_unit *unit;

	(void)state;
	fill(&services);
	assert_int_equal(services.unit_count, SERVICES * AGENTS);
	unit = unit_of(&services, 3, 7);
	assert_string_equal(unit->agent, "node-7");
	assert_string_equal(unit->service->name, "service-3");
	assert_ptr_equal(unit_of(&services, 3, 7), unit);
	assert_int_equal(services.unit_count, SERVICES * AGENTS);
	assert_int_equal(unit->service->unit_count, AGENTS);
	services_free(&services);
}

static void test_silent_units_are_forgotten_and_only_they(void **state)
{
	struct services services = {0};

	(void)state;
	fill(&services);
	/* Updated at 100, 110, 120; older than 25 s at 130 is the first third. */
	for (int round = 0; round < SERVICES * AGENTS / 50 + 1; round++)
		services_expire_units(&services, 130, 25, 50);
	assert_int_equal(services.unit_count, SERVICES * AGENTS * 2 / 3);
	assert_int_equal(services.by_agent.count, services.unit_count);
	for (size_t i = 0; i < services.unit_count; i++) {
		struct service_unit *unit = services.units[i];

		assert_int_equal(unit->index, i);
		assert_ptr_equal(unit->service->units[unit->position], unit);
		assert_true(unit->updated_s >= 110);
	}
	/* The others are where they were; a forgotten one begins anew. */
	assert_true(unit_of(&services, 5, 1)->updated_s == 110);
	assert_true(unit_of(&services, 5, 0)->updated_s == 0);
	services_expire_units(&services, 1e6, 15, SIZE_MAX);
	assert_int_equal(services.unit_count, 0);
	/* Nothing else is known of its services. */
	assert_int_equal(services.count, 0);
	assert_int_equal(services.by_name.count, 0);
	services_free(&services);
}

static void test_a_unit_of_long_ticks_is_waited_for(void **state)
{
	static const struct {
		double tick_s, age_s;
	} cases[] = {{0.1, 60}, {1, 60}, {20, 60}, {30, 90}, {60, 180}, {3600, 180}};
	struct services services = {0};

	(void)state;
	train_config_init(&config);
	for (int i = 0; i < 6; i++) {
		struct service_unit *unit = unit_of(&services, 0, i);

		unit->sample.tick_s = cases[i].tick_s;
		unit->updated_s = 1000;
		services_expire_units(&services, 1000 + cases[i].age_s - 1, 60, SIZE_MAX);
		assert_int_equal(services.unit_count, 1);
		services_expire_units(&services, 1000 + cases[i].age_s + 1, 60, SIZE_MAX);
		assert_int_equal(services.unit_count, 0);
	}
	services_free(&services);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_service_is_found_by_namespace_and_name),
		cmocka_unit_test(test_a_unit_is_one_service_on_one_node),
		cmocka_unit_test(test_silent_units_are_forgotten_and_only_they),
		cmocka_unit_test(test_a_unit_of_long_ticks_is_waited_for),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
