// SPDX-License-Identifier: Apache-2.0
/* Decisions kept for people: every one into a ring and the decisions file, and out by HTTP. */
#include "learner/learner.h"
#include "learner/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STATUS_OK	 200
#define STATUS_BAD	 400
#define STATUS_NOT_FOUND 404
/* Names in an error or an answer; of a service on more nodes the first ones. */
#define NAMES_BYTES 2048

void decisions_keep(struct learner *learner, struct service *service, struct service_unit *unit,
	const struct decision_record *record)
{
	const struct decision_subject subject = {.namespace = service->namespace,
		.service = service->name,
		.agent = unit ? unit->agent : NULL};

	decision_ring_push(unit ? &unit->decisions : &service->decisions,
		&learner->services.decisions, record);
	journal_decision(learner->journal, &subject, record);
}

/* What the lock guards, copied. */
struct found {
	char namespace[64];
	char service[OBJECTIVE_NAME_MAX];
	char agent[256]; /* of the unit; empty: none */
	size_t units;
	char names[NAMES_BYTES]; /* of its nodes, as JSON strings */
	struct decision_record *limits;
	uint32_t limit_count;
	struct decision_record *replicas;
	uint32_t replica_count;
	uint64_t since_us; /* the oldest that is kept of either */
};

struct asking {
	struct learner *learner;
	const struct decisions_query *query;
	uint64_t at_us;
	uint32_t most;
	struct found found;
	unsigned int status;
	char error[NAMES_BYTES + 768];
};

__attribute__((format(printf, 3, 4))) static int refuse(
	struct asking *asking, unsigned int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(asking->error, sizeof(asking->error), format, args);
	va_end(args);
	asking->status = status;
	return -EINVAL;
}

static int number_parse(struct asking *asking, const char *name, const char *text, uint64_t lowest,
	uint64_t highest, uint64_t *value)
{
	char *end;

	if (!text)
		return 0;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || *value < lowest || *value > highest)
		return refuse(asking, STATUS_BAD,
			"%s: \"%.40s\" is not a whole number from %" PRIu64 " to %" PRIu64 "\n",
			name, text, lowest, highest);
	return 0;
}

static struct service *service_find(struct asking *asking)
{
	const struct services *services = &asking->learner->services;
	const char *name = asking->query->service;
	const char *slash = strchr(name, '/');
	struct service *found = NULL;
	char names[NAMES_BYTES];
	struct text text;
	size_t matches = 0;

	text_begin(&text, names, sizeof(names));
	for (size_t i = 0; i < services->count; i++) {
		struct service *service = services->items[i];
		size_t length = strlen(service->namespace);

		if (slash ? (size_t)(slash - name) != length ||
					memcmp(name, service->namespace, length) != 0 ||
					strcmp(slash + 1, service->name) != 0
			  : strcmp(name, service->name) != 0)
			continue;
		found = service;
		matches++;
		text_add(&text, " ");
		text_add(&text, service->namespace);
	}
	if (matches == 1)
		return found;
	if (matches > 1)
		(void)refuse(asking, STATUS_BAD,
			"service: \"%.254s\" is in several namespaces, give NAMESPACE/NAME:%s\n",
			name, names);
	else
		(void)refuse(asking, STATUS_NOT_FOUND,
			"service: \"%.320s\" is not known to this learner: no agent has reported "
			"it and no ScaleObjective names it\n",
			name);
	return NULL;
}

/* The unit that was asked for, or the one with the newest decision by then. */
static struct service_unit *unit_find(const struct asking *asking, const struct service *service)
{
	struct service_unit *best = NULL;
	uint64_t best_us = 0;

	for (size_t i = 0; i < service->unit_count; i++) {
		struct service_unit *unit = service->units[i];
		uint32_t age = decision_ring_find(&unit->decisions, asking->at_us);
		uint64_t time_us;

		if (asking->query->unit) {
			if (strcmp(unit->agent, asking->query->unit) == 0)
				return unit;
			continue;
		}
		if (age == unit->decisions.count)
			continue;
		time_us = decision_ring_get(&unit->decisions, age)->time_us;
		if (!best || time_us > best_us) {
			best = unit;
			best_us = time_us;
		}
	}
	return best;
}

static void oldest_note(uint64_t *since_us, const struct decision_ring *ring)
{
	uint64_t time_us;

	if (ring->count == 0)
		return;
	time_us = decision_ring_get(ring, ring->count - 1)->time_us;
	if (*since_us == 0 || time_us < *since_us)
		*since_us = time_us;
}

static int ring_copy(const struct asking *asking, const struct decision_ring *ring,
	struct decision_record **records, uint32_t *count)
{
	if (ring->count == 0)
		return 0;
	*records = malloc(ring->count * sizeof(**records));
	if (!*records)
		return -ENOMEM;
	*count = decision_ring_read(ring, asking->at_us, asking->most, *records);
	return 0;
}

/* Nothing by then: why. */
static int refuse_empty(struct asking *asking, const struct service *service)
{
	const char *name = asking->query->service;
	uint64_t since_us = asking->found.since_us;

	if (asking->learner->services.decisions.bytes == 0)
		return refuse(asking, STATUS_NOT_FOUND,
			"this learner keeps no decisions in memory: give it --decisions-mib, or "
			"read its --decisions FILE\n");
	if (since_us) {
		time_t since_s = (time_t)(since_us / 1000000);
		char since[32];
		struct tm utc;

		gmtime_r(&since_s, &utc);
		strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &utc);
		return refuse(asking, STATUS_NOT_FOUND,
			"at: nothing is kept of %.320s from before %s: the learner's decisions "
			"file (--decisions) may have it\n",
			name, since);
	}
	if (!service->has_objective)
		return refuse(asking, STATUS_NOT_FOUND,
			"%.320s has no ScaleObjective: nothing is decided\n", name);
	if (service->objective.mode == OBJECTIVE_OBSERVE)
		return refuse(asking, STATUS_NOT_FOUND,
			"the mode of %.320s is observe: nothing is decided\n", name);
	return refuse(asking, STATUS_NOT_FOUND,
		"nothing has been decided for %.320s yet: %zu nodes report it, 'ebbctl status' "
		"on a node says whether its agent reaches this learner\n",
		name, service->unit_count);
}

/* As many as there is room for. */
static void names_of_units(struct found *found, const struct service *service)
{
	struct text text;

	text_begin(&text, found->names, sizeof(found->names));
	for (size_t i = 0; i < service->unit_count; i++) {
		/* Quotes, escapes of six bytes at most, a comma. */
		if ((size_t)(text.end - text.at) < 6 * strlen(service->units[i]->agent) + 4)
			return;
		text_add(&text, i ? "," : "");
		text_add_quoted(&text, service->units[i]->agent);
	}
}

/* With the lock held. */
static int find(struct asking *asking)
{
	struct service *service = service_find(asking);
	struct found *found = &asking->found;
	struct service_unit *unit;
	int err = 0;

	if (!service)
		return -EINVAL;
	snprintf(found->namespace, sizeof(found->namespace), "%s", service->namespace);
	snprintf(found->service, sizeof(found->service), "%s", service->name);
	found->units = service->unit_count;
	names_of_units(found, service);
	unit = unit_find(asking, service);
	if (asking->query->unit && !unit)
		return refuse(asking, STATUS_NOT_FOUND,
			"unit: \"%.255s\" does not report %s; there are [%s]\n",
			asking->query->unit, found->service, found->names);
	for (size_t i = 0; i < service->unit_count; i++)
		if (!unit || service->units[i] == unit)
			oldest_note(&found->since_us, &service->units[i]->decisions);
	oldest_note(&found->since_us, &service->decisions);
	if (unit) {
		snprintf(found->agent, sizeof(found->agent), "%s", unit->agent);
		err = ring_copy(asking, &unit->decisions, &found->limits, &found->limit_count);
	}
	if (!err)
		err = ring_copy(
			asking, &service->decisions, &found->replicas, &found->replica_count);
	if (err)
		return err;
	return found->limit_count + found->replica_count ? 0 : refuse_empty(asking, service);
}

static void lines_write(FILE *out, const struct found *found, const char *agent,
	const struct decision_record *records, uint32_t count, const char **separator)
{
	const struct decision_subject subject = {
		.namespace = found->namespace, .service = found->service, .agent = agent};
	char line[DECISION_LINE_BYTES];

	for (uint32_t i = 0; i < count; i++) {
		size_t size = decision_json_line(line, &subject, &records[i]);

		/* Without the end of the line. */
		fprintf(out, "%s%.*s", *separator, (int)size - 1, line);
		*separator = ",\n";
	}
}

static void answer_write(FILE *out, const struct found *found)
{
	char quoted[6 * OBJECTIVE_NAME_MAX], separated[6 * 64];
	const char *separator = "\n";
	struct text text;

	text_begin(&text, separated, sizeof(separated));
	text_add_quoted(&text, found->namespace);
	text_begin(&text, quoted, sizeof(quoted));
	text_add_quoted(&text, found->service);
	fprintf(out, "{\"namespace\":%s,\"service\":%s,\"unit_count\":%zu,\"units\":[%s],",
		separated, quoted, found->units, found->names);
	fprintf(out, "\"since_us\":%" PRIu64 ",\"decisions\":[", found->since_us);
	lines_write(out, found, found->agent, found->limits, found->limit_count, &separator);
	lines_write(out, found, NULL, found->replicas, found->replica_count, &separator);
	fputs("]}\n", out);
}

static int query_parse(struct asking *asking)
{
	const struct decisions_query *query = asking->query;
	uint64_t most = 1;

	asking->at_us = UINT64_MAX;
	if (!query->service || !query->service[0])
		return refuse(asking, STATUS_BAD, "service: give a NAME or NAMESPACE/NAME\n");
	if (number_parse(asking, "at", query->at_us, 1, INT64_MAX, &asking->at_us) ||
		number_parse(asking, "n", query->count, 1, DECISION_RING_MOST, &most))
		return -EINVAL;
	asking->most = (uint32_t)most;
	return 0;
}

unsigned int decisions_answer(
	struct learner *learner, const struct decisions_query *query, char **body, size_t *size)
{
	struct asking asking = {.learner = learner, .query = query, .status = STATUS_OK};
	int err = query_parse(&asking);
	FILE *out;

	*body = NULL;
	if (!err) {
		pthread_mutex_lock(&learner->lock);
		err = find(&asking);
		pthread_mutex_unlock(&learner->lock);
	}
	out = err == -ENOMEM ? NULL : open_memstream(body, size);
	if (out) {
		if (err)
			fputs(asking.error, out);
		else
			answer_write(out, &asking.found);
		if (fclose(out)) {
			free(*body);
			*body = NULL;
		}
	}
	free(asking.found.limits);
	free(asking.found.replicas);
	return asking.status;
}
