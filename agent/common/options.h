// SPDX-License-Identifier: Apache-2.0
/*
 * What the daemons' command lines have in common. A value that is none is said on standard error,
 * 'PROGRAM: --OPTION: "VALUE" is not ...', with what would be; then -EINVAL, and nothing changes.
 */
#ifndef EBBTIDE_OPTIONS_H
#define EBBTIDE_OPTIONS_H

#include <stdint.h>

int options_whole(const char *program, const char *option, const char *text, uint32_t lowest,
	uint32_t highest, uint32_t *value);
int options_real(const char *program, const char *option, const char *text, double lowest,
	double highest, double *value);
/* --log-level: log_init() with it. */
int options_log_level(const char *program, const char *text);
/* After getopt_long(): an argument that belongs to no option. */
int options_stray(const char *program, int argc, char **argv);
/* getopt_long() has said what is wrong: where to read on. -EINVAL. */
int options_refer(const char *program);

#endif
