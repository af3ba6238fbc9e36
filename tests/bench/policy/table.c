// SPDX-License-Identifier: Apache-2.0
/* What came out, for people and for programs. */
#include "bench/policy/policy.h"

#include <string.h>

#define MIB 1048576.0

uint32_t field_points(const struct bench_field *field, const char *name,
	bool (*keep)(const struct bench_setting *setting),
	struct front_point points[BENCH_POINTS_MAX])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < field->setting_count && count < BENCH_POINTS_MAX; i++) {
		const struct bench_setting *setting = &field->settings[i];
		const struct bench_outcome *outcome = &field->outcomes[i];

		if (name ? strcmp(setting->name, name) != 0 : keep && !keep(setting))
			continue;
		points[count++] = (struct front_point){
			.violations =
				outcome->violations + (field->row->memory && outcome->oom_kills),
			.cores = field->row->memory ? outcome->memory_bytes / MIB
						    : outcome->allocated_cores,
			.index = i};
	}
	return count;
}

uint32_t field_names(const struct bench_field *field, const char **names, uint32_t room)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < field->setting_count; i++) {
		uint32_t known = 0;

		while (known < count && strcmp(names[known], field->settings[i].name) != 0)
			known++;
		if (known == count && count < room)
			names[count++] = field->settings[i].name;
	}
	return count;
}

static void print_outcome(
	FILE *file, const struct bench_setting *setting, const struct bench_outcome *o)
{
	fprintf(file,
		"| %s | %.3f | %.3f | %.2f | %.2f | %.0f | %.1f | %.0f | %.0f | %.0f | %.1f | %u | "
		"%s |\n",
		setting->name, o->allocated_cores, o->allocated_p99_cores,
		o->allocated_cores / o->used_cores, 100 * o->violations, o->worst_window_ms,
		o->latency_ms, o->memory_bytes / MIB, o->replica_s, o->actions_per_h,
		o->refills_per_s, o->oom_kills, setting->parameters);
}

void table_print(FILE *file, const struct bench_field *field)
{
	struct front_point points[BENCH_POINTS_MAX];
	const char *names[BENCH_NAMES_MAX];
	const uint32_t count = field_names(field, names, BENCH_NAMES_MAX);
	const struct bench_row *row = field->row;

	fprintf(file, "\n### %s\n\n", row->name);
	fprintf(file,
		"%g ms of CPU a request (cv %g), objective p99 %g ms, %s%s, %.2f cores used by %u "
		"replica%s%s\n\n",
		row->work_ms, row->work_cv, row->objective_ms, row_load_name(row),
		row->bursts ? ", bursts within the second" : "", field->outcomes[0].used_cores,
		row->replicas, row->replicas > 1 ? "s" : "",
		row->reserving ? "; no CPU limit: cores are what is reserved" : "");
	fputs("| policy | cores | p99 by the second | over use | windows over % | worst window ms | "
	      "p99 ms | memory MiB | replica-seconds | actions an hour | refills a second | OOM "
	      "kills | parameters |\n"
	      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
		file);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t found = field_points(field, names[i], NULL, points);
		uint32_t best = front_best(points, found, BENCH_VIOLATIONS_MOST)->index;

		print_outcome(file, &field->settings[best], &field->outcomes[best]);
	}
}

/* A policy is a line: the first row's names are those of all rows about CPU. */
void table_summary(FILE *file, const struct bench_field *fields, uint32_t count)
{
	const char *names[BENCH_NAMES_MAX];
	uint32_t first = 0, name_count;

	while (first < count && !row_is_about_cpu(fields[first].row))
		first++;
	if (first == count)
		return;
	name_count = field_names(&fields[first], names, BENCH_NAMES_MAX);
	fputs("\n| policy |", file);
	for (uint32_t i = first; i < count; i++)
		if (row_is_about_cpu(fields[i].row))
			fprintf(file, " %s |", fields[i].row->name);
	fputs("\n| --- |", file);
	for (uint32_t i = first; i < count; i++)
		if (row_is_about_cpu(fields[i].row))
			fputs(" --- |", file);
	for (uint32_t j = 0; j < name_count; j++) {
		fprintf(file, "\n| %s |", names[j]);
		for (uint32_t i = first; i < count; i++) {
			struct front_point points[BENCH_POINTS_MAX];
			const struct front_point *best;
			uint32_t found = field_points(&fields[i], names[j], NULL, points);

			if (!row_is_about_cpu(fields[i].row) || !found)
				continue;
			best = front_best(points, found, BENCH_VIOLATIONS_MOST);
			fprintf(file, " %.2f (%.2f %%) |", best->cores, 100 * best->violations);
		}
	}
	fputs("\n\n", file);
}

static void print_reserving(FILE *file, const struct bench_field *field, uint32_t index)
{
	const struct bench_setting *setting = &field->settings[index];
	const struct bench_outcome *o = &field->outcomes[index];

	fprintf(file, "| %s | %.3f | %.3f | %.2f | %.1f | %s |\n", setting->name,
		o->allocated_cores, o->allocated_cores / o->used_cores, 100 * o->violations,
		o->latency_ms, setting->parameters);
}

void table_reserving(FILE *file, const struct bench_field *fields, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct bench_field *field = &fields[i];
		const struct row_reserving *node = field->row->reserving;
		struct front_point points[BENCH_POINTS_MAX];
		const char *names[BENCH_NAMES_MAX];
		uint32_t name_count = node ? field_names(field, names, BENCH_NAMES_MAX) : 0;

		if (!node)
			continue;
		fprintf(file,
			"%s: no CPU limit, %.2f cores used of a node of %g; neighbours reserve %.1f and "
			"want %g, half of the time\n\n"
			"| policy | cores reserved | over use | windows over %% | p99 ms | parameters |\n"
			"| --- | --- | --- | --- | --- | --- |\n",
			field->row->name, field->outcomes[0].used_cores, node->node_cores,
			node->neighbour_reserved_millicores / 1000, node->neighbour_cores);
		for (uint32_t j = 0; j < name_count; j++) {
			uint32_t found = field_points(field, names[j], NULL, points);
			uint32_t best = front_best(points, found, BENCH_VIOLATIONS_MOST)->index;

			/* What can be asked is below, for each share. */
			if (field->settings[best].asked <= 0)
				print_reserving(file, field, best);
		}
		for (uint32_t j = 0; j < field->setting_count; j++)
			if (field->settings[j].asked > 0)
				print_reserving(file, field, j);
		fputc('\n', file);
	}
}

void table_csv(FILE *file, const struct bench_field *fields, uint32_t count)
{
	fputs("row,policy,parameters,used_cores,allocated_cores,allocated_p99_cores,violations,"
	      "worst_window_ms,latency_ms,failed_share,memory_bytes,replica_s,actions_per_h,"
	      "refills_per_s,oom_kills,windows\n",
		file);
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < fields[i].setting_count; j++) {
			const struct bench_setting *s = &fields[i].settings[j];
			const struct bench_outcome *o = &fields[i].outcomes[j];

			fprintf(file,
				"%s,%s,\"%s\",%.4f,%.4f,%.4f,%.6f,%.2f,%.2f,%.6f,%.0f,%.0f,%.1f,"
				"%.3f,%u,%u\n",
				fields[i].row->name, s->name, s->parameters, o->used_cores,
				o->allocated_cores, o->allocated_p99_cores, o->violations,
				o->worst_window_ms, o->latency_ms, o->failed_share, o->memory_bytes,
				o->replica_s, o->actions_per_h, o->refills_per_s, o->oom_kills,
				o->windows);
		}
}
