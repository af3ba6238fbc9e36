// SPDX-License-Identifier: Apache-2.0
#include "ctl/trace_text.h"

#include <string.h>
#include <time.h>

#define WATERFALL_COLUMNS 60
#define PATH_COLUMNS	  28
#define POD_COLUMNS	  30

static void time_of_day(uint64_t time_us, char out[32])
{
	time_t seconds = (time_t)(time_us / 1000000);
	struct tm local;

	localtime_r(&seconds, &local);
	snprintf(out, 32, "%02d:%02d:%02d.%06u", local.tm_hour, local.tm_min, local.tm_sec,
		(unsigned int)(time_us % 1000000));
}

/* As much as fits; that something is missing is seen by its last three dots. */
static void cut(const char *text, size_t columns, bool keep_end, char *out)
{
	size_t length = strlen(text);

	if (length <= columns)
		snprintf(out, columns + 1, "%s", text);
	else if (keep_end)
		snprintf(out, columns + 1, "...%s", text + length - (columns - 3));
	else
		snprintf(out, columns + 1, "%.*s...", (int)columns - 3, text);
}

static void status_text(const struct trace_event *event, char out[12])
{
	if (event->failed)
		snprintf(out, 12, "fail");
	else if (event->grpc_status > 0)
		snprintf(out, 12, "g%d", event->grpc_status);
	else if (event->status)
		snprintf(out, 12, "%u", event->status);
	else
		snprintf(out, 12, "-");
}

/* "72% throttled": where most of the time went. */
static void most_text(const struct trace_event *event, char out[24])
{
	int most = 0;

	out[0] = '\0';
	if (!event->has_parts || !event->latency_ns)
		return;
	for (int part = 1; part < PARTS; part++)
		if (event->parts_ns[part] > event->parts_ns[most])
			most = part;
	snprintf(out, 24, "%3.0f%% %s",
		100.0 * (double)event->parts_ns[most] / (double)event->latency_ns,
		trace_part_names[most]);
}

static void process_text(const struct trace_event *event, char out[32])
{
	if (event->pid)
		snprintf(out, 32, "%s[%u]", event->comm[0] ? event->comm : "?", event->pid);
	else
		snprintf(out, 32, "-");
}

void trace_text_header(FILE *out)
{
	fprintf(out, "%-15s %10s %4s %-7s %-*s %-17s %-*s %-22s %s\n", "TIME", "MS", "STAT",
		"METHOD", PATH_COLUMNS, "PATH", "MOST OF IT", POD_COLUMNS, "POD", "PROCESS",
		"PEER");
}

void trace_text_line(FILE *out, const struct trace_event *event, bool colour)
{
	char moment[32], status[12], most[24], process[32];
	char path[PATH_COLUMNS + 1], pod[POD_COLUMNS + 1];
	bool red = colour && (event->error || event->kind == TRACE_OOM);

	if (event->kind == TRACE_MISSED) {
		fprintf(out, "(%llu came faster than they were read)\n",
			(unsigned long long)event->missed);
		return;
	}
	time_of_day(event->time_us, moment);
	process_text(event, process);
	/* What tells pods of one service apart is at the end. */
	cut(event->pod, POD_COLUMNS, true, pod);
	if (red)
		fputs("\033[31m", out);
	if (event->kind == TRACE_OOM) {
		fprintf(out, "%-15s %10s %4s %-7s %-*s %-17s %-*s %s", moment, "-", "OOM", "",
			PATH_COLUMNS, "killed: out of memory", "", POD_COLUMNS, pod, process);
	} else if (event->kind == TRACE_REFILL) {
		snprintf(most, sizeof(most), "oldest %.1f ms", event->oldest_us / 1000);
		snprintf(path, sizeof(path), "refilled by %.1f ms", event->granted_us / 1000);
		fprintf(out, "%-15s %10s %4s %-7s %-*s %-17s %-*s", moment, "-", "", "",
			PATH_COLUMNS, path, most, POD_COLUMNS, pod);
	} else {
		status_text(event, status);
		most_text(event, most);
		cut(event->path[0] ? event->path : "-", PATH_COLUMNS, false, path);
		fprintf(out, "%-15s %10.3f %4s %-7s %-*s %-17s %-*s %-22s %s%s:%u", moment,
			(double)event->latency_ns / 1e6, status,
			event->method[0] ? event->method : event->protocol, PATH_COLUMNS, path,
			most, POD_COLUMNS, pod, process, event->is_call ? "to " : "", event->peer,
			event->peer_port);
	}
	fputs(red ? "\033[0m\n" : "\n", out);
}

void trace_text_waterfall(FILE *out, const struct trace_event *event)
{
	uint64_t passed_ns = 0;

	if (event->kind != TRACE_REQUEST)
		return;
	if (!event->has_parts || !event->latency_ns) {
		fprintf(out, "  (%s)\n\n",
			event->is_call ? "a call to another: its parts are the other's"
				       : "not followed in detail");
		return;
	}
	for (int part = 0; part < PARTS; part++) {
		uint64_t ns = event->parts_ns[part];
		double scale = WATERFALL_COLUMNS / (double)event->latency_ns;
		int from = (int)((double)passed_ns * scale + 0.5);
		int to = (int)((double)(passed_ns + ns) * scale + 0.5);
		char bar[WATERFALL_COLUMNS + 1];

		passed_ns += ns;
		memset(bar, ' ', WATERFALL_COLUMNS);
		bar[WATERFALL_COLUMNS] = '\0';
		if (to > WATERFALL_COLUMNS)
			to = WATERFALL_COLUMNS;
		if (from < to)
			memset(bar + from, '#', (size_t)(to - from));
		else if (ns)
			/* Too short for a column, but there. */
			bar[from < WATERFALL_COLUMNS ? from : WATERFALL_COLUMNS - 1] = '.';
		fprintf(out, "  %-12s |%s| %10.3f ms %5.1f %%\n", trace_part_names[part], bar,
			(double)ns / 1e6, 100.0 * (double)ns / (double)event->latency_ns);
	}
	fputc('\n', out);
}
