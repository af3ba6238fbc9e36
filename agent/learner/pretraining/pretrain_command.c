// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner pretrain: a network from the simulator, as a file of weights. */
#include "learner/command.h"
#include "learner/dqn/checkpoint.h"
#include "learner/pretraining/pretrain.h"
#include "learner/pretraining/pretrained.h"

#include "common/state.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "ebbtide-learner pretrain"

static const char usage[] =
	"Usage: ebbtide-learner pretrain [OPTION]... --output FILE\n"
	"       ebbtide-learner pretrain --test [OPTION]...\n"
	"Train a network in the simulator, over services, loads and objectives drawn at random, and\n"
	"write its weights (docs/checkpoint.md). A learner starts from such files: from those that it\n"
	"carries, or from a folder (--pretrained).\n\n"
	"  --output FILE      the weights\n"
	"  --part PART        vertical: CPU and memory (default), or horizontal: replicas, over limits\n"
	"                     that a vertical network decides\n"
	"  --vertical FILE    that network, or the one to test (default: the program's own)\n"
	"  --horizontal FILE  test replicas by this one as well ('own': the program's)\n"
	"  --seed N           of everything; the same seed and processor give the same file (default 1)\n"
	"  --rounds N         decisions in each of the worlds (default 12000 vertical, 4000 horizontal)\n"
	"  --worlds N         side by side (default 64)\n"
	"  --updates N        gradient steps a round (default 4)\n"
	"  --reserving SHARE  of the worlds whose service has no CPU limit (default 0; 0 to 1)\n"
	"  --test             train nothing: play worlds of another seed and print what came of them\n"
	"  --help\n\n"
	"Progress goes to standard error. Exit status: 0, 1 failed, 2 wrong usage.\n";

static const struct option options[] = {
	{"output", required_argument, NULL, 'o'},
	{"part", required_argument, NULL, 'p'},
	{"vertical", required_argument, NULL, 'v'},
	{"horizontal", required_argument, NULL, 'z'},
	{"seed", required_argument, NULL, 's'},
	{"rounds", required_argument, NULL, 'r'},
	{"worlds", required_argument, NULL, 'w'},
	{"updates", required_argument, NULL, 'u'},
	{"reserving", required_argument, NULL, 'R'},
	{"test", no_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

struct arguments {
	const char *output;
	const char *vertical;
	const char *horizontal;
	enum pretrain_part part;
	bool test;
	double reserving;
	uint64_t seed, rounds, worlds, updates; /* 0 (updates: UINT64_MAX): the part's default */
};

static int number(const char *option, uint64_t least, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(optarg, &end, 10);
	if (errno || end == optarg || *end || *out < least || *out > most || *optarg == '-') {
		fprintf(stderr, NAME ": --%s: \"%s\" is not a whole number from %llu to %llu\n",
			option, optarg, (unsigned long long)least, (unsigned long long)most);
		return -EINVAL;
	}
	return 0;
}

static int part_apply(struct arguments *arguments)
{
	if (strcmp(optarg, "vertical") == 0)
		arguments->part = PRETRAIN_VERTICAL;
	else if (strcmp(optarg, "horizontal") == 0)
		arguments->part = PRETRAIN_HORIZONTAL;
	else {
		fprintf(stderr, NAME ": --part: \"%s\" is neither vertical nor horizontal\n",
			optarg);
		return -EINVAL;
	}
	return 0;
}

static int reserving_apply(struct arguments *arguments)
{
	char *end;

	arguments->reserving = strtod(optarg, &end);
	if (end != optarg && !*end && arguments->reserving >= 0 && arguments->reserving <= 1)
		return 0;
	fprintf(stderr, NAME ": --reserving: \"%s\" is not a number from 0 to 1\n", optarg);
	return -EINVAL;
}

static int option_apply(struct arguments *arguments, int option)
{
	switch (option) {
	case 'o':
		arguments->output = optarg;
		return 0;
	case 'p':
		return part_apply(arguments);
	case 'v':
		arguments->vertical = optarg;
		return 0;
	case 'z':
		arguments->horizontal = optarg;
		return 0;
	case 's':
		return number("seed", 0, UINT32_MAX, &arguments->seed);
	case 'r':
		return number("rounds", 1, 100000000, &arguments->rounds);
	case 'w':
		return number("worlds", 1, 1024, &arguments->worlds);
	case 'u':
		return number("updates", 0, 1000, &arguments->updates);
	case 'R':
		return reserving_apply(arguments);
	case 't':
		arguments->test = true;
		return 0;
	case 'h':
		fputs(usage, stdout);
		return 1;
	default:
		fputs("Try '" NAME " --help'.\n", stderr);
		return -EINVAL;
	}
}

static int arguments_parse(struct arguments *arguments, int argc, char **argv)
{
	int option, err = 0;

	*arguments = (struct arguments){.seed = 1, .updates = UINT64_MAX};
	while (!err && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		err = option_apply(arguments, option);
	if (err)
		return err;
	if (optind < argc) {
		fprintf(stderr, NAME ": stray argument: %s\n", argv[optind]);
		return -EINVAL;
	}
	if (!arguments->output == !arguments->test) {
		fprintf(stderr, NAME ": give either --output FILE or --test\n");
		return -EINVAL;
	}
	return 0;
}

static void progress(
	void *context, uint32_t round, const struct pretrain_score *score, double td_error)
{
	const struct pretrain_config *config = context;

	fprintf(stderr,
		"round %u of %u: reward %.4f, allocated over used %.3f, violations %.2f %% (asked "
		"%.2f %%), memory %.2f, refills %.2f/s, replicas %.2f, TD error %.4f\n",
		round, config->rounds, score->reward, score->allocated, 100 * score->violations,
		100 * score->asked, score->memory, score->refills, score->replicas, td_error);
}

static int test_print(const struct arguments *arguments, const struct network *vertical,
	const struct network *horizontal)
{
	static const double asked[] = {0.001, 0.01, 0.05};

	printf("%10s %11s %10s %8s %10s %9s %10s\n", "asked", "violations", "allocated", "memory",
		"refills/s", "replicas", "OOM kills");
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct pretrain_score score;
		int err = pretrain_test(vertical, horizontal, arguments->seed + 7919, 64, 2000,
			asked[i], arguments->reserving, &score);

		if (err)
			return err;
		printf("%9.2f%% %10.3f%% %10.3f %8.2f %10.2f %9.2f %10llu\n", 100 * asked[i],
			100 * score.violations, score.allocated, score.memory, score.refills,
			score.replicas, (unsigned long long)score.oom_kills);
	}
	return 0;
}

static int network_load(const char *path, enum pretrain_part part, struct network *network)
{
	const struct network_shape shape = pretrain_shape(part);
	const char *name = part == PRETRAIN_VERTICAL ? "vertical" : "horizontal";
	char error[256] = "";
	int err = pretrained_network(path, name, &shape, network, error, sizeof(error));

	if (err)
		fprintf(stderr, NAME ": %s: %s\n", path ? path : name,
			error[0] ? error : strerror(-err));
	return err;
}

static int weights_write(
	const char *path, enum pretrain_part part, const struct pretrain_result *result)
{
	const struct checkpoint checkpoint = {.schema = STATE_SCHEMA,
		.inputs = STATE_SIZE,
		.actions = pretrain_shape(part).actions,
		.steps = result->steps,
		.count = result->network.layout.count,
		.weights = result->network.parameters};
	int err = checkpoint_write(path, &checkpoint, 1);

	if (err)
		fprintf(stderr, NAME ": %s: %s\n", path, strerror(-err));
	else
		fprintf(stderr, "%s: %llu experiences, %llu steps\n", path,
			(unsigned long long)result->experiences, (unsigned long long)result->steps);
	return err;
}

static int train(const struct arguments *arguments, const struct network *vertical)
{
	struct pretrain_config config;
	struct pretrain_result result;
	int err;

	pretrain_config_init(&config, arguments->part);
	config.vertical = vertical;
	config.seed = arguments->seed;
	config.reserving = arguments->reserving;
	if (arguments->rounds)
		config.rounds = (uint32_t)arguments->rounds;
	if (arguments->worlds)
		config.worlds = (uint32_t)arguments->worlds;
	if (arguments->updates != UINT64_MAX)
		config.updates = (uint32_t)arguments->updates;
	err = pretrain_run(&config, &result, progress, &config);
	if (!err)
		err = weights_write(arguments->output, arguments->part, &result);
	if (!err)
		err = vertical ? test_print(arguments, vertical, &result.network)
			       : test_print(arguments, &result.network, NULL);
	network_destroy(&result.network);
	return err;
}

static int test(const struct arguments *arguments)
{
	const char *path = arguments->horizontal;
	struct network vertical, horizontal = {0};
	int err = network_load(arguments->vertical, PRETRAIN_VERTICAL, &vertical);

	if (!err && path)
		err = network_load(
			strcmp(path, "own") == 0 ? NULL : path, PRETRAIN_HORIZONTAL, &horizontal);
	if (!err)
		err = test_print(arguments, &vertical, path ? &horizontal : NULL);
	network_destroy(&vertical);
	network_destroy(&horizontal);
	return err;
}

int pretrain_command(int argc, char **argv)
{
	struct arguments arguments;
	struct network vertical = {0};
	int err = arguments_parse(&arguments, argc, argv);

	if (err > 0)
		return 0;
	if (err) {
		fprintf(stderr, "Try '" NAME " --help'.\n");
		return COMMAND_EXIT_USAGE;
	}
	if (arguments.test)
		return test(&arguments) ? 1 : 0;
	if (arguments.part == PRETRAIN_VERTICAL)
		return train(&arguments, NULL) ? 1 : 0;
	err = network_load(arguments.vertical, PRETRAIN_VERTICAL, &vertical);
	if (!err)
		err = train(&arguments, &vertical);
	network_destroy(&vertical);
	return err ? 1 : 0;
}
