// SPDX-License-Identifier: Apache-2.0
/* The API without sockets and processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "local/api/api.h"
#include "local/api/object.h"

#define LEASES	    "/apis/coordination.k8s.io/v1/namespaces/d/leases"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/d/deployments"
#define OBJECTIVES  "/apis/ebbtide.io/v1alpha1/namespaces/d/scaleobjectives"
#define MERGE	    "application/merge-patch+json"
#define TABLE	    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
#define BASE	    1000

static const char deployment[] =
	"{\"metadata\":{\"name\":\"f\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":"
	"{\"app\":\"f\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"f\"}},\"spec\":"
	"{\"containers\":[{\"name\":\"main\",\"command\":[\"true\"]}]}}}}";

struct fixture {
	struct api api;
	const char *query; /* "name=value&name=value" of the next call */
	char value[256];
};

static struct fixture fixture;

static int set_up(void **state)
{
	struct store *store = store_new(BASE, 8);

	*state = &fixture;
	api_init(&fixture.api, store, NULL, "/nonexistent");
	fixture.query = "";
	return store ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	store_free(fixture.api.store);
	pthread_mutex_destroy(&fixture.api.resize_lock);
	return 0;
}

static const char *query(const struct api_request *request, const char *name)
{
	const char *p = fixture.query;
	size_t length = strlen(name);

	(void)request;
	while (*p) {
		size_t part = strcspn(p, "&");

		if (!strncmp(p, name, length) && p[length] == '=') {
			snprintf(fixture.value, sizeof(fixture.value), "%.*s",
				(int)(part - length - 1), p + length + 1);
			return fixture.value;
		}
		p += part + (p[part] == '&');
	}
	return NULL;
}

static struct api_answer call_as(const char *method, const char *path, const char *body,
	const char *content_type, const char *accept)
{
	struct api_request request = {
		.method = method,
		.path = path,
		.content_type = content_type,
		.accept = accept,
		.body = body,
		.body_size = body ? strlen(body) : 0,
		.query = query,
	};
	struct api_answer answer;

	api_handle(&fixture.api, &request, &answer);
	fixture.query = "";
	return answer;
}

static void expect(
	const char *method, const char *path, const char *body, const char *content_type, int code)
{
	struct api_answer answer = call_as(method, path, body, content_type, NULL);

	if (answer.code != code)
		fail_msg("%s %s: expected %d, got %d %s", method, path, code, answer.code,
			json_dumps(answer.json, 0));
	api_answer_free(&answer);
}

static void test_discovery_lists_what_is_served(void **state)
{
	struct api_answer answer = call_as("GET", "/apis/apps/v1", NULL, NULL, NULL);
	json_t *entry;
	size_t index;
	bool scale = false;

	(void)state;
	json_array_foreach (json_object_get(answer.json, "resources"), index, entry)
		if (!strcmp(object_string(entry, "name", NULL), "deployments/scale")) {
			scale = true;
			assert_string_equal(object_string(entry, "group", NULL), "autoscaling");
		}
	assert_true(scale);
	api_answer_free(&answer);
	expect("GET", "/api", NULL, NULL, 200);
	expect("GET", "/apis", NULL, NULL, 200);
	expect("GET", "/api/v1", NULL, NULL, 200);
	expect("GET", "/version", NULL, NULL, 200);
	expect("GET", "/healthz", NULL, NULL, 200);
	expect("GET", "/openapi/v2", NULL, NULL, 404);
	expect("GET", "/", NULL, NULL, 404);
	expect("GET", "/api/v2", NULL, NULL, 404);
	expect("POST", "/api", "{}", NULL, 405);
}

static void test_scale_reads_and_writes_replicas(void **state)
{
	struct api_answer answer;

	(void)state;
	expect("POST", DEPLOYMENTS, deployment, "application/json", 201);
	answer = call_as("GET", DEPLOYMENTS "/f/scale", NULL, NULL, NULL);
	assert_string_equal(object_string(answer.json, "kind", NULL), "Scale");
	assert_string_equal(object_string(answer.json, "status", "selector", NULL), "app=f");
	json_object_set_new(json_object_get(answer.json, "spec"), "replicas", json_integer(5));
	char *body = json_dumps(answer.json, 0);

	api_answer_free(&answer);
	expect("PUT", DEPLOYMENTS "/f/scale", body, "application/json", 200);
	expect("PUT", DEPLOYMENTS "/f/scale", body, "application/json", 409);
	free(body);
	expect("PATCH", DEPLOYMENTS "/f/scale", "{\"spec\":{\"replicas\":-1}}", MERGE, 422);
	expect("PATCH", DEPLOYMENTS "/f/scale", "{\"spec\":{\"replicas\":\"2\"}}", MERGE, 400);
	answer = call_as("GET", DEPLOYMENTS "/f", NULL, NULL, NULL);
	assert_int_equal(object_integer(object_get(answer.json, "spec", NULL), "replicas", 0), 5);
	assert_int_equal(
		object_integer(object_get(answer.json, "metadata", NULL), "generation", 0), 2);
	api_answer_free(&answer);
}

static void test_autoscalers_of_others_are_kept(void **state)
{
	static const char horizontals[] =
		"/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
	static const char verticals[] =
		"/apis/autoscaling.k8s.io/v1/namespaces/default/verticalpodautoscalers";
	static const char *const refused[][2] = {
		{horizontals, "{\"metadata\":{\"name\":\"h\"},\"spec\":{\"maxReplicas\":3}}"},
		{horizontals, "{\"metadata\":{\"name\":\"h\"},\"spec\":{\"scaleTargetRef\":"
			      "{\"kind\":\"Deployment\",\"name\":\"f\"}}}"},
		{verticals, "{\"metadata\":{\"name\":\"v\"},\"spec\":{}}"},
		{verticals, "{\"metadata\":{\"name\":\"v\"},\"spec\":{\"targetRef\":"
			    "{\"kind\":\"Deployment\",\"name\":\"f\"},\"updatePolicy\":"
			    "{\"updateMode\":\"Sometimes\"}}}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		expect("POST", refused[i][0], refused[i][1], "application/json", 422);
	expect("POST", horizontals,
		"{\"metadata\":{\"name\":\"h\"},\"spec\":{\"maxReplicas\":3,\"scaleTargetRef\":"
		"{\"kind\":\"Deployment\",\"name\":\"f\"}}}",
		"application/json", 201);
	expect("POST", verticals,
		"{\"metadata\":{\"name\":\"v\"},\"spec\":{\"targetRef\":{\"kind\":"
		"\"Deployment\",\"name\":\"f\"}}}",
		"application/json", 201);
	expect("GET", "/apis/autoscaling/v2/horizontalpodautoscalers", NULL, NULL, 200);
	expect("GET", "/apis/autoscaling.k8s.io/v1/verticalpodautoscalers", NULL, NULL, 200);
}

static void test_bad_requests_get_the_right_code(void **state)
{
	(void)state;
	expect("POST", LEASES, "{", "application/json", 400);
	expect("POST", LEASES, "[]", "application/json", 400);
	expect("POST", LEASES, "{\"kind\":\"Pod\"}", "application/json", 400);
	expect("POST", LEASES, "{}", "application/json", 422);
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"A\"}}", "application/json", 422);
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"e\"}}",
		"application/json", 400);
	expect("POST", LEASES, "a: b", "application/yaml", 415);
	expect("POST", LEASES "/x", "{}", "application/json", 405);
	expect("DELETE", LEASES, NULL, NULL, 405);
	expect("DELETE", LEASES "/x", NULL, NULL, 404);
	expect("GET", LEASES "/x/status", NULL, NULL, 404);
	expect("GET", "/apis/coordination.k8s.io/v1/leases/x", NULL, NULL, 404);
	expect("POST", DEPLOYMENTS, "{\"metadata\":{\"name\":\"f\"},\"spec\":{}}",
		"application/json", 422);
}

static void test_conflicts_are_seen(void **state)
{
	(void)state;
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"l\"}}", "application/json", 201);
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"l\"}}", "application/json", 409);
	expect("PATCH", LEASES "/l", "{\"metadata\":{\"resourceVersion\":\"5\"}}", MERGE, 409);
	expect("PUT", LEASES "/l", "{\"metadata\":{\"name\":\"l\",\"resourceVersion\":\"5\"}}",
		"application/json", 409);
	expect("PUT", LEASES "/l", "{\"metadata\":{\"name\":\"m\"}}", "application/json", 400);
	expect("DELETE", LEASES "/l", "{\"preconditions\":{\"uid\":\"x\"}}", "application/json",
		409);
	expect("DELETE", LEASES "/l", NULL, NULL, 200);
}

static void test_dry_run_changes_nothing(void **state)
{
	(void)state;
	fixture.query = "dryRun=All";
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"l\"}}", "application/json", 201);
	expect("GET", LEASES "/l", NULL, NULL, 404);
}

static void test_kubectl_gets_a_table(void **state)
{
	struct api_answer answer;

	(void)state;
	expect("POST", DEPLOYMENTS, deployment, "application/json", 201);
	answer = call_as("GET", DEPLOYMENTS, NULL, NULL, TABLE);
	assert_string_equal(object_string(answer.json, "kind", NULL), "Table");
	assert_string_equal(
		json_string_value(json_array_get(
			object_get(json_array_get(object_get(answer.json, "rows", NULL), 0),
				"cells", NULL),
			1)),
		"0/2");
	api_answer_free(&answer);
}

/* What a cluster shows by the columns of k8s/crd.yaml. */
static void test_kubectl_gets_what_the_learner_says_of_an_objective(void **state)
{
	static const char *const wanted[] = {
		"o", "f", "auto", "50ms", "1234567", "250m", "2", "False", "64Mi", "cut", "bounds"};
	struct api_answer answer;
	json_t *cells, *columns;

	(void)state;
	expect("POST", OBJECTIVES,
		"{\"metadata\":{\"name\":\"o\"},\"spec\":{\"targetRef\":{\"name\":\"f\"},"
		"\"mode\":\"auto\",\"latency\":{\"target\":\"50ms\"}}}",
		"application/json", 201);
	answer = call_as("GET", OBJECTIVES, NULL, NULL, TABLE);
	cells = object_get(json_array_get(object_get(answer.json, "rows", NULL), 0), "cells", NULL);
	for (size_t i = 4; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		assert_string_equal(json_string_value(json_array_get(cells, i)), "");
	api_answer_free(&answer);
	expect("PATCH", OBJECTIVES "/o/status",
		"{\"status\":{\"currentLatencyUs\":1234567,\"recommendation\":{\"cpu\":\"250m\","
		"\"memory\":\"64Mi\",\"replicas\":2},\"lastAction\":{\"why\":\"cut\","
		"\"rule\":\"bounds\"},\"conditions\":[{\"type\":\"Measured\",\"status\":\"True\"},"
		"{\"type\":\"ObjectiveMet\",\"status\":\"False\"}]}}",
		MERGE, 200);
	answer = call_as("GET", OBJECTIVES, NULL, NULL, TABLE);
	cells = object_get(json_array_get(object_get(answer.json, "rows", NULL), 0), "cells", NULL);
	columns = object_get(answer.json, "columnDefinitions", NULL);
	assert_int_equal(json_array_size(columns), json_array_size(cells));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		json_t *cell = json_array_get(cells, i);
		char text[32];

		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(cell));
		assert_string_equal(
			json_is_string(cell) ? json_string_value(cell) : text, wanted[i]);
		assert_string_equal(object_string(json_array_get(columns, i), "type", NULL),
			json_is_integer(cell) ? "integer" : "string");
	}
	api_answer_free(&answer);
}

static void expect_event(struct api_watch *watch, const char *type, const char *name)
{
	char *text = api_watch_next(&fixture.api, watch);
	json_t *event = text ? json_loads(text, 0, NULL) : NULL;

	if (!event)
		fail_msg("expected %s %s, got no event", type, name);
	assert_string_equal(object_string(event, "type", NULL), type);
	if (*name)
		assert_string_equal(object_name(json_object_get(event, "object")), name);
	json_decref(event);
	free(text);
}

static void test_a_watch_tells_what_its_selector_sees(void **state)
{
	struct api_answer answer;

	(void)state;
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"a\"}}", "application/json", 201);
	fixture.query = "watch=true&labelSelector=x=1";
	answer = call_as("GET", LEASES, NULL, NULL, NULL);
	assert_non_null(answer.watch);
	assert_null(api_watch_next(&fixture.api, answer.watch));
	expect("PATCH", LEASES "/a", "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}", MERGE, 200);
	expect("PATCH", LEASES "/a", "{\"spec\":{\"holderIdentity\":\"h\"}}", MERGE, 200);
	expect("PATCH", LEASES "/a", "{\"metadata\":{\"labels\":null}}", MERGE, 200);
	expect_event(answer.watch, "ADDED", "a");
	expect_event(answer.watch, "MODIFIED", "a");
	expect_event(answer.watch, "DELETED", "a");
	assert_null(api_watch_next(&fixture.api, answer.watch));
	api_answer_free(&answer);
}

static void test_a_watch_from_the_past_ends_with_expired(void **state)
{
	struct api_answer answer;
	char *text;

	(void)state;
	fixture.query = "watch=1&resourceVersion=7";
	answer = call_as("GET", LEASES, NULL, NULL, NULL);
	text = api_watch_next(&fixture.api, answer.watch);
	assert_non_null(strstr(text, "\"code\":410"));
	free(text);
	assert_true(answer.watch->failed);
	api_answer_free(&answer);
	fixture.query = "watch=1&resourceVersion=x";
	expect("GET", LEASES, NULL, NULL, 400);
	fixture.query = "watch=1&resourceVersion=99999999";
	expect("GET", LEASES, NULL, NULL, 504);
}

static void test_initial_events_end_with_a_bookmark(void **state)
{
	struct api_answer answer;

	(void)state;
	expect("POST", LEASES, "{\"metadata\":{\"name\":\"a\"}}", "application/json", 201);
	fixture.query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
	answer = call_as("GET", LEASES, NULL, NULL, NULL);
	expect_event(answer.watch, "ADDED", "a");
	expect_event(answer.watch, "BOOKMARK", "");
	assert_null(api_watch_next(&fixture.api, answer.watch));
	api_answer_free(&answer);
}

static void test_ages_read_as_kubectl_writes_them(void **state)
{
	static const struct {
		time_t seconds;
		const char *text;
	} cases[] = {{0, "0s"}, {119, "119s"}, {120, "2m"}, {125, "2m5s"}, {660, "11m"},
		{3 * 3600, "3h"}, {3 * 3600 + 60, "3h1m"}, {30 * 3600, "30h"}, {50 * 3600, "2d2h"},
		{9 * 86400, "9d"}};
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		table_format_age(text, sizeof(text), cases[i].seconds);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
#define API_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		API_TEST(test_discovery_lists_what_is_served),
		API_TEST(test_scale_reads_and_writes_replicas),
		API_TEST(test_autoscalers_of_others_are_kept),
		API_TEST(test_bad_requests_get_the_right_code),
		API_TEST(test_conflicts_are_seen),
		API_TEST(test_dry_run_changes_nothing),
		API_TEST(test_kubectl_gets_a_table),
		API_TEST(test_kubectl_gets_what_the_learner_says_of_an_objective),
		API_TEST(test_a_watch_tells_what_its_selector_sees),
		API_TEST(test_a_watch_from_the_past_ends_with_expired),
		API_TEST(test_initial_events_end_with_a_bookmark),
		cmocka_unit_test(test_ages_read_as_kubectl_writes_them),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
