// SPDX-License-Identifier: Apache-2.0
#include "node/trace/request_head.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

/* HPACK: entries of the static table; the dynamic one is counted from there. */
#define STATIC_ENTRIES	   61
#define TABLE_BYTES_KNOWN  4096
#define INTEGER_BITS_BOUND 21

static void method_put(struct request_head *head, const uint8_t *bytes, size_t size)
{
	if (head->method[0] || size < 3 || size >= sizeof(head->method))
		return;
	for (size_t i = 0; i < size; i++)
		if (bytes[i] < 'A' || bytes[i] > 'Z')
			return;
	memcpy(head->method, bytes, size);
	head->method[size] = '\0';
}

/* Past the scheme and authority of an absolute URL, which may name a user and a password. */
static size_t authority_bytes(const uint8_t *bytes, size_t size)
{
	size_t at = 0;

	if (size < 4 || memcmp(bytes, "http", 4) != 0)
		return 0;
	for (int slashes = 0; at < size; at++) {
		slashes += bytes[at] == '/';
		if (slashes == 3 || bytes[at] == ' ')
			break;
	}
	return at;
}

static void path_put(struct request_head *head, const uint8_t *bytes, size_t size)
{
	size_t used = 0;

	if (head->path[0])
		return;
	for (size_t i = authority_bytes(bytes, size); i < size && used + 1 < sizeof(head->path);
		i++) {
		uint8_t c = bytes[i];

		if (c == ' ' || c == '?' || c == '#' || c == '\r' || c == '\n')
			break;
		head->path[used++] = c > 32 && c < 127 && c != '"' && c != '\\' ? (char)c : '?';
	}
	head->path[used] = '\0';
}

void request_head_http1(const uint8_t *bytes, size_t size, struct request_head *head)
{
	size_t end = 0;

	memset(head, 0, sizeof(*head));
	while (end < size && bytes[end] != ' ')
		end++;
	method_put(head, bytes, end);
	if (end == size || !head->method[0]) {
		head->method[0] = '\0';
		return;
	}
	path_put(head, bytes + end + 1, size - end - 1);
}

/* One field of a header block, as far as its bounds and its table entry go. */
struct field {
	size_t size; /* in bytes */
	size_t index;
	bool adds;	/* an entry to the dynamic table */
	bool resizes;	/* the dynamic table; index is its size */
	bool has_value; /* a string follows the name or its index */
};

/* An integer with a prefix of @bits at @at; false when it is cut or out of all bounds. */
static bool integer_read(
	const uint8_t *block, size_t size, unsigned int bits, size_t *at, size_t *value)
{
	size_t most = (1U << bits) - 1;

	if (*at >= size)
		return false;
	*value = block[(*at)++] & most;
	if (*value < most)
		return true;
	for (unsigned int shift = 0; shift < INTEGER_BITS_BOUND; shift += 7) {
		if (*at >= size)
			return false;
		*value += (size_t)(block[*at] & 0x7f) << shift;
		if (!(block[(*at)++] & 0x80))
			return true;
	}
	return false;
}

static bool string_skip(const uint8_t *block, size_t size, size_t *at)
{
	size_t length;

	if (!integer_read(block, size, 7, at, &length) || length > size - *at)
		return false;
	*at += length;
	return true;
}

/* The field at the start of @block; false when not all of it is there. */
static bool field_read(const uint8_t *block, size_t size, struct field *field)
{
	size_t at = 0;
	unsigned int bits;

	memset(field, 0, sizeof(*field));
	if (size == 0)
		return false;
	if (block[0] & 0x80) {
		bits = 7;
	} else if (block[0] & 0x40) {
		bits = 6;
		field->adds = field->has_value = true;
	} else if (block[0] & 0x20) {
		bits = 5;
		field->resizes = true;
	} else {
		bits = 4;
		field->has_value = true;
	}
	if (!integer_read(block, size, bits, &at, &field->index))
		return false;
	if (field->has_value && field->index == 0 && !string_skip(block, size, &at))
		return false;
	if (field->has_value && !string_skip(block, size, &at))
		return false;
	field->size = at;
	return true;
}

static void header_note(struct request_head *head, const nghttp2_nv *header)
{
	static const char grpc[] = "application/grpc";

	if (header->namelen == 7 && memcmp(header->name, ":method", 7) == 0)
		method_put(head, header->value, header->valuelen);
	else if (header->namelen == 5 && memcmp(header->name, ":path", 5) == 0)
		path_put(head, header->value, header->valuelen);
	else if (header->namelen == 12 && memcmp(header->name, "content-type", 12) == 0)
		head->is_grpc = header->valuelen >= sizeof(grpc) - 1 &&
				memcmp(header->value, grpc, sizeof(grpc) - 1) == 0;
}

/* Whole fields through the library, which knows the static table and the Huffman code. */
static bool inflate(
	nghttp2_hd_inflater *inflater, const uint8_t *bytes, size_t size, struct request_head *head)
{
	while (size > 0) {
		nghttp2_nv header;
		int flags = 0;
		ssize_t taken = nghttp2_hd_inflate_hd2(inflater, &header, &flags, bytes, size, 0);

		if (taken < 0)
			return false;
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			header_note(head, &header);
		else if (taken == 0)
			return false;
		bytes += taken;
		size -= (size_t)taken;
	}
	return true;
}

void request_head_http2(const uint8_t *block, size_t size, struct request_head *head)
{
	/* A literal named "-": takes the place of an entry whose name only the connection knows. */
	static const uint8_t unknown[] = {0x40, 1, '-', 0};
	nghttp2_hd_inflater *inflater;
	size_t added = 0;
	struct field field;
	bool ok = true;

	memset(head, 0, sizeof(*head));
	if (nghttp2_hd_inflate_new(&inflater) != 0)
		return;
	for (; ok && field_read(block, size, &field); block += field.size, size -= field.size) {
		/*
		 * The newest entries are the block's own, in the connection's table as in this
		 * one. What lies behind them is older, and only the connection's.
		 */
		bool is_known = field.index <= STATIC_ENTRIES + added;

		/* A larger table only keeps more of what is old. */
		if (field.resizes && field.index > TABLE_BYTES_KNOWN)
			continue;
		if (field.resizes || is_known)
			ok = inflate(inflater, block, field.size, head);
		else if (field.adds)
			ok = inflate(inflater, unknown, sizeof(unknown), head);
		added += field.adds;
	}
	nghttp2_hd_inflate_del(inflater);
}
