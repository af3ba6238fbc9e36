// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner: one a cluster. Takes experiences, trains, decides. */
#include "common/descriptors.h"
#include "common/log.h"
#include "common/options.h"
#include "learner/command.h"
#include "learner/dqn/blas.h"
#include "learner/learner.h"
#include "learner/pretraining/pretrained.h"
#include "learner/storage/dump.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM	     "ebbtide-learner"
#define EXIT_USAGE   2
#define FILES_WANTED 65536
#define TRAIN_NICE   10
/* Who starts from a trained network tries little. */
#define EXPLORE_PRETRAINED 0.05

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"calibrate", calibrate_command},
	{"pretrain", pretrain_command},
	{"what-if", what_if_command},
};

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

struct options {
	struct learner_config config;
	const char *server;
	const char *kubeconfig;
	const char *dump_directory; /* print its log instead of anything else */
};

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

static int option_apply(struct options *options, int id, const char *value)
{
	struct learner_config *config = &options->config;

	switch (id) {
	case OPTION_LISTEN:
		config->listen = value;
		return 0;
	case OPTION_SERVER:
		options->server = value;
		return 0;
	case OPTION_KUBECONFIG:
		options->kubeconfig = value;
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
		options->dump_directory = value;
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

static void options_default(struct options *options, struct numbers *numbers)
{
	static char identity[300];
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(identity, sizeof(identity), "%s-%d", host, getpid());
	memset(options, 0, sizeof(*options));
	memset(numbers, 0, sizeof(*numbers)); /* what stays 0 depends on other options */
	options->config.listen = "127.0.0.1:9650";
	options->config.state_directory = "/var/lib/ebbtide-learner";
	options->config.identity = identity;
	options->config.seed = (uint64_t)(learner_unix_s() * 1e6);
	policy_config_init(&options->config.policy);
	train_config_init(&options->config.train);
	numbers->values[NUMBER_BODIES] = 256;
	numbers->values[NUMBER_DECISIONS_MIB] = 160;
	numbers->values[NUMBER_SCALE_PERIOD] = 10;
	numbers->values[NUMBER_COOLDOWN] = options->config.policy.cooldown_s;
	numbers->values[NUMBER_CHECKPOINT] = 60;
	numbers->values[NUMBER_CHECKPOINTS] = 3;
	numbers->values[NUMBER_REPLAY] = 100000;
	numbers->values[NUMBER_RATIO] = 8;
	numbers->values[NUMBER_UPDATES] = 400;
	numbers->values[NUMBER_TRAIN_CPU] = 0.5;
	numbers->values[NUMBER_ANCHOR] = 50000;
	numbers->values[NUMBER_EXPLORE_BASE] = options->config.policy.explore_apex_base;
	numbers->values[NUMBER_EXPLORE_ALPHA] = options->config.policy.explore_apex_alpha;
	numbers->values[NUMBER_EXPLORE] = -1; /* depends on where the networks start */
	numbers->values[NUMBER_DECISIONS] = options->config.policy.explore_decisions;
}

static bool starts_from_nothing(const struct learner_config *config)
{
	return config->pretrained && strcmp(config->pretrained, PRETRAINED_NONE) == 0;
}

static int options_parse(struct options *options, int argc, char **argv)
{
	struct learner_config *config = &options->config;
	struct numbers numbers;
	int id, err;

	options_default(options, &numbers);
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		err = number_apply(&numbers, id, optarg);
		if (err == 0)
			err = option_apply(options, id, optarg);
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

static int brains_open(struct learner *learner)
{
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = learner->config.replay_capacity,
		.train = learner->config.train,
		.replay_ratio = learner->config.replay_ratio,
		.updates_per_s_max = learner->config.updates_per_s_max};
	int err = brain_open(&learner->vertical, &options);

	options.name = "horizontal";
	options.actions = ACTION_HORIZONTAL;
	options.train.warmup = 8;
	options.train.batch = 16;
	options.train.seed++;
	if (!err)
		err = brain_open(&learner->horizontal, &options);
	if (err)
		log_err("replay=%u error=\"cannot make the networks and replay buffers: %s\" "
			"do=\"give a smaller --replay\"",
			learner->config.replay_capacity, strerror(-err));
	return err;
}

static int learner_open(struct learner *learner, const struct options *options)
{
	char error[512] = "";
	int err;

	if (mkdir(learner->config.state_directory, 0700) != 0 && errno != EEXIST) {
		err = -errno;
		log_err("state=%s error=\"%s\" do=\"make its parent or give --state\"",
			learner->config.state_directory, strerror(-err));
		return err;
	}
	err = kube_config_load(
		&learner->kube, options->server, options->kubeconfig, error, sizeof(error));
	if (err) {
		log_err("error=\"no Kubernetes API: %s\" do=\"give --server or --kubeconfig\"",
			error);
		return err;
	}
	if (learner->config.journal_path) {
		err = journal_open(&learner->journal, learner->config.journal_path);
		if (err) {
			log_err("decisions=%s error=\"%s\"", learner->config.journal_path,
				strerror(-err));
			return err;
		}
	}
	random_seed(&learner->random, learner->config.seed + 2);
	learner->bodies.most = learner->config.bodies_bytes;
	learner->services.decisions.bytes = learner->config.decisions_bytes;
	push_init(&learner->push, (uint64_t)(learner_unix_s() * 1e6));
	err = experience_log_create(&learner->log);
	if (!err)
		err = brains_open(learner);
	return err;
}

static void learner_close(struct learner *learner)
{
	services_free(&learner->services);
	objectives_free(&learner->objectives);
	push_free(&learner->push);
	sequences_free(&learner->sequences);
	experience_log_free(learner->log);
	brain_close(learner->vertical);
	brain_close(learner->horizontal);
	journal_close(learner->journal);
	kube_config_free(&learner->kube);
}

static void *train_thread(void *context)
{
	struct learner *learner = context;
	struct brain *brains[2] = {learner->vertical, learner->horizontal};

	/* Decisions come first; without the right to it they share the processor evenly. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), TRAIN_NICE);
	brain_train(brains, 2, learner->config.train_cpu, &learner->stop);
	return NULL;
}

/* Everything that the last leader, or the last process, left in the state directory. */
static int take_over(struct learner *learner)
{
	int err = experience_log_start(learner);

	/* The directory is ours from here. */
	if (!err)
		persist_load(learner);
	if (err)
		log_err("state=%s error=\"%s\"%s", learner->config.state_directory,
			err == -EBUSY ? "another learner writes here" : strerror(-err),
			err == -EBUSY ? " do=\"end it or give another --state\"" : "");
	/* The lease may be lost again by now. */
	if (!err && atomic_load(&learner->elected)) {
		atomic_store(&learner->leader, true);
		log_notice("event=leading state=%s", learner->config.state_directory);
	}
	return err;
}

/* Follow the lease; when the directory cannot be had, try again at @retry_s. */
static void follow_election(struct learner *learner, double now_s, double *retry_s)
{
	bool elected = atomic_load(&learner->elected), leader = atomic_load(&learner->leader);

	if (elected && !leader && now_s >= *retry_s && take_over(learner))
		*retry_s = now_s + 2;
	if (!elected)
		experience_log_stop(learner);
}

static void lead_until_signal(struct learner *learner, const sigset_t *signals)
{
	const struct timespec pause = {.tv_nsec = 100 * 1000000L};
	double saved_s = learner_now_s(), retry_s = 0;

	while (sigtimedwait(signals, NULL, &pause) < 0) {
		double now_s = learner_now_s();

		follow_election(learner, now_s, &retry_s);
		if (now_s - saved_s >= learner->config.checkpoint_period_s) {
			(void)persist_save(learner);
			saved_s = now_s;
		}
	}
}

/* Each agent keeps two connections; the usual limit of 1024 files is for other programs. */
static void files_raise(void)
{
	unsigned long allowed = descriptors_allow(FILES_WANTED);

	if (allowed < FILES_WANTED)
		log_notice("files=%lu wanted=%d effect=\"fewer agents at a time\" do=\"raise "
			   "RLIMIT_NOFILE\"",
			allowed, FILES_WANTED);
}

static int learner_run(struct learner *learner, const sigset_t *signals)
{
	void *(*const bodies[])(void *) = {train_thread, scale_objectives_thread,
		scale_deployments_thread, scale_thread, scale_requests_thread, status_thread,
		lease_thread};
	const int all = sizeof(bodies) / sizeof(bodies[0]);
	const int count = learner->config.lease ? all : all - 1;
	pthread_t threads[sizeof(bodies) / sizeof(bodies[0])];
	struct ingest *ingest = NULL;
	int err;

	atomic_store(&learner->elected, learner->config.lease == NULL);
	err = ingest_open(learner, &ingest);
	if (err) {
		log_err("listen=%s error=\"%s\" do=\"free the port or give --listen\"",
			learner->config.listen, strerror(-err));
		return err;
	}
	/* Who asks meanwhile is told to try again. */
	if (!learner->config.lease)
		err = take_over(learner);
	if (err) {
		ingest_close(ingest);
		return err;
	}
	for (int i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, bodies[i], learner);
	log_notice("event=ready listen=%s blas=%s seed=%llu", learner->config.listen,
		blas_corename(), (unsigned long long)learner->config.seed);
	lead_until_signal(learner, signals);
	atomic_store(&learner->stop, true);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	ingest_close(ingest);
	err = persist_save(learner);
	experience_log_stop(learner);
	log_notice("event=leaving checkpoint=%s", err ? "failed" : "written");
	return 0;
}

static void blas_line(enum blas_level level, const char *line)
{
	log_write(level == BLAS_WARNING ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "blas=\"%s\"", line);
}

int main(int argc, char **argv)
{
	static struct learner learner;
	struct options options;
	sigset_t signals;
	int err;

	blas_answer_probe(argc, argv);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			return commands[i].run(argc - 1, argv + 1);
	log_init("ebbtide-learner", LOG_LEVEL_INFO);
	err = options_parse(&options, argc, argv);
	if (err)
		return err > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (options.dump_directory)
		return dump_replay(options.dump_directory) ? EXIT_FAILURE : EXIT_SUCCESS;
	blas_select(argc, argv, blas_line);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	signal(SIGPIPE, SIG_IGN);
	files_raise();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	learner.config = options.config;
	pthread_mutex_init(&learner.lock, NULL);
	err = learner_open(&learner, &options);
	if (!err)
		err = learner_run(&learner, &signals);
	learner_close(&learner);
	curl_global_cleanup();
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
