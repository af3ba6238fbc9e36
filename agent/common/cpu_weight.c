// SPDX-License-Identifier: Apache-2.0
#include "common/cpu_weight.h"

#include <math.h>
#include <stdlib.h>

#define SHARES_LEAST 2
#define SHARES_MOST  262144
#define SHARES_A_CPU 1024
#define WEIGHT_LEAST 1
#define WEIGHT_MOST  10000

int64_t cpu_weight_least(enum cpu_weight_scale scale)
{
	return scale == CPU_WEIGHT_SHARES ? SHARES_LEAST : WEIGHT_LEAST;
}

int64_t cpu_weight_most(enum cpu_weight_scale scale)
{
	return scale == CPU_WEIGHT_SHARES ? SHARES_MOST : WEIGHT_MOST;
}

static int64_t shares_of(double millicores)
{
	double shares = millicores * SHARES_A_CPU / 1000;

	/* A NaN is no request. */
	if (!(shares > SHARES_LEAST))
		return SHARES_LEAST;
	return shares < SHARES_MOST ? (int64_t)shares : SHARES_MOST;
}

static int64_t linear(int64_t shares)
{
	return 1 + (shares - SHARES_LEAST) * (WEIGHT_MOST - WEIGHT_LEAST) /
			   (SHARES_MOST - SHARES_LEAST);
}

static int64_t quadratic(int64_t shares)
{
	double l = log2((double)shares);

	if (shares <= SHARES_LEAST)
		return WEIGHT_LEAST;
	if (shares >= SHARES_MOST)
		return WEIGHT_MOST;
	return (int64_t)ceil(pow(10, (l * l + 125 * l) / 612 - 7.0 / 34));
}

static int64_t weight_of_shares(enum cpu_weight_scale scale, int64_t shares)
{
	if (scale == CPU_WEIGHT_SHARES)
		return shares;
	return scale == CPU_WEIGHT_LINEAR ? linear(shares) : quadratic(shares);
}

int64_t cpu_weight_of(enum cpu_weight_scale scale, double millicores)
{
	return weight_of_shares(scale, shares_of(millicores));
}

double cpu_weight_millicores(enum cpu_weight_scale scale, int64_t weight)
{
	int64_t low = SHARES_LEAST, high = SHARES_MOST;

	if (weight <= cpu_weight_least(scale))
		return 0;
	/* The least shares that become it: both formulas only rise. */
	while (low < high) {
		int64_t middle = low + (high - low) / 2;

		if (weight_of_shares(scale, middle) < weight)
			low = middle + 1;
		else
			high = middle;
	}
	/* Whole millicores, as requests are. */
	return ceil((double)low * 1000 / SHARES_A_CPU);
}

enum cpu_weight_scale cpu_weight_scale_of(int64_t weight, double millicores)
{
	int64_t to_linear = llabs(weight - cpu_weight_of(CPU_WEIGHT_LINEAR, millicores));
	int64_t to_quadratic = llabs(weight - cpu_weight_of(CPU_WEIGHT_QUADRATIC, millicores));

	return to_quadratic < to_linear ? CPU_WEIGHT_QUADRATIC : CPU_WEIGHT_LINEAR;
}
