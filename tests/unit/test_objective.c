// SPDX-License-Identifier: Apache-2.0
#include "common/objective.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define OBJECT(spec)                                                                               \
	"{\"apiVersion\": \"ebbtide.io/v1alpha1\", \"kind\": \"ScaleObjective\","                  \
	" \"metadata\": {\"name\": \"web\", \"namespace\": \"shop\"}, \"spec\": {" spec "}}"
#define TARGET	   "\"targetRef\": {\"kind\": \"Deployment\", \"name\": \"web-v2\"}"
#define LATENCY	   "\"latency\": {\"target\": \"50ms\"}"
#define REST(more) OBJECT(TARGET ", " LATENCY ", " more)

static int parse(const char *text, struct objective *objective, char error[200])
{
	json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);
	int err;

	assert_non_null(object);
	err = objective_parse(object, objective, error, 200);
	json_decref(object);
	return err;
}

static void assert_parses(const char *text, struct objective *objective)
{
	char error[200];

	if (parse(text, objective, error))
		fail_msg("%s: %s", text, error);
}

static void test_everything_given_is_read(void **state)
{
	struct objective objective;

	(void)state;
	assert_parses(
		OBJECT(TARGET
			", \"mode\": \"recommend\", \"latency\": {\"percentile\": 99.9, \"target\": \"1.5s\"},"
			" \"acceptableViolations\": 0.05, \"acceptableThrottling\": 0.2, \"policy\": \"k8s-cpu\", \"frozen\": true,"
			" \"bounds\": {\"cpu\": {\"min\": \"50m\", \"max\": 2},"
			" \"memory\": {\"min\": \"32Mi\", \"max\": \"512Mi\"},"
			" \"replicas\": {\"min\": 2, \"max\": 10}}"),
		&objective);
	assert_string_equal(objective.namespace, "shop");
	assert_string_equal(objective.name, "web");
	assert_string_equal(objective.service, "web-v2");
	assert_int_equal(objective.mode, OBJECTIVE_RECOMMEND);
	assert_true(objective.latency_percentile == 99.9);
	assert_true(objective.latency_target_us == 1.5e6);
	assert_true(objective.acceptable_violations == 0.05);
	assert_true(objective.acceptable_throttling == 0.2);
	assert_string_equal(objective.policy, "k8s-cpu");
	assert_true(objective.frozen);
	assert_true(objective.cpu_min_millicores == 50);
	assert_true(objective.cpu_max_millicores == 2000);
	assert_int_equal(objective.memory_min_bytes, 32 << 20);
	assert_int_equal(objective.memory_max_bytes, 512 << 20);
	assert_int_equal(objective.replicas_min, 2);
	assert_int_equal(objective.replicas_max, 10);
}

static void test_what_is_not_given_has_a_default(void **state)
{
	struct objective objective;

	(void)state;
	assert_parses(OBJECT(TARGET ", " LATENCY), &objective);
	assert_int_equal(objective.mode, OBJECTIVE_AUTO);
	assert_true(objective.latency_percentile == 99);
	assert_true(objective.acceptable_violations == 0.01);
	assert_true(objective.acceptable_throttling == 1);
	assert_string_equal(objective.policy, "dqn");
	assert_false(objective.frozen);
	assert_true(objective.reflex);
	assert_true(objective.startup_cpu_millicores == 0);
	assert_true(objective.cpu_min_millicores == 10);
	assert_true(objective.cpu_max_millicores == 0);
	assert_int_equal(objective.memory_min_bytes, 16 << 20);
	assert_int_equal(objective.memory_max_bytes, 0);
	assert_int_equal(objective.replicas_min, 1);
	assert_int_equal(objective.replicas_max, 1);
	objective_init(&objective);
	assert_true(objective.latency_target_us == 100000);
}

static void test_one_bound_alone_moves_the_other_default(void **state)
{
	struct objective objective;

	(void)state;
	assert_parses(REST("\"bounds\": {\"replicas\": {\"min\": 3}}"), &objective);
	assert_int_equal(objective.replicas_max, 3);
	assert_parses(REST("\"bounds\": {\"memory\": {\"max\": \"8Mi\"}}"), &objective);
	assert_int_equal(objective.memory_min_bytes, 8 << 20);
}

static void test_null_is_as_if_absent(void **state)
{
	struct objective objective;

	(void)state;
	assert_parses(
		REST("\"mode\": null, \"bounds\": {\"cpu\": {\"max\": null}, \"memory\": null}"),
		&objective);
	assert_int_equal(objective.mode, OBJECTIVE_AUTO);
}

static void test_an_object_that_does_not_parse_is_identified(void **state)
{
	json_t *json = json_loads(REST("\"policy\": \"best\", \"bounds\": 7"), 0, NULL);
	struct objective objective;
	char error[256];

	(void)state;
	assert_non_null(json);
	assert_int_equal(objective_parse(json, &objective, error, sizeof(error)), -EINVAL);
	assert_int_equal(objective_identify(json, &objective, error, sizeof(error)), 0);
	assert_string_equal(objective.namespace, "shop");
	assert_string_equal(objective.service, "web-v2");
	assert_string_equal(objective.policy, "dqn");
	json_decref(json);
	json = json_pack("{s:s}", "kind", "ScaleObjective");
	assert_int_equal(objective_identify(json, &objective, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "metadata.name: missing");
	json_decref(json);
}

static void test_bad_objects_are_refused_with_field_and_value(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} cases[] = {
		{"[]", "a ScaleObjective must be a JSON object"},
		{"{\"kind\": \"Pod\"}", "kind: \"Pod\" is not supported (use ScaleObjective)"},
		{"{\"apiVersion\": \"ebbtide.io/v2\"}",
			"apiVersion: \"ebbtide.io/v2\" is not supported (use ebbtide.io/v1alpha1)"},
		{"{\"metadata\": {\"name\": \"a\"}}",
			"spec: missing (a ScaleObjective needs targetRef and latency)"},
		{"{\"spec\": {}}", "metadata.name: missing"},
		{"{\"metadata\": {\"name\": \"../etc\"}}",
			"metadata.name: \"../etc\" is not a name (lower-case letters, digits, '-' and '.')"},
		{OBJECT(LATENCY),
			"spec.targetRef: missing (use for example {kind: Deployment, name: web})"},
		{OBJECT("\"targetRef\": {\"kind\": \"StatefulSet\", \"name\": \"a\"}"),
			"spec.targetRef.kind: \"StatefulSet\" is not supported (use Deployment)"},
		{OBJECT("\"targetRef\": {\"kind\": \"Deployment\"}"),
			"spec.targetRef.name: missing"},
		{OBJECT(TARGET), "spec.latency.target: missing (use for example 50ms)"},
		{OBJECT(TARGET ", \"latency\": {\"target\": 50}"),
			"spec.latency.target: 50 is not a duration in us, ms or s (use for example 50ms)"},
		{OBJECT(TARGET ", \"latency\": {\"target\": \"0ms\"}"),
			"spec.latency.target: \"0ms\" is out of range (1us to 60s)"},
		{OBJECT(TARGET ", \"latency\": \"50ms\""), "spec.latency: must be an object"},
		{OBJECT(TARGET ", \"latency\": {\"percentile\": 100, \"target\": \"1s\"}"),
			"spec.latency.percentile: 100 is out of range (0 to 100)"},
		{OBJECT(TARGET ", \"latency\": {\"percentile\": \"99\", \"target\": \"1s\"}"),
			"spec.latency.percentile: \"99\" is not a number (use for example 99)"},
		{REST("\"mode\": \"automatic\""),
			"spec.mode: \"automatic\" is none of observe, recommend, auto"},
		{REST("\"mode\": true"), "spec.mode: true is none of observe, recommend, auto"},
		{REST("\"acceptableViolations\": 1.5"),
			"spec.acceptableViolations: 1.5 is out of range (0 to 1)"},
		{REST("\"policy\": \"D QN\""),
			"spec.policy: \"D QN\" is not a policy (use one of dqn, static, k8s-cpu, "
			"k8s-cpu-fast, captain, koordinator, vpa, autopilot, senpai, hpa, kpa, "
			"reflex-fixed, reflex, burst, or some joined by '+')"},
		{REST("\"policy\": \"hpa+kpa\""), "spec.policy: \"hpa+kpa\": hpa and kpa both "
						  "decide replicas (leave one out)"},
		{REST("\"policy\": 5"), "spec.policy: 5 is not a string"},
		{REST("\"ruleParameters\": \"hpa.target=0.6, k8s-cpu.target=2\""),
			"spec.ruleParameters: k8s-cpu.target: \"2\" is not a number from 0.01 to 1"},
		{REST("\"ruleParameters\": \"hpa\""),
			"spec.ruleParameters: \"hpa\" is not RULE.PARAMETER=VALUE"},
		{REST("\"ruleParameters\": {}"), "spec.ruleParameters: {} is not a string"},
		{REST("\"frozen\": 1"), "spec.frozen: 1 is not true or false"},
		{REST("\"reflex\": \"off\""), "spec.reflex: \"off\" is not true or false"},
		{REST("\"startup\": {\"cpu\": \"9m\"}"),
			"spec.startup.cpu: \"9m\" is out of range (10m to 1k)"},
		{REST("\"startup\": \"2\""), "spec.startup: must be an object"},
		{REST("\"bound\": {}"),
			"spec.bound: no such field (see docs/kubernetes.md for the list)"},
		{REST("\"bounds\": {\"cpu\": {\"most\": 2}}"),
			"spec.bounds.cpu.most: no such field (see docs/kubernetes.md for the list)"},
		{REST("\"bounds\": {\"cpu\": {\"min\": \"abc\"}}"),
			"spec.bounds.cpu.min: \"abc\" is not a quantity (use for example 250m)"},
		{REST("\"bounds\": {\"cpu\": {\"max\": 0.5}}"),
			"spec.bounds.cpu.max: 0.5 is not a quantity (use for example 250m)"},
		{REST("\"bounds\": {\"cpu\": {\"min\": \"-1\"}}"),
			"spec.bounds.cpu.min: \"-1\" is out of range (10m to 1k)"},
		{REST("\"bounds\": {\"cpu\": {\"min\": 3, \"max\": \"2500m\"}}"),
			"spec.bounds.cpu.min: 3 is over spec.bounds.cpu.max: 2500m"},
		{REST("\"bounds\": {\"memory\": {\"min\": \"1Gi\", \"max\": \"64Mi\"}}"),
			"spec.bounds.memory.min: 1Gi is over spec.bounds.memory.max: 64Mi"},
		{REST("\"bounds\": {\"replicas\": {\"min\": 2, \"max\": 1}}"),
			"spec.bounds.replicas.min: 2 is over spec.bounds.replicas.max: 1"},
		{REST("\"bounds\": {\"replicas\": {\"max\": 0}}"),
			"spec.bounds.replicas.max: 0 is out of range (1 to 10000)"},
		{REST("\"bounds\": {\"replicas\": {\"max\": \"3\"}}"),
			"spec.bounds.replicas.max: \"3\" is not a whole number (use for example 10)"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct objective objective = {.name = "untouched"};
		char error[200];

		assert_int_equal(parse(cases[i].text, &objective, error), -EINVAL);
		assert_string_equal(error, cases[i].error);
		assert_string_equal(objective.name, "untouched");
	}
}

static void test_an_error_buffer_is_never_overrun(void **state)
{
	json_t *object = json_loads(REST("\"mode\": \"0123456789012345678901234567890123456789"
					 "01234567890123456789012345678901234567890123456789\""),
		0, NULL);
	struct objective objective;
	char error[20];

	(void)state;
	memset(error, 'x', sizeof(error));
	assert_int_equal(objective_parse(object, &objective, error, 10), -EINVAL);
	assert_string_equal(error, "spec.mode");
	assert_int_equal(error[10], 'x');
	assert_int_equal(objective_parse(object, &objective, NULL, 0), -EINVAL);
	json_decref(object);
}

static void test_fields_are_set_and_shown_by_name(void **state)
{
	static const struct {
		const char *field, *text, *shown;
	} cases[] = {
		{"latency_percentile", "99.9", "99.9"},
		{"latency_target_us", "2500\n", "2500"},
		{"acceptable_violations", "0", "0"},
		{"acceptable_throttling", "0.05", "0.05"},
		{"mode", "observe\n", "observe"},
		{"policy", "static", "static"},
		{"policy", "k8s-cpu+hpa+reflex\n", "k8s-cpu+hpa+reflex"},
		{"rule_parameters", "hpa.target=0.6, k8s-cpu.window_s=60\n",
			"hpa.target=0.6, k8s-cpu.window_s=60"},
		{"rule_parameters", "", ""},
		{"frozen", "1", "1"},
		{"frozen", "false", "0"},
		{"reflex", "0", "0"},
		{"reflex", "true", "1"},
		{"startup_cpu_millicores", "750", "750"},
		{"cpu_max_millicores", "1500.5", "1500.5"},
		{"cpu_min_millicores", "20", "20"},
		{"cpu_max_millicores", "0", "0"},
		{"memory_max_bytes", "1073741824", "1073741824"},
		{"memory_min_bytes", "33554432", "33554432"},
		{"replicas_max", "12", "12"},
		{"replicas_min", "3", "3"},
	};
	struct objective objective;
	char out[64];

	(void)state;
	objective_init(&objective);
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(objective_set(&objective, cases[i].field, cases[i].text), 0);
		assert_int_equal(objective_show(&objective, cases[i].field, out, sizeof(out)), 0);
		assert_string_equal(out, cases[i].shown);
	}
	assert_int_equal(objective_show(&objective, "nothing", out, sizeof(out)), -ENOENT);
	assert_int_equal(objective_show(&objective, "memory_max_bytes", out, 10), -ENOSPC);
}

static void test_a_start_has_what_is_asked_for_inside_the_bounds(void **state)
{
	struct objective objective;

	(void)state;
	objective_init(&objective);
	assert_true(objective_startup_millicores(&objective, 1000) == 1000);
	/* Never a limit where the owner set none. */
	assert_true(objective_startup_millicores(&objective, 0) == 0);
	objective.cpu_max_millicores = 700;
	assert_true(objective_startup_millicores(&objective, 1000) == 700);
	objective.startup_cpu_millicores = 300;
	assert_true(objective_startup_millicores(&objective, 1000) == 300);
	assert_true(objective_startup_millicores(&objective, 0) == 0);
	objective.startup_cpu_millicores = 5000;
	assert_true(objective_startup_millicores(&objective, 1000) == 700);
	objective.cpu_max_millicores = 0;
	assert_true(objective_startup_millicores(&objective, 1000) == 1000);
}

static void test_a_bad_write_has_its_errno_and_changes_nothing(void **state)
{
	static const struct {
		const char *field, *text;
		int err;
	} cases[] = {
		{"nothing", "1", -ENOENT},
		{"latency_target_us", "", -EINVAL},
		{"latency_target_us", "50ms", -EINVAL},
		{"latency_target_us", "nan", -EINVAL},
		{"latency_target_us", "inf", -EINVAL},
		{"latency_target_us", "0x10", -EINVAL},
		{"latency_target_us", "5 5", -EINVAL},
		{"latency_target_us", "1e999", -EINVAL},
		{"latency_target_us", "0", -ERANGE},
		{"latency_target_us", "-5", -ERANGE},
		{"latency_target_us", "60000001", -ERANGE},
		{"latency_percentile", "0", -ERANGE},
		{"latency_percentile", "100", -ERANGE},
		{"acceptable_violations", "1.01", -ERANGE},
		{"acceptable_throttling", "-0.01", -ERANGE},
		{"mode", "AUTO", -EINVAL},
		{"policy", "", -EINVAL},
		{"policy", "a/b", -EINVAL},
		{"policy", "best", -EINVAL},
		{"policy", "hpa+kpa", -EINVAL},
		{"rule_parameters", "hpa.target=", -EINVAL},
		{"rule_parameters", "hpa.target=0.6;kpa.target=7", -EINVAL},
		{"rule_parameters", "hpa.goal=0.6", -EINVAL},
		{"frozen", "2", -EINVAL},
		{"startup_cpu_millicores", "9", -ERANGE},
		{"cpu_min_millicores", "9", -ERANGE},
		{"cpu_min_millicores", "600", -ERANGE},
		{"cpu_max_millicores", "50", -ERANGE},
		{"memory_min_bytes", "99999999999999999999", -ERANGE},
		{"replicas_min", "2", -ERANGE},
		{"replicas_max", "1.5", -EINVAL},
		{"replicas_max", "0", -ERANGE},
		{"replicas_max",
			"0000000000000000000000000000000000000000000000000000000000000000000000001",
			-EINVAL},
	};
	struct objective objective, before;

	(void)state;
	objective_init(&objective);
	assert_int_equal(objective_set(&objective, "cpu_max_millicores", "500"), 0);
	assert_int_equal(objective_set(&objective, "cpu_min_millicores", "100"), 0);
	before = objective;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int err = objective_set(&objective, cases[i].field, cases[i].text);

		if (err != cases[i].err)
			fail_msg("%s = \"%s\": got %d, expected %d", cases[i].field, cases[i].text,
				err, cases[i].err);
		assert_memory_equal(&objective, &before, sizeof(before));
	}
}

static void test_a_refusal_says_what_would_be_taken(void **state)
{
	static const struct {
		const char *field, *text, *wanted;
	} cases[] = {
		{"latency_target_us", "0", "it takes numbers from 1 to 60000000"},
		{"latency_percentile", "100", "it takes numbers above 0 and below 100"},
		{"acceptable_violations", "7", "it takes numbers from 0 to 1"},
		{"mode", "on", "it takes observe, recommend or auto"},
		{"frozen", "2", "it takes 0, 1, true or false"},
		{"policy", "hpa+kpa",
			"\"hpa+kpa\": hpa and kpa both decide replicas (leave one out)"},
		{"policy", "hpa", "the API refuses it"},
		{"startup_cpu_millicores", "9",
			"it takes numbers from 10 to 1000000, or 0 for the owner's"},
		{"memory_max_bytes", "1",
			"it takes numbers from 1048576 to 1125899906842624, or 0 for the owner's, "
			"the minimum not over the maximum"},
		{"replicas_min", "1.5",
			"it takes whole numbers from 1 to 10000, the minimum not over the maximum"},
	};
	char out[512];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(
			objective_refusal(cases[i].field, cases[i].text, out, sizeof(out)), 0);
		assert_string_equal(out, cases[i].wanted);
	}
	assert_int_equal(objective_refusal("rule_parameters", "hpa.target=7", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "hpa.target"));
	/* Every field has something to say. */
	for (size_t i = 0; objective_fields[i]; i++) {
		assert_int_equal(objective_refusal(objective_fields[i], "", out, sizeof(out)), 0);
		assert_true(strlen(out) > 0);
	}
	assert_int_equal(objective_refusal("nothing", "1", out, sizeof(out)), -ENOENT);
}

static void test_every_listed_field_can_be_shown_and_set_back(void **state)
{
	struct objective objective;
	size_t count = 0;

	(void)state;
	objective_init(&objective);
	for (; objective_fields[count]; count++) {
		char out[64];

		assert_int_equal(
			objective_show(&objective, objective_fields[count], out, sizeof(out)), 0);
		assert_int_equal(objective_set(&objective, objective_fields[count], out), 0);
	}
	assert_int_equal(count, 16);
}

static void test_what_is_written_as_json_reads_back_the_same(void **state)
{
	struct objective objective, again;
	char error[200] = "";
	json_t *object;

	(void)state;
	memset(&objective, 0, sizeof(objective));
	memset(&again, 0, sizeof(again));
	objective_init(&objective);
	strcpy(objective.namespace, "shop");
	strcpy(objective.name, "web");
	strcpy(objective.service, "web-v2");
	objective.latency_target_us = 1234.5;
	objective.latency_percentile = 99.95;
	objective.cpu_min_millicores = 62.5;
	objective.memory_max_bytes = 1000000001;
	objective.replicas_max = 9;
	strcpy(objective.policy, "k8s-cpu+hpa");
	strcpy(objective.rule_parameters, "hpa.target=0.6, k8s-cpu.target=0.7");
	objective.mode = OBJECTIVE_OBSERVE;
	object = objective_to_json(&objective, false);
	assert_int_equal(objective_parse(object, &again, error, sizeof(error)), 0);
	json_decref(object);
	assert_string_equal(again.name, "web");
	assert_string_equal(again.service, "web-v2");
	for (size_t i = 0; objective_fields[i]; i++) {
		char was[64], is[64];

		objective_show(&objective, objective_fields[i], was, sizeof(was));
		objective_show(&again, objective_fields[i], is, sizeof(is));
		assert_string_equal(is, was);
	}
}

static void test_a_patch_holds_only_the_spec_and_removes_unset_bounds(void **state)
{
	struct objective objective;
	json_t *patch, *cpu;

	(void)state;
	objective_init(&objective);
	objective.latency_target_us = 20000;
	patch = objective_to_json(&objective, true);
	assert_int_equal(json_object_size(patch), 1);
	cpu = json_object_get(
		json_object_get(json_object_get(json_object_get(patch, "spec"), "bounds"), "cpu"),
		"max");
	assert_true(json_is_null(cpu));
	assert_null(json_object_get(json_object_get(patch, "spec"), "targetRef"));
	assert_string_equal(
		json_string_value(json_object_get(
			json_object_get(json_object_get(patch, "spec"), "latency"), "target")),
		"20ms");
	json_decref(patch);
}

static void test_durations_need_a_unit(void **state)
{
	static const char *const bad[] = {"", "50", "ms", "50 ms", "50min", "-50ms", "1.2.3s",
		"50MS", "1e3us", ".s", "12345678901234567890123456789012345678901234567890s"};
	double us = 0;

	(void)state;
	assert_int_equal(objective_parse_duration_us("50ms", &us), 0);
	assert_true(us == 50000);
	assert_int_equal(objective_parse_duration_us("250us", &us), 0);
	assert_true(us == 250);
	assert_int_equal(objective_parse_duration_us("1.5s", &us), 0);
	assert_true(us == 1500000);
	for (size_t i = 0; i < COUNT(bad); i++)
		if (objective_parse_duration_us(bad[i], &us) != -EINVAL)
			fail_msg("\"%s\" was taken for a duration", bad[i]);
	assert_true(us == 1500000);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_given_is_read),
		cmocka_unit_test(test_what_is_not_given_has_a_default),
		cmocka_unit_test(test_one_bound_alone_moves_the_other_default),
		cmocka_unit_test(test_null_is_as_if_absent),
		cmocka_unit_test(test_an_object_that_does_not_parse_is_identified),
		cmocka_unit_test(test_bad_objects_are_refused_with_field_and_value),
		cmocka_unit_test(test_an_error_buffer_is_never_overrun),
		cmocka_unit_test(test_fields_are_set_and_shown_by_name),
		cmocka_unit_test(test_a_start_has_what_is_asked_for_inside_the_bounds),
		cmocka_unit_test(test_a_bad_write_has_its_errno_and_changes_nothing),
		cmocka_unit_test(test_a_refusal_says_what_would_be_taken),
		cmocka_unit_test(test_every_listed_field_can_be_shown_and_set_back),
		cmocka_unit_test(test_what_is_written_as_json_reads_back_the_same),
		cmocka_unit_test(test_a_patch_holds_only_the_spec_and_removes_unset_bounds),
		cmocka_unit_test(test_durations_need_a_unit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
