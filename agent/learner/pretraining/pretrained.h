// SPDX-License-Identifier: Apache-2.0
/*
 * The networks that a new learner starts from: made by `ebbtide-learner pretrain`, part of the
 * program (agent/learner/pretraining/pretrained/, whose README has the commands), or in a folder.
 */
#ifndef EBBTIDE_PRETRAINED_H
#define EBBTIDE_PRETRAINED_H

#include "learner/dqn/checkpoint.h"
#include "learner/dqn/network.h"

#define PRETRAINED_NONE "none"

/*
 * The weights of @name ("vertical", "horizontal") from @folder's NAME.checkpoint; NULL: the
 * program's own. Errors as checkpoint_read(); free(checkpoint->weights).
 */
int pretrained_read(const char *folder, const char *name, struct checkpoint *checkpoint,
	char *error, size_t error_size);
/*
 * The same as a network of @shape (network_destroy()); -EINVAL with the reason in @error when it is
 * of another schema or shape. @path: of the file itself; NULL: the program's own of @name.
 */
int pretrained_network(const char *path, const char *name, const struct network_shape *shape,
	struct network *network, char *error, size_t error_size);

#endif
