// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner: one a cluster. Takes experiences, trains, decides. */
#include "common/log.h"
#include "learner/blas.h"
#include "learner/command.h"
#include "learner/learner.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXIT_USAGE 2

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"calibrate", calibrate_command},
	{"what-if", what_if_command},
};

static const char usage[] =
	"Usage: ebbtide-learner [OPTION]...\n"
	"       ebbtide-learner calibrate [OPTION]... JOURNAL   fit the simulator to a service\n"
	"       ebbtide-learner what-if [OPTION]...   which limits would hold an objective\n"
	"Take experiences from agents, train the Q-networks, answer with actions.\n\n"
	"  --listen HOST:PORT       HTTP for agents, /metrics, /healthz (default 127.0.0.1:9650)\n"
	"  --server URL             Kubernetes API (default: --kubeconfig, $KUBECONFIG, service account)\n"
	"  --kubeconfig FILE        where the API is and who we are\n"
	"  --state DIR              checkpoints (default /var/lib/ebbtide-learner)\n"
	"  --decisions FILE         append every decision, one JSON object a line\n"
	"  --lease NAMESPACE/NAME   lead through this Lease (default: none, always leading)\n"
	"  --identity NAME          in that Lease (default: hostname and pid)\n"
	"  --scale-period-s N       seconds between two decisions on replicas (default 10)\n"
	"  --cooldown-s N           rest after a scale-in (default 30)\n"
	"  --checkpoint-period-s N  (default 60)\n"
	"  --replay N               transitions in each replay buffer (default 100000)\n"
	"  --replay-ratio N         gradient steps per experience (default 8)\n"
	"  --updates-per-s N        bound on gradient steps (default 400)\n"
	"  --explore N              share of exploring decisions at the start (default 0.9)\n"
	"  --explore-decisions N    e-folding of that share, in decisions (default 120)\n"
	"  --seed N                 of weights, sampling and exploration (default: the clock)\n"
	"  --k8s-cpu P:W:T          policy k8s-cpu: period and window in seconds, target\n"
	"                           utilisation (default 15:300:0.5)\n"
	"  --hpa P:W:T              its replicas: period, stabilisation, target (default 15:300:0.5)\n"
	"  --log-level LEVEL        err, warning, notice, info, debug (default info)\n"
	"  --help, --version\n\n"
	"SIGTERM and SIGINT write a checkpoint and leave.\n"
	"Exit status: 0 left as asked, 1 could not start, 2 wrong usage. See docs/learner.md.\n";

struct options {
	struct learner_config config;
	const char *server;
	const char *kubeconfig;
};

enum option_id {
	OPTION_LISTEN = 256,
	OPTION_SERVER,
	OPTION_KUBECONFIG,
	OPTION_STATE,
	OPTION_DECISIONS,
	OPTION_LEASE,
	OPTION_IDENTITY,
	OPTION_SCALE_PERIOD,
	OPTION_COOLDOWN,
	OPTION_CHECKPOINT,
	OPTION_REPLAY,
	OPTION_RATIO,
	OPTION_UPDATES,
	OPTION_EXPLORE,
	OPTION_EXPLORE_DECISIONS,
	OPTION_SEED,
	OPTION_K8S_CPU,
	OPTION_HPA,
	OPTION_LOG,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPTION_LISTEN},
	{"server", required_argument, NULL, OPTION_SERVER},
	{"kubeconfig", required_argument, NULL, OPTION_KUBECONFIG},
	{"state", required_argument, NULL, OPTION_STATE},
	{"decisions", required_argument, NULL, OPTION_DECISIONS},
	{"lease", required_argument, NULL, OPTION_LEASE},
	{"identity", required_argument, NULL, OPTION_IDENTITY},
	{"scale-period-s", required_argument, NULL, OPTION_SCALE_PERIOD},
	{"cooldown-s", required_argument, NULL, OPTION_COOLDOWN},
	{"checkpoint-period-s", required_argument, NULL, OPTION_CHECKPOINT},
	{"replay", required_argument, NULL, OPTION_REPLAY},
	{"replay-ratio", required_argument, NULL, OPTION_RATIO},
	{"updates-per-s", required_argument, NULL, OPTION_UPDATES},
	{"explore", required_argument, NULL, OPTION_EXPLORE},
	{"explore-decisions", required_argument, NULL, OPTION_EXPLORE_DECISIONS},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"k8s-cpu", required_argument, NULL, OPTION_K8S_CPU},
	{"hpa", required_argument, NULL, OPTION_HPA},
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
	NUMBER_SCALE_PERIOD,
	NUMBER_COOLDOWN,
	NUMBER_CHECKPOINT,
	NUMBER_REPLAY,
	NUMBER_RATIO,
	NUMBER_UPDATES,
	NUMBER_EXPLORE,
	NUMBER_DECISIONS,
	NUMBER_COUNT,
};

struct numbers {
	double values[NUMBER_COUNT];
};

static const struct number_option number_options[] = {
	{OPTION_SCALE_PERIOD, 0.1, 3600, NUMBER_SCALE_PERIOD},
	{OPTION_COOLDOWN, 0, 86400, NUMBER_COOLDOWN},
	{OPTION_CHECKPOINT, 1, 86400, NUMBER_CHECKPOINT},
	{OPTION_REPLAY, 64, 100e6, NUMBER_REPLAY},
	{OPTION_RATIO, 0, 1000, NUMBER_RATIO},
	{OPTION_UPDATES, 0, 1e6, NUMBER_UPDATES},
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
		char *end;
		double number;

		if (option->id != id)
			continue;
		number = strtod(value, &end);
		if (end == value || *end ||
			!(number >= option->lowest && number <= option->highest)) {
			fprintf(stderr,
				"ebbtide-learner: --%s: \"%s\" is not a number from %g to %g\n",
				option_name(id), value, option->lowest, option->highest);
			return -EINVAL;
		}
		numbers->values[option->index] = number;
		return 1;
	}
	return 0;
}

static int triple_parse(int id, const char *value, double *period, double *window, double *target)
{
	char rest;

	if (sscanf(value, "%lf:%lf:%lf%c", period, window, target, &rest) == 3 && *period > 0 &&
		*window >= *period && *target > 0 && *target <= 1)
		return 0;
	fprintf(stderr,
		"ebbtide-learner: --%s: \"%s\" is not PERIOD:WINDOW:TARGET (for example "
		"15:300:0.5; window not under period, target up to 1)\n",
		option_name(id), value);
	return -EINVAL;
}

static int level_apply(const char *value)
{
	int level = log_parse_level(value);

	if (level < 0) {
		fprintf(stderr,
			"ebbtide-learner: --log-level: \"%s\" is not one of err, warning, notice, "
			"info, debug\n",
			value);
		return -EINVAL;
	}
	log_init("ebbtide-learner", (enum log_level)level);
	return 0;
}

static int option_apply(struct options *options, int id, const char *value)
{
	struct learner_config *config = &options->config;
	struct policy_config *policy = &config->policy;

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
	case OPTION_LEASE:
		config->lease = value;
		return 0;
	case OPTION_IDENTITY:
		config->identity = value;
		return 0;
	case OPTION_SEED:
		config->seed = strtoull(value, NULL, 0);
		return 0;
	case OPTION_K8S_CPU:
		return triple_parse(id, value, &policy->k8s_cpu.period_s, &policy->k8s_cpu.window_s,
			&policy->k8s_cpu.target);
	case OPTION_HPA:
		return triple_parse(id, value, &policy->hpa.period_s, &policy->hpa.stabilisation_s,
			&policy->hpa.target);
	case OPTION_LOG:
		return level_apply(value);
	case OPTION_HELP:
		fputs(usage, stdout);
		return 1;
	case OPTION_VERSION:
		printf("ebbtide-learner %s\n", EBBTIDE_VERSION);
		return 1;
	default:
		fputs("Try 'ebbtide-learner --help'.\n", stderr);
		return -EINVAL;
	}
}

static void options_default(struct options *options, struct numbers *numbers)
{
	static char identity[300];
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(identity, sizeof(identity), "%s-%d", host, getpid());
	memset(options, 0, sizeof(*options));
	options->config.listen = "127.0.0.1:9650";
	options->config.state_directory = "/var/lib/ebbtide-learner";
	options->config.identity = identity;
	options->config.seed = (uint64_t)(learner_unix_s() * 1e6);
	policy_config_init(&options->config.policy);
	train_config_init(&options->config.train);
	numbers->values[NUMBER_SCALE_PERIOD] = 10;
	numbers->values[NUMBER_COOLDOWN] = options->config.policy.cooldown_s;
	numbers->values[NUMBER_CHECKPOINT] = 60;
	numbers->values[NUMBER_REPLAY] = 100000;
	numbers->values[NUMBER_RATIO] = 8;
	numbers->values[NUMBER_UPDATES] = 400;
	numbers->values[NUMBER_EXPLORE] = options->config.policy.explore_start;
	numbers->values[NUMBER_DECISIONS] = options->config.policy.explore_decisions;
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
	if (optind < argc) {
		fprintf(stderr, "ebbtide-learner: \"%s\" is not an option. Try --help.\n",
			argv[optind]);
		return -EINVAL;
	}
	config->scale_period_s = numbers.values[NUMBER_SCALE_PERIOD];
	config->checkpoint_period_s = (uint32_t)numbers.values[NUMBER_CHECKPOINT];
	config->replay_capacity = (uint32_t)numbers.values[NUMBER_REPLAY];
	config->replay_ratio = numbers.values[NUMBER_RATIO];
	config->updates_per_s_max = numbers.values[NUMBER_UPDATES];
	config->policy.cooldown_s = numbers.values[NUMBER_COOLDOWN];
	config->policy.explore_start = numbers.values[NUMBER_EXPLORE];
	config->policy.explore_decisions = numbers.values[NUMBER_DECISIONS];
	/* A tick is short against how long an action matters: a horizon of about ten ticks. */
	config->train.gamma = 0.9F;
	/* Live experience is scarce: learn from the first few, often, in small batches. */
	config->train.batch = 32;
	config->train.warmup = 32;
	config->train.learning_rate = 1e-3F;
	config->train.beta_steps = 4000;
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
	err = brains_open(learner);
	if (!err)
		persist_load(learner);
	return err;
}

static void learner_close(struct learner *learner)
{
	services_free(&learner->services);
	for (size_t i = 0; i < learner->agent_count; i++)
		free(learner->agents[i]);
	free(learner->agents);
	brain_close(learner->vertical);
	brain_close(learner->horizontal);
	journal_close(learner->journal);
	kube_config_free(&learner->kube);
}

static void *train_thread(void *context)
{
	struct learner *learner = context;
	struct brain *brains[2] = {learner->vertical, learner->horizontal};

	brain_train(brains, 2, &learner->stop);
	return NULL;
}

static void wait_for_signal(struct learner *learner, const sigset_t *signals)
{
	for (;;) {
		struct timespec period = {.tv_sec = learner->config.checkpoint_period_s};

		if (sigtimedwait(signals, NULL, &period) > 0)
			return;
		if (errno == EAGAIN)
			(void)persist_save(learner);
	}
}

static int learner_run(struct learner *learner, const sigset_t *signals)
{
	void *(*const bodies[])(void *) = {
		train_thread, scale_objectives_thread, scale_deployments_thread, scale_thread};
	pthread_t threads[4];
	struct ingest *ingest = NULL;
	int err;

	atomic_store(&learner->leader, learner->config.lease == NULL);
	err = ingest_open(learner, &ingest);
	if (err) {
		log_err("listen=%s error=\"%s\" do=\"free the port or give --listen\"",
			learner->config.listen, strerror(-err));
		return err;
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, bodies[i], learner);
	log_notice("event=ready listen=%s blas=%s seed=%llu", learner->config.listen,
		blas_corename(), (unsigned long long)learner->config.seed);
	wait_for_signal(learner, signals);
	atomic_store(&learner->stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ingest_close(ingest);
	err = persist_save(learner);
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

	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			return commands[i].run(argc - 1, argv + 1);
	log_init("ebbtide-learner", LOG_LEVEL_INFO);
	blas_select(argc, argv, blas_line);
	err = options_parse(&options, argc, argv);
	if (err)
		return err > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	signal(SIGPIPE, SIG_IGN);
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
