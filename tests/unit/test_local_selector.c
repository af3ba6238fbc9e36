// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "local/api/selector.h"

static json_t *pod(void)
{
	return json_pack("{s:{s:s, s:s, s:{s:s, s:s}}, s:{s:s}}", "metadata", "name", "p",
		"namespace", "default", "labels", "app", "a", "tier", "web", "spec", "nodeName",
		"n1");
}

static void expect_labels(const char *text, bool wanted)
{
	struct selector selector;
	json_t *object = pod();
	char error[256];

	if (selector_parse_labels(&selector, text, error, sizeof(error)))
		fail_msg("%s: %s", text, error);
	if (selector_match_labels(&selector, object) != wanted)
		fail_msg("%s: expected %d", text, wanted);
	selector_free(&selector);
	json_decref(object);
}

static void expect_fields(const char *text, bool wanted)
{
	struct selector selector;
	json_t *object = pod();
	char error[256];

	if (selector_parse_fields(&selector, &resources[RESOURCE_PODS], text, error, sizeof(error)))
		fail_msg("%s: %s", text, error);
	if (selector_match_fields(&selector, object) != wanted)
		fail_msg("%s: expected %d", text, wanted);
	selector_free(&selector);
	json_decref(object);
}

static void test_equality_selects(void **state)
{
	(void)state;
	expect_labels("", true);
	expect_labels("app=a", true);
	expect_labels("app==a, tier = web", true);
	expect_labels("app=b", false);
	expect_labels("app!=b", true);
	expect_labels("none!=b", true);
	expect_labels("none=", false);
}

static void test_sets_select(void **state)
{
	(void)state;
	expect_labels("app in (x, a)", true);
	expect_labels("app in (x,y),tier=web", false);
	expect_labels("app notin (x,y)", true);
	expect_labels("none notin (x)", true);
	expect_labels("app,!none", true);
	expect_labels("!app", false);
}

static void test_fields_select(void **state)
{
	(void)state;
	expect_fields("spec.nodeName=n1", true);
	expect_fields("spec.nodeName=n2", false);
	expect_fields("metadata.name==p,metadata.namespace=default", true);
	expect_fields("status.phase!=Running", true);
	expect_fields("status.phase=", true);
}

static void test_bad_selectors_are_refused(void **state)
{
	static const char *const bad[] = {
		"=a", "app in", "app in (a", "app in a", "app near (a)", "app=a b", "!", "a=b&c"};
	struct selector selector;
	char error[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (selector_parse_labels(&selector, bad[i], error, sizeof(error)) != -EINVAL)
			fail_msg("%s: expected -EINVAL", bad[i]);
	assert_int_equal(selector_parse_fields(&selector, &resources[RESOURCE_PODS], "spec.x=1",
				 error, sizeof(error)),
		-EINVAL);
	assert_string_equal(error, "field label not supported: spec.x");
	assert_int_equal(selector_parse_fields(&selector, &resources[RESOURCE_PODS],
				 "metadata.name", error, sizeof(error)),
		-EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equality_selects),
		cmocka_unit_test(test_sets_select),
		cmocka_unit_test(test_fields_select),
		cmocka_unit_test(test_bad_selectors_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
