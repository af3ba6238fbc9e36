// SPDX-License-Identifier: Apache-2.0
/*
 * turns: a client of memcached or Redis with one request at a time on each connection: sets of
 * random size, and gets whose answers are therefore known to the byte. For counts that must be
 * exact and for latency, from the write of a request's first byte to the read of its answer's first.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "bench/load_engine.h"

#define CONNECTIONS_MAX 1024
#define VALUE_BYTES_MAX 100000
#define MESSAGE_BYTES	(VALUE_BYTES_MAX + 256)

struct peer {
	int fd;
	uint32_t number;
	size_t stored; /* bytes of its key's value; 0: not set yet */
	uint64_t sent_ns, first_byte_ns;
	size_t request_size, request_done;
	size_t answer_size, answer_done;
	char request[MESSAGE_BYTES];
	char answer[MESSAGE_BYTES];
};

/* What a protocol says for one set or get; the value itself is all 'v'. */
struct protocol {
	const char *name;
	size_t (*set)(const struct peer *peer, size_t bytes, char *request, char *answer);
	size_t (*get)(const struct peer *peer, char *request, char *answer);
};

struct client {
	struct sockaddr_in address;
	const struct protocol *protocol;
	uint64_t requests, begun, completed;
	uint32_t connections, warm, value_bytes;
	uint64_t random;
	int epoll;
	struct peer *peers;
	struct load_histogram latency;
};

static const char usage[] =
	"Usage: turns [OPTION]... memcached|redis PORT\n"
	"Sets and gets against 127.0.0.1:PORT, one at a time on each connection; prints JSON.\n\n"
	"  --requests N     in all (default 10000)\n"
	"  --connections N  1 to 1024 (default 8)\n"
	"  --value-bytes N  largest value, 1 to 100000 (default 1000)\n"
	"  --seed N         of the sizes and of what is asked (default 1)\n"
	"  --warm N         first N requests on each connection; then print 'warm' and wait for a\n"
	"                   line; they are not counted\n"
	"Exit status: 0 all answered as expected, 1 not, 2 usage.\n";

/* Its bytes are written behind @head: how many they are in all. */
static size_t fill(char *to, int head, size_t bytes, const char *tail)
{
	memset(to + head, 'v', bytes);
	memcpy(to + head + bytes, tail, strlen(tail) + 1);
	return (size_t)head + bytes + strlen(tail);
}

static size_t memcached_set(const struct peer *peer, size_t bytes, char *request, char *answer)
{
	strcpy(answer, "STORED\r\n");
	return fill(request, snprintf(request, 64, "set key:%08u 0 0 %zu\r\n", peer->number, bytes),
		bytes, "\r\n");
}

static size_t memcached_get(const struct peer *peer, char *request, char *answer)
{
	if (peer->stored)
		fill(answer,
			snprintf(
				answer, 64, "VALUE key:%08u 0 %zu\r\n", peer->number, peer->stored),
			peer->stored, "\r\nEND\r\n");
	else
		strcpy(answer, "END\r\n");
	return (size_t)snprintf(request, 64, "get key:%08u\r\n", peer->number);
}

static size_t redis_set(const struct peer *peer, size_t bytes, char *request, char *answer)
{
	strcpy(answer, "+OK\r\n");
	return fill(request,
		snprintf(request, 64, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08u\r\n$%zu\r\n",
			peer->number, bytes),
		bytes, "\r\n");
}

static size_t redis_get(const struct peer *peer, char *request, char *answer)
{
	if (peer->stored)
		fill(answer, snprintf(answer, 64, "$%zu\r\n", peer->stored), peer->stored, "\r\n");
	else
		strcpy(answer, "$-1\r\n");
	return (size_t)snprintf(
		request, 64, "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08u\r\n", peer->number);
}

static const struct protocol protocols[] = {
	{"memcached", memcached_set, memcached_get}, {"redis", redis_set, redis_get}};

static uint32_t random_to(struct client *client, uint32_t highest)
{
	client->random ^= client->random >> 12;
	client->random ^= client->random << 25;
	client->random ^= client->random >> 27;
	return (uint32_t)(client->random * 0x2545f4914f6cdd1dULL >> 32) % highest + 1;
}

static void peer_begin(struct client *client, struct peer *peer)
{
	size_t bytes;

	if (client->begun >= client->requests)
		return;
	client->begun++;
	if (random_to(client, 4) == 1) {
		bytes = random_to(client, client->value_bytes);
		peer->request_size =
			client->protocol->set(peer, bytes, peer->request, peer->answer);
		peer->stored = bytes;
	} else {
		peer->request_size = client->protocol->get(peer, peer->request, peer->answer);
	}
	peer->answer_size = strlen(peer->answer);
	peer->request_done = peer->answer_done = 0;
	peer->first_byte_ns = 0;
	peer->sent_ns = load_now_ns();
}

static int peer_write(struct peer *peer)
{
	while (peer->request_done < peer->request_size) {
		ssize_t sent = send(peer->fd, peer->request + peer->request_done,
			peer->request_size - peer->request_done, MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN ? 0 : -errno;
		peer->request_done += (size_t)sent;
	}
	return 0;
}

static int peer_read(struct client *client, struct peer *peer)
{
	static char data[MESSAGE_BYTES];
	ssize_t got = recv(peer->fd, data, sizeof(data), 0);

	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	if (!peer->first_byte_ns)
		peer->first_byte_ns = load_now_ns();
	if (peer->answer_done + (size_t)got > peer->answer_size ||
		memcmp(data, peer->answer + peer->answer_done, (size_t)got) != 0)
		return -EPROTO;
	peer->answer_done += (size_t)got;
	if (peer->answer_done < peer->answer_size)
		return 0;
	client->completed++;
	load_histogram_record(&client->latency, peer->first_byte_ns - peer->sent_ns);
	peer->request_size = peer->answer_size = 0;
	peer_begin(client, peer);
	return 0;
}

static int peer_serve(struct client *client, struct peer *peer, uint32_t events)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
	bool was_waiting = peer->request_done < peer->request_size, waits;
	int err = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? peer_read(client, peer) : 0;

	if (!err)
		err = peer_write(peer);
	waits = peer->request_done < peer->request_size;
	if (waits)
		event.events |= EPOLLOUT;
	if (waits != was_waiting || events & EPOLLOUT)
		epoll_ctl(client->epoll, EPOLL_CTL_MOD, peer->fd, &event);
	return err;
}

static int peer_open(struct client *client, struct peer *peer, uint32_t number)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
	int one = 1;

	/* A key that no earlier run has set. */
	peer->number = (uint32_t)getpid() % 90000 * 1000 + number;
	peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0 ||
		connect(peer->fd, (struct sockaddr *)&client->address, sizeof(client->address)))
		return -errno;
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(peer->fd, F_SETFL, O_NONBLOCK);
	return epoll_ctl(client->epoll, EPOLL_CTL_ADD, peer->fd, &event) ? -errno : 0;
}

static int client_run(struct client *client, uint64_t requests)
{
	struct epoll_event events[64];
	int err = 0;

	client->requests = requests;
	client->begun = client->completed = 0;
	for (uint32_t i = 0; i < client->connections && !err; i++) {
		peer_begin(client, &client->peers[i]);
		err = peer_serve(client, &client->peers[i], 0);
	}
	while (!err && client->completed < requests) {
		int ready = epoll_wait(client->epoll, events, 64, 10000);

		if (ready <= 0)
			return ready < 0 ? -errno : -ETIMEDOUT;
		for (int i = 0; i < ready && !err; i++)
			err = peer_serve(client, events[i].data.ptr, events[i].events);
	}
	return err;
}

static int client_warm(struct client *client)
{
	int err = client_run(client, (uint64_t)client->warm * client->connections);
	char line[16];

	memset(&client->latency, 0, sizeof(client->latency));
	puts("warm");
	fflush(stdout);
	if (!err && !fgets(line, sizeof(line), stdin))
		err = -EPIPE;
	return err;
}

static void client_print(const struct client *client)
{
	printf("{\"requests\": %llu, \"completed\": %llu, \"p50_us\": %.1f, \"p90_us\": %.1f, "
	       "\"p99_us\": %.1f, \"p999_us\": %.1f}\n",
		(unsigned long long)client->requests, (unsigned long long)client->completed,
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
	fprintf(stderr, "turns: %s: \"%s\" is not a number from 1 to %lu\n", name, text, highest);
	exit(2);
}

static void options_parse(struct client *client, int argc, char **argv)
{
	static const struct option options[] = {{"requests", required_argument, NULL, 'r'},
		{"connections", required_argument, NULL, 'c'},
		{"value-bytes", required_argument, NULL, 'v'},
		{"seed", required_argument, NULL, 's'}, {"warm", required_argument, NULL, 'W'},
		{"help", no_argument, NULL, 'h'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'r')
			client->requests = number("--requests", optarg, 1000000000);
		else if (option == 'c')
			client->connections =
				(uint32_t)number("--connections", optarg, CONNECTIONS_MAX);
		else if (option == 'v')
			client->value_bytes =
				(uint32_t)number("--value-bytes", optarg, VALUE_BYTES_MAX);
		else if (option == 's')
			client->random = number("--seed", optarg, 1UL << 62);
		else if (option == 'W')
			client->warm = (uint32_t)number("--warm", optarg, 1000000);
		else {
			fputs(usage, option == 'h' ? stdout : stderr);
			exit(option == 'h' ? 0 : 2);
		}
	}
	for (size_t i = 0; optind == argc - 2 && i < 2; i++)
		if (strcmp(argv[optind], protocols[i].name) == 0)
			client->protocol = &protocols[i];
	if (!client->protocol) {
		fputs(usage, stderr);
		exit(2);
	}
	client->address = (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((uint16_t)number("PORT", argv[optind + 1], 65535)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
	static struct client client = {
		.requests = 10000, .connections = 8, .value_bytes = 1000, .random = 1};
	uint64_t requests;
	int err = 0;

	options_parse(&client, argc, argv);
	requests = client.requests;
	client.random = client.random * 0x9e3779b97f4a7c15ULL | 1;
	client.epoll = epoll_create1(EPOLL_CLOEXEC);
	client.peers = calloc(client.connections, sizeof(*client.peers));
	if (!client.peers)
		err = -ENOMEM;
	for (uint32_t i = 0; i < client.connections && !err; i++)
		err = peer_open(&client, &client.peers[i], i);
	if (!err && client.warm)
		err = client_warm(&client);
	if (!err)
		err = client_run(&client, requests);
	if (err)
		fprintf(stderr, "turns: after %llu answers: %s\n",
			(unsigned long long)client.completed, strerror(-err));
	client_print(&client);
	free(client.peers);
	return err ? 1 : 0;
}
