/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The contract between the BPF programs and the agent: keys, values and the histogram's layout.
 * Plain C types, the same size and alignment on both sides.
 */
#ifndef EBBTIDE_SHARED_H
#define EBBTIDE_SHARED_H

typedef unsigned char ebb_u8;
typedef unsigned short ebb_u16;
typedef unsigned int ebb_u32;
typedef unsigned long long ebb_u64;
typedef long long ebb_s64;
typedef int ebb_s32;

/*
 * Log-linear histogram over microseconds: 1 us wide up to 32 us, then 32 buckets an octave up to
 * 2^26 us (67 s); longer values count in the last bucket. A bucket's middle is at most 1.6 % from
 * any value in it.
 */
#define HIST_LINEAR  32
#define HIST_OCTAVES 21
#define HIST_BUCKETS (HIST_LINEAR * (1 + HIST_OCTAVES))
#define HIST_MAX_US  ((1ULL << 26) - 1)

/* @step if @value has more than @bits bits, else 0. */
static inline __attribute__((always_inline)) ebb_u32 hist_step(
	ebb_u64 value, ebb_u32 bits, ebb_u32 step)
{
	ebb_u64 less = (1ULL << bits) - 1 - value;

#ifdef __bpf__
	/* Or the compiler makes a branch of it, and verifiers follow both ways of each. */
	__asm__ volatile("" : "+r"(less));
#endif
	return (ebb_u32)(less >> 63) * step;
}

static inline __attribute__((always_inline)) ebb_u32 hist_bucket(ebb_u64 us)
{
	ebb_u64 value = us > HIST_MAX_US ? HIST_MAX_US : us;
	ebb_u32 shift, more;

	/* Shift until six significant bits are left. */
	shift = hist_step(value, 22, 16);
	more = hist_step(value >> shift, 14, 8);
	shift += more;
	more = hist_step(value >> shift, 10, 4);
	shift += more;
	more = hist_step(value >> shift, 8, 2);
	shift += more;
	more = hist_step(value >> shift, 7, 1);
	shift += more;
	more = hist_step(value >> shift, 6, 1);
	shift += more;
	return HIST_LINEAR * shift + (ebb_u32)(value >> shift);
}

/* First value that falls into @bucket, in microseconds. */
static inline ebb_u64 hist_lower_us(ebb_u32 bucket)
{
	ebb_u32 shift = bucket < 2 * HIST_LINEAR ? 0 : bucket / HIST_LINEAR - 1;

	return (ebb_u64)(bucket - HIST_LINEAR * shift) << shift;
}

/* A fourth of the resolution, for what is looked at and not controlled by: 8 buckets an octave. */
#define HIST_COARSE		 (HIST_BUCKETS / 4)
#define HIST_COARSE_BUCKET(us)	 (hist_bucket(us) / 4)
#define HIST_COARSE_LOWER_US(at) hist_lower_us((at)*4)

/* Requests in flight by the time they came, so that the oldest one can be found without a list. */
#define AGE_BUCKETS 128

/* What one processor writes, another has to fetch: by lines of so many bytes. */
#define LINE_BYTES 64

/*
 * A slot is one container's cgroup: its counters, cumulative since the slot was given out.
 * The array of slots is mapped into the agent, so reading costs no system call.
 *
 * Requests arrive on one CPU and leave from another, and every switch counts. So what each of
 * these writes is in a line of its own, and so is what all of them only read.
 */
struct slot {
	/* Read with every request. Set by the agent: */
	ebb_u64 objective_ns;	    /* 0: none */
	ebb_u64 trace_threshold_ns; /* requests at least this slow become events; 0: none */
	ebb_u64 trace_mask;	    /* and one in mask + 1 whatever its latency; 0: none */
	ebb_u64 exemplars_due;	    /* bit k: and the next one of octave k */
	ebb_u64 detail_mask;	    /* one request in mask + 1 is followed in detail */
	ebb_u32 index;		    /* its own */
	ebb_u32 no_reflex;	    /* nobody acts on its throttling: no throttle events */
	ebb_u32 epoch;	   /* raised when the slot is given out: an old socket's state is void */
	ebb_u32 age_shift; /* an age bucket is 2^shift ns wide */
	/* By cpu.bpf.c. */
	ebb_u64 throttled_since_ns; /* 0: not throttled; a hint, probes_look() is sure */

	/* request.bpf.c, as a request arrives. In flight is what was neither answered nor dropped. */
	ebb_u64 begun;
	/* Here since they are seldom written. Cgroup ids, to know a stale pointer from a live one: */
	ebb_u64 cpu_id;
	ebb_u64 memory_id;
	/* Limits in force, from the snapshot program; 0 before it has seen them. */
	ebb_u64 limit_quota_ns; /* all ones: none */
	ebb_u64 limit_period_ns;
	ebb_u64 limit_burst_ns; /* 0 before 5.14 */
	ebb_u64 limit_memory_bytes;
	ebb_u64 limit_memory_high_bytes;

	/* As an answer leaves: what the container served. */
	ebb_u64 dropped; /* begun, and over without an answer */
	ebb_u64 requests;
	ebb_u64 requests_over;	 /* over objective_ns */
	ebb_u64 requests_failed; /* reset, or closed without an answer */
	ebb_u64 client_errors;	 /* HTTP 4xx */
	ebb_u64 server_errors;	 /* HTTP 5xx, gRPC status other than 0 */
	ebb_u64 breakdowns;	 /* requests in the histograms of where the time went */
	ebb_u64 calls_failed;

	/* cpu.bpf.c at a switch, whole subtree */
	ebb_u64 cpu_used_ns;
	ebb_u64 run_queue_ns;
	ebb_u64 switches;
	ebb_u64 involuntary_switches;
	ebb_u64 major_faults;
	/* memory.bpf.c */
	ebb_u64 memory_peak_bytes; /* the agent resets it every tick */
	ebb_u64 reclaim_ns;
	ebb_u64 oom_kills;

	/* What the container asked of others. */
	ebb_u64 calls;
	ebb_u64 calls_errors; /* HTTP 5xx, gRPC status other than 0 */
	/* Written by the snapshot program from the kernel's own structures. */
	ebb_u64 throttled_ns;
	ebb_u64 periods;
	ebb_u64 throttled_periods;
	ebb_u64 burst_ns; /* used over the quota of a period; 0 before 5.14 */
	ebb_u64 memory_used_bytes;
	/* By probes_look(), of that moment. */
	ebb_u64 quota_left_ns; /* in the pool, not yet handed to a CPU */

	ebb_u64 quota_pool_ns;	/* what was in it after its newest refill */
	ebb_u64 quota_period;	/* CFS periods so far, the present one included */
	ebb_u64 period_ends_ns; /* CLOCK_MONOTONIC; 0: not known on this kernel */
	ebb_u64 group_used_ns;	/* CPU time of the whole subtree, by the scheduler's own sums */
	/* Kernel addresses, found by cpu.bpf.c on a task's first switch; never read in user space. */
	ebb_u64 task_group;
	ebb_u64 mem_cgroup;
	ebb_u64 reserved[2];

	ebb_u32 ages_begun[AGE_BUCKETS];
	ebb_u32 ages_over[AGE_BUCKETS];
	ebb_u32 latency[HIST_BUCKETS];	 /* TTFB */
	ebb_u32 run_queue[HIST_BUCKETS]; /* delay from runnable to running, throttling included */
	/* Of requests followed in detail. */
	ebb_u32 socket_queue[HIST_COARSE];
	ebb_u32 waiting_cpu[HIST_COARSE]; /* on a run queue */
	ebb_u32 on_cpu[HIST_COARSE];
	ebb_u32 throttled[HIST_COARSE];
	ebb_u32 service_time[HIST_COARSE]; /* to the last byte: HTTP/2 streams */
	ebb_u32 call_latency[HIST_COARSE];
};

#define SLOT_LINE_IS(field) (__builtin_offsetof(struct slot, field) % LINE_BYTES == 0)
_Static_assert(SLOT_LINE_IS(begun) && SLOT_LINE_IS(dropped) && SLOT_LINE_IS(cpu_used_ns) &&
		       SLOT_LINE_IS(calls) && SLOT_LINE_IS(ages_begun) && SLOT_LINE_IS(ages_over) &&
		       sizeof(struct slot) % LINE_BYTES == 0,
	"lines of a slot");

/*
 * For control, without a lock, at any time: requests in flight, those of one age bucket. What is
 * over is read first: a request that comes meanwhile is one too many, and never one too few.
 */
static inline __attribute__((always_inline)) ebb_s64 slot_in_flight(const struct slot *slot)
{
	ebb_u64 over = *(const volatile ebb_u64 *)&slot->requests +
		       *(const volatile ebb_u64 *)&slot->dropped;

	return (ebb_s64)(*(const volatile ebb_u64 *)&slot->begun - over);
}

static inline __attribute__((always_inline)) ebb_s32 slot_in_flight_of(
	const struct slot *slot, ebb_u32 age)
{
	ebb_u32 over = *(const volatile ebb_u32 *)&slot->ages_over[age & (AGE_BUCKETS - 1)];

	return (ebb_s32)(*(const volatile ebb_u32 *)&slot->ages_begun[age & (AGE_BUCKETS - 1)] -
			 over);
}

/* Which hierarchy a cgroup id belongs to: ids are unique within one only. */
#define HIERARCHY_UNIFIED	0ULL
#define HIERARCHY_CPU		1ULL
#define HIERARCHY_MEMORY	2ULL
#define SLOT_KEY(hierarchy, id) ((hierarchy) << 62 | (id))

#define SLOT_NONE		0xffffffffU

/* slot_cache: where a cgroup (a unit's or any other) was found to belong, and when. */
struct slot_cached {
	ebb_u32 slot; /* SLOT_NONE: to no unit */
	ebb_u32 generation;
};

/* The one control record; the agent raises generation whenever it gives out or takes a slot. */
struct slot_control {
	ebb_u32 generation;
	ebb_u32 reserved;
	ebb_u64 events_lost;	    /* no room in the ring buffer */
	ebb_u64 switches_lost;	    /* tasks that left a CPU without having been seen to come */
	ebb_u64 connections_lost;   /* whose framing had to be found anew */
	ebb_u64 requests_untracked; /* more in flight on a connection than can be told apart */
};

/* A power of two: the bound is applied as a mask. */
#define REQUEST_HEAD_BYTES 128

enum event_kind {
	EVENT_REQUEST = 1,
	EVENT_OOM = 2,
};

enum request_protocol {
	PROTOCOL_UNKNOWN,
	PROTOCOL_TCP, /* by turn-taking */
	PROTOCOL_HTTP1,
	PROTOCOL_HTTP2,
	PROTOCOL_TLS,	 /* by turn-taking of application data */
	PROTOCOL_OPAQUE, /* upgraded to something that is no request and response */
	PROTOCOL_LOST,	 /* framing lost: to be found anew */
};

enum request_side {
	SIDE_SERVER = 1,
	SIDE_CLIENT = 2,
	SIDE_NONE = 3,
};

enum request_reason {
	REASON_SLOW = 1,
	REASON_ERROR = 2,
	REASON_SAMPLED = 4,
	REASON_EXEMPLAR = 8,
	REASON_REFILL = 16, /* set by the agent: the reflex refilled the quota for it */
};

enum request_outcome {
	OUTCOME_ANSWERED,
	OUTCOME_FAILED, /* reset, or closed without an answer */
};

#define GRPC_STATUS_NONE 255

/* A request worth telling of, through the ring buffer. The breakdown's parts add up to latency_ns. */
struct request_event {
	ebb_u32 kind; /* EVENT_REQUEST */
	ebb_u32 slot;
	ebb_u64 start_ns;   /* CLOCK_MONOTONIC of the first byte of the request */
	ebb_u64 latency_ns; /* to the first byte of the response, or to the failure */
	ebb_u64 socket_queue_ns;
	ebb_u64 waiting_cpu_ns;
	ebb_u64 on_cpu_ns;
	ebb_u64 throttled_ns;
	ebb_u64 blocked_ns;
	ebb_u64 sending_ns;
	ebb_u32 process;	/* that read the request; 0: not known */
	ebb_u32 response_bytes; /* in the first segment of the response */
	ebb_u32 request_bytes;	/* in the first segment of the request */
	ebb_u32 head_bytes;	/* of head[] that are valid */
	ebb_u32 local_ip4;	/* network byte order, valid for AF_INET */
	ebb_u32 remote_ip4;
	ebb_u32 local_ip6[4]; /* network byte order, valid for AF_INET6 */
	ebb_u32 remote_ip6[4];
	ebb_u16 family;	    /* AF_INET, AF_INET6 */
	ebb_u16 local_port; /* host byte order */
	ebb_u16 remote_port;
	ebb_u16 status; /* HTTP status, 0 if not HTTP or not readable */
	ebb_u8 protocol;
	ebb_u8 side;
	ebb_u8 reasons;
	ebb_u8 outcome;
	ebb_u8 has_breakdown;
	ebb_u8 grpc_status;
	ebb_u8 reserved[2];
	char command[16];
	ebb_u8 head[REQUEST_HEAD_BYTES]; /* first bytes; of HTTP/2, of the header block */
};

struct oom_event {
	ebb_u32 kind; /* EVENT_OOM */
	ebb_u32 slot;
	ebb_u32 process; /* the victim */
	ebb_u32 reserved;
	char command[16];
};

/* A throttled container with requests in flight, through a ring buffer of its own. */
struct throttle_event {
	ebb_u32 slot;
	ebb_u32 epoch;
	ebb_u64 since_ns;
};

#endif
