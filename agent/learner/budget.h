// SPDX-License-Identifier: Apache-2.0
/*
 * A share of a core for a thread that would take a whole one: after each piece of work it is told
 * how long to rest, so that over a second its CPU time stays within the share.
 *
 * Pure: times come in as arguments.
 */
#ifndef EBBTIDE_BUDGET_H
#define EBBTIDE_BUDGET_H

struct budget {
	double share;	 /* of a core, above 0 */
	double credit_s; /* CPU seconds not used yet; under 0: overdrawn */
};

/* @share above 0; 1 and more never rests. */
void budget_init(struct budget *budget, double share);
/* @wall_s passed, of which @cpu_s were worked. Seconds to rest now, 0 or more. */
double budget_spend(struct budget *budget, double wall_s, double cpu_s);

#endif
