// SPDX-License-Identifier: Apache-2.0
/* Points in time as people type them. */
#include "ctl/moment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define S 1000000ULL
/* 2026-11-29 12:00:00.25 UTC, 13:00 in the zone below. */
#define NOW (1795953600ULL * S + 250000)
#define H   (3600 * S)

static int zone_set(void **state)
{
	(void)state;
	/* An hour east of UTC, without a change to summer time. */
	setenv("TZ", "EAST-1", 1);
	tzset();
	return 0;
}

static void assert_moment(const char *text, uint64_t wanted_us)
{
	uint64_t time_us = 0;

	if (moment_parse(text, NOW, &time_us))
		fail_msg("\"%s\" is refused", text);
	if (time_us != wanted_us)
		fail_msg("\"%s\": expected %llu, got %llu", text, (unsigned long long)wanted_us,
			(unsigned long long)time_us);
}

static void test_a_time_back_from_now(void **state)
{
	(void)state;
	assert_moment("-30s", NOW - 30 * S);
	assert_moment("-1.5s", NOW - 1500000);
	assert_moment("-250ms", NOW - 250000);
	assert_moment("-5m", NOW - 300 * S);
	assert_moment("-2h", NOW - 2 * H);
	assert_moment("-1d", NOW - 24 * H);
	assert_moment("-0s", NOW);
}

static void test_a_clock_is_the_newest_that_has_been(void **state)
{
	(void)state;
	assert_moment("12:59:30", NOW - 250000 - 30 * S);
	assert_moment("12:59", NOW - 250000 - 60 * S);
	assert_moment("13:00:00.2", NOW - 50000);
	/* Still to come: yesterday's. */
	assert_moment("14:00:00", NOW - 250000 - 23 * H);
	assert_moment("00:00:00", NOW - 250000 - 13 * H);
}

static void test_rfc_3339_with_and_without_a_zone(void **state)
{
	(void)state;
	assert_moment("2026-11-29T12:00:00.25Z", NOW);
	assert_moment("2026-11-29T12:00:00.250000+00:00", NOW);
	assert_moment("2026-11-29T13:00:00.25", NOW);
	assert_moment("2026-11-29 13:00:00.25", NOW);
	assert_moment("2026-11-29t09:30:00.25-02:30", NOW);
	assert_moment("1970-01-01T00:00:01Z", S);
}

static void test_what_is_none_is_refused(void **state)
{
	static const char *const texts[] = {"", "-", "noon", "30s", "-30", "-30x", "-x", "--5s",
		"-99999999d", "25:00:00", "13:00:00x", "13:00:00.", "13", "2026-11-29",
		"2026-13-29T12:00:00Z", "2026-11-29T12:00Z", "2026-11-29T12:00:00+1",
		"2026-11-29T12:00:00+0100", "2026-11-29T12:00:00+24:00", "2026-11-29T12:00:00ZZ",
		"1969-12-31T23:59:59Z"};
	uint64_t time_us = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (moment_parse(texts[i], NOW, &time_us) != -EINVAL)
			fail_msg("\"%s\" is taken", texts[i]);
		assert_int_equal(time_us, 7);
	}
}

static void test_what_is_shown_is_taken_back(void **state)
{
	char text[48];

	(void)state;
	moment_format(NOW, text, sizeof(text));
	assert_string_equal(text, "2026-11-29 13:00:00.250");
	assert_moment(text, NOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_time_back_from_now),
		cmocka_unit_test(test_a_clock_is_the_newest_that_has_been),
		cmocka_unit_test(test_rfc_3339_with_and_without_a_zone),
		cmocka_unit_test(test_what_is_none_is_refused),
		cmocka_unit_test(test_what_is_shown_is_taken_back),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, zone_set, NULL);
}
