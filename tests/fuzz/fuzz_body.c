// SPDX-License-Identifier: Apache-2.0
/* A compressed body as anyone may send it: inflated or refused, within its bounds. */
#include "driver.h"

#include "learner/body.h"

#include <errno.h>
#include <zlib.h>

#define BUDGET (1U << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct body_budget budget = {.most = BUDGET};
	struct body body = {.budget = &budget};
	int err = body_add(&body, data, size);

	if (err)
		abort();
	err = body_inflate(&body);
	if (err && err != -EINVAL && err != -ENOBUFS)
		abort();
	if (body.size > BUDGET || atomic_load(&budget.used) != body.allocated ||
		(err && (body.size || body.allocated)))
		abort();
	body_free(&body);
	if (atomic_load(&budget.used) != 0)
		abort();
	return 0;
}

/* zlib's and gzip's format, of little and of much that is alike. */
static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static uint8_t plain[2 * BUDGET];
	const size_t sizes[] = {0, 100, 5000, BUDGET / 2, 2 * BUDGET};
	size_t size = sizes[index / 2 % 5];
	z_stream stream = {.next_in = plain,
		.avail_in = (uInt)size,
		.next_out = out,
		.avail_out = FUZZ_BYTES_MAX};

	if (index >= 10)
		return 0;
	for (size_t i = 0; i < 5000; i++)
		plain[i] = (uint8_t)(i * i >> 5);
	if (deflateInit2(&stream, 6, Z_DEFLATED, index % 2 ? 15 : 31, 8, Z_DEFAULT_STRATEGY) !=
		Z_OK)
		abort();
	if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
		abort();
	deflateEnd(&stream);
	return stream.total_out;
}
