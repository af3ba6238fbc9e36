// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

void train_config_init(struct train_config *config)
{
	*config = (struct train_config){
		.learning_rate = 2.5e-4F,
		.adam_epsilon = 1e-3F,
		.gamma = 0.99F,
		.n_step = 3,
		.batch = 128,
		.huber_delta = 0,
		.grad_clip = 10,
		.double_dqn = true,
		.dueling = true,
		.prioritised = true,
		.alpha = 0.6F,
		.beta_start = 0.4F,
		.beta_steps = 50000,
		.target_period = 1,
		.tau = 0.01F,
		.warmup = 1000,
		.q_bound = 1e5F,
		.good_period = 1000,
		.seed = 1,
	};
}

static int report_range(
	char *error, size_t error_size, const char *field, double value, const char *range)
{
	snprintf(error, error_size, "%s is %g, it must be %s", field, value, range);
	return -EINVAL;
}

int train_config_check(const struct train_config *config, char *error, size_t error_size)
{
	const struct {
		const char *field;
		double value, min, max;
		bool above; /* min itself is not allowed */
	} fields[] = {
		{"learning_rate", (double)config->learning_rate, 0, 1, true},
		{"adam_epsilon", (double)config->adam_epsilon, 0, 1, true},
		{"gamma", (double)config->gamma, 0, 1, false},
		{"n_step", config->n_step, 1, NSTEP_MAX, false},
		{"batch", config->batch, 1, TRAIN_BATCH_MAX, false},
		{"huber_delta", (double)config->huber_delta, 0, 1e9, false},
		{"grad_clip", (double)config->grad_clip, 0, 1e9, false},
		{"alpha", (double)config->alpha, 0, 1, false},
		{"beta_start", (double)config->beta_start, 0, 1, false},
		{"target_period", config->target_period, 1, 1e9, false},
		{"tau", (double)config->tau, 0, 1, true},
		{"q_bound", (double)config->q_bound, 0, 1e30, true},
		{"anchor", (double)config->anchor, 0, 1e12, false},
		{"good_period", config->good_period, 1, 1e9, false},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		double value = fields[i].value;
		char range[64];

		if (value >= fields[i].min && value <= fields[i].max &&
			!(fields[i].above && value <= fields[i].min))
			continue;
		snprintf(range, sizeof(range), "%s %g and at most %g",
			fields[i].above ? "above" : "at least", fields[i].min, fields[i].max);
		return report_range(error, error_size, fields[i].field, value, range);
	}
	return 0;
}

int trainer_create(struct trainer *trainer, const struct network_shape *shape,
	const struct train_config *config)
{
	struct network_shape own = *shape;
	char error[128];
	size_t floats;
	int err = train_config_check(config, error, sizeof(error));

	memset(trainer, 0, sizeof(*trainer));
	if (err)
		return err;
	own.dueling = config->dueling;
	trainer->config = *config;
	random_seed(&trainer->random, config->seed);
	err = network_create(&trainer->online, &own);
	err = err ? err : network_create(&trainer->target, &own);
	err = err ? err : network_create(&trainer->good, &own);
	err = err ? err : network_create(&trainer->candidate, &own);
	err = err ? err : adam_create(&trainer->adam, trainer->online.layout.count);
	err = err ? err
		  : network_workspace_create(
			    &trainer->workspace, &trainer->online, 2 * config->batch);
	err = err ? err : replay_batch_create(&trainer->batch, config->batch, own.inputs);
	if (err)
		goto out;
	floats = trainer->online.layout.count + (size_t)config->batch * (4 * own.actions + 2);
	trainer->gradients = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
	if (!trainer->gradients) {
		err = -ENOMEM;
		goto out;
	}
	memset(trainer->gradients, 0, floats * sizeof(float));
	trainer->q = trainer->gradients + trainer->online.layout.count;
	trainer->q_target = trainer->q + 2 * (size_t)config->batch * own.actions;
	trainer->q_anchor = trainer->q_target + (size_t)config->batch * own.actions;
	trainer->dq = trainer->q_anchor + (size_t)config->batch * own.actions;
	trainer->td_errors = trainer->dq + config->batch;
	trainer->adam.epsilon = config->adam_epsilon;
	network_init(&trainer->online, &trainer->random);
	trainer_adopt_online(trainer);
out:
	if (err)
		trainer_destroy(trainer);
	return err;
}

void trainer_destroy(struct trainer *trainer)
{
	network_destroy(&trainer->online);
	network_destroy(&trainer->target);
	network_destroy(&trainer->good);
	network_destroy(&trainer->candidate);
	network_destroy(&trainer->anchor);
	adam_destroy(&trainer->adam);
	network_workspace_destroy(&trainer->workspace);
	replay_batch_destroy(&trainer->batch);
	free(trainer->gradients);
	memset(trainer, 0, sizeof(*trainer));
}

void trainer_adopt_online(struct trainer *trainer)
{
	network_copy(&trainer->target, &trainer->online);
	network_copy(&trainer->good, &trainer->online);
	network_copy(&trainer->candidate, &trainer->online);
}

int trainer_anchor(struct trainer *trainer, const float *weights)
{
	/* A copy: a pointer to const in it has clang-tidy take all of the trainer for unchanged. */
	const struct network_shape shape = trainer->online.shape;
	int err = 0;

	if (!trainer->anchor.parameters)
		err = network_create(&trainer->anchor, &shape);
	if (!err)
		memcpy(trainer->anchor.parameters, weights,
			trainer->anchor.layout.count * sizeof(float));
	return err;
}

double train_beta(const struct train_config *config, uint64_t steps)
{
	double start = (double)config->beta_start;

	if (steps >= config->beta_steps)
		return 1;
	return start + (1 - start) * (double)steps / (double)config->beta_steps;
}

double epsilon_apex(uint32_t index, uint32_t actors, double base, double alpha)
{
	if (actors <= 1)
		return base;
	return pow(base, 1 + alpha * index / (actors - 1));
}

void train_compute_targets(const struct replay_batch *batch, uint32_t actions,
	const float *q_online, const float *q_target, bool double_dqn, float *targets)
{
	const float *chooser = double_dqn ? q_online : q_target;

	for (uint32_t row = 0; row < batch->rows; row++) {
		size_t at = (size_t)row * actions;
		int best = network_best_action(chooser + at, actions, batch->masks[row]);

		/* No valid action at all: only after an end, where nothing is added. */
		targets[row] = batch->returns[row];
		if (batch->discounts[row] > 0 && best >= 0)
			targets[row] += batch->discounts[row] * q_target[at + (size_t)best];
	}
}

int trainer_sample(struct trainer *trainer, const struct replay *replay)
{
	const struct train_config *config = &trainer->config;

	if (replay->config.inputs != trainer->online.shape.inputs ||
		replay->config.actions != trainer->online.shape.actions ||
		(config->prioritised && !replay->tree))
		return -EINVAL;
	if (replay->size < config->warmup || replay->size < config->batch)
		return -EAGAIN;
	trainer->held = replay->size;
	if (!config->prioritised)
		return replay_sample_uniform(
			replay, &trainer->random, &trainer->batch, config->batch);
	return replay_sample_prioritised(replay, &trainer->random,
		(float)train_beta(config, trainer->steps), &trainer->batch, config->batch);
}

/* Loss, its derivative by each chosen Q value, and what the batch looked like. */
static void compute_loss(struct trainer *trainer, const float *targets, struct train_stats *stats)
{
	const struct replay_batch *batch = &trainer->batch;
	uint32_t actions = trainer->online.shape.actions;
	size_t count = (size_t)batch->rows * actions;
	float delta = trainer->config.huber_delta > 0 ? trainer->config.huber_delta : INFINITY;
	float inverse = 1 / (float)batch->rows;
	float q_min = trainer->q[0];
	float q_max = trainer->q[0];
	float q_sum = 0;

	for (size_t i = 0; i < count; i++) {
		float q = trainer->q[i];

		q_min = q < q_min ? q : q_min;
		q_max = q > q_max ? q : q_max;
		q_sum += q;
	}
	stats->q_min = (double)q_min;
	stats->q_max = (double)q_max;
	stats->q_mean = (double)q_sum / (double)count;
	stats->loss = 0;
	stats->td_error_mean_abs = 0;
	for (uint32_t row = 0; row < batch->rows; row++) {
		float error =
			trainer->q[(size_t)row * actions + batch->actions[row]] - targets[row];
		float size = fabsf(error);
		float slope = size <= delta ? error : copysignf(delta, error);
		float loss = size <= delta ? error * error / 2 : delta * (size - delta / 2);

		trainer->td_errors[row] = error;
		trainer->dq[row] = batch->weights[row] * slope * inverse;
		stats->loss += (double)(batch->weights[row] * loss * inverse);
		stats->td_error_mean_abs += (double)(size * inverse);
	}
}

static float mean_of(const float *values, uint32_t count)
{
	float sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += values[i];
	return sum / (float)count;
}

/*
 * The loss's derivatives by all values of the batch's states, in place of the anchor's values: what
 * the chosen ones have, and the pull towards the anchor's differences between actions.
 */
static void pull_to_anchor(struct trainer *trainer)
{
	const struct replay_batch *batch = &trainer->batch;
	uint32_t actions = trainer->online.shape.actions;
	float pull =
		trainer->config.anchor / (float)trainer->held / (float)actions / (float)batch->rows;

	for (uint32_t row = 0; row < batch->rows; row++) {
		const float *q = trainer->q + (size_t)row * actions;
		float *dq = trainer->q_anchor + (size_t)row * actions;
		float apart = mean_of(q, actions) - mean_of(dq, actions);

		for (uint32_t a = 0; a < actions; a++)
			dq[a] = pull * (q[a] - dq[a] - apart);
		dq[batch->actions[row]] += trainer->dq[row];
	}
}

static bool is_sound(const struct trainer *trainer, const struct train_stats *stats)
{
	double bound = (double)trainer->config.q_bound;

	/* A value and its target, each within the bound, are no further apart than twice that. */
	return isfinite(stats->loss) && stats->loss <= 2 * bound * bound &&
	       isfinite(stats->q_mean) && stats->q_max <= bound && stats->q_min >= -bound;
}

void trainer_fall_back(struct trainer *trainer)
{
	network_copy(&trainer->online, &trainer->good);
	network_copy(&trainer->target, &trainer->good);
	network_copy(&trainer->candidate, &trainer->good);
	adam_reset(&trainer->adam);
	trainer->divergences++;
}

static int learn(struct trainer *trainer, struct train_stats *stats)
{
	const struct train_config *config = &trainer->config;
	struct replay_batch *batch = &trainer->batch;
	const bool anchored = trainer->anchor.parameters && config->anchor > 0;
	uint32_t rows = batch->rows;
	uint32_t inputs = batch->inputs;
	uint32_t actions = trainer->online.shape.actions;
	float *targets = trainer->td_errors; /* each is read before its error is written */

	memset(stats, 0, sizeof(*stats));
	stats->beta = config->prioritised ? train_beta(config, trainer->steps) : 0;
	/*
	 * The other networks first, so that the workspace then keeps the online network's activations
	 * for the backward pass. With Double DQN the online network sees states and next states in one
	 * pass: its weights are packed once, and the products are twice as tall.
	 */
	network_forward(&trainer->target, &trainer->workspace,
		batch->states + (size_t)rows * inputs, rows, trainer->q_target);
	if (anchored)
		network_forward(&trainer->anchor, &trainer->workspace, batch->states, rows,
			trainer->q_anchor);
	network_forward(&trainer->online, &trainer->workspace, batch->states,
		config->double_dqn ? 2 * rows : rows, trainer->q);
	train_compute_targets(batch, actions, trainer->q + (size_t)rows * actions,
		trainer->q_target, config->double_dqn, targets);
	compute_loss(trainer, targets, stats);
	if (!is_sound(trainer, stats))
		return -ERANGE;
	if (anchored) {
		pull_to_anchor(trainer);
		network_backward_all(&trainer->online, &trainer->workspace, batch->states, rows,
			trainer->q_anchor, trainer->gradients);
	} else {
		network_backward(&trainer->online, &trainer->workspace, batch->states, rows,
			batch->actions, trainer->dq, trainer->gradients);
	}
	return adam_apply(&trainer->adam, trainer->online.parameters, trainer->gradients,
		config->learning_rate, config->grad_clip, &stats->grad_norm);
}

/* Moments that fade to denormal numbers would cost a hundred cycles each on some processors. */
static unsigned int flush_denormals(void)
{
#if defined(__x86_64__)
	unsigned int before = _mm_getcsr();

	_mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
	return before;
#else
	return 0;
#endif
}

static void restore_denormals(unsigned int before)
{
#if defined(__x86_64__)
	_mm_setcsr(before);
#else
	(void)before;
#endif
}

static void note_good(struct trainer *trainer)
{
	network_copy(&trainer->good, &trainer->candidate);
	network_copy(&trainer->candidate, &trainer->online);
	trainer->good_steps = trainer->steps - trainer->config.good_period;
}

int trainer_learn(struct trainer *trainer, struct train_stats *stats)
{
	const struct train_config *config = &trainer->config;
	unsigned int before = flush_denormals();
	int err = learn(trainer, stats);

	if (err == -ERANGE)
		trainer_fall_back(trainer);
	if (!err) {
		trainer->steps++;
		if (trainer->steps % config->target_period == 0)
			network_soft_update(&trainer->target, &trainer->online, config->tau);
		if (trainer->steps % config->good_period == 0)
			note_good(trainer);
	}
	restore_denormals(before);
	return err;
}

void trainer_feed_back(const struct trainer *trainer, struct replay *replay)
{
	if (trainer->config.prioritised)
		replay_update_priorities(replay, &trainer->batch, trainer->td_errors);
}

int trainer_step(struct trainer *trainer, struct replay *replay, struct train_stats *stats)
{
	int err = trainer_sample(trainer, replay);

	err = err ? err : trainer_learn(trainer, stats);
	if (!err)
		trainer_feed_back(trainer, replay);
	return err;
}
