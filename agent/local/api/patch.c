// SPDX-License-Identifier: Apache-2.0
#include "local/api/patch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

/* Lists that merge by a key, by their field's name; all others are replaced as a whole. */
static const struct {
	const char *list;
	const char *key;
} merge_keys[] = {
	{"containers", "name"},
	{"initContainers", "name"},
	{"ephemeralContainers", "name"},
	{"containerStatuses", "name"},
	{"env", "name"},
	{"volumes", "name"},
	{"volumeMounts", "mountPath"},
	{"ports", "containerPort"},
	{"conditions", "type"},
	{"ownerReferences", "uid"},
	{"imagePullSecrets", "name"},
	{"hostAliases", "ip"},
};

static const char *merge_key_of(const char *list)
{
	for (size_t i = 0; i < sizeof(merge_keys) / sizeof(merge_keys[0]); i++)
		if (!strcmp(merge_keys[i].list, list))
			return merge_keys[i].key;
	return NULL;
}

static int fail(int err, char *error, size_t error_size, const char *what, const char *where)
{
	snprintf(error, error_size, "%s%.200s", what, where);
	return err;
}

/* RFC 7396: *target becomes the merge of itself and @patch. */
static int merge(json_t **target, const json_t *patch, int depth)
{
	const char *key;
	json_t *value;

	if (depth > DEPTH_MAX)
		return -EINVAL;
	if (!json_is_object(patch)) {
		json_decref(*target);
		*target = json_deep_copy(patch);
		return 0;
	}
	if (!json_is_object(*target)) {
		json_decref(*target);
		*target = json_object();
	}
	json_object_foreach ((json_t *)patch, key, value) {
		json_t *child;
		int err;

		if (json_is_null(value)) {
			json_object_del(*target, key);
			continue;
		}
		child = json_incref(json_object_get(*target, key));
		err = merge(&child, value, depth + 1);
		json_object_set_new(*target, key, child);
		if (err)
			return err;
	}
	return 0;
}

static int strategic(
	json_t **target, const json_t *patch, int depth, char *error, size_t error_size);

static ssize_t find_by_key(const json_t *list, const char *key, const json_t *wanted)
{
	const json_t *item;
	size_t index;

	json_array_foreach ((json_t *)list, index, item)
		if (json_equal(json_object_get(item, key), wanted))
			return (ssize_t)index;
	return -1;
}

static int merge_list(json_t *list, const json_t *patch, const char *key, int depth, char *error,
	size_t error_size)
{
	json_t *item;
	size_t index;

	json_array_foreach ((json_t *)patch, index, item) {
		const char *directive = json_string_value(json_object_get(item, "$patch"));
		json_t *wanted = json_object_get(item, key);
		ssize_t place;

		if (directive && !strcmp(directive, "replace")) {
			json_array_clear(list);
			continue;
		}
		if (!wanted)
			return fail(-EINVAL, error, error_size,
				"map does not contain declared merge key: ", key);
		place = find_by_key(list, key, wanted);
		if (directive && !strcmp(directive, "delete")) {
			if (place >= 0)
				json_array_remove(list, (size_t)place);
			continue;
		}
		json_t *child = place >= 0 ? json_incref(json_array_get(list, (size_t)place))
					   : json_object();
		int err = strategic(&child, item, depth + 1, error, error_size);

		if (place >= 0)
			json_array_set_new(list, (size_t)place, child);
		else
			json_array_append_new(list, child);
		if (err)
			return err;
	}
	return 0;
}

static void reorder(json_t *list, const json_t *order, const char *key)
{
	json_t *sorted = json_array(), *item;
	size_t index;

	json_array_foreach ((json_t *)order, index, item) {
		ssize_t place = find_by_key(
			list, key, json_is_object(item) ? json_object_get(item, key) : item);

		if (place < 0)
			continue;
		json_array_append(sorted, json_array_get(list, (size_t)place));
		json_array_remove(list, (size_t)place);
	}
	json_array_extend(sorted, list);
	json_array_clear(list);
	json_array_extend(list, sorted);
	json_decref(sorted);
}

/* "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers", "$retainKeys". */
static void apply_directive(json_t *target, const char *key, const json_t *value)
{
	const char *slash = strchr(key, '/');
	json_t *list = slash ? json_object_get(target, slash + 1) : NULL;
	const char *merge_key = slash ? merge_key_of(slash + 1) : NULL;
	json_t *item;
	size_t index;

	if (!strncmp(key, "$setElementOrder/", 17) && json_is_array(list) && merge_key) {
		reorder(list, value, merge_key);
	} else if (!strncmp(key, "$deleteFromPrimitiveList/", 25) && json_is_array(list)) {
		json_array_foreach ((json_t *)value, index, item)
			for (size_t i = json_array_size(list); i-- > 0;)
				if (json_equal(json_array_get(list, i), item))
					json_array_remove(list, i);
	} else if (!strcmp(key, "$retainKeys") && json_is_array(value)) {
		const char *name;
		json_t *ignored;
		void *next;

		json_object_foreach_safe(target, next, name, ignored)
		{
			bool keep = false;

			json_array_foreach ((json_t *)value, index, item)
				keep |= json_is_string(item) &&
					!strcmp(json_string_value(item), name);
			if (!keep)
				json_object_del(target, name);
		}
	}
}

static int strategic_field(json_t *target, const char *key, const json_t *value, int depth,
	char *error, size_t error_size)
{
	json_t *child;
	const char *merge_key = merge_key_of(key);
	int err;

	if (json_is_null(value)) {
		json_object_del(target, key);
		return 0;
	}
	child = json_incref(json_object_get(target, key));
	/* Lists of plain values under a keyed name (a Service's "ports") still replace. */
	if (json_is_array(value) && merge_key &&
		(json_array_size(value) == 0 || json_is_object(json_array_get(value, 0)))) {
		if (!json_is_array(child)) {
			json_decref(child);
			child = json_array();
		}
		err = merge_list(child, value, merge_key, depth, error, error_size);
	} else {
		err = strategic(&child, value, depth + 1, error, error_size);
	}
	json_object_set_new(target, key, child);
	return err;
}

static int strategic(
	json_t **target, const json_t *patch, int depth, char *error, size_t error_size)
{
	const char *directive = json_string_value(json_object_get(patch, "$patch"));
	const char *key;
	json_t *value;

	if (depth > DEPTH_MAX)
		return fail(-EINVAL, error, error_size, "the patch is nested too deeply", "");
	if (!json_is_object(patch)) {
		json_decref(*target);
		*target = json_deep_copy(patch);
		return 0;
	}
	if (!json_is_object(*target) || (directive && strcmp(directive, "merge") != 0)) {
		json_decref(*target);
		*target = json_object();
		if (directive && !strcmp(directive, "delete"))
			return 0;
	}
	json_object_foreach ((json_t *)patch, key, value) {
		int err;

		if (key[0] == '$')
			continue;
		err = strategic_field(*target, key, value, depth, error, error_size);
		if (err)
			return err;
	}
	json_object_foreach ((json_t *)patch, key, value)
		if (key[0] == '$' && strcmp(key, "$patch") != 0)
			apply_directive(*target, key, value);
	return 0;
}

/* The next token of a JSON pointer, unescaped; false at its end. */
static bool next_token(const char **pointer, char *out, size_t size)
{
	size_t n = 0;
	const char *p = *pointer;

	if (*p != '/')
		return false;
	for (p++; *p && *p != '/'; p++) {
		char c = *p;

		if (c == '~' && (p[1] == '0' || p[1] == '1'))
			c = *++p == '0' ? '~' : '/';
		if (n + 1 < size)
			out[n++] = c;
	}
	out[n] = '\0';
	*pointer = p;
	return true;
}

static bool parse_index(const char *token, size_t count, size_t *index)
{
	char *end;

	if (!strcmp(token, "-")) {
		*index = count;
		return true;
	}
	if (!*token || strspn(token, "0123456789") != strlen(token))
		return false;
	*index = strtoul(token, &end, 10);
	return *index <= count;
}

static json_t *step_into(json_t *node, const char *token)
{
	size_t index;

	if (json_is_object(node))
		return json_object_get(node, token);
	if (json_is_array(node) && parse_index(token, json_array_size(node), &index))
		return json_array_get(node, index);
	return NULL;
}

/* The parent of what @pointer names, and the last token. */
static json_t *find_parent(json_t *root, const char *pointer, char *token, size_t size)
{
	json_t *node = root;

	if (!next_token(&pointer, token, size))
		return NULL;
	while (*pointer) {
		node = step_into(node, token);
		if (!node || !next_token(&pointer, token, size))
			return NULL;
	}
	return node;
}

static json_t *find_value(json_t *root, const char *pointer)
{
	char token[256];
	json_t *parent;

	if (!*pointer)
		return root;
	parent = find_parent(root, pointer, token, sizeof(token));
	return parent ? step_into(parent, token) : NULL;
}

/* Takes the reference to @value. */
static int put_value(json_t **root, const char *pointer, json_t *value, bool replace)
{
	char token[256];
	json_t *parent;
	size_t index;
	int err = -ENOENT;

	if (!*pointer) {
		json_decref(*root);
		*root = value;
		return 0;
	}
	parent = find_parent(*root, pointer, token, sizeof(token));
	if (parent && (!replace || step_into(parent, token))) {
		if (json_is_object(parent))
			err = json_object_set(parent, token, value) ? -EINVAL : 0;
		else if (parse_index(token, json_array_size(parent), &index))
			err = (replace ? json_array_set(parent, index, value)
				       : json_array_insert(parent, index, value))
				      ? -EINVAL
				      : 0;
	}
	json_decref(value);
	return err;
}

static int remove_value(json_t *root, const char *pointer)
{
	char token[256];
	json_t *parent = find_parent(root, pointer, token, sizeof(token));
	size_t index;

	if (!parent || !step_into(parent, token))
		return -ENOENT;
	if (json_is_object(parent))
		return json_object_del(parent, token) ? -ENOENT : 0;
	if (!parse_index(token, json_array_size(parent), &index))
		return -ENOENT;
	return json_array_remove(parent, index) ? -ENOENT : 0;
}

static int run_operation(json_t **root, const json_t *operation, char *error, size_t error_size)
{
	const char *op = json_string_value(json_object_get(operation, "op"));
	const char *path = json_string_value(json_object_get(operation, "path"));
	const char *from = json_string_value(json_object_get(operation, "from"));
	json_t *value = json_object_get(operation, "value");
	int err;

	if (!op || !path)
		return fail(-EINVAL, error, error_size, "an operation needs op and path", "");
	if (!strcmp(op, "remove")) {
		err = remove_value(*root, path);
	} else if (!strcmp(op, "add") || !strcmp(op, "replace") || !strcmp(op, "test")) {
		if (!value)
			return fail(-EINVAL, error, error_size, "value is missing for path ", path);
		if (!strcmp(op, "test"))
			err = json_equal(find_value(*root, path), value) ? 0 : -ENOENT;
		else
			err = put_value(root, path, json_deep_copy(value), *op == 'r');
	} else if (!strcmp(op, "copy") || !strcmp(op, "move")) {
		json_t *source = from ? find_value(*root, from) : NULL;

		if (!source)
			return fail(-ENOENT, error, error_size,
				"no value at from: ", from ? from : "(missing)");
		source = json_deep_copy(source);
		err = *op == 'm' ? remove_value(*root, from) : 0;
		if (err)
			json_decref(source);
		else
			err = put_value(root, path, source, false);
	} else {
		return fail(-EINVAL, error, error_size, "unknown op: ", op);
	}
	if (err)
		snprintf(error, error_size,
			"%s operation does not apply: doc is missing path or "
			"value differs: %.200s",
			op, path);
	return err;
}

int patch_apply(enum patch_type type, const json_t *object, const json_t *patch, json_t **out,
	char *error, size_t error_size)
{
	json_t *copy = json_deep_copy(object), *operation;
	size_t index;
	int err = 0;

	if (type == PATCH_JSON) {
		if (!json_is_array(patch))
			err = fail(-EINVAL, error, error_size, "a JSON patch is a list", "");
		json_array_foreach ((json_t *)patch, index, operation) {
			err = run_operation(&copy, operation, error, error_size);
			if (err)
				break;
		}
	} else if (!json_is_object(patch)) {
		err = fail(-EINVAL, error, error_size, "a merge patch is an object", "");
	} else if (type == PATCH_MERGE) {
		err = merge(&copy, patch, 0);
		if (err)
			fail(err, error, error_size, "the patch is nested too deeply", "");
	} else {
		err = strategic(&copy, patch, 0, error, error_size);
	}
	if (err) {
		json_decref(copy);
		return err;
	}
	*out = copy;
	return 0;
}
