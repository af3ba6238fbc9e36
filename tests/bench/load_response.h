/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/1.x response, read as it arrives (RFC 9112): status, body by Content-Length, by chunks or
 * by the end of the connection, interim 1xx responses skipped. The body is counted, not kept.
 */
#ifndef EBBTIDE_LOAD_RESPONSE_H
#define EBBTIDE_LOAD_RESPONSE_H

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* As much of a line as is looked at; the rest of a longer one is skipped. */
#define LOAD_RESPONSE_LINE 256
/* A head larger than this is an error, as in most servers and proxies. */
#define LOAD_RESPONSE_HEAD_MAX 65536

enum load_response_state {
	LOAD_RESPONSE_STATUS,
	LOAD_RESPONSE_HEADER,
	LOAD_RESPONSE_BODY,
	LOAD_RESPONSE_BODY_TO_END,
	LOAD_RESPONSE_CHUNK_SIZE,
	LOAD_RESPONSE_CHUNK_DATA,
	LOAD_RESPONSE_CHUNK_END,
	LOAD_RESPONSE_TRAILER,
	LOAD_RESPONSE_DONE,
};

struct load_response {
	enum load_response_state state;
	int status;
	bool close; /* the connection cannot be used again */
	bool chunked;
	bool has_length;
	uint64_t length;    /* Content-Length */
	uint64_t remaining; /* of the body, or of the chunk */
	size_t head_bytes;
	size_t line_length;
	char line[LOAD_RESPONSE_LINE];
};

static inline void load_response_init(struct load_response *response)
{
	/* Not the line buffer: this runs once a request. */
	memset(response, 0, offsetof(struct load_response, line));
}

/* A Content-Length, or a chunk size with whatever extension behind it. */
static inline int load_response_number(const char *text, int base, uint64_t *value)
{
	const char *may_follow = base == 16 ? "; \t" : " \t";
	char *end;

	/* strtoull() alone would take a sign. */
	if (!(base == 16 ? isxdigit((unsigned char)text[0]) : isdigit((unsigned char)text[0])))
		return -EPROTO;
	errno = 0;
	unsigned long long number = strtoull(text, &end, base);
	if (errno || number > INT64_MAX || (*end && !strchr(may_follow, *end)))
		return -EPROTO;
	*value = number;
	return 0;
}

static inline int load_response_status_line(struct load_response *response)
{
	const char *line = response->line;

	if (strncmp(line, "HTTP/1.", 7) || !isdigit((unsigned char)line[7]) || line[8] != ' ')
		return -EPROTO;
	for (int i = 9; i < 12; i++)
		if (!isdigit((unsigned char)line[i]))
			return -EPROTO;
	if (line[9] == '0' || (line[12] && line[12] != ' '))
		return -EPROTO;
	response->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
	response->close = line[7] == '0';
	response->chunked = response->has_length = false;
	response->state = LOAD_RESPONSE_HEADER;
	return 0;
}

static inline int load_response_header(struct load_response *response)
{
	char *colon = strchr(response->line, ':');

	if (!colon || colon == response->line)
		return -EPROTO;
	*colon = '\0';
	const char *value = colon + 1 + strspn(colon + 1, " \t");
	if (!strcasecmp(response->line, "content-length")) {
		uint64_t length;
		int rc = load_response_number(value, 10, &length);
		if (rc || (response->has_length && length != response->length))
			return -EPROTO;
		response->length = length;
		response->has_length = true;
	} else if (!strcasecmp(response->line, "transfer-encoding")) {
		response->chunked = strcasestr(value, "chunked");
	} else if (!strcasecmp(response->line, "connection")) {
		if (strcasestr(value, "close"))
			response->close = true;
		else if (strcasestr(value, "keep-alive"))
			response->close = false;
	}
	return 0;
}

static inline void load_response_head_end(struct load_response *response)
{
	if (response->status < 200) {
		response->state = LOAD_RESPONSE_STATUS;
	} else if (response->status == 204 || response->status == 304) {
		response->state = LOAD_RESPONSE_DONE;
	} else if (response->chunked) {
		response->state = LOAD_RESPONSE_CHUNK_SIZE;
	} else if (response->has_length) {
		response->remaining = response->length;
		response->state = response->length ? LOAD_RESPONSE_BODY : LOAD_RESPONSE_DONE;
	} else {
		response->close = true;
		response->state = LOAD_RESPONSE_BODY_TO_END;
	}
}

static inline int load_response_line(struct load_response *response)
{
	bool empty = !response->line[0];
	int rc;

	switch (response->state) {
	case LOAD_RESPONSE_STATUS:
		return load_response_status_line(response);
	case LOAD_RESPONSE_HEADER:
		if (!empty)
			return load_response_header(response);
		load_response_head_end(response);
		return 0;
	case LOAD_RESPONSE_CHUNK_SIZE:
		rc = load_response_number(response->line, 16, &response->remaining);
		if (rc)
			return rc;
		response->state =
			response->remaining ? LOAD_RESPONSE_CHUNK_DATA : LOAD_RESPONSE_TRAILER;
		return 0;
	case LOAD_RESPONSE_CHUNK_END:
		if (!empty)
			return -EPROTO;
		response->state = LOAD_RESPONSE_CHUNK_SIZE;
		return 0;
	case LOAD_RESPONSE_TRAILER:
		if (empty)
			response->state = LOAD_RESPONSE_DONE;
		return 0;
	default:
		return -EPROTO;
	}
}

/* Take one byte of a line. */
static inline int load_response_line_byte(struct load_response *response, char byte)
{
	if (++response->head_bytes > LOAD_RESPONSE_HEAD_MAX)
		return -EPROTO;
	if (byte != '\n') {
		if (response->line_length < LOAD_RESPONSE_LINE - 1)
			response->line[response->line_length++] = byte;
		return 0;
	}
	if (response->line_length && response->line[response->line_length - 1] == '\r')
		response->line_length--;
	response->line[response->line_length] = '\0';
	response->line_length = 0;
	/* The limit is for one head; a long chunked body has many size lines. */
	if (response->state == LOAD_RESPONSE_CHUNK_SIZE)
		response->head_bytes = 0;
	return load_response_line(response);
}

/*
 * Take @size bytes; @used says how many belong to this response (fewer only when it is done). 0 or
 * -EPROTO: not an HTTP/1.x response.
 */
static inline int load_response_feed(
	struct load_response *response, const char *data, size_t size, size_t *used)
{
	size_t i = 0;
	int rc = 0;

	while (i < size && response->state != LOAD_RESPONSE_DONE && !rc) {
		uint64_t take = size - i;

		switch (response->state) {
		case LOAD_RESPONSE_BODY:
		case LOAD_RESPONSE_CHUNK_DATA:
			if (take > response->remaining)
				take = response->remaining;
			response->remaining -= take;
			i += take;
			if (!response->remaining)
				response->state = response->state == LOAD_RESPONSE_BODY
							  ? LOAD_RESPONSE_DONE
							  : LOAD_RESPONSE_CHUNK_END;
			break;
		case LOAD_RESPONSE_BODY_TO_END:
			i = size;
			break;
		default:
			rc = load_response_line_byte(response, data[i++]);
		}
	}
	*used = i;
	return rc;
}

/* The server closed the connection: 0 when that ends the response, -ECONNRESET in its middle. */
static inline int load_response_end(struct load_response *response)
{
	if (response->state == LOAD_RESPONSE_BODY_TO_END)
		response->state = LOAD_RESPONSE_DONE;
	return response->state == LOAD_RESPONSE_DONE ? 0 : -ECONNRESET;
}

#endif
