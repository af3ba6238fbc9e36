// SPDX-License-Identifier: Apache-2.0
/* The learner's clocks; its core takes time as an argument. */
#include "learner/learner.h"

#include <time.h>

static double clock_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double learner_now_s(void)
{
	return clock_s(CLOCK_MONOTONIC);
}

double learner_unix_s(void)
{
	return clock_s(CLOCK_REALTIME);
}
