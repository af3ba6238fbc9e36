// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/calibrate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS	     3 /* simulations that are averaged: what chance gives is not to be fitted */
#define CV_LOWEST    0.02
#define CV_HIGHEST   3.0
#define STEPS	     6	  /* halvings of the search's step */
#define CLEARLY	     1.25 /* by so much worse is worse */
#define VARIES	     0.2  /* relative spread of the load from which a slope is taken */
#define WAIT_PENALTY 1e-4 /* of a wait, so that none is taken where it explains nothing */
#define HOT_SHARE    0.15 /* of a working set, taken for pages that can be reclaimed */
#define WAITS	     0.05 /* for a CPU, over the CPU time used: less is no wait */
#define WAITS_APART  1.3  /* CPU time and wait of ticks with busy neighbours over those of others */
#define WANT_MOST    3.0  /* times the cores: more of neighbours makes no difference */
#define ALWAYS_US    1e9

static const double workers_tried[CALIBRATE_WORKERS] = {1, 2, 4, 8, 16, 32, 64};

/* One tick as it is played and compared. */
struct tick {
	struct simulate_input input;
	double log_us[3]; /* measured percentiles */
	double wait;	  /* measured, for a CPU over CPU time used */
	int group;	  /* -1: not compared */
};

struct fit {
	struct tick *ticks; /* [count], owned */
	uint32_t count;
	double *rates; /* owned */
	uint32_t seconds;
	struct simulate_config config;
	struct simulation *simulation;
	uint64_t seed;
	bool reserves;
	bool neighbours; /* are searched for */
};

static double sample_arrivals(const struct sample *samples, uint32_t i)
{
	double waiting = samples[i].in_flight - (i ? samples[i - 1].in_flight : 0);

	return fmax((double)(samples[i].requests + samples[i].requests_failed) + waiting, 0);
}

/* Requests per second, each tick's spread evenly over its time. */
static int fit_rates(struct fit *fit, const struct sample *samples, uint32_t count)
{
	double end_s = 0;

	for (uint32_t i = 0; i < count; i++)
		end_s += samples[i].tick_s;
	fit->seconds = (uint32_t)ceil(end_s);
	fit->rates = calloc(fit->seconds ? fit->seconds : 1, sizeof(*fit->rates));
	if (!fit->rates)
		return -ENOMEM;
	end_s = 0;
	for (uint32_t i = 0; i < count; i++) {
		double arrivals = sample_arrivals(samples, i), from_s = end_s;

		end_s += samples[i].tick_s;
		for (uint32_t s = (uint32_t)from_s; s < fit->seconds && s < end_s; s++)
			fit->rates[s] += arrivals * (fmin(end_s, s + 1.0) - fmax(from_s, s)) /
					 samples[i].tick_s;
	}
	return 0;
}

static double sample_use(const struct sample *sample, double cores)
{
	double limit = sample->cpu_limit_millicores / 1000 * sample->containers;

	if (limit <= 0 || limit > cores)
		limit = cores;
	return (double)sample->cpu_used_us / 1e6 / sample->tick_s / limit;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double sample_wait(const struct sample *sample)
{
	return sample->cpu_used_us ? (double)sample->run_queue_us / (double)sample->cpu_used_us : 0;
}

static bool sample_is_compared(const struct fit *fit, const struct sample *sample)
{
	/* What the reflex did in a tick is not in a sample's limit. */
	return sample->requests >= CALIBRATE_REQUESTS && sample->refills == 0 &&
	       sample->latency_p50_us > 0 && (!fit->reserves || sample_reserves(sample));
}

/* Groups of the same number of ticks, in the order of use. */
static int fit_ticks(struct fit *fit, const struct sample *samples, uint32_t count,
	struct calibrate_result *result)
{
	const double cores = fit->config.service[0].cores;
	double *uses = calloc(count, sizeof(*uses));
	uint32_t compared = 0;

	fit->ticks = calloc(count, sizeof(*fit->ticks));
	if (!fit->ticks || !uses) {
		free(uses);
		return -ENOMEM;
	}
	fit->count = count;
	for (uint32_t i = 0; i < count; i++)
		if (sample_is_compared(fit, &samples[i]))
			uses[compared++] = sample_use(&samples[i], cores);
	qsort(uses, compared, sizeof(*uses), compare_doubles);
	for (uint32_t i = 0; i < count && compared; i++) {
		struct tick *tick = &fit->ticks[i];
		double use = sample_use(&samples[i], cores);
		int group = 0;

		/* Of a service that has a limit now, a tick without one had none: its reservation is no limit. */
		tick->input.plan.cpu_millicores = fit->reserves ? sample_cpu_millicores(&samples[i])
								: samples[i].cpu_limit_millicores;
		tick->input.plan.reserves = fit->reserves && sample_reserves(&samples[i]);
		tick->input.replicas = samples[i].containers;
		tick->log_us[0] = log(fmax(samples[i].latency_p50_us, 1));
		tick->log_us[1] = log(fmax(samples[i].latency_p95_us, 1));
		tick->log_us[2] = log(fmax(samples[i].latency_p99_us, 1));
		tick->wait = sample_wait(&samples[i]);
		tick->group = -1;
		if (!sample_is_compared(fit, &samples[i]))
			continue;
		while (group < CALIBRATE_GROUPS - 1 &&
			use > uses[(group + 1) * compared / CALIBRATE_GROUPS])
			group++;
		tick->group = group;
		result->groups[group].ticks++;
		result->groups[group].use += use;
	}
	result->ticks = compared;
	free(uses);
	return compared >= CALIBRATE_TICKS_LEAST ? 0 : -ENODATA;
}

/* CPU a request, less what least squares say is used without any where that is a good part. */
static double fit_work_us(const struct sample *samples, uint32_t count)
{
	double requests = 0, used = 0, squares = 0, products = 0, slope;

	for (uint32_t i = 0; i < count; i++) {
		requests += (double)samples[i].requests;
		used += (double)samples[i].cpu_used_us;
	}
	if (requests <= 0)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		double r = (double)samples[i].requests - requests / count;

		squares += r * r;
		products += r * ((double)samples[i].cpu_used_us - used / count);
	}
	slope = squares > 0 ? products / squares : 0;
	if (sqrt(squares / count) > VARIES * requests / count && slope > 0.5 * used / requests &&
		slope < 0.85 * used / requests)
		return slope;
	return used / requests;
}

/*
 * Work and what a request takes more that finds its replica idle, as work x requests + wake x
 * requests that did, by least squares over the ticks that were not throttled. Idle is taken for
 * the share of time in which no CPU was used: right for one worker, near it at low load.
 */
static void fit_wake(const struct sample *samples, uint32_t count, struct simulate_service *service)
{
	double rr = 0, ri = 0, ii = 0, ru = 0, iu = 0, requests = 0, idle = 0, spread = 0, wake;

	for (uint32_t i = 0; i < count; i++) {
		const struct sample *sample = &samples[i];
		double tick_us = sample->tick_s * 1e6 * sample->containers;
		double r = (double)sample->requests, used = (double)sample->cpu_used_us, found;

		if (sample->requests < CALIBRATE_REQUESTS || sample->containers == 0 ||
			(double)sample->throttled_us > 0.005 * tick_us)
			continue;
		found = r * fmax(1 - used / tick_us, 0);
		/* Each tick weighs by its requests: their number is the variance. */
		rr += r;
		ri += found;
		ii += found * found / r;
		ru += used;
		iu += used * found / r;
		requests += r;
		idle += found;
	}
	if (requests <= 0)
		return;
	spread = ii / requests - idle / requests * (idle / requests);
	if (spread < VARIES * VARIES / 4)
		return;
	wake = (rr * iu - ri * ru) / (rr * ii - ri * ri);
	/* Beyond a half it is something else. */
	if (!(wake > 0 && wake < service->work_us / 2))
		return;
	service->wake_us = wake;
	service->work_us = (ru - wake * ri) / rr;
}

/* What is compared of a group: logarithms of its percentiles, and of how waiting stretches CPU time. */
#define VALUES	   4
#define VALUE_WAIT 3

/* Ticks of @service in the simulator, summed for each group. */
static int fit_simulate(struct fit *fit, const struct simulate_service *service,
	double sums[CALIBRATE_GROUPS][VALUES], double counts[CALIBRATE_GROUPS])
{
	struct simulate_config config = fit->config;

	memset(sums, 0, CALIBRATE_GROUPS * sizeof(*sums));
	memset(counts, 0, CALIBRATE_GROUPS * sizeof(*counts));
	config.service[0] = *service;
	/* Replicas are what was measured: there at once, and not killed. */
	config.service[0].startup_us = 0;
	config.service[0].startup_work_us = 0;
	for (uint64_t k = 0; k < SEEDS; k++) {
		int err = fit->simulation
				  ? simulate_reset(fit->simulation, &config, fit->seed + k)
				  : simulate_create(&fit->simulation, &config, fit->seed + k);

		if (err)
			return err;
		for (uint32_t i = 0; i < fit->count; i++) {
			const struct tick *tick = &fit->ticks[i];
			struct sample sample;

			simulate_tick(fit->simulation, &tick->input, &sample);
			if (tick->group < 0 || sample.requests < CALIBRATE_REQUESTS)
				continue;
			sums[tick->group][0] += log(fmax(sample.latency_p50_us, 1));
			sums[tick->group][1] += log(fmax(sample.latency_p95_us, 1));
			sums[tick->group][2] += log(fmax(sample.latency_p99_us, 1));
			sums[tick->group][VALUE_WAIT] += log1p(sample_wait(&sample));
			counts[tick->group]++;
		}
	}
	return 0;
}

static void fit_measured(const struct fit *fit, struct calibrate_result *result)
{
	for (uint32_t i = 0; i < fit->count; i++) {
		const struct tick *tick = &fit->ticks[i];

		if (tick->group < 0)
			continue;
		for (int k = 0; k < 3; k++)
			result->groups[tick->group].measured_us[k] += tick->log_us[k];
		result->groups[tick->group].measured_wait += log1p(tick->wait);
	}
	for (int g = 0; g < CALIBRATE_GROUPS; g++) {
		struct calibrate_group *group = &result->groups[g];
		double ticks = group->ticks ? group->ticks : 1;

		group->use /= ticks;
		for (int k = 0; k < 3; k++)
			group->measured_us[k] = exp(group->measured_us[k] / ticks);
		group->measured_wait = expm1(group->measured_wait / ticks);
	}
}

/* Mean square of the groups' logarithms of simulated over measured; infinite on an error. */
static double fit_cost(
	struct fit *fit, const struct simulate_service *service, struct calibrate_result *result)
{
	double sums[CALIBRATE_GROUPS][VALUES], counts[CALIBRATE_GROUPS], cost = 0, weight = 0;

	if (fit_simulate(fit, service, sums, counts))
		return INFINITY;
	for (int g = 0; g < CALIBRATE_GROUPS; g++) {
		struct calibrate_group *group = &result->groups[g];

		if (group->ticks == 0 || counts[g] == 0)
			continue;
		for (int k = 0; k < 3; k++) {
			double log_us = sums[g][k] / counts[g];
			double off = log_us - log(group->measured_us[k]);

			group->simulated_us[k] = exp(log_us);
			cost += group->ticks * off * off;
			weight += group->ticks;
		}
		group->simulated_wait = expm1(sums[g][VALUE_WAIT] / counts[g]);
		if (fit->neighbours) {
			double off = sums[g][VALUE_WAIT] / counts[g] - log1p(group->measured_wait);

			cost += group->ticks * off * off;
			weight += group->ticks;
		}
	}
	cost = weight > 0 ? cost / weight : INFINITY;
	return cost + WAIT_PENALTY * service->wait_us / (service->wait_us + service->work_us);
}

static double clamp(double value, double lowest, double highest)
{
	return fmin(fmax(value, lowest), highest);
}

/*
 * Spread and wait for a given number of workers, and what neighbours want: steps along each axis, halved
 * when none helps.
 */
static double fit_search(
	struct fit *fit, struct simulate_service *service, struct calibrate_result *result)
{
	const double cores = service->cores;
	const int moves = fit->neighbours ? 6 : 4;
	double cv_step = log(2), wait_step = fmax(service->wait_us, service->work_us) / 2;
	double want_step = cores / 2;
	double best = fit_cost(fit, service, result);

	for (int step = 0; step < STEPS;) {
		struct simulate_service nearest = *service;
		double nearest_cost = best;

		for (int move = 0; move < moves; move++) {
			struct simulate_service tried = *service;
			double cost, sign = move % 2 ? 1 : -1;

			if (move < 2)
				tried.work_cv = clamp(
					tried.work_cv * exp(sign * cv_step), CV_LOWEST, CV_HIGHEST);
			else if (move < 4)
				tried.wait_us = fmax(tried.wait_us + sign * wait_step, 0);
			else
				tried.neighbour_cores =
					clamp(tried.neighbour_cores + sign * want_step, 0,
						WANT_MOST * cores);
			cost = fit_cost(fit, &tried, result);
			if (cost < nearest_cost) {
				nearest_cost = cost;
				nearest = tried;
			}
		}
		if (nearest_cost < best) {
			best = nearest_cost;
			*service = nearest;
		} else {
			cv_step /= 2;
			wait_step /= 2;
			want_step /= 2;
			step++;
		}
	}
	return best;
}

static double fit_workers(
	struct fit *fit, const struct simulate_service *start, struct calibrate_result *result)
{
	double best = INFINITY, next = INFINITY;

	for (int i = 0; i < CALIBRATE_WORKERS; i++) {
		struct simulate_service service = *start;
		double cost;

		service.workers = workers_tried[i];
		cost = fit_search(fit, &service, result);
		result->workers[i] = service.workers;
		result->cost[i] = cost;
		/* Of numbers that fit alike the smallest: more would never be busy. */
		if (cost < best / CLEARLY || (cost < best && best == INFINITY)) {
			next = best;
			best = cost;
			result->service = service;
		} else {
			next = fmin(next, cost);
		}
	}
	result->workers_known = next > CLEARLY * best;
	return best;
}

/*
 * A wait that comes and goes may be that of neighbours who do, or it is the reservation that was another. Of
 * neighbours that are always busy and of those that come and go the better fit.
 */
static void fit_times(
	struct fit *fit, const struct simulate_service *start, struct calibrate_result *result)
{
	struct calibrate_result other = *result;
	struct simulate_service always = *start;
	double cost = fit_workers(fit, start, result);

	if (!fit->neighbours || start->neighbour_busy_us >= ALWAYS_US)
		return;
	always.neighbour_busy_us = ALWAYS_US;
	always.neighbour_idle_us = 1;
	if (fit_workers(fit, &always, &other) < cost)
		*result = other;
}

/* Where nobody said what neighbours reserve: what the service leaves of the node, a tenth at least. */
static void fit_reserved(
	const struct sample *samples, uint32_t count, struct simulate_service *service)
{
	double reserved = 0;

	if (service->neighbour_reserved_millicores > 0)
		return;
	for (uint32_t i = 0; i < count; i++)
		reserved += samples[i].cpu_reserved_millicores * samples[i].containers / count;
	service->neighbour_reserved_millicores =
		fmax(1000 * service->cores - reserved, 100 * service->cores);
}

/*
 * From how long a wait on neighbours are taken to be busy: between the ticks that waited least and those
 * that waited most. Where these are much the same they always are; negative: nothing waits.
 */
static double wait_threshold(
	const struct fit *fit, const struct sample *samples, uint32_t count, double *waits)
{
	uint32_t compared = 0;
	double low, high;

	for (uint32_t i = 0; i < count; i++)
		if (sample_is_compared(fit, &samples[i]))
			waits[compared++] = log1p(sample_wait(&samples[i]));
	qsort(waits, compared, sizeof(*waits), compare_doubles);
	low = waits[compared / 10];
	high = waits[compared - 1 - compared / 10];
	if (high < log1p(WAITS))
		return -1;
	return high - low > log(WAITS_APART) ? expm1((low + high) / 2) : 0;
}

/*
 * When neighbours are busy, if not always, is told by the service's wait for a CPU. How much they want is searched with the
 * rest: none, where the service's own requests explain the wait.
 */
static int fit_neighbours(struct fit *fit, const struct sample *samples, uint32_t count,
	struct simulate_service *service)
{
	double waited_s = 0, free_s = 0, times = 0, threshold, *waits;
	bool before = false;

	if (service->neighbour_cores > 0)
		return 0;
	waits = calloc(count, sizeof(*waits));
	if (!waits)
		return -ENOMEM;
	threshold = wait_threshold(fit, samples, count, waits);
	free(waits);
	if (threshold < 0)
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		bool busy = sample_wait(&samples[i]) >= threshold;

		if (!sample_is_compared(fit, &samples[i]))
			continue;
		times += busy && !before;
		*(busy ? &waited_s : &free_s) += samples[i].tick_s;
		before = busy;
	}
	fit->neighbours = true;
	service->neighbour_cores = service->cores;
	service->neighbour_busy_us = free_s > 0 ? waited_s / times * 1e6 : ALWAYS_US;
	service->neighbour_idle_us = free_s > 0 ? free_s / times * 1e6 : 1;
	return 0;
}

/* Memory that a replica had at least; how much of it can be reclaimed is not seen from outside. */
static void fit_memory(
	const struct sample *samples, uint32_t count, struct simulate_service *service)
{
	double working_set = INFINITY, cold = INFINITY;

	for (uint32_t i = 0; i < count; i++) {
		const struct sample *sample = &samples[i];

		if (sample->containers == 0 || sample->memory_working_set_bytes == 0)
			continue;
		working_set = fmin(
			working_set, (double)sample->memory_working_set_bytes / sample->containers);
		if (sample->memory_used_bytes >= sample->memory_working_set_bytes)
			cold = fmin(cold, (double)(sample->memory_used_bytes -
						   sample->memory_working_set_bytes) /
						  sample->containers);
	}
	if (working_set == INFINITY)
		return;
	service->memory_base_bytes = floor((1 - HOT_SHARE) * working_set);
	service->memory_hot_bytes = floor(HOT_SHARE * working_set);
	service->memory_cold_bytes = cold < INFINITY ? floor(cold) : 0;
}

static void fit_errors(struct calibrate_result *result)
{
	for (int k = 0; k < 3; k++) {
		double sum = 0;

		for (int g = 0; g < CALIBRATE_GROUPS; g++) {
			const struct calibrate_group *group = &result->groups[g];

			if (group->ticks)
				sum += group->ticks *
				       fabs(group->simulated_us[k] / group->measured_us[k] - 1);
		}
		result->error_share[k] = sum / result->ticks;
	}
}

static int fit_open(struct fit *fit, const struct sample *samples, uint32_t count,
	const struct simulate_service *start, struct calibrate_result *result)
{
	double tick_s = 0;
	int err;

	for (uint32_t i = 0; i < count; i++) {
		tick_s += samples[i].tick_s / count;
		result->requests += samples[i].requests;
	}
	simulate_config_init(&fit->config);
	fit->config.service[0] = *start;
	fit->config.replicas_max = SIMULATE_REPLICAS_MAX;
	fit->config.tick_us = clamp(tick_s * 1e6, 1e4, 6e7);
	err = fit_ticks(fit, samples, count, result);
	if (!err)
		err = fit_rates(fit, samples, count);
	if (err)
		return err;
	fit->config.trace.rate_per_s = fit->rates;
	fit->config.trace.seconds = fit->seconds;
	fit_measured(fit, result);
	return 0;
}

int calibrate_fit(const struct sample *samples, uint32_t count,
	const struct simulate_service *start, uint64_t seed, struct calibrate_result *result)
{
	struct simulate_service service = *start;
	struct fit fit = {
		.seed = seed, .reserves = count > 0 && sample_reserves(&samples[count - 1])};
	int err = count ? 0 : -ENODATA;

	memset(result, 0, sizeof(*result));
	if (!err)
		err = fit_open(&fit, samples, count, start, result);
	if (!err) {
		service.work_us = clamp(fit_work_us(samples, count), 1, 1e8);
		service.work_cv = clamp(service.work_cv, CV_LOWEST, CV_HIGHEST);
		service.wake_us = 0;
		service.reserves = fit.reserves;
		fit_reserved(samples, count, &service);
		if (fit.reserves)
			err = fit_neighbours(&fit, samples, count, &service);
	}
	if (!err) {
		fit_wake(samples, count, &service);
		fit_memory(samples, count, &service);
		if (fit_cost(&fit, &service, result) == INFINITY)
			err = -EINVAL;
	}
	if (!err) {
		fit_times(&fit, &service, result);
		(void)fit_cost(&fit, &result->service, result);
		fit_errors(result);
	}
	simulate_destroy(fit.simulation);
	free(fit.ticks);
	free(fit.rates);
	return err;
}
