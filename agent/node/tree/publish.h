// SPDX-License-Identifier: Apache-2.0
/* Objectives that an operator sets in the tree, written to the API as ScaleObjectives. */
#ifndef EBBTIDE_PUBLISH_H
#define EBBTIDE_PUBLISH_H

#include "node/agent.h"

struct publisher;

int publish_open(struct agent *agent, struct publisher **publisher);
void publish_close(struct publisher *publisher);
/* A copy of the unit's objective to change; where it has none, a new one in mode observe. */
void publish_start(const struct unit *unit, struct objective *objective);
/* Patch or create the object, then apply it here at once. One thread at a time, no lock held. */
int publish_objective(struct publisher *publisher, const struct objective *objective);

#endif
