// SPDX-License-Identifier: Apache-2.0
#include "local/node.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "local/api/object.h"
#include "local/api/validate.h"

static json_t *capacity(void)
{
	struct sysinfo info = {0};
	char cpu[24], memory[32];

	sysinfo(&info);
	snprintf(cpu, sizeof(cpu), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	snprintf(memory, sizeof(memory), "%lluKi",
		(unsigned long long)info.totalram * info.mem_unit / 1024);
	return json_pack("{s:s, s:s, s:s}", "cpu", cpu, "memory", memory, "pods", "1000");
}

void node_publish(struct store *store, const char *name)
{
	static const char *const namespaces[] = {"default", "kube-system"};
	const struct resource *resource = &resources[RESOURCE_NODES];
	struct utsname system;
	char now[OBJECT_TIME_SIZE];
	json_t *node, *status;

	for (size_t i = 0; i < 2; i++) {
		json_t *namespace = json_pack("{s:{s:s}}", "metadata", "name", namespaces[i]);

		validate_set_defaults(&resources[RESOURCE_NAMESPACES], namespace);
		store_create(store, &resources[RESOURCE_NAMESPACES], namespace, NULL);
	}
	uname(&system);
	object_format_time(now, time(NULL));
	node = json_pack("{s:{s:s, s:{s:s, s:s}}, s:{}}", "metadata", "name", name, "labels",
		"kubernetes.io/hostname", name, "kubernetes.io/os", "linux", "spec");
	status = object_child(node, "status");
	json_object_set_new(status, "capacity", capacity());
	json_object_set_new(status, "allocatable", capacity());
	json_object_set_new(status, "conditions",
		json_pack("[{s:s, s:s, s:s, s:s, s:s, s:s}]", "type", "Ready", "status", "True",
			"reason", "KubeletReady", "message", "ebbtide-local is running",
			"lastHeartbeatTime", now, "lastTransitionTime", now));
	json_object_set_new(status, "addresses",
		json_pack("[{s:s, s:s}, {s:s, s:s}]", "type", "InternalIP", "address", "127.0.0.1",
			"type", "Hostname", "address", name));
	json_object_set_new(status, "nodeInfo",
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "kernelVersion", system.release,
			"kubeletVersion", "v1.33.0+ebbtide." EBBTIDE_VERSION, "operatingSystem",
			"linux", "architecture",
			!strcmp(system.machine, "x86_64") ? "amd64" : system.machine,
			"containerRuntimeVersion", "ebbtide://" EBBTIDE_VERSION, "osImage",
			system.sysname));
	validate_set_defaults(resource, node);
	store_create(store, resource, node, NULL);
}
