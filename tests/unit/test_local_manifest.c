// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "local/api/object.h"
#include "local/manifest.h"

/* clang-format off */
#define DEPLOYMENT \
	"apiVersion: apps/v1\n" \
	"kind: Deployment\n" \
	"metadata:\n" \
	"  name: a\n" \
	"spec:\n" \
	"  replicas: 3\n" \
	"  selector: {matchLabels: {app: a}}\n" \
	"  template:\n" \
	"    metadata: {labels: {app: a}}\n" \
	"    spec:\n" \
	"      containers:\n" \
	"        - name: main\n" \
	"          command: [sleep, '1']\n" \
	"          resources: {limits: {cpu: 1.5, memory: 64Mi}}\n"
/* clang-format on */

static json_t *parse(const char *text)
{
	char error[512] = "";
	json_t *objects = NULL;

	if (manifest_parse("f.yaml", text, strlen(text), &objects, error, sizeof(error)))
		fail_msg("expected it to parse, got \"%s\"", error);
	return objects;
}

static void expect_error(const char *text, const char *wanted)
{
	char error[512] = "";
	json_t *objects = NULL;
	int err = manifest_parse("f.yaml", text, strlen(text), &objects, error, sizeof(error));

	assert_int_equal(err, -EINVAL);
	if (strncmp(error, wanted, strlen(wanted)))
		fail_msg("expected \"%s...\", got \"%s\"", wanted, error);
	assert_null(strchr(error, '\n'));
}

/* DEPLOYMENT with one text replaced by another; the caller frees. */
static char *changed(const char *old, const char *new)
{
	const char *at = strstr(DEPLOYMENT, old);
	char *text = NULL;

	assert_non_null(at);
	if (asprintf(&text, "%.*s%s%s", (int)(at - DEPLOYMENT), DEPLOYMENT, new, at + strlen(old)) <
		0)
		fail();
	return text;
}

static void expect_change_error(const char *old, const char *new, const char *wanted)
{
	char *text = changed(old, new);

	expect_error(text, wanted);
	free(text);
}

static void test_several_documents_are_read(void **state)
{
	json_t *objects = parse("---\n" DEPLOYMENT "---\n---\n"
				"apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n");

	(void)state;
	assert_int_equal(json_array_size(objects), 2);
	assert_string_equal(object_name(json_array_get(objects, 0)), "a");
	assert_string_equal(object_namespace(json_array_get(objects, 0)), "default");
	assert_string_equal(object_string(json_array_get(objects, 1), "kind", NULL), "Namespace");
	json_decref(objects);
}

static void test_defaults_and_quantities_are_filled_in(void **state)
{
	json_t *objects = parse(DEPLOYMENT);
	const json_t *spec =
		object_get(json_array_get(objects, 0), "spec", "template", "spec", NULL);
	const json_t *container = json_array_get(object_get(spec, "containers", NULL), 0);

	(void)state;
	assert_int_equal(object_integer(spec, "terminationGracePeriodSeconds", 0), 30);
	assert_string_equal(object_string(container, "resources", "limits", "cpu", NULL), "1500m");
	assert_string_equal(
		object_string(container, "resources", "requests", "memory", NULL), "64Mi");
	json_decref(objects);
}

static void test_json_lists_are_read(void **state)
{
	json_t *objects = parse(
		"{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [\n"
		"\t{\"kind\": \"Namespace\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"x\","
		" \"annotations\": {\"a\": \"\\ud83d\\ude00\"}}}\n]}");

	(void)state;
	assert_int_equal(json_array_size(objects), 1);
	json_decref(objects);
}

static void test_anchors_and_merge_keys_work(void **state)
{
	json_t *objects = parse("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: x\n"
				"  labels: &l {a: b}\n  annotations: {<<: *l, c: \"1\"}\n");

	(void)state;
	assert_string_equal(
		object_string(json_array_get(objects, 0), "metadata", "annotations", "a", NULL),
		"b");
	json_decref(objects);
}

static void test_an_error_names_file_line_and_field(void **state)
{
	(void)state;
	expect_change_error("replicas: 3", "replicas: many",
		"f.yaml:6: Deployment \"a\": spec.replicas: Invalid value: \"many\"");
	expect_change_error("cpu: 1.5", "cpu: fast",
		"f.yaml:14: Deployment \"a\": spec.template.spec.containers[0].resources.limits[cpu]");
	expect_change_error("          command: [sleep, '1']\n", "",
		"f.yaml:12: Deployment \"a\": spec.template.spec.containers[0].command: Required");
	expect_change_error("'1'", "1",
		"f.yaml:13: Deployment \"a\": spec.template.spec.containers[0].command[1]");
	expect_change_error("{matchLabels: {app: a}}", "{matchLabels: {app: b}}",
		"f.yaml:9: Deployment \"a\": spec.template.metadata.labels");
	expect_change_error(
		"  name: a\n", "  name: A_b\n", "f.yaml:4: Deployment \"A_b\": metadata.name");
	expect_change_error(
		"apps/v1", "apps/v2", "f.yaml:1: apiVersion: Deployment has no version");
	expect_change_error("kind: Deployment\n", "", "f.yaml:1: kind: Required value");
	expect_change_error("  replicas: 3\n", "  replicas: 3\n  replicas: 4\n",
		"f.yaml:7: key \"replicas\" is there twice");
}

static void test_text_that_is_no_manifest_is_refused(void **state)
{
	(void)state;
	expect_error("", "f.yaml:1: no Deployment in it");
	expect_error("a: [", "f.yaml:");
	expect_error("- a\n- b\n", "f.yaml:1: not a Kubernetes object");
	expect_error("just words", "f.yaml:");
	expect_error(DEPLOYMENT "---\n" DEPLOYMENT, "f.yaml:16: Deployment \"a\" is there twice");
}

static void test_aliases_cannot_fill_the_memory(void **state)
{
	char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
	size_t used = strlen(text);

	(void)state;
	for (int i = 1; i < 12; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
			"a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1,
			i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	expect_error(text, "f.yaml:1: too many values");
	expect_error("a: &a [*a]\n", "f.yaml:1: nested too deeply");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_several_documents_are_read),
		cmocka_unit_test(test_defaults_and_quantities_are_filled_in),
		cmocka_unit_test(test_json_lists_are_read),
		cmocka_unit_test(test_anchors_and_merge_keys_work),
		cmocka_unit_test(test_an_error_names_file_line_and_field),
		cmocka_unit_test(test_text_that_is_no_manifest_is_refused),
		cmocka_unit_test(test_aliases_cannot_fill_the_memory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
