// SPDX-License-Identifier: Apache-2.0
#include "ctl/moment.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_US 1000000.0
#define DAY_S	  86400

/* ".25" -> microseconds, and where it ends. */
static const char *fraction_parse(const char *text, uint64_t *us)
{
	uint64_t unit = 100000;

	*us = 0;
	if (*text != '.' || !isdigit((unsigned char)text[1]))
		return text;
	for (text++; isdigit((unsigned char)*text); text++, unit /= 10)
		*us += (uint64_t)(*text - '0') * unit;
	return text;
}

/* "-30s", "-1.5h". */
static int before_parse(const char *text, uint64_t now_us, uint64_t *time_us)
{
	static const struct {
		const char *name;
		double us;
	} units[] = {{"ms", 1000}, {"s", SECOND_US}, {"m", 60 * SECOND_US}, {"h", 3600 * SECOND_US},
		{"d", DAY_S * SECOND_US}};
	double value, back = -1;
	char *unit;

	if (!isdigit((unsigned char)text[1]))
		return -EINVAL;
	value = strtod(text + 1, &unit);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(unit, units[i].name) == 0)
			back = value * units[i].us;
	if (!(back >= 0 && back < (double)now_us))
		return -EINVAL;
	*time_us = now_us - (uint64_t)back;
	return 0;
}

/* The clock of today, or of yesterday when that is still to come. */
static int clock_parse(const char *text, uint64_t now_us, uint64_t *time_us)
{
	time_t now_s = (time_t)(now_us / 1000000), found_s;
	struct tm local, typed;
	uint64_t fraction_us;
	const char *end;

	localtime_r(&now_s, &local);
	typed = local;
	typed.tm_sec = 0;
	end = strptime(text, "%H:%M:%S", &typed);
	if (!end)
		end = strptime(text, "%H:%M", &typed);
	if (!end || *fraction_parse(end, &fraction_us))
		return -EINVAL;
	typed.tm_isdst = -1;
	found_s = mktime(&typed);
	if (found_s > now_s) {
		typed.tm_mday--;
		typed.tm_isdst = -1;
		found_s = mktime(&typed);
	}
	*time_us = (uint64_t)found_s * 1000000 + fraction_us;
	return 0;
}

/* "Z", "+01:00" or nothing; seconds east of UTC. */
static int zone_parse(const char *text, bool *local, long *east_s)
{
	unsigned int hours, minutes;
	int length = 0;

	*local = !*text;
	*east_s = 0;
	if (!*text || strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
		return 0;
	if ((*text != '+' && *text != '-') ||
		sscanf(text + 1, "%2u:%2u%n", &hours, &minutes, &length) != 2 || length != 5 ||
		text[6] || hours > 23 || minutes > 59)
		return -EINVAL;
	*east_s = (long)(hours * 3600 + minutes * 60) * (*text == '-' ? -1 : 1);
	return 0;
}

static int date_parse(const char *text, uint64_t *time_us)
{
	struct tm typed = {.tm_isdst = -1};
	const char *end = strptime(text, "%Y-%m-%d", &typed);
	uint64_t fraction_us;
	time_t found_s;
	bool local;
	long east_s;

	if (!end || (*end != 'T' && *end != 't' && *end != ' '))
		return -EINVAL;
	end = strptime(end + 1, "%H:%M:%S", &typed);
	if (!end)
		return -EINVAL;
	end = fraction_parse(end, &fraction_us);
	if (zone_parse(end, &local, &east_s))
		return -EINVAL;
	found_s = local ? mktime(&typed) : timegm(&typed) - east_s;
	if (found_s < 0)
		return -EINVAL;
	*time_us = (uint64_t)found_s * 1000000 + fraction_us;
	return 0;
}

int moment_parse(const char *text, uint64_t now_us, uint64_t *time_us)
{
	if (text[0] == '-')
		return before_parse(text, now_us, time_us);
	if (strchr(text, '-'))
		return date_parse(text, time_us);
	return clock_parse(text, now_us, time_us);
}

void moment_format(uint64_t time_us, char *out, size_t size)
{
	time_t seconds = (time_t)(time_us / 1000000);
	char day[32];
	struct tm local;

	localtime_r(&seconds, &local);
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &local);
	snprintf(out, size, "%s.%03u", day, (unsigned int)(time_us / 1000 % 1000));
}
