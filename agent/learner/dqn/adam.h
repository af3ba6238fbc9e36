// SPDX-License-Identifier: Apache-2.0
/* Adam (Kingma and Ba 2015) over one array of parameters, with clipping by the global norm. */
#ifndef EBBTIDE_ADAM_H
#define EBBTIDE_ADAM_H

#include <stddef.h>
#include <stdint.h>

struct adam {
	size_t count; /* parameters, a multiple of 16 */
	float beta1;
	float beta2;
	float epsilon;
	uint64_t step;	 /* steps done */
	float *mean;	 /* [count] first moment, owned */
	float *variance; /* [count] second moment; in the same allocation */
};

/* beta1 0.9, beta2 0.999, epsilon 1e-8; change them before the first step. 0, -EINVAL, -ENOMEM. */
int adam_create(struct adam *adam, size_t count);
void adam_destroy(struct adam *adam);
/* Back to step 0 with both moments zero. */
void adam_reset(struct adam *adam);
/*
 * One step of @rate against @gradients, scaled down first when their norm is over @clip (0: never).
 * *norm is the norm before that. -ERANGE: a gradient is not finite, and nothing has changed.
 */
int adam_apply(struct adam *adam, float *parameters, const float *gradients, float rate, float clip,
	double *norm);

#endif
