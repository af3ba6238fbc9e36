// SPDX-License-Identifier: GPL-2.0
/*
 * CPU use, run-queue delay and throttling per container.
 *
 * The scheduler keeps a task's CPU time (se.sum_exec_runtime) and its waits (sched_info.run_delay)
 * up to date at every switch, so both are read there as differences between a task's switch-in
 * and its switch-out: no clock is read and no wake-up is traced.
 */
#include "followed.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before load: how many CPUs there may be. */
#define CPUS_MAX 4096
const volatile __u32 cpus = 1;

/* First switch of a cgroup after the units changed: find its slot and the kernel's own records. */
static __noinline __u32 slot_resolve(__u64 cgroups, __u64 key, __u32 generation)
{
	struct slot_cached found = {.slot = SLOT_NONE, .generation = generation};
	struct css_set *set = (void *)cgroups;
	struct slot *slot;
	__u64 owner = 0;
	__u32 memory;

	found.slot =
		slot_walk((__u64)BPF_CORE_READ(set,
				  subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)]),
			cpu_hierarchy, &owner);
	slot = slot_at(found.slot);
	if (slot && owner)
		slot->task_group = owner;
	owner = 0;
	memory = slot_walk(
		(__u64)BPF_CORE_READ(
			set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)]),
		memory_hierarchy, &owner);
	slot = slot_at(memory);
	if (slot && owner)
		slot->mem_cgroup = owner;
	bpf_map_update_elem(&slot_cache, &key, &found, BPF_ANY);
	return found.slot;
}

static __always_inline __u32 slot_index_of(__u64 cgroups, __u64 id)
{
	__u64 key = SLOT_KEY(cpu_hierarchy, id);
	__u32 generation = slot_generation();
	struct slot_cached *cached = bpf_map_lookup_elem(&slot_cache, &key);

	if (cached && cached->generation == generation)
		return cached->slot;
	return slot_resolve(cgroups, key, generation);
}

/* A task that leaves the CPU though it could go on: its slice was over, or another came first. */
static __always_inline bool task_is_runnable(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state == 0;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state) == 0;
}

static __always_inline __u32 slot_of_switched(struct task_struct *task)
{
	struct cgroup *cgroup =
		task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)]
			->cgroup;

	/* Kernel threads and everything else in the root belong to no unit. */
	if (cgroup->level == 0)
		return SLOT_NONE;
	return slot_index_of((__u64)task->cgroups, cgroup->kn->id);
}

static __always_inline bool group_is_throttled(struct task_group *group)
{
	struct list_head *list =
		__builtin_preserve_access_index(&group->cfs_bandwidth.throttled_cfs_rq);

	return list->next != list;
}

/* Of a container's groups, one inside the other: systemd's slices and services, /docker/ID. */
#define GROUPS_INSIDE 4

/*
 * Whether the quota of @task's container holds it back: its own group is throttled, or one above, up
 * to the container's where that has groups inside, and the one above that for the limit of its pod.
 */
static __always_inline bool task_is_throttled(struct slot *slot, struct task_struct *task)
{
	struct task_group *group = task->sched_task_group, *parent = 0;
	__u64 container = slot->task_group;

#pragma unroll
	for (int depth = 0; depth < GROUPS_INSIDE; depth++) {
		if (!group)
			return false;
		if (group_is_throttled(group))
			return true;
		parent = group->parent;
		if ((__u64)group == container)
			break;
		group = parent;
	}
	return parent && group_is_throttled(parent);
}

/* Keep the slot's mark; a container that is throttled with requests in flight wakes the reflex. */
static __always_inline void note_throttling(
	struct slot *slot, __u32 index, struct task_struct *task)
{
	if (task_is_throttled(slot, task)) {
		if (slot->throttled_since_ns)
			return;
		slot->throttled_since_ns = bpf_ktime_get_ns();
		if (slot_in_flight(slot) > 0)
			throttle_tell(slot, index);
	} else if (slot->throttled_since_ns) {
		slot->throttled_since_ns = 0;
	}
}

static __always_inline void account(struct running *last, struct task_struct *task)
{
	__u32 index = slot_of_switched(task);
	struct slot *slot = slot_at(index);
	__u64 delay_ns = 0, faults;

	if (!slot)
		return;
	__sync_fetch_and_add(&slot->cpu_used_ns, task->se.sum_exec_runtime - last->sum_exec_ns);
	if (bpf_core_field_exists(task->sched_info.run_delay))
		delay_ns = task->sched_info.run_delay - last->run_delay_ns;
	__sync_fetch_and_add(&slot->run_queue_ns, delay_ns);
	__sync_fetch_and_add(&slot->switches, 1);
	if (task_is_runnable(task))
		__sync_fetch_and_add(&slot->involuntary_switches, 1);
	faults = task->maj_flt - last->major_faults;
	if (faults)
		__sync_fetch_and_add(&slot->major_faults, faults);
	slot_histogram_add(slot->run_queue, delay_ns);
	note_throttling(slot, index, task);
}

/*
 * Some kernels trace no switch out of certain tasks (seen: a virtual machine's own supervisor), so
 * the next task was not seen to come. The scheduler's own mark gives its CPU time all the same; how
 * long it had waited is not known.
 */
static __always_inline void account_unseen(struct task_struct *task)
{
	__u32 zero = 0;
	struct slot_control *control = bpf_map_lookup_elem(&slot_control, &zero);
	__u32 index = slot_of_switched(task);
	struct slot *slot = slot_at(index);

	if (control)
		__sync_fetch_and_add(&control->switches_lost, 1);
	if (!slot)
		return;
	__sync_fetch_and_add(
		&slot->cpu_used_ns, task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime);
	/* It may have come unseen, and leave because its quota holds it back. */
	note_throttling(slot, index, task);
}

/*
 * From a task's group to the root. A quota may be on any of them: a container's own groups, the
 * container, its pod, the slices of its QoS class and of all pods, and those of a node in a container.
 */
#define GROUPS_ABOVE 16

/* How long @task's groups have been throttled so far, all CPUs added up. */
static __always_inline __u64 groups_throttled_ns(struct task_struct *task)
{
	struct task_group *group = task->sched_task_group;
	__u64 total_ns = 0;

	for (int depth = 0; depth < GROUPS_ABOVE; depth++) {
		if (!group)
			break;
		total_ns += group->cfs_bandwidth.throttled_time;
		group = group->parent;
	}
	return total_ns;
}

/* Where a task that serves requests stands, from the record that it keeps between its switches. */
static __always_inline struct followed_task *followed_of(struct task_struct *task)
{
	/* Before 5.11 there is no such record, and socket.bpf.c, which makes it, is not loaded. */
	if (!bpf_core_field_exists(task->bpf_storage) || !task->bpf_storage)
		return 0;
	return bpf_task_storage_get(&followed, task, 0, 0);
}

static __always_inline void followed_leaves(struct running *last, struct task_struct *task)
{
	struct followed_task *record = followed_of(task);

	if (!record)
		return;
	record->off_cpu_ns = last->off_cpu_ns;
	record->throttled_ns = last->throttled_ns;
	record->left_ns = task->se.cfs_rq->rq->clock;
	record->group_throttled_ns = groups_throttled_ns(task);
}

static __always_inline void followed_comes(struct running *last, struct task_struct *task)
{
	struct followed_task *record = followed_of(task);
	__u64 off_ns, throttled_ns;

	last->is_followed = 0;
	if (!record)
		return;
	last->is_followed = 1;
	last->off_cpu_ns = record->off_cpu_ns;
	last->throttled_ns = record->throttled_ns;
	if (!record->left_ns)
		return;
	off_ns = task->se.cfs_rq->rq->clock - record->left_ns;
	/* Another CPU's clock may be a little behind. */
	if ((__s64)off_ns < 0)
		return;
	throttled_ns = groups_throttled_ns(task) - record->group_throttled_ns;
	last->off_cpu_ns += off_ns;
	last->throttled_ns += throttled_ns < off_ns ? throttled_ns : off_ns;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(cpu_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 zero = 0;
	struct running *last = bpf_map_lookup_elem(&running, &zero);

	if (!last)
		return 0;
	if (last->task == (__u64)prev) {
		account(last, prev);
		if (last->is_followed)
			followed_leaves(last, prev);
	} else if (last->task) {
		account_unseen(prev);
	}
	last->task = (__u64)next;
	last->sum_exec_ns = next->se.sum_exec_runtime;
	last->major_faults = next->maj_flt;
	/* The wait that ends now is added only after this point, so it counts at switch-out. */
	if (bpf_core_field_exists(next->sched_info.run_delay))
		last->run_delay_ns = next->sched_info.run_delay;
	followed_comes(last, next);
	return 0;
}

/*
 * Run by the agent on every CPU just before it reads the slots: settles what the task now running
 * has used since its switch-in, which may be long ago.
 */
SEC("raw_tp")
int cpu_settle(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 cgroups = (__u64)BPF_CORE_READ(task, cgroups);
	__u32 zero = 0;
	struct running *last = bpf_map_lookup_elem(&running, &zero);
	struct cgroup *cgroup;
	__u64 sum_exec_ns;
	struct slot *slot;

	if (!last || last->task != (__u64)task)
		return 0;
	cgroup = BPF_CORE_READ((struct css_set *)cgroups,
		subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)], cgroup);
	sum_exec_ns = BPF_CORE_READ(task, se.sum_exec_runtime);
	slot = slot_at(slot_index_of(cgroups, BPF_CORE_READ(cgroup, kn, id)));
	if (slot)
		__sync_fetch_and_add(&slot->cpu_used_ns, sum_exec_ns - last->sum_exec_ns);
	last->sum_exec_ns = sum_exec_ns;
	return 0;
}

#define SNAPSHOT_SLOTS 64

/*
 * Run by the agent for slots @first to @first + 63: copies what the kernel itself keeps. A pointer
 * is believed only while its cgroup's id is the slot's, since the cgroup may be gone.
 */
SEC("raw_tp")
int cpu_snapshot(__u64 *ctx)
{
	__u32 first = (__u32)ctx[0];

	for (__u32 offset = 0; offset < SNAPSHOT_SLOTS; offset++) {
		struct slot *slot = slot_at(first + offset);
		struct task_group *group;
		struct mem_cgroup *memory;

		if (!slot)
			break;
		group = (void *)slot->task_group;
		if (group && BPF_CORE_READ(group, css.cgroup, kn, id) == slot->cpu_id) {
			slot->throttled_ns = BPF_CORE_READ(group, cfs_bandwidth.throttled_time);
			slot->periods = (__u32)BPF_CORE_READ(group, cfs_bandwidth.nr_periods);
			slot->throttled_periods =
				(__u32)BPF_CORE_READ(group, cfs_bandwidth.nr_throttled);
			if (bpf_core_field_exists(group->cfs_bandwidth.burst_time))
				slot->burst_ns = BPF_CORE_READ(group, cfs_bandwidth.burst_time);
			slot->limit_quota_ns = BPF_CORE_READ(group, cfs_bandwidth.quota);
			slot->limit_period_ns = (__u64)BPF_CORE_READ(group, cfs_bandwidth.period);
			if (bpf_core_field_exists(group->cfs_bandwidth.burst))
				slot->limit_burst_ns = BPF_CORE_READ(group, cfs_bandwidth.burst);
		}
		memory = (void *)slot->mem_cgroup;
		if (memory && BPF_CORE_READ(memory, css.cgroup, kn, id) == slot->memory_id) {
			slot->memory_used_bytes = (__u64)BPF_CORE_READ(memory, memory.usage.counter)
						  << page_shift;
			slot->limit_memory_bytes = (__u64)BPF_CORE_READ(memory, memory.max)
						   << page_shift;
			slot->limit_memory_high_bytes = (__u64)BPF_CORE_READ(memory, memory.high)
							<< page_shift;
		}
	}
	return 0;
}

/* CPU time of @group and all below it, to the newest scheduler tick of each CPU that runs it. */
static __always_inline __u64 group_used_ns(struct task_group *group)
{
	struct sched_entity **entities = BPF_CORE_READ(group, se), *entity;
	__u64 used_ns = 0;

	for (__u32 cpu = 0; cpu < CPUS_MAX; cpu++) {
		/* A constant to the verifier: the loop costs it no more than there are CPUs. */
		if (cpu >= cpus)
			break;
		entity = 0;
		bpf_probe_read_kernel(&entity, sizeof(entity), &entities[cpu]);
		used_ns += BPF_CORE_READ(entity, sum_exec_runtime);
	}
	return used_ns;
}

static __always_inline bool task_is_below(struct task_struct *task, struct task_group *group)
{
	struct task_group *at = BPF_CORE_READ(task, sched_task_group);

	for (int depth = 0; at && depth < SLOT_DEPTH; depth++) {
		if (at == group)
			return true;
		at = BPF_CORE_READ(at, parent);
	}
	return false;
}

/* Where a group's sums are out of reach: what was counted at switches, and what runs now. */
static __always_inline __u64 counted_used_ns(struct slot *slot, struct task_group *group)
{
	__u64 used_ns = slot->cpu_used_ns;
	struct task_struct *task;
	struct running *last;
	__u32 zero = 0;

	for (__u32 cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (cpu >= cpus)
			break;
		last = bpf_map_lookup_percpu_elem(&running, &zero, cpu);
		if (!last)
			break;
		task = (void *)last->task;
		if (task && task_is_below(task, group))
			used_ns += BPF_CORE_READ(task, se.sum_exec_runtime) - last->sum_exec_ns;
	}
	return used_ns;
}

static __always_inline void look_at_quota(struct slot *slot, struct task_group *group)
{
	slot->throttled_ns = BPF_CORE_READ(group, cfs_bandwidth.throttled_time);
	slot->quota_period = (__u32)BPF_CORE_READ(group, cfs_bandwidth.nr_periods);
	slot->quota_left_ns = BPF_CORE_READ(group, cfs_bandwidth.runtime);
	slot->quota_pool_ns = BPF_CORE_READ(group, cfs_bandwidth.quota);
	if (bpf_core_field_exists(group->cfs_bandwidth.runtime_snap))
		slot->quota_pool_ns = BPF_CORE_READ(group, cfs_bandwidth.runtime_snap);
	if (bpf_core_field_exists(group->cfs_bandwidth.burst_time))
		slot->burst_ns = BPF_CORE_READ(group, cfs_bandwidth.burst_time);
	slot->period_ends_ns = 0;
	if (bpf_core_field_exists(group->cfs_bandwidth.period_timer.node.expires))
		slot->period_ends_ns =
			(__u64)BPF_CORE_READ(group, cfs_bandwidth.period_timer.node.expires);
	/* Gone since 7.1 or so, when these became part of a per-CPU area. */
	slot->group_used_ns = bpf_core_field_exists(group->se) ? group_used_ns(group)
							       : counted_used_ns(slot, group);
}

/*
 * Run by the agent for one slot, when the reflex is to act: whether its container is throttled at
 * this moment, what is left of its quota and what it has used.
 */
SEC("raw_tp")
int cpu_look(__u64 *ctx)
{
	struct slot *slot = slot_at((__u32)ctx[0]);
	struct task_group *group;
	__u64 list;

	if (!slot)
		return -1;
	group = (void *)slot->task_group;
	if (!group || BPF_CORE_READ(group, css.cgroup, kn, id) != slot->cpu_id)
		return -1;
	look_at_quota(slot, group);
	list = (__u64)BPF_CORE_READ(group, cfs_bandwidth.throttled_cfs_rq.next);
	if (list ==
		(__u64)__builtin_preserve_access_index(&group->cfs_bandwidth.throttled_cfs_rq)) {
		slot->throttled_since_ns = 0;
		return 0;
	}
	if (!slot->throttled_since_ns)
		slot->throttled_since_ns = bpf_ktime_get_ns();
	return 1;
}
