// SPDX-License-Identifier: Apache-2.0
#include "learner/advice.h"

#include "common/rung.h"

#include <math.h>
#include <string.h>

void advice_forget(struct service_unit *unit)
{
	memset(&unit->advice, 0, sizeof(unit->advice));
}

static void begin(struct advice *advice, const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;

	*advice = (struct advice){.begun = true, .place = {.cpu_rung = bounds->cpu_rung}};
	advice->plan.cpu_millicores = sample_cpu_millicores(sample);
	advice->plan.memory_bytes = sample->memory_limit_bytes;
}

/* What is in force is too little: less is no advice, whatever was thought of it. */
static void raise_to_force(struct advice *advice, const struct envelope_unit *bounds)
{
	const struct sample *sample = bounds->sample;

	advice->plan.cpu_millicores =
		fmax(advice->plan.cpu_millicores, sample_cpu_millicores(sample));
	if (advice->plan.memory_bytes < sample->memory_limit_bytes)
		advice->plan.memory_bytes = sample->memory_limit_bytes;
	if (advice->place.cpu_rung < bounds->cpu_rung)
		advice->place.cpu_rung = bounds->cpu_rung;
}

static struct sample as_if(const struct advice *advice, const struct sample *sample)
{
	struct sample moved = *sample;

	if (sample_reserves(sample))
		moved.cpu_reserved_millicores = advice->plan.cpu_millicores;
	else
		moved.cpu_limit_millicores = advice->plan.cpu_millicores;
	moved.memory_limit_bytes = advice->plan.memory_bytes;
	return moved;
}

static void note(struct state_place *place, uint32_t action)
{
	place->since_action++;
	if (action == ACTION_VERTICAL_HOLD)
		return;
	place->last_cpu = action_cpu_direction(action);
	place->last_memory = action_memory_direction(action);
	place->since_action = 0;
}

const struct plan *advice_move(const struct policy_context *context, struct service_unit *unit,
	const struct envelope_unit *bounds)
{
	struct objective objective = *bounds->objective;
	struct advice *advice = &unit->advice;
	struct envelope_unit moved = *bounds;
	float state[STATE_SIZE], q[ACTION_VERTICAL];
	struct sample sample;
	int best;

	if (objective.frozen || !policy_learns(objective.policy)) {
		advice_forget(unit);
		return NULL;
	}
	if (!advice->begun)
		begin(advice, bounds);
	/* What a start takes is no demand. */
	if (bounds->starting > 0)
		return &advice->plan;
	if (policy_broke_for_want(bounds))
		raise_to_force(advice, bounds);
	sample = as_if(advice, bounds->sample);
	moved.sample = &sample;
	moved.cpu_rung = advice->place.cpu_rung;
	moved.reflex = false;
	objective.cpu_max_millicores = envelope_cpu_max(bounds);
	objective.memory_max_bytes = envelope_memory_max(bounds);
	memcpy(state, unit->state, sizeof(state));
	state_move(state, bounds->sample, &sample, &objective, &advice->place);
	if (brain_evaluate(context->vertical, state, 1, q))
		return NULL;
	best = network_best_action(q, ACTION_VERTICAL, envelope_vertical_mask(&moved, NULL));
	best = best < 0 ? ACTION_VERTICAL_HOLD : best;
	envelope_vertical_plan(&moved, (uint32_t)best, &advice->plan);
	advice->place.cpu_rung = advice->plan.cpu_rung;
	note(&advice->place, (uint32_t)best);
	return &advice->plan;
}
