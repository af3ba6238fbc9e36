// SPDX-License-Identifier: Apache-2.0
/*
 * Training in the simulator, before there is any experience: services, loads and objectives are
 * drawn at random, many worlds run side by side, one network learns from all of them. The same seed
 * and processor give the same weights.
 */
#ifndef EBBTIDE_PRETRAIN_H
#define EBBTIDE_PRETRAIN_H

#include "learner/dqn/network.h"
#include "learner/dqn/train.h"

/* What is learnt. Replicas are learnt over limits that a vertical network decides. */
enum pretrain_part {
	PRETRAIN_VERTICAL,
	PRETRAIN_HORIZONTAL,
};

struct pretrain_config {
	enum pretrain_part part;
	const struct network *vertical; /* for PRETRAIN_HORIZONTAL; borrowed */
	uint64_t seed;
	uint32_t worlds;      /* side by side */
	uint32_t rounds;      /* decisions in each of them */
	uint32_t length;      /* decisions in a world, after which another one is drawn */
	uint32_t updates;     /* gradient steps a round */
	uint32_t replay;      /* transitions kept */
	double explore_least; /* epsilon of the world that explores least, at the end */
	double reserving; /* share of worlds whose service has no CPU limit; 0: as they were before
			       * there were such, draw by draw */
	struct train_config train;
};
void pretrain_config_init(struct pretrain_config *config, enum pretrain_part part);

/* The live learner's networks are of this shape. */
struct network_shape pretrain_shape(enum pretrain_part part);

/* What came of worlds that ended, means over them; or of a test. */
struct pretrain_score {
	uint32_t worlds;
	double reward;	   /* of a decision */
	double allocated;  /* over used */
	double violations; /* share of ticks */
	double asked;	   /* the same of what was asked for */
	double memory;	   /* limit over the working set */
	double refills;	   /* a second and container */
	double replicas;   /* over the upper bound */
	uint64_t oom_kills;
};

typedef void pretrain_progress(
	void *context, uint32_t round, const struct pretrain_score *score, double td_error);

struct pretrain_result {
	struct network network; /* owned by the caller: network_destroy() */
	uint64_t steps;
	uint64_t experiences;
};
/* 0, -EINVAL, -ENOMEM. @progress, if any, is called after every @length rounds. */
int pretrain_run(const struct pretrain_config *config, struct pretrain_result *result,
	pretrain_progress *progress, void *context);

/*
 * Play @worlds worlds of another seed without exploration: @vertical alone, or with replicas by
 * @horizontal. @asked: share of violations that all of them ask for, @reserving: as above.
 */
int pretrain_test(const struct network *vertical, const struct network *horizontal, uint64_t seed,
	uint32_t worlds, uint32_t ticks, double asked, double reserving,
	struct pretrain_score *score);

#endif
