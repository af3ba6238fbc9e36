// SPDX-License-Identifier: Apache-2.0
/* The Kubernetes client against a scripted server over real sockets and TLS (kube_server.py). */
#include "common/kube.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_SIZE 256

struct server {
	pid_t pid;
	int port;
	char url[64];
};

static char folder[] = "/tmp/ebbtide-test-kube-XXXXXX";
static struct server plain, tls, guarded;

static const char *in_folder(const char *name)
{
	static char paths[8][PATH_SIZE];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, PATH_SIZE, "%s/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	char temporary[PATH_SIZE];
	FILE *file;

	/* Put in place by rename, as the kubelet replaces a token. */
	snprintf(temporary, sizeof(temporary), "%s/new", folder);
	file = fopen(temporary, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(temporary, in_folder(name)), 0);
}

static char *read_file(const char *name)
{
	FILE *file = fopen(in_folder(name), "r");
	char *text = calloc(1, 65536);

	assert_non_null(file);
	assert_non_null(text);
	assert_true(fread(text, 1, 65535, file) > 0);
	fclose(file);
	return text;
}

static int start_server(struct server *server, const char *const extra[])
{
	char script[PATH_SIZE], here[] = __FILE__, line[16] = "";
	const char *arguments[16] = {"/usr/bin/python3", script};
	int pipe_fds[2], count = 2;
	FILE *out;

	snprintf(script, sizeof(script), "%s/kube_server.py", dirname(here));
	for (; extra && *extra; extra++)
		arguments[count++] = *extra;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return -1;
	server->pid = fork();
	if (server->pid == 0) {
		/* A test that crashes leaves no server behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pipe_fds[1], STDOUT_FILENO);
		execv(arguments[0], (char **)arguments);
		_exit(127);
	}
	close(pipe_fds[1]);
	out = fdopen(pipe_fds[0], "r");
	if (!out || !fgets(line, sizeof(line), out))
		return -1;
	fclose(out);
	server->port = atoi(line);
	snprintf(server->url, sizeof(server->url), "http%s://127.0.0.1:%d",
		server == &tls ? "s" : "", server->port);
	return server->port > 0 ? 0 : -1;
}

static void stop_server(struct server *server)
{
	if (server->pid <= 0)
		return;
	kill(server->pid, SIGTERM);
	waitpid(server->pid, NULL, 0);
	server->pid = 0;
}

static int setup(void **state)
{
	static const char script[] =
		"cd '%s' && exec >openssl.log 2>&1 && "
		"for ca in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 "
		"-subj /CN=$ca -keyout $ca.key -out $ca.crt || exit 1; done && "
		"for who in server client; do openssl req -newkey rsa:2048 -nodes -subj /CN=$who "
		"-keyout $who.key -out $who.csr && "
		"printf 'subjectAltName=IP:127.0.0.1,DNS:kube.test\\n' >ext && "
		"openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
		"-extfile ext -out $who.crt || exit 1; done";
	char command[2048];

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(command, sizeof(command), script, folder);
	if (system(command))
		return -1;
	const char *const tls_arguments[] = {"--tls", in_folder("server.crt"),
		in_folder("server.key"), in_folder("ca.crt"), NULL};
	const char *const token_arguments[] = {"--token-file", in_folder("expected"), NULL};

	return start_server(&plain, NULL) || start_server(&tls, tls_arguments) ||
	       start_server(&guarded, token_arguments);
}

static int teardown(void **state)
{
	char command[300];

	(void)state;
	stop_server(&plain);
	stop_server(&tls);
	stop_server(&guarded);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void load(struct kube_config *config, const char *server, const char *kubeconfig)
{
	char error[300];

	if (kube_config_load(config, server, kubeconfig, error, sizeof(error)))
		fail_msg("%s", error);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- requests --- */

static void test_requests_carry_method_body_and_type(void **state)
{
	struct kube_config config;
	json_t *body = json_pack("{s:{s:f}}", "spec", "share", 0.1), *answer = NULL;
	int status = 0;

	(void)state;
	load(&config, plain.url, NULL);
	struct kube_client *client = kube_client_new(&config, "ebbtide-test/1");
	assert_int_equal(kube_request(client, "PATCH", "/echo?fieldManager=x", KUBE_MERGE_PATCH,
				 body, &status, &answer),
		0);
	assert_int_equal(status, 200);
	assert_string_equal(kube_string(answer, "method", NULL), "PATCH");
	assert_string_equal(kube_string(answer, "query", "fieldManager", NULL), "x");
	assert_string_equal(kube_string(answer, "body", NULL), "{\"spec\":{\"share\":0.1}}");
	assert_string_equal(kube_string(answer, "headers", "content-type", NULL), KUBE_MERGE_PATCH);
	assert_string_equal(kube_string(answer, "headers", "user-agent", NULL), "ebbtide-test/1");
	assert_null(kube_string(answer, "headers", "authorization", NULL));
	json_decref(answer);
	json_decref(body);
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_a_connection_is_kept_and_used_again(void **state)
{
	struct kube_config config;
	json_int_t connection = 0;

	(void)state;
	load(&config, plain.url, NULL);
	struct kube_client *client = kube_client_new(&config, "test");
	for (int i = 0; i < 3; i++) {
		json_t *answer = NULL;

		assert_int_equal(
			kube_request(client, "GET", "/echo", NULL, NULL, NULL, &answer), 0);
		json_int_t number = json_integer_value(json_object_get(answer, "connection"));
		if (i)
			assert_int_equal(number, connection);
		connection = number;
		json_decref(answer);
	}
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_each_status_has_its_errno_and_text(void **state)
{
	static const struct {
		const char *path;
		int err;
	} cases[] = {
		{"/status/200/OK", 0},
		{"/status/201/Created", 0},
		{"/status/401/Unauthorized", -EACCES},
		{"/status/403/Forbidden", -EACCES},
		{"/status/404/NotFound", -ENOENT},
		{"/status/409/AlreadyExists", -EEXIST},
		{"/status/409/Conflict", -EAGAIN},
		{"/status/410/Expired", -ESTALE},
		{"/status/422/Invalid", -EINVAL},
		{"/status/400/BadRequest", -EINVAL},
		{"/status/429/TooManyRequests", -EBUSY},
		{"/status/500/InternalError", -EIO},
		{"/status/503/ServiceUnavailable", -EIO},
		{"/text", -EIO},
	};
	struct kube_config config;

	(void)state;
	load(&config, plain.url, NULL);
	struct kube_client *client = kube_client_new(&config, "test");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int err = kube_request(client, "GET", cases[i].path, NULL, NULL, NULL, NULL);

		if (err != cases[i].err)
			fail_msg("%s: got %d, expected %d", cases[i].path, err, cases[i].err);
	}
	assert_int_equal(
		kube_request(client, "GET", "/status/404/NotFound", NULL, NULL, NULL, NULL),
		-ENOENT);
	assert_non_null(
		strstr(kube_last_error(client), "/status/404/NotFound: 404 NotFound: as asked"));
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_a_busy_server_is_asked_again_when_it_says(void **state)
{
	static const char *const once[] = {"/busy/429/1", "/busy/503/1"};
	struct kube_config config;
	int status = 0;

	(void)state;
	load(&config, plain.url, NULL);
	struct kube_client *client = kube_client_new(&config, "test");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			kube_request(client, "POST", once[i], NULL, NULL, &status, NULL), 0);
		assert_int_equal(status, 200);
	}
	/* Not for longer than a request may take. */
	kube_client_set_timeout(client, 1500);
	assert_int_equal(
		kube_request(client, "PATCH", "/busy/429/100", NULL, NULL, &status, NULL), -EBUSY);
	assert_int_equal(status, 429);
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_no_server_is_an_error_not_a_hang(void **state)
{
	struct kube_config config;
	int status = 7;

	(void)state;
	/* Port 1: nobody listens there. */
	load(&config, "http://127.0.0.1:1", NULL);
	struct kube_client *client = kube_client_new(&config, "test");
	assert_int_equal(
		kube_request(client, "GET", "/echo", NULL, NULL, &status, NULL), -ECONNREFUSED);
	assert_int_equal(status, 0);
	assert_non_null(strstr(kube_last_error(client), "127.0.0.1:1/echo: no answer"));
	kube_client_free(client);
	kube_config_free(&config);
}

/* --- who we are --- */

static void write_kubeconfig(const char *server, const char *cluster, const char *user)
{
	char text[32768];

	snprintf(text, sizeof(text),
		"apiVersion: v1\nkind: Config\ncurrent-context: here\n"
		"contexts:\n- name: elsewhere\n  context: {cluster: b, user: b}\n"
		"- name: here\n  context: {cluster: a, user: a}\n"
		"clusters:\n- name: a\n  cluster:\n    server: %s\n%s"
		"users:\n- name: a\n  user:\n%s",
		server, cluster, user);
	write_file("kubeconfig", text);
}

static int echo_error(const char *expect_in_error)
{
	struct kube_config config;
	int err;

	load(&config, NULL, in_folder("kubeconfig"));
	struct kube_client *client = kube_client_new(&config, "test");
	err = kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL);
	if (expect_in_error && !strstr(kube_last_error(client), expect_in_error))
		fail_msg("error is: %s", kube_last_error(client));
	kube_client_free(client);
	kube_config_free(&config);
	return err;
}

#define CLIENT_FILES "    client-certificate: client.crt\n    client-key: client.key\n"

static void test_tls_with_ca_and_client_certificate_works(void **state)
{
	(void)state;
	write_kubeconfig(tls.url, "    certificate-authority: ca.crt\n", CLIENT_FILES);
	assert_int_equal(echo_error(NULL), 0);
}

static void test_a_wrong_ca_is_refused(void **state)
{
	(void)state;
	write_kubeconfig(tls.url, "    certificate-authority: other.crt\n", CLIENT_FILES);
	assert_int_equal(echo_error("certificate"), -ECONNREFUSED);
}

static void test_insecure_skips_the_check(void **state)
{
	(void)state;
	write_kubeconfig(tls.url, "    insecure-skip-tls-verify: true\n", CLIENT_FILES);
	assert_int_equal(echo_error(NULL), 0);
}

static void test_without_client_certificate_the_server_refuses(void **state)
{
	(void)state;
	write_kubeconfig(tls.url, "    certificate-authority: ca.crt\n", "    token: x\n");
	assert_int_equal(echo_error("no answer"), -ECONNREFUSED);
}

static void test_the_certificate_name_can_be_given(void **state)
{
	(void)state;
	write_kubeconfig(tls.url,
		"    certificate-authority: ca.crt\n    tls-server-name: kube.test\n",
		CLIENT_FILES);
	assert_int_equal(echo_error(NULL), 0);
	write_kubeconfig(tls.url,
		"    certificate-authority: ca.crt\n    tls-server-name: wrong.test\n",
		CLIENT_FILES);
	assert_int_equal(echo_error("no answer"), -ECONNREFUSED);
}

static char *base64_of(const char *name)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = read_file(name), *out = calloc(1, 2 * strlen(text) + 8);
	size_t length = strlen(text), at = 0;

	for (size_t i = 0; i < length; i += 3) {
		uint32_t bits = (uint32_t)(unsigned char)text[i] << 16;

		if (i + 1 < length)
			bits |= (uint32_t)(unsigned char)text[i + 1] << 8;
		if (i + 2 < length)
			bits |= (unsigned char)text[i + 2];
		out[at++] = alphabet[bits >> 18];
		out[at++] = alphabet[bits >> 12 & 63];
		out[at++] = i + 1 < length ? alphabet[bits >> 6 & 63] : '=';
		out[at++] = i + 2 < length ? alphabet[bits & 63] : '=';
	}
	free(text);
	return out;
}

static void test_inline_credentials_work_and_leave_no_file(void **state)
{
	char *ca = base64_of("ca.crt"), *cert = base64_of("client.crt"),
	     *key = base64_of("client.key");
	char cluster[8192], user[16384];
	struct kube_config config;
	struct stat status;

	(void)state;
	snprintf(cluster, sizeof(cluster), "    certificate-authority-data: %s\n", ca);
	snprintf(user, sizeof(user), "    client-certificate-data: %s\n    client-key-data: %s\n",
		cert, key);
	write_kubeconfig(tls.url, cluster, user);
	assert_int_equal(echo_error(NULL), 0);

	setenv("TMPDIR", folder, 1);
	load(&config, NULL, in_folder("kubeconfig"));
	unsetenv("TMPDIR");
	char *path = strdup(config.key_file);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	kube_config_free(&config);
	assert_int_equal(stat(path, &status), -1);
	free(path);
	free(ca);
	free(cert);
	free(key);
}

static void test_a_token_is_sent(void **state)
{
	(void)state;
	write_file("expected", "s3cret\n");
	write_kubeconfig(guarded.url, "", "    token: s3cret\n");
	assert_int_equal(echo_error(NULL), 0);
	write_kubeconfig(guarded.url, "", "    token: wrong\n");
	assert_int_equal(echo_error("401 Unauthorized"), -EACCES);
}

static void test_a_replaced_token_file_is_read_again(void **state)
{
	struct kube_config config;

	(void)state;
	write_file("token", "first\n");
	write_file("expected", "first");
	write_kubeconfig(guarded.url, "", "    tokenFile: token\n");
	load(&config, NULL, in_folder("kubeconfig"));
	struct kube_client *client = kube_client_new(&config, "test");
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), 0);
	write_file("token", "second\n");
	write_file("expected", "second");
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), 0);
	/* With the file gone for a moment the last token is used. */
	assert_int_equal(unlink(in_folder("token")), 0);
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), 0);
	kube_client_free(client);
	client = kube_client_new(&config, "test");
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), -EACCES);
	assert_non_null(strstr(kube_last_error(client), "/token: No such file"));
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_a_token_replaced_with_the_same_time_is_found_after_a_refusal(void **state)
{
	const struct timespec same[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct kube_config config;

	(void)state;
	write_file("token", "first");
	utimensat(AT_FDCWD, in_folder("token"), same, 0);
	write_file("expected", "first");
	write_kubeconfig(guarded.url, "", "    tokenFile: token\n");
	load(&config, NULL, in_folder("kubeconfig"));
	struct kube_client *client = kube_client_new(&config, "test");
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), 0);
	write_file("token", "second");
	utimensat(AT_FDCWD, in_folder("token"), same, 0);
	write_file("expected", "second");
	assert_int_equal(kube_request(client, "GET", "/echo", NULL, NULL, NULL, NULL), 0);
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_an_unusable_kubeconfig_says_why(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} cases[] = {
		{"- a\n", "not a kubeconfig (a mapping is expected)"},
		{"a: [\n", "line 2: "},
		{"a: &x {b: *x}\n", "not a kubeconfig"},
		{"kind: Config\n", "no current-context"},
		{"current-context: a\n", "no context named \"a\""},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n",
			"no cluster named \"c\""},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
		 "clusters: [{name: c, cluster: {server: kube:6443}}]\n",
			"\"kube:6443\" is not a URL"},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://a'}}]\n",
			"no user named \"u\""},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://a'}}]\n"
		 "users: [{name: u, user: {exec: {command: aws}}}]\n",
			"not supported; use a token"},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://a', "
		 "certificate-authority-data: '%%'}}]\n",
			"certificate-authority-data: not base64"},
		{"current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://a', "
		 "certificate-authority: nowhere.crt}}]\n",
			"nowhere.crt: No such file"},
	};
	struct kube_config config;
	char error[300];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_file("bad", cases[i].text);
		assert_int_equal(
			kube_config_load(&config, NULL, in_folder("bad"), error, sizeof(error)),
			-EINVAL);
		if (!strstr(error, cases[i].error))
			fail_msg("got \"%s\", expected \"%s\"", error, cases[i].error);
	}
	assert_int_equal(kube_config_load(&config, NULL, in_folder("absent"), error, sizeof(error)),
		-ENOENT);
	assert_int_equal(
		kube_config_load(&config, "localhost", NULL, error, sizeof(error)), -EINVAL);
}

static void test_the_environment_is_looked_at_in_order(void **state)
{
	struct kube_config config;
	char error[300], list[600];

	(void)state;
	write_kubeconfig("http://127.0.0.1:8001/", "", "    {}\n");
	snprintf(list, sizeof(list), "%s/absent:%s/kubeconfig", folder, folder);
	setenv("KUBECONFIG", list, 1);
	load(&config, NULL, NULL);
	assert_string_equal(config.server, "http://127.0.0.1:8001");
	kube_config_free(&config);
	load(&config, "http://127.0.0.1:9/", "");
	assert_string_equal(config.server, "http://127.0.0.1:9");
	kube_config_free(&config);
	unsetenv("KUBECONFIG");
	setenv("HOME", folder, 1);
	assert_int_equal(kube_config_load(&config, NULL, NULL, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "give --server URL or --kubeconfig FILE"));
}

/* --- list and watch --- */

struct record {
	char text[4096];
	const char *enough; /* stop when the text ends with it */
	atomic_bool stop;
	struct kube_client *client;
	bool nested; /* make a request for each object */
	int nested_failures;
};

static void note(enum kube_event event, const json_t *object, void *context)
{
	static const char marks[] = {'+', '~', '-', '=', '!'};
	struct record *record = context;
	const char *name = kube_string(object, "metadata", "name", NULL);
	size_t length = strlen(record->text);

	assert_null(json_object_get(json_object_get(object, "metadata"), "managedFields"));
	snprintf(record->text + length, sizeof(record->text) - length, "%c%s ", marks[event],
		name ? name : "");
	if (record->nested && object &&
		kube_request(record->client, "GET", "/echo", NULL, NULL, NULL, NULL))
		record->nested_failures++;
	length = strlen(record->text);
	if (record->enough && length >= strlen(record->enough) &&
		strcmp(record->text + length - strlen(record->enough), record->enough) == 0)
		atomic_store(&record->stop, true);
}

struct guard {
	struct record *record;
	atomic_bool done;
};

/* A test that would wait for ever ends after 20 s. */
static void *stop_late(void *context)
{
	struct guard *guard = context;

	for (int i = 0; i < 2000 && !atomic_load(&guard->done); i++)
		usleep(10000);
	atomic_store(&guard->record->stop, true);
	return NULL;
}

static void reflect(struct record *record, const char *server, const char *path)
{
	struct guard guard = {.record = record};
	struct kube_config config;
	pthread_t thread;

	load(&config, server, NULL);
	record->client = kube_client_new(&config, "test");
	assert_int_equal(pthread_create(&thread, NULL, stop_late, &guard), 0);
	assert_int_equal(kube_reflect(record->client, path, note, record, &record->stop), 0);
	atomic_store(&guard.done, true);
	pthread_join(thread, NULL);
	kube_client_free(record->client);
	kube_config_free(&config);
}

static void assert_story(const char *scenario, const char *story, const char *requests)
{
	struct record record = {.enough = story};
	char path[64], log_path[64], *dumped;
	struct kube_config config;
	json_t *asked = NULL;

	snprintf(path, sizeof(path), "/%s/pods", scenario);
	reflect(&record, plain.url, path);
	assert_string_equal(record.text, story);
	if (!requests)
		return;
	load(&config, plain.url, NULL);
	struct kube_client *client = kube_client_new(&config, "test");
	snprintf(log_path, sizeof(log_path), "/%s/log", scenario);
	assert_int_equal(kube_request(client, "GET", log_path, NULL, NULL, NULL, &asked), 0);
	dumped = json_dumps(asked, JSON_COMPACT);
	if (strncmp(dumped, requests, strlen(requests)) != 0)
		fail_msg("asked %s, expected %s", dumped, requests);
	free(dumped);
	json_decref(asked);
	kube_client_free(client);
	kube_config_free(&config);
}

static void test_a_list_comes_first_then_events_in_order(void **state)
{
	(void)state;
	assert_story("order", "+a +b = +c ~a -b ", "[\"list\",\"watch 10\"");
}

static void test_a_closed_watch_resumes_where_it_was(void **state)
{
	(void)state;
	assert_story(
		"reconnect", "+a = ~a ~a ", "[\"list\",\"watch 10\",\"watch 11\",\"watch 15\"");
}

static void test_status_410_lists_again_and_tells_what_vanished(void **state)
{
	(void)state;
	assert_story("gone_status", "+a +b = -b +a +c = ", "[\"list\",\"watch 10\",\"list\"");
}

static void test_event_410_lists_again_and_tells_what_vanished(void **state)
{
	(void)state;
	assert_story("gone_event", "+a +b = -a +b = ", "[\"list\",\"watch 10\",\"list\"");
}

static void test_an_object_made_anew_ends_the_old_one_first(void **state)
{
	(void)state;
	assert_story("replaced", "+a = -a +a = ", NULL);
}

static void test_a_list_in_pages_is_one_list(void **state)
{
	(void)state;
	assert_story("paged", "+a +b +c = ", "[\"list\",\"list\"");
}

static void test_garbage_in_a_watch_leads_to_a_new_list(void **state)
{
	(void)state;
	assert_story("garbage", "+a = ! +a = ", "[\"list\",\"watch 10\",\"list\"");
}

static void test_a_line_without_end_is_given_up(void **state)
{
	(void)state;
	assert_story("endless", "+a = ! +a = ", "[\"list\",\"watch 10\",\"list\"");
}

static void test_a_refused_list_is_told_once_and_tried_again(void **state)
{
	(void)state;
	assert_story("forbidden", "! +a = ", "[\"list\",\"list\",\"list\"");
}

static void test_a_throttled_watch_goes_on_and_only_then_lists(void **state)
{
	(void)state;
	assert_story("throttled", "+a = ~a ! +a = ~a ",
		"[\"list\",\"watch 10\",\"watch 10\",\"watch 20\",\"watch 20\",\"list\",\"watch 11\"");
}

static void test_events_in_pieces_are_put_together(void **state)
{
	(void)state;
	assert_story("split", "= +a +b +c ", NULL);
}

static void test_a_handler_may_make_requests(void **state)
{
	struct record record = {.enough = "+c ~a -b ", .nested = true};

	(void)state;
	/* The order scenario's first watch has been used up by the other test. */
	stop_server(&plain);
	assert_int_equal(start_server(&plain, NULL), 0);
	reflect(&record, plain.url, "/order/pods");
	assert_string_equal(record.text, "+a +b = +c ~a -b ");
	assert_int_equal(record.nested_failures, 0);
}

struct outage {
	struct record record;
	int64_t stopped_ms;
};

static void *end_and_restart(void *context)
{
	struct outage *outage = context;

	usleep(500000);
	stop_server(&plain);
	for (int i = 0; i < 1000 && !strchr(outage->record.text, '!'); i++)
		usleep(10000);
	usleep(300000);
	outage->stopped_ms = now_ms();
	atomic_store(&outage->record.stop, true);
	return NULL;
}

static void test_a_lost_server_is_told_once_and_stop_returns_at_once(void **state)
{
	struct outage outage = {0};
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, end_and_restart, &outage), 0);
	reflect(&outage.record, plain.url, "/order/pods");
	assert_true(now_ms() - outage.stopped_ms < 400);
	pthread_join(thread, NULL);
	assert_string_equal(outage.record.text, "+a +b = ! ");
	assert_int_equal(start_server(&plain, NULL), 0);
}

static void *stop_soon(void *context)
{
	struct outage *outage = context;

	usleep(700000);
	outage->stopped_ms = now_ms();
	atomic_store(&outage->record.stop, true);
	return NULL;
}

static void test_stop_ends_a_silent_watch_at_once(void **state)
{
	struct outage outage = {0};
	struct kube_config config;
	pthread_t thread;

	(void)state;
	load(&config, plain.url, NULL);
	outage.record.client = kube_client_new(&config, "test");
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &outage), 0);
	assert_int_equal(kube_reflect(outage.record.client, "/paged/pods?fieldSelector=a", note,
				 &outage.record, &outage.record.stop),
		0);
	int64_t late = now_ms() - outage.stopped_ms;
	pthread_join(thread, NULL);
	kube_client_free(outage.record.client);
	kube_config_free(&config);
	if (late > 350)
		fail_msg("returned %lld ms after the flag, expected at most 350", (long long)late);
	assert_string_equal(outage.record.text, "+a +b +c = ");
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_carry_method_body_and_type),
		cmocka_unit_test(test_a_connection_is_kept_and_used_again),
		cmocka_unit_test(test_each_status_has_its_errno_and_text),
		cmocka_unit_test(test_a_busy_server_is_asked_again_when_it_says),
		cmocka_unit_test(test_no_server_is_an_error_not_a_hang),
		cmocka_unit_test(test_tls_with_ca_and_client_certificate_works),
		cmocka_unit_test(test_a_wrong_ca_is_refused),
		cmocka_unit_test(test_insecure_skips_the_check),
		cmocka_unit_test(test_without_client_certificate_the_server_refuses),
		cmocka_unit_test(test_the_certificate_name_can_be_given),
		cmocka_unit_test(test_inline_credentials_work_and_leave_no_file),
		cmocka_unit_test(test_a_token_is_sent),
		cmocka_unit_test(test_a_replaced_token_file_is_read_again),
		cmocka_unit_test(test_a_token_replaced_with_the_same_time_is_found_after_a_refusal),
		cmocka_unit_test(test_an_unusable_kubeconfig_says_why),
		cmocka_unit_test(test_the_environment_is_looked_at_in_order),
		cmocka_unit_test(test_a_list_comes_first_then_events_in_order),
		cmocka_unit_test(test_a_closed_watch_resumes_where_it_was),
		cmocka_unit_test(test_status_410_lists_again_and_tells_what_vanished),
		cmocka_unit_test(test_event_410_lists_again_and_tells_what_vanished),
		cmocka_unit_test(test_an_object_made_anew_ends_the_old_one_first),
		cmocka_unit_test(test_a_list_in_pages_is_one_list),
		cmocka_unit_test(test_garbage_in_a_watch_leads_to_a_new_list),
		cmocka_unit_test(test_a_line_without_end_is_given_up),
		cmocka_unit_test(test_a_refused_list_is_told_once_and_tried_again),
		cmocka_unit_test(test_a_throttled_watch_goes_on_and_only_then_lists),
		cmocka_unit_test(test_events_in_pieces_are_put_together),
		cmocka_unit_test(test_a_handler_may_make_requests),
		cmocka_unit_test(test_a_lost_server_is_told_once_and_stop_returns_at_once),
		cmocka_unit_test(test_stop_ends_a_silent_watch_at_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
