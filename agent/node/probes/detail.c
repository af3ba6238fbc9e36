// SPDX-License-Identifier: Apache-2.0
#include "node/probes/detail.h"

#include "node/trace/trace.h"

/* Slower than any request, so that errors are told of and heads are kept, and nothing is slow. */
#define NEVER_SLOW_NS	  (1ULL << 62)
#define EXEMPLARS_ALL	  ((1ULL << (1 + HIST_OCTAVES)) - 1)
#define AGE_SHIFT_LEAST	  17
#define TARGET_IN_BUCKETS 32
/* Each level leaves one in 2^3 of the one before. */
#define LEVEL_SHIFT 3

const char *detail_level_name(enum detail_level level)
{
	static const char *const names[] = {"full", "eighth", "sixty-fourth", "aggregates"};

	return names[level];
}

uint64_t detail_mask(
	double requests_per_s, const struct trace_choice *wanted, enum detail_level level)
{
	double most = wanted->slower_us || wanted->one_in || wanted->errors
			      ? DETAIL_READ_REQUESTS_PER_S
			      : DETAIL_REQUESTS_PER_S;
	unsigned int shift = LEVEL_SHIFT * level;

	if (level == DETAIL_AGGREGATES)
		return UINT64_MAX;
	for (; requests_per_s > most && shift < 32; requests_per_s /= 2)
		shift++;
	return (1ULL << shift) - 1;
}

uint64_t detail_trace_mask(const struct trace_choice *wanted, enum detail_level level)
{
	uint64_t mask = 1;

	/* Of one in one the threshold takes care. */
	if (level == DETAIL_AGGREGATES || wanted->one_in < 2)
		return 0;
	while (mask < wanted->one_in)
		mask *= 2;
	return mask - 1;
}

uint64_t detail_trace_threshold_ns(const struct trace_choice *wanted, enum detail_level level)
{
	if (level == DETAIL_AGGREGATES)
		return 0;
	if (wanted->one_in == 1)
		return 1;
	if (wanted->slower_us)
		return wanted->slower_us * 1000;
	return wanted->one_in || wanted->errors ? NEVER_SLOW_NS : 0;
}

uint32_t detail_age_shift(double latency_target_us)
{
	uint64_t width_ns = (uint64_t)(latency_target_us * 1000 / TARGET_IN_BUCKETS);
	uint32_t shift = AGE_SHIFT_LEAST;

	if (latency_target_us <= 0)
		return AGE_SHIFT_DEFAULT;
	while (2ULL << shift <= width_ns)
		shift++;
	return shift;
}

void detail_apply(struct agent *agent, const struct unit *unit)
{
	double target_us = unit->has_objective ? unit->objective.latency_target_us : 0;
	struct trace_choice wanted = trace_wanted(agent->trace, unit);
	uint64_t trigger_ns = (uint64_t)(allowance_trigger_us(agent, unit) * 1000);
	enum detail_level level = agent->detail_level;

	for (size_t i = 0; i < unit->container_count; i++) {
		const struct container *container = unit->containers[i];
		struct slot *slot = probes_slot(agent->probes, container->attachment.slot);

		slot->objective_ns = (uint64_t)(target_us * 1000);
		slot->detail_mask = detail_mask(container->requests_per_s, &wanted, level);
		slot->trace_mask = detail_trace_mask(&wanted, level);
		slot->trace_threshold_ns = detail_trace_threshold_ns(&wanted, level);
		/* A refill is told of; so is the request that it was for. */
		if (slot->trace_threshold_ns && trigger_ns > 0 &&
			trigger_ns < slot->trace_threshold_ns)
			slot->trace_threshold_ns = trigger_ns;
		/* Requests in flight keep their bucket: until they end, ages may be wrong. */
		slot->age_shift = detail_age_shift(target_us);
	}
}

void detail_tick(struct agent *agent)
{
	uint64_t due = agent->detail_level == DETAIL_AGGREGATES ? 0 : EXEMPLARS_ALL;

	for (size_t i = 0; i < agent->units.count; i++) {
		const struct unit *unit = agent->units.items[i];

		detail_apply(agent, unit);
		for (size_t k = 0; k < unit->container_count; k++)
			probes_slot(agent->probes, unit->containers[k]->attachment.slot)
				->exemplars_due = due;
	}
}
