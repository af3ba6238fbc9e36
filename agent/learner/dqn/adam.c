// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/adam.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/dqn/elementwise.h"

int adam_create(struct adam *adam, size_t count)
{
	memset(adam, 0, sizeof(*adam));
	if (count < 1 || count % 16 != 0)
		return -EINVAL;
	adam->mean = aligned_alloc(64, 2 * count * sizeof(float));
	if (!adam->mean)
		return -ENOMEM;
	adam->count = count;
	adam->variance = adam->mean + count;
	adam->beta1 = 0.9F;
	adam->beta2 = 0.999F;
	adam->epsilon = 1e-8F;
	adam_reset(adam);
	return 0;
}

void adam_destroy(struct adam *adam)
{
	free(adam->mean);
	memset(adam, 0, sizeof(*adam));
}

void adam_reset(struct adam *adam)
{
	memset(adam->mean, 0, 2 * adam->count * sizeof(float));
	adam->step = 0;
}

int adam_apply(struct adam *adam, float *parameters, const float *gradients, float rate, float clip,
	double *norm)
{
	double length = sqrt(elementwise_square_sum(gradients, adam->count));
	double t = (double)adam->step + 1;
	struct adam_step step = {
		.rate = (float)((double)rate / (1 - pow((double)adam->beta1, t))),
		.beta1 = adam->beta1,
		.beta2 = adam->beta2,
		.root = (float)(1 / sqrt(1 - pow((double)adam->beta2, t))),
		.epsilon = adam->epsilon,
		.scale = clip > 0 && length > (double)clip ? (float)((double)clip / length) : 1,
	};

	*norm = length;
	if (!isfinite(length))
		return -ERANGE;
	adam->step++;
	elementwise_adam(parameters, adam->mean, adam->variance, gradients, adam->count, &step);
	return 0;
}
