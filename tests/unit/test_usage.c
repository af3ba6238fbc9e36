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

static void test_pressures_are_of_this_moment(void **state)
{
	struct fixture *f = *state;

	f->slot.task_group = 1;
	assert_true(look(f));
	file_put(f, "cpu.pressure", "some avg10=0.00 total=99\nfull avg10=0.00 total=3\n");
	assert_true(look(f));
	assert_int_equal(f->usage.cpu_pressure_some_us, 99);
}

/* The working set follows the memory in use at once, inactive pages within eight looks. */
static void test_inactive_pages_are_read_in_turns(void **state)
{
	struct fixture *f = *state;
	int looks = 0;

	f->slot.task_group = 1;
	f->slot.index = 3;
	f->slot.memory_used_bytes = 640 * MIB;
	for (int i = 0; i < 16; i++)
		assert_true(look(f));
	inactive_put(f, 3 * MIB);
	f->slot.memory_used_bytes = 641 * MIB;
	assert_true(look(f));
	while (f->usage.memory_working_set_bytes == 639 * MIB && ++looks < 9)
		assert_true(look(f));
	assert_int_equal(f->usage.memory_working_set_bytes, 638 * MIB);
	assert_in_range(looks, 0, 8);
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
		cmocka_unit_test_setup_teardown(test_pressures_are_of_this_moment, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_inactive_pages_are_read_in_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_they_are_read_at_once_when_memory_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_cgroup_that_is_gone_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
