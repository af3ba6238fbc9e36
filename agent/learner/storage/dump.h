// SPDX-License-Identifier: Apache-2.0
/* The experience log for people and tests: `ebbtide-learner --dump-replay DIR`. */
#ifndef EBBTIDE_DUMP_H
#define EBBTIDE_DUMP_H

/*
 * Both logs of a state directory to standard output, one JSON object a line for each record
 * (docs/replay.md); damage to standard error. Changes nothing. 0 or -errno.
 */
int dump_replay(const char *directory);

#endif
