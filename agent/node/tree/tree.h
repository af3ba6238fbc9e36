// SPDX-License-Identifier: Apache-2.0
/*
 * The operator's tree (normally /run/ebbtide): one value a file, text, units in the names, errors
 * by errno. docs/tree.md lists every file.
 */
#ifndef EBBTIDE_TREE_H
#define EBBTIDE_TREE_H

#include "node/agent.h"

struct tree;

/* Mount at agent->config.tree and serve in a thread. A dead mount of an earlier agent is taken
 * down first. -errno with a log line when it cannot be had; the agent runs without. */
int tree_open(struct agent *agent, struct tree **tree);
void tree_close(struct tree *tree);

#endif
