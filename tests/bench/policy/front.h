// SPDX-License-Identifier: Apache-2.0
/*
 * The front of a policy on a row: what it must set aside for how many violations.
 *
 * Points that another one beats in both are left out. Between two neighbours the front is a straight
 * line in both: a service that runs on one setting for a part of its time and on the other for the rest
 * is there. To the right of its last point it is level (no one has to break more); to the left of its
 * first it does not exist. Pure.
 */
#ifndef EBBTIDE_BENCH_FRONT_H
#define EBBTIDE_BENCH_FRONT_H

#include <stdbool.h>
#include <stdint.h>

struct front_point {
	double violations; /* share of windows */
	double cores;
	uint32_t index; /* the caller's, kept */
};

/*
 * Sort @points by violations and leave those of the front, in place: violations grow, cores fall.
 * Returns how many.
 */
uint32_t front_make(struct front_point *points, uint32_t count);
/* Cores at @violations; INFINITY where it has so few nowhere. */
double front_cores_at(const struct front_point *front, uint32_t count, double violations);
/* Violations at @cores; INFINITY where it has so few nowhere. */
double front_violations_at(const struct front_point *front, uint32_t count, double cores);
/*
 * The best-tuned one: the least cores with at most @most violations; where there is none, the fewest
 * violations (of these the least cores). @count at least 1.
 */
const struct front_point *front_best(const struct front_point *points, uint32_t count, double most);

#endif
