// SPDX-License-Identifier: Apache-2.0
#include "learner/room.h"

#include "learner/service.h"

#include <math.h>

/*
 * Of what a replica may use, at the recent peak. A request of one thread waits on average for half of
 * what it takes itself when the thread is busy half of the time, for two times that at four fifths; and
 * a load that doubles in seconds finds a replica more on its way.
 */
#define ROOM_USED_MOST 0.5
/* What comes and goes within a second is chance, and the reflex's matter. */
#define ROOM_MEAN_S	      1.0
#define ROOM_PEAK_HALF_LIFE_S 60.0

void room_note(struct busy *busy, const struct sample *sample)
{
	double used;

	if (!(sample->tick_s > 0))
		return;
	used = (double)sample->cpu_used_us / (sample->tick_s * 1000);
	busy->used_millicores +=
		(used - busy->used_millicores) * (1 - exp(-sample->tick_s / ROOM_MEAN_S));
	busy->peak_millicores = fmax(busy->used_millicores,
		busy->peak_millicores * exp2(-sample->tick_s / ROOM_PEAK_HALF_LIFE_S));
}

uint32_t room_replicas(const struct service *service)
{
	double used = 0, most = INFINITY;

	for (size_t i = 0; i < service->unit_count; i++) {
		const struct service_unit *unit = service->units[i];
		const struct envelope_unit bounds = {.objective = &service->objective,
			.cpu_declared_millicores = unit->cpu_declared_millicores};

		/* Its containers are gone, from a node that goes on reporting: nothing is used there. */
		if (unit->sample.tick_s > 0 && unit->sample.containers == 0)
			continue;
		if (unit->cpu_declared_millicores <= 0)
			return 0;
		used += unit->busy.peak_millicores;
		most = fmin(most, envelope_cpu_max(&bounds));
	}
	if (!(most > 0) || most >= INFINITY)
		return 0;
	return (uint32_t)fmin(ceil(used / (ROOM_USED_MOST * most)), UINT32_MAX);
}
