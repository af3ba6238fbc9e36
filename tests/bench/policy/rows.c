// SPDX-License-Identifier: Apache-2.0
/* Services and loads that policies are compared on. */
#include "bench/policy/policy.h"

#include "learner/dqn/random.h"
#include "learner/simulator/simulate_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB	1048576.0
#define BURSTY	"tests/workloads/bursty.txt"
#define DIURNAL "tests/workloads/diurnal-2.txt"

/*
 * Name, CPU ms a request, cv, ms of waiting, objective ms, load, file, mean cores, bursts, replicas.
 *
 * The first five are those that the figures' targets were set by. The rest are made here, from a
 * formula and a seed, so that nothing can be tuned to the two traces that are shipped.
 */
const struct bench_row bench_rows[] = {
	{"10ms-diurnal", 10, 0.5, 0, 100, LOAD_FILE, DIURNAL, 2.28, false, 1, NULL, NULL, NULL},
	{"10ms-bursty-bursts", 10, 1, 0, 100, LOAD_FILE, BURSTY, 2.28, true, 1, NULL, NULL, NULL},
	{"2ms-bursty", 2, 1, 0, 20, LOAD_FILE, BURSTY, 1.00, false, 1, NULL, NULL, NULL},
	{"50ms-diurnal-bursts", 50, 0.5, 0, 250, LOAD_FILE, DIURNAL, 2.99, true, 1, NULL, NULL,
		NULL},
	{"1ms-diurnal-bursts", 1, 1, 0, 10, LOAD_FILE, DIURNAL, 1.01, true, 1, NULL, NULL, NULL},
	{"5ms-steps", 5, 0.5, 0, 50, LOAD_STEPS, NULL, 1.20, false, 1, NULL, NULL, NULL},
	{"3ms-spikes", 3, 1.5, 0, 80, LOAD_SPIKES, NULL, 0.60, false, 1, NULL, NULL, NULL},
	{"20ms-on-off-bursts", 20, 0.5, 0, 200, LOAD_ON_OFF, NULL, 1.60, true, 1, NULL, NULL, NULL},
	{"8ms-sine", 8, 0.7, 0, 60, LOAD_SINE, NULL, 1.80, false, 2, NULL, NULL, NULL},
	{"4ms-waits-wander-bursts", 4, 1, 10, 80, LOAD_WANDER, NULL, 0.80, true, 1, NULL, NULL,
		NULL},
	{"memory-steady", 5, 0.5, 0, 50, LOAD_SINE, NULL, 1.00, false, 1,
		&(const struct row_memory){120, 0, 48, 40, 0.25}, NULL, NULL},
	{"memory-grows", 5, 0.5, 0, 50, LOAD_WANDER, NULL, 1.00, false, 1,
		&(const struct row_memory){80, 160, 40, 30, 0.25}, NULL, NULL},
	{"memory-in-flight", 10, 1, 0, 150, LOAD_SPIKES, NULL, 0.80, true, 1,
		&(const struct row_memory){60, 0, 30, 60, 4}, NULL, NULL},
	{"replicas-diurnal", 20, 0.5, 0, 200, LOAD_FILE, DIURNAL, 3.00, false, 12, NULL,
		&(const struct row_scaling){12, 1000, 2000}, NULL},
	{"replicas-steps", 8, 1, 0, 120, LOAD_STEPS, NULL, 2.00, false, 12, NULL,
		&(const struct row_scaling){12, 1000, 2000}, NULL},
	/* Neighbours have reserved more than half of the node, and half of the time want all of it. */
	{"reserves-diurnal", 10, 0.5, 0, 100, LOAD_FILE, DIURNAL, 0.70, false, 1, NULL, NULL,
		&(const struct row_reserving){4, 6, 2500, 20}},
};
const uint32_t bench_row_count = sizeof(bench_rows) / sizeof(bench_rows[0]);

void row_objective(const struct bench_row *row, struct objective *objective)
{
	objective_init(objective);
	snprintf(objective->name, sizeof(objective->name), "%s", row->name);
	snprintf(objective->service, sizeof(objective->service), "%s", row->name);
	objective->mode = OBJECTIVE_AUTO;
	objective->latency_target_us = row->objective_ms * 1e3;
	objective->latency_percentile = 99;
	objective->acceptable_violations = 0.01;
	objective->cpu_min_millicores = 10;
	objective->cpu_max_millicores = row_cores_most(row) * 1e3;
	objective->memory_min_bytes = (uint64_t)(32 * MIB);
	objective->memory_max_bytes = (uint64_t)(512 * MIB);
	objective->replicas_min = objective->replicas_max = row->replicas;
	if (row->scaling) {
		objective->cpu_max_millicores = row->scaling->replica_millicores;
		objective->replicas_min = 1;
		objective->replicas_max = row->scaling->most;
	}
}

void row_service(const struct bench_row *row, struct simulate_config *config)
{
	struct simulate_service *service;

	simulate_config_init(config);
	config->replicas_max = row->replicas;
	service = &config->service[0];
	service->work_us = row->work_ms * 1e3;
	service->work_cv = row->work_cv;
	service->wait_us = row->wait_ms * 1e3;
	service->before_share = row->wait_ms > 0 ? 0.5 : 1;
	service->workers = 16;
	service->cores = row_cores_most(row);
	service->latency_target_us = row->objective_ms * 1e3;
	service->latency_percentile = 99;
	if (row->scaling) {
		config->replicas_max = row->scaling->most;
		service->startup_us = row->scaling->startup_ms * 1e3;
	}
	if (row->reserving) {
		service->reserves = 1;
		service->neighbour_cores = row->reserving->neighbour_cores;
		service->neighbour_reserved_millicores =
			row->reserving->neighbour_reserved_millicores;
		service->neighbour_busy_us = row->reserving->neighbour_busy_s * 1e6;
		service->neighbour_idle_us = service->neighbour_busy_us;
	}
	if (!row->memory)
		return;
	service->memory_base_bytes = row->memory->base_mib * MIB;
	service->memory_hot_bytes = row->memory->hot_mib * MIB;
	service->memory_cold_bytes = row->memory->cold_mib * MIB;
	service->memory_request_bytes = row->memory->request_mib * MIB;
	service->memory_growth_bytes = row->memory->growth_mib * MIB;
	service->memory_growth_bytes_per_s = row->memory->growth_mib * MIB / ROW_TRACE_S;
}

static double between(struct random_state *random, double low, double high)
{
	return low + (high - low) * random_uniform_double(random);
}

static void draw_steps(struct random_state *random, double *rates, uint32_t seconds)
{
	double level = 1, left_s = 0;

	for (uint32_t i = 0; i < seconds; i++, left_s--) {
		if (left_s <= 0) {
			left_s = between(random, 60, 300);
			level = exp2(between(random, -1.5, 1));
		}
		rates[i] = level;
	}
}

static void draw_spikes(struct random_state *random, double *rates, uint32_t seconds)
{
	double until_next_s = 60, left_s = 0, height = 1;

	for (uint32_t i = 0; i < seconds; i++, left_s--, until_next_s--) {
		if (until_next_s <= 0) {
			until_next_s = between(random, 45, 240);
			left_s = between(random, 3, 20);
			height = between(random, 2, 4);
		}
		rates[i] = left_s > 0 ? height : 1;
	}
}

static void draw_on_off(struct random_state *random, double *rates, uint32_t seconds)
{
	double left_s = 0;
	bool on = false;

	for (uint32_t i = 0; i < seconds; i++, left_s--) {
		if (left_s <= 0) {
			on = !on;
			left_s = on ? between(random, 20, 90) : between(random, 10, 45);
		}
		rates[i] = on ? 1 : 0.1;
	}
}

static void draw_sine(struct random_state *random, double *rates, uint32_t seconds)
{
	double noise = 0;

	for (uint32_t i = 0; i < seconds; i++) {
		noise = 0.8 * noise + 0.08 * (double)random_normal(random);
		rates[i] = fmax(1 + 0.5 * sin(2 * M_PI * i / 600) + noise, 0.05);
	}
}

static void draw_wander(struct random_state *random, double *rates, uint32_t seconds)
{
	double height = 0;

	for (uint32_t i = 0; i < seconds; i++) {
		height = 0.995 * height + 0.06 * (double)random_normal(random);
		rates[i] = exp2(height);
	}
}

static void draw(
	enum load_shape shape, struct random_state *random, double *rates, uint32_t seconds)
{
	if (shape == LOAD_STEPS)
		draw_steps(random, rates, seconds);
	else if (shape == LOAD_SPIKES)
		draw_spikes(random, rates, seconds);
	else if (shape == LOAD_ON_OFF)
		draw_on_off(random, rates, seconds);
	else if (shape == LOAD_SINE)
		draw_sine(random, rates, seconds);
	else
		draw_wander(random, rates, seconds);
}

int row_rates(const struct bench_row *row, uint32_t every, uint64_t seed, double **rates_per_s,
	uint32_t *seconds)
{
	struct random_state random;
	char error[256];
	double *rates;

	if (row->shape == LOAD_FILE) {
		if (simulate_trace_read(
			    row->file, every, rates_per_s, seconds, error, sizeof(error))) {
			fprintf(stderr, "bench-policy: %s (run from the project's folder)\n",
				error);
			return -EINVAL;
		}
		return 0;
	}
	*seconds = ROW_TRACE_S / every;
	rates = calloc(*seconds, sizeof(*rates));
	if (!rates)
		return -ENOMEM;
	random_seed(&random, seed * 0x9e3779b97f4a7c15U + (uint64_t)row->shape);
	draw(row->shape, &random, rates, *seconds);
	*rates_per_s = rates;
	return 0;
}

double row_scale(const struct bench_row *row, const double *rates_per_s, uint32_t seconds)
{
	double mean = 0;

	for (uint32_t i = 0; i < seconds; i++)
		mean += rates_per_s[i] / seconds;
	return row->cores / (row->work_ms / 1e3) / mean;
}

const char *row_load_name(const struct bench_row *row)
{
	static const char *const names[] = {[LOAD_STEPS] = "steps",
		[LOAD_SPIKES] = "spikes",
		[LOAD_ON_OFF] = "on and off",
		[LOAD_SINE] = "a wave with noise",
		[LOAD_WANDER] = "a random walk"};

	return row->shape == LOAD_FILE ? basename(row->file) : names[row->shape];
}

/* A line that is a row; its strings are copies. */
static int row_parse(const char *line, struct bench_row *row)
{
	struct bench_row parsed = {.shape = LOAD_FILE};
	char *name = NULL, *file = NULL;
	int bursts, fields = sscanf(line, "%ms %lf %lf %lf %lf %ms %lf %d %u", &name,
			    &parsed.work_ms, &parsed.work_cv, &parsed.wait_ms, &parsed.objective_ms,
			    &file, &parsed.cores, &bursts, &parsed.replicas);

	if (fields != 9 || !(parsed.work_ms > 0) || !(parsed.work_cv >= 0) ||
		!(parsed.wait_ms >= 0) || !(parsed.objective_ms > 0) ||
		!(parsed.cores > 0 && parsed.cores < ROW_CORES_MAX) || bursts < 0 || bursts > 1 ||
		parsed.replicas < 1 || parsed.replicas > SIMULATE_REPLICAS_MAX) {
		free(name);
		free(file);
		return -EINVAL;
	}
	parsed.name = name;
	parsed.file = file;
	parsed.bursts = bursts;
	*row = parsed;
	return 0;
}

int rows_read(const char *path, struct bench_row *rows, uint32_t *count)
{
	FILE *file = fopen(path, "re");
	char line[512];
	int err = 0;

	*count = 0;
	if (!file) {
		err = -errno;
		fprintf(stderr, "bench-policy: cannot open %s: %s\n", path, strerror(errno));
		return err;
	}
	for (uint32_t number = 1; !err && fgets(line, sizeof(line), file); number++) {
		line[strcspn(line, "#\n")] = '\0';
		if (line[strspn(line, " \t")] == '\0')
			continue;
		err = *count < BENCH_ROWS_MAX ? row_parse(line, &rows[(*count)++]) : -E2BIG;
		if (err)
			fprintf(stderr,
				"bench-policy: %s:%u: \"%s\" is not a row, or one too many\n", path,
				number, line);
	}
	fclose(file);
	if (!err && *count == 0) {
		fprintf(stderr, "bench-policy: %s has no rows\n", path);
		err = -EINVAL;
	}
	return err;
}
