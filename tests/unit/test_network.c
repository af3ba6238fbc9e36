// SPDX-License-Identifier: Apache-2.0
/* The network against finite differences and against a naive one in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>

#include "learner/dqn/adam.h"
#include "learner/dqn/network.h"

#define ROWS 7

static const struct network_shape shapes[] = {
	{5, 11, 19, 4, false},
	{5, 11, 19, 4, true},
	{3, 16, 32, 2, true},
	{32, 20, 40, 9, false},
	{1, 1, 1, 1, true},
	{64, 33, 17, 64, true},
};

#define SHAPE_COUNT (sizeof(shapes) / sizeof(shapes[0]))

struct fixture {
	struct network network;
	struct network_workspace workspace;
	struct random_state random;
	float *states;
	float *q;
	float *gradients;
	float dq[ROWS];
	uint32_t action[ROWS];
};

static void set_up(struct fixture *f, const struct network_shape *shape)
{
	size_t count;

	memset(f, 0, sizeof(*f));
	random_seed(&f->random, 7);
	assert_int_equal(network_create(&f->network, shape), 0);
	assert_int_equal(network_workspace_create(&f->workspace, &f->network, ROWS), 0);
	network_init(&f->network, &f->random);
	/* Biases that are not zero, so that a lost one is seen. */
	for (uint32_t i = 0; i < shape->hidden1; i++)
		f->network.parameters[f->network.layout.bias1 + i] =
			0.3F * random_normal(&f->random);
	for (uint32_t i = 0; i < shape->hidden2; i++)
		f->network.parameters[f->network.layout.bias2 + i] =
			0.3F * random_normal(&f->random);
	for (uint32_t i = 0; i < f->network.layout.outputs; i++)
		f->network.parameters[f->network.layout.bias3 + i] =
			0.3F * random_normal(&f->random);
	count = f->network.layout.count;
	f->states = calloc((size_t)ROWS * shape->inputs, sizeof(float));
	f->q = calloc((size_t)ROWS * shape->actions, sizeof(float));
	f->gradients = aligned_alloc(64, count * sizeof(float));
	assert_non_null(f->states);
	assert_non_null(f->q);
	assert_non_null(f->gradients);
	/* Whatever is there before must not matter. */
	for (size_t i = 0; i < count; i++)
		f->gradients[i] = NAN;
	for (size_t i = 0; i < (size_t)ROWS * shape->inputs; i++)
		f->states[i] = random_normal(&f->random);
	for (uint32_t row = 0; row < ROWS; row++) {
		f->action[row] = random_below(&f->random, shape->actions);
		f->dq[row] = random_normal(&f->random);
	}
}

static void tear_down(struct fixture *f)
{
	network_workspace_destroy(&f->workspace);
	network_destroy(&f->network);
	free(f->states);
	free(f->q);
	free(f->gradients);
}

/* The naive network: q of one state and, when @gradients, adds dq times the gradient of Q(action). */
static void reference(const struct network *network, const double *parameters, const float *state,
	double *q, uint32_t action, double dq, double *gradients)
{
	const struct network_shape *s = &network->shape;
	const struct network_layout *l = &network->layout;
	double h1[NETWORK_HIDDEN_MAX], h2[NETWORK_HIDDEN_MAX], heads[NETWORK_ACTIONS_MAX + 1];
	double d2[NETWORK_HIDDEN_MAX], dheads[NETWORK_ACTIONS_MAX + 1];
	double mean = 0;

	for (uint32_t i = 0; i < s->hidden1; i++) {
		h1[i] = parameters[l->bias1 + i];
		for (uint32_t k = 0; k < s->inputs; k++)
			h1[i] += (double)state[k] *
				 parameters[l->weight1 + (size_t)k * l->stride1 + i];
		h1[i] = h1[i] > 0 ? h1[i] : 0;
	}
	for (uint32_t i = 0; i < s->hidden2; i++) {
		h2[i] = parameters[l->bias2 + i];
		for (uint32_t k = 0; k < s->hidden1; k++)
			h2[i] += h1[k] * parameters[l->weight2 + (size_t)k * l->stride2 + i];
		h2[i] = h2[i] > 0 ? h2[i] : 0;
	}
	for (uint32_t o = 0; o < l->outputs; o++) {
		heads[o] = parameters[l->bias3 + o];
		for (uint32_t k = 0; k < s->hidden2; k++)
			heads[o] += h2[k] * parameters[l->weight3 + (size_t)o * l->stride2 + k];
	}
	for (uint32_t a = 0; a < s->actions; a++)
		mean += heads[a] / s->actions;
	for (uint32_t a = 0; a < s->actions; a++)
		q[a] = s->dueling ? heads[s->actions] + heads[a] - mean : heads[a];
	if (!gradients)
		return;

	for (uint32_t o = 0; o < l->outputs; o++) {
		dheads[o] = o == action ? dq : 0;
		if (s->dueling)
			dheads[o] = o == s->actions ? dq : dheads[o] - dq / s->actions;
		gradients[l->bias3 + o] += dheads[o];
	}
	for (uint32_t k = 0; k < s->hidden2; k++) {
		d2[k] = 0;
		for (uint32_t o = 0; o < l->outputs; o++) {
			size_t at = l->weight3 + (size_t)o * l->stride2 + k;

			gradients[at] += dheads[o] * h2[k];
			d2[k] += dheads[o] * parameters[at];
		}
		d2[k] = h2[k] > 0 ? d2[k] : 0;
		gradients[l->bias2 + k] += d2[k];
	}
	for (uint32_t i = 0; i < s->hidden1; i++) {
		double d1 = 0;

		for (uint32_t k = 0; k < s->hidden2; k++) {
			size_t at = l->weight2 + (size_t)i * l->stride2 + k;

			gradients[at] += d2[k] * h1[i];
			d1 += d2[k] * parameters[at];
		}
		d1 = h1[i] > 0 ? d1 : 0;
		gradients[l->bias1 + i] += d1;
		for (uint32_t k = 0; k < s->inputs; k++)
			gradients[l->weight1 + (size_t)k * l->stride1 + i] += d1 * (double)state[k];
	}
}

static double *widen(const struct network *network)
{
	double *parameters = calloc(network->layout.count, sizeof(double));

	assert_non_null(parameters);
	for (size_t i = 0; i < network->layout.count; i++)
		parameters[i] = (double)network->parameters[i];
	return parameters;
}

static void assert_close(double got, double expected, double tolerance, const char *what, size_t at)
{
	if (!(fabs(got - expected) <= tolerance * (1 + fabs(expected))))
		fail_msg("%s %zu: expected %.9g, got %.9g", what, at, expected, got);
}

static void test_forward_agrees_with_naive_double(void **unused)
{
	(void)unused;
	for (size_t n = 0; n < SHAPE_COUNT; n++) {
		struct fixture f;
		double q[NETWORK_ACTIONS_MAX];
		double *parameters;

		set_up(&f, &shapes[n]);
		parameters = widen(&f.network);
		network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
		for (uint32_t row = 0; row < ROWS; row++) {
			reference(&f.network, parameters, f.states + row * shapes[n].inputs, q, 0,
				0, NULL);
			for (uint32_t a = 0; a < shapes[n].actions; a++)
				assert_close((double)f.q[row * shapes[n].actions + a], q[a], 2e-5,
					"q", row * shapes[n].actions + a);
		}
		free(parameters);
		tear_down(&f);
	}
}

static void test_forward_of_one_state_agrees_with_batch(void **unused)
{
	(void)unused;
	for (size_t n = 0; n < SHAPE_COUNT; n++) {
		struct fixture f;
		float q[NETWORK_ACTIONS_MAX];
		float *scratch;

		set_up(&f, &shapes[n]);
		scratch = calloc(network_scratch_floats(&f.network) + 1, sizeof(float));
		assert_non_null(scratch);
		network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
		for (uint32_t row = 0; row < ROWS; row++) {
			/* One float off any alignment: it must not matter. */
			network_forward_one(
				&f.network, f.states + row * shapes[n].inputs, scratch + 1, q);
			for (uint32_t a = 0; a < shapes[n].actions; a++)
				assert_close((double)q[a], (double)f.q[row * shapes[n].actions + a],
					1e-5, "q", a);
		}
		free(scratch);
		tear_down(&f);
	}
}

static void test_backward_agrees_with_naive_double(void **unused)
{
	(void)unused;
	for (size_t n = 0; n < SHAPE_COUNT; n++) {
		struct fixture f;
		double q[NETWORK_ACTIONS_MAX];
		double *parameters;
		double *gradients;

		set_up(&f, &shapes[n]);
		parameters = widen(&f.network);
		gradients = calloc(f.network.layout.count, sizeof(double));
		assert_non_null(gradients);
		network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
		network_backward(
			&f.network, &f.workspace, f.states, ROWS, f.action, f.dq, f.gradients);
		for (uint32_t row = 0; row < ROWS; row++)
			reference(&f.network, parameters, f.states + row * shapes[n].inputs, q,
				f.action[row], (double)f.dq[row], gradients);
		for (size_t i = 0; i < f.network.layout.count; i++)
			assert_close((double)f.gradients[i], gradients[i], 5e-5, "gradient", i);
		free(gradients);
		free(parameters);
		tear_down(&f);
	}
}

/* Sum of dq[row] * Q(row, action[row]), in double so that a small step can be seen. */
static double loss_of(const struct fixture *f, const double *parameters)
{
	double q[NETWORK_ACTIONS_MAX];
	double loss = 0;

	for (uint32_t row = 0; row < ROWS; row++) {
		reference(&f->network, parameters, f->states + row * f->network.shape.inputs, q, 0,
			0, NULL);
		loss += (double)f->dq[row] * q[f->action[row]];
	}
	return loss;
}

static void check_finite_differences(const struct network_shape *shape)
{
	const double step = 1e-6;
	struct fixture f;
	double *parameters;

	set_up(&f, shape);
	parameters = widen(&f.network);
	network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
	network_backward(&f.network, &f.workspace, f.states, ROWS, f.action, f.dq, f.gradients);
	/* Every parameter, also the padding, which must have no influence at all. */
	for (size_t i = 0; i < f.network.layout.count; i++) {
		double kept = parameters[i];
		double above, below;

		parameters[i] = kept + step;
		above = loss_of(&f, parameters);
		parameters[i] = kept - step;
		below = loss_of(&f, parameters);
		parameters[i] = kept;
		assert_close((double)f.gradients[i], (above - below) / (2 * step), 1e-4,
			"gradient by differences", i);
	}
	free(parameters);
	tear_down(&f);
}

static void test_gradient_agrees_with_finite_differences(void **unused)
{
	(void)unused;
	check_finite_differences(&shapes[0]);
}

static void test_dueling_gradient_agrees_with_finite_differences(void **unused)
{
	(void)unused;
	check_finite_differences(&shapes[1]);
}

static void test_backward_uses_only_the_first_rows_of_a_larger_pass(void **unused)
{
	struct fixture f;
	float *few;
	size_t count;

	(void)unused;
	set_up(&f, &shapes[1]);
	count = f.network.layout.count;
	few = aligned_alloc(64, count * sizeof(float));
	assert_non_null(few);
	network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
	network_backward(&f.network, &f.workspace, f.states, 3, f.action, f.dq, f.gradients);
	network_forward(&f.network, &f.workspace, f.states, 3, f.q);
	network_backward(&f.network, &f.workspace, f.states, 3, f.action, f.dq, few);
	for (size_t i = 0; i < count; i++)
		assert_close((double)f.gradients[i], (double)few[i], 1e-5, "gradient", i);
	free(few);
	tear_down(&f);
}

/* Of one action each it is the same, and the gradients of two losses add up. */
static void test_backward_of_all_values_agrees_with_that_of_one_each(void **unused)
{
	(void)unused;
	for (size_t n = 0; n < SHAPE_COUNT; n++) {
		const uint32_t actions = shapes[n].actions;
		struct fixture f;
		float *dq, *sum, *all;
		size_t bytes;

		set_up(&f, &shapes[n]);
		bytes = f.network.layout.count * sizeof(float);
		dq = calloc((size_t)ROWS * actions, sizeof(float));
		sum = calloc(1, bytes);
		all = aligned_alloc(64, bytes);
		assert_true(dq && sum && all);
		for (uint32_t turn = 0; turn < 2; turn++) {
			for (uint32_t row = 0; row < ROWS; row++) {
				uint32_t *action = &f.action[row];

				*action = (*action + turn) % actions;
				dq[row * actions + *action] += f.dq[row];
			}
			network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
			network_backward(&f.network, &f.workspace, f.states, ROWS, f.action, f.dq,
				f.gradients);
			for (size_t i = 0; i < f.network.layout.count; i++)
				sum[i] += f.gradients[i];
		}
		network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
		network_backward_all(&f.network, &f.workspace, f.states, ROWS, dq, all);
		for (size_t i = 0; i < f.network.layout.count; i++)
			assert_close((double)all[i], (double)sum[i], 5e-5, "gradient", i);
		free(all);
		free(sum);
		free(dq);
		tear_down(&f);
	}
}

static void test_padding_stays_zero_over_many_steps(void **unused)
{
	struct fixture f;
	struct adam adam;
	double norm;
	const struct network_layout *l = &f.network.layout;

	(void)unused;
	set_up(&f, &shapes[1]);
	assert_int_equal(adam_create(&adam, l->count), 0);
	for (int i = 0; i < 50; i++) {
		network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
		network_backward(
			&f.network, &f.workspace, f.states, ROWS, f.action, f.dq, f.gradients);
		assert_int_equal(
			adam_apply(&adam, f.network.parameters, f.gradients, 1e-2F, 1, &norm), 0);
	}
	for (uint32_t row = 0; row < f.network.shape.inputs; row++) {
		for (uint32_t i = f.network.shape.hidden1; i < l->stride1; i++)
			assert_true(f.network.parameters[l->weight1 + row * l->stride1 + i] == 0);
	}
	for (uint32_t row = 0; row < l->outputs; row++) {
		for (uint32_t i = f.network.shape.hidden2; i < l->stride2; i++)
			assert_true(f.network.parameters[l->weight3 + row * l->stride2 + i] == 0);
	}
	adam_destroy(&adam);
	tear_down(&f);
}

static void test_initial_weights_repeat_for_a_seed_and_have_the_stated_variance(void **unused)
{
	const struct network_shape shape = {32, 128, 128, 9, false};
	struct network a, b;
	struct random_state random;
	double squares = 0;

	(void)unused;
	assert_int_equal(network_create(&a, &shape), 0);
	assert_int_equal(network_create(&b, &shape), 0);
	random_seed(&random, 5);
	network_init(&a, &random);
	random_seed(&random, 5);
	network_init(&b, &random);
	assert_memory_equal(a.parameters, b.parameters, a.layout.count * sizeof(float));
	for (size_t i = 0; i < 128 * 128; i++)
		squares += (double)a.parameters[a.layout.weight2 + i] *
			   (double)a.parameters[a.layout.weight2 + i];
	/* Uniform within b: variance b^2 / 3; of 16,384 draws it strays by 0.7 %, five are allowed. */
	assert_close(squares / (128 * 128), 1.0 / 3 / 128, 0.0001, "variance", 0);
	network_init(&b, &random);
	assert_memory_not_equal(a.parameters, b.parameters, a.layout.count * sizeof(float));
	network_destroy(&a);
	network_destroy(&b);
}

static void test_soft_update_moves_by_tau_and_one_is_a_copy(void **unused)
{
	struct network a, b, other;
	struct random_state random;
	float before, from;

	(void)unused;
	random_seed(&random, 1);
	assert_int_equal(network_create(&a, &shapes[0]), 0);
	assert_int_equal(network_create(&b, &shapes[0]), 0);
	assert_int_equal(network_create(&other, &shapes[1]), 0);
	network_init(&a, &random);
	network_init(&b, &random);
	before = a.parameters[3];
	from = b.parameters[3];
	assert_int_equal(network_soft_update(&a, &b, 0.25F), 0);
	assert_close((double)a.parameters[3], 0.75 * (double)before + 0.25 * (double)from, 1e-6,
		"weight", 3);
	assert_int_equal(network_soft_update(&a, &b, 1), 0);
	assert_memory_equal(a.parameters, b.parameters, a.layout.count * sizeof(float));
	assert_int_equal(network_soft_update(&other, &b, 0.5F), -EINVAL);
	assert_int_equal(network_copy(&other, &b), -EINVAL);
	network_destroy(&a);
	network_destroy(&b);
	network_destroy(&other);
}

static void test_non_finite_parameter_is_noticed(void **unused)
{
	struct network network;

	(void)unused;
	assert_int_equal(network_create(&network, &shapes[0]), 0);
	assert_true(network_is_finite(&network));
	network.parameters[network.layout.count - 1] = NAN;
	assert_false(network_is_finite(&network));
	network.parameters[network.layout.count - 1] = -INFINITY;
	assert_false(network_is_finite(&network));
	network_destroy(&network);
}

static void test_nan_in_a_state_reaches_q(void **unused)
{
	struct fixture f;

	(void)unused;
	set_up(&f, &shapes[0]);
	f.states[2] = NAN;
	network_forward(&f.network, &f.workspace, f.states, ROWS, f.q);
	assert_true(isnan(f.q[0]));
	tear_down(&f);
}

static void test_shapes_outside_the_limits_are_refused(void **unused)
{
	const struct network_shape bad[] = {
		{0, 1, 1, 1, false},
		{65, 1, 1, 1, false},
		{1, 0, 1, 1, false},
		{1, 1025, 1, 1, false},
		{1, 1, 0, 1, false},
		{1, 1, 1, 0, false},
		{1, 1, 1, 65, true},
	};
	struct network network;

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(network_create(&network, &bad[i]), -EINVAL);
}

static void test_best_action_respects_the_mask(void **unused)
{
	const float q[] = {3, 9, 5, 5};

	(void)unused;
	assert_int_equal(network_best_action(q, 4, NETWORK_ALL_ACTIONS), 1);
	assert_int_equal(network_best_action(q, 4, 0xd), 2);
	assert_int_equal(network_best_action(q, 4, 0x1), 0);
	assert_int_equal(network_best_action(q, 4, 0), -1);
	assert_int_equal(network_best_action(q, 4, 0xf0), -1);
}

static void test_adam_follows_hand_computed_steps(void **unused)
{
	/*
	 * rate 0.1, gradients 1 then -3. Step 1: m 0.1, v 0.001; corrected 1 and 1: p = 1 - 0.1.
	 * Step 2: m = 0.09 - 0.3 = -0.21, v = 0.000999 + 0.009 = 0.009999; corrected
	 * -0.21 / 0.19 = -1.105263 and 0.009999 / 0.001999 = 5.002001: p += 0.1 * 1.105263 / 2.236515.
	 */
	float parameters[16] = {1};
	float gradients[16] = {1};
	struct adam adam;
	double norm;

	(void)unused;
	assert_int_equal(adam_create(&adam, 16), 0);
	assert_int_equal(adam_apply(&adam, parameters, gradients, 0.1F, 0, &norm), 0);
	assert_close(norm, 1, 1e-9, "norm", 0);
	assert_close((double)parameters[0], 0.9, 1e-6, "after step", 1);
	gradients[0] = -3;
	assert_int_equal(adam_apply(&adam, parameters, gradients, 0.1F, 0, &norm), 0);
	assert_close((double)parameters[0], 0.9 + 0.1 * 1.105263 / 2.236515, 1e-6, "after step", 2);
	assert_close((double)adam.mean[0], -0.21, 1e-6, "mean", 0);
	assert_close((double)adam.variance[0], 0.009999, 1e-6, "variance", 0);
	assert_true(parameters[1] == 0);
	adam_destroy(&adam);
}

static void test_gradient_is_clipped_by_its_global_norm(void **unused)
{
	float parameters[16] = {0};
	float gradients[16] = {3, 4};
	struct adam adam;
	double norm;

	(void)unused;
	assert_int_equal(adam_create(&adam, 16), 0);
	assert_int_equal(adam_apply(&adam, parameters, gradients, 0.1F, 1, &norm), 0);
	assert_close(norm, 5, 1e-6, "norm", 0);
	assert_close((double)adam.mean[0], 0.1 * 0.6, 1e-6, "mean", 0);
	assert_close((double)adam.mean[1], 0.1 * 0.8, 1e-6, "mean", 1);
	adam_destroy(&adam);
}

static void test_adam_refuses_a_gradient_that_is_not_finite(void **unused)
{
	float parameters[16] = {1, 2};
	float gradients[16] = {0};
	struct adam adam;
	double norm;

	(void)unused;
	gradients[9] = NAN;
	assert_int_equal(adam_create(&adam, 16), 0);
	assert_int_equal(adam_apply(&adam, parameters, gradients, 0.1F, 1, &norm), -ERANGE);
	assert_true(parameters[0] == 1 && parameters[1] == 2);
	assert_int_equal(adam.step, 0);
	adam_destroy(&adam);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward_agrees_with_naive_double),
		cmocka_unit_test(test_forward_of_one_state_agrees_with_batch),
		cmocka_unit_test(test_backward_agrees_with_naive_double),
		cmocka_unit_test(test_gradient_agrees_with_finite_differences),
		cmocka_unit_test(test_dueling_gradient_agrees_with_finite_differences),
		cmocka_unit_test(test_backward_uses_only_the_first_rows_of_a_larger_pass),
		cmocka_unit_test(test_backward_of_all_values_agrees_with_that_of_one_each),
		cmocka_unit_test(test_padding_stays_zero_over_many_steps),
		cmocka_unit_test(
			test_initial_weights_repeat_for_a_seed_and_have_the_stated_variance),
		cmocka_unit_test(test_soft_update_moves_by_tau_and_one_is_a_copy),
		cmocka_unit_test(test_non_finite_parameter_is_noticed),
		cmocka_unit_test(test_nan_in_a_state_reaches_q),
		cmocka_unit_test(test_shapes_outside_the_limits_are_refused),
		cmocka_unit_test(test_best_action_respects_the_mask),
		cmocka_unit_test(test_adam_follows_hand_computed_steps),
		cmocka_unit_test(test_gradient_is_clipped_by_its_global_norm),
		cmocka_unit_test(test_adam_refuses_a_gradient_that_is_not_finite),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
