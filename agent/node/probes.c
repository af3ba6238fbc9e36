// SPDX-License-Identifier: Apache-2.0
#include "node/probes.h"

#include "cpu.skel.h"
#include "memory.skel.h"
#include "request.skel.h"
#include "socket.skel.h"

#include "common/log.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PROGRAMS_MAX 32
/* How many slots one run of the snapshot program copies; SNAPSHOT_SLOTS in cpu.bpf.c. */
#define SNAPSHOT_SLOTS 64

struct probes {
	const struct cgroup_driver *driver;
	struct cpu *cpu;
	struct memory *memory;
	struct request *request;
	struct socket *socket;
	struct ring_buffer *ring;
	struct ring_buffer *throttles;
	probes_event_handler handler;
	void *context;
	probes_throttle_handler throttle_handler;
	void *throttle_context;

	struct slot *slots;
	size_t slots_bytes;
	struct slot_control *control;
	uint32_t max_slots;
	uint32_t used_slots; /* highest slot given out, plus one */
	uint8_t *taken;

	int cpus;
	struct probes_program programs[PROGRAMS_MAX];
	size_t program_count;
};

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char *text = NULL, *save = NULL;

	/* libbpf's warnings go with the error that follows; its words, the verifier's log among
	 * them, are for --log-level debug. */
	if (level == LIBBPF_DEBUG || vasprintf(&text, format, args) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		log_debug("libbpf=\"%s\"", line);
	free(text);
	return 0;
}

/* The parameter of a raw tracepoint in the kernel's BTF, or NULL when the tracepoint is missing. */
static const struct btf_type *tracepoint_parameter(
	const struct btf *btf, const char *tracepoint, unsigned int index, bool *found)
{
	char name[128];
	const struct btf_type *type;
	int id;

	*found = false;
	snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);
	if (id < 0)
		return NULL;
	*found = true;
	type = btf__type_by_id(btf, btf__type_by_id(btf, (__u32)id)->type);
	type = btf__type_by_id(btf, type->type);
	if (!btf_is_func_proto(type) || btf_vlen(type) <= index)
		return NULL;
	return btf__type_by_id(btf, btf_params(type)[index].type);
}

static struct probes_program *program_note(struct probes *probes, const char *name)
{
	struct probes_program *program = &probes->programs[probes->program_count];

	if (probes->program_count < PROGRAMS_MAX)
		probes->program_count++;
	program->name = name;
	return program;
}

/* Decide from BTF, before load, whether @program can attach; what cannot is left out. */
static void programs_choose(struct probes *probes, const struct btf *btf, struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object) {
		const char *section = bpf_program__section_name(program);
		const char *name = bpf_program__name(program);
		struct probes_program *noted = program_note(probes, name);
		const struct btf_type *parameter;
		bool found, takes_task;

		if (strncmp(section, "tp_btf/", 7) != 0)
			continue;
		parameter = tracepoint_parameter(btf, section + 7, 1, &found);
		if (!found) {
			snprintf(noted->reason, sizeof(noted->reason),
				"this kernel has no tracepoint %s", section + 7);
			bpf_program__set_autoload(program, false);
			continue;
		}
		if (strncmp(name, "memory_oom", 10) != 0)
			continue;
		/* One of the two fits: the argument is the victim, or only its pid. */
		takes_task = parameter && btf_is_ptr(parameter);
		if (takes_task != (strcmp(name, "memory_oom_task") == 0)) {
			snprintf(noted->reason, sizeof(noted->reason),
				"the other form of mark_victim fits this kernel");
			bpf_program__set_autoload(program, false);
		}
	}
}

static void programs_attach(struct probes *probes, struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program (program, object) {
		struct probes_program *noted = NULL;

		for (size_t i = 0; i < probes->program_count; i++)
			if (strcmp(probes->programs[i].name, bpf_program__name(program)) == 0)
				noted = &probes->programs[i];
		if (noted && bpf_program__fd(program) >= 0)
			noted->attached = true;
	}
}

static int maps_share(struct probes *probes, struct bpf_object *object)
{
	/* Each map belongs to the first object that has it; this one takes what is there. */
	struct bpf_object *const earlier[] = {probes->cpu->obj,
		probes->request && probes->request->obj != object ? probes->request->obj : NULL};
	struct bpf_map *from, *to;
	int err;

	for (size_t i = 0; i < sizeof(earlier) / sizeof(earlier[0]) && earlier[i]; i++) {
		bpf_object__for_each_map (from, earlier[i]) {
			if (bpf_map__is_internal(from))
				continue;
			to = bpf_object__find_map_by_name(object, bpf_map__name(from));
			if (!to)
				continue;
			if (bpf_map__fd(from) < 0) {
				(void)bpf_map__set_autocreate(to, false);
				continue;
			}
			err = bpf_map__reuse_fd(to, bpf_map__fd(from));
			if (err)
				return err;
		}
	}
	return 0;
}

#define SET_HIERARCHIES(skeleton, layout)                                                          \
	do {                                                                                       \
		if ((layout) == CGROUP_LAYOUT_HYBRID) {                                            \
			(skeleton)->rodata->cpu_hierarchy = HIERARCHY_CPU;                         \
			(skeleton)->rodata->memory_hierarchy = HIERARCHY_MEMORY;                   \
		}                                                                                  \
		(skeleton)->rodata->page_shift =                                                   \
			(__u32)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));               \
	} while (0)

static int cpu_open(struct probes *probes, const struct btf *btf)
{
	int err;

	probes->cpu = cpu__open();
	if (!probes->cpu)
		return -errno;
	SET_HIERARCHIES(probes->cpu, probes->driver->layout);
	probes->cpu->rodata->cpus = (__u32)probes->cpus;
	bpf_map__set_max_entries(probes->cpu->maps.slots, probes->max_slots);
	bpf_map__set_max_entries(probes->cpu->maps.slot_index, probes->max_slots * 3);
	programs_choose(probes, btf, probes->cpu->obj);
	/* These two are run by the agent, not by an event. */
	bpf_program__set_autoattach(probes->cpu->progs.cpu_settle, false);
	bpf_program__set_autoattach(probes->cpu->progs.cpu_snapshot, false);
	bpf_program__set_autoattach(probes->cpu->progs.cpu_look, false);
	err = cpu__load(probes->cpu);
	if (!err)
		err = cpu__attach(probes->cpu);
	if (!err)
		programs_attach(probes, probes->cpu->obj);
	return err;
}

static int memory_open(struct probes *probes, const struct btf *btf)
{
	int err;

	probes->memory = memory__open();
	if (!probes->memory)
		return -errno;
	SET_HIERARCHIES(probes->memory, probes->driver->layout);
	programs_choose(probes, btf, probes->memory->obj);
	err = maps_share(probes, probes->memory->obj);
	if (!err)
		err = memory__load(probes->memory);
	if (!err)
		err = memory__attach(probes->memory);
	if (!err)
		programs_attach(probes, probes->memory->obj);
	return err;
}

static int event_received(void *context, void *data, size_t size)
{
	struct probes *probes = context;
	union probes_event *event = data;

	if (size >= sizeof(event->kind) && probes->handler)
		probes->handler(event, probes->context);
	return 0;
}

static int throttle_received(void *context, void *data, size_t size)
{
	struct probes *probes = context;

	if (size >= sizeof(struct throttle_event) && probes->throttle_handler)
		probes->throttle_handler(data, probes->throttle_context);
	return 0;
}

static int request_open(struct probes *probes, const struct btf *btf)
{
	int err;

	probes->request = request__open();
	if (!probes->request)
		return -errno;
	SET_HIERARCHIES(probes->request, probes->driver->layout);
	programs_choose(probes, btf, probes->request->obj);
	err = maps_share(probes, probes->request->obj);
	if (!err)
		err = request__load(probes->request);
	if (err)
		return err;
	/* Its programs attach per container. */
	programs_attach(probes, probes->request->obj);
	return 0;
}

static int socket_open(struct probes *probes, const struct btf *btf)
{
	int err;

	probes->socket = socket__open();
	if (!probes->socket)
		return -errno;
	SET_HIERARCHIES(probes->socket, probes->driver->layout);
	programs_choose(probes, btf, probes->socket->obj);
	err = maps_share(probes, probes->socket->obj);
	if (!err)
		err = socket__load(probes->socket);
	if (!err)
		err = socket__attach(probes->socket);
	if (!err)
		programs_attach(probes, probes->socket->obj);
	return err;
}

/* A signal that cannot be had degrades alone: its programs carry the reason, the agent runs. */
static void object_failed(struct probes *probes, size_t first, const char *object, int err)
{
	for (size_t i = first; i < probes->program_count; i++) {
		probes->programs[i].attached = false;
		if (probes->programs[i].reason[0])
			continue;
		snprintf(probes->programs[i].reason, sizeof(probes->programs[i].reason),
			"%s.bpf.o did not load: %s", object, strerror(-err));
	}
	log_warning("bpf=%s error=\"%s\" effect=\"this signal is off; see ebbctl status\"", object,
		strerror(-err));
}

static int slots_map(struct probes *probes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory;

	probes->slots_bytes =
		((size_t)probes->max_slots * sizeof(struct slot) + page - 1) & ~(page - 1);
	memory = mmap(NULL, probes->slots_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(probes->cpu->maps.slots), 0);
	if (memory == MAP_FAILED)
		return -errno;
	probes->slots = memory;
	memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(probes->cpu->maps.slot_control), 0);
	if (memory == MAP_FAILED)
		return -errno;
	probes->control = memory;
	probes->control->generation = 1;
	return 0;
}

static int rings_open(struct probes *probes)
{
	probes->ring = ring_buffer__new(
		bpf_map__fd(probes->cpu->maps.events), event_received, probes, NULL);
	if (!probes->ring)
		return -errno;
	probes->throttles = ring_buffer__new(
		bpf_map__fd(probes->cpu->maps.throttles), throttle_received, probes, NULL);
	return probes->throttles ? 0 : -errno;
}

int probes_open(struct probes **out, const struct cgroup_driver *driver, uint32_t max_slots,
	char *error, size_t error_size)
{
	struct probes *probes = calloc(1, sizeof(*probes));
	struct btf *btf = NULL;
	size_t first;
	int err;

	if (!probes)
		return -ENOMEM;
	probes->driver = driver;
	probes->max_slots = max_slots;
	probes->cpus = libbpf_num_possible_cpus();
	probes->taken = calloc(max_slots, 1);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(print_libbpf);
	btf = btf__load_vmlinux_btf();
	if (!probes->taken || !btf) {
		err = probes->taken ? -ENOSYS : -ENOMEM;
		snprintf(error, error_size,
			"no BTF at /sys/kernel/btf/vmlinux: a kernel of 5.10 or later with "
			"CONFIG_DEBUG_INFO_BTF is needed");
		goto out;
	}
	err = cpu_open(probes, btf);
	if (err) {
		snprintf(error, error_size,
			"cannot load the BPF programs (cpu.bpf.o: %s): run as root or with CAP_BPF and "
			"CAP_PERFMON on a kernel of 5.10 or later; --log-level debug shows libbpf's words",
			strerror(-err));
		goto out;
	}
	err = slots_map(probes);
	if (err) {
		snprintf(error, error_size, "cannot map the slots (%zu bytes): %s",
			probes->slots_bytes, strerror(-err));
		goto out;
	}
	err = probes_refresh(probes);
	if (err) {
		snprintf(error, error_size,
			"cannot run the snapshot programs: %s; a kernel of 5.10 or later is needed",
			strerror(-err));
		goto out;
	}
	first = probes->program_count;
	err = memory_open(probes, btf);
	if (err) {
		object_failed(probes, first, "memory", err);
		memory__destroy(probes->memory);
		probes->memory = NULL;
	}
	first = probes->program_count;
	err = request_open(probes, btf);
	if (err) {
		object_failed(probes, first, "request", err);
		request__destroy(probes->request);
		probes->request = NULL;
	} else {
		first = probes->program_count;
		err = socket_open(probes, btf);
		if (err) {
			object_failed(probes, first, "socket", err);
			socket__destroy(probes->socket);
			probes->socket = NULL;
		}
	}
	err = rings_open(probes);
	if (err) {
		snprintf(error, error_size, "cannot open the ring buffers: %s", strerror(-err));
		goto out;
	}
	*out = probes;
out:
	btf__free(btf);
	if (err)
		probes_close(probes);
	return err;
}

void probes_close(struct probes *probes)
{
	if (!probes)
		return;
	ring_buffer__free(probes->ring);
	ring_buffer__free(probes->throttles);
	socket__destroy(probes->socket);
	request__destroy(probes->request);
	memory__destroy(probes->memory);
	if (probes->slots)
		munmap(probes->slots, probes->slots_bytes);
	if (probes->control)
		munmap(probes->control, (size_t)sysconf(_SC_PAGESIZE));
	cpu__destroy(probes->cpu);
	free(probes->taken);
	free(probes);
}

const struct probes_program *probes_programs(const struct probes *probes, size_t *count)
{
	*count = probes->program_count;
	return probes->programs;
}

static uint32_t slot_take(struct probes *probes)
{
	uint32_t epoch;

	for (uint32_t i = 0; i < probes->max_slots; i++) {
		if (probes->taken[i])
			continue;
		probes->taken[i] = 1;
		if (i >= probes->used_slots)
			probes->used_slots = i + 1;
		epoch = probes->slots[i].epoch;
		memset(&probes->slots[i], 0, sizeof(probes->slots[i]));
		probes->slots[i].index = i;
		/* What sockets of its last owner still hold must not be counted here. */
		probes->slots[i].epoch = epoch + 1;
		probes->slots[i].age_shift = AGE_SHIFT_DEFAULT;
		return i;
	}
	return SLOT_NONE;
}

static void generation_raise(struct probes *probes)
{
	__atomic_add_fetch(&probes->control->generation, 1, __ATOMIC_SEQ_CST);
}

static int requests_attach(
	struct probes *probes, const char *path, struct probes_attachment *attachment)
{
	char directory[2 * CGROUP_PATH_MAX];
	/* The last one only where the connections' own end cannot be seen. */
	struct bpf_program *programs[PROBES_LINKS] = {probes->request->progs.request_ingress,
		probes->request->progs.request_egress, probes->request->progs.request_release};
	int count = probes->socket ? 2 : 3, err = 0, fd;

	snprintf(directory, sizeof(directory), "%s%s", probes->driver->unified_root, path);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < count && !err; i++) {
		struct bpf_link *link = bpf_program__attach_cgroup(programs[i], fd);

		err = (int)libbpf_get_error(link);
		attachment->links[i] = err ? NULL : link;
	}
	close(fd);
	return err;
}

int probes_attach(struct probes *probes, const char *path, struct probes_attachment *attachment)
{
	int fd = bpf_map__fd(probes->cpu->maps.slot_index);
	bool v2 = probes->driver->layout == CGROUP_LAYOUT_V2;
	uint64_t unified, cpu, memory;
	struct slot *slot;
	int err;

	memset(attachment, 0, sizeof(*attachment));
	attachment->slot = SLOT_NONE;
	err = cgroup_read_ids(probes->driver, path, &unified, &cpu, &memory);
	if (err)
		return err;
	attachment->slot = slot_take(probes);
	if (attachment->slot == SLOT_NONE)
		return -ENOSPC;
	slot = &probes->slots[attachment->slot];
	slot->cpu_id = cpu;
	slot->memory_id = memory;
	attachment->keys[attachment->key_count++] = SLOT_KEY(HIERARCHY_UNIFIED, unified);
	if (!v2) {
		attachment->keys[attachment->key_count++] = SLOT_KEY(HIERARCHY_CPU, cpu);
		attachment->keys[attachment->key_count++] = SLOT_KEY(HIERARCHY_MEMORY, memory);
	}
	for (size_t i = 0; i < attachment->key_count && !err; i++)
		if (bpf_map_update_elem(fd, &attachment->keys[i], &attachment->slot, BPF_ANY))
			err = -errno;
	generation_raise(probes);
	if (!err && probes->request)
		err = requests_attach(probes, path, attachment);
	if (err)
		probes_detach(probes, attachment);
	return err;
}

void probes_detach(struct probes *probes, struct probes_attachment *attachment)
{
	if (attachment->slot == SLOT_NONE)
		return;
	for (int i = 0; i < PROBES_LINKS; i++) {
		bpf_link__destroy(attachment->links[i]);
		attachment->links[i] = NULL;
	}
	for (size_t i = 0; i < attachment->key_count; i++)
		bpf_map_delete_elem(
			bpf_map__fd(probes->cpu->maps.slot_index), &attachment->keys[i]);
	generation_raise(probes);
	probes->taken[attachment->slot] = 0;
	while (probes->used_slots > 0 && !probes->taken[probes->used_slots - 1])
		probes->used_slots--;
	attachment->slot = SLOT_NONE;
}

int probes_refresh(struct probes *probes)
{
	int settle = bpf_program__fd(probes->cpu->progs.cpu_settle);
	int snapshot = bpf_program__fd(probes->cpu->progs.cpu_snapshot);

	for (int cpu = 0; cpu < probes->cpus; cpu++) {
		LIBBPF_OPTS(bpf_test_run_opts, options, .flags = BPF_F_TEST_RUN_ON_CPU,
			.cpu = (__u32)cpu);

		/* -ENXIO: a possible CPU that is not online. */
		if (bpf_prog_test_run_opts(settle, &options) && errno != ENXIO)
			return -errno;
	}
	for (uint32_t first = 0; first < probes->used_slots; first += SNAPSHOT_SLOTS) {
		__u64 arguments[1] = {first};
		LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = arguments,
			.ctx_size_in = sizeof(arguments));

		if (bpf_prog_test_run_opts(snapshot, &options))
			return -errno;
	}
	return 0;
}

struct slot *probes_slot(struct probes *probes, uint32_t slot)
{
	return &probes->slots[slot];
}

bool probes_slot_is_tied(const struct slot *slot)
{
	return slot->task_group != 0;
}

int probes_look(struct probes *probes, uint32_t slot)
{
	__u64 arguments[1] = {slot};
	LIBBPF_OPTS(
		bpf_test_run_opts, options, .ctx_in = arguments, .ctx_size_in = sizeof(arguments));

	if (bpf_prog_test_run_opts(bpf_program__fd(probes->cpu->progs.cpu_look), &options))
		return -errno;
	return (int)options.retval < 0 ? -ESTALE : (int)options.retval;
}

uint64_t slot_oldest_age_ns(const struct slot *slot, uint64_t now_ns)
{
	uint32_t shift = slot->age_shift & 63, now = (uint32_t)(now_ns >> shift);
	uint64_t width_ns = 1ULL << shift;

	/* Not the very last ones: a request that comes just now may be in the next bucket. */
	for (uint32_t back = AGE_BUCKETS - 4; back > 0; back--)
		if (__atomic_load_n(
			    &slot->ages[(now - back) & (AGE_BUCKETS - 1)], __ATOMIC_RELAXED) != 0)
			return (uint64_t)back * width_ns + (now_ns & (width_ns - 1)) - width_ns / 2;
	return 0;
}

uint32_t slot_age_shift(uint64_t target_ns)
{
	uint32_t shift = 10;

	if (!target_ns)
		return AGE_SHIFT_DEFAULT;
	while (shift < 34 && (uint64_t)AGE_BUCKETS << shift < 4 * target_ns)
		shift++;
	return shift;
}

bool probes_sees_requests(const struct probes *probes)
{
	return probes->request != NULL;
}

int probes_event_fd(const struct probes *probes)
{
	return probes->ring ? ring_buffer__epoll_fd(probes->ring) : -1;
}

void probes_set_handler(struct probes *probes, probes_event_handler handler, void *context)
{
	probes->handler = handler;
	probes->context = context;
}

int probes_consume(struct probes *probes)
{
	return probes->ring ? ring_buffer__consume(probes->ring) : 0;
}

int probes_throttle_fd(const struct probes *probes)
{
	return probes->throttles ? ring_buffer__epoll_fd(probes->throttles) : -1;
}

void probes_set_throttle_handler(
	struct probes *probes, probes_throttle_handler handler, void *context)
{
	probes->throttle_handler = handler;
	probes->throttle_context = context;
}

int probes_consume_throttles(struct probes *probes)
{
	return probes->throttles ? ring_buffer__consume(probes->throttles) : 0;
}

uint64_t probes_events_lost(const struct probes *probes)
{
	return probes->control ? probes->control->events_lost : 0;
}

uint64_t probes_switches_lost(const struct probes *probes)
{
	return probes->control ? probes->control->switches_lost : 0;
}
