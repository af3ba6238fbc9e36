// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/aside.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPIES_MAX 1000

int aside_move(
	const char *directory, const char *name, const char *folder, char *to, size_t to_size)
{
	char from[1024];
	int used;

	snprintf(from, sizeof(from), "%s/%s", directory, name);
	snprintf(to, to_size, "%s/%s", directory, folder);
	if (mkdir(to, 0700) != 0 && errno != EEXIST)
		return -errno;
	used = snprintf(to, to_size, "%s/%s/%s", directory, folder, name);
	if (used < 0 || (size_t)used + 8 > to_size)
		return -ENAMETOOLONG;
	for (int copy = 1; access(to, F_OK) == 0; copy++) {
		if (copy == COPIES_MAX)
			return -EEXIST;
		snprintf(to + used, to_size - (size_t)used, ".%d", copy);
	}
	return rename(from, to) == 0 ? 0 : -errno;
}
