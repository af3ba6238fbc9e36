// SPDX-License-Identifier: Apache-2.0
/*
 * The ladder of operating points (common/rung.h) without anyone who moves along it: one rung for the
 * whole run. What the networks choose between, and so what choosing is worth.
 */
#include "bench/policy/policy.h"

#include "common/rung.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct ladder_run {
	struct state_history history;
	uint32_t rung;
};

static int ladder_start(
	void **run, const struct bench_setting *setting, const struct objective *objective)
{
	struct ladder_run *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	if (sscanf(setting->parameters, "rung=%u", &r->rung) != 1 || r->rung >= RUNG_COUNT) {
		fprintf(stderr, "bench-policy: %s: \"%s\" is not a rung\n", setting->name,
			setting->parameters);
		free(r);
		return -EINVAL;
	}
	state_note_plan(&r->history, r->rung, price_start(objective->acceptable_violations));
	*run = r;
	return 0;
}

static void ladder_decide(void *run, double now_s, const struct sample *sample,
	const struct objective *objective, struct simulate_input *input)
{
	struct ladder_run *r = run;
	float state[STATE_SIZE];
	struct demand demand;

	(void)now_s;
	state_build(&r->history, sample, objective, state);
	demand = state_demand(state, sample);
	rung_plan(rung_limit(r->rung, &demand), objective->cpu_max_millicores,
		!input->plan.reserves, &input->plan);
}

const struct bench_policy policy_ladder = {"rung", 1, ladder_start, ladder_decide, free};
