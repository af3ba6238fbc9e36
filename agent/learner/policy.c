// SPDX-License-Identifier: Apache-2.0
/* What both kinds of decisions share: whose policy it is, its rules, and how it explores. */
#include "learner/policy_shared.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void policy_config_init(struct policy_config *config)
{
	*config = (struct policy_config){
		.explore_schedule = EXPLORE_DECAY,
		.explore_apex_base = 0.4,
		.explore_apex_alpha = 7,
		.explore_start = 0.9,
		.explore_end = 0.02,
		.explore_decisions = 120,
		.explore_guided = 0.95,
		.cooldown_s = 30,
		.revert_ticks = 3,
	};
	rule_configs_init(&config->rules);
}

const struct rule_configs *policy_rule_configs(
	const struct policy_context *context, struct service *service)
{
	const char *wanted = service->objective.rule_parameters;

	if (!wanted[0])
		return &context->config->rules;
	if (strcmp(service->rule_parameters, wanted) != 0) {
		snprintf(service->rule_parameters, sizeof(service->rule_parameters), "%s", wanted);
		service->rule_configs = context->config->rules;
		/* An objective that was taken over has been checked. */
		(void)rule_configs_set(&service->rule_configs, wanted, NULL, 0);
	}
	return &service->rule_configs;
}

uint32_t policy_decided_by(const struct policy_set *set, bool learnt)
{
	uint32_t decides = 0;

	for (uint32_t i = 0; i < set->count; i++)
		if (learnt == !rule_of(set->parts[i]))
			decides |= policy_infos[set->parts[i]].decides;
	return decides;
}

bool policy_learns(const char *name)
{
	struct policy_set set;

	return policy_parse(name, &set, NULL, 0) == 0 && policy_decided_by(&set, true) != 0;
}

/* The same policy with rules for what its network decides. Parts stay in the table's order. */
static void fallback_make(struct policy_set *fallback, const struct policy_set *set)
{
	static const enum policy_id rules[] = {POLICY_k8s_cpu, POLICY_hpa};
	enum policy_id id;

	memset(fallback, 0, sizeof(*fallback));
	if (!policy_decided_by(set, true))
		return;
	for (id = 0; id < POLICY_COUNT; id++) {
		bool in = false;

		for (uint32_t i = 0; i < set->count; i++)
			in = in || set->parts[i] == id;
		in = in && id != POLICY_dqn;
		for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
			in = in || id == rules[i];
		if (!in)
			continue;
		fallback->parts[fallback->count++] = id;
		fallback->decides |= policy_infos[id].decides;
	}
}

const struct policy_set *policy_of_service(struct service *service)
{
	if (strcmp(service->policy_name, service->objective.policy) != 0) {
		snprintf(service->policy_name, sizeof(service->policy_name), "%s",
			service->objective.policy);
		if (policy_parse(service->policy_name, &service->policy, NULL, 0))
			service->policy.count = service->policy.decides = 0;
		fallback_make(&service->fallback, &service->policy);
	}
	return &service->policy;
}

bool policy_learns_replicas(struct service *service)
{
	return policy_decided_by(policy_of_service(service), true) & DECIDES_REPLICAS;
}

bool policy_contested(struct service *service, enum autoscaler_kind kind)
{
	static const uint32_t sets[AUTOSCALER_KINDS] = {
		[AUTOSCALER_HORIZONTAL] = DECIDES_REPLICAS,
		[AUTOSCALER_VERTICAL] = DECIDES_CPU | DECIDES_MEMORY,
	};

	return service->has_objective && service->others[kind][0] &&
	       policy_of_service(service)->decides & sets[kind];
}

bool policy_leaves(struct service *service, enum autoscaler_kind kind)
{
	return service->objective.mode == OBJECTIVE_AUTO && !service->objective.frozen &&
	       policy_contested(service, kind);
}

void policy_explain_left(
	const struct service *service, enum autoscaler_kind kind, char *why, size_t size)
{
	snprintf(why, size, "%s %.80s sets the %s: they are left to it",
		autoscaler_infos[kind].kind, service->others[kind], autoscaler_infos[kind].sets);
}

bool policy_lacks_replicas(struct service *service)
{
	return policy_learns_replicas(service) && !service->objective.frozen &&
	       !policy_leaves(service, AUTOSCALER_HORIZONTAL) &&
	       service->replicas < service->objective.replicas_max &&
	       service->replicas < room_replicas(service);
}

double policy_explore_share(const struct policy_config *config, const struct service *service,
	uint64_t taught, size_t index, size_t actors)
{
	if (service->objective.mode != OBJECTIVE_AUTO)
		return 0;
	if (config->explore_schedule == EXPLORE_APEX)
		return epsilon_apex((uint32_t)index, (uint32_t)actors, config->explore_apex_base,
			config->explore_apex_alpha);
	return config->explore_end + (config->explore_start - config->explore_end) *
					     exp(-(double)taught / config->explore_decisions);
}

bool policy_explore_guided(const struct policy_context *context, const struct sample *sample,
	const struct objective *objective)
{
	return sample_violates(sample, objective) ||
	       random_uniform(context->random) < context->config->explore_guided;
}

uint32_t policy_random_action(struct random_state *random, uint64_t mask, uint32_t actions)
{
	uint32_t nth = random_below(random, (uint32_t)__builtin_popcountll(mask));

	for (uint32_t action = 0; action < actions; action++)
		if (mask >> action & 1 && nth-- == 0)
			return action;
	return 0;
}

double policy_rule_value(const struct policy_context *context, struct service *service,
	enum policy_id id, const char *parameter)
{
	int index = rule_parameter_index(id, parameter);

	return index < 0 ? 0 : policy_rule_configs(context, service)->of[id].values[index];
}
