// SPDX-License-Identifier: Apache-2.0
/* What the API says of services and what is decided on their replicas, on a learner without threads. */
#include "unit/learner_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct learner learner;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	learner_make(&f->learner);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	learner_unmake(&f->learner);
	free(f);
	return 0;
}

static void objective(struct fixture *f, enum kube_event event, const char *name,
	const char *service, const char *policy, int least, int most)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s}, s:{s:s}, s:s, s:{s:{s:i, s:i}}}}",
		"metadata", "namespace", "default", "name", name, "spec", "targetRef", "name",
		service, "latency", "target", "50ms", "policy", policy, "bounds", "replicas", "min",
		least, "max", most);

	assert_non_null(object);
	scale_objective(&f->learner, event, object);
	json_decref(object);
}

static void deployment(struct fixture *f, enum kube_event event, const char *name, int replicas)
{
	json_t *object = json_pack("{s:{s:s, s:s, s:s}, s:{s:i}, s:{s:i}}", "metadata", "namespace",
		"default", "name", name, "uid", "u-1", "spec", "replicas", replicas, "status",
		"readyReplicas", replicas);

	assert_non_null(object);
	scale_deployment(&f->learner, event, object);
	json_decref(object);
}

static struct service *service(struct fixture *f, const char *name)
{
	return services_find(&f->learner.services, "default", name);
}

/* A tick of a unit that ended at @now_s, as a report brings it. */
static void tick(
	struct fixture *f, const char *name, const char *node, double now_s, struct sample sample)
{
	struct service *found = services_get(&f->learner.services, "default", name);
	struct service_unit *unit =
		service_get_unit(found, node, brain_train_config(f->learner.vertical));

	assert_non_null(unit);
	unit->updated_s = now_s;
	unit->sample = sample;
	unit->cpu_declared_millicores = sample.containers ? 1000 : 0;
	service_note_tick(unit);
}

/* @millicores of each of @containers that may use 1000, 100 requests a second. */
static struct sample busy(double tick_s, uint32_t containers, double millicores)
{
	return (struct sample){.tick_s = tick_s,
		.requests = (uint64_t)(100 * tick_s),
		.cpu_used_us = (uint64_t)(millicores * containers * tick_s * 1000),
		.cpu_allocated_us = (uint64_t)(1000 * containers * tick_s * 1000),
		.containers = containers,
		.cpu_limit_millicores = 1000,
		.memory_limit_bytes = 100 << 20,
		.memory_working_set_bytes = (uint64_t)containers * (50 << 20)};
}

static void test_what_its_owner_scaled_to_none_stays_so(void **state)
{
	static const char *const policies[] = {"dqn", "hpa"};
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		objective(f, KUBE_EVENT_ADDED, "web", "web", policies[i], 2, 5);
		deployment(f, KUBE_EVENT_ADDED, "web", 0);
		service(f, "web")->decided_s = 100;
		/* Agents go on saying that there is nothing. */
		tick(f, "web", "one", 105, (struct sample){.tick_s = 1});
		scale_decide(&f->learner, 115);
		assert_int_equal(service(f, "web")->wanted, 0);
		assert_int_equal(service(f, "web")->recommended_replicas, 0);
	}
	/* And is decided on again when it has replicas. */
	objective(f, KUBE_EVENT_MODIFIED, "web", "web", "dqn", 2, 5);
	deployment(f, KUBE_EVENT_MODIFIED, "web", 1);
	tick(f, "web", "one", 120, busy(1, 1, 100));
	scale_decide(&f->learner, 130);
	assert_int_equal(service(f, "web")->wanted, 2);
}

static void test_replicas_outside_their_bounds_come_inside(void **state)
{
	static const int cases[][4] = {{1, 3, 9, 3}, {20, 3, 9, 9}, {2, 3, 9, 3}, {10, 3, 9, 9}};
	struct fixture *f = *state;

	for (int i = 0; i < 4; i++) {
		objective(f, KUBE_EVENT_MODIFIED, "web", "web", "dqn", cases[i][1], cases[i][2]);
		deployment(f, KUBE_EVENT_MODIFIED, "web", cases[i][0]);
		service(f, "web")->decided_s = 100 * i + 100;
		tick(f, "web", "one", 100 * i + 105, busy(1, (uint32_t)cases[i][0], 100));
		scale_decide(&f->learner, 100 * i + 110);
		assert_int_equal(service(f, "web")->wanted, cases[i][3]);
		assert_string_equal(service(f, "web")->last_rule, "bounds");
	}
	/* A freeze stands above it. */
	service(f, "web")->objective.frozen = true;
	deployment(f, KUBE_EVENT_MODIFIED, "web", 20);
	service(f, "web")->wanted = 0;
	tick(f, "web", "one", 505, busy(1, 20, 100));
	scale_decide(&f->learner, 520);
	assert_int_equal(service(f, "web")->wanted, 0);
}

static void mode(struct fixture *f, const char *mode)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s}, s:{s:s}, s:s, s:{s:{s:i}}}}",
		"metadata", "namespace", "default", "name", "web", "spec", "targetRef", "name",
		"web", "latency", "target", "50ms", "mode", mode, "bounds", "replicas", "min", 3);

	scale_objective(&f->learner, KUBE_EVENT_MODIFIED, object);
	json_decref(object);
}

/* Whether the status has a recommendation, of limits or replicas. */
static bool recommends(struct fixture *f)
{
	json_t *status = status_describe(&f->learner, service(f, "web")), *value;
	const char *key;
	bool some = false;

	json_object_foreach (json_object_get(status, "recommendation"), key, value)
		some = some || !json_is_null(value);
	json_decref(status);
	return some;
}

static void test_who_only_observes_recommends_nothing_any_more(void **state)
{
	struct fixture *f = *state;

	deployment(f, KUBE_EVENT_ADDED, "web", 1);
	mode(f, "recommend");
	service(f, "web")->decided_s = 100;
	tick(f, "web", "one", 105, busy(1, 1, 300));
	scale_decide(&f->learner, 115);
	assert_int_equal(service(f, "web")->recommended_replicas, 3);
	service(f, "web")->recommended_millicores = 300;
	service(f, "web")->recommended_bytes = 100 << 20;
	mode(f, "auto");
	assert_true(recommends(f));
	mode(f, "observe");
	assert_false(recommends(f));
	tick(f, "web", "one", 125, busy(1, 1, 300));
	scale_decide(&f->learner, 135);
	assert_false(recommends(f));
}

static double used_share(struct fixture *f)
{
	const struct sample *period = &service(f, "web")->period;

	service_end_period(service(f, "web"));
	return (double)period->cpu_used_us / (period->tick_s * 1000) / period->containers / 1000;
}

static void test_a_period_is_as_long_as_the_ticks_in_it(void **state)
{
	struct fixture *f = *state;

	/* Whatever the length of a tick, where the period ends, and on how many nodes. */
	objective(f, KUBE_EVENT_ADDED, "web", "web", "hpa", 1, 9);
	service_begin_period(service(f, "web"), 100);
	tick(f, "web", "one", 101, busy(60, 2, 300));
	assert_true(fabs(used_share(f) - 0.3) < 1e-6);
	service_begin_period(service(f, "web"), 200);
	for (int i = 0; i < 10; i++) {
		tick(f, "web", "one", 200.9 + i, busy(1, 2, 300));
		tick(f, "web", "two", 200.1 + i, busy(1, 1, 300));
	}
	assert_true(fabs(used_share(f) - 0.3) < 1e-6);
	/* As after a second, which two ticks of one node fell into. */
	service_begin_period(service(f, "web"), 300);
	tick(f, "web", "two", 300.1, busy(1, 1, 300));
	tick(f, "web", "one", 300.05, busy(1, 2, 300));
	tick(f, "web", "one", 301.04, busy(1, 2, 300));
	assert_true(fabs(used_share(f) - 0.3) < 0.06);
}

static void test_memory_of_a_period_is_that_of_all_nodes(void **state)
{
	struct fixture *f = *state;
	const struct sample *period;

	objective(f, KUBE_EVENT_ADDED, "web", "web", "dqn", 1, 9);
	service_begin_period(service(f, "web"), 100);
	for (int i = 0; i < 5; i++) {
		char node[16];

		snprintf(node, sizeof(node), "node-%d", i);
		tick(f, "web", node, 101, busy(1, 2, 300));
	}
	service_end_period(service(f, "web"));
	period = &service(f, "web")->period;
	assert_int_equal(period->containers, 10);
	assert_int_equal(period->memory_working_set_bytes, 10 * (50 << 20));
	assert_int_equal(period->memory_limit_bytes, 100 << 20);
}

static void test_long_ticks_are_waited_for(void **state)
{
	struct fixture *f = *state;

	objective(f, KUBE_EVENT_ADDED, "web", "web", "hpa", 1, 9);
	deployment(f, KUBE_EVENT_ADDED, "web", 4);
	service(f, "web")->decided_s = 100;
	/* Half of what is declared, which is HPA's target. */
	tick(f, "web", "one", 105, busy(30, 2, 500));
	scale_decide(&f->learner, 112);
	assert_int_equal(service(f, "web")->recommended_replicas, 0);
	tick(f, "web", "two", 130, busy(30, 2, 500));
	tick(f, "web", "one", 135, busy(30, 2, 500));
	tick(f, "web", "two", 159, busy(30, 2, 500));
	scale_decide(&f->learner, 160);
	assert_int_equal(service(f, "web")->recommended_replicas, 4);
	assert_int_equal(service(f, "web")->wanted, 0);
}

static void test_an_objective_that_moves_leaves_the_old_service(void **state)
{
	struct fixture *f = *state;

	deployment(f, KUBE_EVENT_ADDED, "old", 2);
	objective(f, KUBE_EVENT_ADDED, "web", "old", "dqn", 1, 9);
	assert_true(service(f, "old")->has_objective);
	objective(f, KUBE_EVENT_MODIFIED, "web", "new", "dqn", 1, 9);
	assert_false(service(f, "old")->has_objective);
	assert_true(service(f, "new")->has_objective);
	objective(f, KUBE_EVENT_DELETED, "web", "new", "dqn", 1, 9);
	assert_null(service(f, "new"));
}

static void test_of_two_objectives_the_other_stays_when_one_goes(void **state)
{
	struct fixture *f = *state;

	objective(f, KUBE_EVENT_ADDED, "b", "web", "dqn", 1, 2);
	objective(f, KUBE_EVENT_ADDED, "a", "web", "dqn", 1, 3);
	/* A status that comes back says nothing new. */
	objective(f, KUBE_EVENT_MODIFIED, "b", "web", "dqn", 1, 2);
	assert_int_equal(service(f, "web")->objective.replicas_max, 3);
	objective(f, KUBE_EVENT_DELETED, "a", "web", "dqn", 1, 3);
	assert_true(service(f, "web")->has_objective);
	assert_int_equal(service(f, "web")->objective.replicas_max, 2);
	objective(f, KUBE_EVENT_DELETED, "b", "web", "dqn", 1, 2);
	assert_null(service(f, "web"));
}

static void test_a_service_of_which_nothing_is_left_is_forgotten(void **state)
{
	struct fixture *f = *state;
	char name[32];

	/* More than fit at a time, one after the other, as previews of branches come and go. */
	for (int i = 0; i < SERVICES_MAX + 10; i++) {
		snprintf(name, sizeof(name), "preview-%d", i);
		deployment(f, KUBE_EVENT_ADDED, name, 1);
		assert_non_null(service(f, name));
		deployment(f, KUBE_EVENT_DELETED, name, 1);
		assert_null(service(f, name));
	}
	/* One that agents report lives as long as these do. */
	deployment(f, KUBE_EVENT_ADDED, "first", 1);
	deployment(f, KUBE_EVENT_ADDED, "web", 1);
	deployment(f, KUBE_EVENT_ADDED, "last", 1);
	tick(f, "web", "one", 100, busy(1, 1, 100));
	deployment(f, KUBE_EVENT_DELETED, "web", 1);
	scale_decide(&f->learner, 150);
	assert_non_null(service(f, "web"));
	scale_decide(&f->learner, 161);
	assert_null(service(f, "web"));
	assert_int_equal(f->learner.services.count, 2);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(f->learner.services.items[i]->index, i);
	assert_non_null(service(f, "first"));
	assert_non_null(service(f, "last"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_its_owner_scaled_to_none_stays_so),
		TEST(test_replicas_outside_their_bounds_come_inside),
		TEST(test_who_only_observes_recommends_nothing_any_more),
		TEST(test_a_period_is_as_long_as_the_ticks_in_it),
		TEST(test_memory_of_a_period_is_that_of_all_nodes),
		TEST(test_long_ticks_are_waited_for),
		TEST(test_an_objective_that_moves_leaves_the_old_service),
		TEST(test_of_two_objectives_the_other_stays_when_one_goes),
		TEST(test_a_service_of_which_nothing_is_left_is_forgotten),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
