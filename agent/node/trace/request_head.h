// SPDX-License-Identifier: Apache-2.0
/*
 * Method and path from the first bytes of a request, as anyone may send them. A query or fragment
 * is dropped, since it may carry secrets; bytes that are not plain ASCII show as question marks.
 *
 * Pure: no state is kept from one request to the next.
 */
#ifndef EBBTIDE_REQUEST_HEAD_H
#define EBBTIDE_REQUEST_HEAD_H

#include "shared.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A path may be longer than the bytes it came in: Huffman code takes five bits for some. */
#define REQUEST_PATH_MAX (REQUEST_HEAD_BYTES * 8 / 5 + 1)

struct request_head {
	char method[16];	     /* "" when it is not known */
	char path[REQUEST_PATH_MAX]; /* likewise; cut where the bytes end */
	bool is_grpc;		     /* HTTP/2: the content type says so */
};

/* The first line of an HTTP/1 request. */
void request_head_http1(const uint8_t *bytes, size_t size, struct request_head *head);
/*
 * The start of an HTTP/2 request's header block (HPACK, RFC 7541). The connection's dynamic table
 * is not known here: a field that refers to what earlier requests put there stays unknown, and is
 * never taken from anything else.
 */
void request_head_http2(const uint8_t *block, size_t size, struct request_head *head);

#endif
