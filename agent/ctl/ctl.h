// SPDX-License-Identifier: Apache-2.0
/* What ebbctl's commands share: the tree they read and the services they name. */
#ifndef EBBTIDE_CTL_H
#define EBBTIDE_CTL_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#define CTL_EXIT_FAILED 1
#define CTL_EXIT_USAGE	2
#define CTL_PATH_MAX	1024
#define CTL_VALUE_MAX	512

struct ctl {
	const char *tree; /* mount point of the agent's tree */
};

struct ctl_command {
	const char *name;
	const char *arguments;
	const char *text;
	int (*run)(struct ctl *ctl, int argc, char **argv);
	bool has_help; /* of its own */
};

/* A file below the tree without its newline; 0 or -errno. */
int ctl_read(const struct ctl *ctl, const char *path, char *out, size_t size);
double ctl_read_number(const struct ctl *ctl, const char *path);
/* 0 or -errno: the file's own answer to the value. */
int ctl_write(const struct ctl *ctl, const char *path, const char *value);
/*
 * "fibonacci", "default/fibonacci" -> "services/default/fibonacci". 0; -ENOENT and -EEXIST (several
 * namespaces have it) after a message that lists what there is.
 */
int ctl_find_service(const struct ctl *ctl, const char *name, char *path, size_t size);
/* The same without a word: how many services of this node have that name, or -errno. */
int ctl_match_service(const struct ctl *ctl, const char *name, char *path, size_t size);
/* Call @each with "services/NAMESPACE/NAME" for every service, sorted. Returns how many. */
int ctl_each_service(const struct ctl *ctl,
	void (*each)(const struct ctl *ctl, const char *path, void *context), void *context);
/* For scandir(): all but hidden names. */
int ctl_skip_dots(const struct dirent *entry);
/* Say that the tree is not there, and what to do. Returns CTL_EXIT_FAILED. */
int ctl_complain_tree(const struct ctl *ctl);

int ctl_status(struct ctl *ctl, int argc, char **argv);
int ctl_top(struct ctl *ctl, int argc, char **argv);
int ctl_explain(struct ctl *ctl, int argc, char **argv);
int ctl_trace(struct ctl *ctl, int argc, char **argv);
int ctl_get(struct ctl *ctl, int argc, char **argv);
int ctl_set(struct ctl *ctl, int argc, char **argv);

#endif
