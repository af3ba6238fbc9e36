// SPDX-License-Identifier: Apache-2.0
/*
 * Limits that an earlier agent left on containers that this one has not: their pods went, or moved, or
 * there was no slot for them, while no agent was here.
 */
#ifndef EBBTIDE_LEFTOVER_H
#define EBBTIDE_LEFTOVER_H

struct agent;

/*
 * Once all containers that the API tells of are known, or when it will not tell any more: of all others
 * on disk the owners' limits are written back, and forgotten. How many were. The lock is held.
 */
unsigned int leftover_settle(struct agent *agent);

#endif
