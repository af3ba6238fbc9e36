// SPDX-License-Identifier: Apache-2.0
/* ebbtide-local: functions as processes on one machine, behind HAProxy and a Kubernetes API. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cgroup.h"
#include "common/log.h"
#include "common/options.h"
#include "local/api/api.h"
#include "local/api/object.h"
#include "local/api/server.h"
#include "local/api/store.h"
#include "local/api/validate.h"
#include "local/deployments.h"
#include "local/gateway.h"
#include "local/manifest.h"
#include "local/node.h"
#include "local/pods.h"
#include "local/process.h"

#define EXIT_USAGE 2
/* How long functions may take to end when ebbtide-local itself is told to. */
#define SHUTDOWN_GRACE_MS 5000
/* Statuses are written this long after a change at most, several changes at once. */
#define RECONCILE_PAUSE_MS 5

struct endpoint {
	char address[64];
	uint16_t port;
};

struct options {
	const char *functions;
	struct endpoint api;
	struct endpoint gateway;
	const char *state;
	char node[256];
	const char *cgroup;
	int log_level;
	int ready_fd;
};

struct local {
	struct options options;
	struct cgroup_driver driver;
	json_t *objects;
	struct store *store;
	struct api api;
	struct gateway *gateway;
	struct pods *pods;
	struct deployments *deployments;
	struct server_http *server;
	int lock_fd;
	int signal_fd;
	int wake_fd;
	bool stopping;
	bool now_or_never; /* told to stop twice */
};

static const char help_text[] =
	"Usage: ebbtide-local --functions FILE [options]\n"
	"\n"
	"Keeps the Deployments of FILE as processes in cgroups behind HAProxy, and serves the\n"
	"part of the Kubernetes API that ebbtide-learner, ebbtide-agent and kubectl use.\n"
	"\n"
	"  --functions FILE       Kubernetes manifests, YAML or JSON: Deployments and\n"
	"                         ScaleObjectives\n"
	"  --listen ADDRESS:PORT  the API (default 127.0.0.1:8001)\n"
	"  --gateway ADDRESS:PORT HAProxy: /function/NAME/... (default 127.0.0.1:8080)\n"
	"  --state DIR            sockets and logs (default /run/ebbtide-local)\n"
	"  --node NAME            the node's name (default: the host's)\n"
	"  --cgroup PATH          every function runs below it (default /ebbtide)\n"
	"  --log-level LEVEL      err, warning, notice, info or debug (default info)\n"
	"  --ready-fd N           write a byte there when API and gateway answer\n"
	"  --help, --version\n";

static int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int usage_error(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, "ebbtide-local: --%s %s: %s (see --help)\n", option, value, wanted);
	return EXIT_USAGE;
}

static int parse_endpoint(const char *option, const char *text, struct endpoint *out)
{
	const char *colon = strrchr(text, ':');
	struct in_addr address;
	char *end;
	long port;

	if (colon && (size_t)(colon - text) < sizeof(out->address)) {
		snprintf(out->address, sizeof(out->address), "%.*s", (int)(colon - text), text);
		if (!*out->address)
			snprintf(out->address, sizeof(out->address), "127.0.0.1");
		port = strtol(colon + 1, &end, 10);
		if (colon[1] && !*end && port > 0 && port < 65536 &&
			inet_pton(AF_INET, out->address, &address) == 1) {
			out->port = (uint16_t)port;
			return 0;
		}
	}
	return usage_error(option, text, "wanted IPv4 ADDRESS:PORT, as 127.0.0.1:8001");
}

static int check_cgroup_path(const char *path)
{
	size_t length = strlen(path);

	if (path[0] != '/' || length < 2 || length > 128 || path[length - 1] == '/' ||
		strstr(path, "//") || strstr(path, "/.") || strpbrk(path, " \t\n*?[]\\"))
		return usage_error("cgroup", path,
			"wanted an absolute path below the cgroup root, as /ebbtide");
	return 0;
}

/* 0: go on; -1: done, exit 0; else the exit code. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{"functions", required_argument, NULL, 'f'},
		{"listen", required_argument, NULL, 'l'},
		{"gateway", required_argument, NULL, 'g'},
		{"state", required_argument, NULL, 's'},
		{"node", required_argument, NULL, 'n'},
		{"cgroup", required_argument, NULL, 'c'},
		{"log-level", required_argument, NULL, 'L'},
		{"ready-fd", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{0},
	};
	int choice, err = 0;
	char *end;

	while ((choice = getopt_long(argc, argv, "", names, NULL)) != -1 && !err) {
		switch (choice) {
		case 'f':
			options->functions = optarg;
			break;
		case 'l':
			err = parse_endpoint("listen", optarg, &options->api);
			break;
		case 'g':
			err = parse_endpoint("gateway", optarg, &options->gateway);
			break;
		case 's':
			options->state = optarg;
			break;
		case 'n':
			snprintf(options->node, sizeof(options->node), "%s", optarg);
			break;
		case 'c':
			options->cgroup = optarg;
			err = check_cgroup_path(optarg);
			break;
		case 'L':
			options->log_level = log_parse_level(optarg);
			if (options->log_level < 0)
				err = usage_error("log-level", optarg,
					"wanted err, warning, notice, info or debug");
			break;
		case 'r':
			options->ready_fd = (int)strtol(optarg, &end, 10);
			if (!*optarg || *end || options->ready_fd < 0)
				err = usage_error(
					"ready-fd", optarg, "wanted a descriptor's number");
			break;
		case 'h':
			fputs(help_text, stdout);
			return -1;
		case 'v':
			puts("ebbtide-local " EBBTIDE_VERSION);
			return -1;
		default:
			(void)options_refer("ebbtide-local");
			return EXIT_USAGE;
		}
	}
	if (err)
		return err;
	if (optind < argc) {
		fprintf(stderr, "ebbtide-local: unexpected argument %s (see --help)\n",
			argv[optind]);
		return EXIT_USAGE;
	}
	if (!options->functions) {
		fprintf(stderr, "ebbtide-local: --functions FILE is missing (see --help)\n");
		return EXIT_USAGE;
	}
	return 0;
}

static int make_directory(const char *path)
{
	char part[512];

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	for (const char *p = path + 1;; p++) {
		if (*p != '/' && *p)
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
		if (mkdir(part, 0755) && errno != EEXIST)
			return -errno;
		if (!*p)
			return 0;
	}
}

/*
 * One ebbtide-local a cgroup: an abstract socket is a lock that ends with its process, whatever
 * ends it, and leaves no file behind.
 */
static int take_lock(struct local *local)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int length = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "ebbtide-local:%.90s",
		local->options.cgroup);

	local->lock_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (local->lock_fd < 0)
		return -errno;
	if (bind(local->lock_fd, (struct sockaddr *)&name,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)))
		return -errno;
	return 0;
}

static int prepare_cgroups(struct local *local)
{
	const char *path = local->options.cgroup;
	int err = cgroup_driver_detect(&local->driver, "/sys/fs/cgroup");

	if (err) {
		log_err("no cgroup hierarchy at /sys/fs/cgroup: %s (mount cgroup2 there)",
			strerror(-err));
		return err;
	}
	err = take_lock(local);
	if (err) {
		log_err("another ebbtide-local uses cgroup %s: end it or give another --cgroup",
			path);
		return err;
	}
	err = process_clear_cgroup(&local->driver, path);
	if (err < 0) {
		log_err("cgroup %s has processes or cgroups in it that cannot be removed: %s", path,
			strerror(-err));
		return err;
	}
	if (err > 0)
		log_notice(
			"ended %d processes that an earlier run had left in cgroup=%s", err, path);
	err = cgroup_create(&local->driver, path);
	if (err)
		log_err("cannot make cgroup %s: %s", path, strerror(-err));
	return err;
}

static void load_objects(struct local *local)
{
	json_t *object;
	size_t index;

	node_publish(local->store, local->options.node);
	json_array_foreach (local->objects, index, object) {
		const struct resource *resource =
			resource_find_kind(json_string_value(json_object_get(object, "apiVersion")),
				json_string_value(json_object_get(object, "kind")));

		if (resource->namespaced) {
			json_t *namespace = json_pack(
				"{s:{s:s}}", "metadata", "name", object_namespace(object));

			validate_set_defaults(&resources[RESOURCE_NAMESPACES], namespace);
			store_create(
				local->store, &resources[RESOURCE_NAMESPACES], namespace, NULL);
		}
		json_object_del(object, "status");
		store_create(local->store, resource, json_incref(object), NULL);
	}
}

static int start_parts(struct local *local)
{
	struct options *options = &local->options;
	struct pods_options pods_options = {
		.driver = &local->driver,
		.node = options->node,
		.cgroup = options->cgroup,
		.state_directory = options->state,
	};
	char path[600], error[512] = "out of memory";
	struct timespec now;
	int err;

	snprintf(path, sizeof(path), "%s/logs", options->state);
	err = make_directory(path);
	if (err) {
		log_err("cannot make --state folder %s: %s", path, strerror(-err));
		return err;
	}
	/* Before anything is started, so that a refusal costs nothing. */
	err = process_check_listen(options->api.address, options->api.port);
	if (err) {
		log_err("--listen %s:%u: %s%s", options->api.address, options->api.port,
			strerror(-err),
			err == -EADDRINUSE
				? ": end the program that listens there or name another port"
				: "");
		return err;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	local->store = store_new((uint64_t)now.tv_sec * 1000, WATCH_HISTORY_EVENTS);
	if (!local->store)
		return -ENOMEM;
	load_objects(local);
	err = gateway_start(&local->gateway, options->gateway.address, options->gateway.port,
		options->state, error, sizeof(error));
	if (err) {
		log_err("%s", error);
		return err;
	}
	pods_options.store = local->store;
	pods_options.gateway = local->gateway;
	local->pods = pods_new(&pods_options);
	local->deployments = deployments_new(local->store, local->pods, local->gateway);
	if (!local->pods || !local->deployments)
		return -ENOMEM;
	api_init(&local->api, local->store, &local->driver, options->state);
	err = store_add_listener(local->store, local->wake_fd);
	if (err)
		return err;
	err = server_start(&local->server, &local->api, options->api.address, options->api.port);
	if (err)
		log_err("--listen %s:%u: %s", options->api.address, options->api.port,
			strerror(-err));
	return err;
}

static void reap(struct local *local)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == gateway_pid(local->gateway))
			gateway_exited(local->gateway, status, clock_ms());
		else
			pods_reaped(local->pods, pid, status, clock_ms());
	}
}

static void read_signals(struct local *local)
{
	struct signalfd_siginfo info;

	while (read(local->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		if (local->stopping)
			local->now_or_never = true;
		else
			log_notice("stopping signal=%s pods=%zu",
				info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT",
				pods_count(local->pods));
		local->stopping = true;
	}
	reap(local);
}

static void run(struct local *local)
{
	struct pollfd fds[2] = {
		{.fd = local->signal_fd, .events = POLLIN},
		{.fd = local->wake_fd, .events = POLLIN},
	};
	bool stop_sent = false;
	int64_t next_ms;

	while (!local->stopping || pods_count(local->pods) > 0) {
		int64_t now_ms = clock_ms(), wait_ms;
		uint64_t before = store_version(local->store);
		eventfd_t count;

		if (local->stopping && (!stop_sent || local->now_or_never)) {
			pods_stop_all(
				local->pods, local->now_or_never ? 0 : SHUTDOWN_GRACE_MS, now_ms);
			stop_sent = true;
		}
		if (!local->stopping) {
			pods_check_deleted(local->pods, now_ms);
			gateway_check(local->gateway, now_ms);
			deployments_reconcile(local->deployments, now_ms);
		}
		next_ms = pods_advance(local->pods, now_ms);
		/* What this turn itself changed may ask for another one. */
		if (store_version(local->store) != before && !local->stopping)
			next_ms = now_ms + RECONCILE_PAUSE_MS;
		wait_ms = next_ms - clock_ms();
		if (wait_ms > 0 || next_ms > now_ms)
			poll(fds, 2, wait_ms < 1 ? 1 : (int)wait_ms);
		eventfd_read(local->wake_fd, &count);
		read_signals(local);
	}
}

static int open_events(struct local *local)
{
	sigset_t set;

	/* Before any thread, so that all of them have these blocked. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	local->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	local->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return local->signal_fd < 0 || local->wake_fd < 0 ? -errno : 0;
}

static void stop_parts(struct local *local)
{
	int err;

	server_stop(local->server);
	gateway_stop(local->gateway);
	deployments_free(local->deployments);
	pods_free(local->pods);
	store_free(local->store);
	json_decref(local->objects);
	if (local->lock_fd >= 0 && *local->driver.unified_root) {
		err = process_clear_cgroup(&local->driver, local->options.cgroup);
		if (err < 0)
			log_err("cannot remove cgroup %s: %s", local->options.cgroup,
				strerror(-err));
	}
}

static void say_ready(const struct local *local)
{
	const struct options *options = &local->options;

	log_notice("ready api=http://%s:%u gateway=http://%s:%u node=%s cgroup=%s layout=%s",
		options->api.address, options->api.port, options->gateway.address,
		options->gateway.port, options->node, options->cgroup,
		cgroup_layout_name(local->driver.layout));
	if (options->ready_fd >= 0 && write(options->ready_fd, "r", 1) != 1)
		log_warning(
			"cannot write to --ready-fd %d: %s", options->ready_fd, strerror(errno));
	if (options->ready_fd > STDERR_FILENO)
		close(options->ready_fd);
}

int main(int argc, char **argv)
{
	struct local local = {
		.options =
			{
				.api = {"127.0.0.1", 8001},
				.gateway = {"127.0.0.1", 8080},
				.state = "/run/ebbtide-local",
				.cgroup = "/ebbtide",
				.log_level = LOG_LEVEL_INFO,
				.ready_fd = -1,
			},
		.lock_fd = -1,
	};
	char error[1024];
	bool locked = false;
	int err;

	gethostname(local.options.node, sizeof(local.options.node) - 1);
	err = parse_options(argc, argv, &local.options);
	if (err)
		return err < 0 ? EXIT_SUCCESS : err;
	log_init("ebbtide-local", (enum log_level)local.options.log_level);
	if (manifest_read(local.options.functions, &local.objects, error, sizeof(error))) {
		log_err("%s", error);
		return EXIT_FAILURE;
	}
	if (geteuid() != 0) {
		log_err("not root: cgroups are root's to make (run it with sudo)");
		return EXIT_FAILURE;
	}
	err = open_events(&local);
	if (!err)
		err = prepare_cgroups(&local);
	locked = !err;
	if (!err)
		err = start_parts(&local);
	if (!err) {
		say_ready(&local);
		run(&local);
	}
	if (!locked && local.lock_fd >= 0) {
		/* The cgroups are somebody else's: nothing of it is touched. */
		close(local.lock_fd);
		local.lock_fd = -1;
	}
	stop_parts(&local);
	if (!err)
		log_notice("stopped");
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
