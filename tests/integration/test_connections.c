// SPDX-License-Identifier: Apache-2.0
// Needs a node: BPF, cgroups.
/*
 * Requests in flight on connections that carry several, under load from two sides and when
 * connections break: counts are the client's, and nothing sticks.
 */
#include "common/histogram.h"
#include "node/probes/probes_load.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define FIXTURE_GROUP "/ebbtide/test-connections"
#include "integration/probes_fixture.h"

#define CLIENTS	      4
#define ROUNDS	      60
#define ROUNDS_S      3	  /* no new one after this long, on an emulated machine */
#define REQUESTS      400 /* of a client and round */
#define DEPTH_HTTP1   16
#define DEPTH_HTTP2   100
#define LONG_BYTES    1500 /* of a head that takes a while to look through */
#define BUFFER_BYTES  65536
#define PREFACE	      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES 24
#define FRAME_BYTES   9

enum frame_type {
	FRAME_DATA,
	FRAME_HEADERS,
	FRAME_RST_STREAM = 3,
	FRAME_SETTINGS,
};
#define END_STREAM  1
#define END_HEADERS 4

/* What both sides did, in memory that the server's process shares. */
struct tally {
	_Atomic uint16_t port;
	_Atomic bool breaks;	   /* either side ends connections at any time */
	_Atomic uint64_t read;	   /* requests that the server has read */
	_Atomic uint64_t begun;	   /* whose first byte a client has written */
	_Atomic uint64_t answered; /* whose answer's first byte a client has read */
};

static struct tally *tally;

struct random {
	uint64_t state;
};

static uint32_t random_below(struct random *random, uint32_t bound)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return (uint32_t)((random->state * 0x2545f4914f6cdd1dULL) >> 40) % bound;
}

/* Never waits, and what it sends leaves at once. */
static void socket_hurry(int fd)
{
	int on = 1;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

struct buffer {
	uint8_t bytes[BUFFER_BYTES];
	size_t size;
};

static void buffer_take(struct buffer *buffer, size_t bytes)
{
	memmove(buffer->bytes, buffer->bytes + bytes, buffer->size - bytes);
	buffer->size -= bytes;
}

static void buffer_add(struct buffer *buffer, const void *bytes, size_t size)
{
	assert_true(buffer->size + size <= sizeof(buffer->bytes));
	memcpy(buffer->bytes + buffer->size, bytes, size);
	buffer->size += size;
}

/* False: the connection is over. */
static bool buffer_fill(struct buffer *buffer, int fd)
{
	ssize_t size =
		recv(fd, buffer->bytes + buffer->size, sizeof(buffer->bytes) - buffer->size, 0);

	if (size > 0)
		buffer->size += (size_t)size;
	return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The first @bytes at most, or what the socket has room for. */
static bool buffer_flush(struct buffer *buffer, int fd, size_t bytes)
{
	ssize_t size;

	if (bytes > buffer->size)
		bytes = buffer->size;
	if (!bytes)
		return true;
	size = send(fd, buffer->bytes, bytes, MSG_NOSIGNAL);
	if (size > 0)
		buffer_take(buffer, (size_t)size);
	return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

static void frame_add(struct buffer *buffer, enum frame_type type, int flags, uint32_t stream,
	const void *payload, size_t size)
{
	uint8_t header[FRAME_BYTES] = {0, (uint8_t)(size >> 8), (uint8_t)size, (uint8_t)type,
		(uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16),
		(uint8_t)(stream >> 8), (uint8_t)stream};

	buffer_add(buffer, header, sizeof(header));
	buffer_add(buffer, payload, size);
}

struct frame {
	uint32_t length, stream;
	uint8_t type, flags;
};

/* The next whole frame of @buffer, header included: its size, 0 if there is none. */
static size_t frame_read(const struct buffer *buffer, struct frame *frame)
{
	const uint8_t *b = buffer->bytes;

	if (buffer->size < FRAME_BYTES)
		return 0;
	frame->length = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
	frame->type = b[3];
	frame->flags = b[4];
	frame->stream = (uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8];
	return buffer->size >= FRAME_BYTES + frame->length ? FRAME_BYTES + frame->length : 0;
}

/* A connection as its server serves it: what came, what is to go, what waits for an answer. */
struct served {
	int fd;
	struct random random;
	struct buffer in, out;
	uint32_t waiting[DEPTH_HTTP2];
	uint32_t waiting_count;
};

static const char answer_http1[] = "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n";

/* Every whole request in the buffer; GET /N is answered with N bytes, GET /hold never. */
static void serve_http1(struct served *served)
{
	static const uint8_t body[20000];
	char head[64];
	uint8_t *end;
	unsigned int bytes;

	while (served->out.size < BUFFER_BYTES / 2 &&
		(end = memmem(served->in.bytes, served->in.size, "\r\n\r\n", 4))) {
		*end = 0;
		atomic_fetch_add(&tally->read, 1);
		bytes = (unsigned int)strtoul((char *)served->in.bytes + 5, NULL, 10);
		if (strncmp((char *)served->in.bytes, "GET /hold", 9) != 0) {
			bytes %= sizeof(body);
			snprintf(head, sizeof(head), answer_http1, bytes);
			buffer_add(&served->out, head, strlen(head));
			buffer_add(&served->out, body, bytes);
		}
		buffer_take(&served->in, (size_t)(end + 4 - served->in.bytes));
	}
}

/* Streams are answered in any order, in pieces; one in eight of the time none is. */
static void serve_http2(struct served *served)
{
	static const uint8_t ok = 0x88, body[1000];
	struct frame frame;
	size_t size;

	while (served->waiting_count < DEPTH_HTTP2 && (size = frame_read(&served->in, &frame))) {
		if (frame.type == FRAME_HEADERS) {
			atomic_fetch_add(&tally->read, 1);
			served->waiting[served->waiting_count++] = frame.stream;
		}
		buffer_take(&served->in, size);
	}
	while (served->waiting_count && served->out.size < BUFFER_BYTES / 2 &&
		random_below(&served->random, 8)) {
		uint32_t pick = random_below(&served->random, served->waiting_count);
		uint32_t stream = served->waiting[pick];

		served->waiting[pick] = served->waiting[--served->waiting_count];
		frame_add(&served->out, FRAME_HEADERS, END_HEADERS, stream, &ok, 1);
		frame_add(&served->out, FRAME_DATA, END_STREAM, stream, body,
			random_below(&served->random, sizeof(body)));
	}
}

/* A server's thread for one connection, until that is over. */
static void *serve(void *argument)
{
	struct served *served = argument;
	bool is_http2 = false, is_known = false, is_open = true;

	while (is_open) {
		struct pollfd poll_fd = {.fd = served->fd,
			.events = (short)(POLLIN | (served->out.size ? POLLOUT : 0))};

		/* What is left in the buffer may be whole requests. */
		poll(&poll_fd, 1, served->waiting_count ? 0 : served->in.size ? 1 : -1);
		if (served->in.size < BUFFER_BYTES &&
			poll_fd.revents & (POLLIN | POLLHUP | POLLERR))
			is_open = buffer_fill(&served->in, served->fd);
		if (!is_known && served->in.size >= PREFACE_BYTES) {
			is_known = true;
			is_http2 = memcmp(served->in.bytes, PREFACE, PREFACE_BYTES) == 0;
			if (is_http2) {
				buffer_take(&served->in, PREFACE_BYTES);
				frame_add(&served->out, FRAME_SETTINGS, 0, 0, "", 0);
			}
		}
		if (is_known && is_http2)
			serve_http2(served);
		else if (is_known)
			serve_http1(served);
		if (!buffer_flush(&served->out, served->fd,
			    1 + random_below(&served->random, BUFFER_BYTES)))
			is_open = false;
		if (tally->breaks && random_below(&served->random, 2000) == 0)
			is_open = false;
	}
	close(served->fd);
	free(served);
	return NULL;
}

static void listen_and_serve(void *argument)
{
	struct server *server = argument;
	uint64_t number = 1;

	server_listen(server);
	tally->port = server->port;
	for (;;) {
		struct served *served = calloc(1, sizeof(*served));
		pthread_t thread;

		served->fd = accept(server->listener, NULL, NULL);
		served->random.state = ++number * 0x9e3779b97f4a7c15ULL;
		socket_hurry(served->fd);
		if (pthread_create(&thread, NULL, serve, served))
			_exit(1);
		pthread_detach(thread);
	}
}

static pid_t server_start(struct fixture *f, struct server *server, bool breaks)
{
	pid_t pid;

	if (!tally)
		tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(tally, 0, sizeof(*tally));
	tally->breaks = breaks;
	pid = child_start(f, f->path, listen_and_serve, server);
	WAIT_UNTIL(tally->port);
	server->port = tally->port;
	assert_true(server->port > 0);
	return pid;
}

enum load {
	LOAD_HTTP1,
	LOAD_LONG, /* HTTP/1, long heads, as many in a segment as it takes */
	LOAD_HTTP2,
};

/* A client's end of a connection. */
struct asking {
	int fd;
	enum load load;
	struct random random;
	struct buffer in, out;
	uint32_t begun, answered; /* requests */
	uint32_t depth;
	uint32_t body_left; /* HTTP/1: of the answer that is being read */
	uint32_t waiting[DEPTH_HTTP2];
	uint32_t waiting_count;
};

static void ask_http1(struct asking *asking)
{
	static const uint8_t filling[LONG_BYTES] = {[0 ... LONG_BYTES - 1] = 'x'};
	char request[128];
	/* Some answers take several segments. */
	uint32_t bytes = random_below(&asking->random, 4) ? random_below(&asking->random, 600)
							  : random_below(&asking->random, 20000);

	snprintf(request, sizeof(request), "GET /%u HTTP/1.1\r\nHost: ", bytes);
	buffer_add(&asking->out, request, strlen(request));
	buffer_add(&asking->out, filling, asking->load == LOAD_LONG ? LONG_BYTES : 1);
	buffer_add(&asking->out, "\r\n\r\n", 4);
}

static void ask_http2(struct asking *asking)
{
	uint32_t stream = 2 * asking->begun + 1;

	frame_add(&asking->out, FRAME_HEADERS, END_STREAM | END_HEADERS, stream, "\x82\x84\x86", 3);
	asking->waiting[asking->waiting_count++] = stream;
	if (tally->breaks && random_below(&asking->random, 16) == 0) {
		uint32_t pick = random_below(&asking->random, asking->waiting_count);

		frame_add(&asking->out, FRAME_RST_STREAM, 0, asking->waiting[pick], "\0\0\0\x8", 4);
		asking->waiting[pick] = asking->waiting[--asking->waiting_count];
		asking->answered++;
	}
}

static void read_http1(struct asking *asking)
{
	uint32_t leap;
	uint8_t *end;

	for (;;) {
		leap = asking->body_left < asking->in.size ? asking->body_left
							   : (uint32_t)asking->in.size;
		buffer_take(&asking->in, leap);
		asking->body_left -= leap;
		end = memmem(asking->in.bytes, asking->in.size, "\r\n\r\n", 4);
		if (asking->body_left || !end)
			return;
		*end = 0;
		assert_int_equal(
			sscanf((char *)asking->in.bytes, answer_http1, &asking->body_left), 1);
		buffer_take(&asking->in, (size_t)(end + 4 - asking->in.bytes));
		asking->answered++;
		atomic_fetch_add(&tally->answered, 1);
	}
}

static void read_http2(struct asking *asking)
{
	struct frame frame;
	size_t size;

	while ((size = frame_read(&asking->in, &frame))) {
		buffer_take(&asking->in, size);
		for (uint32_t i = 0; i < asking->waiting_count; i++) {
			if (frame.type != FRAME_HEADERS || asking->waiting[i] != frame.stream)
				continue;
			asking->waiting[i] = asking->waiting[--asking->waiting_count];
			asking->answered++;
			atomic_fetch_add(&tally->answered, 1);
			break;
		}
	}
}

/* One of the ways to go: reset, closed with or without a word before. */
static void asking_end(struct asking *asking, bool is_broken)
{
	struct linger reset = {.l_onoff = 1, .l_linger = 0};
	uint32_t how = is_broken ? random_below(&asking->random, 3) : 2;

	if (how == 0)
		setsockopt(asking->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	else if (how == 1)
		shutdown(asking->fd, SHUT_WR);
	close(asking->fd);
}

/* However slow the machine: a request that is certain to be in flight when its connection ends. */
static void ask_in_vain(struct asking *asking)
{
	static const char request[] = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";

	buffer_add(&asking->out, request, sizeof(request) - 1);
	asking->begun++;
	atomic_fetch_add(&tally->begun, 1);
	buffer_flush(&asking->out, asking->fd, asking->out.size);
}

/* @REQUESTS on a connection of its own, or as many as it lives for. */
static void round_run(const struct server *server, struct asking *asking)
{
	bool is_open = true, is_broken = false;

	asking->fd = client_connect(server);
	socket_hurry(asking->fd);
	if (asking->load == LOAD_HTTP2) {
		buffer_add(&asking->out, PREFACE, PREFACE_BYTES);
		frame_add(&asking->out, FRAME_SETTINGS, 0, 0, "", 0);
	}
	while (is_open && !is_broken && asking->answered < REQUESTS) {
		struct pollfd poll_fd = {.fd = asking->fd,
			.events = (short)(POLLIN | (asking->out.size ? POLLOUT : 0))};

		while (asking->begun < REQUESTS &&
			asking->begun - asking->answered < asking->depth &&
			asking->out.size < BUFFER_BYTES / 2) {
			if (asking->load == LOAD_HTTP2)
				ask_http2(asking);
			else
				ask_http1(asking);
			asking->begun++;
			atomic_fetch_add(&tally->begun, 1);
		}
		/* Cut anywhere: segments begin and end in the middle of things. */
		is_open = buffer_flush(&asking->out, asking->fd,
			1 + random_below(&asking->random,
				    asking->load == LOAD_LONG ? BUFFER_BYTES : 400));
		poll(&poll_fd, 1, asking->out.size ? 0 : 100);
		if (is_open && poll_fd.revents & (POLLIN | POLLHUP | POLLERR))
			is_open = buffer_fill(&asking->in, asking->fd);
		if (asking->load == LOAD_HTTP2)
			read_http2(asking);
		else
			read_http1(asking);
		is_broken = tally->breaks && random_below(&asking->random, 500) == 0;
	}
	if (!tally->breaks)
		assert_int_equal(asking->answered, REQUESTS);
	else if (asking->load != LOAD_HTTP2)
		ask_in_vain(asking);
	asking_end(asking, is_broken);
}

struct client {
	const struct server *server;
	uint64_t seed;
	enum load load;
	time_t end;
};

static void *client_run(void *argument)
{
	const struct client *client = argument;
	struct asking *asking = malloc(sizeof(*asking));

	for (int round = 0; round < ROUNDS && time(NULL) < client->end; round++) {
		memset(asking, 0, sizeof(*asking));
		asking->load = client->load;
		asking->random.state =
			(client->seed * ROUNDS + (uint64_t)round + 1) * 0x9e3779b97f4a7c15ULL;
		asking->depth = client->load == LOAD_HTTP1
					? 1 + random_below(&asking->random, DEPTH_HTTP1)
					: DEPTH_HTTP2;
		round_run(client->server, asking);
	}
	free(asking);
	return NULL;
}

static void clients_run(const struct server *server, enum load load)
{
	struct client clients[CLIENTS];
	pthread_t threads[CLIENTS];

	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){server, (uint64_t)i, load, time(NULL) + ROUNDS_S};
		assert_int_equal(pthread_create(&threads[i], NULL, client_run, &clients[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
}

static bool is_quiet(const struct slot *slot)
{
	for (int i = 0; i < AGE_BUCKETS; i++)
		if (slot_in_flight_of(slot, (uint32_t)i))
			return false;
	return slot_in_flight(slot) == 0;
}

static void assert_quiet(const struct slot *slot)
{
	WAIT_UNTIL(is_quiet(slot));
	assert_int_equal(slot_in_flight(slot), 0);
	for (int i = 0; i < AGE_BUCKETS; i++)
		assert_int_equal(slot_in_flight_of(slot, (uint32_t)i), 0);
}

static void assert_counts_are_the_clients(struct fixture *f, enum load load)
{
	struct server server = {.family = AF_INET};
	pid_t pid = server_start(f, &server, false);
	const struct slot *slot = slot_of(f);

	clients_run(&server, load);
	assert_true(tally->answered >= CLIENTS * REQUESTS);
	WAIT_UNTIL(slot->requests == tally->answered);
	print_message(
		"# answered %llu: seen %llu, failed %llu, in flight %lld, connections lost %llu, "
		"requests untracked %llu\n",
		(unsigned long long)tally->answered, (unsigned long long)slot->requests,
		(unsigned long long)slot->requests_failed, (long long)slot_in_flight(slot),
		(unsigned long long)probes_connections_lost(f->probes),
		(unsigned long long)probes_requests_untracked(f->probes));
	assert_int_equal(slot->requests, tally->answered);
	assert_int_equal(histogram_count(slot->latency), tally->answered);
	assert_int_equal(slot->requests_failed, 0);
	assert_quiet(slot);
	child_end(pid);
}

static void test_pipelined_requests_are_counted_exactly(void **state)
{
	assert_counts_are_the_clients(*state, LOAD_HTTP1);
}

/*
 * What the window lets go leaves by whoever acknowledges, and what a client writes by itself: on two
 * CPUs, and the one has to wait for as long as the other looks at a large segment.
 */
static void test_large_segments_on_two_cpus_are_counted_exactly(void **state)
{
	assert_counts_are_the_clients(*state, LOAD_LONG);
}

static void test_streams_are_counted_exactly(void **state)
{
	assert_counts_are_the_clients(*state, LOAD_HTTP2);
}

static void assert_nothing_sticks(struct fixture *f, enum load load)
{
	struct server server = {.family = AF_INET};
	pid_t pid = server_start(f, &server, true);
	const struct slot *slot = slot_of(f);
	uint64_t seen;

	clients_run(&server, load);
	assert_quiet(slot);
	seen = slot->requests + slot->requests_failed;
	print_message(
		"# begun %llu, read by the server %llu, answered %llu; seen %llu, %llu of them "
		"failed\n",
		(unsigned long long)tally->begun, (unsigned long long)tally->read,
		(unsigned long long)tally->answered, (unsigned long long)seen,
		(unsigned long long)slot->requests_failed);
	assert_true(slot->requests_failed > 0);
	assert_true(seen <= tally->begun);
	assert_true(seen >= tally->read);
	/* An answer that a client has not read may have been sent all the same. */
	assert_true(slot->requests >= tally->answered);
	child_end(pid);
	assert_quiet(slot);
}

static void test_broken_connections_with_pipelined_requests_leave_nothing(void **state)
{
	assert_nothing_sticks(*state, LOAD_HTTP1);
}

static void test_broken_connections_with_streams_leave_nothing(void **state)
{
	assert_nothing_sticks(*state, LOAD_HTTP2);
}

/* Events of a test, as far as they are looked at. */
struct told {
	int count;
	struct request_event events[8];
};

static void on_told(const union probes_event *event, void *context)
{
	struct told *told = context;

	if (event->kind == EVENT_REQUEST && told->count < 8)
		told->events[told->count++] = event->request;
}

static void test_pipelined_requests_without_an_answer_are_told_of(void **state)
{
	struct fixture *f = *state;
	struct server server = {.family = AF_INET};
	pid_t pid = server_start(f, &server, false);
	struct slot *slot = slot_of(f);
	struct told told = {0};
	int fd = client_connect(&server);
	static const char request[] = "GET /hold HTTP/1.1\r\n\r\n";

	probes_set_handler(f->probes, on_told, &told);
	slot->trace_threshold_ns = 5000000000;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
		WAIT_UNTIL(slot_in_flight(slot) == i + 1);
	}
	close(fd);
	assert_quiet(slot);
	assert_int_equal(slot->requests_failed, 3);
	probes_consume(f->probes);
	assert_int_equal(told.count, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(told.events[i].outcome, OUTCOME_FAILED);
		assert_int_equal(told.events[i].protocol, PROTOCOL_HTTP1);
		assert_int_equal(told.events[i].local_port, server.port);
	}
	assert_memory_equal(told.events[0].head, "GET /hold", 9);
	child_end(pid);
}

/* Accepts one connection and answers the n-th of what it reads with the n-th of the script. */
struct script {
	struct server server;
	struct buffer *lines;
	int count;
};

static void serve_script(void *argument)
{
	struct script *script = argument;
	struct buffer in = {0};
	int fd;

	server_listen(&script->server);
	tally->port = script->server.port;
	fd = accept(script->server.listener, NULL, NULL);
	for (int i = 0; i < script->count; i++) {
		in.size = 0;
		if (!buffer_fill(&in, fd) ||
			!buffer_flush(&script->lines[i], fd, script->lines[i].size))
			_exit(1);
	}
	sleep_ms(60000);
}

/* A gRPC answer: headers, a message and @trailers, which may be all there is. */
static void grpc_add(
	struct buffer *line, uint32_t stream, const char *trailers, size_t size, bool is_alone)
{
	uint8_t block[64];

	if (is_alone) {
		block[0] = 0x88;
		memcpy(block + 1, trailers, size);
		frame_add(line, FRAME_HEADERS, END_STREAM | END_HEADERS, stream, block, size + 1);
		return;
	}
	frame_add(line, FRAME_HEADERS, END_HEADERS, stream, "\x88", 1);
	frame_add(line, FRAME_DATA, 0, stream, "\0\0\0\0\0", 5);
	frame_add(line, FRAME_HEADERS, END_STREAM | END_HEADERS, stream, trailers, size);
}

static void test_a_grpc_status_is_known_from_trailers(void **state)
{
	/* In order: written out; from the table; another, its name from the table; alone, from the
	 * table; never indexed, Huffman coded; and 0, which is no error. */
#define TRAILERS(text) text, sizeof(text) - 1
	static const struct {
		const char *trailers;
		size_t size;
		bool is_alone;
		uint8_t status;
	} answers[] = {
		{TRAILERS("\x40\x0bgrpc-status\x02"
			  "13"),
			false, 13},
		{TRAILERS("\xbe"), false, 13},
		{TRAILERS("\x7e\x01"
			  "5"),
			false, 5},
		{TRAILERS("\xbf"), true, 13},
		{TRAILERS("\x10\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01"
			  "7"),
			true, 7},
		{TRAILERS("\x7f\x00\x01"
			  "0"),
			false, 0},
	};
#undef TRAILERS
	enum {
		COUNT = sizeof(answers) / sizeof(answers[0])
	};
	static struct buffer lines[COUNT];
	struct script script = {.server = {.family = AF_INET}, .lines = lines, .count = COUNT};
	struct fixture *f = *state;
	struct buffer out = {0}, in = {0};
	struct told told = {0};
	struct slot *slot = slot_of(f);
	pid_t pid;
	int fd;

	memset(tally, 0, sizeof(*tally));
	for (uint32_t i = 0; i < COUNT; i++) {
		lines[i].size = 0;
		if (i == 0)
			frame_add(&lines[i], FRAME_SETTINGS, 0, 0, "", 0);
		grpc_add(&lines[i], 2 * i + 1, answers[i].trailers, answers[i].size,
			answers[i].is_alone);
	}
	probes_set_handler(f->probes, on_told, &told);
	slot->trace_threshold_ns = 1;
	pid = child_start(f, f->path, serve_script, &script);
	WAIT_UNTIL(tally->port);
	script.server.port = tally->port;
	fd = client_connect(&script.server);
	buffer_add(&out, PREFACE, PREFACE_BYTES);
	for (uint32_t i = 0; i < COUNT; i++) {
		frame_add(&out, FRAME_HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, "\x83\x84\x86",
			3);
		assert_true(buffer_flush(&out, fd, out.size));
		in.size = 0;
		assert_true(buffer_fill(&in, fd) && in.size);
	}
	assert_int_equal(slot->requests, COUNT);
	assert_int_equal(slot->server_errors, COUNT - 1);
	probes_consume(f->probes);
	assert_int_equal(told.count, COUNT);
	for (uint32_t i = 0; i < COUNT; i++) {
		assert_int_equal(told.events[i].grpc_status, answers[i].status);
		assert_int_equal(told.events[i].status, 200);
		assert_int_equal(told.events[i].outcome, OUTCOME_ANSWERED);
		assert_true(!(told.events[i].reasons & REASON_ERROR) == !answers[i].status);
	}
	assert_quiet(slot);
	close(fd);
	child_end(pid);
}

static void test_a_stream_that_is_reset_is_told_of(void **state)
{
	static struct buffer lines[2];
	struct script script = {.server = {.family = AF_INET}, .lines = lines, .count = 2};
	struct fixture *f = *state;
	struct buffer out = {0}, in = {0};
	struct told told = {0};
	struct slot *slot = slot_of(f);
	pid_t pid;
	int fd;

	memset(tally, 0, sizeof(*tally));
	lines[0].size = lines[1].size = 0;
	frame_add(&lines[0], FRAME_SETTINGS, 0, 0, "", 0);
	frame_add(&lines[1], FRAME_RST_STREAM, 0, 1, "\0\0\0\x2", 4);
	probes_set_handler(f->probes, on_told, &told);
	slot->trace_threshold_ns = 5000000000;
	pid = child_start(f, f->path, serve_script, &script);
	WAIT_UNTIL(tally->port);
	script.server.port = tally->port;
	fd = client_connect(&script.server);
	buffer_add(&out, PREFACE, PREFACE_BYTES);
	assert_true(buffer_flush(&out, fd, out.size) && buffer_fill(&in, fd));
	/* The server resets the first, the client the second, the third goes with the connection. */
	for (uint32_t stream = 1; stream <= 5; stream += 2)
		frame_add(&out, FRAME_HEADERS, END_STREAM | END_HEADERS, stream, "\x82\x84\x86", 3);
	frame_add(&out, FRAME_RST_STREAM, 0, 3, "\0\0\0\x8", 4);
	assert_true(buffer_flush(&out, fd, out.size) && buffer_fill(&in, fd));
	WAIT_UNTIL(slot_in_flight(slot) == 1);
	assert_int_equal(slot_in_flight(slot), 1);
	assert_int_equal(slot->requests_failed, 2);
	close(fd);
	child_end(pid);
	assert_quiet(slot);
	assert_int_equal(slot->requests_failed, 3);
	probes_consume(f->probes);
	assert_int_equal(told.count, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(told.events[i].outcome, OUTCOME_FAILED);
		assert_int_equal(told.events[i].protocol, PROTOCOL_HTTP2);
	}
}

/* The client keeps its end open: the server's socket waits for it, maybe for a minute. */
static void test_a_server_that_goes_fails_its_requests_at_once(void **state)
{
	struct fixture *f = *state;
	struct server server = {.family = AF_INET};
	pid_t pid = server_start(f, &server, false);
	struct slot *slot = slot_of(f);
	int fd = client_connect(&server);
	static const char request[] = "GET /hold HTTP/1.1\r\n\r\n";

	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	WAIT_UNTIL(tally->read == 1);
	assert_int_equal(slot_in_flight(slot), 1);
	child_end(pid);
	assert_quiet(slot);
	assert_int_equal(slot->requests_failed, 1);
	close(fd);
	assert_int_equal(slot->requests_failed, 1);
}

/*
 * The CPUs of an emulated machine take turns on one thread: what one waits for never runs meanwhile, and
 * what arrives then is missed by design. So all on one there.
 */
static void share_one_cpu_in_a_guest(void)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (getenv("EBBTIDE_GUEST") && sched_setaffinity(0, sizeof(first), &first)) {
		perror("test_connections: sched_setaffinity");
		exit(EXIT_FAILURE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pipelined_requests_are_counted_exactly),
		TEST(test_large_segments_on_two_cpus_are_counted_exactly),
		TEST(test_streams_are_counted_exactly),
		TEST(test_broken_connections_with_pipelined_requests_leave_nothing),
		TEST(test_broken_connections_with_streams_leave_nothing),
		TEST(test_pipelined_requests_without_an_answer_are_told_of),
		TEST(test_a_grpc_status_is_known_from_trailers),
		TEST(test_a_stream_that_is_reset_is_told_of),
		TEST(test_a_server_that_goes_fails_its_requests_at_once),
	};

	struct btf *kernel = btf__load_vmlinux_btf();

	if (kernel && !probes_kernel_has(kernel, PROBES_LOOP)) {
		puts("1..0 # SKIP this kernel takes HTTP/1 by turns and six frames of a segment");
		return 0;
	}
	btf__free(kernel);
	share_one_cpu_in_a_guest();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, close_loaded);
}
