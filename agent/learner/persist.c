// SPDX-License-Identifier: Apache-2.0
/* The networks of both policies to and from the state directory. */
#include "common/log.h"
#include "common/state.h"
#include "learner/dqn/checkpoint.h"
#include "learner/learner.h"
#include "learner/pretraining/pretrained.h"
#include "learner/storage/aside.h"

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
			err = checkpoint_write(path, &checkpoint, learner->config.checkpoints);
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

/* What is wrong with a checkpoint of this program's version, as the folder it belongs into. */
static int part_check(const struct part *part, const struct checkpoint *checkpoint, char *folder,
	size_t folder_size, char *error, size_t error_size)
{
	if (checkpoint->schema != STATE_SCHEMA || checkpoint->inputs != STATE_SIZE ||
		checkpoint->actions != part->actions) {
		snprintf(error, error_size,
			"made for schema %u, %u inputs, %u actions; this is %d, %d, %u",
			checkpoint->schema, checkpoint->inputs, checkpoint->actions, STATE_SCHEMA,
			STATE_SIZE, part->actions);
		snprintf(folder, folder_size, "schema-%u", checkpoint->schema);
		return -EINVAL;
	}
	return 0;
}

static int part_adopt(const struct part *part, const struct checkpoint *checkpoint, char *folder,
	size_t folder_size, char *error, size_t error_size)
{
	int err = part_check(part, checkpoint, folder, folder_size, error, error_size);

	if (err)
		return err;
	err = brain_adopt_weights(part->brain, checkpoint->weights, checkpoint->count);
	if (err) {
		snprintf(error, error_size, "%zu weights do not fit this network",
			checkpoint->count);
		snprintf(folder, folder_size, "other-version");
	}
	return err;
}

/* 0; -ENOENT; or why not: what is no use is moved aside then, so that it replaces no good one. */
static int file_load(const struct learner *learner, const struct part *part, uint32_t age)
{
	struct checkpoint checkpoint = {0};
	char newest[768], path[800], to[1024], error[160] = "", folder[64] = "damaged";
	int err, aside;

	part_path(learner, part, newest, sizeof(newest));
	checkpoint_path(newest, age, path, sizeof(path));
	err = checkpoint_read(path, &checkpoint, error, sizeof(error));
	if (err == -ENOENT)
		return err;
	if (err == -EPROTO)
		snprintf(folder, sizeof(folder), "other-version");
	if (!err)
		err = part_adopt(part, &checkpoint, folder, sizeof(folder), error, sizeof(error));
	free(checkpoint.weights);
	if (!err) {
		log_info("checkpoint=%s event=loaded steps=%llu", path,
			(unsigned long long)checkpoint.steps);
		return 0;
	}
	/* Without a reason it could not be read, which may be another's fault. */
	if (!error[0]) {
		log_warning(
			"checkpoint=%s error=\"%s\" effect=\"passed over\"", path, strerror(-err));
		return err;
	}
	aside = aside_move(
		learner->config.state_directory, strrchr(path, '/') + 1, folder, to, sizeof(to));
	log_warning("checkpoint=%s error=\"%s\" effect=\"%s\" to=%s", path, error,
		aside ? strerror(-aside) : "set aside", to);
	return err;
}

/*
 * What was learnt in the simulator, if that is wanted: where there is no checkpoint (@begins) the network
 * starts from it, and training stays anchored to it whatever it starts from.
 */
static void part_pretrained(const struct learner *learner, const struct part *part, bool begins)
{
	const char *folder = learner->config.pretrained;
	const char *where = folder ? folder : "built-in";
	struct checkpoint checkpoint = {0};
	char error[160] = "", aside[64];
	int err;

	if (folder && strcmp(folder, PRETRAINED_NONE) == 0)
		return;
	err = pretrained_read(folder, part->name, &checkpoint, error, sizeof(error));
	if (!err)
		err = part_check(part, &checkpoint, aside, sizeof(aside), error, sizeof(error));
	if (!err)
		err = brain_anchor(part->brain, checkpoint.weights, checkpoint.count);
	if (!err && begins)
		err = part_adopt(part, &checkpoint, aside, sizeof(aside), error, sizeof(error));
	if (err)
		log_warning("network=%s pretrained=%s error=\"%s\" effect=\"%s\"", part->name,
			where, error[0] ? error : strerror(-err),
			begins ? "learns from nothing" : "training is not anchored");
	else if (begins)
		log_info("network=%s pretrained=%s event=loaded steps=%llu", part->name, where,
			(unsigned long long)checkpoint.steps);
	free(checkpoint.weights);
}

/* The newest that is sound. */
static void part_load(const struct learner *learner, const struct part *part)
{
	uint32_t refused = 0;

	for (uint32_t age = 0; age <= CHECKPOINT_KEEP_MAX; age++) {
		int err = file_load(learner, part, age);

		if (!err) {
			if (refused)
				log_warning("network=%s event=\"went back to an older "
					    "checkpoint\" refused=%u",
					part->name, refused);
			part_pretrained(learner, part, false);
			return;
		}
		refused += err != -ENOENT;
	}
	if (refused)
		log_warning("network=%s event=\"no usable checkpoint: a new network\" refused=%u",
			part->name, refused);
	else
		log_info("network=%s event=\"no checkpoint yet: a new network\"", part->name);
	part_pretrained(learner, part, true);
}

void persist_load(struct learner *learner)
{
	struct part parts[2];

	parts_of(learner, parts);
	for (int i = 0; i < 2; i++)
		part_load(learner, &parts[i]);
}
