// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner calibrate: the learner's journal in, a parameter file out. */
#include "learner/command.h"
#include "learner/simulator/calibrate.h"
#include "learner/simulator/calibrate_read.h"
#include "learner/simulator/simulate_file.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "ebbtide-learner calibrate"

static const char usage[] =
	"Usage: ebbtide-learner calibrate [OPTION]... JOURNAL\n"
	"Fit the simulator to a service: CPU time of a request, its spread, waits and workers from\n"
	"what the agent measured. JOURNAL is what the learner writes with --decisions ('-': standard\n"
	"input). Ticks of different load and different limits tell most.\n\n"
	"  --service [NAMESPACE/]NAME  of the journal's services (default: its only one)\n"
	"  --agent NAME                of the service's nodes (default: the first one's)\n"
	"  --output FILE               the parameters (default: standard output)\n"
	"  --set NAME=VALUE            a parameter that is not fitted, for example latency_target_us\n"
	"  --cores N                   CPUs of the node (default: as many as here)\n"
	"                              A service without a CPU limit: neighbours are fitted unless\n"
	"                              neighbour_cores is set\n"
	"  --last N                    the newest N ticks only\n"
	"  --seed N                    of the simulations (default 1)\n"
	"  --help\n\n"
	"What fits how well goes to standard error. Exit status: 0 fitted, 1 failed, 2 wrong usage.\n";

struct arguments {
	const char *journal;
	const char *output;
	struct calibrate_filter filter;
	struct simulate_service start;
	uint64_t seed;
	uint32_t last;
	char service[320]; /* where the filter's names are */
};

static const struct option options[] = {
	{"service", required_argument, NULL, 's'},
	{"agent", required_argument, NULL, 'a'},
	{"output", required_argument, NULL, 'o'},
	{"set", required_argument, NULL, 'p'},
	{"cores", required_argument, NULL, 'c'},
	{"last", required_argument, NULL, 'l'},
	{"seed", required_argument, NULL, 'r'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int refuse(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, NAME ": --%s: \"%s\" is not %s\n", option, value, wanted);
	return -EINVAL;
}

static int apply_service(struct arguments *arguments, const char *text)
{
	char *slash;

	if (strlen(text) >= sizeof(arguments->service))
		return refuse("service", text, "a service's name");
	memcpy(arguments->service, text, strlen(text) + 1);
	slash = strchr(arguments->service, '/');
	if (slash) {
		*slash = '\0';
		arguments->filter.namespace = arguments->service;
	}
	arguments->filter.service = slash ? slash + 1 : arguments->service;
	return 0;
}

static int apply_parameter(
	struct arguments *arguments, const char *option, const char *name, const char *text)
{
	char *end;
	double value = strtod(text, &end);
	int err = end == text || *end ? -EINVAL
				      : simulate_service_set(&arguments->start, name, value);

	if (err == -ENOENT)
		return refuse(option, name, "a parameter; docs/simulator.md lists them");
	return err ? refuse(option, text, "a number in the parameter's range") : 0;
}

static int apply_set(struct arguments *arguments, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals)
		return refuse("set", text, "NAME=VALUE");
	*equals = '\0';
	return apply_parameter(arguments, "set", text, equals + 1);
}

static int apply_whole(const char *option, const char *text, uint64_t most, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (end == text || *end || errno || *value > most || *text == '-')
		return refuse(option, text, "a whole number in its range");
	return 0;
}

static int option_apply(struct arguments *arguments, int id, char *value)
{
	uint64_t whole;

	switch (id) {
	case 's':
		return apply_service(arguments, value);
	case 'a':
		arguments->filter.agent = value;
		return 0;
	case 'o':
		arguments->output = value;
		return 0;
	case 'p':
		return apply_set(arguments, value);
	case 'c':
		return apply_parameter(arguments, "cores", "cores", value);
	case 'l':
		if (apply_whole("last", value, CALIBRATE_SAMPLES_MAX, &whole))
			return -EINVAL;
		arguments->last = (uint32_t)whole;
		return 0;
	case 'r':
		return apply_whole("seed", value, UINT64_MAX, &arguments->seed);
	case 'h':
		fputs(usage, stdout);
		return 1;
	default:
		fputs("Try '" NAME " --help'.\n", stderr);
		return -EINVAL;
	}
}

static int options_parse(struct arguments *arguments, int argc, char **argv)
{
	int id;

	optind = 1;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int err = option_apply(arguments, id, optarg);

		if (err)
			return err;
	}
	if (optind != argc - 1) {
		fprintf(stderr, NAME ": give one JOURNAL, or '-'. Try --help.\n");
		return -EINVAL;
	}
	arguments->journal = argv[optind];
	return 0;
}

static void print_neighbours(const struct calibrate_result *result)
{
	const struct simulate_service *service = &result->service;
	double measured = 0, fitted = 0;

	for (int g = 0; g < CALIBRATE_GROUPS; g++) {
		const struct calibrate_group *group = &result->groups[g];

		measured += group->ticks * group->measured_wait / result->ticks;
		fitted += group->ticks * group->simulated_wait / result->ticks;
	}
	fprintf(stderr, "no CPU limit; neighbours that reserve %.0fm want %.2g of %g CPUs",
		service->neighbour_reserved_millicores, service->neighbour_cores, service->cores);
	if (service->neighbour_cores > 0)
		fprintf(stderr, " for %.3g s, after %.3g s of nothing",
			service->neighbour_busy_us / 1e6, service->neighbour_idle_us / 1e6);
	fprintf(stderr, "\nwaited for a CPU, over CPU time: measured %.3f, fitted %.3f\n", measured,
		fitted);
}

static void print_fit(const struct calibrate_result *result, const char *name)
{
	const struct simulate_service *service = &result->service;

	fprintf(stderr, "%s: %u ticks, %llu requests\n", name, result->ticks,
		(unsigned long long)result->requests);
	fprintf(stderr,
		"work %.3g ms (cv %.2g), %.3g ms more after idling, wait %.3g ms, %g workers%s\n",
		service->work_us / 1e3, service->work_cv, service->wake_us / 1e3,
		service->wait_us / 1e3, service->workers,
		result->workers_known ? ""
				      : " (not sure: these ticks would look much the same with "
					"another number)");
	if (service->reserves > 0)
		print_neighbours(result);
	fprintf(stderr,
		"\n%% of %s  ticks   p50 ms measured  fitted   p95 measured  fitted   p99 measured  "
		"fitted\n",
		service->reserves > 0 ? "cores" : "limit");
	for (int g = 0; g < CALIBRATE_GROUPS; g++) {
		const struct calibrate_group *group = &result->groups[g];

		if (group->ticks == 0)
			continue;
		fprintf(stderr, "%10.1f %6u %17.2f %7.2f %14.2f %7.2f %14.2f %7.2f\n",
			100 * group->use, group->ticks, group->measured_us[0] / 1e3,
			group->simulated_us[0] / 1e3, group->measured_us[1] / 1e3,
			group->simulated_us[1] / 1e3, group->measured_us[2] / 1e3,
			group->simulated_us[2] / 1e3);
	}
	fprintf(stderr, "mean error: p50 %.1f %%, p95 %.1f %%, p99 %.1f %%\n",
		100 * result->error_share[0], 100 * result->error_share[1],
		100 * result->error_share[2]);
}

static int write_parameters(
	const struct arguments *arguments, const struct calibrate_result *result, const char *name)
{
	bool standard = !arguments->output || strcmp(arguments->output, "-") == 0;
	FILE *file = standard ? stdout : fopen(arguments->output, "we");
	char comment[768];
	int err;

	if (!file) {
		err = -errno;
		fprintf(stderr, NAME ": --output: cannot open %s: %s\n", arguments->output,
			strerror(-err));
		return err;
	}
	snprintf(comment, sizeof(comment),
		"%s, fitted to %u ticks and %llu requests by ebbtide-learner calibrate\n"
		"mean error of p50 %.1f %%, p95 %.1f %%, p99 %.1f %%%s",
		name, result->ticks, (unsigned long long)result->requests,
		100 * result->error_share[0], 100 * result->error_share[1],
		100 * result->error_share[2],
		result->workers_known ? "" : "\nworkers: another number would fit as well");
	err = simulate_file_write(file, &result->service, comment);
	if (standard)
		return fflush(stdout) ? -EIO : err;
	if (fclose(file) && !err)
		err = -EIO;
	if (err)
		fprintf(stderr, NAME ": --output: cannot write %s\n", arguments->output);
	return err;
}

static int samples_read(
	const struct arguments *arguments, struct sample **samples, uint32_t *count, char name[640])
{
	bool standard = strcmp(arguments->journal, "-") == 0;
	FILE *file = standard ? stdin : fopen(arguments->journal, "re");
	char error[320];
	int err;

	if (!file) {
		err = -errno;
		fprintf(stderr, NAME ": cannot open %s: %s\n", arguments->journal, strerror(-err));
		return err;
	}
	err = calibrate_read(file, standard ? "standard input" : arguments->journal,
		&arguments->filter, samples, count, name, 640, error, sizeof(error));
	if (!standard)
		fclose(file);
	if (err)
		fprintf(stderr, NAME ": %s\n", error);
	return err;
}

int calibrate_command(int argc, char **argv)
{
	struct arguments arguments = {.seed = 1};
	static struct calibrate_result result;
	struct sample *samples = NULL;
	uint32_t count = 0, first;
	char name[640];
	int err;

	simulate_service_init(&arguments.start);
	/* Not set: what the service leaves of the node. */
	arguments.start.neighbour_reserved_millicores = 0;
	arguments.start.cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
	err = options_parse(&arguments, argc, argv);
	if (err)
		return err > 0 ? EXIT_SUCCESS : COMMAND_EXIT_USAGE;
	if (samples_read(&arguments, &samples, &count, name))
		return EXIT_FAILURE;
	first = arguments.last && arguments.last < count ? count - arguments.last : 0;
	err = calibrate_fit(
		samples + first, count - first, &arguments.start, arguments.seed, &result);
	free(samples);
	if (err == -ENODATA)
		fprintf(stderr,
			NAME ": %s: fewer than %d ticks with %d requests or more and no refill; "
			     "measure longer or under more load\n",
			name, CALIBRATE_TICKS_LEAST, CALIBRATE_REQUESTS);
	else if (err)
		fprintf(stderr, NAME ": %s\n", strerror(-err));
	if (err)
		return EXIT_FAILURE;
	print_fit(&result, name);
	return write_parameters(&arguments, &result, name) ? EXIT_FAILURE : EXIT_SUCCESS;
}
