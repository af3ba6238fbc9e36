// SPDX-License-Identifier: Apache-2.0
/*
 * CFS bandwidth control as the kernel does it: a period's refill, and the one that a write of the
 * quota is, add the quota to what is left, up to quota and burst. A quota that runs dry is seen at
 * the scheduler's next tick; what was used until then is a debt, which a period's refill pays and a
 * write forgives. And the reflex, which writes.
 */
#include "learner/simulator/simulate_model.h"

#define GRANT_LEAST_SHARE 0.0625 /* of a quota: a smaller refill is not worth a write */
#define REFILL_SOON_US	  500.0	 /* before a period's end none is made */

/* The time that it stands still: throttled time counts each CPU that would run it. */
void replica_account_throttled(struct tier *tier, struct replica *replica)
{
	double span_us = tier->now_us - replica->throttled_us;
	double count = replica->running.count;

	tier->counts.throttled_us += span_us * fmin(count, ceil(tier->service.cores));
	tier->counts.run_queue_us += span_us * count;
	tier->counts.cpu_pressure_us += span_us;
	replica->throttled_us = tier->now_us;
}

/* More run than there are cores. */
void tier_account_contention(struct tier *tier, double span_us)
{
	double waiting = tier->runnable - tier->cores, replicas = 0;

	tier->counts.run_queue_us += span_us * waiting;
	for (uint32_t i = 0; i < tier->slots; i++)
		replicas += tier->cpu_at_us[i] < INFINITY;
	tier->counts.cpu_pressure_us += span_us * fmin(waiting, replicas);
}

static double replica_oldest_us(const struct tier *tier, const struct replica *replica)
{
	const struct line *running = &replica->running, *away = &replica->away;
	double oldest_us = INFINITY;

	for (uint32_t i = 0; i < running->count; i++)
		oldest_us = fmin(oldest_us, running->at[running->first + i].arrived_us);
	for (uint32_t i = 0; i < away->count; i++)
		oldest_us = fmin(oldest_us, away->at[away->first + i].arrived_us);
	if (!tier->plain)
		for (uint32_t i = 0; i < tier->workers; i++)
			oldest_us = fmin(oldest_us, replica->call[i].arrived_us);
	return oldest_us;
}

/*
 * What the reflex would add now: the quota, or what the ceiling leaves of it in this period. As the
 * agent: not a small part of a quota, nor less than the burst, which the kernel refuses.
 */
static double replica_grant_us(const struct tier *tier, const struct replica *replica)
{
	double room_us =
		tier->plan.allowance.ceiling_millicores / 1000 * PERIOD_US - replica->used_us;

	if (room_us >= replica->quota_us)
		return replica->quota_us;
	return room_us >= QUOTA_LEAST_US && room_us >= replica->quota_us * GRANT_LEAST_SHARE &&
			       room_us >= replica->burst_us
		       ? room_us
		       : 0;
}

/* When the reflex writes if all stays as it is; infinite: it may not. */
static double replica_reflex_due_us(const struct tier *tier, const struct replica *replica)
{
	const struct allowance *allowance = &tier->plan.allowance;
	double due_us;

	if (!replica->throttled || allowance->trigger_age_share <= 0 ||
		replica->refills >= allowance->refills_per_period ||
		replica_grant_us(tier, replica) <= 0 || replica->phase < REPLICA_READY)
		return INFINITY;
	due_us = replica_oldest_us(tier, replica) + allowance->trigger_age_share * tier->target_us;
	due_us = fmax(due_us, replica->frozen_at_us) + tier->service.reaction_us;
	/* The period brings its own refill. */
	return due_us < replica->period_end_us - REFILL_SOON_US ? due_us : INFINITY;
}

static void replica_set_reflex(struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica->reflex_us = replica_reflex_due_us(tier, replica);
	tier_set_timer(tier, index);
}

void replica_run_dry(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	double tick_us = tier->service.scheduler_tick_us;
	double ticks;

	if (tick_us <= 0) {
		replica_throttle(simulation, tier, index);
		return;
	}
	ticks = floor((tier->now_us - replica->tick_phase_us) / tick_us) + 1;
	replica->overrun = true;
	replica->overrun_us = replica->tick_phase_us + ticks * tick_us;
	tier_renew(simulation, tier, index);
	tier_set_timer(tier, index);
}

void replica_see_dry(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica->overrun = false;
	replica->overrun_us = INFINITY;
	/* Idle: who comes next finds it dry. */
	if (replica->running.count)
		replica_throttle(simulation, tier, index);
}

void replica_throttle(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica_charge(tier, replica);
	replica->left_us = fmin(replica->left_us, 0);
	replica->overrun = false;
	replica->overrun_us = INFINITY;
	replica->throttled = true;
	replica->frozen_us = tier->virtual_us;
	replica->frozen_at_us = tier->now_us;
	replica->throttled_us = tier->now_us;
	tier->runnable -= replica->running.count;
	tier_set_rate(simulation, tier);
	tier_renew(simulation, tier, index);
	replica_set_reflex(tier, index);
}

static void replica_unthrottle(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	struct line *running = &replica->running;
	double missed_us = tier->virtual_us - replica->frozen_us;

	replica_account_throttled(tier, replica);
	for (uint32_t i = 0; i < running->count; i++)
		running->at[running->first + i].until_us += missed_us;
	replica->charged_us = tier->virtual_us;
	replica->throttled = false;
	replica->reflex_us = INFINITY;
	tier->runnable += running->count;
	tier_set_rate(simulation, tier);
}

/* @kept_us: what is on the CPUs and not in the pool, and so in no refill's way. */
static void replica_refill(struct simulation *simulation, struct tier *tier, uint32_t index,
	double grant_us, double kept_us)
{
	struct replica *replica = &tier->replica[index];

	replica->left_us =
		fmin(replica->left_us - kept_us + grant_us, replica->quota_us + replica->burst_us) +
		kept_us;
	if (replica->left_us > 0) {
		replica->overrun = false;
		replica->overrun_us = INFINITY;
		if (replica->throttled)
			replica_unthrottle(simulation, tier, index);
	}
	tier_renew(simulation, tier, index);
}

/* A write of the quota: what a CPU had is gone, and its debt. */
static void replica_refill_by_write(
	struct simulation *simulation, struct tier *tier, uint32_t index, double grant_us)
{
	struct replica *replica = &tier->replica[index];

	replica_charge(tier, replica);
	/* Without a quota nothing was left of one. */
	if (!(replica->left_us > 0 && replica->left_us < INFINITY))
		replica->left_us = 0;
	replica_refill(simulation, tier, index, grant_us, 0);
}

static void replica_refill_by_period(
	struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];
	double kept_us = 0;

	if (replica->left_us > 0 && replica->left_us < INFINITY)
		kept_us = fmin(replica->left_us, tier->service.idle_quota_us);
	replica_refill(simulation, tier, index, replica->quota_us, kept_us);
}

/* Of the period so far: the highest quota or, where that is more, the use. */
static void replica_allocate_quota(struct tier *tier, struct replica *replica)
{
	double allocated_us =
		replica->highest_us * (tier->now_us - replica->period_from_us) / PERIOD_US;

	allocated_us = fmax(allocated_us, replica->used_us);
	tier->counts.allocated_us += allocated_us - replica->allocated_us;
	replica->allocated_us = allocated_us;
}

/* A reservation is set aside for as long as it is in force; what is used beyond it is nobody's. */
static void replica_allocate_reserved(struct tier *tier, struct replica *replica)
{
	tier->counts.allocated_us += tier->reserved_cores * (tier->now_us - replica->reserved_us);
	replica->reserved_us = tier->now_us;
}

/* What was used and set aside since the last time goes into the tick's sums. */
void replica_settle(struct tier *tier, struct replica *replica)
{
	replica_charge(tier, replica);
	if (tier->reserves)
		replica_allocate_reserved(tier, replica);
	else
		replica_allocate_quota(tier, replica);
	tier->counts.used_us += replica->used_us - replica->used_seen_us;
	/* What ran ran so much longer for the pages it lacked. */
	if (replica->slowdown > 1) {
		double stalled_us =
			(replica->used_us - replica->used_seen_us) * (replica->slowdown - 1);

		tier->counts.reclaim_us += stalled_us;
		tier->counts.memory_pressure_us += stalled_us;
		replica->memory_stalled_us += stalled_us;
	}
	replica->used_seen_us = replica->used_us;
}

void replica_write_quota(
	struct simulation *simulation, struct tier *tier, uint32_t index, const struct plan *plan)
{
	struct replica *replica = &tier->replica[index];
	bool limited = plan->cpu_millicores > 0 && !tier->reserves;
	double quota_us = fmax(plan->cpu_millicores / 1000 * PERIOD_US, QUOTA_LEAST_US);

	replica_settle(tier, replica);
	replica->quota_us = limited ? quota_us : INFINITY;
	replica->burst_us = (double)plan->burst_us;
	if (limited)
		replica->highest_us = fmax(replica->highest_us, quota_us);
	replica_refill_by_write(simulation, tier, index, replica->quota_us);
	tier_set_timer(tier, index);
}

void tier_set_plan(struct simulation *simulation, struct tier *tier, const struct plan *plan)
{
	const struct plan before = tier->plan;
	bool quota = !tier->reserves && (plan->cpu_millicores != before.cpu_millicores ||
						plan->burst_us != before.burst_us);

	tier->plan = *plan;
	if (tier->reserves)
		tier_reserve(simulation, tier, plan->cpu_millicores);
	for (uint32_t i = 0; i < tier->slots; i++) {
		if (tier->replica[i].phase == REPLICA_NONE)
			continue;
		if (quota)
			replica_write_quota(simulation, tier, i, plan);
		if (tier->replica[i].throttled)
			replica_set_reflex(tier, i);
		if (replica_limit_memory(tier, i))
			replica_remember(simulation, tier, i);
	}
}

void replica_reflex(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	/* The request that was the oldest may have ended: in a wait it needs no CPU. */
	replica->reflex_us = replica_reflex_due_us(tier, replica);
	if (replica->reflex_us > tier->now_us)
		return;
	replica->refills++;
	tier->counts.refills++;
	replica_refill_by_write(simulation, tier, index, replica_grant_us(tier, replica));
}

void replica_turn_period(struct simulation *simulation, struct tier *tier, uint32_t index)
{
	struct replica *replica = &tier->replica[index];

	replica_settle(tier, replica);
	tier->counts.throttled_periods += replica->throttled;
	replica->used_us = 0;
	replica->used_seen_us = 0;
	replica->allocated_us = 0;
	replica->refills = 0;
	replica->highest_us = replica->quota_us < INFINITY ? replica->quota_us : 0;
	replica->period_from_us = replica->period_end_us;
	replica->period_end_us += PERIOD_US;
	replica_refill_by_period(simulation, tier, index);
	replica_remember(simulation, tier, index);
}
