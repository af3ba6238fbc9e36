// SPDX-License-Identifier: Apache-2.0
#include "learner/simulator/calibrate_read.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MOST 0x1p52 /* whole numbers up to here are exact in a double */

struct reading {
	struct calibrate_filter filter;
	char namespace[64];
	char service[256];
	char agent[256];
	bool found;
	struct sample *samples;
	uint32_t count;
	uint32_t room;
	const char *path;
	uint32_t line;
	char *error;
	size_t error_size;
};

static int refuse(struct reading *reading, int err, const char *what)
{
	snprintf(reading->error, reading->error_size, "%s line %u: %s", reading->path,
		reading->line, what);
	return err;
}

/* A missing field stays 0, as in the wire format. */
static int read_field(
	struct reading *reading, const json_t *object, const char *name, double *value)
{
	const json_t *field = json_object_get(object, name);
	char what[96];

	*value = 0;
	if (!field)
		return 0;
	*value = json_number_value(field);
	if (json_is_number(field) && *value >= 0 && *value <= VALUE_MOST)
		return 0;
	snprintf(what, sizeof(what), "sample.%s is not a number from 0 to %g", name, VALUE_MOST);
	return refuse(reading, -EINVAL, what);
}

static int read_sample(struct reading *reading, const json_t *object, struct sample *sample)
{
	double value;

#define X(field)                                                                                   \
	if (read_field(reading, object, #field, &value))                                           \
		return -EINVAL;                                                                    \
	sample->field = (typeof(sample->field))value;
	SAMPLE_FIELDS(X)
#undef X
	if (sample->tick_s < 0.01 || sample->tick_s > 60)
		return refuse(reading, -EINVAL, "sample.tick_s is not from 0.01 to 60");
	return 0;
}

static bool text_is(const json_t *object, const char *key, const char *wanted)
{
	const char *text = json_string_value(json_object_get(object, key));

	return !wanted || strcmp(text ? text : "", wanted) == 0;
}

static void copy_text(char *out, size_t size, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	snprintf(out, size, "%s", text ? text : "");
}

/* Whether a line is of the unit that is read; the first that fits decides which that is. */
static int line_fits(struct reading *reading, const json_t *object, bool *fits)
{
	const struct calibrate_filter *filter = &reading->filter;

	*fits = text_is(object, "namespace", filter->namespace) &&
		text_is(object, "service", filter->service) &&
		text_is(object, "agent", filter->agent);
	if (!*fits)
		return 0;
	if (!reading->found) {
		reading->found = true;
		copy_text(reading->namespace, sizeof(reading->namespace), object, "namespace");
		copy_text(reading->service, sizeof(reading->service), object, "service");
		copy_text(reading->agent, sizeof(reading->agent), object, "agent");
	}
	if (!text_is(object, "namespace", reading->namespace) ||
		!text_is(object, "service", reading->service))
		return refuse(reading, -EINVAL,
			"another service; choose one with --service NAMESPACE/NAME");
	*fits = text_is(object, "agent", reading->agent);
	return 0;
}

static int add_sample(struct reading *reading, const struct sample *sample)
{
	if (reading->count == CALIBRATE_SAMPLES_MAX)
		return refuse(reading, -E2BIG, "more than a million samples; give a part of it");
	if (reading->count == reading->room) {
		uint32_t room = reading->room ? 2 * reading->room : 256;
		struct sample *grown = realloc(reading->samples, room * sizeof(*grown));

		if (!grown)
			return refuse(reading, -ENOMEM, "out of memory");
		reading->samples = grown;
		reading->room = room;
	}
	reading->samples[reading->count++] = *sample;
	return 0;
}

static int read_line(struct reading *reading, const char *text)
{
	struct sample sample = {0};
	json_error_t why;
	json_t *object = json_loads(text, 0, &why);
	const json_t *measured;
	bool fits = false;
	int err = 0;

	if (!json_is_object(object)) {
		json_decref(object);
		return refuse(reading, -EINVAL, "not a JSON object");
	}
	measured = json_object_get(object, "sample");
	if (json_is_object(measured))
		err = line_fits(reading, object, &fits);
	if (!err && fits)
		err = read_sample(reading, measured, &sample);
	if (!err && fits)
		err = add_sample(reading, &sample);
	json_decref(object);
	return err;
}

int calibrate_read(FILE *file, const char *path, const struct calibrate_filter *filter,
	struct sample **samples, uint32_t *count, char *name, size_t name_size, char *error,
	size_t error_size)
{
	struct reading reading = {
		.filter = *filter, .path = path, .error = error, .error_size = error_size};
	char *text = NULL;
	size_t size = 0;
	int err = 0;

	while (!err && getline(&text, &size, file) > 0) {
		reading.line++;
		if (text[strspn(text, " \t\r\n")])
			err = read_line(&reading, text);
	}
	if (!err && ferror(file))
		err = refuse(&reading, -EIO, "cannot be read");
	if (!err && reading.count == 0) {
		snprintf(error, error_size,
			"%s: no sample of that service in %u lines; the learner writes them with "
			"--decisions FILE",
			path, reading.line);
		err = -ENODATA;
	}
	free(text);
	if (err) {
		free(reading.samples);
		return err;
	}
	snprintf(name, name_size, "%s/%s on %s", reading.namespace, reading.service, reading.agent);
	*samples = reading.samples;
	*count = reading.count;
	return 0;
}
