// SPDX-License-Identifier: Apache-2.0
/* A report as any agent, or anyone, may send it: taken or refused, never more. */
#include "driver.h"

#include "learner/learner.h"
#include "report_agree.h"

#include <errno.h>

static struct learner *learner_make(void)
{
	static struct learner learner;
	static bool made;
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = 256,
		.replay_ratio = 1,
		.updates_per_s_max = 10};

	if (made)
		return &learner;
	made = true;
	train_config_init(&options.train);
	policy_config_init(&learner.config.policy);
	pthread_mutex_init(&learner.lock, NULL);
	random_seed(&learner.random, 1);
	if (brain_open(&learner.vertical, &options))
		abort();
	options.actions = ACTION_HORIZONTAL;
	if (brain_open(&learner.horizontal, &options))
		abort();
	return &learner;
}

/* The service of the seeds has an objective under each of the policies in turn. */
static void objective_give(struct learner *learner)
{
	static unsigned int turn;
	char joined[2 * POLICY_NAME_MAX];
	struct service *service = services_get(&learner->services, "default", "fibonacci");

	if (!service)
		abort();
	service->has_objective = true;
	service->objective.cpu_max_millicores = 1000;
	service->objective.memory_max_bytes = 128 << 20;
	service->objective.replicas_max = 4;
	/* Alone, and where that is a policy with an allowance. */
	turn = (turn + 1) % (2 * POLICY_COUNT);
	snprintf(joined, sizeof(joined), "%s%s", policy_infos[turn / 2].name,
		turn % 2 ? "+reflex+burst" : "");
	if (policy_parse(joined, NULL, NULL, 0))
		snprintf(joined, sizeof(joined), "%s", policy_infos[turn / 2].name);
	snprintf(service->objective.policy, sizeof(service->objective.policy), "%s", joined);
}

/* What is answered is an Answer, and no limit in it is outside the bounds. */
static void answer_check(const uint8_t *bytes, size_t size)
{
	Ebbtide__Wire__Answer *answer = ebbtide__wire__answer__unpack(NULL, size, bytes);

	if (!answer)
		abort();
	for (size_t i = 0; i < answer->n_actions; i++) {
		const Ebbtide__Wire__Action *action = answer->actions[i];
		const Ebbtide__Wire__Allowance *allowance = action->allowance;

		if (allowance && (!(allowance->ceiling_millicores >= 0 &&
					  allowance->ceiling_millicores <= 1000) ||
					 (double)allowance->burst_us >
						 action->cpu_limit_millicores * 100 + 1e-6))
			abort();
		if (!(action->cpu_limit_millicores >= 0) ||
			(action->action < ACTION_VERTICAL &&
				action->action != ACTION_VERTICAL_HOLD &&
				(action->cpu_limit_millicores > 1000 ||
					action->memory_limit_bytes > 128 << 20)))
			abort();
	}
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void learner_forget(struct learner *learner)
{
	services_free(&learner->services);
	sequences_free(&learner->sequences);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct learner *learner = learner_make();
	char error[256] = "";
	uint8_t *answer = NULL;
	static size_t handled;
	size_t answer_size = 0;
	struct report_error reason;
	bool refused;
	int err;

	/* What is taken means the same to protobuf-c. */
	if (report_agree(data, size, &refused, &reason))
		abort();
	objective_give(learner);
	err = report_handle(learner, data, size, &answer, &answer_size, error, sizeof(error));

	/* A refusal says what it refuses. */
	if ((err == -EINVAL) != refused || (refused && !error[0]))
		abort();
	if (!err)
		answer_check(answer, answer_size);
	free(answer);
	/* Mutated names are new services; a mutated sequence makes the agent's others old ones. */
	if (++handled % 64 == 0)
		learner_forget(learner);
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static uint64_t sequence;
	Ebbtide__Wire__Report report = EBBTIDE__WIRE__REPORT__INIT;
	Ebbtide__Wire__Unit unit = EBBTIDE__WIRE__UNIT__INIT, *units[1] = {&unit};
	Ebbtide__Wire__Sample sample = EBBTIDE__WIRE__SAMPLE__INIT;
	Ebbtide__Wire__Experience experience = EBBTIDE__WIRE__EXPERIENCE__INIT;
	float state[STATE_SIZE] = {0.5F};

	if (index > 2)
		return 0;
	report.schema = STATE_SCHEMA;
	report.agent = (char *)"node";
	report.incarnation = 1;
	report.sequence = ++sequence;
	sample.tick_s = 1;
	sample.requests = 100;
	sample.cpu_limit_millicores = 500;
	sample.containers = 2;
	sample.memory_limit_bytes = 64 << 20;
	sample.memory_used_bytes = 40 << 20;
	sample.cpu_used_us = 300000;
	sample.latency_objective_us = 20000;
	unit.namespace_ = (char *)"default";
	unit.service = (char *)"fibonacci";
	unit.sample = &sample;
	unit.n_state = STATE_SIZE;
	unit.state = state;
	unit.decide = true;
	unit.cpu_declared_millicores = 1000;
	unit.memory_declared_bytes = 128 << 20;
	if (index > 0) {
		experience.n_state = experience.n_next_state = STATE_SIZE;
		experience.state = experience.next_state = state;
		experience.action = 3;
		experience.reward = -0.5F;
		unit.experience = &experience;
	}
	report.n_units = index < 2;
	report.units = units;
	return ebbtide__wire__report__pack(&report, out);
}
