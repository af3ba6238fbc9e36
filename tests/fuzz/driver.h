// SPDX-License-Identifier: Apache-2.0
/*
 * A main() for fuzz targets built without libFuzzer: the target's seeds, and mutations of them that
 * are the same in every run. Usage: fuzz_NAME [INPUTS [SECONDS]], whichever bound is met first. An
 * input that ends the program is printed in hexadecimal. With clang, -DEBBTIDE_LIBFUZZER
 * -fsanitize=fuzzer takes its place.
 *
 * The target defines fuzz_seed() after it has included this.
 */
#ifndef EBBTIDE_FUZZ_DRIVER_H
#define EBBTIDE_FUZZ_DRIVER_H

#include "learner/dqn/random.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FUZZ_BYTES_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Seed @index into @out of FUZZ_BYTES_MAX; its size, or 0 after the last. */
static size_t fuzz_seed(size_t index, uint8_t *out) __attribute__((unused));

#ifndef EBBTIDE_LIBFUZZER

/* Of the sanitizers' runtime; absent in a build without. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static const uint8_t *fuzz_input;
static size_t fuzz_input_size;

static void input_print(void)
{
	/* A leak is found after the last one. */
	if (!fuzz_input)
		return;
	fprintf(stderr, "the input (%zu bytes):", fuzz_input_size);
	for (size_t i = 0; i < fuzz_input_size; i++)
		fprintf(stderr, " %02x", fuzz_input[i]);
	fprintf(stderr, "\n");
}

static void aborted(int number)
{
	(void)number;
	input_print();
	_Exit(1);
}

/* On a copy of exactly its size, so that a read past the end is seen. */
static int input_run(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	if (!exact)
		return -1;
	memcpy(exact, data, size);
	fuzz_input = exact;
	fuzz_input_size = size;
	LLVMFuzzerTestOneInput(exact, size);
	fuzz_input = NULL;
	free(exact);
	return 0;
}

/* One change of @data; the new size. */
static size_t change(struct random_state *random, uint8_t *data, size_t size)
{
	uint32_t at = size ? random_below(random, (uint32_t)size) : 0;
	size_t run = size ? random_below(random, (uint32_t)(size - at)) / 8 + 1 : 0;

	switch (random_below(random, 16)) {
	case 0: /* cut the end */
		return at;
	case 1: /* take a run out */
	case 2:
		memmove(data + at, data + at + run, size - at - run);
		return size - run;
	case 3: /* put a byte in */
	case 4:
		if (size >= FUZZ_BYTES_MAX)
			return size;
		memmove(data + at + 1, data + at, size - at);
		data[at] = (uint8_t)random_below(random, 256);
		return size + 1;
	case 5: /* twice the same run */
	case 6:
		if (size + run > FUZZ_BYTES_MAX)
			return size;
		memmove(data + at + run, data + at, size - at);
		return size + run;
	case 7: /* extreme 32-bit numbers, one that is none included */
		if (at + 4 <= size)
			memset(data + at, random_below(random, 2) ? 0xff : 0x7f, 4);
		return size;
	case 8: /* any byte */
	case 9:
		if (size)
			data[at] = (uint8_t)random_below(random, 256);
		return size;
	case 10: /* another printable one */
	case 11:
	case 12:
		if (size)
			data[at] = (uint8_t)(32 + random_below(random, 95));
		return size;
	default: /* flip a bit */
		if (size)
			data[at] ^= (uint8_t)(1U << random_below(random, 8));
		return size;
	}
}

/* One to eight changes, few more often than many: a parser's depths are near its seeds. */
static size_t mutate(struct random_state *random, uint8_t *data, size_t size)
{
	uint32_t times = 1 + random_below(random, 1 + random_below(random, 8));

	for (uint32_t i = 0; i < times; i++)
		size = change(random, data, size);
	return size;
}

int main(int argc, char **argv)
{
	long inputs = argc > 1 ? strtol(argv[1], NULL, 10) : 20000;
	time_t end = time(NULL) + (argc > 2 ? strtol(argv[2], NULL, 10) : 5);
	uint8_t *data = malloc(FUZZ_BYTES_MAX + 8);
	struct random_state random;
	size_t seeds = 0, size;
	long done = 0;

	if (!data)
		return 1;
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(input_print);
	signal(SIGABRT, aborted);
	random_seed(&random, 1);
	while ((size = fuzz_seed(seeds, data)) > 0 && input_run(data, size) == 0)
		seeds++;
	while (seeds && done < inputs && time(NULL) < end) {
		size = fuzz_seed(random_below(&random, (uint32_t)seeds), data);
		size = mutate(&random, data, size);
		if (input_run(data, size))
			break;
		done++;
	}
	free(data);
	printf("%ld inputs of %zu seeds\n", done, seeds);
	/* A target that has seeds but ran nothing has tested nothing. */
	return done > 0 ? 0 : 1;
}

#endif
#endif
