// SPDX-License-Identifier: Apache-2.0
#include "node/limits/refill.h"

#include <math.h>

/* After a period's end by the timer the kernel still has to do its part. */
#define SETTLE_NS 200000U
/* Without the timer of the period: so many looks in one. */
#define BLIND_LOOKS 10
/*
 * The last refill of a period may be smaller than the quota, to end at the ceiling. It means a lower
 * quota until the period is over, so it must be worth it: but a fourth was too much. A limit over four
 * fifths of the ceiling could not be passed, and a load that needs what is between them never served.
 */
#define GRANT_LEAST_SHARE 16

const struct refill_reason_info refill_reasons[REFILL_REASON_COUNT] = {
#define X(name, text) [REFILL_##name] = {#name, text},
	REFILL_REASONS(X)
#undef X
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

void refill_allow(struct refill_terms *terms, const struct allowance *allowance, uint64_t target_ns,
	uint64_t most_ns)
{
	double trigger_ns = allowance->trigger_age_share * (double)target_ns;
	double ceiling_ns = allowance->ceiling_millicores / 1000 * (double)terms->period_ns;

	terms->trigger_ns = 0;
	/* What comes over the wire may be anything; what makes no sense allows nothing. */
	if (!(trigger_ns > 0 && trigger_ns < 1e18) || !(ceiling_ns > 0) ||
		allowance->refills_per_period == 0 || terms->quota_ns == 0)
		return;
	terms->trigger_ns = trigger_ns < 1 ? 1 : (uint64_t)trigger_ns;
	terms->ceiling_ns = ceiling_ns < (double)most_ns ? (uint64_t)ceiling_ns : most_ns;
	terms->refills = allowance->refills_per_period;
}

static struct refill_account account_close(
	struct refill_state *state, const struct refill_seen *seen, uint64_t used_until_ns)
{
	struct refill_account account = {.is_closed = state->must_close};
	uint64_t limit_ns = state->limit_ns * (seen->period - state->period);
	uint64_t used_ns = less(used_until_ns, state->used_before_ns);
	uint64_t burst_ns = less(seen->burst_ns, state->burst_before_ns);

	state->is_open = false;
	if (!state->must_close)
		return account;
	account.over_limit_ns = less(less(used_ns, limit_ns), burst_ns);
	account.unused_ns = less(state->granted_ns, account.over_limit_ns);
	if (state->granted_ns)
		account.overrun_ns = less(account.over_limit_ns, state->granted_ns);
	return account;
}

struct refill_account refill_look(struct refill_state *state, const struct refill_terms *terms,
	const struct refill_seen *seen)
{
	/* What the pool has handed out since the period's refill. */
	uint64_t used_in_period_ns = less(seen->pool_ns, seen->left_ns);
	uint64_t used_before_ns = less(seen->used_ns, used_in_period_ns);
	struct refill_account account = {0};
	uint64_t late_ns = 0;

	if (seen->completed != state->completed) {
		state->completed = seen->completed;
		state->in_vain = 0;
	}
	if (state->is_open && seen->period == state->period)
		return account;
	if (state->is_open) {
		account = account_close(state, seen, used_before_ns);
		late_ns = state->late_ns;
	}
	state->period = seen->period;
	state->is_open = true;
	state->used_before_ns = used_before_ns;
	state->burst_before_ns = seen->burst_ns;
	state->limit_ns = terms->quota_ns;
	state->refills = late_ns > 0;
	state->granted_ns = late_ns;
	state->late_ns = 0;
	state->must_close = late_ns > 0;
	return account;
}

/* When the present period will be over, for certain. */
static uint64_t period_over_ns(const struct refill_terms *terms, const struct refill_seen *seen)
{
	uint64_t over_ns = seen->period_ends_ns + SETTLE_NS;

	if (!seen->period_ends_ns)
		return seen->now_ns + terms->period_ns / BLIND_LOOKS;
	return over_ns > seen->now_ns ? over_ns : seen->now_ns + SETTLE_NS;
}

static struct refill_decision wait(enum refill_reason reason, uint64_t until_ns)
{
	return (struct refill_decision){.verdict = REFILL_WAIT,
		.reason = reason,
		.until_ns = until_ns,
		.from_ns = until_ns};
}

struct refill_decision refill_settle(const struct refill_state *state,
	const struct refill_terms *terms, const struct refill_seen *seen, enum refill_reason reason)
{
	uint64_t over_ns = period_over_ns(terms, seen), grid_ns = terms->period_ns / 2;
	struct refill_decision decision = wait(reason, over_ns);

	if (!state->must_close)
		return (struct refill_decision){.verdict = REFILL_STOP, .reason = reason};
	/* Any moment of the next period tells how this one ended: all units at the same one. */
	if (seen->period_ends_ns && grid_ns)
		decision.until_ns = (over_ns / grid_ns + 1) * grid_ns;
	return decision;
}

/* How much may be granted now; 0: not enough to be worth a write. */
static uint64_t grant_ns(const struct refill_state *state, const struct refill_terms *terms,
	const struct refill_seen *seen)
{
	uint64_t used_ns = less(seen->used_ns, state->used_before_ns);
	uint64_t room_ns = less(terms->ceiling_ns, used_ns);

	if (room_ns >= terms->quota_ns)
		return terms->quota_ns;
	/* A quota under the burst is refused by the kernel. */
	if (room_ns < REFILL_LEAST_NS || room_ns < terms->quota_ns / GRANT_LEAST_SHARE ||
		room_ns < terms->burst_ns || !seen->period_ends_ns)
		return 0;
	return room_ns;
}

struct refill_decision refill_refuse(const struct refill_terms *terms,
	const struct refill_seen *seen, enum refill_reason reason, uint64_t renewed_ns)
{
	uint64_t over_ns = period_over_ns(terms, seen);

	return wait(reason, renewed_ns ? smaller(renewed_ns, over_ns) : over_ns);
}

struct refill_decision refill_decide(const struct refill_state *state,
	const struct refill_terms *terms, const struct refill_seen *seen)
{
	struct refill_decision decision = {.verdict = REFILL_WRITE, .reason = REFILL_due};

	if (!terms->trigger_ns || !terms->quota_ns)
		return refill_settle(state, terms, seen, REFILL_off);
	if (!seen->is_throttled)
		return refill_settle(state, terms, seen, REFILL_running);
	if (seen->in_flight <= 0)
		return refill_settle(state, terms, seen, REFILL_idle);
	if (terms->expires_ns && seen->now_ns >= terms->expires_ns)
		return refill_settle(state, terms, seen, REFILL_expired);
	if (seen->oldest_ns < terms->trigger_ns)
		return refill_refuse(terms, seen, REFILL_young,
			seen->now_ns + terms->trigger_ns - seen->oldest_ns);
	if (seen->period_ends_ns && seen->period_ends_ns < seen->now_ns + REFILL_SOON_NS)
		return refill_refuse(terms, seen, REFILL_soon, 0);
	if (state->in_vain >= terms->stuck_refills)
		return refill_refuse(terms, seen, REFILL_stuck, 0);
	if (state->refills >= terms->refills)
		return refill_refuse(terms, seen, REFILL_count, 0);
	decision.grant_ns = grant_ns(state, terms, seen);
	if (!decision.grant_ns)
		return refill_refuse(terms, seen, REFILL_ceiling, 0);
	return decision;
}

void refill_done(struct refill_state *state, const struct refill_seen *seen, uint64_t grant_ns,
	uint64_t now_ns)
{
	state->refills++;
	state->in_vain++;
	state->granted_ns += grant_ns;
	state->must_close = true;
	/* In both periods' accounts: which of them got it is not known, and too few hurts nobody. */
	if (seen->period_ends_ns && now_ns >= seen->period_ends_ns)
		state->late_ns += grant_ns;
}

void refill_requoted(struct refill_state *state, uint64_t quota_ns)
{
	if (!state->is_open)
		return;
	if (quota_ns > state->limit_ns)
		state->limit_ns = quota_ns;
	state->must_close = true;
}
