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

const char *kube_last_error(const struct kube_client *client)
{
	return client->error;
}

static int request_once(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer,
	const atomic_bool *stop)
{
	struct kube_transfer transfer;
	json_error_t json_error;
	json_t *json = NULL;
	int err;

	err = kube_transfer_start(client, &transfer, method, path, content_type, body,
		KUBE_ANSWER_MAX, KUBE_REQUEST_TIMEOUT_MS);
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

int kube_request_until(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer,
	const atomic_bool *stop)
{
	json_t *json = NULL;
	int code = 0;
	int err = request_once(client, method, path, content_type, body, &code, &json, stop);

	/* The token may have been replaced without a new time: read it again, try once more. */
	if (code == 401 && client->config->token_file) {
		char *before = client->token;

		client->token = NULL;
		json_decref(json);
		json = NULL;
		err = request_once(client, method, path, content_type, body, &code, &json, stop);
		if (!client->token)
			client->token = before;
		else
			free(before);
	}
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
