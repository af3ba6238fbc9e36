// SPDX-License-Identifier: Apache-2.0
/*
 * The simulator against a plain one that steps through time in 5 us, on random configurations and
 * the same arrivals. The plain one shares nothing with it but the load.
 */
#include "learner/simulator/simulate.h"
#include "learner/simulator/simulate_load.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEP_US	    5.0
#define STEP_PERIOD 20000 /* steps of a CFS period */
#define SECONDS	    20
#define ROUNDS	    30
#define RESERVING   5 /* and so many without a limit */
#define REPLICAS    6
#define WORKERS	    24
#define WAITING	    4096

struct plain_request {
	double arrived_us;
	double left_us;	 /* of CPU work */
	double woken_us; /* end of its wait; 0: it has not begun */
};

struct plain_replica {
	struct plain_request worker[WORKERS];
	bool taken[WORKERS];
	struct plain_request queue[WAITING];
	uint32_t queue_first, queued, in_flight;
	double quota_us, left_us, used_us; /* of the period */
	uint32_t refills;
	bool throttled;
	bool ran; /* something ran in the step before */
	double throttled_since_us;
};

struct plain {
	struct simulate_service service;
	struct plan plan;
	uint32_t replicas, cursor;
	struct plain_replica replica[REPLICAS];
	double *latency_us;
	size_t answered, failed, refills;
	double used_us, allocated_us, throttled_us, waited_us;
};

static void plain_arrive(struct plain *plain, double now_us, double work_us)
{
	uint32_t first = plain->cursor++ % plain->replicas, pick = first;
	struct plain_request request = {.arrived_us = now_us, .left_us = work_us};
	struct plain_replica *replica;

	/* The fewest in flight; among those in turn. */
	for (uint32_t k = 0; plain->service.least_connections > 0 && k < plain->replicas; k++) {
		uint32_t i = (first + k) % plain->replicas;

		if (plain->replica[i].in_flight < plain->replica[pick].in_flight)
			pick = i;
	}
	replica = &plain->replica[pick];
	if (replica->in_flight >= plain->service.workers + plain->service.backlog) {
		plain->failed++;
		return;
	}
	if (replica->in_flight == 0)
		request.left_us += plain->service.wake_us;
	replica->in_flight++;
	replica->queue[(replica->queue_first + replica->queued++) % WAITING] = request;
}

static void plain_take(struct plain *plain, struct plain_replica *replica)
{
	for (uint32_t w = 0; w < (uint32_t)plain->service.workers && replica->queued; w++) {
		if (replica->taken[w])
			continue;
		replica->taken[w] = true;
		replica->worker[w] = replica->queue[replica->queue_first];
		replica->queue_first = (replica->queue_first + 1) % WAITING;
		replica->queued--;
	}
}

static void plain_answer(
	struct plain *plain, struct plain_replica *replica, uint32_t worker, double now_us)
{
	plain->latency_us[plain->answered++] = now_us - replica->worker[worker].arrived_us;
	replica->taken[worker] = false;
	replica->in_flight--;
}

static bool plain_runs(const struct plain_replica *replica, uint32_t worker)
{
	return replica->taken[worker] && replica->worker[worker].left_us > 0;
}

static uint32_t plain_running(const struct plain *plain, const struct plain_replica *replica)
{
	uint32_t count = 0;

	for (uint32_t w = 0; w < (uint32_t)plain->service.workers; w++)
		count += plain_runs(replica, w);
	return count;
}

/* A period's refill leaves what is on the CPUs, debts as well. */
static void plain_refill(struct plain *plain, struct plain_replica *replica)
{
	double kept_us = fmax(0, fmin(replica->left_us, plain->service.idle_quota_us));

	replica->left_us = kept_us + fmin(replica->left_us - kept_us + replica->quota_us,
					     replica->quota_us + (double)plain->plan.burst_us);
	replica->throttled &= replica->left_us <= 0;
}

/* A write does not. */
static void plain_write(struct plain *plain, struct plain_replica *replica, double grant_us)
{
	replica->left_us = fmin(fmax(replica->left_us, 0) + grant_us,
		replica->quota_us + (double)plain->plan.burst_us);
	replica->throttled = false;
}

static void plain_reflex(
	struct plain *plain, struct plain_replica *replica, double now_us, double period_end_us)
{
	const struct allowance *allowance = &plain->plan.allowance;
	double oldest_us = INFINITY, room_us;

	for (uint32_t w = 0; w < (uint32_t)plain->service.workers; w++)
		if (replica->taken[w])
			oldest_us = fmin(oldest_us, replica->worker[w].arrived_us);
	room_us = allowance->ceiling_millicores * 100 - replica->used_us;
	if (allowance->trigger_age_share <= 0 || replica->refills >= allowance->refills_per_period)
		return;
	/* A part of a quota only if it is a sixteenth, the kernel's least, and no less than the burst. */
	if (room_us < replica->quota_us && (room_us < 1000 || room_us < replica->quota_us / 16 ||
						   room_us < (double)plain->plan.burst_us))
		return;
	if (now_us >= period_end_us - 500)
		return;
	/* Both conditions have held for the time that it takes to react. */
	if (now_us - plain->service.reaction_us <
			oldest_us +
				allowance->trigger_age_share * plain->service.latency_target_us ||
		now_us - plain->service.reaction_us < replica->throttled_since_us)
		return;
	replica->refills++;
	plain->refills++;
	plain_write(plain, replica, fmin(room_us, replica->quota_us));
}

static void plain_run(struct plain *plain, struct plain_replica *replica, double share_us,
	double now_us, double wait_us)
{
	const double tick_us = plain->service.scheduler_tick_us;

	for (uint32_t w = 0; w < (uint32_t)plain->service.workers; w++) {
		struct plain_request *request = &replica->worker[w];
		double spare_us = share_us;

		/* What one request leaves of the step is the next one's, on the same worker. */
		while (spare_us > 0 && plain_runs(replica, w)) {
			double used_us = fmin(spare_us, request->left_us);

			request->left_us -= used_us;
			replica->left_us -= used_us;
			replica->used_us += used_us;
			plain->used_us += used_us;
			spare_us -= used_us;
			if (request->left_us > 0)
				break;
			if (wait_us > 0) {
				request->woken_us = now_us - spare_us + wait_us;
				break;
			}
			plain_answer(plain, replica, w, now_us - spare_us);
			plain_take(plain, replica);
		}
	}
	if (replica->left_us <= 0 && (tick_us == 0 || fmod(now_us, tick_us) < STEP_US / 2)) {
		replica->throttled = plain_running(plain, replica) > 0;
		replica->throttled_since_us = now_us;
	}
}

static void plain_wake(struct plain *plain, struct plain_replica *replica, double now_us)
{
	for (uint32_t w = 0; w < (uint32_t)plain->service.workers; w++)
		if (replica->taken[w] && replica->worker[w].woken_us > 0 &&
			replica->worker[w].woken_us <= now_us)
			plain_answer(plain, replica, w, replica->worker[w].woken_us);
}

/* A CPU has 1024 shares; who runs nothing has no part. Neighbours are there all the time. */
static double plain_cores(const struct plain *plain)
{
	const struct simulate_service *service = &plain->service;
	double shares = 0, theirs = floor(service->neighbour_reserved_millicores * 1.024);

	if (service->reserves <= 0 || service->neighbour_cores <= 0)
		return service->cores;
	for (uint32_t i = 0; i < plain->replicas; i++)
		if (plain_running(plain, &plain->replica[i]) > 0)
			shares += floor(plain->plan.cpu_millicores * 1.024);
	return fmax(service->cores * shares / (shares + theirs),
		service->cores - service->neighbour_cores);
}

static void plain_step(struct plain *plain, uint32_t step, double now_us)
{
	double runnable = 0, share_us;

	for (uint32_t i = 0; i < plain->replicas; i++) {
		struct plain_replica *replica = &plain->replica[i];

		if (step % STEP_PERIOD == 0) {
			plain->allocated_us += step ? fmax(replica->used_us, replica->quota_us) : 0;
			replica->used_us = 0;
			replica->refills = 0;
			plain_refill(plain, replica);
		}
		plain_wake(plain, replica, now_us);
		plain_take(plain, replica);
		if (replica->left_us <= 0 && !replica->throttled && !replica->ran &&
			plain_running(plain, replica) > 0) {
			replica->throttled = true;
			replica->throttled_since_us = now_us;
		}
		if (replica->throttled)
			plain_reflex(plain, replica, now_us,
				(step / STEP_PERIOD + 1) * STEP_PERIOD * STEP_US);
		if (!replica->throttled)
			runnable += plain_running(plain, replica);
	}
	share_us = STEP_US * fmin(1, plain_cores(plain) / fmax(runnable, 1));
	plain->waited_us += runnable * (STEP_US - share_us);
	for (uint32_t i = 0; i < plain->replicas; i++) {
		struct plain_replica *replica = &plain->replica[i];
		double running = plain_running(plain, replica);

		if (replica->throttled)
			plain->throttled_us += STEP_US * fmin(running, plain->service.cores);
		else
			plain_run(
				plain, replica, share_us, now_us + STEP_US, plain->service.wait_us);
		replica->ran = plain_running(plain, replica) > 0;
	}
}

static void plain_run_all(struct plain *plain, const struct simulate_config *config, uint64_t seed)
{
	static struct sampler gap, work;
	static struct sampler_normal normal;
	static struct load load;
	const double end_us = SECONDS * 1e6;

	plain->service = config->service[0];
	sampler_normal_init(&normal);
	sampler_exponential_init(&gap);
	sampler_lognormal_init(
		&work, &normal, config->service[0].work_us, config->service[0].work_cv);
	load_init(&load, &config->trace, &gap, &work, seed);
	load_prepare(&load, end_us);
	for (uint32_t i = 0; i < plain->replicas; i++)
		plain->replica[i].quota_us =
			plain->service.reserves > 0 ? INFINITY : plain->plan.cpu_millicores * 100;
	for (uint32_t step = 0; step < SECONDS * 10 * STEP_PERIOD; step++) {
		double now_us = step * STEP_US;

		/* At the nearest step, so that it is neither early nor late on average. */
		while (load.time_us[load.next] < now_us + STEP_US / 2) {
			plain_arrive(
				plain, load.time_us[load.next], (double)load.work_us[load.next]);
			if (++load.next == load.count)
				load_draw(&load, end_us);
		}
		plain_step(plain, step, now_us);
	}
}

static double uniform(struct random_state *random, double low, double high)
{
	return low + (high - low) * random_uniform_double(random);
}

/* From calm to overloaded, from one worker to many, with and without all that plans can hold. */
static void draw_config(struct random_state *random, double *rate, struct simulate_config *config,
	struct simulate_input *input)
{
	const double workers[] = {1, 2, 8, 16};
	struct simulate_service *service;

	simulate_config_init(config);
	service = &config->service[0];
	service->work_us = uniform(random, 500, 8000);
	service->work_cv = uniform(random, 0, 1.2);
	/* One wait for all: the two simulations draw in another order. */
	service->wait_us = random_below(random, 3) == 0 ? uniform(random, 500, 10000) : 0;
	service->wait_cv = 0;
	service->wake_us = random_below(random, 2) ? uniform(random, 0, 1000) : 0;
	service->workers = workers[random_below(random, 4)];
	service->backlog = 500;
	service->cores = 1 + random_below(random, 4);
	service->least_connections = random_below(random, 2);
	service->period_phases = 0;
	service->scheduler_tick_us = random_below(random, 2) ? 4000 : 0;
	service->idle_quota_us = random_below(random, 2) ? 1000 : 0;
	service->latency_target_us = uniform(random, 20000, 60000);
	input->replicas = 1 + random_below(random, REPLICAS);
	*rate = uniform(random, 0.2, 0.9) * service->cores * 1e6 / service->work_us;
	*rate = fmin(*rate, 1200);
	config->trace.rate_per_s = rate;
	config->trace.seconds = 1;
	config->trace.arrivals = random_below(random, 2) ? SIMULATE_BURSTY : SIMULATE_POISSON;
	input->plan.cpu_millicores = fmax(
		20, *rate * service->work_us / 1e3 / input->replicas * uniform(random, 0.9, 2.5));
	input->plan.burst_us = random_below(random, 3) == 0 ? 20000 : 0;
	if (random_below(random, 2))
		input->plan.allowance = (struct allowance){
			.trigger_age_share = uniform(random, 0.1, 0.8),
			.refills_per_period = 1 + random_below(random, 5),
			.ceiling_millicores = input->plan.cpu_millicores * uniform(random, 1, 4)};
}

/* The same without a limit, beside neighbours that want some or all of the node. */
static void draw_reservation(struct random_state *random, double *rate,
	struct simulate_config *config, struct simulate_input *input)
{
	struct simulate_service *service = &config->service[0];

	draw_config(random, rate, config, input);
	service->reserves = 1;
	service->weight_scale = 0;
	service->cores = 1 + random_below(random, 4);
	service->neighbour_cores = uniform(random, 0.3, 1.5) * service->cores;
	service->neighbour_idle_us = 1;
	service->neighbour_busy_us = 1e9;
	service->neighbour_reserved_millicores = uniform(random, 200, 700) * service->cores;
	input->plan.cpu_millicores = uniform(random, 300, 900) * service->cores / input->replicas;
	*rate = fmin(uniform(random, 0.2, 0.6) * service->cores * 1e6 / service->work_us, 1200);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_round(int round, const struct simulate_config *config,
	const struct simulate_input *input, const struct plain *plain)
{
	const struct simulate_service *service = &config->service[0];

	print_message("# round %d: %.0f/s x %.0f us cv %.2f wait %.0f, %g workers, %u replicas, "
		      "%g cores, %.0f m, burst %llu us, reflex %.2f x%u to %.0f m; plain: %zu "
		      "answered, %zu failed, %zu refills\n",
		round, config->trace.rate_per_s[0], service->work_us, service->work_cv,
		service->wait_us, service->workers, input->replicas, service->cores,
		input->plan.cpu_millicores, (unsigned long long)input->plan.burst_us,
		input->plan.allowance.trigger_age_share, input->plan.allowance.refills_per_period,
		input->plan.allowance.ceiling_millicores, plain->answered, plain->failed,
		plain->refills);
}

static int check(const char *what, double value, double wanted, double tolerance)
{
	if (fabs(value - wanted) <= tolerance)
		return 0;
	print_message("# %s is %g, expected %g within %g\n", what, value, wanted, tolerance);
	return 1;
}

static int compare_round(int round, struct random_state *random)
{
	static struct plain plain;
	static double latency_us[SECONDS * 2000];
	static uint32_t latency[HIST_BUCKETS];
	const double shares[] = {0.5, 0.95, 0.99};
	double rate, found_us[3];
	struct simulate_config config;
	struct simulate_input input = {0};
	struct simulation *simulation;
	struct sample sum = {0};
	int wrong = 0;

	memset(&plain, 0, sizeof(plain));
	memset(latency, 0, sizeof(latency));
	if (round < ROUNDS)
		draw_config(random, &rate, &config, &input);
	else
		draw_reservation(random, &rate, &config, &input);
	plain.plan = input.plan;
	plain.replicas = input.replicas;
	plain.latency_us = latency_us;
	plain_run_all(&plain, &config, (uint64_t)round);
	qsort(latency_us, plain.answered, sizeof(*latency_us), compare_doubles);

	assert_int_equal(simulate_create(&simulation, &config, (uint64_t)round), 0);
	for (int i = 0; i < SECONDS; i++) {
		struct sample sample;

		simulate_tick(simulation, &input, &sample);
		sample_extend(&sum, &sample);
		histogram_add(latency, simulate_latency(simulation, 0));
	}
	simulate_destroy(simulation);
	histogram_quantiles_us(latency, shares, found_us, 3);

	for (int i = 0; i < 3; i++) {
		double wanted_us = latency_us[(size_t)ceil(shares[i] * (double)plain.answered) - 1];

		/* A bucket is 1.6 %; the steps' rounding, where queues are long, the rest. */
		wrong += check(i == 0	? "p50"
			       : i == 1 ? "p95"
					: "p99",
			found_us[i], wanted_us, 0.05 * wanted_us + 30);
	}
	wrong += check("answered", (double)sum.requests, (double)plain.answered,
		2 + 0.002 * (double)plain.answered);
	wrong += check("failed", (double)sum.requests_failed, (double)plain.failed,
		2 + 0.02 * (double)plain.failed);
	wrong += check(
		"CPU used", (double)sum.cpu_used_us, plain.used_us, 1000 + 0.002 * plain.used_us);
	wrong += check("throttled", (double)sum.throttled_us, plain.throttled_us,
		10000 + 0.05 * plain.throttled_us);
	wrong += check(
		"refills", sum.refills, (double)plain.refills, 3 + 0.04 * (double)plain.refills);
	/* With a limit who is throttled waits as well, which the plain one does not count. */
	if (config.service[0].reserves > 0)
		wrong += check("waited", (double)sum.run_queue_us, plain.waited_us,
			20000 + 0.05 * plain.waited_us);
	else
		/* The plain one has not closed the last period. */
		wrong += check("allocated", (double)sum.cpu_allocated_us, plain.allocated_us,
			0.015 * plain.allocated_us);
	if (wrong)
		print_round(round, &config, &input, &plain);
	return wrong;
}

static void test_stepping_through_time_gives_the_same_on_random_configurations(void **state)
{
	struct random_state random;
	int wrong = 0;

	(void)state;
	random_seed(&random, 2026);
	for (int round = 0; round < ROUNDS + RESERVING; round++)
		wrong += compare_round(round, &random);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_stepping_through_time_gives_the_same_on_random_configurations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
