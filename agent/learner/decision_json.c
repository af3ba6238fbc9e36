// SPDX-License-Identifier: Apache-2.0
#include "learner/decision_json.h"

#include "learner/service.h"
#include "learner/text.h"

#include <math.h>

/* {"name":value,...} */
struct line {
	struct text text;
	const char *separator;
};

static void name(struct line *line, const char *field)
{
	text_add(&line->text, line->separator);
	text_add(&line->text, "\"");
	text_add(&line->text, field);
	text_add(&line->text, "\":");
	line->separator = ",";
}

static void add_string(struct line *line, const char *field, const char *value)
{
	name(line, field);
	text_add_quoted(&line->text, value);
}

static void add_flag(struct line *line, const char *field, bool value)
{
	name(line, field);
	text_add(&line->text, value ? "true" : "false");
}

/* What reads it has integers of 64 bits with a sign. */
static void add_integer(struct line *line, uint64_t value)
{
	text_add_count(&line->text, value < INT64_MAX ? value : INT64_MAX);
}

static void add_count(struct line *line, const char *field, uint64_t value)
{
	name(line, field);
	add_integer(line, value);
}

/* JSON has no number that is none. */
static void add_value(struct line *line, double value)
{
	if (isfinite(value))
		text_add_fixed(&line->text, value, 6);
	else
		text_add(&line->text, "null");
}

static void add_number(struct line *line, const char *field, double value)
{
	name(line, field);
	add_value(line, value);
}

static void object_begin(struct line *line, const char *field)
{
	name(line, field);
	line->separator = "{";
}

static void object_end(struct line *line)
{
	text_add(&line->text, *line->separator == '{' ? "{}" : "}");
	line->separator = ",";
}

static void add_sample(struct line *line, const char *field, const struct sample *sample)
{
	object_begin(line, field);
#define X(each)                                                                                    \
	name(line, #each);                                                                         \
	_Generic(sample->each, double : add_value, default : add_integer)(line, sample->each);
	SAMPLE_FIELDS(X)
#undef X
	object_end(line);
}

static void line_begin(struct line *line, char *bytes, uint64_t time_us, const char *kind,
	const struct decision_subject *subject, const char *policy)
{
	text_begin(&line->text, bytes, DECISION_LINE_BYTES);
	line->separator = "{";
	/* The first two, in this order: what looks for a time need not read the rest. */
	add_count(line, "time_us", time_us);
	add_string(line, "kind", kind);
	add_string(line, "namespace", subject->namespace);
	add_string(line, "service", subject->service);
	if (subject->agent)
		add_string(line, "agent", subject->agent);
	add_string(line, "policy", policy);
}

static size_t line_end(struct line *line, const char *bytes)
{
	text_add(&line->text, "}\n");
	return (size_t)(line->text.at - bytes);
}

static const char *action_name(const struct decision_record *record, uint32_t action)
{
	if (record->kind == DECISION_VERTICAL)
		return action < ACTION_VERTICAL ? action_vertical_name(action) : "limit";
	return action < ACTION_HORIZONTAL ? action_horizontal_name(action) : "replicas";
}

/* What each action was worth, and what was forbidden by which rule. */
static void add_q(struct line *line, const struct decision_record *record)
{
	uint32_t count = record->kind == DECISION_VERTICAL ? ACTION_VERTICAL : ACTION_HORIZONTAL;

	add_flag(line, "guided", record->guided);
	add_number(line, "exploring", (double)record->epsilon);
	object_begin(line, "q");
	for (uint32_t i = 0; i < count; i++)
		add_number(line, action_name(record, i), (double)record->q[i]);
	object_end(line);
	object_begin(line, "forbidden");
	for (uint32_t i = 0; i < count; i++)
		if (record->forbidden[i])
			add_string(line, action_name(record, i),
				envelope_rule_name((enum envelope_rule)record->forbidden[i]));
	object_end(line);
}

static void add_vertical(struct line *line, const struct decision_record *record)
{
	const struct allowance *allowance = &record->plan.allowance;
	const struct sample *sample = &record->sample;

	add_flag(line, "pushed", record->pushed);
	add_number(line, "from_millicores", record->from_millicores);
	add_number(line, "to_millicores", record->plan.cpu_millicores);
	add_flag(line, "reserves", record->plan.reserves);
	add_count(line, "from_bytes", record->from_bytes);
	add_count(line, "to_bytes", record->plan.memory_bytes);
	add_count(line, "burst_us", record->plan.burst_us);
	add_count(line, "from_rung", record->from_rung);
	add_count(line, "cpu_rung", record->plan.cpu_rung);
	add_number(line, "rung_factor", rungs[record->plan.cpu_rung % RUNG_COUNT].factor);
	add_number(line, "demand_millicores", record->demand.usual);
	add_number(line, "demand_peak_millicores", record->demand.peak);
	add_number(line, "violation_price", record->plan.violation_price);
	add_number(line, "latency_us", sample->latency_objective_us);
	add_count(line, "requests", sample->requests);
	add_count(line, "requests_over", sample->requests_over);
	add_count(line, "cpu_used_us", sample->cpu_used_us);
	if (allowance->trigger_age_share > 0) {
		add_number(line, "trigger_age_share", allowance->trigger_age_share);
		add_count(line, "refills_per_period", allowance->refills_per_period);
		add_number(line, "ceiling_millicores", allowance->ceiling_millicores);
	}
	/* Once a tick, for who reads all of them. */
	if (!record->pushed)
		add_sample(line, "sample", sample);
}

static void add_horizontal(struct line *line, const struct decision_record *record)
{
	add_count(line, "from_replicas", record->from_replicas);
	add_count(line, "to_replicas", record->to_replicas);
	/* Not "sample": that is one unit's. */
	add_sample(line, "period", &record->sample);
}

size_t decision_json_line(char bytes[DECISION_LINE_BYTES], const struct decision_subject *subject,
	const struct decision_record *record)
{
	struct line line;

	line_begin(&line, bytes, record->time_us,
		record->kind == DECISION_VERTICAL ? "vertical" : "horizontal", subject,
		record->policy);
	add_string(&line, "mode", objective_mode_name(record->mode));
	add_flag(&line, "apply", record->apply);
	add_string(&line, "action", action_name(record, record->action));
	add_flag(&line, "explored", record->explored);
	add_string(&line, "rule", envelope_rule_name(record->rule));
	add_string(&line, "why", record->why);
	add_number(&line, "percentile", record->percentile);
	add_number(&line, "target_us", record->target_us);
	add_number(&line, "reward", (double)record->reward);
	if (record->kind == DECISION_VERTICAL)
		add_vertical(&line, record);
	else
		add_horizontal(&line, record);
	if (record->has_q)
		add_q(&line, record);
	name(&line, "state");
	for (int i = 0; i < STATE_SIZE; i++) {
		text_add(&line.text, i ? "," : "[");
		add_value(&line, (double)record->state[i]);
	}
	text_add(&line.text, "]");
	return line_end(&line, bytes);
}

size_t decision_json_sample(char bytes[DECISION_LINE_BYTES], double unix_s,
	const struct service *service, const struct service_unit *unit)
{
	const struct decision_subject subject = {
		.namespace = service->namespace, .service = service->name, .agent = unit->agent};
	struct line line;

	line_begin(&line, bytes, (uint64_t)(unix_s * 1e6), "sample", &subject,
		service->objective.policy);
	add_sample(&line, "sample", &unit->sample);
	return line_end(&line, bytes);
}
