// SPDX-License-Identifier: Apache-2.0
/* Decisions from the learner's decisions file, in one pass. */
#include "ctl/explain_source.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nodes of one service that are told apart. */
#define STREAMS_MAX 16384

/* The newest of one unit, or (with an empty agent) of the service's replicas. */
struct stream {
	char agent[256];
	json_t *window;	      /* array, owned */
	json_int_t newest_us; /* decision by then; 0: none */
	bool told;	      /* what came after it is in the window */
};

struct reading {
	const struct explain_question *question;
	const char *path;
	char quoted[320]; /* "NAME" */
	char namespace[64];
	char service[256];
	unsigned long line;
	struct stream *streams;
	size_t count;
	char *error;
	size_t error_size;
};

static const char *text(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	return value ? value : "";
}

static int refuse(struct reading *reading, int err, const char *what)
{
	snprintf(reading->error, reading->error_size, "%s line %lu: %s", reading->path,
		reading->line, what);
	return err;
}

/* Whether it is of the service that was asked for; the first that fits decides on the namespace. */
static int line_fits(struct reading *reading, const json_t *line, bool *fits)
{
	const char *name = reading->question->service, *slash = strchr(name, '/');
	const char *namespace = text(line, "namespace"), *service = text(line, "service");

	*fits = strcmp(service, slash ? slash + 1 : name) == 0 &&
		(!slash || (strncmp(namespace, name, (size_t)(slash - name)) == 0 &&
				   strlen(namespace) == (size_t)(slash - name)));
	if (!*fits)
		return 0;
	if (!reading->service[0]) {
		snprintf(reading->namespace, sizeof(reading->namespace), "%s", namespace);
		snprintf(reading->service, sizeof(reading->service), "%s", service);
	}
	if (strcmp(namespace, reading->namespace) == 0)
		return 0;
	snprintf(reading->error, reading->error_size,
		"%s: \"%s\" is in several namespaces; give %s/%s or %s/%s", reading->path, name,
		reading->namespace, name, namespace, name);
	return -EINVAL;
}

static struct stream *stream_get(struct reading *reading, const char *agent)
{
	struct stream *grown;

	/* What was read last is mostly read next. */
	for (size_t i = reading->count; i > 0; i--)
		if (strcmp(reading->streams[i - 1].agent, agent) == 0)
			return &reading->streams[i - 1];
	if (reading->count == STREAMS_MAX)
		return NULL;
	grown = realloc(reading->streams, (reading->count + 1) * sizeof(*grown));
	if (!grown)
		return NULL;
	reading->streams = grown;
	grown = &reading->streams[reading->count];
	memset(grown, 0, sizeof(*grown));
	snprintf(grown->agent, sizeof(grown->agent), "%s", agent);
	grown->window = json_array();
	if (!grown->window)
		return NULL;
	reading->count++;
	return grown;
}

/* Keep a line if it is one of the newest by then, or says what came of the last of them. */
static void stream_take(
	struct stream *stream, const struct explain_question *question, json_t *line)
{
	json_int_t time_us = json_integer_value(json_object_get(line, "time_us"));
	bool decision = strcmp(text(line, "kind"), "sample") != 0;
	bool measured = json_object_get(line, "sample") || json_object_get(line, "period");

	if ((uint64_t)time_us > question->at_us || !decision) {
		/* A unit on which nothing is decided any more says what came of the last, too. */
		if (stream->newest_us && !stream->told &&
			json_array_append(stream->window, line) == 0)
			stream->told = measured;
		return;
	}
	if (json_array_append(stream->window, line))
		return;
	stream->newest_us = time_us;
	stream->told = false;
	/* One before them for the gap; samples and what is pushed may stand between them. */
	if (json_array_size(stream->window) > 2 * (question->count + 2))
		json_array_remove(stream->window, 0);
}

static int line_read(struct reading *reading, const char *line, bool whole)
{
	json_t *object = NULL;
	struct stream *stream;
	bool fits = false;
	int err = 0;

	if (!strstr(line, reading->quoted))
		return 0;
	object = json_loads(line, 0, NULL);
	if (!json_is_object(object)) {
		json_decref(object);
		/* The last one may be under way. */
		return whole ? refuse(reading, -EINVAL, "not a JSON object") : 0;
	}
	err = line_fits(reading, object, &fits);
	if (!err && fits && json_is_integer(json_object_get(object, "time_us"))) {
		stream = stream_get(reading, text(object, "agent"));
		if (stream)
			stream_take(stream, reading->question, object);
		else
			err = refuse(reading, -ENOMEM, "out of memory");
	}
	json_decref(object);
	return err;
}

/* The one that was asked for, or the one with the newest decision. */
static const struct stream *unit_choose(const struct reading *reading)
{
	const struct stream *best = NULL;

	for (size_t i = 0; i < reading->count; i++) {
		const struct stream *stream = &reading->streams[i];

		if (!stream->agent[0] || !stream->newest_us)
			continue;
		if (reading->question->unit) {
			if (strcmp(stream->agent, reading->question->unit) == 0)
				return stream;
		} else if (!best || stream->newest_us > best->newest_us) {
			best = stream;
		}
	}
	return best;
}

static int answer_make(struct reading *reading, json_t **answer)
{
	const struct explain_question *question = reading->question;
	const struct stream *unit = unit_choose(reading);
	json_t *units = json_array(), *decisions = json_array();

	for (size_t i = 0; i < reading->count; i++) {
		const struct stream *stream = &reading->streams[i];

		if (stream->agent[0])
			json_array_append_new(units, json_string(stream->agent));
		if (stream == unit || (!stream->agent[0] && stream->newest_us))
			json_array_extend(decisions, stream->window);
	}
	*answer = json_pack("{s:s, s:s, s:o, s:o}", "namespace", reading->namespace, "service",
		reading->service, "units", units, "decisions", decisions);
	if (!*answer)
		return refuse(reading, -ENOMEM, "out of memory");
	if (json_array_size(decisions) && (unit || !question->unit))
		return 0;
	snprintf(reading->error, reading->error_size, "%s: no decision on %s%s%s%s in %lu lines",
		reading->path, question->service, question->unit ? " on node " : "",
		question->unit ? question->unit : "",
		question->at_us == UINT64_MAX ? "" : " by that time", reading->line);
	json_decref(*answer);
	*answer = NULL;
	return -ENOENT;
}

int explain_read(const char *path, const struct explain_question *question, json_t **answer,
	char *error, size_t error_size)
{
	struct reading reading = {
		.question = question, .path = path, .error = error, .error_size = error_size};
	const char *slash = strchr(question->service, '/');
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t size;
	int err = 0;

	*answer = NULL;
	if (!file) {
		err = -errno;
		snprintf(error, error_size,
			"%s: %s; it is what the learner writes with --decisions FILE", path,
			strerror(-err));
		return err;
	}
	snprintf(reading.quoted, sizeof(reading.quoted), "\"%s\"",
		slash ? slash + 1 : question->service);
	while (!err && (size = getline(&line, &room, file)) > 0) {
		reading.line++;
		err = line_read(&reading, line, line[size - 1] == '\n');
	}
	if (!err && ferror(file))
		err = refuse(&reading, -EIO, "cannot be read");
	if (!err)
		err = answer_make(&reading, answer);
	for (size_t i = 0; i < reading.count; i++)
		json_decref(reading.streams[i].window);
	free(reading.streams);
	free(line);
	if (file != stdin)
		fclose(file);
	return err;
}
