// SPDX-License-Identifier: Apache-2.0
/* Other autoscalers of the same Deployment: what they set is left to them while they are there. */
#include "unit/learner_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct learner learner;
	struct service *service;
	struct service_unit *unit;
};

static const struct sample busy = {.tick_s = 1,
	.requests = 100,
	.cpu_used_us = 950000,
	.cpu_allocated_us = 1000000,
	.containers = 1,
	.cpu_limit_millicores = 400,
	.memory_limit_bytes = 100 << 20,
	.memory_working_set_bytes = 50 << 20};

static void objective(struct fixture *f, const char *mode, const char *policy)
{
	static int generation;
	json_t *object = json_pack(
		"{s:{s:s, s:s, s:i}, s:{s:{s:s}, s:{s:s}, s:s, s:s, s:{s:{s:i, s:i}}}}", "metadata",
		"namespace", "default", "name", "web", "generation", ++generation, "spec",
		"targetRef", "name", "web", "latency", "target", "50ms", "mode", mode, "policy",
		policy, "bounds", "replicas", "min", 1, "max", 9);

	assert_non_null(object);
	scale_objective(&f->learner, KUBE_EVENT_MODIFIED, object);
	json_decref(object);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	learner_make(&f->learner);
	objective(f, "auto", "dqn");
	f->service = services_find(&f->learner.services, "default", "web");
	assert_non_null(f->service);
	f->service->has_deployment = true;
	f->service->replicas = f->service->ready = 1;
	f->unit = service_get_unit(f->service, "one", brain_train_config(f->learner.vertical));
	assert_non_null(f->unit);
	f->unit->sample = busy;
	f->unit->cpu_declared_millicores = 1000;
	f->unit->memory_declared_bytes = 200 << 20;
	/* One replica that uses all that it may: there are to be more, whatever a network thinks. */
	room_note(&f->unit->busy, &busy);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	learner_unmake(&f->learner);
	free(f);
	return 0;
}

/* A HorizontalPodAutoscaler as KEDA makes it, or anyone. */
static void horizontal(struct fixture *f, enum kube_event event, const char *name, const char *kind)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s, s:s, s:s}, s:i}}", "metadata",
		"namespace", "default", "name", name, "spec", "scaleTargetRef", "apiVersion",
		"apps/v1", "kind", kind, "name", "web", "maxReplicas", 5);

	contest_see(&f->learner, AUTOSCALER_HORIZONTAL, event, object);
	json_decref(object);
}

/* @mode NULL: none is said. */
static void vertical(struct fixture *f, enum kube_event event, const char *mode)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s, s:s, s:s}, s:{s:s*}}}", "metadata",
		"namespace", "default", "name", "web-vpa", "spec", "targetRef", "apiVersion",
		"apps/v1", "kind", "Deployment", "name", "web", "updatePolicy", "updateMode", mode);

	assert_non_null(object);
	contest_see(&f->learner, AUTOSCALER_VERTICAL, event, object);
	json_decref(object);
}

/* What a scale period asks for. */
static uint32_t wanted(struct fixture *f)
{
	static double now_s = 1000;

	f->service->wanted = 0;
	f->service->decided_s = now_s;
	f->unit->updated_s = now_s + 15;
	service_note_tick(f->unit);
	now_s += 20;
	scale_decide(&f->learner, now_s);
	return f->service->wanted;
}

static struct vertical_decision decide(struct fixture *f)
{
	struct policy_context context = {.config = &f->learner.config.policy,
		.vertical = f->learner.vertical,
		.horizontal = f->learner.horizontal,
		.random = &f->learner.random,
		.now_s = 1};
	struct envelope_unit bounds = policy_bounds(f->unit, &busy, f->unit->state, true);
	struct vertical_decision decision;

	policy_decide_vertical(&context, f->service, f->unit, &bounds, &decision);
	return decision;
}

static const json_t *condition_of(const json_t *status)
{
	const json_t *one;
	size_t i;

	json_array_foreach (json_object_get(status, "conditions"), i, one)
		if (strcmp(kube_string(one, "type", NULL), "Uncontested") == 0)
			return one;
	return NULL;
}

static void expect_condition(struct fixture *f, const char *truth, const char *says)
{
	json_t *status = status_describe(&f->learner, f->service);
	const json_t *one = condition_of(status);

	assert_non_null(one);
	assert_string_equal(kube_string(one, "status", NULL), truth);
	assert_non_null(strstr(kube_string(one, "message", NULL), says));
	json_decref(status);
}

static const struct decision_record *newest(struct fixture *f)
{
	return decision_ring_get(&f->service->decisions, 0);
}

static void test_replicas_are_left_to_an_hpa_until_it_goes(void **state)
{
	struct fixture *f = *state;

	f->learner.services.decisions.bytes = 1 << 20;
	assert_int_equal(wanted(f), 2);
	expect_condition(f, "True", "no other");
	horizontal(f, KUBE_EVENT_ADDED, "keda-hpa-web", "Deployment");
	assert_int_equal(wanted(f), 0);
	assert_int_equal(f->service->recommended_replicas, 1);
	assert_int_equal(newest(f)->rule, RULE_OTHER_AUTOSCALER);
	assert_non_null(strstr(newest(f)->why, "HorizontalPodAutoscaler keda-hpa-web"));
	/* What the other does is nothing to learn from. */
	assert_int_equal(newest(f)->action, POLICY_NO_ACTION);
	assert_false(f->service->acted);
	expect_condition(f, "False", "HorizontalPodAutoscaler keda-hpa-web sets the replicas");
	/* Limits are decided as before. */
	assert_false(decide(f).released);
	horizontal(f, KUBE_EVENT_DELETED, "keda-hpa-web", "Deployment");
	assert_int_equal(wanted(f), 2);
	expect_condition(f, "True", "no other");
}

static void test_replicas_that_were_to_be_asked_for_are_not(void **state)
{
	struct fixture *f = *state;

	assert_true(policy_lacks_replicas(f->service));
	/* Decided on before the other was seen. */
	f->service->wanted = 2;
	horizontal(f, KUBE_EVENT_ADDED, "web", "Deployment");
	assert_int_equal(f->service->wanted, 0);
	/* Nor is it looked at more often for want of room. */
	assert_false(policy_lacks_replicas(f->service));
	horizontal(f, KUBE_EVENT_DELETED, "web", "Deployment");
	assert_true(policy_lacks_replicas(f->service));
}

static void test_bounds_do_not_overrule_it(void **state)
{
	struct fixture *f = *state;

	horizontal(f, KUBE_EVENT_ADDED, "web", "Deployment");
	f->service->replicas = f->service->ready = 20;
	assert_int_equal(wanted(f), 0);
}

static void test_what_targets_something_else_is_passed_over(void **state)
{
	struct fixture *f = *state;

	horizontal(f, KUBE_EVENT_ADDED, "web", "StatefulSet");
	assert_int_equal(wanted(f), 2);
	/* One that comes to it, and leaves it again. */
	horizontal(f, KUBE_EVENT_MODIFIED, "web", "Deployment");
	assert_int_equal(wanted(f), 0);
	horizontal(f, KUBE_EVENT_MODIFIED, "web", "StatefulSet");
	assert_int_equal(wanted(f), 2);
}

static void test_of_two_the_other_stays(void **state)
{
	struct fixture *f = *state;

	horizontal(f, KUBE_EVENT_ADDED, "b", "Deployment");
	horizontal(f, KUBE_EVENT_ADDED, "a", "Deployment");
	expect_condition(f, "False", "HorizontalPodAutoscaler a sets");
	horizontal(f, KUBE_EVENT_DELETED, "a", "Deployment");
	expect_condition(f, "False", "HorizontalPodAutoscaler b sets");
	assert_int_equal(wanted(f), 0);
}

static void test_only_what_both_decide_is_left(void **state)
{
	struct fixture *f = *state;

	horizontal(f, KUBE_EVENT_ADDED, "web", "Deployment");
	objective(f, "auto", "k8s-cpu");
	expect_condition(f, "True", "no other");
	objective(f, "auto", "k8s-cpu+hpa");
	expect_condition(f, "False", "HorizontalPodAutoscaler");
	assert_true(f->service->left[AUTOSCALER_HORIZONTAL]);
	/* Who only recommends is in nobody's way, and is told what auto would find. */
	objective(f, "recommend", "dqn");
	assert_false(f->service->left[AUTOSCALER_HORIZONTAL]);
	expect_condition(f, "False", "which mode auto leaves to it");
	assert_int_equal(wanted(f), 0);
	assert_int_equal(f->service->recommended_replicas, 2);
}

static void test_it_is_known_before_the_objective_is(void **state)
{
	struct fixture *f = *state;
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s}, s:{s:s}}}", "metadata", "namespace",
		"default", "name", "late", "spec", "targetRef", "name", "late", "latency", "target",
		"50ms");
	json_t *other = json_pack("{s:{s:s, s:s}, s:{s:{s:s, s:s}}}", "metadata", "namespace",
		"default", "name", "hpa", "spec", "scaleTargetRef", "kind", "Deployment", "name",
		"late");

	contest_see(&f->learner, AUTOSCALER_HORIZONTAL, KUBE_EVENT_ADDED, other);
	scale_objective(&f->learner, KUBE_EVENT_ADDED, object);
	assert_true(services_find(&f->learner.services, "default", "late")
			    ->left[AUTOSCALER_HORIZONTAL]);
	json_decref(object);
	json_decref(other);
}

static void test_limits_are_left_to_a_vpa_that_updates(void **state)
{
	static const char *const modes[] = {"Recreate", "InPlaceOrRecreate", "Initial", NULL};
	struct fixture *f = *state;
	double price;

	vertical(f, KUBE_EVENT_ADDED, "Off");
	assert_false(decide(f).released);
	expect_condition(f, "True", "no other");
	for (int i = 0; i < 4; i++) {
		struct vertical_decision decision;

		vertical(f, KUBE_EVENT_MODIFIED, modes[i]);
		price = f->unit->plan.violation_price;
		decision = decide(f);
		assert_true(decision.released);
		assert_int_equal(decision.rule, RULE_OTHER_AUTOSCALER);
		assert_int_equal(decision.action, POLICY_NO_ACTION);
		assert_true(decision.plan.cpu_millicores == 1000);
		assert_int_equal(decision.plan.memory_bytes, 200 << 20);
		assert_true(decision.plan.allowance.trigger_age_share == 0);
		assert_true(decision.plan.violation_price == price);
		assert_non_null(strstr(decision.why, "VerticalPodAutoscaler web-vpa"));
		expect_condition(f, "False", "VerticalPodAutoscaler web-vpa sets the limits");
		/* Replicas are decided as before. */
		assert_int_equal(wanted(f), 2);
		vertical(f, KUBE_EVENT_MODIFIED, "Off");
		assert_false(decide(f).released);
	}
	/* The operator's freeze stands above it: nothing moves. */
	vertical(f, KUBE_EVENT_MODIFIED, "Recreate");
	f->service->objective.frozen = true;
	assert_false(decide(f).released);
	assert_true(decide(f).plan.cpu_millicores == busy.cpu_limit_millicores);
}

static void test_many_are_found_by_name_and_by_target(void **state)
{
	struct autoscalers many = {0};
	char name[32], target[32];

	(void)state;
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "hpa-%d", i);
		snprintf(target, sizeof(target), "web-%d", i / 2);
		assert_int_equal(
			autoscalers_put(&many, AUTOSCALER_HORIZONTAL, "default", name, target), 0);
	}
	assert_string_equal(
		autoscalers_of(&many, AUTOSCALER_HORIZONTAL, "default", "web-7"), "hpa-14");
	assert_null(autoscalers_of(&many, AUTOSCALER_VERTICAL, "default", "web-7"));
	assert_null(autoscalers_of(&many, AUTOSCALER_HORIZONTAL, "other", "web-7"));
	for (int i = 0; i < 2000; i += 2) {
		snprintf(name, sizeof(name), "hpa-%d", i);
		autoscalers_remove(&many, AUTOSCALER_HORIZONTAL, "default", name);
	}
	assert_int_equal(many.count, 1000);
	for (int i = 1; i < 2000; i += 2) {
		snprintf(name, sizeof(name), "hpa-%d", i);
		snprintf(target, sizeof(target), "web-%d", i / 2);
		assert_string_equal(
			autoscalers_of(&many, AUTOSCALER_HORIZONTAL, "default", target), name);
		assert_string_equal(
			autoscalers_target(&many, AUTOSCALER_HORIZONTAL, "default", name), target);
	}
	autoscalers_free(&many);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_replicas_are_left_to_an_hpa_until_it_goes),
		TEST(test_replicas_that_were_to_be_asked_for_are_not),
		TEST(test_bounds_do_not_overrule_it),
		TEST(test_what_targets_something_else_is_passed_over),
		TEST(test_of_two_the_other_stays),
		TEST(test_only_what_both_decide_is_left),
		TEST(test_it_is_known_before_the_objective_is),
		TEST(test_limits_are_left_to_a_vpa_that_updates),
		cmocka_unit_test(test_many_are_found_by_name_and_by_target),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
