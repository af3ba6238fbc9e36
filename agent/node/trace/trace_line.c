// SPDX-License-Identifier: Apache-2.0
#include "node/trace/trace_line.h"

#include "node/trace/request_head.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct line {
	char *out;
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
	size_t room = TRACE_LINE_BYTES - line->used;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line->out + line->used, room, format, args);
	va_end(args);
	if (length > 0)
		line->used += (size_t)length < room ? (size_t)length : room - 1;
}

static void add_text(struct line *line, const char *name, const char *text)
{
	add(line, "\"%s\":\"", name);
	for (; *text && line->used + 1 < TRACE_LINE_BYTES; text++) {
		unsigned char c = (unsigned char)*text;

		line->out[line->used++] =
			c >= 32 && c < 127 && c != '"' && c != '\\' ? (char)c : '?';
	}
	add(line, "\",");
}

/* Nanoseconds as microseconds with all their digits, so that the parts add up to the whole. */
static void add_us(struct line *line, const char *name, uint64_t ns)
{
	add(line, "\"%s\":%llu.%03u", name, (unsigned long long)(ns / 1000),
		(unsigned int)(ns % 1000));
}

static void add_source(struct line *line, const struct trace_source *source)
{
	add(line, "\"service\":\"%s/%s\",", source->namespace, source->service);
	add_text(line, "pod", source->pod);
	add_text(line, "container", source->container);
	add(line, "\"pid\":%u,", source->process);
	add_text(line, "comm", source->command);
}

static const char *protocol_name(const struct request_event *event, const struct request_head *head)
{
	switch (event->protocol) {
	case PROTOCOL_HTTP1:
		return "http/1";
	case PROTOCOL_HTTP2:
		return head->is_grpc || event->grpc_status != GRPC_STATUS_NONE ? "grpc" : "http/2";
	case PROTOCOL_TLS:
		return "tls";
	default:
		/* A first request that came before its socket leaves only its answer's status. */
		return event->status ? "http/1" : "tcp";
	}
}

static void add_head(struct line *line, const struct request_event *event)
{
	size_t size =
		event->head_bytes < REQUEST_HEAD_BYTES ? event->head_bytes : REQUEST_HEAD_BYTES;
	bool is_http = event->protocol == PROTOCOL_HTTP1 || event->protocol == PROTOCOL_HTTP2 ||
		       event->status;
	struct request_head head = {0};

	if (event->protocol == PROTOCOL_HTTP1)
		request_head_http1(event->head, size, &head);
	else if (event->protocol == PROTOCOL_HTTP2)
		request_head_http2(event->head, size, &head);
	add_text(line, "protocol", protocol_name(event, &head));
	add_text(line, "method", head.method);
	/* "*": there is one, but not in the bytes at hand. */
	add_text(line, "path", head.path[0] || !is_http ? head.path : "*");
	add(line, "\"status\":%u,", event->status);
	if (event->grpc_status != GRPC_STATUS_NONE)
		add(line, "\"grpc_status\":%u,", event->grpc_status);
}

static void add_addresses(struct line *line, const struct request_event *event)
{
	char local[INET6_ADDRSTRLEN] = "", remote[INET6_ADDRSTRLEN] = "";
	bool is_ip4 = event->family == AF_INET;

	inet_ntop(is_ip4 ? AF_INET : AF_INET6,
		is_ip4 ? (const void *)&event->local_ip4 : event->local_ip6, local, sizeof(local));
	inet_ntop(is_ip4 ? AF_INET : AF_INET6,
		is_ip4 ? (const void *)&event->remote_ip4 : event->remote_ip6, remote,
		sizeof(remote));
	add(line, "\"address\":\"%s\",\"port\":%u,\"peer\":\"%s\",\"peer_port\":%u,", local,
		event->local_port, remote, event->remote_port);
}

static void add_breakdown(struct line *line, const struct request_event *event)
{
	add(line, "\"breakdown\":{");
	add_us(line, "socket_queue_us", event->socket_queue_ns);
	add(line, ",");
	add_us(line, "waiting_cpu_us", event->waiting_cpu_ns);
	add(line, ",");
	add_us(line, "throttled_us", event->throttled_ns);
	add(line, ",");
	add_us(line, "on_cpu_us", event->on_cpu_ns);
	add(line, ",");
	add_us(line, "blocked_us", event->blocked_ns);
	add(line, ",");
	add_us(line, "sending_us", event->sending_ns);
	add(line, "},");
}

static void add_reasons(struct line *line, uint8_t reasons)
{
	static const char *const names[] = {"slow", "error", "sampled", "exemplar", "refill"};
	const char *comma = "";

	add(line, "\"reasons\":[");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(reasons & 1U << i))
			continue;
		add(line, "%s\"%s\"", comma, names[i]);
		comma = ",";
	}
	add(line, "]");
}

size_t trace_line_request(const struct request_event *event, const struct trace_source *source,
	char out[TRACE_LINE_BYTES])
{
	struct line line = {.out = out};

	add(&line, "{\"kind\":\"request\",\"time_us\":%llu,", (unsigned long long)source->time_us);
	add_us(&line, "latency_us", event->latency_ns);
	add(&line, ",");
	add_source(&line, source);
	add_text(&line, "side", event->side == SIDE_CLIENT ? "client" : "server");
	add_head(&line, event);
	add_text(&line, "outcome", event->outcome == OUTCOME_ANSWERED ? "answered" : "failed");
	add(&line, "\"request_bytes\":%u,\"response_bytes\":%u,", event->request_bytes,
		event->response_bytes);
	add_addresses(&line, event);
	if (event->has_breakdown)
		add_breakdown(&line, event);
	add_reasons(&line, source->reasons);
	add(&line, "}\n");
	return line.used;
}

size_t trace_line_oom(const struct trace_source *source, char out[TRACE_LINE_BYTES])
{
	struct line line = {.out = out};

	add(&line, "{\"kind\":\"oom\",\"time_us\":%llu,", (unsigned long long)source->time_us);
	add_source(&line, source);
	/* The comma that add_source() left. */
	line.used--;
	add(&line, "}\n");
	return line.used;
}

size_t trace_line_refill(const struct reflex_event *event, const struct trace_source *source,
	char out[TRACE_LINE_BYTES])
{
	struct line line = {.out = out};

	add(&line, "{\"kind\":\"refill\",\"time_us\":%llu,", (unsigned long long)source->time_us);
	add_source(&line, source);
	add_us(&line, "oldest_request_us", event->oldest_ns);
	add(&line, ",\"in_flight\":%lld,", (long long)event->in_flight);
	add_us(&line, "throttled_us", event->throttled_ns);
	add(&line, ",");
	add_us(&line, "granted_us", event->grant_ns);
	add(&line, ",");
	add_us(&line, "reaction_us", event->reaction_ns);
	add(&line, ",\"number\":%u}\n", event->number);
	return line.used;
}
