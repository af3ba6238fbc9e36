/* SPDX-License-Identifier: GPL-2.0 */
/* HTTP/2 by its frame headers: a request is a stream. */
#ifndef EBBTIDE_FEED_HTTP2_H
#define EBBTIDE_FEED_HTTP2_H

#include "feed.h"

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
	exchange->count = 0;
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

/* @frame ends or goes on with a response; the first of its header block is in the room. */
static __always_inline void stream_answer(
	struct feed *feed, const struct http2_frame *frame, __u32 block_bytes)
{
	struct ending ending = {.grpc_status = GRPC_STATUS_NONE};
	struct slot *slot = feed->slot;
	struct exchange *exchange = stream_find(feed->table, frame->stream, false);
	const __u8 *block =
		&feed->room->bytes[HTTP2_HEADER_BYTES + (http2_block_offset(frame) & 7)];
	__u8 grpc;

	if (!exchange)
		return;
	if (frame->type == HTTP2_HEADERS) {
		if (!(exchange->flags & EXCHANGE_ANSWERED)) {
			ending.status = http2_status(block, block_bytes);
			if (ending.status && ending.status < 200 &&
				!(frame->flags & HTTP2_END_STREAM))
				return;
			exchange->flags |= EXCHANGE_ANSWERED;
			stream_end(feed, exchange, &ending);
		} else if (frame->flags & HTTP2_END_STREAM) {
			grpc = http2_grpc_status(block, block_bytes);
			if (grpc != 0 && grpc != HTTP2_GRPC_UNKNOWN)
				__sync_fetch_and_add(feed->connection->side == SIDE_SERVER
							     ? &slot->server_errors
							     : &slot->calls_errors,
					1);
		}
	} else if (!(exchange->flags & EXCHANGE_ANSWERED)) {
		/* Reset, or at an end that had no beginning: in either case no longer in flight. */
		if (frame->type == HTTP2_RST_STREAM)
			ending.outcome = OUTCOME_FAILED;
		else
			exchange->flags |= EXCHANGE_ANSWERED;
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

/*
 * Load into the room until it holds @need bytes of a frame (at most HTTP2_CUT_BYTES). False: there are
 * no more. How many it holds is in the room as well: what the verifier does not know it does not follow.
 */
static __noinline int frame_gather(struct feed *feed, __u32 need)
{
	struct room *room = feed->room;
	__u32 had = room->at & (HTTP2_CUT_BYTES - 1), left = room->end - room->offset;

	if (had >= need)
		return true;
	if (!left)
		return false;
	if (left > need - had)
		left = need - had;
	left = PAYLOAD_LOAD(feed->skb, room->offset, left, room->bytes + had, HTTP2_CUT_BYTES);
	room->offset += left;
	room->at = had + left;
	return room->at >= need;
}

/*
 * Load the next frame's beginning into the room, zeros behind it: its header, and of a response's
 * HEADERS as much of the block as is looked at (*@block_bytes). False: it is not whole yet; the next
 * segment goes on with it.
 */
static __always_inline bool frame_next(struct feed *feed, struct http2 *http2,
	struct http2_frame *frame, bool is_response, __u32 *block_bytes)
{
	struct room *room = feed->room;
	__u8 *cut = feed->table->cut[is_response];
	__u32 bytes = 0, lead = 0;

	room->at = http2->have;
	if (http2->have) {
		__builtin_memcpy(room->bytes, cut, HTTP2_CUT_BYTES);
	} else {
		__builtin_memset(room->bytes, 0, HTTP2_CUT_BYTES);
	}
	http2->have = 0;
	if (!frame_gather(feed, HTTP2_HEADER_BYTES))
		goto cut;
	http2_read(room->bytes, frame);
	if (is_response && frame->type == HTTP2_HEADERS) {
		lead = http2_block_offset(frame);
		if (frame->length > lead)
			bytes = frame->length - lead;
		else
			lead = 0;
		if (bytes > HTTP2_BLOCK_BYTES)
			bytes = HTTP2_BLOCK_BYTES;
		if (bytes && !frame_gather(feed, HTTP2_HEADER_BYTES + lead + bytes))
			goto cut;
	}
	*block_bytes = bytes;
	http2->skip = frame->length - lead - bytes;
	return true;
cut:
	__builtin_memcpy(cut, room->bytes, HTTP2_CUT_BYTES);
	http2->have = room->at;
	return false;
}

static __always_inline long feed_frame(struct feed *feed, struct http2 *http2, bool is_response)
{
	struct http2_frame frame = {};
	__u32 left, block_bytes = 0;

	if (feed->room->offset >= feed->room->end)
		return 1;
	left = feed->room->end - feed->room->offset;
	if (http2->skip) {
		left = http2->skip < left ? http2->skip : left;
		http2->skip -= left;
		feed->room->offset += left;
		return 0;
	}
	if (!frame_next(feed, http2, &frame, is_response, &block_bytes))
		return 1;
	if (!http2_is_sound(&frame)) {
		/* Not where frames begin: wait for a segment that looks like one. */
		feed->connection->protocol = PROTOCOL_LOST;
		return 1;
	}
	if (!is_response) {
		if (frame.type == HTTP2_HEADERS)
			stream_begin(feed, &frame, feed->room->offset);
		else if (frame.type == HTTP2_RST_STREAM)
			stream_answer(feed, &frame, 0);
	} else if (frame.type == HTTP2_HEADERS || frame.type == HTTP2_RST_STREAM ||
		   (frame.type == HTTP2_DATA && frame.flags & HTTP2_END_STREAM)) {
		stream_answer(feed, &frame, block_bytes);
	}
	return 0;
}

FEED_STEP feed_request2(__u32 index, struct feed *feed)
{
	(void)index;
	return feed_frame(feed, &feed->connection->request2, false);
}

FEED_STEP feed_response2(__u32 index, struct feed *feed)
{
	(void)index;
	return feed_frame(feed, &feed->connection->response2, true);
}

#endif
