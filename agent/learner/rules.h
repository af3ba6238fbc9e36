// SPDX-License-Identifier: Apache-2.0
/*
 * The rules that Ebbtide replaces, as published, behind the same interface as the network's policy.
 *
 * Pure: time comes in as an argument. Zero-initialise the state structures.
 */
#ifndef EBBTIDE_RULES_H
#define EBBTIDE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#define RULES_WINDOW_MAX 600

/* A maximum over the newest seconds of a series. */
struct rules_window {
	double time_s[RULES_WINDOW_MAX];
	double value[RULES_WINDOW_MAX];
	uint32_t next;
	uint32_t count;
};
void rules_window_add(struct rules_window *window, double now_s, double value);
/* Largest value not older than @span_s; 0 when there is none. */
double rules_window_max(const struct rules_window *window, double now_s, double span_s);

/*
 * K8s-CPU (Autothrottle, NSDI 2024, section 5.1): every period, limit = max of usage over the
 * window / target utilisation. K8s-CPU: period 15 s, window 300 s; K8s-CPU-Fast: 1 s, 20 s.
 */
struct rules_k8s_cpu {
	double period_s;
	double window_s;
	double target; /* utilisation, 0 to 1 */
};
struct rules_k8s_cpu_state {
	struct rules_window usage;
	double decided_s;
	bool decided;
};
extern const struct rules_k8s_cpu rules_k8s_cpu_default;
extern const struct rules_k8s_cpu rules_k8s_cpu_fast;
/*
 * Feed one tick's usage of one container (millicores). True, with the new limit, when a period has
 * passed.
 */
bool rules_k8s_cpu_decide(const struct rules_k8s_cpu *rule, struct rules_k8s_cpu_state *state,
	double now_s, double used_millicores, double *limit_millicores);

/*
 * The Horizontal Pod Autoscaler's formula (Kubernetes documentation, 'Algorithm details'):
 * desired = ceil(current x metric / target), nothing within the tolerance, scale-down to the
 * highest desire of the stabilisation window.
 */
struct rules_hpa {
	double period_s;
	double target; /* utilisation of the declared CPU */
	double tolerance;
	double stabilisation_s;
};
struct rules_hpa_state {
	struct rules_window desired;
	double decided_s;
	bool decided;
};
extern const struct rules_hpa rules_hpa_default;
/* @utilisation of the pods' declared CPU, mean over the pods. True when a period has passed. */
bool rules_hpa_decide(const struct rules_hpa *rule, struct rules_hpa_state *state, double now_s,
	uint32_t replicas, double utilisation, uint32_t *desired);

#endif
