/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests in flight on a connection that carries several: HTTP/2's streams, in open addressing by
 * stream; pipelined HTTP/1's, as a queue in which one entry stands for all requests of a segment.
 */
#ifndef EBBTIDE_EXCHANGES_H
#define EBBTIDE_EXCHANGES_H

#include "ending.h"

#define EXCHANGES 256
/*
 * With 100 streams in flight about one in 100,000 finds eight entries taken, when some of them live long.
 * The verifier of 5.10 follows no more.
 */
#ifdef KERNEL_5_10
#define EXCHANGE_PROBES 8
#else
#define EXCHANGE_PROBES 24
#endif

/*
 * Of an entry that is a stream. The requests' way makes a free one open, and it alone; from there on
 * whoever changes the claim by compare-and-swap has done what the change says. Streams are never
 * used twice, so a claim that is the same is the same one.
 */
enum exchange_state {
	EXCHANGE_FREE,
	EXCHANGE_OPEN,	   /* byte: its age's bucket */
	EXCHANGE_ANSWERED, /* the response has begun; byte: the reasons to tell of it */
};

#define EXCHANGE_CLAIM(stream, status, byte, state)                                                \
	((__u64)(stream) << 32 | (__u64)(status) << 16 | (__u64)(byte) << 8 | (state))
#define EXCHANGE_STREAM(claim) ((__u32)((claim) >> 32))
#define EXCHANGE_STATUS(claim) ((__u16)((claim) >> 16))
#define EXCHANGE_BYTE(claim)   ((__u8)((claim) >> 8))
#define EXCHANGE_STATE(claim)  ((__u8)(claim))

/* When a stream's response began, after its start, and how many bytes were in that segment. */
#define EXCHANGE_ANSWER_BYTES_BITS 20
#define EXCHANGE_ANSWER_BYTES_MAX  ((1U << EXCHANGE_ANSWER_BYTES_BITS) - 1) /* no packet is larger */
#define EXCHANGE_ANSWER_NS_MAX	   ((1ULL << (64 - EXCHANGE_ANSWER_BYTES_BITS)) - 1) /* five hours */
#define EXCHANGE_ANSWER(latency_ns, bytes)                                                         \
	((__u64)(latency_ns) << EXCHANGE_ANSWER_BYTES_BITS | ((bytes)&EXCHANGE_ANSWER_BYTES_MAX))
#define EXCHANGE_ANSWER_NS(answer)    ((answer) >> EXCHANGE_ANSWER_BYTES_BITS)
#define EXCHANGE_ANSWER_BYTES(answer) ((__u32)(answer)&EXCHANGE_ANSWER_BYTES_MAX)

struct exchange {
	union {
		__u64 claim;	  /* HTTP/2 */
		struct {	  /* HTTP/1; as its queue, never by both */
			__u32 id; /* of the first of its requests */
			__u16 count;
			__u8 age;
			__u8 reserved;
		};
	};
	__u64 start_ns;
	union {
		__u64 answer;	 /* HTTP/2: EXCHANGE_ANSWER() */
		__u32 head_mask; /* HTTP/1: which of the first 32 are HEAD */
	};
};

struct exchanges {
	__u32 first; /* of the queue; written by the responses' way */
	__u32 next;  /* by the requests' */
	/* By the responses': the beginning of a HEADERS frame that was cut by a segment's end. */
	__u32 cut_bytes;
	__u32 reserved;
	__u8 cut[HTTP2_CUT_BYTES];
	struct http2_statuses statuses;
	struct exchange entries[EXCHANGES];
};

/* Linux 7.3 gives no socket storage above 8 KiB, what it keeps beside it included; 6.18 does. */
_Static_assert(sizeof(struct exchanges) <= 8000, "no room for a connection's exchanges");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct exchanges);
} multiplexed SEC(".maps");

static __always_inline struct exchange *queue_at(struct exchanges *table, __u32 position)
{
	return &table->entries[position & (EXCHANGES - 1)];
}

/* What is still to be taken, of those not HTTP/2's. */
struct drop_left {
	__u32 over, begun;
};

/* Taking everything in flight out of a connection. */
struct drop {
	struct connection *connection;
	struct exchanges *table;
	struct slot *slot;
	struct drop_left left;
	/* What the newest step took: */
	__u32 id;
	__u32 reserved;
	__u64 claim; /* of a stream, as the answer */
	__u64 answer;
	__u64 start_ns;
};

static __always_inline void drop_begin(struct drop *drop, struct connection *connection,
	struct exchanges *table, struct slot *slot)
{
	drop->connection = connection;
	drop->table = table;
	drop->slot = slot;
	drop->left.begun = LOAD_ACQUIRE(connection->begun);
	drop->left.over = connection->over;
	connection->dropped = 0;
}

/* True of one that has no answer yet. */
static __always_inline bool drop_stream(struct drop *drop, struct exchange *exchange)
{
	drop->claim = READ_ONCE(exchange->claim);
	drop->start_ns = exchange->start_ns;
	drop->answer = exchange->answer;
	drop->id = EXCHANGE_STREAM(drop->claim);
	if (!drop->claim || COMPARE_AND_SWAP(&exchange->claim, drop->claim, 0) != drop->claim)
		drop->claim = 0;
	return EXCHANGE_STATE(drop->claim) == EXCHANGE_OPEN;
}

/* What is left of the queue's first entry. */
static __always_inline __u32 drop_queued(struct drop *drop)
{
	struct exchange *exchange = queue_at(drop->table, drop->table->first);
	__u32 end = exchange->id + exchange->count, from = drop->left.over;

	drop->start_ns = exchange->start_ns;
	drop->id = from;
	if ((__s32)(end - drop->left.begun) > 0) {
		drop->left.over = drop->left.begun;
		return drop->left.begun - from;
	}
	STORE_RELEASE(drop->table->first, drop->table->first + 1);
	/* A request that was answered before it came into the queue leaves nothing. */
	if ((__s32)(end - from) <= 0)
		return 0;
	drop->left.over = end;
	return end - from;
}

#ifndef KERNEL_5_10

/* Step @index of a walk over the table: how many requests without an answer it took out. */
static __noinline __u32 drop_step(struct drop *drop, __u32 index)
{
	struct exchange *exchange;
	__u32 count;
	__u8 age;

	if (!drop)
		return 0;
	drop->claim = 0;
	if (connection_protocol(drop->connection) == PROTOCOL_HTTP2) {
		exchange = queue_at(drop->table, index);
		age = EXCHANGE_BYTE(READ_ONCE(exchange->claim));
		count = drop_stream(drop, exchange);
	} else {
		if (drop->left.over == drop->left.begun)
			return 0;
		age = queue_at(drop->table, drop->table->first)->age;
		count = drop_queued(drop);
	}
	if (count && drop->connection->side == SIDE_SERVER)
		flight_drop(drop->slot, count, age);
	drop->connection->dropped += count;
	return count;
}

#endif

/* The one request of a connection without a table. */
static __always_inline __u32 drop_single(struct drop *drop)
{
	struct connection *connection = drop->connection;

	if (connection->request_flags & REQUEST_MANY || drop->left.begun == drop->left.over)
		return 0;
	if (connection->side == SIDE_SERVER)
		flight_drop(drop->slot, 1, connection->age);
	drop->id = drop->left.over;
	drop->start_ns = connection->start_ns;
	drop->left.over = drop->left.begun;
	/* HTTP/2's first bytes, when they did not tell yet, are no request that failed. */
	if (connection_protocol(connection) == PROTOCOL_HTTP2)
		return 0;
	connection->dropped++;
	return 1;
}

static __always_inline void drop_end(struct drop *drop)
{
	struct connection *connection = drop->connection;

	detail_set(connection, 0);
	STORE_RELEASE(connection->over, drop->left.begun);
}

#endif
