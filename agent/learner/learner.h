// SPDX-License-Identifier: Apache-2.0
/*
 * The learner as a whole: what main.c sets up and the threads share.
 *
 * Threads: HTTP (ingest and decisions), training, objectives, deployments and two kinds of other
 * autoscalers (watches), scale (horizontal decisions), scale requests, status, lease; the main one
 * takes over, gives up and writes checkpoints. `lock` guards objectives, services and counts.
 */
#ifndef EBBTIDE_LEARNER_H
#define EBBTIDE_LEARNER_H

#include "common/kube.h"
#include "common/objectives.h"
#include "learner/body.h"
#include "learner/brain.h"
#include "learner/journal.h"
#include "learner/policy.h"
#include "learner/push.h"
#include "learner/service.h"
#include "learner/simulator/durations.h"
#include "learner/storage/experience_log.h"
#include "learner/storage/sequences.h"

#include <pthread.h>

struct learner_config {
	const char *listen;
	const char *state_directory;
	const char *journal_path; /* decisions, or NULL */
	const char *pretrained;	  /* folder, "none", or NULL: the program's own */
	const char *lease;	  /* namespace/name, or NULL: always leader */
	const char *identity;
	uint32_t http_threads;
	size_t bodies_bytes;	/* of requests in memory, all together */
	size_t decisions_bytes; /* of decisions in memory, all together */
	double scale_period_s;
	uint32_t checkpoint_period_s;
	uint32_t checkpoints; /* kept of each network */
	enum durability durability;
	uint32_t replay_capacity;
	double replay_ratio;
	double updates_per_s_max;
	double train_cpu; /* share of a core */
	uint64_t seed;
	struct policy_config policy;
	struct train_config train;
};

struct learner_counts {
	uint64_t reports;
	uint64_t reports_refused;
	uint64_t reports_repeated;
	uint64_t reports_deferred; /* 429: the bodies' budget or the units' bound was reached */
	uint64_t experiences;
	uint64_t actions;
	uint64_t scale_requests;
	uint64_t scale_failures;
	uint64_t checkpoints;
	double decision_us_sum;
};

struct learner {
	struct learner_config config;
	struct kube_config kube;
	struct brain *vertical;
	struct brain *horizontal;
	pthread_mutex_t lock;
	struct objectives objectives;
	struct services services;
	struct autoscalers autoscalers; /* of others */
	struct sequences sequences; /* reports taken: one that comes again is not stored twice */
	struct experience_log *log; /* NULL: nothing is kept on disk */
	struct learner_counts counts;
	struct random_state random;
	struct journal *journal;
	struct push push; /* what cannot wait for the next report */
	struct body_budget bodies;
	struct durations decision_times; /* of reports, from received to answered */
	atomic_bool stop;
	atomic_bool elected; /* by the lease */
	atomic_bool leader;  /* elected, and the state directory is taken over */
};

/* ingest.c */
struct ingest;
int ingest_open(struct learner *learner, struct ingest **ingest);
void ingest_close(struct ingest *ingest);

/*
 * report.c: one report in, one packed answer out (free() it). -EINVAL: refused, with the field in
 * @error; -EUSERS: no room for its units; any other: not stored, to be sent again. The reason is in
 * @error.
 */
int report_handle(struct learner *learner, const uint8_t *bytes, size_t size, uint8_t **answer,
	size_t *answer_size, char *error, size_t error_size);

/*
 * urgent.c: decisions that do not wait for the next report, to agents that poll. The lock is held.
 * The service's objective changed from @before: limits in force come inside the new bounds.
 */
void urgent_objective(
	struct learner *learner, struct service *service, const struct objective *before);
/* @broken's objective broke just now: cuts on probation in the service's other units go back. */
void urgent_broken(struct learner *learner, struct service_unit *broken, double now_s);

/*
 * decisions.c: what was decided, of each unit and of replicas, for people. The lock is held.
 * Into the ring of @unit, or with NULL of @service's replicas, and into the decisions file.
 */
void decisions_keep(struct learner *learner, struct service *service, struct service_unit *unit,
	const struct decision_record *record);

/* GET /v1/decisions, as it was asked; what was not is NULL. */
struct decisions_query {
	const char *service; /* NAME or NAMESPACE/NAME */
	const char *unit;    /* node; NULL: the one that was decided on last */
	const char *at_us;   /* Unix; NULL: now */
	const char *count;   /* of limits, and of replicas; NULL: 1 */
};
/* Without the lock. The HTTP status; @body is to be freed, NULL: out of memory. */
unsigned int decisions_answer(
	struct learner *learner, const struct decisions_query *query, char **body, size_t *size);

/* scale.c */
void *scale_objectives_thread(void *learner);
void *scale_deployments_thread(void *learner);
/* Decides, and asks nobody: what waits for the API server is in the two below. */
void *scale_thread(void *learner);
void *scale_requests_thread(void *learner);
/* The horizontal decision of every service that is due; the lock is held. */
void scale_decide(struct learner *learner, double now_s);
void scale_objective(struct learner *learner, enum kube_event event, const json_t *object);
void scale_deployment(struct learner *learner, enum kube_event event, const json_t *object);

/* contest.c: the other autoscalers that the API has. */
void *contest_horizontal_thread(void *learner);
void *contest_vertical_thread(void *learner);
void contest_see(struct learner *learner, enum autoscaler_kind kind, enum kube_event event,
	const json_t *object);
/* Who else sets a service, whose objective may have changed; the lock is held. */
void contest_settle(struct learner *learner, struct service *service);

/*
 * lease.c: acquires, renews and at the end releases; sets learner->elected. A thread of its own, so
 * that no other request delays a renewal, or the end of a lease that cannot be renewed.
 */
void *lease_thread(void *learner);

/* status.c: what an objective's status says, as a merge patch, and the events. */
json_t *status_describe(const struct learner *learner, struct service *service);
/* Conditions as an earlier leader left them: their times go on. */
void status_adopt(struct service *service, const json_t *object);
/* The next status is another object's. */
void status_forget(struct service *service);
/* To every objective whose status is another than it was told last, again and again. */
void *status_thread(void *learner);

void status_event(struct kube_client *client, const struct service *service, bool failed,
	const char *message);

/* persist.c: both networks to and from the state directory. */
int persist_save(struct learner *learner);
void persist_load(struct learner *learner);

/* client.c: NULL: out of memory, which is logged with the name of @thread. */
struct kube_client *learner_client(const struct learner *learner, const char *thread);
/* Until @until_s, or until the learner is to stop. */
void learner_rest_until(const struct learner *learner, double until_s);
typedef void learner_turn(struct learner *learner, struct kube_client *client);
/* @turn once a period, with a client of its own, until the learner is to stop. */
void learner_repeat(
	struct learner *learner, const char *thread, double period_s, learner_turn *turn);

double learner_now_s(void);
double learner_unix_s(void);

#endif
