// SPDX-License-Identifier: Apache-2.0
/* A decision in plain words, whoever made it, and what came of it. */
#include "common/envelope_rule.h"
#include "common/state.h"
#include "ctl/explain_source.h"
#include "ctl/explain_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Names come from the table; which of its actions they are does not matter here. */
#define CHOSEN action_vertical_name(ACTION_VERTICAL_HOLD - 1)
#define HOLD   action_vertical_name(ACTION_VERTICAL_HOLD)
#define OTHER  action_vertical_name(ACTION_VERTICAL_HOLD + 1)

static int zone_set(void **state)
{
	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	return 0;
}

static json_t *sample(double p99_us, int requests, int over, int throttled_us)
{
	return json_pack("{s:f, s:i, s:i, s:f, s:i, s:i, s:i, s:f, s:i}", "tick_s", 1.0, "requests",
		requests, "requests_over", over, "latency_objective_us", p99_us, "throttled_us",
		throttled_us, "cpu_used_us", 360000, "containers", 2, "cpu_limit_millicores", 400.0,
		"memory_limit_bytes", 128 << 20);
}

/* A network cuts the CPU of a calm service. */
static json_t *cut(void)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:b, s:s, s:s, s:f, s:f, "
			 "s:f, s:f, s:f, s:i, s:i, s:o, s:b, s:f, s:{s:f, s:f, s:f}, s:{s:s}}",
		"time_us", (json_int_t)1795953600250000, "kind", "vertical", "namespace", "default",
		"service", "fibonacci", "agent", "node-1", "policy", "dqn", "mode", "auto", "apply",
		1, "action", CHOSEN, "explored", 0, "rule", "", "why", "said above", "percentile",
		99.0, "target_us", 50000.0, "reward", -0.25, "from_millicores", 400.0,
		"to_millicores", 340.0, "from_bytes", 128 << 20, "to_bytes", 128 << 20, "sample",
		sample(21000, 230, 0, 0), "guided", 0, "exploring", 0.12, "q", CHOSEN, -0.31, HOLD,
		-0.36, OTHER, -0.3, "forbidden", OTHER, "bounds");
}

static void set(json_t *decision, const char *name, const char *value)
{
	json_object_set_new(decision, name, json_string(value));
}

static void assert_headline(const json_t *decision, const char *wanted)
{
	char headline[512];

	explain_headline(decision, headline, sizeof(headline));
	assert_string_equal(headline, wanted);
}

/* Takes the decision; the caller frees. */
__attribute__((noinline)) static char *text_of(json_t *decision, bool state)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(decision);
	assert_non_null(out);
	explain_text(out, decision, state);
	fclose(out);
	json_decref(decision);
	return text;
}

/* Takes the decision. */
static void assert_says(json_t *decision, const char *part)
{
	char *text = text_of(decision, false);

	if (!strstr(text, part))
		fail_msg("expected \"%s\" in: %s", part, text);
	free(text);
}

static void assert_says_not(json_t *decision, const char *part)
{
	char *text = text_of(decision, false);

	if (strstr(text, part))
		fail_msg("not expected \"%s\" in: %s", part, text);
	free(text);
}

static void test_a_cut_is_said_in_one_line(void **state)
{
	json_t *decision = cut();

	(void)state;
	assert_headline(decision, "cut CPU 400m -> 340m: p99 21.0 ms of 50 ms, throttled 0 %, "
				  "Q -0.31 against -0.36 for hold");
	json_object_set_new(decision, "to_bytes", json_integer(96 << 20));
	json_object_set_new(decision, "to_millicores", json_real(1520.4));
	json_object_set_new(decision, "apply", json_false());
	assert_headline(decision, "would raise CPU 400m -> 1520m and cut memory 128 MiB -> 96 MiB: "
				  "p99 21.0 ms of 50 ms, throttled 0 %, Q -0.31 against -0.36 for "
				  "hold");
	json_decref(decision);
}

static void test_a_reservation_is_called_one(void **state)
{
	json_t *decision = cut(), *measured = sample(21000, 230, 0, 0);

	(void)state;
	json_object_set_new(decision, "reserves", json_true());
	json_object_set_new(measured, "cpu_limit_millicores", json_real(0));
	json_object_set_new(measured, "cpu_reserved_millicores", json_real(400));
	json_object_set_new(measured, "run_queue_us", json_integer(720000));
	json_object_set_new(decision, "sample", measured);
	json_object_set_new(decision, "rung_factor", json_real(1.35));
	json_object_del(decision, "q");
	assert_headline(decision,
		"cut CPU reservation 400m -> 340m: p99 21.0 ms of 50 ms, waited for "
		"a CPU 200 % of the time it ran");
	json_object_set_new(decision, "to_millicores", json_real(400));
	assert_headline(decision,
		"keep CPU reservation 400m and memory 128 MiB: p99 21.0 ms of 50 ms, "
		"waited for a CPU 200 % of the time it ran");
	assert_says(decision, "CPU 360m used, 2 x 400m reserved, memory");
}

static void test_limits_of_a_few_millicores_are_told_apart(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_set_new(decision, "from_millicores", json_real(2.5));
	json_object_set_new(decision, "to_millicores", json_real(2.125));
	json_object_del(decision, "q");
	assert_headline(decision, "cut CPU 2.5m -> 2.125m: p99 21.0 ms of 50 ms, throttled 0 %");
	json_decref(decision);
}

static void test_holding_is_held_against_the_best_of_the_others(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_set_new(decision, "to_millicores", json_real(400));
	json_object_set_new(json_object_get(decision, "q"), HOLD, json_real(-0.3099));
	set(decision, "action", HOLD);
	/* The best of all is forbidden; as many digits as it takes. */
	char wanted[256];

	snprintf(wanted, sizeof(wanted),
		"keep CPU 400m and memory 128 MiB: p99 21.0 ms of 50 ms, throttled 0 %%, Q -0.30990 "
		"against -0.31000 for %s",
		CHOSEN);
	assert_headline(decision, wanted);
	json_decref(decision);
}

static void test_what_could_not_be_measured_is_said(void **state)
{
	json_t *decision = cut(), *idle = sample(0, 0, 0, 500000);

	(void)state;
	json_object_del(decision, "q");
	json_object_set_new(decision, "sample", idle);
	assert_headline(decision, "cut CPU 400m -> 340m: no requests, throttled 25 %");
	json_object_set_new(idle, "in_flight", json_real(3));
	assert_headline(decision,
		"cut CPU 400m -> 340m: no request answered (0 failed, 3 waiting), "
		"throttled 25 %");
	json_decref(decision);
}

static void test_the_table_has_the_best_first_and_what_forbids(void **state)
{
	char *text = text_of(cut(), false), wanted[256];

	(void)state;
	snprintf(wanted, sizeof(wanted),
		"  %-24s %9s\n  %-24s   -0.3000  forbidden: bounds\n  %-24s   -0.3100  chosen\n"
		"  %-24s   -0.3600\n",
		"ACTION", "Q", OTHER, CHOSEN, HOLD);
	if (!strstr(text, wanted))
		fail_msg("expected \"%s\" in: %s", wanted, text);
	assert_non_null(
		strstr(text, "2026-11-29 12:00:00.250  default/fibonacci, limits on node-1\n"));
	assert_non_null(
		strstr(text, "  decided by  dqn: the network's best of 2 allowed actions\n"));
	assert_non_null(strstr(text, "  measured    230 requests in 1.0 s (0 over the target"));
	assert_non_null(strstr(text, "CPU 360m used of 2 x 400m"));
	assert_non_null(strstr(text, "  after       not known yet\n"));
	/* What the headline says is not said again. */
	assert_null(strstr(text, "because"));
	assert_null(strstr(text, "STATE"));
	free(text);
}

static void test_every_rule_of_the_envelope_is_put_into_words(void **state)
{
	(void)state;
	for (int rule = RULE_NONE + 1; rule < RULE_COUNT; rule++) {
		const char *name = envelope_rule_name((enum envelope_rule)rule);
		json_t *decision = cut();
		char wanted[256];

		set(decision, "rule", name);
		snprintf(wanted, sizeof(wanted), "  envelope    %s: %s\n", name,
			envelope_rule_text(name));
		assert_says(json_incref(decision), wanted);
		snprintf(wanted, sizeof(wanted), "the network's first choice was %s, Q -0.3000\n",
			OTHER);
		assert_says(decision, wanted);
	}
	/* A newer learner's. */
	json_t *decision = cut();

	set(decision, "rule", "of-tomorrow");
	assert_says(decision, "  envelope    of-tomorrow\n");
}

static void test_exploring_is_told_from_deciding(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_set_new(decision, "explored", json_true());
	assert_says(json_incref(decision), "the network's exploration, at random among the allowed "
					   "actions (12 % of decisions explored then)\n");
	json_object_set_new(decision, "guided", json_true());
	assert_says(json_incref(decision), "in the direction of measured demand");
	set(decision, "rule", "");
	assert_says_not(decision, "first choice");
}

static void test_the_operating_point_is_said_of_a_networks_decision(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_set_new(decision, "from_rung", json_integer(5));
	json_object_set_new(decision, "cpu_rung", json_integer(4));
	json_object_set_new(decision, "rung_factor", json_real(1.1));
	json_object_set_new(decision, "demand_millicores", json_real(309.09));
	json_object_set_new(decision, "demand_peak_millicores", json_real(400));
	json_object_set_new(decision, "violation_price", json_real(10));
	assert_says(json_incref(decision),
		"of 13 (0 is the cheapest): the limit is 1.1 times the demand, 309.1m (peak 400m)\n"
		"              a tick over the objective weighs 10 times a tick's usual CPU\n");
	assert_says(json_incref(decision), "  operates    at point 5 -> 4 of ");
	json_object_set_new(decision, "from_rung", json_integer(4));
	assert_says(json_incref(decision), "  operates    at point 4 of ");
	/* A rule's limit only comes to one. */
	json_object_del(decision, "q");
	assert_says_not(decision, "operates");
}

static void test_a_rule_says_from_what_it_decided(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_del(decision, "q");
	set(decision, "policy", "k8s-cpu-fast+reflex");
	set(decision, "why", "k8s-cpu-fast: largest use of 20 s 170m over 0.5");
	json_object_set_new(decision, "trigger_age_share", json_real(0.4));
	json_object_set_new(decision, "refills_per_period", json_integer(8));
	json_object_set_new(decision, "ceiling_millicores", json_real(800));
	json_object_set_new(decision, "burst_us", json_integer(34000));
	assert_says(json_incref(decision), "  decided by  k8s-cpu-fast+reflex\n"
					   "  because     k8s-cpu-fast: largest use of 20 s 170m "
					   "over 0.5\n");
	assert_says(json_incref(decision),
		"  reflex      may refill the quota 8 times a period once "
		"a request is older than 20 ms, up to 800m\n");
	assert_says(
		json_incref(decision), "  burst       34 ms of unused quota may be used later\n");
	assert_says_not(decision, "ACTION");
}

static void test_what_is_sent_between_reports_and_what_is_not_done_is_said(void **state)
{
	json_t *decision = cut();

	(void)state;
	json_object_del(decision, "q");
	json_object_del(decision, "sample");
	json_object_set_new(decision, "pushed", json_true());
	set(decision, "rule", "revert");
	set(decision, "why", "objective broke on node-2");
	assert_headline(decision, "cut CPU 400m -> 340m");
	assert_says(json_incref(decision),
		"  decided by  the learner, between two reports\n  envelope    revert: ");
	assert_says(json_incref(decision), "  because     objective broke on node-2\n");
	json_object_set_new(decision, "apply", json_false());
	set(decision, "mode", "recommend");
	assert_says(decision, "  not done    the mode is recommend\n");
}

static void test_replicas_have_their_own_words(void **state)
{
	json_t *decision = cut(), *q = json_object();

	(void)state;
	set(decision, "kind", "horizontal");
	json_object_del(decision, "agent");
	json_object_set(decision, "period", json_object_get(decision, "sample"));
	json_object_del(decision, "sample");
	json_object_set_new(decision, "from_replicas", json_integer(2));
	json_object_set_new(decision, "to_replicas", json_integer(3));
	json_object_set_new(q, action_horizontal_name(2), json_real(-1.5));
	json_object_set_new(q, action_horizontal_name(ACTION_HORIZONTAL_HOLD), json_real(-1.75));
	json_object_set_new(decision, "q", q);
	set(decision, "action", action_horizontal_name(2));
	assert_headline(decision, "scale out 2 -> 3 replicas: p99 21.0 ms of 50 ms, throttled 0 %, "
				  "Q -1.50 against -1.75 for hold");
	assert_says(json_incref(decision), "default/fibonacci, replicas\n");
	json_object_set_new(decision, "to_replicas", json_integer(1));
	json_object_del(decision, "q");
	assert_headline(decision, "scale in 2 -> 1 replicas: p99 21.0 ms of 50 ms, throttled 0 %");
	json_object_set_new(decision, "from_replicas", json_integer(1));
	assert_headline(decision, "keep 1 replica: p99 21.0 ms of 50 ms, throttled 0 %");
	json_decref(decision);
}

static void test_the_state_is_named_by_the_table(void **state)
{
	json_t *decision = cut(), *values = json_array();
	char *text;

	(void)state;
	for (int i = 0; i <= STATE_SIZE; i++)
		json_array_append_new(values, json_real(i));
	json_object_set_new(decision, "state", values);
	text = text_of(decision, true);
	for (int i = 0; i < STATE_SIZE; i++) {
		char wanted[256];

		snprintf(wanted, sizeof(wanted), "\n  %-24s %9.4f  %s\n", state_features[i].name,
			(double)i, state_features[i].text);
		assert_non_null(strstr(text, wanted));
	}
	/* A newer learner's. */
	assert_non_null(strstr(text, "\n  32 "));
	free(text);
}

/* --- what came after --- */

static json_t *at(json_t *decision, int seconds, double p99_us, double reward)
{
	json_object_set_new(
		decision, "time_us", json_integer(1795953600000000 + seconds * 1000000LL));
	json_object_set_new(decision, "sample", sample(p99_us, 100, 7, 0));
	json_object_set_new(decision, "reward", json_real(reward));
	return decision;
}

static json_t *pushed_at(int seconds)
{
	json_t *decision = at(cut(), seconds, 0, 0);

	json_object_del(decision, "sample");
	json_object_set_new(decision, "reward", json_null());
	json_object_set_new(decision, "pushed", json_true());
	return decision;
}

static json_t *replicas_at(int seconds)
{
	json_t *decision = pushed_at(seconds);

	json_object_del(decision, "agent");
	json_object_set_new(decision, "period", sample(30000, 500, 5, 0));
	set(decision, "kind", "horizontal");
	return decision;
}

static json_t *answer(void)
{
	json_t *line = json_object(), *decisions = json_array();

	json_array_append_new(decisions, at(cut(), 1, 21000, -0.1));
	json_array_append_new(decisions, at(cut(), 2, 22000, -0.2));
	json_array_append_new(decisions, pushed_at(3));
	json_array_append_new(decisions, at(cut(), 12, 23000, -0.3));
	json_array_append_new(decisions, replicas_at(2));
	json_array_append_new(decisions, replicas_at(14));
	json_object_set_new(line, "decisions", decisions);
	return line;
}

static double after(const json_t *selected, size_t i, const char *name)
{
	const json_t *told = json_object_get(json_array_get(selected, i), "after");

	return json_number_value(json_object_get(told, name));
}

static void test_what_came_after_is_the_next_tick_of_the_same(void **state)
{
	json_t *all = answer(), *selected = explain_select(all, UINT64_MAX, 9);

	(void)state;
	assert_int_equal(json_array_size(selected), 6);
	/* By time: 1, 2, replicas 2, pushed 3, 12, replicas 14. */
	assert_true(after(selected, 0, "seconds") == 1 && after(selected, 0, "reward") == -0.2);
	/* What is pushed has measured nothing: the tick after it tells of both. */
	assert_true(after(selected, 1, "seconds") == 10 && after(selected, 1, "reward") == -0.3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(selected, 2), "kind")),
		"horizontal");
	assert_true(after(selected, 2, "seconds") == 12);
	assert_true(after(selected, 3, "seconds") == 9 && after(selected, 3, "reward") == -0.3);
	assert_true(json_is_null(json_object_get(json_array_get(selected, 4), "after")));
	assert_true(json_is_null(json_object_get(json_array_get(selected, 5), "after")));
	assert_true(json_is_null(json_object_get(json_array_get(selected, 0), "gap_s")));
	assert_says(json_incref(json_array_get(selected, 0)),
		"  after       1.0 s later: p99 22.0 ms of 50 ms, throttled 0 %, 7 of 100 requests "
		"over the target, reward -0.200\n");
	assert_says(json_incref(json_array_get(selected, 4)), "nothing was decided for 9.0 s: ");
	assert_says_not(json_incref(json_array_get(selected, 1)), "nothing was decided");
	json_decref(selected);
	json_decref(all);
}

static void test_what_is_after_the_time_only_tells(void **state)
{
	json_t *all = answer();
	json_t *selected = explain_select(all, 1795953600000000 + 2500000, 1);

	(void)state;
	assert_int_equal(json_array_size(selected), 2);
	assert_true(after(selected, 0, "reward") == -0.3);
	assert_true(after(selected, 1, "seconds") == 12);
	json_decref(selected);
	selected = explain_select(all, 1795953600000000, 1);
	assert_int_equal(json_array_size(selected), 0);
	json_decref(selected);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cut_is_said_in_one_line),
		cmocka_unit_test(test_a_reservation_is_called_one),
		cmocka_unit_test(test_limits_of_a_few_millicores_are_told_apart),
		cmocka_unit_test(test_holding_is_held_against_the_best_of_the_others),
		cmocka_unit_test(test_what_could_not_be_measured_is_said),
		cmocka_unit_test(test_the_table_has_the_best_first_and_what_forbids),
		cmocka_unit_test(test_every_rule_of_the_envelope_is_put_into_words),
		cmocka_unit_test(test_exploring_is_told_from_deciding),
		cmocka_unit_test(test_the_operating_point_is_said_of_a_networks_decision),
		cmocka_unit_test(test_a_rule_says_from_what_it_decided),
		cmocka_unit_test(test_what_is_sent_between_reports_and_what_is_not_done_is_said),
		cmocka_unit_test(test_replicas_have_their_own_words),
		cmocka_unit_test(test_the_state_is_named_by_the_table),
		cmocka_unit_test(test_what_came_after_is_the_next_tick_of_the_same),
		cmocka_unit_test(test_what_is_after_the_time_only_tells),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, zone_set, NULL);
}
