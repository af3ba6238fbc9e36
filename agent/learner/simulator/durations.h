// SPDX-License-Identifier: Apache-2.0
/* A histogram of durations as Prometheus wants it. Any number of threads may note and write. */
#ifndef EBBTIDE_DURATIONS_H
#define EBBTIDE_DURATIONS_H

#include "common/prometheus.h"

#include <stdatomic.h>
#include <stdint.h>

/* Upper bounds of the buckets in seconds; what is longer is in the last one. */
#define DURATIONS_BOUNDS(X)                                                                        \
	X(0.0001)                                                                                  \
	X(0.00025)                                                                                 \
	X(0.0005)                                                                                  \
	X(0.001)                                                                                   \
	X(0.0025)                                                                                  \
	X(0.005)                                                                                   \
	X(0.01)                                                                                    \
	X(0.02)                                                                                    \
	X(0.05)                                                                                    \
	X(0.1)                                                                                     \
	X(0.25)                                                                                    \
	X(1)                                                                                       \
	X(5)

#define X(bound)	  +1
#define DURATIONS_BUCKETS (1 DURATIONS_BOUNDS(X))
enum {
	DURATIONS_COUNT = DURATIONS_BUCKETS
};
#undef X

/* Zero-initialise. */
struct durations {
	_Atomic uint64_t counts[DURATIONS_COUNT];
	_Atomic uint64_t sum_ns;
};

void durations_note(struct durations *durations, double duration_s);
/* The samples of metric @name, which is declared as a histogram. */
void durations_write(struct durations *durations, struct prometheus *out, const char *name);

#endif
