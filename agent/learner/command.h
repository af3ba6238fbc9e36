// SPDX-License-Identifier: Apache-2.0
/*
 * Subcommands of ebbtide-learner, a file each: argv[0] is the command's name, the result is the exit
 * status. They need neither BLAS nor an API server.
 */
#ifndef EBBTIDE_COMMAND_H
#define EBBTIDE_COMMAND_H

#define COMMAND_EXIT_USAGE 2

int calibrate_command(int argc, char **argv);
int pretrain_command(int argc, char **argv);
int what_if_command(int argc, char **argv);

#endif
