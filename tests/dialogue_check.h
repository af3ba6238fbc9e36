/* SPDX-License-Identifier: Apache-2.0 */
/* A dialogue counts the same however it is cut: for unit tests. Include after the dialogues. */
#ifndef EBBTIDE_DIALOGUE_CHECK_H
#define EBBTIDE_DIALOGUE_CHECK_H

#include "dialogues.h"

#include "learner/dqn/random.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char *const side_names[] = {"", "server", "client"};

static void dialogue_check(const struct dialogue *dialogue, uint8_t side, const char *how,
	const struct talk_told *told)
{
	/* A client's own mistakes are not counted as its calls' errors. */
	uint32_t client_errors = side == SIDE_SERVER ? dialogue->client_errors : 0;

	if (told->requests != dialogue->requests || told->failed != dialogue->failed ||
		told->client_errors != client_errors ||
		told->server_errors != dialogue->server_errors)
		fail_msg("\"%s\" seen from the %s, cut %s: expected %u requests, %u failed, %u and "
			 "%u errors; got %llu, %llu, %llu and %llu",
			dialogue->name, side_names[side], how, dialogue->requests, dialogue->failed,
			client_errors, dialogue->server_errors, (unsigned long long)told->requests,
			(unsigned long long)told->failed, (unsigned long long)told->client_errors,
			(unsigned long long)told->server_errors);
	for (size_t i = 0; i < DIALOGUE_STATUSES && dialogue->statuses[i]; i++)
		if (told->events[i].status != dialogue->statuses[i])
			fail_msg("\"%s\" seen from the %s, cut %s: expected status %u of request "
				 "%zu, got %u",
				dialogue->name, side_names[side], how, dialogue->statuses[i], i,
				told->events[i].status);
	if (told->lost || told->untracked)
		fail_msg("\"%s\" seen from the %s, cut %s: framing lost %llu times, %llu untracked",
			dialogue->name, side_names[side], how, (unsigned long long)told->lost,
			(unsigned long long)told->untracked);
}

/* What was told, the whole of it, against the same dialogue uncut. */
static void dialogue_check_same(const struct dialogue *dialogue, uint8_t side, const char *how,
	const struct talk_told *told, const struct talk_told *uncut)
{
	dialogue_check(dialogue, side, how, told);
	if (memcmp(told, uncut, sizeof(*told)) != 0)
		fail_msg("\"%s\" seen from the %s, cut %s: latencies differ from those of whole "
			 "turns: %u against %u in all, %u against %u events",
			dialogue->name, side_names[side], how, told->latency_sum,
			uncut->latency_sum, told->event_count, uncut->event_count);
}

static void dialogue_check_cuts(const struct dialogue *dialogue, uint8_t side)
{
	struct talk_told uncut;
	struct random_state random;
	size_t places[2];
	char how[64];

	memset(&uncut, 0, sizeof(uncut));
	uncut = *dialogue_hold(dialogue, side, cut_nowhere, NULL);
	dialogue_check(dialogue, side, "into whole turns", &uncut);
	dialogue_check_same(dialogue, side, "into bytes",
		dialogue_hold(dialogue, side, cut_everywhere, NULL), &uncut);
	random_seed(&random, dialogue->size);
	for (places[0] = 1; places[0] < dialogue->size; places[0]++) {
		/* Every single cut, and a few second ones for each. */
		for (places[1] = places[0]; places[1] < dialogue->size;
			places[1] += 1 + random_below(&random, (uint32_t)dialogue->size / 3)) {
			snprintf(
				how, sizeof(how), "before bytes %zu and %zu", places[0], places[1]);
			dialogue_check_same(dialogue, side, how,
				dialogue_hold(dialogue, side, cut_at_two, places), &uncut);
		}
	}
	for (int i = 0; i < 200; i++) {
		uint64_t mask = random_next(&random);

		if (i % 2)
			mask &= random_next(&random) & random_next(&random);
		snprintf(how, sizeof(how), "by mask %#llx", (unsigned long long)mask);
		dialogue_check_same(dialogue, side, how,
			dialogue_hold(dialogue, side, cut_by_mask, &mask), &uncut);
	}
}

#endif
