// SPDX-License-Identifier: Apache-2.0
/*
 * Experiences up, actions down. One thread posts one batch a tick; while the learner is away, or asks
 * to wait, the experiences go to a bounded spool on disk and are delivered in order afterwards.
 * Another holds a poll open for actions that the learner does not keep for the next report.
 */
#ifndef EBBTIDE_REPORT_H
#define EBBTIDE_REPORT_H

#include "node/agent.h"
#include "wire.pb-c.h"

int reporter_open(struct agent *agent);
/* Waits for the thread; posts nothing more. */
void reporter_close(struct agent *agent);
/* Build the tick's batch and hand it to the thread; the lock is held. */
void reporter_tick(struct agent *agent);
/*
 * Carry out an answer's actions, those that are older than what a unit has already got left out;
 * how many were. The lock is held.
 */
size_t reporter_apply(struct agent *agent, const Ebbtide__Wire__Answer *answer);

/* poll.c: the thread that polls. */
struct poller;
int poller_open(struct agent *agent, struct poller **poller);
void poller_close(struct poller *poller);

/*
 * When the learner may be asked again: now plus the seconds it asked for, none more than a minute,
 * and up to a quarter on top so that agents do not all come back at once. @random: any number.
 */
uint64_t report_retry_at_us(uint64_t now_us, long after_s, uint32_t random);

#endif
