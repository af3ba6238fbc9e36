// SPDX-License-Identifier: Apache-2.0
/* When a replica starts, and until when. */
#include "node/limits/starting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NOW 1000000000ULL

static void test_a_replica_starts_until_it_is_ready(void **state)
{
	struct starting starting;

	(void)state;
	starting_find(&starting, false, false, NOW);
	assert_true(starting_goes_on(&starting, NOW));
	assert_true(starting_goes_on(&starting, NOW + 60000000));
	starting_see_ready(&starting, false, NOW + 60000000);
	assert_true(starting_goes_on(&starting, NOW + 60000000));
	starting_see_ready(&starting, true, NOW + 60000001);
	assert_false(starting_goes_on(&starting, NOW + 60000001));
	/* Not ready again is not a start. */
	starting_see_ready(&starting, false, NOW + 70000000);
	assert_false(starting_goes_on(&starting, NOW + 70000000));
}

static void test_its_first_request_is_part_of_the_start(void **state)
{
	const uint64_t served_us = NOW + 90000000;
	struct starting starting;

	(void)state;
	starting_find(&starting, false, false, NOW);
	starting_see_ready(&starting, true, NOW + 1000000);
	starting_see_requests(&starting, 0, NOW + 2000000);
	assert_false(starting_goes_on(&starting, NOW + 2000000));
	starting_see_requests(&starting, 1, served_us);
	assert_true(starting_goes_on(&starting, served_us));
	/* Only the first one. */
	starting_see_requests(&starting, 20, served_us + STARTING_SERVED_US - 1);
	assert_true(starting_goes_on(&starting, served_us + STARTING_SERVED_US - 1));
	assert_false(starting_goes_on(&starting, served_us + STARTING_SERVED_US));
}

static void test_one_that_is_served_before_it_says_so_is_not_ready_yet(void **state)
{
	struct starting starting;

	(void)state;
	starting_find(&starting, false, false, NOW);
	starting_see_requests(&starting, 5, NOW + 1);
	assert_true(starting_goes_on(&starting, NOW + 2 * STARTING_SERVED_US));
}

static void test_what_was_ready_before_the_agent_came_does_not_start(void **state)
{
	struct starting starting;

	(void)state;
	starting_find(&starting, true, true, NOW);
	assert_false(starting_goes_on(&starting, NOW));
	starting_see_requests(&starting, 1, NOW + 1);
	assert_false(starting_goes_on(&starting, NOW + 1));
	/* One that was not ready does. */
	starting_find(&starting, false, true, NOW);
	assert_true(starting_goes_on(&starting, NOW));
}

static void test_without_a_probe_the_first_request_says_that_it_is_ready(void **state)
{
	struct starting starting;

	(void)state;
	starting_find(&starting, true, false, NOW);
	assert_true(starting_goes_on(&starting, NOW + STARTING_IDLE_US - 1));
	assert_false(starting_goes_on(&starting, NOW + STARTING_IDLE_US));
	starting_see_requests(&starting, 1, NOW + 1000000);
	assert_true(starting_goes_on(&starting, NOW + 1000000));
	assert_false(starting_goes_on(&starting, NOW + 1000000 + STARTING_SERVED_US));
}

static void test_one_that_is_never_ready_does_not_start_for_ever(void **state)
{
	struct starting starting;

	(void)state;
	starting_find(&starting, false, false, NOW);
	assert_true(starting_goes_on(&starting, NOW + STARTING_MOST_US - 1));
	assert_false(starting_goes_on(&starting, NOW + STARTING_MOST_US));
}

static void test_readiness_is_the_pods_or_else_the_containers(void **state)
{
	json_t *status = json_pack("{s:b}", "ready", 1);
	json_t *pod = json_pack("{s:{s:[{s:s, s:s}, {s:s, s:s}]}}", "status", "conditions", "type",
		"ContainersReady", "status", "True", "type", "Ready", "status", "False");
	json_t *bare = json_pack("{s:{}}", "status");

	(void)state;
	assert_false(starting_is_ready(pod, status));
	assert_true(starting_is_ready(bare, status));
	json_object_set_new(status, "ready", json_false());
	assert_false(starting_is_ready(bare, status));
	json_decref(status);
	json_decref(pod);
	json_decref(bare);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_replica_starts_until_it_is_ready),
		cmocka_unit_test(test_its_first_request_is_part_of_the_start),
		cmocka_unit_test(test_one_that_is_served_before_it_says_so_is_not_ready_yet),
		cmocka_unit_test(test_what_was_ready_before_the_agent_came_does_not_start),
		cmocka_unit_test(test_without_a_probe_the_first_request_says_that_it_is_ready),
		cmocka_unit_test(test_one_that_is_never_ready_does_not_start_for_ever),
		cmocka_unit_test(test_readiness_is_the_pods_or_else_the_containers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
