/* SPDX-License-Identifier: Apache-2.0 */
/* Dialogues in HTTP/2, as frames; header blocks are written out (RFC 7541). */
#ifndef EBBTIDE_DIALOGUES_HTTP2_H
#define EBBTIDE_DIALOGUES_HTTP2_H

#include "dialogues.h"

#define PREFACE	    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define END_STREAM  HTTP2_END_STREAM
#define END_HEADERS HTTP2_END_HEADERS
#define END_BOTH    (HTTP2_END_STREAM | HTTP2_END_HEADERS)

/* GET https://a/ */
#define BLOCK_GET "\x82\x87\x84\x41\x01\x61"
#define BLOCK_200 "\x88"
#define BLOCK_404 "\x8d"
#define BLOCK_500 "\x8e"
/* Literals: plain 503, Huffman-coded 502, plain 103. */
#define BLOCK_503                                                                                  \
	"\x48\x03"                                                                                 \
	"503"
#define BLOCK_502 "\x08\x82\x6c\x02"
#define BLOCK_103                                                                                  \
	"\x08\x03"                                                                                 \
	"103"
#define BLOCK_GRPC                                                                                 \
	"\x88\x5f\x10"                                                                             \
	"application/grpc"
#define TRAILER_GRPC(d) "\x40\x0bgrpc-status\x01" d

static void dialogue_frame(struct dialogue *dialogue, uint8_t speaker, uint8_t type, uint8_t flags,
	uint32_t stream, const void *payload, size_t size)
{
	const uint8_t header[HTTP2_HEADER_BYTES] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8),
		(uint8_t)size, type, flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16),
		(uint8_t)(stream >> 8), (uint8_t)stream};

	dialogue_say(dialogue, speaker, header, sizeof(header));
	dialogue_say(dialogue, speaker, payload, size);
}

#define FRAME(speaker, type, flags, stream, payload)                                               \
	dialogue_frame(d, speaker, type, flags, stream, payload, sizeof(payload) - 1)
#define ASK(stream) FRAME(CLIENT, HTTP2_HEADERS, END_BOTH, stream, BLOCK_GET)
#define ANSWER(stream, block)                                                                      \
	do {                                                                                       \
		FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, stream, block);                          \
		FRAME(SERVER, HTTP2_DATA, END_STREAM, stream, "some data\n");                      \
	} while (0)

static void http2_greet(struct dialogue *d)
{
	dialogue_say(d, CLIENT, PREFACE, HTTP2_PREFACE_BYTES);
	FRAME(CLIENT, HTTP2_SETTINGS, 0, 0, "\x00\x03\x00\x00\x00\x64\x00\x04\x00\x00\xff\xff");
	FRAME(CLIENT, HTTP2_WINDOW_UPDATE, 0, 0, "\x00\x0f\x00\x01");
}

static void http2_greet_back(struct dialogue *d)
{
	FRAME(SERVER, HTTP2_SETTINGS, 0, 0, "\x00\x05\x00\x00\x40\x00");
	FRAME(SERVER, HTTP2_SETTINGS, 1, 0, "");
}

static void prior_knowledge(struct dialogue *d)
{
	http2_greet(d);
	http2_greet_back(d);
	FRAME(CLIENT, HTTP2_SETTINGS, 1, 0, "");
	ASK(1);
	ANSWER(1, BLOCK_200);
	ASK(3);
	ANSWER(3, BLOCK_404);
	ASK(5);
	ANSWER(5, BLOCK_500);
	ASK(7);
	ANSWER(7, BLOCK_503);
	ASK(9);
	ANSWER(9, BLOCK_502);
}

static void everything_at_once(struct dialogue *d)
{
	http2_greet(d);
	ASK(1);
	ASK(3);
	ASK(5);
	http2_greet_back(d);
	ANSWER(5, BLOCK_500);
	ANSWER(1, BLOCK_200);
	ANSWER(3, BLOCK_404);
}

static void interleaved(struct dialogue *d)
{
	http2_greet(d);
	FRAME(CLIENT, HTTP2_HEADERS, END_HEADERS, 1, BLOCK_GET);
	FRAME(CLIENT, HTTP2_HEADERS, END_HEADERS, 3, BLOCK_GET);
	FRAME(CLIENT, HTTP2_DATA, 0, 3, "GET / HTTP/1.1\r\n\r\n");
	FRAME(CLIENT, HTTP2_DATA, END_STREAM, 1, "");
	http2_greet_back(d);
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, 1, BLOCK_200);
	FRAME(SERVER, HTTP2_DATA, 0, 1, "\x00\x00\x01\x01\x05\x00\x00\x00\x03\x8e");
	FRAME(SERVER, HTTP2_PING, 0, 0, "12345678");
	FRAME(CLIENT, HTTP2_PING, 1, 0, "12345678");
	ASK(5);
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, 5, BLOCK_503);
	FRAME(SERVER, HTTP2_DATA, END_STREAM, 1, "the end of one");
	FRAME(CLIENT, HTTP2_DATA, END_STREAM, 3, "body");
	FRAME(SERVER, HTTP2_DATA, END_STREAM, 5, "busy");
	FRAME(SERVER, HTTP2_HEADERS, END_BOTH, 3, BLOCK_200);
}

/* Padding and priority stand before the block; a block may go on in the next frames. */
static void padded_and_continued(struct dialogue *d)
{
	http2_greet(d);
	FRAME(CLIENT, HTTP2_HEADERS, END_BOTH | HTTP2_PADDED | HTTP2_WITH_PRIORITY, 1,
		"\x03\x00\x00\x00\x00\x10" BLOCK_GET "\x00\x00\x00");
	FRAME(CLIENT, HTTP2_PRIORITY, 0, 3, "\x00\x00\x00\x01\x10");
	FRAME(CLIENT, HTTP2_HEADERS, END_STREAM, 3, "\x82\x87");
	FRAME(CLIENT, HTTP2_CONTINUATION, 0, 3, "\x84\x41");
	FRAME(CLIENT, HTTP2_CONTINUATION, END_HEADERS, 3, "\x01\x61");
	http2_greet_back(d);
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS | HTTP2_PADDED, 3, "\x02" BLOCK_503 "\x00\x00");
	FRAME(SERVER, HTTP2_DATA, HTTP2_PADDED, 3, "\x04yes\x00\x00\x00\x00");
	FRAME(SERVER, HTTP2_DATA, END_STREAM | HTTP2_PADDED, 3, "\x00no");
	FRAME(SERVER, HTTP2_HEADERS, HTTP2_PADDED, 1, "\x01" BLOCK_500 "\x00");
	FRAME(SERVER, HTTP2_CONTINUATION, END_HEADERS, 1, "\x5f\x01z");
	FRAME(SERVER, HTTP2_DATA, END_STREAM, 1, "");
}

static void interim(struct dialogue *d)
{
	http2_greet(d);
	ASK(1);
	http2_greet_back(d);
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, 1, BLOCK_103);
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, 1, BLOCK_103);
	ANSWER(1, BLOCK_503);
}

static void reset(struct dialogue *d)
{
	http2_greet(d);
	ASK(1);
	ASK(3);
	ASK(5);
	ASK(7);
	http2_greet_back(d);
	FRAME(CLIENT, HTTP2_RST_STREAM, 0, 1, "\x00\x00\x00\x08");
	FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, 3, BLOCK_200);
	FRAME(SERVER, HTTP2_RST_STREAM, 0, 5, "\x00\x00\x00\x02");
	FRAME(CLIENT, HTTP2_RST_STREAM, 0, 3, "\x00\x00\x00\x08");
	/* Again, and of a stream that never was. */
	FRAME(CLIENT, HTTP2_RST_STREAM, 0, 1, "\x00\x00\x00\x08");
	FRAME(CLIENT, HTTP2_RST_STREAM, 0, 99, "\x00\x00\x00\x08");
	ANSWER(7, BLOCK_404);
}

static void going_away(struct dialogue *d)
{
	http2_greet(d);
	ASK(1);
	ASK(3);
	http2_greet_back(d);
	FRAME(SERVER, HTTP2_GOAWAY, 0, 0,
		"\x00\x00\x00\x01\x00\x00\x00\x00"
		"why not");
	ANSWER(1, BLOCK_200);
}

static void trailers(struct dialogue *d)
{
	http2_greet(d);
	http2_greet_back(d);
	for (uint32_t stream = 1; stream <= 5; stream += 2) {
		FRAME(CLIENT, HTTP2_HEADERS, END_HEADERS, stream,
			"\x83\x86\x84\x5f\x10"
			"application/grpc");
		FRAME(CLIENT, HTTP2_DATA, END_STREAM, stream, "\x00\x00\x00\x00\x02\x08\x01");
		FRAME(SERVER, HTTP2_HEADERS, END_HEADERS, stream, BLOCK_GRPC);
		FRAME(SERVER, HTTP2_DATA, 0, stream, "\x00\x00\x00\x00\x02\x08\x01");
		if (stream == 1)
			FRAME(SERVER, HTTP2_HEADERS, END_BOTH, stream, TRAILER_GRPC("0"));
		else if (stream == 3)
			FRAME(SERVER, HTTP2_HEADERS, END_BOTH, stream, TRAILER_GRPC("5"));
		else
			FRAME(SERVER, HTTP2_HEADERS, END_BOTH | HTTP2_PADDED, stream,
				"\x00" TRAILER_GRPC("7"));
	}
	/* Trailers are all there is. */
	ASK(7);
	FRAME(SERVER, HTTP2_HEADERS, END_BOTH, 7, BLOCK_GRPC TRAILER_GRPC("8"));
}

static void pushed(struct dialogue *d)
{
	http2_greet(d);
	ASK(1);
	http2_greet_back(d);
	FRAME(SERVER, HTTP2_PUSH_PROMISE, END_HEADERS, 1, "\x00\x00\x00\x02" BLOCK_GET);
	ANSWER(2, BLOCK_500);
	FRAME(SERVER, 0xfa, 0xff, 0, "an unknown frame is to be left");
	ANSWER(1, BLOCK_200);
}

/* The first request is HTTP/1's, its answer on stream 1 is none of ours any more. */
static void upgraded(struct dialogue *d)
{
	static const char request[] =
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
	static const char answer[] =
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

	dialogue_say(d, CLIENT, request, sizeof(request) - 1);
	dialogue_say(d, SERVER, answer, sizeof(answer) - 1);
	http2_greet(d);
	http2_greet_back(d);
	ANSWER(1, BLOCK_500);
	ASK(3);
	ANSWER(3, BLOCK_404);
	ASK(5);
	ANSWER(5, BLOCK_500);
}

static const struct {
	const char *name;
	void (*make)(struct dialogue *d);
	uint32_t requests, failed, client_errors, server_errors;
	uint16_t statuses[DIALOGUE_STATUSES];
} http2_dialogues[] = {
	{"prior knowledge", prior_knowledge, 5, 0, 1, 3, {200, 404, 500, 503, 502}},
	{"everything at once", everything_at_once, 3, 0, 1, 1, {500, 200, 404}},
	{"interleaved", interleaved, 3, 0, 0, 1, {200, 503, 200}},
	{"padded and continued", padded_and_continued, 2, 0, 0, 2, {503, 500}},
	{"interim answers", interim, 1, 0, 0, 1, {503}},
	{"reset", reset, 2, 2, 1, 0, {200, 404}},
	{"going away", going_away, 1, 1, 0, 0, {200}},
	{"trailers of gRPC", trailers, 4, 0, 0, 3, {200, 200, 200, 200}},
	{"pushed", pushed, 1, 0, 0, 0, {200}},
	{"upgraded from HTTP/1", upgraded, 3, 0, 1, 1, {101, 404, 500}},
};

#undef FRAME
#undef ASK
#undef ANSWER

/* Dialogue @index into @dialogue; false after the last. */
static __attribute__((unused)) bool http2_dialogue(size_t index, struct dialogue *dialogue)
{
	if (index >= sizeof(http2_dialogues) / sizeof(http2_dialogues[0]))
		return false;
	memset(dialogue, 0, sizeof(*dialogue));
	dialogue->name = http2_dialogues[index].name;
	http2_dialogues[index].make(dialogue);
	dialogue->requests = http2_dialogues[index].requests;
	dialogue->failed = http2_dialogues[index].failed;
	dialogue->client_errors = http2_dialogues[index].client_errors;
	dialogue->server_errors = http2_dialogues[index].server_errors;
	memcpy(dialogue->statuses, http2_dialogues[index].statuses, sizeof(dialogue->statuses));
	return true;
}

#endif
