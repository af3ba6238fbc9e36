// SPDX-License-Identifier: Apache-2.0
#include "learner/brain.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SCRATCH_FLOATS 4096
/* Rows of one pass, and how many passes go on at a time; more than that go state by state. */
#define EVALUATE_ROWS 64
#define EVALUATORS    16
/* Fewer rows than this are faster one by one: a product this small is mostly its preparation. */
#define EVALUATE_ROWS_LEAST 4
/* One is the newest, the others are free to be overwritten once no evaluation reads them. */
#define SNAPSHOTS 3
/* Steps between two snapshots for decisions: a copy of the weights costs about ten microseconds. */
#define SNAPSHOT_STEPS 16

struct snapshot {
	struct network network;
	uint32_t readers;
};

struct evaluator {
	struct network_workspace workspace;
	bool busy;
};

struct brain {
	struct brain_options options;
	pthread_mutex_t replay_lock; /* replay, owed */
	struct replay replay;
	double owed; /* gradient steps not yet done */
	pthread_mutex_t trainer_lock;
	struct trainer trainer;
	struct train_stats last;
	pthread_mutex_t snapshot_lock; /* readers, newest, busy */
	struct snapshot snapshots[SNAPSHOTS];
	struct snapshot *newest;
	struct evaluator evaluators[EVALUATORS];
};

/*
 * Start with all actions worth about the same: the first decisions then follow exploration, not
 * the accident of the initial weights.
 */
static void heads_shrink(struct trainer *trainer)
{
	struct network *online = &trainer->online;

	for (size_t i = online->layout.weight3; i < online->layout.count; i++)
		online->parameters[i] *= 0.01F;
	trainer_adopt_online(trainer);
}

static int snapshots_create(struct brain *brain)
{
	int err = 0;

	for (int i = 0; i < SNAPSHOTS && !err; i++) {
		err = network_create(&brain->snapshots[i].network, &brain->trainer.online.shape);
		if (!err)
			err = network_copy(&brain->snapshots[i].network, &brain->trainer.online);
	}
	brain->newest = &brain->snapshots[0];
	return err;
}

int brain_open(struct brain **out, const struct brain_options *options)
{
	struct brain *brain = calloc(1, sizeof(*brain));
	struct network_shape shape = {.inputs = options->inputs,
		.hidden1 = 128,
		.hidden2 = 128,
		.actions = options->actions,
		.dueling = options->train.dueling};
	struct replay_config replay = {.capacity = options->capacity,
		.inputs = options->inputs,
		.actions = options->actions,
		.prioritised = options->train.prioritised,
		.alpha = options->train.alpha};
	int err;

	if (!brain)
		return -ENOMEM;
	brain->options = *options;
	pthread_mutex_init(&brain->replay_lock, NULL);
	pthread_mutex_init(&brain->trainer_lock, NULL);
	pthread_mutex_init(&brain->snapshot_lock, NULL);
	err = replay_create(&brain->replay, &replay);
	if (!err)
		err = trainer_create(&brain->trainer, &shape, &options->train);
	if (!err) {
		heads_shrink(&brain->trainer);
		err = snapshots_create(brain);
	}
	if (!err && network_scratch_floats(&brain->trainer.online) > SCRATCH_FLOATS)
		err = -EINVAL;
	if (err) {
		brain_close(brain);
		return err;
	}
	*out = brain;
	return 0;
}

void brain_close(struct brain *brain)
{
	if (!brain)
		return;
	for (int i = 0; i < SNAPSHOTS; i++)
		network_destroy(&brain->snapshots[i].network);
	for (int i = 0; i < EVALUATORS; i++)
		network_workspace_destroy(&brain->evaluators[i].workspace);
	trainer_destroy(&brain->trainer);
	replay_destroy(&brain->replay);
	free(brain);
}

const struct train_config *brain_train_config(const struct brain *brain)
{
	return &brain->options.train;
}

static size_t store(struct brain *brain, struct brain_experience *experiences, size_t count,
	double replay_ratio)
{
	uint64_t before;
	size_t stored = 0;

	if (count == 0)
		return 0;
	pthread_mutex_lock(&brain->replay_lock);
	before = brain->replay.pushed;
	for (size_t i = 0; i < count; i++) {
		struct brain_experience *e = &experiences[i];

		e->err = replay_nstep_push(&brain->replay, e->stream, e->state, e->action,
			e->reward, e->next_state, e->end, e->next_mask);
		stored += e->err == 0;
	}
	brain->owed += (double)(brain->replay.pushed - before) * replay_ratio;
	pthread_mutex_unlock(&brain->replay_lock);
	return stored;
}

size_t brain_store(struct brain *brain, struct brain_experience *experiences, size_t count)
{
	return store(brain, experiences, count, brain->options.replay_ratio);
}

size_t brain_recall(struct brain *brain, struct brain_experience *experiences, size_t count)
{
	return store(brain, experiences, count, 0);
}

void brain_forget(struct brain *brain)
{
	pthread_mutex_lock(&brain->replay_lock);
	replay_clear(&brain->replay);
	brain->owed = 0;
	pthread_mutex_unlock(&brain->replay_lock);
}

const struct replay *brain_replay(const struct brain *brain)
{
	return &brain->replay;
}

static struct snapshot *snapshot_take(struct brain *brain, struct evaluator **evaluator)
{
	struct snapshot *snapshot;

	*evaluator = NULL;
	pthread_mutex_lock(&brain->snapshot_lock);
	snapshot = brain->newest;
	snapshot->readers++;
	for (int i = 0; i < EVALUATORS && !*evaluator; i++)
		if (!brain->evaluators[i].busy)
			*evaluator = &brain->evaluators[i];
	if (*evaluator)
		(*evaluator)->busy = true;
	pthread_mutex_unlock(&brain->snapshot_lock);
	return snapshot;
}

static void snapshot_give(
	struct brain *brain, struct snapshot *snapshot, struct evaluator *evaluator)
{
	pthread_mutex_lock(&brain->snapshot_lock);
	snapshot->readers--;
	if (evaluator)
		evaluator->busy = false;
	pthread_mutex_unlock(&brain->snapshot_lock);
}

static bool evaluator_ready(struct evaluator *evaluator, const struct network *network)
{
	return evaluator &&
	       (evaluator->workspace.memory || network_workspace_create(&evaluator->workspace,
						       network, EVALUATE_ROWS) == 0);
}

void brain_evaluate(struct brain *brain, const float *states, uint32_t rows, float *q)
{
	struct evaluator *evaluator;
	struct snapshot *snapshot = snapshot_take(brain, &evaluator);
	const struct network *network = &snapshot->network;
	uint32_t inputs = network->shape.inputs, actions = network->shape.actions, row = 0;
	float scratch[SCRATCH_FLOATS];

	while (rows - row >= EVALUATE_ROWS_LEAST && evaluator_ready(evaluator, network)) {
		uint32_t pass = rows - row < EVALUATE_ROWS ? rows - row : EVALUATE_ROWS;

		network_forward(network, &evaluator->workspace, states + (size_t)row * inputs, pass,
			q + (size_t)row * actions);
		row += pass;
	}
	for (; row < rows; row++)
		network_forward_one(
			network, states + (size_t)row * inputs, scratch, q + (size_t)row * actions);
	snapshot_give(brain, snapshot, evaluator);
}

/* Into a snapshot that nobody reads; when there is none, the newest stays a little longer. */
static void snapshot_publish(struct brain *brain)
{
	struct snapshot *free_one = NULL;

	pthread_mutex_lock(&brain->snapshot_lock);
	for (int i = 0; i < SNAPSHOTS; i++)
		if (&brain->snapshots[i] != brain->newest && brain->snapshots[i].readers == 0)
			free_one = &brain->snapshots[i];
	pthread_mutex_unlock(&brain->snapshot_lock);
	if (!free_one)
		return;
	/* Only the newest gets new readers, so this one stays free. */
	(void)network_copy(&free_one->network, &brain->trainer.online);
	pthread_mutex_lock(&brain->snapshot_lock);
	brain->newest = free_one;
	pthread_mutex_unlock(&brain->snapshot_lock);
}

static int step(struct brain *brain)
{
	struct train_stats stats;
	int err;

	pthread_mutex_lock(&brain->replay_lock);
	err = trainer_sample(&brain->trainer, &brain->replay);
	pthread_mutex_unlock(&brain->replay_lock);
	if (err)
		return err;
	err = trainer_learn(&brain->trainer, &stats);
	if (err)
		return err;
	brain->last = stats;
	pthread_mutex_lock(&brain->replay_lock);
	trainer_feed_back(&brain->trainer, &brain->replay);
	pthread_mutex_unlock(&brain->replay_lock);
	return 0;
}

uint32_t brain_train_due(struct brain *brain, double elapsed_s)
{
	double most = brain->options.updates_per_s_max * elapsed_s + 1;
	uint32_t due, done = 0;

	pthread_mutex_lock(&brain->replay_lock);
	/* What cannot be caught up within a second is let go, so that a burst does not last. */
	if (brain->owed > brain->options.updates_per_s_max)
		brain->owed = brain->options.updates_per_s_max;
	due = (uint32_t)(brain->owed < most ? brain->owed : most);
	brain->owed -= due;
	pthread_mutex_unlock(&brain->replay_lock);
	pthread_mutex_lock(&brain->trainer_lock);
	while (done < due) {
		int err = step(brain);

		if (err && err != -ERANGE)
			break;
		done++;
		if (done % SNAPSHOT_STEPS == 0)
			snapshot_publish(brain);
	}
	if (done)
		snapshot_publish(brain);
	pthread_mutex_unlock(&brain->trainer_lock);
	return done;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void brain_train(struct brain *const *brains, size_t count, const atomic_bool *stop)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000000L};
	double last = seconds();

	while (!atomic_load(stop)) {
		double now = seconds();

		for (size_t i = 0; i < count; i++)
			(void)brain_train_due(brains[i], now - last);
		last = now;
		nanosleep(&pause, NULL);
	}
}

void brain_read_status(struct brain *brain, struct brain_status *status)
{
	pthread_mutex_lock(&brain->trainer_lock);
	status->steps = brain->trainer.steps;
	status->divergences = brain->trainer.divergences;
	status->last = brain->last;
	pthread_mutex_unlock(&brain->trainer_lock);
	pthread_mutex_lock(&brain->replay_lock);
	status->stored = brain->replay.pushed;
	status->held = brain->replay.size;
	status->replay_bytes = brain->replay.bytes;
	pthread_mutex_unlock(&brain->replay_lock);
}

int brain_copy_weights(struct brain *brain, float **weights, size_t *count, uint64_t *steps)
{
	int err = 0;

	pthread_mutex_lock(&brain->trainer_lock);
	*count = brain->trainer.online.layout.count;
	*steps = brain->trainer.steps;
	*weights = malloc(*count * sizeof(float));
	if (*weights)
		memcpy(*weights, brain->trainer.online.parameters, *count * sizeof(float));
	else
		err = -ENOMEM;
	pthread_mutex_unlock(&brain->trainer_lock);
	return err;
}

int brain_adopt_weights(struct brain *brain, const float *weights, size_t count)
{
	int err = 0;

	pthread_mutex_lock(&brain->trainer_lock);
	if (count != brain->trainer.online.layout.count)
		err = -EINVAL;
	if (!err) {
		memcpy(brain->trainer.online.parameters, weights, count * sizeof(float));
		if (!network_is_finite(&brain->trainer.online))
			err = -EDOM;
	}
	if (err)
		(void)network_copy(&brain->trainer.online, &brain->trainer.good);
	else
		trainer_adopt_online(&brain->trainer);
	if (!err)
		snapshot_publish(brain);
	pthread_mutex_unlock(&brain->trainer_lock);
	return err;
}
