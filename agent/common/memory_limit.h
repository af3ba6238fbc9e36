// SPDX-License-Identifier: Apache-2.0
/*
 * How much room a memory limit leaves, and how far it is raised at once where it hurts: for the
 * agent, the envelope above it and the simulator.
 *
 * Pure: no clock, file or global.
 */
#ifndef EBBTIDE_MEMORY_LIMIT_H
#define EBBTIDE_MEMORY_LIMIT_H

#include <stdint.h>

/* memory.high hurts when tasks stand still for so much of so much time (PSI some). */
#define MEMORY_STALL_US	 50000
#define MEMORY_WINDOW_US 1000000

/* The least limit that leaves @needed_bytes the margin of a limit that kills. */
uint64_t memory_floor_bytes(uint64_t needed_bytes);
/* The same of one that stalls, and is raised when it does: of memory.high. */
uint64_t memory_high_floor_bytes(uint64_t needed_bytes);
/* The limit after @limit_bytes hurt with @used_bytes in use: a step up, at most @most_bytes. */
uint64_t memory_raised_bytes(uint64_t limit_bytes, uint64_t used_bytes, uint64_t most_bytes);

#endif
