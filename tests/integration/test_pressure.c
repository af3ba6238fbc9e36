// SPDX-License-Identifier: Apache-2.0
// Needs a node: BPF, cgroups.
/*
 * Memory limits of ours that hurt are raised, and nothing is killed by them: by the kernel's word on
 * cgroup v2, by the working set on the hybrid layout. Children are ended by their pid.
 */
#include "common/log.h"
#include "common/memory_limit.h"
#include "node/limits/pressure.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define GROUP	 "/ebbtide/test-pressure"
#define SLOTS	 16
#define MIB	 (1LL << 20)
#define DECLARED (256 * MIB)

struct fixture {
	struct agent agent;
	struct unit *unit;
	struct container *container;
	pid_t child;
};

static struct fixture fixture;

static void sleep_ms(long ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		;
}

static int setup(void **state)
{
	struct fixture *f = &fixture;
	struct agent *agent = &f->agent;
	struct container *container = calloc(1, sizeof(*container));
	char error[512] = "";

	memset(f, 0, sizeof(*f));
	*state = f;
	agent->config.max_slots = SLOTS;
	agent->config.state_directory = "/nonexistent";
	pthread_mutex_init(&agent->lock, NULL);
	agent->originals = json_object();
	agent->owners = calloc(SLOTS, sizeof(*agent->owners));
	assert_int_equal(cgroup_driver_detect(&agent->driver, "/sys/fs/cgroup"), 0);
	if (probes_open(&agent->probes, &agent->driver, SLOTS, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(pressure_open(agent), 0);
	f->container = container;
	snprintf(container->path, sizeof(container->path), "%s/%d", GROUP, getpid());
	assert_int_equal(cgroup_create(&agent->driver, container->path), 0);
	assert_int_equal(cgroup_write_memory_max(&agent->driver, container->path, DECLARED), 0);
	assert_int_equal(probes_attach(agent->probes, container->path, &container->attachment), 0);
	assert_int_equal(actuate_adopt(agent, container), 0);
	f->unit = units_get(&agent->units, "default", "eater");
	container->unit = f->unit;
	assert_int_equal(unit_add_container(f->unit, container), 0);
	agent->owners[container->attachment.slot] = container;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = &f->agent;

	if (f->child > 0) {
		kill(f->child, SIGKILL);
		waitpid(f->child, NULL, 0);
	}
	pressure_unwatch(agent, f->container);
	pressure_close(agent);
	probes_detach(agent->probes, &f->container->attachment);
	probes_close(agent->probes);
	for (int i = 0; i < 50; i++) {
		if (cgroup_remove(&agent->driver, f->container->path) != -EBUSY)
			break;
		sleep_ms(20);
	}
	(void)cgroup_remove(&agent->driver, GROUP);
	(void)cgroup_remove(&agent->driver, "/ebbtide");
	unit_drop_container(f->unit, f->container);
	free(f->container);
	units_remove(&agent->units, f->unit);
	free(agent->units.items);
	free(agent->owners);
	json_decref(agent->originals);
	return 0;
}

/* Takes memory bit by bit, and keeps using all of it. */
static void eat(struct fixture *f, int64_t bytes, int64_t step_bytes, long pause_ms)
{
	f->child = fork();
	assert_true(f->child >= 0);
	if (f->child > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (cgroup_add_process(&f->agent.driver, f->container->path, 0))
		_exit(99);
	char *memory = mmap(
		NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int64_t used = 0;; used = used + step_bytes < bytes ? used + step_bytes : bytes) {
		memset(memory, 1, (size_t)used);
		sleep_ms(pause_ms);
	}
}

static bool child_lives(const struct fixture *f)
{
	int status;

	return waitpid(f->child, &status, WNOHANG) == 0;
}

static struct cgroup_usage usage_of(const struct fixture *f)
{
	struct cgroup_usage usage;

	assert_int_equal(cgroup_read_usage(&f->agent.driver, f->container->path, &usage), 0);
	return usage;
}

static int64_t limit_of(const struct fixture *f)
{
	struct cgroup_limits limits;

	assert_int_equal(cgroup_read_limits(&f->agent.driver, f->container->path, &limits), 0);
	return actuate_memory_limit(&limits);
}

static bool is_v2(const struct fixture *f)
{
	return f->agent.driver.layout == CGROUP_LAYOUT_V2;
}

static void test_pressure_raises_memory_high_up_to_the_owners_limit(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = &f->agent;

	if (!is_v2(f))
		skip();
	assert_int_equal(actuate_memory(agent, f->container, 32 * MIB), 0);
	assert_true(f->container->pressure_fd > 0);
	assert_int_equal(limit_of(f), 32 * MIB);
	eat(f, 128 * MIB, 2 * MIB, 5);
	for (int i = 0; i < 600 && limit_of(f) < 128 * MIB && child_lives(f); i++)
		sleep_ms(100);
	assert_true(child_lives(f));
	if (limit_of(f) <= 100 * MIB || limit_of(f) > DECLARED)
		fail_msg("limit %lld, used %llu bytes, stalled %llu us, raised %llu times",
			(long long)limit_of(f), (unsigned long long)usage_of(f).memory_used_bytes,
			(unsigned long long)usage_of(f).memory_pressure_some_us,
			(unsigned long long)f->unit->total_memory_raises);
	assert_true(f->unit->total_memory_raises >= 2);
	assert_int_equal(usage_of(f).oom_kills, 0);
	assert_int_equal(f->container->current.memory_high_bytes, limit_of(f));
	/* memory.max is the owner's and was not touched. */
	assert_int_equal(f->container->current.memory_max_bytes, DECLARED);
}

static void test_without_pressure_nothing_is_raised(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(actuate_memory(&f->agent, f->container, 64 * MIB), 0);
	eat(f, 8 * MIB, 8 * MIB, 20);
	sleep_ms(1500);
	pthread_mutex_lock(&f->agent.lock);
	f->container->memory_working_set_bytes = usage_of(f).memory_working_set_bytes;
	pressure_tick(&f->agent);
	pthread_mutex_unlock(&f->agent.lock);
	assert_int_equal(limit_of(f), 64 * MIB);
	assert_int_equal(f->unit->total_memory_raises, 0);
}

static void test_the_tick_keeps_a_margin_over_the_working_set(void **state)
{
	struct fixture *f = *state;
	uint64_t used;

	assert_int_equal(actuate_memory(&f->agent, f->container, 48 * MIB), 0);
	/* As where there is no PSI. */
	pressure_unwatch(&f->agent, f->container);
	eat(f, 44 * MIB, 44 * MIB, 20);
	for (int i = 0; i < 300 && usage_of(f).memory_used_bytes < (uint64_t)(44 * MIB); i++)
		sleep_ms(20);
	used = usage_of(f).memory_working_set_bytes;
	f->container->memory_working_set_bytes = used;
	pressure_tick(&f->agent);
	assert_true(limit_of(f) > 48 * MIB);
	assert_true(
		(uint64_t)limit_of(f) + (uint64_t)sysconf(_SC_PAGESIZE) > memory_floor_bytes(used));
	assert_int_equal(f->unit->total_memory_raises, 1);
	/* Enough now. */
	pressure_tick(&f->agent);
	assert_int_equal(f->unit->total_memory_raises, 1);
	assert_true(child_lives(f));
}

static void test_a_limit_that_only_stalls_keeps_less_of_a_margin(void **state)
{
	struct fixture *f = *state;
	const struct plan plan = {.memory_bytes = 1};
	uint64_t floor, page = (uint64_t)sysconf(_SC_PAGESIZE);

	f->container->memory_working_set_bytes = 40 * MIB;
	/* The first limit of ours: nobody watches yet. */
	assert_int_equal(actuate_container(&f->agent, f->container, &plan), 0);
	assert_in_range(
		limit_of(f), memory_floor_bytes(40 * MIB) - page, memory_floor_bytes(40 * MIB));
	floor = pressure_is_watched(f->container) && is_v2(f) ? memory_high_floor_bytes(40 * MIB)
							      : memory_floor_bytes(40 * MIB);
	assert_int_equal(actuate_container(&f->agent, f->container, &plan), 0);
	assert_in_range(limit_of(f), floor - page, floor);
	assert_true(!is_v2(f) || pressure_is_watched(f->container));
}

static void test_the_owners_limit_is_never_passed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(actuate_memory(&f->agent, f->container, DECLARED - 8 * MIB), 0);
	pressure_unwatch(&f->agent, f->container);
	f->container->memory_working_set_bytes = (uint64_t)(2 * DECLARED);
	pressure_tick(&f->agent);
	assert_int_equal(limit_of(f), DECLARED);
	pressure_tick(&f->agent);
	assert_int_equal(f->unit->total_memory_raises, 1);
}

static void test_what_is_written_back_is_watched_no_more(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(actuate_memory(&f->agent, f->container, 64 * MIB), 0);
	(void)actuate_restore(&f->agent, f->unit);
	assert_int_equal(f->container->pressure_fd, 0);
	assert_int_equal(limit_of(f), DECLARED);
	f->container->memory_working_set_bytes = (uint64_t)DECLARED;
	pressure_tick(&f->agent);
	assert_int_equal(f->unit->total_memory_raises, 0);
}

static void test_a_step_is_a_quarter_or_what_is_in_use_needs(void **state)
{
	(void)state;
	assert_int_equal(memory_raised_bytes(100 << 20, 50 << 20, 1 << 30), 125 << 20);
	assert_int_equal(
		memory_raised_bytes(100 << 20, 200 << 20, 1 << 30), memory_floor_bytes(200 << 20));
	assert_true(memory_high_floor_bytes(100 << 20) < memory_floor_bytes(100 << 20));
	assert_int_equal(memory_raised_bytes(100 << 20, 50 << 20, 110 << 20), 110 << 20);
	assert_int_equal(memory_floor_bytes(100 << 20), (110 << 20) + (4 << 20));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pressure_raises_memory_high_up_to_the_owners_limit),
		TEST(test_without_pressure_nothing_is_raised),
		TEST(test_the_tick_keeps_a_margin_over_the_working_set),
		TEST(test_a_limit_that_only_stalls_keeps_less_of_a_margin),
		TEST(test_the_owners_limit_is_never_passed),
		TEST(test_what_is_written_back_is_watched_no_more),
		cmocka_unit_test(test_a_step_is_a_quarter_or_what_is_in_use_needs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	log_init("test_pressure", getenv("EBBTIDE_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
