// SPDX-License-Identifier: GPL-2.0
/*
 * Memory per container: the peak between two ticks, time stalled in reclaim, OOM kills. Use itself
 * is read by the snapshot program in cpu.bpf.c.
 */
#include "slots.h"

char LICENSE[] SEC("license") = "GPL";

/* Tasks now in reclaim: thread id -> start. Bounded by the tasks that can be in it at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} reclaiming SEC(".maps");

static __always_inline struct cgroup_subsys_state *memory_css(struct task_struct *task)
{
	return BPF_CORE_READ(
		task, cgroups, subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)]);
}

static __always_inline struct slot *slot_of_memory(struct task_struct *task)
{
	struct cgroup_subsys_state *css = memory_css(task);
	struct cgroup *cgroup = BPF_CORE_READ(css, cgroup);
	struct slot_cached found = {.generation = slot_generation()};
	struct slot_cached *cached;
	__u64 owner = 0, key;
	struct slot *slot;

	if (BPF_CORE_READ(cgroup, level) == 0)
		return 0;
	/* On v2 the key is the CPU programs' own, and so is the entry. */
	key = SLOT_KEY(memory_hierarchy, BPF_CORE_READ(cgroup, kn, id));
	cached = bpf_map_lookup_elem(&slot_cache, &key);
	if (cached && cached->generation == found.generation)
		return slot_at(cached->slot);
	found.slot = slot_walk((__u64)css, memory_hierarchy, &owner);
	slot = slot_at(found.slot);
	if (slot && owner)
		slot->mem_cgroup = owner;
	/* An entry made here would keep cpu.bpf.c from finding the task group: not on v2. */
	if (memory_hierarchy != cpu_hierarchy)
		bpf_map_update_elem(&slot_cache, &key, &found, BPF_ANY);
	return slot;
}

/* Fires when a task's resident set changed: the moment a peak can arise. */
SEC("tp_btf/rss_stat")
int BPF_PROG(memory_peak)
{
	struct slot *slot = slot_of_memory((void *)bpf_get_current_task());
	struct mem_cgroup *memory;
	__u64 bytes;

	if (!slot)
		return 0;
	memory = (void *)slot->mem_cgroup;
	if (!memory || BPF_CORE_READ(memory, css.cgroup, kn, id) != slot->memory_id)
		return 0;
	bytes = (__u64)BPF_CORE_READ(memory, memory.usage.counter) << page_shift;
	if (bytes > slot->memory_peak_bytes)
		slot->memory_peak_bytes = bytes;
	return 0;
}

static __always_inline int reclaim_begin(void)
{
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	__u64 now_ns = bpf_ktime_get_ns();

	/* Reclaim nests (direct reclaim calls memcg reclaim): the outermost counts. */
	bpf_map_update_elem(&reclaiming, &thread, &now_ns, BPF_NOEXIST);
	return 0;
}

static __always_inline int reclaim_end(void)
{
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	__u64 *start_ns = bpf_map_lookup_elem(&reclaiming, &thread);
	struct slot *slot;

	if (!start_ns)
		return 0;
	slot = slot_of_memory((void *)bpf_get_current_task());
	if (slot)
		__sync_fetch_and_add(&slot->reclaim_ns, bpf_ktime_get_ns() - *start_ns);
	bpf_map_delete_elem(&reclaiming, &thread);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memory_reclaim_begin)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memory_reclaim_end)
{
	return reclaim_end();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(memory_direct_begin)
{
	return reclaim_begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(memory_direct_end)
{
	return reclaim_end();
}

static __always_inline int count_victim(struct task_struct *victim, __u32 process)
{
	struct slot *slot = slot_of_memory(victim);
	struct oom_event *event;

	if (!slot)
		return 0;
	__sync_fetch_and_add(&slot->oom_kills, 1);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		CONTROL_COUNT(events_lost);
		return 0;
	}
	event->kind = EVENT_OOM;
	event->slot = slot->index;
	event->process = process;
	event->reserved = 0;
	event->command[0] = 0;
	/* Before 6.9 only the victim's pid is known here; the agent may still find its name. */
	if ((__u32)BPF_CORE_READ(victim, tgid) == process)
		BPF_CORE_READ_STR_INTO(&event->command, victim, comm);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* Since 6.9 the victim itself is the argument. The loader picks one of the two. */
SEC("tp_btf/mark_victim")
int BPF_PROG(memory_oom_task, struct task_struct *victim)
{
	return count_victim(victim, (__u32)victim->tgid);
}

/* Before that only its pid is; a memory cgroup's OOM is raised by one of its own tasks. */
SEC("tp_btf/mark_victim")
int BPF_PROG(memory_oom_current, int process)
{
	return count_victim((void *)bpf_get_current_task(), (__u32)process);
}
