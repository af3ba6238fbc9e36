// SPDX-License-Identifier: Apache-2.0
#include "node/limits/spare.h"

#include <string.h>

/* What a unit asked for in a second counts for a few more, less with each slot: half in 0.7 s. */
#define DEMAND_KEPT 0.9
/* Under this it is as if it had not asked. */
#define DEMAND_LEAST_NS 10000.0
/* Who waits asks at every slot; who has not for this long has given up. */
#define WAITING_LOST_NS (5 * SPARE_SLOT_NS / 2)

static void window_slide(struct spare_window *window, uint64_t now_ns)
{
	uint64_t slot = now_ns / SPARE_SLOT_NS;

	if (slot >= window->newest + SPARE_SLOTS) {
		memset(window->ns, 0, sizeof(window->ns));
		window->newest = slot;
	}
	while (window->newest < slot)
		window->ns[++window->newest % SPARE_SLOTS] = 0;
}

static void window_add(struct spare_window *window, uint64_t ns, uint64_t now_ns)
{
	window_slide(window, now_ns);
	window->ns[window->newest % SPARE_SLOTS] += ns;
}

static uint64_t window_sum(struct spare_window *window, uint64_t now_ns)
{
	uint64_t sum_ns = 0;

	window_slide(window, now_ns);
	for (int i = 0; i < SPARE_SLOTS; i++)
		sum_ns += window->ns[i];
	return sum_ns;
}

/* The newest first: what was not used was most likely of the newest refills. */
static void window_remove(struct spare_window *window, uint64_t ns, uint64_t now_ns)
{
	window_slide(window, now_ns);
	for (uint64_t i = 0; i < SPARE_SLOTS && ns > 0; i++) {
		uint64_t *slot = &window->ns[(window->newest + SPARE_SLOTS - i) % SPARE_SLOTS];
		uint64_t part_ns = *slot < ns ? *slot : ns;

		*slot -= part_ns;
		ns -= part_ns;
	}
}

void spare_leave(struct spare *budget, struct spare_share *share)
{
	for (struct spare_share **at = &budget->first; *at; at = &(*at)->next) {
		if (*at != share)
			continue;
		*at = share->next;
		break;
	}
	share->next = NULL;
	share->is_listed = false;
}

static void demand_renew(struct spare_share *share, uint64_t now_ns)
{
	double asked_ns = (double)window_sum(&share->asked, now_ns);
	uint64_t slots = now_ns / SPARE_SLOT_NS - share->renewed_ns / SPARE_SLOT_NS;

	for (; slots > 0 && share->demand_ns >= DEMAND_LEAST_NS; slots--)
		share->demand_ns *= DEMAND_KEPT;
	if (asked_ns > share->demand_ns)
		share->demand_ns = asked_ns;
}

/* Everyone's demand as of now, and their sum; who has not asked for long is let go. */
static double demands_renew(struct spare *budget, uint64_t now_ns)
{
	struct spare_share **at = &budget->first;
	double sum_ns = 0;

	while (*at) {
		struct spare_share *share = *at;

		demand_renew(share, now_ns);
		if (share->demand_ns < DEMAND_LEAST_NS) {
			*at = share->next;
			share->next = NULL;
			share->is_listed = false;
			continue;
		}
		sum_ns += share->demand_ns;
		at = &share->next;
	}
	return sum_ns;
}

/* The level to which the rate fills all demands; it binds nobody while it covers their @sum_ns. */
static double water_level_ns(const struct spare *budget, double sum_ns)
{
	double rate_ns = (double)budget->rate_ns, level_ns = 0;

	if (sum_ns <= rate_ns)
		return rate_ns;
	/* Who asks for less than the level has it all and leaves the rest to the others: it rises. */
	for (;;) {
		double room_ns = rate_ns, next_ns;
		uint32_t over = 0;

		for (const struct spare_share *each = budget->first; each; each = each->next) {
			if (each->demand_ns <= level_ns)
				room_ns -= each->demand_ns;
			else
				over++;
		}
		next_ns = room_ns / over;
		if (over == 0 || next_ns <= level_ns)
			return level_ns;
		level_ns = next_ns;
	}
}

static void tokens_renew(struct spare *budget, double level_ns, uint64_t now_ns)
{
	for (struct spare_share *each = budget->first; each; each = each->next) {
		/* An ask for more than a second's part is saved for. */
		double most_ns = (double)each->ask_ns > level_ns ? (double)each->ask_ns : level_ns;

		each->tokens_ns += level_ns * (double)(now_ns - each->renewed_ns) / 1e9;
		if (each->tokens_ns > most_ns)
			each->tokens_ns = most_ns;
		each->renewed_ns = now_ns;
	}
}

/* Who has waited longest, and still asks. */
static struct spare_share *first_in_line(struct spare *budget, uint64_t now_ns)
{
	struct spare_share *first = NULL;

	for (struct spare_share *each = budget->first; each; each = each->next) {
		if (each->waiting_ns && now_ns - each->asked_at_ns > WAITING_LOST_NS)
			each->waiting_ns = 0;
		if (each->waiting_ns &&
			(!first || each->waiting_since_ns < first->waiting_since_ns))
			first = each;
	}
	return first;
}

/* What the others' parts still lack. */
static double reserved_ns(
	struct spare *budget, const struct spare_share *share, double level_ns, uint64_t now_ns)
{
	double sum_ns = 0;

	for (struct spare_share *each = budget->first; each; each = each->next) {
		double part_ns = each->demand_ns < level_ns ? each->demand_ns : level_ns;
		double spent_ns = (double)window_sum(&each->spent, now_ns);

		if (each != share && spent_ns < part_ns)
			sum_ns += part_ns - spent_ns;
	}
	return sum_ns;
}

static void take(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns)
{
	share->waiting_ns = 0;
	share->tokens_ns -= share->tokens_ns < (double)ns ? share->tokens_ns : (double)ns;
	window_add(&budget->spent, ns, now_ns);
	window_add(&share->spent, ns, now_ns);
}

/*
 * While the rate covers all demands and nobody waits, the others' parts bind nobody: true, and taken,
 * without a look at them. Their demands are at most what they were at their newest ask: they only
 * fall from there.
 */
static bool take_unbound(
	struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns)
{
	double rate_ns = (double)budget->rate_ns, before_ns = share->demand_ns;

	if (budget->has_waiting)
		return false;
	demand_renew(share, now_ns);
	budget->demand_ns += share->demand_ns - before_ns;
	if (budget->demand_ns > rate_ns ||
		(double)ns > rate_ns - (double)window_sum(&budget->spent, now_ns)) {
		/* All are looked at next: it must not fall twice for the same time. */
		share->demand_ns = before_ns;
		return false;
	}
	share->tokens_ns += rate_ns * (double)(now_ns - share->renewed_ns) / 1e9;
	if (share->tokens_ns > rate_ns)
		share->tokens_ns = rate_ns;
	share->renewed_ns = now_ns;
	take(budget, share, ns, now_ns);
	return true;
}

bool spare_take(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns)
{
	double level_ns, room_ns;
	struct spare_share *line;
	bool is_entitled;

	if (ns > budget->rate_ns)
		return false;
	window_add(&share->asked, ns, now_ns);
	share->asked_at_ns = now_ns;
	share->ask_ns = ns;
	if (!share->is_listed) {
		/* A newcomer has a second's part. */
		share->renewed_ns = now_ns;
		share->tokens_ns = (double)budget->rate_ns;
		share->demand_ns = 0;
		share->waiting_ns = 0;
		share->next = budget->first;
		share->is_listed = true;
		budget->first = share;
	}
	if (take_unbound(budget, share, ns, now_ns))
		return true;
	budget->demand_ns = demands_renew(budget, now_ns);
	level_ns = water_level_ns(budget, budget->demand_ns);
	tokens_renew(budget, level_ns, now_ns);
	line = first_in_line(budget, now_ns);
	budget->has_waiting = line != NULL;
	is_entitled = share->tokens_ns >= (double)ns;
	room_ns = (double)budget->rate_ns - (double)window_sum(&budget->spent, now_ns);
	if (line && line != share)
		room_ns -= (double)line->waiting_ns;
	if ((double)ns > room_ns && is_entitled && !share->waiting_ns) {
		share->waiting_ns = ns;
		share->waiting_since_ns = now_ns;
		budget->has_waiting = true;
	}
	if (!is_entitled)
		room_ns -= reserved_ns(budget, share, level_ns, now_ns);
	if ((double)ns > room_ns)
		return false;
	take(budget, share, ns, now_ns);
	return true;
}

void spare_return(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns)
{
	window_remove(&budget->spent, ns, now_ns);
	window_remove(&share->spent, ns, now_ns);
}

void spare_charge(struct spare *budget, struct spare_share *share, uint64_t ns, uint64_t now_ns)
{
	window_add(&budget->spent, ns, now_ns);
	window_add(&share->spent, ns, now_ns);
}

uint64_t spare_spent_ns(struct spare *budget, uint64_t now_ns)
{
	return window_sum(&budget->spent, now_ns);
}

uint64_t spare_renewed_ns(uint64_t now_ns)
{
	return (now_ns / SPARE_SLOT_NS + 1) * SPARE_SLOT_NS;
}

uint64_t spare_rate_ns(uint64_t idle_ns, uint64_t refilled_ns, uint64_t elapsed_ns)
{
	if (!elapsed_ns)
		return 0;
	return (uint64_t)((double)(idle_ns + refilled_ns) * 1e9 / (double)elapsed_ns);
}
