// SPDX-License-Identifier: Apache-2.0
/*
 * Answer of agent/common/wire.proto, written straight into its bytes. The .proto stays the
 * contract; a unit test reads what comes out with protobuf-c.
 *
 * Begin, add the actions, end; the first failure to get memory is kept and comes out at the end.
 */
#ifndef EBBTIDE_ANSWER_ENCODE_H
#define EBBTIDE_ANSWER_ENCODE_H

#include "common/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct answer {
	uint8_t *bytes; /* malloc()ed */
	size_t used;
	size_t size;
	size_t actions;
	int err;
};

/* What the reflex may do until the next action. */
struct answer_allowance {
	float trigger_age_share;
	uint32_t refills_per_period;
	double ceiling_millicores;
	uint64_t burst_us;
};

/* What an Action says; strings may be NULL for empty, @q for none. */
struct answer_action {
	const char *namespace;
	const char *service;
	uint32_t action;
	bool apply;
	double cpu_limit_millicores;
	uint64_t memory_limit_bytes;
	const char *policy;
	const char *rule;
	const char *why;
	const float *q;
	size_t q_count;
	const struct answer_allowance *allowance; /* NULL: none */
	uint64_t number;			  /* of a push; 0: the answer's */
	uint32_t cpu_rung;
	double violation_price; /* 0: as before */
	double cpu_request_millicores;
	bool release;
};

/* Where a plan's CPU goes: limit or request, never both. */
void answer_set_cpu(struct answer_action *action, const struct plan *plan);

/* Room for @actions of ordinary length; more grows. */
void answer_begin(struct answer *answer, uint64_t sequence, size_t actions);
/* The answer's own number, and whose it is. */
void answer_number(struct answer *answer, uint64_t number, uint64_t learner);
void answer_add(struct answer *answer, const struct answer_action *action);
/* 0, with the bytes the caller's; or -ENOMEM, with nothing to free. */
int answer_end(struct answer *answer, uint8_t **bytes, size_t *size);

#endif
