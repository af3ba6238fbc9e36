// SPDX-License-Identifier: Apache-2.0
/*
 * The simulated comparison of all policies: every setting of every policy on every row, by seeds.
 * Each run is its own simulation of its own seed, so the results do not depend on the threads.
 */
#include "bench/policy/learnt.h"
#include "bench/policy/policy.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TABLES "results-rows.md"

struct options {
	bool help;
	bool quick;
	uint32_t seeds;
	uint32_t every;	  /* n-th second of the hour */
	uint32_t seconds; /* that a seed plays; the next one goes on where it ended */
	uint32_t threads;
	const char *csv;
	const char *folder; /* of pictures and tables */
	const struct bench_policy *learnt;
	const char *only;     /* part of a row's name */
	const char *policy;   /* part of a policy's name */
	const char *rows;     /* file of rows */
	const char *vertical; /* files of weights; NULL: the learner's own */
	const char *horizontal;
};

struct comparison {
	struct options options;
	struct bench_field *fields; /* [field_count] */
	uint32_t field_count;
	uint32_t run_count;
	atomic_uint next_run;
	atomic_int error;
};

static void field_free(struct bench_field *field)
{
	for (uint32_t i = 0; i < BENCH_SEEDS_MAX; i++)
		free(field->rates[i]);
	free(field->settings);
	free(field->of_seeds);
	free(field->outcomes);
}

/* Only those with @text in their names, in the same order. */
static void settings_keep(struct bench_field *field, const char *text)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < field->setting_count; i++)
		if (strstr(field->settings[i].name, text))
			field->settings[kept++] = field->settings[i];
	field->setting_count = kept;
}

static int field_make(
	struct bench_field *field, const struct bench_row *row, const struct options *options)
{
	int err = grid_make(
		row, options->learnt, options->quick, &field->settings, &field->setting_count);
	uint32_t seconds;

	field->row = row;
	if (!err && options->policy)
		settings_keep(field, options->policy);
	for (uint32_t i = 0; !err && i < options->seeds; i++) {
		err = row_rates(row, options->every, i + 1, &field->rates[i], &seconds);
		if (!err)
			field->trace[i] = (struct simulate_trace){.rate_per_s = field->rates[i],
				.seconds = seconds,
				.first = i * options->seconds % seconds,
				.scale = row_scale(row, field->rates[i], seconds)};
	}
	if (err)
		return err;
	field->of_seeds =
		calloc((size_t)field->setting_count * options->seeds, sizeof(*field->of_seeds));
	field->outcomes = calloc(field->setting_count, sizeof(*field->outcomes));
	return field->of_seeds && field->outcomes ? 0 : -ENOMEM;
}

static int run_play(struct comparison *comparison, uint32_t run, struct simulation **simulation)
{
	const uint32_t seeds = comparison->options.seeds;
	struct bench_field *field = comparison->fields;
	uint32_t setting, seed;

	while (run >= field->setting_count * seeds) {
		run -= field->setting_count * seeds;
		field++;
	}
	setting = run / seeds;
	seed = run % seeds;
	return bench_play(simulation, field->row, &field->trace[seed], comparison->options.seconds,
		seed + 1, &field->settings[setting], &field->of_seeds[run]);
}

static void *worker(void *argument)
{
	struct comparison *comparison = argument;
	struct simulation *simulation = NULL;
	uint32_t run;

	while (!atomic_load(&comparison->error) &&
		(run = atomic_fetch_add(&comparison->next_run, 1)) < comparison->run_count) {
		int err = run_play(comparison, run, &simulation);

		if (err)
			atomic_store(&comparison->error, err);
	}
	simulate_destroy(simulation);
	return NULL;
}

static int play_all(struct comparison *comparison)
{
	pthread_t threads[64];
	uint32_t started = 0;

	for (uint32_t i = 0; i < comparison->field_count; i++)
		comparison->run_count +=
			comparison->fields[i].setting_count * comparison->options.seeds;
	while (started < comparison->options.threads &&
		!pthread_create(&threads[started], NULL, worker, comparison))
		started++;
	if (started == 0)
		worker(comparison);
	for (uint32_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < comparison->field_count; i++) {
		struct bench_field *field = &comparison->fields[i];
		const uint32_t seeds = comparison->options.seeds;

		for (uint32_t j = 0; j < field->setting_count; j++)
			bench_outcome_mean(&field->of_seeds[j * seeds], seeds, &field->outcomes[j]);
	}
	return atomic_load(&comparison->error);
}

static int options_parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
		{"quick", no_argument, NULL, 'q'}, {"seeds", required_argument, NULL, 's'},
		{"every", required_argument, NULL, 'e'}, {"seconds", required_argument, NULL, 'S'},
		{"threads", required_argument, NULL, 't'}, {"csv", required_argument, NULL, 'c'},
		{"rows", required_argument, NULL, 'r'}, {"write", required_argument, NULL, 'w'},
		{"only", required_argument, NULL, 'o'}, {"policy", required_argument, NULL, 'p'},
		{"vertical", required_argument, NULL, 'v'},
		{"horizontal", required_argument, NULL, 'z'}, {0}};
	int id;

	while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (id) {
		case 'h':
			options->help = true;
			break;
		case 'q':
			options->quick = true;
			options->seeds = 1;
			options->every = 6;
			options->seconds = ROW_TRACE_S / 6;
			break;
		case 's':
			options->seeds = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'e':
			options->every = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'S':
			options->seconds = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 't':
			options->threads = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			options->csv = optarg;
			break;
		case 'r':
			options->rows = optarg;
			break;
		case 'v':
			options->vertical = optarg;
			break;
		case 'z':
			options->horizontal = optarg;
			break;
		case 'w':
			options->folder = optarg;
			break;
		case 'o':
			options->only = optarg;
			break;
		case 'p':
			options->policy = optarg;
			break;
		default:
			return -EINVAL;
		}
	if (options->seeds < 1 || options->seeds > BENCH_SEEDS_MAX || options->every < 1 ||
		options->every > 60 || options->seconds < 1 || options->seconds > ROW_TRACE_S ||
		options->threads < 1 || options->threads > 64)
		return -EINVAL;
	return 0;
}

static FILE *open_written(const char *folder, const char *name)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s%s", folder ? folder : "", folder ? "/" : "", name);
	file = fopen(path, "we");
	if (!file)
		fprintf(stderr, "bench-policy: cannot open %s: %s\n", path, strerror(errno));
	return file;
}

static int close_written(FILE *file, const char *name)
{
	bool failed = ferror(file) != 0;

	failed |= fclose(file) != 0;
	if (failed)
		fprintf(stderr, "bench-policy: cannot write %s\n", name);
	return failed ? -EIO : 0;
}

static int write_pictures(const struct comparison *comparison)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < comparison->field_count; i++) {
		const struct bench_field *field = &comparison->fields[i];
		char name[128];
		FILE *file;

		if (!row_is_about_cpu(field->row))
			continue;
		snprintf(name, sizeof(name), "results-%s.svg", field->row->name);
		file = open_written(comparison->options.folder, name);
		if (!file)
			return -EIO;
		(void)picture_draw(file, field);
		err = close_written(file, name);
	}
	return err;
}

static int write_tables(const struct comparison *comparison)
{
	FILE *file = open_written(comparison->options.folder, TABLES);

	if (!file)
		return -EIO;
	fputs("# Policies in the simulator, row by row\n\n"
	      "Made by `make bench-policy`; what it means is in [results.md](results.md). Each line "
	      "is the best-tuned setting of a policy: the least cores (in rows about memory: MiB) "
	      "with at most 1 % of windows over, else the fewest windows over.\n",
		file);
	for (uint32_t i = 0; i < comparison->field_count; i++)
		table_print(file, &comparison->fields[i]);
	return close_written(file, TABLES);
}

static int show(const struct comparison *comparison)
{
	int err = 0;

	table_summary(stdout, comparison->fields, comparison->field_count);
	table_reserving(stdout, comparison->fields, comparison->field_count);
	figures_print(stdout, comparison->fields, comparison->field_count);
	if (comparison->options.csv) {
		FILE *file = open_written(NULL, comparison->options.csv);

		if (!file)
			return -EIO;
		table_csv(file, comparison->fields, comparison->field_count);
		err = close_written(file, comparison->options.csv);
	}
	if (!err && comparison->options.folder) {
		err = write_pictures(comparison);
		if (!err)
			err = write_tables(comparison);
	}
	return err;
}

static const char usage[] =
	"Usage: bench-policy [OPTION]...\n"
	"Every policy over a grid of its parameters, on every row, in the simulator.\n\n"
	"  --quick         every sixth second of the hour, one seed, every other value of the grid\n"
	"  --seeds N       runs of each setting (2); each goes on in the load where the last one ended\n"
	"  --seconds N     that each of them counts (1800)\n"
	"  --every N       only every N-th second of the hour of load (1)\n"
	"  --vertical FILE, --horizontal FILE  networks to compare in place of the learner's own\n"
	"  --threads N     as many as there are processors; the results do not depend on it\n"
	"  --only TEXT     rows with TEXT in their names\n"
	"  --policy TEXT   policies with TEXT in their names; figures need the others as well\n"
	"  --rows FILE     rows of FILE in place of the built-in ones, a line each: NAME WORK_MS CV\n"
	"                  WAIT_MS OBJECTIVE_MS TRACE CORES BURSTS(0|1) REPLICAS\n"
	"  --csv FILE      every outcome\n"
	"  --write FOLDER  pictures of the fronts, and the tables as results-rows.md\n";

static int fields_make(struct comparison *comparison)
{
	static struct bench_row own[BENCH_ROWS_MAX];
	const struct options *options = &comparison->options;
	const struct bench_row *rows = bench_rows;
	uint32_t count = bench_row_count;
	int err = 0;

	if (options->rows) {
		err = rows_read(options->rows, own, &count);
		if (err)
			return err;
		rows = own;
	}
	comparison->fields = calloc(count, sizeof(*comparison->fields));
	if (!comparison->fields)
		return -ENOMEM;
	for (uint32_t i = 0; !err && i < count; i++) {
		struct bench_field *field = &comparison->fields[comparison->field_count];

		if (options->only && !strstr(rows[i].name, options->only))
			continue;
		comparison->field_count++;
		err = field_make(field, &rows[i], options);
		/* A row for none of the policies that are asked for. */
		if (!err && field->setting_count == 0) {
			field_free(field);
			memset(field, 0, sizeof(*field));
			comparison->field_count--;
		}
	}
	return err;
}

int main(int argc, char **argv)
{
	struct comparison comparison = {
		.options = {.seeds = 2,
			.every = 1,
			.seconds = ROW_TRACE_S / 2,
			.threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN)}};
	int err = options_parse(&comparison.options, argc, argv);
	struct learnt learnt;

	if (err) {
		fputs(usage, stderr);
		return 2;
	}
	if (comparison.options.help) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	err = learnt_load(&learnt, comparison.options.vertical, comparison.options.horizontal);
	comparison.options.learnt = &learnt.policy;
	if (!err)
		err = fields_make(&comparison);
	if (!err)
		err = play_all(&comparison);
	if (err)
		fprintf(stderr, "bench-policy: %s\n", strerror(-err));
	else
		err = show(&comparison);
	for (uint32_t i = 0; i < comparison.field_count; i++)
		field_free(&comparison.fields[i]);
	free(comparison.fields);
	learnt_free(&learnt);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
