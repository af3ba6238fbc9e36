// SPDX-License-Identifier: Apache-2.0
#include "learner/pretraining/pretrained.h"

#include "common/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The files as they are, from the project's root, where make runs. The assembler tells how long each
 * is: for C, where it begins and where it ends would be two objects, which have no difference.
 */
#define EMBED(name)                                                                                \
	__asm__(".section .rodata\n"                                                               \
		".balign 16\n"                                                                     \
		"pretrained_" #name ":\n"                                                          \
		".incbin \"agent/learner/pretraining/pretrained/" #name ".checkpoint\"\n"          \
		"1:\n"                                                                             \
		".balign 8\n"                                                                      \
		"pretrained_" #name "_bytes:\n"                                                    \
		".quad 1b - pretrained_" #name "\n"                                                \
		".previous\n");                                                                    \
	extern const uint8_t pretrained_##name[];                                                  \
	extern const uint64_t pretrained_##name##_bytes

EMBED(vertical);
EMBED(horizontal);

int pretrained_read(const char *folder, const char *name, struct checkpoint *checkpoint,
	char *error, size_t error_size)
{
	char path[1024];

	if (folder) {
		snprintf(path, sizeof(path), "%s/%s.checkpoint", folder, name);
		return checkpoint_read(path, checkpoint, error, error_size);
	}
	if (strcmp(name, "vertical") == 0)
		return checkpoint_parse(pretrained_vertical, pretrained_vertical_bytes, checkpoint,
			error, error_size);
	if (strcmp(name, "horizontal") == 0)
		return checkpoint_parse(pretrained_horizontal, pretrained_horizontal_bytes,
			checkpoint, error, error_size);
	return -ENOENT;
}

int pretrained_network(const char *path, const char *name, const struct network_shape *shape,
	struct network *network, char *error, size_t error_size)
{
	struct checkpoint checkpoint = {0};
	int err = path ? checkpoint_read(path, &checkpoint, error, error_size)
		       : pretrained_read(NULL, name, &checkpoint, error, error_size);

	memset(network, 0, sizeof(*network));
	if (err)
		return err;
	err = network_create(network, shape);
	if (!err && (checkpoint.schema != STATE_SCHEMA || checkpoint.inputs != shape->inputs ||
			    checkpoint.actions != shape->actions ||
			    checkpoint.count != network->layout.count)) {
		snprintf(error, error_size,
			"made for schema %u, %u inputs, %u actions, %zu weights; this is %d, %u, %u, "
			"%zu",
			checkpoint.schema, checkpoint.inputs, checkpoint.actions, checkpoint.count,
			STATE_SCHEMA, shape->inputs, shape->actions, network->layout.count);
		network_destroy(network);
		err = -EINVAL;
	}
	if (!err)
		memcpy(network->parameters, checkpoint.weights, checkpoint.count * sizeof(float));
	free(checkpoint.weights);
	return err;
}
