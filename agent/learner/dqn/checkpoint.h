// SPDX-License-Identifier: Apache-2.0
/*
 * Weights on disk: a header of fixed size, the floats, a CRC-32 of both. Written to a new file and
 * renamed, so there is always a whole one; the ones before stay as PATH.1 and on. docs/checkpoint.md
 * gives the layout.
 */
#ifndef EBBTIDE_CHECKPOINT_H
#define EBBTIDE_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_VERSION  1U
#define CHECKPOINT_KEEP_MAX 100U

struct checkpoint {
	uint32_t schema; /* STATE_SCHEMA of the features and actions */
	uint32_t inputs;
	uint32_t actions;
	uint64_t steps;
	size_t count;	/* floats */
	float *weights; /* owned by the reader of checkpoint_parse(): free() */
};

/* PATH of the newest (@age 0), PATH.1 of the one before. */
void checkpoint_path(const char *path, uint32_t age, char *out, size_t size);
/* @keep of them in all, 1 to CHECKPOINT_KEEP_MAX. 0 or -errno, and the newest stays. */
int checkpoint_write(const char *path, const struct checkpoint *checkpoint, uint32_t keep);
/*
 * 0; -ENOENT; with the reason in @error -EINVAL: not a checkpoint, damaged, truncated, not finite,
 * or -EPROTO: another version.
 */
int checkpoint_read(
	const char *path, struct checkpoint *checkpoint, char *error, size_t error_size);
/* The same from memory; what a fuzz target calls. */
int checkpoint_parse(const uint8_t *bytes, size_t size, struct checkpoint *checkpoint, char *error,
	size_t error_size);

#endif
