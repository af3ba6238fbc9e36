// SPDX-License-Identifier: Apache-2.0
#include "learner/envelope.h"

#include "common/memory_limit.h"
#include "common/rung.h"

#include <math.h>

bool envelope_reserves(const struct envelope_unit *unit)
{
	return unit->cpu_declared_millicores <= 0 && sample_reserves(unit->sample);
}

/* Of a tick; less is the end of a period here and there. */
#define UNWATCHED_SHARE 0.01

bool envelope_unwatched(const struct envelope_unit *unit)
{
	const struct sample *sample = unit->sample;

	return sample->requests + sample->requests_failed == 0 && sample->refills == 0 &&
	       (double)sample->throttled_us >
		       UNWATCHED_SHARE * sample->tick_s * 1e6 * fmax(1, sample->containers);
}

uint32_t envelope_lowest_rung(const struct envelope_unit *unit)
{
	if (envelope_reserves(unit))
		return 0;
	/* The reflex comes for requests: work that is for none has to live on the limit. */
	return unit->reflex && !envelope_unwatched(unit) ? 0 : RUNG_ALONE;
}

/* The lowest rung for what the operator accepts of violations. */
static uint32_t violations_rung(const struct envelope_unit *unit)
{
	return price_rung(unit->violation_price, envelope_reserves(unit));
}

/* And of throttling. */
static uint32_t asked_rung(const struct envelope_unit *unit)
{
	uint32_t violations = violations_rung(unit);

	return violations > unit->throttling_rung ? violations : unit->throttling_rung;
}

/* Whether CPU is there to be decided on. */
static bool cpu_moves(const struct envelope_unit *unit)
{
	return (unit->cpu_declared_millicores > 0 || envelope_reserves(unit)) &&
	       sample_cpu_millicores(unit->sample) > 0;
}

double envelope_cpu_max(const struct envelope_unit *unit)
{
	double declared = unit->cpu_declared_millicores;
	double asked = unit->objective->cpu_max_millicores;

	if (asked <= 0)
		return declared;
	return declared > 0 && declared < asked ? declared : asked;
}

uint64_t envelope_memory_max(const struct envelope_unit *unit)
{
	uint64_t declared = unit->memory_declared_bytes;
	uint64_t asked = unit->objective->memory_max_bytes;

	if (asked == 0)
		return declared;
	return declared > 0 && declared < asked ? declared : asked;
}

uint64_t sample_memory_needed_bytes(const struct sample *sample)
{
	uint64_t cold = sample->memory_used_bytes > sample->memory_working_set_bytes
				? sample->memory_used_bytes - sample->memory_working_set_bytes
				: 0;
	uint64_t peak = sample->memory_peak_bytes > cold ? sample->memory_peak_bytes - cold : 0;

	if (peak < sample->memory_working_set_bytes)
		peak = sample->memory_working_set_bytes;
	return sample->containers ? peak / sample->containers : peak;
}

/* Tasks that stand still for so much of a tick lack what was taken from them. */
#define HURTS_SHARE 0.01

bool sample_memory_hurts(const struct sample *sample)
{
	return (double)sample->memory_pressure_us >
	       HURTS_SHARE * sample->tick_s * 1e6 * fmax(1, sample->containers);
}

uint64_t envelope_memory_floor(const struct envelope_unit *unit)
{
	uint64_t needed = sample_memory_needed_bytes(unit->sample), floor;

	if (needed < unit->memory_needed_bytes)
		needed = unit->memory_needed_bytes;
	floor = memory_floor_bytes(needed);
	if (unit->memory_high) {
		floor = memory_high_floor_bytes(needed);
		/* Where it hurts already nothing more is given back. */
		if (sample_memory_hurts(unit->sample) && floor < unit->sample->memory_limit_bytes)
			floor = unit->sample->memory_limit_bytes;
	}
	return floor > unit->objective->memory_min_bytes ? floor
							 : unit->objective->memory_min_bytes;
}

bool envelope_starts(const struct envelope_unit *unit)
{
	return unit->starting > 0 && unit->starting >= unit->sample->containers;
}

enum envelope_rule envelope_keep_starting(const struct envelope_unit *unit, struct plan *plan)
{
	double least = objective_startup_millicores(unit->objective, unit->cpu_declared_millicores);

	if (!envelope_starts(unit) || plan->cpu_millicores >= least)
		return RULE_NONE;
	plan->cpu_millicores = least;
	return RULE_STARTING;
}

static enum envelope_rule forbid_cpu(const struct envelope_unit *unit, int direction)
{
	double limit = sample_cpu_millicores(unit->sample), most = envelope_cpu_max(unit);
	uint32_t lowest = envelope_lowest_rung(unit);

	if (direction == 0)
		return RULE_NONE;
	if (!cpu_moves(unit))
		return RULE_UNLIMITED;
	if (direction < 0) {
		if (envelope_starts(unit))
			return RULE_STARTING;
		if (sample_violates(unit->sample, unit->objective))
			return RULE_OVER_OBJECTIVE;
		if (lowest > 0 && unit->cpu_rung <= lowest)
			return RULE_NO_REFLEX;
		if (unit->cpu_rung > 0 && unit->cpu_rung <= violations_rung(unit))
			return RULE_VIOLATIONS_ASKED;
		if (unit->cpu_rung > 0 && unit->cpu_rung <= unit->throttling_rung)
			return RULE_THROTTLING_ASKED;
		return unit->cpu_rung == 0 || limit <= unit->objective->cpu_min_millicores * 1.001
			       ? RULE_BOUNDS
			       : RULE_NONE;
	}
	return unit->cpu_rung + 1 >= RUNG_COUNT || (most > 0 && limit >= most * 0.999) ? RULE_BOUNDS
										       : RULE_NONE;
}

/* A smaller step is none. */
#define MEMORY_STEP_LEAST 1.01

static enum envelope_rule forbid_memory(const struct envelope_unit *unit, int direction)
{
	uint64_t limit = unit->sample->memory_limit_bytes;

	if (direction == 0)
		return RULE_NONE;
	if (unit->memory_declared_bytes == 0 || limit == 0)
		return RULE_UNLIMITED;
	if (direction < 0) {
		if (sample_violates(unit->sample, unit->objective))
			return RULE_OVER_OBJECTIVE;
		/* A step that would go under it ends there. */
		if ((double)limit < MEMORY_STEP_LEAST * (double)envelope_memory_floor(unit))
			return RULE_MEMORY_FLOOR;
		return limit <= unit->objective->memory_min_bytes ? RULE_BOUNDS : RULE_NONE;
	}
	return limit >= envelope_memory_max(unit) ? RULE_BOUNDS : RULE_NONE;
}

uint64_t envelope_vertical_mask(
	const struct envelope_unit *unit, enum envelope_rule rules[ACTION_VERTICAL])
{
	uint64_t mask = 0;

	for (uint32_t action = 0; action < ACTION_VERTICAL; action++) {
		enum envelope_rule rule = RULE_NONE;

		if (unit->objective->frozen && action != ACTION_VERTICAL_HOLD)
			rule = RULE_FROZEN;
		if (!rule)
			rule = forbid_cpu(unit, action_cpu_direction(action));
		if (!rule)
			rule = forbid_memory(unit, action_memory_direction(action));
		if (!rule)
			mask |= 1ULL << action;
		if (rules)
			rules[action] = rule;
	}
	return mask;
}

/* A limit follows falling demand by no more than this in a tick, and not while it is violated. */
#define FOLLOW_DOWN_LEAST 0.7
/* On one rung a limit follows the demand in steps, not with each tick's chance. */
#define LIMIT_CHANGE_LEAST 0.05

/*
 * The ladder ends at a multiple of the demand, which is a mean: a service that is asked once in ten seconds
 * has next to none, and takes all that it may for each request. The reflex gives it that. Without one
 * the price of violations does, in the end up to the bound.
 */
static double limit_alone(const struct envelope_unit *unit, double limit)
{
	const double most = envelope_cpu_max(unit), share = price_share(unit->violation_price);
	const double least = fmax(limit, unit->objective->cpu_min_millicores);

	if (unit->reflex || envelope_reserves(unit) || most <= least)
		return limit;
	return share > 0 ? least * pow(most / least, share) : limit;
}

void envelope_vertical_plan(const struct envelope_unit *unit, uint32_t action, struct plan *plan)
{
	const struct sample *sample = unit->sample;
	int cpu = action_cpu_direction(action), memory = action_memory_direction(action);
	double limit = sample_cpu_millicores(sample), memory_scaled, least, wanted;
	/* Below the lowest there is none. */
	uint32_t rung = cpu < 0 && unit->cpu_rung == 0 ? 0 : unit->cpu_rung + (uint32_t)cpu;

	if (rung < asked_rung(unit))
		rung = asked_rung(unit);
	if (rung < envelope_lowest_rung(unit))
		rung = envelope_lowest_rung(unit);
	if (rung >= RUNG_COUNT)
		rung = RUNG_COUNT - 1;
	plan->cpu_rung = rung;
	plan->reserves = envelope_reserves(unit);
	if (cpu_moves(unit)) {
		least = sample_violates(sample, unit->objective) ? 1 : FOLLOW_DOWN_LEAST;
		wanted = limit_alone(unit, rung_limit(rung, &unit->demand));
		wanted = fmax(wanted, least * limit);
		/* A write costs more than so little is worth, and refills the period. */
		if (rung == unit->cpu_rung && fabs(wanted - limit) < LIMIT_CHANGE_LEAST * limit)
			wanted = limit;
		rung_plan(wanted, envelope_cpu_max(unit), unit->reflex && !plan->reserves, plan);
		/* There is no quota to carry over. */
		if (plan->reserves)
			plan->burst_us = 0;
	} else {
		plan->cpu_millicores = limit;
	}
	/* A limit that no machine has must not leave the range of the type. */
	memory_scaled = (double)sample->memory_limit_bytes * action_memory_factor[memory + 1];
	plan->memory_bytes = memory_scaled < 0x1p63 ? (uint64_t)memory_scaled : INT64_MAX;
	(void)envelope_clamp(unit, &plan->cpu_millicores, &plan->memory_bytes);
}

enum envelope_rule envelope_clamp(
	const struct envelope_unit *unit, double *cpu_millicores, uint64_t *memory_bytes)
{
	double cpu_max = envelope_cpu_max(unit);
	uint64_t memory_max = envelope_memory_max(unit);
	uint64_t floor = envelope_memory_floor(unit);
	enum envelope_rule rule = RULE_NONE;

	if (*cpu_millicores < unit->objective->cpu_min_millicores) {
		*cpu_millicores = unit->objective->cpu_min_millicores;
		rule = RULE_BOUNDS;
	}
	if (cpu_max > 0 && *cpu_millicores > cpu_max) {
		*cpu_millicores = cpu_max;
		rule = RULE_BOUNDS;
	}
	if (*memory_bytes < floor) {
		*memory_bytes = floor;
		if (!rule)
			rule = RULE_MEMORY_FLOOR;
	}
	if (memory_max > 0 && *memory_bytes > memory_max)
		*memory_bytes = memory_max;
	return rule;
}

enum envelope_rule envelope_clamp_allowance(const struct envelope_unit *unit, struct plan *plan)
{
	const double most = envelope_cpu_max(unit);
	const double quota_us = plan->cpu_millicores / 1000 * PLAN_PERIOD_US;
	struct allowance *allowance = &plan->allowance;
	enum envelope_rule rule = RULE_NONE;

	if (unit->cpu_declared_millicores <= 0 || plan->cpu_millicores <= 0) {
		if (allowance->trigger_age_share > 0 || plan->burst_us > 0)
			rule = RULE_UNLIMITED;
		*allowance = (struct allowance){.trigger_age_share = 0};
		plan->burst_us = 0;
		return rule;
	}
	if (allowance->ceiling_millicores > most) {
		allowance->ceiling_millicores = most;
		rule = RULE_BOUNDS;
	}
	if ((double)plan->burst_us > quota_us) {
		plan->burst_us = (uint64_t)quota_us;
		rule = RULE_BOUNDS;
	}
	return rule;
}

static enum envelope_rule forbid_replicas(const struct envelope_service *service, int direction)
{
	const struct objective *objective = service->objective;

	if (direction == 0)
		return RULE_NONE;
	if (objective->frozen)
		return RULE_FROZEN;
	if (direction > 0)
		return service->replicas >= objective->replicas_max ? RULE_BOUNDS : RULE_NONE;
	if (service->replicas <= objective->replicas_min)
		return RULE_BOUNDS;
	if (service->replicas <= service->replicas_needed)
		return RULE_REPLICA_ROOM;
	if (sample_violates(service->sample, objective))
		return RULE_OVER_OBJECTIVE;
	return service->since_scale_in_s < service->cooldown_s ? RULE_COOLDOWN : RULE_NONE;
}

uint64_t envelope_horizontal_mask(
	const struct envelope_service *service, enum envelope_rule rules[ACTION_HORIZONTAL])
{
	uint64_t mask = 0;

	for (int action = 0; action < ACTION_HORIZONTAL; action++) {
		int direction = action - ACTION_HORIZONTAL_HOLD;
		enum envelope_rule rule = forbid_replicas(service, direction);

		if (!rule && direction == 0 && service->replicas < service->replicas_needed &&
			!forbid_replicas(service, 1))
			rule = RULE_REPLICA_ROOM;

		if (!rule)
			mask |= 1ULL << action;
		if (rules)
			rules[action] = rule;
	}
	return mask;
}

/* From so many on one replica more is little: what takes long to begin would take for ever to scale. */
#define REPLICAS_MANY 10

uint32_t envelope_horizontal_replicas(const struct envelope_service *service, uint32_t action)
{
	const struct objective *objective = service->objective;
	const uint32_t replicas = service->replicas, needed = service->replicas_needed;
	const bool many = replicas >= REPLICAS_MANY;
	uint32_t step = many ? replicas / REPLICAS_MANY : 1, least, room;

	if (action > ACTION_HORIZONTAL_HOLD) {
		if (many && needed > replicas + step)
			step = needed - replicas < replicas / 2 ? needed - replicas : replicas / 2;
		room = objective->replicas_max > replicas ? objective->replicas_max - replicas : 0;
		return replicas + (step < room ? step : room);
	}
	if (action == ACTION_HORIZONTAL_HOLD)
		return replicas;
	least = objective->replicas_min > needed ? objective->replicas_min : needed;
	room = replicas > least ? replicas - least : 0;
	return replicas - (step < room ? step : room);
}

enum envelope_rule envelope_clamp_replicas(
	const struct envelope_service *service, uint32_t *replicas)
{
	int direction = (*replicas > service->replicas) - (*replicas < service->replicas);
	enum envelope_rule rule = forbid_replicas(service, direction);

	if (rule && rule != RULE_BOUNDS) {
		*replicas = service->replicas;
		return rule;
	}
	if (*replicas > service->objective->replicas_max) {
		*replicas = service->objective->replicas_max;
		return RULE_BOUNDS;
	}
	if (*replicas < service->objective->replicas_min) {
		*replicas = service->objective->replicas_min;
		return RULE_BOUNDS;
	}
	return RULE_NONE;
}
