// SPDX-License-Identifier: Apache-2.0
#include "learner/rules/rules_family.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct rule *rule_of(enum policy_id id)
{
	static const struct rule *const rules[POLICY_COUNT] = {
#define X(id, name, decides, text) [POLICY_##id] = &rule_##id,
		POLICY_RULES(X)
#undef X
	};

	return id < POLICY_COUNT ? rules[id] : NULL;
}

void rule_config_init(struct rule_config *config, const struct rule *rule)
{
	memset(config, 0, sizeof(*config));
	config->rule = rule;
	for (uint32_t i = 0; i < rule->parameters->count; i++)
		config->values[i] = rule->parameters->list[i].standard;
}

static enum policy_id rule_id(const struct rule *rule)
{
	return (enum policy_id)(rule->info - policy_infos);
}

int rule_config_set(struct rule_config *config, const char *name, double value)
{
	int index = rule_parameter_index(rule_id(config->rule), name);

	if (index < 0)
		return -ENOENT;
	if (!(value >= config->rule->parameters->list[index].lowest &&
		    value <= config->rule->parameters->list[index].highest))
		return -ERANGE;
	config->values[index] = value;
	return 0;
}

void rule_configs_init(struct rule_configs *configs)
{
	memset(configs, 0, sizeof(*configs));
	for (int id = 0; id < POLICY_COUNT; id++)
		if (rule_of((enum policy_id)id))
			rule_config_init(&configs->of[id], rule_of((enum policy_id)id));
}

int rule_configs_set(
	struct rule_configs *configs, const char *assignments, char *error, size_t error_size)
{
	struct rule_configs changed = *configs;
	struct rule_assignment assignment;
	int more;

	while ((more = rule_assignment_next(&assignments, &assignment, error, error_size)) > 0)
		changed.of[assignment.id].values[assignment.index] = assignment.value;
	if (!more)
		*configs = changed;
	return more;
}

static size_t state_room(const struct rule *rule)
{
	const size_t to = alignof(max_align_t);

	return rule ? (rule->state_size + to - 1) / to * to : 0;
}

int rule_team_form(struct rule_team *team, const struct policy_set *set)
{
	size_t room = 0;
	char *memory;

	if (team->formed && team->set.count == set->count &&
		memcmp(team->set.parts, set->parts, set->count * sizeof(set->parts[0])) == 0)
		return 0;
	for (uint32_t i = 0; i < set->count; i++)
		room += state_room(rule_of(set->parts[i]));
	memory = calloc(1, room + 1);
	if (!memory)
		return -ENOMEM;
	rule_team_free(team);
	team->set = *set;
	team->memory = memory;
	team->formed = true;
	for (uint32_t i = 0; i < set->count; i++) {
		team->states[i] = memory;
		memory += state_room(rule_of(set->parts[i]));
	}
	return 0;
}

void rule_team_free(struct rule_team *team)
{
	free(team->memory);
	memset(team, 0, sizeof(*team));
}

uint32_t rule_team_decide(struct rule_team *team, const struct rule_configs *configs,
	uint32_t decides, double now_s, const struct sample *sample,
	const struct objective *objective, uint32_t replicas, struct plan *plan,
	uint32_t *replicas_wanted)
{
	uint32_t decided = 0;

	for (uint32_t i = 0; i < team->set.count; i++) {
		const struct rule *rule = rule_of(team->set.parts[i]);
		const struct rule_config *config = &configs->of[team->set.parts[i]];

		if (rule && rule->info->decides & decides &&
			rule->decide(config, team->states[i], now_s, sample, objective, replicas,
				plan, replicas_wanted))
			decided |= rule->info->decides;
	}
	return decided & decides;
}

void rule_team_explain(const struct rule_team *team, const struct rule_configs *configs,
	uint32_t decides, char *out, size_t size)
{
	size_t length = 0;

	if (size)
		out[0] = '\0';
	for (uint32_t i = 0; i < team->set.count && length < size; i++) {
		const struct rule *rule = rule_of(team->set.parts[i]);
		char text[128];

		if (!rule || !(rule->info->decides & decides))
			continue;
		rule->explain(
			&configs->of[team->set.parts[i]], team->states[i], text, sizeof(text));
		length += (size_t)snprintf(out + length, size - length, "%s%s: %s",
			length ? "; " : "", rule->info->name, text);
	}
}
