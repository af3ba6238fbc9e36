// SPDX-License-Identifier: Apache-2.0
/* What ebbtide-learner is asked for when it starts, checked; subcommands read their own. */
#ifndef EBBTIDE_COMMAND_LINE_H
#define EBBTIDE_COMMAND_LINE_H

#include "learner/learner.h"

struct command_line {
	struct learner_config config;
	const char *server;
	const char *kubeconfig;
	const char *dump_directory; /* print its log instead of anything else */
};

/*
 * Fill @line, with every default. 0; 1 when what was asked for has been printed; -EINVAL, with a
 * message on stderr. Strings are those of @argv.
 */
int command_line_parse(struct command_line *line, int argc, char **argv);

#endif
