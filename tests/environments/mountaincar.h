// SPDX-License-Identifier: Apache-2.0
/*
 * MountainCar-v0 as in Gymnasium: Moore 1990. State: position and speed; the two last places of the
 * four are not used.
 */
#ifndef EBBTIDE_MOUNTAINCAR_H
#define EBBTIDE_MOUNTAINCAR_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "learner/dqn/random.h"

#define MOUNTAINCAR_STEP_LIMIT 200

static inline void mountaincar_reset(double *state, struct random_state *random)
{
	state[0] = -0.6 + 0.2 * random_uniform_double(random);
	state[1] = 0;
}

static inline void mountaincar_observe(const double *state, float *observation)
{
	observation[0] = (float)state[0];
	observation[1] = (float)state[1];
}

/* @action 0, 1, 2: push left, none, right. Returns the reward. */
static inline double mountaincar_step(double *state, uint32_t action, bool *terminal)
{
	double position = state[0];
	double speed = state[1];

	speed += ((double)action - 1) * 0.001 + cos(3 * position) * -0.0025;
	speed = fmin(fmax(speed, -0.07), 0.07);
	position += speed;
	position = fmin(fmax(position, -1.2), 0.6);
	if (position == -1.2 && speed < 0)
		speed = 0;
	state[0] = position;
	state[1] = speed;
	*terminal = position >= 0.5 && speed >= 0;
	return -1;
}

#endif
