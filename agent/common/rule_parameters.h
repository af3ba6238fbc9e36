// SPDX-License-Identifier: Apache-2.0
/*
 * The parameters of the rules: one list for each, X(name, default, lowest, highest, what it is), as
 * published where a source is named (docs/policies.md). The learner's rules take their values from
 * them, the objective's ruleParameters and the learner's option are checked against them.
 */
#ifndef EBBTIDE_RULE_PARAMETERS_H
#define EBBTIDE_RULE_PARAMETERS_H

#include "common/policy_name.h"

#define RULE_PARAMETERS_static(X)                                                                  \
	X(cpu_share, 1, 0.01, 1, "of the upper bound of CPU")                                      \
	X(memory_share, 1, 0.01, 1, "of the upper bound of memory")

#define RULE_PARAMETERS_k8s(X, period, window)                                                     \
	X(period_s, period, 0.1, 3600, "between two decisions, each on the mean use of a period")  \
	X(window_s, window, 0.1, 86400, "of periods of which the largest counts")                  \
	X(target, 0.5, 0.01, 1, "utilisation of the limit that the largest use is to have")
#define RULE_PARAMETERS_k8s_cpu(X)	RULE_PARAMETERS_k8s(X, 15, 300)
#define RULE_PARAMETERS_k8s_cpu_fast(X) RULE_PARAMETERS_k8s(X, 1, 20)

#define RULE_PARAMETERS_captain(X)                                                                 \
	X(target, 0.1, 0, 1, "share of throttled CFS periods that is aimed at")                    \
	X(period_s, 1, 0.1, 60, "between two decisions")                                           \
	X(usage_window_s, 5, 0.1, 600, "of usages that a lower limit is reckoned from")            \
	X(tolerance, 3, 1, 100, "times the target that throttling may be before the limit rises")  \
	X(margin, 3, 0, 100, "deviations over the largest use, at the start")                      \
	X(cut_least, 0.1, 0, 1, "share of the limit that a cut must bring to be made")             \
	X(cut_most, 0.5, 0, 0.99, "share of the limit that one cut may take")                      \
	X(least_millicores, 10, 1, 1e6, "lowest limit")

#define RULE_PARAMETERS_koordinator(X)                                                             \
	X(base_share, 1.0 / 3, 0.01, 1, "of the upper bound: the limit when all is calm")          \
	X(quota_percent, 300, 100, 10000, "ceiling of the quota, of the base")                     \
	X(burst_percent, 1000, 0, 10000, "CFS burst, of the base; never over the quota")           \
	X(step_up, 1.2, 1, 10, "times the quota while throttled")                                  \
	X(step_down, 0.8, 0.01, 1, "times the quota on the way back")                              \
	X(period_s, 1, 0.1, 3600, "between two steps")                                             \
	X(calm_s, 1, 0, 86400, "without throttling before a step back; 0: never")                  \
	X(token_period_s, -1, -1, 86400, "that the bucket lasts at the ceiling; below 0: forever") \
	X(consume_percent, 100, 0, 1000, "of the base: use from which tokens are taken")           \
	X(save_percent, 60, 0, 1000, "of the base: use below which tokens are saved")

#define RULE_PARAMETERS_vpa(X)                                                                     \
	X(compression, 1, 1, 1e5, "seconds of the rule's that one second stands for")              \
	X(period_s, 60, 1, 86400, "of one CPU sample, and between two recommendations")            \
	X(half_life_s, 86400, 1, 1e8, "of a sample's weight")                                      \
	X(cpu_percentile, 90, 1, 100, "of use, that the limit is taken from")                      \
	X(memory_percentile, 90, 1, 100, "of peaks, that the limit is taken from")                 \
	X(memory_interval_s, 86400, 1, 1e8, "of which memory's peak is one sample")                \
	X(margin, 0.15, 0, 10, "share of what comes out, on top of it")                            \
	X(oom_ratio, 1.2, 1, 100, "times the memory after an OOM kill")                            \
	X(oom_least_mib, 100, 0, 1e6, "more memory after an OOM kill, at least")                   \
	X(cpu_least_millicores, 25, 0, 1e6, "lowest CPU recommendation")                           \
	X(memory_least_mib, 250, 0, 1e6, "lowest memory recommendation")

#define RULE_PARAMETERS_autopilot(X)                                                               \
	X(compression, 1, 1, 1e5, "seconds of the rule's that one second stands for")              \
	X(aggregation_s, 300, 1, 86400, "of one window, and between two recommendations")          \
	X(cpu_half_life_s, 43200, 1, 1e8, "of a CPU window's weight")                              \
	X(memory_half_life_s, 172800, 1, 1e8, "of a memory window's weight")                       \
	X(cpu_percentile, 95, 1, 100, "of the load, that the CPU limit is taken from")             \
	X(memory_percentile, 98, 1, 100, "of the load, that the memory limit is taken from")       \
	X(margin, 0.15, 0, 10, "share of what comes out, on top of it")                            \
	X(hold_s, 3600, 0, 1e6, "of which the largest recommendation counts")

#define RULE_PARAMETERS_senpai(X)                                                                  \
	X(pressure_us, 10000, 1, 1e9, "of memory stalls an interval that are aimed at")            \
	X(interval_s, 6, 1, 3600, "between two tightenings")                                       \
	X(max_probe, 0.01, 0, 0.5, "share of the limit that one tightening takes at most")         \
	X(max_backoff, 1, 0, 10, "share of the limit that one backing off adds at most")           \
	X(coeff_probe, 10, 1, 1000, "under 1/n of the target a tightening is the largest")         \
	X(coeff_backoff, 20, 1, 1000, "at n times the target backing off is the largest")          \
	X(least_mib, 100, 0, 1e6, "lowest limit")

#define RULE_PARAMETERS_hpa(X)                                                                     \
	X(period_s, 15, 0.1, 3600, "between two decisions, each on the mean use of a period")      \
	X(target, 0.5, 0.01, 1, "utilisation of the declared CPU")                                 \
	X(tolerance, 0.1, 0, 1, "of the ratio to the target, within which nothing is done")        \
	X(up_stabilisation_s, 0, 0, 3600, "of wishes of which the lowest counts, going up")        \
	X(up_percent, 100, 0, 1e6, "of the replicas added in a policy period; 0: not a policy")    \
	X(up_pods, 4, 0, 1e6, "replicas added in a policy period; 0: not a policy")                \
	X(up_period_s, 15, 0.1, 1800, "policy period going up")                                    \
	X(up_select_most, 1, 0, 1, "1: the policy that allows more, 0: the one that allows less")  \
	X(down_stabilisation_s, 300, 0, 3600, "of wishes of which the highest counts, going down") \
	X(down_percent, 100, 0, 100, "of the replicas taken in a policy period; 0: not a policy")  \
	X(down_pods, 0, 0, 1e6, "replicas taken in a policy period; 0: not a policy")              \
	X(down_period_s, 15, 0.1, 1800, "policy period going down")                                \
	X(down_select_most, 1, 0, 1, "1: the policy that allows more, 0: the one that allows less")

#define RULE_PARAMETERS_kpa(X)                                                                     \
	X(target, 100, 0.01, 1e6, "requests in flight that one replica is to have")                \
	X(utilisation_percent, 70, 1, 100, "of the target that is aimed at")                       \
	X(period_s, 2, 0.1, 3600, "between two decisions")                                         \
	X(stable_window_s, 60, 6, 3600, "of concurrency that the stable mode takes the mean of")   \
	X(panic_window_percent, 10, 1, 100, "of the stable window: that of the panic mode")        \
	X(panic_threshold_percent, 200, 110, 1000,                                                 \
		"of the replicas, wished for in panic's window, begins it")                        \
	X(max_scale_up_rate, 1000, 1.01, 1e6, "times the replicas, in one decision, at most")      \
	X(max_scale_down_rate, 2, 1.01, 1e6,                                                       \
		"part of the replicas left, in one decision, at least")                            \
	X(scale_down_delay_s, 0, 0, 3600, "that a lower wish must last")

#define RULE_PARAMETERS_reflex(X)                                                                  \
	X(trigger_age_share, 0.4, 0.01, 10, "age of the oldest request, of the latency target")    \
	X(refills_per_period, 8, 0, 1000, "of the quota, at most, in a CFS period")                \
	X(ceiling_share, 1, 0.01, 1, "of the upper bound: CPU of a period, refills included")

/* Its own, then those of the reflex. */
#define RULE_PARAMETERS_reflex_fixed(X)                                                            \
	X(factor, 1, 0.1, 10, "times the mean use")                                                \
	X(window_s, 2, 0.1, 600, "that the mean use is taken over")                                \
	X(burst_share, 0, 0, 1, "CFS burst, of the quota")                                         \
	X(no_reflex_factor, 2, 1, 100,                                                             \
		"times the limit when a tick was late, throttled, and had no refill")              \
	RULE_PARAMETERS_reflex(X)

#define RULE_PARAMETERS_burst(X)                                                                   \
	X(quota_share, 1, 0, 1, "of the quota of a period; the kernel takes no more than all")

struct rule_parameter {
	const char *name; /* with its unit where it has one */
	double standard;  /* the default */
	double lowest;
	double highest;
	const char *text;
};

#define RULE_PARAMETERS_MAX 16

struct rule_parameter_list {
	const struct rule_parameter *list;
	uint32_t count; /* 0: not a rule */
};
extern const struct rule_parameter_list rule_parameters[POLICY_COUNT];

/* Index of a rule's parameter, or -1. */
int rule_parameter_index(enum policy_id id, const char *name);

/* "k8s-cpu.target=0.6", taken apart. */
struct rule_assignment {
	enum policy_id id;
	uint32_t index; /* of the parameter */
	double value;
};
/* -EINVAL, with the reason and what there is: not an assignment, or outside the range. */
int rule_assignment_parse(
	const char *text, struct rule_assignment *assignment, char *error, size_t error_size);
/*
 * The next of several, separated by commas or spaces. 1: taken, and @text is after it; 0: there is
 * none; -EINVAL as above.
 */
int rule_assignment_next(
	const char **text, struct rule_assignment *assignment, char *error, size_t error_size);

#endif
