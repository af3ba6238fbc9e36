// SPDX-License-Identifier: Apache-2.0
/* Which decisions of an answer are shown, each with what came after it. */
#include "ctl/explain_source.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_decision(const json_t *line)
{
	const char *kind = json_string_value(json_object_get(line, "kind"));

	return kind && strcmp(kind, "sample") != 0;
}

static uint64_t time_of(const json_t *line)
{
	return (uint64_t)json_integer_value(json_object_get(line, "time_us"));
}

/* Limits of one unit, or replicas: one after the other. */
static bool is_same_stream(const json_t *a, const json_t *b)
{
	return !json_object_get(a, "agent") == !json_object_get(b, "agent");
}

static json_t *measured_of(const json_t *line)
{
	json_t *sample = json_object_get(line, "sample");

	return sample ? sample : json_object_get(line, "period");
}

/* What the first of @lines[@at + 1 ...] that has measured anything says of @lines[@at]. */
static json_t *after_of(const json_t *lines, size_t at)
{
	const json_t *decision = json_array_get(lines, at);

	for (size_t i = at + 1; i < json_array_size(lines); i++) {
		json_t *next = json_array_get(lines, i), *reward;
		json_t *measured = measured_of(next);

		if (!measured || !is_same_stream(decision, next))
			continue;
		reward = json_object_get(next, "reward");
		return json_pack("{s:f, s:O?, s:O}", "seconds",
			((double)time_of(next) - (double)time_of(decision)) / 1e6, "reward", reward,
			"sample", measured);
	}
	return json_null();
}

static json_t *gap_of(const json_t *lines, size_t at)
{
	const json_t *decision = json_array_get(lines, at);

	for (size_t i = at; i > 0; i--) {
		const json_t *before = json_array_get(lines, i - 1);

		if (is_decision(before) && is_same_stream(decision, before))
			return json_real(
				((double)time_of(decision) - (double)time_of(before)) / 1e6);
	}
	return json_null();
}

/* The newest @count of one kind, marked in @shown. */
static void choose(
	const json_t *lines, bool replicas, uint64_t at_us, unsigned long count, bool *shown)
{
	for (size_t i = json_array_size(lines); i > 0 && count > 0; i--) {
		const json_t *line = json_array_get(lines, i - 1);

		if (!is_decision(line) || time_of(line) > at_us ||
			!json_object_get(line, "agent") != replicas)
			continue;
		shown[i - 1] = true;
		count--;
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = time_of(*(json_t *const *)a), y = time_of(*(json_t *const *)b);

	return x < y ? -1 : x > y;
}

json_t *explain_select(const json_t *answer, uint64_t at_us, unsigned long count)
{
	const json_t *lines = json_object_get(answer, "decisions");
	size_t size = json_array_size(lines), chosen = 0;
	bool *shown = calloc(size + 1, sizeof(*shown));
	json_t **list = calloc(size + 1, sizeof(json_t *)), *selected = json_array();

	if (!shown || !list || !selected)
		goto out;
	choose(lines, false, at_us, count, shown);
	choose(lines, true, at_us, count, shown);
	for (size_t i = 0; i < size; i++) {
		if (!shown[i])
			continue;
		list[chosen] = json_copy(json_array_get(lines, i));
		json_object_set_new(list[chosen], "after", after_of(lines, i));
		json_object_set_new(list[chosen++], "gap_s", gap_of(lines, i));
	}
	qsort(list, chosen, sizeof(json_t *), compare);
	for (size_t i = 0; i < chosen; i++)
		json_array_append_new(selected, list[i]);
out:
	free(list);
	free(shown);
	return selected;
}
