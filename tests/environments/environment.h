// SPDX-License-Identifier: Apache-2.0
/* The three environments behind one table, for a loop that does not care which. */
#ifndef EBBTIDE_ENVIRONMENT_H
#define EBBTIDE_ENVIRONMENT_H

#include "environments/acrobot.h"
#include "environments/cartpole.h"
#include "environments/mountaincar.h"

#define ENVIRONMENT_STATE 4 /* doubles in a state, at most */

struct environment {
	const char *name;
	uint32_t inputs; /* floats in an observation */
	uint32_t actions;
	uint32_t step_limit; /* then the episode is cut off: truncated, not terminal */
	void (*reset)(double *state, struct random_state *random);
	void (*observe)(const double *state, float *observation);
	double (*step)(double *state, uint32_t action, bool *terminal);
};

static const struct environment environments[] = {
	{"cartpole", 4, 2, CARTPOLE_STEP_LIMIT, cartpole_reset, cartpole_observe, cartpole_step},
	{"acrobot", 6, 3, ACROBOT_STEP_LIMIT, acrobot_reset, acrobot_observe, acrobot_step},
	{"mountaincar", 2, 3, MOUNTAINCAR_STEP_LIMIT, mountaincar_reset, mountaincar_observe,
		mountaincar_step},
};

#define ENVIRONMENT_COUNT (sizeof(environments) / sizeof(environments[0]))

#endif
