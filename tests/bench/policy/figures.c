// SPDX-License-Identifier: Apache-2.0
/*
 * The figures of the comparison. Along a policy's front by front.h; a share of violations that is under
 * SHARE_LEAST is taken for it on both sides: a row has too few windows to tell less apart.
 */
#include "bench/policy/policy.h"

#include <math.h>
#include <string.h>

#define SHARE_LEAST 0.001
#define LEARNT	    "dqn"
#define FIXED	    "reflex-fixed"
#define LADDER	    "rung"
#define SENPAI	    "k8s-cpu-fast+senpai"

struct ratios {
	double worst;
	double sum;
	uint32_t count;
	const char *worst_row;
};

static void ratios_add(struct ratios *ratios, double ratio, const struct bench_row *row)
{
	if (ratios->count == 0 || ratio > ratios->worst) {
		ratios->worst = ratio;
		ratios->worst_row = row->name;
	}
	ratios->sum += ratio;
	ratios->count++;
}

static void print_worst(FILE *file, const char *name, const struct ratios *ratios)
{
	if (ratios->count)
		fprintf(file, "figure %s %.3f ratio\n# worst row: %s\n", name, ratios->worst,
			ratios->worst_row);
}

static void print_mean(FILE *file, const char *name, const struct ratios *ratios)
{
	if (ratios->count)
		fprintf(file, "figure %s %.3f ratio\n", name, ratios->sum / ratios->count);
}

/* Of this project: they have the reflex in them. */
static bool is_own(const struct bench_setting *setting)
{
	const char *family = setting->policy->family;

	return !strcmp(family, FIXED) || !strcmp(family, LADDER) || !strcmp(family, LEARNT);
}

/* As published: no reflex, no burst but Koordinator's own. */
static bool is_rule(const struct bench_setting *setting)
{
	return setting->variant == VARIANT_PLAIN && !is_own(setting);
}

static bool is_rule_or_burst(const struct bench_setting *setting)
{
	return setting->variant != VARIANT_REFLEX && !is_own(setting);
}

static bool is_rule_with_reflex(const struct bench_setting *setting)
{
	return setting->variant == VARIANT_REFLEX;
}

static bool field_has(const struct bench_field *field, const char *name)
{
	struct front_point points[BENCH_POINTS_MAX];

	return field_points(field, name, NULL, points) > 0;
}

/* Share of windows that break the objective whatever the CPU: those of the loosest setting. */
static double floor_of(const struct bench_field *field)
{
	const struct bench_outcome *loosest = &field->outcomes[0];

	for (uint32_t i = 1; i < field->setting_count; i++)
		if (field->outcomes[i].allocated_cores > loosest->allocated_cores)
			loosest = &field->outcomes[i];
	return loosest->violations;
}

/* The front of @name in a row, its violations no finer than SHARE_LEAST. */
static uint32_t front_of(const struct bench_field *field, const char *name,
	struct front_point points[BENCH_POINTS_MAX])
{
	uint32_t count = field_points(field, name, NULL, points);

	for (uint32_t i = 0; i < count; i++)
		points[i].violations = fmax(points[i].violations, SHARE_LEAST);
	return front_make(points, count);
}

/* The best-tuned of @name, or of all that @keep says yes to. False: the row has none. */
static bool best_of(const struct bench_field *field, const char *name,
	bool (*keep)(const struct bench_setting *setting), struct front_point *best)
{
	struct front_point points[BENCH_POINTS_MAX];
	uint32_t count = field_points(field, name, keep, points);

	if (count)
		*best = *front_best(points, count, BENCH_VIOLATIONS_MOST);
	return count > 0;
}

/* Cores of @name over those of @than, at the violations of @than. */
static double cores_against(
	const struct bench_field *field, const char *name, const struct front_point *than)
{
	struct front_point front[BENCH_POINTS_MAX];
	uint32_t count = front_of(field, name, front);

	return front_cores_at(front, count, fmax(than->violations, SHARE_LEAST)) / than->cores;
}

static double violations_against(
	const struct bench_field *field, const char *name, const struct front_point *than)
{
	struct front_point front[BENCH_POINTS_MAX];
	uint32_t count = field_points(field, name, NULL, front);

	count = front_make(front, count);
	return front_violations_at(front, count, than->cores) / fmax(than->violations, SHARE_LEAST);
}

/* The same of what CPU can avoid. Violations are told apart to SHARE_LEAST. */
static double avoidable_against(
	const struct bench_field *field, const char *name, const struct front_point *than)
{
	struct front_point front[BENCH_POINTS_MAX];
	uint32_t count = field_points(field, name, NULL, front);
	double floor = floor_of(field);

	count = front_make(front, count);
	return fmax(front_violations_at(front, count, than->cores) - floor, 0) /
	       fmax(than->violations - floor, SHARE_LEAST);
}

/* Against the best-tuned of those that @keep says yes to (or of @than). */
static struct ratios cores_over_rows(const struct bench_field *fields, uint32_t count,
	const char *name, const char *than, bool (*keep)(const struct bench_setting *setting))
{
	struct ratios ratios = {0};
	struct front_point best;

	for (uint32_t i = 0; i < count; i++)
		if (row_is_about_cpu(fields[i].row) && best_of(&fields[i], than, keep, &best))
			ratios_add(&ratios, cores_against(&fields[i], name, &best), fields[i].row);
	return ratios;
}

static void print_rows(
	FILE *file, const struct bench_field *fields, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct bench_field *field = &fields[i];
		struct front_point rule, own;

		if (!row_is_about_cpu(field->row) || !best_of(field, NULL, is_rule, &rule) ||
			!best_of(field, name, NULL, &own))
			continue;
		fprintf(file,
			"# %-24s best rule %s %.3f cores (%.2f %%), %s %.3f (%.2f %%, %.1f refills "
			"a second), at its violations %.3f of its cores, at its cores %.3f of its violations; with no "
			"limit %.2f %%\n",
			field->row->name, field->settings[rule.index].name, rule.cores,
			100 * rule.violations, name, own.cores, 100 * own.violations,
			field->outcomes[own.index].refills_per_s, cores_against(field, name, &rule),
			violations_against(field, name, &rule), 100 * floor_of(field));
	}
}

static void print_against_rules(
	FILE *file, const struct bench_field *fields, uint32_t count, const char *name)
{
	struct ratios rule = cores_over_rows(fields, count, name, NULL, is_rule);
	struct ratios burst = cores_over_rows(fields, count, name, NULL, is_rule_or_burst);
	struct ratios reflex = cores_over_rows(fields, count, name, NULL, is_rule_with_reflex);
	struct ratios k8s = cores_over_rows(fields, count, name, "k8s-cpu", NULL);
	struct ratios violations = {0}, avoidable = {0};
	struct front_point best;

	for (uint32_t i = 0; i < count; i++) {
		if (!row_is_about_cpu(fields[i].row) || !best_of(&fields[i], NULL, is_rule, &best))
			continue;
		ratios_add(&violations, violations_against(&fields[i], name, &best), fields[i].row);
		ratios_add(&avoidable, avoidable_against(&fields[i], name, &best), fields[i].row);
	}
	print_rows(file, fields, count, name);
	print_worst(file, "sim_cpu_vs_best_rule", &rule);
	print_mean(file, "sim_cpu_vs_best_rule_mean", &rule);
	print_worst(file, "sim_violation_ratio", &violations);
	print_worst(file, "sim_violation_ratio_of_avoidable", &avoidable);
	print_mean(file, "sim_cpu_vs_k8s_cpu", &k8s);
	print_worst(file, "sim_cpu_vs_best_rule_with_burst", &burst);
	print_mean(file, "sim_cpu_vs_best_rule_with_burst_mean", &burst);
	print_worst(file, "sim_cpu_vs_best_rule_with_reflex", &reflex);
	print_mean(file, "sim_cpu_vs_best_rule_with_reflex_mean", &reflex);
}

static void print_against_floor(
	FILE *file, const struct bench_field *fields, uint32_t count, const char *name)
{
	struct ratios over[2] = {0};
	struct front_point best;

	for (uint32_t i = 0; i < count; i++) {
		const struct bench_row *row = fields[i].row;

		if (!row_is_about_cpu(row) || !best_of(&fields[i], name, NULL, &best))
			continue;
		ratios_add(&over[row->bursts],
			best.violations <= BENCH_VIOLATIONS_MOST
				? best.cores / fields[i].outcomes[best.index].used_cores
				: INFINITY,
			row);
	}
	print_worst(file, "sim_alloc_over_used_smooth", &over[0]);
	print_worst(file, "sim_alloc_over_used_bursts", &over[1]);
}

/* What @setting's parameters came to in another row. */
static const struct bench_outcome *outcome_of(
	const struct bench_field *field, const struct bench_setting *setting)
{
	for (uint32_t i = 0; i < field->setting_count; i++)
		if (strcmp(field->settings[i].name, setting->name) == 0 &&
			strcmp(field->settings[i].parameters, setting->parameters) == 0)
			return &field->outcomes[i];
	return NULL;
}

/*
 * The one setting of reflex-fixed for all rows: the least mean of cores over use among those that hold in
 * every row; if none does, the one whose worst row breaks the least.
 */
static const struct bench_setting *fixed_choose(
	const struct bench_field *fields, uint32_t count, const struct bench_field *first)
{
	struct front_point points[BENCH_POINTS_MAX];
	uint32_t found = field_points(first, FIXED, NULL, points);

	for (uint32_t i = 0; i < found; i++) {
		points[i].violations = points[i].cores = 0;
		for (uint32_t j = 0; j < count; j++) {
			const struct bench_outcome *outcome = NULL;

			if (row_is_about_cpu(fields[j].row))
				outcome = outcome_of(&fields[j], &first->settings[points[i].index]);
			if (!outcome)
				continue;
			points[i].violations = fmax(points[i].violations, outcome->violations);
			points[i].cores += outcome->allocated_cores / outcome->used_cores;
		}
	}
	return found ? &first->settings[front_best(points, found, BENCH_VIOLATIONS_MOST)->index]
		     : NULL;
}

static void print_against_fixed(
	FILE *file, const struct bench_field *fields, uint32_t count, const char *name)
{
	const struct bench_setting *fixed = NULL;
	struct ratios one = {0}, used = {0};
	struct ratios tuned = cores_over_rows(fields, count, name, FIXED, NULL);
	struct ratios rung = cores_over_rows(fields, count, name, LADDER, NULL);

	for (uint32_t i = 0; i < count && !fixed; i++)
		if (row_is_about_cpu(fields[i].row))
			fixed = fixed_choose(fields, count, &fields[i]);
	for (uint32_t i = 0; fixed && i < count; i++) {
		const struct bench_outcome *outcome = NULL;
		struct front_point than;

		if (row_is_about_cpu(fields[i].row))
			outcome = outcome_of(&fields[i], fixed);
		if (!outcome)
			continue;
		than = (struct front_point){
			.violations = outcome->violations, .cores = outcome->allocated_cores};
		ratios_add(&one, cores_against(&fields[i], name, &than), fields[i].row);
		ratios_add(&used, outcome->used_cores / outcome->allocated_cores, fields[i].row);
		fprintf(file, "# %-24s one " FIXED " %.3f cores (%.2f %%), %.1f refills a second\n",
			fields[i].row->name, outcome->allocated_cores, 100 * outcome->violations,
			outcome->refills_per_s);
	}
	if (fixed)
		fprintf(file,
			"# the best single setting of " FIXED ": %s; its use is %.3f of what it "
			"sets aside: less than that no policy can\n",
			fixed->parameters, used.sum / used.count);
	print_mean(file, "dqn_vs_fixed_reflex", &one);
	print_worst(file, "dqn_vs_fixed_reflex_worst", &one);
	print_mean(file, "dqn_vs_tuned_reflex", &tuned);
	print_worst(file, "dqn_vs_tuned_reflex_worst", &tuned);
	print_mean(file, "dqn_vs_tuned_rung", &rung);
}

/* One share of violations that was asked for against what came of it in each row. */
static struct ratios asked_over_rows(
	FILE *file, const struct bench_field *fields, uint32_t count, double asked, double *least)
{
	struct ratios ratios = {0};

	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < fields[i].setting_count; j++) {
			const struct bench_setting *setting = &fields[i].settings[j];
			double factor;

			if (fabs(setting->asked - asked) > 1e-9 || !row_is_about_cpu(fields[i].row))
				continue;
			factor = fields[i].outcomes[j].violations / asked;
			*least = fmin(*least, factor);
			ratios_add(&ratios, factor, fields[i].row);
			fprintf(file,
				"# %-24s asked %.2f %%, obtained %.2f %%, with no limit %.2f %%\n",
				fields[i].row->name, 100 * asked,
				100 * fields[i].outcomes[j].violations, 100 * floor_of(&fields[i]));
		}
	return ratios;
}

static void print_asked(FILE *file, const struct bench_field *fields, uint32_t count)
{
	double most = 0, least = INFINITY;

	for (uint32_t i = 0; i < asked_share_count; i++) {
		struct ratios ratios;

		if (asked_shares[i] < SHARE_LEAST)
			continue;
		ratios = asked_over_rows(file, fields, count, asked_shares[i], &least);
		if (!ratios.count)
			continue;
		most = fmax(most, ratios.worst);
		fprintf(file, "figure sim_violations_obtained_of_%g_percent %.3f percent\n",
			100 * asked_shares[i], 100 * asked_shares[i] * ratios.sum / ratios.count);
	}
	if (most > 0)
		fprintf(file,
			"figure sim_violations_over_asked %.2f ratio\n"
			"figure sim_violations_over_asked_least %.2f ratio\n",
			most, least);
	else
		fputs("# no policy here takes a share of violations that is asked for\n", file);
}

static bool is_vpa(const struct bench_setting *setting)
{
	return setting->standard && strcmp(setting->policy->family, "vpa") == 0;
}

/* @suffix of the figures' names. */
static void print_memory(FILE *file, const struct bench_field *fields, uint32_t count,
	const char *name, const char *suffix)
{
	struct ratios published = {0}, tuned = {0};
	uint32_t kills = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct bench_field *field = &fields[i];
		struct front_point own, vpa, best;

		if (!field->row->memory || !best_of(field, name, NULL, &own) ||
			!best_of(field, NULL, is_vpa, &vpa) || !best_of(field, "vpa", NULL, &best))
			continue;
		kills += field->outcomes[own.index].oom_kills;
		fprintf(file,
			"# %-24s vpa %.0f MiB (%u kills), best-tuned %.0f (%u), %s %.0f (%u)\n",
			field->row->name, vpa.cores, field->outcomes[vpa.index].oom_kills,
			best.cores, field->outcomes[best.index].oom_kills, name, own.cores,
			field->outcomes[own.index].oom_kills);
		ratios_add(&published, own.cores / vpa.cores, field->row);
		ratios_add(&tuned, own.cores / best.cores, field->row);
	}
	if (!published.count)
		return;
	fprintf(file,
		"figure memory_vs_vpa%s %.3f ratio\n"
		"figure memory_vs_vpa_tuned%s %.3f ratio\n"
		"figure oom_kills%s %u kills\n",
		suffix, published.sum / published.count, suffix, tuned.sum / tuned.count, suffix,
		kills);
}

void figures_print(FILE *file, const struct bench_field *fields, uint32_t count)
{
	const char *cpu = FIXED, *memory = SENPAI;

	for (uint32_t i = 0; i < count; i++)
		if (field_has(&fields[i], LEARNT))
			cpu = memory = LEARNT;
	if (strcmp(cpu, LEARNT) != 0)
		fprintf(file,
			"# No weights were given: the figures below are those of %s tuned for each "
			"row, and of %s for memory, in the place of " LEARNT ".\n",
			cpu, memory);
	print_against_rules(file, fields, count, cpu);
	print_against_floor(file, fields, count, cpu);
	print_against_fixed(file, fields, count, cpu);
	print_asked(file, fields, count);
	print_memory(file, fields, count, memory, "");
	print_memory(file, fields, count, LEARNT_HARD, "_hard");
}
