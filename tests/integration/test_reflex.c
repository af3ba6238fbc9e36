// SPDX-License-Identifier: Apache-2.0
// Needs a node: BPF, cgroups.
/*
 * The reflex on the running kernel: real quotas, real requests, real refills. What it did is checked
 * against the cgroup's own cpu.stat. Children are ended by their pid.
 */
#include "common/cgroup.h"
#include "common/log.h"
#include "node/agent.h"
#include "node/probes/detail.h"
#include "node/trace/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
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

#define GROUP	  "/ebbtide/test-reflex"
#define PERIOD_US 100000
#define SLOTS	  64
#define UNITS	  2
#define CLIENTS	  8

struct workload {
	char path[CGROUP_PATH_MAX];
	char inside[CGROUP_PATH_MAX]; /* where its processes are, when not there */
	struct probes_attachment attachment;
	struct spare_share share;
	struct cgroup_limits limits;
	uint16_t port;
	pid_t pids[4];
	int pid_count;
};

struct fixture {
	struct cgroup_driver driver;
	struct probes *probes;
	struct reflex *reflex;
	struct workload units[UNITS];
	int unit_count;
	int connections[CLIENTS * 2];
	int connection_count;
};

static struct fixture fixture;
static struct probes *loaded;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_ms(long ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

static void reflex_start(struct fixture *f, uint32_t budget_millicores, uint32_t stuck_refills)
{
	struct reflex_config config = {.budget_millicores = budget_millicores,
		.stuck_refills = stuck_refills,
		.priority = 1};

	assert_int_equal(reflex_open(&f->reflex, f->probes, &f->driver, SLOTS, &config), 0);
}

static struct slot *slot_of(struct fixture *f, const struct workload *unit)
{
	return probes_slot(f->probes, unit->attachment.slot);
}

/* A container with a quota and an objective. */
static struct workload *unit_start(struct fixture *f, int64_t quota_us, double target_us)
{
	struct workload *unit = &f->units[f->unit_count++];
	struct slot *slot;

	snprintf(unit->path, sizeof(unit->path), "%s/%d-%d", GROUP, getpid(), f->unit_count);
	assert_int_equal(cgroup_create(&f->driver, unit->path), 0);
	assert_int_equal(cgroup_write_cpu_quota(&f->driver, unit->path, quota_us, PERIOD_US), 0);
	assert_int_equal(probes_attach(f->probes, unit->path, &unit->attachment), 0);
	assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &unit->limits), 0);
	slot = slot_of(f, unit);
	slot->objective_ns = (uint64_t)(target_us * 1000);
	slot->age_shift = detail_age_shift(target_us);
	reflex_enter(f->reflex, unit->attachment.slot, unit->path, &unit->share, &unit->limits);
	return unit;
}

static int setup(void **state)
{
	char error[512] = "";

	memset(&fixture, 0, sizeof(fixture));
	*state = &fixture;
	assert_int_equal(cgroup_driver_detect(&fixture.driver, "/sys/fs/cgroup"), 0);
	if (!loaded && probes_open(&loaded, &fixture.driver, SLOTS, error, sizeof(error)))
		fail_msg("%s", error);
	fixture.probes = loaded;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < f->connection_count; i++)
		close(f->connections[i]);
	for (int i = 0; i < f->unit_count; i++) {
		struct workload *unit = &f->units[i];

		for (int k = 0; k < unit->pid_count; k++) {
			kill(unit->pids[k], SIGKILL);
			waitpid(unit->pids[k], NULL, 0);
		}
		reflex_leave(f->reflex, unit->attachment.slot);
		probes_detach(f->probes, &unit->attachment);
	}
	reflex_close(f->reflex);
	for (int i = 0; i < f->unit_count; i++)
		for (int k = 0; k < 50; k++) {
			if (cgroup_remove(&f->driver, f->units[i].path) != -EBUSY)
				break;
			sleep_ms(20);
		}
	(void)cgroup_remove(&f->driver, GROUP);
	(void)cgroup_remove(&f->driver, "/ebbtide");
	return 0;
}

static void child_start(
	struct fixture *f, struct workload *unit, void (*body)(void *), void *argument)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (cgroup_add_process(&f->driver, unit->inside[0] ? unit->inside : unit->path, 0))
			_exit(99);
		body(argument);
		_exit(0);
	}
	unit->pids[unit->pid_count++] = pid;
}

static void spin(void *argument)
{
	(void)argument;
	for (;;)
		__asm__ volatile("");
}

static void use_cpu_us(uint64_t us)
{
	struct timespec now;
	uint64_t end_ns = 0, used_ns;

	do {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		used_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
		if (!end_ns)
			end_ns = used_ns + us * 1000;
	} while (used_ns < end_ns);
}

struct server {
	uint64_t cpu_us; /* of a request */
	bool is_silent;	 /* reads and never answers */
};

struct shared_port {
	volatile uint16_t port;
};

static struct shared_port *shared;

/* One request a connection, one after the other, each some CPU time. */
static void serve(void *argument)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	const struct server *server = argument;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	char buffer[4096];

	if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
		getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		_exit(98);
	shared->port = ntohs(address.sin_port);
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection < 0 || read(connection, buffer, sizeof(buffer)) <= 0)
			continue;
		if (server->is_silent)
			continue;
		use_cpu_us(server->cpu_us);
		if (write(connection, answer, sizeof(answer) - 1) < 0)
			continue;
		close(connection);
	}
}

static void server_start(struct fixture *f, struct workload *unit, struct server *server)
{
	if (!shared)
		shared =
			mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared->port = 0;
	child_start(f, unit, serve, server);
	for (int i = 0; i < 500 && !shared->port; i++)
		sleep_ms(10);
	unit->port = shared->port;
	assert_true(unit->port > 0);
}

/* A request that is on its way; the connection is closed at the end of the test. */
static int request_send(struct fixture *f, const struct workload *unit)
{
	static const char request[] = "GET /work HTTP/1.1\r\nHost: a\r\n\r\n";
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(unit->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	f->connections[f->connection_count++] = fd;
	return fd;
}

static void answers_await(struct fixture *f)
{
	char buffer[256];

	for (int i = 0; i < f->connection_count; i++) {
		assert_true(read(f->connections[i], buffer, sizeof(buffer)) > 0);
		close(f->connections[i]);
	}
	f->connection_count = 0;
}

static void allow(struct fixture *f, struct workload *unit, double trigger, uint32_t refills,
	double ceiling_millicores, uint64_t expires_ns)
{
	struct allowance allowance = {.trigger_age_share = trigger,
		.refills_per_period = refills,
		.ceiling_millicores = ceiling_millicores};

	reflex_allow(f->reflex, unit->attachment.slot, &allowance,
		(double)slot_of(f, unit)->objective_ns / 1000, 10 * PERIOD_US, expires_ns);
}

static struct cgroup_usage usage_of(struct fixture *f, const struct workload *unit)
{
	struct cgroup_usage usage;

	assert_int_equal(cgroup_read_usage(&f->driver, unit->path, &usage), 0);
	return usage;
}

static void wait_used_us(struct fixture *f, const struct workload *unit, uint64_t used_us)
{
	for (int i = 0; i < 1000 && usage_of(f, unit).cpu_used_us < used_us; i++)
		sleep_ms(10);
}

/* Until the reflex has refilled so often, or long enough to say that it does not. */
static uint64_t wait_refills(struct fixture *f, uint64_t refills)
{
	struct reflex_status status;

	for (int i = 0; i < 1000; i++) {
		reflex_status(f->reflex, &status);
		if (status.refills >= refills)
			break;
		sleep_ms(10);
	}
	return status.refills;
}

static uint64_t denials(struct fixture *f, enum refill_reason reason)
{
	struct reflex_status status;

	reflex_status(f->reflex, &status);
	return status.denied[reason];
}

static void wait_denials(struct fixture *f, enum refill_reason reason)
{
	for (int i = 0; i < 1000 && !denials(f, reason); i++)
		sleep_ms(10);
}

static void test_a_look_tells_what_the_kernels_files_tell(void **state)
{
	struct fixture *f = *state;
	struct cgroup_usage usage;
	struct workload *unit;
	struct slot *slot;
	uint64_t before_us;

	unit = unit_start(f, 20000, 50000);
	slot = slot_of(f, unit);
	assert_int_equal(probes_look(f->probes, unit->attachment.slot), -ESTALE);
	child_start(f, unit, spin, NULL);
	wait_used_us(f, unit, 150000);
	for (int i = 0; i < 200 && probes_look(f->probes, unit->attachment.slot) != 1; i++)
		sleep_ms(3);
	assert_int_equal(probes_look(f->probes, unit->attachment.slot), 1);
	assert_true(slot->quota_left_ns < 1000000);
	assert_true(slot->throttled_since_ns > 0 && slot->throttled_since_ns < now_ns());
	if (slot->period_ends_ns) {
		assert_true(slot->period_ends_ns + 100000000 > now_ns());
		assert_true(slot->period_ends_ns < now_ns() + 101000000);
	}
	/* It stands still once its group is throttled: both are then of the same moment. */
	for (int i = 0; i < 100; i++) {
		before_us = usage_of(f, unit).cpu_used_us;
		assert_true(probes_look(f->probes, unit->attachment.slot) >= 0);
		usage = usage_of(f, unit);
		if (usage.cpu_used_us == before_us)
			break;
		sleep_ms(7);
	}
	assert_int_equal(slot->quota_period, usage.periods);
	if (llabs((int64_t)slot->group_used_ns / 1000 - (int64_t)usage.cpu_used_us) > 2000)
		fail_msg("expected %llu us, got %llu", (unsigned long long)usage.cpu_used_us,
			(unsigned long long)slot->group_used_ns / 1000);
}

/*
 * Eight requests of 5 ms each at once, on 10 ms of 100: the last would take 300 ms. @inside: the group in
 * the container that serves them.
 */
static uint64_t over_the_objective(struct fixture *f, bool is_allowed, const char *inside)
{
	struct server server = {.cpu_us = 5000};
	struct workload *unit;

	reflex_start(f, 2000, 100);
	unit = unit_start(f, 10000, 200000);
	if (inside) {
		snprintf(unit->inside, sizeof(unit->inside), "%.400s%s", unit->path, inside);
		assert_int_equal(cgroup_create(&f->driver, unit->inside), 0);
	}
	server_start(f, unit, &server);
	if (is_allowed)
		allow(f, unit, 0.1, 8, 800, 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < CLIENTS; i++)
			request_send(f, unit);
		answers_await(f);
		sleep_ms(250);
	}
	assert_int_equal(slot_of(f, unit)->requests, 3 * CLIENTS);
	return slot_of(f, unit)->requests_over;
}

static void test_without_the_reflex_requests_wait_for_the_next_periods(void **state)
{
	struct fixture *f = *state;
	struct reflex_status status;

	assert_true(over_the_objective(f, false, NULL) >= 3);
	reflex_status(f->reflex, &status);
	assert_int_equal(status.refills, 0);
}

static void test_with_the_reflex_requests_finish_within_the_objective(void **state)
{
	struct fixture *f = *state;
	struct reflex_status status;

	assert_int_equal(over_the_objective(f, true, NULL), 0);
	reflex_status(f->reflex, &status);
	assert_true(status.refills >= 6);
	assert_int_equal(histogram_count(status.reaction), status.refills);
}

/* As systemd or Docker in a container has them. */
static void test_a_unit_with_groups_inside_is_refilled_as_well(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(over_the_objective(f, true, "/system.slice/web.service"), 0);
}

static void test_a_refill_tells_of_itself(void **state)
{
	struct fixture *f = *state;
	struct reflex_event events[64];
	struct reflex_counts counts;
	size_t count;

	(void)over_the_objective(f, true, NULL);
	sleep_ms(150);
	reflex_collect(f->reflex, f->units[0].attachment.slot, &counts);
	count = reflex_events(f->reflex, events, 64);
	assert_int_equal(count, counts.refills);
	assert_int_equal(counts.granted_us, counts.refills * 10000);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(events[i].slot, f->units[0].attachment.slot);
		assert_true(events[i].oldest_ns >= 20000000);
		assert_true(events[i].in_flight > 0 && events[i].in_flight <= CLIENTS);
		assert_true(events[i].number >= 1 && events[i].number <= 8);
		assert_int_equal(events[i].grant_ns, 10000000);
	}
	/* And once. */
	reflex_collect(f->reflex, f->units[0].attachment.slot, &counts);
	assert_int_equal(counts.refills, 0);
	assert_int_equal(reflex_events(f->reflex, events, 64), 0);
}

/* A unit that always wants CPU, and has a request in flight that never ends. */
static struct workload *insatiable(struct fixture *f, int64_t quota_us)
{
	static struct server server = {.is_silent = true};
	struct workload *unit = unit_start(f, quota_us, 20000);

	server_start(f, unit, &server);
	request_send(f, unit);
	child_start(f, unit, spin, NULL);
	return unit;
}

static void test_no_unit_gets_more_than_its_allowance(void **state)
{
	struct fixture *f = *state;
	struct cgroup_usage before, after;
	struct reflex_counts counts;
	uint64_t periods, used_us, most_us;
	struct workload *unit;

	reflex_start(f, 2000, UINT32_MAX);
	unit = insatiable(f, 10000);
	/* 10 ms, then 3 refills of 10 ms would be 40 ms: the ceiling of 35 ms cuts the last. */
	allow(f, unit, 0.2, 3, 350, 0);
	wait_refills(f, 3);
	reflex_collect(f->reflex, unit->attachment.slot, &counts);
	before = usage_of(f, unit);
	sleep_ms(3000);
	after = usage_of(f, unit);
	reflex_collect(f->reflex, unit->attachment.slot, &counts);
	periods = after.periods - before.periods + 1;
	used_us = after.cpu_used_us - before.cpu_used_us;
	most_us = periods * 35000;
	if (used_us > most_us)
		fail_msg("expected at most %llu us, got %llu", (unsigned long long)most_us,
			(unsigned long long)used_us);
	assert_true(counts.refills <= 3 * periods);
	assert_true(counts.refills >= periods);
	/* It did get more than its quota, and the account says how much. */
	assert_true(used_us > periods * 15000);
	if (llabs((int64_t)counts.over_limit_us - (int64_t)(used_us - (periods - 1) * 10000)) >
		(int64_t)(used_us / 5))
		fail_msg("used %llu us in %llu periods, over the limit %llu us",
			(unsigned long long)used_us, (unsigned long long)periods,
			(unsigned long long)counts.over_limit_us);
}

static void test_a_smaller_last_refill_leaves_the_quota_as_it_was(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limits limits;
	int64_t lowest_us = 10000;
	struct workload *unit;

	reflex_start(f, 2000, UINT32_MAX);
	unit = insatiable(f, 10000);
	allow(f, unit, 0.2, 8, 250, 0);
	for (int i = 0; i < 1000 && lowest_us == 10000; i++) {
		assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &limits), 0);
		if (limits.cpu_quota_us < lowest_us)
			lowest_us = limits.cpu_quota_us;
		sleep_ms(2);
	}
	assert_true(lowest_us >= 2500 && lowest_us < 10000);
	/* The reflex ends in the middle of it. */
	reflex_leave(f->reflex, unit->attachment.slot);
	assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &limits), 0);
	assert_int_equal(limits.cpu_quota_us, 10000);
}

static void test_a_unit_without_requests_is_never_refilled(void **state)
{
	struct fixture *f = *state;
	struct reflex_status status;
	struct workload *unit;
	uint64_t looks;

	reflex_start(f, 2000, 100);
	unit = unit_start(f, 10000, 20000);
	allow(f, unit, 0.2, 8, 1000, 0);
	child_start(f, unit, spin, NULL);
	wait_used_us(f, unit, 30000);
	reflex_status(f->reflex, &status);
	looks = status.looks;
	sleep_ms(1000);
	reflex_status(f->reflex, &status);
	assert_true(usage_of(f, unit).throttled_periods > 5);
	assert_int_equal(status.refills, 0);
	/* Nor does it cost anything to leave it alone. */
	assert_int_equal(status.looks, looks);
}

/* A unit whose requests take far less than its quota, with an allowance that it does not need. */
static struct workload *leisurely(struct fixture *f)
{
	static struct server server = {.cpu_us = 200};
	struct workload *unit = unit_start(f, 80000, 20000);

	server_start(f, unit, &server);
	allow(f, unit, 0.2, 8, 1000, 0);
	return unit;
}

static void test_nothing_is_polled_while_nothing_is_throttled(void **state)
{
	struct fixture *f = *state;
	struct reflex_status before, after;
	struct workload *unit;

	reflex_start(f, 2000, 100);
	unit = leisurely(f);
	sleep_ms(150);
	reflex_status(f->reflex, &before);
	for (int i = 0; i < 20; i++) {
		request_send(f, unit);
		answers_await(f);
		sleep_ms(30);
	}
	reflex_status(f->reflex, &after);
	assert_int_equal(after.wakes, before.wakes);
	assert_int_equal(after.looks, before.looks);
}

/* Its age and its mark are in the slot: no system call is needed to leave it alone. */
static void test_a_young_request_is_not_looked_at(void **state)
{
	struct fixture *f = *state;
	struct server server = {.cpu_us = 25000};
	struct reflex_status before, after;
	struct workload *unit;

	reflex_start(f, 2000, 100);
	unit = unit_start(f, 10000, 100000);
	server_start(f, unit, &server);
	allow(f, unit, 3.5, 8, 1000, 0);
	reflex_status(f->reflex, &before);
	request_send(f, unit);
	answers_await(f);
	reflex_status(f->reflex, &after);
	assert_true(usage_of(f, unit).throttled_periods > 0);
	assert_true(after.wakes > before.wakes);
	assert_int_equal(after.looks, before.looks);
	assert_int_equal(after.refills, 0);
}

static void test_new_limits_of_a_unit_that_is_not_throttled_do_not_wake_the_thread(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limit_files files = {0};
	struct reflex_status before, after;
	struct workload *unit;

	reflex_start(f, 2000, 100);
	unit = leisurely(f);
	request_send(f, unit);
	answers_await(f);
	sleep_ms(300);
	reflex_status(f->reflex, &before);
	for (int i = 1; i <= 10; i++) {
		assert_true(reflex_hold(f->reflex, unit->attachment.slot));
		assert_int_equal(cgroup_change_cpu(&f->driver, unit->path, &files, &unit->limits,
					 80000 - 1000 * i, PERIOD_US, CGROUP_UNLIMITED),
			0);
		reflex_release(f->reflex, unit->attachment.slot, &unit->limits);
		sleep_ms(1);
	}
	reflex_status(f->reflex, &after);
	/* For the account of a period that ended meanwhile, at most. */
	assert_in_range(after.wakes, before.wakes, before.wakes + 2);
	cgroup_close_limits(&files);
}

static void test_an_allowance_expires(void **state)
{
	struct fixture *f = *state;
	uint64_t refills;
	struct workload *unit;

	reflex_start(f, 2000, UINT32_MAX);
	unit = insatiable(f, 10000);
	allow(f, unit, 0.2, 8, 1000, now_ns() + 700000000);
	assert_true(wait_refills(f, 2) >= 2);
	wait_denials(f, REFILL_expired);
	refills = wait_refills(f, 0);
	sleep_ms(500);
	assert_int_equal(wait_refills(f, 0), refills);
	/* The learner is back. */
	allow(f, unit, 0.2, 8, 1000, now_ns() + 60000000000);
	assert_true(wait_refills(f, refills + 2) >= refills + 2);
}

static void test_refills_that_help_nobody_end(void **state)
{
	struct fixture *f = *state;
	struct workload *unit;

	reflex_start(f, 2000, 5);
	unit = insatiable(f, 10000);
	allow(f, unit, 0.2, 3, 1000, 0);
	wait_denials(f, REFILL_stuck);
	assert_int_equal(wait_refills(f, 5), 5);
	sleep_ms(500);
	assert_int_equal(wait_refills(f, 0), 5);
	/* The request ends, as a failure: the next one counts again. */
	close(f->connections[0]);
	f->connection_count = 0;
	request_send(f, unit);
	slot_of(f, unit)->requests_failed++;
	assert_true(wait_refills(f, 6) >= 6);
}

static void test_two_units_share_the_nodes_budget(void **state)
{
	struct fixture *f = *state;
	struct reflex_counts counts[UNITS];
	struct workload *units[UNITS];
	uint64_t sum_us = 0;

	reflex_start(f, 100, UINT32_MAX);
	/* The second asks for twice as much at a time. */
	units[0] = insatiable(f, 5000);
	units[1] = insatiable(f, 10000);
	for (int i = 0; i < UNITS; i++)
		allow(f, units[i], 0.2, 8, 1000, 0);
	sleep_ms(1500);
	for (int i = 0; i < UNITS; i++)
		reflex_collect(f->reflex, units[i]->attachment.slot, &counts[i]);
	sleep_ms(4000);
	for (int i = 0; i < UNITS; i++) {
		reflex_collect(f->reflex, units[i]->attachment.slot, &counts[i]);
		sum_us += counts[i].over_limit_us;
	}
	for (int i = 0; i < UNITS; i++)
		if (counts[i].over_limit_us < 120000 || counts[i].over_limit_us > 280000)
			fail_msg("unit %d: expected about 200000 us of 400000, got %llu", i,
				(unsigned long long)counts[i].over_limit_us);
	assert_true(denials(f, REFILL_budget) > 0);
	assert_true(sum_us < 450000);
}

static void test_a_service_that_is_forgotten_has_no_part_in_the_budget(void **state)
{
	struct fixture *f = *state;
	struct agent agent = {0};
	struct workload *gone, *stays;
	struct unit *service;
	uint64_t refills;

	reflex_start(f, 2000, UINT32_MAX);
	agent.reflex = f->reflex;
	assert_int_equal(trace_open(&agent), 0);
	service = units_get(&agent.units, "default", "gone");
	assert_non_null(service);
	gone = insatiable(f, 10000);
	reflex_leave(f->reflex, gone->attachment.slot);
	reflex_enter(f->reflex, gone->attachment.slot, gone->path, &service->share, &gone->limits);
	allow(f, gone, 0.2, 3, 1000, 0);
	assert_true(wait_refills(f, 1) >= 1);
	reflex_leave(f->reflex, gone->attachment.slot);
	/* What is freed is overwritten: who still reads it ends here. */
	mallopt(M_PERTURB, 0xa5);
	for (int i = 0; i < 2; i++)
		discover_forget(&agent);
	mallopt(M_PERTURB, 0);
	assert_int_equal(agent.units.count, 0);
	refills = wait_refills(f, 0);
	stays = insatiable(f, 10000);
	allow(f, stays, 0.2, 3, 1000, 0);
	assert_true(wait_refills(f, refills + 6) >= refills + 6);
	free(agent.units.items);
	trace_close(&agent);
}

static void test_the_nodes_switch_ends_it(void **state)
{
	struct fixture *f = *state;
	uint64_t refills;
	struct workload *unit;

	reflex_start(f, 2000, UINT32_MAX);
	unit = insatiable(f, 10000);
	allow(f, unit, 0.2, 8, 1000, 0);
	assert_true(wait_refills(f, 2) >= 2);
	reflex_switch(f->reflex, false);
	refills = wait_refills(f, 0);
	sleep_ms(400);
	assert_int_equal(wait_refills(f, 0), refills);
	reflex_switch(f->reflex, true);
	assert_true(wait_refills(f, refills + 2) >= refills + 2);
}

static void test_what_the_node_has_to_spare_is_the_budget(void **state)
{
	struct fixture *f = *state;
	struct reflex_status status;

	reflex_start(f, 0, 100);
	sleep_ms(300);
	reflex_tick(f->reflex);
	reflex_status(f->reflex, &status);
	assert_true(status.budget_ns <= (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) * 1100000000ULL);
	reflex_set_budget(f->reflex, 250);
	reflex_tick(f->reflex);
	reflex_status(f->reflex, &status);
	assert_int_equal(status.budget_ns, 250000000);
}

static void test_a_new_limit_is_used_by_the_next_refill(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limit_files files = {0};
	struct reflex_counts counts;
	struct workload *unit;
	uint32_t slot;

	reflex_start(f, 2000, UINT32_MAX);
	unit = insatiable(f, 10000);
	slot = unit->attachment.slot;
	allow(f, unit, 0.2, 2, 1000, 0);
	wait_refills(f, 2);
	reflex_hold(f->reflex, slot);
	assert_int_equal(cgroup_change_cpu(&f->driver, unit->path, &files, &unit->limits, 20000,
				 PERIOD_US, CGROUP_UNLIMITED),
		0);
	cgroup_close_limits(&files);
	reflex_release(f->reflex, slot, &unit->limits);
	reflex_collect(f->reflex, slot, &counts);
	wait_refills(f, wait_refills(f, 0) + 4);
	reflex_collect(f->reflex, slot, &counts);
	assert_int_equal(counts.granted_us, counts.refills * 20000);
	assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &unit->limits), 0);
	assert_int_equal(unit->limits.cpu_quota_us, 20000);
}

static void test_a_burst_and_its_quota_are_written_in_an_order_the_kernel_takes(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limit_files files = {0};
	struct cgroup_limits limits, now;
	struct workload *unit = unit_start(f, 50000, 20000);
	static const int64_t steps[][2] = {
		{50000, 50000}, {10000, 10000}, {80000, 40000}, {20000, 0}, {90000, 90000}};

	assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &now), 0);
	if (now.cpu_burst_us < 0)
		skip();
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_int_equal(cgroup_change_cpu(&f->driver, unit->path, &files, &now,
					 steps[i][0], PERIOD_US, steps[i][1]),
			0);
		assert_int_equal(cgroup_read_limits(&f->driver, unit->path, &limits), 0);
		assert_int_equal(limits.cpu_quota_us, steps[i][0]);
		assert_int_equal(limits.cpu_burst_us, steps[i][1]);
	}
	cgroup_close_limits(&files);
}

static int close_loaded(void **state)
{
	(void)state;
	probes_close(loaded);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_look_tells_what_the_kernels_files_tell),
		TEST(test_without_the_reflex_requests_wait_for_the_next_periods),
		TEST(test_with_the_reflex_requests_finish_within_the_objective),
		TEST(test_a_unit_with_groups_inside_is_refilled_as_well),
		TEST(test_a_refill_tells_of_itself),
		TEST(test_no_unit_gets_more_than_its_allowance),
		TEST(test_a_smaller_last_refill_leaves_the_quota_as_it_was),
		TEST(test_a_unit_without_requests_is_never_refilled),
		TEST(test_nothing_is_polled_while_nothing_is_throttled),
		TEST(test_a_young_request_is_not_looked_at),
		TEST(test_new_limits_of_a_unit_that_is_not_throttled_do_not_wake_the_thread),
		TEST(test_an_allowance_expires),
		TEST(test_refills_that_help_nobody_end),
		TEST(test_two_units_share_the_nodes_budget),
		TEST(test_a_service_that_is_forgotten_has_no_part_in_the_budget),
		TEST(test_the_nodes_switch_ends_it),
		TEST(test_what_the_node_has_to_spare_is_the_budget),
		TEST(test_a_new_limit_is_used_by_the_next_refill),
		TEST(test_a_burst_and_its_quota_are_written_in_an_order_the_kernel_takes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	signal(SIGPIPE, SIG_IGN);
	if (getenv("EBBTIDE_DEBUG"))
		log_init("test_reflex", LOG_LEVEL_DEBUG);
	return cmocka_run_group_tests(tests, NULL, close_loaded);
}
