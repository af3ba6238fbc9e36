// SPDX-License-Identifier: Apache-2.0
/* Where the API server is and how to show who we are: a kubeconfig file or the pod's account. */
#include "common/kube.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#define YAML_DEPTH_MAX 32
/* Bounds what a file of aliases to aliases can unfold to. */
#define YAML_NODES_MAX 100000

struct load {
	struct kube_config *config;
	const char *path; /* of the kubeconfig */
	char *error;
	size_t error_size;
};

static int __attribute__((format(printf, 2, 3))) fail(struct load *load, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (load->error_size)
		vsnprintf(load->error, load->error_size, format, args);
	va_end(args);
	return -EINVAL;
}

/* --- YAML --- */

static json_t *node_to_json(yaml_document_t *document, yaml_node_t *node, int depth, int *left)
{
	json_t *json;

	if (!node || depth > YAML_DEPTH_MAX || --*left < 0)
		return NULL;
	if (node->type == YAML_SCALAR_NODE)
		return json_stringn(
			(const char *)node->data.scalar.value, node->data.scalar.length);
	if (node->type == YAML_SEQUENCE_NODE) {
		json = json_array();
		for (yaml_node_item_t *item = node->data.sequence.items.start;
			item < node->data.sequence.items.top; item++) {
			json_t *value = node_to_json(
				document, yaml_document_get_node(document, *item), depth + 1, left);

			if (json_array_append_new(json, value))
				goto bad;
		}
		return json;
	}
	json = json_object();
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
		pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *key = yaml_document_get_node(document, pair->key);
		json_t *value = node_to_json(
			document, yaml_document_get_node(document, pair->value), depth + 1, left);

		if (!key || key->type != YAML_SCALAR_NODE) {
			json_decref(value);
			goto bad;
		}
		if (json_object_set_new(json, (const char *)key->data.scalar.value, value))
			goto bad;
	}
	return json;
bad:
	json_decref(json);
	return NULL;
}

/* A kubeconfig's scalars are all read as strings. */
static int read_yaml(struct load *load, json_t **out)
{
	FILE *file = fopen(load->path, "re");
	yaml_parser_t parser;
	yaml_document_t document;
	int err = 0, left = YAML_NODES_MAX;

	if (!file) {
		err = errno;
		fail(load, "kubeconfig %s: %s", load->path, strerror(err));
		return err == ENOENT ? -ENOENT : -EINVAL;
	}
	if (!yaml_parser_initialize(&parser)) {
		fclose(file);
		return -ENOMEM;
	}
	yaml_parser_set_input_file(&parser, file);
	if (!yaml_parser_load(&parser, &document)) {
		err = fail(load, "kubeconfig %s: line %zu: %s", load->path,
			parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
		goto out;
	}
	*out = node_to_json(&document, yaml_document_get_root_node(&document), 0, &left);
	yaml_document_delete(&document);
	if (!json_is_object(*out)) {
		json_decref(*out);
		err = fail(load, "kubeconfig %s: not a kubeconfig (a mapping is expected)",
			load->path);
	}
out:
	yaml_parser_delete(&parser);
	fclose(file);
	return err;
}

/* --- inline data --- */

static int base64_value(char c)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *found = c ? strchr(alphabet, c) : NULL;

	return found ? (int)(found - alphabet) : -1;
}

/* Decode @text into @out (3/4 of its length); -1 when it is not base64. */
static ssize_t decode_base64(const char *text, unsigned char *out)
{
	uint32_t bits = 0;
	int count = 0;
	size_t length = 0;

	for (; *text && *text != '='; text++) {
		int value = base64_value(*text);

		if (strchr(" \t\r\n", *text))
			continue;
		if (value < 0)
			return -1;
		bits = bits << 6 | (uint32_t)value;
		count += 6;
		if (count >= 8) {
			count -= 8;
			out[length++] = (unsigned char)(bits >> count);
		}
	}
	return text[strspn(text, "= \t\r\n")] ? -1 : (ssize_t)length;
}

/* libcurl takes keys by file only, so inline data gets one, readable by us alone (mkstemp). */
static int write_temp_file(
	struct load *load, const char *key, const unsigned char *data, size_t length, char **path)
{
	const char *folder = getenv("TMPDIR");
	size_t slot = 0;
	ssize_t written;
	char *name;
	int fd;

	if (asprintf(&name, "%s/ebbtide-kube-XXXXXX", folder && *folder ? folder : "/tmp") < 0)
		return -ENOMEM;
	fd = mkstemp(name);
	if (fd < 0) {
		int err = fail(load, "kubeconfig %s: %s: cannot write %s: %s", load->path, key,
			name, strerror(errno));

		free(name);
		return err;
	}
	while (load->config->temp_files[slot])
		slot++;
	load->config->temp_files[slot] = name;
	written = write(fd, data, length);
	if (close(fd) || written != (ssize_t)length)
		return fail(load, "kubeconfig %s: %s: cannot write %s: %s", load->path, key, name,
			strerror(errno));
	*path = strdup(name);
	return *path ? 0 : -ENOMEM;
}

/* A path in a kubeconfig is relative to the file's folder. */
static char *resolve_path(const struct load *load, const char *path)
{
	const char *slash = strrchr(load->path, '/');
	char *resolved;

	if (path[0] == '/' || !slash)
		return strdup(path);
	if (asprintf(&resolved, "%.*s/%s", (int)(slash - load->path), load->path, path) < 0)
		return NULL;
	return resolved;
}

/* @key names a file, "@key-data" holds the same inline and has precedence. */
static int load_file(struct load *load, const json_t *section, const char *key, char **path)
{
	char data_key[64];
	const char *text;
	unsigned char *data;
	ssize_t length;
	int err;

	snprintf(data_key, sizeof(data_key), "%s-data", key);
	text = kube_string(section, data_key, NULL);
	if (!text || !*text) {
		text = kube_string(section, key, NULL);
		if (!text || !*text)
			return 0;
		*path = resolve_path(load, text);
		if (!*path)
			return -ENOMEM;
		if (access(*path, R_OK))
			return fail(load, "kubeconfig %s: %s: %s: %s", load->path, key, *path,
				strerror(errno));
		return 0;
	}
	data = malloc(strlen(text) + 1);
	if (!data)
		return -ENOMEM;
	length = decode_base64(text, data);
	if (length <= 0)
		err = fail(load, "kubeconfig %s: %s: not base64", load->path, data_key);
	else
		err = write_temp_file(load, data_key, data, (size_t)length, path);
	free(data);
	return err;
}

/* --- the parts of a kubeconfig --- */

static const json_t *find_named(
	const json_t *root, const char *list, const char *name, const char *what)
{
	json_t *entry;
	size_t i;

	json_array_foreach (json_object_get(root, list), i, entry) {
		const char *found = kube_string(entry, "name", NULL);

		if (found && strcmp(found, name) == 0)
			return json_object_get(entry, what);
	}
	return NULL;
}

static int set_server(struct load *load, const char *server, const char *from)
{
	size_t length = strlen(server);

	while (length && server[length - 1] == '/')
		length--;
	if ((strncmp(server, "http://", 7) != 0 && strncmp(server, "https://", 8) != 0) ||
		strpbrk(server, " \t\r\n") || length == 0 || server[length - 1] == ':')
		return fail(load, "%s: \"%s\" is not a URL (use for example https://10.0.0.1:6443)",
			from, server);
	load->config->server = strndup(server, length);
	return load->config->server ? 0 : -ENOMEM;
}

/* Ask for @name in the certificate, but connect to the server all the same. */
static int set_tls_server_name(struct load *load, const char *name)
{
	struct kube_config *config = load->config;
	const char *host = strstr(config->server, "://") + 3;
	const char *path = host + strcspn(host, "/");
	const char *colon = memrchr(host, ':', (size_t)(path - host));
	char *server;

	/* The last colon of "[::1]" is no port. */
	if (colon && memchr(colon, ']', (size_t)(path - colon)))
		colon = NULL;
	const char *port = colon ? colon + 1 : "443";
	int port_length = colon ? (int)(path - port) : 3;
	int host_length = (int)((colon ? colon : path) - host);

	if (strncmp(config->server, "https://", 8) != 0)
		return 0;
	if (asprintf(&config->connect_to, "%s:%.*s:%.*s:%.*s", name, port_length, port, host_length,
		    host, port_length, port) < 0) {
		config->connect_to = NULL;
		return -ENOMEM;
	}
	if (asprintf(&server, "https://%s:%.*s%s", name, port_length, port, path) < 0)
		return -ENOMEM;
	free(config->server);
	config->server = server;
	return 0;
}

static int load_cluster(struct load *load, const json_t *cluster, const char *server)
{
	const char *given = kube_string(cluster, "server", NULL);
	const char *insecure = kube_string(cluster, "insecure-skip-tls-verify", NULL);
	const char *name = kube_string(cluster, "tls-server-name", NULL);
	char from[300];
	int err;

	if (server) {
		err = set_server(load, server, "server");
	} else if (given) {
		snprintf(from, sizeof(from), "kubeconfig %s: server", load->path);
		err = set_server(load, given, from);
	} else {
		err = fail(load, "kubeconfig %s: the cluster has no server", load->path);
	}
	if (!err)
		err = load_file(load, cluster, "certificate-authority", &load->config->ca_file);
	load->config->insecure = insecure && strcmp(insecure, "true") == 0;
	if (!err && name && *name)
		err = set_tls_server_name(load, name);
	return err;
}

static int load_user(struct load *load, const json_t *user)
{
	const char *token = kube_string(user, "token", NULL);
	const char *token_file = kube_string(user, "tokenFile", NULL);
	int err;

	if (json_object_get(user, "exec") || json_object_get(user, "auth-provider"))
		return fail(load,
			"kubeconfig %s: credentials from a program (exec, auth-provider) are not "
			"supported; use a token (kubectl create token)",
			load->path);
	if (json_object_get(user, "username"))
		return fail(load,
			"kubeconfig %s: user name and password are not supported; use a token",
			load->path);
	err = load_file(load, user, "client-certificate", &load->config->cert_file);
	if (!err)
		err = load_file(load, user, "client-key", &load->config->key_file);
	if (err)
		return err;
	if (!load->config->cert_file != !load->config->key_file)
		return fail(load,
			"kubeconfig %s: client-certificate and client-key need each other",
			load->path);
	/* As kubectl: the file wins, it is what gets renewed. */
	if (token_file && *token_file) {
		load->config->token_file = resolve_path(load, token_file);
		return load->config->token_file ? 0 : -ENOMEM;
	}
	if (token && strpbrk(token, "\r\n"))
		return fail(load, "kubeconfig %s: the token has a line break", load->path);
	if (token && *token && !(load->config->token = strdup(token)))
		return -ENOMEM;
	return 0;
}

static int load_kubeconfig(struct load *load, const char *server)
{
	const json_t *context, *cluster, *user;
	const char *current, *cluster_name, *user_name;
	json_t *root = NULL;
	int err = read_yaml(load, &root);

	if (err)
		return err;
	current = kube_string(root, "current-context", NULL);
	if (!current || !*current) {
		err = fail(load,
			"kubeconfig %s: no current-context (kubectl config use-context NAME sets it)",
			load->path);
		goto out;
	}
	context = find_named(root, "contexts", current, "context");
	cluster_name = kube_string(context, "cluster", NULL);
	user_name = kube_string(context, "user", NULL);
	cluster = cluster_name ? find_named(root, "clusters", cluster_name, "cluster") : NULL;
	user = user_name ? find_named(root, "users", user_name, "user") : NULL;
	if (!context)
		err = fail(load, "kubeconfig %s: no context named \"%s\"", load->path, current);
	else if (!cluster)
		err = fail(load, "kubeconfig %s: context \"%s\": no cluster named \"%s\"",
			load->path, current, cluster_name ? cluster_name : "");
	else if (user_name && *user_name && !user)
		err = fail(load, "kubeconfig %s: context \"%s\": no user named \"%s\"", load->path,
			current, user_name);
	if (!err)
		err = load_cluster(load, cluster, server);
	if (!err)
		err = load_user(load, user);
out:
	json_decref(root);
	return err;
}

/* --- the pod's service account --- */

static bool in_pod(void)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");

	return host && *host && access(KUBE_SERVICEACCOUNT "/token", R_OK) == 0;
}

static int load_service_account(struct load *load)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	struct kube_config *config = load->config;
	const char *format;

	if (!host)
		return -ENOENT;
	format = strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s";
	if (!port || !*port)
		port = "443";
	if (asprintf(&config->server, format, host, port) < 0) {
		config->server = NULL;
		return -ENOMEM;
	}
	config->token_file = strdup(KUBE_SERVICEACCOUNT "/token");
	config->ca_file = strdup(KUBE_SERVICEACCOUNT "/ca.crt");
	return config->token_file && config->ca_file ? 0 : -ENOMEM;
}

/* --- finding one --- */

/* The first file of a list "a:b" that exists, or the first; caller frees. */
static char *first_existing(const char *list)
{
	char *copy = strdup(list), *state = NULL, *found = NULL;

	for (char *path = copy ? strtok_r(copy, ":", &state) : NULL; path;
		path = strtok_r(NULL, ":", &state)) {
		if (access(path, F_OK) == 0) {
			free(found);
			found = strdup(path);
			break;
		}
		if (!found)
			found = strdup(path);
	}
	free(copy);
	return found;
}

static int load_home(struct load *load)
{
	const char *home = getenv("HOME");
	char *path = NULL;
	int err;

	if (!home || asprintf(&path, "%s/.kube/config", home) < 0)
		path = NULL;
	if (!path || access(path, F_OK)) {
		fail(load, "no Kubernetes API server: give --server URL or --kubeconfig FILE, or "
			   "set KUBECONFIG");
		err = -ENOENT;
	} else {
		load->path = path;
		err = load_kubeconfig(load, NULL);
	}
	free(path);
	return err;
}

static int load_any(struct load *load, const char *server, const char *kubeconfig)
{
	const char *environment = getenv("KUBECONFIG");

	if (kubeconfig && *kubeconfig) {
		load->path = kubeconfig;
		return load_kubeconfig(load, server && *server ? server : NULL);
	}
	if (server && *server)
		return set_server(load, server, "server");
	if (environment && *environment) {
		char *path = first_existing(environment);
		int err;

		if (!path)
			return -ENOMEM;
		load->path = path;
		err = load_kubeconfig(load, NULL);
		free(path);
		return err;
	}
	return in_pod() ? load_service_account(load) : load_home(load);
}

int kube_config_load(struct kube_config *config, const char *server, const char *kubeconfig,
	char *error, size_t error_size)
{
	struct load load = {.config = config, .error = error, .error_size = error_size};
	int err;

	*config = (struct kube_config){0};
	if (error_size)
		error[0] = '\0';
	err = load_any(&load, server, kubeconfig);
	if (err == -ENOMEM)
		fail(&load, "out of memory");
	if (err)
		kube_config_free(config);
	return err;
}

void kube_config_free(struct kube_config *config)
{
	for (size_t i = 0; i < sizeof(config->temp_files) / sizeof(config->temp_files[0]); i++) {
		if (config->temp_files[i])
			unlink(config->temp_files[i]);
		free(config->temp_files[i]);
	}
	free(config->server);
	free(config->ca_file);
	free(config->cert_file);
	free(config->key_file);
	free(config->token);
	free(config->token_file);
	free(config->connect_to);
	*config = (struct kube_config){0};
}
