// SPDX-License-Identifier: Apache-2.0
/* ebbctl top: every service of this node, refreshed. */
#include "common/options.h"
#include "ctl/ctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double number(const struct ctl *ctl, const char *service, const char *file)
{
	char path[CTL_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", service, file);
	return ctl_read_number(ctl, path);
}

static void show_service(const struct ctl *ctl, const char *service, void *context)
{
	double target_us = number(ctl, service, "objective/latency_target_us");
	double p99_us = number(ctl, service, "latency_p99_us");
	double used = number(ctl, service, "cpu_used_millicores");
	double limit = number(ctl, service, "cpu_limit_millicores");
	double reserved = number(ctl, service, "cpu_reserved_millicores");
	double memory = number(ctl, service, "memory_used_bytes") / (1 << 20);
	double memory_limit = number(ctl, service, "memory_limit_bytes") / (1 << 20);
	char path[CTL_PATH_MAX], action[CTL_VALUE_MAX];
	bool colour = *(bool *)context;
	bool over = target_us > 0 && p99_us > target_us;

	snprintf(path, sizeof(path), "%s/last_action", service);
	(void)ctl_read(ctl, path, action, sizeof(action));
	printf("%-30.30s %8.1f %9.2f %s%9.2f%s %8.1f %5.0f %5.0fm %6.0f%c %8.1f %8.1f %6.0fM %6.0fM "
	       "%4.0f  %s\n",
		service + strlen("services/"), number(ctl, service, "requests_per_s"),
		number(ctl, service, "latency_p50_us") / 1000, over && colour ? "\033[31m" : "",
		p99_us / 1000, over && colour ? "\033[0m" : "", target_us / 1000,
		number(ctl, service, "in_flight"), used, reserved > 0 ? reserved : limit,
		/* Without a limit, what is reserved. */
		reserved > 0 ? 'r' : 'm', number(ctl, service, "cpu_throttled_us") / 1000,
		number(ctl, service, "refills_per_s"), memory, memory_limit,
		number(ctl, service, "containers"), action);
}

int ctl_top(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{"once", no_argument, NULL, 'o'}, {"interval", required_argument, NULL, 'i'}, {0}};
	bool terminal = isatty(STDOUT_FILENO), once = false;
	double interval_s = 1;
	struct timespec pause;
	int id;

	optind = 1;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 'o')
			once = true;
		else if (id != 'i' ||
			 options_real("ebbctl", "interval", optarg, 0.1, 86400, &interval_s) != 0)
			return CTL_EXIT_USAGE;
	}
	if (options_stray("ebbctl", argc, argv))
		return CTL_EXIT_USAGE;
	pause.tv_sec = (time_t)interval_s;
	pause.tv_nsec = (long)((interval_s - (double)pause.tv_sec) * 1e9);
	for (;;) {
		if (access(ctl->tree, F_OK) != 0)
			return ctl_complain_tree(ctl);
		if (terminal && !once)
			printf("\033[H\033[J");
		printf("%-30s %8s %9s %9s %8s %5s %6s %7s %8s %8s %7s %7s %4s  %s\n", "SERVICE",
			"REQ/S", "P50 MS", "P99 MS", "TARGET", "INFL", "CPU", "LIMIT", "THROT MS",
			"REFILL/S", "MEM", "LIMIT", "CONT", "LAST ACTION");
		if (ctl_each_service(ctl, show_service, &terminal) < 0)
			return ctl_complain_tree(ctl);
		fflush(stdout);
		if (once)
			return EXIT_SUCCESS;
		nanosleep(&pause, NULL);
	}
}
