// SPDX-License-Identifier: Apache-2.0
/*
 * What a pod's spec says of one container's limits, what we want it to say, and the patch between
 * the two. No clock, no socket: resize.c has those.
 *
 * The API server refuses a limit below its request, and a resize that would change the pod's QoS
 * class; hence two rules. Where the owner's request is the limit (the API server makes it so when
 * none is given), both are moved together. Elsewhere the request stays, and the limit stays above it.
 * A container with a CPU request and no CPU limit has its request moved; neither is ever added.
 */
#ifndef EBBTIDE_RESIZE_SPEC_H
#define EBBTIDE_RESIZE_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * CPU is asked for in whole steps: each patch is a write in the API server, and systemd rounds a quota
 * up to a hundredth of a CPU until the runtime writes it itself. A tiny service's are finer, down to
 * the kernel's smallest quota, 1 ms of the 100 ms period.
 */
#define RESIZE_STEP_MILLICORES	     10
#define RESIZE_FINE_STEP_MILLICORES  1
#define RESIZE_FINE_UNDER_MILLICORES 100
#define RESIZE_LEAST_MILLICORES	     10

enum resize_resource {
	RESIZE_CPU,    /* millicores */
	RESIZE_MEMORY, /* bytes */
	RESIZE_COUNT
};

/* Of one resource; 0 is none. */
struct resize_value {
	char words[32];	  /* the owner's own for what is moved, to be put back as they were */
	double limit;	  /* the owner's */
	double request;	  /* the owner's */
	bool reserves;	  /* CPU without a limit: the request is moved, else the limit */
	double spec;	  /* of what is moved: in the API server now */
	double want;	  /* to be there */
	bool restarts;	  /* resizePolicy RestartContainer: never resized by us */
	bool cannot_fall; /* the API server refused a lower one (memory before 1.34) */
};

struct resize_spec {
	struct resize_value values[RESIZE_COUNT];
};

/* From the pod, as its owner's; false when it has no such container. */
bool resize_spec_read(struct resize_spec *spec, const json_t *pod, const char *container);
/*
 * The pod has changed: a limit that is neither what we knew nor what we want is the owner's new one
 * and stands. True when there was one.
 */
bool resize_spec_observe(struct resize_spec *spec, const json_t *pod, const char *container);
/* Want @value (millicores or bytes), as far as the two rules and the owner's limit allow. */
void resize_spec_want(struct resize_spec *spec, enum resize_resource which, double value);
/* Want a request of @millicores, of a container whose owner has one and set no CPU limit. */
void resize_spec_want_request(struct resize_spec *spec, double millicores);
/* What the owner declared of what is moved; 0: nothing. */
double resize_value_declared(const struct resize_value *value);
/* Want what the owner declared. True when something else was wanted. */
bool resize_spec_want_declared(struct resize_spec *spec);
bool resize_spec_is_due(const struct resize_spec *spec);
/* Whether the API server has the owner's limits. */
bool resize_spec_is_declared(const struct resize_spec *spec);
/* A strategic merge patch; NULL when nothing is due, or out of memory. */
json_t *resize_spec_patch(const struct resize_spec *spec, const char *container);
/* The patch was refused for what it says: go without what may be the reason. */
void resize_spec_refused(struct resize_spec *spec);

/*
 * Why the kubelet has not taken up the newest resize of @pod: "Deferred" (no room now), "Infeasible" (never
 * on this node, or for such a pod); NULL: it has, or was not asked. @message: its words, or "".
 */
const char *resize_pending(const json_t *pod, const char **message);

/*
 * The owner's words to and from the state on disk, with what was asked for; load gives false when there
 * are none. What the owner has resized since they were saved stays as it was read.
 */
void resize_spec_save(const struct resize_spec *spec, json_t *kept);
bool resize_spec_load(struct resize_spec *spec, const json_t *kept);

#endif
