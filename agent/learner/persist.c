// SPDX-License-Identifier: Apache-2.0
/* The networks of both policies to and from the state directory. */
#include "common/log.h"
#include "common/state.h"
#include "learner/checkpoint.h"
#include "learner/learner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct part {
	const char *name;
	struct brain *brain;
	uint32_t actions;
};

static void parts_of(const struct learner *learner, struct part parts[2])
{
	parts[0] = (struct part){"vertical", learner->vertical, ACTION_VERTICAL};
	parts[1] = (struct part){"horizontal", learner->horizontal, ACTION_HORIZONTAL};
}

static void part_path(
	const struct learner *learner, const struct part *part, char *out, size_t size)
{
	snprintf(out, size, "%s/%s.checkpoint", learner->config.state_directory, part->name);
}

int persist_save(struct learner *learner)
{
	struct part parts[2];
	int result = 0;

	/* A standby shares the leader's folder and has nothing to add to it. */
	if (!atomic_load(&learner->leader))
		return 0;
	parts_of(learner, parts);
	for (int i = 0; i < 2; i++) {
		struct checkpoint checkpoint = {
			.schema = STATE_SCHEMA, .inputs = STATE_SIZE, .actions = parts[i].actions};
		char path[768];
		int err = brain_copy_weights(
			parts[i].brain, &checkpoint.weights, &checkpoint.count, &checkpoint.steps);

		part_path(learner, &parts[i], path, sizeof(path));
		if (!err)
			err = checkpoint_write(path, &checkpoint);
		free(checkpoint.weights);
		if (err) {
			log_err("checkpoint=%s error=\"%s\" effect=\"the last one stays\"", path,
				strerror(-err));
			result = err;
		}
	}
	pthread_mutex_lock(&learner->lock);
	learner->counts.checkpoints += result == 0;
	pthread_mutex_unlock(&learner->lock);
	return result;
}

static void part_load(const struct learner *learner, const struct part *part)
{
	struct checkpoint checkpoint = {0};
	char path[768], error[160] = "";
	int err;

	part_path(learner, part, path, sizeof(path));
	err = checkpoint_read(path, &checkpoint, error, sizeof(error));
	if (err == -ENOENT) {
		log_info("checkpoint=%s event=\"none yet: a new network\"", path);
		return;
	}
	if (!err && (checkpoint.schema != STATE_SCHEMA || checkpoint.inputs != STATE_SIZE ||
			    checkpoint.actions != part->actions)) {
		snprintf(error, sizeof(error),
			"made for schema %u, %u inputs, %u actions; this is %d, %d, %u",
			checkpoint.schema, checkpoint.inputs, checkpoint.actions, STATE_SCHEMA,
			STATE_SIZE, part->actions);
		err = -EINVAL;
	}
	if (!err) {
		err = brain_adopt_weights(part->brain, checkpoint.weights, checkpoint.count);
		if (err)
			snprintf(error, sizeof(error), "%zu weights do not fit this network",
				checkpoint.count);
	}
	if (err)
		log_warning(
			"checkpoint=%s error=\"%s\" effect=\"a new network; the file stays until "
			"the next checkpoint\"",
			path, error[0] ? error : strerror(-err));
	else
		log_info("checkpoint=%s event=loaded steps=%llu", path,
			(unsigned long long)checkpoint.steps);
	free(checkpoint.weights);
}

void persist_load(struct learner *learner)
{
	struct part parts[2];

	parts_of(learner, parts);
	for (int i = 0; i < 2; i++)
		part_load(learner, &parts[i]);
}
