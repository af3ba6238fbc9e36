// SPDX-License-Identifier: Apache-2.0
/*
 * What decisions on limits (policy_vertical.c) and on replicas (policy_horizontal.c) share. Only
 * they and policy.c include this; everyone else, policy.h.
 */
#ifndef EBBTIDE_POLICY_SHARED_H
#define EBBTIDE_POLICY_SHARED_H

#include "learner/policy.h"

/* The objective's policy taken apart, once a change. */
const struct policy_set *policy_of_service(struct service *service);
/* What of it the policy's parts decide: those that are learnt, or the rules. */
uint32_t policy_decided_by(const struct policy_set *set, bool learnt);
/* Why what another autoscaler sets is left to it. */
void policy_explain_left(
	const struct service *service, enum autoscaler_kind kind, char *why, size_t size);
/* The learner's parameters of the rules, or those with the objective's own. */
const struct rule_configs *policy_rule_configs(
	const struct policy_context *context, struct service *service);
/* One of them; 0 when there is none of this name. */
double policy_rule_value(const struct policy_context *context, struct service *service,
	enum policy_id id, const char *parameter);

/*
 * Share of decisions that explore; none outside auto. @taught: the network's experiences of the
 * service; @index of @actors: which unit, or which service.
 */
double policy_explore_share(const struct policy_config *config, const struct service *service,
	uint64_t taught, size_t index, size_t actors);
/*
 * Whether an exploring decision follows the guide. Over the objective nothing is tried at random:
 * there the guide, which then gives, knows better than a network that has not learnt yet.
 */
bool policy_explore_guided(const struct policy_context *context, const struct sample *sample,
	const struct objective *objective);
/* One of those in @mask, all alike. */
uint32_t policy_random_action(struct random_state *random, uint64_t mask, uint32_t actions);

#endif
