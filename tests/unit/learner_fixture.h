/* SPDX-License-Identifier: Apache-2.0 */
/* A learner with small brains that never explores, without threads, for tests of what it decides. */
#ifndef EBBTIDE_LEARNER_FIXTURE_H
#define EBBTIDE_LEARNER_FIXTURE_H

#include "learner/learner.h"
#include "unit/brain_fixture.h"

/* @learner is zeroed. */
static inline void learner_make(struct learner *learner)
{
	pthread_mutex_init(&learner->lock, NULL);
	push_init(&learner->push, 17);
	policy_config_init(&learner->config.policy);
	learner->config.policy.explore_start = learner->config.policy.explore_end = 0;
	learner->config.scale_period_s = 10;
	learner->vertical = brain("vertical", ACTION_VERTICAL);
	learner->horizontal = brain("horizontal", ACTION_HORIZONTAL);
	random_seed(&learner->random, 1);
}

static inline void learner_unmake(struct learner *learner)
{
	services_free(&learner->services);
	objectives_free(&learner->objectives);
	autoscalers_free(&learner->autoscalers);
	push_free(&learner->push);
	brain_close(learner->vertical);
	brain_close(learner->horizontal);
}

#endif
