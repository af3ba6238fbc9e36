// SPDX-License-Identifier: Apache-2.0
#include "node/tree/tree_files.h"

#include "node/probes/budget.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SHOW_AGENT(name, format, ...)                                                              \
	static void agent_##name(const struct agent *agent, char *out, size_t size)                \
	{                                                                                          \
		snprintf(out, size, format "\n", __VA_ARGS__);                                     \
	}

#define SHOW_UNIT(name, format, ...)                                                               \
	static void unit_##name(const struct unit *unit, char *out, size_t size)                   \
	{                                                                                          \
		snprintf(out, size, format "\n", __VA_ARGS__);                                     \
	}

static const char *dash(const char *text)
{
	return text && text[0] ? text : "-";
}

static void agent_version(const struct agent *agent, char *out, size_t size)
{
	(void)agent;
	snprintf(out, size, "%s\n", EBBTIDE_VERSION);
}
SHOW_AGENT(node, "%s", agent->config.node)
SHOW_AGENT(tick_ms, "%u", agent->config.tick_ms)
SHOW_AGENT(cgroup_layout, "%s", cgroup_layout_name(agent->driver.layout))
SHOW_AGENT(actuator, "%s", agent->config.actuator == ACTUATOR_RESIZE ? "resize" : "cgroup")
SHOW_AGENT(api_server, "%s", dash(agent->kube.server))
SHOW_AGENT(api_reachable, "%d", agent->status.api_reachable)
SHOW_AGENT(learner, "%s", dash(agent->config.learner_url))
SHOW_AGENT(learner_reachable, "%d", agent->status.learner_reachable)
SHOW_AGENT(learner_error, "%s", dash(agent->status.learner_error))
SHOW_AGENT(ticks, "%" PRIu64, agent->status.ticks)
SHOW_AGENT(ticks_late, "%" PRIu64, agent->status.ticks_late)
SHOW_AGENT(reports_sent, "%" PRIu64, agent->status.reports_sent)
SHOW_AGENT(reports_spooled, "%" PRIu64, agent->status.reports_spooled)
SHOW_AGENT(reports_dropped, "%" PRIu64, agent->status.reports_dropped)
SHOW_AGENT(experiences, "%" PRIu64, agent->status.experiences)
SHOW_AGENT(limit_writes, "%" PRIu64, agent->status.limit_writes)
SHOW_AGENT(reservation_writes, "%" PRIu64, agent->status.reservation_writes)
SHOW_AGENT(foreign_writes, "%" PRIu64, agent->status.foreign_writes)
SHOW_AGENT(baseline_returns, "%" PRIu64, agent->status.baseline_returns)
SHOW_AGENT(action_latency_us, "%" PRIu64, agent->status.action_latency_us)
SHOW_AGENT(events_lost, "%" PRIu64, probes_events_lost(agent->probes))
SHOW_AGENT(switches_lost, "%" PRIu64, probes_switches_lost(agent->probes))
SHOW_AGENT(connections_lost, "%" PRIu64, probes_connections_lost(agent->probes))
SHOW_AGENT(requests_untracked, "%" PRIu64, probes_requests_untracked(agent->probes))
SHOW_AGENT(probe_budget_percent, "%.2f", agent->config.probe_budget_percent)
SHOW_AGENT(probe_share_percent, "%.3f", 100 * budget_reading(agent->budget)->share)
SHOW_AGENT(probe_ns_per_run, "%.0f", budget_reading(agent->budget)->all.ns_per_run)
SHOW_AGENT(probe_runs_per_s, "%.0f", budget_reading(agent->budget)->all.runs_per_s)
SHOW_AGENT(probe_windows, "%" PRIu64, budget_reading(agent->budget)->windows)
SHOW_AGENT(detail_level, "%s", detail_level_name(agent->detail_level))
SHOW_AGENT(detail_changes, "%" PRIu64, agent->status.detail_changes)
SHOW_AGENT(units, "%zu", agent->units.count)

#define SHOW_REFLEX(name, format, ...)                                                             \
	static void agent_##name(const struct agent *agent, char *out, size_t size)                \
	{                                                                                          \
		struct reflex_status reflex;                                                       \
                                                                                                   \
		reflex_status(agent->reflex, &reflex);                                             \
		snprintf(out, size, format "\n", __VA_ARGS__);                                     \
	}

SHOW_REFLEX(reflex, "%d", reflex.is_on)
SHOW_REFLEX(reflex_priority, "%s", dash(reflex.priority))
SHOW_REFLEX(reflex_watched, "%u", reflex.watched)
SHOW_REFLEX(reflex_cpu_us, "%" PRIu64, reflex.cpu_ns / 1000)
SHOW_REFLEX(reflex_reaction_p50_us, "%.0f", histogram_quantile_us(reflex.reaction, 0.50))
SHOW_REFLEX(reflex_reaction_p99_us, "%.0f", histogram_quantile_us(reflex.reaction, 0.99))
SHOW_REFLEX(refills_total, "%" PRIu64, reflex.refills)
SHOW_REFLEX(refill_budget_millicores, "%" PRIu64, reflex.budget_ns / 1000000)
SHOW_REFLEX(refill_spent_millicores, "%" PRIu64, reflex.spent_ns / 1000000)
SHOW_AGENT(allowances_withdrawn, "%" PRIu64, agent->status.allowances_withdrawn)

static int number_parse(const char *text, unsigned long highest, unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end)
		return -EINVAL;
	return errno || *number > highest ? -ERANGE : 0;
}

static int agent_store_reflex(struct agent *agent, const char *text)
{
	unsigned long number;
	int err = number_parse(text, 1, &number);

	if (!err && !agent->reflex)
		err = -ENOTSUP;
	if (!err)
		reflex_switch(agent->reflex, number == 1);
	return err;
}

/* 0: what the node has to spare, from the next tick on. */
static int agent_store_refill_budget_millicores(struct agent *agent, const char *text)
{
	unsigned long number;
	int err = number_parse(text, 1000000, &number);

	if (!err && !agent->reflex)
		err = -ENOTSUP;
	if (!err)
		reflex_set_budget(agent->reflex, (uint32_t)number);
	return err;
}

#define AGENT_FILE(name)                                                                           \
	{                                                                                          \
#name, agent_##name, NULL                                                          \
	}
#define AGENT_SWITCH(name)                                                                         \
	{                                                                                          \
#name, agent_##name, agent_store_##name                                            \
	}
const struct tree_agent_file tree_agent_files[] = {
	AGENT_FILE(version),
	AGENT_FILE(node),
	AGENT_FILE(tick_ms),
	AGENT_FILE(cgroup_layout),
	AGENT_FILE(actuator),
	AGENT_FILE(api_server),
	AGENT_FILE(api_reachable),
	AGENT_FILE(learner),
	AGENT_FILE(learner_reachable),
	AGENT_FILE(learner_error),
	AGENT_FILE(ticks),
	AGENT_FILE(ticks_late),
	AGENT_FILE(reports_sent),
	AGENT_FILE(reports_spooled),
	AGENT_FILE(reports_dropped),
	AGENT_FILE(experiences),
	AGENT_FILE(limit_writes),
	AGENT_FILE(reservation_writes),
	AGENT_FILE(foreign_writes),
	AGENT_FILE(baseline_returns),
	AGENT_FILE(action_latency_us),
	AGENT_FILE(events_lost),
	AGENT_FILE(switches_lost),
	AGENT_FILE(connections_lost),
	AGENT_FILE(requests_untracked),
	AGENT_FILE(probe_budget_percent),
	AGENT_FILE(probe_share_percent),
	AGENT_FILE(probe_ns_per_run),
	AGENT_FILE(probe_runs_per_s),
	AGENT_FILE(probe_windows),
	AGENT_FILE(detail_level),
	AGENT_FILE(detail_changes),
	AGENT_SWITCH(reflex),
	AGENT_FILE(reflex_priority),
	AGENT_FILE(reflex_watched),
	AGENT_FILE(reflex_cpu_us),
	AGENT_FILE(reflex_reaction_p50_us),
	AGENT_FILE(reflex_reaction_p99_us),
	AGENT_FILE(refills_total),
	AGENT_SWITCH(refill_budget_millicores),
	AGENT_FILE(refill_spent_millicores),
	AGENT_FILE(allowances_withdrawn),
	AGENT_FILE(units),
};
const size_t tree_agent_file_count = sizeof(tree_agent_files) / sizeof(tree_agent_files[0]);

static double per_second(const struct unit *unit, double amount)
{
	return unit->sample.tick_s > 0 ? amount / unit->sample.tick_s : 0;
}

SHOW_UNIT(latency_p50_us, "%.0f", unit->sample.latency_p50_us)
SHOW_UNIT(latency_p95_us, "%.0f", unit->sample.latency_p95_us)
SHOW_UNIT(latency_p99_us, "%.0f", unit->sample.latency_p99_us)
SHOW_UNIT(latency_p50_total_us, "%.0f", histogram_quantile_us(unit->total_latency, 0.50))
SHOW_UNIT(latency_p99_total_us, "%.0f", histogram_quantile_us(unit->total_latency, 0.99))
SHOW_UNIT(requests_per_s, "%.1f", per_second(unit, (double)unit->sample.requests))
SHOW_UNIT(requests_total, "%" PRIu64, unit->total_requests)
SHOW_UNIT(requests_over_total, "%" PRIu64, unit->total_over)
SHOW_UNIT(requests_failed_total, "%" PRIu64, unit->total_failed)
SHOW_UNIT(in_flight, "%.0f", unit->sample.in_flight)
SHOW_UNIT(cpu_used_millicores, "%.1f", per_second(unit, (double)unit->sample.cpu_used_us / 1000))
SHOW_UNIT(cpu_allocated_millicores, "%.1f",
	per_second(unit, (double)unit->sample.cpu_allocated_us / 1000))
SHOW_UNIT(cpu_limit_millicores, "%.1f", unit->sample.cpu_limit_millicores)
SHOW_UNIT(cpu_declared_millicores, "%.1f", unit_declared_millicores(unit))
SHOW_UNIT(cpu_reserved_millicores, "%.1f", unit->sample.cpu_reserved_millicores)
SHOW_UNIT(cpu_requested_millicores, "%.1f", unit_requested_millicores(unit))
SHOW_UNIT(cpu_used_total_us, "%" PRIu64, unit->total_used_us)
SHOW_UNIT(cpu_allocated_total_us, "%" PRIu64, unit->total_allocated_us)
SHOW_UNIT(cpu_throttled_us, "%" PRIu64, unit->sample.throttled_us)
SHOW_UNIT(cpu_run_queue_us, "%" PRIu64, unit->sample.run_queue_us)
SHOW_UNIT(memory_used_bytes, "%" PRIu64, unit->sample.memory_used_bytes)
SHOW_UNIT(memory_peak_bytes, "%" PRIu64, unit->sample.memory_peak_bytes)
SHOW_UNIT(memory_working_set_bytes, "%" PRIu64, unit->sample.memory_working_set_bytes)
SHOW_UNIT(memory_limit_bytes, "%" PRIu64, unit->sample.memory_limit_bytes)
SHOW_UNIT(memory_declared_bytes, "%" PRIu64, unit_declared_bytes(unit))
SHOW_UNIT(memory_reclaim_us, "%" PRIu64, unit->sample.reclaim_us)
SHOW_UNIT(oom_kills_total, "%" PRIu64, unit->total_oom_kills)
SHOW_UNIT(containers, "%zu", unit->container_count)
SHOW_UNIT(starting, "%" PRIu32, starting_count(unit))
SHOW_UNIT(ticks_total, "%" PRIu64, unit->total_ticks)
SHOW_UNIT(violations_total, "%" PRIu64, unit->total_violations)
SHOW_UNIT(reward, "%.4f", (double)unit->reward)
SHOW_UNIT(last_action, "%s", action_vertical_name(unit->action))
SHOW_UNIT(last_policy, "%s", dash(unit->policy))
SHOW_UNIT(last_rule, "%s", dash(unit->rule))
SHOW_UNIT(last_why, "%s", dash(unit->why))
SHOW_UNIT(actions_cpu_total, "%" PRIu64, unit->actions_cpu)
SHOW_UNIT(actions_memory_total, "%" PRIu64, unit->actions_memory)
SHOW_UNIT(refills_per_s, "%.1f", per_second(unit, unit->sample.refills))
SHOW_UNIT(refills_total, "%" PRIu64, unit->total_refills)
SHOW_UNIT(refills_granted_total_us, "%" PRIu64, unit->total_granted_us)
#define X(name, text)                                                                              \
	SHOW_UNIT(refills_denied_##name##_total, "%" PRIu64, unit->total_denied[REFILL_##name])
REFILL_DENIALS(X)
#undef X
SHOW_UNIT(memory_raises_total, "%" PRIu64, unit->total_memory_raises)
SHOW_UNIT(cpu_burst_us, "%" PRIu64, unit->has_plan ? unit->plan.burst_us : 0)
SHOW_UNIT(allowance_trigger_share, "%.3g", unit->plan.allowance.trigger_age_share)
SHOW_UNIT(allowance_refills, "%u", unit->plan.allowance.refills_per_period)
SHOW_UNIT(allowance_ceiling_millicores, "%.0f", unit->plan.allowance.ceiling_millicores)
SHOW_UNIT(oldest_request_us, "%" PRIu64, unit->oldest_request_us)

#define X(name, text) SHOW_UNIT(name##_total, "%" PRIu64, unit->signals_total.name)
SIGNAL_COUNTERS(X)
#undef X
#define X(name, text) SHOW_UNIT(name, "%" PRIu64, unit->signals.name)
SIGNAL_PRESSURES(X)
#undef X
#define X(name, public, text)                                                                      \
	SHOW_UNIT(public##_p50_us, "%.0f", (double)unit->signals.name##_p50_us)                    \
	SHOW_UNIT(public##_p99_us, "%.0f", (double)unit->signals.name##_p99_us)
SIGNAL_HISTOGRAMS(X)
#undef X

#define UNIT_FILE(name)                                                                            \
	{                                                                                          \
#name, unit_##name                                                                 \
	}
/* The signals' tables, and what else is of the slots alone. */
#define COUNTER_FILE(name, text)	    UNIT_FILE(name##_total),
#define PRESSURE_FILE(name, text)	    UNIT_FILE(name),
#define HISTOGRAM_FILES(name, public, text) UNIT_FILE(public##_p50_us), UNIT_FILE(public##_p99_us),
#define DENIAL_FILE(name, text)		    UNIT_FILE(refills_denied_##name##_total),
#define SIGNAL_FILES                                                                               \
	SIGNAL_COUNTERS(COUNTER_FILE)                                                              \
	SIGNAL_PRESSURES(PRESSURE_FILE)                                                            \
	SIGNAL_HISTOGRAMS(HISTOGRAM_FILES)                                                         \
	REFILL_DENIALS(DENIAL_FILE)                                                                \
	UNIT_FILE(oldest_request_us)

const struct tree_unit_file tree_unit_files[] = {
	UNIT_FILE(latency_p50_us),
	UNIT_FILE(latency_p95_us),
	UNIT_FILE(latency_p99_us),
	UNIT_FILE(latency_p50_total_us),
	UNIT_FILE(latency_p99_total_us),
	UNIT_FILE(requests_per_s),
	UNIT_FILE(requests_total),
	UNIT_FILE(requests_over_total),
	UNIT_FILE(requests_failed_total),
	UNIT_FILE(in_flight),
	UNIT_FILE(cpu_used_millicores),
	UNIT_FILE(cpu_allocated_millicores),
	UNIT_FILE(cpu_limit_millicores),
	UNIT_FILE(cpu_declared_millicores),
	UNIT_FILE(cpu_reserved_millicores),
	UNIT_FILE(cpu_requested_millicores),
	UNIT_FILE(cpu_used_total_us),
	UNIT_FILE(cpu_allocated_total_us),
	UNIT_FILE(cpu_throttled_us),
	UNIT_FILE(cpu_run_queue_us),
	UNIT_FILE(memory_used_bytes),
	UNIT_FILE(memory_peak_bytes),
	UNIT_FILE(memory_working_set_bytes),
	UNIT_FILE(memory_limit_bytes),
	UNIT_FILE(memory_declared_bytes),
	UNIT_FILE(memory_reclaim_us),
	UNIT_FILE(oom_kills_total),
	UNIT_FILE(containers),
	UNIT_FILE(starting),
	UNIT_FILE(ticks_total),
	UNIT_FILE(violations_total),
	UNIT_FILE(reward),
	UNIT_FILE(last_action),
	UNIT_FILE(last_policy),
	UNIT_FILE(last_rule),
	UNIT_FILE(last_why),
	UNIT_FILE(actions_cpu_total),
	UNIT_FILE(actions_memory_total),
	UNIT_FILE(refills_per_s),
	UNIT_FILE(refills_total),
	UNIT_FILE(refills_granted_total_us),
	UNIT_FILE(memory_raises_total),
	UNIT_FILE(cpu_burst_us),
	UNIT_FILE(allowance_trigger_share),
	UNIT_FILE(allowance_refills),
	UNIT_FILE(allowance_ceiling_millicores),
	SIGNAL_FILES,
};
const size_t tree_unit_file_count = sizeof(tree_unit_files) / sizeof(tree_unit_files[0]);
