// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/dump.h"

#include "common/state.h"
#include "learner/storage/experience_log.h"
#include "learner/storage/sequences.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dump {
	const char *policy;
	uint32_t actions;
};

static void line_print(json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

	if (text)
		puts(text);
	free(text);
	json_decref(line);
}

static json_t *experience_of(const struct experience *experience)
{
	static const char *const ends[] = {"continues", "terminal", "truncated"};

	return json_pack("{s:s, s:s, s:i, s:f, s:s, s:I}", "namespace", experience->namespace,
		"service", experience->service, "action", (int)experience->action, "reward",
		(double)experience->reward, "end", ends[experience->end], "next_mask",
		(json_int_t)experience->next_mask);
}

static void batch_add_to(json_t *line, struct batch_reader *reader)
{
	json_t *experiences = json_array();
	struct experience experience;

	json_object_update_new(line, json_pack("{s:s, s:I, s:I}", "agent", reader->source.agent,
					     "incarnation", (json_int_t)reader->source.incarnation,
					     "sequence", (json_int_t)reader->source.sequence));
	while (batch_read(reader, &experience))
		json_array_append_new(experiences, experience_of(&experience));
	json_object_set_new(line, "experiences", experiences);
}

static uint32_t on_record(void *context, const char *path, const struct segment_record *record)
{
	const struct dump *dump = context;
	const char *file = strrchr(path, '/');
	struct batch_reader reader;
	bool is_batch = batch_reader_init(&reader, record, STATE_SIZE, dump->actions) == 0;
	const char *kind = is_batch ? "experiences" : "unknown";
	json_t *line;

	if (record->type == SEGMENT_SEQUENCES)
		kind = "sequences";
	line = json_pack("{s:s, s:I, s:I, s:s, s:s, s:i, s:I}", "file", file ? file + 1 : path,
		"offset", (json_int_t)record->offset, "bytes", (json_int_t)record->size, "policy",
		dump->policy, "kind", kind, "schema", (int)record->schema, "time_us",
		(json_int_t)record->time_us);
	if (line && is_batch)
		batch_add_to(line, &reader);
	line_print(line);
	return 0;
}

static void on_damage(void *context, const char *path, uint64_t offset, uint64_t bytes, bool torn)
{
	(void)context;
	fprintf(stderr, "ebbtide-learner: %s: %llu bytes at %llu are %s\n", path,
		(unsigned long long)bytes, (unsigned long long)offset,
		torn ? "torn, or being written" : "damaged");
}

int dump_replay(const char *directory)
{
	struct dump dumps[2] = {
		{.policy = "vertical", .actions = ACTION_VERTICAL},
		{.policy = "horizontal", .actions = ACTION_HORIZONTAL},
	};
	static const char *const names[2] = {EXPERIENCE_LOG_VERTICAL, EXPERIENCE_LOG_HORIZONTAL};

	for (int i = 0; i < 2; i++) {
		const struct segments_reader reader = {
			.context = &dumps[i], .record = on_record, .damage = on_damage};
		int err = segments_read(directory, names[i], &reader);

		if (err) {
			fprintf(stderr, "ebbtide-learner: --dump-replay: %s: %s\n", directory,
				strerror(-err));
			return err;
		}
	}
	return 0;
}
