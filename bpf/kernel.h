/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Only the kernel structures and fields that are read. CO-RE moves each access to where the
 * running kernel has the field, so order and padding here mean nothing.
 */
#ifndef EBBTIDE_KERNEL_H
#define EBBTIDE_KERNEL_H

#include "shared.h"

typedef ebb_u8 __u8;
typedef ebb_u16 __u16;
typedef ebb_u32 __u32;
typedef ebb_u64 __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef ebb_s64 __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u16 __sum16;
typedef _Bool bool;
#define true 1
#define false 0

/* From the kernel's user API; numbers never change. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
	BPF_SK_STORAGE_GET_F_CREATE = 1U << 0,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1U << 0,
	BPF_RB_NO_WAKEUP = 1U << 0,
};
#define BPF_F_CURRENT_NETNS (-1L)

enum {
	AF_INET = 2,
	AF_INET6 = 10,
	IPPROTO_TCP = 6,
	ETH_P_IP = 0x0800,
	ETH_P_IPV6 = 0x86dd
};
enum {
	TCP_ESTABLISHED = 1,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE = 7,
	TCP_LAST_ACK = 9,
	TCP_LISTEN = 10
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
	__s32 rx_queue_mapping;
};

struct bpf_sock_tuple {
	union {
		struct {
			__be32 saddr;
			__be32 daddr;
			__be16 sport;
			__be16 dport;
		} ipv4;
		struct {
			__be32 saddr[4];
			__be32 daddr[4];
			__be16 sport;
			__be16 dport;
		} ipv6;
	};
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	union {
		void *flow_keys;
		__u64 : 64;
	} __attribute__((aligned(8)));
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

#define KERNEL_TYPE __attribute__((preserve_access_index))

struct kernfs_node {
	__u64 id;
} KERNEL_TYPE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} KERNEL_TYPE;

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
} KERNEL_TYPE;

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
} KERNEL_TYPE;

enum cgroup_subsys_id {
	cpu_cgrp_id,
	memory_cgrp_id
};

struct rq {
	__u64 clock; /* ns, refreshed at every switch */
} KERNEL_TYPE;

struct cfs_rq {
	struct rq *rq;
} KERNEL_TYPE;

struct sched_entity {
	struct cfs_rq *cfs_rq;
	__u64 sum_exec_runtime;
	__u64 prev_sum_exec_runtime; /* its value when the task was last picked to run */
} KERNEL_TYPE;

struct sched_info {
	unsigned long long run_delay; /* needs CONFIG_SCHED_INFO: schedstats or taskstats */
} KERNEL_TYPE;

struct bpf_local_storage;

struct task_struct {
	int pid;
	int tgid;
	unsigned long maj_flt;
	char comm[16];
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_group *sched_task_group;
	struct bpf_local_storage *bpf_storage; /* since 5.11 */
	struct css_set *cgroups;
	unsigned int __state; /* 0: runnable; since 5.14 */
} KERNEL_TYPE;

/* Its name before 5.14. The part after three underscores is not the kernel's. */
struct task_struct___before_5_14 {
	long state;
} KERNEL_TYPE;

struct list_head {
	struct list_head *next;
} KERNEL_TYPE;

struct timerqueue_node {
	__s64 expires; /* ns, CLOCK_MONOTONIC */
} KERNEL_TYPE;

struct hrtimer {
	struct timerqueue_node node;
} KERNEL_TYPE;

struct cfs_bandwidth {
	__s64 period;	    /* ns */
	__u64 quota;	    /* ns a period; all ones: none */
	__u64 burst;	    /* ns; since 5.14 */
	__u64 runtime;	    /* left in the present period, not yet handed to a CPU */
	__u64 runtime_snap; /* what runtime was after its newest refill; since 5.14 */
	struct hrtimer period_timer;
	struct list_head throttled_cfs_rq;
	int nr_periods;
	int nr_throttled;
	__u64 throttled_time;
	__u64 burst_time; /* used over the quota, ns; since 5.14 */
} KERNEL_TYPE;

struct task_group {
	struct cgroup_subsys_state css;
	struct sched_entity **se; /* one a CPU; not on the newest kernels */
	struct task_group *parent;
	struct cfs_bandwidth cfs_bandwidth;
} KERNEL_TYPE;

typedef struct {
	long counter;
} atomic_long_t;

struct page_counter {
	atomic_long_t usage; /* pages */
	unsigned long max;   /* pages; LONG_MAX / page size: none */
	unsigned long high;
} KERNEL_TYPE;

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
} KERNEL_TYPE;

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
} KERNEL_TYPE;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* local port, host byte order */
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} KERNEL_TYPE;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	struct bpf_local_storage *sk_bpf_storage;
} KERNEL_TYPE;

struct tcp_sock {
	__u32 write_seq;
	__u32 snd_nxt;
} KERNEL_TYPE;

#endif
