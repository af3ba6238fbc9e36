// SPDX-License-Identifier: Apache-2.0
/*
 * The inside of the Kubernetes client: one HTTP exchange at a time over libcurl, driven step by
 * step so that its user can look at a stop flag and at a stream's lines in between. Only kube.c
 * and kube_reflect.c include this.
 */
#ifndef EBBTIDE_KUBE_TRANSFER_H
#define EBBTIDE_KUBE_TRANSFER_H

#include "common/kube.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define KUBE_REQUEST_TIMEOUT_MS 10000
#define KUBE_CONNECT_TIMEOUT_MS 5000
#define KUBE_POLL_MS		200 /* how often a stop flag is looked at */
/* More than that of a Retry-After is not waited for. */
#define KUBE_RETRY_AFTER_MAX_MS 30000
#define KUBE_ANSWER_MAX		((size_t)64 << 20)
#define KUBE_LINE_MAX		((size_t)16 << 20)

struct kube_client {
	const struct kube_config *config; /* borrowed */
	CURLM *multi;			  /* owns the kept-alive connections */
	char *user_agent;
	struct curl_slist *connect_to; /* of the configuration's */
	char *token;		       /* what token_file held */
	struct timespec token_modified;
	time_t token_read_s; /* monotonic */
	unsigned int random;
	long timeout_ms;
	long retry_after_ms; /* what the newest answer asked for; 0: nothing */
	char error[512];
};

struct kube_transfer {
	CURL *easy;
	struct curl_slist *headers;
	char *method;
	char *url;
	char *request_body;
	char *data; /* received and not yet taken; not terminated */
	size_t length;
	size_t capacity;
	size_t limit; /* of @length; more ends the transfer with -EMSGSIZE */
	bool overflow;
	bool done;
	CURLcode result;
	char curl_error[CURL_ERROR_SIZE];
};

void kube_set_error(struct kube_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * Begin an exchange. @body is not consumed. kube_transfer_end in any case, after an error too.
 */
int kube_transfer_start(struct kube_client *client, struct kube_transfer *transfer,
	const char *method, const char *path, const char *content_type, const json_t *body,
	size_t limit, long timeout_ms);
/* Move every exchange of the client on; waits up to KUBE_POLL_MS for something to happen. */
int kube_transfer_step(struct kube_client *client);
/* Step until done; -ECANCELED when *stop (may be NULL) is set before. */
int kube_transfer_run(
	struct kube_client *client, struct kube_transfer *transfer, const atomic_bool *stop);
/* After done: 0, or -errno with the client's error set when there was no whole answer. */
int kube_transfer_result(struct kube_client *client, const struct kube_transfer *transfer);
/* HTTP status, 0 as long as none was received. */
int kube_transfer_status(const struct kube_transfer *transfer);
void kube_transfer_end(struct kube_client *client, struct kube_transfer *transfer);
/*
 * The errno for a whole answer with @status; a failure's text goes to the client's error.
 * @answer: the Status object, or NULL when the body was no JSON.
 */
int kube_check_status(struct kube_client *client, const struct kube_transfer *transfer, int status,
	const json_t *answer);
int64_t kube_now_ms(void);
/* Until @until_ms by kube_now_ms, or until *stop (may be NULL) is set. */
void kube_sleep_until(int64_t until_ms, const atomic_bool *stop);
/* kube_request with a stop flag. */
int kube_request_until(struct kube_client *client, const char *method, const char *path,
	const char *content_type, const json_t *body, int *status, json_t **answer,
	const atomic_bool *stop);

#endif
