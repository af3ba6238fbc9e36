// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/segment_files.h"

#include "learner/storage/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 4096

static void file_name(const char *name, uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "%s-%08" PRIu64 ".log", name, number);
}

void segment_file_path(
	const char *directory, const char *name, uint64_t number, char *out, size_t size)
{
	char file[300];

	file_name(name, number, file, sizeof(file));
	snprintf(out, size, "%s/%s", directory, file);
}

/* The number of a file called "NAME-NUMBER.log"; 0: it is not called so. */
static uint64_t number_of(const char *name, const char *file)
{
	size_t length = strlen(name);
	char expected[300];
	uint64_t number;

	if (strncmp(file, name, length) != 0 || file[length] != '-')
		return 0;
	number = strtoull(file + length + 1, NULL, 10);
	file_name(name, number, expected, sizeof(expected));
	return strcmp(file, expected) == 0 ? number : 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int segment_files_list(const char *directory, const char *name, uint64_t **numbers, size_t *count)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	int err = 0;

	*numbers = NULL;
	*count = 0;
	if (!stream)
		return -errno;
	while ((entry = readdir(stream))) {
		uint64_t number = number_of(name, entry->d_name), *grown;

		if (number == 0)
			continue;
		grown = realloc(*numbers, (*count + 1) * sizeof(**numbers));
		if (!grown) {
			err = -ENOMEM;
			break;
		}
		*numbers = grown;
		grown[(*count)++] = number;
	}
	closedir(stream);
	if (err) {
		free(*numbers);
		*numbers = NULL;
		*count = 0;
	} else if (*count) {
		qsort(*numbers, *count, sizeof(**numbers), compare);
	}
	return err;
}

/* Up to @size bytes at @offset; where the disk gives an error, zeros as far as its next block. */
static ssize_t read_some(int fd, uint8_t *out, size_t size, uint64_t offset)
{
	ssize_t got = pread(fd, out, size, (off_t)offset);
	size_t skip = BLOCK_BYTES - offset % BLOCK_BYTES;

	if (got >= 0 || errno != EIO)
		return got;
	if (size > skip)
		got = pread(fd, out, skip, (off_t)offset);
	if (got >= 0)
		return got;
	skip = size < skip ? size : skip;
	memset(out, 0, skip);
	return (ssize_t)skip;
}

static int contents_reserve(struct segment_contents *contents, size_t size)
{
	uint8_t *grown;

	if (size <= contents->allocated)
		return 0;
	/* Nothing of the old contents is wanted. */
	grown = malloc(size);
	if (!grown)
		return -ENOMEM;
	free(contents->bytes);
	contents->bytes = grown;
	contents->allocated = size;
	return 0;
}

int segment_file_load(
	const char *directory, const char *name, uint64_t number, struct segment_contents *contents)
{
	struct stat info;
	int fd, err = 0;

	contents->size = 0;
	file_name(name, number, contents->file_name, sizeof(contents->file_name));
	segment_file_path(directory, name, number, contents->path, sizeof(contents->path));
	fd = open(contents->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &info) != 0)
		err = -errno;
	else if (!S_ISREG(info.st_mode))
		err = -EINVAL;
	if (!err)
		err = contents_reserve(contents, (size_t)info.st_size + 1);
	while (!err && contents->size < (size_t)info.st_size) {
		ssize_t got = read_some(fd, contents->bytes + contents->size,
			(size_t)info.st_size - contents->size, contents->size);

		if (got < 0)
			err = -errno;
		if (got <= 0)
			break;
		contents->size += (size_t)got;
	}
	close(fd);
	if (!err)
		contents->header = segment_header_parse(contents->bytes, contents->size, number,
			&contents->identity, contents->error, sizeof(contents->error));
	return err;
}

void segment_contents_free(struct segment_contents *contents)
{
	free(contents->bytes);
	memset(contents, 0, sizeof(*contents));
}

struct visit {
	const struct segments_reader *reader;
	const char *path;
};

static void on_record(void *context, const struct segment_record *record)
{
	const struct visit *visit = context;

	(void)visit->reader->record(visit->reader->context, visit->path, record);
}

static void on_damage(void *context, uint64_t offset, uint64_t bytes)
{
	const struct visit *visit = context;

	if (visit->reader->damage)
		visit->reader->damage(visit->reader->context, visit->path, offset, bytes, false);
}

uint64_t segment_file_visit(const struct segment_contents *contents, uint64_t number, bool last,
	const struct segments_reader *reader)
{
	struct visit visit = {.reader = reader, .path = contents->path};
	const struct segment_visitor visitor = {
		.context = &visit, .record = on_record, .damage = on_damage};
	uint64_t end = segment_walk(contents->bytes, contents->size, number, &visitor);

	if (end < contents->size && reader->damage)
		reader->damage(reader->context, contents->path, end, contents->size - end, last);
	return end;
}

int segment_file_set_aside(
	const char *directory, const struct segment_contents *contents, char *to, size_t to_size)
{
	char folder[64];

	if (contents->header == 0)
		snprintf(folder, sizeof(folder), "schema-%u", contents->identity.schema);
	else
		snprintf(folder, sizeof(folder), "other-version");
	return aside_move(directory, contents->file_name, folder, to, to_size);
}

int segment_file_write(int fd, const uint8_t *bytes, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t done = pwrite(fd, bytes, size, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0)
			return -ENOSPC;
		bytes += done;
		offset += (uint64_t)done;
		size -= (size_t)done;
	}
	return 0;
}

int segment_files_sync_directory(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) != 0)
		err = -errno;
	close(fd);
	return err;
}
