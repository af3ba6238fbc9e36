// SPDX-License-Identifier: Apache-2.0
/* What is asked of pods/resize: nothing that the API server refuses, and the owner's words back. */
#include "node/limits/resize_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB 1048576.0

static json_t *pod(const char *resources, const char *policy)
{
	char text[1024];
	json_t *made;

	snprintf(text, sizeof(text),
		"{\"spec\":{\"containers\":[{\"name\":\"other\"},{\"name\":\"app\","
		"\"resources\":%s,\"resizePolicy\":%s}]}}",
		resources, policy ? policy : "[]");
	made = json_loads(text, 0, NULL);
	assert_non_null(made);
	return made;
}

static struct resize_spec read(const char *resources, const char *policy)
{
	struct resize_spec spec;
	json_t *object = pod(resources, policy);

	assert_true(resize_spec_read(&spec, object, "app"));
	assert_false(resize_spec_is_due(&spec));
	assert_true(resize_spec_is_declared(&spec));
	json_decref(object);
	return spec;
}

static bool observe(struct resize_spec *spec, const char *resources)
{
	json_t *object = pod(resources, NULL);
	bool changed = resize_spec_observe(spec, object, "app");

	json_decref(object);
	return changed;
}

/* The patch as text; its container is always "app". */
static void assert_patch(const struct resize_spec *spec, const char *resources)
{
	json_t *patch = resize_spec_patch(spec, "app");
	char expected[512], *got;

	assert_non_null(patch);
	snprintf(expected, sizeof(expected),
		"{\"spec\":{\"containers\":[{\"name\":\"app\",\"resources\":%s}]}}", resources);
	got = json_dumps(patch, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(got, expected);
	free(got);
	json_decref(patch);
}

/* The API server has taken what was wanted. */
static void accept(struct resize_spec *spec)
{
	for (int i = 0; i < RESIZE_COUNT; i++)
		spec->values[i].spec = spec->values[i].want;
}

#define BURSTABLE                                                                                  \
	"{\"requests\":{\"cpu\":\"100m\",\"memory\":\"24Mi\"},"                                    \
	"\"limits\":{\"cpu\":\"1\",\"memory\":\"128Mi\"}}"
#define TINY "{\"requests\":{\"cpu\":\"3m\"},\"limits\":{\"cpu\":\"200m\"}}"
#define GUARANTEED                                                                                 \
	"{\"requests\":{\"cpu\":\"0.5\",\"memory\":\"100M\"},"                                     \
	"\"limits\":{\"cpu\":\"500m\",\"memory\":\"100M\"}}"

static void test_only_what_differs_is_asked_for(void **state)
{
	struct resize_spec spec = read(BURSTABLE, NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 1000);
	assert_null(resize_spec_patch(&spec, "app"));
	resize_spec_want(&spec, RESIZE_CPU, 400);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"400m\"}}");
	accept(&spec);
	assert_false(resize_spec_is_due(&spec));
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	assert_patch(&spec, "{\"limits\":{\"memory\":\"64Mi\"}}");
}

static void test_a_limit_stays_above_its_request_and_within_the_owners(void **state)
{
	struct resize_spec spec = read(BURSTABLE, NULL);

	(void)state;
	/* At the request the pod might become Guaranteed, below it is refused. */
	resize_spec_want(&spec, RESIZE_CPU, 20);
	resize_spec_want(&spec, RESIZE_MEMORY, 1);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"110m\",\"memory\":\"24580Ki\"}}");
	resize_spec_want(&spec, RESIZE_CPU, 5000);
	resize_spec_want(&spec, RESIZE_MEMORY, 1e12);
	assert_null(resize_spec_patch(&spec, "app"));
	/* systemd would round it up itself, and the cgroup would show another quota. */
	resize_spec_want(&spec, RESIZE_CPU, 333.3);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"340m\"}}");
}

static void test_a_tiny_limit_moves_in_steps_of_a_millicore(void **state)
{
	struct resize_spec spec = read(TINY, NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 33.3);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"34m\"}}");
	resize_spec_want(&spec, RESIZE_CPU, 12);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"12m\"}}");
	/* The kernel's smallest quota: the kubelet would write that for less. */
	resize_spec_want(&spec, RESIZE_CPU, 7);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"10m\"}}");
	resize_spec_want(&spec, RESIZE_CPU, 99.5);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"100m\"}}");
	resize_spec_want(&spec, RESIZE_CPU, 101);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"110m\"}}");
	/* A request under them is no obstacle, one in between is. */
	spec.values[RESIZE_CPU].request = 41;
	resize_spec_want(&spec, RESIZE_CPU, 12);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"42m\"}}");
}

static void test_a_request_that_is_the_limit_moves_along(void **state)
{
	struct resize_spec spec = read(GUARANTEED, NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"200m\"},\"requests\":{\"cpu\":\"200m\"}}");
	accept(&spec);
	assert_true(resize_spec_want_declared(&spec));
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"500m\"},\"requests\":{\"cpu\":\"500m\"}}");
}

static void test_the_owners_words_are_put_back(void **state)
{
	struct resize_spec spec = read(GUARANTEED, NULL);

	(void)state;
	assert_false(resize_spec_want_declared(&spec));
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	accept(&spec);
	assert_false(resize_spec_is_declared(&spec));
	assert_true(resize_spec_want_declared(&spec));
	/* Not "97656.25Ki", not "100000000". */
	assert_patch(
		&spec, "{\"limits\":{\"memory\":\"100M\"},\"requests\":{\"memory\":\"100M\"}}");
	accept(&spec);
	assert_true(resize_spec_is_declared(&spec));
	assert_false(resize_spec_want_declared(&spec));
}

static void test_no_limit_is_added_and_no_container_restarted(void **state)
{
	struct resize_spec spec = read("{\"requests\":{\"cpu\":\"100m\"}}", NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	assert_false(resize_spec_is_due(&spec));
	spec = read(BURSTABLE,
		"[{\"resourceName\":\"memory\",\"restartPolicy\":\"RestartContainer\"},"
		"{\"resourceName\":\"cpu\",\"restartPolicy\":\"NotRequired\"}]");
	resize_spec_want(&spec, RESIZE_CPU, 200);
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"200m\"}}");
}

#define UNLIMITED                                                                                  \
	"{\"requests\":{\"cpu\":\"0.1\",\"memory\":\"24Mi\"},\"limits\":{\"memory\":\"128Mi\"}}"

static void test_without_a_limit_the_request_is_moved(void **state)
{
	struct resize_spec spec = read(UNLIMITED, NULL), next;
	json_t *kept = json_object(), *object;

	(void)state;
	resize_spec_want_request(&spec, 33.2);
	assert_patch(&spec, "{\"requests\":{\"cpu\":\"34m\"}}");
	resize_spec_want_request(&spec, 333);
	assert_patch(&spec, "{\"requests\":{\"cpu\":\"340m\"}}");
	/* Together with a memory limit. */
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	assert_patch(&spec, "{\"limits\":{\"memory\":\"64Mi\"},\"requests\":{\"cpu\":\"340m\"}}");
	accept(&spec);
	assert_false(observe(&spec, "{\"requests\":{\"cpu\":\"340m\",\"memory\":\"24Mi\"},"
				    "\"limits\":{\"memory\":\"64Mi\"}}"));
	assert_false(resize_spec_is_declared(&spec));
	resize_spec_save(&spec, kept);
	object = pod("{\"requests\":{\"cpu\":\"340m\",\"memory\":\"24Mi\"},"
		     "\"limits\":{\"memory\":\"64Mi\"}}",
		NULL);
	assert_true(resize_spec_read(&next, object, "app"));
	assert_true(resize_spec_load(&next, kept));
	assert_true(resize_spec_want_declared(&next));
	assert_patch(&next, "{\"limits\":{\"memory\":\"128Mi\"},\"requests\":{\"cpu\":\"0.1\"}}");
	json_decref(object);
	json_decref(kept);
	/* The owner's own resize is the owner's. */
	assert_true(observe(&spec, "{\"requests\":{\"cpu\":\"200m\",\"memory\":\"24Mi\"},"
				   "\"limits\":{\"memory\":\"64Mi\"}}"));
	assert_true(resize_value_declared(&spec.values[RESIZE_CPU]) == 200);
}

static void test_no_request_is_added_or_moved_beside_a_limit(void **state)
{
	struct resize_spec spec = read(BURSTABLE, NULL);

	(void)state;
	resize_spec_want_request(&spec, 300);
	assert_false(resize_spec_is_due(&spec));
	spec = read("{}", NULL);
	resize_spec_want_request(&spec, 300);
	assert_false(resize_spec_is_due(&spec));
	spec = read(
		UNLIMITED, "[{\"resourceName\":\"cpu\",\"restartPolicy\":\"RestartContainer\"}]");
	resize_spec_want_request(&spec, 300);
	assert_false(resize_spec_is_due(&spec));
}

/* What an agent of before has left on disk, which moved limits alone. */
static void test_a_state_without_reservations_is_read(void **state)
{
	struct resize_spec spec = read(UNLIMITED, NULL);
	json_t *kept = json_loads("{\"cpu\":{\"limit\":\"\",\"request\":100},"
				  "\"memory\":{\"limit\":\"100M\",\"request\":0}}",
		0, NULL);

	(void)state;
	assert_true(resize_spec_load(&spec, kept));
	json_decref(kept);
	resize_spec_want_request(&spec, 300);
	accept(&spec);
	assert_true(resize_spec_want_declared(&spec));
	assert_patch(&spec, "{\"limits\":{\"memory\":\"100M\"},\"requests\":{\"cpu\":\"0.1\"}}");
}

static void test_a_refused_fall_of_memory_does_not_hold_up_the_cpu(void **state)
{
	struct resize_spec spec = read(BURSTABLE, NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	resize_spec_refused(&spec);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"200m\"}}");
	/* Nor is it asked for again. */
	resize_spec_want(&spec, RESIZE_MEMORY, 64 * MIB);
	assert_patch(&spec, "{\"limits\":{\"cpu\":\"200m\"}}");
	resize_spec_refused(&spec);
	assert_false(resize_spec_is_due(&spec));
}

static void test_the_owners_own_resize_stands(void **state)
{
	struct resize_spec spec = read(BURSTABLE, NULL);

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	accept(&spec);
	/* Ours, seen by the watch. */
	assert_false(observe(&spec, "{\"requests\":{\"cpu\":\"100m\",\"memory\":\"24Mi\"},"
				    "\"limits\":{\"cpu\":\"0.2\",\"memory\":\"128Mi\"}}"));
	assert_false(resize_spec_is_declared(&spec));
	assert_true(observe(&spec, "{\"requests\":{\"cpu\":\"100m\",\"memory\":\"24Mi\"},"
				   "\"limits\":{\"cpu\":\"700m\",\"memory\":\"128Mi\"}}"));
	assert_true(resize_spec_is_declared(&spec));
	assert_false(resize_spec_is_due(&spec));
	resize_spec_want(&spec, RESIZE_CPU, 5000);
	assert_false(resize_spec_is_due(&spec));
}

static void test_the_next_agent_knows_the_owners_words(void **state)
{
	struct resize_spec spec = read(GUARANTEED, NULL), next;
	json_t *kept = json_object(), *object;

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	accept(&spec);
	assert_false(resize_spec_load(&spec, kept));
	resize_spec_save(&spec, kept);
	object = pod("{\"requests\":{\"cpu\":\"200m\",\"memory\":\"100M\"},"
		     "\"limits\":{\"cpu\":\"200m\",\"memory\":\"100M\"}}",
		NULL);
	assert_true(resize_spec_read(&next, object, "app"));
	assert_true(resize_spec_load(&next, kept));
	/* It goes on where the first one was. */
	assert_false(resize_spec_is_due(&next));
	assert_false(resize_spec_is_declared(&next));
	assert_true(resize_spec_want_declared(&next));
	assert_patch(&next, "{\"limits\":{\"cpu\":\"500m\"},\"requests\":{\"cpu\":\"500m\"}}");
	assert_false(resize_spec_read(&next, object, "absent"));
	json_decref(object);
	json_decref(kept);
}

/* The agent was killed on a limit of its own, and the owner resized the pod before the next one came. */
static void test_what_the_owner_resized_between_two_agents_is_the_owners(void **state)
{
	struct resize_spec spec = read(GUARANTEED, NULL), next;
	json_t *kept = json_object(), *object;

	(void)state;
	resize_spec_want(&spec, RESIZE_CPU, 200);
	resize_spec_save(&spec, kept);
	object = pod("{\"requests\":{\"cpu\":\"400m\",\"memory\":\"100M\"},"
		     "\"limits\":{\"cpu\":\"400m\",\"memory\":\"100M\"}}",
		NULL);
	assert_true(resize_spec_read(&next, object, "app"));
	assert_true(resize_spec_load(&next, kept));
	assert_true(resize_spec_is_declared(&next));
	resize_spec_want(&next, RESIZE_CPU, 5000);
	assert_false(resize_spec_is_due(&next));
	json_decref(object);
	/* Whether the patch was there before the end is not known: either is ours. */
	for (int sent = 0; sent < 2; sent++) {
		object = pod(sent ? "{\"requests\":{\"cpu\":\"200m\",\"memory\":\"100M\"},"
				    "\"limits\":{\"cpu\":\"200m\",\"memory\":\"100M\"}}"
				  : GUARANTEED,
			NULL);
		assert_true(resize_spec_read(&next, object, "app"));
		assert_true(resize_spec_load(&next, kept));
		assert_int_equal(resize_spec_is_declared(&next), !sent);
		json_decref(object);
	}
	json_decref(kept);
}

static void assert_pending(const char *conditions, const char *reason, const char *message)
{
	const char *found, *words = NULL;
	char text[512];
	json_t *object;

	snprintf(text, sizeof(text), "{\"status\":{\"conditions\":[%s]}}", conditions);
	object = json_loads(text, 0, NULL);
	assert_non_null(object);
	found = resize_pending(object, &words);
	if (reason) {
		assert_non_null(found);
		assert_string_equal(found, reason);
		assert_string_equal(words, message);
	} else {
		assert_null(found);
	}
	json_decref(object);
}

#define PENDING(is, more) "{\"type\":\"PodResizePending\",\"status\":\"" is "\"" more "}"

static void test_what_the_kubelet_does_not_take_up_is_known_with_its_words(void **state)
{
	(void)state;
	assert_pending("", NULL, NULL);
	assert_pending("{\"type\":\"PodResizeInProgress\",\"status\":\"True\"}", NULL, NULL);
	assert_pending(PENDING("False", ",\"reason\":\"Deferred\""), NULL, NULL);
	assert_pending("{\"type\":\"Ready\",\"status\":\"True\"}," PENDING(
			       "True", ",\"reason\":\"Infeasible\",\"message\":\"no room, ever\""),
		"Infeasible", "no room, ever");
	assert_pending(PENDING("True", ",\"reason\":\"Deferred\""), "Deferred", "");
	assert_pending(PENDING("True", ""), "", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_what_differs_is_asked_for),
		cmocka_unit_test(test_a_limit_stays_above_its_request_and_within_the_owners),
		cmocka_unit_test(test_a_tiny_limit_moves_in_steps_of_a_millicore),
		cmocka_unit_test(test_a_request_that_is_the_limit_moves_along),
		cmocka_unit_test(test_the_owners_words_are_put_back),
		cmocka_unit_test(test_no_limit_is_added_and_no_container_restarted),
		cmocka_unit_test(test_without_a_limit_the_request_is_moved),
		cmocka_unit_test(test_no_request_is_added_or_moved_beside_a_limit),
		cmocka_unit_test(test_a_state_without_reservations_is_read),
		cmocka_unit_test(test_a_refused_fall_of_memory_does_not_hold_up_the_cpu),
		cmocka_unit_test(test_the_owners_own_resize_stands),
		cmocka_unit_test(test_the_next_agent_knows_the_owners_words),
		cmocka_unit_test(test_what_the_owner_resized_between_two_agents_is_the_owners),
		cmocka_unit_test(test_what_the_kubelet_does_not_take_up_is_known_with_its_words),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
