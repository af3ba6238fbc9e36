// SPDX-License-Identifier: Apache-2.0
/*
 * The log of every decision, and of what was measured where nothing is decided: one JSON object a
 * line, for `ebbctl explain`, `ebbtide-learner calibrate` and people. Written by
 * a thread of its own within tens of milliseconds, so that a slow disk delays no decision; lines
 * that a disk cannot take in time are left out and counted. Thread-safe.
 */
#ifndef EBBTIDE_JOURNAL_H
#define EBBTIDE_JOURNAL_H

#include "learner/decision_json.h"

struct journal;

/* Append to @path. 0 or -errno. */
int journal_open(struct journal **journal, const char *path);
/* Writes what waits first. */
void journal_close(struct journal *journal);
/* Wait until all is written. */
void journal_flush(struct journal *journal);
/* Lines that were left out; 0 without a journal. */
uint64_t journal_dropped(struct journal *journal);
/* These do nothing without a journal. Lines of one unit and tick carry its whole sample. */
void journal_sample(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit);
void journal_decision(struct journal *journal, const struct decision_subject *subject,
	const struct decision_record *record);

#endif
