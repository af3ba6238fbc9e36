// SPDX-License-Identifier: Apache-2.0
#include "driver.h"

#include "learner/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct checkpoint checkpoint;
	char error[160];

	(void)checkpoint_parse(data, size, &checkpoint, error, sizeof(error));
	free(checkpoint.weights);
	return 0;
}

static size_t fuzz_seed(size_t index, uint8_t *out)
{
	static float weights[16] = {1, -2, 3};
	struct checkpoint checkpoint = {.schema = 1,
		.inputs = 4,
		.actions = 2,
		.steps = 9,
		.count = 16,
		.weights = weights};
	char path[64];
	ssize_t size;
	int fd;

	if (index > 0)
		return 0;
	snprintf(path, sizeof(path), "/tmp/ebbtide-fuzz-%d", getpid());
	if (checkpoint_write(path, &checkpoint))
		return 0;
	fd = open(path, O_RDONLY);
	size = read(fd, out, FUZZ_BYTES_MAX);
	close(fd);
	unlink(path);
	return size > 0 ? (size_t)size : 0;
}
