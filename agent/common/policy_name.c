// SPDX-License-Identifier: Apache-2.0
#include "common/policy_name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct policy_info policy_infos[POLICY_COUNT] = {
#define X(id, name, decides, text) [POLICY_##id] = {name, decides, text},
	POLICIES(X)
#undef X
};

const char *policy_decides_name(uint32_t decides)
{
	static const char *const names[DECIDES_COUNT] = {
		"CPU", "memory", "replicas", "the reflex's allowance", "the CFS burst"};

	for (int bit = 0; bit < DECIDES_COUNT; bit++)
		if (decides >> bit & 1)
			return names[bit];
	return "nothing";
}

void policy_list(char *out, size_t size)
{
	size_t length = 0;

	if (size)
		out[0] = '\0';
	for (int id = 0; id < POLICY_COUNT && length < size; id++)
		length += (size_t)snprintf(
			out + length, size - length, "%s%s", id ? ", " : "", policy_infos[id].name);
}

static int find_part(const char *text, size_t length)
{
	for (int id = 0; id < POLICY_COUNT; id++)
		if (strlen(policy_infos[id].name) == length &&
			memcmp(policy_infos[id].name, text, length) == 0)
			return id;
	return -1;
}

/* The names of a message, shortened: what a person typed may be anything. */
static void refuse_name(const char *name, char *error, size_t error_size)
{
	char names[192];

	policy_list(names, sizeof(names));
	snprintf(error, error_size,
		"\"%.40s\" is not a policy (use one of %s, or some joined by '+')", name, names);
}

static void refuse_pair(const char *name, const struct policy_set *set, enum policy_id last,
	char *error, size_t error_size)
{
	for (uint32_t i = 0; i < set->count; i++) {
		const struct policy_info *first = &policy_infos[set->parts[i]];
		uint32_t both = first->decides & policy_infos[last].decides;

		if (!both)
			continue;
		snprintf(error, error_size, "\"%.40s\": %s and %s both decide %s (leave one out)",
			name, first->name, policy_infos[last].name, policy_decides_name(both));
		return;
	}
}

/* In the table's order: what builds on another's decision (burst on the limit) stands after it. */
static void add_part(struct policy_set *set, enum policy_id id)
{
	uint32_t at = set->count++;

	for (; at && set->parts[at - 1] > id; at--)
		set->parts[at] = set->parts[at - 1];
	set->parts[at] = id;
	set->decides |= policy_infos[id].decides;
}

int policy_parse(const char *name, struct policy_set *set, char *error, size_t error_size)
{
	struct policy_set parsed = {.count = 0};
	const char *text = name;

	if (error_size)
		error[0] = '\0';
	for (;;) {
		size_t length = strcspn(text, "+");
		int id = find_part(text, length);

		if (id < 0 || strlen(name) >= POLICY_NAME_MAX) {
			refuse_name(name, error, error_size);
			return -EINVAL;
		}
		if (parsed.decides & policy_infos[id].decides) {
			refuse_pair(name, &parsed, (enum policy_id)id, error, error_size);
			return -EINVAL;
		}
		/* Each part decides something that no other does: there is room for all. */
		add_part(&parsed, (enum policy_id)id);
		if (!text[length])
			break;
		text += length + 1;
	}
	if (set)
		*set = parsed;
	return 0;
}
