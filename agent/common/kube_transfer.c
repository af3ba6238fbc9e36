// SPDX-License-Identifier: Apache-2.0
#include "common/kube_transfer.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX	     (64 * 1024)
#define TOKEN_REREAD_S	     60
#define KEEPALIVE_IDLE_S     30L
#define KEEPALIVE_INTERVAL_S 10L
#define FIRST_CAPACITY	     4096

void kube_set_error(struct kube_client *client, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(client->error, sizeof(client->error), format, args);
	va_end(args);
}

int64_t kube_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void kube_sleep_until(int64_t until_ms, const atomic_bool *stop)
{
	while (!stop || !atomic_load(stop)) {
		int64_t left_ms = until_ms - kube_now_ms();

		if (left_ms <= 0)
			return;
		if (left_ms > KUBE_POLL_MS)
			left_ms = KUBE_POLL_MS;
		nanosleep(&(struct timespec){.tv_nsec = left_ms * 1000000}, NULL);
	}
}

/* A token goes into a header line: trim its end, refuse what could start another line. */
static bool trim_token(char *token)
{
	size_t length = strlen(token);

	while (length && isspace((unsigned char)token[length - 1]))
		token[--length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (iscntrl((unsigned char)token[i]))
			return false;
	return length > 0;
}

static int read_token(struct kube_client *client, int fd)
{
	char *token = malloc(TOKEN_MAX + 1);
	size_t length = 0;
	ssize_t got;

	if (!token)
		return -ENOMEM;
	while ((got = read(fd, token + length, TOKEN_MAX - length)) > 0)
		length += (size_t)got;
	token[length] = '\0';
	if (got < 0 || !trim_token(token)) {
		free(token);
		return -EINVAL;
	}
	free(client->token);
	client->token = token;
	return 0;
}

/* Look at the token's file; it is replaced (by a symbolic link) while we run. */
static int refresh_token(struct kube_client *client)
{
	const char *path = client->config->token_file;
	time_t now = (time_t)(kube_now_ms() / 1000);
	struct stat status;
	int fd, err;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status)) {
		err = -errno;
		goto out;
	}
	err = 0;
	if (!client->token || now - client->token_read_s >= TOKEN_REREAD_S ||
		status.st_mtim.tv_sec != client->token_modified.tv_sec ||
		status.st_mtim.tv_nsec != client->token_modified.tv_nsec) {
		err = read_token(client, fd);
		client->token_read_s = now;
		client->token_modified = status.st_mtim;
	}
out:
	if (fd >= 0)
		close(fd);
	/* An old token may still be good while the file is being replaced. */
	if (!err || client->token)
		return 0;
	kube_set_error(client, "token file %s: %s", path,
		err == -EINVAL ? "empty or not a token" : strerror(-err));
	return -EACCES;
}

static size_t receive(char *data, size_t size, size_t count, void *context)
{
	struct kube_transfer *transfer = context;
	size_t add = size * count, needed = transfer->length + add;

	if (needed > transfer->limit) {
		transfer->overflow = true;
		return 0;
	}
	if (needed > transfer->capacity) {
		size_t capacity = transfer->capacity ? transfer->capacity : FIRST_CAPACITY;
		char *grown;

		while (capacity < needed)
			capacity *= 2;
		grown = realloc(transfer->data, capacity);
		if (!grown)
			return 0;
		transfer->data = grown;
		transfer->capacity = capacity;
	}
	memcpy(transfer->data + transfer->length, data, add);
	transfer->length = needed;
	return add;
}

static int add_header(struct kube_transfer *transfer, const char *name, const char *value)
{
	struct curl_slist *list;
	char *line;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	list = curl_slist_append(transfer->headers, line);
	free(line);
	if (!list)
		return -ENOMEM;
	transfer->headers = list;
	return 0;
}

static int set_headers(
	struct kube_client *client, struct kube_transfer *transfer, const char *content_type)
{
	const char *token = client->config->token;
	char *bearer;
	int err = add_header(transfer, "Accept", KUBE_JSON);

	/* Empty: curl would wait a second for "100 Continue" before a large body. */
	if (!err)
		err = add_header(transfer, "Expect", "");
	if (!err && transfer->request_body)
		err = add_header(transfer, "Content-Type", content_type ? content_type : KUBE_JSON);
	if (!err && client->config->token_file) {
		err = refresh_token(client);
		token = client->token;
	}
	if (err || !token)
		return err;
	if (asprintf(&bearer, "Bearer %s", token) < 0)
		return -ENOMEM;
	err = add_header(transfer, "Authorization", bearer);
	free(bearer);
	return err;
}

static bool is_loopback(const char *server)
{
	const char *host = strstr(server, "://");

	if (!host)
		return false;
	host += 3;
	return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 ||
	       strncmp(host, "[::1]", 5) == 0;
}

static void set_tls(CURL *easy, const struct kube_config *config, struct curl_slist *connect_to)
{
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, config->insecure ? 0L : 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, config->insecure ? 0L : 2L);
	if (config->connect_to)
		curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to);
	if (config->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	if (config->cert_file)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert_file);
	if (config->key_file)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key_file);
}

static void set_options(struct kube_client *client, struct kube_transfer *transfer, long timeout_ms)
{
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->method);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	if (transfer->request_body) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer->request_body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
			(curl_off_t)strlen(transfer->request_body));
	}
	curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->curl_error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)KUBE_CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
	/* A watch is silent for minutes; a peer that is gone must be noticed all the same. */
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	/* One exchange at a time a client: nothing to multiplex. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	/* A proxy from the environment cannot reach this machine's loopback. */
	if (is_loopback(client->config->server))
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	set_tls(easy, client->config, client->connect_to);
}

int kube_transfer_start(struct kube_client *client, struct kube_transfer *transfer,
	const char *method, const char *path, const char *content_type, const json_t *body,
	size_t limit, long timeout_ms)
{
	int err;

	*transfer = (struct kube_transfer){.limit = limit};
	client->retry_after_ms = 0;
	transfer->method = strdup(method);
	transfer->easy = curl_easy_init();
	if (asprintf(&transfer->url, "%s%s", client->config->server, path) < 0)
		transfer->url = NULL;
	if (body)
		transfer->request_body = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15));
	if (!transfer->method || !transfer->url || !transfer->easy ||
		(body && !transfer->request_body)) {
		kube_set_error(client, "%s %s: out of memory", method, path);
		return -ENOMEM;
	}
	err = set_headers(client, transfer, content_type);
	if (err)
		return err;
	set_options(client, transfer, timeout_ms);
	return curl_multi_add_handle(client->multi, transfer->easy) ? -ENOMEM : 0;
}

int kube_transfer_step(struct kube_client *client)
{
	CURLMsg *message;
	int running, left;

	if (curl_multi_perform(client->multi, &running))
		return -EIO;
	/* A handler may make a request during a watch, so any exchange may be the one that ended. */
	bool ended = false;
	while ((message = curl_multi_info_read(client->multi, &left))) {
		struct kube_transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer->done = true;
		transfer->result = message->data.result;
		ended = true;
	}
	if (!ended && curl_multi_poll(client->multi, NULL, 0, KUBE_POLL_MS, NULL))
		return -EIO;
	return 0;
}

int kube_transfer_run(
	struct kube_client *client, struct kube_transfer *transfer, const atomic_bool *stop)
{
	while (!transfer->done) {
		int err = kube_transfer_step(client);

		if (err) {
			kube_set_error(
				client, "%s %s: libcurl failed", transfer->method, transfer->url);
			return err;
		}
		if (!transfer->done && stop && atomic_load(stop)) {
			kube_set_error(client, "%s %s: stopped", transfer->method, transfer->url);
			return -ECANCELED;
		}
	}
	return 0;
}

int kube_transfer_result(struct kube_client *client, const struct kube_transfer *transfer)
{
	const char *why = transfer->curl_error[0] ? transfer->curl_error
						  : curl_easy_strerror(transfer->result);

	if (transfer->result == CURLE_OK)
		return 0;
	if (transfer->overflow) {
		kube_set_error(client, "%s %s: the answer is over %zu MiB", transfer->method,
			transfer->url, transfer->limit >> 20);
		return -EMSGSIZE;
	}
	kube_set_error(client, "%s %s: no answer: %s", transfer->method, transfer->url, why);
	switch (transfer->result) {
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_WRITE_ERROR:
		return -ENOMEM;
	default:
		return -ECONNREFUSED;
	}
}

int kube_transfer_status(const struct kube_transfer *transfer)
{
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

void kube_transfer_end(struct kube_client *client, struct kube_transfer *transfer)
{
	if (transfer->easy) {
		curl_multi_remove_handle(client->multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	curl_slist_free_all(transfer->headers);
	free(transfer->method);
	free(transfer->url);
	free(transfer->request_body);
	free(transfer->data);
	*transfer = (struct kube_transfer){0};
}

static int status_to_errno(int status, const char *reason)
{
	switch (status) {
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return strcmp(reason, "AlreadyExists") == 0 ? -EEXIST : -EAGAIN;
	case 410:
		return -ESTALE;
	case 429:
		return -EBUSY;
	default:
		return status >= 400 && status < 500 ? -EINVAL : -EIO;
	}
}

int kube_check_status(struct kube_client *client, const struct kube_transfer *transfer, int status,
	const json_t *answer)
{
	const char *reason = kube_string(answer, "reason", NULL);
	const char *text = kube_string(answer, "message", NULL);
	curl_off_t after_s = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &after_s);
	client->retry_after_ms = after_s <= 0 ? 0
				 : after_s > KUBE_RETRY_AFTER_MAX_MS / 1000
					 ? KUBE_RETRY_AFTER_MAX_MS
					 : (long)after_s * 1000;
	if (status >= 200 && status < 300)
		return 0;
	kube_set_error(client, "%s %s: %d%s%s: %s", transfer->method, transfer->url, status,
		reason ? " " : "", reason ? reason : "", text ? text : "no reason given");
	return status_to_errno(status, reason ? reason : "");
}
