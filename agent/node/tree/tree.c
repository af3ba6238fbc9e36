// SPDX-License-Identifier: Apache-2.0
#define FUSE_USE_VERSION 31

#include "node/tree/tree.h"

#include "common/log.h"
#include "node/probes/detail.h"
#include "node/trace/trace.h"
#include "node/tree/publish.h"
#include "node/tree/tree_files.h"
#include "node/tree/tree_trace.h"

#include <errno.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Longest path: /services/NAMESPACE/SERVICE/objective/FIELD. */
#define PARTS_MAX 6

struct tree {
	struct agent *agent;
	struct fuse *fuse;
	pthread_t thread;
	struct publisher *publisher;
};

enum node_kind {
	NODE_NONE,
	NODE_ROOT,
	NODE_AGENT,
	NODE_AGENT_FILE,
	NODE_PROGRAMS,
	NODE_PROGRAM,
	NODE_SERVICES,
	NODE_NAMESPACE,
	NODE_UNIT,
	NODE_UNIT_FILE,
	NODE_OBJECTIVE,
	NODE_OBJECTIVE_FIELD,
	NODE_TRACE,
	NODE_TRACE_FILE,
};

struct node {
	enum node_kind kind;
	struct unit *unit;
	size_t index; /* into the table of its directory */
	char namespace[64];
};

struct path {
	char text[1024];
	char *parts[PARTS_MAX];
	size_t count;
};

static struct tree *tree_self(void)
{
	return fuse_get_context()->private_data;
}

static int path_split(const char *from, struct path *path)
{
	char *save = NULL;

	path->count = 0;
	if ((size_t)snprintf(path->text, sizeof(path->text), "%s", from) >= sizeof(path->text))
		return -ENAMETOOLONG;
	for (char *part = strtok_r(path->text, "/", &save); part;
		part = strtok_r(NULL, "/", &save)) {
		if (path->count == PARTS_MAX)
			return -ENOENT;
		path->parts[path->count++] = part;
	}
	return 0;
}

static void node_agent(const struct agent *agent, const struct path *path, struct node *node)
{
	const struct probes_program *programs;
	size_t count;

	if (path->count == 1) {
		node->kind = NODE_AGENT;
		return;
	}
	if (strcmp(path->parts[1], "programs") == 0) {
		programs = probes_programs(agent->probes, &count);
		if (path->count == 2)
			node->kind = NODE_PROGRAMS;
		for (size_t i = 0; i < count && path->count == 3; i++) {
			if (strcmp(programs[i].name, path->parts[2]) == 0) {
				node->kind = NODE_PROGRAM;
				node->index = i;
			}
		}
		return;
	}
	for (size_t i = 0; i < tree_agent_file_count && path->count == 2; i++) {
		if (strcmp(tree_agent_files[i].name, path->parts[1]) == 0) {
			node->kind = NODE_AGENT_FILE;
			node->index = i;
		}
	}
}

static void node_unit(const struct path *path, struct node *node)
{
	const char *name = path->count > 3 ? path->parts[3] : NULL;
	const char *file = path->count > 4 ? path->parts[4] : NULL;

	if (!name) {
		node->kind = NODE_UNIT;
		return;
	}
	if (strcmp(name, "objective") == 0) {
		if (!file)
			node->kind = NODE_OBJECTIVE;
		for (size_t i = 0; file && objective_fields[i]; i++) {
			if (strcmp(objective_fields[i], file) == 0) {
				node->kind = NODE_OBJECTIVE_FIELD;
				node->index = i;
			}
		}
		return;
	}
	if (strcmp(name, "trace") == 0) {
		if (!file)
			node->kind = NODE_TRACE;
		for (size_t i = 0; file && i < TREE_TRACE_FILES; i++) {
			if (strcmp(tree_trace_names[i], file) == 0) {
				node->kind = NODE_TRACE_FILE;
				node->index = i;
			}
		}
		return;
	}
	for (size_t i = 0; i < tree_unit_file_count && !file; i++) {
		if (strcmp(tree_unit_files[i].name, name) == 0) {
			node->kind = NODE_UNIT_FILE;
			node->index = i;
		}
	}
}

/* The lock is held. 0 or -ENOENT. */
static int node_find(struct agent *agent, const char *from, struct node *node)
{
	struct path path;
	int err = path_split(from, &path);

	memset(node, 0, sizeof(*node));
	if (err)
		return err;
	if (path.count == 0) {
		node->kind = NODE_ROOT;
	} else if (strcmp(path.parts[0], "agent") == 0) {
		node_agent(agent, &path, node);
	} else if (strcmp(path.parts[0], "services") == 0) {
		if (path.count == 1)
			node->kind = NODE_SERVICES;
		for (size_t i = 0; i < agent->units.count && path.count == 2; i++)
			if (strcmp(agent->units.items[i]->namespace, path.parts[1]) == 0)
				node->kind = NODE_NAMESPACE;
		if (path.count >= 2)
			snprintf(node->namespace, sizeof(node->namespace), "%s", path.parts[1]);
		if (path.count >= 3) {
			node->unit = units_find(&agent->units, path.parts[1], path.parts[2]);
			if (node->unit)
				node_unit(&path, node);
		}
	}
	return node->kind == NODE_NONE ? -ENOENT : 0;
}

static bool node_is_directory(const struct node *node)
{
	switch (node->kind) {
	case NODE_ROOT:
	case NODE_AGENT:
	case NODE_PROGRAMS:
	case NODE_SERVICES:
	case NODE_NAMESPACE:
	case NODE_UNIT:
	case NODE_OBJECTIVE:
	case NODE_TRACE:
		return true;
	default:
		return false;
	}
}

static bool node_is_writable(const struct node *node)
{
	return node->kind == NODE_OBJECTIVE_FIELD ||
	       (node->kind == NODE_AGENT_FILE && tree_agent_files[node->index].store) ||
	       (node->kind == NODE_TRACE_FILE && tree_trace_is_writable(node->index));
}

static bool node_is_pipe(const struct node *node)
{
	return node->kind == NODE_TRACE_FILE && node->index == TREE_TRACE_PIPE;
}

static int tree_getattr(const char *path, struct stat *info, struct fuse_file_info *file)
{
	struct agent *agent = tree_self()->agent;
	struct node node;
	int err;

	(void)file;
	memset(info, 0, sizeof(*info));
	pthread_mutex_lock(&agent->lock);
	err = node_find(agent, path, &node);
	pthread_mutex_unlock(&agent->lock);
	if (err)
		return err;
	info->st_mtime = info->st_ctime = info->st_atime =
		(time_t)(agent->started_unix_us / 1000000);
	if (node_is_directory(&node)) {
		info->st_mode = S_IFDIR | 0755;
		info->st_nlink = 2;
		return 0;
	}
	info->st_mode = S_IFREG | (node_is_writable(&node) ? 0644 : 0444);
	info->st_nlink = 1;
	/* As sysfs: a page, whatever the value's length. */
	info->st_size = node_is_pipe(&node) ? 0 : 4096;
	return 0;
}

static void list_units(
	const struct agent *agent, const struct node *node, void *buffer, fuse_fill_dir_t fill)
{
	for (size_t i = 0; i < agent->units.count; i++) {
		const struct unit *unit = agent->units.items[i];
		bool repeated = false;

		if (node->kind == NODE_NAMESPACE) {
			if (strcmp(unit->namespace, node->namespace) == 0)
				fill(buffer, unit->service, NULL, 0, 0);
			continue;
		}
		for (size_t k = 0; k < i; k++)
			repeated |= strcmp(agent->units.items[k]->namespace, unit->namespace) == 0;
		if (!repeated)
			fill(buffer, unit->namespace, NULL, 0, 0);
	}
}

static int tree_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
	struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
	struct agent *agent = tree_self()->agent;
	const struct probes_program *programs;
	struct node node;
	size_t count;
	int err;

	(void)offset, (void)file, (void)flags;
	pthread_mutex_lock(&agent->lock);
	err = node_find(agent, path, &node);
	if (!err && !node_is_directory(&node))
		err = -ENOTDIR;
	if (err)
		goto out;
	fill(buffer, ".", NULL, 0, 0);
	fill(buffer, "..", NULL, 0, 0);
	switch (node.kind) {
	case NODE_ROOT:
		fill(buffer, "agent", NULL, 0, 0);
		fill(buffer, "services", NULL, 0, 0);
		break;
	case NODE_AGENT:
		fill(buffer, "programs", NULL, 0, 0);
		for (size_t i = 0; i < tree_agent_file_count; i++)
			fill(buffer, tree_agent_files[i].name, NULL, 0, 0);
		break;
	case NODE_PROGRAMS:
		programs = probes_programs(agent->probes, &count);
		for (size_t i = 0; i < count; i++)
			fill(buffer, programs[i].name, NULL, 0, 0);
		break;
	case NODE_UNIT:
		fill(buffer, "objective", NULL, 0, 0);
		fill(buffer, "trace", NULL, 0, 0);
		for (size_t i = 0; i < tree_unit_file_count; i++)
			fill(buffer, tree_unit_files[i].name, NULL, 0, 0);
		break;
	case NODE_OBJECTIVE:
		for (size_t i = 0; objective_fields[i]; i++)
			fill(buffer, objective_fields[i], NULL, 0, 0);
		break;
	case NODE_TRACE:
		for (size_t i = 0; i < TREE_TRACE_FILES; i++)
			fill(buffer, tree_trace_names[i], NULL, 0, 0);
		break;
	default:
		list_units(agent, &node, buffer, fill);
		break;
	}
out:
	pthread_mutex_unlock(&agent->lock);
	return err;
}

static void program_show(const struct probes_program *program, char *out, size_t size)
{
	if (program->attached)
		snprintf(out, size, "on\n");
	else if (program->replaced_by)
		snprintf(out, size, "replaced by %s%s%s\n", program->replaced_by,
			program->reason[0] ? ": " : "", program->reason);
	else
		snprintf(out, size, "off: %s\n", program->reason);
}

static int node_show(const struct agent *agent, const struct node *node, char *out, size_t size)
{
	const struct probes_program *programs;
	size_t count;
	int err = 0;

	switch (node->kind) {
	case NODE_AGENT_FILE:
		tree_agent_files[node->index].show(agent, out, size);
		break;
	case NODE_PROGRAM:
		programs = probes_programs(agent->probes, &count);
		program_show(&programs[node->index], out, size);
		break;
	case NODE_UNIT_FILE:
		tree_unit_files[node->index].show(node->unit, out, size);
		break;
	case NODE_OBJECTIVE_FIELD:
		if (!node->unit->has_objective) {
			snprintf(out, size, "-\n");
			break;
		}
		err = objective_show(
			&node->unit->objective, objective_fields[node->index], out, size - 1);
		if (!err)
			memcpy(out + strlen(out), "\n", sizeof("\n"));
		break;
	default:
		err = -EISDIR;
	}
	return err;
}

static int tree_open_file(const char *path, struct fuse_file_info *file)
{
	struct agent *agent = tree_self()->agent;
	struct node node;
	int err;

	/* Values change by themselves: never from the page cache. */
	file->direct_io = 1;
	pthread_mutex_lock(&agent->lock);
	err = node_find(agent, path, &node);
	if (!err && (file->flags & O_ACCMODE) != O_RDONLY && !node_is_writable(&node))
		err = -EACCES;
	if (!err && node_is_pipe(&node)) {
		/* A stream: each open has its own place and its own choice. */
		file->nonseekable = 1;
		file->fh = (uintptr_t)trace_reader_open(agent->trace, node.unit);
		err = file->fh ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&agent->lock);
	return err;
}

/* Also of a reader that was killed: what it wanted is not wanted any more. */
static int tree_release(const char *path, struct fuse_file_info *file)
{
	struct agent *agent = tree_self()->agent;
	struct node node;

	if (!file->fh)
		return 0;
	pthread_mutex_lock(&agent->lock);
	trace_reader_close(agent->trace, (struct trace_reader *)(uintptr_t)file->fh);
	if (node_find(agent, path, &node) == 0 && node.unit)
		detail_apply(agent, node.unit);
	pthread_mutex_unlock(&agent->lock);
	return 0;
}

/* What is shown from @offset on. */
static int text_read(const char *text, off_t offset, char *buffer, size_t size)
{
	size_t length = strlen(text);

	if ((size_t)offset >= length)
		return 0;
	if (size > length - (size_t)offset)
		size = length - (size_t)offset;
	memcpy(buffer, text + offset, size);
	return (int)size;
}

static int tree_read(
	const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *file)
{
	struct agent *agent = tree_self()->agent;
	char value[TREE_VALUE_MAX] = "", *text = NULL;
	struct node node;
	int result;

	pthread_mutex_lock(&agent->lock);
	result = node_find(agent, path, &node);
	if (result) {
		/* Gone meanwhile. */
	} else if (node_is_pipe(&node)) {
		/* Whatever the offset; 0 bytes: nothing new yet. */
		result = (int)trace_reader_read(
			agent->trace, (struct trace_reader *)(uintptr_t)file->fh, buffer, size);
	} else if (node.kind == NODE_TRACE_FILE) {
		text = tree_trace_show(node.unit, node.index);
		result = text ? text_read(text, offset, buffer, size) : -ENOMEM;
		free(text);
	} else {
		result = node_show(agent, &node, value, sizeof(value));
		if (!result)
			result = text_read(value, offset, buffer, size);
	}
	pthread_mutex_unlock(&agent->lock);
	return result;
}

static int trace_store(
	struct agent *agent, const struct node *node, const char *text, struct fuse_file_info *file)
{
	int err;

	if (!node_is_pipe(node))
		return tree_trace_store(agent, node->unit, node->index, text);
	err = trace_reader_choose(agent->trace, (struct trace_reader *)(uintptr_t)file->fh, text);
	if (!err)
		detail_apply(agent, node->unit);
	return err;
}

static int tree_write(const char *path, const char *buffer, size_t size, off_t offset,
	struct fuse_file_info *file)
{
	struct tree *tree = tree_self();
	struct agent *agent = tree->agent;
	struct objective objective = {0};
	char text[TREE_VALUE_MAX];
	size_t length = size;
	struct node node;
	int err;

	if (size >= sizeof(text))
		return -EINVAL;
	while (length > 0 && (buffer[length - 1] == '\n' || buffer[length - 1] == ' '))
		length--;
	memcpy(text, buffer, length);
	text[length] = '\0';
	pthread_mutex_lock(&agent->lock);
	err = node_find(agent, path, &node);
	if (!err && offset != 0 && !node_is_pipe(&node))
		err = -EINVAL;
	if (!err && node.kind == NODE_AGENT_FILE)
		err = tree_agent_files[node.index].store(agent, text);
	if (!err && node.kind == NODE_TRACE_FILE)
		err = trace_store(agent, &node, text, file);
	if (!err && node.kind == NODE_OBJECTIVE_FIELD) {
		publish_start(node.unit, &objective);
		err = objective_set(&objective, objective_fields[node.index], text);
	}
	pthread_mutex_unlock(&agent->lock);
	/* The object in the API is the truth; the lock is not held while it is written. */
	if (!err && node.kind == NODE_OBJECTIVE_FIELD)
		err = publish_objective(tree->publisher, &objective);
	return err ? err : (int)size;
}

static int tree_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
	(void)path, (void)size, (void)file;
	return 0;
}

static void *tree_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->attr_timeout = 0;
	config->entry_timeout = 0;
	config->negative_timeout = 0;
	return tree_self();
}

static const struct fuse_operations tree_operations = {
	.init = tree_init,
	.getattr = tree_getattr,
	.readdir = tree_readdir,
	.open = tree_open_file,
	.release = tree_release,
	.read = tree_read,
	.write = tree_write,
	.truncate = tree_truncate,
};

static void *tree_thread(void *context)
{
	struct tree *tree = context;

	fuse_loop(tree->fuse);
	return NULL;
}

static void mount_clean(const char *mount)
{
	struct stat info;

	/* A killed agent leaves a mount that answers ENOTCONN. */
	if (stat(mount, &info) != 0 && errno == ENOTCONN) {
		log_notice("tree=%s event=\"took down the dead mount of an earlier agent\"", mount);
		umount2(mount, MNT_DETACH);
	}
}

int tree_open(struct agent *agent, struct tree **out)
{
	struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
	struct tree *tree = calloc(1, sizeof(*tree));
	int err = 0;

	if (!tree)
		return -ENOMEM;
	tree->agent = agent;
	mount_clean(agent->config.tree);
	if (mkdir(agent->config.tree, 0755) != 0 && errno != EEXIST)
		err = -errno;
	if (!err)
		err = publish_open(agent, &tree->publisher);
	fuse_opt_add_arg(&arguments, "ebbtide");
	fuse_opt_add_arg(
		&arguments, "-ofsname=ebbtide,subtype=ebbtide,allow_other,default_permissions");
	if (!err)
		tree->fuse = fuse_new(&arguments, &tree_operations, sizeof(tree_operations), tree);
	if (!err && !tree->fuse)
		err = -EIO;
	if (!err && fuse_mount(tree->fuse, agent->config.tree) != 0)
		err = -EIO;
	if (!err) {
		err = -pthread_create(&tree->thread, NULL, tree_thread, tree);
		if (err)
			fuse_unmount(tree->fuse);
	}
	fuse_opt_free_args(&arguments);
	if (err) {
		if (tree->fuse)
			fuse_destroy(tree->fuse);
		publish_close(tree->publisher);
		free(tree);
		log_warning("tree=%s error=\"%s\" effect=\"no operator's tree, no ebbctl; is "
			    "/dev/fuse there and the folder free?\"",
			agent->config.tree, strerror(-err));
		return err;
	}
	*out = tree;
	return 0;
}

static void wake(int number)
{
	(void)number;
}

/*
 * Taking the mount down ends the loop's read, unless another mount namespace has a copy of it (a
 * container's, made while it was mounted): then a signal does, at the second try if the first came
 * just before the read.
 */
static void thread_end(pthread_t thread)
{
	const struct sigaction action = {.sa_handler = wake};
	struct timespec until;

	sigaction(SIGUSR1, &action, NULL);
	for (;;) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		if (pthread_timedjoin_np(thread, NULL, &until) != ETIMEDOUT)
			return;
		pthread_kill(thread, SIGUSR1);
	}
}

void tree_close(struct tree *tree)
{
	if (!tree)
		return;
	/* A reader still inside keeps it busy. */
	fuse_exit(tree->fuse);
	if (umount2(tree->agent->config.tree, MNT_DETACH) != 0)
		log_warning("tree=%s error=\"%s\"", tree->agent->config.tree, strerror(errno));
	thread_end(tree->thread);
	fuse_unmount(tree->fuse);
	fuse_destroy(tree->fuse);
	rmdir(tree->agent->config.tree);
	publish_close(tree->publisher);
	free(tree);
}
