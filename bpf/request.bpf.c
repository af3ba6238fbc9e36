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

/* Whether @bytes end within a method, or within the preface of HTTP/2, and so do not tell yet. */
static __always_inline bool head_is_cut(const __u8 *head, __u32 bytes)
{
	__u32 at;

	if (bytes < 16 && head[0] == 'P' && head[1] == 'R' && head[2] == 'I' && head[3] == ' ')
		return true;
	for (at = 0; at < 8; at++) {
		if (at >= bytes)
			return true;
		if (head[at] == ' ')
			return at >= 3 && bytes == at + 1;
		if (head[at] < 'A' || head[at] > 'Z')
			return false;
	}
	return false;
}

/*
 * The first bytes of a request, at most 16, in the room with zeros behind them: what came before
 * (*@before of them) and what this segment has. Returns how many.
 */
static __always_inline __u32 first_load(struct feed *feed, __u32 *before)
{
	struct connection *connection = feed->connection;
	__u8 *head = feed->room->bytes;
	__u32 count = 0, bytes;

	__builtin_memset(head, 0, 32);
	/* A request that was answered before it told anything is over. */
	if (connection->protocol == PROTOCOL_OPAQUE ||
		(connection->protocol == PROTOCOL_UNKNOWN && connection->in_flight)) {
		count = connection->first.count & 15;
		__builtin_memcpy(head, connection->first.bytes, sizeof(connection->first.bytes));
	}
	*before = count;
	asm volatile("" : "+r"(count));
	bytes = PAYLOAD_LOAD(feed->skb, feed->room->offset, feed->room->end - feed->room->offset,
		head + (count & 15), 16);
	if (!bytes)
		return 0;
	bytes += count;
	return bytes < 16 ? bytes : 16;
}

/* The request of HTTP/1 whose first @before bytes were in earlier segments goes on. */
static __always_inline void request1_resume(struct feed *feed)
{
	struct connection *connection = feed->connection;

	connection->is_head = feed->room->bytes[0] == 'H';
	connection->request1.flags = connection->is_head ? HTTP1_HEAD : 0;
	connection->request1.state = HTTP1_SKIP;
}

static __always_inline void protocol_forget(struct connection *connection)
{
	connection->protocol = PROTOCOL_UNKNOWN;
	connection->first.count = 0;
}

/* What the first bytes of a request say of the connection's protocol. */
static __always_inline void protocol_find(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u8 *head = feed->room->bytes;
	struct http2_frame frame;
	__u32 before, bytes = first_load(feed, &before);

	if (!bytes)
		return;
	if (connection->protocol == PROTOCOL_OPAQUE &&
		(head[0] != 'P' || (bytes > 1 && head[1] != 'R'))) {
		connection->first.count = 0;
		return;
	}
	if (connection->protocol != PROTOCOL_HTTP1 && head_is_cut(head, bytes)) {
		__builtin_memcpy(connection->first.bytes, head, sizeof(connection->first.bytes));
		connection->first.count = (__u8)bytes;
		if (connection->protocol == PROTOCOL_UNKNOWN && !connection->in_flight)
			single_begin(feed);
		return;
	}
	__builtin_memset(&connection->request1, 0, sizeof(connection->request1));
	__builtin_memset(&connection->response1, 0, sizeof(connection->response1));
	if (bytes == 16 && head[0] == 'P' && head[1] == 'R' && head[2] == 'I' && head[4] == '*' &&
		head[6] == 'H') {
		connection->protocol = PROTOCOL_HTTP2;
		connection->request2.skip = HTTP2_PREFACE_BYTES - before;
		connection->next_id = 0;
	} else if (is_method(head, bytes)) {
		connection->protocol = PROTOCOL_HTTP1;
		if (before)
			request1_resume(feed);
	} else if (bytes >= 3 && head[0] >= 0x14 && head[0] <= 0x17 && head[1] == 3 &&
		   head[2] <= 4) {
		connection->protocol = PROTOCOL_TLS;
	} else {
		connection->protocol = PROTOCOL_TCP;
		if (bytes >= HTTP2_HEADER_BYTES) {
			http2_read(head, &frame);
			if (http2_is_likely(&frame, feed->room->end - feed->room->offset)) {
				/* Older than the agent, or after an upgrade. */
				connection->protocol = PROTOCOL_HTTP2;
				connection->next_id = 0;
			}
		}
	}
	/* Nothing that was begun as another protocol's can be answered in this one. */
	if (connection->protocol != PROTOCOL_HTTP1 &&
		(connection->flags & CONNECTION_MANY ||
			(connection->protocol == PROTOCOL_HTTP2 && connection->in_flight)))
		flights_drop(connection, table_get(feed), feed->slot);
	if (connection->protocol == PROTOCOL_HTTP2)
		connection->flags |= CONNECTION_MANY;
}

/* An alert of TLS 1.3 (two bytes, their kind and a tag of 16), which looks like application data. */
#define TLS_ALERT_BYTES 19

/* TLS: whether the segment carries application data that is a request's. */
static __always_inline bool tls_has_request(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 at = feed->room->offset, bytes;
	__u8 record[5];

	for (int i = 0; i < 4; i++) {
		if (at + sizeof(record) > feed->room->end ||
			bpf_skb_load_bytes(feed->skb, at, record, sizeof(record)))
			return false;
		bytes = (__u32)record[3] << 8 | record[4];
		if (record[0] == 0x14)
			connection->flags |= CONNECTION_SKIP_RECORD;
		else if (record[0] == 0x16)
			connection->flags &= (__u8)~CONNECTION_SKIP_RECORD;
		else if (record[0] == 0x17 && bytes != TLS_ALERT_BYTES &&
			 !(connection->flags & CONNECTION_SKIP_RECORD))
			return true;
		else if (record[0] == 0x17)
			connection->flags &= (__u8)~CONNECTION_SKIP_RECORD;
		else
			return false;
		at += sizeof(record) + bytes;
	}
	return false;
}

static __always_inline void feed_request(struct feed *feed)
{
	struct connection *connection = feed->connection;

	/* An upgraded connection may turn out to speak HTTP/2; any other is left alone. */
	if (connection->protocol == PROTOCOL_UNKNOWN || connection->protocol == PROTOCOL_OPAQUE ||
		(connection->protocol == PROTOCOL_HTTP1 &&
			connection->request1.state == HTTP1_LOST))
		protocol_find(feed);
	switch (connection->protocol) {
	case PROTOCOL_HTTP1:
		http1_requests(feed);
		return;
	case PROTOCOL_HTTP2:
		if (table_get(feed))
			FEED_RUN(feed_request2, feed);
		return;
	case PROTOCOL_TLS:
		if (!connection->in_flight && tls_has_request(feed))
			single_begin(feed);
		return;
	case PROTOCOL_TCP:
		if (!connection->in_flight)
			single_begin(feed);
		return;
	default:
		return;
	}
}

static __always_inline void feed_response(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u8 type;

	switch (connection->protocol) {
	case PROTOCOL_HTTP1:
	case PROTOCOL_UNKNOWN: /* its request came before its socket */
		http1_responses(feed);
		return;
	case PROTOCOL_HTTP2:
		if (table_get(feed))
			FEED_RUN(feed_response2, feed);
		return;
	case PROTOCOL_TLS:
		if (connection->in_flight &&
			!bpf_skb_load_bytes(feed->skb, feed->room->offset, &type, 1) &&
			type == 0x17)
			single_answer(feed, 0);
		return;
	default:
		if (connection->in_flight && !(connection->flags & CONNECTION_MANY))
			single_answer(feed, 0);
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

static __noinline int connection_open(
	struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection)
{
	struct slot *slot;
	__u32 *index;
	__u64 key;

	connection->side = side_of(skb, sk);
	connection->slot = SLOT_NONE;
	/* The socket's cgroup or the nearest one above it that is a unit's. */
	key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_cgroup_id(skb));
	index = bpf_map_lookup_elem(&slot_index, &key);
	for (int level = 2 * SLOT_DEPTH; level > 0 && !index; level--) {
		key = SLOT_KEY(HIERARCHY_UNIFIED, bpf_skb_ancestor_cgroup_id(skb, level));
		index = bpf_map_lookup_elem(&slot_index, &key);
	}
	slot = index ? slot_at(*index) : 0;
	if (!slot) {
		connection->side = SIDE_NONE;
		return 0;
	}
	connection->slot = *index;
	connection->epoch = slot->epoch;
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
		connection->flags |= CONNECTION_REQUEST_SEEN;
		/* A handshake of TLS or the preface of HTTP/2 is no request. */
		if (request->head[0] != 0x16 &&
			(request->head[0] != 'P' || request->head[1] != 'R')) {
			connection->start_ns = request->start_ns;
			connection->age = age_bucket(slot, request->start_ns);
			connection->in_flight = 1;
			flight_begin(slot, connection->slot, 1, connection->age);
		}
	}
	bpf_map_delete_elem(&early, &key);
}

/* @segment as far as it is new, in @feed. False: all of it has been seen before. */
static __always_inline bool feed_begin(
	struct feed *feed, struct segment *segment, __u32 *newest_end, __u8 seen_flag)
{
	struct connection *connection = feed->connection;
	__u32 end = segment->sequence + segment->payload_bytes;
	__s32 old;

	feed->room->offset = segment->payload_offset;
	feed->room->end = segment->payload_offset + segment->payload_bytes;
	feed->room->payload_bytes = segment->payload_bytes;
	if (connection->flags & seen_flag) {
		if ((__s32)(end - *newest_end) <= 0)
			return false;
		old = (__s32)(*newest_end - segment->sequence);
		if (old > 0) {
			feed->room->offset += (__u32)old;
			feed->room->payload_bytes -= (__u32)old;
		} else if (old < 0) {
			feed->room->has_gap = true;
		}
	}
	connection->flags |= seen_flag;
	*newest_end = end;
	return true;
}

/*
 * Bytes were missed (lost, or out of order), or a frame could not be one: where messages begin has
 * to be found anew, and what was in flight is no longer known.
 */
static __always_inline void framing_lost(struct feed *feed)
{
	struct connection *connection = feed->connection;

	if (connection->protocol == PROTOCOL_HTTP1)
		connection->request1.state = HTTP1_LOST;
	else if (connection->protocol >= PROTOCOL_HTTP2)
		protocol_forget(connection);
	CONTROL_COUNT(connections_lost);
	if (connection->flags & CONNECTION_MANY)
		flights_drop(connection, table_get(feed), feed->slot);
}

/* The payload of @segment, on a connection that is a unit's. */
static __always_inline void segment_feed(
	struct feed *feed, struct segment *segment, bool is_ingress)
{
	struct connection *connection = feed->connection;
	bool is_request = is_ingress == (connection->side == SIDE_SERVER);

	feed->room->begun = feed->room->head_mask = feed->room->has_gap = feed->room->left = 0;
	if (!feed_begin(feed, segment,
		    is_request ? &connection->request_end : &connection->response_end,
		    is_request ? CONNECTION_REQUEST_SEEN : CONNECTION_RESPONSE_SEEN))
		return;
	/* Most of what leaves is the rest of a response. */
	if (!is_request && !connection->in_flight && !(connection->flags & CONNECTION_MANY))
		return;
	/* TCP stamps what it sends by the same clock, so on the way out it costs nothing. */
	feed->room->now_ns = is_ingress ? 0 : feed->skb->tstamp;
	if (!feed->room->now_ns)
		feed->room->now_ns = bpf_ktime_get_ns();
	if (connection->protocol == PROTOCOL_LOST ||
		(feed->room->has_gap && (connection->protocol == PROTOCOL_HTTP1 ||
						connection->protocol == PROTOCOL_HTTP2)))
		framing_lost(feed);
	if (is_request)
		feed_request(feed);
	else
		feed_response(feed);
}

/*
 * First segment of a socket, or first one since its slot was given to another container: whose it
 * is. NULL: no unit's. Functions of their own keep the ways through them from being followed again
 * and again behind them.
 */
static __noinline struct connection *connection_find(
	struct __sk_buff *skb, struct bpf_sock *sk, struct connection *connection)
{
	if (connection) {
		table_clear(bpf_sk_storage_get(&multiplexed, sk, 0, 0));
		connection->in_flight = 0;
		connection->flags = 0;
		protocol_forget(connection);
		connection_open(skb, sk, connection);
		return connection;
	}
	connection = bpf_sk_storage_get(&connections, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection)
		return 0;
	if (!connection->side)
		connection_open(skb, sk, connection);
	if (connection->side == SIDE_SERVER)
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
	if (!feed.connection ||
		(feed.connection->side != SIDE_NONE && !connection_slot(feed.connection))) {
		if (sk->state == TCP_LISTEN) {
			early_store(skb, &segment);
			return 1;
		}
		feed.connection = connection_find(skb, sk, feed.connection);
		if (!feed.connection)
			return 1;
	}
	if (feed.connection->side == SIDE_NONE)
		return 1;
	feed.slot = slot_at(feed.connection->slot);
	all = bpf_map_lookup_elem(&rooms, &zero);
	if (!feed.slot || !all)
		return 1;
	feed.room = &all->rooms[all->depth++ & (ROOMS - 1)];
	segment_feed(&feed, &segment, is_ingress);
	all->depth--;
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

	if (connection)
		connection_closed(connection, bpf_sk_storage_get(&multiplexed, sk, 0, 0));
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
