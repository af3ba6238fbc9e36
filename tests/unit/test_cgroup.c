// SPDX-License-Identifier: Apache-2.0
/* The cgroup driver on a folder that looks like each layout. */
#include "common/cgroup.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UNIT "/ebbtide/default/fib"

struct fixture {
	char mount[64];
	struct cgroup_driver driver;
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	(void)info, (void)kind, (void)walk;
	return remove(path);
}

static void folder_make(const struct fixture *f, const char *path)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", f->mount, path);
	for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
	assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
}

static void file_put(const struct fixture *f, const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", f->mount, path);
	file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* What the driver wrote; an ordinary file keeps what was longer, so files are emptied first. */
static void assert_file(const struct fixture *f, const char *path, const char *text)
{
	char full[512], found[128];
	size_t size;
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", f->mount, path);
	file = fopen(full, "re");
	assert_non_null(file);
	size = fread(found, 1, sizeof(found) - 1, file);
	found[size] = '\0';
	fclose(file);
	assert_string_equal(found, text);
}

static struct fixture *fixture_make(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	snprintf(f->mount, sizeof(f->mount), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->mount)) {
		free(f);
		return NULL;
	}
	return f;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	nftw(f->mount, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static int setup_empty(void **state)
{
	*state = fixture_make();
	return *state ? 0 : -1;
}

static int setup_v2(void **state)
{
	struct fixture *f = fixture_make();

	if (!f)
		return -1;
	*state = f;
	file_put(f, "/cgroup.controllers", "cpuset cpu io memory pids\n");
	folder_make(f, UNIT);
	return cgroup_driver_detect(&f->driver, f->mount);
}

static int setup_hybrid(void **state)
{
	struct fixture *f = fixture_make();

	if (!f)
		return -1;
	*state = f;
	folder_make(f, "/unified" UNIT);
	folder_make(f, "/memory" UNIT);
	folder_make(f, "/cpu,cpuacct" UNIT);
	return cgroup_driver_detect(&f->driver, f->mount);
}

static void test_neither_layout_is_said(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cgroup_driver_detect(&f->driver, f->mount), -ENOENT);
	folder_make(f, "/unified");
	folder_make(f, "/memory");
	assert_int_equal(cgroup_driver_detect(&f->driver, f->mount), -ENOENT);
	folder_make(f, "/cpu");
	assert_int_equal(cgroup_driver_detect(&f->driver, f->mount), 0);
	assert_int_equal(f->driver.layout, CGROUP_LAYOUT_HYBRID);
	assert_non_null(strstr(f->driver.cpu_root, "/cpu"));
}

static void test_controllers_at_the_root_are_v2(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->driver.layout, CGROUP_LAYOUT_V2);
	assert_string_equal(cgroup_layout_name(f->driver.layout), "v2");
	assert_string_equal(f->driver.cpu_root, f->mount);
	assert_string_equal(f->driver.unified_root, f->mount);
	assert_string_equal(f->driver.memory_root, f->mount);
}

static void test_version_1_controllers_beside_a_unified_tree_are_hybrid(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->driver.layout, CGROUP_LAYOUT_HYBRID);
	assert_string_equal(cgroup_layout_name(f->driver.layout), "hybrid");
	assert_non_null(strstr(f->driver.cpu_root, "/cpu,cpuacct"));
	assert_non_null(strstr(f->driver.memory_root, "/memory"));
	assert_non_null(strstr(f->driver.unified_root, "/unified"));
}

static void test_v2_limits_are_read(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limits limits;

	file_put(f, UNIT "/cpu.max", "25000 100000\n");
	file_put(f, UNIT "/cpu.max.burst", "5000\n");
	file_put(f, UNIT "/memory.max", "134217728\n");
	file_put(f, UNIT "/memory.high", "max\n");
	assert_int_equal(cgroup_read_limits(&f->driver, UNIT, &limits), 0);
	assert_int_equal(limits.cpu_quota_us, 25000);
	assert_int_equal(limits.cpu_period_us, 100000);
	assert_int_equal(limits.cpu_burst_us, 5000);
	assert_int_equal(limits.memory_max_bytes, 134217728);
	assert_int_equal(limits.memory_high_bytes, CGROUP_UNLIMITED);
	file_put(f, UNIT "/cpu.max", "max 50000\n");
	file_put(f, UNIT "/memory.max", "max\n");
	file_put(f, UNIT "/memory.high", "1048576\n");
	assert_int_equal(cgroup_read_limits(&f->driver, UNIT, &limits), 0);
	assert_int_equal(limits.cpu_quota_us, CGROUP_UNLIMITED);
	assert_int_equal(limits.cpu_period_us, 50000);
	assert_int_equal(limits.memory_max_bytes, CGROUP_UNLIMITED);
	assert_int_equal(limits.memory_high_bytes, 1048576);
}

static void test_a_kernel_without_burst_still_has_limits(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limits limits;

	file_put(f, UNIT "/cpu.max", "25000 100000\n");
	file_put(f, UNIT "/memory.max", "max\n");
	file_put(f, UNIT "/memory.high", "max\n");
	assert_int_equal(cgroup_read_limits(&f->driver, UNIT, &limits), 0);
	assert_int_equal(limits.cpu_burst_us, CGROUP_UNLIMITED);
	assert_int_equal(limits.cpu_weight, CGROUP_UNLIMITED);
}

static void test_a_weight_is_read_and_written_in_the_layouts_file(void **state)
{
	struct fixture *f = *state;
	bool v2 = f->driver.layout == CGROUP_LAYOUT_V2;
	const char *file = v2 ? UNIT "/cpu.weight" : "/cpu,cpuacct" UNIT "/cpu.shares";
	int64_t weight = 0;

	assert_int_equal(cgroup_read_cpu_weight(&f->driver, UNIT, &weight), -ENOENT);
	file_put(f, file, "102\n");
	assert_int_equal(cgroup_read_cpu_weight(&f->driver, UNIT, &weight), 0);
	assert_int_equal(weight, 102);
	/* An idle group. */
	file_put(f, file, "0\n");
	assert_int_equal(cgroup_read_cpu_weight(&f->driver, UNIT, &weight), 0);
	assert_int_equal(weight, CGROUP_UNLIMITED);
	file_put(f, file, "");
	assert_int_equal(cgroup_write_cpu_weight(&f->driver, UNIT, 307), 0);
	assert_file(f, file, "307");
	assert_int_equal(cgroup_write_cpu_weight(&f->driver, "/gone", 307), -ENOENT);
}

static void test_a_cgroup_that_is_gone_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limits limits;
	struct cgroup_usage usage;
	uint64_t id;

	assert_false(cgroup_exists(&f->driver, "/gone"));
	assert_true(cgroup_exists(&f->driver, UNIT));
	assert_int_equal(cgroup_read_limits(&f->driver, "/gone", &limits), -ENOENT);
	assert_int_equal(cgroup_read_usage(&f->driver, "/gone", &usage), -ENOENT);
	assert_int_equal(cgroup_read_ids(&f->driver, "/gone", &id, &id, &id), -ENOENT);
	assert_int_equal(cgroup_write_cpu_quota(&f->driver, "/gone", 1000, 100000), -ENOENT);
	assert_int_equal(cgroup_write_memory_max(&f->driver, "/gone", 1 << 20), -ENOENT);
	assert_int_equal(cgroup_add_process(&f->driver, "/gone", 1), -ENOENT);
}

static void test_v2_limits_are_written(void **state)
{
	struct fixture *f = *state;
	static const char *const files[] = {
		"/cpu.max", "/cpu.max.burst", "/memory.max", "/memory.high"};

	for (int unlimited = 0; unlimited < 2; unlimited++) {
		for (size_t i = 0; i < 4; i++) {
			char path[64];

			snprintf(path, sizeof(path), UNIT "%s", files[i]);
			file_put(f, path, "");
		}
		assert_int_equal(cgroup_write_cpu_quota(&f->driver, UNIT,
					 unlimited ? CGROUP_UNLIMITED : 42000, 100000),
			0);
		assert_int_equal(cgroup_write_cpu_burst(&f->driver, UNIT, 7000), 0);
		assert_int_equal(cgroup_write_memory_max(
					 &f->driver, UNIT, unlimited ? CGROUP_UNLIMITED : 1 << 30),
			0);
		assert_int_equal(cgroup_write_memory_high(
					 &f->driver, UNIT, unlimited ? CGROUP_UNLIMITED : 1 << 20),
			0);
		assert_file(f, UNIT "/cpu.max", unlimited ? "max 100000" : "42000 100000");
		assert_file(f, UNIT "/cpu.max.burst", "7000");
		assert_file(f, UNIT "/memory.max", unlimited ? "max" : "1073741824");
		assert_file(f, UNIT "/memory.high", unlimited ? "max" : "1048576");
	}
}

static void test_v2_usage_is_read(void **state)
{
	struct fixture *f = *state;
	struct cgroup_usage usage;

	file_put(f, UNIT "/cpu.stat",
		"usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\nnr_periods 50\n"
		"nr_throttled 7\nthrottled_usec 8899\nnr_bursts 0\nburst_usec 0\n");
	file_put(f, UNIT "/memory.current", "10485760\n");
	file_put(f, UNIT "/memory.stat",
		"anon 1\nfile 2\nworkingset_refault_file 5\ninactive_file 4194304\npgfault 9\n"
		"pgmajfault 3\n");
	file_put(f, UNIT "/memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n");
	file_put(f, UNIT "/cpu.pressure",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=1111\n"
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=22\n");
	file_put(f, UNIT "/memory.pressure",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=333\n"
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=44\n");
	assert_int_equal(cgroup_read_usage(&f->driver, UNIT, &usage), 0);
	assert_int_equal(usage.cpu_used_us, 123456);
	assert_int_equal(usage.periods, 50);
	assert_int_equal(usage.throttled_periods, 7);
	assert_int_equal(usage.throttled_us, 8899);
	assert_int_equal(usage.memory_used_bytes, 10485760);
	assert_int_equal(usage.memory_working_set_bytes, 6291456);
	assert_int_equal(usage.memory_major_faults, 3);
	assert_int_equal(usage.oom_kills, 4);
	assert_int_equal(usage.cpu_pressure_some_us, 1111);
	assert_int_equal(usage.cpu_pressure_full_us, 22);
	assert_int_equal(usage.memory_pressure_some_us, 333);
	assert_int_equal(usage.memory_pressure_full_us, 44);
}

static void test_a_kernel_without_psi_has_no_pressure(void **state)
{
	struct fixture *f = *state;
	struct cgroup_usage usage;

	file_put(f, UNIT "/cpu.stat", "usage_usec 5\n");
	file_put(f, UNIT "/memory.current", "100\n");
	/* More inactive pages than use: counters are read one after another. */
	file_put(f, UNIT "/memory.stat", "inactive_file 200\n");
	assert_int_equal(cgroup_read_usage(&f->driver, UNIT, &usage), 0);
	assert_int_equal(usage.cpu_pressure_some_us, 0);
	assert_int_equal(usage.memory_working_set_bytes, 0);
	assert_int_equal(usage.throttled_us, 0);
}

static void test_hybrid_limits_are_read(void **state)
{
	struct fixture *f = *state;
	struct cgroup_limits limits;

	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "-1\n");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_period_us", "100000\n");
	file_put(f, "/memory" UNIT "/memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(cgroup_read_limits(&f->driver, UNIT, &limits), 0);
	assert_int_equal(limits.cpu_quota_us, CGROUP_UNLIMITED);
	assert_int_equal(limits.cpu_period_us, 100000);
	assert_int_equal(limits.cpu_burst_us, CGROUP_UNLIMITED);
	assert_int_equal(limits.memory_max_bytes, CGROUP_UNLIMITED);
	assert_int_equal(limits.memory_high_bytes, CGROUP_UNLIMITED);
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "30000\n");
	file_put(f, "/memory" UNIT "/memory.limit_in_bytes", "67108864\n");
	assert_int_equal(cgroup_read_limits(&f->driver, UNIT, &limits), 0);
	assert_int_equal(limits.cpu_quota_us, 30000);
	assert_int_equal(limits.memory_max_bytes, 67108864);
}

static void test_hybrid_limits_are_written_where_they_belong(void **state)
{
	struct fixture *f = *state;

	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_period_us", "100000");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_burst_us", "");
	file_put(f, "/memory" UNIT "/memory.limit_in_bytes", "");
	assert_int_equal(cgroup_write_cpu_quota(&f->driver, UNIT, 21000, 200000), 0);
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "21000");
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_period_us", "200000");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "");
	assert_int_equal(cgroup_write_cpu_quota(&f->driver, UNIT, CGROUP_UNLIMITED, 200000), 0);
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "-1");
	assert_int_equal(cgroup_write_cpu_burst(&f->driver, UNIT, 3000), 0);
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_burst_us", "3000");
	assert_int_equal(cgroup_write_memory_max(&f->driver, UNIT, 4096), 0);
	assert_file(f, "/memory" UNIT "/memory.limit_in_bytes", "4096");
	assert_int_equal(cgroup_write_memory_high(&f->driver, UNIT, 4096), -ENOTSUP);
}

/* The second time by a path that is not there: it would not be found. */
static void change_twice(struct fixture *f, bool is_high, int64_t bytes)
{
	struct cgroup_limit_files files = {0};
	struct cgroup_limits now = {
		.cpu_quota_us = 10000, .cpu_period_us = 100000, .cpu_burst_us = 1000};
	const char *path = UNIT;

	for (int i = 1; i <= 2; i++, path = "/gone") {
		assert_int_equal(cgroup_change_cpu(&f->driver, path, &files, &now, 20000 + i,
					 100000, 3000 + i),
			0);
		assert_int_equal(now.cpu_quota_us, 20000 + i);
		assert_int_equal(now.cpu_burst_us, 3000 + i);
		assert_int_equal(
			cgroup_change_memory(&f->driver, path, &files, is_high, bytes + i), 0);
	}
	cgroup_close_limits(&files);
	assert_int_equal(
		cgroup_change_cpu(&f->driver, "/gone", &files, &now, 20000, 100000, 0), -ENOENT);
	assert_int_equal(now.cpu_quota_us, 20002);
}

static void test_v2_limits_stay_open_from_the_first_change_on(void **state)
{
	struct fixture *f = *state;

	file_put(f, UNIT "/cpu.max", "");
	file_put(f, UNIT "/cpu.max.burst", "");
	file_put(f, UNIT "/memory.high", "");
	change_twice(f, true, 70000);
	assert_file(f, UNIT "/cpu.max", "20002 100000");
	assert_file(f, UNIT "/cpu.max.burst", "3002");
	assert_file(f, UNIT "/memory.high", "70002");
}

static void test_hybrid_limits_stay_open_from_the_first_change_on(void **state)
{
	struct fixture *f = *state;

	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.cfs_burst_us", "");
	file_put(f, "/memory" UNIT "/memory.limit_in_bytes", "");
	change_twice(f, false, 80000);
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_quota_us", "20002");
	assert_file(f, "/cpu,cpuacct" UNIT "/cpu.cfs_burst_us", "3002");
	assert_file(f, "/memory" UNIT "/memory.limit_in_bytes", "80002");
}

static void test_hybrid_usage_comes_from_three_trees(void **state)
{
	struct fixture *f = *state;
	struct cgroup_usage usage;

	file_put(f, "/unified" UNIT "/cpu.stat", "usage_usec 5000\nuser_usec 1\n");
	file_put(f, "/cpu,cpuacct" UNIT "/cpu.stat",
		"nr_periods 9\nnr_throttled 2\nthrottled_time 3500000\n");
	file_put(f, "/memory" UNIT "/memory.usage_in_bytes", "8192\n");
	file_put(f, "/memory" UNIT "/memory.stat",
		"inactive_file 1\ntotal_inactive_file 4096\ntotal_pgmajfault 6\n");
	file_put(f, "/memory" UNIT "/memory.oom_control",
		"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
	file_put(f, "/unified" UNIT "/cpu.pressure", "some avg10=0.00 total=77\n");
	assert_int_equal(cgroup_read_usage(&f->driver, UNIT, &usage), 0);
	assert_int_equal(usage.cpu_used_us, 5000);
	assert_int_equal(usage.periods, 9);
	assert_int_equal(usage.throttled_periods, 2);
	assert_int_equal(usage.throttled_us, 3500);
	assert_int_equal(usage.memory_used_bytes, 8192);
	assert_int_equal(usage.memory_working_set_bytes, 4096);
	assert_int_equal(usage.memory_major_faults, 6);
	assert_int_equal(usage.oom_kills, 1);
	assert_int_equal(usage.cpu_pressure_some_us, 77);
	/* Before 5.13 the CPU's file has no second line. */
	assert_int_equal(usage.cpu_pressure_full_us, 0);
}

static void test_a_cgroup_is_made_in_every_tree_and_removed_again(void **state)
{
	struct fixture *f = *state;
	uint64_t unified = 0, cpu = 0, memory = 0;

	assert_int_equal(cgroup_create(&f->driver, "/new/a/0"), 0);
	assert_int_equal(cgroup_create(&f->driver, "/new/a/0"), 0);
	assert_int_equal(cgroup_create(&f->driver, "/new/b"), 0);
	assert_int_equal(cgroup_read_ids(&f->driver, "/new/a/0", &unified, &cpu, &memory), 0);
	assert_true(unified && cpu && memory);
	if (f->driver.layout == CGROUP_LAYOUT_V2)
		assert_true(unified == cpu && cpu == memory);
	else
		assert_true(unified != cpu && cpu != memory);
	assert_int_equal(cgroup_remove(&f->driver, "/new"), 0);
	assert_false(cgroup_exists(&f->driver, "/new"));
	assert_int_equal(cgroup_remove(&f->driver, "/new"), 0);
}

static void test_the_root_is_neither_made_nor_removed(void **state)
{
	struct fixture *f = *state;
	char longest[CGROUP_PATH_MAX + 1];

	assert_int_equal(cgroup_create(&f->driver, "/"), -EINVAL);
	assert_int_equal(cgroup_create(&f->driver, "relative"), -EINVAL);
	assert_int_equal(cgroup_remove(&f->driver, ""), -EINVAL);
	assert_int_equal(cgroup_remove(&f->driver, "/"), -EINVAL);
	assert_true(cgroup_exists(&f->driver, UNIT));
	memset(longest, 'x', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(cgroup_create(&f->driver, longest), -ENAMETOOLONG);
}

static void test_controllers_are_handed_down_on_v2(void **state)
{
	struct fixture *f = *state;

	file_put(f, "/cgroup.subtree_control", "");
	file_put(f, UNIT "/cgroup.subtree_control", "");
	assert_int_equal(cgroup_create(&f->driver, UNIT "/0"), 0);
	assert_file(f, "/cgroup.subtree_control", "+cpu +memory");
	assert_file(f, UNIT "/cgroup.subtree_control", "+cpu +memory");
}

static void test_a_process_is_moved_in_every_tree(void **state)
{
	struct fixture *f = *state;
	static const char *const trees[] = {"/unified", "/cpu,cpuacct", "/memory"};
	char path[128];

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s" UNIT "/cgroup.procs", trees[i]);
		file_put(f, path, "");
	}
	assert_int_equal(cgroup_add_process(&f->driver, UNIT, 4711), 0);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s" UNIT "/cgroup.procs", trees[i]);
		assert_file(f, path, "4711");
	}
}

int main(void)
{
#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_neither_layout_is_said, setup_empty),
		TEST(test_controllers_at_the_root_are_v2, setup_v2),
		TEST(test_version_1_controllers_beside_a_unified_tree_are_hybrid, setup_hybrid),
		TEST(test_v2_limits_are_read, setup_v2),
		TEST(test_a_kernel_without_burst_still_has_limits, setup_v2),
		TEST(test_a_cgroup_that_is_gone_is_an_error, setup_v2),
		TEST(test_a_cgroup_that_is_gone_is_an_error, setup_hybrid),
		TEST(test_a_weight_is_read_and_written_in_the_layouts_file, setup_v2),
		TEST(test_a_weight_is_read_and_written_in_the_layouts_file, setup_hybrid),
		TEST(test_v2_limits_are_written, setup_v2),
		TEST(test_v2_limits_stay_open_from_the_first_change_on, setup_v2),
		TEST(test_v2_usage_is_read, setup_v2),
		TEST(test_a_kernel_without_psi_has_no_pressure, setup_v2),
		TEST(test_hybrid_limits_are_read, setup_hybrid),
		TEST(test_hybrid_limits_are_written_where_they_belong, setup_hybrid),
		TEST(test_hybrid_limits_stay_open_from_the_first_change_on, setup_hybrid),
		TEST(test_hybrid_usage_comes_from_three_trees, setup_hybrid),
		TEST(test_a_cgroup_is_made_in_every_tree_and_removed_again, setup_v2),
		TEST(test_a_cgroup_is_made_in_every_tree_and_removed_again, setup_hybrid),
		TEST(test_the_root_is_neither_made_nor_removed, setup_v2),
		TEST(test_controllers_are_handed_down_on_v2, setup_v2),
		TEST(test_a_process_is_moved_in_every_tree, setup_hybrid),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
