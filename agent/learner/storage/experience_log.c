// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/experience_log.h"

#include "common/log.h"
#include "learner/learner.h"
#include "learner/storage/recall.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct experience_log {
	pthread_rwlock_t lock; /* read: a report is being handled */
	bool started;
	int directory; /* its lock file */
	struct segments *vertical;
	struct segments *horizontal;
	struct batch_writer queue; /* horizontal; guarded by learner->lock */
};

static uint64_t unix_us(void)
{
	return (uint64_t)(learner_unix_s() * 1e6);
}

int experience_log_create(struct experience_log **out)
{
	struct experience_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->directory = -1;
	pthread_rwlock_init(&log->lock, NULL);
	*out = log;
	return 0;
}

static void files_close(struct experience_log *log)
{
	log->started = false;
	segments_close(log->vertical);
	segments_close(log->horizontal);
	log->vertical = log->horizontal = NULL;
	if (log->directory >= 0)
		close(log->directory);
	log->directory = -1;
}

void experience_log_free(struct experience_log *log)
{
	if (!log)
		return;
	files_close(log);
	batch_writer_free(&log->queue);
	pthread_rwlock_destroy(&log->lock);
	free(log);
}

/* The kernel gives it back with the process, however that ends. */
static int directory_lock(struct experience_log *log, const char *directory)
{
	char path[768];

	snprintf(path, sizeof(path), "%s/lock", directory);
	log->directory = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (log->directory < 0)
		return -errno;
	if (flock(log->directory, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static int sequences_first(void *context, uint8_t **record, size_t *bytes)
{
	struct learner *learner = context;

	return sequences_pack(&learner->sequences, STATE_SCHEMA, unix_us(), record, bytes);
}

static int log_open(struct learner *learner, bool horizontal, struct segments **segments,
	struct recall_counts *counts)
{
	struct segments_options options = {.directory = learner->config.state_directory,
		.name = horizontal ? EXPERIENCE_LOG_HORIZONTAL : EXPERIENCE_LOG_VERTICAL,
		.identity = {.schema = STATE_SCHEMA,
			.inputs = STATE_SIZE,
			.actions = horizontal ? ACTION_HORIZONTAL : ACTION_VERTICAL},
		.capacity = learner->config.replay_capacity,
		.durability = learner->config.durability,
		.first = horizontal ? NULL : sequences_first,
		.context = learner};
	struct recall *recall = NULL;
	struct segments_reader reader = {.record = recall_record};
	int err = recall_open(&recall, learner, horizontal);

	if (err)
		return err;
	reader.context = recall;
	err = segments_open(segments, &options, &reader);
	if (!err)
		recall_finish(recall, counts);
	recall_close(recall);
	return err;
}

int experience_log_start(struct learner *learner)
{
	struct experience_log *log = learner->log;
	struct recall_counts vertical = {0}, horizontal = {0};
	struct segments_status status;
	double start_s = learner_now_s();
	int err;

	if (!log)
		return 0;
	pthread_rwlock_wrlock(&log->lock);
	files_close(log);
	err = directory_lock(log, learner->config.state_directory);
	if (!err) {
		sequences_free(&learner->sequences);
		brain_forget(learner->vertical);
		brain_forget(learner->horizontal);
		err = log_open(learner, false, &log->vertical, &vertical);
	}
	if (!err)
		err = log_open(learner, true, &log->horizontal, &horizontal);
	if (err)
		files_close(log);
	else
		log->started = true;
	pthread_rwlock_unlock(&log->lock);
	if (err)
		return err;
	if (vertical.homeless + horizontal.homeless)
		log_warning("event=recalled streams=%llu error=\"no room for their units\" "
			    "effect=\"their n-step windows begin anew\"",
			(unsigned long long)(vertical.homeless + horizontal.homeless));
	(void)experience_log_read_status(log, &status);
	log_notice("event=recalled experiences=%llu horizontal=%llu repeated=%llu refused=%llu "
		   "agents=%zu segments=%llu bytes=%llu torn_bytes=%llu damaged_bytes=%llu ms=%.0f",
		(unsigned long long)vertical.experiences,
		(unsigned long long)horizontal.experiences, (unsigned long long)vertical.repeated,
		(unsigned long long)(vertical.refused + horizontal.refused),
		sequences_count(&learner->sequences), (unsigned long long)status.segments,
		(unsigned long long)status.bytes, (unsigned long long)status.torn_bytes,
		(unsigned long long)status.damaged_bytes, (learner_now_s() - start_s) * 1e3);
	return 0;
}

void experience_log_stop(struct learner *learner)
{
	struct experience_log *log = learner->log;

	if (!log)
		return;
	experience_log_flush(learner);
	pthread_rwlock_wrlock(&log->lock);
	files_close(log);
	pthread_rwlock_unlock(&log->lock);
}

int experience_log_enter(struct experience_log *log)
{
	if (!log)
		return 0;
	/* Never wait for a start, which reads all there is: others are served by this thread. */
	if (pthread_rwlock_tryrdlock(&log->lock))
		return -ESHUTDOWN;
	if (log->started)
		return 0;
	pthread_rwlock_unlock(&log->lock);
	return -ESHUTDOWN;
}

void experience_log_leave(struct experience_log *log)
{
	if (log)
		pthread_rwlock_unlock(&log->lock);
}

int experience_log_append(struct experience_log *log, struct batch_writer *batch)
{
	if (!log)
		return 0;
	batch_seal(batch, STATE_SCHEMA, unix_us());
	return segments_append(log->vertical, batch->record, batch->bytes, batch->count);
}

void experience_log_queue(struct experience_log *log, const struct experience *experience)
{
	static const struct batch_source own = {.agent = ""};

	if (!log)
		return;
	if (!log->queue.record && batch_writer_init(&log->queue, &own, STATE_SIZE)) {
		batch_writer_free(&log->queue);
		return;
	}
	(void)batch_add(&log->queue, experience);
}

void experience_log_flush(struct learner *learner)
{
	struct experience_log *log = learner->log;
	struct batch_writer queue;

	if (!log)
		return;
	pthread_mutex_lock(&learner->lock);
	queue = log->queue;
	memset(&log->queue, 0, sizeof(log->queue));
	pthread_mutex_unlock(&learner->lock);
	/* Nobody waits for an acknowledgement; a failure is logged where it happens. */
	if (queue.count && experience_log_enter(log) == 0) {
		batch_seal(&queue, STATE_SCHEMA, unix_us());
		(void)segments_append(log->horizontal, queue.record, queue.bytes, queue.count);
		experience_log_leave(log);
	}
	batch_writer_free(&queue);
}

bool experience_log_read_status(struct experience_log *log, struct segments_status *status)
{
	struct segments_status other;

	memset(status, 0, sizeof(*status));
	if (!log || experience_log_enter(log))
		return false;
	segments_read_status(log->vertical, status);
	segments_read_status(log->horizontal, &other);
	experience_log_leave(log);
	status->segments += other.segments;
	status->bytes += other.bytes;
	status->experiences += other.experiences;
	status->appends += other.appends;
	status->syncs += other.syncs;
	status->failures += other.failures;
	status->torn_bytes += other.torn_bytes;
	status->damaged_bytes += other.damaged_bytes;
	status->set_aside += other.set_aside;
	return true;
}
