// SPDX-License-Identifier: GPL-2.0
/*
 * Request latency of servers over TCP, by turn-taking: a request begins with the first payload
 * that arrives while none is pending, and is answered by the first payload that leaves. State
 * belongs to the socket and dies with it.
 */
#include "slots.h"

#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

enum role {
	ROLE_SERVER = 1,
	ROLE_OTHER = 2
};

struct connection {
	__u64 start_ns; /* of the pending request; 0: none */
	__u32 slot;
	__u32 received_end; /* sequence number after the newest payload, to know retransmissions */
	__u32 sent_end;
	__u8 role;
	__u8 received;
	__u8 sent;
	__u8 head_bytes;
	__u8 head[REQUEST_HEAD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/*
 * A first request that overtakes the handshake's last ACK is shown to us with the listener's
 * socket, not yet its own. It waits here, by remote address (IPv6: its last word) and ports, until
 * the answer leaves.
 */
struct early_key {
	__u32 remote_ip;
	__u16 remote_port; /* both in network byte order */
	__u16 local_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct early_key);
	__type(value, __u64);
} early SEC(".maps");

struct segment {
	__u32 header_bytes; /* of IP */
	__u32 sequence;
	__u32 payload_offset;
	__u32 payload_bytes;
};

/* 0 and *@segment for a TCP segment with payload, else -1. @skb starts at the network header. */
static __always_inline int segment_parse(struct __sk_buff *skb, struct segment *segment)
{
	__u32 header_bytes;
	__u8 tcp[14];
	__u8 first;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u8 ip[10];

		if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)) || ip[9] != IPPROTO_TCP)
			return -1;
		header_bytes = (ip[0] & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		/* Extension headers do not occur on TCP data in practice; such a packet is left. */
		if (bpf_skb_load_bytes(skb, 6, &first, 1) || first != IPPROTO_TCP)
			return -1;
		header_bytes = 40;
	} else {
		return -1;
	}
	if (bpf_skb_load_bytes(skb, header_bytes, tcp, sizeof(tcp)))
		return -1;
	segment->header_bytes = header_bytes;
	segment->sequence = (__u32)tcp[4] << 24 | (__u32)tcp[5] << 16 | (__u32)tcp[6] << 8 | tcp[7];
	header_bytes += (tcp[12] >> 4) * 4;
	/* Length from the skb: with BIG TCP the IP header's own field is 0. */
	if (skb->len <= header_bytes)
		return -1;
	segment->payload_offset = header_bytes;
	segment->payload_bytes = skb->len - header_bytes;
	return 0;
}

/* A server's socket is one whose local port is listened on: true of old connections as well. */
static __always_inline __u8 role_of(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;
	__u32 tuple_bytes;
	__u8 role = ROLE_OTHER;

	/* Port 0 is nobody's, so no established socket matches and the listener is found. */
	if (sk->family == AF_INET) {
		tuple.ipv4.daddr = sk->src_ip4;
		tuple.ipv4.dport = bpf_htons((__u16)sk->src_port);
		tuple_bytes = sizeof(tuple.ipv4);
	} else {
		tuple.ipv6.daddr[0] = sk->src_ip6[0];
		tuple.ipv6.daddr[1] = sk->src_ip6[1];
		tuple.ipv6.daddr[2] = sk->src_ip6[2];
		tuple.ipv6.daddr[3] = sk->src_ip6[3];
		tuple.ipv6.dport = bpf_htons((__u16)sk->src_port);
		tuple_bytes = sizeof(tuple.ipv6);
	}
	listener = bpf_skc_lookup_tcp(skb, &tuple, tuple_bytes, BPF_F_CURRENT_NETNS, 0);
	if (!listener)
		return ROLE_OTHER;
	if (listener->state == TCP_LISTEN)
		role = ROLE_SERVER;
	bpf_sk_release(listener);
	return role;
}

static __always_inline void connection_open(
	struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection)
{
	__u64 key;
	__u32 *index;

	connection->role = role_of(skb, sk);
	connection->slot = SLOT_NONE;
	/* The socket's cgroup or the nearest one above it that is a unit's. */
	key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_cgroup_id(skb));
	index = bpf_map_lookup_elem(&slot_index, &key);
	for (int level = 2 * SLOT_DEPTH; level > 0 && !index; level--) {
		key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_ancestor_cgroup_id(skb, level));
		index = bpf_map_lookup_elem(&slot_index, &key);
	}
	if (index)
		connection->slot = *index;
}

static __always_inline void early_store(struct __sk_buff *skb, struct segment *segment)
{
	__u64 now_ns = bpf_ktime_get_ns();
	struct early_key key = {};

	/* Source address: the last word before the destination's. */
	if (bpf_skb_load_bytes(skb, segment->header_bytes == 40 ? 20 : 12, &key.remote_ip, 4) ||
		bpf_skb_load_bytes(skb, segment->header_bytes, &key.remote_port, 4))
		return;
	bpf_map_update_elem(&early, &key, &now_ns, BPF_NOEXIST);
}

/* A socket whose first payload leaves before any was seen to arrive. */
static __always_inline struct connection *early_take(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct early_key key = {
		.remote_port = sk->dst_port, .local_port = bpf_htons((__u16)sk->src_port)};
	__u32 ip4 = sk->dst_ip4, ip6 = sk->dst_ip6[3];
	struct connection *connection;
	__u64 *start_ns;
	struct slot *slot;

	connection = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection || connection->role)
		return connection;
	connection_open(skb, sk, connection);
	if (connection->role != ROLE_SERVER)
		return connection;
	key.remote_ip = sk->family == AF_INET ? ip4 : ip6;
	start_ns = bpf_map_lookup_elem(&early, &key);
	slot = slot_at(connection->slot);
	if (start_ns && slot) {
		connection->start_ns = *start_ns;
		__sync_fetch_and_add(&slot->in_flight, 1);
	}
	bpf_map_delete_elem(&early, &key);
	return connection;
}

SEC("cgroup_skb/ingress")
int request_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct connection *connection;
	struct segment segment;
	struct slot *slot;
	__u32 end, head;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_TCP || segment_parse(skb, &segment))
		return 1;
	if (sk->state == TCP_LISTEN) {
		early_store(skb, &segment);
		return 1;
	}
	connection = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection)
		return 1;
	if (!connection->role)
		connection_open(skb, sk, connection);
	if (connection->role != ROLE_SERVER)
		return 1;
	end = segment.sequence + segment.payload_bytes;
	if (connection->received && (__s32)(end - connection->received_end) <= 0)
		return 1;
	connection->received = 1;
	connection->received_end = end;
	if (connection->start_ns)
		return 1;
	slot = slot_at(connection->slot);
	if (!slot)
		return 1;
	connection->start_ns = bpf_ktime_get_ns();
	connection->head_bytes = 0;
	__sync_fetch_and_add(&slot->in_flight, 1);
	if (slot->trace_threshold_ns) {
		head = segment.payload_bytes;
		if (head > REQUEST_HEAD_BYTES)
			head = REQUEST_HEAD_BYTES;
		/* As a mask, so that verifiers before 6.3 see 1 to REQUEST_HEAD_BYTES as well. */
		head = (head - 1) & (REQUEST_HEAD_BYTES - 1);
		asm volatile("" : "+r"(head));
		if (!bpf_skb_load_bytes(skb, segment.payload_offset, connection->head, head + 1))
			connection->head_bytes = (__u8)(head + 1);
	}
	return 1;
}

static __always_inline __u16 http_status(struct __sk_buff *skb, struct segment *segment)
{
	__u8 head[12];

	if (segment->payload_bytes < sizeof(head) ||
		bpf_skb_load_bytes(skb, segment->payload_offset, head, sizeof(head)))
		return 0;
	if (head[0] != 'H' || head[1] != 'T' || head[2] != 'T' || head[3] != 'P' || head[4] != '/')
		return 0;
	return (__u16)((head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0'));
}

static __always_inline void event_send(struct __sk_buff *skb, struct bpf_sock *sk,
	struct connection *connection, struct segment *segment, __u64 latency_ns)
{
	struct request_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		__u32 zero = 0;
		struct slot_control *control = bpf_map_lookup_elem(&slot_control, &zero);

		if (control)
			__sync_fetch_and_add(&control->events_lost, 1);
		return;
	}
	event->start_ns = connection->start_ns;
	event->latency_ns = latency_ns;
	event->slot = connection->slot;
	event->head_bytes = connection->head_bytes;
	event->response_bytes = segment->payload_bytes;
	event->family = (__u16)sk->family;
	event->local_port = (__u16)sk->src_port;
	event->remote_port = bpf_ntohs(sk->dst_port);
	event->status = http_status(skb, segment);
	/* Both, and the agent picks by family: a choice here becomes a computed address. */
	event->remote_ip4 = sk->dst_ip4;
	event->remote_ip6[0] = sk->dst_ip6[0];
	event->remote_ip6[1] = sk->dst_ip6[1];
	event->remote_ip6[2] = sk->dst_ip6[2];
	event->remote_ip6[3] = sk->dst_ip6[3];
	__builtin_memcpy(event->head, connection->head, sizeof(event->head));
	bpf_ringbuf_submit(event, 0);
}

SEC("cgroup_skb/egress")
int request_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct connection *connection;
	struct segment segment;
	__u64 latency_ns;
	struct slot *slot;
	__u32 end;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_TCP)
		return 1;
	connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (connection && connection->role != ROLE_SERVER)
		return 1;
	if (segment_parse(skb, &segment))
		return 1;
	if (!connection)
		connection = early_take(skb, sk);
	if (!connection || connection->role != ROLE_SERVER)
		return 1;
	end = segment.sequence + segment.payload_bytes;
	if (connection->sent && (__s32)(end - connection->sent_end) <= 0)
		return 1;
	connection->sent = 1;
	connection->sent_end = end;
	if (!connection->start_ns)
		return 1;
	slot = slot_at(connection->slot);
	if (!slot)
		return 1;
	latency_ns = bpf_ktime_get_ns() - connection->start_ns;
	slot_histogram_add(slot->latency, latency_ns);
	__sync_fetch_and_add(&slot->requests, 1);
	__sync_fetch_and_add(&slot->in_flight, -1);
	if (slot->objective_ns && latency_ns > slot->objective_ns)
		__sync_fetch_and_add(&slot->requests_over, 1);
	if (slot->trace_threshold_ns && latency_ns >= slot->trace_threshold_ns)
		event_send(skb, sk, connection, &segment, latency_ns);
	connection->start_ns = 0;
	return 1;
}

/* A connection that ends with a request pending: no answer. Keeps in_flight from sticking. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(request_close, struct sock *sk, int old_state, int new_state)
{
	struct connection *connection;
	struct slot *slot;

	if (new_state != TCP_CLOSE || old_state == TCP_LISTEN)
		return 0;
	connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	if (!connection || !connection->start_ns)
		return 0;
	connection->start_ns = 0;
	slot = slot_at(connection->slot);
	if (slot) {
		__sync_fetch_and_add(&slot->in_flight, -1);
		__sync_fetch_and_add(&slot->requests_failed, 1);
	}
	return 0;
}
