// SPDX-License-Identifier: Apache-2.0
/*
 * Random numbers whose state the caller owns (xoshiro256**, Blackman and Vigna 2018), so that the
 * learner's core repeats itself for a seed. Not for secrets.
 */
#ifndef EBBTIDE_RANDOM_H
#define EBBTIDE_RANDOM_H

#include <stdint.h>

struct random_state {
	uint64_t word[4]; /* never all zero; may be stored and restored as it is */
};

/* Any @seed is good, zero as well; seeds that differ by one give unrelated streams. */
void random_seed(struct random_state *random, uint64_t seed);
/* Inline: the simulator draws tens of millions a second. */
static inline uint64_t random_next(struct random_state *random)
{
	uint64_t *word = random->word;
	uint64_t scrambled = word[1] * 5;
	uint64_t result = (scrambled << 7 | scrambled >> 57) * 9;
	uint64_t shifted = word[1] << 17;

	word[2] ^= word[0];
	word[3] ^= word[1];
	word[1] ^= word[2];
	word[0] ^= word[3];
	word[2] ^= shifted;
	word[3] = word[3] << 45 | word[3] >> 19;
	return result;
}
/* Uniform in [0, bound) without bias; @bound at least 1. */
uint32_t random_below(struct random_state *random, uint32_t bound);
/* Uniform in [0, 1), every value a multiple of 2^-24 (float) or 2^-53 (double). */
float random_uniform(struct random_state *random);
double random_uniform_double(struct random_state *random);
/* Normal with mean 0 and standard deviation 1. */
float random_normal(struct random_state *random);

#endif
