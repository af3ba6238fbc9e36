// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline: an HTTP/1.1 client that pipelines, for counts of requests that must be exact. Each
 * connection keeps up to a random number of requests in flight (1 to --depth) of many shapes: paths
 * of random length, HEAD, bodies with a length and in chunks, 100-continue; and its writes cut them
 * anywhere, so that segments begin and end in the middle of heads and bodies.
 *
 * It knows which answer belongs to which request and takes a wrong one for a failure. Latency is
 * from the write of a request's first byte to the read of its answer's first byte.
 *
 * The server has /r/... (200, whatever follows), /empty (204), /missing (404), /error (503),
 * /chunked (200, in chunks when gzip is accepted) and /large (200, 100,000 bytes).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "bench/load_engine.h"

#define DEPTH_MAX	64
#define CONNECTIONS_MAX 1024
#define OUTPUT_BYTES	(1 << 20)
#define BODY_BYTES_MAX	20000
#define PATH_BYTES_MAX	1500

enum shape {
	SHAPE_GET,
	SHAPE_HEAD,
	SHAPE_EMPTY,
	SHAPE_MISSING,
	SHAPE_ERROR,
	SHAPE_CHUNKED_ANSWER,
	SHAPE_LARGE_ANSWER,
	SHAPE_POST,
	SHAPE_POST_CHUNKED,
	SHAPE_POST_EXPECT,
	SHAPES,
};

static const struct {
	const char *name;
	int status;
} shapes[SHAPES] = {
	[SHAPE_GET] = {"get", 200},
	[SHAPE_HEAD] = {"head", 200},
	[SHAPE_EMPTY] = {"empty", 204},
	[SHAPE_MISSING] = {"missing", 404},
	[SHAPE_ERROR] = {"error", 503},
	[SHAPE_CHUNKED_ANSWER] = {"chunked-answer", 200},
	[SHAPE_LARGE_ANSWER] = {"large-answer", 200},
	[SHAPE_POST] = {"post", 200},
	[SHAPE_POST_CHUNKED] = {"post-chunked", 200},
	[SHAPE_POST_EXPECT] = {"post-expect", 200},
};

struct pending {
	uint64_t start; /* offset of its first byte in all that the connection sends */
	uint64_t sent_ns;
	uint64_t first_byte_ns;
	enum shape shape;
};

struct peer {
	int fd;
	uint32_t target; /* requests in flight that it fills up to */
	uint32_t first, next;
	struct pending pending[DEPTH_MAX];
	struct load_response response;
	char *output;
	size_t output_size, output_done;
	uint64_t appended, written; /* bytes in all */
};

struct client {
	struct sockaddr_in address;
	uint64_t requests, begun, completed, failed, client_errors, server_errors;
	uint32_t connections, depth, warm;
	uint64_t random;
	bool whole; /* each batch in one write */
	enum shape picks[SHAPES];
	uint32_t pick_count;
	int epoll;
	struct peer peers[CONNECTIONS_MAX];
	struct load_histogram latency;
};

static const char usage[] =
	"Usage: pipeline [OPTION]... PORT\n"
	"Pipelined HTTP/1.1 requests to 127.0.0.1:PORT; prints what came of them as JSON.\n\n"
	"  --requests N     in all (default 10000)\n"
	"  --connections N  1 to 1024 (default 8)\n"
	"  --depth N        most in flight on one, 1 to 64 (default 64)\n"
	"  --seed N         of everything that is random (default 1)\n"
	"  --shapes LIST    of get,head,empty,missing,error,chunked-answer,large-answer,post,\n"
	"                   post-chunked,post-expect (default all, half of them get)\n"
	"  --whole          one write for all that is to be sent, cut nowhere\n"
	"  --warm N         first N requests on each connection, one by one; then print 'warm' and\n"
	"                   wait for a line; they are not counted\n"
	"Exit status: 0 all answered, 1 some were not, 2 usage.\n";

static uint64_t client_random(struct client *client)
{
	/* xorshift64* */
	client->random ^= client->random >> 12;
	client->random ^= client->random << 25;
	client->random ^= client->random >> 27;
	return client->random * 0x2545f4914f6cdd1dULL;
}

static uint32_t random_to(struct client *client, uint32_t highest)
{
	return (uint32_t)(client_random(client) >> 16) % highest + 1;
}

static void peer_append(struct peer *peer, const char *data, size_t size)
{
	memcpy(peer->output + peer->output_size, data, size);
	peer->output_size += size;
	peer->appended += size;
}

static void peer_print(struct peer *peer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void peer_print(struct peer *peer, const char *format, ...)
{
	char text[PATH_BYTES_MAX + 256];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	peer_append(peer, text, (size_t)size);
}

/* Bytes that look like the beginning of requests and answers, to whoever takes them for such. */
static void append_body(struct peer *peer, size_t size)
{
	static const char bait[] = "GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";

	while (size > 0) {
		size_t part = size < sizeof(bait) - 1 ? size : sizeof(bait) - 1;

		peer_append(peer, bait, part);
		size -= part;
	}
}

static void append_chunks(struct client *client, struct peer *peer)
{
	for (uint32_t chunks = random_to(client, 5); chunks > 0; chunks--) {
		size_t size = random_to(client, BODY_BYTES_MAX / 5);

		peer_print(peer, "%zx%s\r\n", size, chunks == 2 ? ";name=value" : "");
		append_body(peer, size);
		peer_append(peer, "\r\n", 2);
	}
	peer_print(peer, "0\r\n%s\r\n", random_to(client, 2) == 1 ? "Trailer-Field: x\r\n" : "");
}

static void append_request(struct client *client, struct peer *peer, enum shape shape)
{
	static const char *const paths[SHAPES] = {[SHAPE_EMPTY] = "/empty",
		[SHAPE_MISSING] = "/missing",
		[SHAPE_ERROR] = "/error",
		[SHAPE_CHUNKED_ANSWER] = "/chunked",
		[SHAPE_LARGE_ANSWER] = "/large"};
	size_t body = shape >= SHAPE_POST ? random_to(client, BODY_BYTES_MAX) - 1 : 0;
	char path[PATH_BYTES_MAX + 8] = "/r/";
	const char *method = shape == SHAPE_HEAD ? "HEAD" : shape >= SHAPE_POST ? "POST" : "GET";

	if (paths[shape])
		snprintf(path, sizeof(path), "%s", paths[shape]);
	else
		memset(path + 3, 'x', random_to(client, PATH_BYTES_MAX));
	peer_print(peer, "%s %s HTTP/1.1\r\nHost: a\r\n", method, path);
	if (shape == SHAPE_CHUNKED_ANSWER)
		peer_print(peer, "Accept-Encoding: gzip\r\n");
	if (shape == SHAPE_POST_EXPECT)
		peer_print(peer, "Expect: 100-continue\r\n");
	if (shape == SHAPE_POST_CHUNKED) {
		peer_print(peer, "transfer-encoding: chunked\r\n\r\n");
		append_chunks(client, peer);
		return;
	}
	if (shape >= SHAPE_POST)
		peer_print(peer, "%s: %zu\r\n",
			random_to(client, 2) == 1 ? "Content-Length" : "content-length", body);
	peer_append(peer, "\r\n", 2);
	append_body(peer, body);
}

static enum shape pick_shape(struct client *client)
{
	if (client->pick_count)
		return client->picks[random_to(client, client->pick_count) - 1];
	/* Half of them plain, or large bodies would be most of the bytes. */
	if (random_to(client, 2) == 1)
		return SHAPE_GET;
	return (enum shape)(random_to(client, SHAPES) - 1);
}

static void peer_begin(struct client *client, struct peer *peer)
{
	struct pending *pending = &peer->pending[peer->next++ % DEPTH_MAX];

	*pending = (struct pending){.start = peer->appended, .shape = pick_shape(client)};
	append_request(client, peer, pending->shape);
	client->begun++;
}

/* As many more as its depth allows. A new depth once all are answered, or sometimes before. */
static void peer_fill(struct client *client, struct peer *peer)
{
	uint32_t in_flight = peer->next - peer->first;

	if (peer->output_size > 0)
		return;
	if (in_flight == 0 || random_to(client, 8) == 1)
		peer->target = random_to(client, client->depth);
	while (in_flight < peer->target && client->begun < client->requests &&
		peer->output_size + BODY_BYTES_MAX + 4096 < OUTPUT_BYTES) {
		peer_begin(client, peer);
		in_flight++;
	}
}

/* 0, or -errno. What does not fit waits for the socket to be writable. */
static int peer_write(struct client *client, struct peer *peer)
{
	while (peer->output_done < peer->output_size) {
		size_t left = peer->output_size - peer->output_done, part = left;
		uint64_t now_ns = load_now_ns();
		ssize_t sent;

		if (!client->whole && random_to(client, 3) == 1)
			part = random_to(client, left < 3000 ? (uint32_t)left : 3000);
		sent = send(peer->fd, peer->output + peer->output_done, part, MSG_NOSIGNAL);
		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		peer->output_done += (size_t)sent;
		peer->written += (uint64_t)sent;
		for (uint32_t i = peer->first; i != peer->next; i++) {
			struct pending *pending = &peer->pending[i % DEPTH_MAX];

			if (!pending->sent_ns && pending->start < peer->written)
				pending->sent_ns = now_ns;
		}
	}
	peer->output_done = peer->output_size = 0;
	return 0;
}

/* Some of the answer that is due; how many bytes were taken, or -EPROTO. */
static ssize_t answer_feed(
	struct peer *peer, const struct pending *pending, const char *data, size_t size)
{
	struct load_response *response = &peer->response;
	size_t used = 0, step;
	int err;

	if (pending->shape != SHAPE_HEAD) {
		err = load_response_feed(response, data, size, &used);
		return err ? err : (ssize_t)used;
	}
	/* Byte by byte, since it must stop where a body would begin. */
	while (used < size && response->state != LOAD_RESPONSE_DONE) {
		err = load_response_feed(response, data + used, 1, &step);
		if (err)
			return err;
		used += step;
		if (response->state != LOAD_RESPONSE_STATUS &&
			response->state != LOAD_RESPONSE_HEADER)
			response->state = LOAD_RESPONSE_DONE;
	}
	return (ssize_t)used;
}

static int answer_done(struct client *client, struct peer *peer, const struct pending *pending)
{
	int status = peer->response.status;

	load_response_init(&peer->response);
	peer->first++;
	if (status != shapes[pending->shape].status) {
		fprintf(stderr, "pipeline: %s: expected status %d, got %d\n",
			shapes[pending->shape].name, shapes[pending->shape].status, status);
		client->failed++;
		return -EPROTO;
	}
	client->completed++;
	client->client_errors += status >= 400 && status < 500;
	client->server_errors += status >= 500;
	load_histogram_record(&client->latency, pending->first_byte_ns - pending->sent_ns);
	return 0;
}

static int peer_read(struct client *client, struct peer *peer)
{
	static char data[1 << 18];
	ssize_t got = recv(peer->fd, data, sizeof(data), 0), used;
	uint64_t now_ns = load_now_ns();
	int err = 0;

	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	for (ssize_t at = 0; at < got && !err; at += used) {
		struct pending *pending = &peer->pending[peer->first % DEPTH_MAX];

		if (peer->first == peer->next)
			return -EPROTO;
		if (!pending->first_byte_ns)
			pending->first_byte_ns = now_ns;
		used = answer_feed(peer, pending, data + at, (size_t)(got - at));
		if (used < 0)
			return (int)used;
		if (peer->response.state == LOAD_RESPONSE_DONE)
			err = answer_done(client, peer, pending);
	}
	return err;
}

static int peer_open(struct client *client, struct peer *peer)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
	int one = 1;

	peer->output = malloc(OUTPUT_BYTES);
	peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!peer->output || peer->fd < 0 ||
		connect(peer->fd, (struct sockaddr *)&client->address, sizeof(client->address)))
		return -errno;
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(peer->fd, F_SETFL, O_NONBLOCK);
	load_response_init(&peer->response);
	return epoll_ctl(client->epoll, EPOLL_CTL_ADD, peer->fd, &event) ? -errno : 0;
}

static int peer_serve(struct client *client, struct peer *peer, uint32_t events)
{
	struct epoll_event event = {.data.ptr = peer};
	int err = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? peer_read(client, peer) : 0;

	if (err)
		return err;
	peer_fill(client, peer);
	err = peer_write(client, peer);
	event.events = EPOLLIN | (peer->output_size ? EPOLLOUT : 0);
	epoll_ctl(client->epoll, EPOLL_CTL_MOD, peer->fd, &event);
	return err;
}

/* Until @requests are answered. A connection that fails ends the run: a count would be a guess. */
static int client_run(struct client *client, uint64_t requests)
{
	struct epoll_event events[64];
	int err = 0;

	client->requests = requests;
	client->begun = client->completed = 0;
	for (uint32_t i = 0; i < client->connections && !err; i++)
		err = peer_serve(client, &client->peers[i], 0);
	while (!err && client->completed + client->failed < requests) {
		int ready = epoll_wait(client->epoll, events, 64, 10000);

		if (ready <= 0) {
			err = ready < 0 ? -errno : -ETIMEDOUT;
			break;
		}
		for (int i = 0; i < ready && !err; i++)
			err = peer_serve(client, events[i].data.ptr, events[i].events);
	}
	return err;
}

static int client_warm(struct client *client)
{
	uint32_t depth = client->depth, connections = client->connections;
	char line[16];
	int err;

	client->depth = 1;
	err = client_run(client, (uint64_t)client->warm * connections);
	client->depth = depth;
	client->failed = client->client_errors = client->server_errors = 0;
	memset(&client->latency, 0, sizeof(client->latency));
	puts("warm");
	fflush(stdout);
	if (!err && !fgets(line, sizeof(line), stdin))
		err = -EPIPE;
	return err;
}

static void client_print(const struct client *client)
{
	printf("{\"requests\": %llu, \"completed\": %llu, \"failed\": %llu, \"client_errors\": %llu, "
	       "\"server_errors\": %llu, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, "
	       "\"p999_us\": %.1f}\n",
		(unsigned long long)client->requests, (unsigned long long)client->completed,
		(unsigned long long)client->failed, (unsigned long long)client->client_errors,
		(unsigned long long)client->server_errors,
		(double)load_histogram_quantile_ns(&client->latency, 0.5) / 1000,
		(double)load_histogram_quantile_ns(&client->latency, 0.9) / 1000,
		(double)load_histogram_quantile_ns(&client->latency, 0.99) / 1000,
		(double)load_histogram_quantile_ns(&client->latency, 0.999) / 1000);
}

static unsigned long number(const char *name, const char *text, unsigned long highest)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end != text && !*end && value >= 1 && value <= highest)
		return value;
	fprintf(stderr, "pipeline: %s: \"%s\" is not a number from 1 to %lu\n", name, text,
		highest);
	exit(2);
}

static void shapes_parse(struct client *client, char *list)
{
	for (char *save, *name = strtok_r(list, ",", &save); name;
		name = strtok_r(NULL, ",", &save)) {
		uint32_t shape = 0;

		while (shape < SHAPES && strcmp(shapes[shape].name, name) != 0)
			shape++;
		if (shape == SHAPES || client->pick_count == SHAPES) {
			fprintf(stderr, "pipeline: --shapes: \"%s\" is none. Try --help.\n", name);
			exit(2);
		}
		client->picks[client->pick_count++] = (enum shape)shape;
	}
}

static void options_parse(struct client *client, int argc, char **argv)
{
	static const struct option options[] = {{"requests", required_argument, NULL, 'r'},
		{"connections", required_argument, NULL, 'c'},
		{"depth", required_argument, NULL, 'd'}, {"seed", required_argument, NULL, 's'},
		{"shapes", required_argument, NULL, 'S'}, {"whole", no_argument, NULL, 'w'},
		{"warm", required_argument, NULL, 'W'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			client->requests = number("--requests", optarg, 1000000000);
		else if (option == 'c')
			client->connections =
				(uint32_t)number("--connections", optarg, CONNECTIONS_MAX);
		else if (option == 'd')
			client->depth = (uint32_t)number("--depth", optarg, DEPTH_MAX);
		else if (option == 's')
			client->random = number("--seed", optarg, 1UL << 62);
		else if (option == 'W')
			client->warm = (uint32_t)number("--warm", optarg, 1000000);
		else if (option == 'S')
			shapes_parse(client, optarg);
		else if (option == 'w')
			client->whole = true;
		else {
			fputs(usage, option == 'h' ? stdout : stderr);
			exit(option == 'h' ? 0 : 2);
		}
	}
	if (optind != argc - 1) {
		fputs(usage, stderr);
		exit(2);
	}
	client->address = (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((uint16_t)number("PORT", argv[optind], 65535)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
	static struct client client = {
		.requests = 10000, .connections = 8, .depth = DEPTH_MAX, .random = 1};
	uint64_t requests;
	int err = 0;

	options_parse(&client, argc, argv);
	requests = client.requests;
	client.random = client.random * 0x9e3779b97f4a7c15ULL | 1;
	client.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < client.connections && !err; i++)
		err = peer_open(&client, &client.peers[i]);
	if (!err && client.warm)
		err = client_warm(&client);
	if (!err)
		err = client_run(&client, requests);
	if (err)
		fprintf(stderr, "pipeline: after %llu answers: %s\n",
			(unsigned long long)client.completed, strerror(-err));
	client_print(&client);
	return err || client.failed ? 1 : 0;
}
