// SPDX-License-Identifier: Apache-2.0
/*
 * The other autoscalers that the API has, by the Deployment that they set. KEDA's are
 * HorizontalPodAutoscalers of its own making.
 *
 * Pure: no clock, file or global. Zero-initialise.
 */
#ifndef EBBTIDE_AUTOSCALERS_H
#define EBBTIDE_AUTOSCALERS_H

#include "learner/index.h"

#include <jansson.h>

enum autoscaler_kind {
	AUTOSCALER_HORIZONTAL,
	AUTOSCALER_VERTICAL,
	AUTOSCALER_KINDS
};

struct autoscaler_info {
	const char *kind;
	const char *path; /* of all in the API */
	const char *sets; /* for people */
};
extern const struct autoscaler_info autoscaler_infos[AUTOSCALER_KINDS];

struct autoscaler;

struct autoscalers {
	struct autoscaler **items; /* owned */
	size_t count;
	struct index by_name;
	struct index by_target;
};

/*
 * The Deployment that an object sets, or NULL: it sets that of no Deployment, or is a
 * VerticalPodAutoscaler that only recommends.
 */
const char *autoscaler_target(enum autoscaler_kind kind, const json_t *object);

/* One that sets @target from now on, whatever it did before. -ENOMEM: it is forgotten. */
int autoscalers_put(struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name, const char *target);
/* The Deployment that it sets, or NULL. Valid until it is put or removed. */
const char *autoscalers_target(const struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name);
void autoscalers_remove(struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *name);
/* The one that sets a Deployment, of several the first by name, or NULL. Valid likewise. */
const char *autoscalers_of(const struct autoscalers *autoscalers, enum autoscaler_kind kind,
	const char *namespace, const char *deployment);
void autoscalers_free(struct autoscalers *autoscalers);

#endif
