// SPDX-License-Identifier: Apache-2.0
#include "driver.h"

#include "learner/dqn/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <unistd.h>
#include <zlib.h>

#define CRC_BYTES 4

/* A refusal says why, and what is taken holds numbers only. */
static void parse(const uint8_t *data, size_t size, struct checkpoint *checkpoint)
{
	char error[160] = "";
	int err = checkpoint_parse(data, size, checkpoint, error, sizeof(error));

	if ((err == -EINVAL || err == -EPROTO) && !error[0])
		abort();
	for (size_t i = 0; !err && i < checkpoint->count; i++)
		if (!isfinite(checkpoint->weights[i]))
			abort();
	free(checkpoint->weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct checkpoint checkpoint;
	uint8_t *sealed;
	uint32_t crc;

	parse(data, size, &checkpoint);
	if (size < CRC_BYTES)
		return 0;
	/* Once more with the right checksum, to get behind it. */
	sealed = malloc(size);
	if (!sealed)
		return 0;
	memcpy(sealed, data, size);
	crc = (uint32_t)crc32(0, sealed, (uInt)(size - CRC_BYTES));
	memcpy(sealed + size - CRC_BYTES, &crc, CRC_BYTES);
	parse(sealed, size, &checkpoint);
	free(sealed);
	return 0;
}

static size_t checkpoint_bytes(uint8_t *out, size_t size)
{
	float weights[16] = {1, -2, 3};
	struct checkpoint checkpoint = {.schema = 1,
		.inputs = 4,
		.actions = 2,
		.steps = 9,
		.count = 16,
		.weights = weights};
	char path[64];
	ssize_t got = -1;
	int fd;

	snprintf(path, sizeof(path), "/tmp/ebbtide-fuzz-%d", getpid());
	if (checkpoint_write(path, &checkpoint, 1))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, out, size);
		close(fd);
	}
	unlink(path);
	return got > 0 ? (size_t)got : 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static uint8_t kept[FUZZ_BYTES_MAX];
	static size_t kept_size;

	if (index > 0)
		return 0;
	/* The file's bytes come from its writer, once. */
	if (kept_size == 0)
		kept_size = checkpoint_bytes(kept, sizeof(kept));
	memcpy(out, kept, kept_size);
	return kept_size;
}
