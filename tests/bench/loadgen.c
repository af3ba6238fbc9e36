// SPDX-License-Identifier: Apache-2.0
/*
 * loadgen: open-loop HTTP/1.1 load that follows a trace of request rates. docs/load.md is its
 * manual; load_engine.h says how it sends, load_seconds.h what a row of its output is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/load_engine.h"

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2
};

struct load_options {
	const char *url;
	const char *trace_path;
	const char *host_header;
	const char *second_path;
	const char *json_path;
	double rate; /* 0: not given, as with all numbers here */
	double scale;
	double peak;
	double duration;
	double every;
	double seed;
	double connections;
	double timeout_ms;
	double target_us;
	enum load_kind arrivals;
	bool allow_remote;
};

struct load_url {
	char host[256];
	char port[8];
	char authority[272]; /* as it goes into the Host header */
	const char *path;    /* borrowed from the URL */
};

static volatile sig_atomic_t interrupts;

static void on_signal(int signal_number)
{
	(void)signal_number;
	interrupts++;
}

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list arguments;

	fputs("loadgen: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

static void print_help(void)
{
	fputs("usage: loadgen [OPTION]... --trace FILE URL\n"
	      "       loadgen [OPTION]... --rate R --duration S URL\n"
	      "Open-loop HTTP/1.1 load on URL, http://HOST[:PORT][/PATH]. Latency counts from the\n"
	      "time a request should have been sent, so a stalled server is not forgiven.\n"
	      "\n"
	      "When to send\n"
	      "  --trace FILE         requests per second, one value a line, one line a second\n"
	      "  --every N            play only every N-th second of the trace (default 1)\n"
	      "  --scale F            multiply its rates by F\n"
	      "  --peak RPS           scale it so that the highest second that is played is RPS\n"
	      "  --rate R             constant rate, requests per second, instead of a trace\n"
	      "  --duration S         seconds: how long at --rate; of a trace, the first S played\n"
	      "  --arrivals KIND      poisson (default) or uniform gaps at each second's rate; bursts:\n"
	      "                       poisson at twice that in 3 of 10 tenths of a second, less in the\n"
	      "                       others\n"
	      "  --seed N             of the arrivals (default 1); same seed, same send times\n"
	      "How to send\n"
	      "  --host NAME          Host header (default: the URL's)\n"
	      "  --connections N      most at a time (default 256); opened as needed, kept alive\n"
	      "  --timeout-ms N       a request fails after N ms (default 10000)\n"
	      "  --allow-remote       permit an address that is not loopback\n"
	      "What to write\n"
	      "  --target-us T        count requests slower than T us to the first byte\n"
	      "  --second-output FILE CSV, a row a second, written while the load runs\n"
	      "  --json FILE          summary as JSON; - is standard output, instead of the table\n"
	      "  --help, --version\n"
	      "\n"
	      "Ctrl-C stops sending and waits up to 2 s for answers; twice stops at once.\n"
	      "Exit status: 0 the load was played, 1 it could not be (or no request succeeded), "
	      "2 usage.\n",
		stdout);
}

/* A number in [@min, @max], whole if asked; complains and returns -EINVAL otherwise. */
static int parse_number(
	const char *option, const char *text, double min, double max, bool whole, double *value)
{
	char *end;

	errno = 0;
	double number = strtod(text, &end);
	if (end == text || *end || errno || !(number >= min && number <= max) ||
		(whole && number != floor(number))) {
		complain("--%s: '%s' is not a %s from %.10g to %.10g", option, text,
			whole ? "whole number" : "number", min, max);
		return -EINVAL;
	}
	*value = number;
	return 0;
}

static const struct number_option {
	const char *name;
	double min, max;
	bool whole;
	size_t offset;
} number_options[] = {
	{"rate", 0.001, LOAD_RATE_MAX, false, offsetof(struct load_options, rate)},
	{"scale", 1e-9, 1e9, false, offsetof(struct load_options, scale)},
	{"peak", 0.001, LOAD_RATE_MAX, false, offsetof(struct load_options, peak)},
	{"duration", 1, LOAD_TRACE_MAX_SECONDS, true, offsetof(struct load_options, duration)},
	{"every", 1, LOAD_TRACE_MAX_SECONDS, true, offsetof(struct load_options, every)},
	{"seed", 0, 9007199254740992, true, offsetof(struct load_options, seed)},
	{"connections", 1, 65536, true, offsetof(struct load_options, connections)},
	{"timeout-ms", 1, 3600000, true, offsetof(struct load_options, timeout_ms)},
	{"target-us", 1, 3.6e9, false, offsetof(struct load_options, target_us)},
};
#define NUMBER_OPTIONS (sizeof(number_options) / sizeof(number_options[0]))

/* 0: go on. 1: done (help, version). -EINVAL: complained. */
static int parse_arrivals(const char *text, enum load_kind *arrivals)
{
#define X(kind, name)                                                                              \
	if (!strcmp(text, name)) {                                                                 \
		*arrivals = kind;                                                                  \
		return 0;                                                                          \
	}
	LOAD_KINDS(X)
#undef X
	complain("--arrivals: '%s' is neither poisson, uniform nor bursts", text);
	return -EINVAL;
}

static int parse_options(int argc, char **argv, struct load_options *options)
{
	enum {
		TRACE = NUMBER_OPTIONS + 256,
		ARRIVALS,
		HOST,
		SECOND,
		JSON,
		REMOTE,
		HELP,
		VERSION
	};
	struct option table[NUMBER_OPTIONS + 9] = {0};
	size_t n = 0;
	int code;

	for (; n < NUMBER_OPTIONS; n++)
		table[n] = (struct option){
			number_options[n].name, required_argument, NULL, (int)n + 256};
	table[n++] = (struct option){"trace", required_argument, NULL, TRACE};
	table[n++] = (struct option){"arrivals", required_argument, NULL, ARRIVALS};
	table[n++] = (struct option){"host", required_argument, NULL, HOST};
	table[n++] = (struct option){"second-output", required_argument, NULL, SECOND};
	table[n++] = (struct option){"json", required_argument, NULL, JSON};
	table[n++] = (struct option){"allow-remote", no_argument, NULL, REMOTE};
	table[n++] = (struct option){"help", no_argument, NULL, HELP};
	table[n++] = (struct option){"version", no_argument, NULL, VERSION};

	*options = (struct load_options){
		.every = 1, .seed = 1, .connections = 256, .timeout_ms = 10000};
	while ((code = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (code) {
		case TRACE:
			options->trace_path = optarg;
			break;
		case ARRIVALS:
			if (parse_arrivals(optarg, &options->arrivals))
				return -EINVAL;
			break;
		case HOST:
			options->host_header = optarg;
			break;
		case SECOND:
			options->second_path = optarg;
			break;
		case JSON:
			options->json_path = optarg;
			break;
		case REMOTE:
			options->allow_remote = true;
			break;
		case HELP:
			print_help();
			return 1;
		case VERSION:
			puts("loadgen " EBBTIDE_VERSION);
			return 1;
		case '?':
			fputs("loadgen: try --help\n", stderr);
			return -EINVAL;
		default: {
			const struct number_option *number = &number_options[code - 256];
			double *value = (double *)(void *)((char *)options + number->offset);
			if (parse_number(number->name, optarg, number->min, number->max,
				    number->whole, value))
				return -EINVAL;
		}
		}
	}
	if (argc - optind != 1) {
		complain("%s; try --help",
			argc == optind ? "no URL given" : "more than one URL given");
		return -EINVAL;
	}
	options->url = argv[optind];
	return 0;
}

static int check_options(const struct load_options *options)
{
	if (!options->trace_path == !(options->rate > 0)) {
		complain("give either --trace FILE or --rate R, %s",
			options->trace_path ? "not both" : "and not neither");
		return -EINVAL;
	}
	if (options->rate > 0 && !(options->duration > 0)) {
		complain("--rate needs --duration S, in seconds");
		return -EINVAL;
	}
	if (options->rate > 0 && (options->scale > 0 || options->peak > 0 || options->every > 1)) {
		complain("--every, --scale and --peak change a trace; --rate %g says it all",
			options->rate);
		return -EINVAL;
	}
	if (options->scale > 0 && options->peak > 0) {
		complain("give --scale or --peak, not both");
		return -EINVAL;
	}
	if (options->host_header &&
		(!options->host_header[0] || strpbrk(options->host_header, " \t\r\n"))) {
		complain("--host: '%s' is not a host name", options->host_header);
		return -EINVAL;
	}
	return 0;
}

/* http://HOST[:PORT][/PATH], HOST also [IPv6]. */
static int parse_url(const char *url, struct load_url *parsed)
{
	const char *host = url + strlen("http://"), *why = NULL;

	for (const char *c = url; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 127)
			why = "a blank or control character must be written as %XX";
	if (!why && strncmp(url, "http://", strlen("http://")))
		why = "it must begin with http://";
	if (why)
		goto bad;

	size_t authority = strcspn(host, "/?#");
	const char *host_end =
		host[0] == '[' ? memchr(host, ']', authority) : memchr(host, ':', authority);
	size_t open = host[0] == '[';
	if (open && !host_end) {
		why = "']' is missing";
		goto bad;
	}
	size_t host_length = (host_end ? (size_t)(host_end - host) : authority) - open;
	const char *port = host + host_length + 2 * open;
	size_t port_length = authority - (size_t)(port - host);
	if (!host_length || host_length >= sizeof(parsed->host) || memchr(host, '@', authority)) {
		why = "it names no host";
		goto bad;
	}
	snprintf(parsed->host, sizeof(parsed->host), "%.*s", (int)host_length, host + open);
	snprintf(parsed->port, sizeof(parsed->port), "80");
	if (port_length) {
		char *end = NULL;
		unsigned long number = 0;

		if (port[0] == ':' && port_length > 1 && port_length < 7 &&
			strspn(port + 1, "0123456789") == port_length - 1)
			number = strtoul(port + 1, &end, 10);
		if (number < 1 || number > 65535) {
			why = "its port is not a number from 1 to 65535";
			goto bad;
		}
		snprintf(parsed->port, sizeof(parsed->port), "%lu", number);
	}
	snprintf(parsed->authority, sizeof(parsed->authority), "%.*s", (int)authority, host);
	parsed->path = host + authority;
	if (strchr(parsed->path, '#')) {
		why = "a fragment ('#') is not sent to a server";
		goto bad;
	}
	return 0;
bad:
	complain("bad URL '%s': %s; give http://HOST:PORT/PATH", url, why);
	return -EINVAL;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)address;
		return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
	}
	const struct sockaddr_in6 *v6 = (const void *)address;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return v6->sin6_addr.s6_addr[12] == 127;
	return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* The host's address, IPv4 before IPv6 as most test servers listen there; freeaddrinfo(*list). */
static int resolve(const struct load_url *url, bool allow_remote, struct addrinfo **list,
	const struct addrinfo **chosen)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	int rc = getaddrinfo(url->host, url->port, &hints, list);

	if (rc) {
		*list = NULL;
		complain("cannot resolve %s: %s", url->host,
			rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return -EHOSTUNREACH;
	}
	*chosen = *list;
	for (const struct addrinfo *a = *list; a; a = a->ai_next) {
		if (a->ai_family == AF_INET) {
			*chosen = a;
			break;
		}
	}
	if (!allow_remote && !is_loopback((*chosen)->ai_addr)) {
		complain("%s is not a loopback address; add --allow-remote if load on another "
			 "machine is meant",
			url->host);
		return -EPERM;
	}
	return 0;
}

static int make_trace(const struct load_options *options, struct load_trace *trace)
{
	char error[512];
	int rc;

	if (options->rate > 0) {
		rc = load_trace_constant(trace, options->rate, (size_t)options->duration);
		if (rc)
			complain("cannot make the schedule: %s", strerror(-rc));
		return rc;
	}
	rc = load_trace_read(
		options->trace_path, (size_t)options->every, trace, error, sizeof(error));
	if (rc) {
		complain("%s", error);
		return rc;
	}
	if (options->duration > 0 && (size_t)options->duration < trace->seconds)
		trace->seconds = (size_t)options->duration;
	double peak = load_trace_peak(trace);
	if (!(peak > 0)) {
		complain("trace %s has no request in the seconds that are played",
			options->trace_path);
		return -EINVAL;
	}
	if (options->peak > 0)
		load_trace_scale(trace, options->peak / peak);
	else if (options->scale > 0)
		load_trace_scale(trace, options->scale);
	if (load_trace_peak(trace) > LOAD_RATE_MAX * (1 + 1e-9)) {
		complain("--scale %g makes the trace's peak %.0f requests/s; at most %.0f",
			options->scale, load_trace_peak(trace), LOAD_RATE_MAX);
		return -ERANGE;
	}
	return 0;
}

static int make_request(const struct load_options *options, const struct load_url *url, char **text)
{
	const char *host = options->host_header ? options->host_header : url->authority;
	const char *slash = url->path[0] == '/' ? "" : "/";

	if (asprintf(text, "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: loadgen/%s\r\n\r\n", slash,
		    url->path, host, EBBTIDE_VERSION) < 0) {
		*text = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int open_output(const char *path, FILE **file)
{
	if (!path)
		return 0;
	*file = strcmp(path, "-") ? fopen(path, "we") : stdout;
	if (*file)
		return 0;
	int rc = -errno;
	complain("cannot write %s: %s", path, strerror(-rc));
	return rc;
}

static int close_output(const char *path, FILE *file)
{
	if (!file)
		return 0;
	bool bad = ferror(file);
	bad |= (file == stdout ? fflush(file) : fclose(file)) != 0;
	if (bad)
		complain("cannot write all of %s: %s", path, strerror(errno));
	return bad ? -EIO : 0;
}

static const struct {
	const char *name;
	double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}};
#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static uint64_t count_failed(const struct load_engine *engine)
{
	uint64_t failed = 0;

	for (size_t i = 0; i < LOAD_FAILURES; i++)
		failed += engine->failed[i];
	return failed;
}

static double wall_s(const struct load_engine *engine)
{
	return engine->ended_ns > engine->started_ns
		       ? (double)(engine->ended_ns - engine->started_ns) / 1e9
		       : 0;
}

/* CPU time of this process. */
static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Null values where nothing was recorded. */
static json_t *latency_json(const struct load_histogram *histogram)
{
	json_t *object = json_object();
	bool any = histogram->count;

	for (size_t i = 0; i < QUANTILES; i++)
		json_object_set_new(object, quantiles[i].name,
			any ? json_real((double)load_histogram_quantile_ns(
						histogram, quantiles[i].share) /
					1e3)
			    : json_null());
	json_object_set_new(
		object, "max", any ? json_real((double)histogram->max_ns / 1e3) : json_null());
	json_object_set_new(object, "mean",
		any ? json_real(load_histogram_mean_ns(histogram) / 1e3) : json_null());
	return object;
}

static int write_json(FILE *file, const struct load_options *options,
	const struct load_engine *engine, const struct load_seconds *seconds)
{
	bool target = options->target_us > 0;
	json_t *failures = json_object();

	for (size_t i = 0; i < LOAD_FAILURES; i++)
		json_object_set_new(failures, load_failure_names[i],
			json_integer((json_int_t)engine->failed[i]));
	json_t *summary = json_pack("{ss sI sI sI sI so sI sI sI so so so so sf sf sb sI so so so}",
		"url", options->url, "requests_intended", (json_int_t)engine->intended, "sent",
		(json_int_t)engine->sent, "completed", (json_int_t)engine->completed, "failed",
		(json_int_t)count_failed(engine), "failed_by_cause", failures, "retried",
		(json_int_t)engine->retried, "connections_opened",
		(json_int_t)engine->connections_opened, "connections_peak",
		(json_int_t)engine->connections_peak, "ttfb_us", latency_json(&engine->ttfb),
		"total_us", latency_json(&engine->total), "service_ttfb_us",
		latency_json(&engine->service), "send_lag_us", latency_json(&engine->lag), "wall_s",
		wall_s(engine), "generator_cpu_s", cpu_s(), "interrupted", (int)engine->interrupted,
		"seconds", (json_int_t)seconds->written, "target_us",
		target ? json_real(options->target_us) : json_null(), "seconds_within_target",
		target ? json_integer((json_int_t)seconds->within_target) : json_null(),
		"requests_over_target",
		target ? json_integer((json_int_t)seconds->over_target) : json_null());
	if (!summary)
		return -ENOMEM;
	int rc = json_dumpf(summary, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) ? -EIO : 0;
	fputc('\n', file);
	json_decref(summary);
	return rc;
}

static void print_latency(const char *name, const struct load_histogram *histogram)
{
	printf("%-34s", name);
	if (!histogram->count) {
		puts("  none");
		return;
	}
	for (size_t i = 0; i < QUANTILES; i++)
		printf(" %9.3f",
			(double)load_histogram_quantile_ns(histogram, quantiles[i].share) / 1e6);
	printf(" %9.3f %9.3f\n", (double)histogram->max_ns / 1e6,
		load_histogram_mean_ns(histogram) / 1e6);
}

static void print_table(const struct load_options *options, const struct load_engine *engine,
	const struct load_seconds *seconds)
{
	uint64_t failed = count_failed(engine);
	double wall = wall_s(engine);

	printf("%s%s\n", options->url, engine->interrupted ? " (interrupted)" : "");
	printf("requests       %" PRIu64 " intended, %" PRIu64 " sent, %" PRIu64
	       " completed, %" PRIu64 " failed, %.1f completed/s over %.1f s\n",
		engine->intended, engine->sent, engine->completed, failed,
		wall > 0 ? (double)engine->completed / wall : 0, wall);
	if (failed) {
		printf("failed by      ");
		const char *separator = "";
		for (size_t i = 0; i < LOAD_FAILURES; i++) {
			if (!engine->failed[i])
				continue;
			printf("%s%s %" PRIu64, separator, load_failure_names[i],
				engine->failed[i]);
			separator = ", ";
		}
		putchar('\n');
	}
	printf("connections    %zu opened, %zu at most at a time, %" PRIu64 " requests retried\n",
		engine->connections_opened, engine->connections_peak, engine->retried);
	printf("%-34s", "latency, ms");
	for (size_t i = 0; i < QUANTILES; i++)
		printf(" %9s", quantiles[i].name);
	printf(" %9s %9s\n", "max", "mean");
	print_latency("  first byte, from intended send", &engine->ttfb);
	print_latency("  last byte, from intended send", &engine->total);
	print_latency("  first byte, from actual send", &engine->service);
	print_latency("  sender awake, from intended send", &engine->lag);
	if (options->target_us > 0)
		printf("target         %.3f ms: %zu of %zu seconds within, %" PRIu64
		       " requests over or failed\n",
			options->target_us / 1e3, seconds->within_target, seconds->written,
			seconds->over_target);
	printf("generator      %.2f s CPU, %.1f %% of a core\n", cpu_s(),
		wall > 0 ? 100 * cpu_s() / wall : 0);
}

static void allow_descriptors(size_t connections)
{
	struct rlimit limit;

	/* Some for files; a lower hard limit shows as connect failures. */
	rlim_t wanted = connections + 64;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		complain("cannot open %zu connections at a time: %s", connections, strerror(errno));
}

/*
 * Ahead of what it measures: a sender that waits for a core would add its own delay to the server's.
 * It needs a few percent of a core, so it takes little from the server. Without the right to do so
 * "send_lag_us" shows what that costs.
 */
static void raise_priority(void)
{
	const struct sched_param realtime = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_RR, &realtime))
		setpriority(PRIO_PROCESS, 0, -20);
}

/* @unblocked lets the two signals in during epoll_pwait2() only. */
static void catch_signals(sigset_t *unblocked)
{
	const struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, unblocked);
	sigdelset(unblocked, SIGINT);
	sigdelset(unblocked, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* The trace, the outputs and the request are ready: play and report. */
static int play(const struct load_options *options, struct load_engine *engine,
	const struct load_trace *trace, FILE *second_file, FILE *json_file)
{
	struct load_seconds *seconds = &engine->seconds;
	sigset_t unblocked;

	int rc = load_seconds_init(seconds, trace->seconds, options->target_us, second_file);
	if (rc) {
		complain("cannot count %zu seconds: %s", trace->seconds, strerror(-rc));
		return rc;
	}
	load_arrivals_init(&engine->arrivals, trace, options->arrivals, (uint64_t)options->seed);
	engine->interrupts = &interrupts;
	engine->connections_max = (size_t)options->connections;
	engine->timeout_ns = (uint64_t)(options->timeout_ms * 1e6);
	allow_descriptors(engine->connections_max);
	raise_priority();
	catch_signals(&unblocked);

	rc = load_engine_run(engine, &unblocked);
	if (rc) {
		complain("the load ended early: %s", strerror(-rc));
		goto out;
	}
	if (json_file)
		rc = write_json(json_file, options, engine, seconds);
	if (json_file != stdout)
		print_table(options, engine, seconds);
	if (!rc && engine->intended && !engine->completed) {
		complain("none of %" PRIu64 " requests to %s succeeded", engine->intended,
			options->url);
		rc = -EIO;
	}
out:
	load_seconds_free(seconds);
	return rc;
}

int main(int argc, char **argv)
{
	struct load_options options;
	struct load_url url = {0};
	struct load_trace trace = {0};
	struct addrinfo *addresses = NULL;
	const struct addrinfo *address;
	struct load_engine *engine = NULL;
	char *request = NULL;
	FILE *second_file = NULL, *json_file = NULL;

	int rc = parse_options(argc, argv, &options);
	if (rc)
		return rc > 0 ? EXIT_OK : EXIT_USAGE;
	if (check_options(&options) || parse_url(options.url, &url))
		return EXIT_USAGE;
	rc = resolve(&url, options.allow_remote, &addresses, &address);
	if (!rc)
		rc = make_trace(&options, &trace);
	if (!rc)
		rc = make_request(&options, &url, &request);
	if (!rc)
		rc = open_output(options.second_path, &second_file);
	if (!rc)
		rc = open_output(options.json_path, &json_file);
	if (rc)
		goto out;

	/* About a megabyte of histograms: not for the stack. */
	engine = calloc(1, sizeof(*engine));
	if (!engine) {
		rc = -ENOMEM;
		complain("out of memory");
		goto out;
	}
	engine->address = address->ai_addr;
	engine->address_length = address->ai_addrlen;
	engine->request_text = request;
	engine->request_length = strlen(request);
	rc = play(&options, engine, &trace, second_file, json_file);
out:
	if (close_output(options.second_path, second_file) && !rc)
		rc = -EIO;
	if (close_output(options.json_path, json_file) && !rc)
		rc = -EIO;
	free(engine);
	free(request);
	load_trace_free(&trace);
	if (addresses)
		freeaddrinfo(addresses);
	return rc ? EXIT_FAILED : EXIT_OK;
}
