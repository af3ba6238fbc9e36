// SPDX-License-Identifier: Apache-2.0
/*
 * The simulated comparison of policies: services and loads (rows), policies with their parameters
 * (settings), and what comes of each pair.
 *
 * A policy is anything that maps what was measured to a plan: struct bench_policy. The published rules
 * are one kind (rule.c); what is learnt is another and needs no more than an entry in its table.
 */
#ifndef EBBTIDE_BENCH_POLICY_H
#define EBBTIDE_BENCH_POLICY_H

#include "bench/policy/front.h"
#include "common/objective.h"
#include "common/state.h"
#include "learner/simulator/simulate.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* How the rate of requests moves over the hour. The shipped ones are read, the others are drawn. */
enum load_shape {
	LOAD_FILE,
	LOAD_STEPS,  /* levels that hold for one to five minutes */
	LOAD_SPIKES, /* a calm base and short spikes of two to four times as much */
	LOAD_ON_OFF, /* full for a while, then nearly nothing */
	LOAD_SINE,   /* a ten-minute wave under noise that lasts seconds */
	LOAD_WANDER, /* a random walk that is drawn back to its mean */
};

/* What a replica needs of it, where a row is about memory. Its CPU is plenty then. */
struct row_memory {
	double base_mib;    /* what it cannot do without at its start */
	double growth_mib;  /* more of that in an hour */
	double hot_mib;	    /* pages that can be taken at a cost */
	double cold_mib;    /* pages that can be taken for nothing */
	double request_mib; /* of a request in flight */
};

/* Where a row is about replicas: between 1 and so many, each declared to need so much. */
struct row_scaling {
	uint32_t most;
	double replica_millicores;
	double startup_ms;
};

/* Where its service has no CPU limit: the reservation is decided, on a node that is shared by weight. */
struct row_reserving {
	double node_cores;
	double neighbour_cores; /* that neighbours want while they are busy */
	double neighbour_reserved_millicores;
	double neighbour_busy_s; /* mean, of busy and of idle times each */
};

struct bench_row {
	const char *name; /* of its files, too */
	double work_ms;
	double work_cv;
	double wait_ms; /* for other than the CPU */
	double objective_ms;
	enum load_shape shape;
	const char *file;		 /* of LOAD_FILE */
	double cores;			 /* mean use that the load is scaled to, of all replicas */
	bool bursts;			 /* within the second */
	uint32_t replicas;		 /* at the start */
	const struct row_memory *memory; /* NULL: it is not about memory */
	const struct row_scaling *scaling;     /* NULL: its replicas stay as many */
	const struct row_reserving *reserving; /* NULL: it has a CPU limit */
};
extern const struct bench_row bench_rows[];
extern const uint32_t bench_row_count;
#define BENCH_ROWS_MAX 64
/*
 * Rows of one's own in the place of those: a file of lines
 *	NAME WORK_MS CV WAIT_MS OBJECTIVE_MS TRACE CORES BURSTS REPLICAS
 * where TRACE is a file of rates (a line a second), CORES the mean use that it is scaled to and BURSTS 0
 * or 1; '#' begins a comment. @rows has room for BENCH_ROWS_MAX; what they point to stays until the
 * program ends. Errors are printed: -errno.
 */
int rows_read(const char *path, struct bench_row *rows, uint32_t *count);

#define ROW_CORES_MAX	16.0 /* the declared limit: what sixteen workers can use at most */
#define ROW_WARM_UP_S	60   /* played first and not counted: no policy starts at home */
#define ROW_TRACE_S	3600
#define BENCH_SEEDS_MAX 8

static inline bool row_is_about_cpu(const struct bench_row *row)
{
	return !row->memory && !row->scaling && !row->reserving;
}
/* The most that a policy may set aside for a replica. */
static inline double row_cores_most(const struct bench_row *row)
{
	return row->reserving ? row->reserving->node_cores : ROW_CORES_MAX;
}
/* The objective of a row and its service; the trace is the caller's. */
void row_objective(const struct bench_row *row, struct objective *objective);
void row_service(const struct bench_row *row, struct simulate_config *config);
/*
 * Its rates for a seed, every @every-th second of the hour: [ROW_TRACE_S / every], caller frees. A
 * drawn load is another one for each seed, a shipped one the same. Errors are printed.
 */
int row_rates(const struct bench_row *row, uint32_t every, uint64_t seed, double **rates_per_s,
	uint32_t *seconds);
/* "bursty.txt", "steps", ... */
const char *row_load_name(const struct bench_row *row);
/* What scales those rates to the row's mean use. */
double row_scale(const struct bench_row *row, const double *rates_per_s, uint32_t seconds);

/* How a setting's reflex and burst come about. */
enum bench_variant {
	VARIANT_PLAIN,	/* as published */
	VARIANT_BURST,	/* with CFS burst alone */
	VARIANT_REFLEX, /* with burst and a hand-set allowance */
	VARIANT_COUNT,
};
extern const char *const variant_names[VARIANT_COUNT]; /* "", "+burst", "+reflex+burst" */

struct bench_policy;

struct bench_setting {
	const struct bench_policy *policy;
	enum bench_variant variant;
	char name[POLICY_NAME_MAX];		   /* "k8s-cpu+reflex+burst" */
	char parameters[OBJECTIVE_PARAMETERS_MAX]; /* assignments */
	bool standard;				   /* its values are the published ones */
	double asked;  /* share of violations asked for; 0: it takes no such wish */
	bool reserves; /* it decides on the reservation of a service without a CPU limit */
};

/* May be the first member of something larger: what all of its runs share. Runs are in parallel. */
struct bench_policy {
	const char *family; /* whose front it is a point of, with its variant */
	double tick_s;	    /* 0.1 or 1 */
	/* A run's own memory in *@run; 0 or -errno. */
	int (*start)(
		void **run, const struct bench_setting *setting, const struct objective *objective);
	/*
	 * After a tick: @input is in force now, what is wanted instead is written into it. The
	 * caller brings it inside the objective's bounds.
	 */
	void (*decide)(void *run, double now_s, const struct sample *sample,
		const struct objective *objective, struct simulate_input *input);
	void (*end)(void *run);
};
extern const struct bench_policy policy_rules[]; /* in the order of the tables */
extern const uint32_t policy_rule_count;
/* ladder.c: one operating point of common/rung.h; its parameter is "rung=N". */
extern const struct bench_policy policy_ladder;

/*
 * Every setting that is tried on @row; @learnt (NULL: none) for each share of violations that is asked
 * of it. Caller frees.
 */
int grid_make(const struct bench_row *row, const struct bench_policy *learnt, bool quick,
	struct bench_setting **settings, uint32_t *count);

/* What is learnt where its memory limit is memory.max, as on cgroup v1, not memory.high. */
#define LEARNT_HARD "dqn-hard"

/* Shares of violations that are asked of what is learnt. */
extern const double asked_shares[];
extern const uint32_t asked_share_count;

/* What came of a setting on a row, of one seed or of all. */
struct bench_outcome {
	double used_cores;
	double allocated_cores;
	double allocated_p99_cores; /* of the seconds */
	double violations;	    /* share of 1 s windows over the objective */
	double worst_window_ms;	    /* largest percentile of a window */
	double latency_ms;	    /* the objective's percentile of all requests */
	double failed_share;
	double memory_bytes; /* limits, mean */
	double replica_s;
	double actions_per_h;
	double refills_per_s;
	uint32_t oom_kills;
	uint32_t windows;
};

/* Play one setting for @seconds after the warm-up. @simulation is created or reset. */
int bench_play(struct simulation **simulation, const struct bench_row *row,
	const struct simulate_trace *trace, uint32_t seconds, uint64_t seed,
	const struct bench_setting *setting, struct bench_outcome *outcome);
/* The mean over seeds; worst windows are the worst, kills add up. */
void bench_outcome_mean(
	const struct bench_outcome *of_seeds, uint32_t seeds, struct bench_outcome *mean);

/* A row with its loads, its settings and what came of them. */
struct bench_field {
	const struct bench_row *row;
	double *rates[BENCH_SEEDS_MAX];
	struct simulate_trace trace[BENCH_SEEDS_MAX]; /* of each seed */
	struct bench_setting *settings;
	uint32_t setting_count;
	struct bench_outcome *of_seeds; /* [setting_count * seeds] */
	struct bench_outcome *outcomes; /* [setting_count] */
};

/*
 * Policies are told apart by a setting's name; its points are those settings. In a row about
 * memory a point's cores are MiB of memory, and a kill breaks more than anything else.
 */
#define BENCH_POINTS_MAX 512
/*
 * The points of @name (NULL: of all that @keep, if given, says yes to) into @points; returns how many.
 */
uint32_t field_points(const struct bench_field *field, const char *name,
	bool (*keep)(const struct bench_setting *setting),
	struct front_point points[BENCH_POINTS_MAX]);
/* The names of its settings in the order of the grid; returns how many, at most @room. */
uint32_t field_names(const struct bench_field *field, const char **names, uint32_t room);
#define BENCH_NAMES_MAX 64

/* What is looked for: best-tuned is at most this share of windows over. */
#define BENCH_VIOLATIONS_MOST 0.01

/* table.c: the best-tuned settings of each policy, a Markdown table a row; and every outcome. */
void table_print(FILE *file, const struct bench_field *field);
void table_csv(FILE *file, const struct bench_field *fields, uint32_t count);
/* The best-tuned of each policy in each row in one table: cores (windows over). */
void table_summary(FILE *file, const struct bench_field *fields, uint32_t count);

/* The same of rows without a CPU limit, which no figure is about: a line for each, and for each share asked. */
void table_reserving(FILE *file, const struct bench_field *fields, uint32_t count);

/* figures.c: lines 'figure NAME VALUE UNIT' and what they come from. */
void figures_print(FILE *file, const struct bench_field *fields, uint32_t count);

/* picture.c: the fronts of a row as SVG. -EIO. */
int picture_draw(FILE *file, const struct bench_field *field);

#endif
