// SPDX-License-Identifier: Apache-2.0
#include "learner/rules.h"

#include <math.h>

const struct rules_k8s_cpu rules_k8s_cpu_default = {.period_s = 15, .window_s = 300, .target = 0.5};
const struct rules_k8s_cpu rules_k8s_cpu_fast = {.period_s = 1, .window_s = 20, .target = 0.5};
const struct rules_hpa rules_hpa_default = {
	.period_s = 15, .target = 0.5, .tolerance = 0.1, .stabilisation_s = 300};

void rules_window_add(struct rules_window *window, double now_s, double value)
{
	window->time_s[window->next] = now_s;
	window->value[window->next] = value;
	window->next = (window->next + 1) % RULES_WINDOW_MAX;
	if (window->count < RULES_WINDOW_MAX)
		window->count++;
}

double rules_window_max(const struct rules_window *window, double now_s, double span_s)
{
	double most = 0;

	for (uint32_t i = 0; i < window->count; i++)
		if (now_s - window->time_s[i] <= span_s && window->value[i] > most)
			most = window->value[i];
	return most;
}

bool rules_k8s_cpu_decide(const struct rules_k8s_cpu *rule, struct rules_k8s_cpu_state *state,
	double now_s, double used_millicores, double *limit_millicores)
{
	rules_window_add(&state->usage, now_s, used_millicores);
	if (state->decided && now_s - state->decided_s < rule->period_s)
		return false;
	state->decided = true;
	state->decided_s = now_s;
	*limit_millicores = rules_window_max(&state->usage, now_s, rule->window_s) / rule->target;
	return true;
}

bool rules_hpa_decide(const struct rules_hpa *rule, struct rules_hpa_state *state, double now_s,
	uint32_t replicas, double utilisation, uint32_t *desired)
{
	double ratio = utilisation / rule->target;
	double wanted = replicas, stable;

	if (state->decided && now_s - state->decided_s < rule->period_s)
		return false;
	state->decided = true;
	state->decided_s = now_s;
	if (fabs(ratio - 1) > rule->tolerance)
		wanted = ceil((double)replicas * ratio);
	if (wanted < 1)
		wanted = 1;
	/* A tick of no length makes any use infinite. */
	if (wanted > INT32_MAX)
		wanted = INT32_MAX;
	rules_window_add(&state->desired, now_s, wanted);
	stable = rules_window_max(&state->desired, now_s, rule->stabilisation_s);
	*desired = (uint32_t)(wanted < replicas && stable > wanted
				      ? (stable < replicas ? stable : replicas)
				      : wanted);
	return true;
}
