// SPDX-License-Identifier: Apache-2.0
#include "learner/journal.h"

#include "common/log.h"
#include "learner/text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A line with all states, and names as long as they may be, is half of it. */
#define LINE_BYTES 8192
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

/* --- a line: {"name":value,...} --- */

struct line {
	struct text text;
	char bytes[LINE_BYTES];
};

static void name(struct line *line, const char *field)
{
	text_add(&line->text, line->text.at == line->bytes ? "{\"" : ",\"");
	text_add(&line->text, field);
	text_add(&line->text, "\":");
}

static void add_string(struct line *line, const char *field, const char *value)
{
	name(line, field);
	text_add_quoted(&line->text, value);
}

static void add_flag(struct line *line, const char *field, bool value)
{
	name(line, field);
	text_add(&line->text, value ? "true" : "false");
}

/* What reads it has integers of 64 bits with a sign. */
static void add_integer(struct line *line, uint64_t value)
{
	text_add_count(&line->text, value < INT64_MAX ? value : INT64_MAX);
}

static void add_count(struct line *line, const char *field, uint64_t value)
{
	name(line, field);
	add_integer(line, value);
}

/* JSON has no number that is none. */
static void add_value(struct line *line, double value)
{
	if (isfinite(value))
		text_add_fixed(&line->text, value, 6);
	else
		text_add(&line->text, "null");
}

static void add_number(struct line *line, const char *field, double value)
{
	name(line, field);
	add_value(line, value);
}

static void add_floats(struct line *line, const char *field, const float *values, size_t count)
{
	name(line, field);
	for (size_t i = 0; i < count; i++) {
		text_add(&line->text, i ? "," : "[");
		add_value(line, (double)values[i]);
	}
	text_add(&line->text, "]");
}

static void line_begin(
	struct line *line, double unix_s, const struct service *service, const char *kind)
{
	text_begin(&line->text, line->bytes, sizeof(line->bytes));
	add_count(line, "time_us", (uint64_t)(unix_s * 1e6));
	add_string(line, "kind", kind);
	add_string(line, "namespace", service->namespace);
	add_string(line, "service", service->name);
	add_string(line, "policy", service->objective.policy);
}

static void line_end(struct line *line, struct journal *journal)
{
	text_add(&line->text, "}\n");
	line_put(journal, line->bytes, (size_t)(line->text.at - line->bytes));
}

static void add_sample(struct line *line, const struct sample *sample)
{
	const char *separator = "{\"";

	name(line, "sample");
#define X(field)                                                                                   \
	text_add(&line->text, separator);                                                          \
	text_add(&line->text, #field "\":");                                                       \
	_Generic(sample->field, double : add_value, default : add_integer)(line, sample->field);   \
	separator = ",\"";
	SAMPLE_FIELDS(X)
#undef X
	text_add(&line->text, "}");
}

void journal_sample(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit)
{
	struct line line;

	if (!journal)
		return;
	line_begin(&line, unix_s, service, "sample");
	add_string(&line, "agent", unit->agent);
	add_sample(&line, &unit->sample);
	line_end(&line, journal);
}

void journal_vertical(struct journal *journal, double unix_s, const struct service *service,
	const struct service_unit *unit, const struct vertical_decision *decision, bool apply)
{
	const struct allowance *allowance = &decision->plan.allowance;
	const struct sample *sample = &unit->sample;
	struct line line;

	if (!journal)
		return;
	line_begin(&line, unix_s, service, "vertical");
	add_string(&line, "agent", unit->agent);
	add_flag(&line, "apply", apply);
	add_string(&line, "action",
		decision->action < ACTION_VERTICAL ? action_vertical_name(decision->action)
						   : "limit");
	add_flag(&line, "explored", decision->explored);
	add_string(&line, "rule", envelope_rule_name(decision->rule));
	add_number(&line, "from_millicores", sample->cpu_limit_millicores);
	add_number(&line, "to_millicores", decision->plan.cpu_millicores);
	add_count(&line, "from_bytes", sample->memory_limit_bytes);
	add_count(&line, "to_bytes", decision->plan.memory_bytes);
	add_count(&line, "burst_us", decision->plan.burst_us);
	add_count(&line, "cpu_rung", decision->plan.cpu_rung);
	add_number(&line, "violation_price", decision->plan.violation_price);
	add_number(&line, "latency_us", sample->latency_objective_us);
	add_count(&line, "requests", sample->requests);
	add_count(&line, "requests_over", sample->requests_over);
	add_count(&line, "cpu_used_us", sample->cpu_used_us);
	add_string(&line, "why", decision->why);
	add_sample(&line, sample);
	if (allowance->trigger_age_share > 0) {
		add_number(&line, "trigger_age_share", allowance->trigger_age_share);
		add_count(&line, "refills_per_period", allowance->refills_per_period);
		add_number(&line, "ceiling_millicores", allowance->ceiling_millicores);
	}
	if (decision->has_q) {
		add_floats(&line, "q", decision->q, ACTION_VERTICAL);
		add_count(&line, "mask", decision->mask);
		add_floats(&line, "state", unit->state, STATE_SIZE);
	}
	line_end(&line, journal);
}

void journal_horizontal(struct journal *journal, double unix_s, const struct service *service,
	const struct horizontal_decision *decision, float reward, bool apply)
{
	struct line line;

	if (!journal)
		return;
	line_begin(&line, unix_s, service, "horizontal");
	add_flag(&line, "apply", apply);
	add_string(&line, "action",
		decision->action < ACTION_HORIZONTAL ? action_horizontal_name(decision->action)
						     : "replicas");
	add_flag(&line, "explored", decision->explored);
	add_string(&line, "rule", envelope_rule_name(decision->rule));
	add_count(&line, "from_replicas", service->replicas);
	add_count(&line, "to_replicas", decision->replicas);
	add_number(&line, "reward", (double)reward);
	add_string(&line, "why", decision->why);
	if (decision->has_q) {
		add_floats(&line, "q", decision->q, ACTION_HORIZONTAL);
		add_floats(&line, "state", service->state, STATE_SIZE);
	}
	line_end(&line, journal);
}
