// SPDX-License-Identifier: Apache-2.0
/* A report as the agent encodes it, read by the wire's own code. */
#include "node/report_encode.h"
#include "wire.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UNITS 300

struct fixture {
	struct agent agent;
	struct container containers[UNITS];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char name[32];

	assert_non_null(f);
	f->agent.config.node = "node-1";
	f->agent.started_unix_us = 12345;
	for (int i = 0; i < UNITS; i++) {
		struct unit *unit;

		snprintf(name, sizeof(name), "service-%d", i);
		unit = units_get(&f->agent.units, "default", name);
		assert_non_null(unit);
		f->containers[i].original = (struct cgroup_limits){.cpu_quota_us = 50000,
			.cpu_period_us = 100000,
			.memory_max_bytes = 64 << 20};
		assert_int_equal(unit_add_container(unit, &f->containers[i]), 0);
		unit->has_objective = unit->has_state = true;
		unit->sample.requests = (uint64_t)i;
		unit->sample.latency_p99_us = 1.5 * i;
		for (int k = 0; k < STATE_SIZE; k++)
			unit->state[k] = (float)(i + k);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	while (f->agent.units.count > 0)
		units_remove(&f->agent.units, f->agent.units.items[0]);
	free(f->agent.units.items);
	free(f);
	return 0;
}

static Ebbtide__Wire__Report *encoded(struct fixture *f, bool decide, uint64_t *experiences)
{
	struct report_bytes report;
	Ebbtide__Wire__Report *read;

	assert_int_equal(report_encode(&f->agent, 7, decide, &report), 0);
	read = ebbtide__wire__report__unpack(NULL, report.size, report.bytes);
	assert_non_null(read);
	*experiences = report.experiences;
	free(report.bytes);
	return read;
}

static void test_every_unit_is_in_it_in_order(void **state)
{
	struct fixture *f = *state;
	uint64_t experiences;
	Ebbtide__Wire__Report *report = encoded(f, true, &experiences);

	assert_int_equal(report->schema, STATE_SCHEMA);
	assert_string_equal(report->agent, "node-1");
	assert_int_equal(report->incarnation, 12345);
	assert_int_equal(report->sequence, 7);
	assert_int_equal(report->n_units, UNITS);
	assert_int_equal(experiences, 0);
	for (size_t i = 0; i < UNITS; i++) {
		const Ebbtide__Wire__Unit *unit = report->units[i];

		assert_string_equal(unit->namespace_, "default");
		assert_string_equal(unit->service, f->agent.units.items[i]->service);
		assert_int_equal(unit->sample->requests, i);
		assert_true(unit->sample->latency_p99_us == 1.5 * (double)i);
		assert_int_equal(unit->n_state, STATE_SIZE);
		assert_true(unit->state[3] == (float)(i + 3));
		assert_true(unit->cpu_declared_millicores == 500);
		assert_int_equal(unit->memory_declared_bytes, 64 << 20);
		assert_true(unit->decide);
		assert_null(unit->experience);
	}
	ebbtide__wire__report__free_unpacked(report, NULL);
}

static void test_a_unit_with_nothing_to_tell_is_left_out(void **state)
{
	struct fixture *f = *state;
	uint64_t experiences;
	Ebbtide__Wire__Report *report;

	f->agent.units.items[0]->has_objective = false;
	f->agent.units.items[2]->has_state = false;
	report = encoded(f, false, &experiences);
	assert_int_equal(report->n_units, UNITS - 2);
	assert_string_equal(report->units[0]->service, "service-1");
	assert_string_equal(report->units[1]->service, "service-3");
	assert_false(report->units[0]->decide);
	ebbtide__wire__report__free_unpacked(report, NULL);
}

static void test_an_experience_is_told_once(void **state)
{
	struct fixture *f = *state;
	struct unit *unit = f->agent.units.items[5];
	uint64_t experiences;
	Ebbtide__Wire__Report *report;

	unit->acted = unit->has_previous = true;
	unit->action = 2;
	unit->reward = -1.25F;
	unit->previous_state[1] = 0.5F;
	report = encoded(f, true, &experiences);
	assert_int_equal(experiences, 1);
	assert_non_null(report->units[5]->experience);
	assert_int_equal(report->units[5]->experience->action, 2);
	assert_true(report->units[5]->experience->reward == -1.25F);
	assert_true(report->units[5]->experience->state[1] == 0.5F);
	assert_true(report->units[5]->experience->next_state[1] == unit->state[1]);
	ebbtide__wire__report__free_unpacked(report, NULL);
	report = encoded(f, true, &experiences);
	assert_int_equal(experiences, 0);
	assert_null(report->units[5]->experience);
	ebbtide__wire__report__free_unpacked(report, NULL);
}

/* More than the room that is made for usual ones. */
static void test_names_may_be_long(void **state)
{
	struct fixture *f = *state;
	uint64_t experiences;
	Ebbtide__Wire__Report *report;

	for (size_t i = 0; i < UNITS; i++) {
		struct unit *unit = f->agent.units.items[i];

		memset(unit->service, 'a' + (int)(i % 26), sizeof(unit->service) - 1);
		unit->acted = unit->has_previous = true;
		unit->action = 0;
	}
	report = encoded(f, true, &experiences);
	assert_int_equal(experiences, UNITS);
	assert_int_equal(report->n_units, UNITS);
	for (size_t i = 0; i < UNITS; i++)
		assert_string_equal(report->units[i]->service, f->agent.units.items[i]->service);
	ebbtide__wire__report__free_unpacked(report, NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_unit_is_in_it_in_order),
		TEST(test_a_unit_with_nothing_to_tell_is_left_out),
		TEST(test_an_experience_is_told_once),
		TEST(test_names_may_be_long),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
