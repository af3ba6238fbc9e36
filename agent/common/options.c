// SPDX-License-Identifier: Apache-2.0
#include "common/options.h"

#include "common/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

int options_whole(const char *program, const char *option, const char *text, uint32_t lowest,
	uint32_t highest, uint32_t *value)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	/* strtoul() takes a sign and turns it round. */
	if (*text < '0' || *text > '9' || *end || number < lowest || number > highest) {
		fprintf(stderr, "%s: --%s: \"%s\" is not a number from %u to %u\n", program, option,
			text, lowest, highest);
		return -EINVAL;
	}
	*value = (uint32_t)number;
	return 0;
}

int options_real(const char *program, const char *option, const char *text, double lowest,
	double highest, double *value)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end || !(number >= lowest && number <= highest)) {
		fprintf(stderr, "%s: --%s: \"%s\" is not a number from %g to %g\n", program, option,
			text, lowest, highest);
		return -EINVAL;
	}
	*value = number;
	return 0;
}

int options_log_level(const char *program, const char *text)
{
	int level = log_parse_level(text);

	if (level < 0) {
		fprintf(stderr,
			"%s: --log-level: \"%s\" is not one of err, warning, notice, info, debug\n",
			program, text);
		return -EINVAL;
	}
	log_init(program, (enum log_level)level);
	return 0;
}

int options_stray(const char *program, int argc, char **argv)
{
	if (optind >= argc)
		return 0;
	fprintf(stderr, "%s: \"%s\" is not an option. Try --help.\n", program, argv[optind]);
	return -EINVAL;
}

int options_refer(const char *program)
{
	fprintf(stderr, "Try '%s --help'.\n", program);
	return -EINVAL;
}
