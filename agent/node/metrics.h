// SPDX-License-Identifier: Apache-2.0
/* The agent's /metrics and /healthz. */
#ifndef EBBTIDE_NODE_METRICS_H
#define EBBTIDE_NODE_METRICS_H

#include "common/prometheus.h"
#include "node/agent.h"

struct metrics;

/* Listen on agent->config.metrics_address; -EADDRINUSE and so on. */
int metrics_open(struct agent *agent, struct metrics **metrics);
void metrics_close(struct metrics *metrics);
/* The whole page; the lock is held. */
void metrics_write(struct agent *agent, struct prometheus *out);

#endif
