// SPDX-License-Identifier: Apache-2.0
/*
 * Limits in and out. The owner's limits are kept on disk before the first change, so that an agent
 * that was killed still knows them; they are written back when it leaves.
 */
#include "common/log.h"
#include "common/memory_limit.h"
#include "node/limits/pressure.h"
#include "node/limits/reserve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ORIGINALS_FILE "originals.json"
/* At the files of a container that no task has run in since it was found. */
#define TICKS_BETWEEN_LOOKS 8

int64_t actuate_memory_limit(const struct cgroup_limits *limits)
{
	return limits->memory_high_bytes > 0 ? limits->memory_high_bytes : limits->memory_max_bytes;
}

static json_t *original_to_json(const struct container *container, uint64_t cpu_id)
{
	const struct cgroup_limits *limits = &container->original;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "cgroup_id",
		(json_int_t)cpu_id, "cpu_quota_us", (json_int_t)limits->cpu_quota_us,
		"cpu_period_us", (json_int_t)limits->cpu_period_us, "cpu_burst_us",
		(json_int_t)limits->cpu_burst_us, "memory_max_bytes",
		(json_int_t)limits->memory_max_bytes, "memory_high_bytes",
		(json_int_t)limits->memory_high_bytes, "cpu_weight", (json_int_t)limits->cpu_weight,
		"pod_cpu_weight", (json_int_t)container->reserve.pod_weight_original,
		"declared_cpu_millicores", container->declared.cpu_millicores,
		"declared_memory_bytes", container->declared.memory_bytes);
}

bool actuate_read_kept(const json_t *kept, uint64_t cpu_id, struct container *container)
{
	struct cgroup_limits *limits = &container->original;
	json_int_t id, quota, period, burst, maximum, high;
	/* An earlier version kept none, and changed none. */
	json_int_t weight = container->current.cpu_weight,
		   pod_weight = container->reserve.pod_weight;
	struct declared declared = {0};

	if (json_unpack((json_t *)kept, "{s:I, s:I, s:I, s:I, s:I, s:I, s?:I, s?:I, s?:F, s?:F}",
		    "cgroup_id", &id, "cpu_quota_us", &quota, "cpu_period_us", &period,
		    "cpu_burst_us", &burst, "memory_max_bytes", &maximum, "memory_high_bytes",
		    &high, "cpu_weight", &weight, "pod_cpu_weight", &pod_weight,
		    "declared_cpu_millicores", &declared.cpu_millicores, "declared_memory_bytes",
		    &declared.memory_bytes))
		return false;
	/* The path may have been reused by another cgroup. */
	if ((uint64_t)id != cpu_id || period <= 0)
		return false;
	limits->cpu_quota_us = quota;
	limits->cpu_period_us = period;
	limits->cpu_burst_us = burst;
	limits->memory_max_bytes = maximum;
	limits->memory_high_bytes = high;
	limits->cpu_weight = weight;
	container->reserve.pod_weight_original = pod_weight;
	container->declared = declared;
	return true;
}

int actuate_load(struct agent *agent)
{
	char path[512];
	json_error_t error;

	snprintf(path, sizeof(path), "%s/%s", agent->config.state_directory, ORIGINALS_FILE);
	agent->originals = json_load_file(path, 0, &error);
	if (!json_is_object(agent->originals)) {
		if (access(path, F_OK) == 0)
			log_warning(
				"file=%s line=%d error=\"%s\" effect=\"limits found now are taken "
				"for the owners'\"",
				path, error.line, error.text);
		json_decref(agent->originals);
		agent->originals = json_object();
	}
	return agent->originals ? 0 : -ENOMEM;
}

int actuate_save(struct agent *agent)
{
	char path[512], temporary[520];

	if (!agent->originals_changed)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", agent->config.state_directory, ORIGINALS_FILE);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	if (json_object_size(agent->originals) == 0) {
		if (unlink(path) != 0 && errno != ENOENT)
			return -errno;
		agent->originals_changed = false;
		return 0;
	}
	if (json_dump_file(agent->originals, temporary, JSON_INDENT(1)) != 0 ||
		rename(temporary, path) != 0) {
		log_warning("file=%s error=\"%s\" effect=\"a killed agent would not know the "
			    "owners' limits\"",
			path, strerror(errno));
		return -EIO;
	}
	agent->originals_changed = false;
	return 0;
}

void actuate_keep_original(struct agent *agent, const struct container *container)
{
	agent->originals_changed = true;
	json_object_set_new(agent->originals, container->path,
		original_to_json(
			container, probes_slot(agent->probes, container->attachment.slot)->cpu_id));
}

int actuate_adopt(struct agent *agent, struct container *container)
{
	uint64_t cpu_id = probes_slot(agent->probes, container->attachment.slot)->cpu_id;
	struct container_reserve *reserve = &container->reserve;
	int err = cgroup_read_limits(&agent->driver, container->path, &container->current);
	char pod_path[CGROUP_PATH_MAX];

	if (err)
		return err;
	if (!reserve_pod_path(container, pod_path, sizeof(pod_path)) ||
		cgroup_read_cpu_weight(&agent->driver, pod_path, &reserve->pod_weight))
		reserve->pod_weight = CGROUP_UNLIMITED;
	if (actuate_read_kept(
		    json_object_get(agent->originals, container->path), cpu_id, container))
		return 0;
	container->original = container->current;
	reserve->pod_weight_original = reserve->pod_weight;
	if (reserve->pod_weight > 0 && reserve_pod_original(agent->originals, pod_path) > 0)
		reserve->pod_weight_original = reserve_pod_original(agent->originals, pod_path);
	actuate_keep_original(agent, container);
	return 0;
}

void actuate_forget_restored(struct agent *agent)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		for (size_t k = 0; k < agent->units.items[i]->container_count; k++) {
			struct container *one = agent->units.items[i]->containers[k];

			/* The pod's spec says another limit still: for the next agent. */
			if (one->resize.known && !resize_spec_is_declared(&one->resize.spec))
				continue;
			actuate_forget(agent, one);
			resize_forget(agent, one);
		}
	}
}

void actuate_close(struct container *container)
{
	cgroup_close_limits(&container->limit_files);
}

void actuate_forget(struct agent *agent, struct container *container)
{
	actuate_close(container);
	if (json_object_del(agent->originals, container->path) == 0)
		agent->originals_changed = true;
}

/* An unchanged value is never written: every write of a quota or a burst is a refill. */
static int write_cpu(struct agent *agent, struct container *container, int64_t quota_us,
	int64_t period_us, int64_t burst_us)
{
	struct cgroup_limits *ours = &container->current;
	const struct cgroup_limits before = *ours;
	int64_t lowered_us;
	bool looked;
	int err;

	if (quota_us == before.cpu_quota_us && period_us == before.cpu_period_us &&
		(burst_us < 0 || before.cpu_burst_us < 0 || burst_us == before.cpu_burst_us))
		return 0;
	(void)actuate_save(agent);
	looked = reflex_hold(agent->reflex, container->attachment.slot);
	/* The reflex may have lowered it for the rest of the period: what is there is not ours. */
	lowered_us =
		reflex_quota_us(agent->reflex, container->attachment.slot, before.cpu_quota_us);
	ours->cpu_quota_us = lowered_us;
	err = cgroup_change_cpu(&agent->driver, container->path, &container->limit_files, ours,
		quota_us, period_us, burst_us);
	if (err && ours->cpu_quota_us == lowered_us)
		ours->cpu_quota_us = before.cpu_quota_us;
	reflex_release(agent->reflex, container->attachment.slot, ours);
	sample_note_change(agent, container, &before, looked);
	if (!err)
		agent->status.limit_writes++;
	return err;
}

/*
 * memory.high slows and reclaims, memory.max kills: on v2 only the first is ours to move. The kubelet
 * moves the second, so that a raise by us has to as well.
 */
bool actuate_moves_high(const struct agent *agent)
{
	return agent->driver.layout == CGROUP_LAYOUT_V2 && !agent->resizer;
}

int actuate_memory(struct agent *agent, struct container *container, int64_t bytes)
{
	bool high = actuate_moves_high(agent);
	int64_t page = sysconf(_SC_PAGESIZE);
	int err;

	bytes -= bytes % page;
	if (bytes == actuate_memory_limit(&container->current))
		return 0;
	(void)actuate_save(agent);
	err = cgroup_change_memory(
		&agent->driver, container->path, &container->limit_files, high, bytes);
	if (err)
		return err;
	if (high)
		container->current.memory_high_bytes = bytes;
	else
		container->current.memory_max_bytes = bytes;
	agent->status.limit_writes++;
	pressure_watch(agent, container);
	return 0;
}

/* With a quota from @lowest_us to @highest_us, where the kubelet is yet to move it. */
static int64_t burst_of(const struct container *container, const struct plan *plan,
	int64_t lowest_us, int64_t highest_us)
{
	return declared_burst_us(&container->original, plan->burst_us, lowest_us, highest_us);
}

static int64_t quota_of(const struct container *container, double cpu_millicores)
{
	const struct cgroup_limits *original = &container->original;
	double quota_us = cpu_millicores * (double)original->cpu_period_us / 1000;

	if (quota_us > (double)original->cpu_quota_us)
		return original->cpu_quota_us;
	return quota_us < ACTUATE_QUOTA_MIN_US ? ACTUATE_QUOTA_MIN_US : (int64_t)quota_us;
}

/* What the plan comes to on this container: the most its owner allows, the least its use allows. */
static void plan_limits(struct agent *agent, const struct container *container,
	const struct plan *plan, int64_t *quota_us, int64_t *memory_bytes)
{
	const struct cgroup_limits *original = &container->original;
	struct slot *slot = probes_slot(agent->probes, container->attachment.slot);
	double cpu_millicores = fmax(plan->cpu_millicores, starting_millicores(container));

	*quota_us = *memory_bytes = 0;
	/* A limit that the owner did not set is never added. */
	if (plan->cpu_millicores > 0 && !plan->reserves && original->cpu_quota_us > 0)
		*quota_us = quota_of(container, cpu_millicores);
	/* What a start takes is not known; where a limit kills, it is not guessed either. */
	if (plan->memory_bytes > 0 && original->memory_max_bytes > 0 && container->is_starting &&
		!actuate_moves_high(agent)) {
		*memory_bytes = original->memory_max_bytes;
	} else if (plan->memory_bytes > 0 && original->memory_max_bytes > 0) {
		/* Cold pages of files are given back, what is worked with is not. */
		uint64_t needed = container->memory_working_set_bytes
					  ? container->memory_working_set_bytes
					  : slot->memory_used_bytes;
		int64_t least =
			(int64_t)(actuate_moves_high(agent) && pressure_is_watched(container)
					  ? memory_high_floor_bytes(needed)
					  : memory_floor_bytes(needed));

		*memory_bytes = (int64_t)plan->memory_bytes;
		if (*memory_bytes < least)
			*memory_bytes = least;
		if (*memory_bytes > original->memory_max_bytes)
			*memory_bytes = original->memory_max_bytes;
	}
}

/* Only the burst, for a quota that the kubelet moves from what is in force to @quota_us, some time. */
static int write_burst(
	struct agent *agent, struct container *container, const struct plan *plan, int64_t quota_us)
{
	const struct cgroup_limits *ours = &container->current;
	int64_t now_us = ours->cpu_quota_us;

	if (container->original.cpu_quota_us <= 0)
		return 0;
	return write_cpu(agent, container, now_us, ours->cpu_period_us,
		burst_of(container, plan, now_us < quota_us ? now_us : quota_us,
			now_us > quota_us ? now_us : quota_us));
}

/* What it reserves where no container of the unit has an owner's CPU limit; 0: nothing. */
static double plan_request(const struct container *container, const struct plan *plan)
{
	return plan->reserves && unit_reserves(container->unit) ? plan->cpu_millicores : 0;
}

int actuate_container(struct agent *agent, struct container *container, const struct plan *plan)
{
	double request = plan_request(container, plan);
	int64_t quota_us, memory_bytes;
	int err = 0;

	plan_limits(agent, container, plan, &quota_us, &memory_bytes);
	if (agent->resizer) {
		resize_ask(agent, container, quota_us, request, memory_bytes);
		/* One that starts again does so on what the spec says, which is ours: not until then. */
		if (container->is_starting && container->current.memory_max_bytes > 0 &&
			memory_bytes > container->current.memory_max_bytes)
			(void)actuate_memory(agent, container, memory_bytes);
		return quota_us ? write_burst(agent, container, plan, quota_us) : 0;
	}
	if (request > 0)
		err = reserve_write(agent, container, request);
	if (quota_us)
		err = write_cpu(agent, container, quota_us, container->original.cpu_period_us,
			burst_of(container, plan, quota_us, quota_us));
	if (!err && memory_bytes)
		err = actuate_memory(agent, container, memory_bytes);
	return err;
}

void actuate_unit(struct agent *agent, struct unit *unit)
{
	const struct plan *plan = &unit->plan;

	for (size_t i = 0; i < unit->container_count; i++) {
		struct container *container = unit->containers[i];
		int err = actuate_container(agent, container, plan);

		if (err && err != -ENOENT)
			log_warning("unit=%s/%s pod=%s cpu_millicores=%.0f burst_us=%llu "
				    "memory_bytes=%llu error=\"%s\"",
				unit->namespace, unit->service, container->pod,
				plan->cpu_millicores, (unsigned long long)plan->burst_us,
				(unsigned long long)plan->memory_bytes, strerror(-err));
	}
	allowance_apply(agent, unit);
}

static bool limits_are_equal(const struct cgroup_limits *a, const struct cgroup_limits *b)
{
	return a->cpu_quota_us == b->cpu_quota_us && a->cpu_period_us == b->cpu_period_us &&
	       a->cpu_burst_us == b->cpu_burst_us && a->memory_max_bytes == b->memory_max_bytes &&
	       a->memory_high_bytes == b->memory_high_bytes;
}

/* What is in the cgroup now; a quota that the reflex has lowered for a while counts as the base. */
static int limits_read(
	struct agent *agent, const struct container *container, struct cgroup_limits *now)
{
	uint32_t slot = container->attachment.slot;
	int64_t base_us = container->current.cpu_quota_us;
	int err;

	/* Nor may it lower or raise it between the reading and the comparison. */
	(void)reflex_hold(agent->reflex, slot);
	err = cgroup_read_limits(&agent->driver, container->path, now);
	/* Weights are looked at by reserve_verify(). */
	now->cpu_weight = container->current.cpu_weight;
	if (!err && now->cpu_quota_us == reflex_quota_us(agent->reflex, slot, base_us))
		now->cpu_quota_us = base_us;
	reflex_release(agent->reflex, slot, NULL);
	return err;
}

/* The reflex goes on with what is there now. */
static void take_over(
	struct agent *agent, struct container *container, const struct cgroup_limits *now)
{
	const struct cgroup_limits before = container->current;

	(void)reflex_hold(agent->reflex, container->attachment.slot);
	container->current = *now;
	reflex_release(agent->reflex, container->attachment.slot, now);
	sample_note_change(agent, container, &before, false);
	allowance_apply(agent, container->unit);
}

/* The kubelet has carried out our own resize, in whole or in part. */
static void take_asked(
	struct agent *agent, struct container *container, const struct cgroup_limits *now)
{
	struct cgroup_limits ours = container->current;

	if (resize_wrote_quota(container, now->cpu_quota_us))
		ours.cpu_quota_us = now->cpu_quota_us;
	if (resize_wrote_memory(container, now->memory_max_bytes))
		ours.memory_max_bytes = now->memory_max_bytes;
	if (!limits_are_equal(&ours, &container->current))
		take_over(agent, container, &ours);
}

static void see_asked(struct agent *agent, struct container *container)
{
	struct cgroup_limits now;

	if (!limits_read(agent, container, &now))
		take_asked(agent, container, &now);
}

unsigned int actuate_restore_cgroup(struct agent *agent, struct container *container)
{
	const struct cgroup_limits *original = &container->original;
	uint64_t before = agent->status.limit_writes + agent->status.reservation_writes;
	int err;

	/* The kubelet may have written since the last tick. */
	if (agent->resizer)
		see_asked(agent, container);
	pressure_unwatch(agent, container);
	err = write_cpu(agent, container, original->cpu_quota_us, original->cpu_period_us,
		original->cpu_burst_us);
	if (!err && original->memory_max_bytes != container->current.memory_max_bytes) {
		err = cgroup_write_memory_max(
			&agent->driver, container->path, original->memory_max_bytes);
		container->current.memory_max_bytes = original->memory_max_bytes;
		agent->status.limit_writes++;
	}
	if (!err && original->memory_high_bytes != container->current.memory_high_bytes) {
		err = cgroup_write_memory_high(
			&agent->driver, container->path, original->memory_high_bytes);
		container->current.memory_high_bytes = original->memory_high_bytes;
		agent->status.limit_writes++;
	}
	if (!err)
		err = reserve_restore(agent, container);
	if (err && err != -ENOENT)
		log_err("pod=%s cgroup=%s error=\"cannot write the owner's limits back: %s\"",
			container->pod, container->path, strerror(-err));
	return agent->status.limit_writes + agent->status.reservation_writes != before;
}

unsigned int actuate_restore_container(struct agent *agent, struct container *container)
{
	const struct plan none = {0};

	if (!agent->resizer || !container->resize.known)
		return actuate_restore_cgroup(agent, container);
	pressure_unwatch(agent, container);
	(void)write_burst(agent, container, &none, container->original.cpu_quota_us);
	return resize_restore(agent, container);
}

unsigned int actuate_restore(struct agent *agent, struct unit *unit)
{
	unsigned int restored = 0;

	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *each = agent->units.items[i];

		if (unit && each != unit)
			continue;
		each->has_plan = false;
		allowance_apply(agent, each);
		for (size_t k = 0; k < each->container_count; k++)
			restored += actuate_restore_container(agent, each->containers[k]);
		each->action = ACTION_VERTICAL_HOLD;
		each->acted = false;
	}
	agent->status.restored += restored;
	return restored;
}

static bool bytes_are(int64_t bytes, uint64_t in_force)
{
	int64_t none = INT64_MAX - sysconf(_SC_PAGESIZE);

	return bytes < 0 ? in_force >= (uint64_t)none : in_force == (uint64_t)bytes;
}

/* What the kernel side saw in force at this tick is ours: no file has to be read. */
static bool limits_are_seen(const struct slot *slot, const struct cgroup_limits *ours)
{
	uint64_t quota_ns =
		ours->cpu_quota_us < 0 ? UINT64_MAX : (uint64_t)ours->cpu_quota_us * 1000;

	return slot->limit_quota_ns == quota_ns &&
	       slot->limit_period_ns == (uint64_t)ours->cpu_period_us * 1000 &&
	       (ours->cpu_burst_us < 0 ||
		       slot->limit_burst_ns == (uint64_t)ours->cpu_burst_us * 1000) &&
	       bytes_are(ours->memory_max_bytes, slot->limit_memory_bytes) &&
	       bytes_are(ours->memory_high_bytes, slot->limit_memory_high_bytes);
}

static void verify_container(struct agent *agent, struct unit *unit, struct container *container)
{
	const struct slot *slot = probes_slot(agent->probes, container->attachment.slot);
	const struct cgroup_limits *ours = &container->current;
	struct cgroup_limits *original = &container->original;
	struct cgroup_limits now;

	if (limits_are_seen(slot, ours))
		return;
	/* Nothing has run in it yet, so the kernel side does not know it: look now and then. */
	if (!probes_slot_is_tied(slot) &&
		(agent->status.ticks + container->attachment.slot) % TICKS_BETWEEN_LOOKS != 0)
		return;
	if (limits_read(agent, container, &now))
		return;
	if (agent->resizer)
		take_asked(agent, container, &now);
	if (limits_are_equal(&now, ours))
		return;
	log_notice("unit=%s/%s pod=%s event=\"someone else changed a limit\" cpu_quota_us=%ld->%ld "
		   "memory_max_bytes=%ld->%ld effect=\"taken over as the owner's\"",
		unit->namespace, unit->service, container->pod, (long)ours->cpu_quota_us,
		(long)now.cpu_quota_us, (long)ours->memory_max_bytes, (long)now.memory_max_bytes);
	/* Only what changed: the rest may still be ours. */
	if (now.cpu_quota_us != ours->cpu_quota_us || now.cpu_period_us != ours->cpu_period_us) {
		original->cpu_quota_us = now.cpu_quota_us;
		original->cpu_period_us = now.cpu_period_us;
	}
	if (now.cpu_burst_us != ours->cpu_burst_us)
		original->cpu_burst_us = now.cpu_burst_us;
	if (now.memory_max_bytes != ours->memory_max_bytes)
		original->memory_max_bytes = now.memory_max_bytes;
	if (now.memory_high_bytes != ours->memory_high_bytes)
		original->memory_high_bytes = now.memory_high_bytes;
	take_over(agent, container, &now);
	agent->status.foreign_writes++;
	actuate_keep_original(agent, container);
	(void)actuate_save(agent);
}

void actuate_verify(struct agent *agent)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		struct unit *unit = agent->units.items[i];
		/* A file to be read for each: only where it is ours to move. */
		bool reserves = unit->has_objective && unit_reserves(unit);

		for (size_t k = 0; k < unit->container_count; k++) {
			verify_container(agent, unit, unit->containers[k]);
			if (reserves)
				reserve_verify(agent, unit->containers[k]);
		}
	}
}
