// SPDX-License-Identifier: Apache-2.0
/* ebbctl: a table of commands, one file each. */
#include "ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct ctl_command commands[] = {
	{"status", "", "what runs on this node, what is degraded and why", ctl_status, false},
	{"top", "[--once] [--interval S]", "services of this node, refreshed every second", ctl_top,
		false},
	{"trace", "SERVICE [--slower 20ms] [--errors] [...]",
		"requests one by one, as they end (trace --help)", ctl_trace, true},
	{"explain", "SERVICE [--at TIME] [--watch] [...]",
		"what was decided, why, and what came of it (explain --help)", ctl_explain, true},
	{"get", "SERVICE [FILE]", "one value of the tree, or all of a service", ctl_get, false},
	{"set", "SERVICE FIELD VALUE", "one field of the objective", ctl_set, false},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fprintf(to, "Usage: ebbctl [--tree DIR] COMMAND [ARGUMENT]...\n"
		    "Look at, trace and tune the services of this node.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-7s %-46s %s\n", commands[i].name, commands[i].arguments,
			commands[i].text);
	fprintf(to,
		"\n  --tree DIR   the agent's mount point (default $EBBTIDE_TREE, /run/ebbtide)\n"
		"  --help, --version\n\n"
		"SERVICE is NAME or NAMESPACE/NAME. Exit status: 0 done, 1 failed (for status: a\n"
		"signal is degraded), 2 wrong usage.\n");
}

/* Commands with many options have a --help of their own; of the others the table says all. */
static int run(const struct ctl_command *command, struct ctl *ctl, int argc, char **argv)
{
	bool asks = !command->has_help && argc > 1 && strcmp(argv[1], "--help") == 0;
	int status = asks ? EXIT_SUCCESS : command->run(ctl, argc, argv);

	if (asks || (status == CTL_EXIT_USAGE && !command->has_help))
		fprintf(asks ? stdout : stderr, "Usage: ebbctl %s%s%s\n%s\n", command->name,
			command->arguments[0] ? " " : "", command->arguments, command->text);
	return status;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {.tree = getenv("EBBTIDE_TREE")};
	int first = 1;

	if (!ctl.tree || !ctl.tree[0])
		ctl.tree = "/run/ebbtide";
	while (first < argc && argv[first][0] == '-') {
		if (strcmp(argv[first], "--help") == 0) {
			usage(stdout);
			return EXIT_SUCCESS;
		}
		if (strcmp(argv[first], "--version") == 0) {
			printf("ebbctl %s\n", EBBTIDE_VERSION);
			return EXIT_SUCCESS;
		}
		if (strcmp(argv[first], "--tree") == 0 && first + 1 < argc) {
			ctl.tree = argv[first + 1];
			first += 2;
			continue;
		}
		fprintf(stderr, "ebbctl: \"%s\" is not an option. Try --help.\n", argv[first]);
		return CTL_EXIT_USAGE;
	}
	if (first >= argc) {
		usage(stderr);
		return CTL_EXIT_USAGE;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		static char name[] = "ebbctl";

		if (strcmp(commands[i].name, argv[first]) != 0)
			continue;
		/* getopt begins its messages with it. */
		argv[first] = name;
		return run(&commands[i], &ctl, argc - first, argv + first);
	}
	fprintf(stderr, "ebbctl: \"%s\" is not a command. Try --help.\n", argv[first]);
	return CTL_EXIT_USAGE;
}
