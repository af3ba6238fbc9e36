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
/* Requests of CPU, millicores: of one container; 0: none. */
double pod_container_request(const json_t *pod, const char *container);
/*
 * What the kubelet makes the pod's own weight of: its containers and those beside them all along, or what
 * its start takes where that is more, or what is declared for the pod as a whole; and its overhead.
 */
double pod_request(const json_t *pod);

#endif
