// SPDX-License-Identifier: Apache-2.0
/*
 * Whether to write a container's quota again, which is a refill: the reflex's rule, without its
 * hands. Pure: no clock, file or global. docs/reflex.md is its prose.
 *
 * A container is looked at when it was throttled with requests in flight, when its oldest request
 * becomes old enough, and at the end of a period in which it was refilled; refill_look() takes what
 * was seen, refill_decide() says what to do, refill_done() notes that it was done.
 *
 * Times are CLOCK_MONOTONIC, CPU time is of one container; all in nanoseconds.
 */
#ifndef EBBTIDE_REFILL_H
#define EBBTIDE_REFILL_H

#include "common/plan.h"

#include <stdbool.h>
#include <stdint.h>

/* The kernel's smallest quota. */
#define REFILL_LEAST_NS 1000000U
/* A period that ends so soon brings its own refill; a write now might land after it. */
#define REFILL_SOON_NS 500000U

/* X(name, what it means): why a refill that was due is not written; counted once a period. */
#define REFILL_DENIALS(X)                                                                          \
	X(expired, "the allowance is too old: the learner is silent")                              \
	X(stuck, "no request was completed by many refills")                                       \
	X(count, "as many refills in this period as the allowance has")                            \
	X(ceiling, "the CPU of this period is at the allowance's ceiling")                         \
	X(budget, "the node's budget has no room")                                                 \
	X(failed, "the write failed")

/* And what else there is to say of a decision. */
#define REFILL_REASONS(X)                                                                          \
	REFILL_DENIALS(X)                                                                          \
	X(due, "throttled, and its oldest request is old enough")                                  \
	X(off, "no allowance")                                                                     \
	X(running, "not throttled")                                                                \
	X(idle, "no request in flight")                                                            \
	X(young, "its oldest request is not old enough")                                           \
	X(soon, "the period is about to end")

enum refill_reason {
#define X(name, text) REFILL_##name,
	REFILL_REASONS(X)
#undef X
	REFILL_REASON_COUNT,
	REFILL_DENIAL_COUNT = REFILL_due,
};

struct refill_reason_info {
	const char *name;
	const char *text;
};
extern const struct refill_reason_info refill_reasons[REFILL_REASON_COUNT];

/* What is in force on a container. */
struct refill_terms {
	uint64_t quota_ns; /* of a period; 0: no limit, and so no reflex */
	uint64_t period_ns;
	uint64_t burst_ns;
	uint64_t trigger_ns;	/* age of the oldest request; 0: no reflex */
	uint64_t ceiling_ns;	/* CPU of a period, refills included */
	uint32_t refills;	/* of a period, at most */
	uint32_t stuck_refills; /* so many without a completed request are too many */
	uint64_t expires_ns;	/* 0: never */
};

/* What a look at a container told. */
struct refill_seen {
	uint64_t now_ns;
	bool is_throttled;
	int64_t in_flight;
	uint64_t oldest_ns;	 /* age of the oldest request in flight; 0: too young to tell */
	uint64_t completed;	 /* requests answered or failed so far */
	uint64_t period;	 /* number of the present period */
	uint64_t period_ends_ns; /* 0: not known */
	uint64_t used_ns;	 /* CPU time so far */
	uint64_t left_ns;	 /* of the quota's pool */
	uint64_t pool_ns;	 /* what was in it after its newest refill */
	uint64_t burst_ns;	 /* used by burst so far */
};

/* Of one container. Zero-initialise. */
struct refill_state {
	uint64_t period; /* the one that is kept account of, while is_open */
	bool is_open;
	bool must_close;	  /* was refilled or got another quota: look when it has ended */
	uint64_t used_before_ns;  /* CPU time at its start */
	uint64_t burst_before_ns; /* used by burst, at its start */
	uint64_t limit_ns;	  /* the highest quota in force in it */
	uint32_t refills;	  /* in it */
	uint64_t granted_ns;	  /* by them */
	uint64_t late_ns; /* by a write that came when the period was over: it is the next one's */

	uint64_t completed; /* when a request was last seen to complete */
	uint32_t in_vain;   /* refills since */
};

/* What a period that has ended comes to. */
struct refill_account {
	bool is_closed;
	uint64_t
		over_limit_ns; /* CPU used over the highest limit in force, that of burst left out */
	uint64_t unused_ns;    /* of what was granted */
	uint64_t overrun_ns;   /* used beyond it: the scheduler looks at its ticks only */
};

enum refill_verdict {
	REFILL_WRITE, /* grant_ns, now */
	REFILL_WAIT,  /* look again at until_ns */
	REFILL_STOP,  /* until the container is throttled again */
};

struct refill_decision {
	enum refill_verdict verdict;
	enum refill_reason reason;
	uint64_t grant_ns;
	uint64_t until_ns;
	uint64_t
		from_ns; /* a look before until_ns does as well, if it costs no wake: from here on */
};

/* Terms from what is allowed: ages are shares of @target_ns, and no period gets over @most_ns. */
void refill_allow(struct refill_terms *terms, const struct allowance *allowance, uint64_t target_ns,
	uint64_t most_ns);
/*
 * Take a look into account, before any decision on it: closes the account of an earlier period and
 * opens that of the present one.
 */
struct refill_account refill_look(struct refill_state *state, const struct refill_terms *terms,
	const struct refill_seen *seen);
/* What to do; the node's budget is asked after it, for grant_ns. */
struct refill_decision refill_decide(const struct refill_state *state,
	const struct refill_terms *terms, const struct refill_seen *seen);
/* What to do in place of a write that may not be, or failed: wait for @renewed_ns or the period. */
struct refill_decision refill_refuse(const struct refill_terms *terms,
	const struct refill_seen *seen, enum refill_reason reason, uint64_t renewed_ns);
/*
 * Nothing more to do until it is throttled again, but what was done has to be accounted for: when,
 * at the latest in the middle of the next period, on a grid that all units share.
 */
struct refill_decision refill_settle(const struct refill_state *state,
	const struct refill_terms *terms, const struct refill_seen *seen,
	enum refill_reason reason);
/* A refill of @grant_ns was written by @now_ns, on what was @seen. */
void refill_done(struct refill_state *state, const struct refill_seen *seen, uint64_t grant_ns,
	uint64_t now_ns);
/* A new quota was written, which is a refill as well: the account of its period must know. */
void refill_requoted(struct refill_state *state, uint64_t quota_ns);

#endif
