/* SPDX-License-Identifier: Apache-2.0 */
/* Dialogues in HTTP/1. */
#ifndef EBBTIDE_DIALOGUES_HTTP1_H
#define EBBTIDE_DIALOGUES_HTTP1_H

#include "dialogues.h"

#define ASK(text)                                                                                  \
	{                                                                                          \
		CLIENT, text, sizeof(text) - 1                                                     \
	}
#define ANSWER(text)                                                                               \
	{                                                                                          \
		SERVER, text, sizeof(text) - 1                                                     \
	}
#define GET   "GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK_2  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define ERROR "HTTP/1.1 503 Service Unavailable\r\ncontent-length:4\r\n\r\nbusy"

static const struct {
	const char *name;
	struct {
		uint8_t speaker;
		const char *text;
		size_t size;
	} turns[DIALOGUE_TURNS];
	uint32_t requests, failed, client_errors, server_errors;
	uint16_t statuses[DIALOGUE_STATUSES];
} http1_dialogues[] = {
	{"keep-alive", {ASK(GET), ANSWER(OK_2), ASK(GET), ANSWER(ERROR), ASK(GET), ANSWER(OK_2)}, 3,
		0, 0, 1, {200, 503, 200}},
	{"closed by the server",
		{ASK("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
			ANSWER("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHTTP/1.1 500 is "
			       "body\r\n\r\n")},
		1, 0, 0, 0, {200}},
	{"HTTP/1.0",
		{ASK("GET /index.html HTTP/1.0\r\n\r\n"),
			ANSWER("HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nnothing here\r\n\r\n")},
		1, 0, 1, 0, {404}},
	{"no answer", {ASK(GET), ANSWER(OK_2), ASK(GET)}, 1, 1, 0, 0, {200}},
	{"pipelined", {ASK(GET GET GET GET), ANSWER(OK_2 ERROR OK_2 OK_2)}, 4, 0, 0, 1,
		{200, 503, 200, 200}},
	{"pipelined, answered one by one",
		{ASK(GET GET GET), ANSWER(OK_2), ASK(GET), ANSWER(ERROR OK_2), ANSWER(OK_2),
			ASK(GET), ANSWER(OK_2)},
		5, 0, 0, 1, {200, 503, 200, 200, 200}},
	{"pipelined, two of five not answered", {ASK(GET GET GET GET GET), ANSWER(OK_2 OK_2 OK_2)},
		3, 2, 0, 0, {200, 200, 200}},
	{"chunked answers with extensions and trailers",
		{ASK(GET GET),
			ANSWER("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			       "5\r\nhello\r\n1A;name=\"value\";x\r\nHTTP/1.1 500 is data here\n\r\n"
			       "0;last\r\nExpires: never\r\nHTTP/1.1: a trailer\r\n\r\n" ERROR),
			ASK(GET),
			ANSWER("HTTP/1.1 200 OK\r\nTRANSFER-ENCODING:gzip, chunked\r\n\r\n"
			       "00000b\r\nhello world\r\n000\r\n\r\n"),
			ASK(GET), ANSWER(OK_2)},
		4, 0, 0, 1, {200, 503, 200, 200}},
	{"chunked requests",
		{ASK("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		     "e\r\nGET / HTTP/1.1\r\n4;x=\"\xff\"\r\n\r\n\r\n\r\n0\r\nA: b\r\n\r\n" GET),
			ANSWER(OK_2 OK_2)},
		2, 0, 0, 0, {200, 200}},
	{"a chunked request whose length does not count",
		{ASK("PUT /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"
		     "Content-Length: 7\r\n\r\n2\r\nab\r\n0\r\n\r\n" GET),
			ANSWER(OK_2 OK_2)},
		2, 0, 0, 0, {200, 200}},
	{"bodies that look like requests",
		{ASK("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / "
		     "HTTP/1.1\r\n\r\n" GET),
			ANSWER(OK_2 OK_2), ASK("POST / HTTP/1.1\r\ncontent-length:\t3\r\n\r\nGET"),
			ANSWER(ERROR)},
		3, 0, 0, 1, {200, 200, 503}},
	{"fields that only look like lengths",
		{ASK("GET / HTTP/1.1\r\nContent-Lengthy: 9\r\nX-Content-Length: 9\r\nContent: 9\r\n"
		     "Transfer-Encodings: chunked\r\nTE: chunked\r\nT: x\r\nC\r\nc: 1\r\n"
		     "Transfer-Encoding: identity\r\nA: Content-Length: 9\r\n\r\n" GET),
			ANSWER(OK_2 OK_2)},
		2, 0, 0, 0, {200, 200}},
	{"continue, in a segment of its own",
		{ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
			ANSWER("HTTP/1.1 100 Continue\r\n\r\n"), ASK("data"), ANSWER(OK_2),
			ASK(GET), ANSWER(ERROR)},
		2, 0, 0, 1, {200, 503}},
	{"continue and the answer at once",
		{ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\ndata"),
			ANSWER("HTTP/1.1 100 Continue\r\n\r\n" ERROR), ASK(GET),
			ANSWER("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 "
			       "x\r\n\r\n" OK_2)},
		2, 0, 0, 1, {503, 200}},
	{"expected, and refused before the body",
		{ASK("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
			ANSWER("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"),
			ASK("data" GET), ANSWER(OK_2)},
		2, 0, 1, 0, {417, 200}},
	{"HEAD",
		{ASK("HEAD / HTTP/1.1\r\n\r\n"),
			ANSWER("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), ASK(GET),
			ANSWER(ERROR),
			ASK("HEAD / HTTP/1.1\r\n\r\n" GET "HEAD / HTTP/1.1\r\n\r\n" GET),
			ANSWER("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" OK_2
			       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" ERROR)},
		6, 0, 0, 2, {200, 503, 200, 200, 200, 503}},
	{"alone in their segments, with and without bodies",
		{ASK("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
			ANSWER("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
			ASK("GET / HTTP/1.1\r\nCookie: lll\r\nContent-Type: a\r\n\r\n"),
			ANSWER(ERROR), ASK("GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n"),
			ANSWER(OK_2),
			ASK("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "0\r\n\r\n"),
			ANSWER(ERROR),
			ASK("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
			    "4\r\n\r\n\r\n\r\n0\r\nA: b\r\n\r\n"),
			ANSWER(OK_2), ASK(GET "\r\n\r\n"), ANSWER(OK_2), ASK(GET), ANSWER(ERROR)},
		7, 0, 0, 3, {200, 503, 200, 503, 200, 200, 503}},
	{"answers without a body",
		{ASK(GET GET GET GET),
			ANSWER("HTTP/1.1 204 No Content\r\n\r\n"
			       "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"
			       "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n" ERROR)},
		4, 0, 0, 1, {204, 304, 205, 503}},
	{"empty lines between, and line feeds alone",
		{ASK("GET / HTTP/1.1\nHost: a\n\n\r\n\r\n\nGET / HTTP/1.1\nHost: b\n\n"),
			ANSWER("HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\nHTTP/1.1 500 No\n"
			       "Content-Length: 0\n\n")},
		2, 0, 0, 1, {200, 500}},
	{"upgraded to WebSocket",
		{ASK("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: "
		     "Upgrade\r\n\r\n"),
			ANSWER("HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
			       "websocket\r\n\r\n\x81\x02hi"),
			ASK("\x81\x85\x01\x02\x03\x04GET /"), ANSWER("\x81\x0bHTTP/1.1 50"),
			ASK("GET / HTTP/1.1\r\n\r\n"), ANSWER("HTTP/1.1 500 No\r\n\r\n"),
			ASK("\x88\x80\x01\x02\x03\x04"), ANSWER("\x88\x00")},
		1, 0, 0, 0, {101}},
	{"upgraded behind pipelined requests",
		{ASK(GET GET "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
			ANSWER(OK_2 ERROR "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi"),
			ASK("\x81\x85\x01\x02\x03\x04GET /"), ANSWER("\x81\x0bHTTP/1.1 50")},
		3, 0, 0, 1, {200, 503, 101}},
	{"one answer of a server that never learns",
		{ASK(GET), ANSWER("HTTP/1.1 200 OK\r\n\r\nuntil the end"), ASK(GET GET)}, 1, 2, 0,
		0, {200}},
};

#undef ASK
#undef ANSWER
#undef GET
#undef OK_2
#undef ERROR

/* Dialogue @index into @dialogue; false after the last. */
static __attribute__((unused)) bool http1_dialogue(size_t index, struct dialogue *dialogue)
{
	if (index >= sizeof(http1_dialogues) / sizeof(http1_dialogues[0]))
		return false;
	memset(dialogue, 0, sizeof(*dialogue));
	dialogue->name = http1_dialogues[index].name;
	for (size_t i = 0; i < DIALOGUE_TURNS && http1_dialogues[index].turns[i].text; i++)
		dialogue_say(dialogue, http1_dialogues[index].turns[i].speaker,
			http1_dialogues[index].turns[i].text, http1_dialogues[index].turns[i].size);
	dialogue->requests = http1_dialogues[index].requests;
	dialogue->failed = http1_dialogues[index].failed;
	dialogue->client_errors = http1_dialogues[index].client_errors;
	dialogue->server_errors = http1_dialogues[index].server_errors;
	memcpy(dialogue->statuses, http1_dialogues[index].statuses, sizeof(dialogue->statuses));
	return true;
}

#endif
