/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * HTTP/2 frames (RFC 9113): only the nine-byte frame headers are read, so that counting and timing
 * need no header compression state and work on connections older than the agent.
 *
 * Pure: the same code runs in the kernel and, under the fuzzer, in user space.
 */
#ifndef EBBTIDE_HTTP2_H
#define EBBTIDE_HTTP2_H

#include "shared.h"

#define HTTP2_PREFACE_BYTES 24
#define HTTP2_HEADER_BYTES  9
/* SETTINGS_MAX_FRAME_SIZE may be raised to 2^24 - 1; beyond 1 MiB nobody does. */
#define HTTP2_FRAME_MAX	    (1U << 20)
#define HTTP2_FRAME_DEFAULT 16384U

enum http2_type {
	HTTP2_DATA = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
};

enum http2_flag {
	HTTP2_END_STREAM = 0x1,
	HTTP2_END_HEADERS = 0x4,
	HTTP2_PADDED = 0x8,
	HTTP2_WITH_PRIORITY = 0x20,
};

/*
 * What is looked at of a header block, and what may stand before it: a frame that begins with one is
 * taken when so much of it has come.
 */
#define HTTP2_BLOCK_BYTES 16
#define HTTP2_CUT_BYTES	  32 /* at least 9 + 6 + 16 */

/* One direction of a connection; as large as struct http1, whose place it takes. */
struct http2 {
	ebb_u32 skip; /* bytes until the next frame header */
	ebb_u32 have; /* bytes of a frame's beginning that was cut by a segment's end */
	ebb_u32 reserved[2];
};

struct http2_frame {
	ebb_u32 length;
	ebb_u32 stream;
	ebb_u8 type;
	ebb_u8 flags;
};

static inline __attribute__((always_inline)) void http2_read(
	const ebb_u8 header[HTTP2_HEADER_BYTES], struct http2_frame *frame)
{
	frame->length = (ebb_u32)header[0] << 16 | (ebb_u32)header[1] << 8 | header[2];
	frame->type = header[3];
	frame->flags = header[4];
	frame->stream = ((ebb_u32)header[5] << 24 | (ebb_u32)header[6] << 16 |
				(ebb_u32)header[7] << 8 | header[8]) &
			0x7fffffffU;
}

/* A frame that can be: what keeps the parser from taking arbitrary bytes for frames. */
static inline __attribute__((always_inline)) int http2_is_sound(const struct http2_frame *frame)
{
	if (frame->length > HTTP2_FRAME_MAX)
		return 0;
	switch (frame->type) {
	case HTTP2_DATA:
	case HTTP2_HEADERS:
	case HTTP2_CONTINUATION:
	case HTTP2_PUSH_PROMISE:
		return frame->stream != 0;
	case HTTP2_PRIORITY:
		return frame->stream != 0 && frame->length == 5;
	case HTTP2_RST_STREAM:
		return frame->stream != 0 && frame->length == 4;
	case HTTP2_SETTINGS:
		return frame->stream == 0 && frame->length % 6 == 0;
	case HTTP2_PING:
		return frame->stream == 0 && frame->length == 8;
	case HTTP2_GOAWAY:
		return frame->stream == 0 && frame->length >= 8;
	case HTTP2_WINDOW_UPDATE:
		return frame->length == 4;
	default:
		/* Unknown types must be ignored; they are small in practice. */
		return frame->length <= HTTP2_FRAME_DEFAULT;
	}
}

/*
 * Whether the first bytes of a segment on a connection of unknown protocol are a client's frame:
 * stricter, since any bytes may stand there.
 */
static inline __attribute__((always_inline)) int http2_is_likely(
	const struct http2_frame *frame, ebb_u32 segment_bytes)
{
	if (!http2_is_sound(frame) || frame->type > HTTP2_CONTINUATION ||
		frame->length > HTTP2_FRAME_DEFAULT)
		return 0;
	if (frame->stream && !(frame->stream & 1))
		return 0;
	if (frame->type == HTTP2_HEADERS)
		return !(frame->flags & ~(HTTP2_END_STREAM | HTTP2_END_HEADERS | HTTP2_PADDED |
						HTTP2_WITH_PRIORITY)) &&
		       frame->length > 0 && frame->length + HTTP2_HEADER_BYTES <= segment_bytes;
	if (frame->type == HTTP2_DATA)
		return !(frame->flags & ~(HTTP2_END_STREAM | HTTP2_PADDED)) && frame->length > 0 &&
		       frame->length + HTTP2_HEADER_BYTES <= segment_bytes;
	if (frame->type == HTTP2_SETTINGS || frame->type == HTTP2_PING)
		return !(frame->flags & ~1);
	return frame->type == HTTP2_WINDOW_UPDATE || frame->type == HTTP2_RST_STREAM;
}

/* Where the header block starts in a HEADERS frame's payload. */
static inline __attribute__((always_inline)) ebb_u32 http2_block_offset(
	const struct http2_frame *frame)
{
	return (frame->flags & HTTP2_PADDED ? 1 : 0) + (frame->flags & HTTP2_WITH_PRIORITY ? 5 : 0);
}

/*
 * Status from the first bytes of a response's header block, which :status leads: indexed in the
 * static table, or a literal of three digits, plain or Huffman coded. 0: the block's own dynamic
 * table would be needed.
 */
static inline __attribute__((always_inline)) ebb_u16 http2_status(const ebb_u8 *block, ebb_u32 size)
{
	ebb_u32 bits, digit, status = 0, at = 0;

	/* A change of the table's size may come first, of one to four bytes. */
	if (size >= 2 && (block[0] & 0xe0) == 0x20)
		at = block[0] != 0x3f ? 1 : !(block[1] & 0x80) ? 2 : !(block[2] & 0x80) ? 3 : 4;
	if (at >= size)
		return 0;
	switch (block[at]) {
	case 0x88:
		return 200;
	case 0x89:
		return 204;
	case 0x8a:
		return 206;
	case 0x8b:
		return 304;
	case 0x8c:
		return 400;
	case 0x8d:
		return 404;
	case 0x8e:
		return 500;
	default:
		break;
	}
	/* Literal with, without or never indexing; name of static entry 8. */
	if (size < at + 4 || size < at + 2 + (block[at + 1] & 0x7f) ||
		(block[at] != 0x48 && block[at] != 0x08 && block[at] != 0x18))
		return 0;
	if (block[at + 1] == 3)
		return (ebb_u16)((block[at + 2] - '0') * 100 + (block[at + 3] - '0') * 10 +
				 (block[at + 4] - '0'));
	if ((block[at + 1] & 0xfe) != 0x82)
		return 0;
	/* 0, 1, 2 are five bits (their value), 3 to 9 six bits (0x19 to 0x1f). */
	bits = (ebb_u32)block[at + 2] << 16 | (ebb_u32)block[at + 3] << 8;
	bits |= block[at + 1] == 0x82 ? 0xff : block[at + 4];
	for (int i = 0; i < 3; i++) {
		digit = bits >> 19 & 31;
		if (digit <= 2) {
			bits = bits << 5 & 0xffffff;
		} else {
			digit = (bits >> 18 & 63) - 0x16;
			bits = bits << 6 & 0xffffff;
		}
		if (digit > 9)
			return 0;
		status = status * 10 + digit;
	}
	return (ebb_u16)status;
}

#define HTTP2_GRPC_UNKNOWN 255

/*
 * gRPC's status from a trailer's header block: a literal field named grpc-status, plain or Huffman
 * coded, or a literal under a dynamic name with one or two digits. 255: not told (a value that the
 * dynamic table holds has been sent before, and the usual one is 0).
 */
static inline __attribute__((always_inline)) ebb_u8 http2_grpc_status(
	const ebb_u8 *block, ebb_u32 size)
{
	ebb_u32 at, length;

	if (size < 3)
		return HTTP2_GRPC_UNKNOWN;
	/* A literal with a new name: 0x40, 0x00 or 0x10; its length is 11, or 8 in Huffman code. */
	if ((block[0] & 0x0f) == 0 && block[0] <= 0x40) {
		if (block[1] == 11)
			at = 13;
		else if (block[1] == 0x88)
			at = 10;
		else
			return HTTP2_GRPC_UNKNOWN;
	} else if ((block[0] & 0xc0) == 0x40 && (block[0] & 0x3f) != 0x3f) {
		at = 1; /* indexed name, 62 (the newest dynamic entry) at least */
		if (block[0] < 0x40 + 62)
			return HTTP2_GRPC_UNKNOWN;
	} else if ((block[0] == 0x0f || block[0] == 0x1f) && block[1] >= 62 - 15) {
		at = 2; /* the same without indexing */
	} else {
		return HTTP2_GRPC_UNKNOWN;
	}
	if (at + 2 > size)
		return HTTP2_GRPC_UNKNOWN;
	length = block[at & 31];
	if (length == 1 && block[(at + 1) & 31] >= '0' && block[(at + 1) & 31] <= '9')
		return block[(at + 1) & 31] - '0';
	if (length == 2 && at + 3 <= size && block[(at + 1) & 31] == '1' &&
		block[(at + 2) & 31] >= '0' && block[(at + 2) & 31] <= '6')
		return 10 + block[(at + 2) & 31] - '0';
	/* One digit in Huffman code is one byte: five or six bits and ones. */
	if (length == 0x81) {
		ebb_u8 code = block[(at + 1) & 31];

		if ((code & 7) == 7 && code >> 3 <= 2)
			return code >> 3;
		if ((code & 3) == 3 && code >> 2 >= 0x19 && code >> 2 <= 0x1f)
			return (code >> 2) - 0x16;
	}
	if (length == 0x82 && at + 3 <= size) {
		/* 1x: five bits of the 1, then the second digit. */
		ebb_u32 bits = (ebb_u32)block[(at + 1) & 31] << 8 | block[(at + 2) & 31];

		if (bits >> 11 == 1) {
			ebb_u32 digit = bits >> 6 & 31;

			if (digit <= 2)
				return (ebb_u8)(10 + digit);
			digit = (bits >> 5 & 63) - 0x16;
			if (digit >= 3 && digit <= 6)
				return (ebb_u8)(10 + digit);
		}
	}
	return HTTP2_GRPC_UNKNOWN;
}

#endif
