// SPDX-License-Identifier: Apache-2.0
/* One policy on one row of the comparison, and the grid of its settings. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/policy/learnt.h"
#include "bench/policy/policy.h"

#define SECONDS 60

/* 100 requests of 5 ms a second: half a core. */
static const double rate = 100;
static const struct bench_row row = {.name = "test",
	.work_ms = 5,
	.work_cv = 0.5,
	.objective_ms = 50,
	.shape = LOAD_FILE,
	.cores = 0.5,
	.replicas = 1};

/* The same without a limit, beside neighbours that come and go and then want all of two cores. */
static const struct bench_row reserving = {.name = "without",
	.work_ms = 5,
	.work_cv = 0.5,
	.objective_ms = 50,
	.shape = LOAD_FILE,
	.cores = 0.5,
	.replicas = 1,
	.reserving = &(const struct row_reserving){2, 4, 1000, 5}};

static struct bench_outcome play_row(
	const struct bench_row *played, const struct bench_setting *setting, uint64_t seed)
{
	const struct simulate_trace trace = {.rate_per_s = &rate, .seconds = 1, .scale = 1};
	struct simulation *simulation = NULL;
	struct bench_outcome outcome;

	assert_int_equal(
		bench_play(&simulation, played, &trace, SECONDS, seed, setting, &outcome), 0);
	simulate_destroy(simulation);
	assert_int_equal(outcome.windows, SECONDS);
	return outcome;
}

static struct bench_outcome play(const struct bench_setting *setting, uint64_t seed)
{
	return play_row(&row, setting, seed);
}

static const struct bench_policy *rule(const char *family)
{
	for (uint32_t i = 0; i < policy_rule_count; i++)
		if (strcmp(policy_rules[i].family, family) == 0)
			return &policy_rules[i];
	fail_msg("no rule %s", family);
	return NULL;
}

static struct bench_setting setting_of(const char *family, const char *name, const char *parameters)
{
	struct bench_setting setting = {.policy = rule(family)};

	snprintf(setting.name, sizeof(setting.name), "%s", name);
	snprintf(setting.parameters, sizeof(setting.parameters), "%s", parameters);
	return setting;
}

static void test_plenty_is_allocated_and_breaks_nothing(void **state)
{
	struct bench_setting setting = setting_of("static", "static", "static.cpu_share=0.25");
	struct bench_outcome outcome = play(&setting, 1);

	(void)state;
	assert_float_equal(outcome.allocated_cores, 4, 1e-3);
	assert_float_equal(outcome.allocated_p99_cores, 4, 1e-3);
	assert_float_equal(outcome.used_cores, 0.5, 0.05);
	assert_float_equal(outcome.violations, 0, 1e-12);
	assert_float_equal(outcome.memory_bytes, 512 * 1048576.0, 64);
	assert_float_equal(outcome.replica_s, SECONDS, 1e-9);
	assert_float_equal(outcome.actions_per_h, 0, 1e-9);
}

static void test_too_little_breaks_every_window(void **state)
{
	struct bench_setting setting = setting_of("static", "static", "static.cpu_share=0.02");
	struct bench_outcome outcome = play(&setting, 1);

	(void)state;
	assert_float_equal(outcome.violations, 1, 1e-12);
	assert_true(outcome.latency_ms > 50);
	assert_true(outcome.worst_window_ms >= outcome.latency_ms);
}

static void test_the_reflex_holds_what_the_limit_alone_does_not(void **state)
{
	struct bench_setting alone = setting_of("static", "static", "static.cpu_share=0.034");
	struct bench_setting reflex = setting_of("static", "static+reflex+burst",
		"static.cpu_share=0.034, reflex.trigger_age_share=0.3");
	struct bench_outcome without = play(&alone, 1), with = play(&reflex, 1);

	(void)state;
	assert_true(without.violations > 0.3);
	assert_true(without.refills_per_s <= 0);
	assert_float_equal(with.violations, 0, 1e-12);
	assert_true(with.refills_per_s > 0);
}

static void test_a_run_depends_on_its_seed_alone(void **state)
{
	struct bench_setting captain = setting_of("captain", "captain", "");
	struct bench_setting other = setting_of("vpa", "vpa", "");
	struct bench_outcome first = play(&captain, 3), between = play(&other, 4),
			     again = play(&captain, 3), seed = play(&captain, 4);

	(void)state, (void)between;
	assert_memory_equal(&first, &again, sizeof(first));
	assert_true(fabs(first.used_cores - seed.used_cores) > 0);
}

static void test_without_a_limit_the_reservation_is_what_is_set_aside(void **state)
{
	struct bench_setting plenty = setting_of("static", "static", "static.cpu_share=0.9");
	struct bench_setting little = setting_of("static", "static", "static.cpu_share=0.02");
	struct bench_outcome outcome = play_row(&reserving, &plenty, 1);

	(void)state;
	assert_false(row_is_about_cpu(&reserving));
	assert_float_equal(outcome.allocated_cores, 1.8, 1e-3);
	assert_float_equal(outcome.used_cores, 0.5, 0.05);
	assert_float_equal(outcome.violations, 0, 1e-12);
	outcome = play_row(&reserving, &little, 1);
	/* The neighbours are away half of the time, and then all is well. */
	assert_float_equal(outcome.allocated_cores, 0.04, 1e-3);
	assert_true(outcome.violations > 0.2 && outcome.violations < 0.9);
}

static void test_what_is_learnt_moves_the_reservation(void **state)
{
	struct learnt learnt;
	struct bench_setting setting = {.name = "dqn", .asked = 0.01, .reserves = true};
	struct bench_outcome outcome;

	(void)state;
	assert_int_equal(learnt_load(&learnt, NULL, NULL), 0);
	setting.policy = &learnt.policy;
	outcome = play_row(&reserving, &setting, 1);
	assert_true(outcome.actions_per_h > 0);
	assert_true(outcome.refills_per_s <= 0);
	/* It began with all of the node. */
	assert_true(outcome.allocated_cores > 0.25 && outcome.allocated_cores < 1.8);
	learnt_free(&learnt);
}

static char *printed(void (*print)(FILE *, const struct bench_field *, uint32_t),
	const struct bench_field *field)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	assert_non_null(file);
	print(file, field, 1);
	fclose(file);
	return text;
}

static void test_a_row_without_a_limit_is_in_its_own_table_alone(void **state)
{
	struct bench_setting settings[] = {
		setting_of("static", "static", "static.cpu_share=0.5"),
		setting_of("k8s-cpu", "k8s-cpu", ""),
	};
	struct bench_outcome outcomes[] = {
		play_row(&reserving, &settings[0], 1), play_row(&reserving, &settings[1], 1)};
	struct bench_field field = {
		.row = &reserving, .settings = settings, .setting_count = 2, .outcomes = outcomes};
	char *own = printed(table_reserving, &field), *summary = printed(table_summary, &field),
	     *figures = printed(figures_print, &field), *other;

	(void)state;
	assert_non_null(strstr(own, "without: no CPU limit"));
	assert_non_null(strstr(own, "| static | 1.000 |"));
	assert_non_null(strstr(own, "| k8s-cpu | "));
	assert_string_equal(summary, "");
	assert_null(strstr(figures, "figure "));
	field.row = &row;
	other = printed(table_reserving, &field);
	assert_string_equal(other, "");
	free(own);
	free(summary);
	free(figures);
	free(other);
}

static void test_every_setting_of_the_grids_can_be_played(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < bench_row_count; i++) {
		struct bench_setting *settings;
		uint32_t count;

		if (row_is_about_cpu(&bench_rows[i]) && i > 0)
			continue;
		assert_int_equal(grid_make(&bench_rows[i], NULL, false, &settings, &count), 0);
		assert_in_range(count, 10, BENCH_POINTS_MAX);
		for (uint32_t j = 0; j < count; j++) {
			struct objective objective;
			void *run;

			row_objective(&bench_rows[i], &objective);
			assert_int_equal(
				settings[j].policy->start(&run, &settings[j], &objective), 0);
			settings[j].policy->end(run);
		}
		free(settings);
	}
}

static void test_what_is_learnt_is_asked_for_each_share(void **state)
{
	const struct bench_policy learnt = {.family = "dqn", .tick_s = 1};
	struct bench_setting *settings;
	uint32_t count, asked = 0;

	(void)state;
	assert_int_equal(grid_make(&bench_rows[0], &learnt, true, &settings, &count), 0);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(settings[i].name, "dqn") == 0) {
			assert_ptr_equal(settings[i].policy, &learnt);
			assert_float_equal(settings[i].asked, asked_shares[asked], 1e-12);
			asked++;
		}
	assert_int_equal(asked, asked_share_count);
	free(settings);
}

static void test_drawn_loads_come_from_their_seed(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < bench_row_count; i++) {
		double *first, *again, *other;
		uint32_t seconds;

		if (bench_rows[i].shape == LOAD_FILE)
			continue;
		assert_int_equal(row_rates(&bench_rows[i], 1, 1, &first, &seconds), 0);
		assert_int_equal(seconds, ROW_TRACE_S);
		assert_int_equal(row_rates(&bench_rows[i], 1, 1, &again, &seconds), 0);
		assert_int_equal(row_rates(&bench_rows[i], 1, 2, &other, &seconds), 0);
		assert_memory_equal(first, again, seconds * sizeof(*first));
		assert_memory_not_equal(first, other, seconds * sizeof(*first));
		for (uint32_t s = 0; s < seconds; s++)
			assert_true(first[s] > 0);
		free(first);
		free(again);
		free(other);
	}
}

static void test_rows_are_read_from_a_file(void **state)
{
	static struct bench_row rows[BENCH_ROWS_MAX];
	char path[] = "/tmp/ebbtide-rows-XXXXXX";
	int fd = mkstemp(path);
	uint32_t count;

	(void)state;
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "# name work cv wait objective trace cores bursts replicas\n\n"
				"mine 5 1 2 50 a/trace.txt 1.5 1 2 # mine\n") > 0);
	assert_int_equal(rows_read(path, rows, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(rows[0].name, "mine");
	assert_string_equal(rows[0].file, "a/trace.txt");
	assert_string_equal(row_load_name(&rows[0]), "trace.txt");
	assert_float_equal(rows[0].wait_ms, 2, 1e-12);
	assert_float_equal(rows[0].cores, 1.5, 1e-12);
	assert_true(rows[0].bursts);
	assert_int_equal(rows[0].replicas, 2);
	assert_true(row_is_about_cpu(&rows[0]));
	free((char *)rows[0].name);
	free((char *)rows[0].file);
	assert_true(dprintf(fd, "short 5 1\n") > 0);
	assert_int_not_equal(rows_read(path, rows, &count), 0);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plenty_is_allocated_and_breaks_nothing),
		cmocka_unit_test(test_too_little_breaks_every_window),
		cmocka_unit_test(test_the_reflex_holds_what_the_limit_alone_does_not),
		cmocka_unit_test(test_a_run_depends_on_its_seed_alone),
		cmocka_unit_test(test_without_a_limit_the_reservation_is_what_is_set_aside),
		cmocka_unit_test(test_what_is_learnt_moves_the_reservation),
		cmocka_unit_test(test_a_row_without_a_limit_is_in_its_own_table_alone),
		cmocka_unit_test(test_every_setting_of_the_grids_can_be_played),
		cmocka_unit_test(test_what_is_learnt_is_asked_for_each_share),
		cmocka_unit_test(test_drawn_loads_come_from_their_seed),
		cmocka_unit_test(test_rows_are_read_from_a_file),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
