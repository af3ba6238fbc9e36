/* SPDX-License-Identifier: GPL-2.0 */
/* What becomes of a request that ends: counts, histograms, where its time went, and an event. */
#ifndef EBBTIDE_ENDING_H
#define EBBTIDE_ENDING_H

#include "connection.h"

/* What an answer or a failure tells of its request. */
struct ending {
	__u64 start_ns;
	__u64 now_ns;
	__u32 id;
	__u32 response_bytes;
	__u16 status;
	__u8 outcome;
	__u8 grpc_status;
	__u32 reserved;
};

static __always_inline __u64 at_most(__u64 value, __u64 bound)
{
	return value < bound ? value : bound;
}

/*
 * Where the time went, from what the reading task has waited for since it read. Another task that
 * answers (a worker thread) has its own waits: the time between is then the request's, blocked.
 */
static __always_inline void detail_split(
	struct detail *detail, __u32 state, const struct ending *ending)
{
	struct breakdown *parts = &detail->parts;
	__u64 total_ns = ending->now_ns - ending->start_ns, left_ns;
	__u32 zero = 0;
	struct task_struct *reader;
	struct running *task;
	__u64 off_ns, wait_ns, throttled_ns;

	__builtin_memset(parts, 0, sizeof(*parts));
	if (state == DETAIL_OPEN) {
		parts->socket_queue_ns = total_ns;
		return;
	}
	if (detail->read_ns > ending->start_ns)
		parts->socket_queue_ns = at_most(detail->read_ns - ending->start_ns, total_ns);
	left_ns = total_ns - parts->socket_queue_ns;
	if (state == DETAIL_WRITTEN) {
		if (ending->now_ns > detail->write_ns)
			parts->sending_ns = at_most(ending->now_ns - detail->write_ns, left_ns);
		left_ns -= parts->sending_ns;
		off_ns = detail->at_write.off_cpu_ns;
		throttled_ns = detail->at_write.throttled_ns;
		wait_ns = detail->at_write.run_delay_ns;
	} else {
		task = bpf_map_lookup_elem(&running, &zero);
		if (!task || task->task != detail->task || !task->is_followed) {
			parts->blocked_ns = left_ns;
			return;
		}
		off_ns = task->off_cpu_ns;
		throttled_ns = task->throttled_ns;
		reader = (void *)task->task;
		wait_ns = BPF_CORE_READ(reader, sched_info.run_delay);
	}
	off_ns = at_most(off_ns - detail->at_read.off_cpu_ns, left_ns);
	wait_ns = at_most(wait_ns - detail->at_read.run_delay_ns, off_ns);
	throttled_ns -= detail->at_read.throttled_ns;
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
	const struct ending *ending, bool has_detail, __u8 reasons)
{
	struct request_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		CONTROL_COUNT(events_lost);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = EVENT_REQUEST;
	event->slot = OWNER_SLOT(connection->owner);
	event->start_ns = ending->start_ns;
	event->latency_ns = ending->now_ns - ending->start_ns;
	event->response_bytes = ending->response_bytes;
	event->status = ending->status;
	event->protocol = connection_protocol(connection);
	event->side = (__u8)connection->side;
	event->reasons = reasons;
	event->outcome = ending->outcome;
	event->grpc_status = ending->grpc_status;
	if (has_detail) {
		const struct detail *detail = &connection->detail;

#ifndef KERNEL_5_10 /* nobody sees it read there */
		event->has_breakdown =
			connection->side == SIDE_SERVER && ending->outcome == OUTCOME_ANSWERED;
#endif
		event->socket_queue_ns = detail->parts.socket_queue_ns;
		event->waiting_cpu_ns = detail->parts.waiting_cpu_ns;
		event->on_cpu_ns = detail->parts.on_cpu_ns;
		event->throttled_ns = detail->parts.throttled_ns;
		event->blocked_ns = detail->parts.blocked_ns;
		event->sending_ns = detail->parts.sending_ns;
		event->request_bytes = detail->request_bytes;
		event->head_bytes = detail->head_bytes;
		event->process = detail->process;
		__builtin_memcpy(event->command, detail->command, sizeof(event->command));
		__builtin_memcpy(event->head, detail->head, sizeof(event->head));
	}
	return event;
}

static __always_inline bool is_grpc_error(__u8 grpc_status)
{
	return grpc_status != GRPC_STATUS_NONE && grpc_status != 0;
}

static __always_inline bool is_server_error(const struct ending *ending)
{
	return ending->status >= 500 || is_grpc_error(ending->grpc_status);
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

static __always_inline void count_error(struct slot *slot, const struct connection *connection)
{
	__sync_fetch_and_add(
		connection->side == SIDE_SERVER ? &slot->server_errors : &slot->calls_errors, 1);
}

static __always_inline void count_failed(
	struct slot *slot, const struct connection *connection, __u32 count)
{
	__sync_fetch_and_add(
		connection->side == SIDE_SERVER ? &slot->requests_failed : &slot->calls_failed,
		count);
}

/* The state of the detail, 0 if it is another request's. */
static __always_inline __u32 detail_state_of(const struct connection *connection, __u32 id)
{
	__u64 claim = READ_ONCE(connection->detail.claim);

	return (__u32)(claim >> 8) == id ? DETAIL_STATE(claim) : DETAIL_FREE;
}

/* Count one answered request or call; returns the reasons to tell of it. */
VERIFIED_ALONE __u32 ending_count(
	struct slot *slot, struct connection *connection, struct ending *ending, __u32 detail_state)
{
	__u64 latency_ns, number;

	if (!slot || !connection || !ending)
		return 0;
	latency_ns = ending->now_ns - ending->start_ns;
	if (is_server_error(ending))
		count_error(slot, connection);
	if (connection->side == SIDE_CLIENT) {
		number = FETCH_AND_ADD(&slot->calls, 1);
		slot_coarse_add(slot->call_latency, latency_ns);
		return event_reasons(slot, ending, latency_ns, number, false);
	}
	number = FETCH_AND_ADD(&slot->requests, 1);
	slot_histogram_add(slot->latency, latency_ns);
	if (slot->objective_ns && latency_ns > slot->objective_ns)
		__sync_fetch_and_add(&slot->requests_over, 1);
	if (ending->status >= 400 && !is_server_error(ending))
		__sync_fetch_and_add(&slot->client_errors, 1);
#ifndef KERNEL_5_10
	if (detail_state) {
		struct detail *detail = &connection->detail;

		detail_split(detail, detail_state, ending);
		__sync_fetch_and_add(&slot->breakdowns, 1);
		slot_coarse_add(slot->socket_queue, detail->parts.socket_queue_ns);
		slot_coarse_add(slot->waiting_cpu, detail->parts.waiting_cpu_ns);
		slot_coarse_add(slot->on_cpu, detail->parts.on_cpu_ns);
		slot_coarse_add(slot->throttled, detail->parts.throttled_ns);
	}
#endif
	/* Without its detail an exemplar would tell no more than the histogram. */
	return event_reasons(slot, ending, latency_ns, number, detail_state);
}

#endif
