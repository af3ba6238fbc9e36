// SPDX-License-Identifier: Apache-2.0
/* The learner's HTTP server: POST /v1/report, /metrics, /healthz, /readyz. */
#include "common/listen.h"
#include "common/log.h"
#include "learner/learner.h"
#include "learner/metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_BYTES_MAX (16U << 20)
/* Two for each of 20,000 agents. */
#define CONNECTIONS_MAX 40960U
/* With synced writes: reports that wait for the disk at the same time share a sync. */
#define SYNC_THREADS 32U

struct ingest {
	struct learner *learner;
	struct MHD_Daemon *daemon;
};

struct request {
	uint8_t *body;
	size_t size;
	bool too_large;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status,
	const char *type, void *body, size_t size, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(size, body, mode);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	if (status == MHD_HTTP_SERVICE_UNAVAILABLE || status == MHD_HTTP_TOO_MANY_REQUESTS)
		MHD_add_response_header(response, "Retry-After", "1");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_text(
	struct MHD_Connection *connection, unsigned int status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", (void *)text, strlen(text),
		MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result handle_report(
	struct ingest *ingest, struct MHD_Connection *connection, const struct request *request)
{
	uint8_t *packed = NULL;
	char error[256] = "";
	size_t size = 0;
	int err;

	if (request->too_large)
		return answer_text(connection, MHD_HTTP_CONTENT_TOO_LARGE,
			"body: more than 16 MiB: send smaller batches\n");
	if (!atomic_load(&ingest->learner->leader))
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			"standby: another learner holds the lease\n");
	err = report_handle(ingest->learner, request->body, request->size, &packed, &size, error,
		sizeof(error));
	if (err == -EINVAL) {
		pthread_mutex_lock(&ingest->learner->lock);
		ingest->learner->counts.reports_refused++;
		pthread_mutex_unlock(&ingest->learner->lock);
		log_warning("event=refused error=\"%s\"", error);
		return answer_text(connection, MHD_HTTP_BAD_REQUEST, error);
	}
	if (err)
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			error[0] ? error : "out of memory: try again\n");
	return answer(connection, MHD_HTTP_OK, "application/x-protobuf", packed, size,
		MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result handle_get(
	struct ingest *ingest, struct MHD_Connection *connection, const char *url)
{
	struct prometheus page = {0};

	if (strcmp(url, "/healthz") == 0)
		return answer_text(connection, MHD_HTTP_OK, "ok\n");
	if (strcmp(url, "/readyz") == 0)
		return atomic_load(&ingest->learner->leader)
			       ? answer_text(connection, MHD_HTTP_OK, "ok\n")
			       : answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "standby\n");
	if (strcmp(url, "/metrics") == 0) {
		metrics_write(ingest->learner, &page);
		return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4", page.text,
			page.used, MHD_RESPMEM_MUST_FREE);
	}
	return answer_text(connection, MHD_HTTP_NOT_FOUND,
		"not found: POST /v1/report, GET /metrics, /healthz, /readyz\n");
}

static int body_add(struct request *request, const char *data, size_t size)
{
	uint8_t *grown;

	if (request->size + size > BODY_BYTES_MAX) {
		request->too_large = true;
		return 0;
	}
	grown = realloc(request->body, request->size + size);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + request->size, data, size);
	request->body = grown;
	request->size += size;
	return 0;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **state)
{
	struct ingest *ingest = context;
	struct request *request = *state;
	bool post = strcmp(method, "POST") == 0;

	(void)version;
	if (!request) {
		*state = calloc(1, sizeof(*request));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*size > 0) {
		int err = body_add(request, data, *size);

		*size = 0;
		return err ? MHD_NO : MHD_YES;
	}
	if (post && strcmp(url, "/v1/report") == 0)
		return handle_report(ingest, connection, request);
	if (strcmp(method, "GET") == 0)
		return handle_get(ingest, connection, url);
	return answer_text(connection, post ? MHD_HTTP_NOT_FOUND : MHD_HTTP_METHOD_NOT_ALLOWED,
		post ? "not found: POST /v1/report\n" : "method not allowed\n");
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code)
{
	struct request *request = *state;

	(void)context, (void)connection, (void)code;
	if (request)
		free(request->body);
	free(request);
	*state = NULL;
}

int ingest_open(struct learner *learner, struct ingest **out)
{
	struct ingest *ingest = calloc(1, sizeof(*ingest));
	/* 0: the one thread, which never waits. */
	unsigned int threads = learner->config.durability == DURABILITY_FSYNC ? SYNC_THREADS : 0;
	int fd;

	if (!ingest)
		return -ENOMEM;
	ingest->learner = learner;
	fd = listen_open(learner->config.listen);
	if (fd < 0) {
		free(ingest);
		return fd;
	}
	ingest->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle,
		ingest, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 120U,
		MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_END);
	if (!ingest->daemon) {
		close(fd);
		free(ingest);
		return -EIO;
	}
	*out = ingest;
	return 0;
}

void ingest_close(struct ingest *ingest)
{
	if (!ingest)
		return;
	MHD_stop_daemon(ingest->daemon);
	free(ingest);
}
