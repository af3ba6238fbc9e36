// SPDX-License-Identifier: Apache-2.0
/* What `what-if` and `calibrate` read: the first byte chooses parameters, a trace or a journal. */
#include "driver.h"

#include "learner/simulator/calibrate_read.h"
#include "learner/simulator/simulate_file.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

static void read_parameters(const char *path)
{
	static const double rate = 1000;
	const struct simulate_input input = {.plan = {.cpu_millicores = 300}, .replicas = 2};
	struct simulate_config config;
	static struct simulation *simulation; /* reachable to the end: its tables take a while */
	struct sample sample;
	char error[256];

	simulate_config_init(&config);
	config.trace.rate_per_s = &rate;
	config.trace.seconds = 1;
	config.replicas_max = 2;
	config.tick_us = 1e4;
	/* Taken or not, what is there can be simulated. */
	(void)simulate_file_read(path, &config.service[0], error, sizeof(error));
	if (simulate_config_check(&config, error, sizeof(error)) ||
		(simulation ? simulate_reset(simulation, &config, 1)
			    : simulate_create(&simulation, &config, 1)))
		abort();
	for (int i = 0; i < 5; i++) {
		simulate_tick(simulation, &input, &sample);
		/* Who has no limit has a reservation, and the other way round. */
		if (sample_reserves(&sample) != (config.service[0].reserves > 0) ||
			sample_cpu_millicores(&sample) <= 0)
			abort();
	}
}

static void read_trace(const char *path)
{
	struct simulate_config config;
	uint32_t seconds;
	double *rates;
	char error[256];

	if (simulate_trace_read(path, 1, &rates, &seconds, error, sizeof(error)))
		return;
	simulate_config_init(&config);
	config.trace.rate_per_s = rates;
	config.trace.seconds = seconds;
	if (simulate_config_check(&config, error, sizeof(error)))
		abort();
	free(rates);
}

static void read_journal(const char *path)
{
	const struct calibrate_filter any = {0};
	FILE *file = fopen(path, "re");
	struct sample *samples;
	uint32_t count;
	char name[64], error[64];

	if (!file)
		abort();
	if (!calibrate_read(file, "input", &any, &samples, &count, name, sizeof(name), error,
		    sizeof(error))) {
		for (uint32_t i = 0; i < count; i++)
			if (!(samples[i].tick_s > 0) || !isfinite(samples[i].latency_p99_us))
				abort();
		free(samples);
	}
	fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(const char *) = {read_parameters, read_trace, read_journal};
	char path[64];
	int file;

	if (size == 0)
		return 0;
	file = memfd_create("fuzz", MFD_CLOEXEC);
	if (file < 0 || write(file, data + 1, size - 1) != (ssize_t)size - 1)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	readers[data[0] % 3](path);
	close(file);
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const seeds[] = {
		"0# mine\nwork_us 2900 # us\nworkers 1\nlatency_percentile 99.9\n",
		"0reserves 1\nweight_scale 1\nneighbour_cores 4\nneighbour_reserved_millicores 500\n"
		"neighbour_busy_us 3000\nneighbour_idle_us 2000\n",
		"1# trace\n100\n20.5\n\n0\n1e3 # last\n",
		"2{\"kind\":\"vertical\",\"namespace\":\"default\",\"service\":\"f\",\"agent\":\"n\","
		"\"sample\":{\"tick_s\":1.0,\"requests\":5,\"latency_p50_us\":10.5,"
		"\"cpu_reserved_millicores\":250,\"run_queue_us\":1200}}\n"
		"{\"kind\":\"horizontal\",\"service\":\"f\"}\n"
		"{\"namespace\":\"default\",\"service\":\"f\",\"agent\":\"m\",\"sample\":{}}\n",
	};

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index], strlen(seeds[index]));
	return strlen(seeds[index]);
}
