// SPDX-License-Identifier: Apache-2.0
#include "local/api/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "local/api/status.h"
#include "local/process.h"

#define BODY_MOST	   (3 * 1024 * 1024)
#define CONNECTIONS_MOST   1000
#define IDLE_TIMEOUT_S	   300U
#define THREAD_STACK_BYTES ((size_t)1024 * 1024)
#define BOOKMARK_MS	   60000
#define WATCH_BLOCK_BYTES  65536

struct server_http {
	struct MHD_Daemon *daemon;
	struct api *api;
	atomic_bool stopping;
};

/* One request while its body arrives. */
struct call {
	char *body;
	size_t size;
	bool too_large;
};

/* One watch while it is sent. */
struct stream {
	struct server_http *server;
	struct api_watch *watch;
	int socket;
	int wake;
	char *text; /* the event being sent, with its newline */
	size_t size;
	size_t sent;
	int64_t end_ms;
	int64_t bookmark_ms;
};

static int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *query_value(const struct api_request *request, const char *name)
{
	return MHD_lookup_connection_value(
		(struct MHD_Connection *)request->transport, MHD_GET_ARGUMENT_KIND, name);
}

static void set_text(struct stream *stream, char *event)
{
	free(stream->text);
	stream->size = strlen(event);
	stream->text = realloc(event, stream->size + 1);
	if (!stream->text) {
		free(event);
		stream->size = 0;
		return;
	}
	stream->text[stream->size++] = '\n';
	stream->sent = 0;
}

/* True when there is something to send, false when the stream is over. */
static bool wait_for_event(struct stream *stream)
{
	for (;;) {
		struct pollfd fds[2] = {
			{.fd = stream->wake, .events = POLLIN},
			{.fd = stream->socket, .events = POLLRDHUP},
		};
		int64_t now_ms, wait_ms;
		eventfd_t count;
		char *event;

		if (stream->server->stopping)
			return false;
		event = api_watch_next(stream->server->api, stream->watch);
		if (event) {
			set_text(stream, event);
			return true;
		}
		now_ms = clock_ms();
		if (stream->watch->failed || now_ms >= stream->end_ms)
			return false;
		if (stream->watch->bookmarks && now_ms >= stream->bookmark_ms) {
			stream->bookmark_ms = now_ms + BOOKMARK_MS;
			set_text(stream, api_watch_bookmark(stream->server->api, stream->watch));
			return true;
		}
		wait_ms = stream->end_ms - now_ms;
		if (stream->watch->bookmarks && stream->bookmark_ms - now_ms < wait_ms)
			wait_ms = stream->bookmark_ms - now_ms;
		/* Shutting down sets a flag and wakes through the eventfd; a second is a net. */
		if (wait_ms > 1000)
			wait_ms = 1000;
		poll(fds, 2, (int)wait_ms);
		if (fds[1].revents)
			return false; /* the client went away */
		if (fds[0].revents)
			eventfd_read(stream->wake, &count);
	}
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t size)
{
	struct stream *stream = context;
	size_t part;

	(void)position;
	if (stream->sent == stream->size && !wait_for_event(stream))
		return MHD_CONTENT_READER_END_OF_STREAM;
	part = stream->size - stream->sent;
	if (part > size)
		part = size;
	memcpy(out, stream->text + stream->sent, part);
	stream->sent += part;
	return (ssize_t)part;
}

static void free_stream(void *context)
{
	struct stream *stream = context;

	store_remove_listener(stream->server->api->store, stream->wake);
	close(stream->wake);
	api_watch_free(stream->watch);
	free(stream->text);
	free(stream);
}

static struct MHD_Response *open_stream(
	struct server_http *server, struct MHD_Connection *connection, struct api_watch *watch)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct stream *stream = calloc(1, sizeof(*stream));
	struct MHD_Response *response;

	if (!stream || !info) {
		free(stream);
		api_watch_free(watch);
		return NULL;
	}
	*stream = (struct stream){
		.server = server,
		.watch = watch,
		.socket = info->connect_fd,
		.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.end_ms = clock_ms() + watch->timeout_s * 1000,
		.bookmark_ms = clock_ms() + BOOKMARK_MS,
	};
	if (stream->wake < 0 || store_add_listener(server->api->store, stream->wake)) {
		free_stream(stream);
		return NULL;
	}
	response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, WATCH_BLOCK_BYTES, read_stream, stream, free_stream);
	if (!response) {
		free_stream(stream);
		return NULL;
	}
	/* A quiet watch is not an idle connection. */
	MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
	return response;
}

static enum MHD_Result send_answer(
	struct server_http *server, struct MHD_Connection *connection, struct api_answer *answer)
{
	struct MHD_Response *response;
	enum MHD_Result sent;

	if (answer->watch) {
		response = open_stream(server, connection, answer->watch);
		answer->watch = NULL;
	} else {
		char *text = answer->text ? strdup(answer->text)
					  : json_dumps(answer->json, JSON_COMPACT);

		response = text ? MHD_create_response_from_buffer(
					  strlen(text), text, MHD_RESPMEM_MUST_FREE)
				: NULL;
	}
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache, private");
	sent = MHD_queue_response(connection, (unsigned int)answer->code, response);
	MHD_destroy_response(response);
	return sent;
}

static void append_body(struct call *call, const char *data, size_t size)
{
	char *body;

	if (call->too_large || call->size + size > BODY_MOST) {
		call->too_large = true;
		return;
	}
	body = realloc(call->body, call->size + size);
	if (!body) {
		call->too_large = true;
		return;
	}
	memcpy(body + call->size, data, size);
	call->body = body;
	call->size += size;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
	const char *path, const char *method, const char *version, const char *data, size_t *size,
	void **state)
{
	struct server_http *server = context;
	struct call *call = *state;
	struct api_answer answer = {0};
	enum MHD_Result sent;

	(void)version;
	if (!call) {
		*state = calloc(1, sizeof(*call));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*size > 0) {
		append_body(call, data, *size);
		*size = 0;
		return MHD_YES;
	}
	if (call->too_large) {
		answer.json = status_new(413, "RequestEntityTooLarge",
			"Request entity too large: limit is %d", BODY_MOST);
		answer.code = 413;
		answer.content_type = "application/json";
	} else {
		struct api_request request = {
			.method = method,
			.path = path,
			.content_type = MHD_lookup_connection_value(
				connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE),
			.accept = MHD_lookup_connection_value(
				connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT),
			.body = call->body,
			.body_size = call->size,
			.query = query_value,
			.transport = connection,
		};

		api_handle(server->api, &request, &answer);
		log_debug("api method=%s path=%s code=%d", method, path, answer.code);
	}
	sent = send_answer(server, connection, &answer);
	api_answer_free(&answer);
	return sent;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
	enum MHD_RequestTerminationCode code)
{
	struct call *call = *state;

	(void)context;
	(void)connection;
	(void)code;
	if (call)
		free(call->body);
	free(call);
	*state = NULL;
}

int server_start(struct server_http **out, struct api *api, const char *address, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct server_http *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	err = process_check_listen(address, port);
	if (err) {
		free(server);
		return err;
	}
	inet_pton(AF_INET, address, &to.sin_addr);
	server->api = api;
	server->daemon =
		MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
					 MHD_USE_POLL | MHD_USE_ITC,
			port, NULL, NULL, on_request, server, MHD_OPTION_SOCK_ADDR, &to,
			MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
			MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MOST,
			MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_THREAD_STACK_SIZE,
			THREAD_STACK_BYTES, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1U, MHD_OPTION_END);
	if (!server->daemon) {
		err = errno ? -errno : -EIO;
		free(server);
		return err;
	}
	*out = server;
	return 0;
}

void server_stop(struct server_http *server)
{
	if (!server)
		return;
	server->stopping = true;
	store_wake_listeners(server->api->store);
	MHD_stop_daemon(server->daemon);
	free(server);
}
