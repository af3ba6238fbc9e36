// SPDX-License-Identifier: Apache-2.0
#include "node/probes/probes.h"

#include "cpu.skel.h"
#include "memory.skel.h"
#include "request.skel.h"
#include "request_5_10.skel.h"
#include "socket.skel.h"

#include "common/log.h"
#include "node/probes/probes_load.h"

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
/* The slots are mapped in pieces, as they are given out: what is mapped counts as resident. */
#define SLOTS_PIECE_BYTES (256U << 10)
/* Of the ring of events, emptied every 50 ms: some 800. It is mapped twice, and counts so. */
#define EVENTS_BYTES (256U << 10)
/* How many slots one run of the snapshot program copies; SNAPSHOT_SLOTS in cpu.bpf.c. */
#define SNAPSHOT_SLOTS 64

struct probes {
	const struct cgroup_driver *driver;
	struct cpu *cpu;
	struct memory *memory;
	/* One of the two: kernels before 5.17 have no bpf_loop(). */
	struct request *request;
	struct request_5_10 *request_5_10;
	struct bpf_object *requests; /* of that one */
	struct socket *socket;
	struct ring_buffer *ring;
	struct ring_buffer *throttles;
	probes_event_handler handler;
	void *context;
	probes_throttle_handler throttle_handler;
	void *throttle_context;

	struct slot *slots; /* an address for each; memory up to slots_mapped */
	size_t slots_bytes;
	size_t slots_mapped;
	struct slot_control *control;
	uint32_t max_slots;
	uint32_t used_slots; /* highest slot given out, plus one */
	uint8_t *taken;

	bool has_task_storage;
	bool has_loop;
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

/* Each map belongs to the first object that has it; @object takes what is there. -1 with errno. */
static int maps_share(const struct probes *probes, struct bpf_object *object)
{
	struct bpf_object *const earlier[] = {
		probes->cpu->obj, probes->requests == object ? NULL : probes->requests};
	struct bpf_map *from, *to;

	for (size_t i = 0; i < sizeof(earlier) / sizeof(earlier[0]) && earlier[i]; i++) {
		bpf_object__for_each_map (from, earlier[i]) {
			to = bpf_map__is_internal(from)
				     ? NULL
				     : bpf_object__find_map_by_name(object, bpf_map__name(from));
			if (!to)
				continue;
			if (bpf_map__fd(from) < 0)
				(void)bpf_map__set_autocreate(to, false);
			else if (bpf_map__reuse_fd(to, bpf_map__fd(from)))
				return -1;
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

static struct bpf_object_skeleton *cpu_prepare(void *context)
{
	struct probes *probes = context;

	probes->cpu = cpu__open();
	if (!probes->cpu)
		return NULL;
	SET_HIERARCHIES(probes->cpu, probes->driver->layout);
	probes->cpu->rodata->cpus = (__u32)probes->cpus;
	bpf_map__set_max_entries(probes->cpu->maps.slots, probes->max_slots);
	bpf_map__set_max_entries(probes->cpu->maps.slot_index, probes->max_slots * 3);
	bpf_map__set_max_entries(probes->cpu->maps.events, EVENTS_BYTES);
	if (!probes->has_task_storage)
		(void)bpf_map__set_autocreate(probes->cpu->maps.followed, false);
	return probes->cpu->skeleton;
}

static void cpu_close(void *context)
{
	struct probes *probes = context;

	cpu__destroy(probes->cpu);
	probes->cpu = NULL;
}

static void memory_close(void *context)
{
	struct probes *probes = context;

	memory__destroy(probes->memory);
	probes->memory = NULL;
}

static struct bpf_object_skeleton *memory_prepare(void *context)
{
	struct probes *probes = context;

	probes->memory = memory__open();
	if (!probes->memory)
		return NULL;
	SET_HIERARCHIES(probes->memory, probes->driver->layout);
	if (maps_share(probes, probes->memory->obj)) {
		memory_close(probes);
		return NULL;
	}
	return probes->memory->skeleton;
}

static void request_close(void *context)
{
	struct probes *probes = context;

	request__destroy(probes->request);
	request_5_10__destroy(probes->request_5_10);
	probes->request = NULL;
	probes->request_5_10 = NULL;
	probes->requests = NULL;
}

static struct bpf_object_skeleton *request_prepare(void *context)
{
	struct bpf_object_skeleton *skeleton;
	struct probes *probes = context;

	if (probes->has_loop) {
		probes->request = request__open();
		if (!probes->request)
			return NULL;
		SET_HIERARCHIES(probes->request, probes->driver->layout);
		probes->requests = probes->request->obj;
		skeleton = probes->request->skeleton;
	} else {
		probes->request_5_10 = request_5_10__open();
		if (!probes->request_5_10)
			return NULL;
		SET_HIERARCHIES(probes->request_5_10, probes->driver->layout);
		probes->requests = probes->request_5_10->obj;
		skeleton = probes->request_5_10->skeleton;
	}
	if (maps_share(probes, probes->requests)) {
		request_close(probes);
		return NULL;
	}
	return skeleton;
}

static void socket_close(void *context)
{
	struct probes *probes = context;

	socket__destroy(probes->socket);
	probes->socket = NULL;
}

static struct bpf_object_skeleton *socket_prepare(void *context)
{
	struct probes *probes = context;

	if (!probes->requests) {
		errno = ENOTCONN;
		return NULL;
	}
	probes->socket = socket__open();
	if (!probes->socket)
		return NULL;
	SET_HIERARCHIES(probes->socket, probes->driver->layout);
	if (maps_share(probes, probes->socket->obj)) {
		socket_close(probes);
		return NULL;
	}
	return probes->socket->skeleton;
}

static const char *const cpu_required[] = {
	"cpu_switch", "cpu_settle", "cpu_snapshot", "cpu_look", NULL};
static const char *const memory_required[] = {NULL};
static const char *const request_required[] = {"request_ingress", "request_egress", NULL};
static const char *const socket_required[] = {NULL};

static int object_load(struct probes *probes, const struct btf *kernel,
	const struct probes_object *object, struct probes_program **programs, size_t *count)
{
	int err;

	*programs = &probes->programs[probes->program_count];
	err = probes_load(object, kernel, *programs, PROGRAMS_MAX - probes->program_count, count);
	probes->program_count += *count;
	return err;
}

/* Without these nothing is measured, so the first that is refused is the agent's error. */
static int cpu_load(struct probes *probes, const struct btf *kernel, char *error, size_t error_size)
{
	const struct probes_object object = {"cpu", cpu_prepare, cpu_close, probes, cpu_required};
	struct probes_program *programs;
	const char *name = "cpu.bpf.o", *reason;
	size_t count;
	int err = object_load(probes, kernel, &object, &programs, &count);

	if (!err)
		return 0;
	reason = strerror(-err);
	for (size_t i = count; i > 0; i--) {
		if (programs[i - 1].reason[0]) {
			name = programs[i - 1].name;
			reason = programs[i - 1].reason;
		}
	}
	snprintf(error, error_size,
		"cannot load the BPF programs (%s: %s): run as root or with CAP_BPF and "
		"CAP_PERFMON on a kernel of 5.10 or later; --log-level debug shows libbpf's words",
		name, reason);
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

/* A signal that cannot be had degrades alone: its programs carry the reason, the agent runs. */
static void signals_load(struct probes *probes, const struct btf *kernel)
{
	const struct probes_object objects[] = {
		{"memory", memory_prepare, memory_close, probes, memory_required},
		{"request", request_prepare, request_close, probes, request_required},
		{"socket", socket_prepare, socket_close, probes, socket_required},
	};

	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		struct probes_program *programs;
		size_t count;
		int err = object_load(probes, kernel, &objects[i], &programs, &count);

		if (!err)
			continue;
		for (size_t j = 0; j < count; j++) {
			programs[j].replaced_by = NULL;
			if (!programs[j].reason[0])
				snprintf(programs[j].reason, sizeof(programs[j].reason),
					"%s.bpf.o does not load: %s", objects[i].name,
					strerror(-err));
		}
		log_warning("bpf=%s error=\"%s\" effect=\"this signal is off; see ebbctl "
			    "status\"",
			objects[i].name, strerror(-err));
	}
	for (size_t i = 0; i < probes->program_count; i++)
		if (probes->programs[i].reason[0] && !probes->programs[i].replaced_by)
			log_notice("program=%s off=\"%s\"", probes->programs[i].name,
				probes->programs[i].reason);
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

static int slots_map(struct probes *probes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory;

	probes->slots_bytes =
		((size_t)probes->max_slots * sizeof(struct slot) + page - 1) & ~(page - 1);
	memory = mmap(NULL, probes->slots_bytes, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

int probes_open(struct probes **out, const struct cgroup_driver *driver, uint32_t max_slots,
	char *error, size_t error_size)
{
	struct probes *probes = calloc(1, sizeof(*probes));
	struct btf *btf = NULL;
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
	probes->has_task_storage = probes_kernel_has(btf, PROBES_TASK_STORAGE);
	probes->has_loop = probes_kernel_has(btf, PROBES_LOOP);
	err = cpu_load(probes, btf, error, error_size);
	if (err)
		goto out;
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
	signals_load(probes, btf);
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
	socket_close(probes);
	request_close(probes);
	memory_close(probes);
	if (probes->slots)
		munmap(probes->slots, probes->slots_bytes);
	if (probes->control)
		munmap(probes->control, (size_t)sysconf(_SC_PAGESIZE));
	cpu_close(probes);
	free(probes->taken);
	free(probes);
}

const struct probes_program *probes_programs(const struct probes *probes, size_t *count)
{
	*count = probes->program_count;
	return probes->programs;
}

int probes_program_fd(const struct probes *probes, const char *name)
{
	const struct bpf_object *const objects[] = {probes->cpu->obj,
		probes->memory ? probes->memory->obj : NULL,
		probes->request ? probes->request->obj : NULL,
		probes->socket ? probes->socket->obj : NULL};

	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		const struct bpf_program *program =
			objects[i] ? bpf_object__find_program_by_name(objects[i], name) : NULL;

		if (program)
			return bpf_program__fd(program);
	}
	return -ENOENT;
}

/* Memory behind the slots up to @slot. */
static int slots_map_until(struct probes *probes, uint32_t slot)
{
	size_t end = (slot + (size_t)1) * sizeof(struct slot);

	if (end <= probes->slots_mapped)
		return 0;
	end = (end + SLOTS_PIECE_BYTES - 1) / SLOTS_PIECE_BYTES * SLOTS_PIECE_BYTES;
	if (end > probes->slots_bytes)
		end = probes->slots_bytes;
	if (mmap((char *)probes->slots + probes->slots_mapped, end - probes->slots_mapped,
		    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    bpf_map__fd(probes->cpu->maps.slots),
		    (off_t)probes->slots_mapped) == MAP_FAILED)
		return -errno;
	probes->slots_mapped = end;
	return 0;
}

static uint32_t slot_take(struct probes *probes)
{
	uint32_t epoch;

	for (uint32_t i = 0; i < probes->max_slots; i++) {
		if (probes->taken[i])
			continue;
		if (slots_map_until(probes, i))
			return SLOT_NONE;
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

bool probes_have_room(const struct probes *probes)
{
	return memchr(probes->taken, 0, probes->max_slots) != NULL;
}

static void generation_raise(struct probes *probes)
{
	__atomic_add_fetch(&probes->control->generation, 1, __ATOMIC_SEQ_CST);
}

static int requests_attach(
	struct probes *probes, const char *path, struct probes_attachment *attachment)
{
	char directory[2 * CGROUP_PATH_MAX];
	static const char *const names[PROBES_LINKS] = {
		"request_ingress", "request_egress", "request_release"};
	int err = 0, fd;

	snprintf(directory, sizeof(directory), "%s%s", probes->driver->unified_root, path);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < PROBES_LINKS && !err; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(probes->requests, names[i]);
		struct bpf_link *link;

		if (!bpf_program__autoload(program))
			continue;
		link = bpf_program__attach_cgroup(program, fd);
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
	if (!err && probes->requests)
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

	if (slot_in_flight(slot) <= 0)
		return 0;
	/* Not the very last ones: a request that comes just now may be in the next bucket. */
	for (uint32_t back = AGE_BUCKETS - 4; back > 0; back--)
		if (slot_in_flight_of(slot, now - back) != 0)
			return (uint64_t)back * width_ns + (now_ns & (width_ns - 1)) - width_ns / 2;
	return 0;
}

bool probes_sees_requests(const struct probes *probes)
{
	return probes->requests != NULL;
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
	/* The map's own: libbpf's would be an epoll within the reflex's, and dearer to wake by. */
	return probes->throttles ? bpf_map__fd(probes->cpu->maps.throttles) : -1;
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

uint64_t probes_connections_lost(const struct probes *probes)
{
	return probes->control ? probes->control->connections_lost : 0;
}

uint64_t probes_requests_untracked(const struct probes *probes)
{
	return probes->control ? probes->control->requests_untracked : 0;
}
