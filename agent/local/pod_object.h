// SPDX-License-Identifier: Apache-2.0
/*
 * A pod between JSON and processes: what to launch (from the spec), and what is shown (status).
 * No process, no socket and no clock that ticks in here.
 */
#ifndef EBBTIDE_LOCAL_POD_OBJECT_H
#define EBBTIDE_LOCAL_POD_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "common/cgroup.h"

#define PODS_CONTAINERS_MAX   8
#define POD_PORT_ANNOTATION   "ebbtide.io/port"
#define POD_CGROUP_ANNOTATION "ebbtide.io/cgroup"
#define POD_CONTAINER_SCHEME  "ebbtide://"

/* How a container is started. Owned by whoever called pod_status_init: pod_launch_free. */
struct pod_launch {
	json_t *env;	    /* the spec's env array, or NULL */
	char **arguments;   /* command and args as written */
	char **expanded;    /* with $(NAME) filled in, by pod_launch_prepare */
	char **environment; /* by pod_launch_prepare */
	char *directory;    /* NULL: the caller's */
	bool has_port;
	bool has_probe;
	int64_t probe_period_ms;
	int64_t initial_delay_ms;
	int failure_threshold;
};

struct container_status {
	char name[64];
	char cgroup[CGROUP_PATH_MAX];
	pid_t pid;
	uint16_t port; /* 0: none */
	bool running;
	bool ready;
	int restarts;
	int failures;	    /* of the probe, in a row */
	int64_t backoff_ms; /* the last pause; 0: none yet */
	int64_t start_ms;   /* when to start it (again) */
	int64_t started_ms;
	int64_t probe_ms; /* when to look next */
	time_t started_at;
	uint64_t oom_kills; /* of its cgroup, as last read */
	char reason[32];    /* why it waits: "CrashLoopBackOff" */
	char message[512];
	bool has_last; /* it has ended before */
	int last_code; /* exit status; 128 + signal */
	int last_signal;
	char last_reason[16]; /* "Completed", "Error", "OOMKilled" */
	time_t last_started_at;
	time_t last_finished_at;
};

struct pod_status {
	size_t container_count;
	struct container_status containers[PODS_CONTAINERS_MAX];
	bool ready;
	time_t ready_at; /* last change of ready */
};

/* A new Pod object without status; caller decrefs. */
json_t *pod_object_new(const char *name, const char *node, const json_t *deployment,
	const json_t *replicaset, const char *hash);
/* Status and launches from a Pod object; container cgroups are below @cgroup. */
void pod_status_init(struct pod_status *status, struct pod_launch *launches, const char *cgroup,
	const json_t *object);
void pod_launch_free(struct pod_launch *launch);
/* Fill in environment and expanded arguments; @port 0: no PORT. -ENOMEM with *step "memory". */
int pod_launch_prepare(
	struct pod_launch *launch, uint16_t port, const char *pod_name, const char **step);

void container_set_terminated(struct container_status *container, int wait_status, bool oom);
/* Write status (and the port's annotation) into @object, which is the caller's own copy. */
void pod_object_set_status(json_t *object, const struct pod_status *status);
void pod_object_set_deletion(json_t *object, int64_t grace_s);

#endif
