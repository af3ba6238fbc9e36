/* SPDX-License-Identifier: GPL-2.0 */
/* HTTP/2 by its frame headers: a request is a stream. */
#ifndef EBBTIDE_FEED_HTTP2_H
#define EBBTIDE_FEED_HTTP2_H

#include "feed.h"

/* Where the entry of @stream is, or a free one for it; EXCHANGES: there is none. */
VERIFIED_ALONE __u32 stream_probe(struct exchanges *table, __u32 stream, __u32 make)
{
	__u64 claim;
	__u32 at;

	if (!table)
		return EXCHANGES;
	for (__u32 probe = 0; probe < EXCHANGE_PROBES; probe++) {
		/* Streams are odd and count up: neighbours fall into neighbouring entries. */
		at = (stream >> 1) + probe * 37;
		claim = READ_ONCE(queue_at(table, at)->claim);
		if (make ? claim == 0 : EXCHANGE_STREAM(claim) == stream)
			return at & (EXCHANGES - 1);
	}
	return EXCHANGES;
}

static __always_inline struct exchange *stream_find(
	struct exchanges *table, __u32 stream, bool make)
{
	__u32 at = stream_probe(table, stream, make);

	if (at >= EXCHANGES)
		return 0;
	/* The compiler knows the bound and drops the mask; the verifier needs to see it. */
	asm volatile("" : "+r"(at));
	return queue_at(table, at);
}

/* False: a trailer or a frame seen again, or it cannot be followed. */
static __always_inline bool stream_open(struct feed *feed, __u32 stream)
{
	struct connection *connection = feed->connection;
	struct exchange *exchange;
	__u8 age;

	if (!(stream & 1) || stream <= connection->last_stream)
		return false;
	connection->last_stream = stream;
	exchange = responses_are_lost(connection) ? 0 : stream_find(feed->table, stream, true);
	if (!exchange) {
		CONTROL_COUNT(requests_untracked);
		return false;
	}
	age = age_bucket(feed->slot, feed->room->now_ns);
	exchange->start_ns = feed->room->now_ns;
	flights_begin(feed, 1, age);
	STORE_RELEASE(exchange->claim, EXCHANGE_CLAIM(stream, 0, age, EXCHANGE_OPEN));
	return true;
}

static __always_inline void stream_begin(struct feed *feed)
{
	const struct http2_frame *frame = &feed->room->frame;
	__u32 skip = http2_block_offset(frame), bytes = frame->length, at = feed->room->offset;

	if (!stream_open(feed, frame->stream))
		return;
	if (bytes > feed->room->end - at)
		bytes = feed->room->end - at;
	if (bytes > skip)
		detail_begin(feed, frame->stream, 1, at + skip, bytes - skip);
}

/*
 * Take a stream out of the table, with what is known of it in *@ending. False: another has. The
 * entry is read before, since the requests' way may fill it again behind.
 */
static __always_inline bool stream_take(
	struct feed *feed, struct exchange *exchange, __u64 claim, struct ending *ending)
{
	__u64 answer = exchange->answer;

	ending->start_ns = exchange->start_ns;
	ending->now_ns = EXCHANGE_STATE(claim) == EXCHANGE_ANSWERED
				 ? ending->start_ns + EXCHANGE_ANSWER_NS(answer)
				 : feed->room->now_ns;
	ending->id = EXCHANGE_STREAM(claim);
	ending->response_bytes = EXCHANGE_ANSWER_BYTES(answer);
	ending->status = EXCHANGE_STATUS(claim);
	ending->outcome = OUTCOME_ANSWERED;
	ending->grpc_status = GRPC_STATUS_NONE;
	return claim && ending->id == feed->room->frame.stream &&
	       COMPARE_AND_SWAP(&exchange->claim, claim, 0) == claim;
}

/* Tell of an answered stream that is over. */
static __always_inline void stream_tell(struct feed *feed, struct ending *ending, __u8 reasons)
{
	struct connection *connection = feed->connection;
	__u32 state = detail_state_of(connection, ending->id);

#ifdef KERNEL_5_10
	return;
#endif
	if (reasons)
		ending_tell(feed->sk, connection, ending, state == DETAIL_ANSWERED, reasons);
	if (state)
		detail_set(connection, 0);
}

/* An open stream is reset. */
static __always_inline void stream_failed(struct feed *feed, struct ending *ending, __u8 age)
{
	struct connection *connection = feed->connection;
	__u32 state = detail_state_of(connection, ending->id);

	ending->outcome = OUTCOME_FAILED;
	ending->status = 0;
	ending->response_bytes = 0;
	if (connection->side == SIDE_SERVER)
		flight_drop(feed->slot, 1, age);
	count_failed(feed->slot, connection, 1);
	if (feed->slot->trace_threshold_ns)
		ending_tell(feed->sk, connection, ending, state, REASON_ERROR);
	if (state)
		detail_set(connection, 0);
}

/* Either side resets a stream. */
static __noinline int stream_reset(struct feed *feed)
{
	struct exchange *exchange = stream_find(feed->table, feed->room->frame.stream, false);
	struct ending ending;
	__u64 claim;

	if (!exchange)
		return 0;
	claim = READ_ONCE(exchange->claim);
	if (!stream_take(feed, exchange, claim, &ending))
		return 0;
	if (EXCHANGE_STATE(claim) == EXCHANGE_OPEN)
		stream_failed(feed, &ending, EXCHANGE_BYTE(claim));
	else
		stream_tell(feed, &ending, EXCHANGE_BYTE(claim));
	return 0;
}

/*
 * The response of an open stream begins. Its latency counts at once; it is told of at its end, when
 * gRPC's status is known.
 */
static __noinline int stream_answered(
	struct feed *feed, struct exchange *exchange, __u64 claim, __u32 status, __u32 grpc_status)
{
	struct connection *connection = feed->connection;
	struct ending ending = {.start_ns = exchange->start_ns,
		.now_ns = feed->room->now_ns,
		.id = EXCHANGE_STREAM(claim),
		.response_bytes = feed->room->payload_bytes,
		.status = (__u16)status,
		.grpc_status = (__u8)grpc_status};
	__u64 answered = EXCHANGE_CLAIM(ending.id, status, 0, EXCHANGE_ANSWERED);
	__u32 state = detail_state_of(connection, ending.id);
	__u8 reasons;

	exchange->answer =
		EXCHANGE_ANSWER(at_most(ending.now_ns - ending.start_ns, EXCHANGE_ANSWER_NS_MAX),
			ending.response_bytes);
	if (COMPARE_AND_SWAP(&exchange->claim, claim, answered) != claim)
		return 0;
	if (connection->side == SIDE_SERVER)
		flight_answer(feed->slot, EXCHANGE_BYTE(claim));
	reasons = (__u8)ending_count(feed->slot, connection, &ending, state);
#ifdef KERNEL_5_10
	/* At once: what is kept for later is more than this verifier follows. */
	if (reasons)
		ending_tell(feed->sk, connection, &ending, state, reasons);
	if (state)
		detail_set(connection, 0);
#else
	if (state && (reasons || feed->slot->trace_threshold_ns))
		detail_set(connection, DETAIL_CLAIM(ending.id, DETAIL_ANSWERED));
	else if (state)
		detail_set(connection, 0);
	if (reasons)
		COMPARE_AND_SWAP(&exchange->claim, answered,
			EXCHANGE_CLAIM(ending.id, status, reasons, EXCHANGE_ANSWERED));
#endif
	return 0;
}

/* The response of a stream is at its end. */
static __noinline int stream_over(struct feed *feed, struct exchange *exchange, __u32 grpc_status)
{
	struct slot *slot = feed->slot;
	__u64 claim = READ_ONCE(exchange->claim);
	__u8 reasons = EXCHANGE_BYTE(claim);
	struct ending ending;

	if (EXCHANGE_STATE(claim) != EXCHANGE_ANSWERED ||
		!stream_take(feed, exchange, claim, &ending))
		return 0;
	ending.grpc_status = (__u8)grpc_status;
	if (is_grpc_error(ending.grpc_status) && slot->trace_threshold_ns)
		reasons |= REASON_ERROR;
	if (feed->connection->side == SIDE_SERVER)
		slot_coarse_add(slot->service_time, feed->room->now_ns - ending.start_ns);
	stream_tell(feed, &ending, reasons);
	return 0;
}

VERIFIED_ALONE int field_take(struct room *room, struct http2_statuses *statuses)
{
	if (!room || !statuses)
		return 0;
	return http2_field_take(&room->fields, statuses, &room->bytes[room->block & 7]);
}

FEED_STEP feed_field(__u32 index, struct feed *feed)
{
	(void)index;
	return !field_take(feed->room, &feed->table->statuses);
}

/* :status of the block that was loaded. */
VERIFIED_ALONE __u32 block_status(struct room *room)
{
	return room ? http2_status(&room->bytes[room->block & 7], room->block_bytes) : 0;
}

/* gRPC's status of the block that was loaded. */
static __noinline int block_grpc_status(struct feed *feed)
{
	struct room *room = feed->room;
	const struct http2_frame *frame = &room->frame;
	struct http2_fields *fields = &room->fields;
	/* The length of the padding leads it. */
	__u32 padding = frame->flags & HTTP2_PADDED ? room->bytes[0] : 0;

	fields->at = 0;
	fields->size = room->block_bytes > padding ? room->block_bytes - padding : 0;
	fields->grpc_status = GRPC_STATUS_NONE;
	fields->is_broken = room->block + room->block_bytes != frame->length ||
			    !(frame->flags & HTTP2_END_HEADERS);
	if (!fields->is_broken || !padding)
		FIELD_RUN(feed_field, feed);
	if (fields->is_broken)
		__builtin_memset(&feed->table->statuses, 0, sizeof(feed->table->statuses));
	return (int)fields->grpc_status;
}

/* A frame of a response that may begin or end it. */
static __always_inline void stream_response(struct feed *feed)
{
	const struct http2_frame *frame = &feed->room->frame;
	struct exchange *exchange;
	bool is_end = frame->flags & HTTP2_END_STREAM, is_first;
	__u32 status = 0, grpc = GRPC_STATUS_NONE;
	__u64 claim;

	if (frame->type == HTTP2_HEADERS && (is_end || feed->table->statuses.is_followed))
		grpc = (__u32)block_grpc_status(feed);
	exchange = stream_find(feed->table, frame->stream, false);
	if (!exchange)
		return;
	claim = READ_ONCE(exchange->claim);
	is_first = EXCHANGE_STATE(claim) == EXCHANGE_OPEN;
	if (is_first) {
		status = frame->type == HTTP2_HEADERS ? block_status(feed->room) : 0;
		if (status && status < 200 && !is_end)
			return;
		stream_answered(feed, exchange, claim, status, is_end ? grpc : GRPC_STATUS_NONE);
	} else if (is_end && is_grpc_error((__u8)grpc)) {
		count_error(feed->slot, feed->connection);
	}
	if (is_end)
		stream_over(feed, exchange, grpc);
}

/* The next frame header, which an earlier segment may have begun. False: not whole yet. */
static __always_inline bool header_gather(struct feed *feed, struct http2 *http2)
{
	struct room *room = feed->room;

	if (http2->have == 0 && room->end - room->offset >= HTTP2_HEADER_BYTES) {
		if (bpf_skb_load_bytes(feed->skb, room->offset, http2->header, HTTP2_HEADER_BYTES))
			return false;
		room->offset += HTTP2_HEADER_BYTES;
		http2->have = HTTP2_HEADER_BYTES;
	} else {
		/* Byte by byte: it is rare, and an address that varies is hard to prove. */
		for (__u32 i = 0; i < HTTP2_HEADER_BYTES; i++) {
			if (i < http2->have || room->offset >= room->end)
				continue;
			if (bpf_skb_load_bytes(feed->skb, room->offset, &http2->header[i], 1))
				return false;
			room->offset++;
			http2->have++;
		}
	}
	return http2->have >= HTTP2_HEADER_BYTES;
}

/*
 * As much of a response's header block as is looked at, in the room, with what an earlier segment
 * had. False: it is not whole yet; the next segment goes on with it.
 */
static __noinline int block_gather(struct feed *feed)
{
	struct room *room = feed->room;
	struct exchanges *table = feed->table;
	__u32 lead = http2_block_offset(&room->frame), need = room->frame.length, had, left;

	if (!table)
		return false;
	if (need > lead + HTTP2_BLOCK_BYTES)
		need = lead + HTTP2_BLOCK_BYTES;
	had = table->cut_bytes & (HTTP2_CUT_BYTES - 1);
	if (had)
		__builtin_memcpy(room->bytes, table->cut, HTTP2_CUT_BYTES);
	left = room->end - room->offset;
	if (left > need - had)
		left = need - had;
	if (left) {
		asm volatile("" : "+r"(had));
		had &= HTTP2_CUT_BYTES - 1;
		left = PAYLOAD_LOAD(
			feed->skb, room->offset, left, room->bytes + had, HTTP2_CUT_BYTES);
		room->offset += left;
	}
	had += left;
	table->cut_bytes = 0;
	room->block = need > lead ? lead : 0;
	room->block_bytes = need > lead ? need - lead : 0;
	if (had >= need)
		return true;
	__builtin_memcpy(table->cut, room->bytes, HTTP2_CUT_BYTES);
	table->cut_bytes = had;
	return false;
}

/*
 * The next frame's header, and of a response's HEADERS its block, in the room. 1: the segment is done
 * with or makes no sense; 0: go on.
 */
static __always_inline long frame_load(struct feed *feed, struct http2 *http2, bool is_response)
{
	struct room *room = feed->room;
	__u32 left;

	room->frame.type = HTTP2_UNKNOWN;
	if (room->offset >= room->end && http2->have < HTTP2_HEADER_BYTES)
		return 1;
	left = room->end - room->offset;
	if (http2->skip) {
		left = http2->skip < left ? http2->skip : left;
		http2->skip -= left;
		room->offset += left;
		return 0;
	}
	if (http2->have < HTTP2_HEADER_BYTES && !header_gather(feed, http2))
		return 1;
	http2_read(http2->header, &room->frame);
	if (!http2_is_sound(&room->frame)) {
		/* Not where frames begin: wait for a segment that looks like one. */
		room->is_lost = 1;
		room->frame.type = HTTP2_UNKNOWN;
		return 1;
	}
	left = 0;
	if (is_response && room->frame.type == HTTP2_HEADERS) {
		if (!block_gather(feed)) {
			room->frame.type = HTTP2_UNKNOWN;
			return 1;
		}
		left = room->block + room->block_bytes;
	}
	http2->have = 0;
	http2->skip = room->frame.length - left;
	return 0;
}

FEED_STEP feed_request2(__u32 index, struct feed *feed)
{
	long is_done = frame_load(feed, &feed->connection->request2, false);

	(void)index;
	if (feed->room->frame.type == HTTP2_RST_STREAM)
		stream_reset(feed);
	else if (feed->room->frame.type == HTTP2_HEADERS)
		stream_begin(feed);
	return is_done;
}

FEED_STEP feed_response2(__u32 index, struct feed *feed)
{
	const struct http2_frame *frame = &feed->room->frame;
	long is_done = frame_load(feed, &feed->connection->response2, true);

	(void)index;
	if (frame->type == HTTP2_RST_STREAM)
		stream_reset(feed);
	else if (frame->type == HTTP2_HEADERS ||
		 (frame->type == HTTP2_DATA && frame->flags & HTTP2_END_STREAM))
		stream_response(feed);
	else if (frame->type == HTTP2_PUSH_PROMISE || frame->type == HTTP2_CONTINUATION)
		/* Fields that are not walked change the header table. */
		feed->table->statuses.is_followed = 0;
	return is_done;
}

/* Before its socket is known: only how many streams begin, and with which. */
FEED_STEP feed_early2(__u32 index, struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct room *room = feed->room;
	long is_done = frame_load(feed, &connection->request2, false);
	__u32 stream = room->frame.stream;

	(void)index;
	if (room->frame.type != HTTP2_HEADERS || !(stream & 1) || stream <= connection->last_stream)
		return is_done;
	if (!room->begun)
		room->first_stream = stream;
	connection->last_stream = stream;
	room->begun++;
	return is_done;
}

/* Open the streams that feed_early2() counted: clients number them without gaps. */
FEED_STEP feed_opened2(__u32 index, struct feed *feed)
{
	if (!feed->room->begun)
		return 1;
	feed->room->begun--;
	stream_open(feed, feed->room->first_stream + 2 * index);
	return 0;
}

VERIFIED_ALONE int room_is_likely(struct room *room)
{
	if (!room)
		return 0;
	http2_read(room->bytes, &room->frame);
	return http2_is_likely(&room->frame, room->end - room->offset);
}

/* Whether the segment begins with a frame, as far as one can tell. */
static __always_inline bool frame_is_likely(struct feed *feed)
{
	struct room *room = feed->room;

	if (room->end - room->offset < HTTP2_HEADER_BYTES ||
		bpf_skb_load_bytes(feed->skb, room->offset, room->bytes, HTTP2_HEADER_BYTES))
		return false;
	return room_is_likely(room);
}

/* Missed or senseless bytes cost the requests in them; those in flight will be answered. */
static __always_inline void http2_requests(struct feed *feed)
{
	struct connection *connection = feed->connection;

	if (!table_get(feed))
		return;
	if (feed->room->has_gap && !(connection->request_flags & REQUEST_LOST)) {
		connection->request_flags |= REQUEST_LOST;
		CONTROL_COUNT(connections_lost);
	}
	if (connection->request_flags & REQUEST_LOST) {
		if (!frame_is_likely(feed))
			return;
		__builtin_memset(&connection->request2, 0, sizeof(connection->request2));
		connection->request_flags &= ~(__u32)REQUEST_LOST;
	}
	FEED_RUN(feed_request2, feed);
	if (!feed->room->is_lost)
		return;
	CONTROL_COUNT(connections_lost);
	/* What only looked like a frame, on something else. */
	if (!connection->last_stream)
		protocol_set(connection, PROTOCOL_TCP);
	connection->request_flags |= REQUEST_LOST;
}

/* Who saw the client's first bytes sees the server's. */
static __always_inline void http2_responses_begin(struct feed *feed)
{
	if (READ_ONCE(feed->connection->request_flags) & REQUEST_PREFACE && table_get(feed))
		responses_synced(feed);
}

static __always_inline void http2_responses(struct feed *feed)
{
	struct connection *connection = feed->connection;

	if (!table_get(feed))
		return;
	if (feed->room->has_gap)
		responses_lost(connection);
	if (!(connection->response_flags & RESPONSE_SYNCED)) {
		if (!frame_is_likely(feed)) {
			responses_lost(connection);
			return;
		}
		responses_synced(feed);
	}
	FEED_RUN(feed_response2, feed);
	if (feed->room->is_lost)
		responses_lost(connection);
}

#endif
