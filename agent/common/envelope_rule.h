// SPDX-License-Identifier: Apache-2.0
/*
 * The names of the rules that bound every action, and what each says in plain words. The one list:
 * the envelope, metrics, logs, the decisions' record and `ebbctl explain` follow it.
 * docs/envelope.md is its prose.
 */
#ifndef EBBTIDE_ENVELOPE_RULE_H
#define EBBTIDE_ENVELOPE_RULE_H

/* X(identifier, name, what it says): the text goes on after "the action was changed: ". */
#define ENVELOPE_RULES(X)                                                                           \
	X(NONE, "", "")                                                                             \
	X(BOUNDS, "bounds", "nothing goes outside the objective's bounds or the owner's limit")     \
	X(STEP, "step-limit", "a jump is cut to one step of the action table")                      \
	X(OVER_OBJECTIVE, "no-cut-over-objective",                                                  \
		"nothing is taken away while latency is over its target")                           \
	X(MEMORY_FLOOR, "memory-floor", "memory stays above what is in use plus a margin")          \
	X(COOLDOWN, "cooldown", "replicas rest after some were taken away")                         \
	X(REVERT, "revert", "latency went over its target right after a cut: it is taken back")     \
	X(FROZEN, "frozen", "the operator froze this service")                                      \
	X(UNLIMITED, "no-limit-set", "the owner set no such limit, and none is added")              \
	X(NO_REFLEX, "no-reflex", "where no reflex helps the limit stays above what is asked for")  \
	X(VIOLATIONS_ASKED, "violations-asked",                                                     \
		"the objective broke more often than is accepted: the cheapest limits are barred")  \
	X(THROTTLING_ASKED, "throttling-asked",                                                     \
		"the quota ran out in more periods than is accepted: the lowest limits are barred") \
	X(STARTING, "starting", "what starts keeps its CPU limit until it is ready")                \
	X(REPLICA_ROOM, "replica-room",                                                             \
		"each replica keeps room under the most CPU that it may use")                       \
	X(DIVERGED, "diverged", "the network is not to be trusted now: a rule decides for it")      \
	X(OTHER_AUTOSCALER, "other-autoscaler", "another autoscaler sets this, and two would fight")

enum envelope_rule {
#define X(id, name, text) RULE_##id,
	ENVELOPE_RULES(X)
#undef X
	RULE_COUNT,
};

const char *envelope_rule_name(enum envelope_rule rule);
/* What the rule of that name says; NULL: no rule's name. */
const char *envelope_rule_text(const char *name);

#endif
