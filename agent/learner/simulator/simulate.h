// SPDX-License-Identifier: Apache-2.0
/*
 * A discrete-event model of a service under a plan: what the learner is pretrained in and what
 * `what-if` asks. docs/simulator.md says what is modelled, how, and how far it was checked.
 *
 * Pure: no clock, file or global; the same configuration, seed and inputs give the same samples.
 * Arrivals and their work depend on trace and seed only, so that two policies that are compared
 * on one seed get the same requests. No allocation after simulate_create() (simulate_reset() may
 * grow what there is). One thread at a time may use a simulation; any number may be used at once.
 *
 * A plan's CPU is the limit of a replica, or where the service `reserves` its reservation.
 *
 *	struct simulate_config config;
 *	struct simulate_input input = {.plan = {.cpu_millicores = 500}, .replicas = 2};
 *
 *	simulate_config_init(&config);
 *	config.trace = (struct simulate_trace){.rate_per_s = rates, .seconds = 3600, .scale = 1};
 *	simulate_create(&simulation, &config, seed);
 *	for (;;) {
 *		simulate_tick(simulation, &input, &sample);
 *		state_build(&history, &sample, &objective, state);
 *		reward = reward_compute(&sample, &objective, input.replicas, &reward_defaults);
 *		... choose the next input ...
 *	}
 */
#ifndef EBBTIDE_SIMULATE_H
#define EBBTIDE_SIMULATE_H

#include "common/histogram.h"
#include "common/plan.h"
#include "common/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIMULATE_SERVICES_MAX 4
#define SIMULATE_REPLICAS_MAX 64
#define SIMULATE_WORKERS_MAX  256

/*
 * X(name, lowest, highest, default, whole, what it is): what is known of a service. `calibrate`
 * writes these, `what-if` and pretraining read them. Whole ones are counts or switches.
 */
#define SIMULATE_SERVICE_FIELDS(X)                                                                 \
	X(work_us, 1, 1e8, 2000, 0, "CPU time of a request, mean")                                 \
	X(work_cv, 0, 10, 0.5, 0, "its standard deviation over its mean (log-normal)")             \
	X(wake_us, 0, 1e8, 0, 0, "CPU time more if a request finds its replica idle")              \
	X(wait_us, 0, 1e8, 0, 0, "time a request waits for other than the CPU (I/O), mean")        \
	X(wait_cv, 0, 10, 0.5, 0, "its standard deviation over its mean (log-normal)")             \
	X(before_share, 0, 1, 1, 0, "share of the CPU time before that wait and before a call")    \
	X(call_share, 0, 1, 1, 0, "share of requests that call the next service of the chain")     \
	X(workers, 1, SIMULATE_WORKERS_MAX, 16, 1, "requests that one replica serves at once")     \
	X(backlog, 0, 65536, 1024, 1, "requests that may wait in a replica; more are refused")     \
	X(least_connections, 0, 1, 1, 1, "balancer: 1 fewest in flight, 0 round robin")            \
	X(cores, 0.1, 256, 2, 0, "CPUs of the node, shared by the replicas")                       \
	X(neighbour_share, 0, 0.95, 0, 0, "share of the cores that neighbours take while busy")    \
	X(neighbour_busy_us, 1, 1e9, 1e6, 0, "how long neighbours stay busy, mean (exponential)")  \
	X(neighbour_idle_us, 1, 1e9, 4e6, 0, "how long they stay idle, mean (exponential)")        \
	X(reserves, 0, 1, 0, 1, "1: no CPU limit; a plan's CPU is a reservation, by weight")       \
	X(weight_scale, 0, 2, 2, 1, "its weight: 0 shares, 1 linear, 2 quadratic in them")         \
	X(neighbour_cores, 0, 4096, 0, 0, "CPUs that neighbours want beside a reservation, busy")  \
	X(neighbour_reserved_millicores, 0, 256000, 1000, 0, "what those neighbours reserve")      \
	X(startup_us, 0, 6e8, 1e6, 0, "from a replica's creation to its start")                    \
	X(startup_work_us, 0, 1e8, 0, 0, "CPU time it then needs before it is ready")              \
	X(reaction_us, 0, 1e5, 1000, 0, "from the reflex's trigger to its write")                  \
	X(scheduler_tick_us, 0, 1e5, 4000, 0, "a dry quota is seen at these ticks; 0: at once")    \
	X(idle_quota_us, 0, 1e5, 1000, 0, "unused quota that an idle CPU keeps over a period")     \
	X(period_phases, 0, 1, 1, 1, "1: a replica's CFS periods and ticks begin at random times") \
	X(memory_base_bytes, 0, 1e12, 20971520, 1, "memory a replica cannot do without")           \
	X(memory_hot_bytes, 0, 1e12, 4194304, 1, "pages it uses that can be reclaimed, at a cost") \
	X(memory_cold_bytes, 0, 1e12, 2097152, 1, "pages that can be reclaimed for nothing")       \
	X(memory_request_bytes, 0, 1e10, 32768, 1, "memory of a request in flight")                \
	X(memory_growth_bytes_per_s, 0, 1e9, 0, 0, "growth of the base with a replica's age")      \
	X(memory_growth_bytes, 0, 1e12, 0, 1, "where that growth ends; 0: never")                  \
	X(memory_kills, 0, 1, 1, 1, "1: a limit under the base kills (max), 0: it stalls (high)")  \
	X(stall_share, 0, 0.99, 0.8, 0, "share of its time a request stalls without hot pages")    \
	X(latency_target_us, 1, 6e7, 50000, 0, "what requests_over counts over")                   \
	X(latency_percentile, 1, 99.99, 99, 0, "the objective's percentile")

struct simulate_service {
#define X(name, lowest, highest, fallback, whole, text) double name;
	SIMULATE_SERVICE_FIELDS(X)
#undef X
};

struct simulate_field {
	const char *name;
	double lowest;
	double highest;
	double fallback;
	bool whole;
	const char *text;
	size_t offset; /* of the double in struct simulate_service */
};
extern const struct simulate_field simulate_fields[];
extern const size_t simulate_field_count;

void simulate_service_init(struct simulate_service *service);
/* -ENOENT: no such field, -ERANGE: outside its range or not whole. On an error nothing changes. */
int simulate_service_set(struct simulate_service *service, const char *name, double value);

enum simulate_arrivals {
	SIMULATE_POISSON, /* independent within each second */
	SIMULATE_BURSTY,  /* Poisson, twice the rate in three of a second's ten slots of 100 ms and
			   * 4/7 of it in the others, so that the second's mean stays */
	SIMULATE_UNIFORM, /* evenly spaced */
};

/* Rates of the requests to the first service, a value for each second. After its end it repeats. */
struct simulate_trace {
	const double *rate_per_s; /* [seconds], borrowed; NULL: no requests */
	uint32_t seconds;
	uint32_t first; /* second to start at */
	double scale;	/* of all rates */
	enum simulate_arrivals arrivals;
};

struct simulate_config {
	/* A request to service k may call service k + 1 and wait for its answer. Each has a node of
	 * its own. One service is the fast case. */
	uint32_t services;
	struct simulate_service service[SIMULATE_SERVICES_MAX];
	struct simulate_trace trace;
	uint32_t replicas_max; /* of each service, up to SIMULATE_REPLICAS_MAX */
	double tick_us;	       /* 10 ms to 60 s */
};

/* One service without requests, ticks of a second, up to 16 replicas. */
void simulate_config_init(struct simulate_config *config);
/* 0, or -EINVAL with the field, its value and its range in @error. */
int simulate_config_check(const struct simulate_config *config, char *error, size_t error_size);

/* What is in force on a service over a tick. */
struct simulate_input {
	struct plan plan;  /* of every replica */
	uint32_t replicas; /* wanted: brought into 0 to replicas_max */
	/*
	 * Not 0: the plan's memory is memory.high, which stalls and kills nothing, and which the agent
	 * raises up to this, the owner's limit, when it hurts. What is over that is killed.
	 */
	uint64_t memory_most_bytes;
};

struct simulation;

/* 0, -EINVAL (see simulate_config_check()), -ENOMEM. @config is copied, the trace's rates not. */
int simulate_create(
	struct simulation **simulation, const struct simulate_config *config, uint64_t seed);
/* Start anew; on an error the simulation is as it was. */
int simulate_reset(
	struct simulation *simulation, const struct simulate_config *config, uint64_t seed);
void simulate_destroy(struct simulation *simulation);

/*
 * One tick. @inputs and @samples are arrays of config.services. Limits that changed are written at
 * the tick's start (a write refills the quota). The first tick's replicas are ready at once, later
 * ones after their start-up; surplus ones take no more requests and go when they are idle.
 * Samples are what an agent would report of all replicas together; `containers` are those that
 * exist, starting and leaving ones included.
 */
void simulate_tick(
	struct simulation *simulation, const struct simulate_input *inputs, struct sample *samples);

/* Latencies of the requests that @service answered in the newest tick. Valid until the next. */
const uint32_t *simulate_latency(const struct simulation *simulation, uint32_t service);
/* Simulated time since the start. */
double simulate_now_us(const struct simulation *simulation);
/* Replicas that take requests. */
uint32_t simulate_ready(const struct simulation *simulation, uint32_t service);

#endif
