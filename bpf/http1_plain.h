/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The commonest request by far, known by a look at its line feeds: a segment that holds one HTTP/1
 * request from its first byte to its last, without a body. What is not surely that goes through the
 * automaton (http1.h), which comes to the same.
 *
 * Pure: the same code runs in the kernel and in tests.
 */
#ifndef EBBTIDE_HTTP1_PLAIN_H
#define EBBTIDE_HTTP1_PLAIN_H

#include "http1.h"

/* A power of two, of whole words. */
#define HTTP1_PLAIN_BYTES 512
/* What may be read behind that, and written. */
#define HTTP1_PLAIN_BEHIND 24

#define HTTP1_CRLF_CRLF	   0x0a0d0a0dU

#define HTTP1_EIGHT(byte)  (0x0101010101010101ULL * (byte))

/* The top bit of each byte of @word that is @byte; above one that is, maybe of others as well. */
static inline __attribute__((always_inline)) ebb_u64 http1_bytes_like(ebb_u64 word, ebb_u8 byte)
{
	return http1_line_feeds(word ^ HTTP1_EIGHT(byte) ^ HTTP1_EIGHT('\n'));
}

/*
 * Which line feeds (@feeds, of the word at @bytes) are followed by a line that ends the head, or by
 * a field that might tell of a body: its first and ninth letter are those of Content-Length or
 * Transfer-Encoding.
 */
static inline __attribute__((always_inline)) ebb_u64 http1_lines_that_matter(
	const ebb_u8 *bytes, ebb_u64 feeds)
{
	ebb_u64 first = *(const http1_word *)(bytes + 1), ninth = *(const http1_word *)(bytes + 9);
	ebb_u64 ends = http1_bytes_like(first, '\r') | http1_line_feeds(first);

	first |= HTTP1_EIGHT(0x20);
	ninth |= HTTP1_EIGHT(0x20);
	return feeds & (ends | (http1_bytes_like(first, 'c') & http1_bytes_like(ninth, 'l')) |
			       (http1_bytes_like(first, 't') & http1_bytes_like(ninth, '-')));
}

/*
 * Whether @size bytes (1 to HTTP1_PLAIN_BYTES) at @bytes are one request and nothing else. They are
 * changed at their end, so they are good for nothing else afterwards.
 */
static inline __attribute__((always_inline)) int http1_is_plain(ebb_u8 *bytes, ebb_u32 size)
{
	ebb_u32 last = size - 4;
	ebb_u64 matter = 0, feeds;

	if (bytes[0] < 'A' || bytes[0] > 'Z' || last >= HTTP1_PLAIN_BYTES)
		return 0;
#ifdef __bpf__
	/* As a mask: verifiers before 6.3 forget the bound of what is spilled. */
	__asm__ volatile("" : "+r"(last));
#endif
	last &= HTTP1_PLAIN_BYTES - 1;
	if (*(const http1_half *)(bytes + last) != HTTP1_CRLF_CRLF)
		return 0;
	/* The feed before the end is no matter; behind it are no more. */
	*(http1_half *)(bytes + last) = 0;
	*(http1_word *)(bytes + last + 4) = 0;
	for (ebb_u32 at = 0; at < HTTP1_PLAIN_BYTES; at += 8) {
		if (at >= last)
			break;
		feeds = http1_line_feeds(*(const http1_word *)(bytes + at));
		if (feeds)
			matter |= http1_lines_that_matter(bytes + at, feeds);
	}
	return !matter;
}

#endif
