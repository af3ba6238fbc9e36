// SPDX-License-Identifier: Apache-2.0
/* ebbctl get and set: the tree's files by service and name. */
#include "common/objective.h"
#include "ctl/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_folder(const struct ctl *ctl, const char *service, const char *folder)
{
	char path[CTL_PATH_MAX], value[CTL_VALUE_MAX];
	struct dirent **files;
	int count;

	snprintf(path, sizeof(path), "%s/%s/%s", ctl->tree, service, folder);
	count = scandir(path, &files, ctl_skip_dots, alphasort);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s%s", service, folder, files[i]->d_name);
		if (files[i]->d_type != DT_DIR && ctl_read(ctl, path, value, sizeof(value)) == 0)
			printf("%s%-28s %s\n", folder, files[i]->d_name, value);
		free(files[i]);
	}
	if (count >= 0)
		free(files);
}

int ctl_get(struct ctl *ctl, int argc, char **argv)
{
	char service[CTL_PATH_MAX], path[CTL_PATH_MAX], value[CTL_VALUE_MAX];
	int err;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "ebbctl: get needs SERVICE and at most one FILE\n");
		return CTL_EXIT_USAGE;
	}
	if (ctl_find_service(ctl, argv[1], service, sizeof(service)))
		return CTL_EXIT_FAILED;
	if (argc == 2) {
		show_folder(ctl, service, "");
		show_folder(ctl, service, "objective/");
		return EXIT_SUCCESS;
	}
	snprintf(path, sizeof(path), "%s/%s", service, argv[2]);
	err = ctl_read(ctl, path, value, sizeof(value));
	if (err) {
		fprintf(stderr, "ebbctl: %s: %s (ebbctl get %s lists the files)\n", path,
			strerror(-err), argv[1]);
		return CTL_EXIT_FAILED;
	}
	printf("%s\n", value);
	return EXIT_SUCCESS;
}

static int complain_field(const char *path, const char *field)
{
	fprintf(stderr, "ebbctl: %s: no such field \"%s\"; there are", path, field);
	for (size_t i = 0; objective_fields[i]; i++)
		fprintf(stderr, " %s", objective_fields[i]);
	fputc('\n', stderr);
	return CTL_EXIT_FAILED;
}

/* What the tree's answer to a write means (docs/tree.md). */
static void explain_refusal(const char *field, const char *value, int err, char *out, size_t size)
{
	switch (err) {
	case -EINVAL:
	case -ERANGE:
		(void)objective_refusal(field, value, out, size);
		return;
	case -ENOENT:
		snprintf(out, size, "the API knows no ScaleObjectives (is the CRD installed?)");
		return;
	case -EACCES:
		snprintf(out, size, "the API denies the agent the right");
		return;
	case -EAGAIN:
		snprintf(out, size, "it was changed meanwhile, try again");
		return;
	case -ECONNREFUSED:
	case -ETIMEDOUT:
	case -EIO:
	case -EBUSY:
		snprintf(out, size, "the Kubernetes API does not take it now (%s)", strerror(-err));
		return;
	default:
		snprintf(out, size, "%s", strerror(-err));
	}
}

int ctl_set(struct ctl *ctl, int argc, char **argv)
{
	char service[CTL_PATH_MAX], path[CTL_PATH_MAX], before[CTL_VALUE_MAX] = "?";
	char why[2 * CTL_VALUE_MAX];
	int err;

	if (argc != 4) {
		fprintf(stderr, "ebbctl: set needs SERVICE, FIELD and VALUE\n");
		return CTL_EXIT_USAGE;
	}
	if (ctl_find_service(ctl, argv[1], service, sizeof(service)))
		return CTL_EXIT_FAILED;
	if (objective_refusal(argv[2], argv[3], why, sizeof(why)))
		return complain_field(service, argv[2]);
	snprintf(path, sizeof(path), "%s/objective/%s", service, argv[2]);
	(void)ctl_read(ctl, path, before, sizeof(before));
	err = ctl_write(ctl, path, argv[3]);
	if (err) {
		explain_refusal(argv[2], argv[3], err, why, sizeof(why));
		fprintf(stderr, "ebbctl: %s: \"%s\": %s; it stays %s\n", path, argv[3], why,
			before[0] ? before : "empty");
		return CTL_EXIT_FAILED;
	}
	printf("%s: %s -> %s\n", argv[2], before, argv[3]);
	return EXIT_SUCCESS;
}
