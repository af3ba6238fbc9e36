// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/replay.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_valid(const struct replay_config *config)
{
	return config->capacity >= 1 && config->capacity <= REPLAY_CAPACITY_MAX &&
	       config->inputs >= 1 && config->inputs <= NETWORK_INPUTS_MAX &&
	       config->actions >= 1 && config->actions <= NETWORK_ACTIONS_MAX &&
	       config->alpha >= 0 && config->alpha <= 1;
}

static uint32_t count_leaves(uint32_t capacity)
{
	uint32_t leaves = 1;

	while (leaves < capacity)
		leaves *= 2;
	return leaves;
}

/* Of the first transitions, before any error is known. */
static double priority_first(const struct replay_config *config)
{
	return pow(1 + (double)REPLAY_PRIORITY_FLOOR, (double)config->alpha);
}

size_t replay_bytes(const struct replay_config *config)
{
	size_t transition = 2 * config->inputs * sizeof(float) + 2 * sizeof(float) +
			    sizeof(uint64_t) + sizeof(uint8_t);
	size_t bytes = transition * config->capacity;

	if (!is_valid(config))
		return 0;
	if (config->prioritised)
		bytes += 2 * (size_t)count_leaves(config->capacity) * sizeof(double);
	return bytes;
}

int replay_create(struct replay *replay, const struct replay_config *config)
{
	size_t capacity = config->capacity;

	memset(replay, 0, sizeof(*replay));
	if (!is_valid(config))
		return -EINVAL;
	replay->config = *config;
	replay->bytes = replay_bytes(config);
	replay->leaves = count_leaves(config->capacity);
	replay->priority_max = priority_first(config);
	/* calloc, so that pages that hold nothing yet take no memory. */
	replay->states = calloc(capacity * config->inputs, sizeof(float));
	replay->next_states = calloc(capacity * config->inputs, sizeof(float));
	replay->returns = calloc(capacity, sizeof(float));
	replay->discounts = calloc(capacity, sizeof(float));
	replay->masks = calloc(capacity, sizeof(uint64_t));
	replay->actions = calloc(capacity, sizeof(uint8_t));
	if (config->prioritised)
		replay->tree = calloc(2 * (size_t)replay->leaves, sizeof(double));
	if (!replay->states || !replay->next_states || !replay->returns || !replay->discounts ||
		!replay->masks || !replay->actions || (config->prioritised && !replay->tree)) {
		replay_destroy(replay);
		return -ENOMEM;
	}
	return 0;
}

void replay_destroy(struct replay *replay)
{
	free(replay->states);
	free(replay->next_states);
	free(replay->returns);
	free(replay->discounts);
	free(replay->masks);
	free(replay->actions);
	free(replay->tree);
	memset(replay, 0, sizeof(*replay));
}

void replay_clear(struct replay *replay)
{
	/* Pages that hold nothing yet stay so. */
	if (replay->pushed == 0)
		return;
	replay->size = 0;
	replay->head = 0;
	replay->pushed = 0;
	replay->priority_max = priority_first(&replay->config);
	if (replay->tree)
		memset(replay->tree, 0, 2 * (size_t)replay->leaves * sizeof(double));
}

static void set_priority(struct replay *replay, uint32_t slot, double priority)
{
	double *tree = replay->tree;
	size_t node = (size_t)replay->leaves + slot;

	/* Sums are computed anew, not adjusted, so rounding errors do not add up over time. */
	tree[node] = priority;
	for (node /= 2; node >= 1; node /= 2)
		tree[node] = tree[2 * node] + tree[2 * node + 1];
}

double replay_priority(const struct replay *replay, uint32_t slot)
{
	return replay->tree ? replay->tree[(size_t)replay->leaves + slot] : 0;
}

static bool are_finite(const float *values, uint32_t count)
{
	float sum = 0;

	/* Zero times anything finite is zero, times the rest NaN: one test at the end. */
	for (uint32_t i = 0; i < count; i++)
		sum += values[i] * 0;
	return sum == 0;
}

static bool is_acceptable(const struct replay *replay, const float *state, uint32_t action,
	float reward, float discount, const float *next_state, uint64_t next_mask)
{
	uint64_t existing = NETWORK_ALL_ACTIONS >> (64 - replay->config.actions);

	return action < replay->config.actions && isfinite(reward) && discount >= 0 &&
	       discount <= 1 && (discount == 0 || (next_mask & existing) != 0) &&
	       are_finite(state, replay->config.inputs) &&
	       are_finite(next_state, replay->config.inputs);
}

static void store(struct replay *replay, const float *state, uint32_t action, float n_step_return,
	float discount, const float *next_state, uint64_t next_mask)
{
	uint32_t slot = replay->head;
	size_t inputs = replay->config.inputs;

	memcpy(replay->states + slot * inputs, state, inputs * sizeof(float));
	memcpy(replay->next_states + slot * inputs, next_state, inputs * sizeof(float));
	replay->actions[slot] = (uint8_t)action;
	replay->returns[slot] = n_step_return;
	replay->discounts[slot] = discount;
	replay->masks[slot] = next_mask;
	if (replay->tree)
		set_priority(replay, slot, replay->priority_max);
	replay->head = slot + 1 == replay->config.capacity ? 0 : slot + 1;
	if (replay->size < replay->config.capacity)
		replay->size++;
	replay->pushed++;
}

int replay_push(struct replay *replay, const float *state, uint32_t action, float n_step_return,
	float discount, const float *next_state, uint64_t next_mask)
{
	if (!is_acceptable(replay, state, action, n_step_return, discount, next_state, next_mask))
		return -EINVAL;
	store(replay, state, action, n_step_return, discount, next_state, next_mask);
	return 0;
}

int replay_batch_create(struct replay_batch *batch, uint32_t rows_max, uint32_t inputs)
{
	/* Rows are rounded up so that every part begins on a cache line. */
	size_t rows = ((size_t)rows_max + 15) / 16 * 16;
	size_t state_bytes = 2 * rows * inputs * sizeof(float);
	size_t bytes = state_bytes + rows * (5 * sizeof(float) + sizeof(uint64_t));

	memset(batch, 0, sizeof(*batch));
	if (rows_max < 1 || inputs < 1 || inputs > NETWORK_INPUTS_MAX)
		return -EINVAL;
	batch->memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!batch->memory)
		return -ENOMEM;
	memset(batch->memory, 0, bytes);
	batch->rows_max = rows_max;
	batch->inputs = inputs;
	batch->states = batch->memory;
	batch->masks = (uint64_t *)(void *)(batch->states + 2 * rows * inputs);
	batch->returns = (float *)(void *)(batch->masks + rows);
	batch->discounts = batch->returns + rows;
	batch->weights = batch->discounts + rows;
	batch->actions = (uint32_t *)(void *)(batch->weights + rows);
	batch->slots = batch->actions + rows;
	return 0;
}

void replay_batch_destroy(struct replay_batch *batch)
{
	free(batch->memory);
	memset(batch, 0, sizeof(*batch));
}

/* Copy the transitions that batch->slots names; in a large buffer nearly every one is a miss. */
static void gather(const struct replay *replay, struct replay_batch *batch, uint32_t rows)
{
	size_t inputs = replay->config.inputs;
	size_t state_bytes = inputs * sizeof(float);

	for (uint32_t row = 0; row < rows; row++) {
		size_t slot = batch->slots[row];

		for (size_t at = 0; at < inputs; at += 64 / sizeof(float)) {
			__builtin_prefetch(replay->states + slot * inputs + at);
			__builtin_prefetch(replay->next_states + slot * inputs + at);
		}
		__builtin_prefetch(replay->returns + slot);
		__builtin_prefetch(replay->discounts + slot);
		__builtin_prefetch(replay->masks + slot);
		__builtin_prefetch(replay->actions + slot);
	}
	for (uint32_t row = 0; row < rows; row++) {
		size_t slot = batch->slots[row];

		memcpy(batch->states + row * inputs, replay->states + slot * inputs, state_bytes);
		memcpy(batch->states + (rows + row) * inputs, replay->next_states + slot * inputs,
			state_bytes);
		batch->returns[row] = replay->returns[slot];
		batch->discounts[row] = replay->discounts[slot];
		batch->masks[row] = replay->masks[slot];
		batch->actions[row] = replay->actions[slot];
	}
	batch->rows = rows;
	batch->pushed = replay->pushed;
}

int replay_sample_uniform(const struct replay *replay, struct random_state *random,
	struct replay_batch *batch, uint32_t rows)
{
	if (replay->size == 0)
		return -EAGAIN;
	if (rows < 1 || rows > batch->rows_max || batch->inputs != replay->config.inputs)
		return -EINVAL;
	for (uint32_t row = 0; row < rows; row++) {
		batch->slots[row] = random_below(random, replay->size);
		batch->weights[row] = 1;
	}
	gather(replay, batch, rows);
	return 0;
}

/* The slot whose share of the sum covers @mass. */
static uint32_t find_slot(const struct replay *replay, double mass)
{
	const double *tree = replay->tree;
	size_t node = 1;

	while (node < replay->leaves) {
		double left = tree[2 * node];

		node *= 2;
		/* The second test: rounding must not lead into an empty half. */
		if (mass >= left && tree[node + 1] > 0) {
			mass -= left;
			node++;
		}
	}
	return (uint32_t)(node - replay->leaves);
}

int replay_sample_prioritised(const struct replay *replay, struct random_state *random, float beta,
	struct replay_batch *batch, uint32_t rows)
{
	double weight_max = 0;
	double share;

	if (replay->size == 0)
		return -EAGAIN;
	if (!replay->tree || rows < 1 || rows > batch->rows_max ||
		batch->inputs != replay->config.inputs)
		return -EINVAL;
	share = replay->tree[1] / rows;
	for (uint32_t row = 0; row < rows; row++) {
		uint32_t slot = find_slot(replay, (row + random_uniform_double(random)) * share);
		double probability = replay_priority(replay, slot) / replay->tree[1];
		double weight = pow(replay->size * probability, -(double)beta);

		batch->slots[row] = slot;
		batch->weights[row] = (float)weight;
		if (weight > weight_max)
			weight_max = weight;
	}
	for (uint32_t row = 0; row < rows; row++)
		batch->weights[row] = (float)((double)batch->weights[row] / weight_max);
	gather(replay, batch, rows);
	return 0;
}

void replay_update_priorities(
	struct replay *replay, const struct replay_batch *batch, const float *td_errors)
{
	uint64_t since = replay->pushed - batch->pushed;
	uint32_t capacity = replay->config.capacity;

	if (!replay->tree)
		return;
	for (uint32_t row = 0; row < batch->rows; row++) {
		uint32_t slot = batch->slots[row];
		/* How many pushes ago this slot was the one written. */
		uint32_t age = (replay->head + capacity - 1 - slot) % capacity;
		double priority = pow(fabs((double)td_errors[row]) + (double)REPLAY_PRIORITY_FLOOR,
			(double)replay->config.alpha);

		if (age < since || !isfinite(priority))
			continue;
		set_priority(replay, slot, priority);
		if (priority > replay->priority_max)
			replay->priority_max = priority;
	}
}

int nstep_create(struct nstep *stream, uint32_t steps, uint32_t inputs, float gamma)
{
	memset(stream, 0, sizeof(*stream));
	if (steps < 1 || steps > NSTEP_MAX || inputs < 1 || inputs > NETWORK_INPUTS_MAX ||
		!(gamma >= 0 && gamma <= 1))
		return -EINVAL;
	stream->states = calloc((size_t)steps * inputs, sizeof(float));
	if (!stream->states)
		return -ENOMEM;
	stream->steps = steps;
	stream->inputs = inputs;
	stream->gamma = gamma;
	return 0;
}

void nstep_destroy(struct nstep *stream)
{
	free(stream->states);
	memset(stream, 0, sizeof(*stream));
}

void nstep_reset(struct nstep *stream)
{
	stream->count = 0;
	stream->first = 0;
}

static void emit_oldest(struct replay *replay, struct nstep *stream, const float *next_state,
	bool terminal, uint64_t next_mask)
{
	uint32_t at = stream->first;

	store(replay, stream->states + (size_t)at * stream->inputs, stream->actions[at],
		stream->returns[at], terminal ? 0 : stream->powers[at], next_state, next_mask);
	stream->first = (at + 1) % stream->steps;
	stream->count--;
}

int replay_nstep_push(struct replay *replay, struct nstep *stream, const float *state,
	uint32_t action, float reward, const float *next_state, enum replay_end end,
	uint64_t next_mask)
{
	bool terminal = end == REPLAY_TERMINAL;
	uint32_t last = (stream->first + stream->count) % stream->steps;

	if (stream->inputs != replay->config.inputs ||
		!is_acceptable(
			replay, state, action, reward, terminal ? 0 : 1, next_state, next_mask))
		return -EINVAL;
	for (uint32_t i = 0; i < stream->count; i++) {
		uint32_t at = (stream->first + i) % stream->steps;

		if (!isfinite(stream->returns[at] + stream->powers[at] * reward))
			return -EINVAL;
	}
	memcpy(stream->states + (size_t)last * stream->inputs, state,
		stream->inputs * sizeof(float));
	stream->actions[last] = (uint8_t)action;
	stream->returns[last] = 0;
	stream->powers[last] = 1;
	stream->count++;
	for (uint32_t i = 0; i < stream->count; i++) {
		uint32_t at = (stream->first + i) % stream->steps;

		stream->returns[at] += stream->powers[at] * reward;
		stream->powers[at] *= stream->gamma;
	}
	if (end == REPLAY_CONTINUES) {
		if (stream->count == stream->steps)
			emit_oldest(replay, stream, next_state, false, next_mask);
		return 0;
	}
	while (stream->count > 0)
		emit_oldest(replay, stream, next_state, terminal, next_mask);
	nstep_reset(stream);
	return 0;
}
