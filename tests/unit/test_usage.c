// SPDX-License-Identifier: Apache-2.0
/* What a look at a container reads, and when; against a folder that stands for the kernel's. */
#include "node/usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UNIT "/unit"
#define MIB  (1ULL << 20)

struct fixture {
	struct cgroup_driver driver;
	struct usage_files files;
	struct slot slot;
	struct cgroup_usage usage;
};

static void file_put(const struct fixture *f, const char *name, const char *text)
{
	char path[2 * CGROUP_PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s" UNIT "/%s", f->driver.memory_root, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	fclose(file);
}

static void inactive_put(const struct fixture *f, uint64_t bytes)
{
	char text[64];

	snprintf(text, sizeof(text), "inactive_file %llu\n", (unsigned long long)bytes);
	file_put(f, "memory.stat", text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char folder[] = "/tmp/ebbtide-usage-XXXXXX", path[64];

	assert_non_null(f);
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s" UNIT, folder);
	assert_int_equal(mkdir(path, 0700), 0);
	f->driver.layout = CGROUP_LAYOUT_V2;
	strcpy(f->driver.unified_root, folder);
	strcpy(f->driver.cpu_root, folder);
	strcpy(f->driver.memory_root, folder);
	file_put(f, "cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_usec 7\n");
	file_put(f, "memory.current", "8388608\n");
	file_put(f, "memory.events", "oom_kill 0\n");
	file_put(f, "cpu.pressure", "some avg10=0.00 total=11\nfull avg10=0.00 total=3\n");
	file_put(f, "memory.pressure", "some avg10=0.00 total=22\nfull avg10=0.00 total=4\n");
	inactive_put(f, 2 * MIB);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"cpu.stat", "memory.current", "memory.events",
		"cpu.pressure", "memory.pressure", "memory.stat", ""};
	struct fixture *f = *state;
	char path[2 * CGROUP_PATH_MAX];

	usage_close(&f->files);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s" UNIT "/%s", f->driver.memory_root, names[i]);
		(void)remove(path);
	}
	(void)rmdir(f->driver.memory_root);
	free(f);
	return 0;
}

static bool look(struct fixture *f)
{
	return usage_look(&f->files, &f->driver, UNIT, &f->slot, &f->usage);
}

static void test_a_slot_that_is_not_tied_is_filled_from_the_files(void **state)
{
	struct fixture *f = *state;

	assert_true(look(f));
	assert_int_equal(f->slot.throttled_ns, 7000);
	assert_int_equal(f->slot.periods, 5);
	assert_int_equal(f->slot.throttled_periods, 2);
	assert_int_equal(f->slot.memory_used_bytes, 8 * MIB);
	assert_int_equal(f->usage.memory_working_set_bytes, 6 * MIB);
	assert_int_equal(f->usage.cpu_pressure_some_us, 11);
	assert_int_equal(f->usage.cpu_pressure_full_us, 3);
	assert_int_equal(f->usage.memory_pressure_some_us, 22);
	assert_int_equal(f->usage.memory_pressure_full_us, 4);
}

static void test_a_tied_slot_keeps_what_the_kernel_side_wrote(void **state)
{
	struct fixture *f = *state;

	f->slot.task_group = 1;
	f->slot.throttled_ns = 1234;
	f->slot.memory_used_bytes = 64 * MIB;
	assert_true(look(f));
	assert_int_equal(f->slot.throttled_ns, 1234);
	assert_int_equal(f->usage.memory_working_set_bytes, 62 * MIB);
}

static void cpu_pressure_put(const struct fixture *f, int some_us)
{
	char text[96];

	snprintf(
		text, sizeof(text), "some avg10=0.00 total=%d\nfull avg10=0.00 total=3\n", some_us);
	file_put(f, "cpu.pressure", text);
}

static void memory_pressure_put(const struct fixture *f, int some_us)
{
	char text[96];

	snprintf(
		text, sizeof(text), "some avg10=0.00 total=%d\nfull avg10=0.00 total=4\n", some_us);
	file_put(f, "memory.pressure", text);
}

/* Tied, and looked at until nothing of the start is due any more. */
static void settle(struct fixture *f)
{
	f->slot.task_group = 1;
	f->slot.index = 7;
	assert_true(look(f));
}

static void test_pressures_are_of_this_moment_where_tasks_have_waited(void **state)
{
	struct fixture *f = *state;

	settle(f);
	cpu_pressure_put(f, 99);
	f->slot.run_queue_ns += 2000000;
	assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 99);
	/* Who waits now is not counted yet. */
	cpu_pressure_put(f, 100);
	f->slot.begun = 1;
	assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 100);
	f->slot.dropped = 1;
	cpu_pressure_put(f, 101);
	f->slot.throttled_since_ns = 1;
	assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 101);
}

static void test_memory_pressure_is_of_this_moment_where_memory_was_short(void **state)
{
	struct fixture *f = *state;

	settle(f);
	memory_pressure_put(f, 50);
	f->slot.reclaim_ns++;
	assert_true(look(f));
	assert_int_equal(f->usage.memory_pressure_some_us, 50);
	/* What pressed at the last look may still do so. */
	memory_pressure_put(f, 60);
	assert_true(look(f));
	assert_int_equal(f->usage.memory_pressure_some_us, 60);
	assert_true(look(f));
	memory_pressure_put(f, 70);
	f->slot.major_faults++;
	assert_true(look(f));
	assert_int_equal(f->usage.memory_pressure_some_us, 70);
}

static void test_where_nothing_waited_pressures_are_read_in_turns(void **state)
{
	struct fixture *f = *state;
	int looks = 0;

	settle(f);
	cpu_pressure_put(f, 99);
	memory_pressure_put(f, 50);
	f->slot.run_queue_ns += 1999999;
	assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 11);
	assert_int_equal(f->usage.memory_pressure_some_us, 22);
	while (f->usage.cpu_pressure_some_us == 11 && ++looks < 9)
		assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 99);
	assert_int_equal(f->usage.memory_pressure_some_us, 50);
}

/* The working set follows the memory in use at once, inactive pages within so many looks. */
static void inactive_follows(struct fixture *f, uint64_t before, uint64_t after, int most)
{
	int looks = 0;

	inactive_put(f, before * MIB);
	f->slot.task_group = 1;
	f->slot.index = 3;
	f->slot.memory_used_bytes = 640 * MIB;
	for (int i = 0; i < 16; i++)
		assert_true(look(f));
	inactive_put(f, after * MIB);
	f->slot.memory_used_bytes = 641 * MIB;
	assert_true(look(f));
	while (f->usage.memory_working_set_bytes == (641 - before) * MIB && ++looks <= most)
		assert_true(look(f));
	assert_int_equal(f->usage.memory_working_set_bytes, (641 - after) * MIB);
	assert_in_range(looks, 0, most);
}

static void test_inactive_pages_are_read_in_turns(void **state)
{
	inactive_follows(*state, 20, 30, 8);
}

static void test_where_there_are_few_they_are_read_less_often(void **state)
{
	struct fixture *f = *state;

	inactive_follows(f, 2, 3, 64);
	inactive_put(f, 4 * MIB);
	for (int i = 0; i < 16; i++)
		assert_true(look(f));
	assert_int_equal(f->usage.memory_working_set_bytes, 638 * MIB);
}

static void test_they_are_read_at_once_when_memory_moves(void **state)
{
	struct fixture *f = *state;

	f->slot.task_group = 1;
	f->slot.memory_used_bytes = 64 * MIB;
	assert_true(look(f));
	for (uint64_t used = 60; used >= 20; used -= 10) {
		inactive_put(f, used * MIB / 2);
		f->slot.memory_used_bytes = used * MIB;
		assert_true(look(f));
		assert_int_equal(f->usage.memory_working_set_bytes, used * MIB / 2);
	}
}

static void test_a_cgroup_that_is_gone_is_told(void **state)
{
	struct fixture *f = *state;

	strcpy(f->driver.memory_root, "/nowhere");
	f->slot.task_group = 1;
	assert_false(look(f));
	strcpy(f->driver.memory_root, f->driver.unified_root);
	assert_true(look(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_slot_that_is_not_tied_is_filled_from_the_files, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_tied_slot_keeps_what_the_kernel_side_wrote, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_pressures_are_of_this_moment_where_tasks_have_waited, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_memory_pressure_is_of_this_moment_where_memory_was_short, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_where_nothing_waited_pressures_are_read_in_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_inactive_pages_are_read_in_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_where_there_are_few_they_are_read_less_often, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_they_are_read_at_once_when_memory_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_cgroup_that_is_gone_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
