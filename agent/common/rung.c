// SPDX-License-Identifier: Apache-2.0
#include "common/rung.h"

#include <math.h>

const struct rung rungs[RUNG_COUNT] = {
	{0.40, 0.10},
	{0.50, 0.10},
	{0.60, 0.10},
	{0.70, 0.12},
	{0.80, 0.15},
	{0.90, 0.20},
	{1.00, 0.25},
	{1.15, 0.30},
	{1.35, 0.40},
	{1.70, 0.50},
	{2.10, 0.60},
	{2.60, 0.80},
	{3.30, 0.90},
	{4.50, 1.00},
};

/*
 * How fast the logarithm of the price moves, in a second, at a share of 1 %: a violation raises the
 * price by a third, what is asked for keeps it where it is. Who accepts a tenth of that sees a tenth
 * of the violations, and must learn more of each: by the root, so that it learns more slowly still.
 */
#define PRICE_RATE	 0.3
#define PRICE_RATE_SHARE 0.01
#define PRICE_RATE_MOST	 1.0
/* Of a tick (a scale period), that counts: one broken one of a minute must not decide alone. */
#define PRICE_TICK_MOST_S 5.0

/*
 * A period's last refill is what the ceiling leaves, and the kernel takes no quota under the burst: a
 * burst as large as the quota would leave up to that much of the ceiling to nobody, just when all of it
 * is needed. Of what the limit leaves of the ceiling it may be so much.
 */
#define BURST_OF_ROOM 0.0625

uint32_t rung_of_limit(double limit, double demand, uint32_t lowest)
{
	uint32_t rung = lowest < RUNG_COUNT ? lowest : RUNG_COUNT - 1;

	while (rung + 1 < RUNG_COUNT && rungs[rung].factor * demand < limit)
		rung++;
	return rung;
}

static const struct rung *rung_at(uint32_t rung)
{
	return &rungs[rung < RUNG_COUNT ? rung : RUNG_COUNT - 1];
}

double rung_limit(uint32_t rung, const struct demand *demand)
{
	const struct rung *on = rung_at(rung);

	return on->factor * fmax(demand->usual, on->peak_share * demand->peak);
}

void rung_plan(double limit_millicores, double most_millicores, bool reflex, struct plan *plan)
{
	bool refills = reflex && most_millicores > 0;
	double burst_millicores = limit_millicores;

	if (refills)
		burst_millicores = fmin(burst_millicores,
			BURST_OF_ROOM * fmax(0, most_millicores - limit_millicores));
	plan->cpu_millicores = limit_millicores;
	/* Until the envelope has seen it a limit may be anything. */
	plan->burst_us = (uint64_t)fmin(burst_millicores / 1000 * PLAN_PERIOD_US, 0x1p62);
	plan->allowance = (struct allowance){.trigger_age_share = 0};
	if (refills)
		plan->allowance = (struct allowance){.trigger_age_share = RUNG_TRIGGER_AGE_SHARE,
			.refills_per_period = RUNG_REFILLS_PER_PERIOD,
			.ceiling_millicores = most_millicores};
}

static double price_clamp(double price)
{
	return fmin(fmax(price, PRICE_LEAST), PRICE_MOST);
}

double price_start(double violations_asked)
{
	return price_clamp(violations_asked > 0 ? 0.005 / violations_asked : PRICE_MOST);
}

static double price_rate(double violations_asked)
{
	return violations_asked > 0
		       ? fmin(PRICE_RATE_MOST,
				 PRICE_RATE * sqrt(PRICE_RATE_SHARE / violations_asked))
		       : PRICE_RATE_MOST;
}

double price_adapt(double price, bool violated, double violations_asked, double tick_s)
{
	if (price <= 0)
		price = price_start(violations_asked);
	return price_clamp(
		price * exp(price_rate(violations_asked) * fmin(tick_s, PRICE_TICK_MOST_S) *
				((violated ? 1 : 0) - violations_asked)));
}

/* Up to this the network alone decides; at the highest the limit is 1.35 times the demand. */
#define PRICE_BARS  5.0
#define RUNG_BARRED 8

double price_share(double price)
{
	return price > PRICE_BARS
		       ? log(price_clamp(price) / PRICE_BARS) / log(PRICE_MOST / PRICE_BARS)
		       : 0;
}

uint32_t price_rung(double price, bool reserves)
{
	const uint32_t highest = reserves ? RUNG_COUNT - 1 : RUNG_BARRED;

	return (uint32_t)(highest * price_share(price));
}

double price_feature(double price)
{
	return price > 0 ? log(price_clamp(price) / PRICE_LEAST) / log(PRICE_MOST / PRICE_LEAST)
			 : 0;
}
