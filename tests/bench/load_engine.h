/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends requests at their intended times over keep-alive connections and measures the answers: one
 * thread, one epoll set, one timerfd.
 *
 * Open loop: an arrival never waits for an answer. It takes the connection that was used last (few
 * stay warm, the rest go idle), opens one where none is idle, and queues only when all
 * @connections_max are busy; that wait counts, as every latency but "service" starts at the
 * intended time. A request fails by: connect error, connection closed before the whole answer,
 * timeout (from the intended time), an answer that is not HTTP, or a status that is not 2xx. A
 * request whose reused connection closes before the first byte is sent once more, as HTTP clients
 * do (RFC 9112, 9.3.1): the server had given that connection up.
 */
#ifndef EBBTIDE_LOAD_ENGINE_H
#define EBBTIDE_LOAD_ENGINE_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "load_histogram.h"
#include "load_response.h"
#include "load_schedule.h"
#include "load_seconds.h"

/* So that the first request is not late already. */
#define LOAD_START_DELAY_NS 10000000ULL
/* After an interrupt: how long answers are waited for. */
#define LOAD_DRAIN_NS 2000000000ULL
#define LOAD_EVENTS   64

enum load_failure {
	LOAD_FAILURE_CONNECT,
	LOAD_FAILURE_RESET,
	LOAD_FAILURE_TIMEOUT,
	LOAD_FAILURE_PROTOCOL,
	LOAD_FAILURE_STATUS,
	LOAD_FAILURE_ABANDONED, /* outstanding when an interrupted run ended */
	LOAD_FAILURES,
};

static const char *const load_failure_names[LOAD_FAILURES] = {
	"connect", "reset", "timeout", "protocol", "status", "abandoned"};

struct load_connection;

struct load_request {
	uint64_t intended_ns; /* CLOCK_MONOTONIC, as all times here */
	uint64_t sent_ns;
	uint64_t first_byte_ns; /* 0: none yet */
	size_t second;
	bool sent;
	bool retried;
	struct load_connection *connection; /* NULL: in the waiting queue */
	TAILQ_ENTRY(load_request) outstanding_link;
	TAILQ_ENTRY(load_request) waiting_link;
};

enum load_connection_state {
	LOAD_CONNECTING,
	LOAD_IDLE,
	LOAD_BUSY,
	LOAD_CLOSED
};

struct load_connection {
	int fd;
	enum load_connection_state state;
	bool reused; /* has carried a whole response */
	size_t written;
	struct load_request *request; /* while connecting or busy */
	struct load_response response;
	LIST_ENTRY(load_connection) link; /* in idle (last used first), busy or closed */
};

struct load_engine {
	/* Set by the caller, who owns what they point to. */
	const struct sockaddr *address;
	socklen_t address_length;
	const char *request_text;
	size_t request_length;
	size_t connections_max;
	uint64_t timeout_ns;
	struct load_arrivals arrivals;
	struct load_seconds seconds;
	volatile sig_atomic_t *interrupts; /* how often the user asked to stop */

	/* Results. */
	uint64_t intended, sent, completed, retried;
	uint64_t failed[LOAD_FAILURES];
	struct load_histogram ttfb;    /* from the intended time to the first byte */
	struct load_histogram total;   /* from the intended time to the last byte */
	struct load_histogram service; /* from the actual send to the first byte */
	struct load_histogram lag; /* from the intended time until the sender was awake for it */
	uint64_t started_ns, ended_ns;
	size_t connections_opened, connections_peak;
	bool interrupted;

	/* Its own. */
	int epoll, timer;
	size_t connections;
	bool arrivals_left;
	uint64_t next_ns, armed_ns;
	size_t next_second;
	int error; /* out of memory, or no timer: ends the run */
	TAILQ_HEAD(load_outstanding, load_request) outstanding; /* by intended time */
	TAILQ_HEAD(load_waiting, load_request) waiting;
	LIST_HEAD(load_idle, load_connection) idle;
	LIST_HEAD(load_busy, load_connection) busy;
	LIST_HEAD(load_closed, load_connection)
	closed; /* freed when no event can name them any more */
};

static inline uint64_t load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * LOAD_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static inline struct timespec load_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / LOAD_NS_PER_SECOND),
		.tv_nsec = (long)(ns % LOAD_NS_PER_SECOND)};
}

static inline void load_connection_close(
	struct load_engine *engine, struct load_connection *connection)
{
	if (connection->state == LOAD_CLOSED)
		return;
	if (connection->fd >= 0)
		close(connection->fd);
	LIST_REMOVE(connection, link);
	LIST_INSERT_HEAD(&engine->closed, connection, link);
	connection->state = LOAD_CLOSED;
	connection->request = NULL;
	engine->connections--;
}

static inline void load_request_end(struct load_engine *engine, struct load_request *request)
{
	TAILQ_REMOVE(&engine->outstanding, request, outstanding_link);
	free(request);
	load_seconds_advance(&engine->seconds, engine->seconds.begun);
}

/* Ends the request; its connection is no longer of use. */
static inline void load_request_fail(
	struct load_engine *engine, struct load_request *request, enum load_failure why)
{
	if (request->connection)
		load_connection_close(engine, request->connection);
	else
		TAILQ_REMOVE(&engine->waiting, request, waiting_link);
	engine->failed[why]++;
	load_seconds_fail(&engine->seconds, request->second);
	load_request_end(engine, request);
}

/* The server closed or reset the connection of @connection's request. */
static inline void load_connection_lost(
	struct load_engine *engine, struct load_connection *connection, enum load_failure why)
{
	struct load_request *request = connection->request;

	if (!connection->reused || request->retried || request->first_byte_ns) {
		load_request_fail(engine, request, why);
		return;
	}
	load_connection_close(engine, connection);
	request->retried = true;
	request->connection = NULL;
	engine->retried++;
	TAILQ_INSERT_HEAD(&engine->waiting, request, waiting_link);
}

static inline void load_connection_write(
	struct load_engine *engine, struct load_connection *connection)
{
	struct load_request *request = connection->request;

	while (connection->written < engine->request_length) {
		if (!connection->written)
			request->sent_ns = load_now_ns();
		ssize_t n = send(connection->fd, engine->request_text + connection->written,
			engine->request_length - connection->written, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				load_connection_lost(engine, connection, LOAD_FAILURE_RESET);
			return;
		}
		connection->written += (size_t)n;
	}
	if (!request->sent) {
		request->sent = true;
		engine->sent++;
		engine->seconds.second[request->second].sent++;
	}
}

static inline void load_connection_begin(
	struct load_engine *engine, struct load_connection *connection)
{
	connection->state = LOAD_BUSY;
	connection->written = 0;
	load_response_init(&connection->response);
	load_connection_write(engine, connection);
}

/* Open a connection for @request; a failure ends the request. */
static inline void load_connection_open(struct load_engine *engine, struct load_request *request)
{
	const int on = 1;
	struct load_connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		engine->error = -ENOMEM;
		TAILQ_INSERT_HEAD(&engine->waiting, request, waiting_link);
		return;
	}
	connection->state = LOAD_CONNECTING;
	connection->request = request;
	request->connection = connection;
	LIST_INSERT_HEAD(&engine->busy, connection, link);
	if (++engine->connections > engine->connections_peak)
		engine->connections_peak = engine->connections;
	connection->fd =
		socket(engine->address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		goto fail;
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
	int rc = connect(connection->fd, engine->address, engine->address_length);
	if (rc && errno != EINPROGRESS)
		goto fail;
	if (epoll_ctl(engine->epoll, EPOLL_CTL_ADD, connection->fd, &event))
		goto fail;
	engine->connections_opened++;
	if (!rc)
		load_connection_begin(engine, connection);
	return;
fail:
	load_request_fail(engine, request, LOAD_FAILURE_CONNECT);
}

/* True when there was a connection to give to @request, which is in no queue. */
static inline bool load_request_dispatch(struct load_engine *engine, struct load_request *request)
{
	struct load_connection *connection = LIST_FIRST(&engine->idle);

	/* A retry wants a fresh connection: the idle ones are probably as stale as its first was. */
	if (request->retried && connection) {
		load_connection_close(engine, connection);
		connection = NULL;
	}
	if (connection) {
		LIST_REMOVE(connection, link);
		LIST_INSERT_HEAD(&engine->busy, connection, link);
		connection->request = request;
		request->connection = connection;
		load_connection_begin(engine, connection);
		return true;
	}
	if (engine->connections >= engine->connections_max)
		return false;
	load_connection_open(engine, request);
	return true;
}

static inline void load_engine_dispatch_waiting(struct load_engine *engine)
{
	struct load_request *request;

	while ((request = TAILQ_FIRST(&engine->waiting)) && !engine->error) {
		if (LIST_EMPTY(&engine->idle) && engine->connections >= engine->connections_max)
			return;
		TAILQ_REMOVE(&engine->waiting, request, waiting_link);
		load_request_dispatch(engine, request);
	}
}

static inline void load_engine_draw(struct load_engine *engine)
{
	uint64_t offset_ns;

	engine->arrivals_left =
		load_arrivals_next(&engine->arrivals, &offset_ns, &engine->next_second);
	if (engine->arrivals_left)
		engine->next_ns = engine->started_ns + offset_ns;
}

/* Send what is due. */
static inline void load_engine_send_due(struct load_engine *engine)
{
	uint64_t now = load_now_ns();

	while (engine->arrivals_left && engine->next_ns <= now && !engine->error) {
		struct load_request *request = calloc(1, sizeof(*request));
		if (!request) {
			engine->error = -ENOMEM;
			return;
		}
		request->intended_ns = engine->next_ns;
		request->second = engine->next_second;
		load_histogram_record(&engine->lag, now - request->intended_ns);
		engine->intended++;
		engine->seconds.second[request->second].intended++;
		TAILQ_INSERT_TAIL(&engine->outstanding, request, outstanding_link);
		/* Draw first: the request's second must not look over if it fails at once. */
		load_engine_draw(engine);
		/* Nobody overtakes those who wait. */
		if (!TAILQ_EMPTY(&engine->waiting) || !load_request_dispatch(engine, request))
			TAILQ_INSERT_TAIL(&engine->waiting, request, waiting_link);
		now = load_now_ns();
	}
}

static inline void load_connection_done(
	struct load_engine *engine, struct load_connection *connection, uint64_t now)
{
	struct load_request *request = connection->request;
	int status = connection->response.status;

	if (connection->response.close) {
		load_connection_close(engine, connection);
	} else {
		LIST_REMOVE(connection, link);
		LIST_INSERT_HEAD(&engine->idle, connection, link);
		connection->state = LOAD_IDLE;
		connection->request = NULL;
		connection->reused = true;
	}
	if (status < 200 || status > 299) {
		engine->failed[LOAD_FAILURE_STATUS]++;
		load_seconds_fail(&engine->seconds, request->second);
	} else {
		uint64_t ttfb_ns = request->first_byte_ns - request->intended_ns;

		engine->completed++;
		load_histogram_record(&engine->ttfb, ttfb_ns);
		load_histogram_record(&engine->total, now - request->intended_ns);
		load_histogram_record(&engine->service, request->first_byte_ns - request->sent_ns);
		int rc = load_seconds_complete(&engine->seconds, request->second, ttfb_ns);
		if (rc)
			engine->error = rc;
	}
	load_request_end(engine, request);
}

/* Take @size bytes that came at @now; false when the connection was closed over them. */
static inline bool load_connection_take(struct load_engine *engine,
	struct load_connection *connection, const char *data, size_t size, uint64_t now)
{
	size_t used;

	if (connection->state != LOAD_BUSY || !connection->written) {
		/* Bytes that nobody asked for. */
		if (connection->request)
			load_request_fail(engine, connection->request, LOAD_FAILURE_PROTOCOL);
		else
			load_connection_close(engine, connection);
		return false;
	}
	if (!connection->request->first_byte_ns)
		connection->request->first_byte_ns = now;
	if (load_response_feed(&connection->response, data, size, &used)) {
		load_request_fail(engine, connection->request, LOAD_FAILURE_PROTOCOL);
		return false;
	}
	if (connection->response.state != LOAD_RESPONSE_DONE)
		return true;
	/* More than one answer to one request, or an answer to half of one: not to be used again. */
	if (used < size || connection->written < engine->request_length)
		connection->response.close = true;
	load_connection_done(engine, connection, now);
	return connection->state != LOAD_CLOSED;
}

static inline void load_connection_end(
	struct load_engine *engine, struct load_connection *connection, int error)
{
	if (connection->state == LOAD_IDLE) {
		load_connection_close(engine, connection);
	} else if (connection->state == LOAD_CONNECTING) {
		load_request_fail(engine, connection->request, LOAD_FAILURE_CONNECT);
	} else if (!error && !load_response_end(&connection->response)) {
		load_connection_done(engine, connection, load_now_ns());
	} else {
		load_connection_lost(engine, connection, LOAD_FAILURE_RESET);
	}
}

static inline void load_connection_read(
	struct load_engine *engine, struct load_connection *connection, bool ended)
{
	static char buffer[65536];

	for (;;) {
		ssize_t n = recv(connection->fd, buffer, sizeof(buffer), 0);
		if (n > 0) {
			if (!load_connection_take(
				    engine, connection, buffer, (size_t)n, load_now_ns()))
				return;
			/* A short read has emptied the socket: more brings another edge. */
			if ((size_t)n < sizeof(buffer) && !ended)
				return;
		} else if (!n) {
			load_connection_end(engine, connection, 0);
			return;
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR) {
			load_connection_end(engine, connection, errno);
			return;
		}
	}
}

static inline void load_connection_event(
	struct load_engine *engine, struct load_connection *connection, uint32_t events)
{
	/* Closed by an earlier event of the same batch. */
	if (connection->state == LOAD_CLOSED)
		return;
	if (connection->state == LOAD_CONNECTING) {
		int error = 0;
		socklen_t length = sizeof(error);

		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		if (error) {
			load_request_fail(engine, connection->request, LOAD_FAILURE_CONNECT);
			return;
		}
		load_connection_begin(engine, connection);
	} else if (connection->state == LOAD_BUSY && connection->written < engine->request_length &&
		   (events & EPOLLOUT)) {
		load_connection_write(engine, connection);
	}
	if (connection->state != LOAD_CLOSED &&
		(events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)))
		load_connection_read(
			engine, connection, events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP));
}

static inline void load_engine_expire(struct load_engine *engine)
{
	struct load_request *request = TAILQ_FIRST(&engine->outstanding);

	if (!request)
		return;
	uint64_t now = load_now_ns();
	while (request && request->intended_ns + engine->timeout_ns <= now) {
		load_request_fail(engine, request, LOAD_FAILURE_TIMEOUT);
		request = TAILQ_FIRST(&engine->outstanding);
	}
}

static inline void load_engine_arm(struct load_engine *engine)
{
	if (!engine->arrivals_left || engine->armed_ns == engine->next_ns)
		return;
	/* Absolute, so that a late wake-up does not shift the ones after it. */
	struct itimerspec when = {.it_value = load_timespec(engine->next_ns)};
	if (timerfd_settime(engine->timer, TFD_TIMER_ABSTIME, &when, NULL))
		engine->error = -errno;
	engine->armed_ns = engine->next_ns;
}

/* Whole seconds since the start, at most those of the trace. */
static inline size_t load_engine_elapsed(const struct load_engine *engine, uint64_t now)
{
	uint64_t elapsed =
		now > engine->started_ns ? (now - engine->started_ns) / LOAD_NS_PER_SECOND : 0;

	return elapsed < engine->seconds.count ? (size_t)elapsed : engine->seconds.count;
}

/* Rows become final when their second is over and its requests are drawn, and ended. */
static inline void load_engine_advance(struct load_engine *engine, uint64_t now)
{
	size_t begun = load_engine_elapsed(engine, now);

	if (engine->interrupted)
		return;
	if (engine->arrivals_left && engine->next_second < begun)
		begun = engine->next_second;
	load_seconds_advance(&engine->seconds, begun);
}

/* Stop sending. The second that is interrupted gets its row too. */
static inline void load_engine_interrupt(struct load_engine *engine, uint64_t now)
{
	size_t begun = load_engine_elapsed(engine, now) + 1;

	engine->interrupted = true;
	engine->arrivals_left = false;
	load_seconds_advance(
		&engine->seconds, begun < engine->seconds.count ? begun : engine->seconds.count);
}

/*
 * Wait for an event, a timeout, the end of the second (its row is due) or @end_ns; signals arrive
 * only in here.
 */
static inline int load_engine_wait(struct load_engine *engine, struct epoll_event *events,
	uint64_t end_ns, const sigset_t *signals)
{
	const struct load_request *oldest = TAILQ_FIRST(&engine->outstanding);
	uint64_t now = load_now_ns();
	uint64_t row_ns =
		engine->started_ns + (load_engine_elapsed(engine, now) + 1) * LOAD_NS_PER_SECOND;

	if (engine->seconds.begun < engine->seconds.count && !engine->interrupted &&
		row_ns < end_ns)
		end_ns = row_ns;
	if (oldest && oldest->intended_ns + engine->timeout_ns < end_ns)
		end_ns = oldest->intended_ns + engine->timeout_ns;
	struct timespec timeout = load_timespec(end_ns > now ? end_ns - now : 0);
	int n = epoll_pwait2(engine->epoll, events, LOAD_EVENTS, &timeout, signals);
	if (n < 0 && errno != EINTR) {
		engine->error = -errno;
		return 0;
	}
	return n < 0 ? 0 : n;
}

static inline void load_engine_free_closed(struct load_engine *engine)
{
	struct load_connection *connection;

	while ((connection = LIST_FIRST(&engine->closed))) {
		LIST_REMOVE(connection, link);
		free(connection);
	}
}

static inline void load_engine_close(struct load_engine *engine)
{
	struct load_request *request;

	while ((request = TAILQ_FIRST(&engine->outstanding)))
		load_request_fail(engine, request, LOAD_FAILURE_ABANDONED);
	while (!LIST_EMPTY(&engine->idle))
		load_connection_close(engine, LIST_FIRST(&engine->idle));
	load_engine_free_closed(engine);
	close(engine->timer);
	close(engine->epoll);
}

/*
 * Run the whole trace: 0, or -errno when the run itself could not go on (failed requests are
 * results). Block the signals that count in @interrupts before the call; @signals is the mask that
 * lets them in. The first interrupt stops sending, a second one also stops waiting.
 */
static inline int load_engine_run(struct load_engine *engine, const sigset_t *signals)
{
	struct epoll_event events[LOAD_EVENTS];
	uint64_t end_ns = UINT64_MAX;

	TAILQ_INIT(&engine->outstanding);
	TAILQ_INIT(&engine->waiting);
	LIST_INIT(&engine->idle);
	LIST_INIT(&engine->busy);
	LIST_INIT(&engine->closed);
	engine->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (engine->epoll < 0)
		return -errno;
	engine->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	/* Edge-triggered: setting it anew clears it, so it is never read. */
	struct epoll_event timer = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
	if (engine->timer < 0 || epoll_ctl(engine->epoll, EPOLL_CTL_ADD, engine->timer, &timer)) {
		int rc = -errno;
		close(engine->epoll);
		return rc;
	}

	engine->started_ns = load_now_ns() + LOAD_START_DELAY_NS;
	load_engine_draw(engine);
	while (!engine->error) {
		load_engine_send_due(engine);
		load_engine_dispatch_waiting(engine);
		uint64_t now = load_now_ns();
		load_engine_advance(engine, now);
		/* Seconds without a request at the trace's end are played too. */
		bool over = engine->interrupted ||
			    load_engine_elapsed(engine, now) == engine->seconds.count;
		if (over && !engine->arrivals_left && TAILQ_EMPTY(&engine->outstanding))
			break;
		if (engine->interrupted && (now >= end_ns || *engine->interrupts > 1))
			break;
		load_engine_arm(engine);
		int n = load_engine_wait(engine, events, end_ns, signals);
		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				load_connection_event(engine, events[i].data.ptr, events[i].events);
		load_engine_expire(engine);
		load_engine_free_closed(engine);
		if (*engine->interrupts && !engine->interrupted) {
			now = load_now_ns();
			load_engine_interrupt(engine, now);
			end_ns = now + LOAD_DRAIN_NS;
		}
	}
	engine->ended_ns = load_now_ns();
	load_engine_close(engine);
	return engine->error;
}

#endif
