// SPDX-License-Identifier: Apache-2.0
#include "learner/dqn/blas.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define SELF	       "/proc/self/exe"
#define PROBE_ARGUMENT "--blas-self-test" /* hidden: only blas_run_probe() gives it */
#define CORETYPE       "OPENBLAS_CORETYPE"
#define CACHE_SIZE     "OPENBLAS_L2_SIZE" /* preset together with the other on some machines */
/* Set beside our own choice, so that the program started again does not take it for a preset. */
#define CHOSEN		  "EBBTIDE_BLAS_CHOSEN"

#define PROBE_TIMEOUT_MS  10000
#define PROBE_RUN_S	  0.02 /* measuring time: a thousand products or more */
#define COST_WORTH_SAYING 1.1  /* times faster without the preset */

enum probe_exit {
	PROBE_RIGHT = 0,
	PROBE_WRONG = 3
};

/* Kernels by what they need, the likely best first; names that a library lacks are passed over. */
static const struct {
	const char *name;
	enum blas_vectors vectors;
} cores[] = {
	{"SapphireRapids", BLAS_VECTORS_AVX512},
	{"Cooperlake", BLAS_VECTORS_AVX512},
	{"SkylakeX", BLAS_VECTORS_AVX512},
	{"Zen", BLAS_VECTORS_AVX2},
	{"Haswell", BLAS_VECTORS_AVX2},
};

#define CORE_COUNT (sizeof(cores) / sizeof(cores[0]))

static void report(blas_logger *log, enum blas_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void report(blas_logger *log, enum blas_level level, const char *format, ...)
{
	char line[256];
	va_list arguments;

	if (!log)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	log(level, line);
}

const char *blas_corename(void)
{
	return openblas_get_corename();
}

enum blas_vectors blas_detect_vectors(void)
{
#if defined(__x86_64__)
	/* GCC's tests ask the operating system (XCR0) as well as the processor. */
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		__builtin_cpu_supports("avx512cd"))
		return BLAS_VECTORS_AVX512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return BLAS_VECTORS_AVX2;
#endif
	return BLAS_VECTORS_OTHER;
}

bool blas_is_fallback(const char *corename, enum blas_vectors vectors)
{
	if (vectors == BLAS_VECTORS_OTHER)
		return false;
	for (size_t i = 0; i < CORE_COUNT; i++) {
		if (strcasecmp(cores[i].name, corename) == 0)
			return cores[i].vectors < vectors;
	}
	return true;
}

/* Values that need no generator and have no pattern in common with a kernel's blocks. */
static float self_test_value(uint32_t i)
{
	return (float)(i * 2654435761U >> 16) / 65536 - 0.5F;
}

static int compare_product(bool transpose_a, bool transpose_b, int rows, int width, int inner)
{
	enum {
		SIZE = 130 * 130
	};
	static float a[SIZE], b[SIZE], c[SIZE];
	int a_stride = transpose_a ? rows : inner;
	int b_stride = transpose_b ? inner : width;

	for (uint32_t i = 0; i < SIZE; i++) {
		a[i] = self_test_value(i);
		b[i] = self_test_value(i + SIZE);
		c[i] = NAN; /* beta is zero, so none of it may be read */
	}
	cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
		transpose_b ? CblasTrans : CblasNoTrans, rows, width, inner, 1, a, a_stride, b,
		b_stride, 0, c, width);
	for (int row = 0; row < rows; row++) {
		for (int i = 0; i < width; i++) {
			double sum = 0;

			for (int k = 0; k < inner; k++)
				sum += (double)a[transpose_a ? k * a_stride + row
							     : row * a_stride + k] *
				       (double)b[transpose_b ? i * b_stride + k : k * b_stride + i];
			/* Rounding of at most 130 products below 1/4 stays far under this. */
			if (!(fabs((double)c[row * width + i] - sum) < 1e-4))
				return -EDOM;
		}
	}
	return 0;
}

int blas_self_test(void)
{
	/* What the network multiplies, and sizes that leave a rest in every kernel's block. */
	static const int shapes[][3] = {
		{64, 128, 32},
		{64, 128, 128},
		{128, 128, 64},
		{64, 9, 128},
		{1, 1, 1},
		{37, 19, 53},
		{130, 127, 129},
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		for (int form = 0; form < 4; form++) {
			if (compare_product(
				    form & 1, form & 2, shapes[i][0], shapes[i][1], shapes[i][2]))
				return -EDOM;
		}
	}
	return 0;
}

static double read_clock_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double measure_gflops(void)
{
	static float a[64 * 128], b[128 * 128], c[64 * 128];
	double best_s = INFINITY;
	double begin_s = read_clock_s();
	double now_s = begin_s;

	/* The best of many short runs: a neighbour on the machine must not decide. */
	while (now_s - begin_s < PROBE_RUN_S) {
		double run_s = now_s;

		for (int i = 0; i < 10; i++)
			cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 64, 128, 128, 1, a,
				128, b, 128, 0, c, 128);
		now_s = read_clock_s();
		if (now_s - run_s < best_s)
			best_s = now_s - run_s;
	}
	return 10 * 2e-9 * 64 * 128 * 128 / best_s;
}

static _Noreturn void run_as_probe(void)
{
	if (blas_self_test())
		_exit(PROBE_WRONG);
	printf("%s %.3f\n", blas_corename(), measure_gflops());
	fflush(stdout);
	_exit(PROBE_RIGHT);
}

static void become_probe(const char *coretype, int output)
{
	char name[] = "ebbtide-blas-probe";
	char argument[] = PROBE_ARGUMENT;
	char *arguments[] = {name, argument, NULL};

	/* The standard error stays quiet: a library that lacks the kernels complains there. */
	if (dup2(output, STDOUT_FILENO) < 0 || !freopen("/dev/null", "w", stderr))
		_exit(127);
	if (!coretype) {
		unsetenv(CORETYPE);
		unsetenv(CACHE_SIZE);
	} else if (coretype[0]) {
		setenv(CORETYPE, coretype, 1);
	}
	execv(SELF, arguments);
	_exit(127);
}

/* Read all of the child's one line; ends when the child does, or when the time is over. */
static int read_answer(int input, char *answer, size_t size)
{
	double deadline_s = read_clock_s() + PROBE_TIMEOUT_MS / 1000.0;
	size_t length = 0;

	for (;;) {
		struct pollfd waiting = {.fd = input, .events = POLLIN};
		int left_ms = (int)((deadline_s - read_clock_s()) * 1000);
		int ready = poll(&waiting, 1, left_ms > 0 ? left_ms : 0);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return -errno;
		if (ready == 0)
			return -ETIMEDOUT;
		ssize_t got = read(input, answer + length, size - 1 - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		length += (size_t)got;
		answer[length] = '\0';
		if (got == 0 || length == size - 1)
			return 0;
	}
}

static int parse_answer(
	const char *coretype, const char *answer, int status, struct blas_probe *probe)
{
	if (WIFSIGNALED(status))
		return -EFAULT;
	if (WEXITSTATUS(status) == PROBE_WRONG)
		return -EDOM;
	if (WEXITSTATUS(status) != PROBE_RIGHT ||
		sscanf(answer, "%31s %lf", probe->corename, &probe->gflops) != 2)
		return -ENOENT;
	/* A library without these kernels runs others, and says which. */
	if (coretype && coretype[0] && strcasecmp(probe->corename, coretype) != 0)
		return -ENOENT;
	return 0;
}

int blas_run_probe(const char *coretype, struct blas_probe *probe)
{
	char answer[128] = "";
	int ends[2];
	int status = 0;
	int err;
	pid_t child;

	memset(probe, 0, sizeof(*probe));
	if (pipe(ends) < 0)
		return -errno;
	child = fork();
	if (child < 0) {
		err = -errno;
		close(ends[0]);
		close(ends[1]);
		return err;
	}
	if (child == 0)
		become_probe(coretype, ends[1]);
	close(ends[1]);
	err = read_answer(ends[0], answer, sizeof(answer));
	close(ends[0]);
	if (err)
		kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return err ? err : parse_answer(coretype, answer, status, probe);
}

int blas_find_fastest(enum blas_vectors vectors, struct blas_probe *best, blas_logger *log)
{
	memset(best, 0, sizeof(*best));
	for (size_t i = 0; i < CORE_COUNT; i++) {
		struct blas_probe probe;
		int err;

		if (cores[i].vectors > vectors)
			continue;
		err = blas_run_probe(cores[i].name, &probe);
		if (err == -EDOM || err == -EFAULT)
			report(log, BLAS_WARNING, "blas: kernels %s %s on this processor; not used",
				cores[i].name, err == -EDOM ? "compute wrong values" : "crash");
		if (!err && probe.gflops > best->gflops)
			*best = probe;
	}
	return best->gflops > 0 ? 0 : -ENOENT;
}

static void warn_of_preset(const char *preset, blas_logger *log)
{
	struct blas_probe with, without, other;
	const char *cache = getenv(CACHE_SIZE);

	if (blas_run_probe("", &with) || blas_run_probe(NULL, &without)) {
		report(log, BLAS_WARNING,
			"blas: " CORETYPE
			"=%s is preset and kept, running %s; what it costs could not "
			"be measured",
			preset, blas_corename());
		return;
	}
	/* Without the preset we would choose ourselves where the library falls back. */
	if (blas_is_fallback(without.corename, blas_detect_vectors()) &&
		blas_find_fastest(blas_detect_vectors(), &other, NULL) == 0 &&
		other.gflops > without.gflops)
		without = other;
	if (without.gflops < with.gflops * COST_WORTH_SAYING) {
		report(log, BLAS_INFO, "blas: kernels %s (%.0f GFLOP/s) as " CORETYPE "=%s asks",
			with.corename, with.gflops, preset);
		return;
	}
	report(log, BLAS_WARNING,
		"blas: " CORETYPE
		"=%s%s%s is preset and kept: %s runs %.0f GFLOP/s, without it %s runs "
		"%.0f (%.1f times as fast); unset it to train faster",
		preset, cache ? " " CACHE_SIZE "=" : "", cache ? cache : "", with.corename,
		with.gflops, without.corename, without.gflops, without.gflops / with.gflops);
}

static void start_again(char **argv, const struct blas_probe *best, blas_logger *log)
{
	setenv(CORETYPE, best->corename, 1);
	setenv(CHOSEN, best->corename, 1);
	execv(SELF, argv);
	report(log, BLAS_WARNING, "blas: cannot start again with kernels %s: %s; going on with %s",
		best->corename, strerror(errno), blas_corename());
	unsetenv(CORETYPE);
	unsetenv(CHOSEN);
}

static void choose(char **argv, blas_logger *log)
{
	struct blas_probe best;
	struct blas_probe now;

	if (blas_run_probe("", &now))
		memset(&now, 0, sizeof(now));
	blas_find_fastest(blas_detect_vectors(), &best, log);
	if (best.gflops <= now.gflops) {
		report(log, BLAS_WARNING,
			"blas: the library does not know this processor and runs kernels %s "
			"(%.0f GFLOP/s); no faster ones passed the self-test",
			blas_corename(), now.gflops);
		return;
	}
	report(log, BLAS_INFO,
		"blas: the library fell back to kernels %s (%.0f GFLOP/s); starting again with %s "
		"(%.0f GFLOP/s)",
		blas_corename(), now.gflops, best.corename, best.gflops);
	start_again(argv, &best, log);
}

void blas_answer_probe(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], PROBE_ARGUMENT) != 0)
		return;
	openblas_set_num_threads(1);
	run_as_probe();
}

void blas_select(int argc, char **argv, blas_logger *log)
{
	const char *preset = getenv(CORETYPE);
	const char *chosen = getenv(CHOSEN);

	blas_answer_probe(argc, argv);
	openblas_set_num_threads(1);
	if (preset && preset[0] && chosen && strcmp(preset, chosen) == 0) {
		/* Ours, and the library has read it: what this program starts shall not inherit it. */
		unsetenv(CORETYPE);
		unsetenv(CHOSEN);
		return;
	}
	if (preset && preset[0]) {
		warn_of_preset(preset, log);
		return;
	}
	if (blas_is_fallback(blas_corename(), blas_detect_vectors()))
		choose(argv, log);
}
