// SPDX-License-Identifier: Apache-2.0
/*
 * The learner's HTTP server: POST /v1/report, GET /v1/actions, /v1/decisions, /metrics, /healthz,
 * /readyz.
 */
#include "common/listen.h"
#include "common/log.h"
#include "learner/learner.h"
#include "learner/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two for each of 20,000 agents. */
#define CONNECTIONS_MAX 40960U
/*
 * Of each connection, allocated when it is made: head and what of the body is read at once. Twice
 * as much would make a large body a fifth cheaper and ten thousand agents twice as dear.
 */
#define CONNECTION_BYTES 16384U
/* A long poll is silent for PUSH_WAIT_S; an agent's tick is up to 60 s. */
#define CONNECTION_TIMEOUT_S 150U
/* What is refused is still read, so that the connection can be kept; but not for ever. */
#define IGNORED_BYTES_MAX (2 * (size_t)BODY_BYTES_MAX)
#define RETRY_AFTER	  "1"
#define STANDBY		  "standby: another learner holds the lease\n"

struct ingest {
	struct learner *learner;
	struct MHD_Daemon *daemon;
};

struct request {
	struct ingest *ingest;
	struct MHD_Connection *connection;
	struct body body;
	bool compressed;
	size_t ignored;	     /* bytes of a body that is refused */
	unsigned int status; /* it will be refused with; 0: not known to be */
	const char *reason;  /* static */
	bool standby;	     /* that is why */
	struct push_waiter poll;
	bool polled; /* it has waited once */
};

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned int status,
	const char *type, void *body, size_t size, enum MHD_ResponseMemoryMode mode, bool ends)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(size, body, mode);
	enum MHD_Result result;

	if (!response) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(body);
		return MHD_NO;
	}
	if (type)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	/* RFC 7694: what this server takes in requests. */
	MHD_add_response_header(response, MHD_HTTP_HEADER_ACCEPT_ENCODING, "deflate, gzip");
	if (ends)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	if (status == MHD_HTTP_SERVICE_UNAVAILABLE || status == MHD_HTTP_TOO_MANY_REQUESTS)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, RETRY_AFTER);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status,
	const char *type, void *body, size_t size, enum MHD_ResponseMemoryMode mode)
{
	return respond(connection, status, type, body, size, mode, false);
}

/*
 * A connection through a Kubernetes Service stays with the pod that it was made to, however long
 * another one leads: only a new one finds the leader.
 */
static enum MHD_Result answer_standby(struct MHD_Connection *connection)
{
	return respond(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain; charset=utf-8",
		(void *)STANDBY, strlen(STANDBY), MHD_RESPMEM_PERSISTENT, true);
}

static enum MHD_Result answer_text(
	struct MHD_Connection *connection, unsigned int status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", (void *)text, strlen(text),
		MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result answer_refused(
	struct request *request, unsigned int status, const char *reason)
{
	struct learner *learner = request->ingest->learner;

	pthread_mutex_lock(&learner->lock);
	learner->counts.reports_refused++;
	pthread_mutex_unlock(&learner->lock);
	log_warning("event=refused status=%u error=\"%.*s\"", status, (int)strcspn(reason, "\n"),
		reason);
	return answer_text(request->connection, status, reason);
}

static enum MHD_Result answer_deferred(struct request *request, const char *reason)
{
	struct learner *learner = request->ingest->learner;

	pthread_mutex_lock(&learner->lock);
	learner->counts.reports_deferred++;
	pthread_mutex_unlock(&learner->lock);
	return answer_text(request->connection, MHD_HTTP_TOO_MANY_REQUESTS, reason);
}

/* --- bodies --- */

/* Decided early, said at the end of the body: then the connection can be kept. */
static void refuse_later(struct request *request, unsigned int status, const char *reason)
{
	body_free(&request->body);
	request->status = status;
	request->reason = reason;
}

static void refuse_body(struct request *request, int err)
{
	switch (err) {
	case -EMSGSIZE:
		refuse_later(request, MHD_HTTP_CONTENT_TOO_LARGE,
			"body: more than 16 MiB: send smaller batches\n");
		break;
	case -ENOBUFS:
		refuse_later(request, MHD_HTTP_TOO_MANY_REQUESTS,
			"too many bytes of other requests in memory: try again\n");
		break;
	case -EINVAL:
		refuse_later(request, MHD_HTTP_BAD_REQUEST,
			"body: not a whole zlib or gzip stream as Content-Encoding says\n");
		break;
	default:
		refuse_later(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory: try again\n");
		break;
	}
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* What the head of a report says of its body. */
static void body_expect(struct request *request)
{
	const char *encoding = header(request->connection, MHD_HTTP_HEADER_CONTENT_ENCODING);
	struct body_budget *budget = &request->ingest->learner->bodies;

	if (encoding && strcasecmp(encoding, "identity") != 0) {
		request->compressed = strcasecmp(encoding, "deflate") == 0 ||
				      strcasecmp(encoding, "gzip") == 0 ||
				      strcasecmp(encoding, "x-gzip") == 0;
		if (!request->compressed)
			refuse_later(request, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
				"Content-Encoding: only deflate and gzip are understood\n");
	}
	request->standby = !atomic_load(&request->ingest->learner->leader);
	if (!request->status && request->standby)
		refuse_later(request, MHD_HTTP_SERVICE_UNAVAILABLE, STANDBY);
	if (!request->status && atomic_load(&budget->used) >= budget->most)
		refuse_body(request, -ENOBUFS);
}

/* True when the length alone says that the body is too large to be read at all. */
static bool body_is_hopeless(const struct request *request)
{
	const char *length = header(request->connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return length && strtoumax(length, NULL, 10) > IGNORED_BYTES_MAX;
}

static enum MHD_Result body_take(struct request *request, const char *data, size_t size)
{
	int err;

	if (request->status) {
		request->ignored += size;
		return request->ignored > IGNORED_BYTES_MAX ? MHD_NO : MHD_YES;
	}
	err = body_add(&request->body, data, size);
	if (err) {
		request->ignored = request->body.size + size;
		refuse_body(request, err);
	}
	return MHD_YES;
}

/* --- reports --- */

static enum MHD_Result report_answer(struct request *request)
{
	struct learner *learner = request->ingest->learner;
	double start_s = learner_now_s();
	uint8_t *packed = NULL;
	char error[256] = "";
	size_t size = 0;
	int err = 0;

	if (!request->status && request->compressed) {
		err = body_inflate(&request->body);
		if (err)
			refuse_body(request, err);
	}
	if (request->status == MHD_HTTP_TOO_MANY_REQUESTS)
		return answer_deferred(request, request->reason);
	if (request->status == MHD_HTTP_SERVICE_UNAVAILABLE && request->standby)
		return answer_standby(request->connection);
	if (request->status == MHD_HTTP_SERVICE_UNAVAILABLE)
		return answer_text(request->connection, request->status, request->reason);
	if (request->status)
		return answer_refused(request, request->status, request->reason);
	err = report_handle(learner, request->body.bytes, request->body.size, &packed, &size, error,
		sizeof(error));
	/* A connection that is kept between two reports keeps no body. */
	body_free(&request->body);
	durations_note(&learner->decision_times, learner_now_s() - start_s);
	if (err == -EINVAL)
		return answer_refused(request, MHD_HTTP_BAD_REQUEST, error);
	if (err == -EUSERS)
		return answer_deferred(request, error);
	if (err)
		return answer_text(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			error[0] ? error : "out of memory: try again\n");
	return answer(request->connection, MHD_HTTP_OK, "application/x-protobuf", packed, size,
		MHD_RESPMEM_MUST_FREE);
}

/* --- long polls --- */

static void poll_wake(void *context)
{
	struct request *request = context;

	MHD_resume_connection(request->connection);
}

/* 0, or -EINVAL: not there or not a number. */
static int argument_number(struct MHD_Connection *connection, const char *name, uint64_t *value)
{
	const char *text = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return -EINVAL;
	*value = strtoull(text, &end, 10);
	return *end ? -EINVAL : 0;
}

/* poll_answer() is called again once there is something, or nothing for long. */
static void poll_suspend(struct request *request, const char *agent, uint64_t whose, uint64_t after)
{
	struct learner *learner = request->ingest->learner;
	struct answer found;
	int got;

	/* Before the waiter is known: what wakes it must find a connection to resume. */
	MHD_suspend_connection(request->connection);
	got = push_poll(
		&learner->push, agent, whose, after, learner_now_s(), &request->poll, &found);
	if (got == 0)
		return;
	/* Something came meanwhile, or it may not wait: the next call says it. */
	if (got > 0)
		free(found.bytes);
	MHD_resume_connection(request->connection);
}

static enum MHD_Result poll_answer(struct request *request)
{
	struct MHD_Connection *connection = request->connection;
	struct learner *learner = request->ingest->learner;
	const char *agent = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "agent");
	uint64_t after, whose;
	struct answer found;
	uint8_t *packed;
	size_t size;
	int got;

	if (!agent || !*agent || strlen(agent) > 255)
		return answer_text(connection, MHD_HTTP_BAD_REQUEST, "agent: not a node's name\n");
	if (argument_number(connection, "after", &after) ||
		argument_number(connection, "learner", &whose))
		return answer_text(
			connection, MHD_HTTP_BAD_REQUEST, "after, learner: give a number each\n");
	if (!atomic_load(&learner->leader))
		return answer_standby(connection);
	got = push_poll(&learner->push, agent, whose, after, learner_now_s(), NULL, &found);
	if (got == 0 && !request->polled) {
		request->polled = true;
		poll_suspend(request, agent, whose, after);
		return MHD_YES;
	}
	if (got < 0)
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			"no room for another agent's poll: try again\n");
	if (got == 0)
		return answer(
			connection, MHD_HTTP_NO_CONTENT, NULL, NULL, 0, MHD_RESPMEM_PERSISTENT);
	if (answer_end(&found, &packed, &size))
		return answer_text(
			connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory: try again\n");
	return answer(connection, MHD_HTTP_OK, "application/x-protobuf", packed, size,
		MHD_RESPMEM_MUST_FREE);
}

/* --- people --- */

static enum MHD_Result explain_answer(struct MHD_Connection *connection, struct learner *learner)
{
	const struct decisions_query query = {.service = MHD_lookup_connection_value(
						      connection, MHD_GET_ARGUMENT_KIND, "service"),
		.unit = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "unit"),
		.at_us = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "at"),
		.count = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "n")};
	unsigned int status;
	size_t size;
	char *body;

	if (!atomic_load(&learner->leader))
		return answer_standby(connection);
	status = decisions_answer(learner, &query, &body, &size);
	if (!body)
		return answer_text(
			connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory: try again\n");
	return answer(connection, status,
		status == MHD_HTTP_OK ? "application/json" : "text/plain; charset=utf-8", body,
		size, MHD_RESPMEM_MUST_FREE);
}

/* --- all requests --- */

static enum MHD_Result get_answer(struct request *request, const char *url)
{
	struct MHD_Connection *connection = request->connection;
	struct learner *learner = request->ingest->learner;
	struct prometheus page = {0};

	if (strcmp(url, "/v1/actions") == 0)
		return poll_answer(request);
	if (strcmp(url, "/v1/decisions") == 0)
		return explain_answer(connection, learner);
	if (strcmp(url, "/healthz") == 0)
		return answer_text(connection, MHD_HTTP_OK, "ok\n");
	if (strcmp(url, "/readyz") == 0)
		return atomic_load(&learner->leader)
			       ? answer_text(connection, MHD_HTTP_OK, "ok\n")
			       : answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "standby\n");
	if (strcmp(url, "/metrics") == 0) {
		metrics_write(learner, &page);
		return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4", page.text,
			page.used, MHD_RESPMEM_MUST_FREE);
	}
	return answer_text(connection, MHD_HTTP_NOT_FOUND,
		"not found: POST /v1/report, GET /v1/actions, /v1/decisions, /metrics, /healthz, "
		"/readyz\n");
}

static bool is_report(const char *method, const char *url)
{
	return strcmp(method, MHD_HTTP_METHOD_POST) == 0 && strcmp(url, "/v1/report") == 0;
}

static enum MHD_Result request_begin(struct ingest *ingest, struct MHD_Connection *connection,
	const char *method, const char *url, void **state)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return MHD_NO;
	*state = request;
	request->ingest = ingest;
	request->connection = connection;
	request->body.budget = &ingest->learner->bodies;
	request->poll.wake = poll_wake;
	request->poll.context = request;
	/* Said before the body is read, which ends the connection. */
	if (body_is_hopeless(request))
		return answer_refused(request, MHD_HTTP_CONTENT_TOO_LARGE,
			"body: more than 16 MiB: send smaller batches\n");
	if (is_report(method, url))
		body_expect(request);
	else if (strcmp(method, MHD_HTTP_METHOD_POST) == 0)
		refuse_later(request, MHD_HTTP_NOT_FOUND, "not found: POST /v1/report\n");
	else if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
		refuse_later(request, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n");
	return MHD_YES;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **state)
{
	struct request *request = *state;

	(void)version;
	if (!request)
		return request_begin(context, connection, method, url, state);
	if (*size > 0) {
		size_t taken = *size;

		*size = 0;
		return body_take(request, data, taken);
	}
	if (is_report(method, url))
		return report_answer(request);
	if (request->status)
		return answer_text(connection, request->status, request->reason);
	return get_answer(request, url);
}

static void completed(void *context, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code)
{
	struct ingest *ingest = context;
	struct request *request = *state;

	(void)connection, (void)code;
	if (!request)
		return;
	push_forget(&ingest->learner->push, &request->poll);
	body_free(&request->body);
	free(request);
	*state = NULL;
}

int ingest_open(struct learner *learner, struct ingest **out)
{
	struct ingest *ingest = calloc(1, sizeof(*ingest));
	/* A pool of one is no pool: the daemon's own thread then does it all. */
	unsigned int threads = learner->config.http_threads > 1 ? learner->config.http_threads : 0;
	int fd;

	if (!ingest)
		return -ENOMEM;
	ingest->learner = learner;
	fd = listen_open(learner->config.listen);
	if (fd < 0) {
		free(ingest);
		return fd;
	}
	ingest->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME,
		0, NULL, NULL, handle, ingest, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_NOTIFY_COMPLETED, completed, ingest, MHD_OPTION_CONNECTION_LIMIT,
		CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
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
	/* A daemon must not be stopped while connections are suspended. */
	push_close(&ingest->learner->push);
	MHD_stop_daemon(ingest->daemon);
	free(ingest);
}
