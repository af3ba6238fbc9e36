// SPDX-License-Identifier: Apache-2.0
/*
 * Reports that wait on disk for the learner: one file each, oldest first, at most so many. Safe to
 * call from several threads.
 */
#ifndef EBBTIDE_SPOOL_H
#define EBBTIDE_SPOOL_H

#include <stddef.h>
#include <stdint.h>

struct spool;

/* Below @state_directory; takes over what an earlier run left. */
int spool_open(struct spool **spool, const char *state_directory, uint32_t most);
void spool_close(struct spool *spool);
/* Returns how many old reports had to go for it (0 or more), or 1 when it could not be written. */
int spool_put(struct spool *spool, const uint8_t *bytes, size_t size);
/* The oldest report; *bytes is the caller's to free. -ENOENT: the spool is empty. */
int spool_oldest(struct spool *spool, uint64_t *sequence, uint8_t **bytes, size_t *size);
void spool_drop(struct spool *spool, uint64_t sequence);
size_t spool_count(struct spool *spool);

#endif
