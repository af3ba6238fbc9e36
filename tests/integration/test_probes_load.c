// SPDX-License-Identifier: Apache-2.0
// Needs a node: BPF, cgroups.
/*
 * Loading an object of which the running kernel refuses a part. Which part is refused is chosen
 * here, by a first instruction that no verifier lets pass, so the same happens on every kernel.
 */
#include "memory.skel.h"
#include "request.skel.h"

#include "node/probes/probes_load.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/utsname.h>

#include <cmocka.h>

#define PROGRAMS_MAX 32

struct fixture {
	struct btf *kernel;
	struct memory *memory;
	struct request *request;
	const char *refused[2];
	int open;
	struct probes_program programs[PROGRAMS_MAX];
	size_t count;
};

static const char *const none[] = {NULL};

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){.kernel = btf__load_vmlinux_btf()};
	libbpf_set_print(quiet);
	*state = &fixture;
	assert_non_null(fixture.kernel);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	memory__destroy(f->memory);
	request__destroy(f->request);
	btf__free(f->kernel);
	return 0;
}

/* Its first instruction reads a register that was never set. */
static void refuse(struct bpf_program *program)
{
	struct bpf_insn *first = (struct bpf_insn *)bpf_program__insns(program);

	*first = (struct bpf_insn){
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_9};
}

static struct bpf_object_skeleton *memory_prepare(void *context)
{
	struct fixture *f = context;

	f->memory = memory__open();
	if (!f->memory)
		return NULL;
	f->open++;
	for (size_t i = 0; i < 2 && f->refused[i]; i++)
		refuse(bpf_object__find_program_by_name(f->memory->obj, f->refused[i]));
	return f->memory->skeleton;
}

static void memory_close(void *context)
{
	struct fixture *f = context;

	f->open--;
	memory__destroy(f->memory);
	f->memory = NULL;
}

static struct bpf_object_skeleton *request_prepare(void *context)
{
	struct fixture *f = context;

	f->request = request__open();
	return f->request ? f->request->skeleton : NULL;
}

static void request_close(void *context)
{
	struct fixture *f = context;

	request__destroy(f->request);
	f->request = NULL;
}

static int memory_load(struct fixture *f, const char *const *required)
{
	const struct probes_object object = {"memory", memory_prepare, memory_close, f, required};

	return probes_load(&object, f->kernel, f->programs, PROGRAMS_MAX, &f->count);
}

static const struct probes_program *program_of(const struct fixture *f, const char *name)
{
	for (size_t i = 0; i < f->count; i++)
		if (strcmp(f->programs[i].name, name) == 0)
			return &f->programs[i];
	fail_msg("no program is called %s", name);
	return NULL;
}

static size_t attached_count(const struct fixture *f)
{
	size_t attached = 0;

	for (size_t i = 0; i < f->count; i++)
		attached += f->programs[i].attached;
	return attached;
}

static void test_a_refused_program_goes_out_alone(void **state)
{
	struct fixture *f = *state;
	const struct probes_program *refused;
	size_t whole;

	assert_int_equal(memory_load(f, none), 0);
	assert_true(program_of(f, "memory_peak")->attached);
	whole = attached_count(f);
	memory_close(f);

	f->refused[0] = "memory_peak";
	assert_int_equal(memory_load(f, none), 0);
	refused = program_of(f, "memory_peak");
	assert_false(refused->attached);
	assert_null(refused->replaced_by);
	assert_string_equal(refused->reason, "the verifier refuses it: R9 !read_ok");
	assert_int_equal(attached_count(f), whole - 1);
	assert_int_equal(f->open, 1);
	assert_non_null(f->memory->links.memory_reclaim_begin);
	assert_null(f->memory->links.memory_peak);
}

static void test_several_refused_programs_go_out(void **state)
{
	struct fixture *f = *state;

	f->refused[0] = "memory_peak";
	f->refused[1] = "memory_direct_end";
	assert_int_equal(memory_load(f, none), 0);
	assert_false(program_of(f, "memory_peak")->attached);
	assert_false(program_of(f, "memory_direct_end")->attached);
	assert_true(program_of(f, "memory_reclaim_end")->attached);
	assert_int_equal(f->open, 1);
}

static void test_the_spare_comes_in_when_the_first_is_refused(void **state)
{
	struct fixture *f = *state;
	const struct probes_program *first;

	f->refused[0] = "memory_oom_task";
	assert_int_equal(memory_load(f, none), 0);
	first = program_of(f, "memory_oom_task");
	assert_false(first->attached);
	assert_string_equal(first->replaced_by, "memory_oom_current");
	assert_true(first->reason[0] != '\0');
	assert_true(program_of(f, "memory_oom_current")->attached);
}

static void test_a_spare_that_is_not_needed_stays_out(void **state)
{
	struct fixture *f = *state;
	const struct probes_program *first, *spare;

	assert_int_equal(memory_load(f, none), 0);
	first = program_of(f, "memory_oom_task");
	spare = program_of(f, "memory_oom_current");
	assert_true(first->attached != spare->attached);
	if (first->attached) {
		assert_string_equal(spare->replaced_by, "memory_oom_task");
		assert_string_equal(spare->reason, "");
	} else {
		assert_string_equal(first->replaced_by, "memory_oom_current");
		assert_string_equal(
			first->reason, "this kernel has no task in mark_victim (since Linux 6.9)");
	}
}

static void test_without_the_first_and_its_spare_both_say_why(void **state)
{
	struct fixture *f = *state;

	f->refused[0] = "memory_oom_task";
	f->refused[1] = "memory_oom_current";
	assert_int_equal(memory_load(f, none), 0);
	for (int i = 0; i < 2; i++) {
		const struct probes_program *program = program_of(f, f->refused[i]);

		assert_false(program->attached);
		assert_null(program->replaced_by);
		assert_true(program->reason[0] != '\0');
	}
	assert_true(program_of(f, "memory_peak")->attached);
}

static void test_a_refused_required_program_fails_the_object(void **state)
{
	static const char *const required[] = {"memory_reclaim_end", NULL};
	struct fixture *f = *state;

	f->refused[0] = "memory_reclaim_end";
	assert_int_equal(memory_load(f, required), -EACCES);
	assert_int_equal(f->open, 0);
	assert_int_equal(attached_count(f), 0);
	assert_string_equal(program_of(f, "memory_reclaim_end")->reason,
		"the verifier refuses it: R9 !read_ok");
}

static void test_more_programs_than_room_is_an_error(void **state)
{
	struct fixture *f = *state;
	const struct probes_object object = {"memory", memory_prepare, memory_close, f, none};

	assert_int_equal(probes_load(&object, f->kernel, f->programs, 2, &f->count), -ENOSPC);
	assert_int_equal(f->count, 0);
	assert_int_equal(f->open, 0);
}

/* The table of features leaves out what the kernel refuses anyway, and nothing else. */
static void test_the_table_and_the_kernel_agree_on_the_request_programs(void **state)
{
	struct fixture *f = *state;
	const struct probes_object object = {"request", request_prepare, request_close, f, none};
	bool attached[PROGRAMS_MAX];
	struct utsname name;

	/* Before 5.17 and since 7.0 another object has the request programs. */
	if (!probes_kernel_has(f->kernel, PROBES_LOOP) || uname(&name) != 0 ||
		atoi(name.release) >= 7)
		return;
	assert_int_equal(probes_load(&object, f->kernel, f->programs, PROGRAMS_MAX, &f->count), 0);
	for (size_t i = 0; i < f->count; i++)
		attached[i] = f->programs[i].attached;
	request_close(f);
	assert_int_equal(probes_load(&object, NULL, f->programs, PROGRAMS_MAX, &f->count), 0);
	for (size_t i = 0; i < f->count; i++)
		/* request_release is left out because it is not needed, not because it cannot be. */
		if (attached[i] != f->programs[i].attached &&
			strcmp(f->programs[i].name, "request_release") != 0)
			fail_msg("%s: the table says %s, the kernel %s %s", f->programs[i].name,
				attached[i] ? "yes" : "no", attached[i] ? "no:" : "yes",
				f->programs[i].reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_refused_program_goes_out_alone),
		TEST(test_several_refused_programs_go_out),
		TEST(test_the_spare_comes_in_when_the_first_is_refused),
		TEST(test_a_spare_that_is_not_needed_stays_out),
		TEST(test_without_the_first_and_its_spare_both_say_why),
		TEST(test_a_refused_required_program_fails_the_object),
		TEST(test_more_programs_than_room_is_an_error),
		TEST(test_the_table_and_the_kernel_agree_on_the_request_programs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
