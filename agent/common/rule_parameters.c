// SPDX-License-Identifier: Apache-2.0
#include "common/rule_parameters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW(name, standard, lowest, highest, text) {#name, standard, lowest, highest, text},
#define X(id, name, decides, text)                                                                 \
	static const struct rule_parameter list_##id[] = {RULE_PARAMETERS_##id(ROW)};              \
	_Static_assert(sizeof(list_##id) / sizeof(list_##id[0]) <= RULE_PARAMETERS_MAX, name);
POLICY_RULES(X)
#undef X

const struct rule_parameter_list rule_parameters[POLICY_COUNT] = {
#define X(id, name, decides, text)                                                                 \
	[POLICY_##id] = {list_##id, sizeof(list_##id) / sizeof(list_##id[0])},
	POLICY_RULES(X)
#undef X
};

int rule_parameter_index(enum policy_id id, const char *name)
{
	for (uint32_t i = 0; i < rule_parameters[id].count; i++)
		if (strcmp(rule_parameters[id].list[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int find_rule(const char *name, size_t length)
{
	for (int id = 0; id < POLICY_COUNT; id++)
		if (rule_parameters[id].count && strlen(policy_infos[id].name) == length &&
			memcmp(policy_infos[id].name, name, length) == 0)
			return id;
	return -1;
}

static void list_parameters(enum policy_id id, char *out, size_t size)
{
	size_t length = 0;

	for (uint32_t i = 0; i < rule_parameters[id].count && length < size; i++)
		length += (size_t)snprintf(out + length, size - length, "%s%s", i ? ", " : "",
			rule_parameters[id].list[i].name);
}

int rule_assignment_parse(
	const char *text, struct rule_assignment *assignment, char *error, size_t error_size)
{
	size_t rule_length = strcspn(text, ".="), length = strcspn(text, "=");
	const struct rule_parameter *parameter;
	char name[64], names[256], *end;
	int id, index;
	double value;

	if (text[rule_length] != '.' || text[length] != '=' ||
		length - rule_length - 1 >= sizeof(name)) {
		snprintf(error, error_size, "\"%.80s\" is not RULE.PARAMETER=VALUE", text);
		return -EINVAL;
	}
	id = find_rule(text, rule_length);
	if (id < 0) {
		policy_list(names, sizeof(names));
		snprintf(error, error_size, "\"%.*s\" is not a rule (use one of %s)",
			rule_length > 40 ? 40 : (int)rule_length, text, names);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(length - rule_length - 1),
		text + rule_length + 1);
	index = rule_parameter_index((enum policy_id)id, name);
	if (index < 0) {
		list_parameters((enum policy_id)id, names, sizeof(names));
		snprintf(error, error_size, "\"%s\" is not a parameter of %s (use one of %s)", name,
			policy_infos[id].name, names);
		return -EINVAL;
	}
	parameter = &rule_parameters[id].list[index];
	value = strtod(text + length + 1, &end);
	if (end == text + length + 1 || *end ||
		!(value >= parameter->lowest && value <= parameter->highest)) {
		snprintf(error, error_size, "%s.%s: \"%.40s\" is not a number from %g to %g",
			policy_infos[id].name, name, text + length + 1, parameter->lowest,
			parameter->highest);
		return -EINVAL;
	}
	*assignment = (struct rule_assignment){(enum policy_id)id, (uint32_t)index, value};
	return 0;
}

int rule_assignment_next(
	const char **text, struct rule_assignment *assignment, char *error, size_t error_size)
{
	char one[160];
	size_t length;
	int err;

	*text += strspn(*text, ", ");
	length = strcspn(*text, ", ");
	if (length == 0)
		return 0;
	snprintf(one, sizeof(one), "%.*s", (int)length, *text);
	err = rule_assignment_parse(one, assignment, error, error_size);
	if (err)
		return err;
	*text += length;
	return 1;
}
