// SPDX-License-Identifier: Apache-2.0
/*
 * What is counted of a unit beside the sample that the learner gets: errors, calls to others,
 * faults, pressure, and where requests spent their time. These tables name every signal once; the
 * tree, /metrics and the tests read them.
 *
 * Pure.
 */
#ifndef EBBTIDE_SIGNALS_H
#define EBBTIDE_SIGNALS_H

#include "common/cgroup.h"
#include "shared.h"

#include <stdbool.h>
#include <stdint.h>

/* X(field of struct slot, what it is): cumulative since the slot was given out. */
#define SIGNAL_COUNTERS(X)                                                                         \
	X(client_errors, "Requests answered with HTTP 4xx.")                                       \
	X(server_errors, "Requests answered with HTTP 5xx or a gRPC status other than 0.")         \
	X(breakdowns, "Requests in the histograms of where their time went.")                      \
	X(calls, "Requests to others that were answered.")                                         \
	X(calls_failed, "Requests to others that got no answer.")                                  \
	X(calls_errors, "Requests to others answered with HTTP 5xx or a gRPC status not 0.")       \
	X(major_faults, "Page faults that had to wait for a disk.")                                \
	X(switches, "Times a task left a CPU.")                                                    \
	X(involuntary_switches, "Times a task left a CPU though it could have gone on.")

/* X(field of struct cgroup_usage, what it is): PSI totals of the cgroup, microseconds. */
#define SIGNAL_PRESSURES(X)                                                                        \
	X(cpu_pressure_some_us, "Time in which some task waited for a CPU, microseconds.")         \
	X(cpu_pressure_full_us, "Time in which all tasks waited for a CPU, microseconds.")         \
	X(memory_pressure_some_us, "Time in which some task waited for memory, microseconds.")     \
	X(memory_pressure_full_us, "Time in which all tasks waited for memory, microseconds.")

/* X(field of struct slot, name for people, what it is): coarse histograms. */
#define SIGNAL_HISTOGRAMS(X)                                                                       \
	X(socket_queue, request_socket_queue,                                                      \
		"Time from a request's first byte until the service read it, microseconds.")       \
	X(waiting_cpu, request_waiting_cpu,                                                        \
		"Time of a request that its task waited for a CPU, microseconds.")                 \
	X(throttled, request_throttled,                                                            \
		"Time of a request that the CPU quota held its task back, microseconds.")          \
	X(on_cpu, request_on_cpu, "Time of a request that its task ran, microseconds.")            \
	X(service_time, service_time,                                                              \
		"Time until a response's last byte (HTTP/2 streams), microseconds.")               \
	X(call_latency, call_latency, "Time until a call to others was answered, microseconds.")

/* Of a container as of its last tick, cumulative. Its histograms are taken out of the slot. */
struct signals_before {
#define X(name, text) uint64_t name;
	SIGNAL_COUNTERS(X)
	SIGNAL_PRESSURES(X)
#undef X
	bool has_counted; /* in that tick */
};

/* Of one container or unit over one tick. */
struct signals {
#define X(name, text) uint64_t name;
	SIGNAL_COUNTERS(X)
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text) uint32_t name[HIST_COARSE];
	SIGNAL_HISTOGRAMS(X)
#undef X
	uint64_t values; /* in the histograms */
};

/* What is kept of a unit's tick. */
struct signals_shown {
#define X(name, text) uint64_t name;
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text) float name##_p50_us, name##_p99_us;
	SIGNAL_HISTOGRAMS(X)
#undef X
};

/* A histogram for ever: by octave, the first up to 32 us, the last open. */
struct octaves {
	uint64_t counts[1 + HIST_OCTAVES];
	double sum_us; /* of the buckets' middles */
};

struct signals_total {
#define X(name, text) uint64_t name;
	SIGNAL_COUNTERS(X)
	SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text) struct octaves name;
	SIGNAL_HISTOGRAMS(X)
#undef X
};

/* Pressures from before the container was first looked at are not this tick's. */
void signals_start(struct signals_before *before, const struct cgroup_usage *usage);
/*
 * Add to @tick what has come since @before, which then is now; the slot's histograms are empty
 * afterwards. @usage NULL: the cgroup is gone.
 */
void signals_take(struct signals *tick, struct signals_before *before, struct slot *slot,
	const struct cgroup_usage *usage);
void signals_show(struct signals_shown *shown, const struct signals *tick);
void signals_add(struct signals_total *total, const struct signals *tick);

/* Quantile @q in (0, 1] by nearest rank, at most 6.2 % off (2 us below 32 us); 0: empty, or < 4 us. */
double signals_quantile_us(const uint32_t counts[HIST_COARSE], double q);
/* Add a tick's histogram: of @buckets buckets, HIST_BUCKETS or HIST_COARSE. */
void octaves_add(struct octaves *octaves, const uint32_t *counts, uint32_t buckets);

#endif
