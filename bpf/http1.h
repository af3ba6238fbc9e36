/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Where HTTP/1 messages begin (RFC 9112): an automaton that may stop and go on at any byte, one for
 * each direction of a connection. It keeps nothing of a message but its framing, and leaps over
 * bodies and over the rest of lines that do not matter.
 *
 * Pure: the same code runs in the kernel and, under the fuzzer, in user space. The bytes it is
 * given must be followed by HTTP1_BEHIND more that may be read.
 */
#ifndef EBBTIDE_HTTP1_H
#define EBBTIDE_HTTP1_H

#include "shared.h"

enum http1_state {
	HTTP1_START,	   /* between two messages */
	HTTP1_STATUS_LINE, /* of a response, up to the third digit */
	HTTP1_SKIP,	   /* the rest of a line */
	HTTP1_LINE,	   /* first byte of a line */
	HTTP1_NAME,	   /* of a field that matters */
	HTTP1_LENGTH,	   /* value of Content-Length */
	HTTP1_CODING,	   /* first byte of the value of Transfer-Encoding */
	HTTP1_HEAD_END,	   /* the line feed that ends the head */
	HTTP1_BODY,
	HTTP1_CHUNK_SIZE,
	HTTP1_CHUNK_SKIP, /* the rest of its line */
	HTTP1_CHUNK_DATA,
	HTTP1_TRAILER, /* first byte of a line after the last chunk */
	HTTP1_TRAILER_SKIP,
	HTTP1_TRAILER_END,
	HTTP1_UNTIL_CLOSE,
	HTTP1_LOST, /* not HTTP/1 after all */
};

enum http1_flag {
	HTTP1_HAS_LENGTH = 1,
	HTTP1_CHUNKED = 2,
	HTTP1_HEAD = 4, /* the request is HEAD; set by the caller for its response */
	HTTP1_CODING_NAME =
		8, /* the name being matched is Transfer-Encoding, else Content-Length */
};

enum http1_event {
	HTTP1_NOTHING,
	HTTP1_REQUEST,	/* a request begins with the byte just taken */
	HTTP1_RESPONSE, /* a final response; its status is known */
	HTTP1_UPGRADED, /* a 101: what follows is another protocol */
};

struct http1 {
	ebb_u64 remaining; /* bytes of body or chunk to leap over; the value being read */
	ebb_u16 status;
	ebb_u8 state;
	ebb_u8 match; /* bytes of the name matched, or of the status line seen */
	ebb_u8 flags;
	ebb_u8 reserved[3];
};

/* Eight bytes, four, wherever they are. For BPF, compilers would load each byte by itself. */
#ifdef __bpf__
#define HTTP1_UNALIGNED __attribute__((may_alias))
#else
#define HTTP1_UNALIGNED __attribute__((aligned(1), may_alias))
#endif
typedef ebb_u64 HTTP1_UNALIGNED http1_word;
typedef ebb_u32 HTTP1_UNALIGNED http1_half;

/* What may be read behind the bytes that http1_step() is given; it does not matter what they are. */
#define HTTP1_BEHIND	 17

#define HTTP1_LENGTH_MAX (1ULL << 53)

/* Whether @word (eight bytes) holds a line feed: the top bit of each such byte, lowest one exact. */
static inline __attribute__((always_inline)) ebb_u64 http1_line_feeds(ebb_u64 word)
{
	ebb_u64 x = word ^ 0x0a0a0a0a0a0a0a0aULL;

	return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

/* Index of the lowest byte marked by http1_line_feeds(); @marks is not 0. */
static inline __attribute__((always_inline)) ebb_u32 http1_first_mark(ebb_u64 marks)
{
	ebb_u32 index = 0;

	if (!(marks & 0xffffffffULL)) {
		marks >>= 32;
		index = 4;
	}
	if (!(marks & 0xffff)) {
		marks >>= 16;
		index += 2;
	}
	return index + !(marks & 0xff);
}

/*
 * Byte @match of the name that is being matched. Names as words: a table of constants would need
 * data of its own in the kernel.
 */
static inline __attribute__((always_inline)) ebb_u8 http1_name_byte(ebb_u8 flags, ebb_u8 match)
{
	ebb_u64 word;

	if (flags & HTTP1_CODING_NAME)
		word = match < 8    ? 0x726566736e617274ULL
		       : match < 16 ? 0x6e69646f636e652dULL
				    : 0x0000000000003a67ULL; /* transfer-encoding: */
	else
		word = match < 8 ? 0x2d746e65746e6f63ULL
				 : 0x003a6874676e656cULL; /* content-length: */
	return (ebb_u8)(word >> (match & 7) * 8);
}

/* Framing of the message whose head has ended. */
static inline __attribute__((always_inline)) ebb_u32 http1_head_ended(
	struct http1 *http1, int is_response)
{
	ebb_u16 status = http1->status;

	if (is_response) {
		if (status == 101) {
			http1->state = HTTP1_UNTIL_CLOSE;
			return HTTP1_NOTHING;
		}
		if (status < 200 || status == 204 || status == 304 || (http1->flags & HTTP1_HEAD)) {
			http1->state = HTTP1_START;
			return HTTP1_NOTHING;
		}
	}
	if (http1->flags & HTTP1_CHUNKED) {
		http1->remaining = 0;
		http1->state = HTTP1_CHUNK_SIZE;
	} else if (http1->flags & HTTP1_HAS_LENGTH) {
		http1->state = http1->remaining ? HTTP1_BODY : HTTP1_START;
	} else {
		http1->state = is_response ? HTTP1_UNTIL_CLOSE : HTTP1_START;
	}
	return HTTP1_NOTHING;
}

/* First byte of a message: a response needs its H, a request a letter. */
static inline __attribute__((always_inline)) ebb_u32 http1_begin(
	struct http1 *http1, ebb_u8 byte, int is_response)
{
	if (byte == '\r' || byte == '\n')
		return HTTP1_NOTHING;
	http1->remaining = 0;
	http1->match = 1;
	http1->status = 0;
	if (is_response) {
		http1->flags &= HTTP1_HEAD;
		http1->state = byte == 'H' ? HTTP1_STATUS_LINE : HTTP1_LOST;
		return HTTP1_NOTHING;
	}
	/* HEAD is the one method with an H. */
	http1->flags = byte == 'H' ? HTTP1_HEAD : 0;
	http1->state = byte >= 'A' && byte <= 'Z' ? HTTP1_SKIP : HTTP1_LOST;
	return http1->state == HTTP1_SKIP ? HTTP1_REQUEST : HTTP1_NOTHING;
}

static inline __attribute__((always_inline)) ebb_u32 http1_status_byte(
	struct http1 *http1, ebb_u8 byte)
{
	ebb_u8 at = http1->match++;

	/* "HTTP/1.1 200": the digits are at 9, 10 and 11. */
	if (at <= 4 && byte != (ebb_u8)(0x2f505454U >> (at - 1) * 8 % 32))
		http1->state = HTTP1_LOST;
	if (at < 9)
		return HTTP1_NOTHING;
	if (byte < (at == 9 ? '1' : '0') || byte > '9') {
		http1->state = HTTP1_LOST;
		return HTTP1_NOTHING;
	}
	http1->status = (ebb_u16)(http1->status * 10 + (byte - '0'));
	if (at < 11)
		return HTTP1_NOTHING;
	http1->state = HTTP1_SKIP;
	if (http1->status == 101)
		return HTTP1_UPGRADED;
	return http1->status >= 200 ? HTTP1_RESPONSE : HTTP1_NOTHING;
}

static inline __attribute__((always_inline)) void http1_chunk_byte(struct http1 *http1, ebb_u8 byte)
{
	ebb_u8 lower = byte | 0x20, digit;

	if (byte == '\n' || byte == ';') {
		/* The chunk's own line end counts as data. */
		http1->status = http1->remaining == 0;
		http1->remaining += 2;
		http1->state = HTTP1_CHUNK_SKIP;
		if (byte == '\n')
			http1->state = http1->status ? HTTP1_TRAILER : HTTP1_CHUNK_DATA;
		return;
	}
	if (byte >= '0' && byte <= '9')
		digit = byte - '0';
	else if (lower >= 'a' && lower <= 'f')
		digit = lower - 'a' + 10;
	else
		return;
	if (http1->remaining < HTTP1_LENGTH_MAX)
		http1->remaining = http1->remaining << 4 | digit;
}

/* Bytes that can be leapt over without being looked at. */
static inline __attribute__((always_inline)) ebb_u32 http1_leap(struct http1 *http1, ebb_u32 left)
{
	ebb_u32 taken;

	if (http1->state == HTTP1_UNTIL_CLOSE || http1->state == HTTP1_LOST)
		return left;
	if (http1->state != HTTP1_BODY && http1->state != HTTP1_CHUNK_DATA)
		return 0;
	taken = http1->remaining < left ? (ebb_u32)http1->remaining : left;
	http1->remaining -= taken;
	if (!http1->remaining)
		http1->state = http1->state == HTTP1_BODY ? HTTP1_START : HTTP1_CHUNK_SIZE;
	return taken;
}

/* Leap to the end of a line, or over the next 16 bytes. */
static inline __attribute__((always_inline)) ebb_u32 http1_skip(
	struct http1 *http1, const ebb_u8 *bytes, ebb_u32 left)
{
	ebb_u64 marks = http1_line_feeds(*(const http1_word *)bytes);
	ebb_u32 taken = 1;

	if (!marks) {
		marks = http1_line_feeds(*(const http1_word *)(bytes + 8));
		taken = 9;
	}
	taken = marks ? taken + http1_first_mark(marks) : 16;
	if (taken > left)
		return left;
	if (!marks)
		return taken;
	if (http1->state == HTTP1_SKIP)
		http1->state = HTTP1_LINE;
	else if (http1->state == HTTP1_TRAILER_SKIP)
		http1->state = HTTP1_TRAILER;
	else
		http1->state = http1->status ? HTTP1_TRAILER : HTTP1_CHUNK_DATA;
	return taken;
}

/* First byte of a line of the head. */
static inline __attribute__((always_inline)) ebb_u32 http1_line_byte(
	struct http1 *http1, ebb_u8 byte, int is_response)
{
	if (byte == '\n')
		return http1_head_ended(http1, is_response);
	http1->match = 1;
	http1->flags &= (ebb_u8)~HTTP1_CODING_NAME;
	http1->state = HTTP1_SKIP;
	if (byte == '\r') {
		http1->state = HTTP1_HEAD_END;
	} else if ((byte | 0x20) == 'c') {
		http1->state = HTTP1_NAME;
	} else if ((byte | 0x20) == 't') {
		http1->state = HTTP1_NAME;
		http1->flags |= HTTP1_CODING_NAME;
	}
	return HTTP1_NOTHING;
}

/*
 * Take some of @left bytes (at least one) at @bytes; returns how many, at least 1. What happened
 * goes to *@event.
 */
static inline __attribute__((always_inline)) ebb_u32 http1_step(
	struct http1 *http1, const ebb_u8 *bytes, ebb_u32 left, int is_response, ebb_u32 *event)
{
	ebb_u8 byte = bytes[0], state = http1->state;
	ebb_u32 taken;

	*event = HTTP1_NOTHING;
	switch (state) {
	case HTTP1_START:
	case HTTP1_LINE:
		*event = state == HTTP1_START ? http1_begin(http1, byte, is_response)
					      : http1_line_byte(http1, byte, is_response);
		/* In the same step the rest of a line that does not matter. */
		if (http1->state != HTTP1_SKIP || left < 2)
			return 1;
		return 1 + http1_skip(http1, bytes + 1, left - 1);
	case HTTP1_STATUS_LINE:
		*event = http1_status_byte(http1, byte);
		return 1;
	case HTTP1_SKIP:
	case HTTP1_CHUNK_SKIP:
	case HTTP1_TRAILER_SKIP:
		return http1_skip(http1, bytes, left);
	case HTTP1_NAME:
		if ((byte | 0x20) != (http1_name_byte(http1->flags, http1->match) | 0x20)) {
			http1->state = byte == '\n' ? HTTP1_LINE : HTTP1_SKIP;
			return 1;
		}
		http1->match++;
		if (byte == ':') {
			if (http1->flags & HTTP1_CODING_NAME) {
				http1->state = HTTP1_CODING;
			} else {
				http1->remaining = 0;
				http1->state = HTTP1_LENGTH;
			}
		}
		return 1;
	case HTTP1_LENGTH:
		if (byte == '\n') {
			http1->state = HTTP1_LINE;
		} else if (byte >= '0' && byte <= '9') {
			http1->flags |= HTTP1_HAS_LENGTH;
			if (http1->remaining < HTTP1_LENGTH_MAX)
				http1->remaining = http1->remaining * 10 + (byte - '0');
		}
		return 1;
	case HTTP1_CODING:
		if (byte == ' ' || byte == '\t')
			return 1;
		/* Every coding but identity ends in chunked, or the message could not be framed. */
		if ((byte | 0x20) != 'i')
			http1->flags |= HTTP1_CHUNKED;
		http1->state = byte == '\n' ? HTTP1_LINE : HTTP1_SKIP;
		return 1;
	case HTTP1_HEAD_END:
		if (byte == '\n')
			*event = http1_head_ended(http1, is_response);
		else
			http1->state = HTTP1_SKIP;
		return 1;
	case HTTP1_BODY:
	case HTTP1_CHUNK_DATA:
		taken = http1_leap(http1, left);
		return taken ? taken : 1;
	case HTTP1_CHUNK_SIZE:
		http1_chunk_byte(http1, byte);
		return 1;
	case HTTP1_TRAILER:
		if (byte == '\r')
			http1->state = HTTP1_TRAILER_END;
		else
			http1->state = byte == '\n' ? HTTP1_START : HTTP1_TRAILER_SKIP;
		return 1;
	case HTTP1_TRAILER_END:
		http1->state = byte == '\n' ? HTTP1_START : HTTP1_TRAILER_SKIP;
		return 1;
	default:
		return left;
	}
}

#endif
