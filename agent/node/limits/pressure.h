// SPDX-License-Identifier: Apache-2.0
/*
 * Memory's own reflex: a limit of ours that hurts is raised at once, up to the owner's, and the
 * learner finds it raised. On cgroup v2 the kernel tells (a PSI trigger on the container's
 * memory.pressure); where it cannot, the working set is watched at every tick.
 *
 * A thread waits for the kernel's word and takes the agent's lock; the functions below expect it to
 * be held, except pressure_open() and pressure_close().
 */
#ifndef EBBTIDE_PRESSURE_H
#define EBBTIDE_PRESSURE_H

#include "node/agent.h"

int pressure_open(struct agent *agent);
void pressure_close(struct agent *agent);

/* The container's memory limit is ours, or not any more; both do nothing when it is so already. */
void pressure_watch(struct agent *agent, struct container *container);
void pressure_unwatch(struct agent *agent, struct container *container);
/* The kernel tells when the limit hurts. */
bool pressure_is_watched(const struct container *container);
/* Once a tick, after the samples: those whose working set has come near a limit of ours. */
void pressure_tick(struct agent *agent);

#endif
