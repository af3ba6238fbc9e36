// SPDX-License-Identifier: Apache-2.0
/* Files of the state directory that this program cannot use: kept, out of the way. */
#ifndef EBBTIDE_ASIDE_H
#define EBBTIDE_ASIDE_H

#include <stddef.h>

/*
 * Moves DIRECTORY/NAME to DIRECTORY/FOLDER/NAME, or NAME.1 and on when there is one already; the
 * new path goes to @to. 0 or -errno.
 */
int aside_move(
	const char *directory, const char *name, const char *folder, char *to, size_t to_size);

#endif
