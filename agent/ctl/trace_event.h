// SPDX-License-Identifier: Apache-2.0
/* A line of the tree's trace as numbers and names. Pure. */
#ifndef EBBTIDE_CTL_TRACE_EVENT_H
#define EBBTIDE_CTL_TRACE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

/* X(field of "breakdown", name for people), in the order in which they are drawn. */
#define TRACE_PARTS(X)                                                                             \
	X(socket_queue_us, "socket queue")                                                         \
	X(waiting_cpu_us, "waiting CPU")                                                           \
	X(throttled_us, "throttled")                                                               \
	X(on_cpu_us, "on CPU")                                                                     \
	X(blocked_us, "blocked")                                                                   \
	X(sending_us, "sending")

enum trace_part {
#define X(field, name) PART_##field,
	TRACE_PARTS(X)
#undef X
	PARTS,
};
extern const char *const trace_part_names[PARTS];

enum trace_event_kind {
	TRACE_REQUEST,
	TRACE_OOM,
	TRACE_REFILL, /* the reflex wrote a quota again */
	TRACE_MISSED,
};

struct trace_event {
	enum trace_event_kind kind;
	uint64_t missed; /* of TRACE_MISSED, which has nothing else */
	uint64_t time_us;
	char pod[254];
	char container[64];
	uint32_t pid; /* 0: not known */
	char comm[16];
	double oldest_us;  /* TRACE_REFILL: age of the oldest request */
	double granted_us; /* and the quota that was written */
	/* TRACE_REQUEST only. */
	uint64_t latency_ns;
	bool has_parts;
	uint64_t parts_ns[PARTS]; /* add up to latency_ns */
	bool is_call;
	bool failed;
	bool error; /* failed, 5xx or a gRPC error: what --errors shows */
	char protocol[8];
	char method[16];
	char path[256];
	unsigned int status;
	int grpc_status; /* -1: none */
	uint64_t request_bytes;
	uint64_t response_bytes;
	char peer[48];
	unsigned int peer_port;
	char reasons[40]; /* "slow,error" */
};

/* 0, or -EINVAL for a line that is none. */
int trace_event_parse(const char *line, struct trace_event *event);

#endif
