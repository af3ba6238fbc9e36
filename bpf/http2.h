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

typedef ebb_u64 __attribute__((aligned(1))) http2_word;

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
	HTTP2_UNKNOWN = 255,
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
#define HTTP2_BLOCK_BYTES 112
#define HTTP2_CUT_BYTES	  128 /* a power of two, at least 6 + 112 */

/* One direction of a connection; as large as struct http1, whose place it takes. */
struct http2 {
	ebb_u32 skip; /* bytes until the next frame header */
	ebb_u8 have;  /* bytes of a frame header that was cut by a segment's end */
	ebb_u8 header[HTTP2_HEADER_BYTES];
	ebb_u8 reserved[2];
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

/*
 * gRPC's status in the header blocks of one direction. Its field is written out once and then, by
 * encoders that index it, only by where it stands in the dynamic table. That table is not kept: of
 * its entries it is enough to know their number, and which of them were a grpc-status.
 */
#define HTTP2_GRPC_STATUSES 17
#define HTTP2_GRPC_SLOTS    32 /* a power of two */

struct http2_statuses {
	ebb_u32 is_followed; /* a status was put into the table: entries are counted since */
	ebb_u32 inserted;    /* entries so far */
	ebb_u32 at[HTTP2_GRPC_SLOTS]; /* the entry that is this status; 0: none */
};

/* A walk over the fields of one block. */
struct http2_fields {
	ebb_u32 at, size;
	ebb_u32 grpc_status; /* GRPC_STATUS_NONE: not told, or not to be read */
	ebb_u32 is_broken;   /* the walk ended early: the table is unknown from here on */
};

/* The status that a value of one or two digits is, plain or in Huffman code. */
static inline __attribute__((always_inline)) ebb_u32 http2_status_value(
	ebb_u32 length, ebb_u32 first, ebb_u32 second)
{
	ebb_u32 bits = first << 8 | second, digit;

	if (length == 1 && first >= '0' && first <= '9')
		return first - '0';
	if (length == 2 && first == '1' && second >= '0' && second <= '6')
		return 10 + second - '0';
	/* One digit in Huffman code is one byte: 0, 1, 2 are five bits, others six, then ones. */
	if (length == 0x81 && (first & 7) == 7 && first >> 3 <= 2)
		return first >> 3;
	if (length == 0x81 && (first & 3) == 3 && first >> 2 >= 0x19 && first >> 2 <= 0x1f)
		return (first >> 2) - 0x16;
	if (length == 0x82 && bits >> 11 == 1) {
		/* 1x: five bits of the 1, then the second digit. */
		digit = bits >> 6 & 31;
		if (digit <= 2)
			return 10 + digit;
		digit = (bits >> 5 & 63) - 0x16;
		if (digit >= 3 && digit <= 6)
			return 10 + digit;
	}
	return GRPC_STATUS_NONE;
}

/* The status that table entry @index (62: the newest) is. */
static inline __attribute__((always_inline)) ebb_u32 http2_status_at(
	const struct http2_statuses *statuses, ebb_u32 index)
{
	ebb_u32 entry = statuses->inserted - (index - 62), found = 0;

	if (index < 62 || index - 62 >= statuses->inserted)
		return GRPC_STATUS_NONE;
#ifdef __bpf__
#pragma unroll
#endif
	for (ebb_u32 status = 0; status < HTTP2_GRPC_STATUSES; status++) {
		ebb_u64 is_other = statuses->at[status] ^ entry;

#ifdef __bpf__
		/* Or the compiler makes a branch of it, and verifiers follow both ways of each. */
		__asm__ volatile("" : "+r"(is_other));
#endif
		found |= (ebb_u32)((is_other - 1) >> 63) * (status + 1);
	}
	return found ? found - 1 : GRPC_STATUS_NONE;
}

/* "grpc-status" at @name, of length @length as it stands in the block. */
static inline __attribute__((always_inline)) int http2_is_grpc_status(
	const ebb_u8 *name, ebb_u32 length)
{
	ebb_u64 word = *(const http2_word *)name;

	return (length == 11 && word == 0x6174732d63707267ULL && name[8] == 't' && name[9] == 'u' &&
		       name[10] == 's') ||
	       (length == 0x88 && word == 0x8fda3412b2c8ca9aULL);
}

/*
 * Take one field of a block (RFC 7541) of at most 128 bytes, behind which as many more may be read.
 * Returns 0 when there is none left, or no way to go on.
 */
static inline __attribute__((always_inline)) int http2_field_take(
	struct http2_fields *fields, struct http2_statuses *statuses, const ebb_u8 *bytes)
{
	ebb_u32 at = fields->at & 127, first = bytes[at], mask, index, length, status, is_status;

	if (fields->at >= fields->size)
		return 0;
	mask = first & 0x80 ? 0x7f : first & 0x40 ? 0x3f : first & 0x20 ? 0x1f : 0x0f;
	index = first & mask;
	at++;
	if (index == mask) {
		length = bytes[at & 127];
		if (length & 0x80)
			goto broken;
		index += length;
		at++;
	}
	if (first & 0x80) {
		status = http2_status_at(statuses, index);
		fields->grpc_status = status != GRPC_STATUS_NONE ? status : fields->grpc_status;
		fields->at = at;
		return 1;
	}
	if (!(first & 0x40) && first & 0x20) {
		fields->at = at;
		return 1;
	}
	if (index) {
		is_status = http2_status_at(statuses, index) != GRPC_STATUS_NONE;
	} else {
		length = bytes[at & 127];
		at++;
		is_status = http2_is_grpc_status(&bytes[at & 127], length);
		if ((length & 0x7f) == 0x7f)
			goto broken;
		at += length & 0x7f;
	}
	length = bytes[at & 127];
	at++;
	if ((length & 0x7f) == 0x7f)
		goto broken;
	status = http2_status_value(length, bytes[at & 127], bytes[(at + 1) & 127]);
	at += length & 0x7f;
	if (at > fields->size)
		goto broken;
	fields->at = at;
	is_status = is_status && status < HTTP2_GRPC_STATUSES;
	if (is_status)
		fields->grpc_status = status;
	if (!(first & 0x40))
		return 1;
	statuses->inserted++;
	if (is_status) {
		statuses->is_followed = 1;
		statuses->at[status & (HTTP2_GRPC_SLOTS - 1)] = statuses->inserted;
	}
	return 1;
broken:
	fields->is_broken = 1;
	return 0;
}

#endif
