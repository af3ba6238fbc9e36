// SPDX-License-Identifier: Apache-2.0
/* ebbtide-agent: one a node. Sets up, ticks, leaves the node as it found it. */
#include "common/descriptors.h"
#include "common/log.h"
#include "common/options.h"
#include "node/limits/leftover.h"
#include "node/limits/pressure.h"
#include "node/metrics.h"
#include "node/probes/budget.h"
#include "node/probes/fitness.h"
#include "node/report.h"
#include "node/trace/trace.h"
#include "node/tree/tree.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PROGRAM	   "ebbtide-agent"
#define EXIT_USAGE 2
/* Kept apart from the heap; glibc's own default, which it raises as soon as one is freed. */
#define LARGE_PIECE_BYTES (128 << 10)
/* Of a container: three BPF links, two pressure files, three limits, the reflex's quota, a trigger. */
#define FILES_PER_CONTAINER 10
#define FILES_OTHERWISE	    256
#define TICK_MIN_MS	    100
#define TICK_MAX_MS	    60000

static const char usage[] =
	"Usage: ebbtide-agent [OPTION]...\n"
	"Measure this node's services with eBPF, report to the learner, carry out its actions.\n\n"
	"  --node NAME            this node's name in Kubernetes (default: $NODE_NAME, hostname)\n"
	"  --server URL           Kubernetes API (default: --kubeconfig, $KUBECONFIG, service account)\n"
	"  --kubeconfig FILE      where the API is and who we are\n"
	"  --learner URL          the learner, for example http://ebbtide-learner:9650; without it\n"
	"                         the agent only measures\n"
	"  --tree DIR             mount the operator's tree here (default /run/ebbtide; '' for none)\n"
	"  --state DIR            owners' limits and the spool (default /var/lib/ebbtide)\n"
	"  --metrics HOST:PORT    /metrics and /healthz (default 127.0.0.1:9651; '' for none)\n"
	"  --tick-ms N            sampling period, 100 to 60000 (default 1000)\n"
	"  --actuator KIND        cgroup (write limits directly) or resize (pods/resize)\n"
	"                         (default cgroup)\n"
	"  --silent-ticks N       ticks without an answer until the owners' limits come back\n"
	"                         (default 30)\n"
	"  --reflex WORD          on or off: may quotas be refilled between two ticks (default on)\n"
	"  --reflex-trigger-share S, --reflex-refills N\n"
	"                         an allowance for units whose plan has none: from this share of the\n"
	"                         latency target on (default 0: none), so often a period (default 8)\n"
	"  --refill-budget-millicores N\n"
	"                         CPU of all units' refills together (default 0: what is idle)\n"
	"  --reflex-silent-ticks N\n"
	"                         ticks without an answer until an allowance is void (default 10)\n"
	"  --reflex-stuck-refills N\n"
	"                         refills that complete no request until they end (default 20)\n"
	"  --reflex-priority N    real-time priority of the reflex, 0 for none (default 1)\n"
	"  --max-containers N     containers measured at a time (default 1024)\n"
	"  --probe-budget-percent P\n"
	"                         of the node's CPU time for the BPF programs; over it they look\n"
	"                         less closely; 0 for any (default 5)\n"
	"  --probe-check-s N      seconds between two looks at what they take (default 30)\n"
	"  --spool-reports N      reports kept on disk while the learner is away (default 3600)\n"
	"  --forget-s N           seconds until the counts of a service without containers and\n"
	"                         objective are forgotten (default 300)\n"
	"  --report-encoding KIND identity, deflate, or auto: deflate when the learner takes it\n"
	"                         (default identity)\n"
	"  --cgroup-mount DIR     where cgroups are mounted (default /sys/fs/cgroup)\n"
	"  --check                only try whether this machine lets the agent work, with one line\n"
	"                         that says why not (exit status 1)\n"
	"  --log-level LEVEL      err, warning, notice, info, debug (default info)\n"
	"  --help, --version\n\n"
	"SIGTERM, SIGINT and SIGHUP write the owners' limits back and leave.\n"
	"Exit status: 0 left as asked, 1 could not start, 2 wrong usage. See docs/agent.md.\n";

struct options {
	struct agent_config config;
	const char *server;
	const char *kubeconfig;
	const char *cgroup_mount;
	bool check;
};

static int parse_number(
	const char *name, const char *text, uint32_t lowest, uint32_t highest, uint32_t *value)
{
	return options_whole(PROGRAM, name, text, lowest, highest, value);
}

static int parse_share(
	const char *name, const char *text, double lowest, double highest, double *value)
{
	return options_real(PROGRAM, name, text, lowest, highest, value);
}

enum option_id {
	OPTION_NODE = 256,
	OPTION_SERVER,
	OPTION_KUBECONFIG,
	OPTION_LEARNER,
	OPTION_TREE,
	OPTION_STATE,
	OPTION_METRICS,
	OPTION_TICK,
	OPTION_ACTUATOR,
	OPTION_SILENT,
	OPTION_MAX,
	OPTION_SPOOL,
	OPTION_FORGET,
	OPTION_ENCODING,
	OPTION_PROBE_BUDGET,
	OPTION_PROBE_CHECK,
	OPTION_CGROUP,
	OPTION_CHECK,
	OPTION_REFLEX,
	OPTION_TRIGGER,
	OPTION_REFILLS,
	OPTION_BUDGET,
	OPTION_REFLEX_SILENT,
	OPTION_STUCK,
	OPTION_PRIORITY,
	OPTION_LOG,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{"node", required_argument, NULL, OPTION_NODE},
	{"server", required_argument, NULL, OPTION_SERVER},
	{"kubeconfig", required_argument, NULL, OPTION_KUBECONFIG},
	{"learner", required_argument, NULL, OPTION_LEARNER},
	{"tree", required_argument, NULL, OPTION_TREE},
	{"state", required_argument, NULL, OPTION_STATE},
	{"metrics", required_argument, NULL, OPTION_METRICS},
	{"tick-ms", required_argument, NULL, OPTION_TICK},
	{"actuator", required_argument, NULL, OPTION_ACTUATOR},
	{"silent-ticks", required_argument, NULL, OPTION_SILENT},
	{"max-containers", required_argument, NULL, OPTION_MAX},
	{"spool-reports", required_argument, NULL, OPTION_SPOOL},
	{"forget-s", required_argument, NULL, OPTION_FORGET},
	{"report-encoding", required_argument, NULL, OPTION_ENCODING},
	{"probe-budget-percent", required_argument, NULL, OPTION_PROBE_BUDGET},
	{"probe-check-s", required_argument, NULL, OPTION_PROBE_CHECK},
	{"cgroup-mount", required_argument, NULL, OPTION_CGROUP},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"reflex", required_argument, NULL, OPTION_REFLEX},
	{"reflex-trigger-share", required_argument, NULL, OPTION_TRIGGER},
	{"reflex-refills", required_argument, NULL, OPTION_REFILLS},
	{"refill-budget-millicores", required_argument, NULL, OPTION_BUDGET},
	{"reflex-silent-ticks", required_argument, NULL, OPTION_REFLEX_SILENT},
	{"reflex-stuck-refills", required_argument, NULL, OPTION_STUCK},
	{"reflex-priority", required_argument, NULL, OPTION_PRIORITY},
	{"log-level", required_argument, NULL, OPTION_LOG},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

static int encoding_apply(struct agent_config *config, const char *value)
{
	static const char *const names[] = {"identity", "deflate", "auto"};

	for (int i = 0; i < 3; i++) {
		if (strcmp(value, names[i]) != 0)
			continue;
		config->report_encoding = (enum report_encoding)i;
		return 0;
	}
	fprintf(stderr,
		"ebbtide-agent: --report-encoding: \"%s\" is not one of identity, deflate, auto\n",
		value);
	return -EINVAL;
}

static int reflex_option_apply(struct agent_config *config, int id, const char *value)
{
	struct reflex_config *reflex = &config->reflex;

	switch (id) {
	case OPTION_TRIGGER:
		return parse_share("reflex-trigger-share", value, 0, 10,
			&config->reflex_fixed.trigger_age_share);
	case OPTION_REFILLS:
		return parse_number(
			"reflex-refills", value, 1, 1000, &config->reflex_fixed.refills_per_period);
	case OPTION_BUDGET:
		return parse_number(
			"refill-budget-millicores", value, 0, 1000000, &reflex->budget_millicores);
	case OPTION_REFLEX_SILENT:
		return parse_number(
			"reflex-silent-ticks", value, 1, 86400, &config->reflex_silent_ticks);
	case OPTION_STUCK:
		return parse_number(
			"reflex-stuck-refills", value, 1, 1000000, &reflex->stuck_refills);
	case OPTION_PRIORITY:
		return parse_number(
			"reflex-priority", value, 0, REFLEX_PRIORITY_MAX, &reflex->priority);
	default:
		if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
			fprintf(stderr, "ebbtide-agent: --reflex: \"%s\" is neither on nor off\n",
				value);
			return -EINVAL;
		}
		config->reflex_is_on = strcmp(value, "on") == 0;
		return 0;
	}
}

/* 0 to go on, 1 to leave with success, -errno to leave with EXIT_USAGE. */
static int option_apply(struct options *options, int id, const char *value)
{
	struct agent_config *config = &options->config;

	switch (id) {
	case OPTION_NODE:
		config->node = value;
		return 0;
	case OPTION_SERVER:
		options->server = value;
		return 0;
	case OPTION_KUBECONFIG:
		options->kubeconfig = value;
		return 0;
	case OPTION_LEARNER:
		config->learner_url = value[0] ? value : NULL;
		return 0;
	case OPTION_TREE:
		config->tree = value[0] ? value : NULL;
		return 0;
	case OPTION_STATE:
		config->state_directory = value;
		return 0;
	case OPTION_METRICS:
		config->metrics_address = value[0] ? value : NULL;
		return 0;
	case OPTION_TICK:
		return parse_number("tick-ms", value, TICK_MIN_MS, TICK_MAX_MS, &config->tick_ms);
	case OPTION_SILENT:
		return parse_number("silent-ticks", value, 1, 86400, &config->learner_silent_ticks);
	case OPTION_MAX:
		return parse_number("max-containers", value, 1, 65536, &config->max_slots);
	case OPTION_SPOOL:
		return parse_number("spool-reports", value, 1, 1000000, &config->spool_reports);
	case OPTION_FORGET:
		return parse_number("forget-s", value, 1, 86400, &config->forget_s);
	case OPTION_ENCODING:
		return encoding_apply(config, value);
	case OPTION_PROBE_BUDGET:
		return parse_share(
			"probe-budget-percent", value, 0, 100, &config->probe_budget_percent);
	case OPTION_PROBE_CHECK:
		return parse_number("probe-check-s", value, 1, 86400, &config->probe_check_s);
	case OPTION_CGROUP:
		options->cgroup_mount = value;
		return 0;
	case OPTION_CHECK:
		options->check = true;
		return 0;
	case OPTION_ACTUATOR:
		if (strcmp(value, "cgroup") == 0 || strcmp(value, "resize") == 0) {
			config->actuator = value[0] == 'r' ? ACTUATOR_RESIZE : ACTUATOR_CGROUP;
			return 0;
		}
		fprintf(stderr, "ebbtide-agent: --actuator: \"%s\" is neither cgroup nor resize\n",
			value);
		return -EINVAL;
	case OPTION_REFLEX:
	case OPTION_TRIGGER:
	case OPTION_REFILLS:
	case OPTION_BUDGET:
	case OPTION_REFLEX_SILENT:
	case OPTION_STUCK:
	case OPTION_PRIORITY:
		return reflex_option_apply(config, id, value);
	case OPTION_LOG:
		return options_log_level(PROGRAM, value);
	case OPTION_HELP:
		fputs(usage, stdout);
		return 1;
	case OPTION_VERSION:
		printf("ebbtide-agent %s\n", EBBTIDE_VERSION);
		return 1;
	default:
		return options_refer(PROGRAM);
	}
}

static int options_parse(struct options *options, int argc, char **argv)
{
	static char host[256];
	int id, err;

	gethostname(host, sizeof(host) - 1);
	*options = (struct options){
		.config = {.node = getenv("NODE_NAME") ? getenv("NODE_NAME") : host,
			.tree = "/run/ebbtide",
			.state_directory = "/var/lib/ebbtide",
			.metrics_address = "127.0.0.1:9651",
			.tick_ms = 1000,
			.max_slots = 1024,
			.learner_silent_ticks = 30,
			.spool_reports = 3600,
			.forget_s = 300,
			.probe_budget_percent = 5,
			.probe_check_s = 30,
			.reflex_is_on = true,
			.reflex = {.stuck_refills = 20, .priority = 1},
			/* Each container's ceiling is what its owner declared. */
			.reflex_fixed = {.refills_per_period = 8, .ceiling_millicores = 1e9},
			.reflex_silent_ticks = 10},
		.cgroup_mount = "/sys/fs/cgroup",
	};
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		err = option_apply(options, id, optarg);
		if (err)
			return err;
	}
	return options_stray(PROGRAM, argc, argv);
}

/* The learner has been silent for too long: back to what the owners set. */
static void silence_check(struct agent *agent)
{
	const struct agent_config *config = &agent->config;
	uint64_t limit_us = (uint64_t)config->learner_silent_ticks * config->tick_ms * 1000;
	uint64_t now_us = monotonic_us();
	unsigned int restored;

	if (!agent->reporter || now_us - agent->status.last_answer_us < limit_us)
		return;
	restored = actuate_restore(agent, NULL);
	/* With the API away as well: what an earlier agent left is known by its disk. */
	if (!agent->status.pods_synced)
		restored += leftover_settle(agent);
	if (!restored)
		return;
	agent->status.baseline_returns++;
	log_warning("event=\"learner silent\" seconds=%llu effect=\"owners' limits written back\" "
		    "containers=%u rule=learner-silent",
		(unsigned long long)(now_us - agent->status.last_answer_us) / 1000000, restored);
}

static void tick(struct agent *agent, uint64_t expirations, uint64_t *last_us)
{
	uint64_t now_us = monotonic_us();
	double tick_s = (double)(now_us - *last_us) / 1e6;

	*last_us = now_us;
	pthread_mutex_lock(&agent->lock);
	agent->status.ticks++;
	agent->status.ticks_late += expirations > 1;
	(void)probes_refresh(agent->probes);
	if (agent->originals_changed) {
		(void)actuate_save(agent);
		/* What came and went has left gaps. */
		malloc_trim(0);
	}
	actuate_verify(agent);
	allowance_tick(agent);
	sample_tick(agent, tick_s);
	starting_tick(agent);
	pressure_tick(agent);
	detail_tick(agent);
	reporter_tick(agent);
	silence_check(agent);
	discover_waiting(agent);
	discover_forget(agent);
	pthread_mutex_unlock(&agent->lock);
}

/* Events are taken in batches: each one waking the agent would cost more than it tells. */
#define EVENTS_PAUSE_MS 50

static void events_listen(int poll_fd, int event_fd, bool listen)
{
	struct epoll_event event = {.events = listen ? EPOLLIN : 0, .data.fd = event_fd};

	(void)epoll_ctl(poll_fd, EPOLL_CTL_MOD, event_fd, &event);
}

static int loop(struct agent *agent, int signal_fd)
{
	struct itimerspec period = {0};
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	int poll_fd = epoll_create1(EPOLL_CLOEXEC);
	int event_fd = probes_event_fd(agent->probes);
	uint64_t last_us = monotonic_us(), paused_us = 0;
	struct epoll_event event;
	int err = 0;

	if (timer < 0 || poll_fd < 0)
		return -errno;
	period.it_interval.tv_sec = agent->config.tick_ms / 1000;
	period.it_interval.tv_nsec = (agent->config.tick_ms % 1000) * 1000000L;
	period.it_value = period.it_interval;
	timerfd_settime(timer, 0, &period, NULL);
	for (int i = 0; i < 4; i++) {
		int fds[4] = {timer, signal_fd, event_fd, budget_fd(agent->budget)};

		event = (struct epoll_event){.events = EPOLLIN, .data.fd = fds[i]};
		if (fds[i] >= 0 && epoll_ctl(poll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0)
			err = -errno;
	}
	while (!err) {
		uint64_t expirations = 0;
		int ready = epoll_wait(poll_fd, &event, 1, paused_us ? EVENTS_PAUSE_MS : -1);

		if (ready < 0 && errno != EINTR)
			err = -errno;
		if (paused_us && monotonic_us() - paused_us >= EVENTS_PAUSE_MS * 1000) {
			events_listen(poll_fd, event_fd, true);
			paused_us = 0;
		}
		if (ready <= 0)
			continue;
		if (event.data.fd == signal_fd)
			break;
		if (event.data.fd == timer &&
			read(timer, &expirations, sizeof(expirations)) == sizeof(expirations))
			tick(agent, expirations, &last_us);
		else if (event.data.fd == budget_fd(agent->budget))
			budget_expired(agent->budget);
		else if (event.data.fd == event_fd) {
			(void)probes_consume(agent->probes);
			events_listen(poll_fd, event_fd, false);
			paused_us = monotonic_us();
		}
	}
	close(timer);
	close(poll_fd);
	return err;
}

static int block_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static void files_allow(uint32_t containers)
{
	unsigned long wanted = FILES_OTHERWISE + FILES_PER_CONTAINER * (unsigned long)containers;
	unsigned long allowed = descriptors_allow(wanted);

	if (allowed < wanted)
		log_notice(
			"files=%lu wanted=%lu effect=\"fewer containers are measured\" do=\"raise "
			"RLIMIT_NOFILE or lower --max-containers\"",
			allowed, wanted);
}

/* Everything that must be there before the first tick; the message names what is missing. */
static int agent_open(struct agent *agent, const struct options *options)
{
	char error[512] = "";
	int err;

	if (geteuid() != 0) {
		log_err("error=\"not root\" do=\"run as root or in a privileged pod: BPF and cgroups "
			"need it\"");
		return -EPERM;
	}
	err = cgroup_driver_detect(&agent->driver, options->cgroup_mount);
	if (err) {
		log_err("cgroup-mount=%s error=\"no cgroup v2 and no hybrid layout there\" "
			"do=\"mount it or give --cgroup-mount\"",
			options->cgroup_mount);
		return err;
	}
	if (mkdir(agent->config.state_directory, 0700) != 0 && errno != EEXIST) {
		err = -errno;
		log_err("state=%s error=\"%s\" do=\"make its parent or give --state\"",
			agent->config.state_directory, strerror(-err));
		return err;
	}
	err = kube_config_load(
		&agent->kube, options->server, options->kubeconfig, error, sizeof(error));
	if (err) {
		log_err("error=\"no Kubernetes API: %s\" do=\"give --server or --kubeconfig\"",
			error);
		return err;
	}
	files_allow(agent->config.max_slots);
	err = actuate_load(agent);
	if (!err)
		err = trace_open(agent);
	if (!err)
		err = pressure_open(agent);
	if (err)
		return err;
	err = probes_open(
		&agent->probes, &agent->driver, agent->config.max_slots, error, sizeof(error));
	if (err) {
		log_err("error=\"%s\"", error);
		return err;
	}
	agent->owners = calloc(agent->config.max_slots, sizeof(struct container *));
	if (!agent->owners)
		return -ENOMEM;
	probes_set_handler(agent->probes, trace_event, agent);
	err = reflex_open(&agent->reflex, agent->probes, &agent->driver, agent->config.max_slots,
		&agent->config.reflex);
	/* It degrades alone, as a signal does. */
	if (err)
		log_warning("reflex=off error=\"%s\" effect=\"no refills between two ticks\"",
			strerror(-err));
	reflex_switch(agent->reflex, agent->config.reflex_is_on);
	malloc_trim(0);
	return budget_open(agent, &agent->budget);
}

static void containers_free(struct agent *agent)
{
	while (agent->units.count > 0) {
		struct unit *unit = agent->units.items[0];

		while (unit->container_count > 0) {
			struct container *container = unit->containers[0];

			if (agent->probes)
				probes_detach(agent->probes, &container->attachment);
			pressure_unwatch(agent, container);
			usage_close(&container->usage_files);
			actuate_close(container);
			unit_drop_container(unit, container);
			free(container);
		}
		units_remove(&agent->units, unit);
	}
	free(agent->units.items);
	objectives_free(&agent->objectives);
	free(agent->owners);
}

static void agent_close(struct agent *agent)
{
	reflex_close(agent->reflex);
	pressure_close(agent);
	containers_free(agent);
	budget_close(agent->budget);
	probes_close(agent->probes);
	trace_close(agent);
	kube_config_free(&agent->kube);
	json_decref(agent->waiting);
	json_decref(agent->originals);
}

static void agent_leave(struct agent *agent)
{
	unsigned int restored;

	pthread_mutex_lock(&agent->lock);
	reflex_close(agent->reflex);
	agent->reflex = NULL;
	restored = actuate_restore(agent, NULL) + leftover_settle(agent);
	pthread_mutex_unlock(&agent->lock);
	resize_close(agent);
	pthread_mutex_lock(&agent->lock);
	actuate_forget_restored(agent);
	(void)actuate_save(agent);
	pthread_mutex_unlock(&agent->lock);
	log_notice("event=leaving limits_restored=%u", restored);
}

static int agent_run(struct agent *agent, int signal_fd)
{
	pthread_t pods, objectives;
	struct metrics *metrics = NULL;
	struct tree *tree = NULL;
	int err = 0;

	if (agent->config.metrics_address) {
		err = metrics_open(agent, &metrics);
		if (err) {
			log_err("metrics=%s error=\"%s\" do=\"free the port or give --metrics\"",
				agent->config.metrics_address, strerror(-err));
			return err;
		}
	}
	if (agent->config.actuator == ACTUATOR_RESIZE) {
		err = resize_open(agent);
		if (err)
			log_err("actuator=resize error=\"%s\"", strerror(-err));
	}
	if (!err && agent->config.learner_url) {
		err = reporter_open(agent);
		if (err)
			log_err("learner=%s state=%s error=\"%s\"", agent->config.learner_url,
				agent->config.state_directory, strerror(-err));
	}
	if (err) {
		resize_close(agent);
		metrics_close(metrics);
		return err;
	}
	if (agent->config.tree)
		(void)tree_open(agent, &tree);
	pthread_create(&pods, NULL, discover_pods_thread, agent);
	pthread_create(&objectives, NULL, discover_objectives_thread, agent);
	log_notice("event=ready node=%s cgroup=%s tick_ms=%u learner=%s tree=%s",
		agent->config.node, cgroup_layout_name(agent->driver.layout), agent->config.tick_ms,
		agent->config.learner_url ? agent->config.learner_url : "-",
		tree ? agent->config.tree : "-");
	err = loop(agent, signal_fd);
	atomic_store(&agent->stop, true);
	pthread_join(pods, NULL);
	pthread_join(objectives, NULL);
	reporter_close(agent);
	agent_leave(agent);
	tree_close(tree);
	metrics_close(metrics);
	return err;
}

static int machine_check(const struct options *options)
{
	char reason[1024];

	if (fitness_check(options->cgroup_mount, options->config.tree != NULL, reason,
		    sizeof(reason)) != 0) {
		fprintf(stderr, "ebbtide-agent: this machine does not do: %s\n", reason);
		return EXIT_FAILURE;
	}
	puts("ebbtide-agent: this machine will do");
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct options options;
	int signal_fd, err;

	log_init("ebbtide-agent", LOG_LEVEL_INFO);
	err = options_parse(&options, argc, argv);
	if (err)
		return err > 0 ? EXIT_SUCCESS : EXIT_USAGE;
	if (options.check)
		return machine_check(&options);
	/* Loading BPF objects takes and frees large pieces: these go back to the system. */
	mallopt(M_MMAP_THRESHOLD, LARGE_PIECE_BYTES);
	/* Threads are few and mostly wait; a heap of its own for each would only grow. */
	mallopt(M_ARENA_MAX, 1);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	signal_fd = block_signals();
	agent.config = options.config;
	agent.started_unix_us = unix_us();
	/* Silence counts from here: limits of a killed agent do not stay for ever. */
	agent.status.last_answer_us = monotonic_us();
	pthread_mutex_init(&agent.lock, NULL);
	err = agent_open(&agent, &options);
	if (!err)
		err = agent_run(&agent, signal_fd);
	agent_close(&agent);
	close(signal_fd);
	curl_global_cleanup();
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
