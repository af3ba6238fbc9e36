// SPDX-License-Identifier: Apache-2.0
/*
 * The files around the simulator. Parameters of a service, as `calibrate` writes and `what-if` and
 * pretraining read them: lines `name value`, names of SIMULATE_SERVICE_FIELDS, '#' begins a comment.
 * A trace: requests per second, one number a line, a line for each second; '#' as above.
 *
 * Errors are -errno; -EINVAL is a line that is not one. @error then says which and why.
 */
#ifndef EBBTIDE_SIMULATE_FILE_H
#define EBBTIDE_SIMULATE_FILE_H

#include "learner/simulator/simulate.h"

#include <stdio.h>

/* Sets what the file names and leaves the rest; on an error nothing changes. */
int simulate_file_read(
	const char *path, struct simulate_service *service, char *error, size_t error_size);
/* Every field with what it is; @comment goes first, a line of it a line of the file. */
int simulate_file_write(FILE *file, const struct simulate_service *service, const char *comment);

/*
 * The first second of a trace and every @every-th after it, at most SIMULATE_TRACE_MAX. Caller frees
 * @rates.
 */
#define SIMULATE_TRACE_MAX 1000000
int simulate_trace_read(const char *path, uint32_t every, double **rates, uint32_t *seconds,
	char *error, size_t error_size);

#endif
