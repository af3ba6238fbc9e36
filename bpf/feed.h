/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One segment of a connection on its way through a parser: the room to look at its payload in, and
 * what begins and ends on a connection with one request at a time.
 */
#ifndef EBBTIDE_FEED_H
#define EBBTIDE_FEED_H

#include "connection.h"

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

/*
 * As many runs of @step as it asks for. Kernels before 5.17 have no bpf_loop(): a few there.
 * Unrolled, since verifiers before 6.3 take a loop as compilers lay it out for a jump back.
 */
#ifdef KERNEL_5_10
#define FEED_STEPS 6
#define FEED_RUN(step, feed)                                                                       \
	do {                                                                                       \
		_Pragma("unroll") for (__u32 run = 0; run < FEED_STEPS;                            \
				       run++) if (step(run, feed)) break;                          \
	} while (0)
#define FEED_STEP static __noinline long
#else
/* No step takes less than a byte: the end of 64 KiB, the largest packet but with BIG TCP, is reached. */
#define FEED_STEPS	     (1 << 17)
#define FEED_RUN(step, feed) bpf_loop(FEED_STEPS, step, feed, 0)
#define FEED_STEP	     static long
#endif

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

/* No status: the payload ends within its first bytes, and could become the head of a response. */
#define HTTP1_STATUS_CUT 1

/* What the client sends from now on is no request, unless HTTP/2 begins. */
static __always_inline void protocol_opaque(struct connection *connection)
{
	connection->protocol = PROTOCOL_OPAQUE;
	connection->first.count = 0;
}

/* The status that a payload's first bytes tell, 0 if they are not the head of an HTTP/1 response. */
static __always_inline __u16 http1_status(struct feed *feed)
{
	__u8 *head = feed->room->bytes;
	__u32 bytes =
		PAYLOAD_LOAD(feed->skb, feed->room->offset, feed->room->payload_bytes, head, 16);

	if (bytes && bytes < 12 && head[0] == 'H')
		return HTTP1_STATUS_CUT;
	if (bytes < 12 || head[0] != 'H' || head[1] != 'T' || head[2] != 'T' || head[3] != 'P' ||
		head[4] != '/')
		return 0;
	for (int i = 9; i < 12; i++)
		if (head[i] < (i == 9 ? '1' : '0') || head[i] > '9')
			return 0;
	return (__u16)((head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0'));
}

#endif
