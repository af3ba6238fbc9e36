// SPDX-License-Identifier: Apache-2.0
/* Files that hold a word or a few lines: in /proc, a cgroup, the operator's tree. */
#ifndef EBBTIDE_SMALL_FILE_H
#define EBBTIDE_SMALL_FILE_H

#include <stddef.h>

/* The file as a string, at most @size - 1 bytes of it; @out is one also on an error. 0, -errno. */
int small_file_read(const char *path, char *out, size_t size);
/* In one write, into a file that exists. 0, -errno. */
int small_file_write(const char *path, const char *text);

#endif
