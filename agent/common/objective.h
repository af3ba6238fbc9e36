// SPDX-License-Identifier: Apache-2.0
/*
 * ScaleObjective (ebbtide.io/v1alpha1): what the operator asks of one service.
 *
 * spec:
 *   targetRef: {kind: Deployment, name: fibonacci}
 *   mode: auto                       # observe | recommend | auto
 *   latency: {percentile: 99, target: 50ms}
 *   acceptableViolations: 0.01       # share of one-second windows over the target
 *   acceptableThrottling: 0.05       # share of CFS periods in which a quota may run out; 1: any
 *   policy: dqn                      # dqn | k8s-cpu+hpa | ... (common/policy_name.h)
 *   ruleParameters: k8s-cpu.target=0.6  # several: separated by commas or spaces
 *   frozen: false                    # operator's freeze
 *   reflex: true                     # false: no refills between two ticks
 *   startup: {cpu: 500m}             # limit of a replica that starts, where it is not the highest
 *   bounds:                          # for each container (cpu, memory) and the service (replicas)
 *     cpu: {min: 50m, max: "2"}
 *     memory: {min: 32Mi, max: 512Mi}
 *     replicas: {min: 1, max: 10}
 */
#ifndef EBBTIDE_OBJECTIVE_H
#define EBBTIDE_OBJECTIVE_H

#include "common/rule_parameters.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OBJECTIVE_NAME_MAX	 254
#define OBJECTIVE_PARAMETERS_MAX 256

enum objective_mode {
	OBJECTIVE_OBSERVE,
	OBJECTIVE_RECOMMEND,
	OBJECTIVE_AUTO
};

struct objective {
	char namespace[64];
	char name[OBJECTIVE_NAME_MAX];	  /* of the ScaleObjective object */
	char service[OBJECTIVE_NAME_MAX]; /* of the Deployment it targets */
	enum objective_mode mode;
	double latency_percentile; /* above 0, below 100 */
	double latency_target_us;
	double acceptable_violations; /* share, 0 to 1 */
	double acceptable_throttling; /* share of CFS periods, 0 to 1 */
	char policy[POLICY_NAME_MAX];
	char rule_parameters[OBJECTIVE_PARAMETERS_MAX]; /* assignments; empty: none */
	bool frozen;
	bool reflex;		       /* the agents may refill quotas between two ticks */
	double startup_cpu_millicores; /* of a replica that starts; 0: as much as it may have at all */
	double cpu_min_millicores;
	double cpu_max_millicores;
	uint64_t memory_min_bytes;
	uint64_t memory_max_bytes;
	uint32_t replicas_min;
	uint32_t replicas_max;
	int64_t generation; /* of the object: grows with every change of its spec; 0: not known */
};

void objective_init(struct objective *objective);
/* From a ScaleObjective; 0, or -EINVAL with the field and the value in @error. */
int objective_parse(
	const json_t *object, struct objective *objective, char *error, size_t error_size);
/*
 * Only which object it is and what it targets (namespace, name, service), the rest as of
 * objective_init(): for an object that is gone, whatever else it said. Errors as above.
 */
int objective_identify(
	const json_t *object, struct objective *objective, char *error, size_t error_size);
/*
 * Set one field by its name in the operator's tree ("latency_target_us", "cpu_max_millicores",
 * "mode", ...): -ENOENT no such field, -EINVAL not a value, -ERANGE outside its range (or min over
 * max). On an error nothing changes.
 */
int objective_set(struct objective *objective, const char *field, const char *text);
int objective_show(const struct objective *objective, const char *field, char *out, size_t size);
/*
 * The CPU limit that a replica whose owner declared @declared_millicores is kept at while it starts:
 * startup_cpu_millicores, or without it all that the owner's limit and the upper bound allow. 0: the
 * owner set no limit.
 */
double objective_startup_millicores(const struct objective *objective, double declared_millicores);
/* Why objective_set() or the API refused @text, for people: "it takes 1 to 60000000"; -ENOENT. */
int objective_refusal(const char *field, const char *text, char *out, size_t size);
/* The names objective_set knows, NULL-terminated. */
extern const char *const objective_fields[];
/* The whole object, or only {"spec": ...} for a merge patch. Caller decrefs. */
json_t *objective_to_json(const struct objective *objective, bool patch);
const char *objective_mode_name(enum objective_mode mode);
/* "50ms", "250us", "1.5s" -> microseconds; -EINVAL otherwise. */
int objective_parse_duration_us(const char *text, double *us);

#endif
