// SPDX-License-Identifier: Apache-2.0
/*
 * Many agents in one process and one thread, for measuring a learner: each keeps one connection
 * open and posts real reports on it. Open loop at --hz, or with --saturate as fast as it answers.
 *
 * Prints one JSON object. What a report says of its units is made once and shared (see
 * agent_reports.h), so that the client costs little next to the learner.
 */
#include "agent_reports.h"
#include "agent_wire.h"
#include "load_histogram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define ANSWER_BYTES_MAX (1U << 20)
#define EVENTS		 256
#define HEAD_BYTES	 512
#define PACE_NS		 500000U

struct options {
	const char *host;
	uint16_t port;
	uint32_t agents;
	uint32_t first;
	double hz;
	double duration_s;
	double warmup_s;
	bool saturate;
	bool deflate;
	bool poll;
	struct agent_reports_options reports;
};

enum agent_state {
	AGENT_IDLE,
	AGENT_SENDING,
	AGENT_WAITING
};

struct agent {
	int fd;
	enum agent_state state;
	uint64_t sequence;
	uint64_t sent_ns;
	uint64_t not_before_ns; /* the learner said Retry-After */
	uint8_t head[HEAD_BYTES];
	size_t head_size;
	const uint8_t *body;
	size_t body_size;
	size_t written; /* of head and body */
	uint8_t *deflated;
	uint8_t *partial; /* an answer that came in several parts; NULL: none */
	size_t partial_size;
};

/* An agent's other connection, held open for actions between reports. */
struct poll {
	int fd;
	uint64_t learner;
	uint64_t number;
};

struct counts {
	uint64_t sent;
	uint64_t answers;
	uint64_t actions;
	uint64_t experiences;
	uint64_t retry_later; /* 429 and 503 */
	uint64_t errors;
	uint64_t late; /* ticks that came while the last answer was still out */
	uint64_t reconnects;
	uint64_t polled; /* polls answered */
	uint64_t pushed; /* actions in them */
};

struct client {
	struct options options;
	struct agent_reports reports;
	struct agent *agents;
	struct poll *polls; /* NULL: none */
	int epoll;
	uint64_t incarnation;
	struct counts counts;
	struct load_histogram latency;
	struct load_histogram lag; /* from when a report was due to when it was sent */
	char first_error[160];
	uint8_t *scratch;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void note_error(struct client *client, const char *what, const char *detail)
{
	client->counts.errors++;
	if (!client->first_error[0])
		snprintf(client->first_error, sizeof(client->first_error), "%s: %.100s", what,
			detail);
	for (char *c = client->first_error; *c; c++)
		if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
			*c = ' ';
}

/* --- connections --- */

/* A connection that @owner's events are about; or -errno. */
static int connect_for(struct client *client, void *owner)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(client->options.port)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, err = 0;

	if (fd < 0)
		return -errno;
	inet_pton(AF_INET, client->options.host, &address.sin_addr);
	/* Blocking for the connect only: loopback answers at once, and order is kept. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
		epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
		err = -errno;
		close(fd);
	}
	return err ? err : fd;
}

static int agent_connect(struct client *client, struct agent *agent)
{
	int fd = connect_for(client, agent);

	agent->state = AGENT_IDLE;
	agent->fd = fd < 0 ? -1 : fd;
	return fd < 0 ? fd : 0;
}

static void agent_drop(struct client *client, struct agent *agent, const char *why)
{
	if (agent->state != AGENT_IDLE)
		note_error(client, "connection", why);
	if (agent->fd >= 0)
		close(agent->fd);
	agent->fd = -1;
	agent->state = AGENT_IDLE;
	agent->partial_size = 0;
}

static void agent_deflate(struct agent *agent, uint8_t *head, size_t size)
{
	uLong bound = compressBound(size + agent->body_size);
	uint8_t *plain = malloc(size + agent->body_size);

	free(agent->deflated);
	agent->deflated = malloc(bound);
	if (!plain || !agent->deflated)
		abort();
	memcpy(plain, head, size);
	memcpy(plain + size, agent->body, agent->body_size);
	if (compress2(agent->deflated, &bound, plain, size + agent->body_size, 1) != Z_OK)
		abort();
	free(plain);
	agent->body = agent->deflated;
	agent->body_size = bound;
}

static void agent_prepare(struct client *client, struct agent *agent)
{
	uint32_t index = (uint32_t)(agent - client->agents) + client->options.first;
	const struct agent_reports_body *body =
		agent_reports_of(&client->reports, index, agent->sequence);
	uint8_t head[128];
	char name[32];
	size_t used = 0, length;
	struct timespec now;
	int header;

	clock_gettime(CLOCK_REALTIME, &now);
	agent->sequence++;
	length = (size_t)snprintf(name, sizeof(name), "node-%u", index);
	used += agent_wire_put_field(head, 1, STATE_SCHEMA);
	head[used++] = 2 << 3 | 2;
	head[used++] = (uint8_t)length;
	memcpy(head + used, name, length);
	used += length;
	used += agent_wire_put_field(head + used, 3, client->incarnation);
	used += agent_wire_put_field(head + used, 4, agent->sequence);
	used += agent_wire_put_field(
		head + used, 5, (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U);
	agent->body = body->bytes;
	agent->body_size = body->size;
	if (client->options.deflate) {
		agent_deflate(agent, head, used);
		used = 0;
	}
	header = snprintf((char *)agent->head, HEAD_BYTES,
		"POST /v1/report HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: "
		"application/x-protobuf\r\n%sContent-Length: %zu\r\n\r\n",
		client->options.host, client->options.port,
		client->options.deflate ? "Content-Encoding: deflate\r\n" : "",
		used + agent->body_size);
	memcpy(agent->head + header, head, used);
	agent->head_size = (size_t)header + used;
	agent->written = 0;
}

static void agent_write(struct client *client, struct agent *agent)
{
	size_t total = agent->head_size + agent->body_size;
	struct epoll_event event = {.data.ptr = agent};
	bool was_sending = agent->state == AGENT_SENDING;

	agent->state = AGENT_SENDING;
	while (agent->written < total) {
		size_t in_body =
			agent->written > agent->head_size ? agent->written - agent->head_size : 0;
		size_t in_head =
			agent->written < agent->head_size ? agent->written : agent->head_size;
		struct iovec parts[2] = {{agent->head + in_head, agent->head_size - in_head},
			{(void *)(agent->body + in_body), agent->body_size - in_body}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t sent = sendmsg(agent->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			if (!was_sending) {
				event.events = EPOLLIN | EPOLLOUT;
				epoll_ctl(client->epoll, EPOLL_CTL_MOD, agent->fd, &event);
			}
			return;
		}
		if (sent < 0) {
			agent_drop(client, agent, strerror(errno));
			return;
		}
		agent->written += (size_t)sent;
	}
	agent->state = AGENT_WAITING;
	client->counts.sent++;
	if (was_sending) {
		event.events = EPOLLIN;
		epoll_ctl(client->epoll, EPOLL_CTL_MOD, agent->fd, &event);
	}
}

static void agent_send(struct client *client, struct agent *agent)
{
	if (agent->fd < 0) {
		client->counts.reconnects++;
		if (agent_connect(client, agent) != 0) {
			note_error(client, "connect", strerror(errno));
			return;
		}
	}
	agent_prepare(client, agent);
	agent->sent_ns = now_ns();
	agent_write(client, agent);
}

static const char *header_find(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? at + strlen(name) : NULL;
}

static void answer_take(struct client *client, struct agent *agent, int status, const char *head,
	const uint8_t *body, size_t size)
{
	struct answer_head answer;
	uint64_t now = now_ns();
	const char *after;

	if (status == 200) {
		if (agent_wire_answer_read(body, size, &answer) ||
			answer.numbers[1] != agent->sequence) {
			note_error(client, "answer", "not the report's");
			return;
		}
		client->counts.answers++;
		client->counts.actions += answer.actions;
		client->counts.experiences +=
			client->options.reports.experience ? client->reports.units : 0;
		load_histogram_record(&client->latency, now - agent->sent_ns);
		return;
	}
	after = header_find(head, "\r\nRetry-After:");
	if ((status == 429 || status == 503) && after) {
		client->counts.retry_later++;
		agent->not_before_ns = now + (uint64_t)(atof(after) * 1e9);
		/* Nothing of it was stored: it goes out again under the same number. */
		agent->sequence--;
		return;
	}
	note_error(client, head, size ? (const char *)body : "");
}

/* One answer from the front of @bytes: its length, 0 when it is not whole yet, -EINVAL. */
static ssize_t answer_parse(struct client *client, struct agent *agent, uint8_t *bytes, size_t size)
{
	uint8_t *end = memmem(bytes, size, "\r\n\r\n", 4);
	const char *length;
	size_t head_size, body_size;
	int status;

	if (!end)
		return 0;
	head_size = (size_t)(end + 4 - bytes);
	end[0] = '\0';
	length = header_find((char *)bytes, "\r\nContent-Length:");
	body_size = length ? strtoul(length, NULL, 10) : 0;
	if (sscanf((char *)bytes, "HTTP/1.1 %d", &status) != 1 || body_size > ANSWER_BYTES_MAX)
		return -EINVAL;
	if (size < head_size + body_size) {
		end[0] = '\r';
		return 0;
	}
	agent->state = AGENT_IDLE;
	answer_take(client, agent, status, (char *)bytes, bytes + head_size, body_size);
	return (ssize_t)(head_size + body_size);
}

static void agent_read(struct client *client, struct agent *agent)
{
	ssize_t got, used;
	size_t have = agent->partial_size;

	if (have)
		memcpy(client->scratch, agent->partial, have);
	got = recv(
		agent->fd, client->scratch + have, 2 * ANSWER_BYTES_MAX - have - 1, MSG_DONTWAIT);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		agent_drop(client, agent, got ? strerror(errno) : "closed by the learner");
		return;
	}
	have += (size_t)got;
	client->scratch[have] = '\0';
	agent->partial_size = 0;
	used = answer_parse(client, agent, client->scratch, have);
	if (used < 0) {
		agent_drop(client, agent, "an answer that is none");
	} else if (used == 0) {
		uint8_t *grown = realloc(agent->partial, have);

		if (!grown)
			abort();
		memcpy(grown, client->scratch, have);
		agent->partial = grown;
		agent->partial_size = have;
	} else if (client->options.saturate && now_ns() >= agent->not_before_ns) {
		agent_send(client, agent);
	}
}

/* --- polls --- */

static void poll_ask(struct client *client, struct poll *poll)
{
	uint32_t index = (uint32_t)(poll - client->polls) + client->options.first;
	char request[256];
	int length = snprintf(request, sizeof(request),
		"GET /v1/actions?agent=node-%u&learner=%llu&after=%llu HTTP/1.1\r\n"
		"Host: %s:%u\r\n\r\n",
		index, (unsigned long long)poll->learner, (unsigned long long)poll->number,
		client->options.host, client->options.port);

	if (send(poll->fd, request, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) != length)
		note_error(client, "poll", "not sent");
}

/* Answers to polls are small here: one read has all of it. */
static void poll_read(struct client *client, struct poll *poll)
{
	ssize_t got = recv(poll->fd, client->scratch, ANSWER_BYTES_MAX, MSG_DONTWAIT);
	uint8_t *body;
	struct answer_head answer;
	int status;

	if (got < 0 && errno == EAGAIN)
		return;
	client->scratch[got > 0 ? got : 0] = '\0';
	body = memmem(client->scratch, got > 0 ? (size_t)got : 0, "\r\n\r\n", 4);
	if (!body || sscanf((char *)client->scratch, "HTTP/1.1 %d", &status) != 1 ||
		(status != 200 && status != 204)) {
		note_error(client, "poll", got > 0 ? (char *)client->scratch : "closed");
		close(poll->fd);
		poll->fd = -1;
		return;
	}
	body += 4;
	client->counts.polled++;
	if (status == 200 && agent_wire_answer_read(
				     body, (size_t)(client->scratch + got - body), &answer) == 0) {
		poll->number = answer.numbers[3];
		poll->learner = answer.numbers[4];
		client->counts.pushed += answer.actions;
	}
	poll_ask(client, poll);
}

static int polls_open(struct client *client)
{
	uint32_t count = client->options.agents;

	client->polls = calloc(count, sizeof(*client->polls));
	if (!client->polls)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !interrupted; i++) {
		client->polls[i].fd = connect_for(client, &client->polls[i]);
		if (client->polls[i].fd < 0)
			return client->polls[i].fd;
		poll_ask(client, &client->polls[i]);
	}
	return 0;
}

/* The poll whose event it is, or NULL: an agent's. */
static struct poll *poll_of(const struct client *client, const void *owner)
{
	const struct poll *poll = owner;

	return client->polls && poll >= client->polls &&
			       poll < client->polls + client->options.agents
		       ? (struct poll *)owner
		       : NULL;
}

static void events_handle(struct client *client, uint64_t timeout_ns)
{
	struct epoll_event events[EVENTS];
	const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000U),
		.tv_nsec = (long)(timeout_ns % 1000000000U)};
	int count = epoll_pwait2(client->epoll, events, EVENTS, &timeout, NULL);

	for (int i = 0; i < count; i++) {
		struct poll *poll = poll_of(client, events[i].data.ptr);
		struct agent *agent = events[i].data.ptr;

		if (poll) {
			if (poll->fd >= 0)
				poll_read(client, poll);
			continue;
		}
		if (agent->fd >= 0 && agent->state == AGENT_SENDING &&
			(events[i].events & EPOLLOUT))
			agent_write(client, agent);
		if (agent->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
			agent_read(client, agent);
	}
}

/* --- the two ways to run --- */

static void counts_reset(struct client *client)
{
	memset(&client->counts, 0, sizeof(client->counts));
	memset(&client->latency, 0, sizeof(client->latency));
	memset(&client->lag, 0, sizeof(client->lag));
}

/* Agents' ticks are spread evenly over the period, as unrelated starts would. */
static void run_open(struct client *client, double seconds)
{
	const struct options *options = &client->options;
	uint64_t start = now_ns(), next = 0;
	uint64_t end = start + (uint64_t)(seconds * 1e9);
	double gap_ns = 1e9 / options->hz / options->agents;

	while (!interrupted) {
		uint64_t now = now_ns();
		uint64_t due = start + (uint64_t)((double)next * gap_ns);

		if (now >= end)
			break;
		for (int burst = 0; due <= now && burst < EVENTS; burst++) {
			struct agent *agent = &client->agents[next % options->agents];

			if (agent->state != AGENT_IDLE)
				client->counts.late++;
			else if (now >= agent->not_before_ns) {
				load_histogram_record(&client->lag, now - due);
				agent_send(client, agent);
			}
			due = start + (uint64_t)((double)++next * gap_ns);
		}
		/* A client that spins until the next report is due would take a core for itself. */
		events_handle(client, due <= now ? 0 : due - now < PACE_NS ? PACE_NS : due - now);
	}
}

static void run_saturated(struct client *client, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), now;

	while (!interrupted && (now = now_ns()) < end) {
		for (uint32_t i = 0; i < client->options.agents; i++)
			if (client->agents[i].state == AGENT_IDLE &&
				now >= client->agents[i].not_before_ns)
				agent_send(client, &client->agents[i]);
		events_handle(client, 10000000);
	}
}

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double quantile_ms(const struct load_histogram *histogram, double share)
{
	return (double)load_histogram_quantile_ns(histogram, share) / 1e6;
}

static void print_result(const struct client *client, double seconds, double cpu)
{
	const struct counts *c = &client->counts;

	printf("{\"seconds\": %.3f, \"agents\": %u, \"units\": %u, \"sent\": %llu, \"answers\": %llu, "
	       "\"actions\": %llu, \"experiences\": %llu, \"retry_later\": %llu, \"errors\": %llu, "
	       "\"late\": %llu, \"reconnects\": %llu, \"polled\": %llu, \"pushed\": %llu, ",
		seconds, client->options.agents, client->reports.units, (unsigned long long)c->sent,
		(unsigned long long)c->answers, (unsigned long long)c->actions,
		(unsigned long long)c->experiences, (unsigned long long)c->retry_later,
		(unsigned long long)c->errors, (unsigned long long)c->late,
		(unsigned long long)c->reconnects, (unsigned long long)c->polled,
		(unsigned long long)c->pushed);
	printf("\"answers_per_s\": %.1f, \"experiences_per_s\": %.1f, \"actions_per_s\": %.1f, "
	       "\"report_bytes\": %zu, \"client_cpu\": %.3f, ",
		(double)c->answers / seconds, (double)c->experiences / seconds,
		(double)c->actions / seconds, client->reports.bodies[0].size, cpu / seconds);
	printf("\"latency_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p999\": %.3f, "
	       "\"max\": %.3f}, \"lag_ms\": {\"p50\": %.3f, \"p99\": %.3f}, \"error\": \"%s\"}\n",
		quantile_ms(&client->latency, 0.5), quantile_ms(&client->latency, 0.9),
		quantile_ms(&client->latency, 0.99), quantile_ms(&client->latency, 0.999),
		(double)client->latency.max_ns / 1e6, quantile_ms(&client->lag, 0.5),
		quantile_ms(&client->lag, 0.99), client->first_error);
}

static int files_raise(uint32_t needed)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= needed)
		return 0;
	limit.rlim_cur = needed;
	if (limit.rlim_max < needed)
		limit.rlim_max = needed;
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return 0;
	fprintf(stderr,
		"agents: RLIMIT_NOFILE: %u files are not allowed: %s; give fewer --agents\n",
		needed, strerror(errno));
	return -errno;
}

static int client_run(struct client *client)
{
	const struct options *options = &client->options;
	void (*const run)(struct client *, double) = options->saturate ? run_saturated : run_open;
	uint64_t start;
	double cpu;

	for (uint32_t i = 0; i < options->agents; i++)
		client->agents[i].fd = -1;
	for (uint32_t i = 0; i < options->agents && !interrupted; i++) {
		int err = agent_connect(client, &client->agents[i]);

		if (err) {
			fprintf(stderr, "agents: connection %u to %s:%u: %s\n", i, options->host,
				options->port, strerror(-err));
			return err;
		}
	}
	if (options->poll) {
		int err = polls_open(client);

		if (err) {
			fprintf(stderr, "agents: polls at %s:%u: %s\n", options->host,
				options->port, strerror(-err));
			return err;
		}
	}
	if (options->warmup_s > 0)
		run(client, options->warmup_s);
	counts_reset(client);
	start = now_ns();
	cpu = cpu_s();
	run(client, options->duration_s);
	print_result(client, (double)(now_ns() - start) / 1e9, cpu_s() - cpu);
	return 0;
}

static const char usage[] =
	"Usage: agents [OPTION]... HOST:PORT\n"
	"Simulate agents that report to the learner at HOST:PORT (an IPv4 address).\n\n"
	"  --agents N      connections, 1 to 20000 (default 100)\n"
	"  --first N       number of the first one: names are node-N and on (default 0)\n"
	"  --units N       units in a report, 1 to 1000 (default 10)\n"
	"  --services N    services in the cluster, service-0 and on (default 1000)\n"
	"  --hz N          reports a second of each agent (default 1)\n"
	"  --saturate      the next report as soon as the last is answered\n"
	"  --no-decide     do not ask for actions, as a spooled report does not\n"
	"  --no-experience states only\n"
	"  --deflate       compressed bodies\n"
	"  --poll          each also holds a poll open\n"
	"  --duration S    (default 10), after --warmup S (default 1)\n"
	"  --seed N        of what the units measured (default 1)\n"
	"  --help\n\n"
	"Prints one JSON object: what was sent and answered, latency of answers in milliseconds, the\n"
	"share of a core that this client took. Exit status: 0, 1 on failure, 2 wrong usage.\n";

static int number(const char *name, const char *text, double lowest, double highest, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end != text && !*end && *out >= lowest && *out <= highest)
		return 0;
	fprintf(stderr, "agents: --%s: \"%s\" is not a number from %g to %g\n", name, text, lowest,
		highest);
	return -EINVAL;
}

static int options_parse(struct options *options, int argc, char **argv)
{
	static const struct {
		const char *name;
		double lowest, highest, standard;
	} numbers[] = {{"agents", 1, 20000, 100}, {"first", 0, 1e6, 0}, {"units", 1, 1000, 10},
		{"services", 1, 1e6, 1000}, {"hz", 0.01, 100, 1}, {"duration", 0.1, 3600, 10},
		{"warmup", 0, 3600, 1}, {"seed", 0, 1e9, 1}};
	enum {
		NUMBERS = sizeof(numbers) / sizeof(numbers[0])
	};
	static const char *const flags[] = {
		"saturate", "no-decide", "no-experience", "deflate", "poll", "help"};
	enum {
		FLAGS = sizeof(flags) / sizeof(flags[0])
	};
	struct option list[NUMBERS + FLAGS + 1] = {0};
	double values[NUMBERS];
	bool given[FLAGS] = {0};
	char *colon;
	int id;

	for (int i = 0; i < NUMBERS; i++) {
		values[i] = numbers[i].standard;
		list[i] = (struct option){numbers[i].name, required_argument, NULL, 256 + i};
	}
	for (int i = 0; i < FLAGS; i++)
		list[NUMBERS + i] = (struct option){flags[i], no_argument, NULL, 256 + NUMBERS + i};
	while ((id = getopt_long(argc, argv, "", list, NULL)) != -1) {
		int i = id - 256;

		if (id == '?')
			return -EINVAL;
		if (i >= NUMBERS)
			given[i - NUMBERS] = true;
		else if (number(numbers[i].name, optarg, numbers[i].lowest, numbers[i].highest,
				 &values[i]))
			return -EINVAL;
	}
	if (given[5]) {
		fputs(usage, stdout);
		exit(EXIT_SUCCESS);
	}
	colon = optind + 1 == argc ? strrchr(argv[optind], ':') : NULL;
	if (!colon || atoi(colon + 1) <= 0 || atoi(colon + 1) > 65535) {
		fputs("agents: give one HOST:PORT. Try --help.\n", stderr);
		return -EINVAL;
	}
	*colon = '\0';
	*options = (struct options){.host = argv[optind],
		.port = (uint16_t)atoi(colon + 1),
		.agents = (uint32_t)values[0],
		.first = (uint32_t)values[1],
		.hz = values[4],
		.duration_s = values[5],
		.warmup_s = values[6],
		.saturate = given[0],
		.deflate = given[3],
		.poll = given[4],
		.reports = {.units = (uint32_t)values[2],
			.services = (uint32_t)values[3],
			.seed = (uint64_t)values[7],
			.decide = !given[1],
			.experience = !given[2]}};
	return 0;
}

int main(int argc, char **argv)
{
	static struct client client;
	struct timespec now;
	int err;

	if (options_parse(&client.options, argc, argv))
		return 2;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	clock_gettime(CLOCK_REALTIME, &now);
	client.incarnation = (uint64_t)now.tv_sec * 1000000U + (uint64_t)now.tv_nsec / 1000U;
	err = files_raise((client.options.poll ? 2 : 1) * client.options.agents + 64);
	if (err)
		return 1;
	client.epoll = epoll_create1(EPOLL_CLOEXEC);
	client.agents = calloc(client.options.agents, sizeof(*client.agents));
	client.scratch = malloc(2 * ANSWER_BYTES_MAX);
	if (client.epoll < 0 || !client.agents || !client.scratch ||
		agent_reports_make(&client.reports, &client.options.reports)) {
		fputs("agents: out of memory\n", stderr);
		return 1;
	}
	err = client_run(&client);
	for (uint32_t i = 0; i < client.options.agents; i++) {
		if (client.agents[i].fd > 0)
			close(client.agents[i].fd);
		free(client.agents[i].partial);
		free(client.agents[i].deflated);
	}
	for (uint32_t i = 0; client.polls && i < client.options.agents; i++)
		if (client.polls[i].fd > 0)
			close(client.polls[i].fd);
	agent_reports_free(&client.reports);
	free(client.polls);
	free(client.agents);
	free(client.scratch);
	close(client.epoll);
	return err ? 1 : 0;
}
