// SPDX-License-Identifier: Apache-2.0
#include "learner/brain.h"

#include "common/log.h"
#include "learner/budget.h"

#include <errno.h>
#include <math.h>
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
/*
 * Steps of one slice, then decisions get a new snapshot (a copy of the weights costs about ten
 * microseconds) and whoever waits for the trainer gets a turn.
 */
#define SLICE_STEPS 16
/* How much of a second's steps may be done at once after a pause. */
#define BURST_S 0.1
/* The replay buffer's age is known to a part of its capacity. */
#define AGE_MARKS     64
#define RATE_PERIOD_S 2.0
/* The training thread's pause when nothing is due. */
#define IDLE_S 0.02

struct snapshot {
	struct network network;
	uint32_t readers;
};

struct evaluator {
	struct network_workspace workspace;
	bool busy;
};

/* When the transition number @pushed came. */
struct age_mark {
	uint64_t pushed;
	double time_s;
};

struct brain {
	struct brain_options options;
	pthread_mutex_t replay_lock; /* replay, owed, allowed, marks */
	struct replay replay;
	double owed;	/* gradient steps not yet done */
	double allowed; /* of these, within the bound by now */
	struct age_mark marks[AGE_MARKS];
	uint32_t mark_next;
	pthread_mutex_t trainer_lock; /* all down to publish_due */
	struct trainer trainer;
	uint64_t sound_steps; /* since the last divergence */
	bool trusted;	      /* the first weights came from a checkpoint */
	bool publish_due;
	atomic_int health;
	atomic_bool suspect; /* an evaluation saw a value out of range */
	pthread_mutex_t status_lock;
	struct brain_status status;    /* what training says of itself */
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
	pthread_mutex_init(&brain->status_lock, NULL);
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

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void mark_age(struct brain *brain)
{
	uint64_t pushed = brain->replay.pushed;
	const struct age_mark *last = &brain->marks[(brain->mark_next + AGE_MARKS - 1) % AGE_MARKS];

	if (last->pushed && pushed - last->pushed < brain->options.capacity / (AGE_MARKS - 1) + 1)
		return;
	brain->marks[brain->mark_next] = (struct age_mark){.pushed = pushed, .time_s = seconds()};
	brain->mark_next = (brain->mark_next + 1) % AGE_MARKS;
}

/* Age of the oldest transition held: the newest mark that is not younger than it. */
static double oldest_age_s(const struct brain *brain)
{
	uint64_t oldest = brain->replay.pushed - brain->replay.size + 1;
	double time_s = 0;

	if (brain->replay.size == 0)
		return 0;
	for (uint32_t i = 0; i < AGE_MARKS; i++) {
		const struct age_mark *mark = &brain->marks[(brain->mark_next + i) % AGE_MARKS];

		/* The first mark there is may be a little younger than the oldest. */
		if (mark->pushed && (mark->pushed <= oldest || time_s <= 0))
			time_s = mark->time_s;
	}
	return seconds() - time_s;
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
	mark_age(brain);
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
	memset(brain->marks, 0, sizeof(brain->marks));
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

/* Zero times anything finite is zero, times the rest NaN; a comparison with NaN is false. */
static bool all_within(const float *q, size_t count, float bound)
{
	float most = 0, sum = 0;

	for (size_t i = 0; i < count; i++) {
		float size = fabsf(q[i]);

		most = size > most ? size : most;
		sum += q[i] * 0;
	}
	return sum == 0 && most <= bound;
}

int brain_evaluate(struct brain *brain, const float *states, uint32_t rows, float *q)
{
	struct evaluator *evaluator;
	struct snapshot *snapshot;
	const struct network *network;
	uint32_t inputs = brain->options.inputs, actions = brain->options.actions, row = 0;
	float scratch[SCRATCH_FLOATS];

	if (brain_health(brain) == BRAIN_UNUSABLE)
		return -ERANGE;
	snapshot = snapshot_take(brain, &evaluator);
	network = &snapshot->network;
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
	if (all_within(q, (size_t)rows * actions, brain->options.train.q_bound))
		return 0;
	atomic_store(&brain->suspect, true);
	return -ERANGE;
}

enum brain_health brain_health(const struct brain *brain)
{
	return (enum brain_health)atomic_load(&brain->health);
}

/* Into a snapshot that nobody reads; when there is none, it stays due. */
static void snapshot_publish(struct brain *brain)
{
	struct snapshot *free_one = NULL;

	pthread_mutex_lock(&brain->snapshot_lock);
	for (int i = 0; i < SNAPSHOTS; i++)
		if (&brain->snapshots[i] != brain->newest && brain->snapshots[i].readers == 0)
			free_one = &brain->snapshots[i];
	pthread_mutex_unlock(&brain->snapshot_lock);
	brain->publish_due = !free_one;
	if (!free_one)
		return;
	/* Only the newest gets new readers, so this one stays free. */
	(void)network_copy(&free_one->network, &brain->trainer.online);
	pthread_mutex_lock(&brain->snapshot_lock);
	brain->newest = free_one;
	pthread_mutex_unlock(&brain->snapshot_lock);
}

/* The trainer has fallen back: what decisions read from now on are the weights that it fell to. */
static void divergence_note(struct brain *brain)
{
	bool good = brain->trusted || brain->trainer.good_steps > 0;

	brain->sound_steps = 0;
	atomic_store(&brain->health, good ? BRAIN_FELL_BACK : BRAIN_UNUSABLE);
	brain->publish_due = true;
}

static int step(struct brain *brain, struct train_stats *stats)
{
	int err;

	pthread_mutex_lock(&brain->replay_lock);
	err = trainer_sample(&brain->trainer, &brain->replay);
	pthread_mutex_unlock(&brain->replay_lock);
	if (err)
		return err;
	err = trainer_learn(&brain->trainer, stats);
	if (err)
		return err;
	pthread_mutex_lock(&brain->replay_lock);
	trainer_feed_back(&brain->trainer, &brain->replay);
	pthread_mutex_unlock(&brain->replay_lock);
	return 0;
}

/* Steps of the next slice; they count as done. */
static uint32_t slice_take(struct brain *brain)
{
	double due;

	pthread_mutex_lock(&brain->replay_lock);
	due = brain->owed < brain->allowed ? brain->owed : brain->allowed;
	due = due < SLICE_STEPS ? floor(due) : SLICE_STEPS;
	brain->owed -= due;
	brain->allowed -= due;
	pthread_mutex_unlock(&brain->replay_lock);
	return (uint32_t)due;
}

static uint32_t slice_steps(struct brain *brain, uint32_t due, struct train_stats *stats)
{
	uint32_t done = 0;

	while (done < due) {
		int err = step(brain, stats);

		if (err && err != -ERANGE)
			break;
		done++;
		if (err) {
			divergence_note(brain);
			break;
		}
		brain->sound_steps++;
	}
	return done;
}

/* At most SLICE_STEPS gradient steps; how many were done. */
static uint32_t train_slice(struct brain *brain)
{
	uint32_t due = slice_take(brain), done;
	struct train_stats stats = brain->status.last;

	pthread_mutex_lock(&brain->trainer_lock);
	if (atomic_exchange(&brain->suspect, false)) {
		trainer_fall_back(&brain->trainer);
		divergence_note(brain);
	}
	done = slice_steps(brain, due, &stats);
	if (brain->sound_steps >= brain->options.train.good_period)
		atomic_store(&brain->health, BRAIN_SOUND);
	if (brain->publish_due || (done && brain_health(brain) == BRAIN_SOUND))
		snapshot_publish(brain);
	pthread_mutex_lock(&brain->status_lock);
	brain->status.steps = brain->trainer.steps;
	brain->status.divergences = brain->trainer.divergences;
	brain->status.last = stats;
	pthread_mutex_unlock(&brain->status_lock);
	pthread_mutex_unlock(&brain->trainer_lock);
	return done;
}

static void train_allow(struct brain *brain, double elapsed_s)
{
	double rate = brain->options.updates_per_s_max, burst = rate * BURST_S + 1;

	pthread_mutex_lock(&brain->replay_lock);
	brain->allowed += rate * elapsed_s;
	if (brain->allowed > burst)
		brain->allowed = burst;
	/* What cannot be caught up within a second is let go, so that a burst does not last. */
	if (brain->owed > rate)
		brain->owed = rate;
	pthread_mutex_unlock(&brain->replay_lock);
}

uint32_t brain_train_due(struct brain *brain, double elapsed_s)
{
	uint32_t done = 0, slice;

	train_allow(brain, elapsed_s);
	while ((slice = train_slice(brain)) > 0)
		done += slice;
	return done;
}

static double thread_cpu_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What the training thread remembers of one brain. */
struct watched {
	double rate_since_s;
	uint64_t rate_steps;
	enum brain_health health;
};

static void health_log(const struct brain *brain, enum brain_health health)
{
	static const char *const effects[] = {
		[BRAIN_SOUND] = "decisions follow the training again",
		[BRAIN_FELL_BACK] = "decisions follow the last good weights",
		[BRAIN_UNUSABLE] = "no good weights yet: decisions follow the k8s-cpu rule",
	};

	if (health == BRAIN_SOUND)
		log_notice("network=%s event=sound effect=\"%s\"", brain->options.name,
			effects[health]);
	else
		log_err("network=%s event=diverged divergences=%llu loss=%g q_min=%g q_max=%g "
			"q_bound=%g effect=\"%s\"",
			brain->options.name, (unsigned long long)brain->status.divergences,
			brain->status.last.loss, brain->status.last.q_min, brain->status.last.q_max,
			(double)brain->options.train.q_bound, effects[health]);
}

static void brain_watch(struct brain *brain, struct watched *watched, double now_s, double cpu_s)
{
	enum brain_health health = brain_health(brain);

	pthread_mutex_lock(&brain->status_lock);
	brain->status.train_cpu_s += cpu_s;
	if (now_s - watched->rate_since_s >= RATE_PERIOD_S) {
		brain->status.steps_per_s = (double)(brain->status.steps - watched->rate_steps) /
					    (now_s - watched->rate_since_s);
		watched->rate_since_s = now_s;
		watched->rate_steps = brain->status.steps;
	}
	pthread_mutex_unlock(&brain->status_lock);
	if (health != watched->health)
		health_log(brain, health);
	watched->health = health;
}

static void rest(double rest_s, const atomic_bool *stop)
{
	while (rest_s > 0 && !atomic_load(stop)) {
		double piece = rest_s < 0.1 ? rest_s : 0.1;
		struct timespec pause = {.tv_nsec = (long)(piece * 1e9)};

		nanosleep(&pause, NULL);
		rest_s -= piece;
	}
}

void brain_train(struct brain *const *brains, size_t count, double share, const atomic_bool *stop)
{
	struct watched watched[BRAIN_TRAIN_MAX] = {0};
	struct budget budget;
	double last_s = seconds();

	budget_init(&budget, share);
	while (!atomic_load(stop)) {
		double now_s = seconds(), begin_s = thread_cpu_s(), cpu_s = begin_s, pause_s;
		uint32_t done = 0;

		for (size_t i = 0; i < count && i < BRAIN_TRAIN_MAX; i++) {
			double before_s = cpu_s;

			train_allow(brains[i], now_s - last_s);
			done += train_slice(brains[i]);
			cpu_s = thread_cpu_s();
			brain_watch(brains[i], &watched[i], now_s, cpu_s - before_s);
		}
		pause_s = budget_spend(&budget, now_s - last_s, cpu_s - begin_s);
		last_s = now_s;
		if (!done && pause_s < IDLE_S)
			pause_s = IDLE_S;
		rest(pause_s, stop);
	}
}

void brain_read_status(struct brain *brain, struct brain_status *status)
{
	pthread_mutex_lock(&brain->status_lock);
	*status = brain->status;
	pthread_mutex_unlock(&brain->status_lock);
	status->health = brain_health(brain);
	pthread_mutex_lock(&brain->replay_lock);
	status->stored = brain->replay.pushed;
	status->held = brain->replay.size;
	status->age_s = oldest_age_s(brain);
	status->replay_bytes = brain->replay.bytes;
	pthread_mutex_unlock(&brain->replay_lock);
}

int brain_copy_weights(struct brain *brain, float **weights, size_t *count, uint64_t *steps)
{
	const struct network *from = &brain->trainer.online;
	int err = 0;

	pthread_mutex_lock(&brain->trainer_lock);
	/* What is kept must not be the divergence that decisions were spared. */
	if (brain_health(brain) == BRAIN_FELL_BACK)
		from = &brain->trainer.good;
	else if (brain_health(brain) == BRAIN_UNUSABLE)
		err = -ENODATA;
	*count = from->layout.count;
	*steps = brain->trainer.steps;
	*weights = err ? NULL : malloc(*count * sizeof(float));
	if (*weights)
		memcpy(*weights, from->parameters, *count * sizeof(float));
	else if (!err)
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
	if (!err) {
		brain->trusted = true;
		brain->sound_steps = 0;
		atomic_store(&brain->health, BRAIN_SOUND);
		snapshot_publish(brain);
	}
	pthread_mutex_unlock(&brain->trainer_lock);
	return err;
}

int brain_anchor(struct brain *brain, const float *weights, size_t count)
{
	int err = -EINVAL;

	pthread_mutex_lock(&brain->trainer_lock);
	if (count == brain->trainer.online.layout.count)
		err = trainer_anchor(&brain->trainer, weights);
	pthread_mutex_unlock(&brain->trainer_lock);
	pthread_mutex_lock(&brain->status_lock);
	brain->status.anchored = brain->options.train.anchor > 0 && !err;
	pthread_mutex_unlock(&brain->status_lock);
	return err;
}
