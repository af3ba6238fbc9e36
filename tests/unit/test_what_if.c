// SPDX-License-Identifier: Apache-2.0
#include "learner/command.h"
#include "learner/simulator/what_if.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const double rate = 100;

/* 100 requests of 4 ms a second: 0.4 cores. */
static struct what_if what_if_make(void)
{
	struct what_if what_if = {.ticks = 60,
		.acceptable_violations = 0.02,
		.seed = 1,
		.limit_millicores = {150, 300, 600, 1200},
		.limit_count = 4,
		.replicas = {1, 2, 3},
		.replica_count = 3};

	simulate_config_init(&what_if.config);
	what_if.config.trace.rate_per_s = &rate;
	what_if.config.trace.seconds = 1;
	what_if.config.service[0].work_us = 4000;
	what_if.config.service[0].cores = 4;
	return what_if;
}

static void test_more_cpu_and_more_replicas_are_no_worse(void **state)
{
	struct what_if what_if = what_if_make();
	struct what_if_cell cells[12];

	(void)state;
	assert_int_equal(what_if_run(&what_if, cells), 0);
	for (int r = 0; r < 3; r++)
		for (int l = 0; l < 4; l++) {
			const struct what_if_cell *cell = &cells[r * 4 + l];

			assert_true(cell->limit_millicores == what_if.limit_millicores[l]);
			assert_int_equal(cell->replicas, what_if.replicas[r]);
			if (l > 0)
				assert_true(cell->violations <= cell[-1].violations);
			if (r > 0)
				assert_true(cell->violations <= cell[-4].violations);
			/* A limit is allocated whether it is used or not. */
			assert_true(cell->allocated_cores >=
				    cell->limit_millicores * cell->replicas / 1000 - 1e-6);
		}
	/* A replica with less than the demand does not hold, one with three times it does. */
	assert_false(cells[1].holds);
	assert_true(cells[1].violations > 0.9);
	assert_true(cells[3].holds);
	assert_true(fabs(cells[3].used_cores - 0.4) < 0.02);
}

static void test_the_cheapest_that_holds_is_chosen(void **state)
{
	struct what_if_cell cells[] = {
		{.replicas = 1, .allocated_cores = 0.2, .holds = false},
		{.replicas = 3, .allocated_cores = 0.5, .holds = true},
		{.replicas = 2, .allocated_cores = 0.5, .holds = true},
		{.replicas = 1, .allocated_cores = 0.9, .holds = true},
	};

	(void)state;
	assert_ptr_equal(what_if_cheapest(cells, 4), &cells[2]);
	assert_null(what_if_cheapest(cells, 1));
}

static void test_chosen_limits_reach_from_too_little_to_plenty(void **state)
{
	struct what_if what_if = what_if_make();

	(void)state;
	what_if.limit_count = 0;
	what_if_choose_limits(&what_if);
	assert_true(what_if.limit_count >= 4);
	/* The demand is 400 millicores: a third of it for three, four times it for one. */
	assert_true(what_if.limit_millicores[0] < 400.0 / 3);
	assert_true(what_if.limit_millicores[what_if.limit_count - 1] == 1600);
	for (uint32_t i = 1; i < what_if.limit_count; i++)
		assert_true(what_if.limit_millicores[i] > what_if.limit_millicores[i - 1]);
}

static uint32_t occurrences(const char *text, const char *part)
{
	uint32_t count = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		count++;
	return count;
}

static void test_the_picture_has_a_field_for_each_pair_and_frames_one(void **state)
{
	struct what_if what_if = what_if_make();
	struct what_if_cell cells[12];
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	(void)state;
	assert_non_null(file);
	assert_int_equal(what_if_run(&what_if, cells), 0);
	assert_int_equal(what_if_draw(file, &what_if, cells), 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(occurrences(text, "<title>"), 12);
	assert_int_equal(occurrences(text, "stroke=\"#000000\""), 1);
	assert_int_equal(occurrences(text, "<g>"), occurrences(text, "</g>"));
	assert_int_equal(occurrences(text, "<text"), occurrences(text, "</text>"));
	assert_int_equal(occurrences(text, "nan"), 0);
	free(text);
}

/* The command's exit status and what it prints, its errors aside. */
static int command(char *out, size_t size, const char *const *arguments)
{
	char *argv[24], copy[1024];
	int argc = 0, status, standard = dup(STDOUT_FILENO), errors = dup(STDERR_FILENO);
	FILE *file = tmpfile();
	size_t used = 0;

	assert_non_null(file);
	for (; arguments[argc]; argc++) {
		/* Lists are taken apart where they stand. */
		argv[argc] = strcpy(copy + used, arguments[argc]);
		used += strlen(arguments[argc]) + 1;
	}
	argv[argc] = NULL;
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	status = what_if_command(argc, argv);
	fflush(stdout);
	dup2(standard, STDOUT_FILENO);
	dup2(errors, STDERR_FILENO);
	close(standard);
	close(errors);
	rewind(file);
	out[fread(out, 1, size - 1, file)] = '\0';
	fclose(file);
	return status;
}

#define COMMAND(out, ...)                                                                          \
	command(out, sizeof(out), (const char *const[]){"what-if", __VA_ARGS__, NULL})

static void test_the_command_prints_the_grid(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(COMMAND(out, "--rate", "100", "--work-ms", "4", "--limits", "150m,1.2",
				 "--replicas", "1,3", "--seconds", "30"),
		0);
	assert_int_equal(occurrences(out, "\n       1     150m"), 1);
	assert_int_equal(occurrences(out, "    1200m "), 2);
	assert_int_equal(occurrences(out, "least that holds"), 1);
	assert_int_equal(COMMAND(out, "--rate", "100", "--work-ms", "4", "--limits", "0,200m",
				 "--replicas", "1-2", "--csv", "-", "--seconds", "30"),
		0);
	assert_int_equal(occurrences(out, "\n"), 5);
	assert_int_equal(occurrences(out, "\n1,0,"), 1);
	/* Nothing holds. */
	assert_int_equal(COMMAND(out, "--rate", "100", "--work-ms", "4", "--limits", "100m",
				 "--replicas", "1", "--seconds", "30"),
		3);
	assert_non_null(strstr(out, "None of these holds"));
}

static void test_wrong_usage_is_named(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(COMMAND(out, "--work-ms", "4"), 2);
	assert_non_null(strstr(out, "give one of --trace FILE and --rate N"));
	assert_int_equal(COMMAND(out, "--rate", "1", "--limits", "1x"), 2);
	assert_non_null(strstr(out, "--limits: \"1x\""));
	assert_int_equal(COMMAND(out, "--rate", "1", "--replicas", "4-2"), 2);
	assert_int_equal(COMMAND(out, "--rate", "1", "--replicas", "65"), 2);
	assert_int_equal(COMMAND(out, "--rate", "1", "--set", "speed=2"), 2);
	assert_non_null(strstr(out, "\"speed\" is not a parameter"));
	assert_int_equal(COMMAND(out, "--rate", "1", "--set", "workers=0"), 2);
	assert_int_equal(COMMAND(out, "--rate", "-1"), 2);
	assert_int_equal(COMMAND(out, "--rate", "1", "--trace", "x"), 2);
	assert_int_equal(COMMAND(out, "--trace", "/nonexistent/x"), 2);
	assert_non_null(strstr(out, "/nonexistent/x"));
	assert_int_equal(COMMAND(out, "--rate", "1", "--parameters", "/nonexistent/y"), 2);
	assert_int_equal(COMMAND(out, "--rate", "1", "--reflex", "0.3:3"), 2);
	assert_int_equal(COMMAND(out, "--rate", "1", "extra"), 2);
	assert_int_equal(COMMAND(out, "--help"), 0);
}

static void test_a_service_without_a_limit_is_asked_by_its_reservation(void **state)
{
	struct what_if what_if = what_if_make();
	struct what_if_cell cells[12];
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);

	(void)state;
	assert_non_null(file);
	what_if.config.service[0].reserves = 1;
	what_if.config.service[0].cores = 2;
	what_if.config.service[0].neighbour_cores = 8;
	what_if.config.service[0].neighbour_busy_us = 1e9;
	what_if.config.service[0].neighbour_idle_us = 1;
	what_if.config.service[0].neighbour_reserved_millicores = 1200;
	assert_int_equal(what_if_run(&what_if, cells), 0);
	for (int i = 0; i < 12; i++)
		assert_true(fabs(cells[i].allocated_cores -
				    cells[i].limit_millicores * cells[i].replicas / 1000) < 1e-3);
	/* 0.4 cores of two are needed: 150m of 1350m are 0.22 of them, 1200m of 2400m one. */
	assert_true(cells[0].violations > 0.9);
	assert_true(cells[0].used_cores < 0.35);
	assert_true(cells[3].holds);
	/* As a limit it would be far too little. */
	assert_true(cells[1].used_cores > 0.38);
	assert_int_equal(what_if_draw(file, &what_if, cells), 0);
	assert_int_equal(fclose(file), 0);
	assert_non_null(strstr(text, "CPU reservation of one replica"));
	free(text);
	/* Less than the demand is worth a look. */
	what_if_choose_limits(&what_if);
	assert_true(what_if.limit_millicores[0] < 0.3 * 400 / 3);
}

static void test_the_command_says_what_is_reserved(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(COMMAND(out, "--rate", "100", "--work-ms", "4", "--set", "reserves=1",
				 "--set", "neighbour_cores=4", "--limits", "1500m", "--replicas",
				 "1", "--seconds", "30"),
		0);
	assert_non_null(strstr(out, "neighbours reserve 1000m and want 4 cores, 20 %"));
	assert_non_null(strstr(out, "replicas reserved "));
	assert_int_equal(COMMAND(out, "--rate", "100", "--set", "reserves=1", "--limits", "500m",
				 "--replicas", "1", "--seconds", "30", "--csv", "-"),
		0);
	assert_non_null(strstr(out, "replicas,reserved_millicores,"));
	assert_int_equal(
		COMMAND(out, "--rate", "100", "--set", "reserves=1", "--reflex", "0.3:3:800m"), 2);
	assert_non_null(strstr(out, "--reflex and --burst-ms need a CPU limit"));
	assert_int_equal(
		COMMAND(out, "--rate", "100", "--set", "reserves=1", "--burst-ms", "5"), 2);
	assert_int_equal(COMMAND(out, "--rate", "100", "--set", "reserves=0.5"), 2);
	assert_int_equal(COMMAND(out, "--rate", "100", "--set", "weight_scale=3"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_more_cpu_and_more_replicas_are_no_worse),
		cmocka_unit_test(test_the_cheapest_that_holds_is_chosen),
		cmocka_unit_test(test_chosen_limits_reach_from_too_little_to_plenty),
		cmocka_unit_test(test_the_picture_has_a_field_for_each_pair_and_frames_one),
		cmocka_unit_test(test_the_command_prints_the_grid),
		cmocka_unit_test(test_a_service_without_a_limit_is_asked_by_its_reservation),
		cmocka_unit_test(test_the_command_says_what_is_reserved),
		cmocka_unit_test(test_wrong_usage_is_named),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
