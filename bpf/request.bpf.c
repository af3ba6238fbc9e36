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

#define PROTOCOL_CUT 255 /* not to be told yet */

/*
 * What the first @bytes (at most 16) of a request, in the room with zeros behind them, say of the
 * protocol of a connection that was @known to speak another. PROTOCOL_UNKNOWN: nothing.
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
	if (known == PROTOCOL_OPAQUE && (head[0] != 'P' || (bytes > 1 && head[1] != 'R')))
		return PROTOCOL_UNKNOWN;
	if (known != PROTOCOL_HTTP1 && head_is_cut(head, bytes))
		return PROTOCOL_CUT;
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

/*
 * The first bytes of a request, at most 16, in the room with zeros behind them: what came before
 * (*@before of them) and what this segment has. Returns how many.
 */
static __always_inline __u32 first_load(struct feed *feed, __u32 known, __u32 *before)
{
	struct connection *connection = feed->connection;
	struct room *room = feed->room;
	__u32 count = 0, bytes;

	__builtin_memset(room->bytes, 0, 32);
	/* A request that was answered before it told anything is over. */
	if (known == PROTOCOL_OPAQUE ||
		(known == PROTOCOL_UNKNOWN && (room->begun || connection_in_flight(connection)))) {
		count = connection->first.count & 15;
		__builtin_memcpy(
			room->bytes, connection->first.bytes, sizeof(connection->first.bytes));
	}
	*before = count;
	asm volatile("" : "+r"(count));
	bytes = PAYLOAD_LOAD(
		feed->skb, room->offset, room->end - room->offset, room->bytes + (count & 15), 16);
	if (!bytes)
		return 0;
	bytes += count;
	return bytes < 16 ? bytes : 16;
}

/* What the first bytes of a request say of the connection's protocol. */
static __always_inline void protocol_find(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct room *room = feed->room;
	__u32 known = SHAPE_PROTOCOL(connection->shape), found, before,
	      bytes = first_load(feed, known, &before);
	bool is_head = room->bytes[0] == 'H';

	found = protocol_of(room, bytes, known);
	if (found == PROTOCOL_UNKNOWN) {
		if (known == PROTOCOL_OPAQUE)
			connection->first.count = 0;
		return;
	}
	if (found == PROTOCOL_CUT) {
		__builtin_memcpy(
			connection->first.bytes, room->bytes, sizeof(connection->first.bytes));
		connection->first.count = (__u8)bytes;
		return;
	}
	/* Streams and a queue do not go into one table. */
	if (found == PROTOCOL_HTTP2 && connection->request_flags & REQUEST_MANY)
		return;
	__builtin_memset(&connection->request1, 0, sizeof(connection->request1));
	if (room->is_preface) {
		connection->request_flags |= REQUEST_PREFACE;
		connection->request2.skip = HTTP2_PREFACE_BYTES - before;
	} else if (found == PROTOCOL_HTTP1 && before) {
		/* Its request began with what came before. */
		connection->is_head = is_head;
		connection->request1.flags = is_head ? HTTP1_HEAD : 0;
		connection->request1.state = HTTP1_SKIP;
	}
	connection->last_stream = 0;
	if (found != known)
		protocol_set(connection, found);
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
			connection->request_flags |= REQUEST_SKIP_RECORD;
		else if (record[0] == 0x16)
			connection->request_flags &= ~(__u32)REQUEST_SKIP_RECORD;
		else if (record[0] == 0x17 && bytes != TLS_ALERT_BYTES &&
			 !(connection->request_flags & REQUEST_SKIP_RECORD))
			return true;
		else if (record[0] == 0x17)
			connection->request_flags &= ~(__u32)REQUEST_SKIP_RECORD;
		else
			return false;
		at += sizeof(record) + bytes;
	}
	return false;
}

/* What the client sends from now on is no request, unless HTTP/2 begins. */
static __always_inline void protocol_opaque(struct connection *connection)
{
	connection->first.count = 0;
	protocol_set(connection, PROTOCOL_OPAQUE);
}

static __always_inline void feed_request(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 protocol = SHAPE_PROTOCOL(connection->shape);

	if (protocol == PROTOCOL_HTTP1) {
		if (READ_ONCE(connection->upgraded_shape) == connection->shape)
			protocol_opaque(connection);
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
	case PROTOCOL_UNKNOWN: /* its first bytes do not tell yet */
	case PROTOCOL_TCP:
		if (!connection_in_flight(connection))
			single_begin(feed);
		return;
	default:
		return;
	}
}

/* A request, begun before it was known to be none. */
static __always_inline void single_forget(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 begun = LOAD_ACQUIRE(connection->begun);

	if (begun == connection->over)
		return;
	if (connection->side == SIDE_SERVER)
		flight_drop(feed->slot, 1, connection->age);
	detail_set(connection, 0);
	STORE_RELEASE(connection->over, begun);
}

static __always_inline void feed_response(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 shape = LOAD_ACQUIRE(connection->shape);
	__u8 type;

	if (connection->response_shape != shape) {
		connection->response_shape = shape;
		connection->response_flags &= ~(__u32)(RESPONSE_SYNCED | RESPONSE_SKIPPED);
		/* What was begun as another protocol's cannot be answered in this one. */
		if (SHAPE_PROTOCOL(shape) == PROTOCOL_HTTP2) {
			single_forget(feed);
			http2_responses_begin(feed);
		}
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

/* Whose the connection is: its owner. */
static __noinline __u64 connection_open(
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
	return slot ? OWNER(*index, slot->epoch) : OWNER_NONE;
}

/* @segment as far as it is new on its way, in @feed. False: all of it has been seen before. */
static __always_inline bool feed_begin(
	struct feed *feed, struct segment *segment, const struct way *way)
{
	struct room *room = feed->room;
	__u32 end = segment->sequence + segment->payload_bytes;
	__s32 old;

	room->offset = segment->payload_offset;
	room->end = segment->payload_offset + segment->payload_bytes;
	room->payload_bytes = segment->payload_bytes;
	room->begun = room->head_mask = room->has_gap = room->left = room->is_lost = 0;
	if (!(*way->flags & WAY_SEEN)) {
		*way->flags |= WAY_SEEN;
	} else {
		if ((__s32)(end - *way->end) <= 0)
			return false;
		old = (__s32)(*way->end - segment->sequence);
		if (old > 0) {
			room->offset += (__u32)old;
			room->payload_bytes -= (__u32)old;
		} else if (old < 0) {
			room->has_gap = true;
		}
	}
	*way->end = end;
	return true;
}

/*
 * First requests that overtake the handshake's last ACK, or wait for it (TCP_DEFER_ACCEPT), are
 * shown to us with the listener's socket, not yet their own. What they say waits here, by remote
 * address (IPv6: its last word) and ports, until the connection's own socket shows itself.
 */
/* What is older was of another connection with the same addresses, which never came to be. */
#define EARLY_MOST_NS 60000000000ULL

struct early_key {
	__u32 remote_ip;
	__u16 remote_port; /* both in network byte order */
	__u16 local_port;
};

struct early_request {
	__u64 start_ns;
	__u32 request_end;
	__u32 protocol;
	__u32 begun; /* requests, or streams from first_stream on */
	__u32 head_mask;
	__u32 first_stream, last_stream;
	__u32 request_flags;
	__u32 reserved;
	struct http1 request1; /* or HTTP/2's */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct early_key);
	__type(value, struct early_request);
} early SEC(".maps");

/* Parse the segment in @feed on a connection that is none yet. */
static __always_inline void early_parse(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct room *room = feed->room;

	if (!connection->shape) {
		protocol_find(feed);
		if (SHAPE_PROTOCOL(connection->shape) == PROTOCOL_HTTP2)
			room->begun = 0;
	}
	switch (SHAPE_PROTOCOL(connection->shape)) {
	case PROTOCOL_HTTP1:
		http1_count(feed);
		return;
	case PROTOCOL_HTTP2:
		FEED_RUN(feed_early2, feed);
		return;
	case PROTOCOL_TLS:
		room->begun |= tls_has_request(feed);
		return;
	default:
		room->begun = 1;
		return;
	}
}

static __noinline int early_store(struct __sk_buff *skb, struct segment *segment, struct room *room,
	struct connection *connection)
{
	struct feed feed = {.skb = skb, .connection = connection, .room = room};
	struct early_request request = {}, *earlier;
	struct early_key key = {};
	struct way way;

	/* Source address: the last word before the destination's. */
	if (!segment || !room || !connection ||
		bpf_skb_load_bytes(skb, segment->header_bytes == 40 ? 20 : 12, &key.remote_ip, 4) ||
		bpf_skb_load_bytes(skb, segment->header_bytes, &key.remote_port, 4))
		return 0;
	connection->shape = connection->request_flags = connection->last_stream = 0;
	connection->first.count = 0;
	request.start_ns = bpf_ktime_get_ns();
	earlier = bpf_map_lookup_elem(&early, &key);
	if (earlier && request.start_ns - earlier->start_ns > EARLY_MOST_NS)
		earlier = 0;
	if (earlier) {
		request.start_ns = earlier->start_ns;
		connection->request_end = earlier->request_end;
		connection->request_flags = earlier->request_flags;
		connection->request1 = earlier->request1;
		connection->shape = SHAPE(0, earlier->protocol);
		connection->last_stream = earlier->last_stream;
	}
	way = request_way(connection);
	if (!feed_begin(&feed, segment, &way) || room->has_gap)
		return 0;
	if (earlier) {
		room->begun = earlier->begun;
		room->head_mask = earlier->head_mask;
		room->first_stream = earlier->first_stream;
	}
	early_parse(&feed);
	request.request_end = connection->request_end;
	request.protocol = SHAPE_PROTOCOL(connection->shape);
	request.begun = room->begun;
	request.head_mask = room->head_mask;
	request.first_stream = room->first_stream;
	request.last_stream = connection->last_stream;
	request.request_flags = connection->request_flags;
	request.request1 = connection->request1;
	bpf_map_update_elem(&early, &key, &request, BPF_ANY);
	return 0;
}

/* What came before the socket of the connection in @feed. */
static __always_inline void early_take(struct feed *feed)
{
	struct bpf_sock *sk = feed->sk;
	struct connection *connection = feed->connection;
	struct room *room = feed->room;
	struct early_key key = {
		.remote_port = sk->dst_port, .local_port = bpf_htons((__u16)sk->src_port)};
	__u32 ip4 = sk->dst_ip4, ip6 = sk->dst_ip6[3];
	struct early_request *request;

	/* Both are loaded first: a choice of fields becomes a computed address. */
	asm volatile("" : "+r"(ip4), "+r"(ip6));
	key.remote_ip = sk->family == AF_INET ? ip4 : ip6;
	request = bpf_map_lookup_elem(&early, &key);
	if (!request)
		return;
	if (bpf_ktime_get_ns() - request->start_ns > EARLY_MOST_NS) {
		bpf_map_delete_elem(&early, &key);
		return;
	}
	connection->request_end = request->request_end;
	connection->request_flags = request->request_flags;
	connection->request1 = request->request1;
	room->now_ns = request->start_ns;
	room->begun = request->begun;
	room->head_mask = request->head_mask;
	room->first_stream = request->first_stream;
	if (request->protocol)
		protocol_set(connection, request->protocol);
	bpf_map_delete_elem(&early, &key);
	if (!room->begun)
		return;
	room->is_early = 1;
	if (connection_protocol(connection) == PROTOCOL_HTTP1) {
		http1_begun(feed);
	} else if (connection_protocol(connection) != PROTOCOL_HTTP2) {
		single_begin(feed);
	} else if (table_get(feed)) {
		FEED_RUN(feed_opened2, feed);
	}
	room->is_early = 0;
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
	struct way way = segment_way(feed->connection, is_ingress);

	if (way.is_request) {
		if (!feed_begin(feed, segment, &way))
			return;
		feed->room->now_ns = is_ingress ? bpf_ktime_get_ns() : time_of(feed->skb);
		feed_request(feed);
		return;
	}
	if (!feed_begin(feed, segment, &way) || !is_of_interest(feed->connection))
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
	connection->first.count = 0;
	detail_set(connection, 0);
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
 * is. False: no unit's, or another CPU is looking. Functions of their own keep the ways through them
 * from being followed again and again behind them.
 */
static __noinline bool connection_find(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u64 owner, found;

	if (!connection)
		connection =
			bpf_sk_storage_get(&connections, feed->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection)
		return false;
	owner = READ_ONCE(connection->owner);
	if (owner == OWNER_NONE || owner == OWNER_BUSY ||
		COMPARE_AND_SWAP(&connection->owner, owner, OWNER_BUSY) != owner)
		return false;
	if (owner) {
		table_clear(bpf_sk_storage_get(&multiplexed, feed->sk, 0, 0));
		connection_clear(connection);
	}
	found = connection_open(feed->skb, feed->sk, connection);
	feed->connection = connection;
	feed->slot = slot_at(OWNER_SLOT(found));
	if (feed->slot && !owner && connection->side == SIDE_SERVER)
		early_take(feed);
	STORE_RELEASE(connection->owner, found);
	return feed->slot;
}

static __always_inline void segment_pass(
	struct feed *feed, struct segment *segment, struct rooms *all, bool is_ingress)
{
	feed->connection = bpf_sk_storage_get(&connections, feed->sk, 0, 0);
	feed->slot = feed->connection ? connection_slot(feed->connection) : 0;
	if (!feed->slot) {
		if (feed->sk->state == TCP_LISTEN) {
			early_store(feed->skb, segment, feed->room, &all->early);
			return;
		}
		if (!connection_find(feed))
			return;
	}
	if (is_ingress)
		order_keep(feed->connection, segment->sequence);
	/* What leaves is seen under the socket's lock; its end comes behind it. */
	if (is_ingress ? !gate_enter(feed->connection)
		       : READ_ONCE(feed->connection->gate) & GATE_OVER)
		return;
	segment_feed(feed, segment, is_ingress);
	if (is_ingress && gate_leave(feed->connection))
		connection_end(feed->connection, bpf_sk_storage_get(&multiplexed, feed->sk, 0, 0),
			feed->slot);
}

static __always_inline int segment_seen(struct __sk_buff *skb, bool is_ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct feed feed = {.skb = skb};
	struct segment segment;
	struct rooms *all;
	__u32 zero = 0, taken;

	if (!sk || segment_parse(skb, &segment))
		return 1;
	feed.sk = bpf_sk_fullsock(sk);
	all = bpf_map_lookup_elem(&rooms, &zero);
	if (!feed.sk || !all)
		return 1;
	taken = room_take(all);
	/* The segment is missed, which its connection notices at the next. */
	if (taken >= ROOMS)
		return 1;
	feed.room = &all->rooms[taken & (ROOMS - 1)];
	segment_pass(&feed, &segment, all, is_ingress);
	room_give(all, feed.room);
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
