// SPDX-License-Identifier: Apache-2.0
#include "common/envelope_rule.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	const char *text;
} infos[RULE_COUNT] = {
#define X(id, name, text) [RULE_##id] = {name, text},
	ENVELOPE_RULES(X)
#undef X
};

const char *envelope_rule_name(enum envelope_rule rule)
{
	return rule < RULE_COUNT ? infos[rule].name : "";
}

const char *envelope_rule_text(const char *name)
{
	for (int rule = RULE_NONE + 1; rule < RULE_COUNT; rule++)
		if (strcmp(infos[rule].name, name) == 0)
			return infos[rule].text;
	return NULL;
}
