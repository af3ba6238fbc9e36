/* SPDX-License-Identifier: Apache-2.0 */
/* A brain with a small replay buffer and the defaults of training, for tests of what is around it. */
#ifndef EBBTIDE_BRAIN_FIXTURE_H
#define EBBTIDE_BRAIN_FIXTURE_H

#include "common/state.h"
#include "learner/brain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static inline struct brain *brain(const char *name, uint32_t actions)
{
	struct brain_options options = {.name = name,
		.inputs = STATE_SIZE,
		.actions = actions,
		.capacity = 64,
		.replay_ratio = 1,
		.updates_per_s_max = 100};
	struct brain *made = NULL;

	train_config_init(&options.train);
	assert_int_equal(brain_open(&made, &options), 0);
	return made;
}

#endif
