// SPDX-License-Identifier: GPL-2.0
/*
 * What the socket itself tells of a request: its task has begun to read it, has written an answer
 * that could not be sent yet, or the connection is over.
 */
#include "connection.h"
#include "followed.h"

char LICENSE[] SEC("license") = "GPL";

/* A task that serves requests: what it has waited for is added up at its switches (cpu.bpf.c). */
static __always_inline bool task_follow(struct running *task)
{
	if (task->is_followed)
		return true;
	if (!bpf_task_storage_get(
		    &followed, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return false;
	task->off_cpu_ns = 0;
	task->throttled_ns = 0;
	task->is_followed = 1;
	return true;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(socket_read, struct sock *sk)
{
	struct connection *connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	struct task_struct *current;
	struct running *task;
	__u32 zero = 0;

	if (!connection ||
		(connection->flags & (CONNECTION_DETAIL | CONNECTION_READ)) != CONNECTION_DETAIL)
		return 0;
	task = bpf_map_lookup_elem(&running, &zero);
	if (!task)
		return 0;
	current = bpf_get_current_task_btf();
	connection->detail.read_ns = bpf_ktime_get_ns();
	connection->detail.task = 0;
	connection->detail.process = (__u32)current->tgid;
	__builtin_memcpy(
		connection->detail.command, current->comm, sizeof(connection->detail.command));
	if (task->task == (__u64)current && task_follow(task)) {
		connection->detail.task = (__u64)current;
		connection->detail.off_cpu_ns = task->off_cpu_ns;
		connection->detail.throttled_ns = task->throttled_ns;
		connection->detail.run_delay_ns = current->sched_info.run_delay;
	}
	connection->flags |= CONNECTION_READ;
	return 0;
}

/* The answer waits in the socket: for the window, for pacing, or to be joined with more. */
SEC("tp_btf/sock_send_length")
int BPF_PROG(socket_written, struct sock *sk)
{
	struct tcp_sock *tcp;
	struct connection *connection;
	struct task_struct *current;
	struct running *task;
	struct detail *detail;
	__u32 zero = 0;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || tcp->write_seq == tcp->snd_nxt)
		return 0;
	connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (!connection || connection->side != SIDE_SERVER ||
		(connection->flags & (CONNECTION_DETAIL | CONNECTION_READ | CONNECTION_WRITTEN)) !=
			(CONNECTION_DETAIL | CONNECTION_READ))
		return 0;
	detail = &connection->detail;
	task = bpf_map_lookup_elem(&running, &zero);
	current = bpf_get_current_task_btf();
	if (!task || task->task != detail->task || !task->is_followed)
		return 0;
	detail->write_ns = bpf_ktime_get_ns();
	detail->off_cpu_ns = task->off_cpu_ns - detail->off_cpu_ns;
	detail->throttled_ns = task->throttled_ns - detail->throttled_ns;
	detail->run_delay_ns = current->sched_info.run_delay - detail->run_delay_ns;
	connection->flags |= CONNECTION_WRITTEN;
	return 0;
}

static __always_inline void failure_tell(
	struct sock *sk, struct connection *connection, __u64 start_ns, bool has_detail)
{
	struct ending ending = {.start_ns = start_ns,
		.now_ns = bpf_ktime_get_ns(),
		.outcome = OUTCOME_FAILED,
		.grpc_status = GRPC_STATUS_NONE};
	struct breakdown parts = {};
	struct request_event *event =
		event_begin(connection, &ending, &parts, has_detail, REASON_ERROR);

	if (!event)
		return;
	event->has_breakdown = 0;
	event->family = sk->__sk_common.skc_family;
	event->local_port = sk->__sk_common.skc_num;
	event->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	event->local_ip4 = sk->__sk_common.skc_rcv_saddr;
	event->remote_ip4 = sk->__sk_common.skc_daddr;
	if (event->family == AF_INET6) {
		BPF_CORE_READ_INTO(
			&event->local_ip6, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(
			&event->remote_ip6, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	}
	bpf_ringbuf_submit(event, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_closed, struct sock *sk, int old_state, int new_state)
{
	struct connection *connection;
	struct slot *slot;
	bool is_single, has_detail;
	__u64 start_ns;

	if (new_state != TCP_CLOSE || old_state == TCP_LISTEN)
		return 0;
	connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (!connection)
		return 0;
	is_single = !(connection->flags & CONNECTION_MANY);
	has_detail = connection->flags & CONNECTION_DETAIL;
	start_ns = connection->start_ns;
	if (!connection_closed(connection, bpf_sk_storage_get(&multiplexed, sk, 0, 0)))
		return 0;
	slot = connection_slot(connection);
	if (slot && slot->trace_threshold_ns && is_single)
		failure_tell(sk, connection, start_ns, has_detail);
	return 0;
}
