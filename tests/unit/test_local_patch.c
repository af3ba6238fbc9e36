// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "local/api/patch.h"

static json_t *load(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	if (!value)
		fail_msg("not JSON: %s", text);
	return value;
}

static void expect(enum patch_type type, const char *before, const char *patch, const char *after)
{
	json_t *object = load(before), *changes = load(patch), *wanted = load(after), *got = NULL;
	char error[256] = "", *text;

	if (patch_apply(type, object, changes, &got, error, sizeof(error)))
		fail_msg("%s: %s", patch, error);
	if (!json_equal(got, wanted)) {
		text = json_dumps(got, JSON_COMPACT);
		fail_msg("%s: expected %s, got %s", patch, after, text);
		free(text);
	}
	json_decref(object);
	json_decref(changes);
	json_decref(wanted);
	json_decref(got);
}

static void expect_error(enum patch_type type, const char *before, const char *patch, int wanted)
{
	json_t *object = load(before), *changes = load(patch), *got = NULL;
	char error[256] = "";
	int err = patch_apply(type, object, changes, &got, error, sizeof(error));

	if (err != wanted)
		fail_msg("%s: expected %d, got %d", patch, wanted, err);
	assert_true(*error);
	json_decref(object);
	json_decref(changes);
}

static void test_merge_patch_follows_rfc_7396(void **state)
{
	(void)state;
	expect(PATCH_MERGE, "{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":null,\"d\":3}}",
		"{\"a\":{\"c\":2,\"d\":3}}");
	expect(PATCH_MERGE, "{\"a\":[1,2]}", "{\"a\":[3]}", "{\"a\":[3]}");
	expect(PATCH_MERGE, "{\"a\":1}", "{\"a\":{\"b\":{\"c\":null}}}", "{\"a\":{\"b\":{}}}");
	expect_error(PATCH_MERGE, "{}", "[]", -EINVAL);
}

static void test_json_patch_follows_rfc_6902(void **state)
{
	(void)state;
	expect(PATCH_JSON, "{\"a\":[1,3],\"b\":{\"x/y\":0}}",
		"[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":2},"
		"{\"op\":\"add\",\"path\":\"/a/-\",\"value\":4},"
		"{\"op\":\"replace\",\"path\":\"/b/x~1y\",\"value\":9},"
		"{\"op\":\"test\",\"path\":\"/a/0\",\"value\":1},"
		"{\"op\":\"remove\",\"path\":\"/a/0\"},"
		"{\"op\":\"copy\",\"from\":\"/b\",\"path\":\"/c\"},"
		"{\"op\":\"move\",\"from\":\"/c/x~1y\",\"path\":\"/d\"}]",
		"{\"a\":[2,3,4],\"b\":{\"x/y\":9},\"c\":{},\"d\":9}");
	expect_error(PATCH_JSON, "{}", "[{\"op\":\"remove\",\"path\":\"/a\"}]", -ENOENT);
	expect_error(PATCH_JSON, "{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]",
		-ENOENT);
	expect_error(
		PATCH_JSON, "{}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":2}]", -ENOENT);
	expect_error(PATCH_JSON, "{}", "[{\"op\":\"jump\",\"path\":\"/a\"}]", -EINVAL);
	expect_error(PATCH_JSON, "{}", "{}", -EINVAL);
}

static void test_a_failed_patch_leaves_the_object_as_it_was(void **state)
{
	json_t *object = load("{\"a\":[1]}"), *copy = json_deep_copy(object), *got;
	json_t *patch = load("[{\"op\":\"remove\",\"path\":\"/a/0\"},"
			     "{\"op\":\"remove\",\"path\":\"/b\"}]");
	char error[256];

	(void)state;
	assert_int_equal(
		patch_apply(PATCH_JSON, object, patch, &got, error, sizeof(error)), -ENOENT);
	assert_true(json_equal(object, copy));
	json_decref(object);
	json_decref(copy);
	json_decref(patch);
}

static void test_strategic_merge_joins_lists_by_their_key(void **state)
{
	(void)state;
	expect(PATCH_STRATEGIC_MERGE,
		"{\"containers\":[{\"name\":\"a\",\"image\":\"x\"},{\"name\":\"b\"}]}",
		"{\"containers\":[{\"name\":\"a\",\"env\":[{\"name\":\"E\",\"value\":\"1\"}]},"
		"{\"name\":\"c\"}]}",
		"{\"containers\":[{\"name\":\"a\",\"image\":\"x\",\"env\":[{\"name\":\"E\","
		"\"value\":\"1\"}]},{\"name\":\"b\"},{\"name\":\"c\"}]}");
	expect(PATCH_STRATEGIC_MERGE, "{\"args\":[\"a\"],\"x\":1}", "{\"args\":[\"b\"],\"x\":null}",
		"{\"args\":[\"b\"]}");
	expect_error(PATCH_STRATEGIC_MERGE, "{}", "{\"containers\":[{\"image\":\"x\"}]}", -EINVAL);
}

static void test_strategic_merge_directives_work(void **state)
{
	(void)state;
	expect(PATCH_STRATEGIC_MERGE, "{\"env\":[{\"name\":\"a\"},{\"name\":\"b\"}]}",
		"{\"env\":[{\"name\":\"a\",\"$patch\":\"delete\"},{\"name\":\"c\"}],"
		"\"$setElementOrder/env\":[{\"name\":\"c\"},{\"name\":\"b\"}]}",
		"{\"env\":[{\"name\":\"c\"},{\"name\":\"b\"}]}");
	expect(PATCH_STRATEGIC_MERGE, "{\"s\":{\"a\":1,\"b\":2}}",
		"{\"s\":{\"$patch\":\"replace\",\"c\":3}}", "{\"s\":{\"c\":3}}");
	expect(PATCH_STRATEGIC_MERGE, "{\"s\":{\"type\":\"R\",\"r\":2}}",
		"{\"s\":{\"$retainKeys\":[\"type\"],\"type\":\"C\"}}", "{\"s\":{\"type\":\"C\"}}");
	expect(PATCH_STRATEGIC_MERGE, "{\"f\":[\"a\",\"b\"]}",
		"{\"$deleteFromPrimitiveList/f\":[\"a\"]}", "{\"f\":[\"b\"]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge_patch_follows_rfc_7396),
		cmocka_unit_test(test_json_patch_follows_rfc_6902),
		cmocka_unit_test(test_a_failed_patch_leaves_the_object_as_it_was),
		cmocka_unit_test(test_strategic_merge_joins_lists_by_their_key),
		cmocka_unit_test(test_strategic_merge_directives_work),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
