// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MAGIC	      "EBBTIDE\n"
#define FLOATS_MAX    (64U << 20)
#define TRAILER_BYTES 4

/* Little-endian on disk; all machines that Ebbtide runs on are. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t schema;
	uint32_t inputs;
	uint32_t actions;
	uint64_t steps;
	uint64_t count;
};

static int write_all(int fd, const void *bytes, size_t size)
{
	const char *next = bytes;

	while (size > 0) {
		ssize_t done = write(fd, next, size);

		if (done < 0)
			return -errno;
		next += done;
		size -= (size_t)done;
	}
	return 0;
}

void checkpoint_path(const char *path, uint32_t age, char *out, size_t size)
{
	if (age)
		snprintf(out, size, "%s.%u", path, age);
	else
		snprintf(out, size, "%s", path);
}

/* Every older one becomes one older, the newest stays under its name and has a second. */
static int older_keep(const char *path, uint32_t keep)
{
	bool shift = keep > 1 && access(path, F_OK) == 0;
	char from[1024], to[1024];

	/* What is too many, were there more before as well. */
	for (uint32_t age = shift ? keep - 1 : keep; age <= CHECKPOINT_KEEP_MAX; age++) {
		checkpoint_path(path, age, to, sizeof(to));
		if (unlink(to) != 0 && age >= keep)
			break;
	}
	if (!shift)
		return 0;
	for (uint32_t age = keep - 1; age > 1; age--) {
		checkpoint_path(path, age - 1, from, sizeof(from));
		checkpoint_path(path, age, to, sizeof(to));
		if (rename(from, to) != 0 && errno != ENOENT)
			return -errno;
	}
	checkpoint_path(path, 1, to, sizeof(to));
	/* Where there are no links, there is no newest one for the moment. */
	return link(path, to) == 0 || rename(path, to) == 0 ? 0 : -errno;
}

int checkpoint_write(const char *path, const struct checkpoint *checkpoint, uint32_t keep)
{
	struct header header = {.version = CHECKPOINT_VERSION,
		.schema = checkpoint->schema,
		.inputs = checkpoint->inputs,
		.actions = checkpoint->actions,
		.steps = checkpoint->steps,
		.count = checkpoint->count};
	size_t bytes = checkpoint->count * sizeof(float);
	char temporary[1024];
	uint32_t crc;
	int fd, err;

	memcpy(header.magic, MAGIC, sizeof(header.magic));
	crc = (uint32_t)crc32(0, (const Bytef *)&header, sizeof(header));
	crc = (uint32_t)crc32(crc, (const Bytef *)checkpoint->weights, (uInt)bytes);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = write_all(fd, &header, sizeof(header));
	if (!err)
		err = write_all(fd, checkpoint->weights, bytes);
	if (!err)
		err = write_all(fd, &crc, TRAILER_BYTES);
	if (!err && fsync(fd) != 0)
		err = -errno;
	close(fd);
	if (!err)
		err = older_keep(path, keep);
	if (!err && rename(temporary, path) != 0)
		err = -errno;
	if (err)
		unlink(temporary);
	return err;
}

int checkpoint_parse(const uint8_t *bytes, size_t size, struct checkpoint *checkpoint, char *error,
	size_t error_size)
{
	struct header header;
	uint32_t crc;

	memset(checkpoint, 0, sizeof(*checkpoint));
	if (size < sizeof(header) || memcmp(bytes, MAGIC, sizeof(header.magic)) != 0) {
		snprintf(error, error_size, "not a checkpoint of Ebbtide");
		return -EINVAL;
	}
	memcpy(&header, bytes, sizeof(header));
	if (header.version != CHECKPOINT_VERSION) {
		snprintf(error, error_size, "version %u; this program reads version %u",
			header.version, CHECKPOINT_VERSION);
		return -EPROTO;
	}
	if (header.count > FLOATS_MAX ||
		size != sizeof(header) + header.count * sizeof(float) + TRAILER_BYTES) {
		snprintf(error, error_size, "%zu bytes, but its header says %llu weights", size,
			(unsigned long long)header.count);
		return -EINVAL;
	}
	memcpy(&crc, bytes + size - TRAILER_BYTES, TRAILER_BYTES);
	if (crc != (uint32_t)crc32(0, bytes, (uInt)(size - TRAILER_BYTES))) {
		snprintf(error, error_size, "checksum does not match: damaged");
		return -EINVAL;
	}
	checkpoint->schema = header.schema;
	checkpoint->inputs = header.inputs;
	checkpoint->actions = header.actions;
	checkpoint->steps = header.steps;
	checkpoint->count = (size_t)header.count;
	checkpoint->weights = malloc(checkpoint->count * sizeof(float) + 1);
	if (!checkpoint->weights)
		return -ENOMEM;
	memcpy(checkpoint->weights, bytes + sizeof(header), checkpoint->count * sizeof(float));
	for (size_t i = 0; i < checkpoint->count; i++) {
		if (isfinite(checkpoint->weights[i]))
			continue;
		snprintf(error, error_size, "weight %zu is not a finite number", i);
		free(checkpoint->weights);
		checkpoint->weights = NULL;
		return -EINVAL;
	}
	return 0;
}

int checkpoint_read(const char *path, struct checkpoint *checkpoint, char *error, size_t error_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	uint8_t *bytes = NULL;
	struct stat info;
	size_t used = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &info) != 0)
		err = -errno;
	if (!err && (uint64_t)info.st_size > sizeof(struct header) + 4ULL * FLOATS_MAX + 4) {
		snprintf(error, error_size, "too large to be a checkpoint");
		err = -EINVAL;
	}
	if (!err) {
		bytes = malloc((size_t)info.st_size + 1);
		err = bytes ? 0 : -ENOMEM;
	}
	while (!err && used < (size_t)info.st_size) {
		ssize_t got = read(fd, bytes + used, (size_t)info.st_size - used);

		if (got <= 0)
			break;
		used += (size_t)got;
	}
	close(fd);
	if (!err)
		err = checkpoint_parse(bytes, used, checkpoint, error, error_size);
	free(bytes);
	return err;
}
