// SPDX-License-Identifier: Apache-2.0
/* When a quota is written again: the decision, a period's account, and that nothing gets over. */
#include "node/limits/refill.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS     1000000ULL
#define PERIOD (100 * MS)

struct fixture {
	struct refill_terms terms;
	struct refill_state state;
	struct refill_seen seen;
};

/* 30 ms of 100, old from 20 ms on, four refills, at most 100 ms: throttled 35 ms into period 7. */
static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){
		.terms = {.quota_ns = 30 * MS,
			.period_ns = PERIOD,
			.trigger_ns = 20 * MS,
			.ceiling_ns = 100 * MS,
			.refills = 4,
			.stuck_refills = 20},
		.seen = {.now_ns = 1000 * MS + 35 * MS,
			.is_throttled = true,
			.in_flight = 3,
			.oldest_ns = 25 * MS,
			.completed = 10,
			.period = 7,
			.period_ends_ns = 1100 * MS,
			.used_ns = 5030 * MS,
			.pool_ns = 30 * MS},
	};
	*state = &fixture;
	return 0;
}

static struct refill_decision decide(struct fixture *f)
{
	(void)refill_look(&f->state, &f->terms, &f->seen);
	return refill_decide(&f->state, &f->terms, &f->seen);
}

static void assert_decision(
	struct refill_decision decision, enum refill_verdict verdict, enum refill_reason reason)
{
	if (decision.verdict != verdict || decision.reason != reason)
		fail_msg("expected verdict %d because %s, got %d because %s", verdict,
			refill_reasons[reason].name, decision.verdict,
			refill_reasons[decision.reason].name);
}

/* The refill is written, used up at once, and the container throttled again after @ms. */
static void refill_and_use(struct fixture *f, struct refill_decision decision, uint64_t ms)
{
	assert_decision(decision, REFILL_WRITE, REFILL_due);
	refill_done(&f->state, &f->seen, decision.grant_ns, f->seen.now_ns);
	f->seen.now_ns += ms * MS;
	f->seen.used_ns += decision.grant_ns;
	f->seen.pool_ns = decision.grant_ns;
	f->seen.left_ns = 0;
}

static void next_period(struct fixture *f)
{
	f->seen.period++;
	f->seen.now_ns = f->seen.period_ends_ns + MS;
	f->seen.period_ends_ns += PERIOD;
	f->seen.pool_ns = f->terms.quota_ns;
	f->seen.left_ns = f->terms.quota_ns;
}

static void test_a_throttled_container_with_an_old_request_is_refilled(void **state)
{
	struct refill_decision decision = decide(*state);

	assert_decision(decision, REFILL_WRITE, REFILL_due);
	assert_int_equal(decision.grant_ns, 30 * MS);
}

static void test_one_that_is_not_throttled_is_left_alone(void **state)
{
	struct fixture *f = *state;

	f->seen.is_throttled = false;
	assert_decision(decide(f), REFILL_STOP, REFILL_running);
}

static void test_one_without_requests_is_left_alone(void **state)
{
	struct fixture *f = *state;

	f->seen.in_flight = 0;
	assert_decision(decide(f), REFILL_STOP, REFILL_idle);
	/* A counter that went wrong below zero is no request either. */
	f->seen.in_flight = -2;
	assert_decision(decide(f), REFILL_STOP, REFILL_idle);
}

static void test_a_young_request_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->seen.oldest_ns = 12 * MS;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_young);
	assert_int_equal(decision.until_ns, f->seen.now_ns + 8 * MS);
	f->seen.now_ns = decision.until_ns;
	f->seen.oldest_ns = 20 * MS;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_a_request_too_young_to_tell_its_age_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->seen.oldest_ns = 0;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_young);
	assert_int_equal(decision.until_ns, f->seen.now_ns + 20 * MS);
}

static void test_a_request_that_gets_old_after_the_period_is_looked_at_then(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->terms.trigger_ns = 300 * MS;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_young);
	assert_true(decision.until_ns >= f->seen.period_ends_ns);
	assert_true(decision.until_ns < f->seen.period_ends_ns + MS);
}

static void test_without_an_allowance_nothing_happens(void **state)
{
	struct fixture *f = *state;

	f->terms.trigger_ns = 0;
	assert_decision(decide(f), REFILL_STOP, REFILL_off);
	f->terms.trigger_ns = 20 * MS;
	f->terms.quota_ns = 0;
	assert_decision(decide(f), REFILL_STOP, REFILL_off);
}

static void test_an_allowance_expires(void **state)
{
	struct fixture *f = *state;

	f->terms.expires_ns = f->seen.now_ns + 1;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
	f->seen.now_ns++;
	assert_decision(decide(f), REFILL_STOP, REFILL_expired);
	/* A new one, and it works again. */
	f->terms.expires_ns = f->seen.now_ns + 1000 * MS;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_no_more_refills_in_a_period_than_allowed(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->terms.quota_ns = 10 * MS;
	f->terms.refills = 2;
	refill_and_use(f, decide(f), 10);
	refill_and_use(f, decide(f), 10);
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_count);
	assert_true(decision.until_ns >= f->seen.period_ends_ns);
	next_period(f);
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_no_refill_brings_a_period_over_the_ceiling(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	/* 30 of the period, 30, 30, and then 10 are too little to be worth it, a third of 30 is not. */
	refill_and_use(f, decide(f), 10);
	refill_and_use(f, decide(f), 10);
	decision = decide(f);
	assert_decision(decision, REFILL_WRITE, REFILL_due);
	assert_int_equal(decision.grant_ns, 10 * MS);
	refill_and_use(f, decision, 10);
	assert_decision(decide(f), REFILL_WAIT, REFILL_ceiling);
	assert_int_equal(f->seen.used_ns, 5100 * MS);
}

static void test_a_last_refill_that_is_too_small_is_none(void **state)
{
	struct fixture *f = *state;

	f->terms.ceiling_ns = 31 * MS;
	assert_decision(decide(f), REFILL_WAIT, REFILL_ceiling);
	f->terms.ceiling_ns = 32 * MS;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
	/* The kernel refuses a quota under the burst. */
	f->terms.burst_ns = 15 * MS;
	assert_decision(decide(f), REFILL_WAIT, REFILL_ceiling);
	/* And one under its least. */
	f->terms = (struct refill_terms){.quota_ns = 2 * MS,
		.period_ns = PERIOD,
		.trigger_ns = 20 * MS,
		.ceiling_ns = 2 * MS + 999999,
		.refills = 4,
		.stuck_refills = 20};
	f->state.used_before_ns = f->seen.used_ns - 2 * MS;
	assert_decision(decide(f), REFILL_WAIT, REFILL_ceiling);
}

static void test_a_smaller_refill_needs_the_periods_end(void **state)
{
	struct fixture *f = *state;

	f->terms.ceiling_ns = 45 * MS;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
	f->seen.period_ends_ns = 0;
	assert_decision(decide(f), REFILL_WAIT, REFILL_ceiling);
}

static void test_what_was_used_before_the_first_look_counts(void **state)
{
	struct fixture *f = *state;

	/* A burst gave this period 60 ms. */
	f->seen.pool_ns = 60 * MS;
	f->terms.ceiling_ns = 80 * MS;
	assert_int_equal(decide(f).grant_ns, 20 * MS);
}

static void test_shortly_before_its_end_a_period_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->seen.now_ns = f->seen.period_ends_ns - REFILL_SOON_NS + 1;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_soon);
	assert_true(decision.until_ns > f->seen.period_ends_ns);
	f->seen.now_ns = f->seen.period_ends_ns - REFILL_SOON_NS;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_a_period_whose_end_is_late_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	f->seen.now_ns = f->seen.period_ends_ns + 5 * MS;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_soon);
	assert_true(decision.until_ns > f->seen.now_ns);
}

static void test_refills_that_complete_nothing_end(void **state)
{
	struct fixture *f = *state;

	f->terms.quota_ns = 10 * MS;
	f->terms.stuck_refills = 3;
	refill_and_use(f, decide(f), 5);
	refill_and_use(f, decide(f), 5);
	next_period(f);
	refill_and_use(f, decide(f), 5);
	assert_decision(decide(f), REFILL_WAIT, REFILL_stuck);
	for (int i = 0; i < 100; i++) {
		next_period(f);
		assert_decision(decide(f), REFILL_WAIT, REFILL_stuck);
	}
	/* A completed request is proof of life. */
	f->seen.completed++;
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_completed_requests_keep_it_going(void **state)
{
	struct fixture *f = *state;

	f->terms.stuck_refills = 3;
	for (int i = 0; i < 100; i++) {
		refill_and_use(f, decide(f), 5);
		f->seen.completed++;
		next_period(f);
	}
}

static void test_a_write_after_the_periods_end_is_the_next_ones_too(void **state)
{
	struct fixture *f = *state;

	f->terms.refills = 1;
	(void)decide(f);
	refill_done(&f->state, &f->seen, 30 * MS, f->seen.period_ends_ns + 1);
	next_period(f);
	assert_decision(decide(f), REFILL_WAIT, REFILL_count);
	next_period(f);
	assert_decision(decide(f), REFILL_WRITE, REFILL_due);
}

static void test_a_refused_refill_is_asked_for_again(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision =
		refill_refuse(&f->terms, &f->seen, REFILL_budget, f->seen.now_ns + 3 * MS);

	assert_decision(decision, REFILL_WAIT, REFILL_budget);
	assert_int_equal(decision.until_ns, f->seen.now_ns + 3 * MS);
	/* Not beyond the period: then it may not be needed. */
	decision = refill_refuse(&f->terms, &f->seen, REFILL_budget, f->seen.now_ns + 1000 * MS);
	assert_true(decision.until_ns < f->seen.period_ends_ns + MS);
}

static void test_an_account_has_what_was_used_over_the_limit(void **state)
{
	struct fixture *f = *state;
	struct refill_account account;

	refill_and_use(f, decide(f), 10);
	refill_and_use(f, decide(f), 10);
	/* Of the second refill 12 ms are left when the period ends. */
	f->seen.used_ns -= 12 * MS;
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_true(account.is_closed);
	assert_int_equal(account.over_limit_ns, 48 * MS);
	assert_int_equal(account.unused_ns, 12 * MS);
	assert_int_equal(account.overrun_ns, 0);
	/* Once. */
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_false(account.is_closed);
	assert_int_equal(account.over_limit_ns, 0);
}

static void test_an_account_has_what_the_scheduler_let_pass(void **state)
{
	struct fixture *f = *state;
	struct refill_account account;

	/* It looks at its ticks only: 3 ms more than was granted. */
	refill_and_use(f, decide(f), 10);
	f->seen.used_ns += 3 * MS;
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_int_equal(account.over_limit_ns, 33 * MS);
	assert_int_equal(account.unused_ns, 0);
	assert_int_equal(account.overrun_ns, 3 * MS);
}

static void test_burst_is_not_counted_as_refill(void **state)
{
	struct fixture *f = *state;
	struct refill_account account;

	refill_and_use(f, decide(f), 10);
	/* 20 ms more came from the burst, by the kernel's own count. */
	f->seen.used_ns += 20 * MS;
	f->seen.burst_ns += 20 * MS;
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_int_equal(account.over_limit_ns, 30 * MS);
	assert_int_equal(account.unused_ns, 0);
}

static void test_a_new_limit_is_a_refill_to_the_account(void **state)
{
	struct fixture *f = *state;
	struct refill_account account;

	(void)refill_look(&f->state, &f->terms, &f->seen);
	/* 30 ms were used; the limit becomes 20 ms, all of which is used as well. */
	refill_requoted(&f->state, 20 * MS);
	f->terms.quota_ns = 20 * MS;
	f->seen.used_ns += 20 * MS;
	f->seen.is_throttled = false;
	assert_decision(refill_decide(&f->state, &f->terms, &f->seen), REFILL_WAIT, REFILL_running);
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_true(account.is_closed);
	assert_int_equal(account.over_limit_ns, 20 * MS);
	/* A higher one is the period's limit. */
	refill_requoted(&f->state, 60 * MS);
	f->seen.used_ns += 80 * MS;
	next_period(f);
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_int_equal(account.over_limit_ns, 20 * MS);
}

static void test_a_refilled_period_is_looked_at_when_it_has_ended(void **state)
{
	struct fixture *f = *state;
	struct refill_decision decision;

	refill_and_use(f, decide(f), 10);
	f->seen.is_throttled = false;
	decision = decide(f);
	assert_decision(decision, REFILL_WAIT, REFILL_running);
	assert_true(decision.until_ns > f->seen.period_ends_ns);
	f->seen.in_flight = 0;
	f->seen.is_throttled = true;
	assert_decision(decide(f), REFILL_WAIT, REFILL_idle);
	next_period(f);
	assert_decision(decide(f), REFILL_STOP, REFILL_idle);
}

static void test_accounts_of_all_units_are_closed_at_the_same_moments(void **state)
{
	struct fixture *f = *state, other = *f;
	uint64_t until_ns;

	refill_and_use(f, decide(f), 10);
	f->seen.is_throttled = false;
	until_ns = decide(f).until_ns;
	assert_int_equal(until_ns % (PERIOD / 2), 0);
	assert_true(until_ns > f->seen.period_ends_ns);
	assert_true(until_ns < f->seen.period_ends_ns + PERIOD);
	/* Who is awake before that may close them as soon as the period is over. */
	assert_true(decide(f).from_ns > f->seen.period_ends_ns);
	assert_true(decide(f).from_ns < f->seen.period_ends_ns + MS);
	/* Its period ends 20 ms later. */
	other.seen.period_ends_ns += 20 * MS;
	refill_and_use(&other, decide(&other), 10);
	other.seen.is_throttled = false;
	assert_int_equal(decide(&other).until_ns, until_ns);
	/* Who is still throttled and refused must not wait for that. */
	f->terms.refills = 1;
	f->seen.is_throttled = true;
	assert_true(decide(f).until_ns < f->seen.period_ends_ns + MS);
	assert_int_equal(decide(f).from_ns, decide(f).until_ns);
}

static void test_an_account_that_is_closed_late_leaves_out_the_next_period(void **state)
{
	struct fixture *f = *state;
	struct refill_account account;

	refill_and_use(f, decide(f), 20);
	next_period(f);
	f->seen.now_ns += 40 * MS;
	f->seen.used_ns += 12 * MS;
	f->seen.left_ns = f->seen.pool_ns - 12 * MS;
	account = refill_look(&f->state, &f->terms, &f->seen);
	assert_true(account.is_closed);
	assert_int_equal(account.over_limit_ns, 30 * MS);
	assert_int_equal(account.unused_ns, 0);
}

static void test_an_allowance_becomes_terms(void **state)
{
	struct refill_terms terms = {.quota_ns = 30 * MS, .period_ns = PERIOD};
	struct allowance allowance = {
		.trigger_age_share = 0.4, .refills_per_period = 8, .ceiling_millicores = 800};

	(void)state;
	refill_allow(&terms, &allowance, 50 * MS, 100 * MS);
	assert_int_equal(terms.trigger_ns, 20 * MS);
	assert_int_equal(terms.ceiling_ns, 80 * MS);
	assert_int_equal(terms.refills, 8);
	/* Never above what the owner declared. */
	allowance.ceiling_millicores = 3000;
	refill_allow(&terms, &allowance, 50 * MS, 100 * MS);
	assert_int_equal(terms.ceiling_ns, 100 * MS);
}

static void test_an_allowance_that_makes_no_sense_allows_nothing(void **state)
{
	const struct allowance sound = {
		.trigger_age_share = 0.4, .refills_per_period = 8, .ceiling_millicores = 800};
	static const double wrong[] = {0, -1, NAN, INFINITY, -INFINITY};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct refill_terms terms = {
			.quota_ns = 30 * MS, .period_ns = PERIOD, .trigger_ns = 1};
		struct allowance allowance = sound;

		allowance.trigger_age_share = wrong[i];
		refill_allow(&terms, &allowance, 50 * MS, 100 * MS);
		assert_int_equal(terms.trigger_ns, 0);
		if (wrong[i] > 0)
			continue;
		terms.trigger_ns = 1;
		allowance = sound;
		allowance.ceiling_millicores = wrong[i];
		refill_allow(&terms, &allowance, 50 * MS, 100 * MS);
		assert_int_equal(terms.trigger_ns, 0);
	}
	for (int i = 0; i < 3; i++) {
		struct refill_terms terms = {
			.quota_ns = i == 0 ? 0 : 30 * MS, .period_ns = PERIOD, .trigger_ns = 1};
		struct allowance allowance = sound;

		if (i == 1)
			allowance.refills_per_period = 0;
		refill_allow(&terms, &allowance, i == 2 ? 0 : 50 * MS, 100 * MS);
		assert_int_equal(terms.trigger_ns, 0);
	}
}

/* Any sequence of looks and any use: no period over its refills, none over its ceiling. */
static void test_whatever_happens_no_period_gets_more_than_allowed(void **state)
{
	struct fixture *f = *state;

	srand(7);
	for (int run = 0; run < 200; run++) {
		uint64_t quota_ns = (1 + (uint64_t)rand() % 60) * MS;
		uint64_t used_in_period = 0, refills = 0;

		setup(state);
		f->terms.quota_ns = quota_ns;
		f->terms.ceiling_ns = quota_ns + (uint64_t)rand() % (200 * MS);
		f->terms.refills = 1 + (uint32_t)rand() % 6;
		f->terms.stuck_refills = 1000000;
		f->seen.used_ns = 1000 * MS + quota_ns;
		f->seen.pool_ns = quota_ns;
		used_in_period = quota_ns;
		for (int step = 0; step < 300; step++) {
			struct refill_decision decision = decide(f);

			if (decision.verdict == REFILL_WRITE) {
				uint64_t used_ns =
					decision.grant_ns / 4 * (uint64_t)(1 + rand() % 4);

				refills++;
				refill_done(&f->state, &f->seen, decision.grant_ns, f->seen.now_ns);
				assert_true(refills <= f->terms.refills);
				assert_true(
					used_in_period + decision.grant_ns <= f->terms.ceiling_ns);
				used_in_period += used_ns;
				f->seen.used_ns += used_ns;
				f->seen.pool_ns = decision.grant_ns;
				f->seen.left_ns = decision.grant_ns - used_ns;
			}
			f->seen.now_ns += (uint64_t)rand() % (20 * MS);
			f->seen.oldest_ns = (uint64_t)rand() % (60 * MS);
			f->seen.is_throttled = rand() % 8 != 0;
			f->seen.completed += rand() % 2;
			if (f->seen.now_ns < f->seen.period_ends_ns)
				continue;
			next_period(f);
			refills = 0;
			/* All of the period's own quota, before the next look or after it. */
			used_in_period = quota_ns;
			f->seen.used_ns += quota_ns;
			f->seen.left_ns = 0;
		}
	}
}

static void test_every_reason_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i < REFILL_REASON_COUNT; i++) {
		assert_non_null(refill_reasons[i].name);
		assert_non_null(refill_reasons[i].text);
	}
	assert_true(REFILL_ceiling < REFILL_DENIAL_COUNT);
	assert_true(REFILL_young >= REFILL_DENIAL_COUNT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(test_a_throttled_container_with_an_old_request_is_refilled),
		TEST(test_one_that_is_not_throttled_is_left_alone),
		TEST(test_one_without_requests_is_left_alone),
		TEST(test_a_young_request_is_waited_for),
		TEST(test_a_request_too_young_to_tell_its_age_is_waited_for),
		TEST(test_a_request_that_gets_old_after_the_period_is_looked_at_then),
		TEST(test_without_an_allowance_nothing_happens),
		TEST(test_an_allowance_expires),
		TEST(test_no_more_refills_in_a_period_than_allowed),
		TEST(test_no_refill_brings_a_period_over_the_ceiling),
		TEST(test_a_last_refill_that_is_too_small_is_none),
		TEST(test_a_smaller_refill_needs_the_periods_end),
		TEST(test_what_was_used_before_the_first_look_counts),
		TEST(test_shortly_before_its_end_a_period_is_waited_for),
		TEST(test_a_period_whose_end_is_late_is_waited_for),
		TEST(test_refills_that_complete_nothing_end),
		TEST(test_completed_requests_keep_it_going),
		TEST(test_a_write_after_the_periods_end_is_the_next_ones_too),
		TEST(test_a_refused_refill_is_asked_for_again),
		TEST(test_an_account_has_what_was_used_over_the_limit),
		TEST(test_an_account_has_what_the_scheduler_let_pass),
		TEST(test_burst_is_not_counted_as_refill),
		TEST(test_a_new_limit_is_a_refill_to_the_account),
		TEST(test_a_refilled_period_is_looked_at_when_it_has_ended),
		TEST(test_accounts_of_all_units_are_closed_at_the_same_moments),
		TEST(test_an_account_that_is_closed_late_leaves_out_the_next_period),
		TEST(test_an_allowance_becomes_terms),
		TEST(test_an_allowance_that_makes_no_sense_allows_nothing),
		TEST(test_whatever_happens_no_period_gets_more_than_allowed),
		TEST(test_every_reason_has_a_name),
	};
#undef TEST

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
