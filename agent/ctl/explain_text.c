// SPDX-License-Identifier: Apache-2.0
#include "ctl/explain_text.h"

#include "common/envelope_rule.h"
#include "common/state.h"
#include "ctl/moment.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MIB	    1048576.0
#define ACTIONS_MAX 64
/* Of a tick; a decision that late came after a silence. */
#define GAP_TICKS 3

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static double number(const json_t *object, const char *name)
{
	return json_number_value(json_object_get(object, name));
}

static bool flag(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

__attribute__((format(printf, 3, 4))) static void add(
	char *out, size_t size, const char *format, ...)
{
	size_t used = strlen(out);
	va_list args;

	va_start(args, format);
	vsnprintf(out + used, size - used, format, args);
	va_end(args);
}

/* As many digits as tell two limits of the table apart. */
static void add_amount(char *out, size_t size, double value)
{
	add(out, size, value < 1000 ? "%.4g" : "%.0f", value);
}

/* --- what is to be done --- */

static bool is_replicas(const json_t *decision)
{
	return strcmp(text(decision, "kind"), "horizontal") == 0;
}

/* "cut CPU 400m -> 340m"; false when it stays. */
static bool add_change(char *out, size_t size, const char *what, double from, double to,
	const char *unit, const char *would)
{
	/* Less is rounding. */
	if (fabs(to - from) <= 1e-4 * fmax(from, to))
		return false;
	if (out[0])
		add(out, size, " and ");
	add(out, size, "%s%s %s ", would, to < from ? "cut" : "raise", what);
	add_amount(out, size, from);
	add(out, size, "%s -> ", unit);
	add_amount(out, size, to);
	add(out, size, "%s", unit);
	return true;
}

static void add_limits(const json_t *decision, char *out, size_t size)
{
	const char *would = flag(decision, "apply") ? "" : "would ";
	double cpu = number(decision, "from_millicores"), memory = number(decision, "from_bytes");
	const char *what = flag(decision, "reserves") ? "CPU reservation" : "CPU";
	bool changed =
		add_change(out, size, what, cpu, number(decision, "to_millicores"), "m", would);

	changed |= add_change(out, size, "memory", memory / MIB, number(decision, "to_bytes") / MIB,
		" MiB", changed ? "" : would);
	if (changed)
		return;
	add(out, size, "%skeep ", would);
	if (cpu > 0) {
		add(out, size, "%s ", what);
		add_amount(out, size, cpu);
		add(out, size, "m%s", memory > 0 ? " and " : "");
	}
	if (memory > 0) {
		add(out, size, "memory ");
		add_amount(out, size, memory / MIB);
		add(out, size, " MiB");
	}
	if (cpu <= 0 && memory <= 0)
		add(out, size, "no limit, as its owner has it");
}

static void add_replicas(const json_t *decision, char *out, size_t size)
{
	double from = number(decision, "from_replicas"), to = number(decision, "to_replicas");
	const char *would = flag(decision, "apply") ? "" : "would ";

	if (fabs(to - from) < 0.5)
		add(out, size, "%skeep %.0f replica%s", would, from,
			fabs(from - 1) < 0.5 ? "" : "s");
	else
		add(out, size, "%sscale %s %.0f -> %.0f replicas", would, to > from ? "out" : "in",
			from, to);
}

/* --- what was measured --- */

static const json_t *sample_of(const json_t *decision)
{
	return json_object_get(decision, is_replicas(decision) ? "period" : "sample");
}

/* "p99 21.0 ms of 50 ms, throttled 0 %" */
static void add_measured(const json_t *decision, const json_t *sample, char *out, size_t size)
{
	double tick_us = number(sample, "tick_s") * 1e6 * fmax(1, number(sample, "containers"));
	double target_us = number(decision, "target_us");

	if (number(sample, "requests") > 0)
		add(out, size, "p%g %.1f ms of %g ms", number(decision, "percentile"),
			number(sample, "latency_objective_us") / 1000, target_us / 1000);
	else if (number(sample, "requests_failed") > 0 || number(sample, "in_flight") > 0)
		add(out, size, "no request answered (%.0f failed, %.0f waiting)",
			number(sample, "requests_failed"), number(sample, "in_flight"));
	else
		add(out, size, "no requests");
	/* Without a limit nothing is throttled: what hurts is waiting for a CPU. */
	if (flag(decision, "reserves") && number(sample, "cpu_used_us") > 0)
		add(out, size, ", waited for a CPU %.0f %% of the time it ran",
			100 * number(sample, "run_queue_us") / number(sample, "cpu_used_us"));
	else if (tick_us > 0)
		add(out, size, ", throttled %.0f %%",
			100 * number(sample, "throttled_us") / tick_us);
}

static void show_measured(FILE *out, const json_t *decision)
{
	const json_t *sample = sample_of(decision);
	double tick_s = number(sample, "tick_s"), containers = number(sample, "containers");
	double memory_limit = number(sample, "memory_limit_bytes");
	double limit = number(sample, "cpu_limit_millicores");
	double reserved = number(sample, "cpu_reserved_millicores");

	if (!sample || tick_s <= 0)
		return;
	fprintf(out,
		"  measured    %.0f requests in %.1f s (%.0f over the target, %.0f failed), %.0f in "
		"flight\n",
		number(sample, "requests"), tick_s, number(sample, "requests_over"),
		number(sample, "requests_failed"), number(sample, "in_flight"));
	fprintf(out, "              CPU %.4gm used", number(sample, "cpu_used_us") / tick_s / 1000);
	if (limit > 0)
		fprintf(out, " of %.0f x %.4gm", containers, limit);
	else if (reserved > 0)
		fprintf(out, ", %.0f x %.4gm reserved", containers, reserved);
	fprintf(out, ", memory %.4g MiB used", number(sample, "memory_used_bytes") / MIB);
	if (memory_limit > 0)
		fprintf(out, " of %.0f x %.4g MiB", containers, memory_limit / MIB);
	if (number(sample, "refills") > 0)
		fprintf(out, ", %.0f refills by the reflex", number(sample, "refills"));
	if (number(sample, "oom_kills") > 0)
		fprintf(out, ", %.0f killed: out of memory", number(sample, "oom_kills"));
	fputc('\n', out);
}

/* --- what the actions were worth --- */

struct action {
	const char *name;
	double q;
	size_t index;	       /* in the table of actions: of equals a network takes the first */
	const char *forbidden; /* rule's name; NULL: allowed */
};

struct actions {
	struct action list[ACTIONS_MAX]; /* the best first */
	size_t count;
	size_t allowed;
};

static int compare_q(const void *left, const void *right)
{
	const struct action *a = left, *b = right;

	if (a->q > b->q || a->q < b->q)
		return a->q > b->q ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

static void actions_read(const json_t *decision, struct actions *actions)
{
	json_t *q = json_object_get(decision, "q"), *value;
	const json_t *forbidden = json_object_get(decision, "forbidden");
	const char *name;

	actions->count = actions->allowed = 0;
	json_object_foreach (q, name, value) {
		struct action *action = &actions->list[actions->count];

		if (actions->count == ACTIONS_MAX)
			break;
		action->name = name;
		action->index = actions->count;
		action->q = json_number_value(value);
		action->forbidden = json_string_value(json_object_get(forbidden, name));
		actions->allowed += !action->forbidden;
		actions->count++;
	}
	qsort(actions->list, actions->count, sizeof(actions->list[0]), compare_q);
}

static const struct action *action_named(const struct actions *actions, const char *name)
{
	for (size_t i = 0; i < actions->count; i++)
		if (strcmp(actions->list[i].name, name) == 0)
			return &actions->list[i];
	return NULL;
}

/* Doing nothing has one name for limits and one for replicas: that of the table. */
static const char *hold_name(const json_t *decision)
{
	return is_replicas(decision) ? action_horizontal_name(ACTION_HORIZONTAL_HOLD)
				     : action_vertical_name(ACTION_VERTICAL_HOLD);
}

/* What the choice is held against: doing nothing, or the best of the others if that was chosen. */
static const struct action *action_rival(
	const json_t *decision, const struct actions *actions, const struct action *chosen)
{
	const char *hold = hold_name(decision);

	if (strcmp(chosen->name, hold) != 0)
		return action_named(actions, hold);
	for (size_t i = 0; i < actions->count; i++)
		if (&actions->list[i] != chosen && !actions->list[i].forbidden)
			return &actions->list[i];
	return NULL;
}

/* "Q -0.31 against -0.36 for hold", with as many digits as tell them apart. */
static void add_q(const json_t *decision, char *out, size_t size)
{
	const struct action *chosen, *rival;
	struct actions actions;
	double apart;
	int digits = 2;

	actions_read(decision, &actions);
	chosen = action_named(&actions, text(decision, "action"));
	if (!chosen)
		return;
	rival = action_rival(decision, &actions, chosen);
	apart = rival ? fabs(chosen->q - rival->q) : 0;
	while (apart > 0 && digits < 5 && apart < 2 * pow(10, -digits))
		digits++;
	add(out, size, ", Q %.*f", digits, chosen->q);
	if (rival)
		add(out, size, " against %.*f for %s", digits, rival->q, rival->name);
}

static void show_actions(FILE *out, const json_t *decision)
{
	const char *chosen = text(decision, "action");
	struct actions actions;

	actions_read(decision, &actions);
	if (!actions.count)
		return;
	fprintf(out, "  %-24s %9s\n", "ACTION", "Q");
	for (size_t i = 0; i < actions.count; i++) {
		const struct action *action = &actions.list[i];

		fprintf(out, "  %-24s %9.4f", action->name, action->q);
		if (strcmp(action->name, chosen) == 0)
			fprintf(out, "  chosen");
		if (action->forbidden)
			fprintf(out, "  forbidden: %s", action->forbidden);
		fputc('\n', out);
	}
}

/* --- who decided --- */

static void show_network(FILE *out, const json_t *decision)
{
	struct actions actions;

	actions_read(decision, &actions);
	fprintf(out, "  decided by  %s: the network's ", text(decision, "policy"));
	if (!flag(decision, "explored"))
		fprintf(out, "best of %zu allowed actions\n", actions.allowed);
	else
		fprintf(out, "exploration, %s (%.0f %% of decisions explored then)\n",
			flag(decision, "guided") ? "in the direction of measured demand"
						 : "at random among the allowed actions",
			100 * number(decision, "exploring"));
}

static void show_envelope(FILE *out, const json_t *decision)
{
	const char *rule = text(decision, "rule"), *says = envelope_rule_text(rule);
	struct actions actions;

	if (!rule[0])
		return;
	fprintf(out, "  envelope    %s%s%s\n", rule, says ? ": " : "", says ? says : "");
	actions_read(decision, &actions);
	if (actions.count && actions.list[0].forbidden && !flag(decision, "explored"))
		fprintf(out, "              the network's first choice was %s, Q %.4f\n",
			actions.list[0].name, actions.list[0].q);
}

static void show_decider(FILE *out, const json_t *decision)
{
	const char *policy = text(decision, "policy"), *why = text(decision, "why");
	bool network = json_object_get(decision, "q") != NULL;

	if (network)
		show_network(out, decision);
	else if (flag(decision, "pushed"))
		fprintf(out, "  decided by  the learner, between two reports\n");
	else
		fprintf(out, "  decided by  %s\n", policy);
	show_envelope(out, decision);
	/* What a network's says is in the headline; of the rules beside one it is not. */
	if (why[0] && (!network || strchr(policy, '+')))
		fprintf(out, "  because     %s\n", why);
	if (!flag(decision, "apply"))
		fprintf(out, "  not done    the mode is %s\n", text(decision, "mode"));
}

/* How near to its demand the unit is to live: what a network's actions on CPU move. */
static void show_rung(FILE *out, const json_t *decision)
{
	double from = number(decision, "from_rung"), to = number(decision, "cpu_rung");

	if (!json_object_get(decision, "rung_factor") || !json_object_get(decision, "q"))
		return;
	fprintf(out, "  operates    at point ");
	if (fabs(to - from) > 0.5)
		fprintf(out, "%.0f -> ", from);
	fprintf(out,
		"%.0f of %d (0 is the cheapest): the %s is %.4g times the demand, %.4gm (peak "
		"%.4gm)\n",
		to, RUNG_COUNT - 1, flag(decision, "reserves") ? "reservation" : "limit",
		number(decision, "rung_factor"), number(decision, "demand_millicores"),
		number(decision, "demand_peak_millicores"));
	fprintf(out,
		"              a tick over the objective weighs %.3g times a tick's usual CPU\n",
		number(decision, "violation_price"));
}

static void show_allowance(FILE *out, const json_t *decision)
{
	double share = number(decision, "trigger_age_share");

	if (share > 0)
		fprintf(out,
			"  reflex      may refill the quota %.0f times a period once a request is "
			"older than %.4g ms, up to %.4gm\n",
			number(decision, "refills_per_period"),
			share * number(decision, "target_us") / 1000,
			number(decision, "ceiling_millicores"));
	if (number(decision, "burst_us") > 0)
		fprintf(out, "  burst       %.4g ms of unused quota may be used later\n",
			number(decision, "burst_us") / 1000);
}

/* --- before and after --- */

static void show_gap(FILE *out, const json_t *decision)
{
	double gap_s = number(decision, "gap_s");
	double tick_s = number(sample_of(decision), "tick_s");

	if (tick_s > 0 && gap_s > GAP_TICKS * tick_s)
		fprintf(out,
			"  before      nothing was decided for %.1f s: no report came, or no learner "
			"led\n",
			gap_s);
}

static void show_after(FILE *out, const json_t *decision)
{
	const json_t *after = json_object_get(decision, "after");
	const json_t *sample = json_object_get(after, "sample");
	const json_t *reward = json_object_get(after, "reward");
	char measured[160] = "";

	if (!sample) {
		fprintf(out, "  after       not known yet\n");
		return;
	}
	add_measured(decision, sample, measured, sizeof(measured));
	fprintf(out, "  after       %.1f s later: %s, %.0f of %.0f requests over the target",
		number(after, "seconds"), measured, number(sample, "requests_over"),
		number(sample, "requests"));
	if (json_is_number(reward))
		fprintf(out, ", reward %.3f", json_number_value(reward));
	fputc('\n', out);
}

static void show_state(FILE *out, const json_t *decision)
{
	const json_t *state = json_object_get(decision, "state");

	fprintf(out, "  %-24s %9s\n", "STATE", "VALUE");
	for (size_t i = 0; i < json_array_size(state); i++) {
		double value = json_number_value(json_array_get(state, i));

		if (i < STATE_SIZE)
			fprintf(out, "  %-24s %9.4f  %s\n", state_features[i].name, value,
				state_features[i].text);
		else
			fprintf(out, "  %-24zu %9.4f\n", i, value);
	}
}

void explain_headline(const json_t *decision, char *out, size_t size)
{
	const json_t *sample = sample_of(decision);

	out[0] = '\0';
	if (is_replicas(decision))
		add_replicas(decision, out, size);
	else
		add_limits(decision, out, size);
	if (sample) {
		add(out, size, ": ");
		add_measured(decision, sample, out, size);
	}
	add_q(decision, out, size);
}

void explain_line(FILE *out, const json_t *decision)
{
	const char *rule = text(decision, "rule"), *why = text(decision, "why");
	char moment[48], headline[512];

	moment_format((uint64_t)json_integer_value(json_object_get(decision, "time_us")), moment,
		sizeof(moment));
	explain_headline(decision, headline, sizeof(headline));
	fprintf(out, "%s  %s", moment, headline);
	if (rule[0])
		fprintf(out, " [%s]", rule);
	if (flag(decision, "explored"))
		fputs(" [explored]", out);
	if (!json_object_get(decision, "q") && why[0])
		fprintf(out, "; %s", why);
	fputc('\n', out);
}

void explain_text(FILE *out, const json_t *decision, bool state)
{
	const char *agent = text(decision, "agent");
	char moment[48], headline[512];

	moment_format((uint64_t)json_integer_value(json_object_get(decision, "time_us")), moment,
		sizeof(moment));
	fprintf(out, "%s  %s/%s, %s%s\n", moment, text(decision, "namespace"),
		text(decision, "service"), agent[0] ? "limits on " : "replicas", agent);
	explain_headline(decision, headline, sizeof(headline));
	fprintf(out, "  %s\n", headline);
	show_gap(out, decision);
	show_measured(out, decision);
	show_decider(out, decision);
	show_rung(out, decision);
	show_allowance(out, decision);
	show_after(out, decision);
	show_actions(out, decision);
	if (state)
		show_state(out, decision);
}
