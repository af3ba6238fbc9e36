// SPDX-License-Identifier: Apache-2.0
#include "learner/command_line.h"

#include "common/options.h"
#include "learner/pretraining/pretrained.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "ebbtide-learner"
/* Who starts from a trained network tries little. */
#define EXPLORE_PRETRAINED 0.05

static const char usage[] =
	"Usage: ebbtide-learner [OPTION]...\n"
	"       ebbtide-learner calibrate [OPTION]... JOURNAL   fit the simulator to a service\n"
	"       ebbtide-learner pretrain [OPTION]...   train networks in the simulator\n"
	"       ebbtide-learner what-if [OPTION]...   which limits would hold an objective\n"
	"Take experiences from agents, train the Q-networks, answer with actions.\n\n"
	"  --listen HOST:PORT       HTTP for agents, /metrics, /healthz (default 127.0.0.1:9650)\n"
	"  --http-threads N         that serve agents (default: one a core, at most 4;\n"
	"                           32 with --durability fsync)\n"
	"  --bodies-mib N           memory for requests' bodies, all together; beyond it agents are\n"
	"                           asked to wait (default 256)\n"
	"  --server URL             Kubernetes API (default: --kubeconfig, $KUBECONFIG, service account)\n"
	"  --kubeconfig FILE        where the API is and who we are\n"
	"  --state DIR              checkpoints and the experience log (default\n"
	"                           /var/lib/ebbtide-learner)\n"
	"  --decisions FILE         append every decision, one JSON object a line\n"
	"  --decisions-mib N        memory for the newest decisions of each unit and service, for\n"
	"                           ebbctl explain; 0: none (default 160)\n"
	"  --lease NAMESPACE/NAME   lead through this Lease (default: none, always leading)\n"
	"  --identity NAME          in that Lease (default: hostname and pid)\n"
	"  --scale-period-s N       seconds between two decisions on replicas (default 10)\n"
	"  --cooldown-s N           rest after a scale-in (default 30)\n"
	"  --checkpoint-period-s N  (default 60)\n"
	"  --checkpoints N          kept of each network (default 3)\n"
	"  --replay N               transitions in each replay buffer, and at least as many\n"
	"                           experiences in its log (default 100000)\n"
	"  --durability KIND        what an acknowledged experience survives: process (kill -9) or\n"
	"                           fsync (loss of power, slower) (default process)\n"
	"  --replay-ratio N         gradient steps per experience (default 8)\n"
	"  --updates-per-s N        bound on gradient steps (default 400)\n"
	"  --train-cpu N            share of a core that training may take (default 0.5)\n"
	"  --anchor N               live experiences that the pretrained networks count as\n"
	"                           (default 50000; 0: live training may lead anywhere)\n"
	"  --explore-schedule KIND  decay (a service's exploration fades) or apex (each unit has its\n"
	"                           own, as the actors of Ape-X) (default decay)\n"
	"  --explore-apex-base N    apex: the first unit's share (default 0.4)\n"
	"  --explore-apex-alpha N   apex: the last unit's share is base^(1 + N) (default 7)\n"
	"  --explore N              decay: share of exploring decisions at the start (default 0.05,\n"
	"                           with --pretrained none 0.9)\n"
	"  --explore-decisions N    e-folding of that share, in decisions (default 120)\n"
	"  --pretrained DIR         start from the networks in this folder, or 'none': from nothing\n"
	"                           (default: those that the program carries)\n"
	"  --seed N                 of weights, sampling and exploration (default: the clock)\n"
	"  --rule-parameter R.P=N   a rule's parameter, for example k8s-cpu.target=0.6; repeatable\n"
	"  --list-policies          print every policy and its parameters, and leave\n"
	"  --log-level LEVEL        err, warning, notice, info, debug (default info)\n"
	"  --dump-replay DIR        print the experience log of a state directory, one JSON object a\n"
	"                           record, and leave; also while a learner writes it\n"
	"  --help, --version\n\n"
	"SIGTERM and SIGINT write a checkpoint and leave.\n"
	"Exit status: 0 left as asked, 1 could not start, 2 wrong usage. See docs/learner.md.\n";

enum option_id {
	OPTION_LISTEN = 256,
	OPTION_HTTP_THREADS,
	OPTION_BODIES,
	OPTION_SERVER,
	OPTION_KUBECONFIG,
	OPTION_STATE,
	OPTION_DECISIONS,
	OPTION_DECISIONS_MIB,
	OPTION_LEASE,
	OPTION_IDENTITY,
	OPTION_SCALE_PERIOD,
	OPTION_COOLDOWN,
	OPTION_CHECKPOINT,
	OPTION_CHECKPOINTS,
	OPTION_REPLAY,
	OPTION_DURABILITY,
	OPTION_DUMP,
	OPTION_RATIO,
	OPTION_UPDATES,
	OPTION_TRAIN_CPU,
	OPTION_ANCHOR,
	OPTION_EXPLORE_SCHEDULE,
	OPTION_EXPLORE_BASE,
	OPTION_EXPLORE_ALPHA,
	OPTION_EXPLORE,
	OPTION_EXPLORE_DECISIONS,
	OPTION_PRETRAINED,
	OPTION_SEED,
	OPTION_RULE_PARAMETER,
	OPTION_LIST_POLICIES,
	OPTION_LOG,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"http-threads", required_argument, NULL, OPTION_HTTP_THREADS},
	{"bodies-mib", required_argument, NULL, OPTION_BODIES},
	{"server", required_argument, NULL, OPTION_SERVER},
	{"kubeconfig", required_argument, NULL, OPTION_KUBECONFIG},
	{"state", required_argument, NULL, OPTION_STATE},
	{"decisions", required_argument, NULL, OPTION_DECISIONS},
	{"decisions-mib", required_argument, NULL, OPTION_DECISIONS_MIB},
	{"lease", required_argument, NULL, OPTION_LEASE},
	{"identity", required_argument, NULL, OPTION_IDENTITY},
	{"scale-period-s", required_argument, NULL, OPTION_SCALE_PERIOD},
	{"cooldown-s", required_argument, NULL, OPTION_COOLDOWN},
	{"checkpoint-period-s", required_argument, NULL, OPTION_CHECKPOINT},
	{"checkpoints", required_argument, NULL, OPTION_CHECKPOINTS},
	{"replay", required_argument, NULL, OPTION_REPLAY},
	{"durability", required_argument, NULL, OPTION_DURABILITY},
	{"dump-replay", required_argument, NULL, OPTION_DUMP},
	{"replay-ratio", required_argument, NULL, OPTION_RATIO},
	{"updates-per-s", required_argument, NULL, OPTION_UPDATES},
	{"train-cpu", required_argument, NULL, OPTION_TRAIN_CPU},
	{"anchor", required_argument, NULL, OPTION_ANCHOR},
	{"explore-schedule", required_argument, NULL, OPTION_EXPLORE_SCHEDULE},
	{"explore-apex-base", required_argument, NULL, OPTION_EXPLORE_BASE},
	{"explore-apex-alpha", required_argument, NULL, OPTION_EXPLORE_ALPHA},
	{"explore", required_argument, NULL, OPTION_EXPLORE},
	{"explore-decisions", required_argument, NULL, OPTION_EXPLORE_DECISIONS},
	{"pretrained", required_argument, NULL, OPTION_PRETRAINED},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"rule-parameter", required_argument, NULL, OPTION_RULE_PARAMETER},
	{"list-policies", no_argument, NULL, OPTION_LIST_POLICIES},
	{"log-level", required_argument, NULL, OPTION_LOG},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

/* The options that are one number: where it goes and its range. */
struct number_option {
	int id;
	double lowest;
	double highest;
	size_t index; /* into struct numbers' values */
};

enum number_index {
	NUMBER_HTTP_THREADS,
	NUMBER_BODIES,
	NUMBER_DECISIONS_MIB,
	NUMBER_SCALE_PERIOD,
	NUMBER_COOLDOWN,
	NUMBER_CHECKPOINT,
	NUMBER_CHECKPOINTS,
	NUMBER_REPLAY,
	NUMBER_RATIO,
	NUMBER_UPDATES,
	NUMBER_TRAIN_CPU,
	NUMBER_ANCHOR,
	NUMBER_EXPLORE_BASE,
	NUMBER_EXPLORE_ALPHA,
	NUMBER_EXPLORE,
	NUMBER_DECISIONS,
	NUMBER_COUNT,
};

struct numbers {
	double values[NUMBER_COUNT];
};

static const struct number_option number_options[] = {
	{OPTION_HTTP_THREADS, 1, 64, NUMBER_HTTP_THREADS},
	{OPTION_BODIES, 1, 1 << 20, NUMBER_BODIES},
	{OPTION_DECISIONS_MIB, 0, 1 << 20, NUMBER_DECISIONS_MIB},
	{OPTION_SCALE_PERIOD, 0.1, 3600, NUMBER_SCALE_PERIOD},
	{OPTION_COOLDOWN, 0, 86400, NUMBER_COOLDOWN},
	{OPTION_CHECKPOINT, 1, 86400, NUMBER_CHECKPOINT},
	{OPTION_CHECKPOINTS, 1, 100, NUMBER_CHECKPOINTS},
	{OPTION_REPLAY, 64, 100e6, NUMBER_REPLAY},
	{OPTION_RATIO, 0, 1000, NUMBER_RATIO},
	{OPTION_UPDATES, 0, 1e6, NUMBER_UPDATES},
	{OPTION_TRAIN_CPU, 0.01, 1, NUMBER_TRAIN_CPU},
	{OPTION_ANCHOR, 0, 1e9, NUMBER_ANCHOR},
	{OPTION_EXPLORE_BASE, 0, 1, NUMBER_EXPLORE_BASE},
	{OPTION_EXPLORE_ALPHA, 0, 100, NUMBER_EXPLORE_ALPHA},
	{OPTION_EXPLORE, 0, 1, NUMBER_EXPLORE},
	{OPTION_EXPLORE_DECISIONS, 1, 1e9, NUMBER_DECISIONS},
};

static const char *option_name(int id)
{
	for (size_t i = 0; long_options[i].name; i++)
		if (long_options[i].val == id)
			return long_options[i].name;
	return "?";
}

/* 1 when @id was one of them, 0 when not, -EINVAL. */
static int number_apply(struct numbers *numbers, int id, const char *value)
{
	for (size_t i = 0; i < sizeof(number_options) / sizeof(number_options[0]); i++) {
		const struct number_option *option = &number_options[i];

		if (option->id == id)
			return options_real(PROGRAM, option_name(id), value, option->lowest,
				       option->highest, &numbers->values[option->index])
				       ? -EINVAL
				       : 1;
	}
	return 0;
}

static int rule_parameter_apply(struct rule_configs *rules, const char *assignment)
{
	char error[512];
	int err = rule_configs_set(rules, assignment, error, sizeof(error));

	if (err)
		fprintf(stderr, "ebbtide-learner: --rule-parameter: %s (see --list-policies)\n",
			error);
	return err;
}

static void list_policies(void)
{
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct policy_info *info = &policy_infos[id];
		const char *comma = "";

		printf("%s: %s (", info->name, info->text);
		for (uint32_t left = info->decides; left; left &= left - 1) {
			printf("%s%s", comma, policy_decides_name(left));
			comma = ", ";
		}
		puts(")");
		for (uint32_t i = 0; i < rule_parameters[id].count; i++) {
			const struct rule_parameter *p = &rule_parameters[id].list[i];

			printf("  %s.%s=%.6g  %g to %g  %s\n", info->name, p->name, p->standard,
				p->lowest, p->highest, p->text);
		}
	}
}

static int durability_apply(struct learner_config *config, const char *value)
{
	if (strcmp(value, "process") != 0 && strcmp(value, "fsync") != 0) {
		fprintf(stderr,
			"ebbtide-learner: --durability: \"%s\" is not one of process, fsync\n",
			value);
		return -EINVAL;
	}
	config->durability = value[0] == 'f' ? DURABILITY_FSYNC : DURABILITY_PROCESS;
	return 0;
}

static int seed_apply(struct learner_config *config, const char *value)
{
	char *end;

	errno = 0;
	config->seed = strtoull(value, &end, 0);
	/* strtoull() takes a sign and turns it round. */
	if (value[0] >= '0' && value[0] <= '9' && !*end && !errno)
		return 0;
	fprintf(stderr, "ebbtide-learner: --seed: \"%s\" is not a whole number of 64 bits\n",
		value);
	return -EINVAL;
}

static int schedule_apply(struct policy_config *config, const char *value)
{
	if (strcmp(value, "decay") != 0 && strcmp(value, "apex") != 0) {
		fprintf(stderr,
			"ebbtide-learner: --explore-schedule: \"%s\" is not one of decay, apex\n",
			value);
		return -EINVAL;
	}
	config->explore_schedule = value[0] == 'a' ? EXPLORE_APEX : EXPLORE_DECAY;
	return 0;
}

static int option_apply(struct command_line *line, int id, const char *value)
{
	struct learner_config *config = &line->config;

	switch (id) {
	case OPTION_LISTEN:
		config->listen = value;
		return 0;
	case OPTION_SERVER:
		line->server = value;
		return 0;
	case OPTION_KUBECONFIG:
		line->kubeconfig = value;
		return 0;
	case OPTION_STATE:
		config->state_directory = value;
		return 0;
	case OPTION_DECISIONS:
		config->journal_path = value;
		return 0;
	case OPTION_DURABILITY:
		return durability_apply(config, value);
	case OPTION_DUMP:
		line->dump_directory = value;
		return 0;
	case OPTION_LEASE:
		config->lease = value;
		return 0;
	case OPTION_IDENTITY:
		config->identity = value;
		return 0;
	case OPTION_EXPLORE_SCHEDULE:
		return schedule_apply(&config->policy, value);
	case OPTION_PRETRAINED:
		config->pretrained = value;
		return 0;
	case OPTION_SEED:
		return seed_apply(config, value);
	case OPTION_RULE_PARAMETER:
		return rule_parameter_apply(&config->policy.rules, value);
	case OPTION_LIST_POLICIES:
		list_policies();
		return 1;
	case OPTION_LOG:
		return options_log_level(PROGRAM, value);
	case OPTION_HELP:
		fputs(usage, stdout);
		return 1;
	case OPTION_VERSION:
		printf("ebbtide-learner %s\n", EBBTIDE_VERSION);
		return 1;
	default:
		return options_refer(PROGRAM);
	}
}

static double http_threads_default(enum durability durability)
{
	cpu_set_t cores;
	int count = 1;

	/* Most of them wait for the disk then, and those that do share a sync. */
	if (durability == DURABILITY_FSYNC)
		return 32;
	/* Those that this process may run on: a container has fewer than the machine. */
	if (sched_getaffinity(0, sizeof(cores), &cores) == 0)
		count = CPU_COUNT(&cores);
	return count < 1 ? 1 : count > 4 ? 4 : count;
}

static void command_line_default(struct command_line *line, struct numbers *numbers)
{
	static char identity[300];
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(identity, sizeof(identity), "%s-%d", host, getpid());
	memset(line, 0, sizeof(*line));
	memset(numbers, 0, sizeof(*numbers)); /* what stays 0 depends on other options */
	line->config.listen = "127.0.0.1:9650";
	line->config.state_directory = "/var/lib/ebbtide-learner";
	line->config.identity = identity;
	line->config.seed = (uint64_t)(learner_unix_s() * 1e6);
	policy_config_init(&line->config.policy);
	train_config_init(&line->config.train);
	numbers->values[NUMBER_BODIES] = 256;
	numbers->values[NUMBER_DECISIONS_MIB] = 160;
	numbers->values[NUMBER_SCALE_PERIOD] = 10;
	numbers->values[NUMBER_COOLDOWN] = line->config.policy.cooldown_s;
	numbers->values[NUMBER_CHECKPOINT] = 60;
	numbers->values[NUMBER_CHECKPOINTS] = 3;
	numbers->values[NUMBER_REPLAY] = 100000;
	numbers->values[NUMBER_RATIO] = 8;
	numbers->values[NUMBER_UPDATES] = 400;
	numbers->values[NUMBER_TRAIN_CPU] = 0.5;
	numbers->values[NUMBER_ANCHOR] = 50000;
	numbers->values[NUMBER_EXPLORE_BASE] = line->config.policy.explore_apex_base;
	numbers->values[NUMBER_EXPLORE_ALPHA] = line->config.policy.explore_apex_alpha;
	numbers->values[NUMBER_EXPLORE] = -1; /* depends on where the networks start */
	numbers->values[NUMBER_DECISIONS] = line->config.policy.explore_decisions;
}

static bool starts_from_nothing(const struct learner_config *config)
{
	return config->pretrained && strcmp(config->pretrained, PRETRAINED_NONE) == 0;
}

int command_line_parse(struct command_line *line, int argc, char **argv)
{
	struct learner_config *config = &line->config;
	struct numbers numbers;
	int id, err;

	command_line_default(line, &numbers);
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		err = number_apply(&numbers, id, optarg);
		if (err == 0)
			err = option_apply(line, id, optarg);
		else if (err == 1)
			err = 0;
		if (err)
			return err;
	}
	if (options_stray(PROGRAM, argc, argv))
		return -EINVAL;
	if (numbers.values[NUMBER_HTTP_THREADS] < 1)
		numbers.values[NUMBER_HTTP_THREADS] = http_threads_default(config->durability);
	config->http_threads = (uint32_t)numbers.values[NUMBER_HTTP_THREADS];
	config->bodies_bytes = (size_t)numbers.values[NUMBER_BODIES] << 20;
	config->decisions_bytes = (size_t)numbers.values[NUMBER_DECISIONS_MIB] << 20;
	config->scale_period_s = numbers.values[NUMBER_SCALE_PERIOD];
	config->checkpoint_period_s = (uint32_t)numbers.values[NUMBER_CHECKPOINT];
	config->checkpoints = (uint32_t)numbers.values[NUMBER_CHECKPOINTS];
	config->replay_capacity = (uint32_t)numbers.values[NUMBER_REPLAY];
	config->replay_ratio = numbers.values[NUMBER_RATIO];
	config->updates_per_s_max = numbers.values[NUMBER_UPDATES];
	config->train_cpu = numbers.values[NUMBER_TRAIN_CPU];
	config->policy.cooldown_s = numbers.values[NUMBER_COOLDOWN];
	config->policy.explore_apex_base = numbers.values[NUMBER_EXPLORE_BASE];
	config->policy.explore_apex_alpha = numbers.values[NUMBER_EXPLORE_ALPHA];
	if (numbers.values[NUMBER_EXPLORE] >= 0)
		config->policy.explore_start = numbers.values[NUMBER_EXPLORE];
	else if (!starts_from_nothing(config))
		config->policy.explore_start = EXPLORE_PRETRAINED;
	config->policy.explore_decisions = numbers.values[NUMBER_DECISIONS];
	/* A tick is short against how long an action matters: a horizon of about ten ticks. */
	config->train.gamma = 0.9F;
	/* Live experience is scarce: learn from the first few, often, in small batches. What was
	 * learnt in the simulator is not to be forgotten for them. */
	config->train.batch = 32;
	config->train.warmup = starts_from_nothing(config) ? 32 : 256;
	config->train.learning_rate = starts_from_nothing(config) ? 1e-3F : 5e-5F;
	config->train.anchor = (float)numbers.values[NUMBER_ANCHOR];
	config->train.beta_steps = 4000;
	/* Rewards are between -5 and 0 (docs/learning.md), values so between -50 and 0. */
	config->train.q_bound = 500;
	config->train.seed = config->seed;
	return 0;
}
