// SPDX-License-Identifier: Apache-2.0
#include "learner/journal.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

struct journal {
	FILE *file;
};

int journal_open(struct journal **out, const char *path)
{
	struct journal *journal = calloc(1, sizeof(*journal));

	if (!journal)
		return -ENOMEM;
	journal->file = fopen(path, "ae");
	if (!journal->file) {
		int err = -errno;

		free(journal);
		return err;
	}
	setvbuf(journal->file, NULL, _IOLBF, 0);
	*out = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	fclose(journal->file);
	free(journal);
}

static json_t *floats(const float *values, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_real((double)values[i]));
	return array;
}

static void write_line(struct journal *journal, json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;

	if (text)
		fprintf(journal->file, "%s\n", text);
	free(text);
	json_decref(line);
}

static json_t *line_start(double unix_s, const struct service *service, const char *kind)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s}", "time_us", (json_int_t)(unix_s * 1e6), "kind",
		kind, "namespace", service->namespace, "service", service->name, "policy",
		service->objective.policy);
}

static json_t *double_to_json(double value)
{
	return json_real(value);
}

static json_t *integer_to_json(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *sample_to_json(const struct sample *sample)
{
	json_t *object = json_object();

#define X(field)                                                                                   \
	json_object_set_new(object, #field,                                                        \
		_Generic(sample->field, double                                                     \
			 : double_to_json, default                                                 \
			 : integer_to_json)(sample->field));
	SAMPLE_FIELDS(X)
#undef X
	return object;
}

void journal_sample(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit)
{
	json_t *line;

	if (!journal)
		return;
	line = line_start(unix_s, service, "sample");
	json_object_set_new(line, "agent", json_string(unit->agent));
	json_object_set_new(line, "sample", sample_to_json(&unit->sample));
	write_line(journal, line);
}

void journal_vertical(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit, const struct vertical_decision *decision, bool apply)
{
	const struct sample *sample = &unit->sample;
	json_t *line;

	if (!journal)
		return;
	line = line_start(unix_s, service, "vertical");
	json_object_update_new(line,
		json_pack("{s:s, s:b, s:s, s:b, s:s, s:f, s:f, s:I, s:I, s:f, s:I, s:I, s:f, s:s}",
			"agent", unit->agent, "apply", apply, "action",
			decision->action < ACTION_VERTICAL ? action_vertical_name(decision->action)
							   : "limit",
			"explored", decision->explored, "rule", envelope_rule_name(decision->rule),
			"from_millicores", sample->cpu_limit_millicores, "to_millicores",
			decision->cpu_millicores, "from_bytes",
			(json_int_t)sample->memory_limit_bytes, "to_bytes",
			(json_int_t)decision->memory_bytes, "latency_us",
			sample->latency_objective_us, "requests", (json_int_t)sample->requests,
			"requests_over", (json_int_t)sample->requests_over, "cpu_used_us",
			(double)sample->cpu_used_us, "why", decision->why));
	json_object_set_new(line, "sample", sample_to_json(sample));
	if (decision->has_q) {
		json_object_set_new(line, "q", floats(decision->q, ACTION_VERTICAL));
		json_object_set_new(line, "mask", json_integer((json_int_t)decision->mask));
		json_object_set_new(line, "state", floats(unit->state, STATE_SIZE));
	}
	write_line(journal, line);
}

void journal_horizontal(struct journal *journal, double unix_s, const struct service *service,
	const struct horizontal_decision *decision, float reward, bool apply)
{
	json_t *line;

	if (!journal)
		return;
	line = line_start(unix_s, service, "horizontal");
	json_object_update_new(line,
		json_pack("{s:b, s:s, s:b, s:s, s:i, s:i, s:f, s:s}", "apply", apply, "action",
			decision->action < ACTION_HORIZONTAL
				? action_horizontal_name(decision->action)
				: "replicas",
			"explored", decision->explored, "rule", envelope_rule_name(decision->rule),
			"from_replicas", (int)service->replicas, "to_replicas",
			(int)decision->replicas, "reward", (double)reward, "why", decision->why));
	if (decision->has_q) {
		json_object_set_new(line, "q", floats(decision->q, ACTION_HORIZONTAL));
		json_object_set_new(line, "state", floats(service->state, STATE_SIZE));
	}
	write_line(journal, line);
}
