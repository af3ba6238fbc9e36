// SPDX-License-Identifier: Apache-2.0
#include "common/memory_limit.h"

/* Until the next look a service may take so much more. */
#define MARGIN_SHARE 0.1
#define MARGIN_BYTES (4U << 20)
/* What allocations in flight need not to stall at once. */
#define HIGH_MARGIN_SHARE 0.02
#define HIGH_MARGIN_BYTES (1U << 20)
/* The learner's own step up. */
#define STEP 1.25

uint64_t memory_floor_bytes(uint64_t needed_bytes)
{
	return needed_bytes + (uint64_t)(MARGIN_SHARE * (double)needed_bytes) + MARGIN_BYTES;
}

uint64_t memory_high_floor_bytes(uint64_t needed_bytes)
{
	return needed_bytes + (uint64_t)(HIGH_MARGIN_SHARE * (double)needed_bytes) +
	       HIGH_MARGIN_BYTES;
}

uint64_t memory_raised_bytes(uint64_t limit_bytes, uint64_t used_bytes, uint64_t most_bytes)
{
	uint64_t raised_bytes = (uint64_t)((double)limit_bytes * STEP);
	uint64_t floor_bytes = memory_floor_bytes(used_bytes);

	if (raised_bytes < floor_bytes)
		raised_bytes = floor_bytes;
	return raised_bytes < most_bytes ? raised_bytes : most_bytes;
}
