// SPDX-License-Identifier: Apache-2.0
/*
 * Replicas that the present load needs. A limit and the reflex move CPU up to what one replica may use
 * and no further: near that, requests wait for each other, whatever is decided for CPU. So each replica
 * is to keep room under it, from before the load has come that far.
 *
 * Pure: no clock, file or global.
 */
#ifndef EBBTIDE_ROOM_H
#define EBBTIDE_ROOM_H

#include "common/state.h"

#include <stdint.h>

/* CPU of one unit, all containers. Zero-initialise. */
struct busy {
	double used_millicores; /* of the last second or so */
	double peak_millicores; /* of that, which fades with a half-life of a minute */
};

struct service;

/* After a tick. */
void room_note(struct busy *busy, const struct sample *sample);
/* The fewest replicas that leave each of @service's its room; 0: not known, for it has no limit. */
uint32_t room_replicas(const struct service *service);

#endif
