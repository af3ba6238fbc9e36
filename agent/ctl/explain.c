// SPDX-License-Identifier: Apache-2.0
/* ebbctl explain: what was decided on a service, from what, why, and what came of it. */
#include "common/options.h"
#include "ctl/ctl.h"
#include "ctl/explain_source.h"
#include "ctl/explain_text.h"
#include "ctl/moment.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ERROR_BYTES 4096
/* Between two looks; and decisions a look may bring: of a unit with the shortest tick and more. */
#define WATCH_MS    500
#define WATCH_COUNT 32

static const char help[] =
	"Usage: ebbctl explain SERVICE [OPTION]...\n"
	"Say in plain words what was decided on the limits and replicas of SERVICE, from what, why,\n"
	"and what came of it. Without --at: the newest decision on its limits, and on its replicas.\n\n"
	"  --at TIME         the decisions in force then: 14:03:21 (of the last 24 hours),\n"
	"                    2026-11-29T14:03:21Z (with +01:00 or nothing for local time), or a time\n"
	"                    back from now: -30s, -5m, -2h, -1d\n"
	"  -n, --count N     the N newest of limits and of replicas (by then), 1 to 511 (default 1)\n"
	"  --unit NODE       the limits on that node (default: this node if SERVICE runs here, else\n"
	"                    the node that was decided on last)\n"
	"  --state           also what the network saw: every feature with its value\n"
	"  --watch           a line a decision as they come, until Ctrl-C; with -n, that many\n"
	"  --json            one JSON object a decision, with \"after\" and \"gap_s\"\n"
	"  --learner URL     ask this learner (default $EBBTIDE_LEARNER, else the one that the agent\n"
	"                    of this node reports to)\n"
	"  --journal FILE    read what a learner wrote with --decisions FILE, which goes back further\n"
	"                    than its memory; \"-\": standard input\n"
	"  --help\n\n"
	"Q is what the network expects of an action: the sum of discounted rewards, at most 0, the\n"
	"higher the better. A forbidden action names the rule of the envelope that forbids it.\n\n"
	"Examples:\n"
	"  ebbctl explain fibonacci\n"
	"  ebbctl explain shop/cart --at -5m -n 3\n"
	"  ebbctl explain fibonacci --journal decisions.jsonl --at 14:03:21 --json\n\n"
	"Exit status: 0 done, 1 failed or nothing was decided, 2 wrong usage. See docs/ebbctl.md.\n";

struct options {
	const char *service;
	const char *unit;
	const char *at; /* NULL: now */
	uint64_t at_us;
	uint32_t count; /* 0: not given */
	bool state;
	bool watch;
	bool json;
	const char *learner;
	const char *journal;
};

/* Whom to ask, and for what; the strings may be what the tree said. */
struct source {
	struct explain_question question;
	const char *url;
	const char *journal;
	char tree_url[CTL_VALUE_MAX];
	char tree_node[CTL_VALUE_MAX];
	char tree_service[CTL_PATH_MAX]; /* path; empty: not on this node */
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int complain(const char *error)
{
	fprintf(stderr, "ebbctl: %s\n", error);
	return CTL_EXIT_FAILED;
}

/* The learner of this node's agent, and this node's unit if it has one. */
static int source_from_tree(const struct ctl *ctl, struct source *source)
{
	if (ctl_read(ctl, "agent/learner", source->tree_url, sizeof(source->tree_url))) {
		fprintf(stderr,
			"ebbctl: no tree at %s that names the learner: give --learner URL or "
			"--journal FILE, or the agent's mount point with --tree\n",
			ctl->tree);
		return -ENOENT;
	}
	if (!source->tree_url[0] || strcmp(source->tree_url, "-") == 0) {
		fprintf(stderr, "ebbctl: the agent of this node has no learner: give --learner URL "
				"or --journal FILE\n");
		return -ENOENT;
	}
	source->url = source->tree_url;
	if (ctl_match_service(ctl, source->question.service, source->tree_service,
		    sizeof(source->tree_service)) != 1) {
		source->tree_service[0] = '\0';
		return 0;
	}
	source->question.service = source->tree_service + strlen("services/");
	if (!source->question.unit &&
		ctl_read(ctl, "agent/node", source->tree_node, sizeof(source->tree_node)) == 0)
		source->question.unit = source->tree_node;
	return 0;
}

static int source_open(const struct ctl *ctl, const struct options *options, struct source *source)
{
	const char *environment = getenv("EBBTIDE_LEARNER");

	*source = (struct source){.question = {.service = options->service,
					  .unit = options->unit,
					  .at_us = options->at_us},
		.url = options->learner,
		.journal = options->journal};
	if (!source->url && environment && environment[0])
		source->url = environment;
	return source->url || source->journal ? 0 : source_from_tree(ctl, source);
}

static int source_ask(const struct source *source, json_t **answer, char *error, size_t size)
{
	const struct explain_question *question = &source->question;

	if (source->journal)
		return explain_read(source->journal, question, answer, error, size);
	return explain_ask(source->url, question, answer, error, size);
}

/* The learner does not answer: what this node was told last is here as well. */
static void tree_tell(const struct ctl *ctl, const struct source *source)
{
	static const char *const files[] = {"last_action", "last_policy", "last_rule", "last_why"};
	char path[CTL_PATH_MAX + 64], value[CTL_VALUE_MAX];

	if (!source->tree_service[0])
		return;
	fprintf(stderr, "ebbctl: the newest that this node's agent was told:\n");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", source->tree_service, files[i]);
		if (ctl_read(ctl, path, value, sizeof(value)) == 0)
			fprintf(stderr, "  %-12s %s\n", files[i], value);
	}
	if (ctl_read(ctl, "agent/learner_error", value, sizeof(value)) == 0)
		fprintf(stderr, "  %-12s %s\n", "its report", value);
	fprintf(stderr, "While no learner answers the limits stay; after --silent-ticks of the "
			"agent the owner's come back.\n");
}

static void show_json(const json_t *decision)
{
	char *line = json_dumps(decision, JSON_COMPACT | JSON_PRESERVE_ORDER);

	if (line)
		puts(line);
	free(line);
}

static int show_once(const struct ctl *ctl, const struct options *options, struct source *source)
{
	unsigned long count = options->count ? options->count : 1;
	json_t *answer, *decisions;
	const json_t *decision;
	char error[ERROR_BYTES];
	size_t i;
	int err;

	/* One more tells how long nothing was decided before. */
	source->question.count = count + 1;
	err = source_ask(source, &answer, error, sizeof(error));
	if (err) {
		complain(error);
		if (err == -ECONNREFUSED)
			tree_tell(ctl, source);
		return CTL_EXIT_FAILED;
	}
	decisions = explain_select(answer, options->at_us, count);
	json_array_foreach (decisions, i, decision) {
		if (options->json)
			show_json(decision);
		else
			explain_text(stdout, decision, options->state);
		if (!options->json && i + 1 < json_array_size(decisions))
			putchar('\n');
	}
	json_decref(decisions);
	json_decref(answer);
	return EXIT_SUCCESS;
}

/* Those that were not there the last time; the newest times of limits and of replicas move on. */
static void show_new(const struct options *options, const json_t *decisions, uint64_t newest[2],
	unsigned long *shown)
{
	const json_t *decision;
	size_t i;

	json_array_foreach (decisions, i, decision) {
		uint64_t *last = &newest[json_object_get(decision, "agent") == NULL];
		uint64_t time_us =
			(uint64_t)json_integer_value(json_object_get(decision, "time_us"));

		if (time_us <= *last || (options->count && *shown == options->count))
			continue;
		*last = time_us;
		if (options->json)
			show_json(decision);
		else
			explain_line(stdout, decision);
		(*shown)++;
	}
	fflush(stdout);
}

static int watch(const struct options *options, struct source *source)
{
	const struct timespec pause = {.tv_nsec = WATCH_MS * 1000000L};
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t newest[2] = {0, 0};
	unsigned long shown = 0;
	char error[ERROR_BYTES], said[ERROR_BYTES] = "";
	json_t *answer, *decisions;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	while (!stopped && (!options->count || shown < options->count)) {
		/* First what there is, then all that comes. */
		source->question.count = newest[0] || newest[1] ? WATCH_COUNT : 1;
		if (source_ask(source, &answer, error, sizeof(error)) == 0) {
			decisions = explain_select(answer, UINT64_MAX, source->question.count);
			show_new(options, decisions, newest, &shown);
			json_decref(decisions);
			json_decref(answer);
			said[0] = '\0';
		} else if (strcmp(error, said) != 0) {
			/* A learner comes back, and a service is decided on at last: wait for it. */
			complain(error);
			memcpy(said, error, sizeof(said));
		}
		nanosleep(&pause, NULL);
	}
	return EXIT_SUCCESS;
}

enum option_id {
	OPTION_AT = 256,
	OPTION_UNIT,
	OPTION_STATE,
	OPTION_WATCH,
	OPTION_JSON,
	OPTION_LEARNER,
	OPTION_JOURNAL,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{"at", required_argument, NULL, OPTION_AT},
	{"count", required_argument, NULL, 'n'},
	{"unit", required_argument, NULL, OPTION_UNIT},
	{"state", no_argument, NULL, OPTION_STATE},
	{"watch", no_argument, NULL, OPTION_WATCH},
	{"json", no_argument, NULL, OPTION_JSON},
	{"learner", required_argument, NULL, OPTION_LEARNER},
	{"journal", required_argument, NULL, OPTION_JOURNAL},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static int at_apply(struct options *options, const char *value)
{
	options->at = value;
	if (moment_parse(value, now_us(), &options->at_us) == 0)
		return 0;
	fprintf(stderr, "ebbctl: --at: \"%s\" is not a time such as %s\n", value, MOMENT_FORMS);
	return -EINVAL;
}

/* 0 to go on, 1 to leave with success, -EINVAL. */
static int option_apply(struct options *options, int id)
{
	switch (id) {
	case OPTION_AT:
		return at_apply(options, optarg);
	case 'n':
		return options_whole(
			"ebbctl", "count", optarg, 1, EXPLAIN_COUNT_MAX - 1, &options->count);
	case OPTION_UNIT:
		options->unit = optarg;
		return 0;
	case OPTION_STATE:
		options->state = true;
		return 0;
	case OPTION_WATCH:
		options->watch = true;
		return 0;
	case OPTION_JSON:
		options->json = true;
		return 0;
	case OPTION_LEARNER:
		options->learner = optarg;
		return 0;
	case OPTION_JOURNAL:
		options->journal = optarg;
		return 0;
	case OPTION_HELP:
		fputs(help, stdout);
		return 1;
	default:
		fputs("Try 'ebbctl explain --help'.\n", stderr);
		return -EINVAL;
	}
}

static int options_check(const struct options *options)
{
	if (options->watch && (options->at || options->journal)) {
		fprintf(stderr, "ebbctl: --watch shows what comes: without --at and --journal\n");
		return -EINVAL;
	}
	if (options->journal && options->learner) {
		fprintf(stderr, "ebbctl: --journal and --learner are two sources: give one\n");
		return -EINVAL;
	}
	return 0;
}

int ctl_explain(struct ctl *ctl, int argc, char **argv)
{
	struct options options = {.at_us = UINT64_MAX};
	struct source source;
	int id, err;

	optind = 1;
	while ((id = getopt_long(argc, argv, "n:", long_options, NULL)) != -1) {
		err = option_apply(&options, id);
		if (err)
			return err > 0 ? EXIT_SUCCESS : CTL_EXIT_USAGE;
	}
	if (optind != argc - 1) {
		fprintf(stderr,
			"ebbctl: explain needs one SERVICE. Try 'ebbctl explain --help'.\n");
		return CTL_EXIT_USAGE;
	}
	options.service = argv[optind];
	if (options_check(&options))
		return CTL_EXIT_USAGE;
	if (source_open(ctl, &options, &source))
		return CTL_EXIT_FAILED;
	return options.watch ? watch(&options, &source) : show_once(ctl, &options, &source);
}
