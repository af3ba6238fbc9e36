// SPDX-License-Identifier: Apache-2.0
#include "driver.h"

#include "common/objective.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *object = json_loadb((const char *)data, size, 0, NULL);
	struct objective objective;
	char error[256], value[OBJECTIVE_PARAMETERS_MAX];

	if (!object)
		return 0;
	if (objective_parse(object, &objective, error, sizeof(error)) == 0) {
		for (size_t i = 0; objective_fields[i]; i++) {
			/* What is shown is what may be set. */
			if (objective_show(&objective, objective_fields[i], value, sizeof(value)))
				abort();
			if (objective_set(&objective, objective_fields[i], value))
				abort();
		}
	}
	json_decref(object);
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const seeds[] = {
		"{\"apiVersion\":\"ebbtide.io/v1alpha1\",\"kind\":\"ScaleObjective\",\"metadata\":{"
		"\"name\":\"a\",\"namespace\":\"b\",\"generation\":3},\"spec\":{\"targetRef\":{"
		"\"kind\":\"Deployment\",\"name\":\"c\"},\"mode\":\"auto\",\"latency\":{"
		"\"percentile\":99,\"target\":\"50ms\"},\"acceptableViolations\":0.01,\"policy\":"
		"\"k8s-cpu+hpa\",\"ruleParameters\":\"hpa.target=0.6, k8s-cpu.window_s=60\","
		"\"frozen\":false,\"bounds\":{\"cpu\":{\"min\":\"50m\",\"max\":\"2\"},"
		"\"memory\":{\"min\":\"32Mi\",\"max\":\"512Mi\"},\"replicas\":{\"min\":1,\"max\":9}}"
		"}}",
		"{\"apiVersion\":\"ebbtide.io/v1alpha1\",\"kind\":\"ScaleObjective\",\"metadata\":{"
		"\"name\":\"a\"},\"spec\":{\"targetRef\":{\"name\":\"c\"},\"latency\":{\"target\":"
		"\"250us\"}}}",
	};

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index], strlen(seeds[index]));
	return strlen(seeds[index]);
}
