// SPDX-License-Identifier: Apache-2.0
/*
 * CartPole-v1 as in Gymnasium: Barto, Sutton and Anderson 1983, equations after Florian 2007, Euler
 * steps of 20 ms. State: position (m), speed (m/s), angle (rad), angular speed (rad/s).
 */
#ifndef EBBTIDE_CARTPOLE_H
#define EBBTIDE_CARTPOLE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "learner/dqn/random.h"

#define CARTPOLE_STEP_LIMIT 500

static inline void cartpole_reset(double *state, struct random_state *random)
{
	for (int i = 0; i < 4; i++)
		state[i] = -0.05 + 0.1 * random_uniform_double(random);
}

static inline void cartpole_observe(const double *state, float *observation)
{
	for (int i = 0; i < 4; i++)
		observation[i] = (float)state[i];
}

/* @action 0 pushes left, 1 right. Returns the reward. */
static inline double cartpole_step(double *state, uint32_t action, bool *terminal)
{
	const double gravity = 9.8;
	const double mass_pole = 0.1;
	const double mass = 1.0 + mass_pole;
	const double length = 0.5; /* half of the pole */
	const double pole_moment = mass_pole * length;
	const double tau_s = 0.02;
	double force = action == 1 ? 10.0 : -10.0;
	double cosine = cos(state[2]);
	double sine = sin(state[2]);
	double push = (force + pole_moment * (state[3] * state[3]) * sine) / mass;
	double angular = (gravity * sine - cosine * push) /
			 (length * (4.0 / 3.0 - mass_pole * (cosine * cosine) / mass));
	double linear = push - pole_moment * angular * cosine / mass;

	state[0] += tau_s * state[1];
	state[1] += tau_s * linear;
	state[2] += tau_s * state[3];
	state[3] += tau_s * angular;
	*terminal = fabs(state[0]) > 2.4 || fabs(state[2]) > 12 * 2 * M_PI / 360;
	return 1;
}

#endif
