/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One segment of a connection on its way through a parser: the room to look at its payload in, and
 * what begins and ends on a connection with one request at a time.
 */
#ifndef EBBTIDE_FEED_H
#define EBBTIDE_FEED_H

#include "exchanges.h"

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
 * that one sends as well; and where the kernel preempts, tasks that send take turns in the middle of it. So
 * each takes one of the CPU's rooms that is free, and gives that one back.
 */
#define ROOM_BYTES 128
#define ROOMS	   4

struct room {
	__u64 now_ns;
	__u64 number; /* how many requests, or calls, the slot had before the newest */
	__u32 offset; /* of what is left of the payload, in the packet */
	__u32 end;
	__u32 payload_bytes; /* that are new */
	__u32 begun;	     /* HTTP/1 requests that began in this segment */
	__u32 head_mask;     /* which of the first 32 are HEAD */
	__u32 has_gap;
	__u32 at; /* how far the bytes are done with */
	__u32 left;
	__u32 is_lost;	  /* what should be a frame cannot be one */
	__u32 is_preface; /* of HTTP/2 */
	__u32 is_early;	  /* its bytes were seen before its socket and are gone */
	__u32 first_stream;
	__u32 block;	   /* where the header block begins in the bytes */
	__u32 block_bytes; /* of it that are there */
	__u32 is_taken;	   /* by compare-and-swap */
	struct http2_frame frame;
	struct http2_fields fields;
	/* Words may be read behind the last. */
	__u8 bytes[HTTP1_PLAIN_BYTES + HTTP1_PLAIN_BEHIND];
};

/* Twice, since what was cut before may stand in front. */
_Static_assert(2 * ROOM_BYTES + 24 <= HTTP1_PLAIN_BYTES + HTTP1_PLAIN_BEHIND, "room for HTTP/2");

struct rooms {
	__u32 depth; /* 5.10's */
	__u32 reserved;
	struct room rooms[ROOMS];
	struct connection early; /* stands for one whose socket is not there yet */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rooms);
} rooms SEC(".maps");

#ifndef KERNEL_5_10

/* Index of a room of this CPU that was free; ROOMS: there is none. */
VERIFIED_ALONE __u32 room_take(struct rooms *all)
{
	if (!all)
		return ROOMS;
	for (__u32 i = 0; i < ROOMS; i++)
		if (!COMPARE_AND_SWAP(&all->rooms[i].is_taken, 0, 1))
			return i;
	return ROOMS;
}

static __always_inline void room_give(struct rooms *all, struct room *room)
{
	(void)all;
	WRITE_ONCE(room->is_taken, 0);
}

#else

/* Nothing preempts here, so programs nest; and its verifier would follow each room by itself. */
static __always_inline __u32 room_take(struct rooms *all)
{
	return all->depth++ & (ROOMS - 1);
}

static __always_inline void room_give(struct rooms *all, struct room *room)
{
	(void)room;
	all->depth--;
}

#endif

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
/* Of a block's fields the first. */
#define FIELD_RUN(step, feed) step(0, feed)
#define FEED_STEP	      static __noinline long
#else
/* No step takes less than a byte: the end of 64 KiB, the largest packet but with BIG TCP, is reached. */
#define FEED_STEPS	      (1 << 17)
#define FEED_RUN(step, feed)  bpf_loop(FEED_STEPS, step, feed, 0)
#define FIELD_RUN(step, feed) bpf_loop(ROOM_BYTES, step, feed, 0)
#define FEED_STEP	      static long
#endif

/* From now on the connection speaks @protocol; the responses' way begins anew when it sees it. */
static __always_inline void protocol_set(struct connection *connection, __u32 protocol)
{
	STORE_RELEASE(connection->shape, SHAPE(SHAPE_GENERATION(connection->shape) + 1, protocol));
}

/* @count requests or calls begin. */
static __always_inline void flights_begin(struct feed *feed, __u32 count, __u8 age)
{
	feed->room->number = feed->connection->side == SIDE_SERVER
				     ? flight_begin(feed->slot, count, age)
				     : feed->slot->calls;
}

/* Follow request @id, one of the @count that begin now, in detail, if it is the turn of any. */
static __always_inline void detail_begin(
	struct feed *feed, __u32 id, __u32 count, __u32 offset, __u32 bytes)
{
	struct detail *detail = &feed->connection->detail;
	struct slot *slot = feed->slot;

	if (((feed->room->number + count - 1) & slot->detail_mask) >= count ||
		READ_ONCE(detail->claim) || feed->room->is_early)
		return;
	detail->process = 0;
	detail->command[0] = 0;
	detail->request_bytes = bytes;
	detail->head_bytes = 0;
	if (slot->trace_threshold_ns || slot->exemplars_due)
		detail->head_bytes =
			PAYLOAD_LOAD(feed->skb, offset, bytes, detail->head, REQUEST_HEAD_BYTES);
	detail->ports = awaited_index((__u16)feed->sk->src_port, bpf_ntohs(feed->sk->dst_port));
	awaited_add(detail->ports, 1);
	STORE_RELEASE(detail->claim, DETAIL_CLAIM(id, DETAIL_OPEN));
}

static __always_inline void ending_tell(struct bpf_sock *sk, struct connection *connection,
	const struct ending *ending, bool has_detail, __u8 reasons)
{
	struct request_event *event = event_begin(connection, ending, has_detail, reasons);

	if (!event)
		return;
	event_addresses(event, sk);
	bpf_ringbuf_submit(event, 0);
}

/* An answer to a request that is over with it, as far as is told of it. */
__attribute__((unused)) static __noinline int ending_report(struct bpf_sock *sk,
	struct connection *connection, struct slot *slot, struct ending *ending)
{
	__u32 state = detail_state_of(connection, ending->id);
	__u8 reasons = (__u8)ending_count(slot, connection, ending, state);

	if (reasons)
		ending_tell(sk, connection, ending, state, reasons);
	if (state)
		detail_set(connection, 0);
	return 0;
}

/* One request, the only one in flight on its connection. */
static __always_inline void single_begin(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 id = connection->begun;

	connection->start_ns = feed->room->now_ns;
	connection->age = age_bucket(feed->slot, feed->room->now_ns);
	flights_begin(feed, 1, connection->age);
	detail_begin(feed, id, 1, feed->room->end - feed->room->payload_bytes,
		feed->room->payload_bytes);
	STORE_RELEASE(connection->begun, id + 1);
}

static __always_inline void single_answer(struct feed *feed, __u16 status)
{
	struct connection *connection = feed->connection;
	struct ending ending = {.start_ns = connection->start_ns,
		.now_ns = feed->room->now_ns,
		.id = connection->over,
		.response_bytes = feed->room->payload_bytes,
		.status = status,
		.grpc_status = GRPC_STATUS_NONE};

	if (connection->side == SIDE_SERVER)
		flight_answer(feed->slot, connection->age);
	ending_report(feed->sk, connection, feed->slot, &ending);
	STORE_RELEASE(connection->over, ending.id + 1);
}

#ifdef KERNEL_5_10
/*
 * There is no queue, and no branch in the loop: compilers lay such a loop out in a way that verifiers
 * before 6.3 take for a jump back.
 */
static __noinline int drop_streams(
	struct exchanges *table, struct connection *connection, struct slot *slot)
{
	__u32 is_server;

	if (!table || !connection || !slot)
		return 0;
	is_server = connection->side & SIDE_SERVER;
	for (__u32 i = 0; i < EXCHANGES; i++) {
		__u64 claim = READ_ONCE(table->entries[i].claim);
		__u32 count = claim & EXCHANGE_OPEN;

		WRITE_ONCE(table->entries[i].claim, 0);
		flight_drop(slot, count & is_server, EXCHANGE_BYTE(claim));
		connection->dropped += count;
	}
	return 0;
}

#define TABLE_WALK(drop) drop_streams((drop)->table, (drop)->connection, (drop)->slot)
#else

static long drop_turn(__u32 index, struct drop *drop)
{
	drop_step(drop, index);
	return index == EXCHANGES - 1;
}

#define TABLE_WALK(drop) bpf_loop(EXCHANGES, drop_turn, drop, 0)
#endif

/*
 * Give back everything that a connection has in flight, since its framing was lost or it is over.
 * Returns how many requests that were.
 */
static __noinline __u32 flights_drop(
	struct connection *connection, struct exchanges *table, struct slot *slot)
{
	struct drop drop = {};

	if (!connection || !slot)
		return 0;
	drop_begin(&drop, connection, table, slot);
	drop_single(&drop);
	if (table)
		TABLE_WALK(&drop);
	drop_end(&drop);
	return connection->dropped;
}

/* A connection that ends with requests in flight: no answer. Keeps in_flight from sticking. */
static __always_inline void connection_end(
	struct connection *connection, struct exchanges *table, struct slot *slot)
{
	__u32 dropped = flights_drop(connection, table, slot);

	if (dropped)
		count_failed(slot, connection, dropped);
}

/*
 * Where the responses' messages begin is known again, or for the first time. What passed while it
 * was not known may have been answers to what is in flight.
 */
static __always_inline void responses_synced(struct feed *feed)
{
	struct connection *connection = feed->connection;

	if (connection->response_flags & RESPONSE_SKIPPED) {
		CONTROL_COUNT(connections_lost);
		flights_drop(connection, feed->table, feed->slot);
	}
	if (feed->table)
		feed->table->statuses.is_followed = feed->table->cut_bytes = 0;
	connection->response_flags &= ~(__u32)RESPONSE_SKIPPED;
	connection->response_flags |= RESPONSE_SYNCED;
	__builtin_memset(&connection->response1, 0, sizeof(connection->response1));
}

static __always_inline void responses_lost(struct connection *connection)
{
	connection->response_flags &= ~(__u32)RESPONSE_SYNCED;
	connection->response_flags |= RESPONSE_SKIPPED;
}

/* Whether answers may pass unseen: a request that begins now might never be seen to end. */
static __always_inline bool responses_are_lost(const struct connection *connection)
{
	return READ_ONCE(connection->response_flags) & RESPONSE_SKIPPED;
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

/* The status that a payload's first bytes tell, 0 if they are not the head of an HTTP/1 response. */
VERIFIED_ALONE __u32 room_status(struct room *room, __u32 bytes)
{
	__u8 *head;

	if (!room)
		return 0;
	head = room->bytes;
	if (bytes && bytes < 12 && head[0] == 'H')
		return HTTP1_STATUS_CUT;
	if (bytes < 12 || head[0] != 'H' || head[1] != 'T' || head[2] != 'T' || head[3] != 'P' ||
		head[4] != '/')
		return 0;
	if (head[9] < '1' || head[9] > '9' || head[10] < '0' || head[10] > '9' || head[11] < '0' ||
		head[11] > '9')
		return 0;
	return (__u16)((head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0'));
}

static __always_inline __u16 http1_status(struct feed *feed)
{
	struct room *room = feed->room;

	return (__u16)room_status(
		room, PAYLOAD_LOAD(feed->skb, room->offset, room->payload_bytes, room->bytes, 16));
}

#endif
