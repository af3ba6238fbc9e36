// SPDX-License-Identifier: Apache-2.0
/*
 * The life of pods: processes in cgroups, readiness, the gateway's entries, restarts with
 * back-off, draining, and what the store shows of all this.
 *
 *   start -> running (<-> back-off) -> draining -> stopping -> removed
 *
 * Main thread only; time comes in as milliseconds of CLOCK_MONOTONIC.
 */
#ifndef EBBTIDE_LOCAL_PODS_H
#define EBBTIDE_LOCAL_PODS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cgroup.h"
#include "local/api/store.h"
#include "local/gateway.h"

struct pods;

struct pods_options {
	struct store *store;
	struct gateway *gateway;
	const struct cgroup_driver *driver;
	const char *node;	     /* the node's name */
	const char *cgroup;	     /* path under which every pod lives: "/ebbtide" */
	const char *state_directory; /* has a folder "logs" */
};

/* What the Deployment reconciler sees of a pod. */
struct pod_view {
	const char *namespace;
	const char *name;
	const char *deployment_uid;
	const char *hash;
	bool ready;
	bool terminating;
	unsigned long sequence; /* grows with every pod made */
};

struct pods *pods_new(const struct pods_options *options);
/* Everything must be gone (pods_count 0), else processes would be forgotten. */
void pods_free(struct pods *pods);

/* Start one pod of @deployment from its template, owned by @replicaset. */
int pods_create(struct pods *pods, const json_t *deployment, const json_t *replicaset,
	const char *hash, int64_t now_ms);
/* Begin to remove it; does nothing when that has begun. @at_once: no drain. */
void pods_stop(
	struct pods *pods, const char *namespace, const char *name, bool at_once, int64_t now_ms);
/* All of them, without drain: SIGTERM now, SIGKILL after @grace_ms. */
void pods_stop_all(struct pods *pods, int64_t grace_ms, int64_t now_ms);

/* A child was reaped; false when it is none of a pod. */
bool pods_reaped(struct pods *pods, pid_t pid, int wait_status, int64_t now_ms);
/* Pick up pods that were deleted over the API. */
void pods_check_deleted(struct pods *pods, int64_t now_ms);
/* Do what is due. When to be called again, in ms of the same clock. */
int64_t pods_advance(struct pods *pods, int64_t now_ms);

size_t pods_count(const struct pods *pods);
void pods_view(const struct pods *pods, size_t index, struct pod_view *out);

#endif
