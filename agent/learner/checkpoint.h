// SPDX-License-Identifier: Apache-2.0
/*
 * Weights on disk: a header of fixed size, the floats, a CRC-32 of both. Written to a new file and
 * renamed, so there is always a whole one. docs/checkpoint.md gives the layout.
 */
#ifndef EBBTIDE_CHECKPOINT_H
#define EBBTIDE_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_VERSION 1U

struct checkpoint {
	uint32_t schema; /* STATE_SCHEMA of the features and actions */
	uint32_t inputs;
	uint32_t actions;
	uint64_t steps;
	size_t count;	/* floats */
	float *weights; /* owned by the reader of checkpoint_parse(): free() */
};

/* 0 or -errno. */
int checkpoint_write(const char *path, const struct checkpoint *checkpoint);
/*
 * 0; -ENOENT; -EINVAL with the reason in @error: not a checkpoint, another version, damaged,
 * truncated, not finite.
 */
int checkpoint_read(
	const char *path, struct checkpoint *checkpoint, char *error, size_t error_size);
/* The same from memory; what a fuzz target calls. */
int checkpoint_parse(const uint8_t *bytes, size_t size, struct checkpoint *checkpoint, char *error,
	size_t error_size);

#endif
