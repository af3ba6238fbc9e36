// SPDX-License-Identifier: Apache-2.0
#include "ctl/trace_perfetto.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	bool is_oom;
	uint64_t start_ns; /* Unix */
	uint64_t latency_ns;
	bool has_parts;
	uint64_t parts_ns[PARTS];
	size_t pod;
	unsigned int lane;
	char *name;
	char *arguments; /* a JSON object */
};

/* One line of the file: a request, or a part of one. */
struct slice {
	uint64_t start_ns;
	uint64_t length_ns;
	const struct entry *entry;
	int part; /* -1: the whole */
};

struct pod {
	char name[254];
	uint64_t *lane_ends_ns;
	unsigned int lanes;
};

struct perfetto {
	struct entry *entries;
	size_t count;
	size_t room;
	size_t left_out;
	struct pod *pods;
	size_t pod_count;
};

struct perfetto *perfetto_new(void)
{
	return calloc(1, sizeof(struct perfetto));
}

void perfetto_free(struct perfetto *perfetto)
{
	if (!perfetto)
		return;
	for (size_t i = 0; i < perfetto->count; i++) {
		free(perfetto->entries[i].name);
		free(perfetto->entries[i].arguments);
	}
	for (size_t i = 0; i < perfetto->pod_count; i++)
		free(perfetto->pods[i].lane_ends_ns);
	free(perfetto->pods);
	free(perfetto->entries);
	free(perfetto);
}

/* Index of @name; -ENOMEM. */
static int pod_find(struct perfetto *perfetto, const char *name)
{
	struct pod *pods;

	/* Those of the newest events are asked for most. */
	for (size_t i = perfetto->pod_count; i-- > 0;)
		if (strcmp(perfetto->pods[i].name, name) == 0)
			return (int)i;
	pods = realloc(perfetto->pods, (perfetto->pod_count + 1) * sizeof(*pods));
	if (!pods)
		return -ENOMEM;
	perfetto->pods = pods;
	memset(&pods[perfetto->pod_count], 0, sizeof(*pods));
	snprintf(pods[perfetto->pod_count].name, sizeof(pods->name), "%s", name);
	return (int)perfetto->pod_count++;
}

static char *arguments_of(const struct trace_event *event)
{
	json_t *arguments = json_pack("{s:s, s:I, s:s}", "container", event->container, "pid",
		(json_int_t)event->pid, "comm", event->comm);
	char *text;

	if (arguments && event->kind == TRACE_REQUEST) {
		json_object_set_new(arguments, "protocol", json_string(event->protocol));
		json_object_set_new(arguments, "status", json_integer(event->status));
		if (event->grpc_status >= 0)
			json_object_set_new(
				arguments, "grpc_status", json_integer(event->grpc_status));
		json_object_set_new(
			arguments, "outcome", json_string(event->failed ? "failed" : "answered"));
		json_object_set_new(arguments, "peer", json_string(event->peer));
		json_object_set_new(arguments, "peer_port", json_integer(event->peer_port));
		json_object_set_new(
			arguments, "request_bytes", json_integer((json_int_t)event->request_bytes));
		json_object_set_new(arguments, "response_bytes",
			json_integer((json_int_t)event->response_bytes));
		json_object_set_new(arguments, "reasons", json_string(event->reasons));
	}
	text = json_dumps(arguments, JSON_COMPACT);
	json_decref(arguments);
	return text;
}

static char *name_of(const struct trace_event *event)
{
	json_t *value;
	char name[300], *text;

	if (event->kind == TRACE_OOM)
		snprintf(name, sizeof(name), "OOM kill of %s", event->comm);
	else
		snprintf(name, sizeof(name), "%s%s%s%s", event->is_call ? "to: " : "",
			event->method[0] ? event->method : event->protocol,
			event->path[0] ? " " : "", event->path);
	value = json_string(name);
	text = json_dumps(value, JSON_ENCODE_ANY);
	json_decref(value);
	return text;
}

int perfetto_add(struct perfetto *perfetto, const struct trace_event *event)
{
	struct entry *entry;
	int pod;

	/* A refill is no span and belongs to no request's track. */
	if (event->kind == TRACE_MISSED || event->kind == TRACE_REFILL)
		return 0;
	if (perfetto->count == PERFETTO_EVENTS_MAX) {
		perfetto->left_out++;
		return -ENOSPC;
	}
	if (perfetto->count == perfetto->room) {
		size_t room = perfetto->room ? 2 * perfetto->room : 64;
		struct entry *entries = realloc(perfetto->entries, room * sizeof(*entries));

		if (!entries)
			goto no_memory;
		perfetto->entries = entries;
		perfetto->room = room;
	}
	pod = pod_find(perfetto, event->pod);
	if (pod < 0)
		goto no_memory;
	entry = &perfetto->entries[perfetto->count];
	*entry = (struct entry){.is_oom = event->kind == TRACE_OOM,
		.start_ns = event->time_us * 1000,
		.latency_ns = event->latency_ns,
		.has_parts = event->has_parts,
		.pod = (size_t)pod,
		.name = name_of(event),
		.arguments = arguments_of(event)};
	memcpy(entry->parts_ns, event->parts_ns, sizeof(entry->parts_ns));
	if (!entry->name || !entry->arguments) {
		free(entry->name);
		free(entry->arguments);
		goto no_memory;
	}
	perfetto->count++;
	return 0;
no_memory:
	perfetto->left_out++;
	return -ENOMEM;
}

size_t perfetto_count(const struct perfetto *perfetto)
{
	return perfetto->count;
}

size_t perfetto_left_out(const struct perfetto *perfetto)
{
	return perfetto->left_out;
}

static int entry_compare(const void *one, const void *other)
{
	const struct entry *a = one, *b = other;

	return a->start_ns < b->start_ns ? -1 : a->start_ns > b->start_ns;
}

/* What encloses comes first. */
static int slice_compare(const void *one, const void *other)
{
	const struct slice *a = one, *b = other;

	if (a->start_ns != b->start_ns)
		return a->start_ns < b->start_ns ? -1 : 1;
	if (a->length_ns != b->length_ns)
		return a->length_ns > b->length_ns ? -1 : 1;
	return a->part < b->part ? -1 : a->part > b->part;
}

/* Slices of one track may not overlap: the first of the pod's tracks that is free by then. */
static int lanes_assign(struct perfetto *perfetto)
{
	for (size_t i = 0; i < perfetto->pod_count; i++)
		perfetto->pods[i].lanes = 0;
	for (size_t i = 0; i < perfetto->count; i++) {
		struct entry *entry = &perfetto->entries[i];
		struct pod *pod = &perfetto->pods[entry->pod];
		unsigned int lane = 0;

		while (lane < pod->lanes && pod->lane_ends_ns[lane] > entry->start_ns)
			lane++;
		if (lane == pod->lanes) {
			uint64_t *ends = realloc(pod->lane_ends_ns, (lane + 1) * sizeof(*ends));

			if (!ends)
				return -ENOMEM;
			pod->lane_ends_ns = ends;
			pod->lanes++;
		}
		pod->lane_ends_ns[lane] = entry->start_ns + entry->latency_ns;
		entry->lane = lane;
	}
	return 0;
}

static size_t slices_make(const struct perfetto *perfetto, struct slice *slices)
{
	size_t count = 0;

	for (size_t i = 0; i < perfetto->count; i++) {
		const struct entry *entry = &perfetto->entries[i];
		uint64_t at_ns = entry->start_ns, end_ns = entry->start_ns + entry->latency_ns;

		slices[count++] = (struct slice){at_ns, entry->latency_ns, entry, -1};
		for (int part = 0; entry->has_parts && part < PARTS; part++) {
			uint64_t length_ns = entry->parts_ns[part];

			if (length_ns > end_ns - at_ns)
				length_ns = end_ns - at_ns;
			if (length_ns)
				slices[count++] = (struct slice){at_ns, length_ns, entry, part};
			at_ns += length_ns;
		}
	}
	qsort(slices, count, sizeof(*slices), slice_compare);
	return count;
}

#define US(ns) (unsigned long long)((ns) / 1000), (unsigned int)((ns) % 1000)

static void slice_write(FILE *out, const struct slice *slice, uint64_t zero_ns)
{
	const struct entry *entry = slice->entry;
	/* Processes and threads count from 1: 0 is the idle task's. */
	size_t process = entry->pod + 1;
	unsigned int thread = entry->lane + 1;

	if (entry->is_oom)
		fprintf(out,
			",\n{\"ph\":\"i\",\"s\":\"p\",\"cat\":\"oom\",\"name\":%s,\"ts\":%llu.%03u,"
			"\"pid\":%zu,\"tid\":%u,\"args\":%s}",
			entry->name, US(slice->start_ns - zero_ns), process, thread,
			entry->arguments);
	else if (slice->part < 0)
		fprintf(out,
			",\n{\"ph\":\"X\",\"cat\":\"request\",\"name\":%s,\"ts\":%llu.%03u,"
			"\"dur\":%llu.%03u,\"pid\":%zu,\"tid\":%u,\"args\":%s}",
			entry->name, US(slice->start_ns - zero_ns), US(slice->length_ns), process,
			thread, entry->arguments);
	else
		fprintf(out,
			",\n{\"ph\":\"X\",\"cat\":\"part\",\"name\":\"%s\",\"ts\":%llu.%03u,"
			"\"dur\":%llu.%03u,\"pid\":%zu,\"tid\":%u}",
			trace_part_names[slice->part], US(slice->start_ns - zero_ns),
			US(slice->length_ns), process, thread);
}

static void names_write(const struct perfetto *perfetto, FILE *out)
{
	for (size_t i = 0; i < perfetto->pod_count; i++) {
		fprintf(out,
			"%s\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%zu,\"args\":{"
			"\"name\":\"%s\"}}",
			i ? "," : "", i + 1, perfetto->pods[i].name);
		for (unsigned int lane = 0; lane < perfetto->pods[i].lanes; lane++)
			fprintf(out,
				",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%zu,\"tid\":%u,"
				"\"args\":{\"name\":\"requests %u\"}}",
				i + 1, lane + 1, lane + 1);
	}
}

int perfetto_write(
	struct perfetto *perfetto, FILE *out, const char *service, uint64_t missed, uint64_t lost)
{
	struct slice *slices = calloc(perfetto->count * (1 + PARTS) + 1, sizeof(*slices));
	uint64_t zero_ns;
	size_t count;
	int err = slices ? 0 : -ENOMEM;

	if (!err && perfetto->count)
		qsort(perfetto->entries, perfetto->count, sizeof(*perfetto->entries),
			entry_compare);
	if (!err)
		err = lanes_assign(perfetto);
	if (err)
		goto out;
	zero_ns = perfetto->count ? perfetto->entries[0].start_ns : 0;
	/* Times count from the first request: a double has no room for Unix nanoseconds. */
	fprintf(out,
		"{\"displayTimeUnit\":\"ms\",\"otherData\":{\"service\":\"%s\",\"start_unix_us\":%llu,"
		"\"missed\":%llu,\"lost_on_node\":%llu,\"left_out\":%zu},\"traceEvents\":[",
		service, (unsigned long long)(zero_ns / 1000), (unsigned long long)missed,
		(unsigned long long)lost, perfetto->left_out);
	names_write(perfetto, out);
	count = slices_make(perfetto, slices);
	for (size_t i = 0; i < count; i++)
		slice_write(out, &slices[i], zero_ns);
	fprintf(out, "\n]}\n");
	if (fflush(out) || ferror(out))
		err = -EIO;
out:
	free(slices);
	return err;
}
