// SPDX-License-Identifier: Apache-2.0
/*
 * A report as bytes, unit by unit into one piece of memory: a thousand units' messages side by side
 * would be as large again.
 */
#ifndef EBBTIDE_REPORT_ENCODE_H
#define EBBTIDE_REPORT_ENCODE_H

#include "node/agent.h"

struct report_bytes {
	uint8_t *bytes; /* the caller frees */
	size_t size;
	uint64_t experiences; /* in it */
};

/*
 * All units that have an objective and a state; their experiences are then told. The agent's lock is
 * held. @decide: actions are asked for. -ENOMEM.
 */
int report_encode(struct agent *agent, uint64_t sequence, bool decide, struct report_bytes *report);

#endif
