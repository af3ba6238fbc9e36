// SPDX-License-Identifier: Apache-2.0
/* The choice of OpenBLAS's kernels; children of this program are the probes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "learner/dqn/blas.h"

#define CORETYPE "OPENBLAS_CORETYPE"
#define CHOSEN	 "EBBTIDE_BLAS_CHOSEN"

/* Told to run as a program whose choice is looked at: prints what it logged and what it runs. */
#define SHOW_ARGUMENT "--show-choice"

static void show_line(enum blas_level level, const char *line)
{
	printf("%s: %s\n", level == BLAS_WARNING ? "warning" : "info", line);
	fflush(stdout);
}

/* Start this program with both variables as given (NULL: not set) and keep what it prints. */
static void show_choice(const char *coretype, const char *chosen, char *output, size_t size)
{
	size_t length = 0;
	int status = 0;
	int ends[2];
	pid_t child;
	ssize_t got;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		unsetenv("OPENBLAS_L2_SIZE");
		unsetenv(CORETYPE);
		unsetenv(CHOSEN);
		if (coretype)
			setenv(CORETYPE, coretype, 1);
		if (chosen)
			setenv(CHOSEN, chosen, 1);
		execl("/proc/self/exe", "test_blas", SHOW_ARGUMENT, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while (length < size - 1 && (got = read(ends[0], output + length, size - 1 - length)) > 0)
		length += (size_t)got;
	output[length] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_kernels_that_run_pass_the_self_test(void **unused)
{
	(void)unused;
	assert_int_equal(blas_self_test(), 0);
	assert_true(strlen(blas_corename()) > 0);
}

static void test_fallback_is_told_from_what_the_processor_can_do(void **unused)
{
	(void)unused;
	assert_true(blas_is_fallback("Prescott", BLAS_VECTORS_AVX512));
	assert_true(blas_is_fallback("Prescott", BLAS_VECTORS_AVX2));
	assert_true(blas_is_fallback("generic", BLAS_VECTORS_AVX2));
	assert_true(blas_is_fallback("Haswell", BLAS_VECTORS_AVX512));
	assert_false(blas_is_fallback("SkylakeX", BLAS_VECTORS_AVX512));
	assert_false(blas_is_fallback("Cooperlake", BLAS_VECTORS_AVX512));
	assert_false(blas_is_fallback("Haswell", BLAS_VECTORS_AVX2));
	assert_false(blas_is_fallback("Zen", BLAS_VECTORS_AVX2));
	assert_false(blas_is_fallback("Prescott", BLAS_VECTORS_OTHER));
	assert_false(blas_is_fallback("ARMV8", BLAS_VECTORS_OTHER));
}

static void test_probe_runs_the_kernels_asked_for(void **unused)
{
	struct blas_probe probe;

	(void)unused;
	if (blas_detect_vectors() == BLAS_VECTORS_OTHER)
		skip();
	assert_int_equal(blas_run_probe("Haswell", &probe), 0);
	assert_string_equal(probe.corename, "Haswell");
	assert_true(probe.gflops > 0.1);
	assert_int_equal(blas_run_probe(NULL, &probe), 0);
	assert_true(probe.gflops > 0.1);
}

static void test_probe_of_kernels_that_do_not_exist_says_so(void **unused)
{
	struct blas_probe probe;

	(void)unused;
	assert_int_equal(blas_run_probe("NoSuchKernels", &probe), -ENOENT);
}

static void test_preset_is_kept_and_its_cost_is_said(void **unused)
{
	char output[1024];

	(void)unused;
	if (blas_detect_vectors() == BLAS_VECTORS_OTHER)
		skip();
	show_choice("Prescott", NULL, output, sizeof(output));
	if (!strstr(output, "\nruns Prescott\n") || !strstr(output, "warning: ") ||
		!strstr(output, CORETYPE "=Prescott is preset and kept") ||
		!strstr(output, "times as fast"))
		fail_msg("expected a warning and the preset's kernels, got: %s", output);
}

static void test_who_presets_nothing_gets_no_fallback(void **unused)
{
	struct blas_probe best;
	char output[1024];
	char name[BLAS_NAME_MAX];
	const char *runs;

	(void)unused;
	show_choice(NULL, NULL, output, sizeof(output));
	runs = strstr(output, "runs ");
	while (runs && (runs != output && runs[-1] != '\n'))
		runs = strstr(runs + 1, "runs ");
	assert_non_null(runs);
	assert_int_equal(sscanf(runs, "runs %31s", name), 1);
	if (blas_is_fallback(name, blas_detect_vectors()) &&
		blas_find_fastest(blas_detect_vectors(), &best, NULL) == 0 &&
		!blas_is_fallback(best.corename, blas_detect_vectors()))
		fail_msg(
			"the program runs %s, %s would be faster: %s", name, best.corename, output);
}

static void test_fastest_candidate_is_no_fallback(void **unused)
{
	struct blas_probe best, old;

	(void)unused;
	if (blas_detect_vectors() == BLAS_VECTORS_OTHER)
		skip();
	assert_int_equal(blas_find_fastest(blas_detect_vectors(), &best, NULL), 0);
	assert_int_equal(blas_run_probe("Prescott", &old), 0);
	assert_true(best.gflops > old.gflops);
	assert_false(blas_is_fallback(best.corename, BLAS_VECTORS_AVX2));
}

static void test_own_choice_is_taken_without_a_word_and_not_inherited(void **unused)
{
	char output[1024];

	(void)unused;
	if (blas_detect_vectors() == BLAS_VECTORS_OTHER)
		skip();
	show_choice("Haswell", "Haswell", output, sizeof(output));
	assert_string_equal(output, "runs Haswell\ninherits nothing\n");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernels_that_run_pass_the_self_test),
		cmocka_unit_test(test_fallback_is_told_from_what_the_processor_can_do),
		cmocka_unit_test(test_probe_runs_the_kernels_asked_for),
		cmocka_unit_test(test_probe_of_kernels_that_do_not_exist_says_so),
		cmocka_unit_test(test_preset_is_kept_and_its_cost_is_said),
		cmocka_unit_test(test_who_presets_nothing_gets_no_fallback),
		cmocka_unit_test(test_fastest_candidate_is_no_fallback),
		cmocka_unit_test(test_own_choice_is_taken_without_a_word_and_not_inherited),
	};

	if (argc == 2 && strcmp(argv[1], SHOW_ARGUMENT) == 0) {
		blas_select(argc, argv, show_line);
		printf("runs %s\n", blas_corename());
		printf("inherits %s\n",
			getenv(CORETYPE) || getenv(CHOSEN) ? "the choice" : "nothing");
		return 0;
	}
	blas_select(argc, argv, NULL);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
