// SPDX-License-Identifier: Apache-2.0
/*
 * The loops between the matrix products, each one pass over its data and compiled for several
 * instruction sets (the fastest that the processor has runs). Counts and strides in floats; arrays
 * do not overlap.
 */
#ifndef EBBTIDE_ELEMENTWISE_H
#define EBBTIDE_ELEMENTWISE_H

#include <stddef.h>
#include <stdint.h>

struct adam_step {
	float rate; /* learning rate over (1 - beta1^t): the first moment's correction */
	float beta1;
	float beta2;
	float root; /* 1 / sqrt(1 - beta2^t): the second moment's correction */
	float epsilon;
	float scale; /* applied to the gradient first (clipping) */
};

/* values[rows][width] = max(0, values + bias[width]) */
void elementwise_bias_relu(float *values, const float *bias, size_t rows, size_t width);
/* delta is zeroed where activation is zero; sums[width] = its column sums. */
void elementwise_relu_backward(
	float *delta, const float *activation, float *sums, size_t rows, size_t width);
/* to[count] += scale * from[count] */
void elementwise_add_scaled(float *to, const float *from, float scale, size_t count);
/* to[count] = scale * (a[count] + b[count]) */
void elementwise_sum_scaled(float *to, const float *a, const float *b, float scale, size_t count);
/* to[count] = scale * from[count] */
void elementwise_scale(float *to, const float *from, float scale, size_t count);
/* to[count] += tau * (from[count] - to[count]) */
void elementwise_blend(float *to, const float *from, float tau, size_t count);
/* max(0, values) in place */
void elementwise_relu(float *values, size_t count);
/* The inner product of two arrays whose @count is a multiple of 16. */
float elementwise_dot(const float *a, const float *b, size_t count);
/* The sum of squares; not finite when one value is not (or when it overflows). */
double elementwise_square_sum(const float *values, size_t count);
/* One step of Adam over all parameters and both moments. */
void elementwise_adam(float *parameters, float *mean, float *variance, const float *gradients,
	size_t count, const struct adam_step *step);

#endif
