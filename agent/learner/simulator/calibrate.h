// SPDX-License-Identifier: Apache-2.0
/*
 * Parameters of a service from what the agent measured of it. CPU time of a request is measured
 * outright; spread, wait and workers are those with which the simulator, under the same requests,
 * limits and replicas, gives latencies nearest to the measured ones. A service whose newest tick has a
 * reservation and no limit has none here either; then its neighbours are found as well, by how long it
 * waited for a CPU.
 *
 * Pure: no clock, file or global.
 */
#ifndef EBBTIDE_CALIBRATE_H
#define EBBTIDE_CALIBRATE_H

#include "learner/simulator/simulate.h"

#define CALIBRATE_GROUPS      6	 /* of ticks, by how much of its limit the service used */
#define CALIBRATE_WORKERS     7	 /* numbers of workers that are tried */
#define CALIBRATE_TICKS_LEAST 20 /* with requests enough for percentiles */
#define CALIBRATE_REQUESTS    5	 /* that a tick must have answered for those */

/* Ticks of like load together: geometric means of their percentiles. */
struct calibrate_group {
	uint32_t ticks;
	double use;	       /* of the limit, mean; of the cores without one */
	double measured_us[3]; /* p50, p95, p99 */
	double simulated_us[3];
	double measured_wait; /* for a CPU, over the CPU time used: of a service without a limit */
	double simulated_wait;
};

struct calibrate_result {
	struct simulate_service service;
	struct calibrate_group groups[CALIBRATE_GROUPS];
	double error_share[3]; /* mean of |simulated / measured - 1| over the ticks' groups */
	uint32_t ticks;	       /* that were compared */
	uint64_t requests;
	double workers[CALIBRATE_WORKERS]; /* tried */
	double cost[CALIBRATE_WORKERS];	   /* of the best fit with each */
	bool workers_known;		   /* the next best number fits clearly worse */
};

/*
 * @samples are of one unit, tick after tick. @start gives what is not fitted: cores, objective,
 * balancer and the like. Its neighbour_cores, if not 0, are taken as they are with their times; its
 * neighbour_reserved_millicores 0: what the service leaves of the node. 0, -ENODATA: too few ticks with requests, -EINVAL: @start, -ENOMEM.
 */
int calibrate_fit(const struct sample *samples, uint32_t count,
	const struct simulate_service *start, uint64_t seed, struct calibrate_result *result);

#endif
