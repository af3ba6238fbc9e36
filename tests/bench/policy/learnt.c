// SPDX-License-Identifier: Apache-2.0
#include "bench/policy/learnt.h"

#include "learner/pretraining/episode.h"
#include "learner/pretraining/pretrain.h"
#include "learner/pretraining/pretrained.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ticks between two decisions on replicas. */
#define SCALE_TICKS 5

struct learnt_run {
	const struct learnt *learnt;
	struct episode episode;
	struct policy_config policy;
	struct random_state random;
	float *scratch;
	uint32_t ticks;
	bool scales;
};

static void learnt_end(void *run)
{
	struct learnt_run *r = run;

	episode_end(&r->episode);
	free(r->scratch);
	free(r);
}

static int learnt_start(
	void **run, const struct bench_setting *setting, const struct objective *objective)
{
	const struct learnt *learnt = (const struct learnt *)(const void *)setting->policy;
	struct learnt_run *r = calloc(1, sizeof(*r));
	struct episode_config config = {.objective = *objective,
		.cpu_declared_millicores = setting->reserves ? 0 : objective->cpu_max_millicores,
		.memory_declared_bytes = objective->memory_max_bytes,
		.start = {.cpu_millicores = objective->cpu_max_millicores,
			.reserves = setting->reserves,
			.memory_bytes = objective->memory_max_bytes},
		.reflex = true,
		.memory_high = strcmp(setting->name, LEARNT_HARD) != 0,
		.cooldown_s = 30};
	struct train_config train;
	size_t scratch = network_scratch_floats(&learnt->vertical);
	int err;

	if (!r)
		return -ENOMEM;
	if (network_scratch_floats(&learnt->horizontal) > scratch)
		scratch = network_scratch_floats(&learnt->horizontal);
	snprintf(config.objective.policy, sizeof(config.objective.policy), "dqn");
	train_config_init(&train);
	policy_config_init(&r->policy);
	r->policy.explore_start = r->policy.explore_end = 0;
	r->learnt = learnt;
	r->scales = objective->replicas_max > objective->replicas_min;
	random_seed(&r->random, 1);
	r->scratch = calloc(scratch, sizeof(float));
	err = r->scratch ? episode_begin(&r->episode, &config, &train) : -ENOMEM;
	if (err) {
		learnt_end(r);
		return err;
	}
	*run = r;
	return 0;
}

static void learnt_decide(void *run, double now_s, const struct sample *sample,
	const struct objective *objective, struct simulate_input *input)
{
	struct learnt_run *r = run;
	struct policy_context context = {.config = &r->policy, .random = &r->random};
	float q[ACTION_VERTICAL];

	(void)now_s, (void)objective;
	episode_note(&r->episode, sample, input->replicas);
	network_forward_one(&r->learnt->vertical, r->episode.state, r->scratch, q);
	episode_decide(&r->episode, &context, q);
	input->plan = r->episode.plan;
	if (r->episode.config.memory_high)
		input->memory_most_bytes = r->episode.config.memory_declared_bytes;
	if (!r->scales || ++r->ticks % SCALE_TICKS)
		return;
	episode_note_period(&r->episode, input->replicas);
	network_forward_one(&r->learnt->horizontal, r->episode.service->state, r->scratch, q);
	input->replicas = episode_scale(&r->episode, &context, q);
}

static int network_load(
	const char *path, enum pretrain_part part, const char *name, struct network *network)
{
	const struct network_shape shape = pretrain_shape(part);
	char error[256] = "";
	int err = pretrained_network(path, name, &shape, network, error, sizeof(error));

	if (err)
		fprintf(stderr, "bench-policy: %s: %s\n", path ? path : name,
			error[0] ? error : strerror(-err));
	return err;
}

int learnt_load(struct learnt *learnt, const char *vertical, const char *horizontal)
{
	int err;

	*learnt = (struct learnt){.policy = {"dqn", 1, learnt_start, learnt_decide, learnt_end}};
	err = network_load(vertical, PRETRAIN_VERTICAL, "vertical", &learnt->vertical);
	if (!err)
		err = network_load(
			horizontal, PRETRAIN_HORIZONTAL, "horizontal", &learnt->horizontal);
	return err;
}

void learnt_free(struct learnt *learnt)
{
	network_destroy(&learnt->vertical);
	network_destroy(&learnt->horizontal);
}
