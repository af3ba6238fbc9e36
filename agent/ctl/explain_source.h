// SPDX-License-Identifier: Apache-2.0
/*
 * Where `ebbctl explain` has decisions from: a learner that runs, or the file that it wrote. Both
 * give the object of GET /v1/decisions (docs/learner.md, 'Decisions').
 */
#ifndef EBBTIDE_CTL_EXPLAIN_SOURCE_H
#define EBBTIDE_CTL_EXPLAIN_SOURCE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* As many as a learner gives at once. */
#define EXPLAIN_COUNT_MAX 512

struct explain_question {
	const char *service; /* NAME or NAMESPACE/NAME */
	const char *unit;    /* node; NULL: the one that was decided on last */
	uint64_t at_us;	     /* Unix; UINT64_MAX: now */
	unsigned long count; /* of limits, and of replicas */
};

/*
 * The caller decrefs @answer. -ENOENT: there is nothing like it, -EINVAL, -ECONNREFUSED: no answer,
 * -errno; @error then says what and what to do.
 */
int explain_ask(const char *url, const struct explain_question *question, json_t **answer,
	char *error, size_t error_size);
/* "-": standard input. */
int explain_read(const char *path, const struct explain_question *question, json_t **answer,
	char *error, size_t error_size);

/*
 * Of an answer, the decisions that are not after @at_us, at most @count of each kind, by time, as
 * a new array. Each gets "after", what its unit (or service) measured next, or null when that is
 * not known yet, and "gap_s", seconds since the decision before it, or null.
 */
json_t *explain_select(const json_t *answer, uint64_t at_us, unsigned long count);

#endif
