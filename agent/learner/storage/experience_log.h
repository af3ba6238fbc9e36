// SPDX-License-Identifier: Apache-2.0
/*
 * What the learner took, on disk: a log for each network in the state directory. A report is
 * acknowledged when its experiences are in it; at the start, or when leadership is taken over, both
 * replay buffers, the streams' n-step windows and the sequences taken come back from it.
 *
 * Thread-safe. A NULL log takes everything and keeps nothing.
 */
#ifndef EBBTIDE_EXPERIENCE_LOG_H
#define EBBTIDE_EXPERIENCE_LOG_H

#include "learner/dqn/batch.h"
#include "learner/storage/segments.h"

#define EXPERIENCE_LOG_VERTICAL	  "replay"
#define EXPERIENCE_LOG_HORIZONTAL "replay-horizontal"

struct learner;
struct experience_log;

/* Closed; 0 or -ENOMEM. */
int experience_log_create(struct experience_log **log);
void experience_log_free(struct experience_log *log);

/*
 * Take the state directory over and remember: what the learner's replay buffers and sequences held
 * before is forgotten. 0; -EBUSY: another process has it; another -errno. No report may be handled
 * meanwhile: learner->leader is false.
 */
int experience_log_start(struct learner *learner);
/* Waits for reports that are being handled, then lets another process have it. */
void experience_log_stop(struct learner *learner);

/* Around the handling of one report: 0, or -ESHUTDOWN while it is not started. */
int experience_log_enter(struct experience_log *log);
void experience_log_leave(struct experience_log *log);
/* Of a report, sealed here. 0: it may be acknowledged; -errno: it must not be. */
int experience_log_append(struct experience_log *log, struct batch_writer *batch);

/*
 * Of the horizontal network: kept in memory first, because the caller holds learner->lock; written
 * by the flush, which does not.
 */
void experience_log_queue(struct experience_log *log, const struct experience *experience);
void experience_log_flush(struct learner *learner);

/* Both logs together; false while it is not started. */
bool experience_log_read_status(struct experience_log *log, struct segments_status *status);

#endif
