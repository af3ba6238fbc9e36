// SPDX-License-Identifier: Apache-2.0
#include "common/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int small_file_read(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	size_t used = 0;
	ssize_t got;

	out[0] = '\0';
	if (fd < 0)
		return -errno;
	while (used < size - 1 && (got = read(fd, out + used, size - 1 - used)) != 0) {
		if (got < 0) {
			err = -errno;
			break;
		}
		used += (size_t)got;
	}
	out[used] = '\0';
	close(fd);
	return err;
}

int small_file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}
