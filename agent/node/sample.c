// SPDX-License-Identifier: Apache-2.0
/* One tick: counters of every container become one sample, state and reward per unit. */
#include "node/agent.h"
#include "node/limits/reserve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double cores_of(const struct cgroup_limits *limits)
{
	if (limits->cpu_quota_us <= 0 || limits->cpu_period_us <= 0)
		return 0;
	return (double)limits->cpu_quota_us / (double)limits->cpu_period_us;
}

/* Without a limit what is set aside is the reservation, whatever else is used while it is idle. */
static bool reserves(const struct container *container)
{
	return container->original.cpu_quota_us <= 0 && container->reserve.millicores > 0 &&
	       container->unit && unit_reserves(container->unit);
}

static void note_until_now(struct container *container, const struct cgroup_limits *limits)
{
	uint64_t now_us = monotonic_us();

	container->limit_us_in_tick +=
		(double)(now_us - container->limit_since_us) *
		(reserves(container) ? container->reserve.millicores / 1000 : cores_of(limits));
	container->limit_since_us = now_us;
}

void sample_note_limit(struct container *container)
{
	note_until_now(container, &container->current);
}

void sample_note_change(struct agent *agent, struct container *container,
	const struct cgroup_limits *old, bool looked)
{
	double before = cores_of(old), after = cores_of(&container->current);
	double period_us = (double)container->current.cpu_period_us, left_us;
	uint32_t slot = container->attachment.slot;

	note_until_now(container, old);
	if (before <= 0 || after <= 0 || (!looked && probes_look(agent->probes, slot) < 0))
		return;
	left_us = (double)probes_slot(agent->probes, slot)->period_ends_ns / 1000 -
		  (double)container->limit_since_us;
	/* No period runs while the container is idle. */
	if (left_us <= 0 || left_us > period_us)
		return;
	if (before > after)
		container->limit_us_in_tick += (before - after) * left_us;
	else
		container->limit_us_in_tick += (after - before) * (period_us - left_us);
}

#define TAKE(field, now)                                                                           \
	({                                                                                         \
		uint64_t take_now = (now), take_delta = take_now - before->field;                  \
		before->field = take_now;                                                          \
		take_delta;                                                                        \
	})

static void container_sample(struct agent *agent, struct container *container, struct tick *tick)
{
	struct sample *sample = &tick->sample;
	uint64_t requests_before = container->before.requests;
	struct slot *slot = probes_slot(agent->probes, container->attachment.slot);
	struct container_before *before = &container->before;
	struct cgroup_usage usage;
	uint64_t peak, over_limit_us;
	double allocated_us;
	bool has_usage;

	has_usage =
		usage_look(&container->usage_files, &agent->driver, container->path, slot, &usage);
	/* A cgroup that is gone has no files; what was in use last is what is known. */
	if (has_usage)
		container->memory_working_set_bytes = usage.memory_working_set_bytes;
	sample_note_limit(container);
	if (!container->sampled) {
		/* A first look only sets the starting point: what came before is not this tick's,
		 * except requests, which the slot has counted from its own start. */
		before->cpu_pressure_us = usage.cpu_pressure_some_us;
		before->memory_pressure_us = usage.memory_pressure_some_us;
		before->throttled_ns = slot->throttled_ns;
		before->throttled_periods = slot->throttled_periods;
		before->burst_ns = slot->burst_ns;
		signals_start(&container->signals_before, &usage);
		container->sampled = true;
	}
	sample->requests += TAKE(requests, slot->requests);
	if (sample->tick_s > 0)
		container->requests_per_s =
			(double)(before->requests - requests_before) / sample->tick_s;
	sample->requests_over += TAKE(requests_over, slot->requests_over);
	sample->requests_failed += TAKE(requests_failed, slot->requests_failed);
	sample->in_flight += slot_in_flight(slot) > 0 ? (double)slot_in_flight(slot) : 0;
	sample->throttled_us += TAKE(throttled_ns, slot->throttled_ns) / 1000;
	sample->throttled_periods += (uint32_t)TAKE(throttled_periods, slot->throttled_periods);
	sample->run_queue_us += TAKE(run_queue_ns, slot->run_queue_ns) / 1000;
	sample->reclaim_us += TAKE(reclaim_ns, slot->reclaim_ns) / 1000;
	sample->oom_kills += (uint32_t)TAKE(oom_kills, slot->oom_kills);
	if (has_usage) {
		sample->cpu_pressure_us += TAKE(cpu_pressure_us, usage.cpu_pressure_some_us);
		sample->memory_pressure_us +=
			TAKE(memory_pressure_us, usage.memory_pressure_some_us);
	}
	sample->memory_used_bytes += slot->memory_used_bytes;
	peak = __atomic_exchange_n(&slot->memory_peak_bytes, 0, __ATOMIC_RELAXED);
	sample->memory_peak_bytes +=
		peak > slot->memory_used_bytes ? peak : slot->memory_used_bytes;
	sample->memory_working_set_bytes += container->memory_working_set_bytes;
	sample->containers++;
	/* In periods with a burst or a refill more was used than the limit is. */
	allowance_collect(agent, container->unit, container, sample, &over_limit_us);
	allocated_us = container->limit_us_in_tick + (double)over_limit_us +
		       (double)TAKE(burst_ns, slot->burst_ns) / 1000;
	container->limit_us_in_tick = 0;
	{
		uint64_t used_us = TAKE(cpu_used_ns, slot->cpu_used_ns) / 1000;

		sample->cpu_used_us += used_us;
		sample->cpu_allocated_us += (double)used_us > allocated_us && !reserves(container)
						    ? used_us
						    : (uint64_t)allocated_us;
	}
	/* Its counter is raised first: what was counted lately may come a tick later. */
	if (before->requests != requests_before || container->has_answered)
		tick->latencies += histogram_move(slot->latency, tick->latency, HIST_BUCKETS);
	container->has_answered = before->requests != requests_before;
	signals_take(&tick->signals, &container->signals_before, slot, has_usage ? &usage : NULL);
}

void sample_last(struct agent *agent, struct unit *unit, struct container *container)
{
	if (!unit->ended)
		unit->ended = calloc(1, sizeof(*unit->ended));
	if (!unit->ended)
		return;
	container_sample(agent, container, unit->ended);
	/* Gauges of a container that is gone say nothing of the next tick. */
	unit->ended->sample.containers = 0;
	unit->ended->sample.in_flight = 0;
	unit->ended->sample.memory_used_bytes = 0;
	unit->ended->sample.memory_peak_bytes = 0;
	unit->ended->sample.memory_working_set_bytes = 0;
}

/* Of those that have started, where there are any. The others' limit is not the plan's. */
static void unit_limits(struct unit *unit, struct sample *sample)
{
	bool all_start = starting_count(unit) == unit->container_count;
	size_t counted =
		all_start ? unit->container_count : unit->container_count - starting_count(unit);

	sample->cpu_reserved_millicores = unit_reserved_millicores(unit);
	for (size_t i = 0; i < unit->container_count; i++) {
		const struct container *container = unit->containers[i];
		const struct cgroup_limits *limits = &container->current;
		bool counts = all_start || !container->is_starting;

		if (counts && limits->cpu_quota_us > 0 && limits->cpu_period_us > 0)
			sample->cpu_limit_millicores += 1000.0 * (double)limits->cpu_quota_us /
							(double)limits->cpu_period_us /
							(double)counted;
		if (counts && actuate_memory_limit(limits) > 0)
			sample->memory_limit_bytes +=
				(uint64_t)actuate_memory_limit(limits) / counted;
	}
}

static void unit_total(struct unit *unit, const struct tick *tick)
{
	const struct sample *sample = &tick->sample;

	unit->total_requests += sample->requests;
	unit->total_over += sample->requests_over;
	unit->total_failed += sample->requests_failed;
	unit->total_used_us += sample->cpu_used_us;
	unit->total_allocated_us += sample->cpu_allocated_us;
	unit->total_throttled_us += sample->throttled_us;
	unit->total_run_queue_us += sample->run_queue_us;
	unit->total_reclaim_us += sample->reclaim_us;
	unit->total_refills += sample->refills;
	unit->total_oom_kills += sample->oom_kills;
	unit->total_ticks++;
	if (unit->has_objective && sample_violates(sample, &unit->objective))
		unit->total_violations++;
	if (tick->latencies > 0) {
		histogram_add(unit->total_latency, tick->latency);
		octaves_add(&unit->total_octaves, tick->latency, HIST_BUCKETS);
	}
	signals_add(&unit->signals_total, &tick->signals);
}

static uint64_t unit_oldest_request_us(const struct agent *agent, const struct unit *unit)
{
	uint64_t now_ns = monotonic_us() * 1000, oldest_ns = 0;

	for (size_t i = 0; i < unit->container_count; i++) {
		uint64_t age_ns = slot_oldest_age_ns(
			probes_slot(agent->probes, unit->containers[i]->attachment.slot), now_ns);

		if (age_ns > oldest_ns)
			oldest_ns = age_ns;
	}
	return oldest_ns / 1000;
}

static void unit_latency(const struct unit *unit, struct tick *tick)
{
	const double asked[] = {0.50, 0.95, 0.99, unit->objective.latency_percentile / 100};
	double us[4] = {0};

	if (tick->latencies > 0)
		histogram_quantiles_us(tick->latency, asked, us, 4);
	tick->sample.latency_p50_us = us[0];
	tick->sample.latency_p95_us = us[1];
	tick->sample.latency_p99_us = us[2];
	tick->sample.latency_objective_us = us[3];
}

/* Sum of the unit's containers, those that have ended since the last tick included. */
static void unit_add_up(struct agent *agent, struct unit *unit, double tick_s, struct tick *tick)
{
	if (unit->ended)
		*tick = *unit->ended;
	else
		memset(tick, 0, sizeof(*tick));
	free(unit->ended);
	unit->ended = NULL;
	tick->sample.tick_s = tick_s;
	for (size_t i = 0; i < unit->container_count; i++)
		container_sample(agent, unit->containers[i], tick);
}

static void unit_sample(struct agent *agent, struct unit *unit, double tick_s)
{
	struct objective objective = unit->objective;
	double declared = unit_declared_millicores(unit);
	uint64_t declared_bytes = unit_declared_bytes(unit);
	const struct sample *sample = &unit->sample;
	struct tick tick;

	unit_add_up(agent, unit, tick_s, &tick);
	unit->oldest_request_us = unit_oldest_request_us(agent, unit);
	unit_limits(unit, &tick.sample);
	unit_latency(unit, &tick);
	unit->sample = tick.sample;
	signals_show(&unit->signals, &tick.signals);
	unit_total(unit, &tick);
	if (!unit->has_objective)
		return;
	/* The owner's own limits are the outermost bound of every share below. */
	if (declared > 0 &&
		(objective.cpu_max_millicores <= 0 || objective.cpu_max_millicores > declared))
		objective.cpu_max_millicores = declared;
	/* Of a reservation it is the node. */
	if (unit_reserves(unit) && objective.cpu_max_millicores <= 0)
		objective.cpu_max_millicores = reserve_most_millicores();
	if (declared_bytes > 0 &&
		(objective.memory_max_bytes == 0 || objective.memory_max_bytes > declared_bytes))
		objective.memory_max_bytes = declared_bytes;
	unit->has_previous = unit->has_state;
	memcpy(unit->previous_state, unit->state, sizeof(unit->state));
	state_build(&unit->history, sample, &objective, unit->state);
	unit->reward = reward_compute(
		sample, &objective, &unit->history, sample->containers, &reward_defaults);
	unit->has_state = true;
}

void sample_tick(struct agent *agent, double tick_s)
{
	for (size_t i = 0; i < agent->units.count; i++)
		unit_sample(agent, agent->units.items[i], tick_s);
}
