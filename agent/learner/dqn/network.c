// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/network.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learner/dqn/elementwise.h"

static uint32_t round_up_lanes(uint32_t count)
{
	return (count + NETWORK_LANES - 1) / NETWORK_LANES * NETWORK_LANES;
}

static bool is_in_range(uint32_t value, uint32_t max)
{
	return value >= 1 && value <= max;
}

int network_layout_compute(const struct network_shape *shape, struct network_layout *layout)
{
	size_t at = 0;

	if (!is_in_range(shape->inputs, NETWORK_INPUTS_MAX) ||
		!is_in_range(shape->hidden1, NETWORK_HIDDEN_MAX) ||
		!is_in_range(shape->hidden2, NETWORK_HIDDEN_MAX) ||
		!is_in_range(shape->actions, NETWORK_ACTIONS_MAX))
		return -EINVAL;
	layout->stride1 = round_up_lanes(shape->hidden1);
	layout->stride2 = round_up_lanes(shape->hidden2);
	layout->outputs = shape->actions + (shape->dueling ? 1 : 0);
	layout->weight1 = at;
	layout->bias1 = at += (size_t)shape->inputs * layout->stride1;
	layout->weight2 = at += layout->stride1;
	layout->bias2 = at += (size_t)shape->hidden1 * layout->stride2;
	layout->weight3 = at += layout->stride2;
	layout->bias3 = at += (size_t)layout->outputs * layout->stride2;
	layout->count = at + round_up_lanes(layout->outputs);
	return 0;
}

static float *allocate_zeroed(size_t floats)
{
	size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
	float *memory = aligned_alloc(64, bytes);

	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

int network_create(struct network *network, const struct network_shape *shape)
{
	int err = network_layout_compute(shape, &network->layout);

	network->parameters = NULL;
	if (err)
		return err;
	network->shape = *shape;
	network->parameters = allocate_zeroed(network->layout.count);
	return network->parameters ? 0 : -ENOMEM;
}

void network_destroy(struct network *network)
{
	free(network->parameters);
	network->parameters = NULL;
}

static void fill_uniform(float *weights, uint32_t rows, uint32_t width, uint32_t stride,
	double bound, struct random_state *random)
{
	for (uint32_t row = 0; row < rows; row++) {
		for (uint32_t i = 0; i < width; i++)
			weights[(size_t)row * stride + i] =
				(float)(bound * (2 * random_uniform_double(random) - 1));
	}
}

void network_init(struct network *network, struct random_state *random)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	float *parameters = network->parameters;

	memset(parameters, 0, layout->count * sizeof(float));
	fill_uniform(parameters + layout->weight1, shape->inputs, shape->hidden1, layout->stride1,
		sqrt(1.0 / shape->inputs), random);
	fill_uniform(parameters + layout->weight2, shape->hidden1, shape->hidden2, layout->stride2,
		sqrt(1.0 / shape->hidden1), random);
	fill_uniform(parameters + layout->weight3, layout->outputs, shape->hidden2, layout->stride2,
		sqrt(0.5 / shape->hidden2), random);
}

static bool has_same_shape(const struct network *a, const struct network *b)
{
	return a->shape.inputs == b->shape.inputs && a->shape.hidden1 == b->shape.hidden1 &&
	       a->shape.hidden2 == b->shape.hidden2 && a->shape.actions == b->shape.actions &&
	       a->shape.dueling == b->shape.dueling;
}

int network_copy(struct network *to, const struct network *from)
{
	if (!has_same_shape(to, from))
		return -EINVAL;
	memcpy(to->parameters, from->parameters, from->layout.count * sizeof(float));
	return 0;
}

int network_soft_update(struct network *to, const struct network *from, float tau)
{
	if (tau >= 1)
		return network_copy(to, from);
	if (!has_same_shape(to, from))
		return -EINVAL;
	elementwise_blend(to->parameters, from->parameters, tau, from->layout.count);
	return 0;
}

bool network_is_finite(const struct network *network)
{
	for (size_t i = 0; i < network->layout.count; i++) {
		if (!isfinite(network->parameters[i]))
			return false;
	}
	return true;
}

int network_workspace_create(
	struct network_workspace *workspace, const struct network *network, uint32_t rows_max)
{
	const struct network_layout *layout = &network->layout;
	/* Each part begins on a cache line of its own. */
	size_t part1 = (size_t)rows_max * layout->stride1;
	size_t part2 = (size_t)rows_max * layout->stride2;
	size_t heads = (size_t)rows_max * round_up_lanes(layout->outputs);

	memset(workspace, 0, sizeof(*workspace));
	if (rows_max < 1)
		return -EINVAL;
	workspace->memory = allocate_zeroed(2 * part1 + 2 * part2 + heads);
	if (!workspace->memory)
		return -ENOMEM;
	workspace->rows_max = rows_max;
	workspace->hidden1 = workspace->memory;
	workspace->hidden2 = workspace->hidden1 + part1;
	workspace->delta1 = workspace->hidden2 + part2;
	workspace->delta2 = workspace->delta1 + part1;
	workspace->heads = workspace->delta2 + part2;
	return 0;
}

void network_workspace_destroy(struct network_workspace *workspace)
{
	free(workspace->memory);
	memset(workspace, 0, sizeof(*workspace));
}

/* q = V + A - mean of A, for one state; @heads is A of every action, then V. */
static void combine_heads(const float *heads, uint32_t actions, float *q)
{
	float sum = 0;

	for (uint32_t a = 0; a < actions; a++)
		sum += heads[a];
	float offset = heads[actions] - sum / (float)actions;
	for (uint32_t a = 0; a < actions; a++)
		q[a] = heads[a] + offset;
}

/* c[rows][width] = a[rows][inner] * b[inner][width] */
static void multiply(const float *a, const float *b, float *c, uint32_t rows, uint32_t inner,
	uint32_t a_stride, uint32_t width)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)width, (int)inner, 1,
		a, (int)a_stride, b, (int)width, 0, c, (int)width);
}

void network_forward(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, float *q)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	const float *parameters = network->parameters;
	uint32_t outputs = layout->outputs;
	float *heads = shape->dueling ? workspace->heads : q;

	multiply(states, parameters + layout->weight1, workspace->hidden1, rows, shape->inputs,
		shape->inputs, layout->stride1);
	elementwise_bias_relu(
		workspace->hidden1, parameters + layout->bias1, rows, layout->stride1);

	multiply(workspace->hidden1, parameters + layout->weight2, workspace->hidden2, rows,
		shape->hidden1, layout->stride1, layout->stride2);
	elementwise_bias_relu(
		workspace->hidden2, parameters + layout->bias2, rows, layout->stride2);

	/* heads[rows][outputs] = hidden2 * weight3^T + bias3; so narrow that the bias goes first */
	for (uint32_t row = 0; row < rows; row++)
		memcpy(heads + (size_t)row * outputs, parameters + layout->bias3,
			outputs * sizeof(float));
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)outputs,
		(int)shape->hidden2, 1, workspace->hidden2, (int)layout->stride2,
		parameters + layout->weight3, (int)layout->stride2, 1, heads, (int)outputs);
	if (shape->dueling) {
		for (uint32_t row = 0; row < rows; row++)
			combine_heads(heads + (size_t)row * outputs, shape->actions,
				q + (size_t)row * shape->actions);
	}
}

size_t network_scratch_floats(const struct network *network)
{
	return (size_t)network->layout.stride1 + network->layout.stride2 + network->layout.outputs;
}

/* out = max(0, bias + in * weight), skipping the inputs that a ReLU before made zero. */
static void forward_layer_one(const float *weight, const float *bias, const float *in,
	uint32_t inputs, float *out, uint32_t stride)
{
	memcpy(out, bias, stride * sizeof(float));
	for (uint32_t i = 0; i < inputs; i++) {
		if (in[i] != 0)
			elementwise_add_scaled(out, weight + (size_t)i * stride, in[i], stride);
	}
	elementwise_relu(out, stride);
}

void network_forward_one(
	const struct network *network, const float *state, float *scratch, float *q)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	const float *parameters = network->parameters;
	float *hidden1 = scratch;
	float *hidden2 = hidden1 + layout->stride1;
	float *heads = shape->dueling ? hidden2 + layout->stride2 : q;

	forward_layer_one(parameters + layout->weight1, parameters + layout->bias1, state,
		shape->inputs, hidden1, layout->stride1);
	forward_layer_one(parameters + layout->weight2, parameters + layout->bias2, hidden1,
		shape->hidden1, hidden2, layout->stride2);
	for (uint32_t output = 0; output < layout->outputs; output++)
		heads[output] =
			parameters[layout->bias3 + output] +
			elementwise_dot(hidden2,
				parameters + layout->weight3 + (size_t)output * layout->stride2,
				layout->stride2);
	if (shape->dueling)
		combine_heads(heads, shape->actions, q);
}

/*
 * The last layer: the loss reaches it through one action of each row, so a row's share of the
 * gradient is one row of weight3, and the row's share of weight3's gradient goes to one row.
 * With dueling heads dQ(a)/dA(j) = [j = a] - 1/actions and dQ(a)/dV = 1.
 */
static void backward_heads(const struct network *network, struct network_workspace *workspace,
	uint32_t rows, const uint32_t *action, const float *dq, float *gradients)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	uint32_t stride = layout->stride2;
	const float *weight3 = network->parameters + layout->weight3;
	float *dweight3 = gradients + layout->weight3;
	float *dbias3 = gradients + layout->bias3;
	float inverse = 1 / (float)shape->actions;
	float common[NETWORK_HIDDEN_MAX]; /* V's weights less the mean of A's */

	memset(dweight3, 0, (layout->count - layout->weight3) * sizeof(float));
	if (shape->dueling) {
		memcpy(common, weight3 + (size_t)shape->actions * stride, stride * sizeof(float));
		for (uint32_t a = 0; a < shape->actions; a++)
			elementwise_add_scaled(
				common, weight3 + (size_t)a * stride, -inverse, stride);
	}
	for (uint32_t row = 0; row < rows; row++) {
		const float *chosen = weight3 + (size_t)action[row] * stride;
		const float *hidden2 = workspace->hidden2 + (size_t)row * stride;
		float *delta = workspace->delta2 + (size_t)row * stride;

		if (shape->dueling)
			elementwise_sum_scaled(delta, chosen, common, dq[row], stride);
		else
			elementwise_scale(delta, chosen, dq[row], stride);
		elementwise_add_scaled(
			dweight3 + (size_t)action[row] * stride, hidden2, dq[row], stride);
		dbias3[action[row]] += dq[row];
	}
	if (shape->dueling) {
		float *dvalue = dweight3 + (size_t)shape->actions * stride;
		float *dvalue_bias = dbias3 + shape->actions;

		for (uint32_t a = 0; a < shape->actions; a++) {
			elementwise_add_scaled(dvalue, dweight3 + (size_t)a * stride, 1, stride);
			*dvalue_bias += dbias3[a];
		}
		for (uint32_t a = 0; a < shape->actions; a++) {
			elementwise_add_scaled(
				dweight3 + (size_t)a * stride, dvalue, -inverse, stride);
			dbias3[a] -= inverse * *dvalue_bias;
		}
	}
}

/* As backward_heads(), of all values; the forward pass's heads give way to their derivatives. */
static void backward_all_heads(const struct network *network, struct network_workspace *workspace,
	uint32_t rows, const float *dq, float *gradients)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	uint32_t actions = shape->actions, outputs = layout->outputs;
	int stride = (int)layout->stride2;
	float *dbias3 = gradients + layout->bias3;
	const float *dheads = dq;

	if (shape->dueling) {
		for (uint32_t row = 0; row < rows; row++) {
			const float *from = dq + (size_t)row * actions;
			float *to = workspace->heads + (size_t)row * outputs, sum = 0;

			for (uint32_t a = 0; a < actions; a++)
				sum += from[a];
			for (uint32_t a = 0; a < actions; a++)
				to[a] = from[a] - sum / (float)actions;
			to[actions] = sum;
		}
		dheads = workspace->heads;
	}
	memset(gradients + layout->weight3, 0, (layout->count - layout->weight3) * sizeof(float));
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)outputs, stride, (int)rows, 1,
		dheads, (int)outputs, workspace->hidden2, stride, 0, gradients + layout->weight3,
		stride);
	for (uint32_t row = 0; row < rows; row++)
		elementwise_add_scaled(dbias3, dheads + (size_t)row * outputs, 1, outputs);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, stride, (int)outputs, 1,
		dheads, (int)outputs, network->parameters + layout->weight3, stride, 0,
		workspace->delta2, stride);
}

/* From delta2, before its ReLU, down to the inputs. */
static void backward_hidden(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, float *gradients)
{
	const struct network_shape *shape = &network->shape;
	const struct network_layout *layout = &network->layout;
	int stride1 = (int)layout->stride1;
	int stride2 = (int)layout->stride2;

	elementwise_relu_backward(workspace->delta2, workspace->hidden2, gradients + layout->bias2,
		rows, layout->stride2);

	/* dweight2[hidden1][stride2] = hidden1^T * delta2 */
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)shape->hidden1, stride2,
		(int)rows, 1, workspace->hidden1, stride1, workspace->delta2, stride2, 0,
		gradients + layout->weight2, stride2);
	/* delta1[rows][hidden1] = delta2 * weight2^T; the padding of its rows stays zero */
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)shape->hidden1,
		stride2, 1, workspace->delta2, stride2, network->parameters + layout->weight2,
		stride2, 0, workspace->delta1, stride1);
	elementwise_relu_backward(workspace->delta1, workspace->hidden1, gradients + layout->bias1,
		rows, layout->stride1);

	/* dweight1[inputs][stride1] = states^T * delta1 */
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)shape->inputs, stride1, (int)rows,
		1, states, (int)shape->inputs, workspace->delta1, stride1, 0,
		gradients + layout->weight1, stride1);
}

void network_backward(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, const uint32_t *action, const float *dq,
	float *gradients)
{
	backward_heads(network, workspace, rows, action, dq, gradients);
	backward_hidden(network, workspace, states, rows, gradients);
}

void network_backward_all(const struct network *network, struct network_workspace *workspace,
	const float *states, uint32_t rows, const float *dq, float *gradients)
{
	backward_all_heads(network, workspace, rows, dq, gradients);
	backward_hidden(network, workspace, states, rows, gradients);
}

int network_best_action(const float *q, uint32_t actions, uint64_t mask)
{
	int best = -1;

	for (uint32_t a = 0; a < actions; a++) {
		if ((mask >> a & 1) && (best < 0 || q[a] > q[best]))
			best = (int)a;
	}
	return best;
}
