// SPDX-License-Identifier: Apache-2.0
/*
 * Which parameters of each policy are tried: what the best-tuned one is taken from, and the front.
 *
 * The axes are those that an operator would turn; the rest stays as published. VPA and Autopilot
 * think in days: an hour of ours stands for a day of theirs (compression 24).
 */
#include "bench/policy/policy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AXES_MAX 4

struct axis {
	const char *parameter; /* NULL: no more axes */
	bool of_mean_use;      /* values are times the row's mean use, the parameter is a share of
				* the upper bound */
	uint32_t count;
	const double *values; /* [count] */
};

struct grid {
	const char *family;
	const char *fixed; /* assignments that all of its settings have */
	struct axis axes[AXES_MAX];
};

#define VALUES(...)                                                                                \
	sizeof((const double[]){__VA_ARGS__}) / sizeof(double), (const double[])                   \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define TARGETS VALUES(0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1)
#define MARGINS VALUES(1.6, 1, 0.6, 0.3, 0.15, 0)

/* The first axis of each goes from the loosest value to the tightest. */
static const struct grid grids[] = {
	/* No limit that matters: what no CPU can avoid. */
	{"static", "static.cpu_share=1", {{0}}},
	{"static", "",
		{{"static.cpu_share", true,
			VALUES(5, 4, 3, 2.5, 2, 1.75, 1.5, 1.3, 1.1, 1, 0.9, 0.7, 0.5)}}},
	{"k8s-cpu", "", {{"k8s-cpu.target", false, TARGETS}}},
	{"k8s-cpu-fast", "",
		{{"k8s-cpu-fast.target", false, TARGETS},
			{"k8s-cpu-fast.window_s", false, VALUES(5, 20)}}},
	{"captain", "",
		{{"captain.target", false,
			 VALUES(0, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)},
			{"captain.usage_window_s", false, VALUES(5, 20)}}},
	{"koordinator", "",
		{{"koordinator.base_share", true,
			 VALUES(4, 3, 2.5, 2, 1.75, 1.5, 1.3, 1.1, 1, 0.9, 0.7)},
			{"koordinator.calm_s", false, VALUES(1, 5)}}},
	{"vpa", "vpa.compression=24",
		{{"vpa.margin", false, MARGINS},
			{"vpa.cpu_percentile", false, VALUES(98, 90, 50)}}},
	{"autopilot", "autopilot.compression=24",
		{{"autopilot.margin", false, MARGINS},
			{"autopilot.cpu_percentile", false, VALUES(98, 95, 50)}}},
	{"reflex-fixed", "",
		{{"reflex-fixed.factor", false, VALUES(1.45, 1.25, 1.1, 1, 0.9, 0.8, 0.65)},
			{"reflex-fixed.trigger_age_share", false, VALUES(0.1, 0.2, 0.4, 0.6)},
			{"reflex-fixed.window_s", false, VALUES(2, 6)},
			{"reflex-fixed.burst_share", false, VALUES(0, 1)}}},
};

/*
 * Rows about memory: CPU is plenty, so that it is no matter. The lowest limits are lowered: with the
 * published ones (VPA 250 MiB, Senpai 100 MiB) services of this size would not show the rules.
 */
static const struct grid memory_grids[] = {
	{"k8s-cpu-fast", "k8s-cpu-fast.target=0.3", {{0}}},
	{"vpa", "vpa.compression=24, vpa.cpu_least_millicores=8000, vpa.memory_least_mib=16",
		{{"vpa.margin", false, VALUES(0.15, 0.05, 0, 0.1, 0.3, 0.6)},
			{"vpa.memory_percentile", false, VALUES(90, 99)},
			{"vpa.memory_interval_s", false, VALUES(86400, 7200)}}},
	{"autopilot", "autopilot.compression=24",
		{{"autopilot.margin", false, VALUES(0, 0.1, 0.15, 0.3, 0.6, 1)},
			{"autopilot.memory_percentile", false, VALUES(98, 100)}}},
	{"k8s-cpu-fast+senpai", "k8s-cpu-fast.target=0.3, senpai.least_mib=16",
		{{"senpai.pressure_us", false, VALUES(1000, 10000, 50000)},
			{"senpai.interval_s", false, VALUES(1, 6)},
			{"senpai.max_probe", false, VALUES(0.002, 0.01, 0.05)}}},
};

/* Rows without a CPU limit: what can be said of a request. */
static const struct grid reserving_grids[] = {
	/* All of the node, by which the reservation of nobody could be better. */
	{"static", "static.cpu_share=1", {{0}}},
	{"static", "",
		{{"static.cpu_share", true,
			VALUES(3, 2.5, 2, 1.75, 1.5, 1.3, 1.1, 1, 0.9, 0.7, 0.5, 0.3)}}},
	{"k8s-cpu-fast", "",
		{{"k8s-cpu-fast.target", false, TARGETS},
			{"k8s-cpu-fast.window_s", false, VALUES(5, 20)}}},
	{"vpa", "vpa.compression=24, vpa.cpu_least_millicores=25",
		{{"vpa.margin", false, MARGINS},
			{"vpa.cpu_percentile", false, VALUES(98, 90, 50)}}},
	{"autopilot", "autopilot.compression=24",
		{{"autopilot.margin", false, MARGINS},
			{"autopilot.cpu_percentile", false, VALUES(98, 95, 50)}}},
};

/* Rows about replicas; with reflex-fixed each of them is only as large as it needs to be. */
#define HPA                                                                                        \
	{"hpa.target", false, VALUES(0.4, 0.5, 0.6, 0.7, 0.8, 0.9)},                               \
	{                                                                                          \
		"hpa.down_stabilisation_s", false, VALUES(300, 60)                                 \
	}
#define KPA                                                                                        \
	{                                                                                          \
		"kpa.target", false, VALUES(1, 1.5, 2, 3, 4, 6, 9, 14)                             \
	}
static const struct grid scaling_grids[] = {
	{"static", "", {{0}}},
	{"static+hpa", "", {HPA}},
	{"static+kpa", "", {KPA}},
	{"k8s-cpu-fast+hpa", "k8s-cpu-fast.target=0.6", {HPA}},
	{"reflex-fixed+hpa", "reflex-fixed.factor=1.1", {HPA}},
	{"reflex-fixed+kpa", "reflex-fixed.factor=1.1", {KPA}},
};

/* The first is for the front's other end: as few violations as there can be. */
const double asked_shares[] = {0.0001, 0.001, 0.01, 0.05};
const uint32_t asked_share_count = sizeof(asked_shares) / sizeof(asked_shares[0]);

/* Trigger ages tried for each rule with a reflex on top. */
static const double trigger_ages[] = {0.2, 0.4};

struct list {
	struct bench_setting *settings;
	uint32_t count;
	uint32_t room;
};

static struct bench_setting *list_add(struct list *list)
{
	if (list->count == list->room) {
		uint32_t room = list->room ? 2 * list->room : 64;
		void *grown = realloc(list->settings, room * sizeof(*list->settings));

		if (!grown)
			return NULL;
		list->settings = grown;
		list->room = room;
	}
	memset(&list->settings[list->count], 0, sizeof(*list->settings));
	return &list->settings[list->count++];
}

static const struct bench_policy *rule_named(const char *family)
{
	for (uint32_t i = 0; i < policy_rule_count; i++)
		if (strcmp(policy_rules[i].family, family) == 0)
			return &policy_rules[i];
	return NULL;
}

/* Whether a value is the one that was published. */
static bool is_standard(const char *assignment)
{
	struct rule_assignment parsed;
	char error[256];

	if (rule_assignment_parse(assignment, &parsed, error, sizeof(error)))
		return false;
	return fabs(parsed.value - rule_parameters[parsed.id].list[parsed.index].standard) < 1e-9;
}

static int add_setting(struct list *list, const struct bench_policy *policy,
	enum bench_variant variant, const char *parameters, double trigger_age)
{
	struct bench_setting *setting = list_add(list);
	/* Koordinator sets a burst of its own and keeps it. */
	bool own_burst = strcmp(policy->family, "koordinator") == 0;

	if (!setting)
		return -ENOMEM;
	setting->policy = policy;
	setting->variant = variant;
	snprintf(setting->name, sizeof(setting->name), "%s%s", policy->family,
		own_burst && variant == VARIANT_REFLEX ? "+reflex" : variant_names[variant]);
	if (variant == VARIANT_REFLEX)
		snprintf(setting->parameters, sizeof(setting->parameters),
			"%s%sreflex.trigger_age_share=%g", parameters, *parameters ? ", " : "",
			trigger_age);
	else
		snprintf(setting->parameters, sizeof(setting->parameters), "%s", parameters);
	return 0;
}

/* A point of a grid while its axes are gone through. */
struct point {
	char parameters[OBJECTIVE_PARAMETERS_MAX];
	bool tight;    /* in the tighter half of the first axis */
	bool standard; /* all values are the published ones */
};

/*
 * A point as published and as its variants. With the reflex loose limits are of no interest: nothing but
 * cost is left of them.
 */
static int add_point(
	struct list *list, const struct grid *grid, const struct point *point, bool variants)
{
	const struct bench_policy *policy = rule_named(grid->family);
	int err = add_setting(list, policy, VARIANT_PLAIN, point->parameters, 0);

	if (!err)
		list->settings[list->count - 1].standard = point->standard;
	if (!variants || strcmp(grid->family, "reflex-fixed") == 0)
		return err;
	if (!err && strcmp(grid->family, "koordinator") != 0)
		err = add_setting(list, policy, VARIANT_BURST, point->parameters, 0);
	for (size_t i = 0;
		point->tight && !err && i < sizeof(trigger_ages) / sizeof(trigger_ages[0]); i++)
		err = add_setting(list, policy, VARIANT_REFLEX, point->parameters, trigger_ages[i]);
	return err;
}

static int add_axes(struct list *list, const struct grid *grid, const struct bench_row *row,
	uint32_t axis, bool quick, const struct point *before)
{
	const struct axis *a = &grid->axes[axis];
	const double share = row->cores / row->replicas / row_cores_most(row);
	int err = 0;

	if (axis == AXES_MAX || !a->parameter)
		return add_point(list, grid, before, row_is_about_cpu(row));
	for (uint32_t i = 0; !err && i < a->count; i += quick ? 2 : 1) {
		struct point point = *before;
		char assignment[64];

		snprintf(assignment, sizeof(assignment), "%s=%.6g", a->parameter,
			a->values[i] * (a->of_mean_use ? share : 1));
		snprintf(point.parameters, sizeof(point.parameters), "%s%s%s", before->parameters,
			*before->parameters ? ", " : "", assignment);
		point.standard &= is_standard(assignment);
		if (axis == 0)
			point.tight = i >= a->count / 2;
		err = add_axes(list, grid, row, axis + 1, quick, &point);
	}
	return err;
}

static int add_ladder(struct list *list)
{
	int err = 0;

	for (uint32_t rung = 0; !err && rung < RUNG_COUNT; rung++) {
		char parameters[OBJECTIVE_PARAMETERS_MAX];

		snprintf(parameters, sizeof(parameters), "rung=%u", rung);
		err = add_setting(list, &policy_ladder, VARIANT_PLAIN, parameters, 0);
	}
	return err;
}

static int add_learnt(struct list *list, const struct bench_policy *learnt, const char *name)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < asked_share_count; i++) {
		char parameters[OBJECTIVE_PARAMETERS_MAX];

		snprintf(parameters, sizeof(parameters), "%g %% asked for", 100 * asked_shares[i]);
		err = add_setting(list, learnt, VARIANT_PLAIN, parameters, 0);
		if (err)
			break;
		list->settings[list->count - 1].asked = asked_shares[i];
		snprintf(list->settings[list->count - 1].name,
			sizeof(list->settings[list->count - 1].name), "%s", name);
	}
	return err;
}

int grid_make(const struct bench_row *row, const struct bench_policy *learnt, bool quick,
	struct bench_setting **settings, uint32_t *count)
{
	const struct grid *table = grids;
	size_t rules = sizeof(grids) / sizeof(grids[0]);
	struct list list = {0};
	int err = 0;

	if (row->memory) {
		table = memory_grids;
		rules = sizeof(memory_grids) / sizeof(memory_grids[0]);
	} else if (row->scaling) {
		table = scaling_grids;
		rules = sizeof(scaling_grids) / sizeof(scaling_grids[0]);
	} else if (row->reserving) {
		table = reserving_grids;
		rules = sizeof(reserving_grids) / sizeof(reserving_grids[0]);
	}
	for (size_t i = 0; !err && i < rules; i++) {
		struct point point = {.standard = true};

		snprintf(point.parameters, sizeof(point.parameters), "%s", table[i].fixed);
		err = add_axes(&list, &table[i], row, 0, quick, &point);
	}
	if (!err && (row_is_about_cpu(row) || row->reserving))
		err = add_ladder(&list);
	if (!err && learnt)
		err = add_learnt(&list, learnt, learnt->family);
	if (!err && learnt && row->memory)
		err = add_learnt(&list, learnt, LEARNT_HARD);
	if (err) {
		free(list.settings);
		return err;
	}
	for (uint32_t i = 0; i < list.count; i++)
		list.settings[i].reserves = row->reserving != NULL;
	*settings = list.settings;
	*count = list.count;
	return 0;
}
