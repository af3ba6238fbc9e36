// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/random.h"

#include <math.h>

void random_seed(struct random_state *random, uint64_t seed)
{
	/* SplitMix64, as the generator's authors advise: it is never zero four times in a row. */
	for (int i = 0; i < 4; i++) {
		uint64_t mixed = (seed += 0x9e3779b97f4a7c15U);

		mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
		mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
		random->word[i] = mixed ^ (mixed >> 31);
	}
}

uint32_t random_below(struct random_state *random, uint32_t bound)
{
	/* Lemire 2019: multiply, and draw again in the few cases that would favour low values. */
	uint64_t product = (random_next(random) >> 32) * bound;

	if ((uint32_t)product < bound) {
		uint32_t threshold = -bound % bound;

		while ((uint32_t)product < threshold)
			product = (random_next(random) >> 32) * bound;
	}
	return (uint32_t)(product >> 32);
}

float random_uniform(struct random_state *random)
{
	return (float)(random_next(random) >> 40) * 0x1p-24F;
}

double random_uniform_double(struct random_state *random)
{
	return (double)(random_next(random) >> 11) * 0x1p-53;
}

float random_normal(struct random_state *random)
{
	/* Box and Muller; 1 - u is never zero, so the logarithm is finite. */
	double radius = sqrt(-2 * log(1 - random_uniform_double(random)));

	return (float)(radius * cos(2 * M_PI * random_uniform_double(random)));
}
