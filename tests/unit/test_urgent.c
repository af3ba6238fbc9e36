// SPDX-License-Identifier: Apache-2.0
/* Decisions between two reports: what an operator's change and another node's trouble send. */
#include "learner/learner.h"

#include "unit/brain_fixture.h"
#include "wire.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NODES 3
#define MIB   (1ULL << 20)

struct fixture {
	struct learner learner;
	struct service *service;
	struct service_unit *units[NODES];
};

static const char *const nodes[NODES] = {"node-0", "node-1", "node-2"};

/* Each node has a unit on 500m of 1000m; all nodes but the last poll. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct objective *objective;
	struct answer none;

	if (!f)
		return -1;
	*state = f;
	pthread_mutex_init(&f->learner.lock, NULL);
	push_init(&f->learner.push, 17);
	policy_config_init(&f->learner.config.policy);
	f->learner.config.policy.explore_start = f->learner.config.policy.explore_end = 0;
	f->learner.vertical = brain("vertical", ACTION_VERTICAL);
	f->learner.horizontal = brain("horizontal", ACTION_HORIZONTAL);
	random_seed(&f->learner.random, 1);
	f->service = services_get(&f->learner.services, "default", "fibonacci");
	assert_non_null(f->service);
	f->service->has_objective = true;
	objective = &f->service->objective;
	objective->mode = OBJECTIVE_AUTO;
	objective->latency_target_us = 50000;
	objective->cpu_min_millicores = 50;
	objective->cpu_max_millicores = 1000;
	objective->memory_min_bytes = 24 * MIB;
	objective->memory_max_bytes = 128 * MIB;
	for (int i = 0; i < NODES; i++) {
		struct service_unit *unit = service_get_unit(
			f->service, nodes[i], brain_train_config(f->learner.vertical));

		assert_non_null(unit);
		f->units[i] = unit;
		unit->cpu_declared_millicores = 1000;
		unit->memory_declared_bytes = 128 * MIB;
		unit->sample = (struct sample){.tick_s = 1,
			.requests = 100,
			.containers = 1,
			.cpu_limit_millicores = 500,
			.memory_limit_bytes = 100 * MIB,
			.memory_used_bytes = 30 * MIB};
		unit->plan.cpu_millicores = 500;
		unit->plan.memory_bytes = 100 * MIB;
		if (i < NODES - 1)
			assert_int_equal(
				push_poll(&f->learner.push, nodes[i], 17, 0, 1, NULL, &none), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->learner.services);
	sequences_free(&f->learner.sequences);
	push_free(&f->learner.push);
	brain_close(f->learner.vertical);
	brain_close(f->learner.horizontal);
	free(f);
	return 0;
}

/* The one action that waits for @node; NULL: none. The caller frees the answer. */
static const Ebbtide__Wire__Action *pushed(
	struct fixture *f, int node, Ebbtide__Wire__Answer **answer)
{
	struct answer packed;
	uint8_t *bytes;
	size_t size;

	*answer = NULL;
	if (push_poll(&f->learner.push, nodes[node], 17, 0, 1, NULL, &packed) != 1)
		return NULL;
	assert_int_equal(answer_end(&packed, &bytes, &size), 0);
	*answer = ebbtide__wire__answer__unpack(NULL, size, bytes);
	free(bytes);
	assert_non_null(*answer);
	assert_int_equal((*answer)->n_actions, 1);
	assert_string_equal((*answer)->actions[0]->service, "fibonacci");
	/* Nothing to learn from. */
	assert_int_equal((*answer)->actions[0]->action, POLICY_NO_ACTION);
	return (*answer)->actions[0];
}

static void assert_pushed(struct fixture *f, int node, double millicores, const char *rule)
{
	Ebbtide__Wire__Answer *answer;
	const Ebbtide__Wire__Action *action = pushed(f, node, &answer);

	assert_non_null(action);
	assert_true(action->apply);
	assert_true(action->cpu_limit_millicores == millicores);
	assert_string_equal(action->rule, rule);
	assert_true(action->why[0] != '\0');
	assert_true(f->units[node]->plan.cpu_millicores == millicores);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void assert_not_pushed(struct fixture *f, int node)
{
	Ebbtide__Wire__Answer *answer;

	assert_null(pushed(f, node, &answer));
}

static void change(struct fixture *f, const struct objective *before)
{
	urgent_objective(&f->learner, f->service, before);
}

static void test_narrower_bounds_reach_agents_that_poll_at_once(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;

	f->service->objective.cpu_max_millicores = 300;
	change(f, &before);
	assert_pushed(f, 0, 300, "bounds");
	assert_pushed(f, 1, 300, "bounds");
	/* It will hear of it in its next answer. */
	assert_true(f->units[2]->plan.cpu_millicores == 500);
	assert_int_equal(f->service->counts.interventions[RULE_BOUNDS], 2);
}

static void test_narrower_bounds_reach_a_reservation_as_a_request(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;
	const Ebbtide__Wire__Action *action;
	Ebbtide__Wire__Answer *answer;

	f->units[0]->cpu_declared_millicores = 0;
	f->units[0]->sample.cpu_limit_millicores = 0;
	f->units[0]->sample.cpu_reserved_millicores = 500;
	f->service->objective.cpu_max_millicores = 300;
	change(f, &before);
	action = pushed(f, 0, &answer);
	assert_non_null(action);
	assert_true(action->cpu_request_millicores == 300 && action->cpu_limit_millicores == 0);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	assert_pushed(f, 1, 300, "bounds");
}

static void test_a_change_that_moves_no_limit_is_not_sent(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;

	f->service->objective.cpu_max_millicores = 900;
	f->service->objective.latency_target_us = 20000;
	change(f, &before);
	assert_not_pushed(f, 0);
}

static void test_a_freeze_is_said_and_its_end_too(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;

	f->service->objective.frozen = true;
	/* Even bounds wait for the end of a freeze. */
	f->service->objective.cpu_max_millicores = 300;
	change(f, &before);
	assert_pushed(f, 0, 500, "frozen");
	before = f->service->objective;
	f->service->objective.frozen = false;
	change(f, &before);
	assert_pushed(f, 0, 300, "bounds");
}

static void test_modes_say_whether_it_is_carried_out(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;
	Ebbtide__Wire__Answer *answer;
	const Ebbtide__Wire__Action *action;

	f->service->objective.mode = OBJECTIVE_RECOMMEND;
	change(f, &before);
	action = pushed(f, 0, &answer);
	assert_non_null(action);
	assert_false(action->apply);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	before = f->service->objective;
	f->service->objective.mode = OBJECTIVE_OBSERVE;
	f->service->objective.cpu_max_millicores = 100;
	change(f, &before);
	/* The last one still waits; nothing new was decided. */
	assert_int_equal(f->learner.push.pushed, 2);
}

/* What was recommended was never in force: the unit's own limit is what bounds apply to. */
static void test_what_was_only_recommended_is_not_in_force(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;

	before.mode = OBJECTIVE_RECOMMEND;
	f->units[0]->plan.cpu_millicores = 100;
	change(f, &before);
	assert_pushed(f, 0, 500, "");
}

static void test_a_break_elsewhere_takes_cuts_on_probation_back(void **state)
{
	struct fixture *f = *state;

	f->units[0]->cut_from = 600;
	f->units[0]->cut_remaining = 2;
	urgent_broken(&f->learner, f->units[1], 100);
	assert_pushed(f, 0, 600, "revert");
	assert_int_equal(f->units[0]->cut_remaining, 0);
	/* Its own is the policy's business. */
	assert_not_pushed(f, 1);
}

static void test_old_cuts_and_frozen_limits_stay(void **state)
{
	struct fixture *f = *state;

	f->units[0]->cut_from = 600;
	urgent_broken(&f->learner, f->units[1], 100);
	assert_not_pushed(f, 0);
	f->units[0]->cut_remaining = 2;
	f->service->objective.frozen = true;
	urgent_broken(&f->learner, f->units[1], 200);
	assert_not_pushed(f, 0);
	f->service->objective.frozen = false;
	f->service->objective.mode = OBJECTIVE_RECOMMEND;
	urgent_broken(&f->learner, f->units[1], 300);
	assert_not_pushed(f, 0);
}

static void test_a_service_that_breaks_often_is_looked_at_once_a_second(void **state)
{
	struct fixture *f = *state;

	urgent_broken(&f->learner, f->units[1], 100);
	f->units[0]->cut_from = 600;
	f->units[0]->cut_remaining = 2;
	urgent_broken(&f->learner, f->units[1], 100.9);
	assert_not_pushed(f, 0);
	urgent_broken(&f->learner, f->units[1], 101);
	assert_pushed(f, 0, 600, "revert");
}

/* --- the same through a report --- */

static size_t report(struct fixture *f, int node, uint64_t sequence, uint64_t over)
{
	Ebbtide__Wire__Report report = EBBTIDE__WIRE__REPORT__INIT;
	Ebbtide__Wire__Unit unit = EBBTIDE__WIRE__UNIT__INIT, *list[1] = {&unit};
	Ebbtide__Wire__Sample sample = EBBTIDE__WIRE__SAMPLE__INIT;
	Ebbtide__Wire__Answer *answer;
	float features[STATE_SIZE] = {0};
	uint8_t bytes[1024], *packed;
	size_t size, actions;
	char error[256];

	sample.tick_s = 1;
	sample.requests = 100;
	sample.requests_over = over;
	sample.containers = 1;
	sample.cpu_limit_millicores = 500;
	sample.memory_limit_bytes = 100 * MIB;
	unit.namespace_ = (char *)"default";
	unit.service = (char *)"fibonacci";
	unit.sample = &sample;
	unit.n_state = STATE_SIZE;
	unit.state = features;
	unit.decide = true;
	unit.cpu_declared_millicores = 1000;
	unit.memory_declared_bytes = 128 * MIB;
	report.schema = STATE_SCHEMA;
	report.agent = (char *)nodes[node];
	report.incarnation = 1;
	report.sequence = sequence;
	report.n_units = 1;
	report.units = list;
	size = ebbtide__wire__report__pack(&report, bytes);
	assert_int_equal(
		report_handle(&f->learner, bytes, size, &packed, &size, error, sizeof(error)), 0);
	answer = ebbtide__wire__answer__unpack(NULL, size, packed);
	free(packed);
	assert_non_null(answer);
	assert_int_equal(answer->learner, 17);
	assert_true(answer->number > 0);
	actions = answer->n_actions;
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	return actions;
}

static void test_the_tick_in_which_an_objective_breaks_sends_it(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(report(f, 1, 1, 0), 1);
	f->units[0]->cut_from = 600;
	f->units[0]->cut_remaining = 3;
	assert_int_equal(report(f, 1, 2, 0), 1);
	assert_not_pushed(f, 0);
	assert_int_equal(report(f, 1, 3, 50), 1);
	assert_pushed(f, 0, 600, "revert");
	/* Still broken: it was said. */
	f->units[0]->cut_from = 700;
	f->units[0]->cut_remaining = 3;
	f->service->urgent_s = 0;
	assert_int_equal(report(f, 1, 4, 50), 1);
	assert_true(f->units[0]->plan.cpu_millicores == 600);
}

static void test_an_answer_to_its_report_makes_a_push_void(void **state)
{
	struct fixture *f = *state;
	struct objective before = f->service->objective;

	f->service->objective.cpu_max_millicores = 300;
	change(f, &before);
	assert_int_equal(report(f, 0, 1, 0), 1);
	assert_not_pushed(f, 0);
	assert_pushed(f, 1, 300, "bounds");
}

static void test_replicas_that_lack_room_do_not_wait_for_the_scale_period(void **state)
{
	struct fixture *f = *state;
	struct service *service = f->service;

	f->learner.config.scale_period_s = 60;
	service->objective.replicas_max = 5;
	service->has_deployment = true;
	service->replicas = service->ready = 3;
	for (int i = 0; i < NODES; i++)
		f->units[i]->updated_s = 100;
	service->period.tick_s = 1;
	service->decided_s = 100;
	/* Of 3 x 1000 the load is to use 1500. */
	for (int i = 0; i < NODES; i++)
		f->units[i]->busy.peak_millicores = 490;
	scale_decide(&f->learner, 105);
	assert_int_equal(service->wanted, 0);
	for (int i = 0; i < NODES; i++)
		f->units[i]->busy.peak_millicores = 510;
	scale_decide(&f->learner, 105.1);
	assert_int_equal(service->wanted, 0);
	scale_decide(&f->learner, 105.5);
	assert_int_equal(service->wanted, 4);
	/* It is on its way. */
	service->wanted = 0;
	service->replicas = 4;
	service->period.tick_s = 1;
	for (int i = 0; i < NODES; i++)
		f->units[i]->busy.peak_millicores = 1000;
	scale_decide(&f->learner, 108);
	assert_int_equal(service->wanted, 0);
	service->ready = 4;
	scale_decide(&f->learner, 110);
	assert_int_equal(service->wanted, 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_narrower_bounds_reach_agents_that_poll_at_once),
		TEST(test_narrower_bounds_reach_a_reservation_as_a_request),
		TEST(test_a_change_that_moves_no_limit_is_not_sent),
		TEST(test_a_freeze_is_said_and_its_end_too),
		TEST(test_modes_say_whether_it_is_carried_out),
		TEST(test_what_was_only_recommended_is_not_in_force),
		TEST(test_a_break_elsewhere_takes_cuts_on_probation_back),
		TEST(test_old_cuts_and_frozen_limits_stay),
		TEST(test_a_service_that_breaks_often_is_looked_at_once_a_second),
		TEST(test_the_tick_in_which_an_objective_breaks_sends_it),
		TEST(test_an_answer_to_its_report_makes_a_push_void),
		TEST(test_replicas_that_lack_room_do_not_wait_for_the_scale_period),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
