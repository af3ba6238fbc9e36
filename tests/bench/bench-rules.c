// SPDX-License-Identifier: Apache-2.0
/*
 * What a tick of each rule costs, and how much it remembers: a comparison runs them over millions of
 * simulated ticks, the learner over thousands of units. Prints 'figure NAME VALUE UNIT' lines.
 */
#include "learner/dqn/random.h"
#include "learner/rules/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SAMPLES 4096
#define TICKS	2000000

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Ticks of 100 ms of a service that is now and then throttled. */
static void samples_fill(struct sample *samples)
{
	struct random_state random;

	random_seed(&random, 1);
	for (int i = 0; i < SAMPLES; i++)
		samples[i] = (struct sample){.tick_s = 0.1,
			.requests = 10 + random_below(&random, 20),
			.in_flight = random_below(&random, 8),
			.cpu_used_us = 10000 + random_below(&random, 40000),
			.throttled_us = random_below(&random, 4) ? 0 : 20000,
			.throttled_periods = random_below(&random, 4) == 0,
			.memory_pressure_us = random_below(&random, 50) ? 0 : 5000,
			.memory_used_bytes = (100 + random_below(&random, 50)) << 20,
			.memory_peak_bytes = 150 << 20,
			.memory_working_set_bytes = (100 + random_below(&random, 50)) << 20,
			.memory_limit_bytes = 512 << 20,
			.containers = 1};
}

static int bench_rule(enum policy_id id, const struct sample *samples, double *checksum)
{
	const struct rule *rule = rule_of(id);
	struct objective objective;
	struct rule_config config;
	struct plan plan = {.cpu_millicores = 1000, .memory_bytes = 512 << 20};
	uint32_t replicas = 2;
	void *state;
	double start_ns;

	if (!rule)
		return 0;
	state = calloc(1, rule->state_size + 1);
	if (!state)
		return -1;
	objective_init(&objective);
	objective.cpu_max_millicores = 2000;
	objective.memory_max_bytes = 1 << 30;
	objective.replicas_max = 10;
	rule_config_init(&config, rule);
	start_ns = now_ns();
	for (int i = 0; i < TICKS; i++) {
		rule->decide(&config, state, i * 0.1, &samples[i % SAMPLES], &objective, replicas,
			&plan, &replicas);
		/* As an envelope would. */
		if (plan.cpu_millicores > 2000)
			plan.cpu_millicores = 2000;
		if (plan.memory_bytes > 1 << 30)
			plan.memory_bytes = 1 << 30;
		if (replicas > 10)
			replicas = 10;
	}
	printf("figure rule_%s_tick %.1f ns\n", rule->info->name, (now_ns() - start_ns) / TICKS);
	printf("figure rule_%s_state %zu bytes\n", rule->info->name, rule->state_size);
	*checksum += plan.cpu_millicores + (double)plan.memory_bytes + replicas;
	free(state);
	return 0;
}

int main(void)
{
	static struct sample samples[SAMPLES];
	double checksum = 0;

	samples_fill(samples);
	for (int id = 0; id < POLICY_COUNT; id++)
		if (bench_rule((enum policy_id)id, samples, &checksum))
			return EXIT_FAILURE;
	return checksum > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
