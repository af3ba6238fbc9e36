// SPDX-License-Identifier: Apache-2.0
#include "node/metrics.h"

#include "common/listen.h"
#include "node/probes/budget.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct metrics {
	struct agent *agent;
	struct MHD_Daemon *daemon;
};

/* Every agent-wide metric: name, type, help, value. */
#define AGENT_METRICS(X)                                                                           \
	X("ebbtide_agent_ticks_total", "counter", "Sampling periods done.", status->ticks)         \
	X("ebbtide_agent_ticks_late_total", "counter",                                             \
		"Sampling periods before which at least one was missed.", status->ticks_late)      \
	X("ebbtide_agent_units", "gauge", "Services with containers on this node.",                \
		agent->units.count)                                                                \
	X("ebbtide_agent_pods_waiting", "gauge",                                                   \
		"Pods that are not measured, for all of --max-containers are taken.",              \
		json_object_size(agent->waiting))                                                  \
	X("ebbtide_agent_learner_reachable", "gauge", "1 while the learner answers.",              \
		status->learner_reachable)                                                         \
	X("ebbtide_agent_api_reachable", "gauge", "1 while the Kubernetes API answers.",           \
		status->api_reachable)                                                             \
	X("ebbtide_agent_reports_sent_total", "counter", "Reports the learner took.",              \
		status->reports_sent)                                                              \
	X("ebbtide_agent_reports_spooled_total", "counter",                                        \
		"Reports kept on disk for a learner that was away.", status->reports_spooled)      \
	X("ebbtide_agent_reports_dropped_total", "counter",                                        \
		"Spooled reports lost to the spool's bound.", status->reports_dropped)             \
	X("ebbtide_agent_reports_deferred_total", "counter",                                       \
		"Times the learner asked to send later.", status->reports_deferred)                \
	X("ebbtide_agent_actions_pushed_total", "counter",                                         \
		"Actions that came between two reports.", status->actions_pushed)                  \
	X("ebbtide_agent_experiences_total", "counter", "Experiences sent.", status->experiences)  \
	X("ebbtide_agent_limit_writes_total", "counter", "Limits written.", status->limit_writes)  \
	X("ebbtide_agent_reservation_writes_total", "counter",                                     \
		"CPU weights written, of containers without a CPU limit and of their pods.",       \
		status->reservation_writes)                                                        \
	X("ebbtide_agent_foreign_writes_total", "counter",                                         \
		"Limits found changed by someone else.", status->foreign_writes)                   \
	X("ebbtide_agent_baseline_returns_total", "counter",                                       \
		"Times a silent learner sent the units back to their owners' limits.",             \
		status->baseline_returns)                                                          \
	X("ebbtide_agent_action_latency_us", "gauge",                                              \
		"Sample taken to limit written, newest tick, microseconds.",                       \
		status->action_latency_us)                                                         \
	X("ebbtide_agent_events_lost_total", "counter",                                            \
		"Requests to be told of and OOM kills for which the ring buffer had no room.",     \
		probes_events_lost(agent->probes))                                                 \
	X("ebbtide_agent_switches_lost_total", "counter",                                          \
		"Slices of CPU time whose task was not seen to come.",                             \
		probes_switches_lost(agent->probes))                                               \
	X("ebbtide_agent_connections_lost_total", "counter",                                       \
		"Connections on which the start of a message had to be found anew.",               \
		probes_connections_lost(agent->probes))                                            \
	X("ebbtide_agent_probe_budget_share", "gauge",                                             \
		"Share of the node's CPU time that the BPF programs may take; 0: any.",            \
		agent->config.probe_budget_percent / 100)                                          \
	X("ebbtide_agent_probe_share", "gauge",                                                    \
		"Share of the node's CPU time that they took in the newest window.",               \
		budget_reading(agent->budget)->share)                                              \
	X("ebbtide_agent_probe_cores", "gauge", "The same in CPUs.",                               \
		budget_reading(agent->budget)->cores)                                              \
	X("ebbtide_agent_probe_windows_total", "counter", "Windows in which that was measured.",   \
		budget_reading(agent->budget)->windows)                                            \
	X("ebbtide_agent_detail_level", "gauge",                                                   \
		"0: full detail, 1: an eighth, 2: a 64th, 3: aggregates only.",                    \
		agent->detail_level)                                                               \
	X("ebbtide_agent_detail_changes_total", "counter", "Times the budget changed that.",       \
		status->detail_changes)                                                            \
	X("ebbtide_agent_requests_untracked_total", "counter",                                     \
		"Requests beyond what can be told apart on one connection.",                       \
		probes_requests_untracked(agent->probes))

#define REFLEX_METRICS(X)                                                                          \
	X("ebbtide_agent_reflex_on", "gauge", "1 while quotas may be refilled between two ticks.", \
		reflex.is_on)                                                                      \
	X("ebbtide_agent_reflex_cpu_us_total", "counter", "CPU time of the reflex, microseconds.", \
		(double)reflex.cpu_ns / 1000)                                                      \
	X("ebbtide_agent_refills_total", "counter", "Quotas written again.", reflex.refills)       \
	X("ebbtide_agent_refill_budget_millicores", "gauge",                                       \
		"CPU that all units' refills may take.", (double)reflex.budget_ns / 1e6)           \
	X("ebbtide_agent_refill_spent_millicores", "gauge",                                        \
		"CPU that all units' refills took in the last second.",                            \
		(double)reflex.spent_ns / 1e6)                                                     \
	X("ebbtide_agent_allowances_withdrawn_total", "counter",                                   \
		"Plans that lost their allowance and were set to its ceiling.",                    \
		status->allowances_withdrawn)

#define UNIT_METRICS(X)                                                                            \
	X("ebbtide_unit_requests_total", "counter", "Requests answered.", unit->total_requests)    \
	X("ebbtide_unit_requests_over_total", "counter", "Requests over the latency target.",      \
		unit->total_over)                                                                  \
	X("ebbtide_unit_requests_failed_total", "counter",                                         \
		"Connections that ended with a request pending.", unit->total_failed)              \
	X("ebbtide_unit_latency_p50_us", "gauge", "Median request latency of the last tick.",      \
		unit->sample.latency_p50_us)                                                       \
	X("ebbtide_unit_latency_p99_us", "gauge", "p99 request latency of the last tick.",         \
		unit->sample.latency_p99_us)                                                       \
	X("ebbtide_unit_in_flight", "gauge", "Requests in flight.", unit->sample.in_flight)        \
	X("ebbtide_unit_oldest_request_us", "gauge",                                               \
		"Age of the oldest request in flight, microseconds.", unit->oldest_request_us)     \
	X("ebbtide_unit_cpu_used_us_total", "counter", "CPU time used.", unit->total_used_us)      \
	X("ebbtide_unit_cpu_allocated_us_total", "counter",                                        \
		"CPU time set aside: the larger of limit and use.", unit->total_allocated_us)      \
	X("ebbtide_unit_cpu_limit_millicores", "gauge", "CPU limit of one container.",             \
		unit->sample.cpu_limit_millicores)                                                 \
	X("ebbtide_unit_cpu_reserved_millicores", "gauge",                                         \
		"CPU reservation of one container without a CPU limit; 0: it has a limit.",        \
		unit->sample.cpu_reserved_millicores)                                              \
	X("ebbtide_unit_cpu_throttled_us_total", "counter",                                        \
		"Time throttled by the CPU quota, microseconds.", unit->total_throttled_us)        \
	X("ebbtide_unit_cpu_run_queue_us_total", "counter",                                        \
		"Time tasks waited for a CPU, throttling included, microseconds.",                 \
		unit->total_run_queue_us)                                                          \
	X("ebbtide_unit_refills_total", "counter", "Quotas written again for old requests.",       \
		unit->total_refills)                                                               \
	X("ebbtide_unit_refills_granted_us_total", "counter",                                      \
		"CPU time that refills allowed, microseconds.", unit->total_granted_us)            \
	X("ebbtide_unit_memory_used_bytes", "gauge", "Memory in use.",                             \
		unit->sample.memory_used_bytes)                                                    \
	X("ebbtide_unit_memory_working_set_bytes", "gauge",                                        \
		"Memory in use less inactive file pages, as the kubelet counts.",                  \
		unit->sample.memory_working_set_bytes)                                             \
	X("ebbtide_unit_memory_peak_bytes", "gauge", "Highest use in the last tick.",              \
		unit->sample.memory_peak_bytes)                                                    \
	X("ebbtide_unit_memory_reclaim_us_total", "counter",                                       \
		"Time tasks were stalled in reclaim, microseconds.", unit->total_reclaim_us)       \
	X("ebbtide_unit_memory_limit_bytes", "gauge", "Memory limit of one container.",            \
		unit->sample.memory_limit_bytes)                                                   \
	X("ebbtide_unit_memory_raises_total", "counter",                                           \
		"Memory limits raised between two actions because they hurt.",                     \
		unit->total_memory_raises)                                                         \
	X("ebbtide_unit_oom_kills_total", "counter", "OOM kills.", unit->total_oom_kills)          \
	X("ebbtide_unit_violations_total", "counter", "Ticks over the objective.",                 \
		unit->total_violations)                                                            \
	X("ebbtide_unit_containers", "gauge", "Containers on this node.", unit->container_count)

/* Boundaries are those of octaves, where the buckets of the kernel side have theirs as well. */
static void histogram_write(struct prometheus *out, const char *metric, const char *labels,
	const struct octaves *octaves, uint32_t step)
{
	char name[128], all[640];
	uint64_t below = 0;

	snprintf(name, sizeof(name), "%s_bucket", metric);
	for (uint32_t octave = 0; octave <= HIST_OCTAVES; octave++) {
		const char *comma = labels ? "," : "";

		below += octaves->counts[octave];
		if (octave == HIST_OCTAVES)
			snprintf(all, sizeof(all), "%s%sle=\"+Inf\"", labels ? labels : "", comma);
		else if (octave % step == 0)
			snprintf(all, sizeof(all), "%s%sle=\"%llu\"", labels ? labels : "", comma,
				(unsigned long long)hist_lower_us(HIST_LINEAR * (octave + 1)));
		else
			continue;
		prometheus_sample(out, name, all, (double)below);
	}
	snprintf(name, sizeof(name), "%s_sum", metric);
	prometheus_sample(out, name, labels, octaves->sum_us);
	snprintf(name, sizeof(name), "%s_count", metric);
	prometheus_sample(out, name, labels, (double)below);
}

/* What is looked at gets every second boundary, what is controlled by all of them. */
#define LATENCY_STEP 1
#define PART_STEP    2

static void histograms_write(struct agent *agent, struct prometheus *out)
{
	char labels[512];

#define HISTOGRAM(metric, text, field, step)                                                       \
	prometheus_declare(out, metric, "histogram", text);                                        \
	for (size_t i = 0; i < agent->units.count; i++) {                                          \
		const struct unit *unit = agent->units.items[i];                                   \
                                                                                                   \
		snprintf(labels, sizeof(labels), "namespace=\"%s\",service=\"%s\"",                \
			unit->namespace, unit->service);                                           \
		histogram_write(out, metric, labels, &unit->field, step);                          \
	}
	HISTOGRAM("ebbtide_unit_request_latency_us",
		"Time until a response's first byte, microseconds.", total_octaves, LATENCY_STEP)
#define X(name, public, text)                                                                      \
	HISTOGRAM("ebbtide_unit_" #public "_us", text, signals_total.name, PART_STEP)
	SIGNAL_HISTOGRAMS(X)
#undef X
#undef HISTOGRAM
}

static void costs_write(struct agent *agent, struct prometheus *out)
{
	const struct budget_reading *reading = budget_reading(agent->budget);
	const struct probes_program *programs;
	char labels[512];
	size_t count;

	programs = probes_programs(agent->probes, &count);
#define COST(metric, text, field)                                                                  \
	prometheus_declare(out, metric, "gauge", text);                                            \
	for (size_t i = 0; i < count && i < BUDGET_PROGRAMS_MAX; i++) {                            \
		if (!programs[i].attached)                                                         \
			continue;                                                                  \
		snprintf(labels, sizeof(labels), "program=\"%s\"", programs[i].name);              \
		prometheus_sample(out, metric, labels, reading->programs[i].field);                \
	}
	COST("ebbtide_agent_probe_run_ns", "Time of one run of a BPF program, newest window.",
		ns_per_run)
	COST("ebbtide_agent_probe_runs_per_second", "Runs of a BPF program, newest window.",
		runs_per_s)
#undef COST
}

static void reflex_write(struct agent *agent, struct prometheus *out)
{
	const struct agent_status *status = &agent->status;
	struct octaves reaction = {0};
	struct reflex_status reflex;
	char labels[640];

	reflex_status(agent->reflex, &reflex);
#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	prometheus_sample(out, metric, NULL, (double)(value));
	REFLEX_METRICS(X)
#undef X
	octaves_add(&reaction, reflex.reaction, HIST_BUCKETS);
	prometheus_declare(out, "ebbtide_agent_reflex_reaction_us", "histogram",
		"From throttled with a request old enough to the quota written, microseconds.");
	histogram_write(out, "ebbtide_agent_reflex_reaction_us", NULL, &reaction, LATENCY_STEP);
	prometheus_declare(out, "ebbtide_unit_refills_denied_total", "counter",
		"Periods in which a refill was due and not written, by reason.");
	for (size_t i = 0; i < agent->units.count; i++) {
		const struct unit *unit = agent->units.items[i];

		for (int reason = 0; reason < REFILL_DENIAL_COUNT; reason++) {
			snprintf(labels, sizeof(labels),
				"namespace=\"%s\",service=\"%s\",reason=\"%s\"", unit->namespace,
				unit->service, refill_reasons[reason].name);
			prometheus_sample(out, "ebbtide_unit_refills_denied_total", labels,
				(double)unit->total_denied[reason]);
		}
	}
}

void metrics_write(struct agent *agent, struct prometheus *out)
{
	const struct agent_status *status = &agent->status;
	const struct probes_program *programs;
	char labels[512], reason[200];
	size_t count;

#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	prometheus_sample(out, metric, NULL, (double)(value));
	AGENT_METRICS(X)
#undef X
	prometheus_declare(out, "ebbtide_agent_program", "gauge",
		"1 when a BPF program, or the one that replaces it, is attached; the reason says why not.");
	programs = probes_programs(agent->probes, &count);
	for (size_t i = 0; i < count; i++) {
		prometheus_escape(reason, sizeof(reason), programs[i].reason);
		snprintf(labels, sizeof(labels), "program=\"%s\",reason=\"%s\"", programs[i].name,
			reason);
		prometheus_sample(out, "ebbtide_agent_program", labels,
			programs[i].attached || programs[i].replaced_by);
	}
	costs_write(agent, out);
#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	for (size_t i = 0; i < agent->units.count; i++) {                                          \
		const struct unit *unit = agent->units.items[i];                                   \
                                                                                                   \
		snprintf(labels, sizeof(labels), "namespace=\"%s\",service=\"%s\"",                \
			unit->namespace, unit->service);                                           \
		prometheus_sample(out, metric, labels, (double)(value));                           \
	}
	UNIT_METRICS(X)
#define SIGNAL(name, text)                                                                         \
	X("ebbtide_unit_" #name "_total", "counter", text, unit->signals_total.name)
	SIGNAL_COUNTERS(SIGNAL)
	SIGNAL_PRESSURES(SIGNAL)
#undef SIGNAL
#undef X
	histograms_write(agent, out);
	reflex_write(agent, out);
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status, char *text,
	size_t length, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(length, text, mode);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", "text/plain; version=0.0.4");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **state)
{
	struct metrics *metrics = context;
	struct prometheus page = {0};
	static char ok[] = "ok\n", missing[] = "not found: try /metrics or /healthz\n";

	(void)version, (void)data, (void)size, (void)state;
	if (strcmp(method, "GET") != 0)
		return answer(connection, 405, missing, strlen(missing), MHD_RESPMEM_PERSISTENT);
	if (strcmp(url, "/healthz") == 0)
		return answer(connection, 200, ok, strlen(ok), MHD_RESPMEM_PERSISTENT);
	if (strcmp(url, "/metrics") != 0)
		return answer(connection, 404, missing, strlen(missing), MHD_RESPMEM_PERSISTENT);
	pthread_mutex_lock(&metrics->agent->lock);
	metrics_write(metrics->agent, &page);
	pthread_mutex_unlock(&metrics->agent->lock);
	return answer(connection, 200, page.text, page.used, MHD_RESPMEM_MUST_FREE);
}

int metrics_open(struct agent *agent, struct metrics **out)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	int fd;

	if (!metrics)
		return -ENOMEM;
	metrics->agent = agent;
	fd = listen_open(agent->config.metrics_address);
	if (fd < 0) {
		free(metrics);
		return fd;
	}
	/* Not by select(): a node's containers take more than 1024 files. */
	metrics->daemon = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, handle,
		metrics, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, 16U,
		MHD_OPTION_CONNECTION_TIMEOUT, 30U, MHD_OPTION_END);
	if (!metrics->daemon) {
		close(fd);
		free(metrics);
		return -EIO;
	}
	*out = metrics;
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	if (!metrics)
		return;
	MHD_stop_daemon(metrics->daemon);
	free(metrics);
}
