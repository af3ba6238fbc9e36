// SPDX-License-Identifier: Apache-2.0
/*
 * measure: the agent's probes without the agent, for benches. Commands and answers are those of
 * commands.h: {...} or {"error": "..."}. Everything it made is gone when it ends.
 *
 * With --in PATH COMMAND... it joins that cgroup and becomes the command instead.
 */
#include "bench/commands.h"
#include "common/descriptors.h"
#include "common/histogram.h"
#include "node/probes/detail.h"
#include "node/probes/probes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define UNITS_MAX	65536
#define SLOTS_DEFAULT	64
#define EMPTY_LINKS_MAX 16

struct measured {
	char path[CGROUP_PATH_MAX];
	struct probes_attachment attachment;
	struct slot mark; /* what the slot held when counting began */
};

struct session {
	struct cgroup_driver driver;
	struct probes *probes;
	struct measured *units[UNITS_MAX];
	size_t unit_count;
	int stats_fd; /* holds kernel.bpf_stats_enabled up */
	struct bpf_object *empty;
	struct bpf_link *empty_links[EMPTY_LINKS_MAX];
	size_t empty_count;
};

static const char usage[] =
	"Usage: measure < COMMANDS\n"
	"       measure --in CGROUP COMMAND [ARGUMENT]...\n"
	"Commands, each answered by a line of JSON:\n"
	"  open [SLOTS]      load the probes          close          detach all, unload\n"
	"  create PATH       make a cgroup            remove PATH    remove it\n"
	"  attach PATH       measure it               detach PATH    no longer\n"
	"  follow PATH RATE  in detail as many requests as the agent would of RATE a second\n"
	"  mark PATH         count from now on        slot PATH      what was counted since\n"
	"  control           counters of losses       maps           the maps, entries, bytes\n"
	"  maps-of PID       the same of another process\n"
	"  programs          runs and ns (stats on)   stats on|off   kernel.bpf_stats_enabled\n"
	"  empty OBJECT PATH attach an object of empty programs; PATH is for cgroup programs\n"
	"  full              detach and unload the empty ones\n";

static json_t *result(const char *what, const char *name, int err)
{
	return err ? command_failure(what, name, err) : json_object();
}

static struct measured *measured_find(const struct session *session, const char *path)
{
	for (size_t i = 0; i < session->unit_count; i++)
		if (strcmp(session->units[i]->path, path) == 0)
			return session->units[i];
	return NULL;
}

static void measured_drop(struct session *session, struct measured *unit)
{
	if (session->probes)
		probes_detach(session->probes, &unit->attachment);
	for (size_t i = 0; i < session->unit_count; i++)
		if (session->units[i] == unit)
			session->units[i] = session->units[--session->unit_count];
	free(unit);
}

static json_t *command_attach(struct session *session, const char *path)
{
	struct measured *unit;
	int err;

	if (!session->probes)
		return command_failure("attach", path, -ENODEV);
	if (session->unit_count == UNITS_MAX)
		return command_failure("attach", path, -ENOSPC);
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return command_failure("attach", path, -ENOMEM);
	snprintf(unit->path, sizeof(unit->path), "%s", path);
	err = probes_attach(session->probes, path, &unit->attachment);
	if (err) {
		free(unit);
		return command_failure("attach", path, err);
	}
	session->units[session->unit_count++] = unit;
	return json_pack("{s:i}", "slot", (int)unit->attachment.slot);
}

static json_t *command_detach(struct session *session, const char *path)
{
	struct measured *unit = measured_find(session, path);

	if (!unit)
		return command_failure("detach", path, -ENOENT);
	measured_drop(session, unit);
	return json_object();
}

/* Counters that only grow: told as what was added since the mark. */
#define SLOT_COUNTERS(X)                                                                           \
	X(cpu_used_ns)                                                                             \
	X(run_queue_ns)                                                                            \
	X(switches)                                                                                \
	X(requests)                                                                                \
	X(requests_over)                                                                           \
	X(requests_failed)                                                                         \
	X(client_errors)                                                                           \
	X(server_errors)                                                                           \
	X(breakdowns)                                                                              \
	X(calls)                                                                                   \
	X(calls_failed)                                                                            \
	X(calls_errors)

static void quantiles_set(json_t *object, const uint32_t counts[HIST_BUCKETS])
{
	static const struct {
		const char *name;
		double quantile;
	} asked[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		json_object_set_new(object, asked[i].name,
			json_real(histogram_quantile_us(counts, asked[i].quantile)));
}

/* [[first value, count], ...] of the buckets that hold something. */
static json_t *buckets_json(const uint32_t counts[HIST_BUCKETS])
{
	json_t *buckets = json_array();

	for (uint32_t i = 0; i < HIST_BUCKETS; i++)
		if (counts[i])
			json_array_append_new(
				buckets, json_pack("[I,I]", (json_int_t)hist_lower_us(i),
						 (json_int_t)counts[i]));
	return buckets;
}

static json_t *histogram_json(const uint32_t now[HIST_BUCKETS], const uint32_t mark[HIST_BUCKETS])
{
	uint32_t before[HIST_BUCKETS], delta[HIST_BUCKETS];
	json_t *object = json_object();

	memcpy(before, mark, sizeof(before));
	histogram_take_delta(now, before, delta);
	json_object_set_new(object, "count", json_integer((json_int_t)histogram_count(delta)));
	quantiles_set(object, delta);
	json_object_set_new(object, "buckets", buckets_json(delta));
	return object;
}

/* Until it is told otherwise it follows all. */
static json_t *command_follow(struct session *session, const char *path, const char *rate)
{
	struct measured *unit = measured_find(session, path);
	struct trace_choice nothing = {0};

	if (!unit)
		return command_failure("follow", path, -ENOENT);
	probes_slot(session->probes, unit->attachment.slot)->detail_mask =
		detail_mask(strtod(rate, NULL), &nothing, DETAIL_FULL);
	return json_object();
}

static json_t *command_mark(struct session *session, const char *path)
{
	struct measured *unit = measured_find(session, path);
	int err;

	if (!unit)
		return command_failure("mark", path, -ENOENT);
	err = probes_refresh(session->probes);
	if (!err)
		unit->mark = *probes_slot(session->probes, unit->attachment.slot);
	return result("mark", path, err);
}

static json_t *command_slot(struct session *session, const char *path)
{
	struct measured *unit = measured_find(session, path);
	const struct slot *mark;
	struct slot now;
	json_t *object;
	int err;

	if (!unit)
		return command_failure("slot", path, -ENOENT);
	err = probes_refresh(session->probes);
	if (err)
		return command_failure("slot", path, err);
	now = *probes_slot(session->probes, unit->attachment.slot);
	mark = &unit->mark;
	object = json_object();
#define SET(field)                                                                                 \
	json_object_set_new(object, #field, json_integer((json_int_t)(now.field - mark->field)));
	SLOT_COUNTERS(SET)
#undef SET
	json_object_set_new(object, "in_flight", json_integer(slot_in_flight(&now)));
	json_object_set_new(object, "latency", histogram_json(now.latency, mark->latency));
	json_object_set_new(object, "run_queue", histogram_json(now.run_queue, mark->run_queue));
	return object;
}

typedef void (*bpf_fd_visitor)(int fd, void *context);

/* Every descriptor of this process that is a @kind ("bpf-map", "bpf-prog"). */
static int bpf_fds_visit(const char *kind, bpf_fd_visitor visit, void *context)
{
	DIR *stream = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!stream)
		return -errno;
	while ((entry = readdir(stream))) {
		char name[PATH_MAX], target[64] = "";

		snprintf(name, sizeof(name), "/proc/self/fd/%s", entry->d_name);
		if (readlink(name, target, sizeof(target) - 1) > 0 && strstr(target, kind))
			visit(atoi(entry->d_name), context);
	}
	closedir(stream);
	return 0;
}

static void program_visit(int fd, void *context)
{
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		return;
	json_object_set_new(context, info.name,
		json_pack("{s:i,s:I,s:I,s:i}", "id", (int)info.id, "runs", (json_int_t)info.run_cnt,
			"ns", (json_int_t)info.run_time_ns, "jited_bytes",
			(int)info.jited_prog_len));
}

/* What the kernel charges for a map, from the descriptor's own file. */
static long long map_bytes(int fd)
{
	char name[64], line[128];
	long long bytes = -1;
	FILE *file;

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	file = fopen(name, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "memlock:", 8) == 0)
			bytes = strtoll(line + 8, NULL, 10);
	fclose(file);
	return bytes;
}

static long long map_entries(int fd, const struct bpf_map_info *info)
{
	char key[64], next[64];
	long long count = 0;

	if ((info->type != BPF_MAP_TYPE_HASH && info->type != BPF_MAP_TYPE_LRU_HASH) ||
		info->key_size > sizeof(key))
		return -1;
	for (int err = bpf_map_get_next_key(fd, NULL, next); !err && count <= info->max_entries;
		err = bpf_map_get_next_key(fd, key, next)) {
		memcpy(key, next, sizeof(key));
		count++;
	}
	return count;
}

static void map_visit(int fd, void *context)
{
	struct bpf_map_info info = {0};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		return;
	json_object_set_new(context, info.name,
		json_pack("{s:i,s:i,s:i,s:I,s:I}", "type", (int)info.type, "value_bytes",
			(int)info.value_size, "max_entries", (int)info.max_entries, "entries",
			(json_int_t)map_entries(fd, &info), "bytes", (json_int_t)map_bytes(fd)));
}

/* The maps of another process, by the ids that its descriptors' files tell. */
static int maps_of_visit(const char *pid, json_t *object)
{
	char name[PATH_MAX], line[128];
	struct dirent *entry;
	DIR *stream;

	snprintf(name, sizeof(name), "/proc/%s/fdinfo", pid);
	stream = opendir(name);
	if (!stream)
		return -errno;
	while ((entry = readdir(stream))) {
		FILE *file;
		int fd = -1;

		snprintf(name, sizeof(name), "/proc/%s/fdinfo/%s", pid, entry->d_name);
		file = fopen(name, "re");
		while (file && fd < 0 && fgets(line, sizeof(line), file))
			if (strncmp(line, "map_id:", 7) == 0)
				fd = bpf_map_get_fd_by_id((__u32)strtoul(line + 7, NULL, 10));
		if (file)
			fclose(file);
		if (fd < 0)
			continue;
		map_visit(fd, object);
		close(fd);
	}
	closedir(stream);
	return 0;
}

static json_t *command_maps_of(const char *pid)
{
	json_t *object = json_object();
	int err = maps_of_visit(pid, object);

	if (!err)
		return object;
	json_decref(object);
	return command_failure("maps-of", pid, err);
}

static void control_visit(int fd, void *context)
{
	struct bpf_map_info info = {0};
	struct slot_control control;
	__u32 size = sizeof(info), zero = 0;

	if (bpf_obj_get_info_by_fd(fd, &info, &size) || strcmp(info.name, "slot_control") != 0 ||
		info.value_size != sizeof(control) || bpf_map_lookup_elem(fd, &zero, &control))
		return;
#define SET(field) json_object_set_new(context, #field, json_integer((json_int_t)control.field))
	SET(events_lost);
	SET(switches_lost);
	SET(connections_lost);
	SET(requests_untracked);
#undef SET
}

static json_t *command_visit(const char *what, const char *kind, bpf_fd_visitor visit)
{
	json_t *object = json_object();
	int err = bpf_fds_visit(kind, visit, object);

	if (!err)
		return object;
	json_decref(object);
	return command_failure(what, NULL, err);
}

static json_t *command_stats(struct session *session, const char *state)
{
	if (session->stats_fd >= 0)
		close(session->stats_fd);
	session->stats_fd = -1;
	if (strcmp(state, "on") != 0)
		return json_object();
	session->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	return result("stats", state, session->stats_fd < 0 ? -errno : 0);
}

static void empty_close(struct session *session)
{
	while (session->empty_count > 0)
		bpf_link__destroy(session->empty_links[--session->empty_count]);
	bpf_object__close(session->empty);
	session->empty = NULL;
}

static int empty_open(struct session *session, const char *object, const char *path)
{
	char directory[2 * CGROUP_PATH_MAX];
	struct bpf_program *program;
	struct bpf_link *link;
	int fd, err = 0;

	empty_close(session);
	snprintf(directory, sizeof(directory), "%s%s", session->driver.unified_root, path);
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	session->empty = bpf_object__open_file(object, NULL);
	err = (int)libbpf_get_error(session->empty);
	if (err)
		session->empty = NULL;
	else
		err = bpf_object__load(session->empty);
	if (err)
		goto out;
	bpf_object__for_each_program (program, session->empty) {
		bool is_cgroup = strncmp(bpf_program__section_name(program), "cgroup", 6) == 0;

		if (session->empty_count == EMPTY_LINKS_MAX)
			break;
		link = is_cgroup ? bpf_program__attach_cgroup(program, fd)
				 : bpf_program__attach(program);
		err = (int)libbpf_get_error(link);
		if (err)
			break;
		session->empty_links[session->empty_count++] = link;
	}
out:
	close(fd);
	if (err)
		empty_close(session);
	return err;
}

static void session_close(struct session *session)
{
	while (session->unit_count > 0)
		measured_drop(session, session->units[0]);
	probes_close(session->probes);
	session->probes = NULL;
	empty_close(session);
}

static json_t *command_open(struct session *session, const char *slots)
{
	uint32_t max_slots = slots ? (uint32_t)strtoul(slots, NULL, 10) : SLOTS_DEFAULT;
	char error[512] = "";

	if (session->probes)
		return command_failure("open", NULL, -EBUSY);
	if (max_slots < 1 || max_slots > UNITS_MAX)
		return command_failure("open", slots, -ERANGE);
	if (probes_open(&session->probes, &session->driver, max_slots, error, sizeof(error))) {
		session->probes = NULL;
		return json_pack("{s:s}", "error", error);
	}
	return json_object();
}

static json_t *command_run(void *context, const char *name, const char *a, const char *b)
{
	struct session *session = context;
	const struct cgroup_driver *driver = &session->driver;

	if (strcmp(name, "open") == 0)
		return command_open(session, a);
	if (strcmp(name, "close") == 0)
		return session_close(session), json_object();
	if (strcmp(name, "control") == 0)
		return command_visit(name, "bpf-map", control_visit);
	if (strcmp(name, "maps") == 0)
		return command_visit(name, "bpf-map", map_visit);
	if (strcmp(name, "programs") == 0)
		return command_visit(name, "bpf-prog", program_visit);
	if (strcmp(name, "full") == 0)
		return empty_close(session), json_object();
	if (!a)
		return command_failure(
			"no such command, or its argument is missing:", name, -EINVAL);
	if (strcmp(name, "maps-of") == 0)
		return command_maps_of(a);
	if (strcmp(name, "create") == 0)
		return result(name, a, cgroup_create(driver, a));
	if (strcmp(name, "remove") == 0)
		return result(name, a, cgroup_remove(driver, a));
	if (strcmp(name, "attach") == 0)
		return command_attach(session, a);
	if (strcmp(name, "detach") == 0)
		return command_detach(session, a);
	if (strcmp(name, "follow") == 0 && b)
		return command_follow(session, a, b);
	if (strcmp(name, "mark") == 0)
		return command_mark(session, a);
	if (strcmp(name, "slot") == 0)
		return command_slot(session, a);
	if (strcmp(name, "stats") == 0)
		return command_stats(session, a);
	if (strcmp(name, "empty") == 0 && b)
		return result(name, a, empty_open(session, a, b));
	return command_failure("no such command, or its argument is missing:", name, -EINVAL);
}

static int become(const struct cgroup_driver *driver, char **arguments)
{
	int err = cgroup_add_process(driver, arguments[0], 0);

	if (err) {
		fprintf(stderr, "measure: cannot join cgroup %s: %s\n", arguments[0],
			strerror(-err));
		return EXIT_FAILURE;
	}
	/* With whoever started it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execvp(arguments[1], arguments + 1);
	fprintf(stderr, "measure: cannot run %s: %s\n", arguments[1], strerror(errno));
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct session session = {.stats_fd = -1};

	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	if (cgroup_driver_detect(&session.driver, "/sys/fs/cgroup")) {
		fputs("measure: no cgroup v2 and no hybrid layout at /sys/fs/cgroup\n", stderr);
		return EXIT_FAILURE;
	}
	if (argc > 3 && strcmp(argv[1], "--in") == 0)
		return become(&session.driver, argv + 2);
	if (argc > 1) {
		fprintf(stderr, "measure: \"%s\" is not an option. Try --help.\n", argv[1]);
		return 2;
	}
	/* Two links a cgroup. */
	(void)descriptors_allow(1 << 20);
	commands_serve(command_run, &session);
	session_close(&session);
	return EXIT_SUCCESS;
}
