// SPDX-License-Identifier: Apache-2.0
#include "node/trace.h"

#include "node/request_head.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_LINES 1024
#define LINE_BYTES  768

struct trace_line {
	char namespace[64];
	char service[UNIT_NAME_MAX];
	char text[LINE_BYTES];
};

struct trace {
	pthread_mutex_t lock;
	uint64_t next; /* number of lines ever written */
	struct trace_line lines[TRACE_LINES];
};

int trace_open(struct agent *agent)
{
	struct trace *trace = calloc(1, sizeof(*trace));

	if (!trace)
		return -ENOMEM;
	pthread_mutex_init(&trace->lock, NULL);
	agent->trace = trace;
	return 0;
}

void trace_close(struct agent *agent)
{
	free(agent->trace);
	agent->trace = NULL;
}

static const struct container *slot_owner(
	const struct agent *agent, uint32_t slot, const struct unit **unit)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		for (size_t k = 0; k < agent->units.items[i]->container_count; k++) {
			const struct container *container = agent->units.items[i]->containers[k];

			if (container->attachment.slot == slot) {
				*unit = agent->units.items[i];
				return container;
			}
		}
	}
	return NULL;
}

static void line_format(const struct request_event *event, const struct unit *unit,
	const struct container *container, uint64_t time_us, struct trace_line *line)
{
	char peer[INET6_ADDRSTRLEN] = "";
	struct request_head head;

	request_head_http1(event->head,
		event->head_bytes < REQUEST_HEAD_BYTES ? event->head_bytes : REQUEST_HEAD_BYTES,
		&head);
	if (event->family == AF_INET)
		inet_ntop(AF_INET, &event->remote_ip4, peer, sizeof(peer));
	else
		inet_ntop(AF_INET6, event->remote_ip6, peer, sizeof(peer));
	snprintf(line->namespace, sizeof(line->namespace), "%s", unit->namespace);
	snprintf(line->service, sizeof(line->service), "%s", unit->service);
	snprintf(line->text, sizeof(line->text),
		"{\"time_us\":%llu,\"latency_us\":%llu,\"service\":\"%s/%s\",\"pod\":\"%s\","
		"\"container\":\"%s\",\"protocol\":\"%s\",\"method\":\"%s\",\"path\":\"%s\","
		"\"status\":%u,\"response_bytes\":%u,\"peer\":\"%s\",\"peer_port\":%u,"
		"\"port\":%u}\n",
		(unsigned long long)time_us, (unsigned long long)event->latency_ns / 1000,
		unit->namespace, unit->service, container->pod, container->name,
		head.method[0] ? "http/1" : "tcp", head.method, head.path, event->status,
		event->response_bytes, peer, event->remote_port, event->local_port);
}

void trace_event(const union probes_event *received, void *context)
{
	const struct request_event *event = &received->request;
	struct agent *agent = context;
	struct trace *trace = agent->trace;
	const struct container *container;
	const struct unit *unit;
	/* The event's clock is the monotonic one; people want the wall's. */
	uint64_t time_us = unix_us() - monotonic_us() + event->start_ns / 1000;

	if (received->kind != EVENT_REQUEST)
		return;
	pthread_mutex_lock(&agent->lock);
	container = slot_owner(agent, event->slot, &unit);
	if (container) {
		pthread_mutex_lock(&trace->lock);
		line_format(
			event, unit, container, time_us, &trace->lines[trace->next % TRACE_LINES]);
		trace->next++;
		pthread_mutex_unlock(&trace->lock);
	}
	pthread_mutex_unlock(&agent->lock);
}

uint64_t trace_newest(struct trace *trace)
{
	uint64_t next;

	pthread_mutex_lock(&trace->lock);
	next = trace->next;
	pthread_mutex_unlock(&trace->lock);
	return next;
}

size_t trace_read(struct trace *trace, const char *namespace, const char *service, uint64_t *cursor,
	char *out, size_t size)
{
	size_t used = 0;

	pthread_mutex_lock(&trace->lock);
	if (*cursor + TRACE_LINES < trace->next) {
		uint64_t oldest = trace->next - TRACE_LINES;

		used = (size_t)snprintf(
			out, size, "{\"missed\":%llu}\n", (unsigned long long)(oldest - *cursor));
		if (used >= size)
			used = 0;
		*cursor = oldest;
	}
	for (; *cursor < trace->next; (*cursor)++) {
		const struct trace_line *line = &trace->lines[*cursor % TRACE_LINES];
		size_t length = strlen(line->text);

		if (strcmp(line->service, service) != 0 || strcmp(line->namespace, namespace) != 0)
			continue;
		if (used + length > size)
			break;
		memcpy(out + used, line->text, length);
		used += length;
	}
	pthread_mutex_unlock(&trace->lock);
	return used;
}
