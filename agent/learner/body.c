// SPDX-License-Identifier: Apache-2.0
#include "learner/body.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* A report of 64 units is 35 kB; one of ten, a sixth of it. */
#define FIRST_BYTES 8192
/* zlib's windowBits: 15 for the largest window, 32 to tell zlib and gzip apart by their headers. */
#define WINDOW_BITS (15 + 32)

static bool budget_take(struct body_budget *budget, size_t bytes)
{
	size_t used = atomic_fetch_add(&budget->used, bytes);

	if (used + bytes <= budget->most)
		return true;
	atomic_fetch_sub(&budget->used, bytes);
	return false;
}

static int reserve(struct body *body, size_t wanted)
{
	size_t allocated = body->allocated ? body->allocated : FIRST_BYTES;
	uint8_t *grown;

	if (wanted <= body->allocated)
		return 0;
	if (wanted > BODY_BYTES_MAX)
		return -EMSGSIZE;
	while (allocated < wanted)
		allocated *= 2;
	if (!budget_take(body->budget, allocated - body->allocated))
		return -ENOBUFS;
	grown = realloc(body->bytes, allocated);
	if (!grown) {
		atomic_fetch_sub(&body->budget->used, allocated - body->allocated);
		return -ENOMEM;
	}
	body->bytes = grown;
	body->allocated = allocated;
	return 0;
}

int body_add(struct body *body, const void *data, size_t size)
{
	int err = reserve(body, body->size + size);

	if (err || size == 0)
		return err;
	memcpy(body->bytes + body->size, data, size);
	body->size += size;
	return 0;
}

void body_free(struct body *body)
{
	if (body->budget)
		atomic_fetch_sub(&body->budget->used, body->allocated);
	free(body->bytes);
	body->bytes = NULL;
	body->size = body->allocated = 0;
}

static int inflate_into(struct body *to, z_stream *stream)
{
	for (;;) {
		int err = reserve(to, to->size + 1), status;

		if (err)
			return err;
		stream->next_out = to->bytes + to->size;
		stream->avail_out = (uInt)(to->allocated - to->size);
		if (to->allocated > BODY_BYTES_MAX)
			stream->avail_out = (uInt)(BODY_BYTES_MAX - to->size);
		status = inflate(stream, Z_NO_FLUSH);
		to->size = (size_t)(stream->next_out - to->bytes);
		if (status == Z_STREAM_END)
			return stream->avail_in == 0 ? 0 : -EINVAL;
		if (status == Z_MEM_ERROR)
			return -ENOMEM;
		/* Z_BUF_ERROR with room left: the stream ends before its end. */
		if (status != Z_OK && (status != Z_BUF_ERROR || stream->avail_out > 0))
			return -EINVAL;
	}
}

int body_inflate(struct body *body)
{
	struct body inflated = {.budget = body->budget};
	z_stream stream = {.next_in = body->bytes, .avail_in = (uInt)body->size};
	int err = inflateInit2(&stream, WINDOW_BITS) == Z_OK ? 0 : -ENOMEM;

	if (!err) {
		err = inflate_into(&inflated, &stream);
		inflateEnd(&stream);
	}
	body_free(body);
	if (err)
		body_free(&inflated);
	else
		*body = inflated;
	return err;
}
