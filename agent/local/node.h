// SPDX-License-Identifier: Apache-2.0
/* What the API shows of this machine: the Node and its Namespaces. */
#ifndef EBBTIDE_LOCAL_NODE_H
#define EBBTIDE_LOCAL_NODE_H

#include "local/api/store.h"

/* Put the Node @name and the Namespaces "default" and "kube-system" into the store. */
void node_publish(struct store *store, const char *name);

#endif
