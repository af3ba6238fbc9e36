// SPDX-License-Identifier: Apache-2.0
#include "learner/storage/recall.h"

#include "common/log.h"
#include "learner/learner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Experiences that follow one another: of one unit, or of one service for the horizontal network. */
struct stream {
	struct stream *next; /* of all */
	uint64_t time_us;    /* of the newest one */
	uint64_t experiences;
	double reward_sum;
	struct nstep window;
	const char *namespace; /* these two point into the first one's key */
	const char *service;
	char agent[];
};

struct recall {
	struct learner *learner;
	struct brain *brain;
	uint32_t actions;
	bool horizontal;
	struct stream *streams; /* owned */
	struct index by_names;
	struct recall_counts counts;
};

int recall_open(struct recall **out, struct learner *learner, bool horizontal)
{
	struct recall *recall = calloc(1, sizeof(*recall));

	if (!recall)
		return -ENOMEM;
	recall->learner = learner;
	recall->horizontal = horizontal;
	recall->brain = horizontal ? learner->horizontal : learner->vertical;
	recall->actions = horizontal ? ACTION_HORIZONTAL : ACTION_VERTICAL;
	*out = recall;
	return 0;
}

void recall_close(struct recall *recall)
{
	if (!recall)
		return;
	while (recall->streams) {
		struct stream *stream = recall->streams;

		recall->streams = stream->next;
		nstep_destroy(&stream->window);
		free(stream);
	}
	index_free(&recall->by_names);
	free(recall);
}

/* The terminating zero included, so that where one name ends counts. */
static uint64_t hash_add(uint64_t hash, const char *text)
{
	return index_hash(hash, text, strlen(text) + 1);
}

static struct stream *stream_make(
	struct recall *recall, const char *agent, const struct experience *experience)
{
	const struct train_config *config = brain_train_config(recall->brain);
	size_t agent_bytes = strlen(agent) + 1;
	size_t namespace_bytes = strlen(experience->namespace) + 1;
	size_t service_bytes = strlen(experience->service) + 1;
	struct stream *stream =
		calloc(1, sizeof(*stream) + agent_bytes + namespace_bytes + service_bytes);
	char *at;

	if (!stream)
		return NULL;
	if (nstep_create(&stream->window, config->n_step, STATE_SIZE, config->gamma)) {
		free(stream);
		return NULL;
	}
	at = memcpy(stream->agent, agent, agent_bytes);
	at = memcpy(at + agent_bytes, experience->namespace, namespace_bytes);
	stream->namespace = at;
	stream->service = memcpy(at + namespace_bytes, experience->service, service_bytes);
	return stream;
}

static struct stream *stream_get(
	struct recall *recall, const char *agent, const struct experience *experience)
{
	uint64_t hash = hash_add(INDEX_HASH_START, agent);
	struct stream *stream;

	hash = hash_add(hash_add(hash, experience->namespace), experience->service);
	for (size_t at = 0; (stream = index_find(&recall->by_names, hash, &at));)
		if (strcmp(stream->agent, agent) == 0 &&
			strcmp(stream->namespace, experience->namespace) == 0 &&
			strcmp(stream->service, experience->service) == 0)
			return stream;
	stream = stream_make(recall, agent, experience);
	if (!stream)
		return NULL;
	stream->next = recall->streams;
	recall->streams = stream;
	/* Not found again, it would begin anew each time. */
	return index_add(&recall->by_names, hash, stream) ? NULL : stream;
}

static bool is_stale(uint64_t time_us, uint64_t now_us)
{
	return now_us > time_us && now_us - time_us > SERVICE_UNIT_AGE_S * 1000000ULL;
}

static void experience_recall(struct recall *recall, const char *agent, uint64_t time_us,
	const struct experience *experience)
{
	struct stream *stream = stream_get(recall, agent, experience);
	struct brain_experience one = {.state = experience->state,
		.next_state = experience->next_state,
		.next_mask = experience->next_mask,
		.action = experience->action,
		.reward = experience->reward,
		.end = experience->end};

	if (!stream) {
		recall->counts.refused++;
		return;
	}
	/* As the unit, and its stream with it, was forgotten then. */
	if (!recall->horizontal && is_stale(stream->time_us, time_us))
		nstep_reset(&stream->window);
	stream->time_us = time_us;
	one.stream = &stream->window;
	if (brain_recall(recall->brain, &one, 1) != 1) {
		recall->counts.refused++;
		return;
	}
	stream->experiences++;
	stream->reward_sum += (double)experience->reward;
	recall->counts.experiences++;
}

static void sequences_recall(
	struct recall *recall, const char *path, const struct segment_record *record)
{
	int err = sequences_unpack(&recall->learner->sequences, record->payload, record->size,
		(uint64_t)(learner_unix_s() * 1e6));

	if (err)
		log_warning("log=%s offset=%llu error=\"sequences taken: %s\" effect=\"some may be "
			    "stored twice\"",
			path, (unsigned long long)record->offset, strerror(-err));
}

uint32_t recall_record(void *context, const char *path, const struct segment_record *record)
{
	struct recall *recall = context;
	struct experience experience;
	struct batch_reader reader;

	if (record->schema != STATE_SCHEMA)
		return 0;
	if (record->type == SEGMENT_SEQUENCES && !recall->horizontal)
		sequences_recall(recall, path, record);
	if (record->type != SEGMENT_EXPERIENCES)
		return 0;
	if (batch_reader_init(&reader, record, STATE_SIZE, recall->actions)) {
		log_warning("log=%s offset=%llu error=\"a sound record that is no batch of this "
			    "network\" effect=\"passed over\"",
			path, (unsigned long long)record->offset);
		return 0;
	}
	if (!recall->horizontal && sequences_mark(&recall->learner->sequences, reader.source.agent,
					   reader.source.incarnation, reader.source.sequence,
					   record->time_us) == -EEXIST) {
		recall->counts.repeated += reader.count;
		return 0;
	}
	while (batch_read(&reader, &experience))
		experience_recall(recall, reader.source.agent, record->time_us, &experience);
	return reader.count;
}

/* The new owner's own window, empty since the start, goes. */
static void window_move(struct nstep *to, struct nstep *from)
{
	nstep_destroy(to);
	*to = *from;
	memset(from, 0, sizeof(*from));
}

static bool stream_hand_over(struct recall *recall, struct stream *stream, uint64_t now_us)
{
	struct learner *learner = recall->learner;
	struct service *service =
		services_get(&learner->services, stream->namespace, stream->service);
	struct service_unit *unit;

	if (!service)
		return false;
	/* Exploration goes on where it was. */
	if (recall->horizontal) {
		service->counts.scale_experiences += stream->experiences;
		window_move(&service->stream, &stream->window);
		return true;
	}
	service->counts.experiences += stream->experiences;
	service->counts.reward_sum += stream->reward_sum;
	if (is_stale(stream->time_us, now_us))
		return true;
	unit = service_get_unit(service, stream->agent, brain_train_config(learner->vertical));
	if (!unit)
		return false;
	unit->updated_s = learner_now_s();
	window_move(&unit->stream, &stream->window);
	return true;
}

void recall_finish(struct recall *recall, struct recall_counts *counts)
{
	struct learner *learner = recall->learner;
	uint64_t now_us = (uint64_t)(learner_unix_s() * 1e6);

	pthread_mutex_lock(&learner->lock);
	for (size_t i = 0; i < learner->services.count; i++) {
		struct service_counts *counted = &learner->services.items[i]->counts;

		if (recall->horizontal) {
			counted->scale_experiences = 0;
			continue;
		}
		counted->experiences = 0;
		counted->reward_sum = 0;
	}
	for (struct stream *stream = recall->streams; stream; stream = stream->next)
		recall->counts.homeless += !stream_hand_over(recall, stream, now_us);
	pthread_mutex_unlock(&learner->lock);
	*counts = recall->counts;
}
