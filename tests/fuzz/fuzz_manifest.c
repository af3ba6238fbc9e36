// SPDX-License-Identifier: Apache-2.0
/* A function file as anyone may write it, in YAML or JSON. */
#include "driver.h"

#include "common/log.h"
#include "local/manifest.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *objects = NULL;
	char error[512] = "";
	int err;

	/* Objects of other kinds are passed over with a warning. */
	log_init("fuzz_manifest", LOG_LEVEL_ERR);
	err = manifest_parse("f.yaml", (const char *)data, size, &objects, error, sizeof(error));

	/* A refusal names the file and says why; what is taken is a list of objects. */
	if (err == -EINVAL && strncmp(error, "f.yaml:", 7) != 0)
		abort();
	if (!err && json_array_size(objects) == 0)
		abort();
	json_decref(objects);
	return 0;
}

#define DEPLOYMENT                                                                                 \
	"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: fibonacci\n"                    \
	"  annotations: {a: \"x\\n\\u00e9\", b: 'y', c: 0x1f}\nspec:\n  replicas: 2\n"             \
	"  selector: {matchLabels: {app: fibonacci}}\n  template:\n"                               \
	"    metadata: {labels: {app: fibonacci}}\n    spec:\n      containers:\n"                 \
	"      - name: server\n        image: local\n        command: [python3, f.py]\n"           \
	"        ports: [{containerPort: 8080}]\n        resources:\n"                             \
	"          limits: {cpu: 500m, memory: 64Mi}\n          requests: {cpu: 100m}\n"

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static const char *const seeds[] = {
		DEPLOYMENT,
		DEPLOYMENT "---\napiVersion: ebbtide.io/v1alpha1\nkind: ScaleObjective\n"
			   "metadata: {name: fibonacci, namespace: default}\nspec:\n"
			   "  targetRef: {kind: Deployment, name: fibonacci}\n"
			   "  latency: {percentile: 99, target: 50ms}\n  frozen: no\n---\n",
		"base: &a {x: [1, 2.5, ~, yes, .inf], y: |\n  text\n  more\n}\n"
		"kind: Deployment\nmore: {<<: *a, z: *a}\n",
		"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"apps/v1\","
		"\"kind\":\"Deployment\",\"metadata\":{\"name\":\"a\\/b\"},\"spec\":{\"selector\":"
		"{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{\"a\":"
		"\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"command\":"
		"[\"x\"]}]}}}}]}",
	};

	if (index >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	memcpy(out, seeds[index], strlen(seeds[index]));
	return strlen(seeds[index]);
}
