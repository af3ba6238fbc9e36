// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner what-if: the grid of limits and replicas at a load, as table, CSV and picture. */
#include "common/quantity.h"
#include "learner/command.h"
#include "learner/simulator/simulate_file.h"
#include "learner/simulator/what_if.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME	       "ebbtide-learner what-if"
#define RATE_SECONDS   300
#define REPLICAS_SHOWN 4

static const char usage[] =
	"Usage: ebbtide-learner what-if [OPTION]... (--trace FILE | --rate N)\n"
	"Which CPU limit and how many replicas would hold the objective at this load: a table of\n"
	"latency, seconds over the objective and CPU set aside, from the simulator.\n\n"
	"The service:\n"
	"  --parameters FILE    as `ebbtide-learner calibrate` writes it\n"
	"  --work-ms N          CPU time of a request (default 2)\n"
	"  --cv N               its standard deviation over its mean (default 0.5)\n"
	"  --wait-ms N          time a request waits for other than the CPU (default 0)\n"
	"  --workers N          requests that one replica serves at once (default 16)\n"
	"  --cores N            CPUs of the node (default 2)\n"
	"  --set NAME=VALUE     any parameter of docs/simulator.md\n"
	"The objective:\n"
	"  --objective-ms N     latency target (default 50)\n"
	"  --percentile N       of requests that must be within it (default 99)\n"
	"  --acceptable N       share of seconds that may break it (default 0.01)\n"
	"The load:\n"
	"  --trace FILE         requests per second, a line a second\n"
	"  --every N            take every N-th second of it (default 1)\n"
	"  --peak N             scale it so that its busiest second is N\n"
	"  --rate N             a constant rate instead\n"
	"  --seconds N          how long (default: the trace, or 300)\n"
	"  --arrivals KIND      poisson (default), bursty or uniform within a second\n"
	"  --seed N             of arrivals and work (default 1)\n"
	"The grid and the plan:\n"
	"  --limits LIST        CPU of one replica, for example 100m,250m,1; 0: none\n"
	"                       (default: chosen around what the load needs); with parameters that\n"
	"                       say `reserves 1` the reservations of a service without a CPU limit\n"
	"  --replicas LIST      for example 1-4 or 1,2,8 (default 1-4)\n"
	"  --memory QUANTITY    memory limit of one replica, for example 64Mi (default: none)\n"
	"  --burst-ms N         cpu.max.burst (default 0)\n"
	"  --reflex A:N:CPU     refill a throttled replica's quota when its oldest request is older\n"
	"                       than A of the target, at most N times a period, up to CPU\n"
	"Output:\n"
	"  --csv FILE           the table in full, '-' for the standard output alone\n"
	"  --picture FILE       an SVG\n"
	"  --help\n\n"
	"Exit status: 0 some of the grid holds the objective, 3 none does, 1 failed, 2 wrong usage.\n";

#define EXIT_NONE_HOLDS 3

struct arguments {
	struct what_if what_if;
	const char *parameters;
	const char *trace;
	const char *csv;
	const char *picture;
	double rate;
	double peak;
	double every;
	double seconds;
	double seed;
	double *rates; /* owned */
};

enum option_id {
	OPTION_PARAMETERS = 256,
	OPTION_SET,
	OPTION_TRACE,
	OPTION_ARRIVALS,
	OPTION_LIMITS,
	OPTION_REPLICAS,
	OPTION_MEMORY,
	OPTION_REFLEX,
	OPTION_CSV,
	OPTION_PICTURE,
	OPTION_HELP,
	OPTION_NUMBER, /* from here on the index into numbers[] */
};

/* Options that are one number: of the service by its field's name, or of struct arguments. */
static const struct number {
	const char *option;
	const char *field; /* of the service, in @unit; or NULL */
	double unit;
	size_t offset; /* of a double in struct arguments */
	double lowest;
	double highest;
} numbers[] = {
	{"work-ms", "work_us", 1e3, 0, 0, 0},
	{"cv", "work_cv", 1, 0, 0, 0},
	{"wait-ms", "wait_us", 1e3, 0, 0, 0},
	{"workers", "workers", 1, 0, 0, 0},
	{"cores", "cores", 1, 0, 0, 0},
	{"objective-ms", "latency_target_us", 1e3, 0, 0, 0},
	{"percentile", "latency_percentile", 1, 0, 0, 0},
	{"acceptable", NULL, 1, offsetof(struct arguments, what_if.acceptable_violations), 0, 1},
	{"rate", NULL, 1, offsetof(struct arguments, rate), 0, 1e6},
	{"peak", NULL, 1, offsetof(struct arguments, peak), 0, 1e6},
	{"every", NULL, 1, offsetof(struct arguments, every), 1, 1e6},
	{"seconds", NULL, 1, offsetof(struct arguments, seconds), 1, 1e6},
	{"seed", NULL, 1, offsetof(struct arguments, seed), 0, 9e15},
	{"burst-ms", NULL, 1, 0, 0, 1e4},
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static const struct option other_options[] = {
	{"parameters", required_argument, NULL, OPTION_PARAMETERS},
	{"set", required_argument, NULL, OPTION_SET},
	{"trace", required_argument, NULL, OPTION_TRACE},
	{"arrivals", required_argument, NULL, OPTION_ARRIVALS},
	{"limits", required_argument, NULL, OPTION_LIMITS},
	{"replicas", required_argument, NULL, OPTION_REPLICAS},
	{"memory", required_argument, NULL, OPTION_MEMORY},
	{"reflex", required_argument, NULL, OPTION_REFLEX},
	{"csv", required_argument, NULL, OPTION_CSV},
	{"picture", required_argument, NULL, OPTION_PICTURE},
	{"help", no_argument, NULL, OPTION_HELP},
};
#define OTHERS (sizeof(other_options) / sizeof(other_options[0]))

static int refuse(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, NAME ": --%s: \"%s\" is not %s\n", option, value, wanted);
	return -EINVAL;
}

static int parse_double(const char *text, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end != text && !*end && isfinite(*value) ? 0 : -EINVAL;
}

static int apply_field(struct arguments *arguments, const char *option, const char *text,
	const char *field, double unit)
{
	double value;
	int err = parse_double(text, &value);

	if (!err)
		err = simulate_service_set(
			&arguments->what_if.config.service[0], field, value * unit);
	if (err == -ENOENT)
		return refuse(option, field, "a parameter; docs/simulator.md lists them");
	return err ? refuse(option, text, "a number in the parameter's range") : 0;
}

static int apply_number(struct arguments *arguments, const struct number *number, const char *text)
{
	void *slot = (char *)arguments + number->offset;
	char wanted[80];
	double value;

	if (number->field)
		return apply_field(arguments, number->option, text, number->field, number->unit);
	if (parse_double(text, &value) || value < number->lowest || value > number->highest) {
		snprintf(wanted, sizeof(wanted), "a number from %g to %g", number->lowest,
			number->highest);
		return refuse(number->option, text, wanted);
	}
	if (strcmp(number->option, "burst-ms") == 0)
		arguments->what_if.plan.burst_us = (uint64_t)(value * 1e3);
	else
		*(double *)slot = value;
	return 0;
}

static int apply_set(struct arguments *arguments, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals)
		return refuse("set", text, "NAME=VALUE");
	*equals = '\0';
	return apply_field(arguments, "set", equals + 1, text, 1);
}

static int apply_arrivals(struct arguments *arguments, const char *text)
{
	static const char *const kinds[] = {
		[SIMULATE_POISSON] = "poisson",
		[SIMULATE_BURSTY] = "bursty",
		[SIMULATE_UNIFORM] = "uniform",
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i], text) == 0) {
			arguments->what_if.config.trace.arrivals = (enum simulate_arrivals)i;
			return 0;
		}
	return refuse("arrivals", text, "poisson, bursty or uniform");
}

static int apply_limits(struct what_if *what_if, char *text)
{
	char *rest = NULL;

	what_if->limit_count = 0;
	for (char *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		double *limit = &what_if->limit_millicores[what_if->limit_count];

		if (what_if->limit_count == WHAT_IF_LIMITS_MAX)
			return refuse("limits", item, "among the first 32 limits");
		if (quantity_parse_millicores(item, limit))
			return refuse("limits", item, "a CPU quantity like 250m or 1.5");
		what_if->limit_count++;
	}
	return what_if->limit_count ? 0 : refuse("limits", "", "a list like 100m,250m");
}

static int add_replicas(struct what_if *what_if, unsigned long from, unsigned long to)
{
	for (unsigned long count = from; count <= to; count++) {
		if (what_if->replica_count == SIMULATE_REPLICAS_MAX)
			return -EINVAL;
		what_if->replicas[what_if->replica_count++] = (uint32_t)count;
	}
	return 0;
}

static int apply_replicas(struct what_if *what_if, char *text)
{
	char *rest = NULL;

	what_if->replica_count = 0;
	for (char *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		char *end = item;
		unsigned long from = strtoul(item, &end, 10), to = from;

		if (end != item && *end == '-') {
			item = end + 1;
			to = strtoul(item, &end, 10);
		}
		if (end == item || *end || from < 1 || to < from || to > SIMULATE_REPLICAS_MAX ||
			add_replicas(what_if, from, to))
			return refuse("replicas", item, "a list like 1-4 or 1,2,8, up to 64");
	}
	return what_if->replica_count ? 0 : refuse("replicas", "", "a list like 1-4");
}

static int apply_reflex(struct what_if *what_if, const char *text)
{
	struct allowance *allowance = &what_if->plan.allowance;
	char ceiling[32] = "";

	if (sscanf(text, "%lf:%u:%31s", &allowance->trigger_age_share,
		    &allowance->refills_per_period, ceiling) == 3 &&
		allowance->trigger_age_share > 0 && allowance->trigger_age_share <= 100 &&
		quantity_parse_millicores(ceiling, &allowance->ceiling_millicores) == 0)
		return 0;
	return refuse("reflex", text, "AGE:REFILLS:CPU, for example 0.3:3:800m");
}

static int option_apply(struct arguments *arguments, int id, char *value)
{
	struct what_if *what_if = &arguments->what_if;

	switch (id) {
	case OPTION_PARAMETERS:
		/* Read before the others, so that they win wherever they stand. */
		return 0;
	case OPTION_SET:
		return apply_set(arguments, value);
	case OPTION_TRACE:
		arguments->trace = value;
		return 0;
	case OPTION_ARRIVALS:
		return apply_arrivals(arguments, value);
	case OPTION_LIMITS:
		return apply_limits(what_if, value);
	case OPTION_REPLICAS:
		return apply_replicas(what_if, value);
	case OPTION_MEMORY:
		return quantity_parse_bytes(value, &what_if->plan.memory_bytes)
			       ? refuse("memory", value, "a memory quantity like 64Mi")
			       : 0;
	case OPTION_REFLEX:
		return apply_reflex(what_if, value);
	case OPTION_CSV:
		arguments->csv = value;
		return 0;
	case OPTION_PICTURE:
		arguments->picture = value;
		return 0;
	case OPTION_HELP:
		fputs(usage, stdout);
		return 1;
	default:
		if (id >= OPTION_NUMBER && id < OPTION_NUMBER + (int)NUMBERS)
			return apply_number(arguments, &numbers[id - OPTION_NUMBER], value);
		fputs("Try '" NAME " --help'.\n", stderr);
		return -EINVAL;
	}
}

static void options_make(struct option options[NUMBERS + OTHERS + 1])
{
	for (size_t i = 0; i < NUMBERS; i++)
		options[i] = (struct option){
			numbers[i].option, required_argument, NULL, OPTION_NUMBER + (int)i};
	memcpy(options + NUMBERS, other_options, sizeof(other_options));
	options[NUMBERS + OTHERS] = (struct option){0};
}

static int parameters_read(struct arguments *arguments, const char *path)
{
	char error[256];
	int err = simulate_file_read(
		path, &arguments->what_if.config.service[0], error, sizeof(error));

	if (err)
		fprintf(stderr, NAME ": --parameters: %s\n", error);
	return err;
}

static int options_parse(struct arguments *arguments, int argc, char **argv)
{
	struct option options[NUMBERS + OTHERS + 1];
	int id, err = 0;

	options_make(options);
	optind = 1;
	opterr = 0;
	while (!err && (id = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (id == OPTION_PARAMETERS)
			err = parameters_read(arguments, optarg);
	if (err)
		return err;
	optind = 1;
	opterr = 1;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		err = option_apply(arguments, id, optarg);
		if (err)
			return err;
	}
	if (optind < argc) {
		fprintf(stderr, NAME ": \"%s\" is not an option. Try --help.\n", argv[optind]);
		return -EINVAL;
	}
	if (what_if_reserves(&arguments->what_if) &&
		(arguments->what_if.plan.allowance.trigger_age_share > 0 ||
			arguments->what_if.plan.burst_us > 0)) {
		fprintf(stderr, NAME ": --reflex and --burst-ms need a CPU limit; reserves is 1\n");
		return -EINVAL;
	}
	if (!arguments->trace == !(arguments->rate > 0)) {
		fprintf(stderr, NAME ": give one of --trace FILE and --rate N\n");
		return -EINVAL;
	}
	return 0;
}

static int load_make(struct arguments *arguments)
{
	struct simulate_trace *trace = &arguments->what_if.config.trace;
	double busiest = 0;
	char error[256];

	if (!arguments->trace) {
		trace->rate_per_s = &arguments->rate;
		trace->seconds = 1;
		arguments->what_if.ticks =
			(uint32_t)(arguments->seconds > 0 ? arguments->seconds : RATE_SECONDS);
		return 0;
	}
	if (simulate_trace_read(arguments->trace, (uint32_t)arguments->every, &arguments->rates,
		    &trace->seconds, error, sizeof(error))) {
		fprintf(stderr, NAME ": --trace: %s\n", error);
		return -EINVAL;
	}
	trace->rate_per_s = arguments->rates;
	arguments->what_if.ticks =
		arguments->seconds > 0 ? (uint32_t)arguments->seconds : trace->seconds;
	for (uint32_t i = 0; i < trace->seconds && i < arguments->what_if.ticks; i++)
		busiest = fmax(busiest, arguments->rates[i]);
	if (arguments->peak > 0 && busiest > 0)
		trace->scale = arguments->peak / busiest;
	return 0;
}

static void print_limit(double millicores)
{
	char text[32];

	quantity_format_millicores(text, sizeof(text), millicores);
	printf("%9s", millicores > 0 ? text : "none");
}

static void print_table(const struct what_if *what_if, const struct what_if_cell *cells)
{
	const struct simulate_service *service = &what_if->config.service[0];
	const uint32_t count = what_if->limit_count * what_if->replica_count;
	const struct what_if_cell *best = what_if_cheapest(cells, count);
	char head[16];

	snprintf(head, sizeof(head), "p%g ms", service->latency_percentile);
	printf("%u s, %.3g ms of CPU a request (cv %.2g), %g workers a replica, %g cores; objective "
	       "p%g %g ms\n\n",
		what_if->ticks, service->work_us / 1e3, service->work_cv, service->workers,
		service->cores, service->latency_percentile, service->latency_target_us / 1e3);
	if (what_if_reserves(what_if))
		printf("no CPU limit; neighbours reserve %.0fm and want %.3g cores, %.3g %% of the "
		       "time\n\n",
			service->neighbour_reserved_millicores, service->neighbour_cores,
			100 * service->neighbour_busy_us /
				(service->neighbour_busy_us + service->neighbour_idle_us));
	printf("replicas %8s    p50 ms %9s  %% of seconds over  cores used  %9s\n",
		what_if_reserves(what_if) ? "reserved" : "limit", head,
		what_if_reserves(what_if) ? "reserved" : "allocated");
	for (uint32_t i = 0; i < count; i++) {
		printf("%8u", cells[i].replicas);
		print_limit(cells[i].limit_millicores);
		printf("%10.2f %9.2f %18.2f %11.3f %10.3f%s\n", cells[i].latency_p50_us / 1e3,
			cells[i].latency_objective_us / 1e3, 100 * cells[i].violations,
			cells[i].used_cores, cells[i].allocated_cores,
			&cells[i] == best ? "  <- least that holds"
			: cells[i].holds  ? "  holds"
					  : "");
	}
	if (!best)
		printf("\nNone of these holds the objective in %g %% of seconds: more CPU a replica%s.\n",
			100 * (1 - what_if->acceptable_violations),
			what_if_reserves(what_if) ? " or more replicas"
						  : ", more replicas or --reflex");
}

static void write_csv(FILE *file, const struct what_if *what_if, const struct what_if_cell *cells)
{
	fprintf(file,
		"replicas,%s_millicores,p50_us,p95_us,p99_us,objective_us,over_share,failed_share,"
		"violations,used_cores,allocated_cores,refills_per_s,holds\n",
		what_if_reserves(what_if) ? "reserved" : "limit");
	for (uint32_t i = 0; i < what_if->limit_count * what_if->replica_count; i++)
		fprintf(file, "%u,%g,%.1f,%.1f,%.1f,%.1f,%.6f,%.6f,%.6f,%.4f,%.4f,%.3f,%d\n",
			cells[i].replicas, cells[i].limit_millicores, cells[i].latency_p50_us,
			cells[i].latency_p95_us, cells[i].latency_p99_us,
			cells[i].latency_objective_us, cells[i].over_share, cells[i].failed_share,
			cells[i].violations, cells[i].used_cores, cells[i].allocated_cores,
			cells[i].refills_per_s, cells[i].holds);
}

static int close_written(FILE *file, const char *option, const char *path)
{
	bool failed = ferror(file) != 0;

	failed |= fclose(file) != 0;
	if (failed)
		fprintf(stderr, NAME ": --%s: cannot write %s\n", option, path);
	return failed ? -EIO : 0;
}

static FILE *open_written(const char *option, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file)
		fprintf(stderr, NAME ": --%s: cannot open %s: %s\n", option, path, strerror(errno));
	return file;
}

static int show(const struct arguments *arguments, const struct what_if_cell *cells)
{
	const struct what_if *what_if = &arguments->what_if;
	bool csv_alone = arguments->csv && strcmp(arguments->csv, "-") == 0;
	int err = 0;
	FILE *file;

	if (csv_alone)
		write_csv(stdout, what_if, cells);
	else
		print_table(what_if, cells);
	if (arguments->csv && !csv_alone) {
		file = open_written("csv", arguments->csv);
		if (!file)
			return -EIO;
		write_csv(file, what_if, cells);
		err = close_written(file, "csv", arguments->csv);
	}
	if (!err && arguments->picture) {
		file = open_written("picture", arguments->picture);
		if (!file)
			return -EIO;
		(void)what_if_draw(file, what_if, cells);
		err = close_written(file, "picture", arguments->picture);
	}
	return err;
}

static int run(struct arguments *arguments)
{
	struct what_if *what_if = &arguments->what_if;
	uint32_t count;
	struct what_if_cell *cells;
	char error[192];
	int err, status = EXIT_FAILURE;

	what_if->seed = (uint64_t)arguments->seed;
	if (what_if->limit_count == 0)
		what_if_choose_limits(what_if);
	count = what_if->limit_count * what_if->replica_count;
	cells = calloc(count, sizeof(*cells));
	if (!cells)
		return EXIT_FAILURE;
	err = simulate_config_check(&what_if->config, error, sizeof(error));
	if (!err) {
		snprintf(error, sizeof(error), "out of memory");
		err = what_if_run(what_if, cells);
	}
	if (err)
		fprintf(stderr, NAME ": %s\n", error);
	else if (!show(arguments, cells))
		status = what_if_cheapest(cells, count) ? EXIT_SUCCESS : EXIT_NONE_HOLDS;
	free(cells);
	return status;
}

int what_if_command(int argc, char **argv)
{
	struct arguments arguments = {.every = 1, .seed = 1};
	int err, status = COMMAND_EXIT_USAGE;

	simulate_config_init(&arguments.what_if.config);
	arguments.what_if.acceptable_violations = 0.01;
	(void)add_replicas(&arguments.what_if, 1, REPLICAS_SHOWN);
	err = options_parse(&arguments, argc, argv);
	if (!err)
		err = load_make(&arguments);
	if (err > 0)
		status = EXIT_SUCCESS;
	else if (!err)
		status = run(&arguments);
	free(arguments.rates);
	return status;
}
