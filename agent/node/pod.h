// SPDX-License-Identifier: Apache-2.0
/* What a pod's object says of its containers. */
#ifndef EBBTIDE_POD_H
#define EBBTIDE_POD_H

#include <jansson.h>
#include <stdbool.h>

/*
 * Whether @container is the one that the pod is there for, as kubectl tells: the one that the annotation
 * kubectl.kubernetes.io/default-container names, else the first of the spec. The others are side
 * containers: proxies, log shippers.
 */
bool pod_is_main(const json_t *pod, const char *container);
/* Requests of CPU. */
struct pod_requests {
	double container_millicores; /* of the one that was asked for; 0: none */
	/*
	 * What the kubelet makes the pod's own weight of: its containers and those beside them all along,
	 * or what its start takes where that is more, or what is declared for the pod as a whole; and its
	 * overhead.
	 */
	double pod_millicores;
};
struct pod_requests pod_requests(const json_t *pod, const char *container);

#endif
