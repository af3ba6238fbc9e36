// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/elementwise.h"

#include <stdint.h>
#include <string.h>

/*
 * These loops are all that the learner runs outside the BLAS, so they are vectorised whatever the
 * build's flags are.
 */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif

/* The thread sanitizer instruments the resolver, which runs before the sanitizer does. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

WIDE void elementwise_bias_relu(
	float *restrict values, const float *restrict bias, size_t rows, size_t width)
{
	for (size_t row = 0; row < rows; row++, values += width) {
		for (size_t i = 0; i < width; i++) {
			float sum = values[i] + bias[i];

			/* In this order a NaN stays one, and the divergence is seen. */
			values[i] = sum < 0 ? 0 : sum;
		}
	}
}

WIDE void elementwise_relu_backward(float *restrict delta, const float *restrict activation,
	float *restrict sums, size_t rows, size_t width)
{
	for (size_t i = 0; i < width; i++)
		sums[i] = 0;
	for (size_t row = 0; row < rows; row++, delta += width, activation += width) {
		for (size_t i = 0; i < width; i++) {
			float kept = activation[i] > 0 ? delta[i] : 0;

			delta[i] = kept;
			sums[i] += kept;
		}
	}
}

WIDE void elementwise_add_scaled(
	float *restrict to, const float *restrict from, float scale, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] += scale * from[i];
}

WIDE void elementwise_sum_scaled(float *restrict to, const float *restrict a,
	const float *restrict b, float scale, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = scale * (a[i] + b[i]);
}

WIDE void elementwise_scale(
	float *restrict to, const float *restrict from, float scale, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = scale * from[i];
}

WIDE void elementwise_blend(float *restrict to, const float *restrict from, float tau, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] += tau * (from[i] - to[i]);
}

WIDE void elementwise_relu(float *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		values[i] = values[i] < 0 ? 0 : values[i];
}

WIDE float elementwise_dot(const float *restrict a, const float *restrict b, size_t count)
{
	float partial[16] = {0};
	float sum = 0;

	for (size_t i = 0; i < count; i += 16) {
		for (size_t lane = 0; lane < 16; lane++)
			partial[lane] += a[i + lane] * b[i + lane];
	}
	for (size_t lane = 0; lane < 16; lane++)
		sum += partial[lane];
	return sum;
}

WIDE double elementwise_square_sum(const float *values, size_t count)
{
	/* Independent partial sums: without them the order of the additions forbids vectors. */
	float partial[64] = {0};
	double sum = 0;
	size_t i = 0;

	for (; i + 64 <= count; i += 64) {
		for (size_t lane = 0; lane < 64; lane++)
			partial[lane] += values[i + lane] * values[i + lane];
	}
	for (size_t lane = 0; lane < 64; lane++)
		sum += (double)partial[lane];
	for (; i < count; i++)
		sum += (double)values[i] * (double)values[i];
	return sum;
}

/*
 * The square root of a value that is not negative, by Newton's iteration for its inverse from the
 * exponent's half: exact to two units in the last place. sqrtf() would do, but its errno keeps the
 * compiler from using vectors, and that makes the whole update a quarter slower.
 */
static inline __attribute__((always_inline)) float square_root(float value)
{
	uint32_t bits;
	float inverse;

	memcpy(&bits, &value, sizeof(bits));
	bits = 0x5f3759df - (bits >> 1);
	memcpy(&inverse, &bits, sizeof(inverse));
	for (int i = 0; i < 3; i++)
		inverse *= 1.5F - 0.5F * value * inverse * inverse;
	return value * inverse;
}

WIDE void elementwise_adam(float *restrict parameters, float *restrict mean,
	float *restrict variance, const float *restrict gradients, size_t count,
	const struct adam_step *restrict step)
{
	struct adam_step s = *step;
	float rest1 = 1 - s.beta1;
	float rest2 = 1 - s.beta2;

	for (size_t i = 0; i < count; i++) {
		float gradient = s.scale * gradients[i];
		float first = s.beta1 * mean[i] + rest1 * gradient;
		float second = s.beta2 * variance[i] + rest2 * gradient * gradient;

		mean[i] = first;
		variance[i] = second;
		parameters[i] -= s.rate * first / (square_root(second) * s.root + s.epsilon);
	}
}
