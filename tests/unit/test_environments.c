// SPDX-License-Identifier: Apache-2.0
/*
 * The training environments against trajectories that were computed on their own, in Python's
 * doubles, from the published equations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "environments/environment.h"

static void assert_state(const double *state, const double *expected, int count)
{
	for (int i = 0; i < count; i++) {
		if (!(fabs(state[i] - expected[i]) <= 1e-9 * (1 + fabs(expected[i]))))
			fail_msg("state[%d]: expected %.15g, got %.15g", i, expected[i], state[i]);
	}
}

static void test_cartpole_follows_the_pinned_trajectory(void **unused)
{
	const double first[] = {0.0096, -0.215539017102789, 0.0308, 0.341995223776039};
	const double tenth[] = {
		-0.0531838656167995, -0.419965303990692, 0.140403069285981, 0.847194814980029};
	const double last[] = {
		-0.0800115914559298, -0.625614229883378, 0.211621363762336, 1.39205638454563};
	double state[ENVIRONMENT_STATE] = {0.01, -0.02, 0.03, 0.04};
	bool terminal = false;

	(void)unused;
	for (uint32_t i = 0; i < 15; i++) {
		assert_false(terminal);
		assert_true(cartpole_step(state, i / 3 % 2, &terminal) == 1);
		if (i == 0)
			assert_state(state, first, 4);
		if (i == 9)
			assert_state(state, tenth, 4);
	}
	assert_state(state, last, 4);
	assert_true(terminal);
}

static void test_cartpole_ends_outside_the_track(void **unused)
{
	double inside[ENVIRONMENT_STATE] = {2.39, 0, 0, 0};
	double outside[ENVIRONMENT_STATE] = {-2.39, -1, 0, 0};
	bool terminal;

	(void)unused;
	cartpole_step(inside, 1, &terminal);
	assert_false(terminal);
	cartpole_step(outside, 0, &terminal);
	assert_true(terminal);
}

static void test_acrobot_follows_the_pinned_trajectory(void **unused)
{
	const struct {
		int step;
		double state[4];
	} pins[] = {
		{1, {0.060368565117387, -0.0719021338213564, 0.0801272530489103,
			    -0.329888470365825}},
		{10, {-0.204085817141258, 0.216075787305662, -0.484631536300979, 1.64588008854366}},
		{30, {0.890084332636423, -0.832586778345371, 1.17087426112962, -2.00533174915706}},
		{74, {1.98094768224276, 1.82910405932179, 0.819659631093996, -2.6455866266805}},
	};
	double state[ENVIRONMENT_STATE] = {0.05, -0.03, 0.02, -0.08};
	bool terminal = false;
	double reward = 0;
	size_t pin = 0;

	(void)unused;
	for (int i = 1; i <= 74; i++) {
		assert_false(terminal);
		reward = acrobot_step(state, state[3] > 0 ? 2 : 0, &terminal);
		assert_true(reward == (terminal ? 0 : -1));
		if (i == pins[pin].step)
			assert_state(state, pins[pin++].state, 4);
	}
	assert_true(terminal);
	assert_int_equal(pin, 4);
}

static void test_acrobot_shows_angles_as_cosine_and_sine(void **unused)
{
	const double state[] = {0.5, -1, 2, 3};
	float seen[6];

	(void)unused;
	acrobot_observe(state, seen);
	assert_true(seen[0] == (float)cos(0.5) && seen[1] == (float)sin(0.5));
	assert_true(seen[2] == (float)cos(-1) && seen[3] == (float)sin(-1));
	assert_true(seen[4] == 2 && seen[5] == 3);
}

static void test_mountaincar_follows_the_pinned_trajectory(void **unused)
{
	const struct {
		int step;
		double state[2];
	} pins[] = {
		{1, {-0.499176843004169, 0.000823156995830743}},
		{10, {-0.457689584896575, 0.00725469206272516}},
		{50, {-0.442029623091441, -0.026966047969384}},
		{124, {0.534949982565574, 0.0481909779286651}},
	};
	double state[ENVIRONMENT_STATE] = {-0.5, 0};
	bool terminal = false;
	size_t pin = 0;

	(void)unused;
	for (int i = 1; i <= 124; i++) {
		assert_false(terminal);
		assert_true(mountaincar_step(state, state[1] >= 0 ? 2 : 0, &terminal) == -1);
		if (i == pins[pin].step)
			assert_state(state, pins[pin++].state, 2);
	}
	assert_true(terminal);
	assert_int_equal(pin, 4);
}

static void test_mountaincar_stops_at_the_left_wall(void **unused)
{
	const double stopped[] = {-1.2, 0};
	double state[ENVIRONMENT_STATE] = {-1.19, -0.02};
	bool terminal;

	(void)unused;
	mountaincar_step(state, 0, &terminal);
	assert_state(state, stopped, 2);
	assert_false(terminal);
}

static void test_first_states_are_in_the_published_ranges(void **unused)
{
	struct random_state random;
	double state[ENVIRONMENT_STATE];

	(void)unused;
	random_seed(&random, 1);
	for (int i = 0; i < 1000; i++) {
		cartpole_reset(state, &random);
		for (int k = 0; k < 4; k++)
			assert_true(fabs(state[k]) <= 0.05);
		acrobot_reset(state, &random);
		for (int k = 0; k < 4; k++)
			assert_true(fabs(state[k]) <= 0.1 + 1e-8);
		mountaincar_reset(state, &random);
		assert_true(state[0] >= -0.6 && state[0] <= -0.4 && state[1] == 0);
	}
}

static void test_step_limits_are_the_published_ones(void **unused)
{
	(void)unused;
	assert_int_equal(environments[0].step_limit, 500);
	assert_int_equal(environments[1].step_limit, 500);
	assert_int_equal(environments[2].step_limit, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cartpole_follows_the_pinned_trajectory),
		cmocka_unit_test(test_cartpole_ends_outside_the_track),
		cmocka_unit_test(test_acrobot_follows_the_pinned_trajectory),
		cmocka_unit_test(test_acrobot_shows_angles_as_cosine_and_sine),
		cmocka_unit_test(test_mountaincar_follows_the_pinned_trajectory),
		cmocka_unit_test(test_mountaincar_stops_at_the_left_wall),
		cmocka_unit_test(test_first_states_are_in_the_published_ranges),
		cmocka_unit_test(test_step_limits_are_the_published_ones),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
