/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line protocol of what benches and tests drive: commands on standard input, a line each of words
 * between spaces, and a line of JSON on standard output for each.
 */
#ifndef EBBTIDE_TESTS_COMMANDS_H
#define EBBTIDE_TESTS_COMMANDS_H

#include "common/cgroup.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* An error's answer; @name may be NULL. */
static inline json_t *command_failure(const char *what, const char *name, int err)
{
	char text[CGROUP_PATH_MAX + 256];

	snprintf(text, sizeof(text), "%s%s%s: %s", what, name ? " " : "", name ? name : "",
		strerror(-err));
	return json_pack("{s:s}", "error", text);
}

/* The answer to the command @name; its arguments are NULL where there are none. */
typedef json_t *command_body(void *context, const char *name, const char *a, const char *b);

/* Until the end of the input. */
static inline void commands_serve(command_body *body, void *context)
{
	char line[4 * CGROUP_PATH_MAX];

	while (fgets(line, sizeof(line), stdin)) {
		char *save = NULL, *name = strtok_r(line, " \n", &save);
		char *a = name ? strtok_r(NULL, " \n", &save) : NULL;
		char *b = a ? strtok_r(NULL, " \n", &save) : NULL;
		json_t *answer;

		if (!name)
			continue;
		answer = body(context, name, a, b);
		json_dumpf(answer, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(answer);
	}
}

#endif
