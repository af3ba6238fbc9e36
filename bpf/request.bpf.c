// SPDX-License-Identifier: GPL-2.0
/*
 * Requests over TCP, of servers and of clients: each segment of a unit's sockets is seen on its way
 * in and out. HTTP/1 and HTTP/2 are followed by their framing; everything else is taken as turns: a
 * request begins with the first payload while none is in flight, and the first payload the other
 * way answers it.
 */
#include "feed_http1.h"
#include "feed_http2.h"

char LICENSE[] SEC("license") = "GPL";

struct segment {
	__u32 header_bytes; /* of IP */
	__u32 sequence;
	__u32 payload_offset;
	__u32 payload_bytes;
};

/* 0 and *@segment for a TCP segment with payload, else -1. @skb starts at the network header. */
static __always_inline int segment_parse(struct __sk_buff *skb, struct segment *segment)
{
	const __u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 header_bytes = 40, protocol = skb->protocol;
	const __u8 *tcp;

	/* IP and TCP headers are in the linear part by the time that a socket is known. */
	if (data + 40 > end)
		return -1;
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (data[9] != IPPROTO_TCP)
			return -1;
		header_bytes = (data[0] & 15U) * 4;
	} else if (protocol != bpf_htons(ETH_P_IPV6) || data[6] != IPPROTO_TCP) {
		/* Extension headers do not occur on TCP data in practice; such a packet is left. */
		return -1;
	}
	tcp = data + header_bytes;
	if (tcp + 20 > end)
		return -1;
	segment->header_bytes = header_bytes;
	header_bytes += (tcp[12] >> 4) * 4U;
	/* Length from the skb: with BIG TCP the IP header's own field is 0. */
	if (skb->len <= header_bytes)
		return -1;
	segment->sequence = bpf_ntohl(*(const __be32 *)(tcp + 4));
	segment->payload_offset = header_bytes;
	segment->payload_bytes = skb->len - header_bytes;
	return 0;
}

static __always_inline bool is_method(const __u8 *head, __u32 bytes)
{
	__u32 at;

	/* Three capital letters at least, then capitals up to a space. */
	if (bytes < 5 || head[0] < 'A' || head[0] > 'Z' || head[1] < 'A' || head[1] > 'Z' ||
		head[2] < 'A' || head[2] > 'Z')
		return false;
	for (at = 3; at < 8; at++) {
		if (head[at] == ' ')
			return head[at + 1] == '/' || head[at + 1] == '*' || head[at + 1] == 'h';
		if (head[at] < 'A' || head[at] > 'Z')
			return false;
	}
	return false;
}

/*
 * What the first @bytes (at most 16) of a request, in the room, say of the protocol of a connection
 * that was @known to speak another. PROTOCOL_UNKNOWN: nothing.
 */
VERIFIED_ALONE __u32 protocol_of(struct room *room, __u32 bytes, __u32 known)
{
	const __u8 *head;

	if (!room || !bytes)
		return PROTOCOL_UNKNOWN;
	head = room->bytes;
	room->is_preface = bytes == 16 && head[0] == 'P' && head[1] == 'R' && head[2] == 'I' &&
			   head[4] == '*' && head[6] == 'H';
	if (room->is_preface)
		return PROTOCOL_HTTP2;
	if (known == PROTOCOL_OPAQUE)
		return PROTOCOL_UNKNOWN;
	if (is_method(head, bytes))
		return PROTOCOL_HTTP1;
	/* Somewhere in a message: wait for one that begins. */
	if (known == PROTOCOL_HTTP1)
		return PROTOCOL_UNKNOWN;
	if (bytes >= 3 && head[0] >= 0x14 && head[0] <= 0x17 && head[1] == 3 && head[2] <= 4)
		return PROTOCOL_TLS;
	if (bytes >= HTTP2_HEADER_BYTES) {
		http2_read(head, &room->frame);
		/* Older than the agent, or after an upgrade. */
		if (http2_is_likely(&room->frame, room->end - room->offset))
			return PROTOCOL_HTTP2;
	}
	return PROTOCOL_TCP;
}

static __always_inline void protocol_find(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct room *room = feed->room;
	__u32 known = SHAPE_PROTOCOL(connection->shape), found, bytes;

	bytes = PAYLOAD_LOAD(feed->skb, room->offset, room->end - room->offset, room->bytes, 16);
	found = protocol_of(room, bytes, known);
	if (found == PROTOCOL_UNKNOWN)
		return;
	/* Streams and a queue do not go into one table. */
	if (found == PROTOCOL_HTTP2 && connection->request_flags & REQUEST_MANY)
		return;
	__builtin_memset(&connection->request1, 0, sizeof(connection->request1));
	if (room->is_preface)
		connection->request2.skip = HTTP2_PREFACE_BYTES;
	connection->last_stream = 0;
	if (found != known)
		protocol_set(connection, found);
}

/* TLS: whether the segment carries application data that is a request's. */
static __always_inline bool tls_has_request(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 at = feed->room->offset;
	__u8 record[5];

	for (int i = 0; i < 4; i++) {
		if (at + sizeof(record) > feed->room->end ||
			bpf_skb_load_bytes(feed->skb, at, record, sizeof(record)))
			return false;
		if (record[0] == 0x14)
			connection->request_flags |= REQUEST_SKIP_RECORD;
		else if (record[0] == 0x16)
			connection->request_flags &= ~(__u32)REQUEST_SKIP_RECORD;
		else if (record[0] == 0x17 && !(connection->request_flags & REQUEST_SKIP_RECORD))
			return true;
		else if (record[0] == 0x17)
			connection->request_flags &= ~(__u32)REQUEST_SKIP_RECORD;
		else
			return false;
		at += sizeof(record) + ((__u32)record[3] << 8 | record[4]);
	}
	return false;
}

static __always_inline void feed_request(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 protocol = SHAPE_PROTOCOL(connection->shape);

	if (protocol == PROTOCOL_HTTP1) {
		if (READ_ONCE(connection->upgraded_shape) == connection->shape)
			protocol_set(connection, PROTOCOL_OPAQUE);
		else if (feed->room->has_gap)
			http1_requests_lost(connection);
	}
	/* An upgraded connection may turn out to speak HTTP/2; any other is left alone. */
	protocol = SHAPE_PROTOCOL(connection->shape);
	if (protocol == PROTOCOL_UNKNOWN || protocol == PROTOCOL_OPAQUE ||
		(protocol == PROTOCOL_HTTP1 && connection->request1.state == HTTP1_LOST)) {
		protocol_find(feed);
		protocol = SHAPE_PROTOCOL(connection->shape);
	}
	switch (protocol) {
	case PROTOCOL_HTTP1:
		http1_requests(feed);
		return;
	case PROTOCOL_HTTP2:
		http2_requests(feed);
		return;
	case PROTOCOL_TLS:
		if (!connection_in_flight(connection) && tls_has_request(feed))
			single_begin(feed);
		return;
	case PROTOCOL_TCP:
		if (!connection_in_flight(connection))
			single_begin(feed);
		return;
	default:
		return;
	}
}

static __always_inline void feed_response(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 shape = LOAD_ACQUIRE(connection->shape);
	__u8 type;

	if (connection->response_shape != shape) {
		connection->response_shape = shape;
		connection->response_flags &= ~(__u32)(RESPONSE_SYNCED | RESPONSE_SKIPPED);
	}
	switch (SHAPE_PROTOCOL(shape)) {
	case PROTOCOL_HTTP1:
	case PROTOCOL_UNKNOWN: /* its request came before its socket */
		if (shape && connection->upgraded_shape == shape)
			return;
		http1_responses(feed);
		return;
	case PROTOCOL_HTTP2:
		http2_responses(feed);
		return;
	case PROTOCOL_TLS:
		if (connection_in_flight(connection) &&
			!bpf_skb_load_bytes(feed->skb, feed->room->offset, &type, 1) &&
			type == 0x17)
			single_answer(feed, 0);
		return;
	case PROTOCOL_TCP:
		if (connection_in_flight(connection))
			single_answer(feed, 0);
		return;
	default:
		return;
	}
}

/* A server's socket is one whose local port is listened on: true of old connections as well. */
static __always_inline __u8 side_of(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *listener;
	__u32 tuple_bytes;
	__u8 side = SIDE_CLIENT;

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
		return side;
	if (listener->state == TCP_LISTEN)
		side = SIDE_SERVER;
	bpf_sk_release(listener);
	return side;
}

/* Whose the connection is. */
static __noinline int connection_open(
	struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection)
{
	struct slot *slot;
	__u32 *index;
	__u64 key;

	connection->side = side_of(skb, sk);
	/* The socket's cgroup or the nearest one above it that is a unit's. */
	key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_cgroup_id(skb));
	index = bpf_map_lookup_elem(&slot_index, &key);
	for (int level = 2 * SLOT_DEPTH; level > 0 && !index; level--) {
		key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_ancestor_cgroup_id(skb, level));
		index = bpf_map_lookup_elem(&slot_index, &key);
	}
	slot = index ? slot_at(*index) : 0;
	STORE_RELEASE(connection->owner, slot ? OWNER(*index, slot->epoch) : OWNER_NONE);
	return 0;
}

/*
 * A first request that overtakes the handshake's last ACK, or waits for it (TCP_DEFER_ACCEPT), is
 * shown to us with the listener's socket, not yet its own. It waits here, by remote address (IPv6:
 * its last word) and ports, until the connection's own socket shows itself.
 */
struct early_key {
	__u32 remote_ip;
	__u16 remote_port; /* both in network byte order */
	__u16 local_port;
};

struct early_request {
	__u64 start_ns;
	__u32 sequence;
	__u32 payload_bytes;
	__u8 head[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct early_key);
	__type(value, struct early_request);
} early SEC(".maps");

static __noinline int early_store(struct __sk_buff *skb, struct segment *segment)
{
	struct early_request request = {.start_ns = bpf_ktime_get_ns(),
		.sequence = segment->sequence,
		.payload_bytes = segment->payload_bytes};
	struct early_key key = {};

	if (segment->payload_bytes >= sizeof(request.head))
		bpf_skb_load_bytes(
			skb, segment->payload_offset, request.head, sizeof(request.head));
	/* Source address: the last word before the destination's. */
	if (bpf_skb_load_bytes(skb, segment->header_bytes == 40 ? 20 : 12, &key.remote_ip, 4) ||
		bpf_skb_load_bytes(skb, segment->header_bytes, &key.remote_port, 4))
		return 0;
	bpf_map_update_elem(&early, &key, &request, BPF_NOEXIST);
	return 0;
}

/* The request that came before its socket; its bytes are gone, so it is taken as one request. */
static __always_inline void early_take(struct bpf_sock *sk, struct connection *connection)
{
	struct early_key key = {
		.remote_port = sk->dst_port, .local_port = bpf_htons((__u16)sk->src_port)};
	__u32 ip4 = sk->dst_ip4, ip6 = sk->dst_ip6[3];
	struct early_request *request;
	struct slot *slot;

	/* Both are loaded first: a choice of fields becomes a computed address. */
	asm volatile("" : "+r"(ip4), "+r"(ip6));
	key.remote_ip = sk->family == AF_INET ? ip4 : ip6;
	request = bpf_map_lookup_elem(&early, &key);
	slot = connection_slot(connection);
	if (!request)
		return;
	if (slot) {
		connection->request_end = request->sequence + request->payload_bytes;
		connection->request_flags |= REQUEST_SEEN;
		/* A handshake of TLS or the preface of HTTP/2 is no request. */
		if (request->head[0] != 0x16 &&
			(request->head[0] != 'P' || request->head[1] != 'R')) {
			connection->start_ns = request->start_ns;
			connection->age = age_bucket(slot, request->start_ns);
			flight_begin(slot, 1, connection->age);
			STORE_RELEASE(connection->begun, connection->begun + 1);
		}
	}
	bpf_map_delete_elem(&early, &key);
}

/*
 * @segment as far as it is new, in @feed. False: all of it has been seen before. @newest_end and
 * @flags are those of the segment's way; 1 is the flag of either for an end that is valid.
 */
static __always_inline bool feed_begin(
	struct feed *feed, struct segment *segment, __u32 *newest_end, __u32 *flags)
{
	struct room *room = feed->room;
	__u32 end = segment->sequence + segment->payload_bytes;
	__s32 old;

	room->offset = segment->payload_offset;
	room->end = segment->payload_offset + segment->payload_bytes;
	room->payload_bytes = segment->payload_bytes;
	room->begun = room->head_mask = room->has_gap = room->left = room->is_lost = 0;
	if (!(*flags & 1)) {
		*flags |= 1;
	} else {
		if ((__s32)(end - *newest_end) <= 0)
			return false;
		old = (__s32)(*newest_end - segment->sequence);
		if (old > 0) {
			room->offset += (__u32)old;
			room->payload_bytes -= (__u32)old;
		} else if (old < 0) {
			room->has_gap = true;
		}
	}
	*newest_end = end;
	return true;
}

/* TCP stamps what it sends by the same clock, so on the way out it costs nothing. */
static __always_inline __u64 time_of(struct __sk_buff *skb)
{
	__u64 now_ns = skb->tstamp;

	return now_ns ? now_ns : bpf_ktime_get_ns();
}

/* Most of what a server sends is the rest of a response. */
static __always_inline bool is_of_interest(struct connection *connection)
{
	return connection_in_flight(connection) ||
	       READ_ONCE(connection->request_flags) & REQUEST_MANY ||
	       connection->response_flags & RESPONSE_SYNCED ||
	       connection_protocol(connection) == PROTOCOL_HTTP2;
}

/* The payload of @segment, on a connection that is a unit's. */
static __always_inline void segment_feed(
	struct feed *feed, struct segment *segment, bool is_ingress)
{
	struct connection *connection = feed->connection;

	if (is_ingress == (connection->side == SIDE_SERVER)) {
		if (!feed_begin(
			    feed, segment, &connection->request_end, &connection->request_flags))
			return;
		feed->room->now_ns = is_ingress ? bpf_ktime_get_ns() : time_of(feed->skb);
		feed_request(feed);
		return;
	}
	if (!feed_begin(feed, segment, &connection->response_end, &connection->response_flags) ||
		!is_of_interest(connection))
		return;
	feed->room->now_ns = is_ingress ? bpf_ktime_get_ns() : time_of(feed->skb);
	feed_response(feed);
}

/* As new, but for the socket being over. */
static __always_inline void connection_clear(struct connection *connection)
{
	connection->begun = connection->over = 0;
	connection->request_flags = connection->response_flags = 0;
	connection->last_stream = 0;
	connection->upgraded_shape = 0;
	connection->detail.claim = 0;
	STORE_RELEASE(connection->shape,
		SHAPE(SHAPE_GENERATION(connection->shape) + 1, PROTOCOL_UNKNOWN));
}

/* Nothing of what the table holds is in flight any more; the counts are not touched. */
static __noinline int table_clear(struct exchanges *table)
{
	if (!table)
		return 0;
	table->first = table->next = 0;
	table->statuses.is_followed = 0;
	for (__u32 i = 0; i < EXCHANGES; i++)
		table->entries[i].claim = 0;
	return 0;
}

/*
 * First segment of a socket, or first one since its slot was given to another container: whose it
 * is. NULL: no unit's, or another CPU is looking. Functions of their own keep the ways through them
 * from being followed again and again behind them.
 */
static __noinline struct connection *connection_find(
	struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection)
{
	__u64 owner;

	if (!connection)
		connection = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection)
		return 0;
	owner = READ_ONCE(connection->owner);
	if (owner == OWNER_NONE || owner == OWNER_BUSY ||
		COMPARE_AND_SWAP(&connection->owner, owner, OWNER_BUSY) != owner)
		return 0;
	if (owner) {
		table_clear(bpf_sk_storage_get(&multiplexed, sk, 0, 0));
		connection_clear(connection);
	}
	connection_open(skb, sk, connection);
	if (connection->owner == OWNER_NONE)
		return 0;
	if (!owner && connection->side == SIDE_SERVER)
		early_take(sk, connection);
	return connection;
}

static __always_inline int segment_seen(struct __sk_buff *skb, bool is_ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct segment segment;
	struct feed feed = {.skb = skb};
	struct rooms *all;
	__u32 zero = 0;

	if (!sk || segment_parse(skb, &segment))
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	feed.sk = sk;
	feed.connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	feed.slot = feed.connection ? connection_slot(feed.connection) : 0;
	if (!feed.slot) {
		if (sk->state == TCP_LISTEN) {
			early_store(skb, &segment);
			return 1;
		}
		feed.connection = connection_find(skb, sk, feed.connection);
		if (!feed.connection)
			return 1;
		feed.slot = connection_slot(feed.connection);
	}
	all = bpf_map_lookup_elem(&rooms, &zero);
	if (!feed.slot || !all)
		return 1;
	/* What leaves is seen under the socket's lock; its end comes behind it. */
	if (is_ingress ? !gate_enter(feed.connection)
		       : READ_ONCE(feed.connection->gate) & GATE_OVER)
		return 1;
	feed.room = &all->rooms[all->depth++ & (ROOMS - 1)];
	segment_feed(&feed, &segment, is_ingress);
	all->depth--;
	if (is_ingress && gate_leave(feed.connection))
		connection_end(
			feed.connection, bpf_sk_storage_get(&multiplexed, sk, 0, 0), feed.slot);
	return 1;
}

/*
 * The owner closes its socket. Only where tracing programs cannot reach a socket's state (before
 * 5.11); elsewhere socket.bpf.c sees the connection itself end.
 */
SEC("cgroup/sock_release")
int request_release(struct bpf_sock *sk)
{
	struct connection *connection = bpf_sk_storage_get(&connections, sk, 0, 0);
	struct slot *slot = connection ? connection_slot(connection) : 0;

	if (slot && gate_close(connection))
		connection_end(connection, bpf_sk_storage_get(&multiplexed, sk, 0, 0), slot);
	return 1;
}

SEC("cgroup_skb/ingress")
int request_ingress(struct __sk_buff *skb)
{
	return segment_seen(skb, true);
}

SEC("cgroup_skb/egress")
int request_egress(struct __sk_buff *skb)
{
	return segment_seen(skb, false);
}
