// SPDX-License-Identifier: Apache-2.0
#include "node/probes/budget.h"

#include "common/log.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define WINDOW_MS 200
/* Runs of a program that does nothing, for the measuring's own time. */
#define EMPTY_RUNS 200
/* Windows well below the budget before a level comes back, and the most it grows to. */
#define CALM_WINDOWS  2U
#define RELAPSES_MOST 4
/* Well below: what a level more costs is not known before. */
#define CALM_SHARE 0.5

struct budget {
	struct agent *agent;
	struct budget_state state;
	struct budget_reading reading;
	int timer;
	int statistics; /* while it is open the kernel counts run times; -1: closed */
	int fds[BUDGET_PROGRAMS_MAX];
	size_t programs;
	struct budget_counters before[BUDGET_PROGRAMS_MAX];
	double empty_ns;
	uint64_t began_us;
};

static struct budget_cost cost(
	uint64_t run_time_ns, uint64_t runs, double empty_ns, double window_s)
{
	double spent_ns = (double)run_time_ns - (double)runs * empty_ns;

	return (struct budget_cost){
		.ns_per_run = runs && spent_ns > 0 ? spent_ns / (double)runs : 0,
		.runs_per_s = (double)runs / window_s,
	};
}

void budget_read(struct budget_reading *reading, const struct budget_counters *before,
	const struct budget_counters *after, size_t programs, double empty_ns, double window_s,
	int cpus)
{
	double spent_ns = 0, runs_per_s = 0;

	for (size_t i = 0; i < programs; i++) {
		struct budget_cost *one = &reading->programs[i];

		*one = cost(after[i].run_time_ns - before[i].run_time_ns,
			after[i].runs - before[i].runs, empty_ns, window_s);
		spent_ns += one->ns_per_run * one->runs_per_s;
		runs_per_s += one->runs_per_s;
	}
	reading->empty_ns = empty_ns;
	reading->all.runs_per_s = runs_per_s;
	reading->all.ns_per_run = runs_per_s > 0 ? spent_ns / runs_per_s : 0;
	reading->cores = spent_ns / 1e9;
	reading->share = reading->cores / cpus;
}

enum detail_level budget_decide(struct budget_state *state, double share, double budget)
{
	if (budget <= 0) {
		memset(state, 0, sizeof(*state));
		return state->level;
	}
	if (share > budget) {
		state->calm = 0;
		if (state->level < DETAIL_AGGREGATES)
			state->level++;
		if (state->came_up && state->relapses < RELAPSES_MOST)
			state->relapses++;
		state->came_up = false;
		return state->level;
	}
	if (share > budget * CALM_SHARE) {
		state->calm = 0;
		return state->level;
	}
	if (++state->calm < CALM_WINDOWS << state->relapses)
		return state->level;
	state->calm = 0;
	state->came_up = state->level > DETAIL_FULL;
	if (state->came_up)
		state->level--;
	else
		state->relapses = 0;
	return state->level;
}

static int counters_read(int fd, struct budget_counters *counters)
{
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info);

	if (fd < 0)
		return -ENOENT;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		return -errno;
	counters->run_time_ns = info.run_time_ns;
	counters->runs = info.run_cnt;
	return 0;
}

static void counters_read_all(const struct budget *budget, struct budget_counters *counters)
{
	memset(counters, 0, BUDGET_PROGRAMS_MAX * sizeof(*counters));
	for (size_t i = 0; i < budget->programs; i++)
		(void)counters_read(budget->fds[i], &counters[i]);
}

/* cpu_look of no slot does nothing but return. */
static double empty_measure(struct budget *budget)
{
	struct budget_counters before, after;
	int fd = probes_program_fd(budget->agent->probes, "cpu_look");

	if (counters_read(fd, &before))
		return 0;
	for (int i = 0; i < EMPTY_RUNS; i++)
		(void)probes_look(budget->agent->probes, SLOT_NONE);
	if (counters_read(fd, &after) || after.runs == before.runs)
		return 0;
	return (double)(after.run_time_ns - before.run_time_ns) /
	       (double)(after.runs - before.runs);
}

static void timer_set(const struct budget *budget, uint64_t ms)
{
	struct itimerspec once = {
		.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
	};

	timerfd_settime(budget->timer, 0, &once, NULL);
}

static void window_begin(struct budget *budget)
{
	budget->statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (budget->statistics < 0) {
		log_warning("error=\"no BPF run-time statistics: %s\" effect=\"the programs' cost "
			    "is not watched\"",
			strerror(errno));
		return;
	}
	budget->empty_ns = empty_measure(budget);
	counters_read_all(budget, budget->before);
	budget->began_us = monotonic_us();
	timer_set(budget, WINDOW_MS);
}

static void level_change(struct budget *budget, enum detail_level level)
{
	struct agent *agent = budget->agent;
	bool less = level > agent->detail_level;

	log_write(less ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
		"event=\"probes %s their budget\" share_percent=%.2f budget_percent=%.2f "
		"ns_per_run=%.0f runs_per_s=%.0f detail=%s before=%s",
		less ? "over" : "below", 100 * budget->reading.share,
		agent->config.probe_budget_percent, budget->reading.all.ns_per_run,
		budget->reading.all.runs_per_s, detail_level_name(level),
		detail_level_name(agent->detail_level));
	agent->detail_level = level;
	agent->status.detail_changes++;
	for (size_t i = 0; i < agent->units.count; i++)
		detail_apply(agent, agent->units.items[i]);
}

static void window_end(struct budget *budget)
{
	struct budget_counters after[BUDGET_PROGRAMS_MAX];
	struct agent *agent = budget->agent;
	enum detail_level level;

	counters_read_all(budget, after);
	pthread_mutex_lock(&agent->lock);
	budget_read(&budget->reading, budget->before, after, budget->programs, budget->empty_ns,
		(double)(monotonic_us() - budget->began_us) / 1e6,
		(int)sysconf(_SC_NPROCESSORS_ONLN));
	budget->reading.windows++;
	close(budget->statistics);
	budget->statistics = -1;
	level = budget_decide(
		&budget->state, budget->reading.share, agent->config.probe_budget_percent / 100);
	if (level != agent->detail_level)
		level_change(budget, level);
	pthread_mutex_unlock(&agent->lock);
	timer_set(budget, (uint64_t)agent->config.probe_check_s * 1000);
}

int budget_open(struct agent *agent, struct budget **out)
{
	const struct probes_program *programs;
	struct budget *budget = calloc(1, sizeof(*budget));
	int err;

	if (!budget)
		return -ENOMEM;
	budget->agent = agent;
	budget->statistics = -1;
	budget->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (budget->timer < 0) {
		err = -errno;
		free(budget);
		return err;
	}
	programs = probes_programs(agent->probes, &budget->programs);
	if (budget->programs > BUDGET_PROGRAMS_MAX)
		budget->programs = BUDGET_PROGRAMS_MAX;
	for (size_t i = 0; i < budget->programs; i++)
		budget->fds[i] = probes_program_fd(agent->probes, programs[i].name);
	timer_set(budget, (uint64_t)agent->config.probe_check_s * 1000);
	*out = budget;
	return 0;
}

void budget_close(struct budget *budget)
{
	if (!budget)
		return;
	if (budget->statistics >= 0)
		close(budget->statistics);
	close(budget->timer);
	free(budget);
}

int budget_fd(const struct budget *budget)
{
	return budget->timer;
}

void budget_expired(struct budget *budget)
{
	uint64_t expirations;

	if (read(budget->timer, &expirations, sizeof(expirations)) != sizeof(expirations))
		return;
	if (budget->statistics < 0)
		window_begin(budget);
	else
		window_end(budget);
}

const struct budget_reading *budget_reading(const struct budget *budget)
{
	return &budget->reading;
}
