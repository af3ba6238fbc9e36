// SPDX-License-Identifier: Apache-2.0
#include "learner/rules_family.h"

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
	for (uint32_t i = 0; i < rule->parameter_count; i++)
		config->values[i] = rule->parameters[i].standard;
}

int rule_parameter_index(const struct rule *rule, const char *name)
{
	for (uint32_t i = 0; i < rule->parameter_count; i++)
		if (strcmp(rule->parameters[i].name, name) == 0)
			return (int)i;
	return -1;
}

int rule_config_set(struct rule_config *config, const char *name, double value)
{
	int index = rule_parameter_index(config->rule, name);

	if (index < 0)
		return -ENOENT;
	if (!(value >= config->rule->parameters[index].lowest &&
		    value <= config->rule->parameters[index].highest))
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

static struct rule_config *find_config(
	struct rule_configs *configs, const char *name, size_t length)
{
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct rule *rule = configs->of[id].rule;

		if (rule && strlen(rule->info->name) == length &&
			memcmp(rule->info->name, name, length) == 0)
			return &configs->of[id];
	}
	return NULL;
}

static void list_parameters(const struct rule *rule, char *out, size_t size)
{
	size_t length = 0;

	for (uint32_t i = 0; i < rule->parameter_count && length < size; i++)
		length += (size_t)snprintf(out + length, size - length, "%s%s", i ? ", " : "",
			rule->parameters[i].name);
}

int rule_configs_set(
	struct rule_configs *configs, const char *assignment, char *error, size_t error_size)
{
	size_t rule_length = strcspn(assignment, ".="), length = strcspn(assignment, "=");
	struct rule_config *config = find_config(configs, assignment, rule_length);
	const struct rule_parameter *parameter;
	char name[64], names[256], *end;
	double value;

	if (assignment[rule_length] != '.' || assignment[length] != '=' ||
		length - rule_length - 1 >= sizeof(name)) {
		snprintf(error, error_size, "\"%.80s\" is not RULE.PARAMETER=VALUE", assignment);
		return -EINVAL;
	}
	if (!config) {
		policy_list(names, sizeof(names));
		snprintf(error, error_size, "\"%.*s\" is not a rule (use one of %s)",
			rule_length > 40 ? 40 : (int)rule_length, assignment, names);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(length - rule_length - 1),
		assignment + rule_length + 1);
	if (rule_parameter_index(config->rule, name) < 0) {
		list_parameters(config->rule, names, sizeof(names));
		snprintf(error, error_size, "\"%s\" is not a parameter of %s (use one of %s)", name,
			config->rule->info->name, names);
		return -EINVAL;
	}
	parameter = &config->rule->parameters[rule_parameter_index(config->rule, name)];
	value = strtod(assignment + length + 1, &end);
	if (end == assignment + length + 1 || *end || rule_config_set(config, name, value)) {
		snprintf(error, error_size, "%s.%s: \"%.40s\" is not a number from %g to %g",
			config->rule->info->name, name, assignment + length + 1, parameter->lowest,
			parameter->highest);
		return -EINVAL;
	}
	return 0;
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
