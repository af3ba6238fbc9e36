// SPDX-License-Identifier: Apache-2.0
/*
 * The experiences of one report as a record of the log: who sent it, then each experience with the
 * stream it belongs to. Fixed binary, one allocation a batch. Pure; layout in docs/replay.md.
 */
#ifndef EBBTIDE_BATCH_H
#define EBBTIDE_BATCH_H

#include "learner/dqn/replay.h"
#include "learner/storage/segment.h"

/* With their terminating zeros. */
#define BATCH_AGENT_BYTES     256
#define BATCH_NAMESPACE_BYTES 64
#define BATCH_SERVICE_BYTES   254

/* Which report; the learner's own (horizontal) batches have an empty agent and zeros. */
struct batch_source {
	const char *agent;
	uint64_t incarnation;
	uint64_t sequence;
};

struct experience {
	const char *namespace;
	const char *service;
	const float *state;	 /* [inputs] */
	const float *next_state; /* [inputs] */
	float reward;
	uint32_t action;
	enum replay_end end;
	uint64_t next_mask; /* bit a: action a was allowed in next_state */
};

struct batch_writer {
	uint8_t *record; /* owned; a whole record once sealed */
	size_t bytes;
	size_t allocated;
	uint32_t inputs;
	uint32_t count;
};

/* @inputs floats a state. 0; -EINVAL: a name too long; -ENOMEM. */
int batch_writer_init(
	struct batch_writer *writer, const struct batch_source *source, uint32_t inputs);
void batch_writer_free(struct batch_writer *writer);
/* 0; -EINVAL: a name that does not fit or an action over 255; -E2BIG: no room in a record. */
int batch_add(struct batch_writer *writer, const struct experience *experience);
/* Make the record that segment_record_place() takes. */
void batch_seal(struct batch_writer *writer, uint16_t schema, uint64_t time_us);

struct batch_reader {
	struct batch_source source;
	uint32_t count; /* of experiences */
	uint32_t inputs;
	uint32_t read; /* of these */
	const uint8_t *next;
};

/*
 * Everything in the reader and in what it reads points into the record. The whole batch is checked
 * here: 0; -EINVAL: not a batch, or of other than @inputs floats or with an action not under
 * @actions.
 */
int batch_reader_init(struct batch_reader *reader, const struct segment_record *record,
	uint32_t inputs, uint32_t actions);
/* False after the last. */
bool batch_read(struct batch_reader *reader, struct experience *experience);

#endif
