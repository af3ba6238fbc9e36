// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that do nothing, at every hook of a request and of a context switch: what bpf_stats reads
 * for them is its own clock, and is subtracted. Names are at most 15 characters, which is what the kernel keeps.
 */
#include "kernel.h"

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("cgroup_skb/ingress")
int empty_ingress(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup_skb/egress")
int empty_egress(struct __sk_buff *skb)
{
	return 1;
}

SEC("tp_btf/sched_switch")
int empty_switch(void *ctx)
{
	return 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int empty_read(void *ctx)
{
	return 0;
}

SEC("tp_btf/sock_send_length")
int empty_written(void *ctx)
{
	return 0;
}
