// SPDX-License-Identifier: Apache-2.0
/*
 * Who may decide for a service. The one list of names: the learner's rules, the objective's policy
 * field, the CRD and the documents follow it. docs/policies.md is its prose.
 *
 * A policy is one of these names, or several joined by '+' that decide different things:
 * "k8s-cpu+hpa", "captain+senpai+reflex". What none of them decides stays as it is.
 */
#ifndef EBBTIDE_POLICY_NAME_H
#define EBBTIDE_POLICY_NAME_H

#include <stddef.h>
#include <stdint.h>

/* Length of a policy's name with its end; what a file of the operator's tree takes. */
#define POLICY_NAME_MAX 64

/* What one of them decides: the parts of struct plan, and the service's replicas. */
enum policy_decides {
	DECIDES_CPU = 1U << 0,
	DECIDES_MEMORY = 1U << 1,
	DECIDES_REPLICAS = 1U << 2,
	DECIDES_ALLOWANCE = 1U << 3,
	DECIDES_BURST = 1U << 4,
};
#define DECIDES_COUNT 5
/* What is decided for a unit every tick; the rest is decided for a service. */
#define DECIDES_PLAN (DECIDES_CPU | DECIDES_MEMORY | DECIDES_ALLOWANCE | DECIDES_BURST)

/* X(identifier, name, what it decides, what it is): each has its struct rule in agent/learner. */
#define POLICY_RULES(X)                                                                            \
	X(static, "static", DECIDES_CPU | DECIDES_MEMORY, "the upper bounds, whatever happens")    \
	X(k8s_cpu, "k8s-cpu", DECIDES_CPU, "largest use of 300 s over a target, every 15 s")       \
	X(k8s_cpu_fast, "k8s-cpu-fast", DECIDES_CPU, "largest use of 20 s over a target, each s")  \
	X(captain, "captain", DECIDES_CPU, "Autothrottle's Captain: follows a throttle target")    \
	X(koordinator, "koordinator", DECIDES_CPU | DECIDES_BURST,                                 \
		"Koordinator's CPU Burst: more quota while throttled")                             \
	X(vpa, "vpa", DECIDES_CPU | DECIDES_MEMORY,                                                \
		"Kubernetes' VPA: percentile of a decaying histogram, and a margin")               \
	X(autopilot, "autopilot", DECIDES_CPU | DECIDES_MEMORY,                                    \
		"Google Autopilot's moving-window recommender")                                    \
	X(senpai, "senpai", DECIDES_MEMORY, "Meta's Senpai: memory by its pressure")               \
	X(hpa, "hpa", DECIDES_REPLICAS, "Kubernetes' HPA on CPU utilisation")                      \
	X(kpa, "kpa", DECIDES_REPLICAS, "Knative's autoscaler on concurrency")                     \
	X(reflex_fixed, "reflex-fixed", DECIDES_CPU | DECIDES_ALLOWANCE | DECIDES_BURST,           \
		"limit follows the measured demand, one hand-set allowance for the reflex")        \
	X(reflex, "reflex", DECIDES_ALLOWANCE, "a hand-set allowance, beside another rule")        \
	X(burst, "burst", DECIDES_BURST, "a hand-set CFS burst, beside another rule")

/* All of them: the rules and what is learnt. */
#define POLICIES(X)                                                                                \
	X(dqn, "dqn",                                                                              \
		DECIDES_CPU | DECIDES_MEMORY | DECIDES_REPLICAS | DECIDES_ALLOWANCE |              \
			DECIDES_BURST,                                                             \
		"the Q-networks")                                                                  \
	POLICY_RULES(X)

enum policy_id {
#define X(id, name, decides, text) POLICY_##id,
	POLICIES(X)
#undef X
	POLICY_COUNT,
};

struct policy_info {
	const char *name;
	uint32_t decides; /* enum policy_decides */
	const char *text;
};
extern const struct policy_info policy_infos[POLICY_COUNT];

/* A policy's name taken apart: in the order of the table, and no two parts decide the same. */
struct policy_set {
	enum policy_id parts[DECIDES_COUNT];
	uint32_t count;
	uint32_t decides; /* of all parts */
};

/*
 * Take @name apart. -EINVAL: not a policy; @error then says why and lists the names. @set and
 * @error may be NULL (with size 0).
 */
int policy_parse(const char *name, struct policy_set *set, char *error, size_t error_size);
/* "dqn, static, ..." */
void policy_list(char *out, size_t size);
/* "CPU", "memory", ... of the lowest bit of @decides. */
const char *policy_decides_name(uint32_t decides);

#endif
