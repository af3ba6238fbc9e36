// SPDX-License-Identifier: Apache-2.0
/*
 * Agents that keep what is not acknowledged: each sends reports with experiences one after another,
 * puts one that got no 200 aside, and delivers it later behind the newest, as an agent's spool does.
 * What was acknowledged is written down, a line "AGENT SEQUENCE" each. Ends by SIGTERM, or after
 * --reports of each agent; then what is still aside is delivered first.
 */
#include "common/state.h"

#include "wire.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AGENTS_MAX 1024
#define UNITS_MAX  1024
#define ASIDE_MAX  64
#define ANSWER_MAX (4 << 20)
/* How long what is aside may take at the end. */
#define LEAVE_MS 20000

static const char usage[] =
	"Usage: report_client --port N --acked FILE [OPTION]...\n"
	"  --agents N      that report at the same time (default 4)\n"
	"  --units N       experiences in a report (default 4)\n"
	"  --reports N     of each agent (default 0: until SIGTERM)\n"
	"  --pause-us N    between two reports of an agent (default 0)\n"
	"  --lose-every N  so many reports' answers are thrown away, as if lost (default 0: none)\n"
	"  --incarnation N (default 1)\n";

struct options {
	uint16_t port;
	const char *acked;
	uint64_t agents, units, reports, pause_us, incarnation, lose_every;
};

struct totals {
	atomic_ullong sent, acknowledged, unanswered, thrown_away, refused;
};

static struct options options = {.agents = 4, .units = 4, .incarnation = 1};
static struct totals totals;
static atomic_bool stop;
static FILE *acked;
static pthread_mutex_t acked_lock = PTHREAD_MUTEX_INITIALIZER;

struct agent {
	pthread_t thread;
	char name[32];
	int fd; /* -1: not connected */
	uint64_t sequence;
	uint64_t answers;	   /* that came */
	uint64_t aside[ASIDE_MAX]; /* oldest first */
	size_t aside_count;
	Ebbtide__Wire__Unit *units;
	Ebbtide__Wire__Unit **list;
	Ebbtide__Wire__Sample sample;
	Ebbtide__Wire__Experience *experiences;
	char (*names)[32];
	float state[STATE_SIZE];
	uint8_t *request; /* the last one packed */
	size_t request_room;
	uint8_t *answer;
};

static void pause_us(uint64_t us)
{
	const struct timespec time = {
		.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000)};

	nanosleep(&time, NULL);
}

static int agent_init(struct agent *agent, size_t index)
{
	agent->fd = -1;
	snprintf(agent->name, sizeof(agent->name), "agent-%zu", index);
	agent->units = calloc(options.units, sizeof(*agent->units));
	agent->list = calloc(options.units, sizeof(*agent->list));
	agent->experiences = calloc(options.units, sizeof(*agent->experiences));
	agent->names = calloc(options.units, sizeof(*agent->names));
	agent->answer = malloc(ANSWER_MAX + 1);
	if (!agent->units || !agent->list || !agent->experiences || !agent->names || !agent->answer)
		return -ENOMEM;
	ebbtide__wire__sample__init(&agent->sample);
	agent->sample.tick_s = 1;
	agent->sample.requests = 100;
	agent->sample.containers = 1;
	agent->sample.cpu_limit_millicores = 500;
	agent->sample.memory_limit_bytes = 64 << 20;
	for (size_t i = 0; i < options.units; i++) {
		Ebbtide__Wire__Experience *experience = &agent->experiences[i];
		Ebbtide__Wire__Unit *unit = &agent->units[i];

		snprintf(agent->names[i], sizeof(agent->names[i]), "service-%zu", i);
		ebbtide__wire__experience__init(experience);
		experience->n_state = experience->n_next_state = STATE_SIZE;
		experience->state = experience->next_state = agent->state;
		experience->action = ACTION_VERTICAL_HOLD;
		ebbtide__wire__unit__init(unit);
		unit->namespace_ = (char *)"default";
		unit->service = agent->names[i];
		unit->sample = &agent->sample;
		unit->n_state = STATE_SIZE;
		unit->state = agent->state;
		unit->decide = true;
		unit->experience = experience;
		agent->list[i] = unit;
	}
	return 0;
}

/* The request for @sequence, whose rewards say which it is. Its size, or 0. */
static size_t request_make(struct agent *agent, uint64_t sequence)
{
	Ebbtide__Wire__Report report = EBBTIDE__WIRE__REPORT__INIT;
	size_t body, head;
	char text[256];

	for (int i = 0; i < STATE_SIZE; i++)
		agent->state[i] = (float)(sequence % 4096) / 4096;
	for (size_t i = 0; i < options.units; i++)
		agent->experiences[i].reward = -(float)(sequence % (1 << 20)) / (1 << 14);
	report.schema = STATE_SCHEMA;
	report.agent = agent->name;
	report.incarnation = options.incarnation;
	report.sequence = sequence;
	report.n_units = options.units;
	report.units = agent->list;
	body = ebbtide__wire__report__get_packed_size(&report);
	head = (size_t)snprintf(text, sizeof(text),
		"POST /v1/report HTTP/1.1\r\nHost: learner\r\nContent-Type: "
		"application/x-protobuf\r\nContent-Length: %zu\r\n\r\n",
		body);
	if (head + body > agent->request_room) {
		free(agent->request);
		agent->request_room = 2 * (head + body);
		agent->request = malloc(agent->request_room);
	}
	if (!agent->request) {
		agent->request_room = 0;
		return 0;
	}
	memcpy(agent->request, text, head);
	ebbtide__wire__report__pack(&report, agent->request + head);
	return head + body;
}

static void disconnect(struct agent *agent)
{
	if (agent->fd >= 0)
		close(agent->fd);
	agent->fd = -1;
}

static int connect_learner(struct agent *agent)
{
	const struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(options.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct timeval patience = {.tv_sec = 5};
	int one = 1;

	if (agent->fd >= 0)
		return 0;
	agent->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (agent->fd < 0)
		return -errno;
	setsockopt(agent->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(agent->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(agent->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(agent->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
		return -errno;
	return 0;
}

static int send_all(int fd, const uint8_t *bytes, size_t size)
{
	while (size > 0) {
		ssize_t done = send(fd, bytes, size, MSG_NOSIGNAL);

		if (done <= 0)
			return -EPIPE;
		bytes += done;
		size -= (size_t)done;
	}
	return 0;
}

/* The status; *body and *body_size are the answer's. -EPIPE: none came. */
static int answer_read(struct agent *agent, const uint8_t **body, size_t *body_size)
{
	size_t used = 0, head = 0, length = 0;
	int status = 0;

	for (;;) {
		ssize_t got = recv(agent->fd, agent->answer + used, ANSWER_MAX - used, 0);

		if (got <= 0)
			return -EPIPE;
		used += (size_t)got;
		agent->answer[used] = '\0';
		if (!head) {
			char *end = strstr((char *)agent->answer, "\r\n\r\n"), *field;

			if (!end)
				continue;
			head = (size_t)(end + 4 - (char *)agent->answer);
			field = strcasestr((char *)agent->answer, "\r\nContent-Length:");
			if (sscanf((char *)agent->answer, "HTTP/1.%*d %d", &status) != 1 || !field)
				return -EPIPE;
			length = strtoull(field + 17, NULL, 10);
		}
		if (used >= head + length) {
			*body = agent->answer + head;
			*body_size = length;
			return status;
		}
	}
}

/* 0: acknowledged; -EAGAIN: not, try again; -EINVAL: refused. */
static int deliver(struct agent *agent, uint64_t sequence)
{
	size_t size = request_make(agent, sequence), body_size = 0;
	Ebbtide__Wire__Answer *answer;
	const uint8_t *body = NULL;
	int status;

	if (size == 0 || connect_learner(agent) || send_all(agent->fd, agent->request, size)) {
		disconnect(agent);
		return -EAGAIN;
	}
	atomic_fetch_add(&totals.sent, 1);
	status = answer_read(agent, &body, &body_size);
	if (status < 0) {
		/* It may have been stored: the answer is lost. */
		atomic_fetch_add(&totals.unanswered, 1);
		disconnect(agent);
		return -EAGAIN;
	}
	if (status != 200)
		return status == 503 || status == 429 ? -EAGAIN : -EINVAL;
	answer = ebbtide__wire__answer__unpack(NULL, body_size, body);
	if (!answer || answer->sequence != sequence)
		status = -1;
	if (answer)
		ebbtide__wire__answer__free_unpacked(answer, NULL);
	if (status < 0)
		return -EINVAL;
	if (options.lose_every && ++agent->answers % options.lose_every == 0) {
		atomic_fetch_add(&totals.thrown_away, 1);
		disconnect(agent);
		return -EAGAIN;
	}
	atomic_fetch_add(&totals.acknowledged, 1);
	pthread_mutex_lock(&acked_lock);
	fprintf(acked, "%s %llu\n", agent->name, (unsigned long long)sequence);
	pthread_mutex_unlock(&acked_lock);
	return 0;
}

static void refuse_note(const struct agent *agent, uint64_t sequence)
{
	atomic_fetch_add(&totals.refused, 1);
	fprintf(stderr, "report_client: %s %llu was refused\n", agent->name,
		(unsigned long long)sequence);
}

/* Oldest first, as long as the learner takes them; false when it does not. */
static bool aside_deliver(struct agent *agent)
{
	while (agent->aside_count > 0) {
		int err = deliver(agent, agent->aside[0]);

		if (err == -EAGAIN)
			return false;
		if (err)
			refuse_note(agent, agent->aside[0]);
		agent->aside_count--;
		memmove(&agent->aside[0], &agent->aside[1],
			agent->aside_count * sizeof(agent->aside[0]));
	}
	return true;
}

static void *agent_run(void *context)
{
	struct agent *agent = context;

	while (!atomic_load(&stop) && (!options.reports || agent->sequence < options.reports)) {
		int err;

		if (agent->aside_count == ASIDE_MAX && !aside_deliver(agent)) {
			pause_us(5000);
			continue;
		}
		err = deliver(agent, ++agent->sequence);
		if (err == -EINVAL)
			refuse_note(agent, agent->sequence);
		if (err == -EAGAIN) {
			agent->aside[agent->aside_count++] = agent->sequence;
			pause_us(5000);
		} else {
			(void)aside_deliver(agent);
		}
		if (options.pause_us)
			pause_us(options.pause_us);
	}
	for (int ms = 0; ms < LEAVE_MS && !aside_deliver(agent); ms += 20)
		pause_us(20000);
	disconnect(agent);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
	atomic_store(&stop, true);
}

static int options_parse(int argc, char **argv)
{
	static const struct option names[] = {{"port", required_argument, NULL, 'p'},
		{"acked", required_argument, NULL, 'a'}, {"agents", required_argument, NULL, 'n'},
		{"units", required_argument, NULL, 'u'}, {"reports", required_argument, NULL, 'r'},
		{"pause-us", required_argument, NULL, 's'},
		{"incarnation", required_argument, NULL, 'i'},
		{"lose-every", required_argument, NULL, 'l'}, {0}};
	int id;

	while ((id = getopt_long(argc, argv, "", names, NULL)) != -1) {
		uint64_t number = optarg ? strtoull(optarg, NULL, 10) : 0;

		switch (id) {
		case 'p':
			options.port = (uint16_t)number;
			break;
		case 'a':
			options.acked = optarg;
			break;
		case 'n':
			options.agents = number;
			break;
		case 'u':
			options.units = number;
			break;
		case 'r':
			options.reports = number;
			break;
		case 's':
			options.pause_us = number;
			break;
		case 'i':
			options.incarnation = number;
			break;
		case 'l':
			options.lose_every = number;
			break;
		default:
			return -EINVAL;
		}
	}
	return options.port && options.acked && options.agents >= 1 &&
			       options.agents <= AGENTS_MAX && options.units >= 1 &&
			       options.units <= UNITS_MAX
		       ? 0
		       : -EINVAL;
}

static void agent_free(struct agent *agent)
{
	free(agent->units);
	free(agent->list);
	free(agent->experiences);
	free(agent->names);
	free(agent->request);
	free(agent->answer);
}

int main(int argc, char **argv)
{
	struct agent *agents;
	bool failed = false;

	if (options_parse(argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	acked = fopen(options.acked, "we");
	/* Whoever waits for progress looks at the file. */
	if (acked)
		setvbuf(acked, NULL, _IOLBF, 0);
	agents = calloc(options.agents, sizeof(*agents));
	if (!acked || !agents) {
		perror(options.acked);
		return 1;
	}
	for (size_t i = 0; i < options.agents; i++)
		failed = failed || agent_init(&agents[i], i);
	for (size_t i = 0; i < options.agents && !failed; i++)
		failed = pthread_create(&agents[i].thread, NULL, agent_run, &agents[i]) != 0;
	for (size_t i = 0; i < options.agents && !failed; i++)
		pthread_join(agents[i].thread, NULL);
	for (size_t i = 0; i < options.agents; i++)
		agent_free(&agents[i]);
	free(agents);
	failed = fclose(acked) != 0 || failed;
	printf("{\"sent\": %llu, \"acknowledged\": %llu, \"unanswered\": %llu, "
	       "\"thrown_away\": %llu, \"refused\": %llu}\n",
		totals.sent, totals.acknowledged, totals.unanswered, totals.thrown_away,
		totals.refused);
	return failed || totals.refused;
}
