// SPDX-License-Identifier: Apache-2.0
/*
 * Where the network would take a unit's limits: its decisions applied to a plan that is kept beside
 * what is in force, a step a tick. For mode recommend, which shows an end and not the first step.
 *
 * Of those limits nothing is measured: a plan beside knows the demand, the working set and the
 * latency under the limits in force. So it stays where that much is enough to tell: within the
 * envelope, and on the rungs that need no reflex, which is off outside mode auto.
 */
#ifndef EBBTIDE_ADVICE_H
#define EBBTIDE_ADVICE_H

#include "learner/policy.h"

/*
 * A tick of @unit, after its decision, with the same bounds: the plan beside, or NULL where there is
 * none: the policy has no networks, they have diverged, or nothing is to be changed.
 */
const struct plan *advice_move(const struct policy_context *context, struct service_unit *unit,
	const struct envelope_unit *bounds);
void advice_forget(struct service_unit *unit);

#endif
