// SPDX-License-Identifier: Apache-2.0
/*
 * All objectives that the API has, by namespace and name, and which one holds for a service. Several
 * may name one Deployment: the first by name holds then, for the agent and the learner alike.
 *
 * Pure: no clock, file or global. Zero-initialise.
 */
#ifndef EBBTIDE_OBJECTIVES_H
#define EBBTIDE_OBJECTIVES_H

#include "common/objective.h"

struct objectives {
	struct objective *items; /* owned */
	size_t count;
};

void objectives_free(struct objectives *objectives);
/*
 * Takes over what @objective says. @before gets what it said until now; its service is empty for one
 * that is new. -ESTALE: older than what is known, which stays; -ENOMEM.
 */
int objectives_put(
	struct objectives *objectives, const struct objective *objective, struct objective *before);
/* Whether it was there; @before gets what it said last. */
bool objectives_remove(struct objectives *objectives, const char *namespace, const char *name,
	struct objective *before);
/* The one that holds for a service, or NULL. Valid until the next change. */
const struct objective *objectives_of(
	const struct objectives *objectives, const char *namespace, const char *service);

#endif
