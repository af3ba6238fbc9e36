// SPDX-License-Identifier: Apache-2.0
/*
 * The share of throttled periods that an operator accepts, as a floor on the ladder of operating
 * points. A floor that rises while the share is over what is accepted, and sinks while it is under,
 * rests where the one is the other (integral control). Pure.
 */
#ifndef EBBTIDE_THROTTLING_H
#define EBBTIDE_THROTTLING_H

#include "common/state.h"

/*
 * The floor, in rungs, 0 to RUNG_COUNT - 1, after a tick: @acceptable is the objective's share of CFS
 * periods, 0 to 1; 1 accepts all, and there is no floor. Begins at 0.
 */
double throttling_adapt(double floor_rungs, const struct sample *sample, double acceptable);
/* The lowest rung that such a floor allows. */
uint32_t throttling_rung(double floor_rungs);

#endif
