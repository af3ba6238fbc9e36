// SPDX-License-Identifier: Apache-2.0
/* ebbctl status: is everything as it should be on this node, and if not, what is not. */
#include "ctl/ctl.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show(const struct ctl *ctl, const char *label, const char *file)
{
	char path[CTL_PATH_MAX], value[CTL_VALUE_MAX];

	snprintf(path, sizeof(path), "agent/%s", file);
	if (ctl_read(ctl, path, value, sizeof(value)))
		snprintf(value, sizeof(value), "?");
	printf("%-18s %s\n", label, value);
}

static int show_programs(const struct ctl *ctl)
{
	char folder[CTL_PATH_MAX], path[CTL_PATH_MAX], value[CTL_VALUE_MAX];
	struct dirent **programs;
	int count, off = 0;

	snprintf(folder, sizeof(folder), "%s/agent/programs", ctl->tree);
	count = scandir(folder, &programs, ctl_skip_dots, alphasort);
	printf("\n%-24s %s\n", "BPF PROGRAM", "STATE");
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "agent/programs/%s", programs[i]->d_name);
		(void)ctl_read(ctl, path, value, sizeof(value));
		printf("%-24s %s\n", programs[i]->d_name, value);
		/* One that is replaced is no loss. */
		off += strncmp(value, "off", 3) == 0;
		free(programs[i]);
	}
	if (count >= 0)
		free(programs);
	return off;
}

static void show_service(const struct ctl *ctl, const char *service, void *context)
{
	static const char *const files[] = {"objective/mode", "objective/policy", "containers",
		"requests_total", "violations_total", "last_action"};
	char path[CTL_PATH_MAX], value[6][CTL_VALUE_MAX];

	(void)context;
	for (int i = 0; i < 6; i++) {
		snprintf(path, sizeof(path), "%s/%s", service, files[i]);
		(void)ctl_read(ctl, path, value[i], sizeof(value[i]));
	}
	printf("%-32s %-10s %-8s %10s %12s %10s  %s\n", service + strlen("services/"), value[0],
		value[1], value[2], value[3], value[4], value[5]);
}

int ctl_status(struct ctl *ctl, int argc, char **argv)
{
	char value[CTL_VALUE_MAX];
	int off;

	(void)argv;
	if (argc > 1) {
		fprintf(stderr, "ebbctl status takes no arguments\n");
		return CTL_EXIT_USAGE;
	}
	if (ctl_read(ctl, "agent/version", value, sizeof(value)))
		return ctl_complain_tree(ctl);
	show(ctl, "agent", "version");
	show(ctl, "node", "node");
	show(ctl, "cgroup", "cgroup_layout");
	show(ctl, "actuator", "actuator");
	show(ctl, "tick, ms", "tick_ms");
	show(ctl, "ticks, late", "ticks_late");
	show(ctl, "API server", "api_server");
	show(ctl, "API reachable", "api_reachable");
	show(ctl, "learner", "learner");
	show(ctl, "learner reached", "learner_reachable");
	show(ctl, "learner error", "learner_error");
	show(ctl, "reports sent", "reports_sent");
	show(ctl, "reports spooled", "reports_spooled");
	show(ctl, "reports dropped", "reports_dropped");
	show(ctl, "limit writes", "limit_writes");
	show(ctl, "reservation writes", "reservation_writes");
	show(ctl, "foreign writes", "foreign_writes");
	show(ctl, "reflex refills", "refills_total");
	show(ctl, "events lost", "events_lost");
	show(ctl, "detail", "detail_level");
	show(ctl, "probes, % of CPU", "probe_share_percent");
	show(ctl, "their budget, %", "probe_budget_percent");
	show(ctl, "ns a run", "probe_ns_per_run");
	off = show_programs(ctl);
	printf("\n%-32s %-10s %-8s %10s %12s %10s  %s\n", "SERVICE", "MODE", "POLICY", "CONTAINERS",
		"REQUESTS", "VIOLATIONS", "LAST ACTION");
	if (ctl_each_service(ctl, show_service, NULL) == 0)
		printf("(none: no pod of this node, or the API is not reachable)\n");
	return off ? CTL_EXIT_FAILED : EXIT_SUCCESS;
}
