// SPDX-License-Identifier: Apache-2.0
/*
 * A service without a CPU limit: its replicas have weights, made of their reservations as the kubelet
 * makes them, and the node's cores are shared by weight, as CFS and EEVDF do, of infinitely short time
 * slices. Whoever wants less than its share leaves the rest to the others. Neighbours are one group
 * that wants so many cores while it is busy.
 */
#include "common/cpu_weight.h"
#include "learner/simulator/simulate_model.h"

/* The agent takes the least weight for a reservation of so much. */
#define RESERVED_LEAST_MILLICORES 1.0

static double weight_of(const struct tier *tier, double millicores)
{
	enum cpu_weight_scale scale = (enum cpu_weight_scale)tier->service.weight_scale;

	return (double)cpu_weight_of(scale, millicores);
}

void tier_init_weights(struct tier *tier)
{
	const struct simulate_service *service = &tier->service;

	tier->reserves = service->reserves > 0;
	tier->room = service->cores;
	tier->neighbour_weight = weight_of(tier, service->neighbour_reserved_millicores);
}

/* By the weight of the replicas that run something: one that is idle has no part in it. */
void tier_share_cores(struct tier *tier)
{
	double weight = 0, owed;

	for (uint32_t i = 0; i < tier->slots; i++)
		if (tier->replica[i].phase != REPLICA_NONE && tier->replica[i].running.count)
			weight += tier->weight;
	owed = tier->room * weight / (weight + tier->neighbour_weight);
	tier->cores = fmax(owed, tier->room - tier->service.neighbour_cores);
}

void tier_contend(struct simulation *simulation, struct tier *tier, double room)
{
	tier->room = tier->cores = room;
	tier->contended =
		tier->reserves && tier->neighbour_busy && tier->service.neighbour_cores > 0;
	tier_set_rate(simulation, tier);
}

void tier_reserve(struct simulation *simulation, struct tier *tier, double millicores)
{
	/* As the agent: no more than the node has. */
	double most = fmax(1000 * tier->service.cores, RESERVED_LEAST_MILLICORES);

	millicores = fmin(fmax(millicores, RESERVED_LEAST_MILLICORES), most);
	/* What was in force until now counts until now. */
	for (uint32_t i = 0; i < tier->slots; i++)
		if (tier->replica[i].phase != REPLICA_NONE)
			replica_settle(tier, &tier->replica[i]);
	tier->reserved_cores = millicores / 1000;
	tier->weight = weight_of(tier, millicores);
	tier_set_rate(simulation, tier);
}
