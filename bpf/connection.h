/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is known of a connection and of the requests in flight on it. State belongs to the socket
 * and dies with it; counts that it holds in a slot are given back when it ends.
 *
 * Requests and responses pass at the same time, on two CPUs. So each field is written by one way
 * only and read by the other:
 *
 *   - What leaves a socket, and its end, pass under the socket's own lock: one at a time.
 *   - What arrives is seen before that lock is taken. The gate lets one CPU in at a time, and none
 *     once the connection is over.
 *
 * A request is begun by the requests' way and ended by the responses' way or by the connection's
 * end, which keep `begun` and `over`; of HTTP/2, where either way may end a stream, by whoever
 * claims its entry in the table (exchanges.h).
 */
#ifndef EBBTIDE_CONNECTION_H
#define EBBTIDE_CONNECTION_H

#include "atomics.h"
#include "http1_plain.h"
#include "http2.h"
#include "slots.h"

#include <bpf/bpf_endian.h>

enum request_flag {
	REQUEST_SEEN = 1,	 /* request_end is valid */
	REQUEST_MANY = 2,	 /* HTTP/1: requests are in the table's queue, for good */
	REQUEST_LOST = 4,	 /* HTTP/2: where frames begin is to be found anew */
	REQUEST_PREFACE = 16,	 /* HTTP/2: seen from its beginning */
	REQUEST_SKIP_RECORD = 8, /* TLS 1.3: the next application data is the handshake's end */
};

enum response_flag {
	RESPONSE_SEEN = 1,    /* response_end is valid */
	RESPONSE_SYNCED = 2,  /* where messages begin is known */
	RESPONSE_LARGE = 8,   /* HTTP/1: a lone one, followed to its end all the same */
	RESPONSE_SKIPPED = 4, /* payload has passed since that was not known: answers, maybe */
};

/* Of the one request in flight on a connection that is followed in detail. */
enum detail_state {
	DETAIL_FREE,
	DETAIL_OPEN,
	DETAIL_READ,	/* the service has begun to read it */
	DETAIL_WRITTEN, /* and has written, but TCP has not sent yet */
	DETAIL_ANSWERED /* HTTP/2: the parts are known, the stream goes on */
};

#define DETAIL_CLAIM(id, state) ((__u64)(id) << 8 | (state))
#define DETAIL_STATE(claim)	((claim)&0xff)

struct breakdown {
	__u64 socket_queue_ns;
	__u64 waiting_cpu_ns;
	__u64 on_cpu_ns;
	__u64 throttled_ns;
	__u64 blocked_ns;
	__u64 sending_ns;
};

/* What a task has waited for until a moment. */
struct task_waits {
	__u64 off_cpu_ns;
	__u64 throttled_ns;
	__u64 run_delay_ns;
};

struct detail {
	/* DETAIL_CLAIM() of its exchange. The requests' way opens it, a system call moves it on by
	 * compare-and-swap, who ends the request frees it. */
	__u64 claim;
	__u64 read_ns;
	__u64 write_ns;
	__u64 task; /* that read it */
	struct task_waits at_read;
	struct task_waits at_write;
	struct breakdown parts; /* once it is answered */
	__u32 process;
	__u32 request_bytes;
	__u32 head_bytes;
	__u32 ports; /* awaited_index() */
	char command[16];
	__u8 head[REQUEST_HEAD_BYTES];
};

/* The first bytes of a connection, as long as they do not tell its protocol. */
struct first_bytes {
	__u8 bytes[15];
	__u8 count;
};

/* Whose a connection is, in one word; 0: nobody has looked yet. */
#define OWNER(slot, epoch) ((__u64)(epoch) << 32 | (slot))
#define OWNER_SLOT(owner)  ((__u32)(owner))
#define OWNER_EPOCH(owner) ((__u32)((owner) >> 32))
/* Of no unit; being looked up. Epochs of slots that were given out begin at 1. */
#define OWNER_NONE OWNER(SLOT_NONE, 0)
#define OWNER_BUSY OWNER(SLOT_NONE - 1, 0)

enum gate_flag {
	GATE_BUSY = 1, /* an arrived segment is looked at */
	GATE_OVER = 2, /* the connection is over: nothing begins any more */
};

/* The protocol, and how many times it was found anew, in one word. */
#define SHAPE(generation, protocol) ((generation) << 8 | (protocol))
#define SHAPE_PROTOCOL(shape)	    ((shape)&0xff)
#define SHAPE_GENERATION(shape)	    ((shape) >> 8)

/*
 * The kernel keeps socket storage from the eighth byte of a line on (its own pointer is before it).
 * What is read at every segment and seldom written comes first. What both ways write with every
 * request is together in one line, so that it goes from one CPU to the other once a turn.
 */
#define CONNECTION_HOT (5 * LINE_BYTES - 8)

struct connection {
	__u64 owner;	      /* by compare-and-swap */
	__u32 side;	      /* set by who claimed it */
	__u32 upgraded_shape; /* by the responses' way: a 101 ended this one */
	__u64 socket;	      /* its address, at its end, for who tells of it */
	struct detail detail;

	__u32 gate; /* by compare-and-swap */
	/* Written by the requests' way. */
	__u32 begun;	   /* requests so far that are not HTTP/2's */
	__u32 request_end; /* sequence number after the newest payload: what is older is known */
	__u32 shape;
	__u32 request_flags;
	/* Written by the responses' way. */
	__u32 response_flags;
	__u32 over; /* of those begun */
	__u32 response_end;
	__u32 response_shape; /* what its automaton is of */
	/* By the requests' again. */
	__u8 age; /* bucket of start_ns */
	__u8 is_head;
	__u8 is_unordered; /* by order_wait(): who waited for an earlier segment did so in vain */
	__u8 reserved;
	__u64 start_ns; /* of the newest request, when there is no queue */
	union {
		struct http1 request1;
		struct http2 request2;
		struct first_bytes first; /* while the protocol is unknown or opaque */
	};

	__u32 last_stream; /* by the requests' way */
	__u32 dropped;	   /* at its end, for who counts */
	union {		   /* by the responses' way */
		struct http1 response1;
		struct http2 response2;
	};
};

_Static_assert(
	__builtin_offsetof(struct connection, gate) == CONNECTION_HOT &&
		__builtin_offsetof(struct connection, last_stream) == CONNECTION_HOT + LINE_BYTES,
	"one line of a connection");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/*
 * How many requests are followed that nobody has begun to read yet, by their connections' ports.
 * Every read of every socket of the node asks; for most a look at this is all that it takes.
 */
#define AWAITED_BITS 10

struct awaited {
	__u32 counts[1 << AWAITED_BITS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct awaited);
} awaited SEC(".maps");

static __always_inline __u32 awaited_index(__u16 local_port, __u16 remote_port)
{
	return (((__u32)remote_port << 16 | local_port) * 0x9e3779b1U) >> (32 - AWAITED_BITS);
}

static __always_inline __u32 *awaited_count(__u32 index)
{
	__u32 zero = 0;
	struct awaited *all = bpf_map_lookup_elem(&awaited, &zero);

	return all ? &all->counts[index & ((1 << AWAITED_BITS) - 1)] : 0;
}

static __always_inline void awaited_add(__u32 index, __u32 number)
{
	__u32 *count = awaited_count(index);

	if (count)
		__sync_fetch_and_add(count, number);
}

/* What was followed in detail on @connection is over, or is @claim from now on. */
VERIFIED_ALONE int detail_set(struct connection *connection, __u64 claim)
{
	__u64 before;

	if (!connection)
		return 0;
	before = EXCHANGE(&connection->detail.claim, claim);
	if (DETAIL_STATE(before) == DETAIL_OPEN)
		awaited_add(connection->detail.ports, -1);
	return 0;
}

/* The slot of @connection, or NULL: none, or given to another container since. */
static __always_inline struct slot *connection_slot(const struct connection *connection)
{
	__u64 owner = READ_ONCE(connection->owner);
	struct slot *slot = slot_at(OWNER_SLOT(owner));

	return slot && owner && slot->epoch == OWNER_EPOCH(owner) ? slot : 0;
}

static __always_inline __u32 connection_protocol(const struct connection *connection)
{
	return SHAPE_PROTOCOL(READ_ONCE(connection->shape));
}

/* Of the requests or of the responses: where its newest payload ends, and its flags. */
struct way {
	__u32 *end;
	__u32 *flags;
	bool is_request;
};

/* Of either way's flags the one for an end that is valid. */
#define WAY_SEEN 1
_Static_assert(REQUEST_SEEN == WAY_SEEN && RESPONSE_SEEN == WAY_SEEN, "one flag for both ways");

static __always_inline struct way request_way(struct connection *connection)
{
	return (struct way){&connection->request_end, &connection->request_flags, true};
}

/* That a segment goes: requests arrive at a server, and leave who asks. */
static __always_inline struct way segment_way(struct connection *connection, bool is_ingress)
{
	if (is_ingress == (connection->side == SIDE_SERVER))
		return request_way(connection);
	return (struct way){&connection->response_end, &connection->response_flags, false};
}

/* How many are in flight, those of HTTP/2 aside. */
static __always_inline __u32 connection_in_flight(const struct connection *connection)
{
	return LOAD_ACQUIRE(((struct connection *)connection)->begun) - READ_ONCE(connection->over);
}

#ifndef KERNEL_5_10

/*
 * A turn takes 3 ns, so this is 3 ms at most. Waits of 24 us were seen, behind segments of 64 KiB full
 * of heads; longer ones are those of a virtual CPU that its host does not run, on which the kernel's own
 * locks wait as well. Whoever gives up here misses a segment, and in a pipeline maybe what comes behind it.
 */
#define GATE_TURNS (1 << 20)

static long gate_try(__u32 index, struct connection **connection)
{
	(void)index;
	return READ_ONCE((*connection)->gate) != GATE_BUSY;
}

/* Arrived segments of one connection on two CPUs: rare, a matter of queues and migrations. */
static __noinline __u32 gate_wait(struct connection *connection)
{
	if (!connection)
		return GATE_BUSY;
	bpf_loop(GATE_TURNS, gate_try, &connection, 0);
	return COMPARE_AND_SWAP(&connection->gate, 0, GATE_BUSY);
}

/* False: over, or another CPU is too long at it; then the segment is missed. */
static __always_inline bool gate_enter(struct connection *connection)
{
	__u32 seen = COMPARE_AND_SWAP(&connection->gate, 0, GATE_BUSY);

	if (seen == GATE_BUSY)
		seen = gate_wait(connection);
	return seen == 0;
}

/* 200 us at most. */
#define ORDER_TURNS (1 << 16)

struct order {
	struct connection *connection;
	__u64 sequence;
};

static __always_inline bool is_ahead(struct connection *connection, __u32 sequence)
{
	struct way way = segment_way(connection, true);

	return READ_ONCE(*way.flags) & WAY_SEEN && (__s32)(sequence - READ_ONCE(*way.end)) > 0;
}

static long order_try(__u32 index, struct order *order)
{
	(void)index;
	return !is_ahead(order->connection, (__u32)order->sequence);
}

/*
 * A sender that moves to another CPU between two segments of one connection sends them into two queues, and
 * the second may overtake the first. Both are there within microseconds. What the network brings out of
 * order, or loses, takes longer: one wait in vain is the last of a connection.
 */
static __noinline int order_wait(struct connection *connection, __u32 sequence)
{
	struct order order = {.connection = connection, .sequence = sequence};

	if (!connection)
		return 0;
	bpf_loop(ORDER_TURNS, order_try, &order, 0);
	if (is_ahead(connection, sequence))
		WRITE_ONCE(connection->is_unordered, 1);
	return 0;
}

static __always_inline void order_keep(struct connection *connection, __u32 sequence)
{
	if (is_ahead(connection, sequence) && !READ_ONCE(connection->is_unordered))
		order_wait(connection, sequence);
}

/* True: the connection ended meanwhile, and left what is in flight to the caller. */
static __always_inline bool gate_leave(struct connection *connection)
{
	/* The flag is set, so it can be subtracted: one instruction, where a mask with a result is a loop. */
	return FETCH_AND_ADD(&connection->gate, -(__u32)GATE_BUSY) & GATE_OVER;
}

#else

static __always_inline void order_keep(struct connection *connection, __u32 sequence)
{
}

static __always_inline bool gate_enter(struct connection *connection)
{
	return !READ_ONCE(connection->gate);
}

static __always_inline bool gate_leave(struct connection *connection)
{
	return false;
}

#endif

/* True: the caller is to end what is in flight; else another has, or who is inside will. */
static __always_inline bool gate_close(struct connection *connection)
{
	return !FETCH_AND_OR(&connection->gate, GATE_OVER);
}

static __always_inline __u8 age_bucket(const struct slot *slot, __u64 now_ns)
{
	return (__u8)(now_ns >> (slot->age_shift & 63) & (AGE_BUCKETS - 1));
}

/* Requests came to a container that may be throttled: tell the reflex if it has no others. */
VERIFIED_ALONE int flight_tell(struct slot *slot, __u32 count)
{
	if (slot && slot_in_flight(slot) <= count)
		throttle_tell(slot, slot->index);
	return 0;
}

/* @count requests came, in age bucket @age. Returns how many had come before. */
static __always_inline __u64 flight_begin(struct slot *slot, __u32 count, __u8 age)
{
	__u64 before = FETCH_AND_ADD(&slot->begun, (__u64)count);

	__sync_fetch_and_add(&slot->ages_begun[age & (AGE_BUCKETS - 1)], count);
	if (slot->throttled_since_ns)
		flight_tell(slot, count);
	return before;
}

/* One is answered, and will be counted as such. */
static __always_inline void flight_answer(struct slot *slot, __u8 age)
{
	__sync_fetch_and_add(&slot->ages_over[age & (AGE_BUCKETS - 1)], 1);
}

/* @count will have no answer. */
static __always_inline void flight_drop(struct slot *slot, __u32 count, __u8 age)
{
	__sync_fetch_and_add(&slot->dropped, (__u64)count);
	__sync_fetch_and_add(&slot->ages_over[age & (AGE_BUCKETS - 1)], count);
}

#endif
