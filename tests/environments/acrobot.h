// SPDX-License-Identifier: Apache-2.0
/*
 * Acrobot-v1 as in Gymnasium: two links, torque on the joint between them, the equations of Sutton
 * and Barto's book, one Runge-Kutta step of 0.2 s. State: both angles (rad), both speeds (rad/s).
 */
#ifndef EBBTIDE_ACROBOT_H
#define EBBTIDE_ACROBOT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "learner/dqn/random.h"

#define ACROBOT_STEP_LIMIT 500

static inline void acrobot_reset(double *state, struct random_state *random)
{
	/* Gymnasium keeps the first state in single precision. */
	for (int i = 0; i < 4; i++)
		state[i] = (double)(float)(-0.1 + 0.2 * random_uniform_double(random));
}

static inline void acrobot_observe(const double *state, float *observation)
{
	observation[0] = (float)cos(state[0]);
	observation[1] = (float)sin(state[0]);
	observation[2] = (float)cos(state[1]);
	observation[3] = (float)sin(state[1]);
	observation[4] = (float)state[2];
	observation[5] = (float)state[3];
}

static inline void acrobot_derive(const double *state, double torque, double *rate)
{
	/* Both links: mass 1 kg, length 1 m, centre at 0.5 m, moment of inertia 1. */
	const double m1 = 1, m2 = 1, l1 = 1, lc1 = 0.5, lc2 = 0.5, i1 = 1, i2 = 1, g = 9.8;
	double theta1 = state[0];
	double theta2 = state[1];
	double speed1 = state[2];
	double speed2 = state[3];
	double d1 = m1 * (lc1 * lc1) + m2 * (l1 * l1 + lc2 * lc2 + 2 * l1 * lc2 * cos(theta2)) +
		    i1 + i2;
	double d2 = m2 * (lc2 * lc2 + l1 * lc2 * cos(theta2)) + i2;
	double phi2 = m2 * lc2 * g * cos(theta1 + theta2 - M_PI / 2);
	double phi1 = -m2 * l1 * lc2 * (speed2 * speed2) * sin(theta2) -
		      2 * m2 * l1 * lc2 * speed2 * speed1 * sin(theta2) +
		      (m1 * lc1 + m2 * l1) * g * cos(theta1 - M_PI / 2) + phi2;

	rate[0] = speed1;
	rate[1] = speed2;
	rate[3] =
		(torque + d2 / d1 * phi1 - m2 * l1 * lc2 * (speed1 * speed1) * sin(theta2) - phi2) /
		(m2 * (lc2 * lc2) + i2 - (d2 * d2) / d1);
	rate[2] = -(d2 * rate[3] + phi1) / d1;
}

static inline double acrobot_wrap(double angle)
{
	while (angle > M_PI)
		angle -= 2 * M_PI;
	while (angle < -M_PI)
		angle += 2 * M_PI;
	return angle;
}

/* @action 0, 1, 2: torque -1, 0, 1 N m. Returns the reward. */
static inline double acrobot_step(double *state, uint32_t action, bool *terminal)
{
	const double dt_s = 0.2;
	const double speed_max[2] = {4 * M_PI, 9 * M_PI};
	double torque = (double)action - 1;
	double rates[4][4];
	double at[4];

	acrobot_derive(state, torque, rates[0]);
	for (int k = 1; k < 4; k++) {
		double part = k == 3 ? dt_s : dt_s / 2;

		for (int i = 0; i < 4; i++)
			at[i] = state[i] + part * rates[k - 1][i];
		acrobot_derive(at, torque, rates[k]);
	}
	for (int i = 0; i < 4; i++)
		state[i] +=
			dt_s / 6 * (rates[0][i] + 2 * rates[1][i] + 2 * rates[2][i] + rates[3][i]);
	for (int i = 0; i < 2; i++) {
		state[i] = acrobot_wrap(state[i]);
		state[2 + i] = fmin(fmax(state[2 + i], -speed_max[i]), speed_max[i]);
	}
	*terminal = -cos(state[0]) - cos(state[1] + state[0]) > 1;
	return *terminal ? 0 : -1;
}

#endif
