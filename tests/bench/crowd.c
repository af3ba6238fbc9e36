// SPDX-License-Identifier: Apache-2.0
/*
 * crowd: as many tiny services as are asked for, each a process of its own in a cgroup of its own,
 * and the connections to them. Commands and answers are those of commands.h: {...} or
 * {"error": "..."}. Everything it made is gone when it ends.
 *
 * A service listens at an address of its own, 127.NETWORK.x.y, so that connections to it do not
 * share ports with those to others, and answers each byte with a byte. A request is a byte.
 */
#include "bench/commands.h"
#include "common/descriptors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICES_MAX 65536
#define PORT	     7100
#define EVENTS	     64
#define PERIOD_US    100000

struct service {
	char path[CGROUP_PATH_MAX];
	uint32_t number;
	pid_t pid;
	int *connections;
	size_t connection_count;
	size_t next; /* connection that is asked next */
	uint64_t asked;
};

struct crowd {
	struct cgroup_driver driver;
	struct service *services[SERVICES_MAX];
	size_t service_count;
	uint32_t started; /* ever: the next one's number */
	uint32_t network;
	uint32_t wakes_per_s;
	int64_t quota_us;
	int64_t memory_bytes;
};

static const char usage[] =
	"Usage: crowd [OPTION]... < COMMANDS\n"
	"Tiny services, each in a cgroup of its own, on addresses 127.NETWORK.x.y.\n\n"
	"  --network N       1 to 254 (default 77)\n"
	"  --wakes-per-s N   how often a service wakes by itself and computes a little (default 0)\n"
	"  --quota-us N      CPU quota of each for 100 ms (default 50000)\n"
	"  --memory-bytes N  memory limit of each (default 64 MiB)\n\n"
	"Commands, each answered by a line of JSON:\n"
	"  start PATH          make the cgroup and a service in it\n"
	"  stop PATH           end the service, remove the cgroup\n"
	"  connect PATH COUNT  open so many more connections to it\n"
	"  hang-up PATH        close all of its connections\n"
	"  ask PATH COUNT      so many requests, one after the other, over its connections in turn\n"
	"  count               services, connections and requests answered so far\n";

static struct sockaddr_in address_of(const struct crowd *crowd, uint32_t number)
{
	/* Neither .0 nor .255 in the last place. */
	uint32_t host = number / 250 << 8 | (number % 250 + 1);

	return (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons(PORT),
		.sin_addr.s_addr = htonl(127U << 24 | crowd->network << 16 | (host & 0xffff))};
}

static int serve_open(const struct crowd *crowd, const struct service *service)
{
	const struct sockaddr_in address = address_of(crowd, service->number);
	int listener, one = 1, err;

	/* Before the socket is made: a socket belongs to its maker's cgroup. */
	err = cgroup_add_process(&crowd->driver, service->path, 0);
	if (err)
		return err;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		return -errno;
	(void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) ||
		listen(listener, 1024))
		return -errno;
	return listener;
}

static void epoll_watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	(void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int timer_open(uint32_t per_s, uint32_t number)
{
	struct itimerspec period = {0};
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	long interval_ns = per_s > 1 ? 1000000000L / per_s : 999999999L;

	period.it_interval.tv_nsec = interval_ns;
	/* Not all in one moment. */
	period.it_value.tv_nsec = 1 + (long)(number * 7919UL * 1000003UL % (uint64_t)interval_ns);
	(void)timerfd_settime(timer, 0, &period, NULL);
	return timer;
}

/* Some tens of microseconds. */
static void compute(void)
{
	volatile uint32_t value = 1;

	for (int i = 0; i < 20000; i++)
		value = value * 1664525 + 1013904223;
}

static void answer(int fd)
{
	char bytes[256];
	ssize_t got = read(fd, bytes, sizeof(bytes));

	if (got > 0)
		got = write(fd, bytes, (size_t)got);
	if (got == 0 || (got < 0 && errno != EAGAIN))
		close(fd);
}

static void serve(int listener, int timer)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[EVENTS];

	epoll_watch(epoll, listener);
	if (timer >= 0)
		epoll_watch(epoll, timer);
	for (;;) {
		int ready = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < ready; i++) {
			uint64_t expirations;
			int fd = events[i].data.fd;

			if (fd == timer) {
				if (read(timer, &expirations, sizeof(expirations)) > 0)
					compute();
			} else if (fd != listener) {
				answer(fd);
			} else {
				while ((fd = accept4(listener, NULL, NULL,
						SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
					epoll_watch(epoll, fd);
			}
		}
	}
}

/* The service's process; tells @told 0 or what went wrong once it can be connected to. */
static void service_run(const struct crowd *crowd, const struct service *service, int told)
{
	int timer = -1, listener, err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Nothing of the other services' connections. */
	if (dup2(told, 3) < 0 || close_range(4, ~0U, 0))
		_exit(1);
	listener = serve_open(crowd, service);
	if (listener >= 0 && crowd->wakes_per_s > 0)
		timer = timer_open(crowd->wakes_per_s, service->number);
	err = listener < 0 ? listener : 0;
	if (write(3, &err, sizeof(err)) != sizeof(err) || err)
		_exit(1);
	close(3);
	serve(listener, timer);
}

static struct service *service_find(const struct crowd *crowd, const char *path)
{
	for (size_t i = crowd->service_count; i-- > 0;)
		if (strcmp(crowd->services[i]->path, path) == 0)
			return crowd->services[i];
	return NULL;
}

static void hang_up(struct service *service)
{
	while (service->connection_count > 0)
		close(service->connections[--service->connection_count]);
	service->next = 0;
}

/* A process that has been killed leaves its cgroup a moment later. */
static int group_remove(const struct crowd *crowd, const char *path)
{
	int err = -EBUSY;

	for (int i = 0; i < 500 && err == -EBUSY; i++) {
		err = cgroup_remove(&crowd->driver, path);
		if (err == -EBUSY)
			usleep(1000);
	}
	return err;
}

static int service_stop(struct crowd *crowd, struct service *service)
{
	int err;

	hang_up(service);
	if (service->pid > 0) {
		kill(service->pid, SIGKILL);
		waitpid(service->pid, NULL, 0);
	}
	err = group_remove(crowd, service->path);
	for (size_t i = 0; i < crowd->service_count; i++)
		if (crowd->services[i] == service)
			crowd->services[i] = crowd->services[--crowd->service_count];
	free(service->connections);
	free(service);
	return err;
}

static int group_create(const struct crowd *crowd, const char *path)
{
	int err = cgroup_create(&crowd->driver, path);

	if (!err)
		err = cgroup_write_cpu_quota(&crowd->driver, path, crowd->quota_us, PERIOD_US);
	if (!err)
		err = cgroup_write_memory_max(&crowd->driver, path, crowd->memory_bytes);
	return err;
}

static int service_start(struct crowd *crowd, struct service *service)
{
	int told[2], err = group_create(crowd, service->path), answered;

	if (err)
		return err;
	if (pipe(told))
		return -errno;
	service->pid = fork();
	if (service->pid == 0)
		service_run(crowd, service, told[1]);
	err = service->pid < 0 ? -errno : 0;
	close(told[1]);
	if (!err)
		err = read(told[0], &answered, sizeof(answered)) == sizeof(answered) ? answered
										     : -EIO;
	close(told[0]);
	return err;
}

static json_t *command_start(struct crowd *crowd, const char *path)
{
	struct service *service;
	int err;

	if (crowd->service_count == SERVICES_MAX || crowd->started >= 256 * 250)
		return command_failure("start", path, -ENOSPC);
	service = calloc(1, sizeof(*service));
	if (!service)
		return command_failure("start", path, -ENOMEM);
	snprintf(service->path, sizeof(service->path), "%s", path);
	service->number = crowd->started++;
	crowd->services[crowd->service_count++] = service;
	err = service_start(crowd, service);
	if (err) {
		(void)service_stop(crowd, service);
		return command_failure("start", path, err);
	}
	return json_pack("{s:i}", "pid", (int)service->pid);
}

static int connection_open(const struct crowd *crowd, struct service *service)
{
	const struct sockaddr_in address = address_of(crowd, service->number);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		int err = -errno;

		close(fd);
		return err;
	}
	service->connections[service->connection_count++] = fd;
	return 0;
}

static json_t *command_connect(struct crowd *crowd, struct service *service, size_t count)
{
	size_t wanted = service->connection_count + count;
	int *grown = realloc(service->connections, wanted * sizeof(int)), err = 0;

	if (!grown)
		return command_failure("connect", service->path, -ENOMEM);
	service->connections = grown;
	while (!err && service->connection_count < wanted)
		err = connection_open(crowd, service);
	return err ? command_failure("connect", service->path, err)
		   : json_pack("{s:i}", "connections", (int)service->connection_count);
}

static json_t *command_ask(struct service *service, size_t count)
{
	if (service->connection_count == 0)
		return command_failure("ask", service->path, -ENOTCONN);
	for (size_t i = 0; i < count; i++) {
		int fd = service->connections[service->next++ % service->connection_count];
		char byte = 'a';

		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			return command_failure("ask", service->path, errno ? -errno : -EIO);
		service->asked++;
	}
	return json_pack("{s:I}", "asked", (json_int_t)service->asked);
}

static json_t *command_count(const struct crowd *crowd)
{
	uint64_t connections = 0, asked = 0;

	for (size_t i = 0; i < crowd->service_count; i++) {
		connections += crowd->services[i]->connection_count;
		asked += crowd->services[i]->asked;
	}
	return json_pack("{s:i,s:I,s:I}", "services", (int)crowd->service_count, "connections",
		(json_int_t)connections, "asked", (json_int_t)asked);
}

static json_t *command_run(void *context, const char *name, const char *path, const char *number)
{
	struct crowd *crowd = context;
	size_t count = number ? strtoul(number, NULL, 10) : 0;
	struct service *service;
	int err;

	if (strcmp(name, "count") == 0)
		return command_count(crowd);
	if (!path)
		return command_failure("its path is missing:", name, -EINVAL);
	service = service_find(crowd, path);
	if (strcmp(name, "start") == 0)
		return service ? command_failure("start", path, -EEXIST)
			       : command_start(crowd, path);
	if (!service)
		return command_failure(name, path, -ENOENT);
	if (strcmp(name, "stop") == 0) {
		err = service_stop(crowd, service);
		return err ? command_failure("stop", path, err) : json_object();
	}
	if (strcmp(name, "hang-up") == 0)
		return hang_up(service), json_object();
	if (strcmp(name, "connect") == 0)
		return command_connect(crowd, service, count);
	if (strcmp(name, "ask") == 0)
		return command_ask(service, count);
	return command_failure("no such command:", name, -EINVAL);
}

static int number_parse(const char *text, long lowest, long highest, long *value)
{
	char *end;

	*value = strtol(text, &end, 10);
	return end == text || *end || *value < lowest || *value > highest ? -EINVAL : 0;
}

static int options_parse(struct crowd *crowd, int argc, char **argv)
{
	static const struct option options[] = {{"network", required_argument, NULL, 'n'},
		{"wakes-per-s", required_argument, NULL, 'w'},
		{"quota-us", required_argument, NULL, 'q'},
		{"memory-bytes", required_argument, NULL, 'm'}, {"help", no_argument, NULL, 'h'},
		{0}};
	long value = 0;
	int id, err = 0;

	while (!err && (id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'h')
			return 1;
		if (id == 'n' && !(err = number_parse(optarg, 1, 254, &value)))
			crowd->network = (uint32_t)value;
		else if (id == 'w' && !(err = number_parse(optarg, 0, 10000, &value)))
			crowd->wakes_per_s = (uint32_t)value;
		else if (id == 'q' && !(err = number_parse(optarg, 1000, 10000000, &value)))
			crowd->quota_us = value;
		else if (id == 'm' && !(err = number_parse(optarg, 4096, LONG_MAX, &value)))
			crowd->memory_bytes = value;
		else if (!err)
			err = -EINVAL;
		if (err && optarg)
			fprintf(stderr, "crowd: \"%s\" is out of range. Try --help.\n", optarg);
	}
	return optind < argc ? -EINVAL : err;
}

int main(int argc, char **argv)
{
	static struct crowd crowd = {
		.network = 77, .quota_us = PERIOD_US / 2, .memory_bytes = 64 << 20};
	int err = options_parse(&crowd, argc, argv);

	if (err > 0) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	if (err)
		return 2;
	if (cgroup_driver_detect(&crowd.driver, "/sys/fs/cgroup")) {
		fputs("crowd: no cgroup v2 and no hybrid layout at /sys/fs/cgroup\n", stderr);
		return EXIT_FAILURE;
	}
	(void)descriptors_allow(1 << 20);
	signal(SIGPIPE, SIG_IGN);
	commands_serve(command_run, &crowd);
	while (crowd.service_count > 0)
		(void)service_stop(&crowd, crowd.services[crowd.service_count - 1]);
	return EXIT_SUCCESS;
}
