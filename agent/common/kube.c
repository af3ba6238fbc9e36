// SPDX-License-Identifier: Apache-2.0
#include "common/kube.h"

#include "common/kube_transfer.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* For another try at the end of a request's time. */
#define LEFT_LEAST_MS 1000

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct kube_client *kube_client_new(const struct kube_config *config, const char *user_agent)
{
	struct kube_client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	pthread_once(&curl_once, init_curl);
	client->config = config;
	client->user_agent = strdup(user_agent);
	client->multi = curl_multi_init();
	client->timeout_ms = KUBE_REQUEST_TIMEOUT_MS;
	if (config->connect_to)
		client->connect_to = curl_slist_append(NULL, config->connect_to);
	if (!client->user_agent || !client->multi || (config->connect_to && !client->connect_to)) {
		kube_client_free(client);
		return NULL;
	}
	/* Only spreads retries of many nodes in time; any value does. */
	if (getrandom(&client->random, sizeof(client->random), GRND_NONBLOCK) < 0)
		client->random = (unsigned int)time(NULL);
	return client;
}

void kube_client_free(struct kube_client *client)
{
	if (!client)
		return;
	if (client->multi)
		curl_multi_cleanup(client->multi);
	curl_slist_free_all(client->connect_to);
	free(client->user_agent);
	free(client->token);
	free(client);
}

void kube_client_set_timeout(struct kube_client *client, unsigned int timeout_ms)
{
	client->timeout_ms = (long)timeout_ms;
}

const char *kube_last_error(const struct kube_client *client)
{
	return client->error;
}

static int request_once(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer,
	const atomic_bool *stop, long timeout_ms)
{
	struct kube_transfer transfer;
	json_error_t json_error;
	json_t *json = NULL;
	int err;

	err = kube_transfer_start(
		client, &transfer, method, path, content_type, body, KUBE_ANSWER_MAX, timeout_ms);
	if (!err)
		err = kube_transfer_run(client, &transfer, stop);
	if (!err)
		err = kube_transfer_result(client, &transfer);
	if (err)
		goto out;
	*status = kube_transfer_status(&transfer);
	if (transfer.length)
		json = json_loadb(transfer.data, transfer.length, JSON_ALLOW_NUL, &json_error);
	err = kube_check_status(client, &transfer, *status, json);
	if (!err && transfer.length && !json) {
		kube_set_error(client, "%s %s: the answer is not JSON: line %d: %s", method, path,
			json_error.line, json_error.text);
		err = -EIO;
	}
	*answer = json;
out:
	kube_transfer_end(client, &transfer);
	return err;
}

/*
 * A server with too much to do says when to come again; that it did nothing, so that no method is
 * done twice. Only what leaves time for an answer before the deadline is waited for.
 */
static bool wait_as_asked(
	struct kube_client *client, int code, int64_t deadline_ms, const atomic_bool *stop)
{
	int64_t again_ms = kube_now_ms() + client->retry_after_ms;

	if ((code != 429 && code != 503) || !client->retry_after_ms ||
		again_ms + LEFT_LEAST_MS > deadline_ms)
		return false;
	kube_sleep_until(again_ms, stop);
	return !stop || !atomic_load(stop);
}

int kube_request_until(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer,
	const atomic_bool *stop)
{
	int64_t deadline_ms = kube_now_ms() + client->timeout_ms;
	char *before = NULL;
	bool token_is_new = client->config->token_file == NULL, again;
	json_t *json;
	int code, err;

	do {
		int64_t left_ms = deadline_ms - kube_now_ms();

		code = 0;
		json = NULL;
		err = request_once(client, method, path, content_type, body, &code, &json, stop,
			left_ms > LEFT_LEAST_MS ? (long)left_ms : LEFT_LEAST_MS);
		again = wait_as_asked(client, code, deadline_ms, stop);
		/* The token may have been replaced without a new time: read it, try once more. */
		if (code == 401 && !token_is_new && kube_now_ms() + LEFT_LEAST_MS <= deadline_ms) {
			before = client->token;
			client->token = NULL;
			token_is_new = again = true;
		}
		if (again)
			json_decref(json);
	} while (again);
	if (client->token)
		free(before);
	else
		client->token = before;
	if (status)
		*status = code;
	if (answer)
		*answer = json;
	else
		json_decref(json);
	return err;
}

int kube_request(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer)
{
	return kube_request_until(client, method, path, content_type, body, status, answer, NULL);
}

static json_t *walk(const json_t *object, va_list keys)
{
	const char *key;

	while ((key = va_arg(keys, const char *)))
		object = json_object_get(object, key);
	return (json_t *)object;
}

const char *kube_string(const json_t *object, ...)
{
	va_list keys;
	json_t *value;

	va_start(keys, object);
	value = walk(object, keys);
	va_end(keys);
	return json_string_value(value);
}

json_t *kube_get(const json_t *object, ...)
{
	va_list keys;
	json_t *value;

	va_start(keys, object);
	value = walk(object, keys);
	va_end(keys);
	return json_is_object(value) || json_is_array(value) ? value : NULL;
}
