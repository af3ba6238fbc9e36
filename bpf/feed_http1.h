/* SPDX-License-Identifier: GPL-2.0 */
/*
 * HTTP/1 by its framing, so that pipelined requests are told apart. Kernels before 5.17 have no
 * loop long enough: there requests and responses are taken by turns, and pipelined requests of one
 * segment count as one.
 */
#ifndef EBBTIDE_FEED_HTTP1_H
#define EBBTIDE_FEED_HTTP1_H

#include "feed.h"

#ifdef KERNEL_5_10

static __always_inline void http1_requests(struct feed *feed)
{
	if (!feed->connection->in_flight)
		single_begin(feed);
}

static __always_inline void http1_responses(struct feed *feed)
{
	__u16 status;

	if (!feed->connection->in_flight)
		return;
	status = http1_status(feed);
	if (status == 100)
		return;
	single_answer(feed, status == HTTP1_STATUS_CUT ? 0 : status);
	if (status == 101)
		protocol_opaque(feed->connection);
}

#else

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
	exchange->flags = 0;
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
	struct connection *connection = feed->connection;
	bool is_head = connection->is_head;

	if (connection->flags & CONNECTION_MANY)
		is_head = table && table->first != table->next &&
			  table->entries[table->first & (EXCHANGES - 1)].head_mask & 1;
	connection->response1.flags = is_head ? HTTP1_HEAD : 0;
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

FEED_STEP feed_request1(__u32 index, struct feed *feed)
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

FEED_STEP feed_response1(__u32 index, struct feed *feed)
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
		protocol_opaque(connection);
	return event == HTTP1_UPGRADED;
}

static __always_inline void http1_requests(struct feed *feed)
{
	FEED_RUN(feed_request1, feed);
	if (feed->room->begun)
		http1_begun(feed);
}

static __always_inline void http1_responses(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u16 status;

	if (!(connection->flags & CONNECTION_SYNCED)) {
		status = http1_status(feed);
		if (!(connection->flags & CONNECTION_MANY)) {
			/* One request: the first payload answers it, if it is neither cut short nor
			 * an interim response, behind which the final one may follow at once. */
			if (!connection->in_flight)
				return;
			if (status != HTTP1_STATUS_CUT &&
				(status < 100 || status >= 200 || status == 101)) {
				single_answer(feed, status);
				if (status == 101)
					protocol_opaque(connection);
				return;
			}
		} else if (!status) {
			return;
		}
		connection->flags |= CONNECTION_SYNCED;
		connection->response1.state = HTTP1_START;
	}
	if (connection->flags & CONNECTION_MANY && !table_get(feed))
		return;
	FEED_RUN(feed_response1, feed);
	if (connection->response1.state == HTTP1_LOST) {
		connection->flags &= (__u8)~CONNECTION_SYNCED;
		/* It only began like a response of HTTP: an answer all the same. */
		if (connection->in_flight && !(connection->flags & CONNECTION_MANY))
			single_answer(feed, 0);
	}
	/* With one request at a time, the rest of its response is not looked at. */
	if (!connection->in_flight && (!(connection->flags & CONNECTION_MANY) ||
					      connection->response1.state == HTTP1_START))
		connection->flags &= (__u8) ~(CONNECTION_MANY | CONNECTION_SYNCED);
}

#endif

#endif
