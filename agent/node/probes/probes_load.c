// SPDX-License-Identifier: Apache-2.0
#include "node/probes/probes_load.h"

#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The verifier's words on one program. More than the largest takes; touched only as far as used. */
#define VERIFIER_LOG_BYTES (4U << 20)

static bool has_typedef(const struct btf *kernel, const char *name)
{
	return btf__find_by_name_kind(kernel, name, BTF_KIND_TYPEDEF) >= 0;
}

static bool has_tracepoint(const struct btf *kernel, const char *tracepoint)
{
	char name[128];

	snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
	return has_typedef(kernel, name);
}

/* Every helper's prototype leaves a typedef. */
static bool has_socket_storage_in_tracing(const struct btf *kernel)
{
	return has_typedef(kernel, "btf_bpf_sk_storage_get_tracing");
}

static bool lacks_socket_storage_in_tracing(const struct btf *kernel)
{
	return !has_socket_storage_in_tracing(kernel);
}

#define SOCKET_STORAGE "socket storage in tracing programs (since Linux 5.11)"

bool probes_kernel_has(const struct btf *kernel, enum probes_feature feature)
{
	return feature == PROBES_TASK_STORAGE ? has_typedef(kernel, "btf_bpf_task_storage_get")
					      : has_typedef(kernel, "btf_bpf_loop");
}

/* The first argument of mark_victim: the task, or only its pid. Parameter 0 is the context. */
static bool has_victim_task(const struct btf *kernel)
{
	int id = btf__find_by_name_kind(kernel, "btf_trace_mark_victim", BTF_KIND_TYPEDEF);
	const struct btf_type *type;

	if (id < 0)
		return false;
	type = btf__type_by_id(kernel, btf__type_by_id(kernel, (__u32)id)->type);
	type = btf__type_by_id(kernel, type->type);
	if (!btf_is_func_proto(type) || btf_vlen(type) < 2)
		return false;
	return btf_is_ptr(btf__type_by_id(kernel, btf_params(type)[1].type));
}

/*
 * Programs that not every supported kernel takes. A missing tracepoint needs no entry: it is known
 * from the program's section.
 */
static const struct option {
	const char *program;
	bool (*present)(const struct btf *kernel);
	const char *needs;	 /* what is missing when @present says no */
	const char *spare_of;	 /* goes in only where that one stays out */
	const char *replaced_by; /* of another object, when @present says no */
} options[] = {
	{.program = "socket_read",
		.present = has_socket_storage_in_tracing,
		.needs = SOCKET_STORAGE},
	{.program = "socket_written",
		.present = has_socket_storage_in_tracing,
		.needs = SOCKET_STORAGE},
	{.program = "socket_closed",
		.present = has_socket_storage_in_tracing,
		.needs = SOCKET_STORAGE},
	{.program = "request_release",
		.present = lacks_socket_storage_in_tracing,
		.replaced_by = "socket_closed"},
	{.program = "memory_oom_task",
		.present = has_victim_task,
		.needs = "task in mark_victim (since Linux 6.9)"},
	{.program = "memory_oom_current", .spare_of = "memory_oom_task"},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

/* One go at an object: the entries that speak of it. */
struct loading {
	const struct probes_object *object;
	struct bpf_object_skeleton *skeleton;
	struct probes_program *programs;
	size_t count;
	int refusal; /* -errno of the newest program that was left out */
};

static struct bpf_program *program_at(const struct loading *loading, size_t index)
{
	return *loading->skeleton->progs[index].prog;
}

static struct probes_program *program_named(const struct loading *loading, const char *name)
{
	for (size_t i = 0; i < loading->count; i++)
		if (strcmp(loading->programs[i].name, name) == 0)
			return &loading->programs[i];
	return NULL;
}

static bool is_left_out(const struct probes_program *program)
{
	return program->reason[0] || program->replaced_by;
}

static __attribute__((format(printf, 2, 3))) void leave_out(
	struct probes_program *program, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(program->reason, sizeof(program->reason), format, args);
	va_end(args);
	log_debug("program=%s left_out=\"%s\"", program->name, program->reason);
}

static void choose_by_features(const struct loading *loading, const struct btf *kernel)
{
	for (size_t i = 0; i < loading->count; i++) {
		const char *section = bpf_program__section_name(program_at(loading, i));

		if (strncmp(section, "tp_btf/", 7) == 0 && !has_tracepoint(kernel, section + 7))
			leave_out(&loading->programs[i], "this kernel has no tracepoint %s",
				section + 7);
	}
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		struct probes_program *program = program_named(loading, options[i].program);

		if (!program || program->reason[0] || !options[i].present ||
			options[i].present(kernel))
			continue;
		if (options[i].replaced_by)
			program->replaced_by = options[i].replaced_by;
		else
			leave_out(program, "this kernel has no %s", options[i].needs);
	}
}

/* Of a program and its spare one goes in: the spare where the program itself cannot. */
static void choose_spares(const struct loading *loading)
{
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		struct probes_program *spare = program_named(loading, options[i].program);
		struct probes_program *first =
			options[i].spare_of ? program_named(loading, options[i].spare_of) : NULL;

		if (!spare || !first)
			continue;
		spare->replaced_by = first->reason[0] ? NULL : first->name;
		first->replaced_by = first->reason[0] && !spare->reason[0] ? spare->name : NULL;
	}
}

static int attach(struct loading *loading)
{
	for (size_t i = 0; i < loading->count; i++) {
		struct bpf_program *program = program_at(loading, i);
		struct bpf_link *link;

		if (is_left_out(&loading->programs[i]) || !bpf_program__autoattach(program))
			continue;
		link = bpf_program__attach(program);
		if (!link && errno == EOPNOTSUPP)
			continue;
		if (!link) {
			loading->refusal = -errno;
			leave_out(&loading->programs[i], "it does not attach: %s",
				strerror(-loading->refusal));
			return loading->refusal;
		}
		*loading->skeleton->progs[i].link = link;
	}
	return 0;
}

/*
 * Why the verifier refused: the line after the last instruction it looked at ("12: (85) call ..."),
 * or its first line when it came to none. Statistics and, since 7.x, advice follow.
 */
static const char *verifier_verdict(char *log)
{
	bool after_instruction = true;
	const char *verdict = NULL;
	char *save = NULL;

	for (char *line = strtok_r(log, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t digits = strspn(line, "0123456789");

		if (digits > 0 && line[digits] == ':') {
			after_instruction = true;
		} else if (after_instruction) {
			verdict = line;
			after_instruction = false;
		}
	}
	return verdict;
}

/* Load program @index by itself; what the kernel says against it becomes its reason. */
static void try_alone(struct loading *loading, size_t index)
{
	char *log = malloc(VERIFIER_LOG_BYTES);
	const char *verdict;
	int err;

	if (!log)
		return;
	log[0] = '\0';
	loading->skeleton = loading->object->open(loading->object->context);
	if (!loading->skeleton)
		goto out;
	for (size_t i = 0; i < loading->count; i++)
		bpf_program__set_autoload(program_at(loading, i), i == index);
	bpf_program__set_log_buf(program_at(loading, index), log, VERIFIER_LOG_BYTES);
	err = bpf_object__load_skeleton(loading->skeleton);
	loading->object->close(loading->object->context);
	if (!err)
		goto out;
	loading->refusal = err;
	verdict = verifier_verdict(log);
	if (verdict)
		leave_out(&loading->programs[index], "the verifier refuses it: %s", verdict);
	else
		leave_out(&loading->programs[index], "it does not load: %s", strerror(-err));
out:
	free(log);
}

/* After an object was refused as a whole: how many of its programs are so by themselves. */
static size_t find_refused(struct loading *loading)
{
	size_t refused = 0;

	for (size_t i = 0; i < loading->count; i++) {
		if (is_left_out(&loading->programs[i]))
			continue;
		try_alone(loading, i);
		refused += is_left_out(&loading->programs[i]);
	}
	return refused;
}

/* Load and attach what is not left out. On failure the object is closed. */
static int load_chosen(struct loading *loading)
{
	int err;

	choose_spares(loading);
	for (size_t i = 0; i < loading->count; i++)
		bpf_program__set_autoload(
			program_at(loading, i), !is_left_out(&loading->programs[i]));
	err = bpf_object__load_skeleton(loading->skeleton);
	if (err) {
		loading->object->close(loading->object->context);
		return find_refused(loading) ? -EAGAIN : err;
	}
	if (attach(loading)) {
		loading->object->close(loading->object->context);
		return -EAGAIN;
	}
	for (size_t i = 0; i < loading->count; i++)
		loading->programs[i].attached = !is_left_out(&loading->programs[i]);
	return 0;
}

static bool misses_required(const struct loading *loading)
{
	for (const char *const *name = loading->object->required; *name; name++) {
		const struct probes_program *program = program_named(loading, *name);

		if (!program || program->reason[0])
			return true;
	}
	return false;
}

int probes_load(const struct probes_object *object, const struct btf *kernel,
	struct probes_program *programs, size_t room, size_t *count)
{
	struct loading loading = {.object = object, .programs = programs, .refusal = -EOPNOTSUPP};
	int err;

	*count = 0;
	loading.skeleton = object->open(object->context);
	if (!loading.skeleton)
		return -errno;
	if ((size_t)loading.skeleton->prog_cnt > room) {
		object->close(object->context);
		return -ENOSPC;
	}
	loading.count = *count = (size_t)loading.skeleton->prog_cnt;
	for (size_t i = 0; i < loading.count; i++)
		programs[i] = (struct probes_program){.name = loading.skeleton->progs[i].name};
	if (kernel)
		choose_by_features(&loading, kernel);
	/* Every failed go leaves out at least one more, so this ends. */
	for (;;) {
		if (misses_required(&loading)) {
			object->close(object->context);
			return loading.refusal;
		}
		err = load_chosen(&loading);
		if (err != -EAGAIN)
			return err;
		loading.skeleton = object->open(object->context);
		if (!loading.skeleton)
			return -errno;
	}
}
