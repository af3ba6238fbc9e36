// SPDX-License-Identifier: Apache-2.0
#include "node/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files are named by arrival, not by the report's own sequence, which starts anew with an agent. */
struct spool {
	pthread_mutex_t lock;
	char directory[512];
	uint64_t first;
	uint64_t next; /* empty when first == next */
	uint32_t most;
};

static void file_name(const struct spool *spool, uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "%s/%020" PRIu64 ".report", spool->directory, number);
}

int spool_open(struct spool **out, const char *state_directory, uint32_t most)
{
	struct spool *spool = calloc(1, sizeof(*spool));
	struct dirent *entry;
	bool any = false;
	DIR *stream;

	if (!spool)
		return -ENOMEM;
	pthread_mutex_init(&spool->lock, NULL);
	spool->most = most;
	snprintf(spool->directory, sizeof(spool->directory), "%s/spool", state_directory);
	if (mkdir(spool->directory, 0700) != 0 && errno != EEXIST) {
		int err = -errno;

		free(spool);
		return err;
	}
	stream = opendir(spool->directory);
	while (stream && (entry = readdir(stream))) {
		char *end;
		uint64_t number = strtoull(entry->d_name, &end, 10);

		if (end == entry->d_name || strcmp(end, ".report") != 0)
			continue;
		if (!any || number < spool->first)
			spool->first = number;
		if (!any || number >= spool->next)
			spool->next = number + 1;
		any = true;
	}
	if (stream)
		closedir(stream);
	*out = spool;
	return 0;
}

void spool_close(struct spool *spool)
{
	free(spool);
}

static int file_write(const char *name, const uint8_t *bytes, size_t size)
{
	char temporary[600];
	int fd, err = 0;

	snprintf(temporary, sizeof(temporary), "%s.new", name);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, bytes, size) != (ssize_t)size)
		err = -EIO;
	close(fd);
	if (!err && rename(temporary, name) != 0)
		err = -errno;
	if (err)
		unlink(temporary);
	return err;
}

int spool_put(struct spool *spool, const uint8_t *bytes, size_t size)
{
	char name[560];
	int lost = 0;

	pthread_mutex_lock(&spool->lock);
	while (spool->next - spool->first >= spool->most) {
		file_name(spool, spool->first++, name, sizeof(name));
		if (unlink(name) == 0)
			lost++;
	}
	file_name(spool, spool->next, name, sizeof(name));
	if (file_write(name, bytes, size) == 0)
		spool->next++;
	else
		lost = lost ? lost : 1;
	pthread_mutex_unlock(&spool->lock);
	return lost;
}

static int file_read(const char *name, uint8_t **bytes, size_t *size)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat info;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &info) != 0)
		err = -errno;
	*size = (size_t)info.st_size;
	*bytes = err ? NULL : malloc(*size + 1);
	if (!err && !*bytes)
		err = -ENOMEM;
	if (!err && read(fd, *bytes, *size) != info.st_size) {
		free(*bytes);
		err = -EIO;
	}
	close(fd);
	return err;
}

int spool_oldest(struct spool *spool, uint64_t *sequence, uint8_t **bytes, size_t *size)
{
	char name[560];
	int err = -ENOENT;

	pthread_mutex_lock(&spool->lock);
	while (spool->first < spool->next) {
		file_name(spool, spool->first, name, sizeof(name));
		err = file_read(name, bytes, size);
		if (!err)
			break;
		/* A hole or a file that cannot be read: pass over it. */
		unlink(name);
		spool->first++;
		err = -ENOENT;
	}
	*sequence = spool->first;
	pthread_mutex_unlock(&spool->lock);
	return err;
}

void spool_drop(struct spool *spool, uint64_t sequence)
{
	char name[560];

	pthread_mutex_lock(&spool->lock);
	file_name(spool, sequence, name, sizeof(name));
	unlink(name);
	if (sequence == spool->first && spool->first < spool->next)
		spool->first++;
	pthread_mutex_unlock(&spool->lock);
}

size_t spool_count(struct spool *spool)
{
	size_t count;

	pthread_mutex_lock(&spool->lock);
	count = (size_t)(spool->next - spool->first);
	pthread_mutex_unlock(&spool->lock);
	return count;
}
