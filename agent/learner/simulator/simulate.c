// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/simulate.h"
#include "learner/simulator/simulate_model.h"

#include <errno.h>
#include <stdlib.h>

#define ERROR_SIZE 128

static uint32_t queue_room(const struct simulate_service *service)
{
	uint32_t room = 1;

	while (room < (uint32_t)service->backlog)
		room *= 2;
	return room;
}

/* Bytes of what one replica of @service points to, and where its parts are in @at if given. */
static size_t replica_memory(
	const struct simulate_service *service, struct replica *replica, char *at)
{
	const size_t workers = (size_t)service->workers;
	const size_t line = 2 * workers * sizeof(struct flight);
	const size_t queue = queue_room(service) * sizeof(struct waiting);
	const size_t call = workers * sizeof(struct flight);
	const size_t stack = (workers * sizeof(uint16_t) + 7) / 8 * 8;

	if (replica) {
		replica->running = (struct line){.at = (void *)at, .room = 2 * (uint32_t)workers};
		replica->away =
			(struct line){.at = (void *)(at + line), .room = 2 * (uint32_t)workers};
		replica->call = (void *)(at + 2 * line);
		replica->queue = (void *)(at + 2 * line + call);
		replica->call_free = (void *)(at + 2 * line + call + queue);
	}
	return 2 * line + call + queue + stack;
}

/* Make room for @config. Nothing in it outlives a reset; on an error what there was stays. */
static int simulation_reserve(struct simulation *simulation, const struct simulate_config *config)
{
	size_t memory = 0, inverse = 0;
	struct tier *tiers = NULL;
	double *inverses = NULL;
	void *rest = NULL;

	for (uint32_t i = 0; i < config->services; i++) {
		size_t running = (size_t)config->service[i].workers * config->replicas_max + 1;

		memory += config->replicas_max * replica_memory(&config->service[i], NULL, NULL);
		inverse = running > inverse ? running : inverse;
	}
	if (config->services > simulation->tier_room) {
		tiers = aligned_alloc(CACHE_LINE, config->services * sizeof(*tiers));
		if (!tiers)
			goto fail;
	}
	if (inverse > simulation->inverse_room) {
		inverses = malloc(inverse * sizeof(*inverses));
		if (!inverses)
			goto fail;
	}
	if (memory > simulation->memory_size) {
		rest = malloc(memory);
		if (!rest)
			goto fail;
	}
	if (tiers) {
		free(simulation->tier);
		simulation->tier = tiers;
		simulation->tier_room = config->services;
	}
	if (inverses) {
		for (size_t i = 0; i < inverse; i++)
			inverses[i] = 1 / (double)i;
		free(simulation->inverse);
		simulation->inverse = inverses;
		simulation->inverse_room = inverse;
	}
	if (rest) {
		free(simulation->memory);
		simulation->memory = rest;
		simulation->memory_size = memory;
	}
	return 0;
fail:
	free(tiers);
	free(inverses);
	return -ENOMEM;
}

static void tier_init(struct simulation *simulation, uint32_t index, uint64_t seed, char **memory)
{
	const struct simulate_config *config = &simulation->config;
	const struct simulate_service *service = &config->service[index];
	struct tier *tier = &simulation->tier[index];

	memset(tier, 0, sizeof(*tier));
	tier->service = *service;
	tier->index = index;
	tier->rate = tier->inverse_rate = 1;
	tier->slots = 1;
	tier->cores = service->cores;
	tier->target_us = service->latency_target_us;
	tier->workers = (uint32_t)service->workers;
	tier->backlog = (uint32_t)service->backlog;
	tier->queue_room = queue_room(service);
	tier->round_robin = service->least_connections == 0;
	tier->plain = service->wait_us == 0 && index + 1 == config->services;
	tier->cpu_next_us = INFINITY;
	random_seed(&tier->random, seed ^ 0xd1b54a32d192ed03U * (index + 1));
	sampler_lognormal_init(
		&tier->work, &simulation->normal, service->work_us, service->work_cv);
	if (service->wait_us > 0)
		sampler_lognormal_init(
			&tier->wait, &simulation->normal, service->wait_us, service->wait_cv);
	tier_init_weights(tier);
	tier->neighbour_us = INFINITY;
	if (service->neighbour_share > 0 || (tier->reserves && service->neighbour_cores > 0))
		tier->neighbour_us = random_exponential(&tier->random, service->neighbour_idle_us);
	for (uint32_t i = 0; i < config->replicas_max; i++) {
		*memory += replica_memory(service, &tier->replica[i], *memory);
		tier->cpu_at_us[i] = tier->timer_at_us[i] = INFINITY;
	}
	tier->timer_next_us = tier->neighbour_us;
}

int simulate_reset(
	struct simulation *simulation, const struct simulate_config *config, uint64_t seed)
{
	char error[ERROR_SIZE], *memory;
	int err = simulate_config_check(config, error, sizeof(error));

	if (!err)
		err = simulation_reserve(simulation, config);
	if (err)
		return err;
	simulation->config = *config;
	simulation->now_us = 0;
	memory = simulation->memory;
	for (uint32_t i = 0; i < config->services; i++)
		tier_init(simulation, i, seed, &memory);
	load_init(&simulation->load, &config->trace, &simulation->gap, &simulation->tier[0].work,
		seed);
	return 0;
}

int simulate_create(struct simulation **out, const struct simulate_config *config, uint64_t seed)
{
	struct simulation *simulation = calloc(1, sizeof(*simulation));
	int err;

	if (!simulation)
		return -ENOMEM;
	sampler_normal_init(&simulation->normal);
	sampler_exponential_init(&simulation->gap);
	err = simulate_reset(simulation, config, seed);
	if (err) {
		simulate_destroy(simulation);
		return err;
	}
	*out = simulation;
	return 0;
}

void simulate_destroy(struct simulation *simulation)
{
	if (!simulation)
		return;
	free(simulation->tier);
	free(simulation->inverse);
	free(simulation->memory);
	free(simulation);
}

static uint64_t rounded(double value)
{
	return value > 0 ? (uint64_t)(value + 0.5) : 0;
}

static void sample_latencies(const struct tier *tier, struct sample *sample)
{
	const double shares[4] = {0.5, 0.95, 0.99, tier->service.latency_percentile / 100};
	double values_us[4];

	histogram_quantiles_us(tier->latency, shares, values_us, 4);
	sample->latency_p50_us = values_us[0];
	sample->latency_p95_us = values_us[1];
	sample->latency_p99_us = values_us[2];
	sample->latency_objective_us = values_us[3];
}

static void sample_replicas(struct tier *tier, struct sample *sample)
{
	double used = 0, working_set = 0, peak = 0, limit = 0;

	for (uint32_t i = 0; i < tier->slots; i++) {
		struct replica *replica = &tier->replica[i];

		if (replica->phase == REPLICA_NONE)
			continue;
		if (replica->throttled)
			replica_account_throttled(tier, replica);
		replica_settle(tier, replica);
		sample->containers++;
		sample->in_flight += tier->in_flight[i];
		used += replica->memory_used;
		working_set += replica->memory_working_set;
		peak += replica->memory_peak;
		limit += fmin(replica->memory_limit, 0x1p63);
		replica->memory_peak = replica->memory_used;
	}
	sample->memory_used_bytes = rounded(used);
	sample->memory_working_set_bytes = rounded(working_set);
	sample->memory_peak_bytes = rounded(peak);
	sample->memory_limit_bytes = tier->plan.memory_bytes;
	if (tier->plan.memory_bytes && sample->containers)
		sample->memory_limit_bytes = rounded(limit / sample->containers);
}

static void sample_take(struct tier *tier, double tick_us, struct sample *sample)
{
	struct tier_counts *counts = &tier->counts;

	*sample = (struct sample){.tick_s = tick_us / 1e6};
	sample_latencies(tier, sample);
	sample_replicas(tier, sample);
	sample->requests = counts->answered;
	sample->requests_over = counts->over;
	sample->requests_failed = counts->failed;
	sample->cpu_used_us = rounded(counts->used_us);
	sample->cpu_allocated_us = rounded(counts->allocated_us);
	sample->throttled_us = rounded(counts->throttled_us);
	sample->run_queue_us = rounded(counts->run_queue_us);
	sample->cpu_pressure_us = rounded(counts->cpu_pressure_us);
	sample->reclaim_us = rounded(counts->reclaim_us);
	sample->memory_pressure_us =
		rounded(fmin(counts->memory_pressure_us, tick_us * sample->containers));
	sample->oom_kills = counts->oom_kills;
	sample->refills = counts->refills;
	sample->throttled_periods = counts->throttled_periods;
	if (tier->reserves)
		sample->cpu_reserved_millicores = 1000 * tier->reserved_cores;
	else
		sample->cpu_limit_millicores = tier->plan.cpu_millicores;
}

void simulate_tick(
	struct simulation *simulation, const struct simulate_input *inputs, struct sample *samples)
{
	const uint32_t services = simulation->config.services;
	const double tick_us = simulation->config.tick_us;
	const double until_us = simulation->now_us + tick_us;

	for (uint32_t i = 0; i < services; i++) {
		struct tier *tier = &simulation->tier[i];

		memset(tier->latency, 0, sizeof(tier->latency));
		tier->counts = (struct tier_counts){0};
		tier->memory_most = (double)inputs[i].memory_most_bytes;
		tier_set_plan(simulation, tier, &inputs[i].plan);
		tier_scale(simulation, tier, inputs[i].replicas);
		tier->has_plan = true;
	}
	load_prepare(&simulation->load, until_us);
	if (services == 1)
		tier_run(simulation, simulation->tier, until_us);
	else
		simulation_run_chain(simulation, until_us);
	simulation->now_us = until_us;
	for (uint32_t i = 0; i < services; i++)
		sample_take(&simulation->tier[i], tick_us, &samples[i]);
}

const uint32_t *simulate_latency(const struct simulation *simulation, uint32_t service)
{
	return simulation->tier[service].latency;
}

double simulate_now_us(const struct simulation *simulation)
{
	return simulation->now_us;
}

uint32_t simulate_ready(const struct simulation *simulation, uint32_t service)
{
	return simulation->tier[service].ready_count;
}
