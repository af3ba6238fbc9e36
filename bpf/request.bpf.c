// SPDX-License-Identifier: GPL-2.0
/*
 * Requests over TCP, of servers and of clients: each segment of a unit's sockets is seen on its way
 * in and out. HTTP/1 and HTTP/2 are followed by their framing; everything else is taken as turns: a
 * request begins with the first payload while none is in flight, and the first payload the other
 * way answers it.
 */
#include "connection.h"

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

/* Up to @bytes (a power of two) of the payload at @offset; how many are there to be had. */
#define PAYLOAD_LOAD(skb, offset, left, to, bytes)                                                 \
	({                                                                                         \
		__u32 load_bytes = (left) < (bytes) ? (left) : (bytes);                            \
                                                                                                   \
		/* As a mask, so that verifiers before 6.3 see 1 to @bytes as well. */             \
		load_bytes = (load_bytes - 1) & ((bytes)-1);                                       \
		asm volatile("" : "+r"(load_bytes));                                               \
		load_bytes++;                                                                      \
		bpf_skb_load_bytes(skb, offset, to, load_bytes) ? 0 : load_bytes;                  \
	})

/*
 * Room to look at a payload in. A program on its way out may be interrupted by one on its way in, and
 * that one sends as well: each takes the next of the CPU's rooms.
 */
#define ROOM_BYTES 128
#define ROOMS	   4

struct room {
	__u64 now_ns;
	__u32 offset; /* of what is left of the payload, in the packet */
	__u32 end;
	__u32 payload_bytes; /* that are new */
	__u32 begun;	     /* HTTP/1 requests that began in this segment */
	__u32 head_mask;     /* which of the first 32 are HEAD */
	__u32 has_gap;
	__u32 at; /* how far the bytes are done with */
	__u32 left;
	__u32 reserved;
	__u8 bytes[ROOM_BYTES + 8];
};

struct rooms {
	__u32 depth;
	__u32 reserved;
	struct room rooms[ROOMS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rooms);
} rooms SEC(".maps");

/*
 * One run over the payload of a segment. Numbers are in the room: what is on the stack the verifier
 * would follow through each turn of a loop.
 */
struct feed {
	struct __sk_buff *skb;
	struct bpf_sock *sk;
	struct connection *connection;
	struct exchanges *table;
	struct slot *slot;
	struct room *room;
};

#define FEED_STEPS	   16384
#define FEED_STEPS_NO_LOOP 48

enum bpf_func_id___loop {
	BPF_FUNC_loop___loop = 181
};

/* As many runs of @step as it asks for; kernels before 5.17 have only a few. */
#define FEED_RUN(step, feed)                                                                       \
	do {                                                                                       \
		if (bpf_core_enum_value_exists(enum bpf_func_id___loop, BPF_FUNC_loop___loop)) {   \
			bpf_loop(FEED_STEPS, step, feed, 0);                                       \
		} else {                                                                           \
			for (__u32 run = 0; run < FEED_STEPS_NO_LOOP; run++)                       \
				if (step(run, feed))                                               \
					break;                                                     \
		}                                                                                  \
	} while (0)

/* Follow the request that begins now in detail, if it is its turn. */
static __always_inline void detail_begin(struct feed *feed, __u32 id, __u32 offset, __u32 bytes)
{
	struct connection *connection = feed->connection;
	struct slot *slot = feed->slot;

	if (connection->flags & CONNECTION_DETAIL || (slot->requests & slot->detail_mask))
		return;
	connection->flags &= (__u8) ~(CONNECTION_READ | CONNECTION_WRITTEN);
	connection->flags |= CONNECTION_DETAIL;
	connection->detail.id = id;
	connection->detail.process = 0;
	connection->detail.command[0] = 0;
	connection->detail.request_bytes = bytes;
	connection->detail.head_bytes = 0;
	if (slot->trace_threshold_ns || slot->exemplars_due)
		connection->detail.head_bytes = PAYLOAD_LOAD(
			feed->skb, offset, bytes, connection->detail.head, REQUEST_HEAD_BYTES);
}

/* One request, the only one in flight on its connection. */
static __always_inline void single_begin(struct feed *feed)
{
	struct connection *connection = feed->connection;

	connection->start_ns = feed->room->now_ns;
	connection->age = age_bucket(feed->slot, feed->room->now_ns);
	connection->in_flight = 1;
	connection->next_id++;
	if (connection->side == SIDE_SERVER)
		flight_begin(feed->slot, connection->slot, 1, connection->age);
	detail_begin(feed, connection->next_id, feed->room->end - feed->room->payload_bytes,
		feed->room->payload_bytes);
}

static __always_inline void single_answer(struct feed *feed, __u16 status)
{
	struct connection *connection = feed->connection;
	struct ending ending = {.start_ns = connection->start_ns,
		.now_ns = feed->room->now_ns,
		.id = connection->next_id,
		.response_bytes = feed->room->payload_bytes,
		.status = status,
		.grpc_status = GRPC_STATUS_NONE};

	if (connection->side == SIDE_SERVER)
		flight_end(feed->slot, 1, connection->age);
	connection->in_flight = 0;
	ending_report(feed->sk, connection, feed->slot, &ending);
}

static __always_inline struct exchanges *table_get(struct feed *feed)
{
	if (!feed->table)
		feed->table =
			bpf_sk_storage_get(&multiplexed, feed->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return feed->table;
}

/* Pipelined HTTP/1: @count requests at the queue's end. False: no room, they are not followed. */
static __always_inline bool queue_push(
	struct feed *feed, __u64 start_ns, __u32 count, __u8 age, __u32 head_mask, __u32 id)
{
	struct exchanges *table = feed->table;
	struct exchange *exchange;

	if (table->next - table->first >= EXCHANGES)
		return false;
	exchange = &table->entries[table->next++ & (EXCHANGES - 1)];
	exchange->start_ns = start_ns;
	exchange->count = (__u16)count;
	exchange->age = age;
	exchange->head_mask = head_mask;
	exchange->id = id;
	return true;
}

/* @feed->room->begun HTTP/1 requests began in this segment. */
static __always_inline void http1_begun(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u8 age;

	if (connection->in_flight == 0 && feed->room->begun == 1 &&
		!(connection->flags & CONNECTION_MANY)) {
		connection->is_head = feed->room->head_mask & 1;
		single_begin(feed);
		return;
	}
	if (!table_get(feed)) {
		CONTROL_COUNT(requests_untracked);
		return;
	}
	if (!(connection->flags & CONNECTION_MANY)) {
		feed->table->first = feed->table->next = 0;
		connection->flags |= CONNECTION_MANY;
		connection->flags &= (__u8)~CONNECTION_SYNCED;
		if (connection->in_flight)
			queue_push(feed, connection->start_ns, 1, connection->age,
				connection->is_head, connection->next_id);
	}
	age = age_bucket(feed->slot, feed->room->now_ns);
	if (!queue_push(feed, feed->room->now_ns, feed->room->begun, age, feed->room->head_mask,
		    connection->next_id + 1)) {
		CONTROL_COUNT(requests_untracked);
		return;
	}
	detail_begin(feed, connection->next_id + 1, feed->room->end - feed->room->payload_bytes,
		feed->room->payload_bytes);
	connection->next_id += feed->room->begun;
	connection->in_flight += feed->room->begun;
	if (connection->side == SIDE_SERVER)
		flight_begin(feed->slot, connection->slot, feed->room->begun, age);
}

/* The oldest of a queue is answered. */
static __always_inline void queue_answer(struct feed *feed, __u16 status)
{
	struct connection *connection = feed->connection;
	struct exchanges *table = feed->table;
	struct ending ending = {.now_ns = feed->room->now_ns,
		.response_bytes = feed->room->payload_bytes,
		.status = status,
		.grpc_status = GRPC_STATUS_NONE};
	struct exchange *exchange;

	if (!table || table->first == table->next || !connection->in_flight)
		return;
	exchange = &table->entries[table->first & (EXCHANGES - 1)];
	ending.start_ns = exchange->start_ns;
	ending.id = exchange->id++;
	if (connection->side == SIDE_SERVER)
		flight_end(feed->slot, 1, exchange->age);
	exchange->head_mask >>= 1;
	if (--exchange->count == 0)
		table->first++;
	connection->in_flight--;
	ending_report(feed->sk, connection, feed->slot, &ending);
}

/* Whether the response that begins now answers a HEAD, and so has no body. */
static __always_inline void response_expect(struct feed *feed)
{
	struct exchanges *table = feed->table;
	struct http1 *http1 = &feed->connection->response1;

	http1->flags = 0;
	if (table && table->first != table->next &&
		table->entries[table->first & (EXCHANGES - 1)].head_mask & 1)
		http1->flags = HTTP1_HEAD;
}

/*
 * One step of the automaton on what the room holds. Where it stands is kept in the room: the
 * verifier follows each way through a step anew unless what it knows at the end of all of them is
 * the same, and of memory it knows nothing.
 */
static __always_inline __u32 room_step(struct room *room, struct http1 *http1, int is_response)
{
	__u32 at = room->at & (ROOM_BYTES - 1), event, taken;

	taken = http1_step(http1, &room->bytes[at], room->left, is_response, &event);
	room->at = at + taken;
	room->left -= taken;
	room->offset += taken;
	return event;
}

/* Leap, or load the next of the payload into the empty room; false: there is nothing left. */
static __always_inline bool room_fill(struct feed *feed, struct http1 *http1)
{
	struct room *room = feed->room;
	__u32 left = room->end - room->offset;

	if (room->offset >= room->end)
		return false;
	left = http1_leap(http1, left);
	if (left) {
		room->offset += left;
		return true;
	}
	left = room->end - room->offset;
	room->at = 0;
	room->left = PAYLOAD_LOAD(feed->skb, room->offset, left, room->bytes, ROOM_BYTES);
	return room->left > 0;
}

static long feed_request1(__u32 index, struct feed *feed)
{
	struct http1 *http1 = &feed->connection->request1;
	struct room *room = feed->room;

	(void)index;
	if (!room->left)
		return !room_fill(feed, http1);
	if (room_step(room, http1, 0) == HTTP1_REQUEST) {
		if (room->begun < 32)
			room->head_mask |= (http1->flags & HTTP1_HEAD ? 1U : 0U) << room->begun;
		room->begun++;
	}
	return 0;
}

static long feed_response1(__u32 index, struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct http1 *http1 = &connection->response1;
	__u32 event;

	(void)index;
	if (!feed->room->left)
		return !room_fill(feed, http1);
	if (http1->state == HTTP1_START)
		response_expect(feed);
	event = room_step(feed->room, http1, 1);
	if (event == HTTP1_NOTHING)
		return 0;
	if (connection->flags & CONNECTION_MANY)
		queue_answer(feed, http1->status);
	else if (connection->in_flight)
		single_answer(feed, http1->status);
	if (event == HTTP1_UPGRADED)
		connection->protocol = PROTOCOL_OPAQUE;
	return event == HTTP1_UPGRADED;
}

static __always_inline struct exchange *stream_find(
	struct exchanges *table, __u32 stream, bool make)
{
	struct exchange *exchange;

	for (__u32 probe = 0; probe < EXCHANGE_PROBES; probe++) {
		/* Streams are odd and count up: neighbours fall into neighbouring entries. */
		exchange = &table->entries[((stream >> 1) + probe * 37) & (EXCHANGES - 1)];
		if (exchange->flags & EXCHANGE_USED ? !make && exchange->id == stream : make)
			return exchange;
	}
	return 0;
}

static __always_inline void stream_begin(
	struct feed *feed, const struct http2_frame *frame, __u32 payload)
{
	struct connection *connection = feed->connection;
	struct exchange *exchange;
	__u32 skip = http2_block_offset(frame), bytes = frame->length;

	/* A trailer, or a frame seen again. */
	if (!(frame->stream & 1) || frame->stream <= connection->next_id)
		return;
	connection->next_id = frame->stream;
	exchange = stream_find(feed->table, frame->stream, true);
	if (!exchange) {
		CONTROL_COUNT(requests_untracked);
		return;
	}
	exchange->start_ns = feed->room->now_ns;
	exchange->id = frame->stream;
	exchange->age = age_bucket(feed->slot, feed->room->now_ns);
	exchange->flags = EXCHANGE_USED;
	connection->in_flight++;
	if (connection->side == SIDE_SERVER)
		flight_begin(feed->slot, connection->slot, 1, exchange->age);
	if (bytes > feed->room->end - payload)
		bytes = feed->room->end - payload;
	if (bytes > skip)
		detail_begin(feed, frame->stream, payload + skip, bytes - skip);
}

static __always_inline void stream_end(
	struct feed *feed, struct exchange *exchange, struct ending *ending)
{
	struct connection *connection = feed->connection;

	ending->start_ns = exchange->start_ns;
	ending->id = exchange->id;
	ending->now_ns = feed->room->now_ns;
	ending->response_bytes = feed->room->payload_bytes;
	if (connection->side == SIDE_SERVER)
		flight_end(feed->slot, 1, exchange->age);
	if (connection->in_flight)
		connection->in_flight--;
	if (ending->outcome == OUTCOME_FAILED) {
		__sync_fetch_and_add(connection->side == SIDE_SERVER ? &feed->slot->requests_failed
								     : &feed->slot->calls_failed,
			1);
		connection->flags &= (__u8)~CONNECTION_DETAIL;
		return;
	}
	ending_report(feed->sk, connection, feed->slot, ending);
}

/* The first of a header block, in the room, zeros behind it; returns how many bytes there are. */
static __always_inline __u32 block_load(
	struct feed *feed, const struct http2_frame *frame, __u32 payload)
{
	__u32 skip = http2_block_offset(frame), left = frame->length;

	__builtin_memset(feed->room->bytes, 0, 32);
	if (left > feed->room->end - payload)
		left = feed->room->end - payload;
	if (left <= skip)
		return 0;
	return PAYLOAD_LOAD(feed->skb, payload + skip, left - skip, feed->room->bytes, 16);
}

static __always_inline void stream_answer(
	struct feed *feed, const struct http2_frame *frame, __u32 payload)
{
	struct ending ending = {.grpc_status = GRPC_STATUS_NONE};
	struct slot *slot = feed->slot;
	struct exchange *exchange = stream_find(feed->table, frame->stream, false);
	__u8 *block = feed->room->bytes, grpc;
	__u32 bytes;

	if (!exchange)
		return;
	if (frame->type == HTTP2_HEADERS) {
		bytes = block_load(feed, frame, payload);
		if (!(exchange->flags & EXCHANGE_ANSWERED)) {
			ending.status = http2_status(block, bytes);
			if (ending.status && ending.status < 200)
				return;
			exchange->flags |= EXCHANGE_ANSWERED;
			stream_end(feed, exchange, &ending);
		} else if (frame->flags & HTTP2_END_STREAM) {
			grpc = http2_grpc_status(block, bytes);
			if (grpc != 0 && grpc != HTTP2_GRPC_UNKNOWN)
				__sync_fetch_and_add(feed->connection->side == SIDE_SERVER
							     ? &slot->server_errors
							     : &slot->calls_errors,
					1);
		}
	} else if (frame->type == HTTP2_RST_STREAM && !(exchange->flags & EXCHANGE_ANSWERED)) {
		ending.outcome = OUTCOME_FAILED;
		stream_end(feed, exchange, &ending);
	}
	if (frame->type == HTTP2_RST_STREAM || frame->flags & HTTP2_END_STREAM) {
		if (feed->connection->side == SIDE_SERVER && exchange->flags & EXCHANGE_ANSWERED &&
			frame->type != HTTP2_RST_STREAM)
			slot_coarse_add(
				slot->service_time, feed->room->now_ns - exchange->start_ns);
		exchange->flags = 0;
	}
}

/* Loads the next frame header, which an earlier segment may have begun. False: not whole yet. */
static __always_inline bool frame_next(
	struct feed *feed, struct http2 *http2, struct http2_frame *frame)
{
	__u32 left = feed->room->end - feed->room->offset, need = HTTP2_HEADER_BYTES - http2->have,
	      had;

	if (http2->have == 0 && left >= HTTP2_HEADER_BYTES) {
		if (bpf_skb_load_bytes(
			    feed->skb, feed->room->offset, http2->header, HTTP2_HEADER_BYTES))
			return false;
		feed->room->offset += HTTP2_HEADER_BYTES;
	} else {
		/* Byte by byte: it is rare, and an address that varies is hard to prove. */
		had = http2->have;
		for (__u32 i = 0; i < HTTP2_HEADER_BYTES; i++) {
			if (i < had || feed->room->offset >= feed->room->end)
				continue;
			if (bpf_skb_load_bytes(feed->skb, feed->room->offset, &http2->header[i], 1))
				return false;
			feed->room->offset++;
			http2->have++;
		}
		if (need > left)
			return false;
	}
	http2->have = 0;
	http2_read(http2->header, frame);
	return true;
}

static __always_inline long feed_frame(struct feed *feed, struct http2 *http2, bool is_response)
{
	struct http2_frame frame;
	__u32 left, payload;

	if (feed->room->offset >= feed->room->end)
		return 1;
	left = feed->room->end - feed->room->offset;
	if (http2->skip) {
		left = http2->skip < left ? http2->skip : left;
		http2->skip -= left;
		feed->room->offset += left;
		return 0;
	}
	if (!frame_next(feed, http2, &frame))
		return 1;
	if (!http2_is_sound(&frame)) {
		/* Not where frames begin: wait for a segment that looks like one. */
		feed->connection->protocol = PROTOCOL_LOST;
		return 1;
	}
	payload = feed->room->offset;
	http2->skip = frame.length;
	if (!is_response) {
		if (frame.type == HTTP2_HEADERS)
			stream_begin(feed, &frame, payload);
		else if (frame.type == HTTP2_RST_STREAM)
			stream_answer(feed, &frame, payload);
	} else if (frame.type == HTTP2_HEADERS || frame.type == HTTP2_RST_STREAM ||
		   (frame.type == HTTP2_DATA && frame.flags & HTTP2_END_STREAM)) {
		stream_answer(feed, &frame, payload);
	}
	return 0;
}

static long feed_request2(__u32 index, struct feed *feed)
{
	(void)index;
	return feed_frame(feed, &feed->connection->request2, false);
}

static long feed_response2(__u32 index, struct feed *feed)
{
	(void)index;
	return feed_frame(feed, &feed->connection->response2, true);
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

/* What the first bytes of a request say of the connection's protocol. */
static __always_inline void protocol_find(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct http2_frame frame;
	__u8 head[16] = {};
	__u32 bytes = PAYLOAD_LOAD(
		feed->skb, feed->room->offset, feed->room->end - feed->room->offset, head, 16);

	if (!bytes)
		return;
	if (connection->protocol == PROTOCOL_OPAQUE && (head[0] != 'P' || head[1] != 'R'))
		return;
	__builtin_memset(&connection->request1, 0, sizeof(connection->request1));
	__builtin_memset(&connection->response1, 0, sizeof(connection->response1));
	if (bytes == 16 && head[0] == 'P' && head[1] == 'R' && head[2] == 'I' && head[4] == '*' &&
		head[6] == 'H') {
		connection->protocol = PROTOCOL_HTTP2;
		connection->request2.skip = HTTP2_PREFACE_BYTES;
		connection->next_id = 0;
	} else if (is_method(head, bytes)) {
		connection->protocol = PROTOCOL_HTTP1;
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
	if (connection->protocol == PROTOCOL_HTTP2)
		connection->flags |= CONNECTION_MANY;
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
			connection->flags |= CONNECTION_SKIP_RECORD;
		else if (record[0] == 0x16)
			connection->flags &= (__u8)~CONNECTION_SKIP_RECORD;
		else if (record[0] == 0x17 && !(connection->flags & CONNECTION_SKIP_RECORD))
			return true;
		else if (record[0] == 0x17)
			connection->flags &= (__u8)~CONNECTION_SKIP_RECORD;
		else
			return false;
		at += sizeof(record) + ((__u32)record[3] << 8 | record[4]);
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
		FEED_RUN(feed_request1, feed);
		if (feed->room->begun)
			http1_begun(feed);
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

/* The status that a payload's first bytes tell, 0 if they are not the head of an HTTP/1 response. */
static __always_inline __u16 http1_status(struct feed *feed)
{
	__u8 *head = feed->room->bytes;
	__u32 bytes =
		PAYLOAD_LOAD(feed->skb, feed->room->offset, feed->room->payload_bytes, head, 16);

	if (bytes < 12 || head[0] != 'H' || head[1] != 'T' || head[2] != 'T' || head[3] != 'P' ||
		head[4] != '/')
		return 0;
	return (__u16)((head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0'));
}

static __always_inline void feed_response1_all(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u16 status;

	if (!(connection->flags & CONNECTION_SYNCED)) {
		status = http1_status(feed);
		if (!(connection->flags & CONNECTION_MANY)) {
			/* One request: the first payload answers it, if it is no interim response,
			 * behind which the final one may follow in the same segment. */
			if (!connection->in_flight)
				return;
			if (status < 100 || status >= 200 || status == 101) {
				single_answer(feed, status);
				if (status == 101)
					connection->protocol = PROTOCOL_OPAQUE;
				return;
			}
		} else if (!status) {
			return;
		} else {
			connection->flags |= CONNECTION_SYNCED;
		}
		connection->response1.state = HTTP1_START;
	}
	if (connection->flags & CONNECTION_MANY && !table_get(feed))
		return;
	FEED_RUN(feed_response1, feed);
	if (connection->response1.state == HTTP1_LOST)
		connection->flags &= (__u8)~CONNECTION_SYNCED;
	if (!connection->in_flight && connection->response1.state == HTTP1_START)
		connection->flags &= (__u8) ~(CONNECTION_MANY | CONNECTION_SYNCED);
}

static __always_inline void feed_response(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u8 type;

	switch (connection->protocol) {
	case PROTOCOL_HTTP1:
	case PROTOCOL_UNKNOWN: /* its request came before its socket */
		feed_response1_all(feed);
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
		connection->protocol = PROTOCOL_UNKNOWN;
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
		connection->protocol = PROTOCOL_UNKNOWN;
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
