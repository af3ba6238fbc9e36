/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a cgroup to its slot. The maps here are shared by all programs of the agent: the first
 * object that is loaded makes them, the others reuse them.
 */
#ifndef EBBTIDE_SLOTS_H
#define EBBTIDE_SLOTS_H

#include "kernel.h"

#include <bpf/bpf_helpers.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/*
 * A function that the verifier follows once, by itself, whatever its arguments hold, in place of at
 * each call. Pointers to memory may be given to one since 5.12.
 */
#ifdef KERNEL_5_10
#define VERIFIED_ALONE __attribute__((unused)) static __noinline
#else
#define VERIFIED_ALONE __noinline
#endif

/* Set before load. On v2 there is one hierarchy and all three are HIERARCHY_UNIFIED. */
const volatile __u64 cpu_hierarchy = HIERARCHY_UNIFIED;
const volatile __u64 memory_hierarchy = HIERARCHY_UNIFIED;
const volatile __u32 page_shift = 12;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* SLOT_KEY of every container's cgroup -> slot; only the agent writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} slot_index SEC(".maps");

/* SLOT_KEY of any cgroup seen lately -> slot or SLOT_NONE, so that a switch costs one look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct slot_cached);
} slot_cache SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot_control);
} slot_control SEC(".maps");

/* What runs on each CPU, and what it has waited for so far: cpu.bpf.c writes it at every switch. */
struct running {
	__u64 task;
	__u64 sum_exec_ns;  /* at its switch-in */
	__u64 run_delay_ns; /* at its switch-in, without the wait that ended then */
	__u64 major_faults;
	/* Of a task that serves requests, since it was first seen to. */
	__u64 off_cpu_ns;
	__u64 throttled_ns;
	__u32 is_followed;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct running);
} running SEC(".maps");

/* To the agent: what is worth telling of one by one. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} events SEC(".maps");

/* To the reflex: containers throttled with requests in flight. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} throttles SEC(".maps");

static __always_inline void control_count(__u32 offset)
{
	__u32 zero = 0;
	struct slot_control *control = bpf_map_lookup_elem(&slot_control, &zero);

	if (control)
		__sync_fetch_and_add((__u64 *)((char *)control + offset), 1);
}

#define CONTROL_COUNT(field) control_count(__builtin_offsetof(struct slot_control, field))

static __always_inline void throttle_tell(struct slot *slot, __u32 index)
{
	struct throttle_event *event;

	if (slot->no_reflex)
		return;
	event = bpf_ringbuf_reserve(&throttles, sizeof(*event), 0);
	/* No room: the agent has others to see to, and looks again at the next period. */
	if (!event)
		return;
	event->slot = index;
	event->epoch = slot->epoch;
	event->since_ns = slot->throttled_since_ns;
	bpf_ringbuf_submit(event, 0);
}

/* A container's own sub-cgroups (systemd or a nested runtime inside) lie at most this deep. */
#define SLOT_DEPTH 8

static __always_inline struct slot *slot_at(__u32 index)
{
	return bpf_map_lookup_elem(&slots, &index);
}

static __always_inline void slot_histogram_add(__u32 *buckets, __u64 ns)
{
	__u32 bucket = hist_bucket(ns / 1000);

	/* The compiler knows the bound and drops the check; the verifier needs to see it. */
	asm volatile("" : "+r"(bucket));
	if (bucket < HIST_BUCKETS)
		__sync_fetch_and_add(&buckets[bucket], 1);
}

static __always_inline void slot_coarse_add(__u32 *buckets, __u64 ns)
{
	__u32 bucket = HIST_COARSE_BUCKET(ns / 1000);

	asm volatile("" : "+r"(bucket));
	if (bucket < HIST_COARSE)
		__sync_fetch_and_add(&buckets[bucket], 1);
}

/*
 * Walk from @css towards the root until a unit's cgroup is found; its css comes back in *@owner.
 * @subsys is the css's own hierarchy key prefix. Runs once per cgroup and generation.
 */
__attribute__((unused)) static __noinline __u32 slot_walk(
	__u64 css_address, __u64 hierarchy, __u64 *owner)
{
	struct cgroup_subsys_state *css = (void *)css_address;
	__u32 *index;
	__u64 key;

	if (!owner)
		return SLOT_NONE;
	for (int depth = 0; depth < SLOT_DEPTH; depth++) {
		if (!css)
			break;
		key = SLOT_KEY(hierarchy, BPF_CORE_READ(css, cgroup, kn, id));
		index = bpf_map_lookup_elem(&slot_index, &key);
		if (index) {
			*owner = (__u64)css;
			return *index;
		}
		css = BPF_CORE_READ(css, parent);
	}
	return SLOT_NONE;
}

static __always_inline __u32 slot_generation(void)
{
	__u32 zero = 0;
	struct slot_control *control = bpf_map_lookup_elem(&slot_control, &zero);

	return control ? *(volatile __u32 *)&control->generation : 0;
}

#endif
