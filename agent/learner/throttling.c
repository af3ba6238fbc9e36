// SPDX-License-Identifier: Apache-2.0
#include "learner/throttling.h"

#include "common/plan.h"
#include "common/rung.h"

#include <math.h>

/* A second in which every period is throttled. */
#define RUNGS_PER_S 2.0
/* Who accepts none would otherwise never come down from a bad minute. */
#define ACCEPTABLE_LEAST 0.001

double throttling_adapt(double floor_rungs, const struct sample *sample, double acceptable)
{
	double periods = sample->tick_s * 1e6 / PLAN_PERIOD_US * sample->containers, share;

	if (acceptable >= 1)
		return 0;
	if (periods <= 0)
		return floor_rungs;
	share = fmin(1, sample->throttled_periods / periods);
	floor_rungs += RUNGS_PER_S * sample->tick_s * (share - fmax(acceptable, ACCEPTABLE_LEAST));
	return fmin(fmax(floor_rungs, 0), RUNG_COUNT - 1);
}

uint32_t throttling_rung(double floor_rungs)
{
	return (uint32_t)floor_rungs;
}
