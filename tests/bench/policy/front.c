// SPDX-License-Identifier: Apache-2.0
#include "bench/policy/front.h"

#include <math.h>
#include <stdlib.h>

static int by_violations(const void *a, const void *b)
{
	const struct front_point *x = a, *y = b;

	if (x->violations != y->violations)
		return x->violations < y->violations ? -1 : 1;
	if (x->cores != y->cores)
		return x->cores < y->cores ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

uint32_t front_make(struct front_point *points, uint32_t count)
{
	uint32_t kept = 0;

	qsort(points, count, sizeof(*points), by_violations);
	for (uint32_t i = 0; i < count; i++)
		if (kept == 0 || points[i].cores < points[kept - 1].cores)
			points[kept++] = points[i];
	return kept;
}

double front_cores_at(const struct front_point *front, uint32_t count, double violations)
{
	uint32_t i = 0;
	double share;

	while (i < count && front[i].violations <= violations)
		i++;
	if (i == 0)
		return INFINITY;
	if (i == count)
		return front[count - 1].cores;
	share = (violations - front[i - 1].violations) /
		(front[i].violations - front[i - 1].violations);
	return front[i - 1].cores + share * (front[i].cores - front[i - 1].cores);
}

double front_violations_at(const struct front_point *front, uint32_t count, double cores)
{
	uint32_t i = 0;
	double share;

	while (i < count && front[i].cores > cores)
		i++;
	if (i == count)
		return INFINITY;
	if (i == 0)
		return front[0].violations;
	share = (front[i - 1].cores - cores) / (front[i - 1].cores - front[i].cores);
	return front[i - 1].violations + share * (front[i].violations - front[i - 1].violations);
}

const struct front_point *front_best(const struct front_point *points, uint32_t count, double most)
{
	const struct front_point *best = &points[0];

	for (uint32_t i = 1; i < count; i++) {
		const struct front_point *p = &points[i];
		bool holds = p->violations <= most, best_holds = best->violations <= most;

		if (holds != best_holds ? holds
			: holds		? p->cores < best->cores
					: p->violations < best->violations ||
					  (p->violations <= best->violations &&
						  p->cores < best->cores))
			best = p;
	}
	return best;
}
