// SPDX-License-Identifier: Apache-2.0
/* ebbtide-learner: one a cluster. Takes experiences, trains, decides. */
#include "common/descriptors.h"
#include "common/log.h"
#include "learner/command.h"
#include "learner/command_line.h"
#include "learner/dqn/blas.h"
#include "learner/storage/dump.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXIT_USAGE   2
#define FILES_WANTED 65536
#define TRAIN_NICE   10

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"calibrate", calibrate_command},
	{"pretrain", pretrain_command},
	{"what-if", what_if_command},
};

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

static int learner_open(struct learner *learner, const struct command_line *line)
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
		&learner->kube, line->server, line->kubeconfig, error, sizeof(error));
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
	autoscalers_free(&learner->autoscalers);
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
		scale_deployments_thread, contest_horizontal_thread, contest_vertical_thread,
		scale_thread, scale_requests_thread, status_thread, lease_thread};
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
	struct command_line line;
	sigset_t signals;
	int err;

	blas_answer_probe(argc, argv);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			return commands[i].run(argc - 1, argv + 1);
	log_init("ebbtide-learner", LOG_LEVEL_INFO);
	err = command_line_parse(&line, argc, argv);
	if (err)
		return err > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (line.dump_directory)
		return dump_replay(line.dump_directory) ? EXIT_FAILURE : EXIT_SUCCESS;
	blas_select(argc, argv, blas_line);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	signal(SIGPIPE, SIG_IGN);
	files_raise();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	learner.config = line.config;
	pthread_mutex_init(&learner.lock, NULL);
	err = learner_open(&learner, &line);
	if (!err)
		err = learner_run(&learner, &signals);
	learner_close(&learner);
	curl_global_cleanup();
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
