// SPDX-License-Identifier: Apache-2.0
/* The files behind segments.h: their names, whole reads and whole writes. */
#ifndef EBBTIDE_SEGMENT_FILES_H
#define EBBTIDE_SEGMENT_FILES_H

#include "learner/storage/segments.h"

struct segment_file {
	uint64_t number;
	uint64_t bytes;
	uint64_t experiences;
};

/* A file in memory; the same structure may be loaded into again and again, then freed. */
struct segment_contents {
	char path[1024];
	char file_name[300];
	uint8_t *bytes; /* owned */
	size_t size;
	size_t allocated;
	int header; /* what segment_header_parse() said, and its reason */
	char error[160];
	struct segment_identity identity;
};

void segment_file_path(
	const char *directory, const char *name, uint64_t number, char *out, size_t size);
/* Numbers of the segments, ascending; *numbers is the caller's to free. 0 or -errno. */
int segment_files_list(const char *directory, const char *name, uint64_t **numbers, size_t *count);
/*
 * 0 or -errno. A block that cannot be read is taken as zeros, which are no record: the others are
 * not lost with it.
 */
int segment_file_load(const char *directory, const char *name, uint64_t number,
	struct segment_contents *contents);
void segment_contents_free(struct segment_contents *contents);
/* Records and damage to @reader. The end of the last sound record; behind it is torn if @last. */
uint64_t segment_file_visit(const struct segment_contents *contents, uint64_t number, bool last,
	const struct segments_reader *reader);
/* Out of the way, under a folder that names its schema or version; where to is in @to. */
int segment_file_set_aside(
	const char *directory, const struct segment_contents *contents, char *to, size_t to_size);
/* All of @bytes at @offset, or -errno. */
int segment_file_write(int fd, const uint8_t *bytes, size_t size, uint64_t offset);
int segment_files_sync_directory(const char *directory);

#endif
