// SPDX-License-Identifier: Apache-2.0
/*
 * The experience log on disk: NAME-00000001.log and on in one directory, records only ever added at
 * the end of the last. What an append returned 0 for is there after a kill (DURABILITY_PROCESS) or a
 * crash of the machine (DURABILITY_FSYNC). Bounded: whole oldest segments go.
 *
 * Thread-safe after segments_open(). One writer a directory: the caller's lock sees to that.
 */
#ifndef EBBTIDE_SEGMENTS_H
#define EBBTIDE_SEGMENTS_H

#include "learner/storage/segment.h"

#include <stdbool.h>

#define SEGMENTS_BYTES_MIN (256U << 10)
#define SEGMENTS_BYTES_MAX (64U << 20)

struct segments;

enum durability {
	DURABILITY_PROCESS, /* written: survives the process */
	DURABILITY_FSYNC,   /* and synced: survives the machine; appends share a sync */
};

struct segments_reader {
	void *context;
	/* A sound record; how many experiences it counts for. */
	uint32_t (*record)(void *context, const char *path, const struct segment_record *record);
	/* Bytes that are no record: in the middle, or behind the last (@torn). May be NULL. */
	void (*damage)(void *context, const char *path, uint64_t offset, uint64_t bytes, bool torn);
};

struct segments_options {
	const char *directory; /* both are kept by the caller */
	const char *name;
	struct segment_identity identity;
	uint64_t capacity;	/* experiences that are kept at least, if there were as many */
	uint64_t segment_bytes; /* a new segment from here; 0: an eighth of the capacity's size */
	enum durability durability;
	/*
	 * What each new segment begins with, or NULL: a sealed record (freed by the log). Called with
	 * the log's lock held.
	 */
	int (*first)(void *context, uint8_t **record, size_t *bytes);
	void *context;
	int (*sync)(int fd); /* NULL: fdatasync(2) */
};

struct segments_status {
	uint64_t segments;
	uint64_t bytes;
	uint64_t experiences;
	uint64_t appends;
	uint64_t syncs;
	uint64_t failures;	/* appends that were not acknowledged */
	uint64_t torn_bytes;	/* cut at the start */
	uint64_t damaged_bytes; /* found at the start and left */
	uint64_t set_aside;	/* segments of another schema or version */
};

/*
 * Reads all that is there through @reader (its damage is logged as well), sets segments of another
 * identity aside (aside.h), cuts what is torn at the end of the last and goes on writing there, or
 * begins the first. 0 or -errno.
 */
int segments_open(struct segments **segments, const struct segments_options *options,
	const struct segments_reader *reader);
void segments_close(struct segments *segments);

/*
 * A sealed record of @bytes that holds @experiences; it is placed here. 0 once it is durable; else
 * -errno (logged when it begins and ends) and it must not be acknowledged. It is then not in the
 * log, but for a failed sync, after which it may be.
 */
int segments_append(struct segments *segments, uint8_t *record, size_t bytes, uint32_t experiences);
void segments_read_status(struct segments *segments, struct segments_status *status);

/* Reads a log without a change to it, one that is being written as well. 0 or -errno. */
int segments_read(const char *directory, const char *name, const struct segments_reader *reader);

#endif
