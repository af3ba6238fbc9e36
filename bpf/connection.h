/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is known of a connection and of the requests in flight on it. State belongs to the socket
 * and dies with it; counts that it holds in a slot are given back when it closes.
 */
#ifndef EBBTIDE_CONNECTION_H
#define EBBTIDE_CONNECTION_H

#include "http1.h"
#include "http2.h"
#include "slots.h"

#include <bpf/bpf_endian.h>

enum connection_flag {
	CONNECTION_REQUEST_SEEN = 1,  /* request_end is valid */
	CONNECTION_RESPONSE_SEEN = 2, /* response_end is valid */
	CONNECTION_MANY = 4,	      /* requests in flight are in the table, not in start_ns */
	CONNECTION_SYNCED = 8,	      /* response automaton knows where it is */
	CONNECTION_DETAIL = 16,	      /* the detail below is of a request in flight */
	CONNECTION_READ = 32,	      /* and the service has begun to read it */
	CONNECTION_WRITTEN = 64,      /* and has written, but TCP has not sent yet */
	CONNECTION_SKIP_RECORD =
		128, /* TLS 1.3: the next application data is the handshake's end */
};

/* Of the one request in flight on a connection that is followed in detail. */
struct detail {
	__u64 read_ns;
	__u64 write_ns;
	__u64 task; /* that read it */
	__u64 off_cpu_ns;
	__u64 throttled_ns;
	__u64 run_delay_ns;
	__u32 id; /* of its exchange */
	__u32 process;
	__u32 request_bytes;
	__u32 head_bytes;
	char command[16];
	__u8 head[REQUEST_HEAD_BYTES];
};

/* The first bytes of a connection, as long as they do not tell its protocol. */
struct first_bytes {
	__u8 bytes[15];
	__u8 count;
};

struct connection {
	__u64 start_ns; /* of the request in flight, when there is one and no table */
	__u32 slot;
	__u32 epoch;
	__u32 request_end; /* sequence number after the newest payload, to know retransmissions */
	__u32 response_end;
	__u32 in_flight;
	__u32 next_id; /* of the next request: counts up; the stream's of HTTP/2 */
	union {
		struct http1 request1;
		struct http2 request2;
		struct first_bytes first; /* while the protocol is unknown or opaque */
	};
	union {
		struct http1 response1;
		struct http2 response2;
	};
	__u8 side;
	__u8 protocol;
	__u8 flags;
	__u8 age; /* bucket of start_ns */
	__u8 is_head;
	__u8 reserved[3];
	struct detail detail;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/*
 * Requests in flight on a connection that carries several: HTTP/2's streams, in open addressing by
 * stream; pipelined HTTP/1's, as a queue in which one entry stands for all requests of a segment.
 */
#define EXCHANGES	256
#define EXCHANGE_PROBES 8

enum exchange_flag {
	EXCHANGE_USED = 1,
	EXCHANGE_ANSWERED = 2, /* HTTP/2: the response has begun, the stream is open */
};

struct exchange {
	__u64 start_ns;
	__u32 id;
	__u16 count;
	__u8 age;
	__u8 flags;
	__u32 head_mask; /* HTTP/1: which of the first 32 are HEAD */
	__u32 reserved;
};

struct exchanges {
	__u32 first; /* of the queue */
	__u32 next;
	/* HTTP/2: the beginning of a frame that was cut by a segment's end, of each direction. */
	__u8 cut[2][HTTP2_CUT_BYTES];
	struct exchange entries[EXCHANGES];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct exchanges);
} multiplexed SEC(".maps");

/* The value before; kernels before 5.12 add without telling it, and there it may be a little old. */
#ifdef KERNEL_5_10
#define FETCH_AND_ADD(field, value)                                                                \
	({                                                                                         \
		__u64 fetched = *(volatile __u64 *)(field);                                        \
                                                                                                   \
		__sync_fetch_and_add(field, value);                                                \
		fetched;                                                                           \
	})
#else
#define FETCH_AND_ADD(field, value) __sync_fetch_and_add(field, value)
#endif

/* The slot of @connection, or NULL: none, or given to another container since. */
static __always_inline struct slot *connection_slot(const struct connection *connection)
{
	struct slot *slot = slot_at(connection->slot);

	return slot && slot->epoch == connection->epoch ? slot : 0;
}

static __always_inline __u8 age_bucket(const struct slot *slot, __u64 now_ns)
{
	return (__u8)(now_ns >> (slot->age_shift & 63) & (AGE_BUCKETS - 1));
}

/* @count requests came at @now_ns, in age bucket @age. */
static __always_inline void flight_begin(struct slot *slot, __u32 index, __u32 count, __u8 age)
{
	__s64 before = (__s64)FETCH_AND_ADD(&slot->in_flight, (__s64)count);

	__sync_fetch_and_add(&slot->ages[age & (AGE_BUCKETS - 1)], count);
	if (before <= 0 && slot->throttled_since_ns)
		throttle_tell(slot, index);
}

static __always_inline void flight_end(struct slot *slot, __u32 count, __u8 age)
{
	__sync_fetch_and_add(&slot->in_flight, -(__s64)count);
	__sync_fetch_and_add(&slot->ages[age & (AGE_BUCKETS - 1)], -count);
}

/* What an answer or a failure tells of its request. */
struct ending {
	__u64 start_ns;
	__u64 now_ns;
	__u32 id;
	__u32 response_bytes;
	__u16 status;
	__u8 outcome;
	__u8 grpc_status;
};

struct breakdown {
	__u64 socket_queue_ns;
	__u64 waiting_cpu_ns;
	__u64 on_cpu_ns;
	__u64 throttled_ns;
	__u64 blocked_ns;
	__u64 sending_ns;
};

static __always_inline __u64 at_most(__u64 value, __u64 bound)
{
	return value < bound ? value : bound;
}

/*
 * Where the time went, from what the reading task has waited for since it read. Another task that
 * answers (a worker thread) has its own waits: the time between is then the request's, blocked.
 */
static __always_inline void detail_split(const struct detail *detail, __u8 flags,
	const struct ending *ending, struct breakdown *parts)
{
	__u64 total_ns = ending->now_ns - ending->start_ns, left_ns;
	__u32 zero = 0;
	struct task_struct *reader;
	struct running *task;
	__u64 off_ns, wait_ns, throttled_ns;

	__builtin_memset(parts, 0, sizeof(*parts));
	if (!(flags & CONNECTION_READ)) {
		parts->socket_queue_ns = total_ns;
		return;
	}
	if (detail->read_ns > ending->start_ns)
		parts->socket_queue_ns = at_most(detail->read_ns - ending->start_ns, total_ns);
	left_ns = total_ns - parts->socket_queue_ns;
	if (flags & CONNECTION_WRITTEN && ending->now_ns > detail->write_ns)
		parts->sending_ns = at_most(ending->now_ns - detail->write_ns, left_ns);
	left_ns -= parts->sending_ns;
	if (flags & CONNECTION_WRITTEN) {
		/* The differences were taken when it wrote. */
		off_ns = detail->off_cpu_ns;
		throttled_ns = detail->throttled_ns;
		wait_ns = detail->run_delay_ns;
	} else {
		task = bpf_map_lookup_elem(&running, &zero);
		if (!task || task->task != detail->task || !task->is_followed) {
			parts->blocked_ns = left_ns;
			return;
		}
		off_ns = task->off_cpu_ns - detail->off_cpu_ns;
		throttled_ns = task->throttled_ns - detail->throttled_ns;
		reader = (void *)task->task;
		wait_ns = BPF_CORE_READ(reader, sched_info.run_delay) - detail->run_delay_ns;
	}
	off_ns = at_most(off_ns, left_ns);
	wait_ns = at_most(wait_ns, off_ns);
	parts->on_cpu_ns = left_ns - off_ns;
	parts->throttled_ns = at_most(throttled_ns, wait_ns);
	parts->waiting_cpu_ns = wait_ns - parts->throttled_ns;
	parts->blocked_ns = off_ns - wait_ns;
}

static __always_inline void event_addresses(struct request_event *event, struct bpf_sock *sk)
{
	event->family = (__u16)sk->family;
	event->local_port = (__u16)sk->src_port;
	event->remote_port = bpf_ntohs(sk->dst_port);
	/* All of them, and the agent picks by family: a choice here becomes a computed address. */
	event->local_ip4 = sk->src_ip4;
	event->local_ip6[0] = sk->src_ip6[0];
	event->local_ip6[1] = sk->src_ip6[1];
	event->local_ip6[2] = sk->src_ip6[2];
	event->local_ip6[3] = sk->src_ip6[3];
	event->remote_ip4 = sk->dst_ip4;
	event->remote_ip6[0] = sk->dst_ip6[0];
	event->remote_ip6[1] = sk->dst_ip6[1];
	event->remote_ip6[2] = sk->dst_ip6[2];
	event->remote_ip6[3] = sk->dst_ip6[3];
}

/* NULL when the ring is full: counted, and the histograms have the request all the same. */
static __always_inline struct request_event *event_begin(const struct connection *connection,
	const struct ending *ending, const struct breakdown *parts, bool has_detail, __u8 reasons)
{
	struct request_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		CONTROL_COUNT(events_lost);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = EVENT_REQUEST;
	event->slot = connection->slot;
	event->start_ns = ending->start_ns;
	event->latency_ns = ending->now_ns - ending->start_ns;
	event->response_bytes = ending->response_bytes;
	event->status = ending->status;
	event->protocol = connection->protocol;
	event->side = connection->side;
	event->reasons = reasons;
	event->outcome = ending->outcome;
	event->grpc_status = ending->grpc_status;
	if (has_detail) {
		const struct detail *detail = &connection->detail;

		event->has_breakdown = connection->side == SIDE_SERVER;
		event->socket_queue_ns = parts->socket_queue_ns;
		event->waiting_cpu_ns = parts->waiting_cpu_ns;
		event->on_cpu_ns = parts->on_cpu_ns;
		event->throttled_ns = parts->throttled_ns;
		event->blocked_ns = parts->blocked_ns;
		event->sending_ns = parts->sending_ns;
		event->request_bytes = detail->request_bytes;
		event->head_bytes = detail->head_bytes;
		event->process = detail->process;
		__builtin_memcpy(event->command, detail->command, sizeof(event->command));
		__builtin_memcpy(event->head, detail->head, sizeof(event->head));
	}
	return event;
}

static __always_inline bool is_server_error(const struct ending *ending)
{
	return ending->status >= 500 ||
	       (ending->grpc_status != GRPC_STATUS_NONE && ending->grpc_status != 0);
}

static __always_inline __u8 event_reasons(struct slot *slot, const struct ending *ending,
	__u64 latency_ns, __u64 number, bool is_exemplary)
{
	__u64 octave;
	__u8 reasons = 0;

	if (slot->trace_threshold_ns && latency_ns >= slot->trace_threshold_ns)
		reasons |= REASON_SLOW;
	if (slot->trace_threshold_ns &&
		(ending->outcome != OUTCOME_ANSWERED || is_server_error(ending)))
		reasons |= REASON_ERROR;
	if (slot->trace_mask && !(number & slot->trace_mask))
		reasons |= REASON_SAMPLED;
	if (slot->exemplars_due && is_exemplary) {
		octave = 1ULL << (hist_bucket(latency_ns / 1000) / HIST_LINEAR & 31);
		if (slot->exemplars_due & octave) {
			slot->exemplars_due &= ~octave;
			reasons |= REASON_EXEMPLAR;
		}
	}
	return reasons;
}

/* Count one answered request or call; true when it is to be told of, with what in *@reasons. */
static __always_inline __u8 ending_count(struct slot *slot, struct connection *connection,
	const struct ending *ending, struct breakdown *parts, bool has_detail)
{
	__u64 latency_ns = ending->now_ns - ending->start_ns, number;

	if (connection->side == SIDE_CLIENT) {
		number = FETCH_AND_ADD(&slot->calls, 1);
		slot_coarse_add(slot->call_latency, latency_ns);
		if (is_server_error(ending))
			__sync_fetch_and_add(&slot->calls_errors, 1);
		return event_reasons(slot, ending, latency_ns, number, false);
	}
	number = FETCH_AND_ADD(&slot->requests, 1);
	slot_histogram_add(slot->latency, latency_ns);
	if (slot->objective_ns && latency_ns > slot->objective_ns)
		__sync_fetch_and_add(&slot->requests_over, 1);
	if (is_server_error(ending))
		__sync_fetch_and_add(&slot->server_errors, 1);
	else if (ending->status >= 400)
		__sync_fetch_and_add(&slot->client_errors, 1);
	if (has_detail) {
		detail_split(&connection->detail, connection->flags, ending, parts);
		__sync_fetch_and_add(&slot->breakdowns, 1);
		slot_coarse_add(slot->socket_queue, parts->socket_queue_ns);
		slot_coarse_add(slot->waiting_cpu, parts->waiting_cpu_ns);
		slot_coarse_add(slot->on_cpu, parts->on_cpu_ns);
		slot_coarse_add(slot->throttled, parts->throttled_ns);
	}
	/* Without its detail an exemplar would tell no more than the histogram. */
	return event_reasons(slot, ending, latency_ns, number, has_detail);
}

__attribute__((unused)) static __noinline int ending_report(struct bpf_sock *sk,
	struct connection *connection, struct slot *slot, struct ending *ending)
{
	struct breakdown parts = {};
	struct request_event *event;
	bool has_detail =
		connection->flags & CONNECTION_DETAIL && connection->detail.id == ending->id;
	__u8 reasons = ending_count(slot, connection, ending, &parts, has_detail);

	if (reasons) {
		event = event_begin(connection, ending, &parts, has_detail, reasons);
		if (event) {
			event_addresses(event, sk);
			bpf_ringbuf_submit(event, 0);
		}
	}
	if (has_detail)
		connection->flags &=
			(__u8) ~(CONNECTION_DETAIL | CONNECTION_READ | CONNECTION_WRITTEN);
	return 0;
}

/* Nothing of what the table holds is in flight any more; the counts are not touched. */
static __noinline int table_clear(struct exchanges *table)
{
	if (!table)
		return 0;
	table->first = table->next = 0;
	for (__u32 i = 0; i < EXCHANGES; i++)
		table->entries[i].flags = 0;
	return 0;
}

/*
 * End what is in the table: a stream not yet answered, an entry of the queue. No branch in the
 * loop, since compilers lay such a loop out in a way that verifiers before 6.3 take for a jump back.
 */
static __always_inline void table_give_back(struct exchanges *table, struct slot *slot)
{
	__u32 queued = table->next - table->first, first = table->first;

	for (__u32 i = 0; i < EXCHANGES; i++) {
		struct exchange *exchange = &table->entries[i];
		__u32 is_queued = ((i - first) & (EXCHANGES - 1)) < queued;
		__u32 is_open = exchange->flags == EXCHANGE_USED;
		__u32 count = exchange->count * is_queued + is_open;

		asm volatile("" : "+r"(count));
		flight_end(slot, count, exchange->age);
	}
}

/*
 * Give back everything that a connection has in flight, since it closes or its framing was lost.
 * Returns how many requests that were.
 */
static __noinline __u32 flights_drop(
	struct connection *connection, struct exchanges *table, struct slot *slot)
{
	__u32 dropped;

	if (!connection || !slot)
		return 0;
	dropped = connection->in_flight;
	connection->in_flight = 0;
	if (dropped && connection->side == SIDE_SERVER) {
		if (!(connection->flags & CONNECTION_MANY))
			flight_end(slot, 1, connection->age);
		else if (table)
			table_give_back(table, slot);
	}
	table_clear(table);
	connection->flags &= (__u8) ~(CONNECTION_DETAIL | CONNECTION_MANY | CONNECTION_SYNCED);
	return dropped;
}

/* A connection that ends with requests in flight: no answer. Keeps in_flight from sticking. */
static __always_inline __u32 connection_closed(
	struct connection *connection, struct exchanges *table)
{
	struct slot *slot = connection_slot(connection);
	__u32 dropped;

	if (!slot)
		return 0;
	dropped = flights_drop(connection, table, slot);
	if (dropped)
		__sync_fetch_and_add(connection->side == SIDE_SERVER ? &slot->requests_failed
								     : &slot->calls_failed,
			dropped);
	return dropped;
}

#endif
