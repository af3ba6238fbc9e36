// SPDX-License-Identifier: Apache-2.0
#include "learner/budget.h"

/* What was not used is kept this long, so that a quiet minute does not buy a busy one. */
#define CREDIT_WALL_S 0.1

void budget_init(struct budget *budget, double share)
{
	budget->share = share;
	budget->credit_s = 0;
}

double budget_spend(struct budget *budget, double wall_s, double cpu_s)
{
	double most = budget->share * CREDIT_WALL_S;

	budget->credit_s += budget->share * wall_s - cpu_s;
	if (budget->credit_s > most)
		budget->credit_s = most;
	if (budget->credit_s >= 0 || budget->share >= 1)
		return 0;
	return -budget->credit_s / budget->share;
}
