// SPDX-License-Identifier: Apache-2.0
/* What an earlier agent left on containers that nobody has now, on a folder that looks like cgroup v2. */
#include "node/limits/leftover.h"

#include "node/agent.h"

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

#define POD  "/kubepods.slice/kubepods-pod1.slice"
#define PATH POD "/cri-containerd-a.scope"

struct fixture {
	char mount[64];
	struct agent agent;
	struct container owner;
	struct container *owners[2];
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	(void)info, (void)kind, (void)walk;
	return remove(path);
}

static void put(const struct fixture *f, const char *path, const char *file, const char *text)
{
	char full[512];
	FILE *out;

	snprintf(full, sizeof(full), "%s%s/%s", f->mount, path, file);
	out = fopen(full, "we");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

/* What was written is shorter than what an ordinary file keeps after it: compared up to there. */
static void assert_file(
	const struct fixture *f, const char *path, const char *file, const char *expected)
{
	char full[512], found[64] = "";
	FILE *in;

	snprintf(full, sizeof(full), "%s%s/%s", f->mount, path, file);
	in = fopen(full, "re");
	assert_non_null(in);
	assert_non_null(fgets(found, sizeof(found), in));
	fclose(in);
	if (strncmp(found, expected, strlen(expected)) != 0)
		fail_msg("%s: expected %s, got %s", full, expected, found);
}

static void directory(const struct fixture *f, const char *path)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", f->mount, path);
	assert_int_equal(mkdir(full, 0755), 0);
}

/* As an agent left it that had lowered every limit, and raised the weights. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint64_t unified, cpu, memory;

	assert_non_null(f);
	snprintf(f->mount, sizeof(f->mount), "/tmp/ebbtide-test-leftover-XXXXXX");
	assert_non_null(mkdtemp(f->mount));
	put(f, "", "cgroup.controllers", "");
	assert_int_equal(cgroup_driver_detect(&f->agent.driver, f->mount), 0);
	directory(f, "/kubepods.slice");
	directory(f, POD);
	directory(f, PATH);
	put(f, PATH, "cpu.max", "20000 100000\n");
	put(f, PATH, "cpu.max.burst", "0\n");
	put(f, PATH, "memory.max", "67108864\n");
	put(f, PATH, "memory.high", "33554432\n");
	put(f, PATH, "cpu.weight", "90\n");
	put(f, POD, "cpu.weight", "95\n");
	f->agent.config.max_slots = 2;
	f->agent.owners = f->owners;
	assert_int_equal(cgroup_read_ids(&f->agent.driver, PATH, &unified, &cpu, &memory), 0);
	f->agent.originals = json_pack("{s:{s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i}, s:{s:s}}",
		PATH, "cgroup_id", (json_int_t)cpu, "cpu_quota_us", 100000, "cpu_period_us", 100000,
		"cpu_burst_us", 0, "memory_max_bytes", 67108864, "memory_high_bytes", -1,
		"cpu_weight", 39, "pod_cpu_weight", 41, "pod:1/app", "incarnation", "other");
	assert_non_null(f->agent.originals);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	json_decref(f->agent.originals);
	nftw(f->mount, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static bool is_kept(const struct fixture *f)
{
	return json_object_get(f->agent.originals, PATH) != NULL;
}

static void test_a_container_that_nobody_has_gets_its_owners_limits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(leftover_settle(&f->agent), 1);
	assert_file(f, PATH, "cpu.max", "100000 100000");
	assert_file(f, PATH, "memory.max", "67108864");
	assert_file(f, PATH, "memory.high", "max");
	assert_file(f, PATH, "cpu.weight", "39");
	assert_file(f, POD, "cpu.weight", "41");
	assert_false(is_kept(f));
	assert_true(f->agent.originals_changed);
	/* Others' lines stay. */
	assert_non_null(json_object_get(f->agent.originals, "pod:1/app"));
	assert_int_equal(leftover_settle(&f->agent), 0);
}

static void test_one_that_the_agent_has_is_left_alone(void **state)
{
	struct fixture *f = *state;

	snprintf(f->owner.path, sizeof(f->owner.path), PATH);
	f->owners[1] = &f->owner;
	assert_int_equal(leftover_settle(&f->agent), 0);
	assert_file(f, PATH, "cpu.max", "20000 100000");
	assert_true(is_kept(f));
}

static void test_a_pods_weight_stays_with_the_container_that_it_has_now(void **state)
{
	struct fixture *f = *state;

	snprintf(f->owner.path, sizeof(f->owner.path), POD "/cri-containerd-b.scope");
	f->owners[0] = &f->owner;
	assert_int_equal(leftover_settle(&f->agent), 1);
	assert_file(f, PATH, "cpu.weight", "39");
	assert_file(f, POD, "cpu.weight", "95");
}

static void test_of_a_container_that_is_gone_only_the_pods_weight_is_put_back(void **state)
{
	struct fixture *f = *state;
	char full[512];

	snprintf(full, sizeof(full), "%s" PATH, f->mount);
	assert_int_equal(nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(leftover_settle(&f->agent), 0);
	assert_false(is_kept(f));
	assert_file(f, POD, "cpu.weight", "41");
}

static void test_another_cgroup_of_the_same_path_keeps_what_it_has(void **state)
{
	struct fixture *f = *state;

	json_object_set_new(
		json_object_get(f->agent.originals, PATH), "cgroup_id", json_integer(1));
	assert_int_equal(leftover_settle(&f->agent), 0);
	assert_file(f, PATH, "cpu.max", "20000 100000");
	assert_false(is_kept(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_container_that_nobody_has_gets_its_owners_limits),
		TEST(test_one_that_the_agent_has_is_left_alone),
		TEST(test_a_pods_weight_stays_with_the_container_that_it_has_now),
		TEST(test_of_a_container_that_is_gone_only_the_pods_weight_is_put_back),
		TEST(test_another_cgroup_of_the_same_path_keeps_what_it_has),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
