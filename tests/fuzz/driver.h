// SPDX-License-Identifier: Apache-2.0
/*
 * A main() for fuzz targets built without libFuzzer: the target's seeds, and mutations of them that
 * are the same in every run. With clang, -DEBBTIDE_LIBFUZZER -fsanitize=fuzzer takes its place.
 *
 * The target defines fuzz_seeds() before it includes this.
 */
#ifndef EBBTIDE_FUZZ_DRIVER_H
#define EBBTIDE_FUZZ_DRIVER_H

#include "learner/random.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_BYTES_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef EBBTIDE_LIBFUZZER

/* Seed @index into @out; its size, or 0 after the last. */
static size_t fuzz_seed(size_t index, uint8_t *out);

static size_t mutate(struct random_state *random, uint8_t *data, size_t size)
{
	uint32_t times = 1 + random_below(random, 8);

	for (uint32_t i = 0; i < times; i++) {
		uint32_t at = size ? random_below(random, (uint32_t)size) : 0;

		switch (random_below(random, 6)) {
		case 0: /* flip a bit */
			if (size)
				data[at] ^= (uint8_t)(1U << random_below(random, 8));
			break;
		case 1: /* any byte */
			if (size)
				data[at] = (uint8_t)random_below(random, 256);
			break;
		case 2: /* cut the end */
			size = at;
			break;
		case 3: /* put a byte in */
			if (size < FUZZ_BYTES_MAX) {
				memmove(data + at + 1, data + at, size - at);
				data[at] = (uint8_t)random_below(random, 256);
				size++;
			}
			break;
		case 4: /* take a run out */
			if (size) {
				size_t run = random_below(random, (uint32_t)(size - at)) / 4 + 1;

				memmove(data + at, data + at + run, size - at - run);
				size -= run;
			}
			break;
		default: /* extreme 32-bit numbers */
			if (size >= 4 && at + 4 <= size)
				memset(data + at, random_below(random, 2) ? 0xff : 0x7f, 4);
			break;
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
	uint8_t *data = malloc(FUZZ_BYTES_MAX + 8);
	struct random_state random;
	size_t seeds = 0;

	random_seed(&random, 1);
	while (data && fuzz_seed(seeds, data) > 0)
		LLVMFuzzerTestOneInput(data, fuzz_seed(seeds++, data));
	for (long i = 0; data && i < rounds; i++) {
		size_t size = fuzz_seed(random_below(&random, (uint32_t)seeds), data);
		/* Of exactly its size, so that a read past the end is seen. */
		uint8_t *exact;

		size = mutate(&random, data, size);
		exact = malloc(size ? size : 1);
		if (!exact)
			break;
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	free(data);
	printf("%ld inputs, %zu seeds\n", rounds, seeds);
	return 0;
}

#endif
#endif
