// SPDX-License-Identifier: GPL-2.0
/*
 * CPU use, run-queue delay and throttling per container.
 *
 * The scheduler keeps a task's CPU time (se.sum_exec_runtime) and its waits (sched_info.run_delay)
 * up to date at every switch, so both are read there as differences between a task's switch-in
 * and its switch-out: no clock is read and no wake-up is traced.
 */
#include "slots.h"

char LICENSE[] SEC("license") = "GPL";

/* What ran on this CPU since its last switch. */
struct running {
	__u64 task;
	__u64 sum_exec_ns;
	__u64 run_delay_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct running);
} running SEC(".maps");

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

static __always_inline struct slot *slot_of(__u64 cgroups, __u64 id)
{
	__u64 key = SLOT_KEY(cpu_hierarchy, id);
	__u32 generation = slot_generation();
	struct slot_cached *cached = bpf_map_lookup_elem(&slot_cache, &key);

	if (cached && cached->generation == generation)
		return slot_at(cached->slot);
	return slot_at(slot_resolve(cgroups, key, generation));
}

/* A task that leaves the CPU though it could go on: its slice was over, or another came first. */
static __always_inline bool task_is_runnable(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state == 0;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state) == 0;
}

static __always_inline struct slot *slot_of_switched(struct task_struct *task)
{
	struct cgroup *cgroup =
		task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)]
			->cgroup;

	/* Kernel threads and everything else in the root belong to no unit. */
	if (cgroup->level == 0)
		return 0;
	return slot_of((__u64)task->cgroups, cgroup->kn->id);
}

static __always_inline void account(struct running *last, struct task_struct *task)
{
	struct slot *slot = slot_of_switched(task);
	__u64 delay_ns = 0;

	if (!slot)
		return;
	__sync_fetch_and_add(&slot->cpu_used_ns, task->se.sum_exec_runtime - last->sum_exec_ns);
	if (bpf_core_field_exists(task->sched_info.run_delay))
		delay_ns = task->sched_info.run_delay - last->run_delay_ns;
	__sync_fetch_and_add(&slot->run_queue_ns, delay_ns);
	__sync_fetch_and_add(&slot->switches, 1);
	if (task_is_runnable(task))
		__sync_fetch_and_add(&slot->involuntary_switches, 1);
	slot_histogram_add(slot->run_queue, delay_ns);
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
	struct slot *slot = slot_of_switched(task);

	if (control)
		__sync_fetch_and_add(&control->switches_lost, 1);
	if (slot)
		__sync_fetch_and_add(&slot->cpu_used_ns,
			task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(cpu_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 zero = 0;
	struct running *last = bpf_map_lookup_elem(&running, &zero);

	if (!last)
		return 0;
	if (last->task == (__u64)prev)
		account(last, prev);
	else if (last->task)
		account_unseen(prev);
	last->task = (__u64)next;
	last->sum_exec_ns = next->se.sum_exec_runtime;
	/* The wait that ends now is added only after this point, so it counts at switch-out. */
	if (bpf_core_field_exists(next->sched_info.run_delay))
		last->run_delay_ns = next->sched_info.run_delay;
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
	slot = slot_of(cgroups, BPF_CORE_READ(cgroup, kn, id));
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
		}
		memory = (void *)slot->mem_cgroup;
		if (memory && BPF_CORE_READ(memory, css.cgroup, kn, id) == slot->memory_id)
			slot->memory_used_bytes = (__u64)BPF_CORE_READ(memory, memory.usage.counter)
						  << page_shift;
	}
	return 0;
}
