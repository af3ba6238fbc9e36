// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/segments.h"

#include "common/log.h"
#include "learner/storage/segment_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* About what an experience of 32 features takes; only sizes of segments follow from it. */
#define EXPERIENCE_BYTES 300
#define SEGMENTS_WANTED	 8

/* An append that waits for a sync. On its thread's stack. */
struct waiter {
	struct waiter *next;
	uint64_t position;
	int result;
	bool done;
};

struct segments {
	struct segments_options options;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct segment_file *files; /* oldest first; the last one is being written */
	size_t count;
	uint64_t next_number;
	int fd;		     /* of the last, -1: none is written to */
	uint64_t body_start; /* what the last one began with is not counted for its size */
	uint64_t position;   /* bytes ever appended */
	bool renew;	     /* the last one is not to be trusted with more */
	bool failing;	     /* logged */
	bool syncing;
	struct waiter *waiters;
	struct segments_status status;
};

static uint64_t unix_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct segment_file *last_file(struct segments *s)
{
	return &s->files[s->count - 1];
}

static int file_add(struct segments *s, uint64_t number)
{
	struct segment_file *files = realloc(s->files, (s->count + 1) * sizeof(*files));

	if (!files)
		return -ENOMEM;
	s->files = files;
	files[s->count++] = (struct segment_file){.number = number};
	return 0;
}

static void path_of(const struct segments *s, uint64_t number, char *out, size_t size)
{
	segment_file_path(s->options.directory, s->options.name, number, out, size);
}

/* Whole oldest segments, as long as the others hold enough; never the one before the last. */
static void prune(struct segments *s)
{
	while (s->count > 2 &&
		s->status.experiences - s->files[0].experiences >= s->options.capacity) {
		char path[1024];

		path_of(s, s->files[0].number, path, sizeof(path));
		if (unlink(path) != 0 && errno != ENOENT) {
			log_warning("log=%s error=\"%s\" effect=\"an old segment stays\"", path,
				strerror(errno));
			return;
		}
		log_debug("log=%s event=\"dropped, the log is full\" experiences=%llu", path,
			(unsigned long long)s->files[0].experiences);
		s->status.bytes -= s->files[0].bytes;
		s->status.experiences -= s->files[0].experiences;
		s->count--;
		memmove(&s->files[0], &s->files[1], s->count * sizeof(s->files[0]));
	}
}

static void waiters_finish(struct segments *s, uint64_t position, int result)
{
	struct waiter **at = &s->waiters;

	while (*at) {
		struct waiter *waiter = *at;

		if (waiter->position > position) {
			at = &waiter->next;
			continue;
		}
		*at = waiter->next;
		waiter->result = result;
		waiter->done = true;
	}
	pthread_cond_broadcast(&s->changed);
}

/*
 * Sync what was appended up to now. The lock is held, and given up meanwhile: others append. After
 * a failure the kernel may have dropped the pages, so nothing more goes into that file.
 */
static int sync_now(struct segments *s)
{
	uint64_t position = s->position;
	int fd = s->fd, err;

	s->syncing = true;
	pthread_mutex_unlock(&s->lock);
	err = s->options.sync(fd) == 0 ? 0 : -errno;
	pthread_mutex_lock(&s->lock);
	s->syncing = false;
	s->status.syncs++;
	if (err)
		s->renew = true;
	waiters_finish(s, position, err);
	return err;
}

/* A new file with its header and first record; nothing is left of it when that fails. */
static int file_create(struct segments *s, uint64_t number, int *out, uint64_t *bytes)
{
	uint8_t header[SEGMENT_HEADER_BYTES], *first = NULL;
	size_t first_bytes = 0;
	char path[1024];
	int fd, err = 0;

	if (s->options.first)
		err = s->options.first(s->options.context, &first, &first_bytes);
	if (err)
		return err;
	path_of(s, number, path, sizeof(path));
	segment_header_pack(header, number, unix_us(), &s->options.identity);
	if (first)
		segment_record_place(first, number, sizeof(header));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = -errno;
		goto out;
	}
	err = segment_file_write(fd, header, sizeof(header), 0);
	if (!err && first)
		err = segment_file_write(fd, first, first_bytes, sizeof(header));
	if (!err && s->options.durability == DURABILITY_FSYNC) {
		err = s->options.sync(fd) == 0 ? 0 : -errno;
		if (!err)
			err = segment_files_sync_directory(s->options.directory);
	}
	if (err) {
		close(fd);
		unlink(path);
		goto out;
	}
	*out = fd;
	*bytes = sizeof(header) + first_bytes;
out:
	free(first);
	return err;
}

/* Begin the next segment. A number is never used twice: records are sound under theirs only. */
static int rotate(struct segments *s)
{
	uint64_t number = s->next_number++, bytes = 0;
	int fd = -1, err = file_create(s, number, &fd, &bytes);

	if (err)
		return err;
	err = file_add(s, number);
	if (err) {
		close(fd);
		return err;
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	s->renew = false;
	s->body_start = bytes;
	last_file(s)->bytes = bytes;
	s->status.bytes += bytes;
	prune(s);
	return 0;
}

static bool is_full(const struct segments *s)
{
	const struct segment_file *last = &s->files[s->count - 1];
	uint64_t body = last->bytes - s->body_start;

	/* A long first record must not make for a segment that is nothing else. */
	return body >= s->options.segment_bytes && body >= s->body_start;
}

/*
 * A file that takes the next record. The lock is held, and given up while others sync: the file may
 * go only when nobody waits for it.
 */
static int make_room(struct segments *s)
{
	while (s->fd < 0 || s->renew || is_full(s)) {
		if (s->syncing)
			pthread_cond_wait(&s->changed, &s->lock);
		else if (s->waiters)
			(void)sync_now(s);
		else
			return rotate(s);
	}
	return 0;
}

static int record_write(struct segments *s, uint8_t *record, size_t bytes)
{
	struct segment_file *file = last_file(s);
	int err;

	segment_record_place(record, file->number, file->bytes);
	err = segment_file_write(s->fd, record, bytes, file->bytes);
	if (!err)
		return 0;
	/* Half a record must not stand before a whole one. */
	if (ftruncate(s->fd, (off_t)file->bytes) != 0)
		s->renew = true;
	return err;
}

static int wait_synced(struct segments *s)
{
	struct waiter me = {.next = s->waiters, .position = s->position};

	/* It is off the list again before this returns. */
	/* cppcheck-suppress autoVariables */
	s->waiters = &me;
	while (!me.done) {
		if (s->syncing)
			pthread_cond_wait(&s->changed, &s->lock);
		else
			(void)sync_now(s);
	}
	return me.result;
}

/* One line when it begins and one when it ends, not one an append. */
static void note_result(struct segments *s, int err)
{
	char path[1024];

	s->status.failures += err != 0;
	if (s->failing == (err != 0))
		return;
	s->failing = err != 0;
	segment_file_path(s->options.directory, s->options.name,
		s->count ? last_file(s)->number : 0, path, sizeof(path));
	if (err)
		log_err("log=%s error=\"%s\" effect=\"reports are not acknowledged, agents keep "
			"them\" do=\"make room on the disk or see to it\"",
			path, strerror(-err));
	else
		log_notice("log=%s event=\"written again\"", path);
}

int segments_append(struct segments *segments, uint8_t *record, size_t bytes, uint32_t experiences)
{
	int err;

	pthread_mutex_lock(&segments->lock);
	err = make_room(segments);
	if (!err)
		err = record_write(segments, record, bytes);
	if (!err) {
		last_file(segments)->bytes += bytes;
		last_file(segments)->experiences += experiences;
		segments->position += bytes;
		segments->status.bytes += bytes;
		segments->status.experiences += experiences;
		segments->status.appends++;
		if (segments->options.durability == DURABILITY_FSYNC)
			err = wait_synced(segments);
	}
	note_result(segments, err);
	pthread_mutex_unlock(&segments->lock);
	return err;
}

void segments_read_status(struct segments *segments, struct segments_status *status)
{
	pthread_mutex_lock(&segments->lock);
	*status = segments->status;
	status->segments = segments->count;
	pthread_mutex_unlock(&segments->lock);
}

/* The one file that is being read at the start. */
struct opening {
	struct segments *segments;
	const struct segments_reader *reader;
	struct segment_file *file;
	uint64_t first_end; /* of a record that the segment begins with */
};

static uint32_t on_record(void *context, const char *path, const struct segment_record *record)
{
	struct opening *opening = context;
	uint32_t experiences = opening->reader->record(opening->reader->context, path, record);

	if (record->type == SEGMENT_SEQUENCES && record->offset == SEGMENT_HEADER_BYTES)
		opening->first_end = record->offset + SEGMENT_PREFIX_BYTES + record->size;
	opening->file->experiences += experiences;
	return experiences;
}

static void on_damage(void *context, const char *path, uint64_t offset, uint64_t bytes, bool torn)
{
	struct opening *opening = context;

	if (torn)
		opening->segments->status.torn_bytes += bytes;
	else
		opening->segments->status.damaged_bytes += bytes;
	log_warning("log=%s offset=%llu bytes=%llu event=\"%s\"", path, (unsigned long long)offset,
		(unsigned long long)bytes,
		torn ? "torn at the end: cut" : "damaged: passed over, the rest is kept");
	if (opening->reader->damage)
		opening->reader->damage(opening->reader->context, path, offset, bytes, torn);
}

/* True when it is of another schema or version and stands aside now. */
static bool set_aside(struct segments *s, const struct segment_contents *contents)
{
	const struct segment_identity *is = &contents->identity, *want = &s->options.identity;
	char to[1024] = "";
	int err;

	if (contents->header == 0 && is->schema == want->schema && is->inputs == want->inputs &&
		is->actions == want->actions)
		return false;
	if (contents->header != 0 && contents->header != -EPROTO)
		return false;
	err = segment_file_set_aside(s->options.directory, contents, to, sizeof(to));
	if (contents->header == 0)
		log_warning("log=%s event=\"made for schema %u, %u inputs, %u actions; this is %u, "
			    "%u, %u: set aside\" to=%s",
			contents->path, is->schema, is->inputs, is->actions, want->schema,
			want->inputs, want->actions, to);
	else
		log_warning("log=%s event=\"%s: set aside\" to=%s", contents->path, contents->error,
			to);
	if (err)
		log_err("log=%s to=%s error=\"%s\" effect=\"it stays where it is, unused\"",
			contents->path, to, strerror(-err));
	s->status.set_aside++;
	return true;
}

/* The last segment, read and sound up to @end: go on there. */
static int reopen(struct segments *s, const char *path, uint64_t end)
{
	s->fd = open(path, O_WRONLY | O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	return ftruncate(s->fd, (off_t)end) == 0 ? 0 : -errno;
}

static int file_read(struct segments *s, const struct segments_reader *reader,
	struct segment_contents *contents, uint64_t number, bool last)
{
	struct opening opening = {.segments = s, .reader = reader};
	const struct segments_reader inner = {
		.context = &opening, .record = on_record, .damage = on_damage};
	bool writable; /* the last one is, behind a header that says what it is */
	uint64_t end;
	int err = segment_file_load(s->options.directory, s->options.name, number, contents);

	s->next_number = number + 1;
	if (err == -ENOENT)
		return 0;
	if (err)
		log_err("log=%s error=\"%s\" effect=\"its experiences are not known\"",
			contents->path, strerror(-err));
	if (!err && set_aside(s, contents))
		return 0;
	if (!err && contents->size < SEGMENT_HEADER_BYTES && last) {
		/* Killed between making the file and writing its header: there is nothing in it. */
		on_damage(&opening, contents->path, 0, contents->size, true);
		return unlink(contents->path) == 0 ? 0 : -errno;
	}
	if (!err && contents->header)
		log_warning("log=%s error=\"%s\" effect=\"its records are read all the same\"",
			contents->path, contents->error);
	if (file_add(s, number))
		return -ENOMEM;
	if (err)
		return 0;
	opening.file = last_file(s);
	writable = last && contents->header == 0;
	end = segment_file_visit(contents, number, writable, &inner);
	opening.file->bytes = contents->size;
	s->status.experiences += opening.file->experiences;
	if (writable) {
		err = reopen(s, contents->path, end);
		opening.file->bytes = end;
		s->body_start = opening.first_end ? opening.first_end : SEGMENT_HEADER_BYTES;
	}
	s->status.bytes += opening.file->bytes;
	return err;
}

static int files_read(struct segments *s, const struct segments_reader *reader)
{
	struct segment_contents contents = {0};
	uint64_t *numbers = NULL;
	size_t count = 0;
	int err = segment_files_list(s->options.directory, s->options.name, &numbers, &count);

	for (size_t i = 0; !err && i < count; i++)
		err = file_read(s, reader, &contents, numbers[i], i + 1 == count);
	segment_contents_free(&contents);
	free(numbers);
	return err;
}

static uint64_t share_of(uint64_t capacity)
{
	uint64_t share = capacity * EXPERIENCE_BYTES / SEGMENTS_WANTED;

	if (share < SEGMENTS_BYTES_MIN)
		return SEGMENTS_BYTES_MIN;
	return share < SEGMENTS_BYTES_MAX ? share : SEGMENTS_BYTES_MAX;
}

static int sync_default(int fd)
{
	return fdatasync(fd);
}

int segments_open(struct segments **out, const struct segments_options *options,
	const struct segments_reader *reader)
{
	struct segments *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->next_number = 1;
	s->fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	if (s->options.segment_bytes == 0)
		s->options.segment_bytes = share_of(options->capacity);
	if (!s->options.sync)
		s->options.sync = sync_default;
	err = files_read(s, reader);
	if (!err)
		err = make_room(s);
	if (err) {
		segments_close(s);
		return err;
	}
	prune(s);
	*out = s;
	return 0;
}

void segments_close(struct segments *segments)
{
	if (!segments)
		return;
	if (segments->fd >= 0)
		close(segments->fd);
	free(segments->files);
	pthread_mutex_destroy(&segments->lock);
	pthread_cond_destroy(&segments->changed);
	free(segments);
}

int segments_read(const char *directory, const char *name, const struct segments_reader *reader)
{
	struct segment_contents contents = {0};
	uint64_t *numbers = NULL;
	size_t count = 0;
	int err = segment_files_list(directory, name, &numbers, &count);

	for (size_t i = 0; !err && i < count; i++) {
		err = segment_file_load(directory, name, numbers[i], &contents);
		if (!err)
			(void)segment_file_visit(&contents, numbers[i], i + 1 == count, reader);
		/* Dropped by a writer meanwhile. */
		if (err == -ENOENT)
			err = 0;
	}
	segment_contents_free(&contents);
	free(numbers);
	return err;
}
