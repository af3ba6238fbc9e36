// SPDX-License-Identifier: Apache-2.0
/* ebbctl trace: requests of a service one by one, live. */
#include "common/options.h"
#include "ctl/ctl.h"
#include "ctl/trace_event.h"
#include "ctl/trace_perfetto.h"
#include "ctl/trace_text.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 131072
#define POLL_MS	   50
#define COUNT_MOST (1U << 31)
/* Between two looks at what the node lost. */
#define CHECK_POLLS 20

static const char help[] =
	"Usage: ebbctl trace SERVICE [OPTION]...\n"
	"Show requests of SERVICE one by one, as they end. Without a choice: every one.\n\n"
	"  --slower TIME     those at least so slow: 20ms, 500us, 1.5s\n"
	"  --errors          those answered with HTTP 5xx or a gRPC error, or not at all\n"
	"  --one-in N        one in N whatever its latency (rounded up to a power of two)\n"
	"  --exemplars       the newest of each octave of latency, at once, and leave\n"
	"  --kept            what the agent keeps of earlier choices, and leave\n"
	"  --follow          behind --kept: go on with what comes\n"
	"  -n, --count N     leave after N\n"
	"  --for TIME        leave after that time\n"
	"  --waterfall       under each line where its time went (with -n 1: always)\n"
	"  --json            the agent's lines as they are\n"
	"  --perfetto FILE   write them for ui.perfetto.dev or chrome://tracing as well\n"
	"  --help\n\n"
	"Ends by Ctrl-C. What was missed or lost is said on standard error.\n"
	"Exit status: 0 done, 1 failed, 2 wrong usage. See docs/trace.md.\n";

struct options {
	double slower_us; /* 0: not chosen */
	uint32_t one_in;
	bool errors;
	bool exemplars;
	bool kept;
	bool follow;
	uint32_t count; /* 0: no end */
	double for_us;
	bool waterfall;
	bool json;
	const char *perfetto;
};

struct session {
	const struct ctl *ctl;
	const struct options *options;
	struct perfetto *perfetto;
	bool colour;
	unsigned long shown;
	uint64_t missed;
	double lost_before;
	double lost_said;
	char level[CTL_VALUE_MAX];
};

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

	if (unit == text || !(value >= 0 && value < 1e9))
		return -1;
	if (strcmp(unit, "us") == 0)
		return value;
	if (strcmp(unit, "ms") == 0 || *unit == '\0')
		return value * 1000;
	return strcmp(unit, "s") == 0 ? value * 1e6 : -1;
}

/* A line of the pipe. False: enough. */
static bool line_take(struct session *session, const char *line)
{
	const struct options *options = session->options;
	struct trace_event event;

	if (trace_event_parse(line, &event)) {
		fprintf(stderr, "ebbctl: the agent's line is none of a trace: %s\n", line);
		return true;
	}
	if (options->json)
		printf("%s\n", line);
	else
		trace_text_line(stdout, &event, session->colour);
	if (event.kind == TRACE_MISSED) {
		session->missed += event.missed;
		return true;
	}
	if (options->waterfall && !options->json)
		trace_text_waterfall(stdout, &event);
	if (session->perfetto && perfetto_add(session->perfetto, &event) &&
		perfetto_left_out(session->perfetto) == 1)
		fprintf(stderr, "ebbctl: %s: holds %d events; what comes is left out of it\n",
			options->perfetto, PERFETTO_EVENTS_MAX);
	session->shown++;
	return !options->count || session->shown < options->count;
}

static bool lines_take(struct session *session, char *text)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!line_take(session, line))
			return false;
	return true;
}

/* What the node could not tell of, and why. */
static void losses_check(struct session *session)
{
	double lost = ctl_read_number(session->ctl, "agent/events_lost") - session->lost_before;
	char level[CTL_VALUE_MAX];

	if (lost > session->lost_said) {
		fprintf(stderr,
			"ebbctl: %.0f events lost on this node: more than its ring buffer holds; "
			"choose fewer\n",
			lost - session->lost_said);
		session->lost_said = lost;
	}
	if (ctl_read(session->ctl, "agent/detail_level", level, sizeof(level)) ||
		strcmp(level, session->level) == 0)
		return;
	if (strcmp(level, "aggregates") == 0)
		fprintf(stderr, "ebbctl: the agent's probes are over their budget: no requests are "
				"told of for now (ebbctl status)\n");
	else if (strcmp(level, "full") != 0)
		fprintf(stderr,
			"ebbctl: the agent's probes are over their budget: only part of the "
			"requests has a path and a breakdown (ebbctl status)\n");
	snprintf(session->level, sizeof(session->level), "%s", level);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int follow(struct session *session, int fd)
{
	const struct options *options = session->options;
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	static char text[TEXT_BYTES + 1];
	double end_us = now_us() + options->for_us;
	unsigned int polls = 0;

	while (!stopped && (!options->for_us || now_us() < end_us)) {
		ssize_t got = read(fd, text, TEXT_BYTES);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0) {
			text[got] = '\0';
			if (!lines_take(session, text))
				return 0;
			continue;
		}
		if (options->kept && !options->follow)
			return 0;
		fflush(stdout);
		if (polls++ % CHECK_POLLS == 0)
			losses_check(session);
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* The pipe's own words for the options; "" chooses nothing, for --kept alone. */
static void choice_text(const struct options *options, char *out, size_t size)
{
	bool any = options->slower_us > 0 || options->errors || options->one_in;
	size_t used = 0;

	out[0] = '\0';
	if (options->slower_us > 0)
		used += (size_t)snprintf(out + used, size - used, "slower_us %.0f\n",
			options->slower_us < 1 ? 1 : options->slower_us);
	if (options->errors)
		used += (size_t)snprintf(out + used, size - used, "errors 1\n");
	if (options->one_in)
		used += (size_t)snprintf(out + used, size - used, "one_in %u\n", options->one_in);
	if (options->kept)
		snprintf(out + used, size - used, "kept 1\n");
	else if (!any)
		snprintf(out + used, size - used, "one_in 1\n");
}

/* The choice belongs to this open of the pipe and ends with it, however this process ends. */
static int pipe_follow(struct session *session, const char *service)
{
	char path[CTL_PATH_MAX], choice[128];
	int fd, err;

	snprintf(path, sizeof(path), "%s/%s/trace/pipe", session->ctl->tree, service);
	choice_text(session->options, choice, sizeof(choice));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		fprintf(stderr, "ebbctl: %s: %s\n", path, strerror(-err));
		return err;
	}
	if (write(fd, choice, strlen(choice)) < 0) {
		err = -errno;
		fprintf(stderr, "ebbctl: %s: does not take \"%.*s\": %s\n", path,
			(int)strcspn(choice, "\n"), choice, strerror(-err));
	} else {
		err = follow(session, fd);
		if (err)
			fprintf(stderr, "ebbctl: %s: %s\n", path, strerror(-err));
	}
	close(fd);
	return err;
}

static int exemplars_show(struct session *session, const char *service)
{
	static char text[TEXT_BYTES + 1];
	char path[CTL_PATH_MAX];
	size_t used = 0;
	ssize_t got = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/trace/exemplars", session->ctl->tree, service);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		got = -1;
	else
		while (used < TEXT_BYTES && (got = read(fd, text + used, TEXT_BYTES - used)) > 0)
			used += (size_t)got;
	if (got < 0) {
		int err = -errno;

		fprintf(stderr, "ebbctl: %s: %s\n", path, strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	close(fd);
	text[used] = '\0';
	(void)lines_take(session, text);
	return 0;
}

/* Beside the file first, so that a trace that was there stays until the new one is whole. */
static int perfetto_save(const struct session *session, const char *service)
{
	const char *file = session->options->perfetto;
	char beside[CTL_PATH_MAX];
	FILE *out;
	int err;

	snprintf(beside, sizeof(beside), "%s.%d", file, getpid());
	out = fopen(beside, "we");
	if (!out) {
		err = -errno;
	} else {
		err = perfetto_write(session->perfetto, out, service + strlen("services/"),
			session->missed, (uint64_t)session->lost_said);
		if (fclose(out) && !err)
			err = -errno;
		if (!err && rename(beside, file))
			err = -errno;
		if (err)
			unlink(beside);
	}
	if (err)
		fprintf(stderr, "ebbctl: %s: not written: %s\n", file, strerror(-err));
	else
		fprintf(stderr, "ebbctl: %zu events in %s: open it in ui.perfetto.dev\n",
			perfetto_count(session->perfetto), file);
	return err;
}

static int run(const struct ctl *ctl, const char *name, const struct options *options)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct session session = {.ctl = ctl,
		.options = options,
		.colour = isatty(STDOUT_FILENO),
		.lost_before = ctl_read_number(ctl, "agent/events_lost"),
		.level = "full"};
	char service[CTL_PATH_MAX];
	int err;

	if (ctl_find_service(ctl, name, service, sizeof(service)))
		return CTL_EXIT_FAILED;
	if (options->perfetto) {
		session.perfetto = perfetto_new();
		if (!session.perfetto) {
			fprintf(stderr, "ebbctl: out of memory\n");
			return CTL_EXIT_FAILED;
		}
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (!options->json)
		trace_text_header(stdout);
	err = options->exemplars ? exemplars_show(&session, service)
				 : pipe_follow(&session, service);
	fflush(stdout);
	losses_check(&session);
	if (session.missed)
		fprintf(stderr, "ebbctl: %llu missed: they came faster than they were read\n",
			(unsigned long long)session.missed);
	if (session.perfetto && perfetto_save(&session, service))
		err = -EIO;
	perfetto_free(session.perfetto);
	return err ? CTL_EXIT_FAILED : EXIT_SUCCESS;
}

enum option_id {
	OPTION_SLOWER = 256,
	OPTION_ERRORS,
	OPTION_ONE_IN,
	OPTION_EXEMPLARS,
	OPTION_KEPT,
	OPTION_FOLLOW,
	OPTION_FOR,
	OPTION_WATERFALL,
	OPTION_JSON,
	OPTION_PERFETTO,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{"slower", required_argument, NULL, OPTION_SLOWER},
	{"errors", no_argument, NULL, OPTION_ERRORS},
	{"one-in", required_argument, NULL, OPTION_ONE_IN},
	{"exemplars", no_argument, NULL, OPTION_EXEMPLARS},
	{"kept", no_argument, NULL, OPTION_KEPT},
	{"follow", no_argument, NULL, OPTION_FOLLOW},
	{"count", required_argument, NULL, 'n'},
	{"for", required_argument, NULL, OPTION_FOR},
	{"waterfall", no_argument, NULL, OPTION_WATERFALL},
	{"json", no_argument, NULL, OPTION_JSON},
	{"perfetto", required_argument, NULL, OPTION_PERFETTO},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static int parse_time(const char *name, const char *text, double *us)
{
	*us = parse_duration_us(text);
	if (*us >= 0)
		return 0;
	fprintf(stderr, "ebbctl: --%s: \"%s\" is not a time such as 20ms, 500us or 1s\n", name,
		text);
	return -EINVAL;
}

/* 0 to go on, 1 to leave with success, -EINVAL. */
static int option_apply(struct options *options, int id)
{
	switch (id) {
	case OPTION_SLOWER:
		return parse_time("slower", optarg, &options->slower_us);
	case OPTION_ERRORS:
		options->errors = true;
		return 0;
	case OPTION_ONE_IN:
		return options_whole("ebbctl", "one-in", optarg, 1, COUNT_MOST, &options->one_in);
	case OPTION_EXEMPLARS:
		options->exemplars = true;
		return 0;
	case OPTION_KEPT:
		options->kept = true;
		return 0;
	case OPTION_FOLLOW:
		options->follow = true;
		return 0;
	case 'n':
		return options_whole("ebbctl", "count", optarg, 1, COUNT_MOST, &options->count);
	case OPTION_FOR:
		return parse_time("for", optarg, &options->for_us);
	case OPTION_WATERFALL:
		options->waterfall = true;
		return 0;
	case OPTION_JSON:
		options->json = true;
		return 0;
	case OPTION_PERFETTO:
		options->perfetto = optarg;
		return 0;
	case OPTION_HELP:
		fputs(help, stdout);
		return 1;
	default:
		fputs("Try 'ebbctl trace --help'.\n", stderr);
		return -EINVAL;
	}
}

int ctl_trace(struct ctl *ctl, int argc, char **argv)
{
	struct options options = {0};
	int id, err;

	optind = 1;
	while ((id = getopt_long(argc, argv, "n:", long_options, NULL)) != -1) {
		err = option_apply(&options, id);
		if (err)
			return err > 0 ? EXIT_SUCCESS : CTL_EXIT_USAGE;
	}
	if (optind != argc - 1) {
		fprintf(stderr, "ebbctl: trace needs one SERVICE. Try 'ebbctl trace --help'.\n");
		return CTL_EXIT_USAGE;
	}
	if (options.exemplars && (options.kept || options.follow)) {
		fprintf(stderr, "ebbctl: --exemplars are a list of their own: without --kept and "
				"--follow\n");
		return CTL_EXIT_USAGE;
	}
	options.waterfall |= options.count == 1;
	return run(ctl, argv[optind], &options);
}
