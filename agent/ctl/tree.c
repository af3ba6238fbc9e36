// SPDX-License-Identifier: Apache-2.0
#include "ctl/ctl.h"

#include "common/small_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ctl_read(const struct ctl *ctl, const char *path, char *out, size_t size)
{
	char full[CTL_PATH_MAX];
	size_t used;
	int err;

	snprintf(full, sizeof(full), "%s/%s", ctl->tree, path);
	err = small_file_read(full, out, size);
	used = strlen(out);
	if (used > 0 && out[used - 1] == '\n')
		out[used - 1] = '\0';
	return err;
}

double ctl_read_number(const struct ctl *ctl, const char *path)
{
	char text[CTL_VALUE_MAX];

	return ctl_read(ctl, path, text, sizeof(text)) ? 0 : strtod(text, NULL);
}

int ctl_write(const struct ctl *ctl, const char *path, const char *value)
{
	char full[CTL_PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", ctl->tree, path);
	return small_file_write(full, value);
}

int ctl_skip_dots(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int ctl_each_service(const struct ctl *ctl,
	void (*each)(const struct ctl *ctl, const char *path, void *context), void *context)
{
	char folder[CTL_PATH_MAX], path[CTL_PATH_MAX];
	struct dirent **namespaces, **services;
	int found = 0;
	int count;

	snprintf(folder, sizeof(folder), "%s/services", ctl->tree);
	count = scandir(folder, &namespaces, ctl_skip_dots, alphasort);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		int inner;

		snprintf(
			folder, sizeof(folder), "%s/services/%s", ctl->tree, namespaces[i]->d_name);
		inner = scandir(folder, &services, ctl_skip_dots, alphasort);
		for (int k = 0; k < inner; k++) {
			snprintf(path, sizeof(path), "services/%s/%s", namespaces[i]->d_name,
				services[k]->d_name);
			each(ctl, path, context);
			found++;
			free(services[k]);
		}
		if (inner >= 0)
			free(services);
		free(namespaces[i]);
	}
	free(namespaces);
	return found;
}

int ctl_complain_tree(const struct ctl *ctl)
{
	fprintf(stderr,
		"ebbctl: no tree at %s: start ebbtide-agent on this node, or name its mount point "
		"with --tree\n",
		ctl->tree);
	return CTL_EXIT_FAILED;
}

struct search {
	const char *name;
	char *path;
	size_t size;
	int matches;
	char known[512];
};

static void match(const struct ctl *ctl, const char *path, void *context)
{
	struct search *search = context;
	const char *name = path + strlen("services/");
	const char *base = strrchr(name, '/') + 1;
	size_t used = strlen(search->known);

	(void)ctl;
	snprintf(search->known + used, sizeof(search->known) - used, " %s", name);
	if (strcmp(search->name, strchr(search->name, '/') ? name : base) != 0)
		return;
	search->matches++;
	snprintf(search->path, search->size, "%s", path);
}

int ctl_match_service(const struct ctl *ctl, const char *name, char *path, size_t size)
{
	struct search search = {.name = name, .path = path, .size = size};
	int found = ctl_each_service(ctl, match, &search);

	return found < 0 ? found : search.matches;
}

int ctl_find_service(const struct ctl *ctl, const char *name, char *path, size_t size)
{
	struct search search = {.name = name, .path = path, .size = size};
	int found = ctl_each_service(ctl, match, &search);

	if (found < 0) {
		ctl_complain_tree(ctl);
		return found;
	}
	if (search.matches == 1)
		return 0;
	if (search.matches == 0)
		fprintf(stderr, "ebbctl: no service \"%s\" on this node; there are:%s\n", name,
			search.known[0] ? search.known : " none");
	else
		fprintf(stderr, "ebbctl: \"%s\" is in several namespaces; give NAMESPACE/NAME:%s\n",
			name, search.known);
	return search.matches ? -EEXIST : -ENOENT;
}
