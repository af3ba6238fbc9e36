// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *log_program = "ebbtide";
static enum log_level log_threshold = LOG_LEVEL_INFO;

static const struct {
	enum log_level level;
	const char *name;
} log_names[] = {
	{LOG_LEVEL_ERR, "err"},
	{LOG_LEVEL_WARNING, "warning"},
	{LOG_LEVEL_NOTICE, "notice"},
	{LOG_LEVEL_INFO, "info"},
	{LOG_LEVEL_DEBUG, "debug"},
};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_threshold = level;
}

int log_parse_level(const char *name)
{
	for (size_t i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++)
		if (strcmp(log_names[i].name, name) == 0)
			return log_names[i].level;
	return -EINVAL;
}

static const char *level_name(enum log_level level)
{
	for (size_t i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++)
		if (log_names[i].level == level)
			return log_names[i].name;
	return "unknown";
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[2048];
	struct timespec now;
	struct tm utc;
	va_list args;
	int used;

	if (level > log_threshold)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	used = snprintf(line, sizeof(line), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s ",
		utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
		utc.tm_sec, now.tv_nsec / 1000000, log_program, level_name(level));
	va_start(args, format);
	used += vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	if (used > (int)sizeof(line) - 2)
		used = (int)sizeof(line) - 2;
	line[used++] = '\n';
	/* One write a line, so that lines of several threads never mix. */
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		return;
}
