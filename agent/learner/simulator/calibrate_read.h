// SPDX-License-Identifier: Apache-2.0
/*
 * Samples of one unit from the learner's journal (--decisions): JSON objects a line, of which those
 * with a "sample" count. A line that is not JSON is an error, one without a sample is passed over.
 */
#ifndef EBBTIDE_CALIBRATE_READ_H
#define EBBTIDE_CALIBRATE_READ_H

#include "common/state.h"

#include <stdio.h>

#define CALIBRATE_SAMPLES_MAX 1000000

struct calibrate_filter {
	const char *namespace; /* NULL: any */
	const char *service;   /* NULL: any, but only one */
	const char *agent;     /* NULL: the first one's */
};

/*
 * Caller frees @samples. @name gets "NAMESPACE/SERVICE on AGENT". -EINVAL: a line is not one, or
 * several services and no filter, -ENODATA: nothing fits, -errno; @error says what.
 */
int calibrate_read(FILE *file, const char *path, const struct calibrate_filter *filter,
	struct sample **samples, uint32_t *count, char *name, size_t name_size, char *error,
	size_t error_size);

#endif
