// SPDX-License-Identifier: Apache-2.0
/* A report as bytes to the learner: answered as a whole, or refused with the field's name. */
#include "learner/learner.h"
#include "wire.pb-c.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UNITS 2

/* A sound report; tests change one field of it. */
struct message {
	Ebbtide__Wire__Report report;
	Ebbtide__Wire__Unit units[UNITS];
	Ebbtide__Wire__Unit *list[UNITS];
	Ebbtide__Wire__Sample samples[UNITS];
	Ebbtide__Wire__Experience experience; /* of the first unit */
	float state[STATE_SIZE];
	float next_state[STATE_SIZE];
};

struct fixture {
	struct learner learner;
	struct message message;
	char error[256];
};

static int brains_open(struct learner *learner)
{
	struct brain_options options = {.name = "vertical",
		.inputs = STATE_SIZE,
		.actions = ACTION_VERTICAL,
		.capacity = 256,
		.replay_ratio = 1,
		.updates_per_s_max = 100};
	int err;

	train_config_init(&options.train);
	options.train.n_step = 1;
	err = brain_open(&learner->vertical, &options);
	options.name = "horizontal";
	options.actions = ACTION_HORIZONTAL;
	if (!err)
		err = brain_open(&learner->horizontal, &options);
	return err;
}

static void message_init(struct message *m)
{
	static const char *const services[UNITS] = {"fibonacci", "matrix"};

	ebbtide__wire__report__init(&m->report);
	ebbtide__wire__experience__init(&m->experience);
	for (int i = 0; i < STATE_SIZE; i++) {
		m->state[i] = 0.5F * state_features[i].lowest;
		m->next_state[i] = 0.25F * state_features[i].highest;
	}
	m->report.schema = STATE_SCHEMA;
	m->report.agent = (char *)"node-1";
	m->report.incarnation = 17;
	m->report.sequence = 1;
	m->report.n_units = UNITS;
	m->report.units = m->list;
	for (int i = 0; i < UNITS; i++) {
		ebbtide__wire__sample__init(&m->samples[i]);
		m->samples[i].tick_s = 1;
		m->samples[i].requests = 100;
		m->samples[i].latency_objective_us = 9000;
		m->samples[i].containers = 1;
		m->samples[i].cpu_limit_millicores = 500;
		m->samples[i].memory_limit_bytes = 64 << 20;
		ebbtide__wire__unit__init(&m->units[i]);
		m->units[i].namespace_ = (char *)"default";
		m->units[i].service = (char *)services[i];
		m->units[i].sample = &m->samples[i];
		m->units[i].n_state = STATE_SIZE;
		m->units[i].state = m->state;
		m->units[i].decide = true;
		m->units[i].cpu_declared_millicores = 1000;
		m->units[i].memory_declared_bytes = 128 << 20;
		m->list[i] = &m->units[i];
	}
	m->experience.n_state = m->experience.n_next_state = STATE_SIZE;
	m->experience.state = m->state;
	m->experience.next_state = m->next_state;
	m->experience.action = 3;
	m->experience.reward = -0.25F;
	m->units[0].experience = &m->experience;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	pthread_mutex_init(&f->learner.lock, NULL);
	random_seed(&f->learner.random, 1);
	policy_config_init(&f->learner.config.policy);
	message_init(&f->message);
	for (int i = 0; i < UNITS; i++) {
		struct service *service =
			services_get(&f->learner.services, "default", f->message.units[i].service);

		if (!service)
			return -1;
		service->has_objective = true;
		service->objective.cpu_max_millicores = 1000;
		service->objective.memory_max_bytes = 128 << 20;
	}
	return brains_open(&f->learner);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	services_free(&f->learner.services);
	sequences_free(&f->learner.sequences);
	brain_close(f->learner.vertical);
	brain_close(f->learner.horizontal);
	free(f);
	return 0;
}

/* The answer (free it), or NULL when refused; then f->error holds why. */
static Ebbtide__Wire__Answer *send(struct fixture *f)
{
	size_t size = ebbtide__wire__report__get_packed_size(&f->message.report), answer_size = 0;
	Ebbtide__Wire__Answer *answer = NULL;
	uint8_t *bytes = malloc(size + 1), *packed = NULL;
	int err;

	assert_non_null(bytes);
	ebbtide__wire__report__pack(&f->message.report, bytes);
	f->error[0] = '\0';
	err = report_handle(
		&f->learner, bytes, size, &packed, &answer_size, f->error, sizeof(f->error));
	free(bytes);
	if (err) {
		assert_int_equal(err, -EINVAL);
		assert_null(packed);
		return NULL;
	}
	answer = ebbtide__wire__answer__unpack(NULL, answer_size, packed);
	free(packed);
	assert_non_null(answer);
	return answer;
}

/* How many actions the answer has. */
static size_t send_counting(struct fixture *f)
{
	Ebbtide__Wire__Answer *answer = send(f);
	size_t count;

	if (!answer)
		fail_msg("refused: %s", f->error);
	count = answer->n_actions;
	assert_true(answer->sequence == f->message.report.sequence);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	return count;
}

static struct service *first_service(struct fixture *f)
{
	return services_find(&f->learner.services, "default", "fibonacci");
}

static void assert_refused(struct fixture *f, const char *field)
{
	assert_null(send(f));
	if (strncmp(f->error, field, strlen(field)) != 0)
		fail_msg("\"%s\" does not begin with \"%s\"", f->error, field);
	/* A refused report leaves nothing behind, its sound units included. */
	assert_int_equal(f->learner.counts.experiences, 0);
	assert_int_equal(sequences_count(&f->learner.sequences), 0);
	assert_int_equal(first_service(f)->unit_count, 0);
	message_init(&f->message);
}

static void test_every_unit_that_asks_gets_an_action_within_its_bounds(void **state)
{
	struct fixture *f = *state;
	Ebbtide__Wire__Answer *answer = send(f);

	assert_non_null(answer);
	assert_true(answer->sequence == 1);
	assert_int_equal(answer->n_actions, UNITS);
	for (size_t i = 0; i < UNITS; i++) {
		const Ebbtide__Wire__Action *action = answer->actions[i];

		assert_string_equal(action->namespace_, "default");
		assert_string_equal(action->service, f->message.units[i].service);
		assert_true(action->action < ACTION_VERTICAL);
		assert_true(action->apply);
		assert_true(action->cpu_limit_millicores >= 10);
		assert_true(action->cpu_limit_millicores <= 1000);
		assert_true(action->memory_limit_bytes <= 128 << 20);
		assert_int_equal(action->n_q, ACTION_VERTICAL);
		assert_string_equal(action->policy, "dqn");
		assert_true(action->why[0] != '\0');
	}
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	assert_int_equal(f->learner.counts.reports, 1);
	assert_int_equal(f->learner.counts.actions, UNITS);
}

static void test_an_experience_is_stored_with_its_reward(void **state)
{
	struct fixture *f = *state;
	struct brain_status status;

	send_counting(f);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, 1);
	assert_int_equal(first_service(f)->counts.experiences, 1);
	assert_true(first_service(f)->counts.reward_sum == -0.25);
}

static void test_a_repeated_report_is_stored_once_and_answered_as_the_first(void **state)
{
	struct fixture *f = *state;
	struct brain_status status;

	/* The first answer may have been lost on its way. */
	assert_int_equal(send_counting(f), UNITS);
	assert_int_equal(send_counting(f), UNITS);
	assert_int_equal(first_service(f)->period.requests, 100);
	assert_int_equal(first_service(f)->counts.experiences, 1);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, 1);
	assert_int_equal(f->learner.counts.reports, 1);
	assert_int_equal(f->learner.counts.reports_repeated, 1);
}

static void test_a_spooled_report_teaches_but_decides_nothing(void **state)
{
	struct fixture *f = *state;
	struct brain_status status;

	f->message.report.sequence = 10;
	assert_int_equal(send_counting(f), UNITS);
	f->message.report.sequence = 4;
	f->message.state[0] = 2;
	f->message.samples[0].requests = 77;
	assert_int_equal(send_counting(f), 0);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, 2);
	/* What it measured is not what is now. */
	assert_true(first_service(f)->units[0]->state[0] != 2);
	assert_int_equal(first_service(f)->units[0]->sample.requests, 100);
	assert_int_equal(send_counting(f), 0);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, 2);
}

static void test_a_sequence_in_a_forgotten_gap_is_refused(void **state)
{
	struct fixture *f = *state;

	f->message.report.n_units = 0;
	for (uint64_t i = 1; i <= SEQUENCES_RANGES + 1; i++) {
		f->message.report.sequence = 2 * i;
		send_counting(f);
	}
	/* Nobody knows whether it was stored: it must not be acknowledged. */
	f->message.report.sequence = 3;
	assert_null(send(f));
	assert_non_null(strstr(f->error, "sequence: 3 is older"));
	f->message.report.sequence = 5;
	assert_int_equal(send_counting(f), 0);
}

static void test_a_repeated_report_from_a_spool_is_acknowledged_only(void **state)
{
	struct fixture *f = *state;

	f->message.report.sequence = 10;
	send_counting(f);
	f->message.report.sequence = 4;
	send_counting(f);
	assert_int_equal(send_counting(f), 0);
	assert_int_equal(f->learner.counts.reports, 2);
	assert_int_equal(f->learner.counts.reports_repeated, 1);
}

static void test_an_agent_that_started_anew_begins_at_one(void **state)
{
	struct fixture *f = *state;

	send_counting(f);
	f->message.report.incarnation++;
	assert_int_equal(send_counting(f), UNITS);
	f->message.report.agent = (char *)"node-2";
	assert_int_equal(send_counting(f), UNITS);
	assert_int_equal(sequences_count(&f->learner.sequences), 3);
	assert_int_equal(f->learner.counts.reports, 3);
	/* The unit of one node is the same after its agent's restart. */
	assert_int_equal(first_service(f)->unit_count, 2);
}

static void test_what_starts_is_kept_up_and_teaches_nothing(void **state)
{
	struct fixture *f = *state;
	struct service *service = first_service(f);
	Ebbtide__Wire__Answer *answer;
	uint32_t rung;

	f->message.report.n_units = 1;
	ebbtide__wire__answer__free_unpacked(send(f), NULL);
	rung = service->units[0]->plan.cpu_rung;

	/* It began anew, on its owner's limit. */
	f->message.units[0].starting = 1;
	f->message.samples[0].cpu_limit_millicores = 1000;
	f->message.report.sequence++;
	answer = send(f);
	assert_non_null(answer);
	assert_string_equal(answer->actions[0]->rule, "starting");
	assert_true(answer->actions[0]->cpu_limit_millicores == 1000);
	assert_int_equal(answer->actions[0]->action, POLICY_NO_ACTION);
	/* It goes on from where the service was, not from where the owner's limit would be. */
	assert_in_range(answer->actions[0]->cpu_rung, rung, rung + 1);
	ebbtide__wire__answer__free_unpacked(answer, NULL);

	f->message.units[0].starting = 0;
	f->message.report.sequence++;
	answer = send(f);
	assert_non_null(answer);
	assert_true(answer->actions[0]->cpu_limit_millicores < 1000);
	assert_true(answer->actions[0]->action < ACTION_VERTICAL);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_a_unit_without_a_limit_gets_a_request_and_no_limit(void **state)
{
	struct fixture *f = *state;
	Ebbtide__Wire__Answer *answer;

	f->message.report.n_units = 2;
	for (int i = 0; i < 2; i++) {
		f->message.units[i].cpu_declared_millicores = 0;
		f->message.samples[i].cpu_limit_millicores = 0;
	}
	/* The other agent is of before: it says nothing of a reservation. */
	f->message.samples[0].cpu_reserved_millicores = 400;
	strcpy(first_service(f)->objective.policy, "static");
	answer = send(f);
	assert_int_equal(answer->n_actions, 2);
	assert_true(answer->actions[0]->cpu_request_millicores == 1000);
	assert_true(answer->actions[0]->cpu_limit_millicores == 0);
	assert_true(answer->actions[1]->cpu_request_millicores == 0);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
	/* And one with a limit no request. */
	f->message.report.sequence++;
	f->message.samples[0].cpu_limit_millicores = 500;
	f->message.units[0].cpu_declared_millicores = 1000;
	answer = send(f);
	assert_true(answer->actions[0]->cpu_limit_millicores == 1000);
	assert_true(answer->actions[0]->cpu_request_millicores == 0);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_an_allowance_goes_with_the_action_that_has_one(void **state)
{
	struct fixture *f = *state;
	struct objective *objective = &first_service(f)->objective;
	const Ebbtide__Wire__Allowance *allowance;
	Ebbtide__Wire__Answer *answer;

	f->message.report.n_units = 1;
	strcpy(objective->policy, "static");
	answer = send(f);
	assert_int_equal(answer->n_actions, 1);
	assert_null(answer->actions[0]->allowance);
	ebbtide__wire__answer__free_unpacked(answer, NULL);

	strcpy(objective->policy, "static+reflex+burst");
	f->message.report.sequence++;
	answer = send(f);
	assert_non_null(answer);
	allowance = answer->actions[0]->allowance;
	assert_non_null(allowance);
	assert_true(allowance->trigger_age_share == 0.4F);
	assert_int_equal(allowance->refills_per_period, 8);
	assert_true(allowance->ceiling_millicores == 1000);
	assert_int_equal(allowance->burst_us, 100000);
	assert_string_equal(answer->actions[0]->policy, "static+reflex+burst");
	ebbtide__wire__answer__free_unpacked(answer, NULL);

	/* What is not to be carried out allows nothing. */
	objective->mode = OBJECTIVE_RECOMMEND;
	f->message.report.sequence++;
	answer = send(f);
	assert_false(answer->actions[0]->apply);
	assert_null(answer->actions[0]->allowance);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

static void test_modes_say_what_is_carried_out(void **state)
{
	struct fixture *f = *state;
	Ebbtide__Wire__Answer *answer;

	f->message.report.n_units = 1;
	first_service(f)->objective.mode = OBJECTIVE_OBSERVE;
	assert_int_equal(send_counting(f), 0);
	first_service(f)->objective.mode = OBJECTIVE_RECOMMEND;
	f->message.report.sequence++;
	answer = send(f);
	assert_int_equal(answer->n_actions, 1);
	assert_false(answer->actions[0]->apply);
	/* Learnt from is what was done. */
	assert_int_equal(answer->actions[0]->action, ACTION_VERTICAL_HOLD);
	ebbtide__wire__answer__free_unpacked(answer, NULL);
}

/* The status tells of the last change, so of none where nothing is carried out. */
static void test_only_what_is_carried_out_is_the_last_action(void **state)
{
	struct fixture *f = *state;
	struct service *service = first_service(f);

	f->message.report.n_units = 1;
	/* The upper bound, at once: no hold. */
	strcpy(service->objective.policy, "static");
	service->objective.mode = OBJECTIVE_RECOMMEND;
	assert_int_equal(send_counting(f), 1);
	assert_true(service->recommended_millicores == 1000);
	assert_string_equal(service->last_action, "");
	service->objective.mode = OBJECTIVE_AUTO;
	f->message.report.sequence++;
	assert_int_equal(send_counting(f), 1);
	assert_string_not_equal(service->last_action, "");
}

static void test_an_end_is_recommended_and_not_the_first_step(void **state)
{
	struct fixture *f = *state;
	struct service *service = first_service(f);
	const double step = 0.7 * 500;

	/* No load at all: nothing holds the limit up but how far it may fall in a tick. */
	f->message.report.n_units = 1;
	service->objective.mode = OBJECTIVE_RECOMMEND;
	service->objective.cpu_min_millicores = 50;
	for (int i = 0; i < 20; i++) {
		Ebbtide__Wire__Answer *answer = send(f);

		f->message.report.sequence++;
		/* What is decided goes from what is in force. */
		assert_true(answer->actions[0]->cpu_limit_millicores >= step);
		ebbtide__wire__answer__free_unpacked(answer, NULL);
	}
	assert_true(service->recommended_millicores == 50);
	/* What is carried out is shown as it is decided. */
	service->objective.mode = OBJECTIVE_AUTO;
	assert_int_equal(send_counting(f), 1);
	assert_true(service->recommended_millicores >= step);
	/* And it begins anew from there. */
	service->objective.mode = OBJECTIVE_RECOMMEND;
	f->message.report.sequence++;
	assert_int_equal(send_counting(f), 1);
	assert_true(service->recommended_millicores >= step);
}

static void test_no_action_without_objective_or_without_asking(void **state)
{
	struct fixture *f = *state;

	f->message.units[0].decide = false;
	assert_int_equal(send_counting(f), 1);
	f->message.units[0].decide = true;
	f->message.units[0].service = (char *)"nobody-asked";
	f->message.report.sequence++;
	assert_int_equal(send_counting(f), 1);
}

static void test_a_malformed_head_is_refused_with_its_field(void **state)
{
	struct fixture *f = *state;
	char longest[257];

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	f->message.report.schema = STATE_SCHEMA + 1;
	assert_refused(f, "schema: ");
	f->message.report.agent = (char *)"";
	assert_refused(f, "agent: ");
	f->message.report.agent = longest;
	assert_refused(f, "agent: ");
	f->message.report.sequence = 0;
	assert_refused(f, "sequence: ");
}

static void test_a_malformed_unit_is_refused_with_its_index_and_field(void **state)
{
	struct fixture *f = *state;
	struct message *m = &f->message;
	char longest[OBJECTIVE_NAME_MAX + 1];

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	m->units[1].namespace_ = (char *)"";
	assert_refused(f, "units[1].namespace: ");
	m->units[1].namespace_ = longest;
	assert_refused(f, "units[1].namespace: ");
	m->units[1].service = (char *)"";
	assert_refused(f, "units[1].service: ");
	m->units[1].service = longest;
	assert_refused(f, "units[1].service: ");
	m->units[1].sample = NULL;
	assert_refused(f, "units[1].sample: missing");
	m->units[1].n_state = STATE_SIZE - 1;
	assert_refused(f, "units[1].state: 31 values");
	m->units[1].n_state = 0;
	assert_refused(f, "units[1].state: 0 values");
	m->state[STATE_SIZE - 1] = NAN;
	assert_refused(f, "units[0].state: ");
	m->units[1].cpu_declared_millicores = -1;
	assert_refused(f, "units[1].cpu_declared_millicores: ");
	m->units[1].cpu_declared_millicores = (double)INFINITY;
	assert_refused(f, "units[1].cpu_declared_millicores: ");
}

static void test_a_number_of_a_sample_that_is_none_is_refused(void **state)
{
	struct fixture *f = *state;
	Ebbtide__Wire__Sample *s = &f->message.samples[1];
#define FIELD(name)                                                                                \
	{                                                                                          \
		"units[1].sample." #name ": ", &s->name                                            \
	}
	const struct {
		const char *text;
		double *value;
	} numbers[] = {FIELD(tick_s), FIELD(latency_p50_us), FIELD(latency_p95_us),
		FIELD(latency_p99_us), FIELD(latency_objective_us), FIELD(in_flight),
		FIELD(cpu_limit_millicores)};
	const struct {
		const char *text;
		uint64_t *value;
	} bytes[] = {FIELD(memory_used_bytes), FIELD(memory_peak_bytes),
		FIELD(memory_working_set_bytes), FIELD(memory_limit_bytes)};
#undef FIELD
	const double bad[] = {-1, (double)NAN, (double)INFINITY, -(double)INFINITY};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		for (size_t k = 0; k < 4; k++) {
			*numbers[i].value = bad[k];
			assert_refused(f, numbers[i].text);
		}
	}
	for (size_t i = 0; i < 4; i++) {
		*bytes[i].value = (1ULL << 60) + 1;
		assert_refused(f, bytes[i].text);
	}
}

static void test_a_malformed_experience_is_refused(void **state)
{
	struct fixture *f = *state;
	struct message *m = &f->message;

	m->experience.n_state = 3;
	assert_refused(f, "units[0].experience.state: 3 values");
	m->experience.n_next_state = 0;
	assert_refused(f, "units[0].experience.next_state: 0 values");
	m->next_state[7] = INFINITY;
	assert_refused(f, "units[0].experience.next_state: value 7 (throttled) is inf");
	m->state[STATE_latency_p99] = 3.5F;
	assert_refused(f, "units[0].state: value 2 (latency_p99) is 3.5, expected -3 to 3");
	m->next_state[STATE_replicas] = -0.01F;
	assert_refused(f, "units[0].experience.next_state: value 15 (replicas)");
	m->experience.reward = -101;
	assert_refused(f, "units[0].experience.reward: -101, expected -100 to 100");
	m->experience.reward = NAN;
	assert_refused(f, "units[0].experience.reward: ");
	m->experience.action = ACTION_VERTICAL;
	assert_refused(f, "units[0].experience.action: 9");
	m->experience.action = UINT32_MAX;
	assert_refused(f, "units[0].experience.action: ");
}

/* More units than are worked on at a time. */
static void test_a_large_report_is_taken_or_refused_as_a_whole(void **state)
{
	enum {
		MANY = 150
	};
	struct fixture *f = *state;
	static Ebbtide__Wire__Unit units[MANY];
	static Ebbtide__Wire__Unit *list[MANY];
	static char names[MANY][24];
	struct brain_status status;

	for (int i = 0; i < MANY; i++) {
		struct service *service;

		units[i] = f->message.units[0];
		snprintf(names[i], sizeof(names[i]), "many-%d", i);
		units[i].service = names[i];
		list[i] = &units[i];
		service = services_get(&f->learner.services, "default", names[i]);
		assert_non_null(service);
		service->has_objective = true;
	}
	f->message.report.n_units = MANY;
	f->message.report.units = list;
	units[MANY - 1].n_state = 3;
	assert_null(send(f));
	assert_string_equal(f->error, "units[149].state: 3 values, expected 32");
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, 0);
	assert_int_equal(f->learner.services.unit_count, 0);
	units[MANY - 1].n_state = STATE_SIZE;
	assert_int_equal(send_counting(f), MANY);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, MANY);
	assert_int_equal(f->learner.services.unit_count, MANY);
	assert_int_equal(send_counting(f), MANY);
	brain_read_status(f->learner.vertical, &status);
	assert_int_equal(status.stored, MANY);
}

static void test_bytes_that_are_no_report_are_refused(void **state)
{
	struct fixture *f = *state;
	static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00};
	uint8_t *answer = NULL;
	size_t size;

	assert_int_equal(report_handle(&f->learner, garbage, sizeof(garbage), &answer, &size,
				 f->error, sizeof(f->error)),
		-EINVAL);
	assert_non_null(strstr(f->error, "body: "));
	/* No bytes are a report whose fields are all missing. */
	assert_int_equal(
		report_handle(&f->learner, garbage, 0, &answer, &size, f->error, sizeof(f->error)),
		-EINVAL);
	assert_non_null(strstr(f->error, "schema: 0"));
	assert_null(answer);
}

static void test_every_cut_report_is_refused_or_answered(void **state)
{
	struct fixture *f = *state;
	size_t size = ebbtide__wire__report__get_packed_size(&f->message.report);
	uint8_t *bytes = malloc(size);

	assert_non_null(bytes);
	ebbtide__wire__report__pack(&f->message.report, bytes);
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *exact = malloc(cut ? cut : 1), *answer = NULL;
		size_t answer_size;
		int err;

		assert_non_null(exact);
		memcpy(exact, bytes, cut);
		f->error[0] = '\0';
		err = report_handle(
			&f->learner, exact, cut, &answer, &answer_size, f->error, sizeof(f->error));
		assert_true(err ? f->error[0] != '\0' : answer != NULL);
		free(answer);
		free(exact);
	}
	free(bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_unit_that_asks_gets_an_action_within_its_bounds),
		TEST(test_an_experience_is_stored_with_its_reward),
		TEST(test_a_repeated_report_is_stored_once_and_answered_as_the_first),
		TEST(test_a_spooled_report_teaches_but_decides_nothing),
		TEST(test_a_sequence_in_a_forgotten_gap_is_refused),
		TEST(test_a_repeated_report_from_a_spool_is_acknowledged_only),
		TEST(test_an_agent_that_started_anew_begins_at_one),
		TEST(test_what_starts_is_kept_up_and_teaches_nothing),
		TEST(test_a_unit_without_a_limit_gets_a_request_and_no_limit),
		TEST(test_an_allowance_goes_with_the_action_that_has_one),
		TEST(test_modes_say_what_is_carried_out),
		TEST(test_only_what_is_carried_out_is_the_last_action),
		TEST(test_an_end_is_recommended_and_not_the_first_step),
		TEST(test_no_action_without_objective_or_without_asking),
		TEST(test_a_malformed_head_is_refused_with_its_field),
		TEST(test_a_malformed_unit_is_refused_with_its_index_and_field),
		TEST(test_a_number_of_a_sample_that_is_none_is_refused),
		TEST(test_a_malformed_experience_is_refused),
		TEST(test_a_large_report_is_taken_or_refused_as_a_whole),
		TEST(test_bytes_that_are_no_report_are_refused),
		TEST(test_every_cut_report_is_refused_or_answered),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
