// SPDX-License-Identifier: Apache-2.0
#include "node/trace/trace.h"

#include "common/log.h"
#include "node/trace/process.h"
#include "node/trace/trace_line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_LINES 1024

struct trace_line {
	const struct unit *unit; /* compared only */
	uint64_t number;	 /* of its unit's lines */
	uint64_t latency_ns;
	uint8_t reasons; /* 0: not a request */
	char *text;
};

struct trace_reader {
	struct trace_reader *next;
	struct unit *unit;
	struct trace_choice choice;
	uint64_t cursor; /* number of the ring's next line */
	uint64_t number; /* of the unit's next line */
};

struct trace {
	uint64_t next; /* number of lines ever written */
	struct trace_line lines[TRACE_LINES];
	struct trace_reader *readers;
};

/* The unit frees them. */
struct trace_exemplar {
	struct request_event event;
	uint64_t time_us; /* 0: none */
	uint32_t process;
	uint8_t reasons;
	char command[PROCESS_COMMAND_BYTES];
	char pod[UNIT_NAME_MAX];
	char container[64];
};

#define EXEMPLARS (1 + HIST_OCTAVES)

int trace_open(struct agent *agent)
{
	agent->trace = calloc(1, sizeof(*agent->trace));
	return agent->trace ? 0 : -ENOMEM;
}

void trace_close(struct agent *agent)
{
	struct trace *trace = agent->trace;

	if (!trace)
		return;
	while (trace->readers)
		trace_reader_close(trace, trace->readers);
	for (size_t i = 0; i < TRACE_LINES; i++)
		free(trace->lines[i].text);
	free(trace);
	agent->trace = NULL;
}

static void line_put(struct trace *trace, struct unit *unit, uint64_t latency_ns, uint8_t reasons,
	const char *text)
{
	struct trace_line *line = &trace->lines[trace->next % TRACE_LINES];
	char *copy = strdup(text);

	if (!copy)
		return;
	free(line->text);
	line->text = copy;
	line->unit = unit;
	line->number = unit->trace_lines++;
	line->latency_ns = latency_ns;
	line->reasons = reasons;
	trace->next++;
}

/*
 * Who served it. Where the kernel side does not say, a container with one process leaves no doubt;
 * that is looked up at most once a tick.
 */
static void process_find(struct agent *agent, struct container *container, uint32_t process,
	const char *command, struct trace_source *source, char found[PROCESS_COMMAND_BYTES])
{
	uint64_t now_us = monotonic_us();

	source->process = process;
	source->command = found;
	snprintf(found, PROCESS_COMMAND_BYTES, "%.*s", PROCESS_COMMAND_BYTES - 1, command);
	if (!process) {
		if (now_us - container->sole_seen_us >= (uint64_t)agent->config.tick_ms * 1000) {
			container->sole_process = process_sole(&agent->driver, container->path);
			container->sole_seen_us = now_us;
		}
		source->process = container->sole_process;
	}
	if (!found[0] && source->process)
		(void)process_command(source->process, found);
}

/* Reasons by what is wanted: that every request is to be told of makes none of them slow. */
static uint8_t reasons_of(const struct request_event *event, const struct trace_choice *wanted)
{
	uint8_t reasons = event->reasons & (uint8_t)~REASON_SLOW;

	if (wanted->slower_us && event->latency_ns >= wanted->slower_us * 1000)
		reasons |= REASON_SLOW;
	if (wanted->one_in == 1)
		reasons |= REASON_SAMPLED;
	/* The choice has changed since. */
	return reasons ? reasons : event->reasons;
}

static bool choice_is_empty(const struct trace_choice *choice)
{
	return !choice->slower_us && !choice->one_in && !choice->errors;
}

static void refill_seen(struct agent *agent, const struct reflex_event *event)
{
	struct container *container =
		event->slot < agent->config.max_slots ? agent->owners[event->slot] : NULL;
	struct trace_source source = {0};
	struct trace_choice wanted;
	char text[TRACE_LINE_BYTES];

	/* Its slot may have been given to another since. */
	if (!container || probes_slot(agent->probes, event->slot)->epoch != event->epoch)
		return;
	wanted = trace_wanted(agent->trace, container->unit);
	if (choice_is_empty(&wanted))
		return;
	source.namespace = container->unit->namespace;
	source.service = container->unit->service;
	source.pod = container->pod;
	source.container = container->name;
	source.command = "";
	source.time_us = unix_us() - monotonic_us() + event->at_ns / 1000;
	trace_line_refill(event, &source, text);
	line_put(agent->trace, container->unit, 0, 0, text);
	container->refilled_from_ns[container->refilled_next % REFILLS_KEPT] = event->came_from_ns;
	container->refilled_until_ns[container->refilled_next++ % REFILLS_KEPT] =
		event->came_until_ns;
}

void trace_refills(struct agent *agent)
{
	struct reflex_event events[64];
	size_t count;

	do {
		count = reflex_events(agent->reflex, events, 64);
		for (size_t i = 0; i < count; i++)
			refill_seen(agent, &events[i]);
	} while (count == 64);
}

/* Whether a refill was for it; of several that came with the oldest, the first to end. */
static bool was_refilled_for(struct container *container, const struct request_event *event)
{
	if (event->side != SIDE_SERVER)
		return false;
	for (size_t i = 0; i < REFILLS_KEPT; i++) {
		if (event->start_ns < container->refilled_from_ns[i] ||
			event->start_ns >= container->refilled_until_ns[i])
			continue;
		container->refilled_until_ns[i] = 0;
		return true;
	}
	return false;
}

static void exemplar_keep(struct unit *unit, const struct container *container,
	const struct request_event *event, const struct trace_source *source)
{
	struct trace_exemplar *exemplar;

	if (!unit->exemplars)
		unit->exemplars = calloc(EXEMPLARS, sizeof(*unit->exemplars));
	if (!unit->exemplars)
		return;
	exemplar = &unit->exemplars[hist_bucket(event->latency_ns / 1000) / HIST_LINEAR];
	exemplar->event = *event;
	exemplar->time_us = source->time_us;
	exemplar->process = source->process;
	exemplar->reasons = source->reasons;
	snprintf(exemplar->command, sizeof(exemplar->command), "%s", source->command);
	snprintf(exemplar->pod, sizeof(exemplar->pod), "%s", container->pod);
	snprintf(exemplar->container, sizeof(exemplar->container), "%s", container->name);
}

static void request_seen(struct agent *agent, struct container *container,
	const struct request_event *event, struct trace_source *source,
	char command[PROCESS_COMMAND_BYTES])
{
	struct unit *unit = container->unit;
	struct trace_choice wanted = trace_wanted(agent->trace, unit);
	char text[TRACE_LINE_BYTES];

	/* The event's clock is the monotonic one; people want the wall's. */
	source->time_us = unix_us() - monotonic_us() + event->start_ns / 1000;
	source->reasons = reasons_of(event, &wanted);
	trace_refills(agent);
	if (was_refilled_for(container, event))
		source->reasons |= REASON_REFILL;
	/* Told of only because the reflex might have acted for it. */
	else if (event->reasons == REASON_SLOW && wanted.one_in != 1 &&
		 allowance_trigger_us(agent, unit) > 0 &&
		 (!wanted.slower_us || event->latency_ns < wanted.slower_us * 1000))
		return;
	process_find(agent, container, event->process, event->command, source, command);
	if (source->reasons & REASON_EXEMPLAR)
		exemplar_keep(unit, container, event, source);
	if (!(source->reasons & ~REASON_EXEMPLAR))
		return;
	trace_line_request(event, source, text);
	line_put(agent->trace, unit, event->latency_ns, source->reasons, text);
}

static void oom_seen(struct agent *agent, struct container *container,
	const struct oom_event *event, struct trace_source *source,
	char command[PROCESS_COMMAND_BYTES])
{
	struct unit *unit = container->unit;
	char text[TRACE_LINE_BYTES];

	source->time_us = unix_us();
	/* The victim of several may be gone by now; it is never the one that is left. */
	container->sole_process = 0;
	container->sole_seen_us = monotonic_us();
	process_find(agent, container, event->process, event->command, source, command);
	log_warning("unit=%s/%s pod=%s container=%s event=\"OOM kill\" pid=%u comm=\"%s\" "
		    "memory_limit_bytes=%lld",
		unit->namespace, unit->service, container->pod, container->name, source->process,
		command, (long long)container->current.memory_max_bytes);
	trace_line_oom(source, text);
	line_put(agent->trace, unit, 0, 0, text);
}

void trace_event(const union probes_event *event, void *context)
{
	struct agent *agent = context;
	char command[PROCESS_COMMAND_BYTES];
	struct trace_source source = {0};
	struct container *container;
	/* The slot stands at the same place in every kind. */
	uint32_t slot = event->oom.slot;

	pthread_mutex_lock(&agent->lock);
	container = slot < agent->config.max_slots ? agent->owners[slot] : NULL;
	if (container) {
		source.namespace = container->unit->namespace;
		source.service = container->unit->service;
		source.pod = container->pod;
		source.container = container->name;
		if (event->kind == EVENT_REQUEST)
			request_seen(agent, container, &event->request, &source, command);
		else if (event->kind == EVENT_OOM)
			oom_seen(agent, container, &event->oom, &source, command);
	}
	pthread_mutex_unlock(&agent->lock);
}

struct trace_reader *trace_reader_open(struct trace *trace, struct unit *unit)
{
	struct trace_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->unit = unit;
	reader->cursor = trace->next;
	reader->number = unit->trace_lines;
	reader->next = trace->readers;
	trace->readers = reader;
	return reader;
}

void trace_reader_close(struct trace *trace, struct trace_reader *reader)
{
	struct trace_reader **link = &trace->readers;

	while (*link != reader)
		link = &(*link)->next;
	*link = reader->next;
	free(reader);
}

static int number_parse(const char *text, uint64_t highest, uint64_t *value)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end)
		return -EINVAL;
	if (errno || number > highest)
		return -ERANGE;
	*value = number;
	return 0;
}

int trace_choice_set(struct trace_choice *choice, const char *name, const char *text)
{
	uint64_t value;
	int err;

	if (strcmp(name, "slower_us") == 0)
		return number_parse(text, HIST_MAX_US, &choice->slower_us);
	if (strcmp(name, "one_in") == 0)
		return number_parse(text, 1U << 31, &choice->one_in);
	if (strcmp(name, "errors") != 0)
		return -EINVAL;
	err = number_parse(text, 1, &value);
	if (!err)
		choice->errors = value;
	return err;
}

/* The unit's line at or behind the ring's @cursor. */
static const struct trace_line *line_at(
	const struct trace *trace, const struct unit *unit, uint64_t *cursor)
{
	if (*cursor + TRACE_LINES < trace->next)
		*cursor = trace->next - TRACE_LINES;
	for (; *cursor < trace->next; (*cursor)++)
		if (trace->lines[*cursor % TRACE_LINES].unit == unit)
			return &trace->lines[*cursor % TRACE_LINES];
	return NULL;
}

static void reader_rewind(const struct trace *trace, struct trace_reader *reader)
{
	const struct trace_line *line;

	reader->cursor = 0;
	line = line_at(trace, reader->unit, &reader->cursor);
	if (line)
		reader->number = line->number;
}

int trace_reader_choose(struct trace *trace, struct trace_reader *reader, const char *text)
{
	struct trace_choice choice = reader->choice;
	char copy[128], *save = NULL;
	bool rewind = false;
	int err = 0;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
		return -EINVAL;
	for (char *line = strtok_r(copy, "\n", &save); line && !err;
		line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value)
			return -EINVAL;
		*value++ = '\0';
		if (strcmp(line, "kept") == 0 && strcmp(value, "1") == 0)
			rewind = true;
		else
			err = trace_choice_set(&choice, line, value);
	}
	if (err)
		return err;
	reader->choice = choice;
	if (rewind)
		reader_rewind(trace, reader);
	return 0;
}

static bool line_is_chosen(const struct trace_line *line, const struct trace_choice *choice)
{
	/* All there is, and what is no request. */
	if (!line->reasons || choice_is_empty(choice))
		return true;
	/* What the reflex acted for explains its own lines. */
	if (line->reasons & REASON_REFILL)
		return true;
	return (choice->slower_us && line->latency_ns >= choice->slower_us * 1000) ||
	       (choice->one_in && line->reasons & REASON_SAMPLED) ||
	       (choice->errors && line->reasons & REASON_ERROR);
}

size_t trace_reader_read(struct trace *trace, struct trace_reader *reader, char *out, size_t size)
{
	const struct trace_line *line;
	size_t used = 0;

	while ((line = line_at(trace, reader->unit, &reader->cursor))) {
		size_t length = strlen(line->text);
		size_t missed_length = 0;
		char missed[64];

		if (line->number != reader->number)
			missed_length =
				(size_t)snprintf(missed, sizeof(missed), "{\"missed\":%llu}\n",
					(unsigned long long)(line->number - reader->number));
		if (!line_is_chosen(line, &reader->choice))
			length = 0;
		if (used + missed_length + length > size)
			break;
		memcpy(out + used, missed, missed_length);
		used += missed_length;
		memcpy(out + used, line->text, length);
		used += length;
		reader->number = line->number + 1;
		reader->cursor++;
	}
	return used;
}

static void choice_join(struct trace_choice *into, const struct trace_choice *other)
{
	if (other->slower_us && (!into->slower_us || other->slower_us < into->slower_us))
		into->slower_us = other->slower_us;
	if (other->one_in && (!into->one_in || other->one_in < into->one_in))
		into->one_in = other->one_in;
	into->errors |= other->errors;
}

bool trace_is_read(const struct trace *trace, const struct unit *unit)
{
	for (const struct trace_reader *reader = trace->readers; reader; reader = reader->next)
		if (reader->unit == unit)
			return true;
	return false;
}

void trace_forget(struct trace *trace, const struct unit *unit)
{
	for (size_t i = 0; i < TRACE_LINES; i++)
		if (trace->lines[i].unit == unit)
			trace->lines[i].unit = NULL;
}

struct trace_choice trace_wanted(const struct trace *trace, const struct unit *unit)
{
	struct trace_choice wanted = unit->trace;

	for (const struct trace_reader *reader = trace->readers; reader; reader = reader->next)
		if (reader->unit == unit)
			choice_join(&wanted, &reader->choice);
	return wanted;
}

char *trace_exemplars(const struct unit *unit)
{
	char *text = NULL, line[TRACE_LINE_BYTES];
	size_t used = 0;

	for (size_t i = 0; unit->exemplars && i < EXEMPLARS; i++) {
		const struct trace_exemplar *exemplar = &unit->exemplars[i];
		struct trace_source source = {unit->namespace, unit->service, exemplar->pod,
			exemplar->container, exemplar->time_us, exemplar->process,
			exemplar->command, exemplar->reasons};
		size_t length;
		char *grown;

		if (!exemplar->time_us)
			continue;
		length = trace_line_request(&exemplar->event, &source, line);
		grown = realloc(text, used + length + 1);
		if (!grown)
			break;
		text = grown;
		memcpy(text + used, line, length + 1);
		used += length;
	}
	return text;
}
