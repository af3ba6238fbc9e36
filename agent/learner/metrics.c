// SPDX-License-Identifier: Apache-2.0
#include "learner/metrics.h"

#include "learner/dqn/blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every metric in one place: name, type, help, value. */
#define LEARNER_METRICS(X)                                                                         \
	X("ebbtide_learner_leader", "gauge", "1 while this learner holds the lease.",              \
		atomic_load(&learner->leader))                                                     \
	X("ebbtide_learner_reports_total", "counter", "Reports taken.", counts->reports)           \
	X("ebbtide_learner_reports_refused_total", "counter", "Reports that were malformed.",      \
		counts->reports_refused)                                                           \
	X("ebbtide_learner_reports_repeated_total", "counter", "Reports sent again, stored once.", \
		counts->reports_repeated)                                                          \
	X("ebbtide_learner_reports_deferred_total", "counter",                                     \
		"Reports that were asked to come later (429).", counts->reports_deferred)          \
	X("ebbtide_learner_bodies_bytes", "gauge", "Memory of requests' bodies.",                  \
		atomic_load(&learner->bodies.used))                                                \
	X("ebbtide_learner_polls", "gauge", "Polls that wait for an action.",                      \
		learner->push.waiting)                                                             \
	X("ebbtide_learner_pushes_total", "counter", "Actions sent between two reports.",          \
		learner->push.pushed)                                                              \
	X("ebbtide_learner_units", "gauge", "Units that report.", services->unit_count)            \
	X("ebbtide_learner_agents", "gauge", "Agents' starts whose reports are remembered.",       \
		sequences_count(&learner->sequences))                                              \
	X("ebbtide_learner_experiences_total", "counter", "Experiences stored.",                   \
		counts->experiences)                                                               \
	X("ebbtide_learner_actions_total", "counter", "Vertical decisions sent to agents.",        \
		counts->actions)                                                                   \
	X("ebbtide_learner_decision_us_total", "counter",                                          \
		"Time spent on reports, microseconds, from parsed to decided.",                    \
		counts->decision_us_sum)                                                           \
	X("ebbtide_learner_decisions_dropped_total", "counter",                                    \
		"Lines of the decisions file that were left out.",                                 \
		journal_dropped(learner->journal))                                                 \
	X("ebbtide_learner_scale_requests_total", "counter", "Replica counts asked for.",          \
		counts->scale_requests)                                                            \
	X("ebbtide_learner_scale_failures_total", "counter", "Of these, refused by the API.",      \
		counts->scale_failures)                                                            \
	X("ebbtide_learner_checkpoints_total", "counter", "Checkpoints written.",                  \
		counts->checkpoints)

#define LOG_METRICS(X)                                                                             \
	X("ebbtide_learner_log_bytes", "gauge", "Size of the experience log on disk.", log.bytes)  \
	X("ebbtide_learner_log_segments", "gauge", "Files of the experience log.", log.segments)   \
	X("ebbtide_learner_log_experiences", "gauge", "Experiences in the log.", log.experiences)  \
	X("ebbtide_learner_log_appends_total", "counter", "Batches written to the log.",           \
		log.appends)                                                                       \
	X("ebbtide_learner_log_syncs_total", "counter", "Syncs of the log to the disk.",           \
		log.syncs)                                                                         \
	X("ebbtide_learner_log_failures_total", "counter",                                         \
		"Batches that could not be written and were not acknowledged.", log.failures)      \
	X("ebbtide_learner_log_torn_bytes", "gauge", "Cut from the log's end at the start.",       \
		log.torn_bytes)                                                                    \
	X("ebbtide_learner_log_damaged_bytes", "gauge",                                            \
		"Damage found in the log at the start and passed over.", log.damaged_bytes)

#define BRAIN_METRICS(X)                                                                           \
	X("ebbtide_learner_updates_total", "counter", "Gradient steps.", status.steps)             \
	X("ebbtide_learner_updates_per_second", "gauge", "Gradient steps a second, lately.",       \
		status.steps_per_s)                                                                \
	X("ebbtide_learner_train_cpu_seconds_total", "counter", "CPU time of training.",           \
		status.train_cpu_s)                                                                \
	X("ebbtide_learner_health", "gauge",                                                       \
		"0 sound, 1 diverged and on the last good weights, 2 diverged and not used.",      \
		status.health)                                                                     \
	X("ebbtide_learner_divergences_total", "counter",                                          \
		"Times the weights fell back to the last good ones.", status.divergences)          \
	X("ebbtide_learner_replay_transitions", "gauge", "Transitions in the replay buffer.",      \
		status.held)                                                                       \
	X("ebbtide_learner_replay_stored_total", "counter", "Transitions ever stored.",            \
		status.stored)                                                                     \
	X("ebbtide_learner_replay_age_seconds", "gauge",                                           \
		"Since the oldest transition in the replay buffer came.", status.age_s)            \
	X("ebbtide_learner_replay_bytes", "gauge", "Memory of the replay buffer.",                 \
		status.replay_bytes)                                                               \
	X("ebbtide_learner_loss", "gauge", "Huber loss of the newest step.", status.last.loss)     \
	X("ebbtide_learner_td_error", "gauge", "Mean absolute TD error of the newest step.",       \
		status.last.td_error_mean_abs)                                                     \
	X("ebbtide_learner_q_mean", "gauge", "Mean Q value of the newest batch.",                  \
		status.last.q_mean)                                                                \
	X("ebbtide_learner_q_min", "gauge", "Lowest Q value of the newest batch.",                 \
		status.last.q_min)                                                                 \
	X("ebbtide_learner_q_max", "gauge", "Highest Q value of the newest batch.",                \
		status.last.q_max)

#define SERVICE_METRICS(X)                                                                         \
	X("ebbtide_service_decisions_total", "counter", "Vertical decisions.",                     \
		service->counts.decisions)                                                         \
	X("ebbtide_service_explored_total", "counter", "Of these, exploration.",                   \
		service->counts.explored)                                                          \
	X("ebbtide_service_experiences_total", "counter", "Experiences.",                          \
		service->counts.experiences)                                                       \
	X("ebbtide_service_reward_total", "gauge", "Sum of vertical rewards.",                     \
		service->counts.reward_sum)                                                        \
	X("ebbtide_service_reward", "gauge", "Mean of the last few vertical rewards.",             \
		service->counts.reward_mean)                                                       \
	X("ebbtide_service_epsilon", "gauge",                                                      \
		"Mean share of exploration in the last few decisions.",                            \
		service->counts.epsilon_mean)                                                      \
	X("ebbtide_service_replicas", "gauge", "Replicas asked for.", service->replicas)

/* What is said of a service, copied: a page takes too long to write with the lock held. */
struct service_view {
	char namespace[64];
	char name[OBJECTIVE_NAME_MAX];
	struct service_counts counts;
	uint32_t replicas;
};

static void service_actions(const struct service_view *service, struct prometheus *out)
{
	char labels[640];

	for (uint32_t i = 0; i < ACTION_VERTICAL; i++) {
		snprintf(labels, sizeof(labels),
			"namespace=\"%s\",service=\"%s\",kind=\"vertical\",action=\"%s\"",
			service->namespace, service->name, action_vertical_name(i));
		prometheus_sample(out, "ebbtide_service_actions_total", labels,
			(double)service->counts.vertical[i]);
	}
	for (uint32_t i = 0; i < ACTION_HORIZONTAL; i++) {
		snprintf(labels, sizeof(labels),
			"namespace=\"%s\",service=\"%s\",kind=\"horizontal\",action=\"%s\"",
			service->namespace, service->name, action_horizontal_name(i));
		prometheus_sample(out, "ebbtide_service_actions_total", labels,
			(double)service->counts.horizontal[i]);
	}
}

static void service_interventions(const struct service_view *service, struct prometheus *out)
{
	char labels[640];

	for (enum envelope_rule rule = RULE_NONE + 1; rule < RULE_COUNT; rule++) {
		snprintf(labels, sizeof(labels), "namespace=\"%s\",service=\"%s\",rule=\"%s\"",
			service->namespace, service->name, envelope_rule_name(rule));
		prometheus_sample(out, "ebbtide_service_interventions_total", labels,
			(double)service->counts.interventions[rule]);
	}
}

static void brains_write(struct learner *learner, struct prometheus *out)
{
	struct brain *brains[2] = {learner->vertical, learner->horizontal};
	static const char *const labels[2] = {"policy=\"vertical\"", "policy=\"horizontal\""};
	struct brain_status all[2];

	for (int i = 0; i < 2; i++)
		brain_read_status(brains[i], &all[i]);
#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	for (int i = 0; i < 2; i++) {                                                              \
		struct brain_status status = all[i];                                               \
                                                                                                   \
		prometheus_sample(out, metric, labels[i], (double)(value));                        \
	}
	BRAIN_METRICS(X)
#undef X
}

/* NULL when there is none or no memory. */
static struct service_view *views_copy(const struct services *services)
{
	struct service_view *views = calloc(services->count, sizeof(*views));

	for (size_t i = 0; views && i < services->count; i++) {
		const struct service *service = services->items[i];

		memcpy(views[i].namespace, service->namespace, sizeof(views[i].namespace));
		memcpy(views[i].name, service->name, sizeof(views[i].name));
		views[i].counts = service->counts;
		views[i].replicas = service->replicas;
	}
	return views;
}

static void services_write(const struct service_view *views, size_t count, struct prometheus *out)
{
	char labels[512];

#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	for (size_t i = 0; i < count; i++) {                                                       \
		const struct service_view *service = &views[i];                                    \
                                                                                                   \
		snprintf(labels, sizeof(labels), "namespace=\"%s\",service=\"%s\"",                \
			service->namespace, service->name);                                        \
		prometheus_sample(out, metric, labels, (double)(value));                           \
	}
	SERVICE_METRICS(X)
#undef X
	prometheus_declare(out, "ebbtide_service_actions_total", "counter",
		"Decisions by action; hold included.");
	for (size_t i = 0; i < count; i++)
		service_actions(&views[i], out);
	prometheus_declare(out, "ebbtide_service_interventions_total", "counter",
		"Decisions that a rule of the envelope changed.");
	for (size_t i = 0; i < count; i++)
		service_interventions(&views[i], out);
}

void metrics_write(struct learner *learner, struct prometheus *out)
{
	const struct services *services = &learner->services;
	const struct learner_counts *counts = &learner->counts;
	struct service_view *views;
	struct segments_status log;
	char labels[512];
	size_t count;

	(void)experience_log_read_status(learner->log, &log);
	snprintf(labels, sizeof(labels), "version=\"%s\",blas=\"%s\"", EBBTIDE_VERSION,
		blas_corename());
	prometheus_declare(out, "ebbtide_learner_info", "gauge", "Version and BLAS kernels.");
	prometheus_sample(out, "ebbtide_learner_info", labels, 1);
	brains_write(learner, out);
	prometheus_declare(out, "ebbtide_learner_decision_seconds", "histogram",
		"Of a report, from received to answered.");
	durations_write(&learner->decision_times, out, "ebbtide_learner_decision_seconds");
	pthread_mutex_lock(&learner->lock);
#define X(metric, form, text, value)                                                               \
	prometheus_declare(out, metric, form, text);                                               \
	prometheus_sample(out, metric, NULL, (double)(value));
	LEARNER_METRICS(X)
	LOG_METRICS(X)
#undef X
	views = views_copy(services);
	count = views ? services->count : 0;
	pthread_mutex_unlock(&learner->lock);
	services_write(views, count, out);
	free(views);
}
