// SPDX-License-Identifier: Apache-2.0
/* ebbctl trace: slow requests of a service, live. */
#include "ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 65536

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

/* "20ms", "500us", "1.5s", "20" (milliseconds) -> microseconds; negative when it is none. */
static double parse_duration_us(const char *text)
{
	char *unit;
	double value = strtod(text, &unit);

	if (unit == text || value < 0)
		return -1;
	if (strcmp(unit, "us") == 0)
		return value;
	if (strcmp(unit, "ms") == 0 || *unit == '\0')
		return value * 1000;
	return strcmp(unit, "s") == 0 ? value * 1e6 : -1;
}

static void show_line(const char *text, bool as_json)
{
	json_t *event;
	long long time_us, status, bytes, port, missed = 0;
	const char *pod, *method, *path, *peer, *protocol;
	double latency_us;
	struct tm local;
	time_t seconds;

	if (as_json) {
		printf("%s\n", text);
		return;
	}
	event = json_loads(text, 0, NULL);
	if (event && json_unpack(event, "{s:I}", "missed", &missed) == 0)
		printf("(%lld events came faster than they were read)\n", missed);
	else if (event &&
		 json_unpack(event, "{s:I, s:F, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s}", "time_us",
			 &time_us, "latency_us", &latency_us, "status", &status, "response_bytes",
			 &bytes, "peer_port", &port, "pod", &pod, "method", &method, "path", &path,
			 "peer", &peer, "protocol", &protocol) == 0) {
		seconds = (time_t)(time_us / 1000000);
		localtime_r(&seconds, &local);
		printf("%02d:%02d:%02d.%06lld %10.3f ms  %3lld %-6s %-32s %-36s %s:%lld\n",
			local.tm_hour, local.tm_min, local.tm_sec, time_us % 1000000,
			latency_us / 1000, status, method[0] ? method : protocol,
			path[0] ? path : "*", pod, peer, port);
	}
	json_decref(event);
}

static int follow(int fd, bool as_json, long count)
{
	static char text[TEXT_BYTES + 1];
	const struct timespec pause = {.tv_nsec = 100 * 1000000L};

	while (!stopped) {
		ssize_t got = read(fd, text, TEXT_BYTES);
		char *save = NULL;

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got <= 0) {
			fflush(stdout);
			nanosleep(&pause, NULL);
			continue;
		}
		text[got] = '\0';
		for (char *line = strtok_r(text, "\n", &save); line;
			line = strtok_r(NULL, "\n", &save)) {
			show_line(line, as_json);
			if (count > 0 && --count == 0)
				return 0;
		}
	}
	return 0;
}

static int run(
	const struct ctl *ctl, const char *service, double slower_us, bool as_json, long count)
{
	char path[CTL_PATH_MAX], threshold[CTL_PATH_MAX], full[CTL_PATH_MAX], before[32], text[32];
	struct sigaction action = {.sa_handler = on_signal};
	int fd, err;

	if (ctl_find_service(ctl, service, path, sizeof(path)))
		return CTL_EXIT_FAILED;
	snprintf(threshold, sizeof(threshold), "%s/trace/slower_us", path);
	snprintf(full, sizeof(full), "%s/%s/trace/pipe", ctl->tree, path);
	(void)ctl_read(ctl, threshold, before, sizeof(before));
	/* 0 would turn tracing off: every request is at least this slow. */
	snprintf(text, sizeof(text), "%.0f", slower_us < 1 ? 1 : slower_us);
	err = ctl_write(ctl, threshold, text);
	if (err) {
		fprintf(stderr, "ebbctl: %s: cannot set to %s: %s\n", threshold, text,
			strerror(-err));
		return CTL_EXIT_FAILED;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err = -errno;
	else
		err = follow(fd, as_json, count);
	if (fd >= 0)
		close(fd);
	/* Tracing costs a copy of each request's head: off again, unless it was on before. */
	(void)ctl_write(ctl, threshold, before);
	if (err)
		fprintf(stderr, "ebbctl: %s: %s\n", full, strerror(-err));
	return err ? CTL_EXIT_FAILED : EXIT_SUCCESS;
}

int ctl_trace(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {{"slower", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'}, {"count", required_argument, NULL, 'n'}, {0}};
	double slower_us = 0;
	bool as_json = false;
	long count = 0;
	int id;

	optind = 1;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 's') {
			slower_us = parse_duration_us(optarg);
			if (slower_us < 0) {
				fprintf(stderr,
					"ebbctl: --slower: \"%s\" is not a time such as 20ms, "
					"500us or 1s\n",
					optarg);
				return CTL_EXIT_USAGE;
			}
		} else if (id == 'j') {
			as_json = true;
		} else if (id == 'n' && strtol(optarg, NULL, 10) > 0) {
			count = strtol(optarg, NULL, 10);
		} else {
			return CTL_EXIT_USAGE;
		}
	}
	if (optind != argc - 1) {
		fprintf(stderr, "ebbctl: trace needs one SERVICE\n");
		return CTL_EXIT_USAGE;
	}
	return run(ctl, argv[optind], slower_us, as_json, count);
}
