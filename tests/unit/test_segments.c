// SPDX-License-Identifier: Apache-2.0
/* The experience log: what was appended is read, whatever happens to the files meanwhile. */
#include "learner/storage/segments.h"

#include "common/log.h"
#include "learner/dqn/batch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define INPUTS	2
#define ACTIONS 9
#define MOST	256

struct damage {
	char file[32];
	uint64_t offset;
	uint64_t bytes;
	bool torn;
};

struct fixture {
	char directory[64];
	struct segments_options options;
	struct segments *segments;
	/* What the last reading gave. */
	uint64_t sequences[MOST];
	uint64_t offsets[MOST];
	size_t count;
	struct damage damages[MOST];
	size_t damage_count;
};

static uint32_t on_record(void *context, const char *path, const struct segment_record *record)
{
	struct fixture *f = context;
	struct batch_reader reader;
	struct experience experience;

	(void)path;
	if (record->type != SEGMENT_EXPERIENCES)
		return 0;
	assert_int_equal(batch_reader_init(&reader, record, INPUTS, ACTIONS), 0);
	assert_true(f->count < MOST);
	f->offsets[f->count] = record->offset;
	f->sequences[f->count++] = reader.source.sequence;
	assert_string_equal(reader.source.agent, "node-1");
	while (batch_read(&reader, &experience))
		assert_true(experience.reward == -(float)reader.source.sequence);
	return reader.count;
}

static void on_damage(void *context, const char *path, uint64_t offset, uint64_t bytes, bool torn)
{
	struct fixture *f = context;
	struct damage *damage = &f->damages[f->damage_count++];

	assert_true(f->damage_count < MOST);
	snprintf(damage->file, sizeof(damage->file), "%s", strrchr(path, '/') + 1);
	damage->offset = offset;
	damage->bytes = bytes;
	damage->torn = torn;
}

static struct segments_reader reader_of(struct fixture *f)
{
	f->count = 0;
	f->damage_count = 0;
	return (struct segments_reader){.context = f, .record = on_record, .damage = on_damage};
}

static int open_log(struct fixture *f)
{
	struct segments_reader reader = reader_of(f);

	return segments_open(&f->segments, &f->options, &reader);
}

static void close_log(struct fixture *f)
{
	segments_close(f->segments);
	f->segments = NULL;
}

static void read_log(struct fixture *f)
{
	struct segments_reader reader = reader_of(f);

	assert_int_equal(segments_read(f->directory, "replay", &reader), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	snprintf(f->directory, sizeof(f->directory), "/tmp/ebbtide-test-XXXXXX");
	if (!mkdtemp(f->directory))
		return -1;
	log_init("test", (enum log_level)0);
	f->options = (struct segments_options){.directory = f->directory,
		.name = "replay",
		.identity = {.schema = 1, .inputs = INPUTS, .actions = ACTIONS},
		.capacity = 1000};
	*state = f;
	return open_log(f);
}

static void remove_all(const char *directory)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;

	while (stream && (entry = readdir(stream))) {
		char path[400];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		if (unlink(path) != 0)
			remove_all(path);
	}
	if (stream)
		closedir(stream);
	rmdir(directory);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	segments_close(f->segments);
	remove_all(f->directory);
	free(f);
	return 0;
}

/* A batch of @count experiences whose content follows from @sequence. */
static struct batch_writer batch_make(uint64_t sequence, uint32_t count)
{
	struct batch_source source = {.agent = "node-1", .incarnation = 7, .sequence = sequence};
	struct batch_writer writer;

	assert_int_equal(batch_writer_init(&writer, &source, INPUTS), 0);
	for (uint32_t i = 0; i < count; i++) {
		const float state[INPUTS] = {(float)sequence, (float)i};
		struct experience experience = {.namespace = "default",
			.service = i % 2 ? "fibonacci" : "hotel",
			.state = state,
			.next_state = state,
			.reward = -(float)sequence,
			.action = (uint32_t)(sequence + i) % ACTIONS,
			.end = REPLAY_CONTINUES,
			.next_mask = 1ULL << i};

		assert_int_equal(batch_add(&writer, &experience), 0);
	}
	batch_seal(&writer, 1, 1000 + sequence);
	return writer;
}

static int append(struct fixture *f, uint64_t sequence, uint32_t count)
{
	struct batch_writer writer = batch_make(sequence, count);
	int err = segments_append(f->segments, writer.record, writer.bytes, count);

	batch_writer_free(&writer);
	return err;
}

static void append_many(struct fixture *f, uint64_t first, uint64_t last, uint32_t count)
{
	for (uint64_t sequence = first; sequence <= last; sequence++)
		assert_int_equal(append(f, sequence, count), 0);
}

static void assert_sequences(const struct fixture *f, uint64_t first, uint64_t last)
{
	assert_int_equal(f->count, last - first + 1);
	for (size_t i = 0; i < f->count; i++)
		assert_int_equal(f->sequences[i], first + i);
}

static char *path_to(const struct fixture *f, unsigned int number)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/replay-%08u.log", f->directory, number);
	return path;
}

static size_t size_of(const char *path)
{
	struct stat info;

	assert_int_equal(stat(path, &info), 0);
	return (size_t)info.st_size;
}

/* A whole file into memory (free it), or the other way. */
static uint8_t *load(const char *path, size_t *size)
{
	uint8_t *bytes = malloc(*size = size_of(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *size), *size);
	close(fd);
	return bytes;
}

static void save(const char *path, const uint8_t *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static void test_a_batch_is_read_as_it_was_written(void **state)
{
	struct batch_writer writer;
	struct batch_source source = {.agent = "", .incarnation = 1ULL << 63, .sequence = 42};
	const float a[INPUTS] = {1.5F, -2}, b[INPUTS] = {3, 1e30F};
	char longest[BATCH_SERVICE_BYTES];
	struct experience in[2], out;
	struct segment_record record;
	struct batch_reader reader;

	(void)state;
	memset(longest, 's', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	in[0] = (struct experience){.namespace = "default",
		.service = longest,
		.state = a,
		.next_state = b,
		.reward = -0.25F,
		.action = 8,
		.end = REPLAY_TERMINAL,
		.next_mask = UINT64_MAX};
	in[1] = (struct experience){.namespace = "n",
		.service = "",
		.state = b,
		.next_state = a,
		.reward = 1,
		.action = 0,
		.end = REPLAY_CONTINUES,
		.next_mask = 5};
	assert_int_equal(batch_writer_init(&writer, &source, INPUTS), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(batch_add(&writer, &in[i]), 0);
	batch_seal(&writer, 3, 99);
	assert_int_equal(writer.bytes % 8, 0);
	record = (struct segment_record){.type = SEGMENT_EXPERIENCES,
		.size = writer.bytes - SEGMENT_PREFIX_BYTES,
		.payload = writer.record + SEGMENT_PREFIX_BYTES};
	assert_int_equal(batch_reader_init(&reader, &record, INPUTS, ACTIONS), 0);
	assert_string_equal(reader.source.agent, "");
	assert_true(reader.source.incarnation == 1ULL << 63);
	assert_int_equal(reader.source.sequence, 42);
	for (int i = 0; i < 2; i++) {
		assert_true(batch_read(&reader, &out));
		assert_string_equal(out.namespace, in[i].namespace);
		assert_string_equal(out.service, in[i].service);
		assert_memory_equal(out.state, in[i].state, sizeof(a));
		assert_memory_equal(out.next_state, in[i].next_state, sizeof(a));
		assert_true(out.reward == in[i].reward);
		assert_int_equal(out.action, in[i].action);
		assert_int_equal(out.end, in[i].end);
		assert_true(out.next_mask == in[i].next_mask);
	}
	assert_false(batch_read(&reader, &out));
	/* For another network it is none. */
	assert_int_equal(batch_reader_init(&reader, &record, INPUTS + 1, ACTIONS), -EINVAL);
	assert_int_equal(batch_reader_init(&reader, &record, INPUTS, 8), -EINVAL);
	batch_writer_free(&writer);
}

static void test_names_that_do_not_fit_are_refused(void **state)
{
	struct batch_source source = {.agent = "node"};
	struct batch_writer writer;
	const float zeros[INPUTS] = {0};
	char longest[BATCH_AGENT_BYTES + 1];
	struct experience experience = {
		.namespace = "default", .service = longest, .state = zeros, .next_state = zeros};

	(void)state;
	memset(longest, 'x', BATCH_AGENT_BYTES);
	longest[BATCH_AGENT_BYTES] = '\0';
	assert_int_equal(batch_writer_init(&writer, &source, INPUTS), 0);
	assert_int_equal(batch_add(&writer, &experience), -EINVAL);
	longest[BATCH_SERVICE_BYTES] = '\0';
	assert_int_equal(batch_add(&writer, &experience), -EINVAL);
	longest[BATCH_SERVICE_BYTES - 1] = '\0';
	assert_int_equal(batch_add(&writer, &experience), 0);
	experience.action = 256;
	assert_int_equal(batch_add(&writer, &experience), -EINVAL);
	assert_int_equal(writer.count, 1);
	batch_writer_free(&writer);
	longest[BATCH_SERVICE_BYTES - 1] = 'x';
	longest[BATCH_SERVICE_BYTES] = 'x';
	source.agent = longest;
	assert_int_equal(batch_writer_init(&writer, &source, INPUTS), -EINVAL);
	batch_writer_free(&writer);
}

static void test_what_was_appended_is_read_at_the_next_start(void **state)
{
	struct fixture *f = *state;
	struct segments_status status;

	append_many(f, 1, 5, 3);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 1, 5);
	assert_int_equal(f->damage_count, 0);
	append_many(f, 6, 7, 3);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 1, 7);
	segments_read_status(f->segments, &status);
	assert_int_equal(status.experiences, 21);
	assert_int_equal(status.segments, 1);
	assert_int_equal(status.bytes, size_of(path_to(f, 1)));
}

static void test_a_reader_changes_nothing_of_a_log_that_is_written(void **state)
{
	struct fixture *f = *state;

	append_many(f, 1, 3, 1);
	read_log(f);
	assert_sequences(f, 1, 3);
	append_many(f, 4, 4, 1);
	read_log(f);
	assert_sequences(f, 1, 4);
	assert_int_equal(f->damage_count, 0);
}

static void test_whole_oldest_segments_go_when_the_log_is_full(void **state)
{
	struct fixture *f = *state;
	struct segments_status status;

	close_log(f);
	f->options.segment_bytes = 1000;
	f->options.capacity = 40;
	assert_int_equal(open_log(f), 0);
	for (uint64_t sequence = 1; sequence <= 100; sequence++) {
		append_many(f, sequence, sequence, 4);
		segments_read_status(f->segments, &status);
		/* What is wanted is there, and two segments of four batches more at most. */
		if (sequence >= 10)
			assert_true(status.experiences >= 40);
		assert_true(status.experiences <= 40 + 2 * 4 * 4);
	}
	assert_true(status.segments > 2);
	assert_int_not_equal(access(path_to(f, 1), F_OK), 0);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->sequences[f->count - 1], 100);
	assert_sequences(f, 101 - f->count, 100);
	assert_true(f->count >= 10);
}

static void test_a_tail_torn_at_any_byte_is_cut(void **state)
{
	struct fixture *f = *state;
	size_t start, size;
	uint8_t *bytes;

	append_many(f, 1, 2, 1);
	start = size_of(path_to(f, 1));
	append_many(f, 3, 3, 2);
	close_log(f);
	bytes = load(path_to(f, 1), &size);
	for (size_t cut = start; cut < size; cut++) {
		save(path_to(f, 1), bytes, cut);
		assert_int_equal(open_log(f), 0);
		assert_sequences(f, 1, 2);
		assert_int_equal(f->damage_count, cut > start);
		if (cut > start) {
			assert_string_equal(f->damages[0].file, "replay-00000001.log");
			assert_int_equal(f->damages[0].offset, start);
			assert_int_equal(f->damages[0].bytes, cut - start);
			assert_true(f->damages[0].torn);
		}
		assert_int_equal(size_of(path_to(f, 1)), start);
		/* It goes on there. */
		append_many(f, 3, 4, 1);
		close_log(f);
		assert_int_equal(open_log(f), 0);
		assert_sequences(f, 1, 4);
		assert_int_equal(f->damage_count, 0);
		close_log(f);
	}
	free(bytes);
}

static void test_a_file_whose_header_was_never_written_is_passed_over(void **state)
{
	struct fixture *f = *state;

	append_many(f, 1, 2, 1);
	close_log(f);
	for (size_t size = 0; size < SEGMENT_HEADER_BYTES; size += 21) {
		static const uint8_t zeros[SEGMENT_HEADER_BYTES];

		save(path_to(f, 9), zeros, size);
		assert_int_equal(open_log(f), 0);
		assert_sequences(f, 1, 2);
		assert_int_not_equal(access(path_to(f, 9), F_OK), 0);
		append_many(f, 3, 3, 1);
		close_log(f);
		read_log(f);
		assert_sequences(f, 1, 3);
		unlink(path_to(f, 10));
	}
}

/* Which of @count records byte @at is in; -1: in the header. */
static int record_at(const uint64_t *offsets, size_t count, size_t at)
{
	int found = -1;

	for (size_t i = 0; i < count; i++)
		if (at >= offsets[i])
			found = (int)i;
	return found;
}

static void assert_all_but(const struct fixture *f, uint64_t count, int hit)
{
	size_t at = 0;

	assert_int_equal(f->count, count - (hit >= 0));
	for (uint64_t i = 0; i < count; i++)
		if ((int)i != hit)
			assert_int_equal(f->sequences[at++], i + 1);
}

static void test_a_flip_of_any_byte_costs_no_other_record(void **state)
{
	struct fixture *f = *state;
	uint64_t offsets[5];
	size_t size;
	uint8_t *bytes;

	append_many(f, 1, 5, 1);
	close_log(f);
	read_log(f);
	memcpy(offsets, f->offsets, sizeof(offsets));
	bytes = load(path_to(f, 1), &size);
	for (size_t at = 0; at < size; at++) {
		int hit = record_at(offsets, 5, at);

		for (int change = 0; change < 2; change++) {
			bytes[at] ^= change ? 0xff : 1;
			save(path_to(f, 1), bytes, size);
			bytes[at] ^= change ? 0xff : 1;
			assert_int_equal(open_log(f), 0);
			assert_all_but(f, 5, hit);
			assert_int_equal(f->damage_count, hit >= 0);
			if (hit >= 0) {
				assert_int_equal(f->damages[0].offset, offsets[hit]);
				assert_int_equal(f->damages[0].torn, hit == 4);
			}
			append_many(f, 6, 6, 1);
			close_log(f);
			read_log(f);
			assert_int_equal(f->count, 6 - (hit >= 0));
			assert_int_equal(f->sequences[f->count - 1], 6);
			unlink(path_to(f, 2));
		}
	}
	free(bytes);
}

static void test_bytes_lost_in_the_middle_cost_what_they_held(void **state)
{
	struct fixture *f = *state;
	size_t size;
	uint8_t *bytes;

	append_many(f, 1, 20, 1);
	close_log(f);
	read_log(f);
	bytes = load(path_to(f, 1), &size);
	/* From within record 6 to within record 9. */
	memset(bytes + f->offsets[5] + 16, 0, f->offsets[8] - f->offsets[5]);
	save(path_to(f, 1), bytes, size);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->count, 16);
	assert_int_equal(f->sequences[4], 5);
	assert_int_equal(f->sequences[5], 10);
	assert_int_equal(f->damage_count, 1);
	assert_int_equal(f->damages[0].offset, f->offsets[4] + f->offsets[1] - f->offsets[0]);
	assert_false(f->damages[0].torn);
	/* What is damaged stays as it is, for whoever wants to look. */
	assert_int_equal(size_of(path_to(f, 1)), size);
	free(bytes);
}

static void test_a_segment_cut_in_the_middle_of_the_log_loses_its_end_only(void **state)
{
	struct fixture *f = *state;
	size_t cut;

	close_log(f);
	f->options.segment_bytes = 300;
	assert_int_equal(open_log(f), 0);
	append_many(f, 1, 12, 1);
	close_log(f);
	assert_int_equal(access(path_to(f, 3), F_OK), 0);
	read_log(f);
	assert_sequences(f, 1, 12);
	cut = size_of(path_to(f, 2)) - 1;
	assert_int_equal(truncate(path_to(f, 2), (off_t)cut), 0);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->count, 11);
	assert_int_equal(f->damage_count, 1);
	assert_string_equal(f->damages[0].file, "replay-00000002.log");
	assert_false(f->damages[0].torn);
	assert_int_equal(size_of(path_to(f, 2)), cut);
}

/* A batch in whose one experience stands a whole record that is sound at @offset of segment 1. */
static struct batch_writer batch_around(uint64_t offset)
{
	struct batch_source source = {.agent = "node-1", .incarnation = 7, .sequence = 2};
	struct batch_writer inner = batch_make(666, 1), outer;
	uint32_t inputs = (uint32_t)(inner.bytes / sizeof(float));
	float *states = calloc(inputs, 2 * sizeof(float));
	struct experience experience = {.namespace = "default", .service = "hotel"};

	assert_non_null(states);
	segment_record_place(inner.record, 1, offset);
	memcpy(states, inner.record, inner.bytes);
	experience.state = states;
	experience.next_state = states + inputs;
	assert_int_equal(batch_writer_init(&outer, &source, inputs), 0);
	assert_int_equal(batch_add(&outer, &experience), 0);
	batch_seal(&outer, 1, 5);
	batch_writer_free(&inner);
	free(states);
	return outer;
}

static void test_a_record_inside_a_payload_is_not_taken_for_one(void **state)
{
	struct fixture *f = *state;
	uint64_t outer_at, inner_at;

	append_many(f, 1, 1, 1);
	outer_at = size_of(path_to(f, 1));
	/* Behind the prefix, the batch's head, the agent's name and the experience's. */
	inner_at = outer_at + SEGMENT_PREFIX_BYTES + 32 + 8 + 16;
	/* The second, sound where it stands, shows that it was looked at. */
	for (int there = 0; there < 2; there++) {
		struct batch_writer outer = batch_around(there ? inner_at : outer_at);
		uint8_t *bytes;
		size_t size;

		close_log(f);
		assert_int_equal(truncate(path_to(f, 1), (off_t)outer_at), 0);
		assert_int_equal(open_log(f), 0);
		assert_int_equal(segments_append(f->segments, outer.record, outer.bytes, 1), 0);
		append_many(f, 3, 3, 1);
		close_log(f);
		bytes = load(path_to(f, 1), &size);
		bytes[outer_at + 4] ^= 1;
		save(path_to(f, 1), bytes, size);
		assert_int_equal(open_log(f), 0);
		assert_int_equal(f->count, 2 + there);
		assert_int_equal(f->sequences[0], 1);
		assert_int_equal(f->sequences[1], there ? 666 : 3);
		free(bytes);
		batch_writer_free(&outer);
	}
}

static void test_segments_of_another_schema_are_set_aside(void **state)
{
	struct fixture *f = *state;
	char aside[160];
	struct segments_status status;

	append_many(f, 1, 3, 1);
	close_log(f);
	f->options.identity.schema = 2;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->count, 0);
	segments_read_status(f->segments, &status);
	assert_int_equal(status.set_aside, 1);
	assert_int_equal(status.experiences, 0);
	snprintf(aside, sizeof(aside), "%s/schema-1/replay-00000001.log", f->directory);
	assert_int_equal(access(aside, F_OK), 0);
	assert_int_not_equal(access(path_to(f, 1), F_OK), 0);
	append_many(f, 4, 4, 1);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 4, 4);
	close_log(f);
	/* And back: nothing that was set aside is overwritten. */
	save(path_to(f, 1), (const uint8_t *)"", 0);
	assert_int_equal(rename(aside, path_to(f, 1)), 0);
	save(aside, (const uint8_t *)"kept", 4);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(size_of(aside), 4);
	strcat(aside, ".1");
	assert_int_equal(access(aside, F_OK), 0);
}

static void test_another_action_table_is_another_schema(void **state)
{
	struct fixture *f = *state;

	append_many(f, 1, 3, 1);
	close_log(f);
	f->options.identity.actions++;
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->count, 0);
	assert_int_not_equal(access(path_to(f, 1), F_OK), 0);
}

static void test_a_write_that_fails_leaves_no_trace(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, low;
	struct segments_status status;
	size_t size;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	append_many(f, 1, 2, 1);
	size = size_of(path_to(f, 1));
	for (size_t room = 0; room < 100; room += 33) {
		/* The first @room bytes are written, then the disk is as good as full. */
		low = (struct rlimit){.rlim_cur = size + room, .rlim_max = before.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
		assert_int_equal(append(f, 3, 1), -EFBIG);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(size_of(path_to(f, 1)), size);
	}
	segments_read_status(f->segments, &status);
	assert_int_equal(status.failures, 4);
	assert_int_equal(status.experiences, 2);
	append_many(f, 3, 4, 1);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 1, 4);
	assert_int_equal(f->damage_count, 0);
}

static void test_a_segment_that_cannot_be_begun_is_tried_again(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, low;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	close_log(f);
	f->options.segment_bytes = 100;
	assert_int_equal(open_log(f), 0);
	append_many(f, 1, 1, 1);
	low = (struct rlimit){.rlim_cur = 10, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(append(f, 2, 1), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	append_many(f, 2, 3, 1);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 1, 3);
	assert_int_equal(f->damage_count, 0);
}

static struct fixture *syncing;
static pthread_mutex_t sync_lock = PTHREAD_MUTEX_INITIALIZER;
static int sync_calls;
static int sync_fails;
static uint64_t sync_waits_for;

/* Holds the first sync until so many appends wait. */
static int sync_slowly(int fd)
{
	struct segments_status status;
	int call;

	pthread_mutex_lock(&sync_lock);
	call = sync_calls++;
	pthread_mutex_unlock(&sync_lock);
	do {
		const struct timespec pause = {.tv_nsec = 1000000};

		if (!sync_waits_for)
			break;
		nanosleep(&pause, NULL);
		segments_read_status(syncing->segments, &status);
	} while (call == 1 && status.appends < sync_waits_for);
	if (sync_fails > 0) {
		sync_fails--;
		errno = EIO;
		return -1;
	}
	return fdatasync(fd);
}

static void *append_thread(void *argument)
{
	const uint64_t *sequence = argument;

	return (void *)(intptr_t)append(syncing, *sequence, 1);
}

static void fsync_open(struct fixture *f)
{
	close_log(f);
	f->options.durability = DURABILITY_FSYNC;
	f->options.sync = sync_slowly;
	syncing = f;
	sync_calls = 0;
	sync_fails = 0;
	sync_waits_for = 0;
}

static void test_appends_at_the_same_time_share_a_sync(void **state)
{
	enum {
		THREADS = 16
	};
	struct fixture *f = *state;
	pthread_t threads[THREADS];
	uint64_t sequences[THREADS];
	bool seen[THREADS + 1] = {false};
	struct segments_status status;

	fsync_open(f);
	unlink(path_to(f, 1));
	assert_int_equal(open_log(f), 0);
	/* One sync was that of the new file. */
	assert_int_equal(sync_calls, 1);
	sync_waits_for = THREADS;
	for (int i = 0; i < THREADS; i++) {
		sequences[i] = (uint64_t)i + 1;
		assert_int_equal(
			pthread_create(&threads[i], NULL, append_thread, &sequences[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		assert_null(result);
	}
	segments_read_status(f->segments, &status);
	assert_int_equal(status.appends, THREADS);
	assert_true(status.syncs >= 1 && status.syncs <= 2);
	close_log(f);
	read_log(f);
	assert_int_equal(f->count, THREADS);
	for (int i = 0; i < THREADS; i++)
		seen[f->sequences[i]] = true;
	for (int i = 1; i <= THREADS; i++)
		assert_true(seen[i]);
}

static void test_a_failed_sync_is_not_acknowledged_and_ends_the_segment(void **state)
{
	struct fixture *f = *state;

	fsync_open(f);
	assert_int_equal(open_log(f), 0);
	append_many(f, 1, 1, 1);
	sync_fails = 1;
	assert_int_equal(append(f, 2, 1), -EIO);
	append_many(f, 3, 3, 1);
	assert_int_equal(access(path_to(f, 2), F_OK), 0);
	close_log(f);
	assert_int_equal(open_log(f), 0);
	assert_int_equal(f->sequences[0], 1);
	assert_int_equal(f->sequences[f->count - 1], 3);
}

static int first_make(void *context, uint8_t **record, size_t *bytes)
{
	size_t *size = context;

	*bytes = SEGMENT_PREFIX_BYTES + *size;
	*record = calloc(1, *bytes);
	if (!*record)
		return -ENOMEM;
	segment_record_seal(*record, *size, SEGMENT_SEQUENCES, 1, 1);
	return 0;
}

static void test_a_long_first_record_makes_for_long_segments(void **state)
{
	struct fixture *f = *state;
	size_t first_size = 4096;
	struct segments_status status;

	close_log(f);
	unlink(path_to(f, 1));
	f->options.segment_bytes = 100;
	f->options.first = first_make;
	f->options.context = &first_size;
	assert_int_equal(open_log(f), 0);
	append_many(f, 1, 20, 1);
	segments_read_status(f->segments, &status);
	assert_int_equal(status.segments, 1);
	close_log(f);
	/* Known again after a restart. */
	assert_int_equal(open_log(f), 0);
	append_many(f, 21, 60, 1);
	segments_read_status(f->segments, &status);
	assert_int_equal(status.segments, 2);
	close_log(f);
	read_log(f);
	assert_sequences(f, 1, 60);
}

static void test_a_missing_directory_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct segments *other = NULL;
	struct segments_reader reader = reader_of(f);
	struct segments_options options = f->options;

	options.directory = "/nowhere/at/all";
	assert_int_equal(segments_open(&other, &options, &reader), -ENOENT);
	assert_null(other);
	assert_int_equal(segments_read("/nowhere/at/all", "replay", &reader), -ENOENT);
}

static void test_other_files_of_the_directory_are_left_alone(void **state)
{
	static const char *const names[] = {"replay-1.log", "replay-00000002.log.1",
		"replay-00000000.log", "replay-horizontal-00000003.log", "replay.log"};
	struct fixture *f = *state;
	char path[128];

	append_many(f, 1, 1, 1);
	close_log(f);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->directory, names[i]);
		save(path, (const uint8_t *)"mine", 4);
	}
	assert_int_equal(open_log(f), 0);
	assert_sequences(f, 1, 1);
	assert_int_equal(f->damage_count, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->directory, names[i]);
		assert_int_equal(size_of(path), 4);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_batch_is_read_as_it_was_written),
		TEST(test_names_that_do_not_fit_are_refused),
		TEST(test_what_was_appended_is_read_at_the_next_start),
		TEST(test_a_reader_changes_nothing_of_a_log_that_is_written),
		TEST(test_whole_oldest_segments_go_when_the_log_is_full),
		TEST(test_a_tail_torn_at_any_byte_is_cut),
		TEST(test_a_file_whose_header_was_never_written_is_passed_over),
		TEST(test_a_flip_of_any_byte_costs_no_other_record),
		TEST(test_bytes_lost_in_the_middle_cost_what_they_held),
		TEST(test_a_segment_cut_in_the_middle_of_the_log_loses_its_end_only),
		TEST(test_a_record_inside_a_payload_is_not_taken_for_one),
		TEST(test_segments_of_another_schema_are_set_aside),
		TEST(test_another_action_table_is_another_schema),
		TEST(test_a_write_that_fails_leaves_no_trace),
		TEST(test_a_segment_that_cannot_be_begun_is_tried_again),
		TEST(test_appends_at_the_same_time_share_a_sync),
		TEST(test_a_failed_sync_is_not_acknowledged_and_ends_the_segment),
		TEST(test_a_long_first_record_makes_for_long_segments),
		TEST(test_a_missing_directory_is_an_error),
		TEST(test_other_files_of_the_directory_are_left_alone),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
