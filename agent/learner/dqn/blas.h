// SPDX-License-Identifier: Apache-2.0
/*
 * Which of OpenBLAS's kernels run.
 *
 * OpenBLAS picks its kernels by the processor's model when it is loaded. On a processor that it does
 * not know it falls back to kernels of 2004, three to five times slower, and only an environment
 * variable that is set before the program starts (OPENBLAS_CORETYPE) can say otherwise. So the
 * program tests the candidates in children of its own, each against a naive product, and starts
 * itself again with the fastest that computes right.
 *
 * A preset OPENBLAS_CORETYPE is the operator's word: it is kept, and a warning says what it costs.
 */
#ifndef EBBTIDE_BLAS_H
#define EBBTIDE_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#define BLAS_NAME_MAX 32

enum blas_level {
	BLAS_INFO,
	BLAS_WARNING
};

/* One line about the choice, without a newline. */
typedef void blas_logger(enum blas_level level, const char *line);

/* The widest vector instructions that processor and operating system offer. */
enum blas_vectors {
	BLAS_VECTORS_OTHER,
	BLAS_VECTORS_AVX2,
	BLAS_VECTORS_AVX512
};

struct blas_probe {
	char corename[BLAS_NAME_MAX]; /* what the library says it runs */
	double gflops;		      /* of a 64x128x128 product, one thread */
};

/*
 * The first thing in main(), before its arguments are looked at: a child of blas_run_probe() answers
 * and exits here.
 */
void blas_answer_probe(int argc, char **argv);
/*
 * Before a thread, a file or a BLAS call, with main's own arguments. Answers probes as well. May not
 * return: a choice starts the program again (execve of /proc/self/exe: the process id stays). Sets the library to one thread. When nothing
 * can be done (no /proc, no candidate right) it says so and the program goes on with what runs.
 */
void blas_select(int argc, char **argv, blas_logger *log);
/* The kernels that run now: "SkylakeX", "Haswell", "Zen", "Prescott", ... */
const char *blas_corename(void);

/* Whether kernels @corename use less than @vectors though there are candidates that use them. */
bool blas_is_fallback(const char *corename, enum blas_vectors vectors);
enum blas_vectors blas_detect_vectors(void);
/*
 * The fastest of the candidates that @vectors allow and whose probe is right. 0; -ENOENT: none.
 * A candidate that computes wrong values or crashes is named to @log.
 */
int blas_find_fastest(enum blas_vectors vectors, struct blas_probe *best, blas_logger *log);
/* Compare products of several shapes with a naive one. 0, or -EDOM: a value is wrong. */
int blas_self_test(void);
/*
 * Run the self-test and a short measurement in a child of this program whose OPENBLAS_CORETYPE is
 * @coretype (NULL: not set, and OPENBLAS_L2_SIZE not either; "": as it is now). 0; -EDOM: it
 * computed wrong values; -ENOENT: the library does not have these kernels; -EFAULT: it crashed;
 * -ETIMEDOUT; or -errno. The program's main() must call blas_answer_probe() first.
 */
int blas_run_probe(const char *coretype, struct blas_probe *probe);

#endif
