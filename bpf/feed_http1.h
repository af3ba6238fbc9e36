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

static __always_inline void http1_requests_lost(struct connection *connection)
{
}

static __always_inline void http1_count(struct feed *feed)
{
	feed->room->begun = 1;
}

static __always_inline void http1_begun(struct feed *feed)
{
	single_begin(feed);
}

static __always_inline void http1_requests(struct feed *feed)
{
	if (!connection_in_flight(feed->connection))
		single_begin(feed);
}

static __always_inline void http1_responses(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u16 status;

	if (!connection_in_flight(connection))
		return;
	status = http1_status(feed);
	if (status == 100)
		return;
	single_answer(feed, status == HTTP1_STATUS_CUT ? 0 : status);
	if (status == 101)
		connection->upgraded_shape = connection->response_shape;
}

#else

/*
 * A response that begins in a larger segment than this may go on in the next; it is followed to its
 * end, so that an answer to the next request, behind it, is found.
 */
#define HTTP1_WHOLE_BYTES 1400

/* @count requests at the queue's end. False: no room, they are not followed. */
static __always_inline bool queue_push(
	struct feed *feed, __u64 start_ns, __u32 id, __u32 count, __u8 age, __u32 head_mask)
{
	struct exchanges *table = feed->table;
	struct exchange *exchange = queue_at(table, table->next);

	if (table->next - LOAD_ACQUIRE(table->first) >= EXCHANGES)
		return false;
	exchange->start_ns = start_ns;
	exchange->id = id;
	exchange->count = (__u16)count;
	exchange->age = age;
	exchange->head_mask = head_mask;
	table->next++;
	return true;
}

/* From now on requests go through the queue, the one in flight as the first. */
static __always_inline void queue_open(struct feed *feed)
{
	struct connection *connection = feed->connection;

	/* It may be answered at this moment: then its entry is passed over (queue_answer). */
	if (connection_in_flight(connection))
		queue_push(feed, connection->start_ns, connection->begun - 1, 1, connection->age,
			connection->is_head);
	STORE_RELEASE(connection->request_flags, connection->request_flags | REQUEST_MANY);
}

/* feed->room->begun HTTP/1 requests began in this segment. */
static __always_inline void http1_begun(struct feed *feed)
{
	struct connection *connection = feed->connection;
	__u32 count = feed->room->begun, id = connection->begun;
	__u8 age;

	if (count == 1 && !(connection->request_flags & REQUEST_MANY) &&
		!connection_in_flight(connection)) {
		connection->is_head = feed->room->head_mask & 1;
		single_begin(feed);
		return;
	}
	age = age_bucket(feed->slot, feed->room->now_ns);
	if (table_get(feed) && !(connection->request_flags & REQUEST_MANY))
		queue_open(feed);
	if (!feed->table || responses_are_lost(connection) ||
		!queue_push(feed, feed->room->now_ns, id, count, age, feed->room->head_mask)) {
		CONTROL_COUNT(requests_untracked);
		return;
	}
	flights_begin(feed, count, age);
	detail_begin(feed, id, count, feed->room->end - feed->room->payload_bytes,
		feed->room->payload_bytes);
	STORE_RELEASE(connection->begun, id + count);
}

/* The entry of the oldest request in flight, NULL: there is none. */
static __always_inline struct exchange *queue_first(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct exchanges *table = table_get(feed);
	struct exchange *exchange;

	if (!table || !connection_in_flight(connection))
		return 0;
	exchange = queue_at(table, table->first);
	if (connection->over - exchange->id < exchange->count)
		return exchange;
	/* Of a request that was answered before its entry was made. */
	STORE_RELEASE(table->first, table->first + 1);
	exchange = queue_at(table, table->first);
	return connection->over - exchange->id < exchange->count ? exchange : 0;
}

/* The oldest of a queue is answered. */
static __always_inline void queue_answer(struct feed *feed, __u16 status)
{
	struct connection *connection = feed->connection;
	struct ending ending = {.now_ns = feed->room->now_ns,
		.id = connection->over,
		.response_bytes = feed->room->payload_bytes,
		.status = status,
		.grpc_status = GRPC_STATUS_NONE};
	struct exchange *exchange = queue_first(feed);

	if (!exchange)
		return;
	ending.start_ns = exchange->start_ns;
	if (connection->side == SIDE_SERVER)
		flight_answer(feed->slot, exchange->age);
	if (ending.id + 1 == exchange->id + exchange->count)
		STORE_RELEASE(feed->table->first, feed->table->first + 1);
	ending_report(feed->sk, connection, feed->slot, &ending);
	STORE_RELEASE(connection->over, ending.id + 1);
}

/* Whether the response that begins now answers a HEAD, and so has no body. */
static __always_inline void response_expect(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct exchange *exchange;
	__u32 number = 0, heads = connection->is_head;

	if (connection->request_flags & REQUEST_MANY) {
		exchange = queue_first(feed);
		number = exchange ? connection->over - exchange->id : 32;
		heads = exchange ? exchange->head_mask : 0;
	}
	connection->response1.flags = number < 32 && heads >> (number & 31) & 1 ? HTTP1_HEAD : 0;
}

/*
 * One step of the automaton on what the room holds. Where it stands is kept in the room: the
 * verifier follows each way through a step anew unless what it knows at the end of all of them is
 * the same, and of memory it knows nothing.
 */
VERIFIED_ALONE __u32 room_step(struct room *room, struct http1 *http1, int is_response)
{
	__u32 at, event, taken;

	if (!room || !http1)
		return HTTP1_NOTHING;
	at = room->at & (ROOM_BYTES - 1);
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
		/* An entry of the queue knows of so many which are HEAD. */
		if (room->begun == 32 && feed->slot) {
			http1_begun(feed);
			room->begun = room->head_mask = 0;
		}
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
	/* In this order: who sees a request begun sees whether it went into the queue. */
	if (connection_in_flight(connection)) {
		if (READ_ONCE(connection->request_flags) & REQUEST_MANY)
			queue_answer(feed, http1->status);
		else
			single_answer(feed, http1->status);
	}
	if (event == HTTP1_UPGRADED)
		connection->upgraded_shape = connection->response_shape;
	return event == HTTP1_UPGRADED;
}

/* Missed bytes cost the requests in them; those in flight will be answered. */
static __always_inline void http1_requests_lost(struct connection *connection)
{
	connection->request1.state = HTTP1_LOST;
	CONTROL_COUNT(connections_lost);
}

/* Follow the segment; feed->room->begun is how many requests began in it. */
static __always_inline void http1_count(struct feed *feed)
{
	FEED_RUN(feed_request1, feed);
}

VERIFIED_ALONE int room_is_plain(struct room *room, __u32 bytes)
{
	return room && http1_is_plain(room->bytes, bytes);
}

/* True: the segment was one request and nothing else. False: nothing of it is done with. */
static __always_inline bool http1_plain(struct feed *feed)
{
	struct room *room = feed->room;
	__u32 bytes = room->end - room->offset;

	if (feed->connection->request1.state != HTTP1_START || bytes > HTTP1_PLAIN_BYTES)
		return false;
	bytes = PAYLOAD_LOAD(feed->skb, room->offset, bytes, room->bytes, HTTP1_PLAIN_BYTES);
	if (!bytes || !room_is_plain(room, bytes))
		return false;
	/* HEAD is the one method with an H. */
	room->head_mask = room->bytes[0] == 'H';
	room->begun = 1;
	return true;
}

static __always_inline void http1_requests(struct feed *feed)
{
	if (!http1_plain(feed))
		http1_count(feed);
	if (feed->room->begun)
		http1_begun(feed);
}

/*
 * Where no message is known to begin: a segment that begins with one. True: follow it from there. A
 * lone request is answered by the first payload, which is not looked at any further.
 */
static __always_inline bool http1_sync(struct feed *feed, __u32 in_flight, bool is_many)
{
	struct connection *connection = feed->connection;
	__u16 status;

	if (!is_many && !in_flight)
		return false;
	status = http1_status(feed);
	/* The end of a response that was answered when it began: the next one is still to come. */
	if (is_many && !status)
		return false;
	/* Behind an interim response the final one may follow in the same segment. */
	if (!is_many && status != HTTP1_STATUS_CUT &&
		(!status || ((status >= 200 || status == 101) &&
				    feed->room->payload_bytes < HTTP1_WHOLE_BYTES))) {
		single_answer(feed, status);
		if (status == 101)
			connection->upgraded_shape = connection->response_shape;
		return false;
	}
	responses_synced(feed);
	connection->response_flags &= ~(__u32)RESPONSE_LARGE;
	if (status >= 200 && feed->room->payload_bytes >= HTTP1_WHOLE_BYTES)
		connection->response_flags |= RESPONSE_LARGE;
	return true;
}

/* Whether a lone request's response need not be looked at any further. */
static __always_inline bool http1_is_done(const struct connection *connection)
{
	__u8 state = connection->response1.state;

	return state == HTTP1_START || state == HTTP1_UNTIL_CLOSE ||
	       !(connection->response_flags & RESPONSE_LARGE || connection_in_flight(connection));
}

static __always_inline void http1_responses(struct feed *feed)
{
	struct connection *connection = feed->connection;
	/* In this order: who sees a request begun sees whether it went into the queue. */
	__u32 in_flight = connection_in_flight(connection);
	bool is_many = READ_ONCE(connection->request_flags) & REQUEST_MANY;
	bool is_lost = feed->room->has_gap;

	if (is_many && !table_get(feed))
		return;
	if (is_lost)
		connection->response_flags &= ~(__u32)RESPONSE_SYNCED;
	if (connection->response_flags & RESPONSE_SYNCED || http1_sync(feed, in_flight, is_many)) {
		FEED_RUN(feed_response1, feed);
		is_lost = connection->response1.state == HTTP1_LOST;
		if (is_lost || (!is_many && http1_is_done(connection)))
			connection->response_flags &= ~(__u32)RESPONSE_SYNCED;
	}
	if (is_lost && is_many)
		responses_lost(connection);
	/* It only began like a response of HTTP: an answer all the same. */
	else if (is_lost && connection_in_flight(connection) &&
		 !(READ_ONCE(connection->request_flags) & REQUEST_MANY))
		single_answer(feed, 0);
}

#endif

#endif
