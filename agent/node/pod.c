// SPDX-License-Identifier: Apache-2.0
#include "node/pod.h"

#include "common/kube.h"
#include "common/quantity.h"

#include <math.h>
#include <string.h>

#define MAIN_ANNOTATION "kubectl.kubernetes.io/default-container"

static const json_t *containers_of(const json_t *pod)
{
	return kube_get(pod, "spec", "containers", NULL);
}

static bool has_name(const json_t *container, const char *name)
{
	const char *own = kube_string(container, "name", NULL);

	return own && name && strcmp(own, name) == 0;
}

bool pod_is_main(const json_t *pod, const char *container)
{
	const char *named = kube_string(pod, "metadata", "annotations", MAIN_ANNOTATION, NULL);
	const json_t *one, *main = json_array_get(containers_of(pod), 0);
	size_t i;

	json_array_foreach (containers_of(pod), i, one)
		if (has_name(one, named))
			main = one;
	/* A spec without containers is no cluster's; then what runs is what there is. */
	return !main || has_name(main, container);
}

static double millicores(const json_t *resources, const char *list)
{
	const char *text = kube_string(resources, list, "cpu", NULL);
	double value;

	return text && quantity_parse_millicores(text, &value) == 0 ? value : 0;
}

static double request_of(const json_t *container)
{
	return millicores(kube_get(container, "resources", NULL), "requests");
}

struct pod_requests pod_requests(const json_t *pod, const char *container)
{
	const json_t *spec = kube_get(pod, "spec", NULL),
		     *whole = kube_get(spec, "resources", NULL);
	struct pod_requests requests = {0};
	double sum = 0, beside = 0, start = 0;
	const json_t *one;
	size_t i;

	json_array_foreach (containers_of(pod), i, one) {
		double request = request_of(one);

		sum += request;
		if (has_name(one, container))
			requests.container_millicores = request;
	}
	json_array_foreach (kube_get(spec, "initContainers", NULL), i, one) {
		const char *policy = kube_string(one, "restartPolicy", NULL);

		/* Of those before it, only the ones that stay run beside it. */
		start = fmax(start, beside + request_of(one));
		if (policy && strcmp(policy, "Always") == 0)
			beside += request_of(one);
	}
	requests.pod_millicores = fmax(sum + beside, start);
	if (kube_string(whole, "requests", "cpu", NULL))
		requests.pod_millicores = millicores(whole, "requests");
	requests.pod_millicores += millicores(spec, "overhead");
	return requests;
}
