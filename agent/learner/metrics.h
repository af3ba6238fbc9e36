// SPDX-License-Identifier: Apache-2.0
/* The learner's /metrics page. */
#ifndef EBBTIDE_LEARNER_METRICS_H
#define EBBTIDE_LEARNER_METRICS_H

#include "common/prometheus.h"
#include "learner/learner.h"

/* Takes the lock. */
void metrics_write(struct learner *learner, struct prometheus *out);

#endif
