// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/simulate_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 256

/* One line without its comment and end; 1, 0 at the end of the file, -EINVAL: longer than that. */
static int read_line(FILE *file, char line[LINE_SIZE], uint32_t *number)
{
	if (!fgets(line, LINE_SIZE, file))
		return 0;
	(*number)++;
	if (!strchr(line, '\n') && strlen(line) == LINE_SIZE - 1) {
		int next = 0;

		if (!strchr(line, '#'))
			return -EINVAL;
		/* A comment may be longer. */
		while (next != EOF && next != '\n')
			next = fgetc(file);
	}
	line[strcspn(line, "#\r\n")] = '\0';
	return 1;
}

static bool parse_number(const char *text, double *value)
{
	char *end;

	*value = strtod(text, &end);
	return end != text && !end[strspn(end, " \t")] && isfinite(*value);
}

static int open_file(const char *path, FILE **file, char *error, size_t error_size)
{
	int err;

	*file = fopen(path, "re");
	if (*file)
		return 0;
	err = -errno;
	snprintf(error, error_size, "cannot open %s: %s", path, strerror(-err));
	return err;
}

static const struct simulate_field *find_field(const char *name)
{
	for (size_t i = 0; i < simulate_field_count; i++)
		if (strcmp(simulate_fields[i].name, name) == 0)
			return &simulate_fields[i];
	return NULL;
}

/* `name value`; NULL, or what is wrong with it. */
static const char *apply_line(
	char *line, struct simulate_service *service, char *reason, size_t reason_size)
{
	char *name = line + strspn(line, " \t"), *text;
	const struct simulate_field *field;
	double value;

	if (!*name)
		return NULL;
	text = name + strcspn(name, " \t");
	if (*text)
		*text++ = '\0';
	field = find_field(name);
	if (!field) {
		snprintf(reason, reason_size, "no parameter '%.40s'; docs/simulator.md lists them",
			name);
		return reason;
	}
	if (!parse_number(text, &value)) {
		snprintf(reason, reason_size, "%s: '%.40s' is not a number", name, text);
		return reason;
	}
	if (simulate_service_set(service, name, value)) {
		snprintf(reason, reason_size, "%s: %g is not a%s number from %g to %g", name, value,
			field->whole ? " whole" : "", field->lowest, field->highest);
		return reason;
	}
	return NULL;
}

int simulate_file_read(
	const char *path, struct simulate_service *service, char *error, size_t error_size)
{
	struct simulate_service parsed = *service;
	char line[LINE_SIZE], reason[160];
	const char *wrong = NULL;
	uint32_t number = 0;
	FILE *file;
	int more, err = open_file(path, &file, error, error_size);

	if (err)
		return err;
	while (!wrong && (more = read_line(file, line, &number)) != 0)
		wrong = more < 0 ? "longer than any parameter"
				 : apply_line(line, &parsed, reason, sizeof(reason));
	if (wrong) {
		snprintf(error, error_size, "%s line %u: %s", path, number, wrong);
		err = -EINVAL;
	} else if (ferror(file)) {
		snprintf(error, error_size, "cannot read %s after line %u", path, number);
		err = -EIO;
	}
	fclose(file);
	if (!err)
		*service = parsed;
	return err;
}

int simulate_file_write(FILE *file, const struct simulate_service *service, const char *comment)
{
	while (comment && *comment) {
		size_t length = strcspn(comment, "\n");

		fprintf(file, "# %.*s\n", (int)length, comment);
		comment += length + (comment[length] == '\n');
	}
	for (size_t i = 0; i < simulate_field_count; i++) {
		const struct simulate_field *field = &simulate_fields[i];
		const void *value = (const char *)service + field->offset;

		fprintf(file, "%-26s %-12.10g # %s\n", field->name, *(const double *)value,
			field->text);
	}
	return ferror(file) ? -EIO : 0;
}

static int append_rate(double **rates, uint32_t *count, double rate)
{
	/* Grown when the length is a power of two: no capacity to keep. */
	if (!(*count & (*count - 1))) {
		size_t room = *count ? *count * 2 : 1;
		double *grown = realloc(*rates, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		*rates = grown;
	}
	(*rates)[(*count)++] = rate;
	return 0;
}

int simulate_trace_read(const char *path, uint32_t every, double **rates, uint32_t *seconds,
	char *error, size_t error_size)
{
	uint32_t number = 0, second = 0;
	char line[LINE_SIZE];
	double rate = 0;
	FILE *file;
	int more, err = open_file(path, &file, error, error_size);

	*rates = NULL;
	*seconds = 0;
	if (err)
		return err;
	while (!err && (more = read_line(file, line, &number)) != 0) {
		if (more > 0 && !line[strspn(line, " \t")])
			continue;
		if (more < 0 || !parse_number(line, &rate) || rate < 0 || rate > 1e7) {
			snprintf(error, error_size,
				"%s line %u: '%.40s' is not a number of requests from 0 to 1e7",
				path, number, line);
			err = -EINVAL;
		} else if (second++ % every == 0) {
			err = *seconds < SIMULATE_TRACE_MAX ? append_rate(rates, seconds, rate)
							    : -E2BIG;
			if (err)
				snprintf(error, error_size, "%s line %u: %s", path, number,
					err == -E2BIG ? "too many seconds; take fewer with --every"
						      : "out of memory");
		}
	}
	if (!err && ferror(file)) {
		snprintf(error, error_size, "cannot read %s after line %u", path, number);
		err = -EIO;
	} else if (!err && *seconds == 0) {
		snprintf(error, error_size, "%s has no line with a rate", path);
		err = -EINVAL;
	}
	fclose(file);
	if (err) {
		free(*rates);
		*rates = NULL;
		*seconds = 0;
	}
	return err;
}
