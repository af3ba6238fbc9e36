// SPDX-License-Identifier: Apache-2.0
#include "learner/journal.h"

#include "common/log.h"
#include "learner/decision_json.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What waits for a disk that does not keep up: then lines are left out, and counted. */
#define PENDING_BYTES_MAX (16U << 20)
/* Lines of so long are written together. */
#define GATHER_NS 20000000L

struct journal {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* there is something to write, or stop */
	pthread_cond_t empty; /* all of it is written */
	char *pending; /* [PENDING_BYTES_MAX], owned; this and what is being written change places */
	char *writing;
	size_t used;
	bool busy; /* the thread is writing */
	bool stop;
	bool failed; /* said so */
	uint64_t dropped;
};

static int write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		bytes += written;
		size -= (size_t)written;
	}
	return 0;
}

static uint64_t count_lines(const char *bytes, size_t size)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < size; i++)
		lines += bytes[i] == '\n';
	return lines;
}

/* Write what is pending; the lock is held, but not meanwhile. */
static void pending_write(struct journal *journal)
{
	char *bytes = journal->pending;
	size_t size = journal->used;
	int err;

	journal->pending = journal->writing;
	journal->writing = bytes;
	journal->used = 0;
	journal->busy = true;
	pthread_mutex_unlock(&journal->lock);
	err = write_all(journal->fd, bytes, size);
	pthread_mutex_lock(&journal->lock);
	journal->busy = false;
	if (err)
		journal->dropped += count_lines(bytes, size);
	if (err && !journal->failed)
		log_err("event=decisions error=\"%s\" effect=\"lines are left out\"",
			strerror(-err));
	journal->failed = err != 0;
	if (journal->used == 0)
		pthread_cond_broadcast(&journal->empty);
}

static void *write_thread(void *context)
{
	const struct timespec gather = {.tv_nsec = GATHER_NS};
	struct journal *journal = context;

	pthread_mutex_lock(&journal->lock);
	while (!journal->stop || journal->used > 0) {
		if (journal->used == 0) {
			pthread_cond_wait(&journal->wake, &journal->lock);
			continue;
		}
		if (!journal->stop) {
			pthread_mutex_unlock(&journal->lock);
			nanosleep(&gather, NULL);
			pthread_mutex_lock(&journal->lock);
		}
		pending_write(journal);
	}
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

static void journal_free(struct journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	free(journal->pending);
	free(journal->writing);
	free(journal);
}

int journal_open(struct journal **out, const char *path)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int err = 0;

	if (!journal)
		return -ENOMEM;
	pthread_mutex_init(&journal->lock, NULL);
	pthread_cond_init(&journal->wake, NULL);
	pthread_cond_init(&journal->empty, NULL);
	/* Pages that are not written to take no memory. */
	journal->pending = malloc(PENDING_BYTES_MAX);
	journal->writing = malloc(PENDING_BYTES_MAX);
	journal->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (journal->fd < 0)
		err = -errno;
	else if (!journal->pending || !journal->writing)
		err = -ENOMEM;
	else
		err = -pthread_create(&journal->thread, NULL, write_thread, journal);
	if (err) {
		journal_free(journal);
		return err;
	}
	*out = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	pthread_mutex_lock(&journal->lock);
	journal->stop = true;
	pthread_cond_signal(&journal->wake);
	pthread_mutex_unlock(&journal->lock);
	pthread_join(journal->thread, NULL);
	journal_free(journal);
}

void journal_flush(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	while (journal->used > 0 || journal->busy)
		pthread_cond_wait(&journal->empty, &journal->lock);
	pthread_mutex_unlock(&journal->lock);
}

uint64_t journal_dropped(struct journal *journal)
{
	uint64_t dropped = 0;

	if (!journal)
		return 0;
	pthread_mutex_lock(&journal->lock);
	dropped = journal->dropped;
	pthread_mutex_unlock(&journal->lock);
	return dropped;
}

static void line_put(struct journal *journal, const char *line, size_t size)
{
	pthread_mutex_lock(&journal->lock);
	if (journal->used + size > PENDING_BYTES_MAX) {
		journal->dropped++;
	} else {
		memcpy(journal->pending + journal->used, line, size);
		if (journal->used == 0)
			pthread_cond_signal(&journal->wake);
		journal->used += size;
	}
	pthread_mutex_unlock(&journal->lock);
}

void journal_sample(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit)
{
	char line[DECISION_LINE_BYTES];

	if (journal)
		line_put(journal, line, decision_json_sample(line, unix_s, service, unit));
}

void journal_decision(struct journal *journal, const struct decision_subject *subject,
	const struct decision_record *record)
{
	char line[DECISION_LINE_BYTES];

	if (journal)
		line_put(journal, line, decision_json_line(line, subject, record));
}
