// SPDX-License-Identifier: Apache-2.0
/*
 * From Deployments to pods: the part of Kubernetes' Deployment and ReplicaSet controllers that a
 * machine of one needs. Main thread only.
 *
 * A changed template rolls: pods of the new one are started at once, an old one goes for each new
 * one that is ready. Only the ReplicaSets that still have pods are kept.
 */
#ifndef EBBTIDE_LOCAL_DEPLOYMENTS_H
#define EBBTIDE_LOCAL_DEPLOYMENTS_H

#include <stdint.h>

#include "local/api/store.h"
#include "local/gateway.h"
#include "local/pods.h"

struct deployments;

struct deployments *deployments_new(
	struct store *store, struct pods *pods, struct gateway *gateway);
void deployments_free(struct deployments *deployments);
/* Compare what is wanted with what is there; start and stop pods; write every status. */
void deployments_reconcile(struct deployments *deployments, int64_t now_ms);

#endif
