// SPDX-License-Identifier: Apache-2.0
// Needs a node: BPF, cgroups.
/*
 * What tests of the BPF programs share: the probes, loaded once, on a cgroup that is the test's own,
 * and children in it, which are ended by their pid. FIXTURE_GROUP is the folder of the cgroups.
 */
#ifndef TESTS_PROBES_FIXTURE_H
#define TESTS_PROBES_FIXTURE_H

#include "common/cgroup.h"
#include "node/probes/probes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct cgroup_driver driver;
	struct probes *probes;
	struct probes_attachment attachment;
	char path[CGROUP_PATH_MAX];
	int events;
	struct request_event last;
};

static struct fixture fixture;
/* Loading takes the verifier a while, above all on an emulated processor: once for all tests. */
static struct probes *loaded;

static void sleep_ms(long ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

/* Until @condition holds, 20 s at most: an emulated or busy machine takes its time. */
#define WAIT_UNTIL(condition)                                                                      \
	do {                                                                                       \
		for (int waited_ms = 0; waited_ms < 20000 && !(condition); waited_ms += 20)        \
			sleep_ms(20);                                                              \
	} while (0)

static void on_event(const union probes_event *event, void *context)
{
	struct fixture *f = context;

	if (event->kind != EVENT_REQUEST)
		return;
	f->events++;
	f->last = event->request;
}

static int setup(void **state)
{
	char error[512] = "";
	static int number;

	memset(&fixture, 0, sizeof(fixture));
	*state = &fixture;
	assert_int_equal(cgroup_driver_detect(&fixture.driver, "/sys/fs/cgroup"), 0);
	snprintf(fixture.path, sizeof(fixture.path), "%s/%d-%d", FIXTURE_GROUP, getpid(), number++);
	assert_int_equal(cgroup_create(&fixture.driver, fixture.path), 0);
	if (!loaded && probes_open(&loaded, &fixture.driver, 64, error, sizeof(error)))
		fail_msg("%s", error);
	fixture.probes = loaded;
	probes_set_handler(fixture.probes, on_event, &fixture);
	assert_int_equal(probes_attach(fixture.probes, fixture.path, &fixture.attachment), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	probes_detach(f->probes, &f->attachment);
	for (int i = 0; i < 50 && cgroup_remove(&f->driver, f->path) == -EBUSY; i++)
		sleep_ms(20);
	(void)cgroup_remove(&f->driver, FIXTURE_GROUP);
	(void)cgroup_remove(&f->driver, "/ebbtide");
	return 0;
}

static struct slot *slot_of(struct fixture *f)
{
	assert_int_equal(probes_refresh(f->probes), 0);
	return probes_slot(f->probes, f->attachment.slot);
}

static bool is_asleep(pid_t pid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(file);
	return state == 'S';
}

/*
 * A child in @path that runs @body for ever; end it with child_end(). It is moved in its sleep: a
 * task that is moved while it runs is one cgroup's for the kernel and the other's for the probes
 * until its next switch.
 */
static pid_t child_start(struct fixture *f, const char *path, void (*body)(void *), void *argument)
{
	int go[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(go[0], &byte, 1) != 1)
			_exit(99);
		close(go[0]);
		close(go[1]);
		body(argument);
		_exit(0);
	}
	WAIT_UNTIL(is_asleep(pid));
	assert_int_equal(cgroup_add_process(&f->driver, path, pid), 0);
	assert_int_equal(write(go[1], &byte, 1), 1);
	close(go[0]);
	close(go[1]);
	return pid;
}

static int child_end(pid_t pid)
{
	int status = 0;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

struct server {
	int listener;
	int family;
	uint16_t port;
	int delay_ms;
	int work_ms; /* of CPU time */
	bool silent; /* reads and never answers */
};

static void server_listen(struct server *server)
{
	struct sockaddr_storage address = {.ss_family = (sa_family_t)server->family};
	socklen_t size = server->family == AF_INET ? sizeof(struct sockaddr_in)
						   : sizeof(struct sockaddr_in6);

	server->listener = socket(server->family, SOCK_STREAM, 0);
	if (server->family == AF_INET)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(server->listener, 16), 0);
	assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
	server->port =
		ntohs(server->family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
						: ((struct sockaddr_in6 *)&address)->sin6_port);
}

static int client_connect(const struct server *server)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
		.sin_port = htons(server->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
		.sin6_port = htons(server->port),
		.sin6_addr = in6addr_loopback};
	int fd = socket(server->family, SOCK_STREAM, 0);

	if (server->family == AF_INET)
		assert_int_equal(connect(fd, (struct sockaddr *)&v4, sizeof(v4)), 0);
	else
		assert_int_equal(connect(fd, (struct sockaddr *)&v6, sizeof(v6)), 0);
	return fd;
}

static int close_loaded(void **state)
{
	(void)state;
	probes_close(loaded);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
