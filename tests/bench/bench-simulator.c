// SPDX-License-Identifier: Apache-2.0
/*
 * How fast the simulator is: simulated seconds of a service with 230 requests each, on one core, per
 * wall millisecond. Each load runs RUNS times; the best run is printed, as other programs of the
 * machine can only slow it.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "learner/simulator/simulate.h"

#define RATE_PER_S    230.0
#define TRACE_SECONDS 600
#define TICKS	      6000
#define RUNS	      7

static double clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

struct load_case {
	const char *figure;
	const char *text;
	double millicores;
	uint32_t replicas;
	double work_us;
	double workers;
	enum simulate_arrivals arrivals;
	struct allowance allowance;
};

static const struct load_case cases[] = {
	{"simulator_s_per_ms",
		"a service as the learner is pretrained on: 2 replicas, bursts, a limit that "
		"throttles, reflex",
		300, 2, 2000, 16, SIMULATE_BURSTY, {0.3, 3, 800}},
	{"simulator_s_per_ms_calm", "1 replica, no throttling", 2000, 1, 2000, 16, SIMULATE_POISSON,
		{0, 0, 0}},
	{"simulator_s_per_ms_serial", "2 replicas of one worker each, a limit that throttles", 350,
		2, 2000, 1, SIMULATE_POISSON, {0.3, 3, 800}},
	{"simulator_s_per_ms_overload", "1 replica, half of what it needs", 230, 1, 2000, 16,
		SIMULATE_POISSON, {0, 0, 0}},
	{"simulator_s_per_ms_8_replicas", "8 replicas", 100, 8, 2000, 16, SIMULATE_BURSTY,
		{0.3, 3, 300}},
};

static int measure(const struct load_case *load, const double *rates)
{
	struct simulate_config config;
	struct simulation *simulation;
	struct simulate_input input = {
		.plan = {.cpu_millicores = load->millicores, .memory_bytes = 64 << 20},
		.replicas = load->replicas};
	uint64_t answered = 0, failed = 0, over = 0, refills = 0;
	double best_ms = INFINITY, throttled_s = 0;

	input.plan.allowance = load->allowance;
	simulate_config_init(&config);
	config.service[0].work_us = load->work_us;
	config.service[0].workers = load->workers;
	config.trace = (struct simulate_trace){.rate_per_s = rates,
		.seconds = TRACE_SECONDS,
		.scale = 1,
		.arrivals = load->arrivals};
	if (simulate_create(&simulation, &config, 1)) {
		fprintf(stderr, "bench-simulator: cannot make a simulation\n");
		return -1;
	}
	for (int run = 0; run < RUNS; run++) {
		double start = clock_ms();

		simulate_reset(simulation, &config, (uint64_t)run);
		answered = failed = over = refills = 0;
		throttled_s = 0;
		for (int i = 0; i < TICKS; i++) {
			struct sample sample;

			simulate_tick(simulation, &input, &sample);
			answered += sample.requests;
			failed += sample.requests_failed;
			over += sample.requests_over;
			refills += sample.refills;
			throttled_s += (double)sample.throttled_us / 1e6;
		}
		best_ms = fmin(best_ms, clock_ms() - start);
	}
	printf("# %s: %.1f ns a request; %.1f answered, %.2f over, %.2f refills, %.3f s throttled "
	       "a second\n",
		load->text, best_ms * 1e6 / (double)(answered + failed), (double)answered / TICKS,
		(double)over / TICKS, (double)refills / TICKS, throttled_s / TICKS);
	printf("figure %s %.1f s/ms\n", load->figure, TICKS / best_ms);
	simulate_destroy(simulation);
	return 0;
}

int main(void)
{
	static double rates[TRACE_SECONDS];

	/* A day in ten minutes, mean 230. */
	for (int i = 0; i < TRACE_SECONDS; i++)
		rates[i] = RATE_PER_S * (1 + 0.5 * sin(2 * M_PI * i / TRACE_SECONDS));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (measure(&cases[i], rates))
			return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
