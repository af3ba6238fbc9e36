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

static const json_t *find(const json_t *pod, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach (containers_of(pod), i, one) {
		const char *found = kube_string(one, "name", NULL);

		if (found && name && strcmp(found, name) == 0)
			return one;
	}
	return NULL;
}

bool pod_is_main(const json_t *pod, const char *container)
{
	const char *named = kube_string(pod, "metadata", "annotations", MAIN_ANNOTATION, NULL);
	const json_t *main = find(pod, named);

	if (!main)
		main = json_array_get(containers_of(pod), 0);
	/* A spec without containers is no cluster's; then what runs is what there is. */
	return !main || find(pod, container) == main;
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

double pod_container_request(const json_t *pod, const char *container)
{
	return request_of(find(pod, container));
}

double pod_request(const json_t *pod)
{
	const json_t *spec = kube_get(pod, "spec", NULL),
		     *whole = kube_get(spec, "resources", NULL);
	double sum = 0, beside = 0, start = 0, request;
	const json_t *one;
	size_t i;

	json_array_foreach (containers_of(pod), i, one)
		sum += request_of(one);
	json_array_foreach (kube_get(spec, "initContainers", NULL), i, one) {
		const char *policy = kube_string(one, "restartPolicy", NULL);

		/* Of those before it, only the ones that stay run beside it. */
		start = fmax(start, beside + request_of(one));
		if (policy && strcmp(policy, "Always") == 0)
			beside += request_of(one);
	}
	request = fmax(sum + beside, start);
	if (kube_string(whole, "requests", "cpu", NULL))
		request = millicores(whole, "requests");
	return request + millicores(spec, "overhead");
}
