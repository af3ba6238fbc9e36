// SPDX-License-Identifier: Apache-2.0
/* Where the network would take the limits, beside those in force, held against where it does take them. */
#include "learner/advice.h"
#include "learner/pretraining/pretrain_room.h"
#include "learner/pretraining/pretrained.h"
#include "unit/brain_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLDS 40
#define TICKS  600

struct fixture {
	struct policy_config config;
	struct random_state random;
	struct policy_context context;
	struct room room;
	struct actor *actor;
	struct plan declared;
};

/* The program's own network. */
static int setup(void **state)
{
	const struct network_shape shape = pretrain_shape(PRETRAIN_VERTICAL);
	struct fixture *f = calloc(1, sizeof(*f));
	struct network network;
	char error[256] = "";

	if (!f || pretrained_network(NULL, "vertical", &shape, &network, error, sizeof(error)))
		return -1;
	*state = f;
	f->context = (struct policy_context){.config = &f->config,
		.random = &f->random,
		.vertical = brain("vertical", ACTION_VERTICAL)};
	policy_config_init(&f->config);
	f->config.explore_start = f->config.explore_end = 0;
	assert_int_equal(
		brain_adopt_weights(f->context.vertical, network.parameters, network.layout.count),
		0);
	network_destroy(&network);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	room_free(&f->room);
	brain_close(f->context.vertical);
	free(f);
	return 0;
}

/* A world without a reflex; the same again for the same number. */
static void world_begin(struct fixture *f, uint64_t number)
{
	room_free(&f->room);
	random_seed(&f->random, 1);
	assert_int_equal(room_make(&f->room, 1, TICKS + 10, false, 1000 + number), 0);
	f->actor = &f->room.actors[0];
	assert_int_equal(
		actor_begin(&f->room, f->actor, brain_train_config(f->context.vertical), 0.01), 0);
	f->actor->episode.config.reflex = false;
	f->declared =
		(struct plan){.cpu_millicores = f->actor->episode.config.cpu_declared_millicores,
			.memory_bytes = f->actor->episode.config.memory_declared_bytes};
}

/* A tick that is decided on and carried out. */
static double apply(struct fixture *f)
{
	actor_tick(f->actor);
	episode_decide(&f->actor->episode, &f->context, NULL);
	return f->actor->episode.plan.cpu_millicores;
}

/* A tick on the owner's limits, as in mode recommend. */
static const struct plan *recommend(struct fixture *f)
{
	struct episode *episode = &f->actor->episode;
	struct envelope_unit bounds;

	episode->plan = f->declared;
	actor_tick(f->actor);
	episode_decide(episode, &f->context, NULL);
	bounds = policy_bounds(episode->unit, &episode->sample, episode->state, false);
	return advice_move(&f->context, episode->unit, &bounds);
}

static int by_value(const void *a, const void *b)
{
	double one = *(const double *)a, two = *(const double *)b;

	return (one > two) - (one < two);
}

/* Of the second half of a world's ticks; mode auto with and without a reflex, or recommend. */
static double mean_limit(struct fixture *f, int world, bool applied, bool reflex)
{
	double sum = 0;

	world_begin(f, (uint64_t)world);
	f->actor->episode.config.reflex = reflex;
	for (int t = 0; t < TICKS; t++) {
		double limit = applied ? apply(f) : recommend(f)->cpu_millicores;

		sum += t < TICKS / 2 ? 0 : limit;
	}
	return sum / (TICKS / 2);
}

static void test_it_ends_where_decisions_that_are_carried_out_end(void **state)
{
	struct fixture *f = *state;
	double ratios[WORLDS], steps[WORLDS], reflexes[WORLDS];

	for (int w = 0; w < WORLDS; w++) {
		double applied = mean_limit(f, w, true, false);
		double advised = mean_limit(f, w, false, false);

		ratios[w] = advised / applied;
		steps[w] = 0.7 * f->declared.cpu_millicores / applied;
		reflexes[w] = advised / mean_limit(f, w, true, true);
	}
	qsort(ratios, WORLDS, sizeof(double), by_value);
	qsort(steps, WORLDS, sizeof(double), by_value);
	qsort(reflexes, WORLDS, sizeof(double), by_value);
	printf("# CPU limit recommended over that of auto without a reflex, %d worlds: median %.2f, a "
	       "tenth under %.2f, a tenth over %.2f; with one: median %.1f; of one step from the "
	       "owner's: median %.1f\n",
		WORLDS, ratios[WORLDS / 2], ratios[WORLDS / 10], ratios[WORLDS - WORLDS / 10],
		reflexes[WORLDS / 2], steps[WORLDS / 2]);
	assert_true(ratios[WORLDS / 2] > 0.85 && ratios[WORLDS / 2] < 1.15);
	assert_true(ratios[WORLDS / 10] > 0.5 && ratios[WORLDS - WORLDS / 10] < 1.3);
	assert_true(steps[WORLDS / 2] > 1.5);
}

static void test_what_is_decided_and_in_force_stays_as_it_is(void **state)
{
	struct fixture *f = *state;
	const struct service_unit *unit;
	struct service_unit before;
	struct envelope_unit bounds;

	world_begin(f, 3);
	for (int t = 0; t < 20; t++)
		(void)recommend(f);
	unit = f->actor->episode.unit;
	before = *unit;
	bounds = policy_bounds(unit, &f->actor->episode.sample, f->actor->episode.state, false);
	assert_non_null(advice_move(&f->context, f->actor->episode.unit, &bounds));
	before.advice = unit->advice;
	assert_memory_equal(&before, unit, sizeof(before));
}

static void test_what_is_too_little_now_is_not_undercut(void **state)
{
	struct fixture *f = *state;
	struct episode *episode;
	struct envelope_unit bounds;
	const struct plan *shown;

	world_begin(f, 3);
	for (int t = 0; t < 60; t++)
		shown = recommend(f);
	assert_true(shown->cpu_millicores < 0.9 * f->declared.cpu_millicores);
	episode = &f->actor->episode;
	episode->sample.latency_objective_us = 4 * episode->config.objective.latency_target_us;
	episode->sample.requests_over = episode->sample.requests;
	episode->sample.throttled_us = (uint64_t)(1e9 * episode->sample.containers);
	bounds = policy_bounds(episode->unit, &episode->sample, episode->state, false);
	shown = advice_move(&f->context, episode->unit, &bounds);
	assert_true(shown->cpu_millicores >= sample_cpu_millicores(&episode->sample));
}

static void test_without_networks_or_in_a_freeze_there_is_none(void **state)
{
	struct fixture *f = *state;
	struct objective *objective;

	world_begin(f, 3);
	objective = &f->actor->episode.service->objective;
	assert_non_null(recommend(f));
	objective->frozen = true;
	assert_null(recommend(f));
	objective->frozen = false;
	snprintf(objective->policy, sizeof(objective->policy), "k8s-cpu");
	assert_null(recommend(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_it_ends_where_decisions_that_are_carried_out_end),
		TEST(test_what_is_decided_and_in_force_stays_as_it_is),
		TEST(test_what_is_too_little_now_is_not_undercut),
		TEST(test_without_networks_or_in_a_freeze_there_is_none),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
