// SPDX-License-Identifier: Apache-2.0
/*
 * Experiences up, actions down. One thread posts one batch a tick; while the learner is away the
 * experiences go to a bounded spool on disk and are delivered in order when it is back.
 */
#ifndef EBBTIDE_REPORT_H
#define EBBTIDE_REPORT_H

#include "node/agent.h"

int reporter_open(struct agent *agent);
/* Waits for the thread; posts nothing more. */
void reporter_close(struct agent *agent);
/* Build the tick's batch and hand it to the thread; the lock is held. */
void reporter_tick(struct agent *agent);

#endif
