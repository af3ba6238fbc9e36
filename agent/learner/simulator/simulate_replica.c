// SPDX-License-Identifier: Apache-2.0
/* Replicas come and go, their timers, and their memory. */
#include "common/memory_limit.h"
#include "learner/simulator/simulate_model.h"

static void tier_find_timer(struct tier *tier)
{
	double next_us = tier->neighbour_us;

	for (uint32_t i = 0; i < tier->slots; i++)
		next_us = tier->timer_at_us[i] < next_us ? tier->timer_at_us[i] : next_us;
	tier->timer_next_us = next_us;
}

void tier_set_timer(struct tier *tier, uint32_t index)
{
	const struct replica *replica = &tier->replica[index];
	double next_us = INFINITY;

	if (replica->phase != REPLICA_NONE) {
		next_us = fmin(replica->period_end_us, replica->reflex_us);
		next_us = fmin(next_us, replica->ready_us);
		next_us = fmin(next_us, replica->overrun_us);
		if (replica->away.count)
			next_us = fmin(next_us, replica->away.at[replica->away.first].until_us);
	}
	tier->timer_at_us[index] = next_us;
	tier_find_timer(tier);
}

static void tier_list_ready(struct tier *tier)
{
	tier->ready_count = 0;
	for (uint32_t i = 0; i < tier->slots; i++)
		if (tier->replica[i].phase == REPLICA_READY)
			tier->ready[tier->ready_count++] = (uint8_t)i;
}

void replica_set_ready(struct tier *tier, uint32_t index)
{
	tier->replica[index].phase = REPLICA_READY;
	tier_list_ready(tier);
}

static void replica_set_phases(struct tier *tier, struct replica *replica)
{
	replica->period_from_us = tier->now_us;
	replica->period_end_us = (floor(tier->now_us / PERIOD_US) + 1) * PERIOD_US;
	replica->tick_phase_us = 0;
	if (tier->service.period_phases > 0) {
		replica->period_end_us =
			tier->now_us + PERIOD_US * (1 - random_uniform_double(&tier->random));
		replica->tick_phase_us =
			tier->service.scheduler_tick_us * random_uniform_double(&tier->random);
	}
}

static void replica_create(
	struct simulation *simulation, struct tier *tier, uint32_t index, bool at_once)
{
	struct replica *replica = &tier->replica[index];

	replica->phase = REPLICA_STARTING;
	replica->incarnation++;
	replica->charged_us = tier->virtual_us;
	replica->left_us = 0;
	replica->used_us = replica->used_seen_us = replica->allocated_us = 0;
	replica->slowdown = 1;
	replica->busy = replica->queued = replica->queue_first = replica->in_flight_peak = 0;
	replica->throttled = false;
	replica->overrun = false;
	replica->overrun_us = INFINITY;
	replica->highest_us = 0;
	replica_set_phases(tier, replica);
	replica->reflex_us = INFINITY;
	replica->ready_us = tier->now_us + tier->service.startup_us;
	replica->refills = 0;
	replica->born_us = replica->reserved_us = tier->now_us;
	replica->memory_peak = 0;
	(void)replica_limit_memory(tier, index);
	replica->running.first = replica->running.count = 0;
	replica->away.first = replica->away.count = 0;
	for (uint32_t i = 0; i < tier->workers; i++) {
		replica->call[i].arrived_us = INFINITY;
		replica->call_free[i] = (uint16_t)i;
	}
	replica->call_free_count = tier->workers;
	tier->in_flight[index] = 0;
	if (index >= tier->slots) {
		tier->cpu_at_us[index] = INFINITY;
		tier->slots = index + 1;
	}
	replica_write_quota(simulation, tier, index, &tier->plan);
	if (at_once) {
		replica->ready_us = INFINITY;
		replica_set_ready(tier, index);
	}
	replica_remember(simulation, tier, index);
	tier_set_timer(tier, index);
}

static void replica_remove(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica_fail_all(simulation, tier, index);
	replica_settle(tier, replica);
	replica->phase = REPLICA_NONE;
	while (tier->slots > 1 && tier->replica[tier->slots - 1].phase == REPLICA_NONE)
		tier->slots--;
	tier_renew(simulation, tier, 0);
	tier_set_timer(tier, index);
	tier_list_ready(tier);
}

/* Its delay is over: work, or ready. */
static void replica_begin(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica->ready_us = INFINITY;
	if (tier->service.startup_work_us > 0) {
		replica->phase = REPLICA_WARMING;
		replica->busy++;
		replica_start(simulation, tier, index, tier->now_us, tier->service.startup_work_us,
			CALLER_STARTUP);
	} else {
		replica_set_ready(tier, index);
	}
	tier_set_timer(tier, index);
}

/* Newest first, those that are not ready yet before all others. */
static uint32_t tier_pick_surplus(const struct tier *tier)
{
	uint32_t pick = 0;
	double best = -1;

	for (uint32_t i = 0; i < tier->slots; i++) {
		const struct replica *replica = &tier->replica[i];
		double rank = replica->born_us;

		if (replica->phase == REPLICA_NONE || replica->phase == REPLICA_DRAINING)
			continue;
		if (replica->phase != REPLICA_READY)
			rank += 1e18;
		if (rank >= best) {
			best = rank;
			pick = i;
		}
	}
	return pick;
}

void tier_scale(struct simulation *simulation, struct tier *tier, uint32_t wanted)
{
	const uint32_t most = simulation->config.replicas_max;
	uint32_t count = 0;

	wanted = wanted < most ? wanted : most;
	for (uint32_t i = 0; i < tier->slots; i++)
		count += tier->replica[i].phase != REPLICA_NONE &&
			 tier->replica[i].phase != REPLICA_DRAINING;
	for (uint32_t i = 0; i < most && count < wanted; i++) {
		if (tier->replica[i].phase != REPLICA_NONE)
			continue;
		replica_create(simulation, tier, i, !tier->has_plan);
		count++;
	}
	for (; count > wanted; count--) {
		uint32_t index = tier_pick_surplus(tier);

		if (tier->replica[index].phase == REPLICA_READY && tier->in_flight[index]) {
			tier->replica[index].phase = REPLICA_DRAINING;
			tier_list_ready(tier);
		} else {
			replica_remove(simulation, tier, index);
		}
	}
}

static void neighbour_turn(struct simulation *simulation, struct tier *tier)
{
	const struct simulate_service *service = &tier->service;

	tier->neighbour_busy = !tier->neighbour_busy;
	tier_contend(simulation, tier,
		service->cores * (tier->neighbour_busy ? 1 - service->neighbour_share : 1));
	tier->neighbour_us =
		tier->now_us + random_exponential(&tier->random,
				       tier->neighbour_busy ? service->neighbour_busy_us
							    : service->neighbour_idle_us);
	tier_find_timer(tier);
}

static void replica_run_timers(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	if (replica->away.count)
		replica_wake(simulation, tier, index);
	if (replica->ready_us <= tier->now_us)
		replica_begin(simulation, tier, index);
	if (replica->overrun_us <= tier->now_us)
		replica_see_dry(simulation, tier, index);
	if (replica->reflex_us <= tier->now_us)
		replica_reflex(simulation, tier, index);
	if (replica->period_end_us <= tier->now_us) {
		replica_turn_period(simulation, tier, index);
		if (replica->phase == REPLICA_DRAINING && tier->in_flight[index] == 0)
			replica_remove(simulation, tier, index);
	}
	tier_set_timer(tier, index);
}

void tier_run_timers(struct simulation *simulation, struct tier *tier)
{
	if (tier->neighbour_us <= tier->now_us)
		neighbour_turn(simulation, tier);
	for (uint32_t i = 0; i < tier->slots; i++)
		if (tier->timer_at_us[i] <= tier->now_us)
			replica_run_timers(simulation, tier, i);
}

/* Requests are slower by @slowdown from now on; those that run by what they still have to do. */
static void replica_set_slowdown(
	struct simulation *simulation, struct tier *tier, uint32_t index, double slowdown)
{
	struct replica *replica = &tier->replica[index];
	struct line *running = &replica->running;
	double virtual_us = replica->throttled ? replica->frozen_us : tier->virtual_us;
	double change = slowdown / replica->slowdown;

	if (slowdown == replica->slowdown)
		return;
	replica_settle(tier, replica);
	for (uint32_t i = 0; i < running->count; i++) {
		struct flight *flight = &running->at[running->first + i];

		flight->until_us = virtual_us + (flight->until_us - virtual_us) * change;
	}
	replica->slowdown = slowdown;
	tier_renew(simulation, tier, index);
}

/* The kernel kills it; it starts again under the same name. */
static void replica_kill(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	bool draining = replica->phase == REPLICA_DRAINING;

	tier->counts.oom_kills++;
	replica_fail_all(simulation, tier, index);
	replica->incarnation++;
	replica->born_us = tier->now_us;
	replica->slowdown = 1;
	replica->in_flight_peak = 0;
	replica->reflex_us = INFINITY;
	if (!draining) {
		replica->phase = REPLICA_STARTING;
		replica->ready_us = tier->now_us + tier->service.startup_us;
	}
	tier_list_ready(tier);
	tier_set_timer(tier, index);
}

bool replica_limit_memory(struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	double limit = tier->plan.memory_bytes ? (double)tier->plan.memory_bytes : INFINITY;
	bool changed = limit != replica->memory_limit;

	replica->memory_limit = limit;
	if (changed)
		replica->memory_stalled_us = replica->memory_looks = 0;
	return changed;
}

/*
 * Memory's own reflex: as the kernel, look ten times in a window at how long tasks stood still, and
 * as the agent, raise memory.high when that is too long.
 */
static void replica_relieve(const struct tier *tier, struct replica *replica)
{
	const double most_us = PERIOD_US * (replica->memory_looks + 1);

	replica->memory_stalled_us = fmin(replica->memory_stalled_us, most_us);
	if (replica->memory_stalled_us >= MEMORY_STALL_US &&
		replica->memory_limit < tier->memory_most) {
		replica->memory_limit = (double)memory_raised_bytes((uint64_t)replica->memory_limit,
			(uint64_t)replica->memory_working_set, (uint64_t)tier->memory_most);
		replica->memory_stalled_us = replica->memory_looks = 0;
	} else if (++replica->memory_looks >= MEMORY_WINDOW_US / PERIOD_US) {
		replica->memory_stalled_us = replica->memory_looks = 0;
	}
}

/*
 * Base (with growth and requests) cannot be reclaimed: a limit under it kills, or, where the limit
 * is memory.high, stalls. Hot pages can, but are read in again: requests stall by the share of them
 * that is missing. Cold pages go for nothing.
 */
void replica_remember(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	const struct simulate_service *service = &tier->service;
	struct replica *replica = &tier->replica[index];
	double grown = service->memory_growth_bytes_per_s * (tier->now_us - replica->born_us) / 1e6;
	double limit, kills_at = INFINITY, base, short_of, stall = 0;

	if (tier->memory_most > 0)
		replica_relieve(tier, replica);
	limit = replica->memory_limit;
	if (tier->memory_most > 0)
		kills_at = tier->memory_most;
	else if (service->memory_kills > 0)
		kills_at = limit;

	if (service->memory_growth_bytes > 0)
		grown = fmin(grown, service->memory_growth_bytes);
	base = service->memory_base_bytes + grown +
	       replica->in_flight_peak * service->memory_request_bytes;
	/* It takes its memory while it starts: too little kills it when it is there. */
	if (replica->phase == REPLICA_STARTING)
		base = 0;
	replica->in_flight_peak = tier->in_flight[index];
	if (base > kills_at) {
		replica->memory_peak = fmax(replica->memory_peak, kills_at);
		replica_kill(simulation, tier, index);
		base = 0;
	}
	short_of = base + service->memory_hot_bytes - limit;
	if (short_of > 0)
		stall = service->stall_share *
			fmin(short_of / fmax(service->memory_hot_bytes, 1), 1);
	/* What cannot be reclaimed stays, whatever memory.high says. */
	replica->memory_used = fmax(
		base, fmin(limit, base + service->memory_hot_bytes + service->memory_cold_bytes));
	replica->memory_working_set = fmin(replica->memory_used, base + service->memory_hot_bytes);
	replica->memory_peak = fmax(replica->memory_peak, replica->memory_used);
	replica_set_slowdown(simulation, tier, index, 1 / (1 - stall));
}
