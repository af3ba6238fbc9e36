// SPDX-License-Identifier: Apache-2.0
/* Which names are policies, what they decide, and what is said of those that are not. */
#include "common/policy_name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_every_name_of_the_table_is_a_policy(void **state)
{
	(void)state;
	for (int id = 0; id < POLICY_COUNT; id++) {
		const struct policy_info *info = &policy_infos[id];
		struct policy_set set;

		assert_int_equal(policy_parse(info->name, &set, NULL, 0), 0);
		assert_int_equal(set.count, 1);
		assert_int_equal(set.parts[0], id);
		assert_int_equal(set.decides, info->decides);
		assert_true(info->decides != 0 && info->decides < 1U << DECIDES_COUNT);
		assert_true(info->text[0] != '\0');
	}
}

static void test_parts_that_decide_different_things_are_joined(void **state)
{
	struct policy_set set;

	(void)state;
	assert_int_equal(policy_parse("captain+senpai+hpa+reflex+burst", &set, NULL, 0), 0);
	assert_int_equal(set.count, 5);
	assert_int_equal(set.decides, DECIDES_PLAN | DECIDES_REPLICAS);
	assert_int_equal(policy_parse("dqn", &set, NULL, 0), 0);
	assert_int_equal(set.decides, DECIDES_PLAN | DECIDES_REPLICAS);
	/* It decides all, so nothing can stand beside it. */
	assert_int_equal(policy_parse("dqn+reflex", &set, NULL, 0), -EINVAL);
}

static void test_the_order_of_the_parts_means_nothing(void **state)
{
	struct policy_set first, second;

	(void)state;
	assert_int_equal(policy_parse("k8s-cpu+hpa+burst", &first, NULL, 0), 0);
	assert_int_equal(policy_parse("burst+hpa+k8s-cpu", &second, NULL, 0), 0);
	assert_int_equal(first.count, second.count);
	for (uint32_t i = 0; i < first.count; i++)
		assert_int_equal(first.parts[i], second.parts[i]);
	/* What builds on the limit stands after what decides it. */
	assert_int_equal(first.parts[0], POLICY_k8s_cpu);
	assert_int_equal(first.parts[2], POLICY_burst);
}

static void test_what_is_no_policy_is_refused_with_the_list(void **state)
{
	static const char *const wrong[] = {"", "+", "DQN", "dqn ", "k8s-cpu+", "+hpa",
		"k8s-cpu++hpa", "k8s-cpu,hpa", "k8s_cpu", "k8s-cp", "k8s-cpux", "-",
		"0123456789012345678901234567890123456789012345678901234567890123456789"};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct policy_set set = {.count = 77};
		char error[288];

		assert_int_equal(policy_parse(wrong[i], &set, error, sizeof(error)), -EINVAL);
		assert_int_equal(set.count, 77);
		for (int id = 0; id < POLICY_COUNT; id++)
			if (!strstr(error, policy_infos[id].name))
				fail_msg("\"%s\": %s: no %s", wrong[i], error,
					policy_infos[id].name);
	}
}

static void test_two_parts_that_decide_the_same_are_named(void **state)
{
	static const struct {
		const char *policy;
		const char *error;
	} cases[] = {
		{"k8s-cpu+captain",
			"\"k8s-cpu+captain\": k8s-cpu and captain both decide CPU (leave one out)"},
		{"hpa+k8s-cpu+kpa",
			"\"hpa+k8s-cpu+kpa\": hpa and kpa both decide replicas (leave one out)"},
		{"senpai+vpa", "\"senpai+vpa\": senpai and vpa both decide memory (leave one out)"},
		{"dqn+dqn", "\"dqn+dqn\": dqn and dqn both decide CPU (leave one out)"},
		{"reflex-fixed+reflex", "\"reflex-fixed+reflex\": reflex-fixed and reflex both "
					"decide the reflex's allowance (leave one out)"},
		{"koordinator+burst", "\"koordinator+burst\": koordinator and burst both decide "
				      "the CFS burst (leave one out)"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char error[288];

		assert_int_equal(
			policy_parse(cases[i].policy, NULL, error, sizeof(error)), -EINVAL);
		assert_string_equal(error, cases[i].error);
	}
}

static void test_a_short_buffer_is_not_overrun(void **state)
{
	char error[16];

	(void)state;
	memset(error, 'x', sizeof(error));
	assert_int_equal(policy_parse("no such policy", NULL, error, 8), -EINVAL);
	assert_int_equal(strlen(error), 7);
	assert_int_equal(error[8], 'x');
	policy_list(error, 8);
	assert_string_equal(error, "dqn, st");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_name_of_the_table_is_a_policy),
		cmocka_unit_test(test_parts_that_decide_different_things_are_joined),
		cmocka_unit_test(test_the_order_of_the_parts_means_nothing),
		cmocka_unit_test(test_what_is_no_policy_is_refused_with_the_list),
		cmocka_unit_test(test_two_parts_that_decide_the_same_are_named),
		cmocka_unit_test(test_a_short_buffer_is_not_overrun),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
