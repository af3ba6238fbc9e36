/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a unit, its segments made by hand and given to the programs of
 * bpf/request.bpf.c, as they are, in user space: what do they count? Include this before
 * everything else.
 */
#ifndef EBBTIDE_REQUEST_TALK_H
#define EBBTIDE_REQUEST_TALK_H

#include "bpf_user_space.h"

BPF_SOURCE_BEGIN
#include "request.bpf.c"
BPF_SOURCE_END

_Static_assert(FEED_STEPS == USER_PAYLOAD_LOOP, "loops over a payload would not be known");

#define TALK_EVENTS    64
#define TALK_TURN_NS   1000000ULL
#define TALK_HEADERS   40 /* of IPv4 and TCP */
#define TALK_BYTES_MAX 65000

/* What became of a request that was answered. */
struct talk_event {
	uint64_t latency_ns;
	uint16_t status;
	uint8_t protocol;
	uint8_t reserved[5]; /* all bytes are compared */
};

/* All that a connection's bytes decide, however they are cut into segments. */
struct talk_told {
	uint64_t requests, failed, client_errors, server_errors;
	int64_t in_flight;
	uint64_t lost, untracked;
	uint32_t latency_count, latency_sum; /* of the buckets, by their place */
	uint32_t service_time_count, service_time_sum;
	uint32_t event_count;
	struct talk_event events[TALK_EVENTS];
};

struct talk {
	struct bpf_sock sk;
	uint8_t side;
	uint32_t sequence[2]; /* next byte of the request's direction, of the response's */
	uint8_t *headers;
	struct talk_told told;
};

static struct talk talk;

static void talk_event_add(const void *pointer)
{
	const struct request_event *event = pointer;
	struct talk_told *told = &talk.told;

	if (event->kind != EVENT_REQUEST || event->slot != 0)
		user_fail("an event that is no request of slot 0");
	if (event->head_bytes > sizeof(event->head))
		user_fail("a head longer than its room");
	/* Which failures are told of one by one, and which are only counted, is not looked at here. */
	if (event->outcome == OUTCOME_ANSWERED && told->event_count < TALK_EVENTS)
		told->events[told->event_count++] =
			(struct talk_event){.latency_ns = event->latency_ns,
				.status = event->status,
				.protocol = event->protocol};
}

static struct slot *talk_slot(void)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(&slots, &zero);
}

static struct slot_control *talk_control(void)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(&slot_control, &zero);
}

static struct awaited *talk_awaited(void)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(&awaited, &zero);
}

/* Where a 32-bit address reaches, at the end of a page before one that nobody may touch. */
static uint8_t *talk_headers_map(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *memory = MAP_FAILED;

	for (uintptr_t at = 0x30000000; at < 0x70000000 && memory == MAP_FAILED; at += 0x1000000)
		memory = mmap((void *)at, 2 * page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory + page, page, PROT_NONE))
		user_fail("no memory below 2 GiB");
	return memory + page - TALK_HEADERS;
}

/* A new connection, seen from @side. */
static void talk_begin(uint8_t side)
{
	static struct bpf_sock listener = {.state = TCP_LISTEN};
	uint8_t *headers = talk.headers ? talk.headers : talk_headers_map();
	uint64_t key = SLOT_KEY(HIERARCHY_UNIFIED, (uint64_t)USER_CGROUP);
	uint32_t zero = 0;

	user_maps_forget();
	user_listener = side == SIDE_SERVER ? &listener : NULL;
	user_event_sink = talk_event_add;
	user_clock_ns = TALK_TURN_NS;
	memset(&talk, 0, sizeof(talk));
	talk.headers = headers;
	talk.side = side;
	/* Near the end of what a sequence number holds, so that it wraps on the way. */
	talk.sequence[0] = 0U - 200;
	talk.sequence[1] = 0U - 100;
	talk.sk.family = AF_INET;
	talk.sk.state = TCP_ESTABLISHED;
	talk.sk.src_port = 8080;
	memset(talk_slot(), 0, sizeof(struct slot));
	memset(talk_control(), 0, sizeof(struct slot_control));
	memset(talk_awaited(), 0, sizeof(struct awaited));
	talk_slot()->trace_threshold_ns = 1;
	talk_slot()->epoch = 1;
	talk_slot()->age_shift = 20;
	bpf_map_update_elem(&slot_index, &key, &zero, BPF_ANY);
}

/* @bytes at @sequence, in one segment. */
static void talk_segment(int is_response, uint32_t sequence, const uint8_t *bytes, size_t size)
{
	bool is_ingress = is_response == (talk.side == SIDE_CLIENT);
	struct user_packet packet = {
		.payload = bytes,
		.header_bytes = TALK_HEADERS,
		.skb = {.len = (uint32_t)(TALK_HEADERS + size),
			.protocol = bpf_htons(ETH_P_IP),
			.data = (uint32_t)(uintptr_t)talk.headers,
			.data_end = (uint32_t)(uintptr_t)talk.headers + TALK_HEADERS,
			.sk = &talk.sk,
			.tstamp = is_ingress ? 0 : user_clock_ns},
	};
	uint32_t network = bpf_htonl(sequence);

	memset(talk.headers, 0, TALK_HEADERS);
	talk.headers[0] = 0x45;
	talk.headers[9] = IPPROTO_TCP;
	memcpy(talk.headers + 24, &network, sizeof(network));
	talk.headers[32] = 5 << 4;
	if ((is_ingress ? request_ingress(&packet.skb) : request_egress(&packet.skb)) != 1)
		user_fail("a packet is dropped");
	if (user_event)
		user_fail("an event is reserved and not submitted");
}

/* The next @size bytes of one direction, in one segment. */
static void talk_say(int is_response, const uint8_t *bytes, size_t size)
{
	if (!size)
		return;
	talk_segment(is_response, talk.sequence[is_response], bytes, size);
	talk.sequence[is_response] += (uint32_t)size;
}

static void talk_sums(const uint32_t *buckets, size_t count, uint32_t *number, uint32_t *sum)
{
	for (size_t at = 0; at < count; at++) {
		*number += buckets[at];
		*sum += buckets[at] * (uint32_t)at;
	}
}

/* What has been counted so far; wrong sums end the test, whatever the bytes were. */
static const struct talk_told *talk_look(void)
{
	const struct slot *slot = talk_slot();
	struct talk_told *told = &talk.told;
	bool is_server = talk.side == SIDE_SERVER;
	uint32_t zero = 0, in_ages = 0;
	struct rooms *all = bpf_map_lookup_elem(&rooms, &zero);

	told->requests = is_server ? slot->requests : slot->calls;
	told->failed = is_server ? slot->requests_failed : slot->calls_failed;
	told->client_errors = slot->client_errors;
	told->server_errors = is_server ? slot->server_errors : slot->calls_errors;
	told->in_flight = slot_in_flight(slot);
	told->lost = talk_control()->connections_lost;
	told->untracked = talk_control()->requests_untracked;
	told->latency_count = told->latency_sum = 0;
	told->service_time_count = told->service_time_sum = 0;
	if (is_server)
		talk_sums(slot->latency, HIST_BUCKETS, &told->latency_count, &told->latency_sum);
	else
		talk_sums(
			slot->call_latency, HIST_COARSE, &told->latency_count, &told->latency_sum);
	talk_sums(slot->service_time, HIST_COARSE, &told->service_time_count,
		&told->service_time_sum);
	for (size_t at = 0; at < AGE_BUCKETS; at++) {
		if (slot_in_flight_of(slot, (uint32_t)at) < 0)
			user_fail("fewer than no requests in an age bucket");
		in_ages += (uint32_t)slot_in_flight_of(slot, (uint32_t)at);
	}
	if (told->in_flight < 0 || in_ages != (uint64_t)told->in_flight)
		user_fail("requests in flight are not those in the age buckets");
	if (told->latency_count != told->requests)
		user_fail("the histogram does not hold each request once");
	if (is_server ? slot->calls + slot->calls_failed : slot->requests + slot->requests_failed)
		user_fail("a request of the other side");
	if (told->requests < told->event_count)
		user_fail("more events than requests");
	if (user_loops_cut)
		user_fail("a loop came to its bound before the segment's end");
	for (int i = 0; i < ROOMS; i++)
		if (all->rooms[i].is_taken)
			user_fail("a room was not given back");
	return told;
}

/* The connection is over; nothing may stay in flight. */
static const struct talk_told *talk_end(void)
{
	request_release(&talk.sk);
	if (slot_in_flight(talk_slot()))
		user_fail("a request stays in flight on a closed connection");
	for (size_t at = 0; at < sizeof(struct awaited) / sizeof(uint32_t); at++)
		if (talk_awaited()->counts[at])
			user_fail("a request of a closed connection is still to be read");
	return talk_look();
}

#endif
