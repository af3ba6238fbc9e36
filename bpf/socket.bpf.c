// SPDX-License-Identifier: GPL-2.0
/*
 * What the socket itself tells of a request: its task has begun to read it, has written an answer
 * that could not be sent yet, or the connection is over.
 */
#include "exchanges.h"
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

static __always_inline void task_waits(
	const struct running *task, struct task_struct *current, struct task_waits *waits)
{
	waits->off_cpu_ns = task->off_cpu_ns;
	waits->throttled_ns = task->throttled_ns;
	waits->run_delay_ns = current->sched_info.run_delay;
}

/* NULL: a socket of no unit. Most of a node's have no storage at all, which costs no call to know. */
static __always_inline struct connection *connection_of(struct sock *sk)
{
	return sk->sk_bpf_storage ? bpf_sk_storage_get(&connections, sk, 0, 0) : 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(socket_read, struct sock *sk)
{
	__u32 ports = awaited_index(sk->__sk_common.skc_num, bpf_ntohs(sk->__sk_common.skc_dport));
	__u32 *waiting = awaited_count(ports), zero = 0;
	struct connection *connection;
	struct task_struct *current;
	struct running *task;
	struct detail *detail;
	__u64 claim;

	if (!waiting || !READ_ONCE(*waiting))
		return 0;
	connection = connection_of(sk);
	if (!connection)
		return 0;
	detail = &connection->detail;
	claim = LOAD_ACQUIRE(detail->claim);
	if (DETAIL_STATE(claim) != DETAIL_OPEN)
		return 0;
	task = bpf_map_lookup_elem(&running, &zero);
	if (!task)
		return 0;
	current = bpf_get_current_task_btf();
	detail->read_ns = bpf_ktime_get_ns();
	detail->task = 0;
	detail->process = (__u32)current->tgid;
	__builtin_memcpy(detail->command, current->comm, sizeof(detail->command));
	if (task->task == (__u64)current && task_follow(task)) {
		detail->task = (__u64)current;
		task_waits(task, current, &detail->at_read);
	}
	/* Fails when the request has ended meanwhile: then nobody looks at the above. */
	if (COMPARE_AND_SWAP(&detail->claim, claim, claim - DETAIL_OPEN + DETAIL_READ) == claim)
		awaited_add(ports, -1);
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
	__u64 claim;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || tcp->write_seq == tcp->snd_nxt)
		return 0;
	connection = connection_of(sk);
	if (!connection || connection->side != SIDE_SERVER)
		return 0;
	detail = &connection->detail;
	claim = LOAD_ACQUIRE(detail->claim);
	if (DETAIL_STATE(claim) != DETAIL_READ)
		return 0;
	task = bpf_map_lookup_elem(&running, &zero);
	current = bpf_get_current_task_btf();
	if (!task || task->task != detail->task || !task->is_followed)
		return 0;
	detail->write_ns = bpf_ktime_get_ns();
	task_waits(task, current, &detail->at_write);
	COMPARE_AND_SWAP(&detail->claim, claim, claim - DETAIL_READ + DETAIL_WRITTEN);
	return 0;
}

/* One event of a connection's end. */
VERIFIED_ALONE int end_tell(
	struct connection *connection, struct ending *ending, __u32 reasons, __u32 has_detail)
{
	struct request_event *event;
	struct sock *sk;

	if (!connection || !ending)
		return 0;
	sk = (void *)connection->socket;
	event = event_begin(connection, ending, has_detail, (__u8)reasons);
	if (!event)
		return 0;
	event->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	event->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	event->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	event->local_ip4 = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
	event->remote_ip4 = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	if (event->family == AF_INET6) {
		BPF_CORE_READ_INTO(
			&event->local_ip6, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(
			&event->remote_ip6, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* What a step took out: requests without an answer, one line of them; a stream in mid-answer. */
static __always_inline void drop_tell(struct drop *drop, __u32 failed)
{
	struct ending ending = {.start_ns = drop->start_ns,
		.now_ns = drop->start_ns + EXCHANGE_ANSWER_NS(drop->answer),
		.id = drop->id,
		.response_bytes = EXCHANGE_ANSWER_BYTES(drop->answer),
		.status = EXCHANGE_STATUS(drop->claim),
		.grpc_status = GRPC_STATUS_NONE};
	__u32 reasons = EXCHANGE_BYTE(drop->claim),
	      state = detail_state_of(drop->connection, drop->id);

	if (!drop->slot->trace_threshold_ns || (!failed && !reasons))
		return;
	if (failed) {
		ending.now_ns = bpf_ktime_get_ns();
		ending.response_bytes = 0;
		ending.status = 0;
		ending.outcome = OUTCOME_FAILED;
		reasons = REASON_ERROR;
	} else if (state != DETAIL_ANSWERED) {
		state = DETAIL_FREE;
	}
	end_tell(drop->connection, &ending, reasons, state);
}

/* Step @index of the walk over the table; in the loop itself a verifier would follow it at each turn. */
VERIFIED_ALONE int drop_turn(struct connection *connection, struct exchanges *table,
	struct slot *slot, struct drop_left *left, __u32 index)
{
	struct drop drop = {.connection = connection, .table = table, .slot = slot};

	if (!connection || !table || !slot || !left)
		return 0;
	drop.left = *left;
	drop_tell(&drop, drop_step(&drop, index));
	*left = drop.left;
	return 0;
}

/*
 * No answer can come any more: of a server that has sent all and then its FIN (on the newest kernels
 * the socket may stay for long after that), of anyone in CLOSE.
 */
static __always_inline bool is_over(
	struct sock *sk, const struct connection *connection, int new_state)
{
	struct tcp_sock *tcp;

	if (new_state == TCP_CLOSE)
		return true;
	if (connection->side != SIDE_SERVER)
		return false;
	if (new_state == TCP_FIN_WAIT2)
		return true;
	if (new_state != TCP_FIN_WAIT1 && new_state != TCP_LAST_ACK)
		return false;
	tcp = bpf_skc_to_tcp_sock(sk);
	return tcp && tcp->write_seq == tcp->snd_nxt;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_closed, struct sock *sk, int old_state, int new_state)
{
	struct connection *connection;
	struct drop drop = {};
	struct slot *slot;

	if (new_state < TCP_FIN_WAIT1 || new_state == TCP_LISTEN || old_state == TCP_LISTEN)
		return 0;
	connection = connection_of(sk);
	if (!connection || !is_over(sk, connection, new_state))
		return 0;
	slot = connection_slot(connection);
	if (!slot || !gate_close(connection))
		return 0;
	connection->socket = (__u64)sk;
	drop_begin(&drop, connection, bpf_sk_storage_get(&multiplexed, sk, 0, 0), slot);
	if (drop_single(&drop))
		drop_tell(&drop, 1);
	if (drop.table)
		for (__u32 i = 0; i < EXCHANGES; i++)
			drop_turn(connection, drop.table, slot, &drop.left, i);
	drop_end(&drop);
	if (connection->dropped)
		count_failed(slot, connection, connection->dropped);
	return 0;
}
