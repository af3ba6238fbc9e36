// SPDX-License-Identifier: Apache-2.0
/*
 * The agent as a whole: what main.c sets up and the threads share.
 *
 * Threads: main (ticks, events, signals), pods and objectives (watches), report (learner), tree
 * (FUSE), pressure (memory), resize (pods' limits). All take `lock` around units, objectives and status. The reflex has a
 * thread and a lock of
 * its own (reflex.h), taken after this one.
 */
#ifndef EBBTIDE_AGENT_H
#define EBBTIDE_AGENT_H

#include "common/kube.h"
#include "common/objectives.h"
#include "node/limits/reflex.h"
#include "node/unit.h"

#include <pthread.h>

enum actuator {
	ACTUATOR_CGROUP,
	ACTUATOR_RESIZE
};

/* How bodies of reports are sent. */
enum report_encoding {
	REPORT_IDENTITY,
	REPORT_DEFLATE,
	REPORT_AUTO, /* deflated once the learner has said that it takes that */
};

/* How closely the kernel side looks, as far as its budget allows (budget.h). */
enum detail_level {
	DETAIL_FULL,
	DETAIL_EIGHTH, /* of what would be followed */
	DETAIL_SIXTYFOURTH,
	DETAIL_AGGREGATES, /* counts and latencies only: no breakdown, no event but OOM kills */
};

struct agent_config {
	const char *node;
	const char *learner_url; /* NULL: measure only */
	const char *tree;	 /* mount point, or NULL */
	const char *state_directory;
	const char *metrics_address; /* host:port, or NULL */
	uint32_t tick_ms;
	uint32_t max_slots;
	uint32_t learner_silent_ticks;
	uint32_t spool_reports;
	uint32_t forget_s;	     /* a service without containers and objective */
	double probe_budget_percent; /* of the node's CPU time, for the BPF programs; 0: any */
	uint32_t probe_check_s;	     /* between two looks at what they take */
	enum actuator actuator;
	enum report_encoding report_encoding;
	bool reflex_is_on;
	struct reflex_config reflex;
	struct allowance reflex_fixed; /* where a plan has none; trigger 0: none */
	uint32_t reflex_silent_ticks;
};

struct agent_status {
	bool pods_synced;
	bool objectives_synced;
	bool api_reachable;
	bool learner_reachable;
	char learner_error[160];
	uint64_t ticks;
	uint64_t ticks_late; /* at which at least one earlier tick had been missed */
	uint64_t reports_sent;
	uint64_t reports_spooled;
	uint64_t reports_dropped;
	uint64_t reports_deferred; /* the learner asked to send them later */
	uint64_t actions_pushed;   /* that came between two reports */
	uint64_t experiences;
	uint64_t limit_writes;
	uint64_t reservation_writes; /* weights, of containers and of pods */
	uint64_t foreign_writes;
	uint64_t baseline_returns;
	uint64_t allowances_withdrawn;
	uint64_t restored;
	uint64_t detail_changes;    /* of the level, by the budget */
	uint64_t action_latency_us; /* sample taken to limit written, newest */
	uint64_t last_answer_us;    /* CLOCK_MONOTONIC; 0: none yet */
};

struct budget;
struct trace;
struct reporter;
struct pressure;

struct agent {
	struct agent_config config;
	struct cgroup_driver driver;
	struct kube_config kube;
	struct probes *probes;
	pthread_mutex_t lock;
	struct units units;
	struct container **owners; /* by slot, max_slots of them; NULL: nobody's */
	struct objectives objectives;
	struct agent_status status;
	struct trace *trace;
	struct budget *budget;
	enum detail_level detail_level;
	struct reporter *reporter;
	struct pressure *pressure;
	struct resizer *resizer; /* NULL: limits are written to cgroups */
	struct reflex *reflex;	 /* NULL: this kernel has no eyes for it */
	/* How weights are made of requests here, as seen last; CPU_WEIGHT_SHARES: not seen. */
	enum cpu_weight_scale weight_scale;
	enum cpu_weight_scale pod_weight_scale;
	json_t *waiting;	/* pods without a slot, by namespace and name; as told of last */
	json_t *originals;	/* owners' limits by cgroup path, as kept on disk */
	bool originals_changed; /* since they were */
	atomic_bool stop;
	uint64_t started_unix_us;
};

/* discover.c: two threads' bodies, and the objectives' writer for the tree. */
void *discover_pods_thread(void *agent);
void *discover_objectives_thread(void *agent);
/* Apply one object as the watch would; for tests as well. Take the lock themselves. */
void discover_pod(struct agent *agent, enum kube_event event, const json_t *pod);
void discover_objective(struct agent *agent, enum kube_event event, const json_t *object);
/* Once a tick, the lock held: pods that wait for a slot, when one is free. */
void discover_waiting(struct agent *agent);
/* Once a tick, the lock held: services that have had neither container nor objective for long. */
void discover_forget(struct agent *agent);
/* The cgroup of a container id: 0 and the path, -ENOENT when no known layout has it. */
int discover_cgroup(const struct cgroup_driver *driver, const json_t *pod, const char *container_id,
	char *path, size_t size);
/* The service a pod belongs to, from its owner and template hash. */
void discover_service(const json_t *pod, char *service, size_t size);

/* sample.c: one tick of all units, after probes_refresh(); the lock is held. */
void sample_tick(struct agent *agent, double tick_s);
/* A container is about to be forgotten: what it did since the last tick goes into the next. */
void sample_last(struct agent *agent, struct unit *unit, struct container *container);
/* A container's quota has changed now: what it was until now counts in this tick's allocation. */
void sample_note_limit(struct container *container);
/*
 * The same with the old quota; in the period of the change the higher one counts all through.
 * @looked: its slot has been looked at just before.
 */
void sample_note_change(struct agent *agent, struct container *container,
	const struct cgroup_limits *old, bool looked);

/* allowance.c: what the reflex may do, and did; the lock is held. */
/* Whether an allowance for the unit would be kept: the learner must not build on one that is not. */
bool allowance_is_possible(const struct agent *agent, const struct unit *unit);
/* A plan comes into force; one whose allowance cannot be kept is taken at its ceiling. */
void allowance_take(struct agent *agent, struct unit *unit, const struct plan *plan);
/* Tell the reflex, after a plan, an objective or a container has changed. */
void allowance_apply(struct agent *agent, struct unit *unit);
/* Age at which the reflex acts for the unit's requests; 0: never. */
double allowance_trigger_us(const struct agent *agent, const struct unit *unit);
/* The plan's allowance is void; a base limit that relied on it rises to its ceiling. */
void allowance_withdraw(struct agent *agent, struct unit *unit, const char *rule);
/* Once a tick, before the units are sampled. */
void allowance_tick(struct agent *agent);
/* A container's refills since the last tick; *@over_limit_us: CPU it used over its limit by them. */
void allowance_collect(struct agent *agent, struct unit *unit, struct container *container,
	struct sample *sample, uint64_t *over_limit_us);

/* The kernel's smallest quota (min_cfs_quota_period). */
#define ACTUATE_QUOTA_MIN_US 1000

/* actuate.c; the lock is held. */
int actuate_adopt(struct agent *agent, struct container *container);
/* container->original into what is kept on disk; actuate_save() writes it. */
void actuate_keep_original(struct agent *agent, const struct container *container);
/* Write, or ask the kubelet for, a plan's limits on one container, where they differ. */
int actuate_container(struct agent *agent, struct container *container, const struct plan *plan);
/* The memory limit alone, whatever is in use; on v2 memory.high, which the kubelet leaves. */
int actuate_memory(struct agent *agent, struct container *container, int64_t bytes);
/* The limit that actuate_memory() moves is memory.high, not memory.max. */
bool actuate_moves_high(const struct agent *agent);
/* The unit's plan to all its containers, and its allowance to the reflex. */
void actuate_unit(struct agent *agent, struct unit *unit);
/* The owner's limits, for every container (@unit NULL) or one unit's; returns how many. */
unsigned int actuate_restore(struct agent *agent, struct unit *unit);
/* The same for one container; 1 or 0. */
unsigned int actuate_restore_container(struct agent *agent, struct container *container);
/* Past the kubelet, whatever the actuator. */
unsigned int actuate_restore_cgroup(struct agent *agent, struct container *container);
/*
 * Look at every limit, after probes_refresh(); what someone else changed is said and taken over as
 * the owner's.
 */
void actuate_verify(struct agent *agent);
/* Leaving: what is back at its owner's needs no line on disk. */
void actuate_forget_restored(struct agent *agent);
/* The container is gone, and its owner's limits with it. */
void actuate_forget(struct agent *agent, struct container *container);
/* What is open for it. */
void actuate_close(struct container *container);
/* Owners' limits to disk, if they have changed; before the first limit is written, and every tick. */
int actuate_save(struct agent *agent);
int actuate_load(struct agent *agent);
/*
 * What the disk says of a container, into its original limits and its pod's weight; what it does not
 * say is as now. False: nothing, or of another cgroup that had its path.
 */
bool actuate_read_kept(const json_t *kept, uint64_t cpu_id, struct container *container);
/* What bounds a container's memory: memory.high on v2 when it is set, else the maximum. */
int64_t actuate_memory_limit(const struct cgroup_limits *limits);

#endif
