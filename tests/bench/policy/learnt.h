// SPDX-License-Identifier: Apache-2.0
/* What is learnt, as a policy of the comparison. */
#ifndef EBBTIDE_BENCH_LEARNT_H
#define EBBTIDE_BENCH_LEARNT_H

#include "bench/policy/policy.h"
#include "learner/dqn/network.h"

/* The networks with the learner's own envelope, without exploration, never tuned to a row. */
struct learnt {
	struct bench_policy policy; /* the first: a setting's policy is this */
	struct network vertical;
	struct network horizontal;
};

/* From these files; NULL: those that the learner carries. Errors are printed. */
int learnt_load(struct learnt *learnt, const char *vertical, const char *horizontal);
void learnt_free(struct learnt *learnt);

#endif
