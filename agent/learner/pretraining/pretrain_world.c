// SPDX-License-Identifier: Apache-2.0
/*
 * Worlds for pretraining: services from half a millisecond to a fifth of a second, tight and loose
 * objectives, loads of every kind that a formula makes. None of them is a trace that policies are
 * compared on.
 */
#include "common/rung.h"
#include "learner/pretraining/pretrain_room.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double between(struct random_state *random, double low, double high)
{
	return low + (high - low) * random_uniform_double(random);
}

static double log_between(struct random_state *random, double low, double high)
{
	return exp(between(random, log(low), log(high)));
}

static bool chance(struct random_state *random, double share)
{
	return random_uniform_double(random) < share;
}

/* Slow waves, a random walk that comes back, and now and then a step, a spike or a pause. */
static double world_load(struct random_state *random, double *rates, uint32_t seconds, double mean)
{
	double depth = between(random, 0, 0.8), length = log_between(random, 30, 1200);
	double phase = between(random, 0, 6.283), sway = log_between(random, 0.003, 0.15);
	double back = log_between(random, 0.005, 0.2), walk = 0, step = 1;
	double events = chance(random, 0.5) ? log_between(random, 0.001, 0.03) : 0;
	double spike = 1, sum = 0, peak = 0;
	uint32_t left = 0;

	for (uint32_t i = 0; i < seconds; i++) {
		walk += -back * walk + sway * (double)random_normal(random);
		if (left && --left == 0)
			spike = 1;
		if (chance(random, events)) {
			switch (random_below(random, 3)) {
			case 0:
				step = log_between(random, 0.4, 2.5);
				break;
			case 1:
				spike = log_between(random, 1.3, 4);
				left = 1 + random_below(random, 15);
				break;
			default:
				spike = between(random, 0, 0.5);
				left = 1 + random_below(random, 20);
			}
		}
		rates[i] = step * spike * exp(walk) *
			   fmax(0.02, 1 + depth * sin(phase + 6.283 * i / length));
		sum += rates[i];
	}
	for (uint32_t i = 0; i < seconds; i++) {
		rates[i] *= mean * seconds / sum;
		peak = fmax(peak, rates[i]);
	}
	return peak;
}

/* Of a log-normal distribution. */
static double percentile_99(double mean, double cv)
{
	double variance = log(1 + cv * cv);

	return mean * exp(2.326 * sqrt(variance) - variance / 2);
}

static void world_service(struct random_state *random, struct simulate_service *service)
{
	static const double workers[] = {1, 2, 4, 8, 16, 16, 16, 32, 64};

	simulate_service_init(service);
	service->work_us = log_between(random, 500, 100000);
	service->work_cv = chance(random, 0.2) ? 0.1 : between(random, 0.2, 1.5);
	service->workers = workers[random_below(random, sizeof(workers) / sizeof(workers[0]))];
	if (chance(random, 0.3)) {
		service->wait_us = service->work_us * log_between(random, 0.3, 5);
		service->wait_cv = 0.5;
		service->before_share = between(random, 0, 1);
	}
	/* No limit makes a request faster than it is. */
	service->latency_target_us = (percentile_99(service->work_us, service->work_cv) +
					     percentile_99(service->wait_us, service->wait_cv)) *
				     log_between(random, 1.35, 8);
	if (chance(random, 0.3))
		service->wake_us = service->work_us * between(random, 0, 0.2);
	service->cores = 16;
	if (chance(random, 0.2)) {
		service->cores = 4;
		service->neighbour_share = between(random, 0.1, 0.5);
	}
	service->reaction_us = log_between(random, 300, 3000);
	service->scheduler_tick_us = chance(random, 0.5) ? 4000 : 1000;
	service->memory_base_bytes = floor(log_between(random, 10e6, 500e6));
	service->memory_hot_bytes = floor(service->memory_base_bytes * between(random, 0, 0.5));
	service->memory_cold_bytes = floor(service->memory_base_bytes * between(random, 0, 0.5));
	service->memory_request_bytes = floor(log_between(random, 4e3, 2e5));
	service->memory_kills = chance(random, 0.5);
}

void world_draw(struct random_state *random, struct world *world, double *rates, uint32_t seconds,
	bool scales)
{
	struct episode_config *config = &world->episode;
	struct simulate_service *service;
	struct objective *objective = &config->objective;
	double cores, rate, peak, carried, memory, most;

	memset(world, 0, sizeof(*world));
	simulate_config_init(&world->simulate);
	service = &world->simulate.service[0];
	world_service(random, service);
	world->simulate.replicas_max = scales ? 8 : 4;
	world->replicas = !scales && chance(random, 0.6)
				  ? 1
				  : 1 + random_below(random, world->simulate.replicas_max);
	most = scales ? 6 : world->replicas; /* replicas that the load may ask for */
	if (scales) {
		service->startup_us = log_between(random, 2e5, 5e6);
		service->startup_work_us = log_between(random, 1e4, 1e6);
	}
	/* CPU that is used: up to what keeps the simulation fast. */
	cores = log_between(random, 0.05, 3);
	rate = fmin(cores * 1e6 / service->work_us, 1500);
	peak = world_load(random, rates, seconds, rate);
	/* Nor does it add workers or cores. */
	carried = fmin((service->workers > 1 ? 0.55 : 0.3) * service->workers * most /
			       (service->work_us + service->wait_us),
		0.6 * service->cores * (1 - service->neighbour_share) / service->work_us);
	if (peak > 1e6 * carried) {
		for (uint32_t i = 0; i < seconds; i++)
			rates[i] *= 1e6 * carried / peak;
		peak = 1e6 * carried;
	}
	cores = peak * service->work_us / 1e6;
	world->simulate.trace = (struct simulate_trace){.rate_per_s = rates,
		.seconds = seconds,
		.scale = 1,
		.arrivals = chance(random, 0.45)   ? SIMULATE_POISSON
			    : chance(random, 0.75) ? SIMULATE_BURSTY
						   : SIMULATE_UNIFORM};
	world->simulate.tick_us = chance(random, 0.7) ? 1e6 : 250e3;

	objective_init(objective);
	snprintf(objective->policy, sizeof(objective->policy), "dqn");
	objective->latency_target_us = service->latency_target_us;
	objective->latency_percentile = 99;
	objective->acceptable_violations = log_between(random, 0.001, 0.05);
	objective->cpu_min_millicores = 20;
	objective->cpu_max_millicores =
		fmin(1000 * cores / most * log_between(random, scales ? 1.2 : 1.5, 6), 15000);
	if (objective->cpu_max_millicores < 100)
		objective->cpu_max_millicores = 100;
	memory = service->memory_base_bytes + service->memory_hot_bytes +
		 service->memory_cold_bytes + 64 * service->memory_request_bytes;
	objective->memory_min_bytes = 8 << 20;
	objective->memory_max_bytes = (uint64_t)(memory * log_between(random, 1.5, 8));
	objective->replicas_min = 1;
	objective->replicas_max = world->simulate.replicas_max;
	config->cooldown_s = log_between(random, 5, 30);
	config->cpu_declared_millicores = objective->cpu_max_millicores;
	config->memory_declared_bytes = objective->memory_max_bytes;
	config->reflex = chance(random, 0.9);
	config->start = (struct plan){.cpu_millicores = objective->cpu_max_millicores,
		.memory_bytes = objective->memory_max_bytes,
		.cpu_rung = RUNG_COUNT - 1,
		.violation_price = log_between(random, PRICE_LEAST, PRICE_MOST)};
}

static double world_peak_cores(const struct world *world)
{
	const struct simulate_trace *trace = &world->simulate.trace;
	double peak = 0;

	for (uint32_t i = 0; i < trace->seconds; i++)
		peak = fmax(peak, trace->rate_per_s[i]);
	return peak * world->simulate.service[0].work_us / 1e6;
}

void world_reserve(struct random_state *random, struct world *world)
{
	const double peak = fmax(world_peak_cores(world), 0.01);
	struct simulate_service *service = &world->simulate.service[0];
	struct episode_config *config = &world->episode;
	double left;

	/* A node of which the service is a part that matters, and on which it can hold its objective. */
	service->cores = fmin(fmax(ceil(peak * log_between(random, 1.8, 8)), 2), 64);
	service->neighbour_share = 0;
	service->reserves = 1;
	service->weight_scale = chance(random, 0.5) ? 1 : 2;
	/* Requests are no more than the node has. */
	left = fmax(service->cores - 1.3 * peak, 0.1 * service->cores);
	service->neighbour_reserved_millicores =
		1000 * fmin(left, service->cores * between(random, 0.2, 0.95));
	service->neighbour_cores = service->cores * log_between(random, 0.3, 3);
	service->neighbour_busy_us = log_between(random, 2e5, 6e7);
	service->neighbour_idle_us = chance(random, 0.2) ? 1 : log_between(random, 2e5, 6e7);
	/* Where the operator set no bound the agent takes the node's. */
	if (chance(random, 0.5))
		config->objective.cpu_max_millicores = 1000 * service->cores;
	config->objective.cpu_max_millicores =
		fmin(config->objective.cpu_max_millicores, 1000 * service->cores);
	config->cpu_declared_millicores = 0;
	config->start.cpu_millicores = config->objective.cpu_max_millicores;
	config->start.reserves = true;
}
