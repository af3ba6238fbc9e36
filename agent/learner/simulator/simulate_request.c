// SPDX-License-Identifier: Apache-2.0
/* The simulator's inner loop: arrival, worker, CPU work, wait, call, answer. */
#include "learner/simulator/simulate_model.h"

static inline void tier_count_answer(struct tier *tier, double latency_us)
{
	tier->latency[latency_bucket(latency_us)]++;
	tier->counts.answered++;
	tier->counts.over += latency_us > tier->target_us;
}

/* A worker of a replica got something to do: one more runs. */
static inline void replica_run(struct simulation *simulation, struct tier *tier, uint32_t index,
	struct flight *flight, double work_us)
{
	struct replica *replica = &tier->replica[index];

	if (replica->throttled) {
		replica_account_throttled(tier, replica);
		flight->until_us = replica->frozen_us + work_us * replica->slowdown;
		line_put(&replica->running, flight);
		return;
	}
	replica_charge(tier, replica);
	flight->until_us = tier->virtual_us + work_us * replica->slowdown;
	line_put(&replica->running, flight);
	tier->runnable++;
	tier_set_rate(simulation, tier);
	/* One that wakes up to a dry quota is throttled there and then. */
	if (replica->left_us <= 0 && replica->running.count == 1)
		replica_throttle(simulation, tier, index);
	else
		tier_renew(simulation, tier, index);
}

static inline void flight_split(
	const struct tier *tier, struct flight *flight, double arrived_us, double *work_us)
{
	flight->arrived_us = arrived_us;
	flight->later_us = LATER_NONE;
	if (!tier->plain) {
		flight->later_us = (float)(*work_us * (1 - tier->service.before_share));
		*work_us *= tier->service.before_share;
	}
}

static inline __attribute__((always_inline)) void replica_start_inline(
	struct simulation *simulation, struct tier *tier, uint32_t index, double arrived_us,
	double work_us, uint32_t caller)
{
	struct flight flight = {.caller = caller};

	flight_split(tier, &flight, arrived_us, &work_us);
	if (caller == CALLER_STARTUP)
		flight.later_us = LATER_NONE;
	replica_run(simulation, tier, index, &flight, work_us);
}

void replica_start(struct simulation *simulation, struct tier *tier, uint32_t index,
	double arrived_us, double work_us, uint32_t caller)
{
	replica_start_inline(simulation, tier, index, arrived_us, work_us, caller);
}

/* The replica to take a request. */
static inline uint32_t tier_pick(struct tier *tier)
{
	uint32_t start = tier->cursor, best, fewest;

	if (tier->ready_count == 1)
		return tier->ready[0];
	if (++tier->cursor >= tier->ready_count)
		tier->cursor = 0;
	if (start >= tier->ready_count)
		start = 0;
	best = tier->ready[start];
	if (tier->round_robin)
		return best;
	fewest = tier->in_flight[best];
	for (uint32_t i = 1; i < tier->ready_count; i++) {
		uint32_t place =
			start + i < tier->ready_count ? start + i : start + i - tier->ready_count;
		uint32_t index = tier->ready[place];

		best = tier->in_flight[index] < fewest ? index : best;
		fewest = tier->in_flight[index] < fewest ? tier->in_flight[index] : fewest;
	}
	return best;
}

/* A request comes at the tier's time; false: nobody takes it. */
static inline bool tier_offer(
	struct simulation *simulation, struct tier *tier, double work_us, uint32_t caller)
{
	struct replica *replica;
	uint32_t index;

	if (tier->ready_count == 0)
		return false;
	index = tier_pick(tier);
	replica = &tier->replica[index];
	if (replica->busy == tier->workers && replica->queued >= tier->backlog)
		return false;
	if (++tier->in_flight[index] > replica->in_flight_peak)
		replica->in_flight_peak = tier->in_flight[index];
	if (replica->busy < tier->workers) {
		if (tier->service.wake_us > 0 && replica->busy == 0)
			work_us += tier->service.wake_us;
		replica->busy++;
		replica_start_inline(simulation, tier, index, tier->now_us, work_us, caller);
	} else {
		uint32_t place =
			(replica->queue_first + replica->queued++) & (tier->queue_room - 1);

		replica->queue[place] = (struct waiting){tier->now_us, (float)work_us, caller};
	}
	return true;
}

static struct waiting queue_take(const struct tier *tier, struct replica *replica)
{
	struct waiting first = replica->queue[replica->queue_first];

	replica->queue_first = (replica->queue_first + 1) & (tier->queue_room - 1);
	replica->queued--;
	return first;
}

/* A worker is free: it takes the next request, or rests. */
static void replica_free_worker(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	if (replica->queued) {
		struct waiting next = queue_take(tier, replica);

		replica_start(simulation, tier, index, next.arrived_us, (double)next.work_us,
			next.caller);
	} else {
		replica->busy--;
	}
}

static void tier_return(
	struct simulation *simulation, struct tier *tier, uint32_t caller, bool failed);

/* A request's end, the worker not yet freed. */
static void flight_end(struct simulation *simulation, struct tier *tier, uint32_t index,
	double arrived_us, uint32_t caller, bool failed)
{
	tier->in_flight[index]--;
	if (failed)
		tier->counts.failed++;
	else
		tier_count_answer(tier, tier->now_us - arrived_us);
	if (caller == CALLER_CLIENT)
		return;
	/* The caller's clock may stand before ours, but none of its events is before now. */
	tier_advance(tier - 1, tier->now_us);
	tier_return(simulation, tier - 1, caller, failed);
}

/* Its work before the answer goes on, or there is none. */
static void flight_resume(
	struct simulation *simulation, struct tier *tier, uint32_t index, struct flight *flight)
{
	double work_us = (double)flight->later_us;

	flight->later_us = LATER_NONE;
	if (work_us > 0) {
		replica_run(simulation, tier, index, flight, work_us);
		return;
	}
	flight_end(simulation, tier, index, flight->arrived_us, flight->caller, false);
	replica_free_worker(simulation, tier, index);
}

static void flight_call(
	struct simulation *simulation, struct tier *tier, uint32_t index, struct flight *flight)
{
	struct replica *replica = &tier->replica[index];
	struct tier *callee = tier + 1;
	uint32_t place, caller;
	double work_us;

	if (tier->index + 1 == simulation->config.services ||
		random_uniform_double(&tier->random) >= tier->service.call_share) {
		flight_resume(simulation, tier, index, flight);
		return;
	}
	tier_advance(callee, tier->now_us);
	work_us = sampler_lognormal(
		&callee->work, (uint32_t)random_next(&callee->random), &callee->random);
	place = replica->call_free[--replica->call_free_count];
	caller = (replica->incarnation & 0xffff) << 14 | index << 8 | place;
	replica->call[place] = *flight;
	if (tier_offer(simulation, callee, work_us, caller))
		return;
	callee->counts.failed++;
	tier_return(simulation, tier, caller, true);
}

/* The answer to a call of the replica that @caller names, if it still is. */
static void tier_return(
	struct simulation *simulation, struct tier *tier, uint32_t caller, bool failed)
{
	uint32_t index = caller >> 8 & (SIMULATE_REPLICAS_MAX - 1), place = caller & 0xff;
	struct replica *replica = &tier->replica[index];
	struct flight flight;

	if (replica->phase == REPLICA_NONE || (replica->incarnation & 0xffff) != caller >> 14)
		return;
	flight = replica->call[place];
	replica->call[place].arrived_us = INFINITY;
	replica->call_free[replica->call_free_count++] = (uint16_t)place;
	if (!failed) {
		flight_resume(simulation, tier, index, &flight);
		return;
	}
	flight_end(simulation, tier, index, flight.arrived_us, flight.caller, true);
	replica_free_worker(simulation, tier, index);
}

void replica_wake(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	while (replica->away.count &&
		replica->away.at[replica->away.first].until_us <= tier->now_us) {
		struct flight flight = line_take(&replica->away);

		flight_call(simulation, tier, index, &flight);
	}
}

/* The CPU work before its wait or call is done. */
static void flight_leave_cpu(
	struct simulation *simulation, struct tier *tier, uint32_t index, struct flight *flight)
{
	if (tier->service.wait_us > 0) {
		double wait_us = sampler_lognormal(
			&tier->wait, (uint32_t)random_next(&tier->random), &tier->random);

		flight->until_us = tier->now_us + wait_us;
		line_put(&tier->replica[index].away, flight);
		tier_set_timer(tier, index);
	} else {
		flight_call(simulation, tier, index, flight);
	}
}

/* What is not the usual end of a request's work. */
static __attribute__((noinline)) void replica_finish_other(
	struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	struct flight flight;

	replica_charge(tier, replica);
	flight = line_take(&replica->running);
	tier->runnable--;
	tier_set_rate(simulation, tier);
	tier_renew(simulation, tier, index);
	if (flight.caller == CALLER_STARTUP) {
		replica->busy--;
		replica_set_ready(tier, index);
	} else if (flight.later_us >= 0) {
		flight_leave_cpu(simulation, tier, index, &flight);
	} else {
		flight_end(simulation, tier, index, flight.arrived_us, flight.caller, false);
		replica_free_worker(simulation, tier, index);
	}
}

/* The nearest event of the CPUs: work ends, or a quota. */
static inline void tier_run_cpu(struct simulation *simulation, struct tier *tier)
{
	uint32_t index = tier->cpu_index;
	struct replica *replica = &tier->replica[index];
	const struct flight *flight = &replica->running.at[replica->running.first];
	double arrived_us = flight->arrived_us;

	if (flight->until_us > tier->virtual_us) {
		replica_run_dry(simulation, tier, index);
		return;
	}
	if (!tier->plain || flight->caller != CALLER_CLIENT) {
		replica_finish_other(simulation, tier, index);
		return;
	}
	tier_count_answer(tier, tier->now_us - arrived_us);
	tier->in_flight[index]--;
	if (replica->queued) {
		/* As many run as before: nothing to charge. */
		struct waiting next = queue_take(tier, replica);
		struct flight started = {
			.until_us = tier->virtual_us + (double)next.work_us * replica->slowdown,
			.arrived_us = next.arrived_us,
			.later_us = LATER_NONE,
			.caller = next.caller};

		(void)line_take(&replica->running);
		line_put(&replica->running, &started);
	} else {
		replica_charge(tier, replica);
		(void)line_take(&replica->running);
		replica->busy--;
		tier->runnable--;
		tier_set_rate(simulation, tier);
	}
	tier_renew(simulation, tier, index);
}

static inline void tier_take_arrival(
	struct simulation *simulation, struct tier *tier, double until_us)
{
	struct load *load = &simulation->load;
	double work_us = (double)load->work_us[load->next];

	if (++load->next == load->count && load->covered_us < until_us)
		load_draw(load, until_us);
	if (!tier_offer(simulation, tier, work_us, CALLER_CLIENT))
		tier->counts.failed++;
}

static inline double tier_cpu_time_us(const struct tier *tier)
{
	return tier->now_us + (tier->cpu_next_us - tier->virtual_us) * tier->inverse_rate;
}

/* To the nearest event of the CPUs, without the rounding of the way there and back. */
static inline void tier_advance_to_cpu(struct tier *tier, double now_us)
{
	tier_advance(tier, now_us);
	tier->virtual_us = tier->cpu_next_us;
}

void tier_run(struct simulation *simulation, struct tier *tier, double until_us)
{
	const struct load *load = &simulation->load;

	for (;;) {
		double arrival_us = load->time_us[load->next];
		double cpu_us = tier_cpu_time_us(tier);
		double bound_us = tier->timer_next_us < until_us ? tier->timer_next_us : until_us;

		if (arrival_us < cpu_us && arrival_us < bound_us) {
			tier_advance(tier, arrival_us);
			tier_take_arrival(simulation, tier, until_us);
		} else if (cpu_us < bound_us) {
			tier_advance_to_cpu(tier, cpu_us);
			tier_run_cpu(simulation, tier);
		} else if (tier->timer_next_us <= until_us) {
			tier_advance(tier, tier->timer_next_us);
			tier_run_timers(simulation, tier);
		} else {
			tier_advance(tier, until_us);
			return;
		}
	}
}

/* Several tiers: always the nearest event of all, as it may reach into its neighbours. */
void simulation_run_chain(struct simulation *simulation, double until_us)
{
	const struct load *load = &simulation->load;

	for (;;) {
		double nearest_us = INFINITY, cpu_us = 0;
		struct tier *tier = NULL;

		for (uint32_t i = 0; i < simulation->config.services; i++) {
			struct tier *candidate = &simulation->tier[i];
			double cpu_candidate_us = tier_cpu_time_us(candidate);
			double next_us = fmin(cpu_candidate_us, candidate->timer_next_us);

			if (next_us < nearest_us) {
				nearest_us = next_us;
				cpu_us = cpu_candidate_us;
				tier = candidate;
			}
		}
		if (load->time_us[load->next] < nearest_us &&
			load->time_us[load->next] < until_us) {
			tier_advance(simulation->tier, load->time_us[load->next]);
			tier_take_arrival(simulation, simulation->tier, until_us);
		} else if (!tier || nearest_us > until_us) {
			break;
		} else if (cpu_us < tier->timer_next_us) {
			tier_advance_to_cpu(tier, cpu_us);
			tier_run_cpu(simulation, tier);
		} else {
			tier_advance(tier, tier->timer_next_us);
			tier_run_timers(simulation, tier);
		}
	}
	for (uint32_t i = 0; i < simulation->config.services; i++)
		tier_advance(&simulation->tier[i], until_us);
}

static void flights_fail(struct simulation *simulation, struct tier *tier, uint32_t index,
	const struct flight *flights, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (flights[i].caller != CALLER_STARTUP && flights[i].arrived_us < INFINITY)
			flight_end(simulation, tier, index, flights[i].arrived_us,
				flights[i].caller, true);
}

void replica_fail_all(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	struct line *running = &replica->running, *away = &replica->away;

	replica_charge(tier, replica);
	if (replica->throttled)
		replica_account_throttled(tier, replica);
	else
		tier->runnable -= running->count;
	flights_fail(simulation, tier, index, running->at + running->first, running->count);
	flights_fail(simulation, tier, index, away->at + away->first, away->count);
	flights_fail(simulation, tier, index, replica->call, tier->workers);
	while (replica->queued) {
		struct waiting next = queue_take(tier, replica);

		flight_end(simulation, tier, index, next.arrived_us, next.caller, true);
	}
	running->count = running->first = away->count = away->first = 0;
	for (uint32_t i = 0; i < tier->workers; i++) {
		replica->call[i].arrived_us = INFINITY;
		replica->call_free[i] = (uint16_t)i;
	}
	replica->call_free_count = tier->workers;
	replica->busy = 0;
	replica->throttled = false;
	replica->overrun = false;
	replica->overrun_us = INFINITY;
	tier_set_rate(simulation, tier);
	tier_renew(simulation, tier, index);
}
